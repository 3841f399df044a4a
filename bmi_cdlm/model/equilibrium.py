"""A start in equilibrium: stores, unit hydrographs and rivers that a steady net rain would leave as they are.

The model's own step is asked, not its equations again: a store is in equilibrium where a step gives back what it took.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.names.time_steps import DAY

if TYPE_CHECKING:
    from bmi_cdlm.model.model import Model

DEFAULT_RAIN = 0.5
"""Net rain [mm d-1] of an equilibrium that nobody states."""
ROUTED_SHARE = 0.9
"""Share of effective rainfall that takes the first unit hydrograph."""
OUTFLOW_POWER = 5.0
"""Power of its content with which a store that is far from full gives off water."""
ALMOST_EMPTY = 1e-3
STEADY, CLOSE, WIDTH = 1e-14, 1e-9, 1e-15
"""Shares: change of a store in a step with which it is steady, of net rain with which it is found, of a bracket."""
MOST_ROUNDS = 200


def settle_cells(model: Model, rain: float | None, runoff: float | None) -> np.ndarray:
    """Bring the cells of a model into equilibrium with a net rain or a mean runoff [mm d-1], one of them.

    Net rain is rain less evapotranspiration. Where groundwater alone gives more than that runoff, it does.

    Returns
    -------
    float64[cell]
        Runoff of the cells [mm d-1].
    """
    n = model.domain.n_cells
    if runoff is None:
        return _settle(model, np.full(n, DEFAULT_RAIN if rain is None else rain))
    low, high = np.zeros(n), np.full(n, max(runoff, 1.0))
    if runoff > 0.0:
        for _ in range(MOST_ROUNDS):
            short = _settle(model, high) < runoff
            if not short.any():
                break
            high = np.where(short, 2.0 * high, high)
    return _settle(model, _root(lambda found: runoff - _settle(model, found), low, high, 1.0, CLOSE))


def _settle(model: Model, rain: np.ndarray) -> np.ndarray:
    """Equilibrium with a net rain, float64[cell] [mm d-1]; returns the runoff."""
    state = model.state.runoff
    liquid, dry = rain[None], np.zeros((1, rain.size))

    def gain(store: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        def of(content: np.ndarray) -> np.ndarray:
            store[:] = content
            model.generate_once(liquid, dry)
            return store - content
        return of

    for queue in (state.unit_hydrograph_1, state.unit_hydrograph_2):
        queue[:] = 0.0
    capacity = model.parameters["production_capacity"]
    production = _root(gain(state.production_store), np.zeros(rain.size), capacity, OUTFLOW_POWER, STEADY)
    inflow = rain * (model.step / DAY)
    for which, share in ((1, ROUTED_SHARE), (2, 1.0 - ROUTED_SHARE)):
        queue = (state.unit_hydrograph_1, state.unit_hydrograph_2)[which - 1]
        ordinates = model.ordinates(which)[: queue.shape[0]]
        later = ordinates.sum(axis=0) - np.cumsum(ordinates, axis=0)
        queue[:-1] = share * inflow * np.maximum(later[:-1], 0.0)
        queue[-1] = 0.0
    state.production_store[:] = production
    held = [a.copy() for a in state]
    routing_gain = gain(state.routing_store)
    full = model.parameters["routing_capacity"].copy()
    for _ in range(MOST_ROUNDS):
        rising = routing_gain(full) > 0.0
        if not rising.any():
            break
        full = np.where(rising, 2.0 * full, full)
    # Groundwater that flows in holds a store up, and an empty one is balanced as a pencil on its tip.
    low = ALMOST_EMPTY * full
    low[routing_gain(low) <= 0.0] = 0.0
    routing = _root(routing_gain, low, full, OUTFLOW_POWER, STEADY)
    for own, values in zip(state, held, strict=True):
        own[...] = values
    state.routing_store[:] = routing
    runoff = model.generate_once(liquid, dry)
    for own, values in zip(state, held, strict=True):
        own[...] = values
    state.routing_store[:] = routing
    return runoff


def _root(
    function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, power: float, tolerance: float
) -> np.ndarray:
    """Where functions fall through 0 between low and high, float64[cell]; where one is nowhere above 0, low.

    False position with halved ends (Illinois) in the given power of the argument, in which the functions are nearly
    straight.
    """
    low, high = low**power, high**power
    found, inverse = low.copy(), 1.0 / power
    above, below = function(low**inverse), function(high**inverse)
    open_, side = above > 0.0, np.zeros(low.size)
    for _ in range(MOST_ROUNDS):
        if not open_.any():
            break
        width = high - low
        middle = high - width * np.where(open_, below / np.where(open_, below - above, 1.0), 1.0)
        value = function(middle**inverse)
        found = np.where(open_, middle, found)
        upper = value > 0.0
        open_ &= (np.abs(value) > tolerance * middle**inverse) & (width > WIDTH * high)
        low, high = np.where(upper, middle, low), np.where(upper, high, middle)
        above = np.where(upper, value, np.where(side == -1, 0.5 * above, above))
        below = np.where(upper, np.where(side == 1, 0.5 * below, below), value)
        side = np.where(upper, 1, -1)
    return found**inverse
