"""A start in equilibrium: stores, unit hydrographs and rivers that a steady net rain would leave as they are.

The model's own step is asked, not the equations of a process again: a store is in equilibrium where a step gives back
what it took, and a queue where steps without end have filled it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.names.declaration import LIQUID_WATER, Store
from bmi_cdlm.names.parameters import parameter
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable

if TYPE_CHECKING:
    from bmi_cdlm.model.model import Model

DEFAULT_RAIN = 0.5
"""Net rain [mm d-1] of an equilibrium that nobody states."""
OUTFLOW_POWER = 5.0
"""Power of its content with which a store that is far from full gives off water."""
ALMOST_EMPTY = 1e-3
STEADY, CLOSE, WIDTH = 1e-14, 1e-9, 1e-15
"""Shares: change of a store in a step with which it is steady, of net rain with which it is found, of a bracket."""
MOST_ROUNDS, MOST_DOUBLINGS, MOST_SWEEPS = 200, 40, 100


def settle_cells(model: Model, rain: float | None, runoff: float | None) -> np.ndarray:
    """Bring the cells of a model into equilibrium with a net rain or a mean runoff [mm d-1], one of them.

    Net rain is rain less evapotranspiration, and liquid: snow starts as it does anyway. Where groundwater alone gives
    more than that runoff, it does.

    Returns
    -------
    float64[cell]
        Runoff of the cells [mm d-1].
    """
    n = model.domain.n_cells
    settle = _Settling(model).settle
    if runoff is None:
        return settle(np.full(n, DEFAULT_RAIN if rain is None else rain))
    low, high = np.zeros(n), np.full(n, max(runoff, 1.0))
    if runoff > 0.0:
        for _ in range(MOST_DOUBLINGS):
            short = settle(high) < runoff
            if not short.any():
                break
            high = np.where(short, 2.0 * high, high)
    return settle(_root(lambda found: runoff - settle(found), low, high, 1.0, CLOSE))


class _Settling:
    """Finds the equilibrium of the runoff process of a model, for every cell and component at once.

    Stores that hold no water stay as at a cold start.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._process = model, model.chain.cells[-1]
        plan = model.operators.cells[-1].plan
        model.start_cells()
        self._parts = _parts(plan)
        self._names = [name for _, names in self._parts for name in names]
        # What flows into later queues does not come back: a store does not feel it.
        later = {n: {q for qs, _ in self._parts[k + 1 :] for q in qs} for k, p in enumerate(self._parts) for n in p[1]}
        self._symbols = model.symbols(self._process.name)
        self._own: dict[str, np.ndarray] = model.state.cells[-1]._asdict()
        self._held = {name: values.copy() for name, values in self._own.items()}
        self._start = {name: values.copy() for name, values in self._own.items()}
        self._felt = {name: [other for other in self._own if other not in others] for name, others in later.items()}
        self._series = self._weather()

    def _weather(self) -> dict[str, np.ndarray]:
        """A step of a warm day without demand; the rain comes later."""
        model, shape = self._model, (1, self._model.domain.n_cells)
        series = {
            name: np.full(shape, variable(name).known.typical) for name in self._process.inputs if name != LIQUID_WATER
        }
        series["potential_evapotranspiration"] = np.zeros(shape)
        for name in model.varying:
            given = model.parameters.get(name)
            if given is not None and given.ndim == 2:  # [component, cell], for a step
                series[name] = given[:, None].copy()
            else:
                # Of those that the caller or a network gives at every step, nothing is known yet.
                usual = parameter(name).range_at(model.step).default
                series[name] = np.broadcast_to(usual if given is None else given, shape).copy()
        return series

    def settle(self, rain: np.ndarray) -> np.ndarray:
        """Equilibrium with a net rain, float64[cell] [mm d-1]; returns the runoff."""
        self._series["precipitation"] = self._series[LIQUID_WATER] = rain.reshape(1, -1)
        self._series[self._process.enters] = self._series["precipitation"]
        for name, values in self._start.items():
            self._held[name][:] = values
        depth = rain.max(initial=0.0) * (self._model.step / DAY)
        for _ in range(MOST_SWEEPS):
            for queues, stores in self._parts:
                self._fill(queues)
                for name in stores:
                    self._held[name][:] = self._find(name)
            if self._is_steady(depth):
                break
        runoff = self._step()
        self._put()
        return runoff

    def _put(self, names: Iterable[str] | None = None) -> None:
        for name in self._held if names is None else names:
            self._own[name][...] = self._held[name]

    def _step(self, names: Iterable[str] | None = None) -> np.ndarray:
        """A step from what is held, or from some of it; the state is that after it, what is held stays."""
        self._put(names)
        return self._model.generate_once(self._series)

    def _gain(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
        """What a step adds to a store, by its content."""
        def of(content: np.ndarray) -> np.ndarray:
            self._held[name][:] = content
            self._step(self._felt[name])
            return self._own[name] - content
        return of

    def _is_steady(self, depth: float) -> bool:
        """Whether a step from here leaves all stores as they are, to the rounding of what flows through."""
        self._step()
        off = {name: np.abs(self._own[name] - self._held[name]) for name in self._names}
        return all((off[n] <= CLOSE * CLOSE + 1e-12 * (np.abs(self._held[n]) + depth)).all() for n in off)

    def _fill(self, queues: list[str]) -> None:
        """Fill queues with what a steady inflow leaves in them: what a step leaves of its own, over and over."""
        if not queues:
            return
        for name in queues:
            self._held[name][:] = 0.0
        self._step()
        for name in queues:
            self._held[name][:] = np.cumsum(self._own[name][::-1], axis=0)[::-1]

    def _find(self, name: str) -> np.ndarray:
        """The content of a store with which a step leaves it as it is, with all else held; as at a cold start if none.
        """
        store, gain = self._process.stores[name], self._gain(name)
        full, limited = self._full(name, store)
        rising = np.zeros(full.size, bool)
        if not limited:
            for _ in range(MOST_DOUBLINGS):
                rising = gain(full) > 0.0
                if not rising.any():
                    break
                full = np.where(rising, 2.0 * full, full)
            rising = gain(full) > 0.0
        if store.bounds[0] == -np.inf:
            return _root(gain, self._deficit(gain, full.size), full, 1.0, STEADY)
        # Groundwater that flows in holds a store up, and an empty one is balanced as a pencil on its tip.
        low = ALMOST_EMPTY * full
        low[gain(low) <= 0.0] = max(0.0, store.bounds[0])
        return np.where(rising, self._start[name], _root(gain, low, full, OUTFLOW_POWER, STEADY))

    def _deficit(self, gain: Callable[[np.ndarray], np.ndarray], units: int) -> np.ndarray:
        """A content below 0 at which a store that may be in deficit rises; where it sinks from any, one at which it
        gives off hardly anything.
        """
        low = np.full(units, -1.0)
        for _ in range(MOST_DOUBLINGS):
            now, deeper = gain(low), gain(2.0 * low)
            sinking = (now <= 0.0) & (deeper > now + ALMOST_EMPTY)
            if not sinking.any():
                break
            low = np.where(sinking, 2.0 * low, low)
        return low

    def _full(self, name: str, store: Store) -> tuple[np.ndarray, bool]:
        """A content that a store has at most, and whether it has a limit."""
        units = self._own[name].size
        if store.at_most is not None:
            symbol = next(p.symbol for p in self._process.parameters if p.name == store.at_most)
            return self._symbols[symbol].copy(), True
        if np.isfinite(store.bounds[1]):
            return np.full(units, store.bounds[1]), True
        if store.start_of is not None:
            return self._symbols[store.start_of].copy(), False
        return np.full(units, max(store.start, 1.0)), False


def _parts(plan: CellPlan) -> list[tuple[list[str], list[str]]]:
    """Queues and then stores, in the order of the water: each store where the last stage that changes it stands."""
    found: list[tuple[list[str], list[str]]] = []
    last = {s: k for k, (_, stages) in enumerate(plan.segments) for stage in stages for s in stage.returns}
    for k, (queues, _) in enumerate(plan.segments):
        stores = [n for n, s in plan.process.stores.items() if s.holds_water and last[s.symbol] == k]
        found.append((queues, stores))
    return found


def _root(
    function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, power: float, tolerance: float
) -> np.ndarray:
    """Where functions fall through 0 between low and high, float64[place]; where one is nowhere above 0, low.

    False position with halved ends (Illinois) in the given power of the argument, in which the functions are nearly
    straight; where that does not close in, halves.
    """
    low, high = low**power, high**power
    found, inverse = low.copy(), 1.0 / power
    above, below = function(low**inverse), function(high**inverse)
    open_, side = above > 0.0, np.zeros(low.size)
    before = high**inverse - low**inverse
    for k in range(MOST_ROUNDS):
        if not open_.any():
            break
        width = high - low
        middle = high - width * np.where(open_, below / np.where(open_, below - above, 1.0), 1.0)
        if k % 3 == 2:
            span = high**inverse - low**inverse
            middle = np.where(span > 0.25 * before, (low**inverse + 0.5 * span) ** power, middle)
            before = span
        value = function(middle**inverse)
        found = np.where(open_, middle, found)
        upper = value > 0.0
        open_ &= (np.abs(value) > tolerance * middle**inverse) & (width > WIDTH * high)
        low, high = np.where(upper, middle, low), np.where(upper, high, middle)
        above = np.where(upper, value, np.where(side == -1, 0.5 * above, above))
        below = np.where(upper, np.where(side == 1, 0.5 * below, below), value)
        side = np.where(upper, 1, -1)
    return found**inverse
