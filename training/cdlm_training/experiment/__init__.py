"""Experiments: trainings over splits of gauges and years, variants and seeds, beside baselines, and one table."""
