"""`cdlm-train labels`: parameters calibrated gauge by gauge, or cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bmi_cdlm.commands.common import CleanErrors, console
from cdlm_training.commands.common import require_torch


@click.command("labels", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--per", type=click.Choice(["gauge", "cell"]), default="gauge", show_default=True,
              help="At every gauge of the training, on its own area, or on every cell.")
@click.option("--model", "models", multiple=True, required=True,
              help="gr2m, dwbm, abcd (monthly), or the runoff process of the run; several join their storage capacity.")
@click.option("--runoff", help="With --per cell: gridded runoff product, FILE:VARIABLE.")
@click.option("--restarts", type=click.IntRange(1, 100), default=5, show_default=True,
              help="How often each fit begins anew; the best is kept, and the spread.")
@click.option("--to", "output", type=click.Path(path_type=Path), help="Label file [labels.nc beside CONFIG].")
def labels_command(
    config: Path, per: Literal["gauge", "cell"], models: tuple[str, ...], runoff: str | None, restarts: int,
    output: Path | None,
) -> None:
    """Calibrate models at every gauge or cell of CONFIG by itself: labels for `training.pretrain`."""
    require_torch()
    from cdlm_training.labels.make import make_labels

    make_labels(config, output or config.with_name("labels.nc"), per=per, models=models, runoff=runoff,
                restarts=restarts, tell=console.print)
