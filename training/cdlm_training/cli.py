"""The command `cdlm-train`: train a generator of parameters end to end on discharge at gauges."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.table import Table

from bmi_cdlm.commands.common import CleanErrors, CleanGroup, console, start_log
from bmi_cdlm.commands.progress import Watch
from bmi_cdlm.generator.checkpoint import load_members, save_ensemble
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.version import __version__
from cdlm_training.apply import apply_command
from cdlm_training.commands.fit_maps import fit_maps
from cdlm_training.commands.report import compare_command, report_command
from cdlm_training.commands.similarity import similarity
from cdlm_training.commands.validate import validate
from cdlm_training.config import TrainConfig, load_train_config
from cdlm_training.labels.command import labels_command
from cdlm_training.multiset import multiset_command

if TYPE_CHECKING:
    from cdlm_training.distributed import Team
    from cdlm_training.loop import Trainer
    from cdlm_training.scores import Epoch, Scores


class TrainByDefault(CleanGroup):
    """A group of commands that trains where no other of them is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = ["train", *args]
        return super().parse_args(ctx, args)


@click.group(cls=TrainByDefault)
@click.version_option(__version__, prog_name="cdlm-train")
def main() -> None:
    """Train generators of parameters on discharge: `cdlm-train CONFIG`, which is `cdlm-train train CONFIG`."""
    start_log()


main.add_command(fit_maps)
main.add_command(similarity)
main.add_command(validate)


@main.command("ensemble", cls=CleanErrors)
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


@main.command("experiment", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
def experiment_command(config: Path) -> None:
    """Train all splits, variants and seeds of CONFIG's `experiment`, and write one table and a report.

    What was done before is not done again; a training that was killed goes on.
    """
    require_torch()
    from cdlm_training.experiment.run import run_experiment

    console.print(run_experiment(config, console.print))


for _command in (labels_command, apply_command, report_command, compare_command, multiset_command):
    main.add_command(_command)


@main.command("train", cls=CleanErrors)
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


def require_torch() -> None:
    """Refuse, with the remedy, where what trains is not installed."""
    try:
        import cdlm_training.loop  # noqa: F401
    except ModuleNotFoundError as cause:
        raise ConfigError(
            f"training needs the Python package '{cause.name}', which is not installed here; running a model does not. "
            'Run: pip install "bmi-cdlm[train]"'
        ) from cause


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


def end_process(code: int) -> NoReturn:
    """End this process at once, as one of several has to.

    torch's threads may still let go of a shared number while the interpreter goes down; C++ aborts the process in that
    case, and torchrun then ends the others as failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
