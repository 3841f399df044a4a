"""Commands of `cdlm`, a module each; `bmi_cdlm.cli` registers them."""
