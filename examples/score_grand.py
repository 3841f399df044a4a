"""Scores on the Grand River per gauge, in the training years and the test years, beside the published models.

    python examples/score_grand.py cfg/grand.yaml PATH/TO/example_grand.nc CHECKPOINT [CHECKPOINT ...]

The published models (Mai et al. 2021, doi:10.1061/(ASCE)HE.1943-5584.0002097) were calibrated on 2011-2014, so that
the test years are in-sample for them. Several checkpoints, such as one per seed, give a line each.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np
from rich.table import Table

from bmi_cdlm.commands.common import console
from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.files.observations import read_observations
from cdlm_training.config import load_train_config
from cdlm_training.scores import simulate_gauges

PREFIX = "discharge_sim_"


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("published", type=click.Path(path_type=Path, exists=True))
@click.argument("checkpoints", type=click.Path(path_type=Path, exists=True), nargs=-1)
def main(config: Path, published: Path, checkpoints: tuple[Path, ...]) -> None:
    """Print NSE and KGE of the CHECKPOINTS and of the models in the file PUBLISHED."""
    run, training = load_train_config(config)
    assert run.observations is not None
    with netCDF4.Dataset(published) as file:
        file.set_auto_mask(False)
        ids = [str(g) for g in file["gauge_id"][:]]
        models = {n.removeprefix(PREFIX): file[n][:].astype("f8") for n in file.variables if n.startswith(PREFIX)}
    starts, observed = read_observations(run.observations, ids, run.start, run.end, run.time_step)
    for checkpoint in checkpoints:
        order, simulated = simulate_gauges(run, checkpoint)
        models[checkpoint.stem] = simulated[:, [order.index(g) for g in ids]]
    periods = {"train": (starts >= training.train[0]) & (starts < training.train[1]),
               "test": starts >= training.train[1]}
    for label, inside in periods.items():
        for metric, of in (("NSE", nse), ("KGE", kge)):
            table = Table("model", *ids, "median", title=f"{metric}, {label}, from {str(starts[inside][0])[:10]}")
            for name, simulated in models.items():
                pairs = zip(simulated[inside].T, observed[inside].T, strict=True)
                scores = np.array([of(s, o) for s, o in pairs])
                table.add_row(name, *(f"{v:.3f}" for v in (*scores, np.median(scores))))
            console.print(table)


if __name__ == "__main__":
    main()
