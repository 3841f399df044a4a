"""Processes over a whole period, forward and adjoint, on the kernels that the model steps.

Forward keeps the states at the starts of blocks; adjoint goes back block by block, recomputing inside each. What is
kept above the arrays handed in and out, per cell-day in float32 for GR4J with X4 <= 4 and blocks of 64 days:
(2 + 4 + 8) x 4 / 64 = 0.9 bytes, 0.25 for snow, and the runoff itself, which routing holds on to; per
reach-day 4 / 64 for the state, with 24 sub-steps a day, and of more reaches than a chunk has 4 x 24 bytes of the few
whose hydrographs go from one chunk to another (`route_adjoint`). Everything else has the size of one
block. The adjoint of runoff may take the place of the runoff, for whoever has no other use of that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NetworkPlan, places_in, plan_network
from bmi_cdlm.kernels.again import Again
from bmi_cdlm.kernels.groups import Chunks, GivenFlows, ReachSeries
from bmi_cdlm.kernels.launch import compiled, compiled_if_worth
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.cells_adjoint import cell_adjoint_loops
from bmi_cdlm.kernels.loops.components import (
    gather_components,
    spread_components,
    weigh_components,
    weigh_components_adjoint,
)
from bmi_cdlm.kernels.loops.elementwise import elementwise
from bmi_cdlm.kernels.loops.reach_flows import flow_loops
from bmi_cdlm.kernels.loops.reach_plan import reach_plan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.loops.source import arguments_of
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.memory import HostMemory
from bmi_cdlm.model.preparation import Parameters, Preparation, PreparedCells, series_of
from bmi_cdlm.model.route_adjoint import RouteRecord, record_route, reverse_route
from bmi_cdlm.model.settling import response, settling
from bmi_cdlm.names.declaration import RUNOFF, CellProcess, LinkProcess, ReachProcess
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.processes.catalogue import Chain

BLOCK_STEPS = 64
NARROW = 1024
"""Cells, and reaches, below which the loops are taken that are compiled sooner: what the others would save there is a
millisecond a year."""
Arrays = Mapping[str, np.ndarray]
Group = Any
"""A named tuple of arrays."""


def copy_group(group: Group) -> Group:
    """Copy every array of a group."""
    return type(group)(*(a.copy() for a in group))


def zeros_of(group: Group) -> Group:
    """Return zeros in the shapes of a group."""
    return type(group)(*(np.zeros_like(a) for a in group))


class CellRecord(NamedTuple):
    """What the adjoint of a cell process needs."""

    inputs: dict[str, np.ndarray]
    parameters: Parameters
    starts: list[Group]


class Cut(NamedTuple):
    """How a network is cut, and the links sorted by cell, with the place of their reaches in its sequence.

    chunked : its chunks of at most so many reaches, once they were asked for.
    """

    network: NetworkPlan
    links_by_cell: tuple[np.ndarray, np.ndarray, np.ndarray]
    chunked: dict[int, Chunks]


class CellOperator(PreparedCells):
    """A process of cells at a model step and one precision.

    Parameters
    ----------
    process : CellProcess
    domain : Domain
    step : int
        Model step [s].
    dtype : float64 or float32
    workers : Workers
    varying : names of parameters that come as [time, cell]
    components : int
        Parameter sets per cell; arrays of parameters, states and totals are then [component * cell], and what is given
        is the mean of the components, by weights where the parameters have them.
    narrow : bool, optional
        Whether to take the loops that are compiled sooner; by the number of cells where None.
    """

    on_device = False

    def __init__(
        self, process: CellProcess, domain: Domain, step: int, dtype: type[np.floating], workers: Workers,
        varying: Collection[str] = (), components: int = 1, narrow: bool | None = None,
    ) -> None:
        super().__init__(process, domain, step, HostMemory(dtype), varying, components)
        self.workers = workers
        loops = cell_loops(self.plan)
        narrow = domain.n_cells < NARROW if narrow is None else narrow
        self._forward = compiled(loops.advance, dtype)
        self._telling = compiled(loops.narrow, dtype) if narrow else self._forward
        self._step_telling = Again(self._telling)
        self._backward: Any = None
        self._no_totals = self.plan.total_group(None, None, None, None) if self.plan.is_runoff else None
        n, parts = self.n_cells, workers.tasks(self.n_cells)
        self._tasks = [(c * n + lo, c * n + hi, c * n) for c in range(components) for lo, hi in parts]
        self._alone = [(c * n, c * n + n, c * n) for c in range(components) if n]

    def advance(
        self, series: Arrays, p: Parameters, state: Group, out: np.ndarray, totals: Group | None = None,
        fluxes: Group | None = None,
    ) -> None:
        """Advance over all steps of the series: state and totals in place, `out` [mm d-1] and fluxes filled."""
        telling = self._forward if fluxes is None else self._telling
        if self.components == 1:
            loop = self._step_telling if fluxes is not None and out.shape[0] == 1 else telling
            self._run(loop, series, (
                p.group, state, self._no_totals if totals is None else totals, fluxes, out, self.constants,
            ), out.size)
            return
        whole, kept = np.empty((out.shape[0], self.n_units), self.dtype), fluxes
        if fluxes is not None:
            kept = type(fluxes)(*(np.empty((a.shape[0], self.n_units), self.dtype) for a in fluxes))
        self._run(telling, series, (
            p.group, state, self._no_totals if totals is None else totals, kept, whole, self.constants,
        ), whole.size)
        self._gather(whole, p.weights, out)
        for units, cells in zip(kept or (), fluxes or (), strict=True):
            self._gather(units, p.weights, cells)

    def _run(self, loop: Any, series: Arrays, arguments: tuple, size: int) -> None:
        """Run a loop over all cells of all components.

        A parameter that varies may come as [time, cell], for all components, or as [component, time, cell].
        """
        # One of several threads that has the domain to itself takes it whole: rows are long then.
        all_tasks = self._alone if self.workers.threads > 1 and self.workers.is_alone else self._tasks
        varying = self.plan.varying
        by_component = [name for name in varying if series[name].ndim == 3] if varying else None
        if not by_component:
            self.workers.run(loop, (self.inputs(series), *arguments), all_tasks, size)
            return
        for c in range(self.components):
            tasks = [task for task in all_tasks if task[2] == c * self.n_cells]
            own = self.inputs({**series, **{name: series[name][c] for name in by_component}})
            self.workers.run(loop, (own, *arguments), tasks, size // self.components)

    def _gather(self, units: np.ndarray, weights: np.ndarray | None, cells: np.ndarray) -> None:
        """The mean over components."""
        if weights is None:
            compiled(gather_components, self.dtype)(units, self.dtype(1.0 / self.components), cells)
        else:
            compiled(weigh_components, self.dtype)(units, weights, cells)

    def run(self, series: Arrays, p: Parameters, state: Group) -> tuple[np.ndarray, CellRecord]:
        """What the process gives over a period, [time, cell], and what its adjoint needs; `state` in place."""
        n_steps = series[self.process.enters].shape[0]
        out, starts = np.empty((n_steps, self.n_cells), self.dtype), []
        taken = {name: series_of(series, name) for name in self.taken}
        for block in _blocks(n_steps, BLOCK_STEPS):
            starts.append(copy_group(state))
            self.advance(_steps(taken, block), p, state, out[block])
        return out, CellRecord(taken, p, starts)

    def reverse(
        self, record: CellRecord, out_adj: np.ndarray, state_adj: Group, wanted: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], Group]:
        """Adjoints of inputs and varying parameters by registry name, float[time, cell], and of `plan.adjoint_group`.

        A parameter that came as [component, time, cell] has its adjoint so. With the inputs, that of the weights of
        components, float64[component * cell], where there are any; what each component gave is then computed once more.
        `state_adj` goes from the end to the start. wanted : names of inputs that are wanted; all where None, and none
        where it is empty. Adjoints of parameters are summed in float64.
        """
        if self._backward is None:
            self._backward = cell_adjoint_loops(self.plan)
        plan, n_steps = self.plan, out_adj.shape[0]
        sizes = {s: record.parameters.symbols[s].shape for s in plan.adjoint_group._fields}
        total = plan.adjoint_group(*(np.zeros(shape) for shape in sizes.values()))
        weights, weights_adj = record.parameters.weights, np.zeros(self.n_units)
        if weights is not None:
            units_adj = np.empty((n_steps, self.n_units), self.dtype)
        else:
            units_adj = np.ascontiguousarray(out_adj) if self.components == 1 else np.tile(
                out_adj / self.dtype(self.components), (1, self.components)
            )
        blocks = _blocks(n_steps, BLOCK_STEPS)
        ignored = wanted is not None and not wanted  # then those of one block are written over, block by block
        length = n_steps if not ignored else max((block.stop - block.start for block in blocks), default=0)
        inputs_adj = plan.input_adjoint_group(
            *(np.empty((length, self.n_units), self.dtype) for _ in plan.input_adjoint_group._fields)
        )
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            p_adj = plan.adjoint_group(*(np.zeros(shape, self.dtype) for shape in sizes.values()))
            if weights is not None:
                compiled(weigh_components_adjoint, self.dtype)(
                    self._units(record, block, start), weights, np.ascontiguousarray(out_adj[block]), units_adj[block],
                    weights_adj,
                )
            self._run(compiled(self._backward.reverse, self.dtype), _steps(record.inputs, block), (
                record.parameters.group, start, self.constants, units_adj[block], state_adj, p_adj,
                type(inputs_adj)(*(a[: block.stop - block.start] if ignored else a[block] for a in inputs_adj)),
            ), units_adj[block].size)
            _add(total, p_adj)
        found = {} if ignored else self._input_adjoints(record, inputs_adj, wanted)
        return found | ({} if weights is None else {WEIGHT: weights_adj}), total

    def _units(self, record: CellRecord, block: slice, start: Group) -> np.ndarray:
        """What every component gave in a block of a record, [time, component * cell]."""
        units = np.empty((block.stop - block.start, self.n_units), self.dtype)
        self._run(self._forward, _steps(record.inputs, block), (
            record.parameters.group, copy_group(start), self._no_totals, None, units, self.constants,
        ), units.size)
        return units

    def _input_adjoints(
        self, record: CellRecord, inputs_adj: Group, wanted: Collection[str] | None
    ) -> dict[str, np.ndarray]:
        plan, names = self.plan, self.plan.input_names
        found = {
            symbol: self._by_component(a) if record.inputs[names[symbol]].ndim == 3 else self._sum_components(a)
            for symbol, a in inputs_adj._asdict().items()
        }
        for a, b in plan.negated().items():
            if wanted is None or names[a] in wanted or a in plan.factors:
                found[a] = -found[b]
        for symbol, factor in plan.factors.items():
            product_adj, name = found[symbol], names[factor]
            found[factor] = product_adj * record.inputs[names[symbol]]
            found[symbol] = product_adj * record.inputs[name]
        return {names[s]: a for s, a in found.items()}

    def _by_component(self, units: np.ndarray) -> np.ndarray:
        """Units [time, component * cell] as [component, time, cell]."""
        return np.ascontiguousarray(units.reshape(units.shape[0], self.components, -1).swapaxes(0, 1))

    def _sum_components(self, units: np.ndarray) -> np.ndarray:
        if self.components == 1:
            return units
        cells = np.empty((units.shape[0], self.n_cells), self.dtype)
        compiled(spread_components, self.dtype)(units, cells)
        return cells


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
        narrow = domain.n_reaches < NARROW if narrow is None else narrow
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


class Operators:
    """The processes of a chain over a domain at one precision, forward and adjoint.

    Parameters
    ----------
    chain : Chain
    domain : Domain
    step, routing_step : int
        Model step and routing sub-step [s].
    dtype : float64 or float32
        Of every array handed in and out.
    threads : int or Workers
        Threads of its own, or those of somebody who closes them.
    varying, components : see `CellOperator`
    plan : see `ReachOperator`
    part_of : Domain, optional
        That this one is a piece of: the loops are those for its size, so that all its pieces share them.
    """

    on_device = False

    def __init__(
        self, chain: Chain, domain: Domain, step: int, routing_step: int, dtype: type[np.floating] = np.float64,
        threads: int | Workers = 1, *, varying: Collection[str] = (), components: Mapping[str, int] | None = None,
        plan: NetworkPlan | None = None, part_of: Domain | None = None,
    ) -> None:
        whole = domain if part_of is None else part_of
        narrow_cells, narrow_reaches = whole.n_cells < NARROW, whole.n_reaches < NARROW
        self.chain, self.domain, self.step, self.routing_step, self.dtype = chain, domain, step, routing_step, dtype
        self.n_sub = step // routing_step
        self.workers = threads if isinstance(threads, Workers) else Workers(threads)
        self.cells = [
            CellOperator(p, domain, step, dtype, self.workers, varying, (components or {}).get(p.name, 1), narrow_cells)
            for p in chain.cells
        ]
        self.reach = ReachOperator(
            chain.reach, chain.links, domain, step, routing_step, dtype, self.workers, plan, narrow_reaches
        )

    def cell(self, name: str) -> CellOperator:
        """Return the operator of a process by name."""
        return next(o for o in self.cells if o.process.name == name)

    def close(self) -> None:
        """End the threads."""
        self.workers.close()


class Elementwise:
    """A scalar function of a process at every place, from arrays by symbol and the numbers of a step."""

    def __init__(self, function: Any, constants: Group, dtype: type[np.floating]) -> None:
        arguments = arguments_of(function)
        self._takes = [a for a in arguments if a not in constants._fields]
        # Where the function takes no number of a step, none is handed in: that costs as much as the rest.
        used = tuple(a for a in constants._fields if a in arguments)
        self._numbers, self._dtype = ((constants,) if used else ()), dtype
        self._loop = compiled(elementwise(function, used), dtype)

    def __call__(
        self, symbols: Arrays, own: Arrays | None = None, places: Any = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Fill `out`, or a new array; own : arrays in place of those of their symbols; places : at some places only."""
        found = [symbols[a] if own is None or a not in own else own[a] for a in self._takes]
        if places is not None:
            found = [v if own is not None and a in own else v[places] for a, v in zip(self._takes, found, strict=True)]
        filled = np.empty(found[0].size, self._dtype) if out is None else out
        self._loop(*found, *self._numbers, filled)
        return filled


def _steps(series: Arrays, block: slice) -> dict[str, np.ndarray]:
    """Some steps of inputs [time, cell] and of parameters [component, time, cell]."""
    return {name: a[block] if a.ndim == 2 else a[:, block] for name, a in series.items()}


def _blocks(n_steps: int, length: int) -> list[slice]:
    return [slice(first, min(first + length, n_steps)) for first in range(0, n_steps, length)]


def _add(total: Group, part: Group) -> None:
    for a, b in zip(total, part, strict=True):
        a += b


def sort_by_cell(domain: Domain, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links sorted by cell: first int64[cell + 1], reach int64[link], area float[link]."""
    links = domain.links
    reach = np.repeat(np.arange(domain.n_reaches), np.diff(links.first))
    order = np.argsort(links.cell, kind="stable")
    first = np.r_[0, np.cumsum(np.bincount(links.cell, minlength=domain.n_cells))].astype(np.int64)
    return first, reach[order].astype(np.int64), links.area[order].astype(dtype)


__all__ = ["RUNOFF", "CellOperator", "CellRecord", "Operators", "Parameters", "ReachOperator", "RouteRecord"]
