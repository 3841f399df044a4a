"""The commands of `cdlm`, a module each; `bmi_cdlm.cli` names them and loads the one that is asked for."""
