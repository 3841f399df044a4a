"""`cdlm-train experiment`: splits, variants and seeds, scored in one table."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from cdlm_training.commands.common import require_torch


@click.command("experiment", cls=CleanErrors)
@click.argument("configs", metavar="CONFIG...", type=click.Path(path_type=Path), nargs=-1, required=True)
def experiment_command(configs: tuple[Path, ...]) -> None:
    """Train all splits, variants and seeds of CONFIG's `experiment`, and write one table and a report.

    What was done before is not done again; a training that was killed goes on. Several CONFIG are of several samples,
    one after the other; all are read before the first begins.
    """
    require_torch()
    from cdlm_training.experiment.config import load_experiment
    from cdlm_training.experiment.run import run_experiment

    for path in configs:
        load_experiment(path)
    for path in configs:
        console.print(run_experiment(path, console.print))
