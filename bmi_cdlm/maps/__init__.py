"""Signatures of flow in regions without gauges: learned from attributes of basins, and mapped to every cell."""
