"""Commands of `cdlm` that stand in files of their own."""
