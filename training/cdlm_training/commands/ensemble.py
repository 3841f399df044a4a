"""`cdlm-train ensemble`: one file of several checkpoints."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.generator.checkpoint import load_members, save_ensemble
from bmi_cdlm.names.errors import ConfigError


@click.command("ensemble", cls=CleanErrors)
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True)
def ensemble_command(output: Path, checkpoints: tuple[Path, ...]) -> None:
    """Put CHECKPOINTS, of other seeds or folds, into one file, OUTPUT, whose members a run averages.

    Of ensembles among them every member is taken.
    """
    if output.suffix != ".safetensors":
        raise ConfigError(f"{output}: expected a name that ends in .safetensors.")
    members = [one for path in checkpoints for one in load_members(path)]
    save_ensemble(output, members)
    console.print(f"wrote {output}, an ensemble of {len(members)} members")
