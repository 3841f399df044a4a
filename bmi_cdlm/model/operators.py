"""The processes over a whole period, forward and adjoint, on the kernels that the model steps.

Forward keeps the states at the starts of blocks; adjoint goes back block by block, recomputing inside each.
What is kept above the arrays handed in and out, per cell-day in float32 with X4 <= 4 and blocks of 64 days:
(2 + 4 + 8) x 4 / 64 = 0.9 bytes for runoff, 0.25 for snow, and the runoff itself, which routing holds on to; per
reach-day 4 / 16 for the state, with 24 sub-steps a day. Everything else has the size of one block.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import plan_network
from bmi_cdlm.kernels.groups import (
    ReachParameters,
    ReachSeries,
    RunoffFluxes,
    RunoffParameters,
    RunoffState,
    SnowFluxes,
    SnowParameters,
    SnowState,
    Step,
)
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.routing import fill_coefficients, route
from bmi_cdlm.kernels.loops.routing_adjoint import fill_coefficients_adjoint, reverse_route, spread_runoff
from bmi_cdlm.kernels.loops.runoff import advance_gr4j, advance_snow, fill_ordinates
from bmi_cdlm.kernels.loops.runoff_adjoint import fill_ordinates_adjoint, reverse_gr4j, reverse_snow
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.time_steps import DAY, HOUR

PERCOLATION_SCALE = {DAY: (9 / 4) ** -4, HOUR: (21 / 4) ** -4}
HYDROGRAPH_EXPONENT = {DAY: 2.5, HOUR: 1.25}
BLOCK_STEPS = 64
ROUTING_BYTES = 64 * 2**20
ROUTING_SUB_STEPS, SHORTEST_ROUTING_BLOCK = 192, 16
"""Sub-steps and model steps of a routing block: enough to make little of what a reach costs by itself, while the
tape of a block stays small beside a year of forcing."""
Group = TypeVar("Group", SnowState, RunoffState, SnowParameters, RunoffParameters, ReachParameters)


def copy_group(group: Group) -> Group:
    """Copy every array of a group."""
    return type(group)(*(a.copy() for a in group))


def zeros_of(group: Group) -> Group:
    """Return zeros in the shapes of a group."""
    return type(group)(*(np.zeros_like(a) for a in group))


class SnowRecord(NamedTuple):
    """What the adjoint of snow needs."""

    precipitation: np.ndarray
    air_temperature: np.ndarray
    parameters: SnowParameters
    hysteresis: bool
    starts: list[SnowState]


class RunoffRecord(NamedTuple):
    """What the adjoint of runoff needs."""

    liquid: np.ndarray
    demand: np.ndarray
    parameters: RunoffParameters
    starts: list[RunoffState]


class RouteRecord(NamedTuple):
    """What the adjoint of routing needs."""

    runoff: np.ndarray
    parameters: ReachParameters
    reaches: np.ndarray
    starts: list[np.ndarray]


class Operators:
    """Snow, runoff and routing of a domain at one precision, forward and adjoint.

    Parameters
    ----------
    domain : Domain
    step, routing_step : int
        Model step and routing sub-step [s].
    dtype : float64 or float32
        Of every array handed in and out.
    threads : int or Workers
        Threads of its own, or those of somebody who closes them.
    """

    on_device = False

    def __init__(
        self, domain: Domain, step: int, routing_step: int, dtype: type[np.floating] = np.float64,
        threads: int | Workers = 1,
    ) -> None:
        self.domain, self.step, self.routing_step, self.dtype = domain, step, routing_step, dtype
        self.n_sub = step // routing_step
        self.workers = threads if isinstance(threads, Workers) else Workers(threads)
        self.constants = step_constants(step, dtype)
        self.exponent = dtype(HYDROGRAPH_EXPONENT[step])
        self._plan = plan_network(domain.reaches.downstream, self.workers.threads)
        self._links = domain.links._replace(area=domain.links.area.astype(dtype))
        first, reach, area = sort_by_cell(domain, dtype)
        row = np.empty(domain.n_reaches, np.int64)
        row[self._plan.network.sequence] = np.arange(domain.n_reaches)
        self._links_by_cell = first, row[reach], area  # rows of the adjoint of lateral inflow
        self._cell_tasks = self.workers.tasks(domain.n_cells)

    # ---- snow --------------------------------------------------------------------------------------------

    def melt(
        self, precipitation: np.ndarray, air_temperature: np.ndarray, p: SnowParameters, state: SnowState,
        hysteresis: bool,
    ) -> tuple[np.ndarray, SnowRecord]:
        """Rain plus melt [mm d-1], [time, cell]; `state` is advanced in place."""
        liquid = np.empty_like(precipitation)
        waste = SnowFluxes(*(np.empty((1, precipitation.shape[1]), self.dtype) for _ in SnowFluxes._fields))
        starts = []
        for block in _blocks(precipitation.shape[0], BLOCK_STEPS):
            starts.append(copy_group(state))
            self.workers.run(compiled(advance_snow, self.dtype), (
                precipitation[block], air_temperature[block], p, state, liquid[block], waste, self.constants,
                hysteresis,
            ), self._cell_tasks, liquid[block].size)
        return liquid, SnowRecord(precipitation, air_temperature, p, hysteresis, starts)

    def melt_adjoint(
        self, record: SnowRecord, liquid_adj: np.ndarray, state_adj: SnowState
    ) -> tuple[np.ndarray, np.ndarray, SnowParameters]:
        """Adjoints of precipitation, temperature and parameters; `state_adj` goes from the end to the start."""
        P_adj, T_adj = np.empty_like(liquid_adj), np.empty_like(liquid_adj)
        total = zeros_of(SnowParameters(*(a.astype(np.float64) for a in record.parameters)))
        blocks = _blocks(liquid_adj.shape[0], BLOCK_STEPS)
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            p_adj = zeros_of(record.parameters)
            self.workers.run(compiled(reverse_snow, self.dtype), (
                record.precipitation[block], record.air_temperature[block], record.parameters, start, self.constants,
                record.hysteresis, liquid_adj[block], state_adj, p_adj, P_adj[block], T_adj[block],
            ), self._cell_tasks, liquid_adj[block].size)
            _add(total, p_adj)
        return P_adj, T_adj, total

    # ---- runoff ------------------------------------------------------------------------------------------

    def ordinates(self, x4: np.ndarray, n_places: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Ordinates of the unit hydrographs, [k, cell], for X4 [steps]."""
        o1, o2 = (np.zeros((n, x4.size), self.dtype) for n in n_places)
        compiled(fill_ordinates, self.dtype)(x4, self.exponent, o1, o2)
        return o1, o2

    def ordinates_adjoint(self, x4: np.ndarray, o1_adj: np.ndarray, o2_adj: np.ndarray) -> np.ndarray:
        """Adjoint of X4."""
        x4_adj = np.zeros_like(x4)
        o1_adj, o2_adj = o1_adj.astype(self.dtype), o2_adj.astype(self.dtype)
        compiled(fill_ordinates_adjoint, self.dtype)(x4, self.exponent, o1_adj, o2_adj, x4_adj)
        return x4_adj

    def generate_runoff(
        self, liquid: np.ndarray, demand: np.ndarray, p: RunoffParameters, state: RunoffState
    ) -> tuple[np.ndarray, RunoffRecord]:
        """Runoff [mm d-1], [time, cell]; `state` is advanced in place, no production store in it above its X1."""
        n_cells = liquid.shape[1]
        runoff = np.empty_like(liquid)
        waste = [np.empty((1, n_cells), self.dtype) for _ in RunoffFluxes._fields]
        starts = []
        for block in _blocks(liquid.shape[0], BLOCK_STEPS):
            starts.append(copy_group(state))
            self.workers.run(compiled(advance_gr4j, self.dtype), (
                liquid[block], liquid[block], demand[block], p, state, None,
                RunoffFluxes(*waste)._replace(runoff=runoff[block]), self.constants,
            ), self._cell_tasks, liquid[block].size)
        return runoff, RunoffRecord(liquid, demand, p, starts)

    def generate_runoff_adjoint(
        self, record: RunoffRecord, runoff_adj: np.ndarray, state_adj: RunoffState
    ) -> tuple[np.ndarray, RunoffParameters]:
        """Adjoints of liquid water and parameters; `state_adj` goes from the end to the start.

        The adjoint of demand is that of liquid water negated: only what is between them counts.
        """
        liquid_adj = np.empty_like(runoff_adj)
        total = zeros_of(RunoffParameters(*(a.astype(np.float64) for a in record.parameters)))
        blocks = _blocks(runoff_adj.shape[0], BLOCK_STEPS)
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            p_adj = zeros_of(record.parameters)
            self.workers.run(compiled(reverse_gr4j, self.dtype), (
                record.liquid[block], record.demand[block], record.parameters, start, self.constants, runoff_adj[block],
                state_adj, p_adj, liquid_adj[block],
            ), self._cell_tasks, runoff_adj[block].size)
            _add(total, p_adj)
        return liquid_adj, total

    # ---- routing -----------------------------------------------------------------------------------------

    def coefficients(self, travel_time: np.ndarray, weighting: np.ndarray) -> ReachParameters:
        """Muskingum coefficients for K [s] and x."""
        p = ReachParameters(*(np.empty_like(travel_time) for _ in ReachParameters._fields))
        compiled(fill_coefficients, self.dtype)(travel_time, weighting, self.dtype(self.routing_step), p)
        return p

    def coefficients_adjoint(
        self, travel_time: np.ndarray, weighting: np.ndarray, p_adj: ReachParameters
    ) -> tuple[np.ndarray, np.ndarray]:
        """Adjoints of K and x."""
        K_adj, x_adj = np.zeros_like(travel_time), np.zeros_like(weighting)
        p_adj = ReachParameters(*(a.astype(self.dtype) for a in p_adj))
        compiled(fill_coefficients_adjoint, self.dtype)(
            travel_time, weighting, self.dtype(self.routing_step), p_adj, K_adj, x_adj
        )
        return K_adj, x_adj

    def route(
        self, runoff: np.ndarray, p: ReachParameters, y: np.ndarray, reaches: np.ndarray
    ) -> tuple[np.ndarray, RouteRecord]:
        """Discharge [m3 s-1] of some reaches, [time, len(reaches)], from runoff [time, cell]; `y` in place."""
        discharge = np.empty((runoff.shape[0], reaches.size), self.dtype)
        starts = []
        for block in self._routing_blocks(runoff.shape[0]):
            starts.append(y.copy())
            discharge[block] = self._route_block(runoff[block], p, y, reaches)
        return discharge, RouteRecord(runoff, p, reaches, starts)

    def route_adjoint(
        self, record: RouteRecord, discharge_adj: np.ndarray, y_adj: np.ndarray
    ) -> tuple[np.ndarray, ReachParameters]:
        """Adjoints of runoff [time, cell] and of the coefficients; `y_adj` goes from the end to the start."""
        n_steps = discharge_adj.shape[0]
        runoff_adj = np.empty((n_steps, self.domain.n_cells), self.dtype)
        total = zeros_of(ReachParameters(*(a.astype(np.float64) for a in record.parameters)))
        blocks = self._routing_blocks(n_steps)
        # Fresh memory costs as much as the routing: every block has the same.
        longest = max((block.stop - block.start for block in blocks), default=0)
        space = np.empty((self.n_sub + (self.n_sub > 1)) * longest * self.domain.n_reaches, self.dtype)
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            lateral_adj, p_adj = self._reverse_block(record, start, block, discharge_adj[block], y_adj, space)
            _add(total, p_adj)
            arguments = (*self._links_by_cell, lateral_adj, runoff_adj[block])
            self.workers.run(compiled(spread_runoff, self.dtype), arguments, self._cell_tasks, lateral_adj.size)
        return runoff_adj, total

    def _route_block(self, runoff: np.ndarray, p: ReachParameters, y: np.ndarray, reaches: np.ndarray) -> np.ndarray:
        """Discharge of some reaches [time, len(reaches)]."""
        slot, n_slots, n_steps = self._plan.network.slot, self._plan.n_slots, runoff.shape[0]
        kept, row = np.unique(reaches), slot.copy()
        row[kept] = n_slots + np.arange(kept.size)
        last = np.empty(y.size, self.dtype)
        lateral = ReachSeries(np.empty((n_slots, n_steps), self.dtype), slot, last)
        discharge = ReachSeries(np.empty((n_slots + kept.size, n_steps), self.dtype), row, last)
        self._run_route(runoff, p, y, lateral, discharge, np.empty((y.size, 0), self.dtype))
        return discharge.values[row[reaches]].T

    def _run_route(
        self, runoff: np.ndarray, p: ReachParameters, y: np.ndarray, lateral: ReachSeries, discharge: ReachSeries,
        tape: np.ndarray,
    ) -> None:
        n_sub_steps = runoff.shape[0] * self.n_sub
        arguments = (
            self._plan.network, self._links, p, y, runoff, lateral,
            np.empty((self._plan.n_slots, n_sub_steps), self.dtype), discharge, tape, np.zeros(y.size, self.dtype),
            self.n_sub, self.dtype(self.step),
        )
        self._plan.route(self.workers, compiled(route, self.dtype), arguments, runoff.shape[0], self.n_sub)

    def _reverse_block(
        self, record: RouteRecord, start: np.ndarray, block: slice, discharge_adj: np.ndarray, y_adj: np.ndarray,
        space: np.ndarray,
    ) -> tuple[np.ndarray, ReachParameters]:
        """Adjoints of the lateral inflow, a row for each place in the sequence, and of the coefficients."""
        runoff, plan = record.runoff[block], self._plan
        n, n_steps, n_sub_steps = start.size, runoff.shape[0], runoff.shape[0] * self.n_sub
        # With one sub-step the adjoint of a reach's inflow takes its place: it is in the cache already.
        inflow = space[: n * n_sub_steps].reshape(n, n_sub_steps)
        lateral_adj = inflow if self.n_sub == 1 else space[inflow.size :][: n * n_steps].reshape(n, n_steps)
        last = np.empty(n, self.dtype)
        lateral, waste = (
            ReachSeries(np.empty((plan.n_slots, n_steps), self.dtype), plan.network.slot, last) for _ in range(2)
        )
        self._run_route(runoff, record.parameters, start.copy(), lateral, waste, inflow)
        # All reaches whose discharge nobody asked for share the first row.
        kept, at = np.unique(record.reaches, return_inverse=True)
        by_reach = ReachSeries(np.zeros((1 + kept.size, n_steps), self.dtype), np.zeros(n, np.int64), last)
        by_reach.row[kept] = 1 + np.arange(kept.size)
        np.add.at(by_reach.values, 1 + at, discharge_adj.T)
        p_adj = zeros_of(record.parameters)
        arguments = (
            plan.network, self.domain.reaches.downstream, record.parameters, start, inflow, by_reach, y_adj, p_adj,
            np.empty((plan.n_slots, n_sub_steps), self.dtype), lateral_adj, self.n_sub,
        )
        plan.reverse(self.workers, compiled(reverse_route, self.dtype), arguments, n_steps, self.n_sub)
        return lateral_adj, p_adj

    def _routing_blocks(self, n_steps: int) -> list[slice]:
        per_step = self.domain.n_reaches * self.n_sub * np.dtype(self.dtype).itemsize
        longest = max(SHORTEST_ROUTING_BLOCK, ROUTING_SUB_STEPS // self.n_sub)
        return _blocks(n_steps, int(np.clip(ROUTING_BYTES // per_step, 1, longest)))

    def close(self) -> None:
        """End the threads."""
        self.workers.close()


def _blocks(n_steps: int, length: int) -> list[slice]:
    return [slice(first, min(first + length, n_steps)) for first in range(0, n_steps, length)]


def _add(total: Group, part: Group) -> None:
    for a, b in zip(total, part, strict=True):
        a += b


def step_constants(step: int, dtype: type[np.floating] = np.float64) -> Step:
    """What the kernels take about a model step [s], as numbers of a precision."""
    real: Any = dtype  # its numbers are what Step calls float
    return Step(real(step / DAY), real(DAY / step), real(PERCOLATION_SCALE[step]))


def sort_by_cell(domain: Domain, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links sorted by cell: first int64[cell + 1], reach int64[link], area float[link]."""
    links = domain.links
    reach = np.repeat(np.arange(domain.n_reaches), np.diff(links.first))
    order = np.argsort(links.cell, kind="stable")
    first = np.r_[0, np.cumsum(np.bincount(links.cell, minlength=domain.n_cells))].astype(np.int64)
    return first, reach[order].astype(np.int64), links.area[order].astype(dtype)
