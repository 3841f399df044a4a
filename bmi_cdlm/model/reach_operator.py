"""A process of reaches, and the links to them, over a period: forward and adjoint, on the kernels that the model steps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NetworkPlan, places_in, plan_network
from bmi_cdlm.kernels.again import Again
from bmi_cdlm.kernels.groups import Chunks, GivenFlows, ReachSeries
from bmi_cdlm.kernels.launch import compiled, compiled_if_worth
from bmi_cdlm.kernels.loops.reach_flows import flow_loops
from bmi_cdlm.kernels.loops.reach_plan import reach_plan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.blocks import is_narrow
from bmi_cdlm.model.elementwise import Elementwise
from bmi_cdlm.model.memory import HostMemory
from bmi_cdlm.model.preparation import Arrays, Group, Parameters, Preparation
from bmi_cdlm.model.route_adjoint import RouteRecord, record_route, reverse_route
from bmi_cdlm.model.settling import response, settling
from bmi_cdlm.names.declaration import LinkProcess, ReachProcess


class Cut(NamedTuple):
    """How a network is cut, and the links sorted by cell, with the place of their reaches in its sequence.

    chunked : its chunks of at most so many reaches, once they were asked for.
    """

    network: NetworkPlan
    links_by_cell: tuple[np.ndarray, np.ndarray, np.ndarray]
    chunked: dict[int, Chunks]


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
        self.seconds = (self._seconds, self.n_sub, self._step_seconds)
        attributes = {s: getattr(domain.reaches, name).astype(dtype) for s, name in process.attributes.items()}
        self.preparation = Preparation(process, self.constants, attributes, HostMemory(dtype))
        self.loops, self._link_process = reach_loops(self.plan, links), links
        narrow = is_narrow(domain.n_reaches) if narrow is None else narrow
        self._route = compiled(self.loops.narrow if narrow else self.loops.route, dtype)
        self.through_chunks = self.loops.narrow_chunks if narrow else self.loops.chunks
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
        return Cut(network, (first, places_in(network.network.sequence)[reach], area), {})

    def cut_here(self) -> Cut:
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
        return record_route(self, runoff, p, state, reaches)

    def reverse(
        self, record: RouteRecord, discharge_adj: np.ndarray, state_adj: np.ndarray, *, in_place: bool = False
    ) -> tuple[np.ndarray, Group]:
        """Adjoints of runoff [time, cell] and of `plan.adjoint_group`; `state_adj` goes from the end to the start.

        in_place : the adjoint of runoff is written over the runoff of the record, which is spent then.
        """
        return reverse_route(self, record, discharge_adj, state_adj, in_place)


def sort_by_cell(domain: Domain, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links sorted by cell: first int64[cell + 1], reach int64[link], area float[link]."""
    links = domain.links
    reach = np.repeat(np.arange(domain.n_reaches), np.diff(links.first))
    order = np.argsort(links.cell, kind="stable")
    first = np.r_[0, np.cumsum(np.bincount(links.cell, minlength=domain.n_cells))].astype(np.int64)
    return first, reach[order].astype(np.int64), links.area[order].astype(dtype)
