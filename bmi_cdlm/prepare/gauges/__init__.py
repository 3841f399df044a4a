"""Gauges and their records: tables, snapping to the river, nested basins, quality."""
