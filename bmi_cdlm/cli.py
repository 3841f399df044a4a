"""The command `cdlm`: prepare a domain, check it, run it, evaluate it. Its commands are modules of their own."""

from __future__ import annotations

import sys

import click

from bmi_cdlm.commands.common import LazyGroup, start_log
from bmi_cdlm.version import __version__

# A line each: loaded when it is asked for, so that the command starts at once.
COMMANDS = {
    "assimilate": "bmi_cdlm.commands.assimilate:assimilate_command",
    "compile": "bmi_cdlm.commands.compile:compile_command",
    "demo": "bmi_cdlm.commands.demo:demo",
    "doctor": "bmi_cdlm.commands.doctor:doctor",
    "evaluate": "bmi_cdlm.commands.evaluate:evaluate_command",
    "import-dhbv": "bmi_cdlm.commands.import_dhbv:import_dhbv",
    "nextgen": "bmi_cdlm.commands.nextgen:nextgen",
    "plot": "bmi_cdlm.commands.plot:plot_command",
    "prepare": "bmi_cdlm.commands.prepare:prepare",
    "processes": "bmi_cdlm.commands.processes:processes",
    "reference": "bmi_cdlm.commands.reference:reference",
    "run": "bmi_cdlm.commands.run:run",
    "signatures": "bmi_cdlm.commands.signatures:signatures",
    "subset": "bmi_cdlm.commands.subset:subset_command",
    "view": "bmi_cdlm.commands.view:view_command",
}


@click.group(cls=LazyGroup, where=COMMANDS)
@click.version_option(__version__, prog_name="cdlm")
@click.option("--verbose", is_flag=True, help="Log what is filled, cached and reordered.")
def main(verbose: bool) -> None:
    """CDLM: a fast, exact, distributed hydrological model."""
    start_log(verbose=verbose)


if __name__ == "__main__":
    sys.exit(main())
