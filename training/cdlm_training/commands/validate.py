"""`cdlm-train validate`: an experiment by the scenarios of the literature, and one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bmi_cdlm.commands.common import CleanErrors, console
from cdlm_training.commands.common import require_torch

if TYPE_CHECKING:
    from cdlm_training.experiment.validation import Scenario

NAMES = ("temporal", "spatial", "spatio-temporal", "downstream-only", "upstream-only")


@click.command("validate", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--design", "scenarios", type=click.Choice(NAMES), multiple=True, required=True,
              help="temporal: other years; spatial: other gauges (folds); spatio-temporal: both; downstream-only: "
              "fitted to the lowest gauges, validated upstream; upstream-only: the other way round. One or several.")
def validate(config: Path, scenarios: tuple[Scenario, ...]) -> None:
    """Train and score CONFIG's `experiment` in one or several designs, and write one table.

    Variants, seeds, baselines, folds and periods are those of `experiment`; trainings that it holds are not done again.
    """
    require_torch()
    from cdlm_training.experiment.run import run_experiment

    console.print(run_experiment(config, console.print, tuple(dict.fromkeys(scenarios))))
