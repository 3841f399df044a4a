"""Calibration of uniform parameters: a global search with forward runs only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import differential_evolution

from bmi_cdlm.config import Config
from bmi_cdlm.metrics import nse
from bmi_cdlm.observations import read_observations
from bmi_cdlm.parameters import PARAMETERS, Parameter
from bmi_cdlm.simulation import Simulation


def fitted_parameters(snow: str) -> list[Parameter]:
    """Registry entries that a run with this snow option reads, the inert Muskingum weighting left out."""
    parts = {"none": ("core",), "cemaneige": ("core", "snow")}.get(snow, ("core", "snow", "hysteresis"))
    return [p for p in PARAMETERS if p.part in parts and p.name != "weighting"]


def calibrate(
    config: Config, *, runs: int, seed: int, progress: Callable[[float], None] = lambda best: None
) -> tuple[dict[str, float], float]:
    """Fit one value per parameter for the whole domain to the mean NSE at all gauges.

    Parameters
    ----------
    config : Config
        With observations; the whole run counts.
    runs : int
        Forward runs, about.
    seed : int
        The same seed gives the same parameters.
    progress : callable
        Called after each run with the best mean NSE so far.

    Returns
    -------
    parameters, score : dict of float by registry name, and the mean NSE
    """
    assert config.observations is not None
    simulation = Simulation(config)
    gauges = simulation.model.domain.gauges
    _, observed = read_observations(config.observations, gauges.id, config.start, config.end, config.time_step)
    fitted = fitted_parameters(config.snow)
    ranges = [p.range_at(config.time_step) for p in fitted]
    bounds = [
        (np.log(r.low), np.log(r.high)) if p.scale == "log" else (r.low, r.high)
        for p, r in zip(fitted, ranges, strict=True)
    ]
    best = [-np.inf]

    def values(x: np.ndarray) -> dict[str, float]:
        return {p.name: float(np.exp(v) if p.scale == "log" else v) for p, v in zip(fitted, x, strict=True)}

    def loss(x: np.ndarray) -> float:
        simulation.reset({name: np.array(value) for name, value in values(x).items()})
        parts: list[np.ndarray] = []
        simulation.run_blocks(["gauge_discharge"], lambda starts, v: parts.append(v["gauge_discharge"].copy()))
        simulated = np.concatenate(parts)
        score = float(np.nanmean([nse(s, o) for s, o in zip(simulated.T, observed.T, strict=True)]))
        best[0] = max(best[0], score)
        progress(best[0])
        return -score

    members = 6
    rounds = max(1, runs // (members * len(fitted)) - 1)
    found = differential_evolution(
        loss, bounds, maxiter=rounds, popsize=members, rng=np.random.default_rng(seed), polish=False, tol=0.0
    )
    simulation.close()
    return values(found.x), -float(found.fun)
