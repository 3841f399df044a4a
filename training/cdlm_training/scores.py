"""Scores of a checkpoint, run by the runtime itself in float64."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.screening import read_records
from bmi_cdlm.run.simulation import Simulation
from cdlm_training.config import TrainConfig


class Scores(NamedTuple):
    """Mean NSE and KGE over the training gauges in the validation period, both per gauge of the domain, and medians."""

    nse: float
    kge: float
    gauges: dict[str, tuple[float, float]]
    median_nse: float = float("nan")
    median_kge: float = float("nan")


def simulate_gauges(run: Config, parameters: Path) -> tuple[list[str], np.ndarray]:
    """Run the model with a checkpoint or parameter file; gauge ids and discharge [m3 s-1], float64[time, gauge]."""
    parts: list[np.ndarray] = []
    with closing(Simulation(run.model_copy(update={"parameters": parameters, "member": None}))) as simulation:
        simulation.run_blocks(
            ["gauge_discharge"], lambda starts, values: parts.append(values["gauge_discharge"].copy())
        )
    return simulation.model.domain.gauges.id, np.concatenate(parts)


def validate(run: Config, config: TrainConfig, checkpoint: Path) -> Scores:
    """Score a checkpoint in the validation period, at every gauge of the domain."""
    ids, simulated = simulate_gauges(run, checkpoint)
    return score(run, config, ids, simulated, config.validation)


def score(
    run: Config, config: TrainConfig, ids: list[str], simulated: np.ndarray, period: tuple[np.datetime64, np.datetime64]
) -> Scores:
    """Score a simulation of the whole record in one period."""
    assert run.observations is not None
    _, observed = read_records(run, ids, run.start, run.end)
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in period)
    gauges = {
        g: (nse(s, o), kge(s, o)) for g, s, o in zip(ids, simulated[first:last].T, observed[first:last].T, strict=True)
    }
    chosen = [gauges[g] for g in ids if config.gauges == "all" or g in config.gauges]
    columns = [column[~np.isnan(column)] for column in np.array(chosen).T]
    means, medians = ([float(of(c)) if c.size else float("nan") for c in columns] for of in (np.mean, np.median))
    return Scores(means[0], means[1], gauges, medians[0], medians[1])


class Epoch(NamedTuple):
    """What one epoch gave: mean loss, validation scores, seconds."""

    number: int
    loss: float
    scores: Scores
    seconds: float
