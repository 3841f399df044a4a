"""`cdlm-train train`, or `cdlm-train CONFIG`: train a generator of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.commands.progress import Watch
from bmi_cdlm.names.calendars import date_text
from cdlm_training.commands.common import require_torch
from cdlm_training.config import TrainConfig, load_train_config

if TYPE_CHECKING:
    from cdlm_training.distributed import Team
    from cdlm_training.loop import Trainer
    from cdlm_training.scores import Epoch, Scores


@click.command("train", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on from the last epoch that was saved.")
@click.option("--quiet", is_flag=True, help="Say nothing of how far it is.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of dHBV's networks (.safetensors, or a "
              "state_dict): write the checkpoint of these, and train nothing.")
@click.option("--statistics", type=click.Path(path_type=Path), help="With --weights: mean and std of every attribute "
              "and of the forcing, by name (JSON).")
def train_command(config: Path, resume: bool, quiet: bool, weights: Path | None, statistics: Path | None) -> None:
    """Train as CONFIG says; the best checkpoint is written to its `output`."""
    if (weights is None) != (statistics is None) or (weights is not None and resume):
        raise click.UsageError("--weights goes with --statistics, and without --resume.")
    require_torch()
    from cdlm_training.distributed import team
    from cdlm_training.loop import Trainer

    settings = load_train_config(config)[1]
    if weights is not None and statistics is not None:
        from cdlm_training.imported import import_weights

        for note in import_weights(config, weights, statistics):
            console.print(f"- {note}")
        console.print(f"wrote {settings.output}")
        return
    with team(settings.device) as here:
        trainer = Trainer(config, here)
        scores = _train(trainer, here, resume=resume, quiet=quiet)
        if here.leads:
            console.print(_table(scores, f"{trainer.config.output.name}, {_period(trainer.config)}"))
            for finding in trainer.findings:
                console.print(f"note: {finding}")
            console.print(f"wrote {trainer.config.output}")


def _train(trainer: Trainer, here: Team, *, resume: bool, quiet: bool) -> Scores:
    total = trainer.n_fits * trainer.config.epochs * trainer.updates
    validated = ""
    with Watch(trainer.config.output.stem, total, "updates", quiet=quiet or not here.leads) as watch:

        def report(epoch: Epoch) -> None:
            nonlocal validated
            validated = f", epoch {epoch.number} NSE {epoch.scores.nse:.3f} KGE {epoch.scores.kge:.3f}"
            watch.catch_up(epoch.number * trainer.updates)

        return trainer.train(
            resume=resume, report=report, progress=lambda loss: watch.advance(1, f"loss {loss:.3f}{validated}")
        )


def _period(config: TrainConfig) -> str:
    name, period = ("training", config.train) if config.validate_on is None else ("validation", config.validate_on)
    first, last = (date_text(t).removesuffix(":00").removesuffix("T00:00") for t in period)
    return f"{name} period {first} to {last}"


def _table(scores: Scores, title: str) -> Table:
    table = Table("gauge", "NSE", "KGE", title=title)
    for gauge, (nse, kge) in scores.gauges.items():
        table.add_row(gauge, f"{nse:.3f}", f"{kge:.3f}")
    return table
