"""Arrays of one block of steps: where kernels write, and what a run of many steps keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.network import NetworkPlan
from bmi_cdlm.kernels.groups import ReachSeries
from bmi_cdlm.kernels.streaming import LINE
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.declaration import RUNOFF

FACTOR = "pet_factor"
LONGEST_BLOCK, SHORTEST_BLOCK = 4096, 16
"""Routing steps and model steps beyond which a longer block only drives hydrographs out of the caches."""


class Buffers(NamedTuple):
    """Arrays of one block: a flux of cells that nobody keeps is one row, the live one.

    given : what each process of cells hands on, float64[time, cell] by name; fluxes : of each process, in the chain's
    order; factor : float64[time, cell], of a PET network, or without cells.
    """

    given: dict[str, np.ndarray]
    fluxes: list[Any]
    factor: np.ndarray
    lateral_inflow: ReachSeries
    discharge: ReachSeries
    hydrographs: np.ndarray

    def series(self, name: str, gauge_reach: np.ndarray, reaches: np.ndarray | None) -> np.ndarray:
        """A flux that is kept, as float64[time, n]; `reaches`: which of them, all where None."""
        for found in (self.given, *(group._asdict() for group in self.fluxes), {FACTOR: self.factor}):
            if name in found:
                return found[name]
        flow = self.lateral_inflow if name == "lateral_inflow" else self.discharge
        places = gauge_reach if name == "gauge_discharge" else reaches
        if flow.values.shape[1] == 1:
            return flow.last[None] if places is None else flow.last[places][None]
        return flow.values.T if places is None else flow.values[flow.row[places]].T

    def copy_last(self, single: Buffers) -> None:
        """Copy the last step of cells into the buffers of one step, which are the live arrays."""
        for whole, last in zip(self._on_cells(), single._on_cells(), strict=True):
            if whole.base is not last.base:
                last[0] = whole[-1]

    def _on_cells(self) -> list[np.ndarray]:
        return [*self.given.values(), *(a for group in self.fluxes for a in group), self.factor]


class Kept(NamedTuple):
    """What is wanted of every step: names of fluxes, and of which reaches (int64[], all where None); the gauges' reach.

    The discharge of gauges is always at hand.
    """

    names: tuple[str, ...]
    reaches: np.ndarray | None
    gauge_reach: np.ndarray

    def rows(self, name: str) -> np.ndarray | None:
        """Reaches that need a row of their own for a flux; None for all."""
        own = self.gauge_reach if name == "discharge" else self.gauge_reach[:0]
        if name not in self.names:
            return np.unique(own)
        return None if self.reaches is None else np.unique(np.concatenate([own, self.reaches]))


class Workspace:
    """The buffers of a model: those of one step, and those of the block before, which the next one takes again.

    Parameters
    ----------
    operators : Operators
    live : dict of float64[cell | reach]
        The last step's value of every flux that the model computes.

    Attributes
    ----------
    single : Buffers
        Of one step: the live arrays.
    """

    def __init__(self, operators: Operators, live: Mapping[str, np.ndarray]) -> None:
        self._cells, self._live, self._n_sub = operators.cells, live, operators.n_sub
        self._plan, self._at_gauges = operators.reach.network, operators.domain.gauges.reach
        self.single = self.fresh(1)
        self._block: tuple[int, Kept, Buffers] | None = None

    def of(self, n_steps: int, keep: Sequence[str], reaches: np.ndarray | None) -> Buffers:
        """Buffers of a block, those of the call before where they fit: fresh memory costs as much as the routing."""
        if n_steps == 1:
            return self.single
        held = self._block
        if held is None or held[0] != n_steps or held[1].names != tuple(keep) or held[1].reaches is not reaches:
            self._block = held = None
            self._block = held = n_steps, self._kept(keep, reaches), self.fresh(n_steps, keep, reaches)
        return held[2]

    def fresh(self, n_steps: int, keep: Sequence[str] = (), reaches: np.ndarray | None = None) -> Buffers:
        """Buffers that nobody else has."""
        return make_buffers(self._cells, self._live, n_steps, self._n_sub, self._kept(keep, reaches), self._plan)

    def longest(self, memory: int, keep: Sequence[str], reaches: np.ndarray | None, more: int) -> int:
        """Steps of a block whose buffers, and `more` bytes per step, fit in `memory` bytes."""
        kept = self._kept(keep, reaches)
        per_step = more + step_bytes(self._cells, self._live, self._n_sub, kept, self._plan)
        longest = max(SHORTEST_BLOCK, LONGEST_BLOCK // self._n_sub)
        return int(np.clip(memory // per_step, 1, longest))

    def _kept(self, keep: Sequence[str], reaches: np.ndarray | None) -> Kept:
        return Kept(tuple(keep), reaches, self._at_gauges)


def make_buffers(
    cells: list[CellOperator], live: Mapping[str, np.ndarray], n_steps: int, n_sub: int, kept: Kept, plan: NetworkPlan
) -> Buffers:
    """Allocate the arrays of a block of n_steps model steps, n_sub routing steps each.

    Parameters
    ----------
    cells : list of CellOperator
        What writes them.
    live : dict of float64[cell | reach]
        The last step's value of every flux that the model computes: kernels write there.
    kept : Kept
        Fluxes that are wanted at every step.
    plan : NetworkPlan
        Which reaches may share a row.
    """
    n_cells = live[RUNOFF].size

    def on_cells(name: str) -> np.ndarray:
        if name not in live:  # nobody sees it but the next process
            return np.empty((n_steps, n_cells))
        whole = n_steps > 1 and (name in kept.names or name in (RUNOFF, FACTOR))
        return np.empty((n_steps, n_cells)) if whole else live[name].reshape(1, -1)

    def on_reaches(name: str) -> ReachSeries:
        own = kept.rows(name) if n_steps > 1 else np.zeros(0, np.int64)
        if own is None:
            return whole_series(on_lines(live[name].size, n_steps), live[name])
        row = plan.network.slot
        if own.size:
            row = row.copy()
            row[own] = plan.n_slots + np.arange(own.size)
        return ReachSeries(np.empty((plan.n_slots + own.size, n_steps)), row, live[name])

    return Buffers(
        given={operator.gives: on_cells(operator.gives) for operator in cells},
        fluxes=[operator.plan.flux_group(*map(on_cells, operator.plan.flux_group._fields)) for operator in cells],
        factor=on_cells(FACTOR) if FACTOR in live else np.empty((1, 0)),
        lateral_inflow=on_reaches("lateral_inflow"),
        discharge=on_reaches("discharge"),
        hydrographs=np.empty((plan.n_slots, n_steps * n_sub)),
    )


def step_bytes(
    cells: list[CellOperator], live: Mapping[str, np.ndarray], n_sub: int, kept: Kept, plan: NetworkPlan
) -> int:
    """Bytes that one more step of a block takes in the arrays of `make_buffers`."""
    n_cells, n_reaches = live[RUNOFF].size, live["discharge"].size
    names = [name for operator in cells for name in (operator.gives, *operator.plan.flux_group._fields)]
    names += [FACTOR] if FACTOR in live else []
    on_cells = sum(name not in live or name in kept.names or name in (RUNOFF, FACTOR) for name in names)
    rows = 0
    for name in ("lateral_inflow", "discharge"):
        own = kept.rows(name)
        rows += n_reaches if own is None else plan.n_slots + own.size
    units = sum(operator.n_units for operator in cells if operator.components > 1)
    return 8 * (n_cells * on_cells + units + rows + plan.n_slots * n_sub)


def on_lines(count: int, width: int, dtype: type = np.float64) -> np.ndarray:
    """Memory for float[count, width] that begins on a line of the cache, for kernels that write whole lines."""
    size = count * width
    space: np.ndarray = np.empty(size + LINE // np.dtype(dtype).itemsize, dtype)
    first = -space.ctypes.data % LINE // space.itemsize
    return space[first : first + size].reshape(count, width)


def whole_series(values: np.ndarray, last: np.ndarray | None = None) -> ReachSeries:
    """A flux that is kept for every reach, float[reach, time]."""
    n = values.shape[0]
    return ReachSeries(values, np.arange(n), np.empty(n, values.dtype) if last is None else last)
