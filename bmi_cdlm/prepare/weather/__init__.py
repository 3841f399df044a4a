"""Forcing of cells from gridded weather or stations."""
