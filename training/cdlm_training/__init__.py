"""Training of parameter generators for bmi_cdlm."""
