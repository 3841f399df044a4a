"""The command `cdlm-train`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bmi_cdlm.cli import CleanErrors, console
from bmi_cdlm.config import load_config
from bmi_cdlm.errors import ConfigError
from bmi_cdlm.files import check_writable
from bmi_cdlm.parameter_file import write_parameters
from bmi_cdlm.version import __version__
from cdlm_training.calibrate import calibrate


@click.group(cls=CleanErrors)
@click.version_option(__version__, prog_name="cdlm-train")
def main() -> None:
    """Fit the parameters of CDLM to observed discharge."""


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "output", type=click.Path(path_type=Path), required=True, help="Parameter file to write.")
@click.option("--runs", default=600, show_default=True, help="Forward runs to spend, about.")
@click.option("--seed", default=1, show_default=True, help="Seed of the search.")
def uniform(config: Path, output: Path, runs: int, seed: int) -> None:
    """Calibrate one value per parameter for the whole domain (differential evolution on the mean NSE)."""
    settings = load_config(config)
    if settings.observations is None:
        raise ConfigError(f"{config}: 'observations' is missing. Name the file of observed discharge to fit to.")
    check_writable(output)
    with Progress(
        TextColumn("calibrating, mean NSE {task.fields[best]:.3f}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("runs"), TimeElapsedColumn(), console=console,
    ) as bar:
        task = bar.add_task("calibrating", total=runs, best=float("nan"))
        values, score = calibrate(
            settings, runs=runs, seed=seed, progress=lambda best: bar.update(task, advance=1, best=best)
        )
    write_parameters(output, values, {
        "source": f"cdlm-train uniform {config.name} --runs {runs} --seed {seed}, bmi_cdlm {__version__}",
        "score": f"mean NSE {score:.4f} over {settings.start} to {settings.end}, all gauges",
    })
    for name, value in values.items():
        console.print(f"{name:24s} {value:10.4g}")
    console.print(f"wrote {output}")


if __name__ == "__main__":
    sys.exit(main())
