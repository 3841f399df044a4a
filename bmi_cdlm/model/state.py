"""The state of the model: every number that the future depends on, saved and restored along one path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.model.blocks import copy_group
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.preparation import Parameters
from bmi_cdlm.names.errors import StateError


class State(NamedTuple):
    """All states; the arrays are allocated once and changed in place.

    cells : per process of cells, stores [cell] and queues [place, cell] by name, with several components [component *
    cell] in place of [cell]; totals : water of cells, or of their components, since the start [mm]; reach :
    float64[reach], the state of the reach process; outflow_total : float64[reach], water that has left the reach since
    the start [m3]; unreleased : float64[reach], the part of it that the caller's clock has not reached [m3];
    cell_storage_at_start [mm], reach_storage_at_start [m3] : float64[cell], float64[reach], water at the start;
    added_total : float64[cell] [mm], reach_added_total : float64[reach] [m3], water that callers have put in since the
    start; reach_name : of the state of reaches; components : per process of cells; lstm_hidden, lstm_memory :
    float64[unit, cell], what the network of varying parameters shows and remembers, float64[0, cell] without one;
    earlier_totals : of cells as totals, what the process before runoff adds to them, () where it adds nothing.
    """

    cells: tuple[Any, ...]
    totals: Any
    reach: np.ndarray
    outflow_total: np.ndarray
    unreleased: np.ndarray
    cell_storage_at_start: np.ndarray
    reach_storage_at_start: np.ndarray
    added_total: np.ndarray
    reach_added_total: np.ndarray
    reach_name: str
    components: tuple[int, ...]
    lstm_hidden: np.ndarray
    lstm_memory: np.ndarray
    earlier_totals: Any = ()

    def on_cells(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the cell, by name; views, not copies."""
        arrays = {
            name: by_component(values, count) for group, count in zip(self.cells, self.components, strict=True)
            for name, values in group._asdict().items()
        }
        arrays |= {name: by_component(values, self.components[-1]) for name, values in self.totals._asdict().items()}
        for name in self.earlier:
            arrays[f"earlier_{name}"] = by_component(getattr(self.earlier_totals, name), self.components[-2])
        network = ("lstm_hidden", "lstm_memory") if self.lstm_hidden.shape[0] else ()
        return arrays | {name: getattr(self, name) for name in ("cell_storage_at_start", "added_total", *network)}

    @property
    def earlier(self) -> tuple[str, ...]:
        """Totals that the process before runoff adds to."""
        return self.earlier_totals._fields if self.earlier_totals else ()

    def totals_at(self, place: int) -> Any:
        """Totals that the process of cells at a place adds to; None where it has none."""
        before = len(self.cells) - 1 - place % len(self.cells)
        return (self.totals, self.earlier_totals or None)[before] if before < 2 else None

    def on_reaches(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the reach, by name; views, not copies."""
        names = ("outflow_total", "unreleased", "reach_storage_at_start", "reach_added_total")
        return {self.reach_name: self.reach, **{name: getattr(self, name) for name in names}}

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by its name; views, not copies."""
        return {**self.on_cells(), **self.on_reaches()}

    def copy(self) -> State:
        """Return an independent copy."""
        own: dict[str, Any] = {n: value.copy() for n, value in self._asdict().items() if isinstance(value, np.ndarray)}
        earlier = copy_group(self.earlier_totals) if self.earlier_totals else ()
        return self._replace(
            cells=tuple(map(copy_group, self.cells)), totals=copy_group(self.totals), earlier_totals=earlier, **own
        )

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over values in place; queues of unit hydrographs may be shorter or longer, water is kept.

        Raises
        ------
        StateError
            A missing array, another number of cells or reaches, or water queued beyond the longest unit hydrograph.
        """
        own, queues = self.arrays(), self.queues()
        missing = [name for name in own if name not in arrays]
        if missing:
            raise StateError(
                f"state lacks '{missing[0]}'. Expected {', '.join(own)}; use a state of these processes and this "
                "version."
            )
        checked = {
            name: _fitted(name, np.asarray(arrays[name], np.float64), own[name], name in queues) for name in own
        }
        for name, values in checked.items():
            own[name][...] = values

    def queues(self) -> dict[str, np.ndarray]:
        """Queues by name, float64[place, ..., cell]; views."""
        names = {name for group in self.cells for name, a in group._asdict().items() if a.ndim > 1}
        return {name: a for name, a in self.on_cells().items() if name in names}

    def with_places(self, places: Mapping[str, int]) -> State:
        """Return the same state with queues of that many places; water beyond them would be lost."""
        cells = tuple(
            group._replace(**{n: _resized(getattr(group, n), places[n]) for n in group._fields if n in places})
            for group in self.cells
        )
        return self._replace(cells=cells)

    def start_cells(self, operators: Operators, parameters: list[Parameters]) -> None:
        """Bring cells into the state of a cold start, in place; a network forgets what it remembers."""
        for operator, p, own in zip(operators.cells, parameters, self.cells, strict=True):
            for values, start in zip(own, operator.start(p), strict=True):
                values[...] = 0.0
                values[: start.shape[0]] = start
        for memory in (self.lstm_hidden, self.lstm_memory):
            memory[...] = 0.0

    def clear_totals(self) -> None:
        """Set the ledger to zero: the run starts here."""
        totals = (*self.totals, *self.earlier_totals)
        for total in (*totals, self.outflow_total, self.unreleased, self.added_total, self.reach_added_total):
            total[...] = 0.0


def by_component(values: np.ndarray, count: int) -> np.ndarray:
    """An array of units, [..., component * cell], as [..., component, cell]; as it is with one component."""
    return values if count == 1 else values.reshape(*values.shape[:-1], count, -1)


def new_state(operators: Operators, parameters: list[Parameters], lstm_units: int = 0) -> State:
    """Return the state of a cold start: cells at their customary fill, rivers empty, a network remembers nothing."""
    n_cells, n_reaches = operators.domain.n_cells, operators.domain.n_reaches
    last = operators.cells[-1]
    totals = last.plan.total_group
    earlier: Any = ()
    if len(operators.cells) > 1 and operators.cells[-2].plan.totals:
        before = operators.cells[-2]
        earlier = before.plan.total_group(*(np.zeros(before.n_units) for _ in before.plan.totals))

    def cells() -> np.ndarray:
        return np.zeros(n_cells)

    def reaches() -> np.ndarray:
        return np.zeros(n_reaches)

    return State(
        tuple(operator.start(p) for operator, p in zip(operators.cells, parameters, strict=True)),
        totals(*(np.zeros(last.n_units) for _ in totals._fields)), reaches(), reaches(), reaches(), cells(), reaches(),
        cells(), reaches(), operators.chain.reach.state, tuple(operator.components for operator in operators.cells),
        np.zeros((lstm_units, n_cells)), np.zeros((lstm_units, n_cells)), earlier,
    )


def _fitted(name: str, values: np.ndarray, own: np.ndarray, is_queue: bool) -> np.ndarray:
    """Values in the shape of `own`; only the length of a unit hydrograph's queue may differ.

    The last place of a queue is empty after every step, and the next step overwrites it.
    """
    rest = 1 if is_queue else 0
    if values.ndim != own.ndim or values.shape[rest:] != own.shape[rest:]:
        raise StateError(f"state '{name}' has shape {values.shape}, expected {own.shape}. Use a state of this domain.")
    if not is_queue:
        return values
    needed = _occupied(values)
    if needed > own.shape[0]:
        raise StateError(
            f"state '{name}' holds water up to {needed - 1} steps ahead, the unit hydrographs here reach "
            f"{own.shape[0] - 1}. Take it over through `Model.restore`, which makes room."
        )
    return _resized(values, own.shape[0])


def occupied_places(names: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return how many places the queues of these names need for the water in a state's arrays."""
    return {name: _occupied(arrays[name]) if name in arrays else 1 for name in names}


def _occupied(queue: np.ndarray) -> int:
    """Places up to the last water, and the empty one after it that a queue ends with."""
    occupied = np.flatnonzero((queue != 0).reshape(queue.shape[0], -1).any(axis=1))
    return int(occupied[-1]) + 2 if occupied.size else 1


def _resized(queue: np.ndarray, places: int) -> np.ndarray:
    """A queue of that many places; itself where it has them."""
    if queue.shape[0] == places:
        return queue
    n = min(queue.shape[0], places)
    return np.concatenate([queue[:n], np.zeros((places - n, *queue.shape[1:]))])
