"""Differential evolution of many small problems side by side: one population per site and restart.

Libraries evolve one population at a time, and a monthly model of one site is hardly any work: a loop over months in
numpy costs the same for one population as for a hundred. So populations go in step here, and leave when they have come
together. The variant is that of scipy.optimize.differential_evolution, best/1/bin with dither; a test holds both equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]
MEMBERS, FEWEST = 8, 20
"""Members of a population per parameter, and at least."""
CROSSING, DITHER = 0.9, (0.5, 1.0)
"""Chance that a parameter is taken from the mutant, and between which limits a generation's factor is drawn."""
GENERATIONS = 400
TOGETHER = 1e-6
"""A population has converged where its costs lie no farther apart [1]."""


class Found(NamedTuple):
    """The best member of every population: values float64[parameter, population] in 0 to 1, its cost, and whether the
    population came together."""

    values: np.ndarray
    cost: np.ndarray
    converged: np.ndarray


def evolve(cost: Cost, n_parameters: int, n_populations: int, seed: int) -> Found:
    """Find the minimum of every population within the unit cube.

    Parameters
    ----------
    cost : function of (values, populations)
        values float64[parameter, member, population] in 0 to 1, populations int64[] which they are of; gives
        float64[member, population], finite or infinite. Populations do not act on each other.
    n_parameters, n_populations, seed : int
    """
    random = np.random.default_rng(seed)
    size = max(FEWEST, MEMBERS * n_parameters)
    values = _spread_out(random, n_parameters, size, n_populations)
    costs = cost(values, np.arange(n_populations))
    active = np.arange(n_populations)
    for _ in range(GENERATIONS):
        own, their = values[:, :, active], costs[:, active]
        tried = _mutants(random, own, their)
        found = cost(tried, active)
        better = found < their
        values[:, :, active] = np.where(better, tried, own)
        costs[:, active] = np.where(better, found, their)
        active = active[np.ptp(costs[:, active], axis=0) > TOGETHER]
        if not active.size:
            break
    converged = np.ones(n_populations, bool)
    converged[active] = False
    best = costs.argmin(axis=0)
    every = np.arange(n_populations)
    return Found(values[:, best, every], costs[best, every], converged)


def _spread_out(random: np.random.Generator, n_parameters: int, size: int, n_populations: int) -> np.ndarray:
    """Members that fill each range evenly (Latin hypercube), float64[parameter, member, population]."""
    places = random.random((n_parameters, size, n_populations)).argsort(axis=1)
    drawn: np.ndarray = (places + random.random(places.shape)) / size
    return drawn


def _mutants(random: np.random.Generator, values: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The best member plus a scaled difference of two others, crossed with each member; what leaves the cube is drawn
    anew."""
    n_parameters, size, n = values.shape
    member, one = np.arange(size)[:, None], np.arange(n)
    first = random.integers(1, size, (size, n))
    second = 1 + (first + random.integers(0, size - 2, (size, n))) % (size - 1)  # neither itself nor the first
    a, b = (values[:, (member + off) % size, one] for off in (first, second))
    best = values[:, costs.argmin(axis=0), one][:, None]
    mutant = best + random.uniform(*DITHER, (1, n)) * (a - b)
    outside = (mutant < 0) | (mutant > 1)
    mutant[outside] = random.random(np.count_nonzero(outside))
    taken = random.random(values.shape) < CROSSING
    sure = random.integers(0, n_parameters, (size, n))
    taken |= np.arange(n_parameters)[:, None, None] == sure
    return np.where(taken, mutant, values)
