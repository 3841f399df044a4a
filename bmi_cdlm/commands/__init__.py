"""Commands of `cdlm` that have a module of their own."""
