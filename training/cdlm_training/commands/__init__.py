"""Commands of `cdlm-train`, a module each; `cdlm_training.cli` registers them."""
