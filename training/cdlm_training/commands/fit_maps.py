"""`cdlm-train fit-maps`: fit every cell to maps of signatures."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from cdlm_training.commands.common import require_torch


@click.command("fit-maps", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
def fit_maps(config: Path) -> None:
    """Fit two parameters of every cell to the mean runoff and baseflow index of maps, as `map_fit` of CONFIG says.

    Cells are run by themselves, without rivers, in blocks that `memory` of the run holds; what was fitted before a kill
    is not fitted again.
    """
    require_torch()
    from cdlm_training.map_fit.run import run_map_fit

    for result in run_map_fit(config, console.print):
        console.print(f"- {result.told}")
        console.print(f"wrote {result.parameters} and {result.cells}")
