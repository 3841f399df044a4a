"""`cdlm import-dhbv`: parameters of a dHBV run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.paths import same_file
from bmi_cdlm.prepare.dhbv import import_parameters, write_parameters
from bmi_cdlm.run.config import load_config


@click.command("import-dhbv", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--to", "path", type=click.Path(path_type=Path), required=True, help="Parameter file to write (.nc).")
@click.option("--normalised", is_flag=True, help="Values are from 0 to 1 between the bounds of dHBV.")
@click.option("--time", "when", type=click.Choice(["mean", "last"]), help="Which value of a series to take.")
def import_dhbv(config: Path, source: Path, path: Path, normalised: bool, when: Literal["mean", "last"] | None) -> None:
    """Make a parameter file for CONFIG of the HBV parameters of a dHBV run, and say what is other here.

    SOURCE is CSV (columns id, parFC, ..., and component) or NetCDF (variables parFC, ... on cells and components).
    """
    settings = load_config(config)
    settings.check_target(path, "--to", replaces=("parameters",))
    if same_file(path, source):
        raise ConfigError(f"--to: {path} is the file that is imported, expected a path of its own. Choose another.")
    found = import_parameters(settings, source, normalised=normalised, when=when)
    write_parameters(path, settings, found, source)
    for note in found.notes:
        console.print(f"- {note}")
    console.print(f"wrote {path}: {len(found.values)} parameters of {settings.runoff}")
