"""A process of reaches, and the links to them, over a period: forward and adjoint, on the kernels that the model steps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NetworkPlan, places_in, plan_network
from bmi_cdlm.kernels.again import Again
from bmi_cdlm.kernels.groups import GivenFlows, ReachSeries
from bmi_cdlm.kernels.launch import compiled, compiled_if_worth
from bmi_cdlm.kernels.loops.reach_flows import flow_loops
from bmi_cdlm.kernels.loops.reach_plan import reach_plan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.blocks import add_to, blocks_of, is_narrow
from bmi_cdlm.model.elementwise import Elementwise
from bmi_cdlm.model.memory import HostMemory
from bmi_cdlm.model.preparation import Arrays, Group, Parameters, Preparation
from bmi_cdlm.model.settling import response, settling
from bmi_cdlm.names.declaration import LinkProcess, ReachProcess

ROUTING_BYTES = 64 * 2**20
ROUTING_SUB_STEPS, SHORTEST_ROUTING_BLOCK = 192, 16
"""Sub-steps and model steps of a routing block: enough to make little of what a reach costs by itself, while the
tape of a block stays small beside a year of forcing."""
LONGEST_ROUTING_BLOCK, SMALL_TAPE = 64, 16 * 2**20
"""Model steps of a block whose tape is small however little there is beside it [bytes]: a reach costs half a step of 24
sub-steps by itself."""


class Cut(NamedTuple):
    """How a network is cut, and the links sorted by cell, with the place of their reaches in its sequence."""

    network: NetworkPlan
    links_by_cell: tuple[np.ndarray, np.ndarray, np.ndarray]


class RouteRecord(NamedTuple):
    """What the adjoint of routing needs."""

    runoff: np.ndarray
    parameters: Parameters
    reaches: np.ndarray
    starts: list[np.ndarray]


class ReachOperator:
    """A process of reaches, and the links to them, at a routing step and one precision.

    Parameters
    ----------
    process : ReachProcess
    links : LinkProcess
    domain : Domain
    step, routing_step : int
        [s].
    dtype : float64 or float32
    workers : Workers
    plan : NetworkPlan, optional
        How the network is cut; made anew where None.
    narrow : bool, optional
        Whether to take the loops that are compiled sooner; by the number of reaches where None.
    """

    def __init__(
        self, process: ReachProcess, links: LinkProcess, domain: Domain, step: int, routing_step: int,
        dtype: type[np.floating], workers: Workers, plan: NetworkPlan | None = None, narrow: bool | None = None,
    ) -> None:
        self.plan, self.process = reach_plan(process), process
        self.domain, self.dtype, self.workers = domain, dtype, workers
        self.step, self.n_sub = step, step // routing_step
        self.constants = self.plan.constant_group(dtype(routing_step))
        self._seconds, self._step_seconds = dtype(routing_step), dtype(step)
        attributes = {s: getattr(domain.reaches, name).astype(dtype) for s, name in process.attributes.items()}
        self.preparation = Preparation(process, self.constants, attributes, HostMemory(dtype))
        self.loops, self._link_process = reach_loops(self.plan, links), links
        narrow = is_narrow(domain.n_reaches) if narrow is None else narrow
        self._route = compiled(self.loops.narrow if narrow else self.loops.route, dtype)
        self._reverse = self.loops.narrow_reverse if narrow else self.loops.reverse
        self._route_step = Again(self._route)
        self._volume, self._from_volume, self._steady = (
            Elementwise(function, self.constants, dtype)
            for function in (process.volume, process.from_volume, process.steady)
        )
        self.network = plan_network(domain.reaches.downstream, workers.threads) if plan is None else plan
        self.links = domain.links._replace(area=domain.links.area.astype(dtype))
        self._by_cell = sort_by_cell(domain, dtype)
        self._whole = self._cut(self.network)
        self._alone = None if workers.threads > 1 and plan is None else self._whole

    on_device = False

    def _cut(self, network: NetworkPlan) -> Cut:
        first, reach, area = self._by_cell
        return Cut(network, (first, places_in(network.network.sequence)[reach], area))

    def _cut_here(self) -> Cut:
        """How the network is cut for the threads that are free here; a trunk has no use where there is one.

        One of the threads that routes a part of a domain by itself has it to itself, with more reaches in step.
        """
        if not self.workers.is_alone:
            return self._whole
        if self._alone is None:
            self._alone = self._cut(plan_network(self.domain.reaches.downstream, 1))
        return self._alone

    def prepare(self, values: Arrays) -> Parameters:
        """Parameters as kernels take them, from arrays by registry name."""
        symbols = self.preparation.fill(values)
        return Parameters(symbols, self.plan.parameter_group(*(symbols[s] for s in self.plan.parameter_group._fields)))

    def prepare_adjoint(self, p: Parameters, p_adj: Group) -> dict[str, np.ndarray]:
        """Adjoints of parameters by registry name."""
        return self.preparation.adjoint(p.symbols, p_adj._asdict())

    def volume(self, p: Parameters, state: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Water in the reaches [m3]."""
        return self._volume(p.symbols, {self.process.symbol: state}, out=out)

    def from_volume(self, p: Parameters, volume: np.ndarray, places: Any = slice(None)) -> np.ndarray:
        """The state of reaches (at some places) that hold a volume [m3]."""
        return self._from_volume(p.symbols, {"volume": volume}, places)

    def steady(self, p: Parameters, flow: np.ndarray) -> np.ndarray:
        """The state of reaches through which a constant flow [m3 s-1] passes."""
        return self._steady(p.symbols, {"flow": flow})

    def route(
        self, runoff: np.ndarray, p: Parameters, state: np.ndarray, lateral: ReachSeries, hydrographs: np.ndarray,
        discharge: ReachSeries, outflow_total: np.ndarray, tape: np.ndarray | None,
        network: NetworkPlan | None = None,
    ) -> None:
        """Route the runoff [time, cell] of a block of steps; see the loop of the process.

        network : how it is cut, and the buffers are numbered; as for all threads where None.
        """
        cut = self.network if network is None else network
        arguments = (
            cut.network, self.links, p.group, state, runoff, lateral, hydrographs, discharge, tape,
            outflow_total, self._seconds, self.n_sub, self._step_seconds,
        )
        n_steps = runoff.shape[0]
        loop = self._route_step if n_steps == 1 else self._route
        cut.route(self.workers, loop, arguments, n_steps, self.n_sub)

    def route_given(
        self, runoff: np.ndarray, p: Parameters, state: np.ndarray, lateral: ReachSeries, hydrographs: np.ndarray,
        discharge: ReachSeries, outflow_total: np.ndarray, given: GivenFlows,
    ) -> None:
        """As `route`, with flows that others put into some reaches or take out; without a tape."""
        arguments = (
            self.network.network, self.links, p.group, state, runoff, lateral, hydrographs, discharge, given,
            outflow_total, self._seconds, self.n_sub, self._step_seconds,
        )
        kernel = compiled(flow_loops(self.plan, self._link_process).route, self.dtype)
        self.network.route(self.workers, kernel, arguments, runoff.shape[0], self.n_sub)

    def collect(self, runoff: np.ndarray, lateral: ReachSeries) -> None:
        """Lateral inflow of every reach from runoff [time, cell]."""
        loop, n = self.loops.collect, self.domain.n_reaches
        work = (n + self.links.cell.size) * runoff.shape[0]
        collect = compiled_if_worth(loop, work) if self.dtype is np.float64 else compiled(loop, self.dtype)
        collect(self.links, runoff, lateral, 0, n)

    def settling_steps(self, p: Parameters) -> float:
        """Model steps after which less of what stood in the rivers is left than a hundredth of rounding.

        inf where nobody knows: of a process that is not linear, or of a reach that lets nothing go.
        """
        of = response(self.plan, p.symbols, float(self._seconds), self.domain.n_reaches)
        if of is None:
            return math.inf
        steps = settling(of, self.domain.reaches.downstream, float(np.finfo(self.dtype).eps) / 100.0)
        return float(np.ceil(steps / self.n_sub))

    def run(
        self, runoff: np.ndarray, p: Parameters, state: np.ndarray, reaches: np.ndarray
    ) -> tuple[np.ndarray, RouteRecord]:
        """Discharge [m3 s-1] of some reaches, [time, len(reaches)], from runoff [time, cell]; `state` in place."""
        discharge, starts = np.empty((runoff.shape[0], reaches.size), self.dtype), []
        plan, (kept, at) = self._cut_here().network, np.unique(reaches, return_inverse=True)
        row = plan.network.slot.copy()
        row[kept] = plan.n_slots + np.arange(kept.size)
        for block in self._blocks(runoff.shape[0]):
            starts.append(state.copy())
            series = self._space(plan, block, row, kept.size)
            self._taped(runoff[block], p, state, *series, np.empty((state.size, 0), self.dtype), plan)
            discharge[block] = series[1].values[plan.n_slots + at].T
        return discharge, RouteRecord(runoff, p, reaches, starts)

    def reverse(
        self, record: RouteRecord, discharge_adj: np.ndarray, state_adj: np.ndarray, *, in_place: bool = False
    ) -> tuple[np.ndarray, Group]:
        """Adjoints of runoff [time, cell] and of `plan.adjoint_group`; `state_adj` goes from the end to the start.

        in_place : the adjoint of runoff is written over the runoff of the record, which is spent then.
        """
        n_steps, n = discharge_adj.shape[0], self.domain.n_reaches
        runoff_adj = record.runoff if in_place else np.empty((n_steps, self.domain.n_cells), self.dtype)
        total = self.plan.adjoint_group(*(np.zeros(n) for _ in self.plan.adjoint_group._fields))
        blocks, cut = self._blocks(n_steps), self._cut_here()
        # Fresh memory costs as much as the routing: every block has the same.
        longest = max((block.stop - block.start for block in blocks), default=0)
        space = np.empty((self.n_sub + (self.n_sub > 1)) * longest * n, self.dtype)
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            lateral_adj, p_adj = self._reverse_block(
                record, start, block, discharge_adj[block], state_adj, space, cut.network
            )
            add_to(total, p_adj)
            arguments = (*cut.links_by_cell, lateral_adj, runoff_adj[block])
            self.workers.run(
                compiled(self.loops.spread, self.dtype), arguments, self.workers.tasks(self.domain.n_cells),
                lateral_adj.size,
            )
        return runoff_adj, total

    def _space(
        self, plan: NetworkPlan, block: slice, row: np.ndarray, n_kept: int = 0
    ) -> tuple[ReachSeries, ReachSeries]:
        """Lateral inflow and discharge of a block; all that nobody keeps goes to the rows of hydrographs."""
        n_steps, last = block.stop - block.start, np.empty(row.size, self.dtype)
        return (
            ReachSeries(np.empty((plan.n_slots, n_steps), self.dtype), plan.network.slot, last),
            ReachSeries(np.empty((plan.n_slots + n_kept, n_steps), self.dtype), row, last),
        )

    def _taped(
        self, runoff: np.ndarray, p: Parameters, state: np.ndarray, lateral: ReachSeries, discharge: ReachSeries,
        tape: np.ndarray, plan: NetworkPlan,
    ) -> None:
        hydrographs = np.empty((plan.n_slots, runoff.shape[0] * self.n_sub), self.dtype)
        self.route(runoff, p, state, lateral, hydrographs, discharge, np.zeros(state.size, self.dtype), tape, plan)

    def _reverse_block(
        self, record: RouteRecord, start: np.ndarray, block: slice, discharge_adj: np.ndarray, state_adj: np.ndarray,
        space: np.ndarray, plan: NetworkPlan,
    ) -> tuple[np.ndarray, Group]:
        """Adjoints of the lateral inflow, a row for each place in the sequence, and of the coefficients."""
        runoff, dtype = record.runoff[block], self.dtype
        n, n_steps, n_sub_steps = start.size, runoff.shape[0], runoff.shape[0] * self.n_sub
        # With one sub-step the adjoint of a reach's inflow takes its place: it is in the cache already.
        inflow = space[: n * n_sub_steps].reshape(n, n_sub_steps)
        lateral_adj = inflow if self.n_sub == 1 else space[inflow.size :][: n * n_steps].reshape(n, n_steps)
        series = self._space(plan, block, plan.network.slot)
        self._taped(runoff, record.parameters, start.copy(), *series, inflow, plan)
        # All reaches whose discharge nobody asked for share the first row.
        kept, at = np.unique(record.reaches, return_inverse=True)
        by_reach = ReachSeries(np.zeros((1 + kept.size, n_steps), dtype), np.zeros(n, np.int64), series[0].last)
        by_reach.row[kept] = 1 + np.arange(kept.size)
        np.add.at(by_reach.values, 1 + at, discharge_adj.T)
        p_adj = self.plan.adjoint_group(*(np.zeros(n, dtype) for _ in self.plan.adjoint_group._fields))
        arguments = (
            plan.network, self.domain.reaches.downstream, record.parameters.group, start, inflow, by_reach, state_adj,
            p_adj, np.empty((plan.n_slots, n_sub_steps), dtype), lateral_adj, self._seconds, self.n_sub,
        )
        plan.reverse(self.workers, compiled(self._reverse, dtype), arguments, n_steps, self.n_sub)
        return lateral_adj, p_adj

    def _blocks(self, n_steps: int) -> list[slice]:
        per_step = self.domain.n_reaches * self.n_sub * np.dtype(self.dtype).itemsize
        small = min(LONGEST_ROUTING_BLOCK, SMALL_TAPE // per_step)
        longest = max(SHORTEST_ROUTING_BLOCK, ROUTING_SUB_STEPS // self.n_sub, small)
        return blocks_of(n_steps, int(np.clip(ROUTING_BYTES // per_step, 1, longest)))


def sort_by_cell(domain: Domain, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links sorted by cell: first int64[cell + 1], reach int64[link], area float[link]."""
    links = domain.links
    reach = np.repeat(np.arange(domain.n_reaches), np.diff(links.first))
    order = np.argsort(links.cell, kind="stable")
    first = np.r_[0, np.cumsum(np.bincount(links.cell, minlength=domain.n_cells))].astype(np.int64)
    return first, reach[order].astype(np.int64), links.area[order].astype(dtype)
