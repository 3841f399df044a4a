"""Labels of the monthly models: their parameters that give the observed runoff of a site best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bmi_cdlm.evaluate.metrics import kge
from cdlm_training.fields import bounded
from cdlm_training.labels.evolution import evolve
from cdlm_training.labels.monthly import MonthlyModel, run
from cdlm_training.labels.store import Column, LabelSet, chosen

FITTED = 0.75
"""Share of a period, from its start, that is fitted; the rest says what a label is worth."""
FEWEST = 9
"""Months with a value that a fit needs."""
BLOCK_VALUES = 2**23
"""Monthly values of all members that are run at once."""
FLUXES = 3


def calibrate(
    model: MonthlyModel, rain: np.ndarray, demand: np.ndarray, runoff: np.ndarray, restarts: int, seed: int,
    tell: Callable[[int], None] = lambda sites: None,
) -> LabelSet:
    """Fit a monthly model to the runoff of every site by itself: 1 - NSE over the first three quarters of the months.

    Parameters
    ----------
    rain, demand, runoff : float64[month, site]
        [mm per month]; runoff NaN where it is not known.
    restarts, seed : int
        How often the search begins anew.
    tell : takes the number of sites done so far

    Returns
    -------
    LabelSet
        NaN at sites with fewer than nine months to fit, or runoff that does not vary there.
    """
    n_months, n = runoff.shape
    fitted = int(FITTED * n_months)
    known = ~np.isnan(runoff[:fitted])
    usable = np.flatnonzero((known.sum(axis=0) >= FEWEST) & (known_range(runoff[:fitted]) > 0)
                            & np.isfinite(rain).all(axis=0) & np.isfinite(demand).all(axis=0))
    columns = tuple(Column(p.name, p.units, p.low, p.high, p.scale, p.meaning) for p in model.parameters)
    tries = np.full((restarts, len(columns), n), np.nan)
    cost = np.full((restarts, n), np.inf)
    skill = {"kge": np.full(n, np.nan), "kge_fitted": np.full(n, np.nan), "n_values": known.sum(axis=0).astype(float)}
    block = max(1, BLOCK_VALUES // (FLUXES * n_months * restarts * 8 * max(3, len(columns))))
    for first in range(0, usable.size, block):
        own = usable[first : first + block]
        tries[:, :, own], cost[:, own] = _search(
            model, columns, rain[:fitted, own], demand[:fitted, own], runoff[:fitted, own], restarts, seed + first
        )
        tell(first + own.size)
    values, spread = chosen(columns, tries, cost)
    simulated = run(model, values[:, usable], rain[:, usable], demand[:, usable]).runoff
    for k, site in enumerate(usable):
        skill["kge_fitted"][site] = kge(simulated[:fitted, k], runoff[:fitted, site])
        skill["kge"][site] = kge(simulated[fitted:, k], runoff[fitted:, site])
    return LabelSet(model.name, columns, model.capacity, values, spread, skill, model.source)


def _search(
    model: MonthlyModel, columns: tuple[Column, ...], rain: np.ndarray, demand: np.ndarray, runoff: np.ndarray,
    restarts: int, seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters [restart, parameter, site] and costs [restart, site] of all restarts."""
    n, known = runoff.shape[1], ~np.isnan(runoff)
    target = np.where(known, runoff, 0.0)
    mean = target.sum(axis=0) / known.sum(axis=0)
    variance = np.where(known, (target - mean) ** 2, 0.0).sum(axis=0)

    def cost(places: np.ndarray, populations: np.ndarray) -> np.ndarray:
        site = populations % n
        simulated = run(model, _scaled(columns, places), rain[:, site], demand[:, site]).runoff
        error = np.where(known[:, None, site], simulated - target[:, None, site], 0.0)
        return (error**2).sum(axis=0) / variance[site]

    found = evolve(cost, len(columns), restarts * n, seed)
    values = _scaled(columns, found.values).reshape(len(columns), restarts, n)
    return values.transpose(1, 0, 2), found.cost.reshape(restarts, n)


def _scaled(columns: tuple[Column, ...], places: np.ndarray) -> np.ndarray:
    """Parameters from their places in their ranges, 0 to 1, float64[parameter, ...]."""
    return np.stack([bounded(c, place) for c, place in zip(columns, places, strict=True)])


def known_range(values: np.ndarray) -> np.ndarray:
    """Range of the known values along the first axis, 0 where none is known: a gap is no value of 0."""
    known = ~np.isnan(values)
    high = np.where(known, values, -np.inf).max(axis=0)
    low = np.where(known, values, np.inf).min(axis=0)
    return np.where(known.any(axis=0), high - low, 0.0)
