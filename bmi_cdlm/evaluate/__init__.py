"""Scores and pictures of a run against observations."""
