"""`cdlm-train similarity`: parameters of every place from fits to similar gauges."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.names.errors import ConfigError
from cdlm_training.commands.common import require_torch


@click.command("similarity", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "output", type=click.Path(path_type=Path), required=True, help="File to write (.nc).")
@click.option("--mean", type=click.Choice(["parameters", "simulations"]), default="parameters", show_default=True,
              help="Of parameters of the donors, a file for every cell; or of simulations with them, at gauges.")
@click.option("--weights", type=click.Choice(["inverse_square", "equal"]), default="inverse_square",
              show_default=True, help="How donors weigh, by their distance in standardised attributes.")
def similarity(
    config: Path, output: Path, mean: Literal["parameters", "simulations"], weights: Literal["inverse_square", "equal"]
) -> None:
    """Fit every gauge of CONFIG by itself, and carry its parameters to places with similar attributes.

    `experiment` of CONFIG says by which attributes (`similarity`) and of how many `donors`; fits that it holds are not
    done again.
    """
    if output.suffix != ".nc":
        raise ConfigError(f"{output}: expected a name that ends in .nc.")
    require_torch()
    from cdlm_training.experiment.similarity import run_similarity

    console.print(f"wrote {output}: {run_similarity(config, output, mean, weights, console.print)}")
