"""Two processes for bmi_cdlm: all that a model of one's own takes is a file each."""
