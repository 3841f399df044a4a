"""The state of the model: every number that the future depends on, saved and restored along one path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.kernels.groups import CellTotals, RunoffState, SnowState
from bmi_cdlm.names.errors import StateError

HYDROGRAPHS = ("unit_hydrograph_1", "unit_hydrograph_2")


class State(NamedTuple):
    """All states; the arrays are allocated once and changed in place.

    snow, runoff, totals: groups on cells; reach_flow : float64[reach], the state y of Muskingum [m3 s-1];
    outflow_total : float64[reach], water that has left the reach since the start [m3]; unreleased : float64[reach],
    the part of it that the caller's clock has not reached [m3]; cell_storage_at_start [mm], reach_storage_at_start
    [m3] : float64[cell], float64[reach], water at the start; added_total : float64[cell] [mm], reach_added_total :
    float64[reach] [m3], water that callers have put in since the start.
    """

    snow: SnowState
    runoff: RunoffState
    totals: CellTotals
    reach_flow: np.ndarray
    outflow_total: np.ndarray
    unreleased: np.ndarray
    cell_storage_at_start: np.ndarray
    reach_storage_at_start: np.ndarray
    added_total: np.ndarray
    reach_added_total: np.ndarray

    def on_cells(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the cell, by name; views, not copies."""
        groups = (self.snow, self.runoff, self.totals)
        arrays = {name: getattr(g, name) for g in groups for name in g._fields}
        return arrays | {name: getattr(self, name) for name in ("cell_storage_at_start", "added_total")}

    def on_reaches(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the reach, by name; views, not copies."""
        names = ("reach_flow", "outflow_total", "unreleased", "reach_storage_at_start", "reach_added_total")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by its name; views, not copies."""
        return {**self.on_cells(), **self.on_reaches()}

    def copy(self) -> State:
        """Return an independent copy."""
        return State(
            SnowState(*(a.copy() for a in self.snow)), RunoffState(*(a.copy() for a in self.runoff)),
            CellTotals(*(a.copy() for a in self.totals)), *(a.copy() for a in self[3:]),
        )

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over values in place; queues of unit hydrographs may be shorter or longer, water is kept.

        Raises
        ------
        StateError
            A missing array, another number of cells or reaches, or water queued beyond the longest unit hydrograph.
        """
        own = self.arrays()
        missing = [name for name in own if name not in arrays]
        if missing:
            raise StateError(f"state lacks '{missing[0]}'. Expected {', '.join(own)}; use a state of this version.")
        checked = {name: _fitted(name, np.asarray(arrays[name], np.float64), own[name]) for name in own}
        for name, values in checked.items():
            own[name][...] = values

    def with_places(self, *places: int) -> State:
        """Return the same state with queues of that many places; water beyond them would be lost."""
        runoff = self.runoff
        queues = (_resized(getattr(runoff, name), n) for name, n in zip(HYDROGRAPHS, places, strict=True))
        return self._replace(runoff=RunoffState(*runoff[:2], *queues))

    def clear_totals(self) -> None:
        """Set the ledger to zero: the run starts here."""
        totals = (*self.totals, self.outflow_total, self.unreleased, self.added_total, self.reach_added_total)
        for total in totals:
            total[...] = 0.0


def new_state(n_cells: int, n_reaches: int, n_places_1: int, n_places_2: int) -> State:
    """Return an empty state: no water anywhere."""
    def cells() -> np.ndarray:
        return np.zeros(n_cells)

    def reaches() -> np.ndarray:
        return np.zeros(n_reaches)

    return State(
        SnowState(cells(), cells(), cells(), cells()),
        RunoffState(cells(), cells(), np.zeros((n_places_1, n_cells)), np.zeros((n_places_2, n_cells))),
        CellTotals(cells(), cells(), cells(), cells()), reaches(), reaches(), reaches(), cells(), reaches(), cells(),
        reaches(),
    )


def _fitted(name: str, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Values in the shape of `own`; only the length of a unit hydrograph's queue may differ.

    The last place of a queue is empty after every step, and the next step overwrites it.
    """
    if values.ndim != own.ndim or values.shape[-1:] != own.shape[-1:]:
        raise StateError(f"state '{name}' has shape {values.shape}, expected {own.shape}. Use a state of this domain.")
    if values.ndim == 1:
        return values
    needed = _occupied(values)
    if needed > own.shape[0]:
        raise StateError(
            f"state '{name}' holds water up to {needed - 1} steps ahead, the unit hydrographs here reach "
            f"{own.shape[0] - 1}. Take it over through `Model.restore`, which makes room."
        )
    return _resized(values, own.shape[0])


def occupied_places(arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Return how many places the queues of both unit hydrographs need for the water in a state's arrays."""
    first, second = (_occupied(arrays[name]) if name in arrays else 1 for name in HYDROGRAPHS)
    return first, second


def _occupied(queue: np.ndarray) -> int:
    """Places up to the last water, and the empty one after it that a queue ends with."""
    occupied = np.flatnonzero((queue != 0).any(axis=1))
    return int(occupied[-1]) + 2 if occupied.size else 1


def _resized(queue: np.ndarray, places: int) -> np.ndarray:
    """A queue of that many places; itself where it has them."""
    if queue.shape[0] == places:
        return queue
    n = min(queue.shape[0], places)
    return np.concatenate([queue[:n], np.zeros((places - n, queue.shape[1]))])


