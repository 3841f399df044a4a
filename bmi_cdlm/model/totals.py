"""Water of the whole domain: sums and means over cells and reaches, and the masses of a caller's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import M3_PER_MM_KM2
from bmi_cdlm.kernels.again import Again
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.routing import add_up_cells, compensated_sum, sum_balance
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.state import State
from bmi_cdlm.model.sums import add_rows, mean_of_components
from bmi_cdlm.names.host_variables import MASSES
from bmi_cdlm.names.time_steps import DAY

MM_PER_M = 1000.0


class Outstanding(NamedTuple):
    """Water between the model and its caller, less what there was at the start.

    precipitation : float64[cell], not yet used [mm d-1 s]; runoff : float64[cell], not yet handed out [mm]; discharge :
    float64[reach], not yet handed out [m3]. None where there is none.
    """

    precipitation: np.ndarray | None = None
    runoff: np.ndarray | None = None
    discharge: np.ndarray | None = None


class Totals:
    """Keeps the stored water and the totals among the live values [m3], and the masses [m] over the drained area.

    Parameters
    ----------
    operators : Operators
        Of the model: its domain, and which stores hold water.
    live : mapping of float64[cell | reach | 1]
        The live values, changed in place.
    step : int
        The model step [s].
    weights : float64[component, cell], optional
        Of the components of the runoff process; None where each weighs the same.

    Attributes
    ----------
    masses : dict of float64[1]
        By the short names of `host_variables.MASSES`, as of the last call.
    at_start : float
        Water of the domain at the start [m3].
    step_depth : float
        Runoff of the last step as a depth over the drained area [m].
    """

    def __init__(
        self, operators: Operators, live: Mapping[str, np.ndarray], step: int, weights: np.ndarray | None = None
    ) -> None:
        domain = operators.domain
        self._live, self._step, self._sum = live, step, compiled(compensated_sum)
        self._volume = domain.cells.drained_area * M3_PER_MM_KM2
        # A domain that drains nothing has depths of 0.
        self._drained = float(self._volume.sum()) * MM_PER_M or 1.0
        self._share = self._volume * MM_PER_M / self._drained
        self._every_reach = np.ones(domain.n_reaches)
        self._at_outlets = np.zeros(domain.n_reaches)
        self._at_outlets[domain.outlets] = 1.0
        cells = [(place, o, o.components) for place, o in enumerate(operators.cells)]
        stores = [(k, name, live[name], n, s) for k, o, n in cells for name, s in o.process.stores.items()]
        self._components = operators.cells[-1].components
        before = operators.cells[-2:-1]
        self._earlier = [(name, o.components) for o in before for name in o.plan.totals]
        self._weights: list[np.ndarray | None] = [None for _ in cells]
        self._weights[-1] = weights
        nothing = np.zeros(domain.n_cells)
        self._stores = tuple(values for _, _, values, _, s in stores if s.holds_water) or (nothing,)
        self._apart = [(k, name, values, n) for k, name, values, n, _ in stores if n > 1]
        self._queues = [(k, name, n) for k, o, n in cells for name in o.process.queues]
        helds = tuple(live[q.held] for o in operators.cells for q in o.process.queues.values())
        self._helds = helds or (nothing.copy(),)
        self._no_queue, self._queued, self._add_up = (nothing[None],), nothing.copy(), Again(compiled(add_up_cells))
        self._apart_queues = any(n > 1 for _, _, n in self._queues)
        self._depths = tuple(live[f"{name}_total"] for name in ("precipitation", "exchange", "evapotranspiration"))
        self._depths += (live["cell_water_stored"],)
        self._numbers = tuple(live[name] for name in (
            "water_in", "water_exchanged", "water_out", "water_stored", "outlet_discharge", "runoff_depth",
            "runoff_depth_total",
        ))
        names = [name.removeprefix("mean_") for name in live if name.startswith("mean_")]
        self._means = [live[f"mean_{name}"] for name in names]
        self._averaged = (*(live[name] for name in names), live["runoff"], live["runoff_total"])
        self._sum_balance, self._sums = Again(compiled(sum_balance)), np.empty(len(names) + 9)
        self._of_state: tuple[State | None, tuple, tuple] = None, (), ()
        self.step_depth = self._generated = self.at_start = self._added = 0.0
        self._water = 0.0, 0.0, 0.0, 0.0
        self.masses = {v.short: np.zeros(1) for v in MASSES}
        self._mass_values = tuple(self.masses[f"mass_{name}"] for name in ("in", "out", "stored", "leaked"))

    def recount(self, state: State) -> None:
        """Derive what no step changes: water that callers have added, and the water at the start [m3]."""
        total, volume, reaches = self._sum, self._volume, self._every_reach
        self._added = total(state.added_total, volume) + total(state.reach_added_total, reaches)
        self._live["water_added"][0] = self._added
        self.at_start = total(state.cell_storage_at_start, volume) + total(state.reach_storage_at_start, reaches)

    def refresh(self, state: State) -> None:
        """Derive water in unit hydrographs and cells [mm], and all of the domain: 1 mm on 1 km2 is 1000 m3."""
        live = self._live
        if self._of_state[0] is not state:
            self._of_state = state, self._queues_of(state), (state.outflow_total, live["discharge"])
        self._add_up_cells(state, self._of_state[1])
        self._sum_balance(
            self._depths, self._volume, self._averaged, self._share, self._of_state[2], self._at_outlets,
            live["reach_storage"], self._every_reach, self._sums,
        )
        (rain, exchanged, lost, stored, *means, runoff, generated, left, discharge,
         in_reaches) = self._sums.tolist()
        out, whole = lost + left, stored + in_reaches
        water_in, water_exchanged, water_out, water_stored, outlet, depth, generated_depth = self._numbers
        water_in[0], water_exchanged[0], water_out[0], water_stored[0] = rain, exchanged, out, whole
        self._water = rain, out, whole, exchanged
        outlet[0] = discharge
        for mean, value in zip(self._means, means, strict=True):
            mean[0] = value
        self.step_depth, self._generated = runoff / MM_PER_M * (self._step / DAY), generated / MM_PER_M
        depth[0] = self.step_depth  # until a call was no step
        generated_depth[0] = self._generated

    def mean_depth(self, values: np.ndarray) -> float:
        """Depth over the drained area [m] of depths on cells, float64[cell] [mm]."""
        return self._sum(values, self._share) / MM_PER_M

    def _queues_of(self, state: State) -> tuple[np.ndarray, ...]:
        """Queues of processes without components: the state's own arrays."""
        found = (getattr(state.cells[place], name) for place, name, components in self._queues if components == 1)
        return tuple(found) or self._no_queue

    def _add_up_cells(self, state: State, queues: tuple[np.ndarray, ...]) -> None:
        """Water of cells: stores that hold it, then queues, in the order of the processes."""
        for place, name, live, components in self._apart:
            live[:] = self._mean(getattr(state.cells[place], name), components, place)
        for name, values in state.totals._asdict().items() if self._components > 1 else ():
            self._live[name][:] = self._mean(values, self._components, -1)
        for name, components in self._earlier:
            whole = self._mean(getattr(state.totals, name), self._components, -1)
            self._live[name][:] = whole + self._mean(getattr(state.earlier_totals, name), components, -2)
        if self._apart_queues:
            queues = tuple(
                getattr(state.cells[place], name) if components == 1
                else self._mean(add_rows(getattr(state.cells[place], name)), components, place)[None]
                for place, name, components in self._queues
            )
        self._add_up(self._stores, queues, self._helds, self._queued, self._depths[-1])

    def _mean(self, units: np.ndarray, components: int, place: int) -> np.ndarray:
        """Mean over the components of each cell, of a process."""
        return mean_of_components(units.reshape(components, -1), self._weights[place])

    def end_call(self, state: State, depth: float, outstanding: Outstanding) -> None:
        """Bring up to date what depends on the caller's clock: the runoff depths, and the masses.

        depth : float, runoff that the call handed out [m].
        """
        total, drained = self._sum, self._drained
        rain, out, whole, exchanged = self._water
        fallen, runoff, discharge = outstanding
        self._numbers[-2][0] = depth
        self._numbers[-1][0] = self._generated - (0.0 if runoff is None else self.mean_depth(runoff))
        waiting = 0.0 if discharge is None else total(discharge, self._at_outlets)
        unused = 0.0 if fallen is None else total(fallen, self._volume) / DAY
        mass_in, mass_out, mass_stored, mass_leaked = self._mass_values
        mass_in[0] = (rain + unused) / drained
        mass_out[0] = (out - waiting) / drained
        mass_stored[0] = ((whole - self.at_start) + unused + waiting) / drained
        # What callers add to stores or take has no name of its own in this balance.
        mass_leaked[0] = -(exchanged + self._added) / drained
