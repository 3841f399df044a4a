"""Commands of `cdlm-train` that stand in files of their own."""
