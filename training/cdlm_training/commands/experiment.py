"""`cdlm-train experiment`: splits, variants and seeds, scored in one table."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from cdlm_training.commands.common import require_torch


@click.command("experiment", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
def experiment_command(config: Path) -> None:
    """Train all splits, variants and seeds of CONFIG's `experiment`, and write one table and a report.

    What was done before is not done again; a training that was killed goes on.
    """
    require_torch()
    from cdlm_training.experiment.run import run_experiment

    console.print(run_experiment(config, console.print))
