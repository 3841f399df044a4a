"""Runs: configuration, clock and inputs, batch runs, partitions and workers."""
