"""Processes over a whole period, forward and adjoint, on the kernels that the model steps.

Forward keeps the states at the starts of blocks; adjoint goes back block by block, recomputing inside each. What is
kept above the arrays handed in and out, per cell-day in float32 for GR4J with X4 <= 4 and blocks of 64 days:
(2 + 4 + 8) x 4 / 64 = 0.9 bytes, 0.25 for snow, and the runoff itself, which routing holds on to; per
reach-day 4 / 16 for the state, with 24 sub-steps a day. Everything else has the size of one block.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NetworkPlan, plan_network
from bmi_cdlm.kernels.groups import ReachSeries
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.cells_adjoint import cell_adjoint_loops
from bmi_cdlm.kernels.loops.components import gather_components, spread_components
from bmi_cdlm.kernels.loops.elementwise import elementwise
from bmi_cdlm.kernels.loops.plan import CellPlan, places_of
from bmi_cdlm.kernels.loops.prepared import Filler, fill_loops, ordinate_loops
from bmi_cdlm.kernels.loops.reaches import ReachPlan, reach_loops
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.declaration import LIQUID_WATER, RUNOFF, CellProcess, LinkProcess, ReachProcess
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.catalogue import Chain

BLOCK_STEPS = 64
ROUTING_BYTES = 64 * 2**20
ROUTING_SUB_STEPS, SHORTEST_ROUTING_BLOCK = 192, 16
"""Sub-steps and model steps of a routing block: enough to make little of what a reach costs by itself, while the
tape of a block stays small beside a year of forcing."""
Arrays = Mapping[str, np.ndarray]
Group = Any
"""A named tuple of arrays."""


def copy_group(group: Group) -> Group:
    """Copy every array of a group."""
    return type(group)(*(a.copy() for a in group))


def zeros_of(group: Group) -> Group:
    """Return zeros in the shapes of a group."""
    return type(group)(*(np.zeros_like(a) for a in group))


class Parameters(NamedTuple):
    """Parameters and what is prepared of them: every array by its symbol, and the group that kernels take."""

    symbols: dict[str, np.ndarray]
    group: Group


class CellRecord(NamedTuple):
    """What the adjoint of a cell process needs."""

    inputs: dict[str, np.ndarray]
    parameters: Parameters
    starts: list[Group]


class RouteRecord(NamedTuple):
    """What the adjoint of routing needs."""

    runoff: np.ndarray
    parameters: Parameters
    reaches: np.ndarray
    starts: list[np.ndarray]


class Preparation:
    """Fills what is prepared of the parameters of a process, and carries adjoints back to the parameters.

    Parameters
    ----------
    process : CellProcess or ReachProcess
    constants : named tuple of numbers
    attributes : mapping of float[place]
        Of the domain, by the process's symbols.
    dtype : float64 or float32
    """

    def __init__(
        self, process: CellProcess | ReachProcess, constants: Group, attributes: Arrays, dtype: type[np.floating]
    ) -> None:
        self.process, self.constants, self.attributes, self.dtype = process, constants, attributes, dtype
        self.names = {p.symbol: p.name for p in process.parameters}
        numbers = constants._fields
        self._fillers = [(one, fill_loops(one, numbers, process.attributes)) for one in process.prepared]
        self._queues: dict[str, Filler] = {}
        if isinstance(process, CellProcess):
            self._queues = {name: ordinate_loops(queue, numbers) for name, queue in process.queues.items()}
        self._given: set[str] = set()

    def fill(self, values: Arrays, places: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
        """Return every array by symbol: parameters as they are, prepared values, ordinates by name of the queue.

        places : least number of places of a queue; what its base needs where it is not named.
        """
        symbols = {s: values[name] for s, name in self.names.items() if name in values}
        symbols |= self.attributes
        given = [one for one, _ in self._fillers if one.given is not None and one.given in values]
        self._given = {symbol for one in given for symbol in one.returns}
        for one, filler in self._fillers:
            if one.given is not None and one.given in values:
                symbols[one.returns[0]] = values[one.given]
                continue
            size = next((symbols[a].size for a in filler.takes), 0)
            symbols |= {s: np.empty(size, self.dtype) for s in one.returns}
            self._refill(filler, symbols)
        for name in self._queues:
            symbols[name] = self._ordinates(name, symbols, (places or {}).get(name, 1))
        return symbols

    def refill(self, symbols: dict[str, np.ndarray], changed: str) -> None:
        """Fill again, in place, what depends on a parameter that was changed; queues are `fill`'s."""
        stale = {changed}
        for one, filler in self._fillers:
            if stale & set(filler.takes) and not set(one.returns) <= self._given:
                self._refill(filler, symbols)
                stale |= set(one.returns)

    def _refill(self, filler: Filler, symbols: Arrays) -> None:
        arguments = [symbols[a] for a in filler.takes]
        compiled(filler.fill, self.dtype)(*arguments, self.constants, *(symbols[s] for s in filler.returns))

    def _ordinates(self, name: str, symbols: Arrays, least: int) -> np.ndarray:
        queue, filler = self.process.queues[name], self._queues[name]  # type: ignore[union-attr]
        base = symbols[self._symbol(queue.base)]
        ordinates = np.zeros((places_of(queue, base.max(initial=0.0), least), base.size), self.dtype)
        compiled(filler.fill, self.dtype)(*self._of_curve(name, symbols), self.constants, ordinates)
        return ordinates

    def _symbol(self, name: str) -> str:
        return next(s for s, n in self.names.items() if n == name)

    def _of_curve(self, name: str, symbols: Arrays) -> list[np.ndarray]:
        """What the curve of a queue takes; its base is never below the smallest."""
        queue = self.process.queues[name]  # type: ignore[union-attr]
        base = self._symbol(queue.base)
        least = self.dtype(queue.at_least)
        return [
            np.where(symbols[a] < least, least, symbols[a]) if a == base else symbols[a] for a in self._queues[name].takes
        ]

    def adjoint(self, symbols: Arrays, adjoints: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adjoints of parameters by registry name, from those of symbols and of the ordinates of queues."""
        total = {s: a for s, a in adjoints.items() if s not in self._queues}
        for name, filler in self._queues.items():
            sums = [np.zeros_like(symbols[a]) for a in filler.takes]
            compiled(filler.adjoint, self.dtype)(
                *self._of_curve(name, symbols), self.constants, adjoints[name].astype(self.dtype), *sums
            )
            self._add(total, filler.active, sums)
        found: dict[str, np.ndarray] = {}
        for one, filler in reversed(self._fillers):
            if one.given is not None and one.returns[0] in total:
                found[one.given] = total[one.returns[0]]
            if not filler.active or not set(filler.seeds) & set(total) or set(one.returns) <= self._given:
                continue
            seeds = [
                total[s].astype(self.dtype) if s in total else np.zeros_like(symbols[s]) for s in filler.seeds
            ]
            sums = [np.zeros_like(symbols[a]) for a in filler.active]
            arguments = [symbols[a] for a in filler.takes]
            compiled(filler.adjoint, self.dtype)(*arguments, self.constants, *seeds, *sums)
            self._add(total, filler.active, sums)
        return found | {name: total[s] for s, name in self.names.items() if s in total}

    @staticmethod
    def _add(total: dict[str, np.ndarray], symbols: Sequence[str], sums: Sequence[np.ndarray]) -> None:
        for symbol, one in zip(symbols, sums, strict=True):
            total[symbol] = total[symbol] + one if symbol in total else one


class CellOperator:
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
        is the mean of the components.
    """

    def __init__(
        self, process: CellProcess, domain: Domain, step: int, dtype: type[np.floating], workers: Workers,
        varying: Collection[str] = (), components: int = 1,
    ) -> None:
        own = {p.name for p in process.parameters}
        self.plan = CellPlan(process, tuple(name for name in varying if name in own))
        self.process, self.dtype, self.workers, self.components = process, dtype, workers, components
        self.n_cells, self.n_units = domain.n_cells, domain.n_cells * components
        self.constants = self.plan.constant_group(*step_numbers(process, step, dtype))
        self.preparation = Preparation(process, self.constants, self._attributes(domain), dtype)
        self.gives = process.gives[0]
        self._forward = cell_loops(self.plan)
        self._backward: Any = None
        self._no_totals = self.plan.total_group(None, None, None, None)
        n, parts = self.n_cells, workers.tasks(self.n_cells)
        self._tasks = [(c * n + lo, c * n + hi, c * n) for c in range(components) for lo, hi in parts]

    def _attributes(self, domain: Domain) -> dict[str, np.ndarray]:
        return {
            symbol: np.tile(getattr(domain.cells, name), self.components).astype(self.dtype)
            for symbol, name in self.process.attributes.items()
        }

    on_device = False

    def prepare(self, values: Arrays, places: Mapping[str, int] | None = None) -> Parameters:
        """Parameters as kernels take them, from arrays by registry name; places: see `Preparation.fill`."""
        symbols = self.preparation.fill(values, places)
        return Parameters(symbols, self.plan.parameter_group(*(symbols[s] for s in self.plan.parameter_group._fields)))

    def prepare_adjoint(self, p: Parameters, p_adj: Group, start_adj: Group | None = None) -> dict[str, np.ndarray]:
        """Adjoints of parameters by registry name; start_adj: of the state, if that was `start`."""
        adjoints = dict(p_adj._asdict())
        for name, store in self.process.stores.items() if start_adj is not None else ():
            if store.start_of is not None:
                owed = store.start * getattr(start_adj, name)
                adjoints[store.start_of] = adjoints[store.start_of] + owed if store.start_of in adjoints else owed
        return self.preparation.adjoint(p.symbols, adjoints)

    def start(self, p: Parameters) -> Group:
        """The state of a cold start: stores at their customary fill, nothing on its way."""
        stores = {}
        for name, store in self.process.stores.items():
            whole = np.ones(self.n_units, self.dtype) if store.start_of is None else p.symbols[store.start_of]
            stores[name] = (store.start * whole).astype(self.dtype)
        queues = {name: np.zeros_like(p.symbols[name]) for name in self.process.queues}
        return self.plan.state_group(**stores, **queues)

    def empty_state(self, record: CellRecord) -> Group:
        """Zeros in the shapes of the state of a record: the adjoint of an end that nobody reads."""
        return zeros_of(record.starts[0]) if record.starts else zeros_of(self.start(record.parameters))

    def inputs(self, series: Arrays) -> Group:
        """The group of inputs, from float[time, cell] by registry name."""
        plan = self.plan
        found = {symbol: series_of(series, name) for symbol, name in plan.inputs.items()}
        for name in plan.varying:
            found[plan.parameters[name].symbol] = series[name]
        if plan.is_runoff:
            found["rain"] = series["precipitation"]
        return plan.input_group(*(found[s] for s in plan.input_group._fields))

    def advance(
        self, series: Arrays, p: Parameters, state: Group, out: np.ndarray, totals: Group | None = None,
        fluxes: Group | None = None,
    ) -> None:
        """Advance over all steps of the series: state and totals in place, `out` [mm d-1] and fluxes filled."""
        whole = out if self.components == 1 else np.empty((out.shape[0], self.n_units), self.dtype)
        kept = fluxes
        if self.components > 1 and fluxes is not None:
            kept = type(fluxes)(*(np.empty((a.shape[0], self.n_units), self.dtype) for a in fluxes))
        self.workers.run(compiled(self._forward.advance, self.dtype), (
            self.inputs(series), p.group, state, self._no_totals if totals is None else totals, kept, whole,
            self.constants,
        ), self._tasks, whole.size)
        if self.components > 1:
            self._gather(whole, out)
            for units, cells in zip(kept or (), fluxes or (), strict=True):
                self._gather(units, cells)

    def _gather(self, units: np.ndarray, cells: np.ndarray) -> None:
        """The mean over components."""
        compiled(gather_components, self.dtype)(units, self.dtype(1.0 / self.components), cells)

    def run(self, series: Arrays, p: Parameters, state: Group) -> tuple[np.ndarray, CellRecord]:
        """What the process gives over a period, [time, cell], and what its adjoint needs; `state` in place."""
        n_steps = series["precipitation"].shape[0]
        out, starts = np.empty((n_steps, self.n_cells), self.dtype), []
        taken = {name: series_of(series, name) for name in self.taken}
        for block in _blocks(n_steps, BLOCK_STEPS):
            starts.append(copy_group(state))
            self.advance({name: a[block] for name, a in taken.items()}, p, state, out[block])
        return out, CellRecord(taken, p, starts)

    @property
    def taken(self) -> tuple[str, ...]:
        """Names of the series that it takes, precipitation among them for the totals."""
        return tuple(dict.fromkeys([*self.plan.inputs.values(), *self.plan.varying, "precipitation"]))

    def reverse(
        self, record: CellRecord, out_adj: np.ndarray, state_adj: Group, wanted: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], Group]:
        """Adjoints of inputs and varying parameters by registry name, float[time, cell], and of `plan.adjoint_group`.

        `state_adj` goes from the end to the start. wanted : names of inputs that are wanted; all where None. Adjoints
        of parameters are summed in float64.
        """
        if self._backward is None:
            self._backward = cell_adjoint_loops(self.plan)
        plan, n_steps = self.plan, out_adj.shape[0]
        sizes = {s: record.parameters.symbols[s].shape for s in plan.adjoint_group._fields}
        total = plan.adjoint_group(*(np.zeros(shape) for shape in sizes.values()))
        units_adj = np.ascontiguousarray(out_adj) if self.components == 1 else np.tile(
            out_adj / self.dtype(self.components), (1, self.components)
        )
        inputs_adj = plan.input_adjoint_group(
            *(np.empty((n_steps, self.n_units), self.dtype) for _ in plan.input_adjoint_group._fields)
        )
        blocks = _blocks(n_steps, BLOCK_STEPS)
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            p_adj = plan.adjoint_group(*(np.zeros(shape, self.dtype) for shape in sizes.values()))
            self.workers.run(compiled(self._backward.reverse, self.dtype), (
                self.inputs({name: a[block] for name, a in record.inputs.items()}), record.parameters.group, start,
                self.constants, units_adj[block], state_adj, p_adj, type(inputs_adj)(*(a[block] for a in inputs_adj)),
            ), self._tasks, units_adj[block].size)
            _add(total, p_adj)
        return self._input_adjoints(record, inputs_adj, wanted), total

    def _input_adjoints(
        self, record: CellRecord, inputs_adj: Group, wanted: Collection[str] | None
    ) -> dict[str, np.ndarray]:
        plan = self.plan
        found = {symbol: self._sum_components(a) for symbol, a in inputs_adj._asdict().items()}
        names = {**plan.inputs, **{plan.parameters[n].symbol: n for n in plan.varying}}
        for a, b in plan.negated().items():
            if wanted is None or names[a] in wanted or a in plan.factors:
                found[a] = -found[b]
        for symbol, factor in plan.factors.items():
            product_adj, name = found[symbol], names[factor]
            found[factor] = product_adj * record.inputs[names[symbol]]
            found[symbol] = product_adj * record.inputs[name]
        return {names[s]: a for s, a in found.items()}

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
    """

    def __init__(
        self, process: ReachProcess, links: LinkProcess, domain: Domain, step: int, routing_step: int,
        dtype: type[np.floating], workers: Workers, plan: NetworkPlan | None = None,
    ) -> None:
        self.plan, self.process = ReachPlan(process), process
        self.domain, self.dtype, self.workers = domain, dtype, workers
        self.step, self.n_sub = step, step // routing_step
        self.constants = self.plan.constant_group(dtype(routing_step))
        attributes = {s: getattr(domain.reaches, name).astype(dtype) for s, name in process.attributes.items()}
        self.preparation = Preparation(process, self.constants, attributes, dtype)
        self.loops = reach_loops(self.plan, links)
        self.network = plan_network(domain.reaches.downstream, workers.threads) if plan is None else plan
        self.links = domain.links._replace(area=domain.links.area.astype(dtype))
        first, reach, area = sort_by_cell(domain, dtype)
        row = np.empty(domain.n_reaches, np.int64)
        row[self.network.network.sequence] = np.arange(domain.n_reaches)
        self._links_by_cell = first, row[reach], area  # rows of the adjoint of lateral inflow
        self._cell_tasks = workers.tasks(domain.n_cells)

    on_device = False

    def prepare(self, values: Arrays) -> Parameters:
        """Parameters as kernels take them, from arrays by registry name."""
        symbols = self.preparation.fill(values)
        return Parameters(symbols, self.plan.parameter_group(*(symbols[s] for s in self.plan.parameter_group._fields)))

    def prepare_adjoint(self, p: Parameters, p_adj: Group) -> dict[str, np.ndarray]:
        """Adjoints of parameters by registry name."""
        return self.preparation.adjoint(p.symbols, p_adj._asdict())

    def volume(self, p: Parameters, state: np.ndarray) -> np.ndarray:
        """Water in the reaches [m3]."""
        return self._evaluate(self.process.volume, p, {self.process.symbol: state})

    def from_volume(self, p: Parameters, volume: np.ndarray, places: Any = slice(None)) -> np.ndarray:
        """The state of reaches (at some places) that hold a volume [m3]."""
        return self._evaluate(self.process.from_volume, p, {"volume": volume}, places)

    def steady(self, p: Parameters, flow: np.ndarray) -> np.ndarray:
        """The state of reaches through which a constant flow [m3 s-1] passes."""
        return self._evaluate(self.process.steady, p, {"flow": flow})

    def _evaluate(self, function: Any, p: Parameters, own: Arrays, places: Any = slice(None)) -> np.ndarray:
        return evaluate(function, {**{s: a[places] for s, a in p.symbols.items()}, **own}, self.constants, self.dtype)

    def route(
        self, runoff: np.ndarray, p: Parameters, state: np.ndarray, lateral: ReachSeries, hydrographs: np.ndarray,
        discharge: ReachSeries, outflow_total: np.ndarray, tape: np.ndarray,
    ) -> None:
        """Route the runoff [time, cell] of a block of steps; see the loop of the process."""
        arguments = (
            self.network.network, self.links, p.group, state, runoff, lateral, hydrographs, discharge, tape,
            outflow_total, self.constants, self.n_sub, self.dtype(self.step),
        )
        self.network.route(
            self.workers, compiled(self.loops.route, self.dtype), arguments, runoff.shape[0], self.n_sub
        )

    def collect(self, runoff: np.ndarray, lateral: ReachSeries) -> None:
        """Lateral inflow of every reach from runoff [time, cell]."""
        compiled(self.loops.collect, self.dtype)(self.links, runoff, lateral, 0, self.domain.n_reaches)

    def run(
        self, runoff: np.ndarray, p: Parameters, state: np.ndarray, reaches: np.ndarray
    ) -> tuple[np.ndarray, RouteRecord]:
        """Discharge [m3 s-1] of some reaches, [time, len(reaches)], from runoff [time, cell]; `state` in place."""
        discharge, starts = np.empty((runoff.shape[0], reaches.size), self.dtype), []
        for block in self._blocks(runoff.shape[0]):
            starts.append(state.copy())
            discharge[block] = self._run_block(runoff[block], p, state, reaches)
        return discharge, RouteRecord(runoff, p, reaches, starts)

    def reverse(
        self, record: RouteRecord, discharge_adj: np.ndarray, state_adj: np.ndarray
    ) -> tuple[np.ndarray, Group]:
        """Adjoints of runoff [time, cell] and of `plan.adjoint_group`; `state_adj` goes from the end to the start."""
        n_steps, n = discharge_adj.shape[0], self.domain.n_reaches
        runoff_adj = np.empty((n_steps, self.domain.n_cells), self.dtype)
        total = self.plan.adjoint_group(*(np.zeros(n) for _ in self.plan.adjoint_group._fields))
        blocks = self._blocks(n_steps)
        # Fresh memory costs as much as the routing: every block has the same.
        longest = max((block.stop - block.start for block in blocks), default=0)
        space = np.empty((self.n_sub + (self.n_sub > 1)) * longest * n, self.dtype)
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            lateral_adj, p_adj = self._reverse_block(record, start, block, discharge_adj[block], state_adj, space)
            _add(total, p_adj)
            arguments = (*self._links_by_cell, lateral_adj, runoff_adj[block])
            self.workers.run(
                compiled(self.loops.spread, self.dtype), arguments, self._cell_tasks, lateral_adj.size
            )
        return runoff_adj, total

    def _run_block(self, runoff: np.ndarray, p: Parameters, state: np.ndarray, reaches: np.ndarray) -> np.ndarray:
        """Discharge of some reaches [time, len(reaches)]."""
        slot, n_slots, n_steps = self.network.network.slot, self.network.n_slots, runoff.shape[0]
        kept, row = np.unique(reaches), slot.copy()
        row[kept] = n_slots + np.arange(kept.size)
        last = np.empty(state.size, self.dtype)
        lateral = ReachSeries(np.empty((n_slots, n_steps), self.dtype), slot, last)
        discharge = ReachSeries(np.empty((n_slots + kept.size, n_steps), self.dtype), row, last)
        self._taped(runoff, p, state, lateral, discharge, np.empty((state.size, 0), self.dtype))
        return discharge.values[row[reaches]].T

    def _taped(
        self, runoff: np.ndarray, p: Parameters, state: np.ndarray, lateral: ReachSeries, discharge: ReachSeries,
        tape: np.ndarray,
    ) -> None:
        hydrographs = np.empty((self.network.n_slots, runoff.shape[0] * self.n_sub), self.dtype)
        self.route(runoff, p, state, lateral, hydrographs, discharge, np.zeros(state.size, self.dtype), tape)

    def _reverse_block(
        self, record: RouteRecord, start: np.ndarray, block: slice, discharge_adj: np.ndarray, state_adj: np.ndarray,
        space: np.ndarray,
    ) -> tuple[np.ndarray, Group]:
        """Adjoints of the lateral inflow, a row for each place in the sequence, and of the coefficients."""
        runoff, plan, dtype = record.runoff[block], self.network, self.dtype
        n, n_steps, n_sub_steps = start.size, runoff.shape[0], runoff.shape[0] * self.n_sub
        # With one sub-step the adjoint of a reach's inflow takes its place: it is in the cache already.
        inflow = space[: n * n_sub_steps].reshape(n, n_sub_steps)
        lateral_adj = inflow if self.n_sub == 1 else space[inflow.size :][: n * n_steps].reshape(n, n_steps)
        last = np.empty(n, dtype)
        lateral, waste = (
            ReachSeries(np.empty((plan.n_slots, n_steps), dtype), plan.network.slot, last) for _ in range(2)
        )
        self._taped(runoff, record.parameters, start.copy(), lateral, waste, inflow)
        # All reaches whose discharge nobody asked for share the first row.
        kept, at = np.unique(record.reaches, return_inverse=True)
        by_reach = ReachSeries(np.zeros((1 + kept.size, n_steps), dtype), np.zeros(n, np.int64), last)
        by_reach.row[kept] = 1 + np.arange(kept.size)
        np.add.at(by_reach.values, 1 + at, discharge_adj.T)
        p_adj = self.plan.adjoint_group(*(np.zeros(n, dtype) for _ in self.plan.adjoint_group._fields))
        arguments = (
            plan.network, self.domain.reaches.downstream, record.parameters.group, start, inflow, by_reach, state_adj,
            p_adj, np.empty((plan.n_slots, n_sub_steps), dtype), lateral_adj, self.constants, self.n_sub,
        )
        plan.reverse(self.workers, compiled(self.loops.reverse, dtype), arguments, n_steps, self.n_sub)
        return lateral_adj, p_adj

    def _blocks(self, n_steps: int) -> list[slice]:
        per_step = self.domain.n_reaches * self.n_sub * np.dtype(self.dtype).itemsize
        longest = max(SHORTEST_ROUTING_BLOCK, ROUTING_SUB_STEPS // self.n_sub)
        return _blocks(n_steps, int(np.clip(ROUTING_BYTES // per_step, 1, longest)))


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
    """

    on_device = False

    def __init__(
        self, chain: Chain, domain: Domain, step: int, routing_step: int, dtype: type[np.floating] = np.float64,
        threads: int | Workers = 1, *, varying: Collection[str] = (), components: Mapping[str, int] | None = None,
        plan: NetworkPlan | None = None,
    ) -> None:
        self.chain, self.domain, self.step, self.routing_step, self.dtype = chain, domain, step, routing_step, dtype
        self.n_sub = step // routing_step
        self.workers = threads if isinstance(threads, Workers) else Workers(threads)
        self.cells = [
            CellOperator(p, domain, step, dtype, self.workers, varying, (components or {}).get(p.name, 1))
            for p in chain.cells
        ]
        self.reach = ReachOperator(
            chain.reach, chain.links, domain, step, routing_step, dtype, self.workers, plan
        )

    def cell(self, name: str) -> CellOperator:
        """Return the operator of a process by name."""
        return next(o for o in self.cells if o.process.name == name)

    def close(self) -> None:
        """End the threads."""
        self.workers.close()


def series_of(series: Arrays, name: str) -> np.ndarray:
    """An input by name; rain plus melt is precipitation where there is no snow."""
    return series["precipitation"] if name == LIQUID_WATER and name not in series else series[name]


def evaluate(
    function: Any, symbols: Arrays, constants: Group, dtype: type[np.floating]
) -> np.ndarray:
    """A scalar function of symbols at every place."""
    numbers = constants._asdict()
    arguments = [a for a in inspect.signature(function).parameters if a not in numbers]
    arrays = [np.ascontiguousarray(symbols[a], dtype) for a in arguments]
    out = np.empty(arrays[0].size if arrays else 0, dtype)
    compiled(elementwise(function, tuple(numbers)), dtype)(*arrays, constants, out)
    return out


def step_numbers(process: CellProcess, step: int, dtype: type[np.floating]) -> list[Any]:
    """Length of a model step [d], its inverse, and the constants of a process, as numbers of a precision."""
    return [dtype(step / DAY), dtype(DAY / step), *(dtype(by_step[step]) for by_step in process.constants.values())]


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
