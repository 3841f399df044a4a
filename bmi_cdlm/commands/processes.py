"""`cdlm processes`: what processes are installed."""

from __future__ import annotations

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.reference import describe_processes


@click.command(cls=CleanErrors)
@click.argument("name", required=False)
def processes(name: str | None) -> None:
    """List the processes that are installed; with a NAME, its parameters, inputs, stores, fluxes and source."""
    for line in describe_processes(name):
        console.print(line)
