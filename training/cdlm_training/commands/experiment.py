"""`cdlm-train experiment`: splits, variants and seeds, scored in one table."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from cdlm_training.commands.common import require_torch


@click.command("experiment", cls=CleanErrors)
@click.argument("configs", metavar="CONFIG...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--design", "designs", multiple=True, metavar="NAME",
              help="Only this one of `designs`; may be given several times.")
@click.option("--seed", "seeds", multiple=True, type=int, metavar="N", help="Likewise of `seeds`.")
@click.option("--variant", "variants", multiple=True, metavar="NAME", help="Likewise of `variants`.")
def experiment_command(
    configs: tuple[Path, ...], designs: tuple[str, ...], seeds: tuple[int, ...], variants: tuple[str, ...]
) -> None:
    """Train all splits, variants and seeds of CONFIG's `experiment`, and write one table and a report.

    What was done before is not done again; a training that was killed goes on. Several CONFIG are of several samples,
    one after the other; all are read before the first begins. With --design, --seed or --variant tables and report are
    of that part alone, and say so; its trainings count when the whole is asked for.
    """
    require_torch()
    from cdlm_training.experiment.config import PartOf, load_experiment, narrowed
    from cdlm_training.experiment.run import run_experiment

    part = PartOf(designs, seeds, variants)
    for path in configs:
        narrowed(load_experiment(path), part)
    for path in configs:
        console.print(run_experiment(path, console.print, part=part))
