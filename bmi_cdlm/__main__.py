"""`python -m bmi_cdlm`: the command `cdlm`, where it is not on the path."""

from bmi_cdlm.cli import main

if __name__ == "__main__":
    main(prog_name="cdlm")
