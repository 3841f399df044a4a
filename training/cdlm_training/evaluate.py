"""Validation by the runtime itself: a checkpoint is written, loaded and run in float64."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bmi_cdlm.checkpoint import save_checkpoint
from bmi_cdlm.config import Config
from bmi_cdlm.metrics import kge, nse
from bmi_cdlm.observations import read_observations
from bmi_cdlm.simulation import Simulation
from cdlm_training.config import TrainConfig

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer


class Scores(NamedTuple):
    """Mean NSE and KGE over the training gauges in the validation period, and both per gauge of the domain."""

    nse: float
    kge: float
    gauges: dict[str, tuple[float, float]]


def simulate_gauges(run: Config, checkpoint: Path) -> tuple[list[str], np.ndarray]:
    """Run the model with a checkpoint; gauge ids and discharge [m3 s-1], float64[time, gauge]."""
    parts: list[np.ndarray] = []
    with closing(Simulation(run.model_copy(update={"parameters": checkpoint}))) as simulation:
        simulation.run_blocks(
            ["gauge_discharge"], lambda starts, values: parts.append(values["gauge_discharge"].copy())
        )
    return simulation.model.domain.gauges.id, np.concatenate(parts)


def validate(run: Config, config: TrainConfig, checkpoint: Path) -> Scores:
    """Score a checkpoint in the validation period, at every gauge of the domain."""
    ids, simulated = simulate_gauges(run, checkpoint)
    period = config.train if config.validate_on is None else config.validate_on
    return score(run, config, ids, simulated, period)


def score(
    run: Config, config: TrainConfig, ids: list[str], simulated: np.ndarray, period: tuple[np.datetime64, np.datetime64]
) -> Scores:
    """Score a simulation of the whole record in one period."""
    assert run.observations is not None
    _, observed = read_observations(run.observations, ids, run.start, run.end, run.time_step)
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in period)
    gauges = {
        g: (nse(s, o), kge(s, o)) for g, s, o in zip(ids, simulated[first:last].T, observed[first:last].T, strict=True)
    }
    chosen = [gauges[g] for g in ids if config.gauges == "all" or g in config.gauges]
    mean_nse, mean_kge = (_mean(column) for column in np.array(chosen).T)
    return Scores(mean_nse, mean_kge, gauges)


def _mean(values: np.ndarray) -> float:
    """Mean of what is defined, NaN where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _or_none(value: float) -> float | None:
    """The score of a gauge, None where it is undefined: JSON has no NaN."""
    return None if np.isnan(value) else value


def write_checkpoint(path: Path, trainer: Trainer, scores: Scores | None) -> None:
    """Write the generator as it is, with the record of its training."""
    config, ids = trainer.config, trainer.data.domain.gauges.id
    validation = config.train if config.validate_on is None else config.validate_on
    save_checkpoint(path, trainer.spec, trainer.generator.tensors(), {
        "gauges": [ids[i] for i in trainer.data.gauges],
        "periods": {"train": [str(t) for t in config.train], "validation": [str(t) for t in validation]},
        "scores": {} if scores is None else {
            g: {"nse": _or_none(n), "kge": _or_none(k)} for g, (n, k) in scores.gauges.items()
        },
        "fingerprints": trainer.fingerprints,
        "licence": config.licence,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "epoch": trainer.epoch,
        "training": config.model_dump(mode="json", exclude={"output"}),
    })
