"""`cdlm subset`: cut a case in two."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.prepare.subset import subset


@click.command("subset", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("target", metavar="GAUGE_OR_REACH")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--below", is_flag=True, help="The rest, whose inflow there is an input.")
def subset_command(config: Path, target: str, folder: Path, below: bool) -> None:
    """Cut what drains to a gauge or reach out of CONFIG, as a case of its own with the same discharge there."""
    for path in subset(config, target, folder, below=below):
        console.print(f"wrote {path}")
