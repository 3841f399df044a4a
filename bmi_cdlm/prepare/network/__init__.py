"""Cells, reaches and links from flow directions or tables, with their attributes."""
