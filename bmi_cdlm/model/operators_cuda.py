"""The operators of `operators` on a CUDA device: same methods, same meaning, same scalar steps.

Arrays live on the device: anything with `__cuda_array_interface__` goes in without a copy (torch tensors, numba
device arrays), and what `empty` allocates comes out. Under numba's simulator (NUMBA_ENABLE_CUDASIM=1) they are
numpy arrays, and float64 results have the bits of the CPU.

What is kept between forward and adjoint, above the arrays handed in and out: of cells as on the CPU; per reach-day
the lateral inflow, and 1 + tile numbers per reach and block of waves that it is active in. The adjoint works in a tape
of 64 steps per cell (5 numbers each for GR4J), and in one of 2 x tile numbers per wave of one block and reach active in
it. With blocks of about sqrt(T / 2) waves both grow with the root of the T tiles of the period. Where components have
weights, what each gave is kept too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.waves import Waves, first_of, level_reaches, place_links, place_reaches
from bmi_cdlm.kernels.device import arrays
from bmi_cdlm.kernels.device.cells import arguments_of, cell_kernels
from bmi_cdlm.kernels.device.launch import default_stream, empty_device_array, to_device
from bmi_cdlm.kernels.device.reaches import Places, keep_wave, link_kernels, reach_kernels, restore_wave
from bmi_cdlm.kernels.loops.reach_plan import reach_plan
from bmi_cdlm.model.cell_operator import BLOCK_STEPS
from bmi_cdlm.model.memory_cuda import Array, DeviceMemory, view
from bmi_cdlm.model.preparation import Arrays, Group, Parameters, Preparation, PreparedCells, series_of
from bmi_cdlm.model.reach_operator import sort_by_cell
from bmi_cdlm.names.declaration import LIQUID_WATER, CellProcess, LinkProcess, ReachProcess
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.processes.catalogue import Chain


class CellRecord(NamedTuple):
    """What the adjoint of a cell process needs; starts: a state of float[block, (place,) unit].

    units : float[time, unit], what every component gave, where they have weights.
    """

    inputs: dict[str, Array]
    parameters: Parameters
    starts: Group
    units: Array | None = None


class RouteRecord(NamedTuple):
    """What the adjoint of routing needs; p, start: float[place]; kept: one array per block of waves."""

    lateral_inflow: Array
    parameters: Parameters
    p: Group
    places: Places
    start: Array
    kept: list[Array]


class CudaCellOperator(PreparedCells):
    """A process of cells on a CUDA device, at a model step and one precision.

    Parameters
    ----------
    process, domain, step, varying, components : see `CellOperator`
    memory : DeviceMemory
    """

    on_device = True

    def __init__(
        self, process: CellProcess, domain: Domain, step: int, memory: DeviceMemory, varying: Collection[str] = (),
        components: int = 1,
    ) -> None:
        super().__init__(process, domain, step, memory, varying, components)
        self.kernels = cell_kernels(process, self.plan.varying)

    def run(self, series: Arrays, p: Parameters, state: Group) -> tuple[Array, CellRecord]:
        """What the process gives over a period, [time, cell], and what its adjoint needs; `state` in place."""
        taken = {name: series_of(series, name) for name in self.taken}
        n_steps = taken[self.process.enters].shape[0]
        out, n_blocks = self.memory.empty(n_steps, self.n_units), -(-n_steps // BLOCK_STEPS)
        starts = type(state)(*(self.memory.empty(n_blocks, *a.shape) for a in state))
        self._launch(self.kernels.advance, {
            "inputs": self.inputs(taken), "p": p.group, "state": state, "starts": starts, "step": self.constants,
            "block": BLOCK_STEPS, "n": self.n_units, "out": out, **self._rings(p, "ring_{}"),
        })
        return self._gather(out, p.weights), CellRecord(taken, p, starts, None if p.weights is None else out)

    def reverse(
        self, record: CellRecord, out_adj: Array, state_adj: Group, wanted: Collection[str] | None = None
    ) -> tuple[dict[str, Array], Group]:
        """Adjoints of inputs and varying parameters by registry name, float[time, cell], and of `plan.adjoint_group`.

        `state_adj` goes from the end to the start. wanted : names of inputs that are wanted; all where None. Adjoints
        of parameters are summed in float64. With the inputs, that of the weights of components, where there are any.
        """
        plan, memory, p = self.plan, self.memory, record.parameters
        found: dict[str, Array] = {}
        rate = self.dtype(1.0) if plan.process.gives_rate else self.constants.per_day
        per_day, units_adj = rate / self.dtype(self.components), out_adj
        if p.weights is not None:
            per_day, units_adj = rate, memory.empty(out_adj.shape[0], self.n_units)
            memory.over(arrays.share_out, tuple(units_adj.shape), out_adj, p.weights, units_adj)
            found[WEIGHT] = memory.empty_sums(self.n_units)
            memory.run(arrays.sum_weights, self.n_units, record.units, out_adj, found[WEIGHT])
        p_adj = plan.adjoint_group(*(memory.empty_sums(*p.symbols[s].shape) for s in plan.adjoint_group._fields))
        needed = self._needed(wanted)
        rows = {s: out_adj.shape[0] if s in needed else 0 for s in plan.input_adjoints}
        inputs_adj = plan.input_adjoint_group(*(memory.empty(n, self.n_units) for n in rows.values()))
        rings = self._rings(p, "ring_{}") | self._rings(p, "ring_{}_adj") | self._rings(p, "sums_{}")
        self._launch(self.kernels.reverse, {
            "inputs": self.inputs(record.inputs), "p": p.group, "starts": record.starts, "step": self.constants,
            "tape": memory.empty(self.kernels.n_taped, BLOCK_STEPS, self.n_units), "block": BLOCK_STEPS,
            "per_day": per_day, "n": self.n_units, "out_adj": units_adj,
            "state_adj": state_adj, "p_adj": p_adj, "inputs_adj": inputs_adj, **rings,
        })
        spread = {s: self._spread(getattr(inputs_adj, s)) for s, n in rows.items() if n}
        return self._input_adjoints(record, spread, needed) | found, p_adj

    def _needed(self, wanted: Collection[str] | None) -> set[str]:
        """Symbols of inputs whose adjoints are wanted, or lead to one that is; liquid water may be precipitation."""
        plan = self.plan
        asked = None if wanted is None else {*wanted, *([LIQUID_WATER] if "precipitation" in wanted else [])}
        found = {s for s, name in plan.input_names.items() if asked is None or name in asked}
        found |= {s for s, factor in plan.factors.items() if factor in found}
        return found | {b for a, b in plan.negated().items() if a in found}

    def _input_adjoints(self, record: CellRecord, found: dict[str, Array], needed: set[str]) -> dict[str, Array]:
        plan, names, memory = self.plan, self.plan.input_names, self.memory
        for a, b in plan.negated().items():
            if a in needed:
                found[a] = memory.negative(found[b])
        for symbol, factor in plan.factors.items():
            if symbol in found:
                product_adj = found[symbol]
                found[factor] = memory.product(product_adj, record.inputs[names[symbol]])
                found[symbol] = memory.product(product_adj, record.inputs[names[factor]])
        return {names[s]: a for s, a in found.items()}

    def _launch(self, kernel: Any, known: Mapping[str, Any]) -> None:
        self.memory.run(kernel, self.n_units, *arguments_of(kernel, known))

    def _rings(self, p: Parameters, name: str) -> dict[str, Array]:
        return {name.format(queue): self.memory.empty(*p.symbols[queue].shape) for queue in self.process.queues}

    def _gather(self, units: Array, weights: Array | None) -> Array:
        """The mean over components."""
        if self.components == 1:
            return units
        cells = self.memory.empty(units.shape[0], self.n_cells)
        if weights is not None:
            self.memory.over(arrays.weigh_units, tuple(cells.shape), units, weights, cells)
            return cells
        self.memory.over(arrays.gather_units, tuple(cells.shape), units, self.dtype(1.0 / self.components), cells)
        return cells

    def _spread(self, units_adj: Array) -> Array:
        """The sum over components."""
        if self.components == 1:
            return units_adj
        cells_adj = self.memory.empty(units_adj.shape[0], self.n_cells)
        self.memory.over(arrays.spread_units, tuple(cells_adj.shape), units_adj, cells_adj)
        return cells_adj


class CudaReachOperator:
    """A process of reaches, and the links to them, on a CUDA device at a routing step and one precision.

    Parameters
    ----------
    process, links, domain, step, routing_step : see `ReachOperator`
    memory : DeviceMemory
    tile, block : see `CudaOperators`
    """

    on_device = True

    def __init__(
        self, process: ReachProcess, links: LinkProcess, domain: Domain, step: int, routing_step: int,
        memory: DeviceMemory, tile: int | None = None, block: int | None = None,
    ) -> None:
        self.plan, self.process = reach_plan(process), process
        self.domain, self.dtype, self.memory, self.launcher = domain, memory.dtype, memory, memory.launcher
        self.step, self.n_sub = step, step // routing_step
        self.tile, self.block = self.n_sub if tile is None else tile, block
        self.constants = self.plan.constant_group(self.dtype(routing_step))
        attributes = {s: memory.send(getattr(domain.reaches, name)) for s, name in process.attributes.items()}
        self.preparation = Preparation(process, self.constants, attributes, memory)
        self.kernels, self.link_kernels = reach_kernels(process), link_kernels(links)
        self._place(domain)

    def _place(self, domain: Domain) -> None:
        """Put the network and the links in the order of levels."""
        self._levels = level_reaches(domain.reaches.downstream)
        self._placement = place_reaches(self._levels, domain.reaches.downstream)
        self._reach = to_device(self._levels.reach)
        nothing = np.zeros(0, np.int64)
        self._network = Places(*map(_on_device, (*self._placement[1:], nothing, nothing)))
        self._outputs: dict[bytes, Places] = {}
        first, order = place_links(self._levels, domain.links.first)
        area = domain.links.area[order].astype(self.dtype)
        self._links = to_device(first), to_device(domain.links.cell[order]), to_device(area)
        first, reach, area = sort_by_cell(domain, self.dtype)
        self._links_by_cell = to_device(first), to_device(self._placement.place[reach]), to_device(area)

    def prepare(self, values: Arrays) -> Parameters:
        """Parameters as kernels take them, from arrays by registry name."""
        symbols = self.preparation.fill(values)
        return Parameters(symbols, self.plan.parameter_group(*(symbols[s] for s in self.plan.parameter_group._fields)))

    def prepare_adjoint(self, p: Parameters, p_adj: Group) -> dict[str, Array]:
        """Adjoints of parameters by registry name."""
        return self.preparation.adjoint(p.symbols, p_adj._asdict())

    def run(self, runoff: Array, p: Parameters, state: Array, reaches: np.ndarray) -> tuple[Array, RouteRecord]:
        """Discharge [m3 s-1] of some reaches, [time, len(reaches)], from runoff [time, cell]; `state` in place."""
        n_steps, n, memory = runoff.shape[0], self.domain.n_reaches, self.memory
        lateral_inflow, discharge = view(memory.empty(n_steps, n)), memory.empty(n_steps, reaches.size)
        self.launcher.over_times(n, n_steps, self.link_kernels.collect, *self._links, view(runoff), lateral_inflow)
        places = self._with_outputs(reaches)
        placed = self.kernels.coefficients(*(self._take(p.symbols[c]) for c in self.plan.coefficients))
        start, now, step_total = self._take(state), view(memory.empty(n)), view(memory.empty(n))
        sent, kept, given = view(memory.empty(2, self.tile, n)), [], view(discharge)
        waves = self.waves(n_steps)
        for block in self._blocks(waves):
            kept.append(self._keep(waves, block.start, now, sent))
            for wave in block:
                lo, hi = waves.active(wave)
                self.launcher.over(
                    hi - lo, self.kernels.route, wave, lo, hi, places, placed, start, now, lateral_inflow, sent,
                    step_total, self.constants, self.n_sub, given,
                )
        if n_steps:
            self.launcher.over(n, arrays.give_reaches, self._reach, now, view(state))
        return discharge, RouteRecord(lateral_inflow, p, placed, places, start, kept)

    def reverse(self, record: RouteRecord, discharge_adj: Array, state_adj: Array) -> tuple[Array, Group]:
        """Adjoints of runoff [time, cell] and of `plan.adjoint_group`; `state_adj` goes from the end to the start."""
        n_steps, n, memory = discharge_adj.shape[0], self.domain.n_reaches, self.memory
        lateral_adj, runoff_adj = view(memory.empty(n_steps, n)), memory.empty(n_steps, self.domain.n_cells)
        y, now, step_total = self._take(state_adj), view(memory.empty(n)), view(memory.empty(n))
        placed_adj = type(record.p)(*(view(memory.empty_sums(n)) for _ in record.p))
        sent, sent_adj = view(memory.empty(2, self.tile, n)), view(memory.empty(2, self.tile, n))
        waves, given = self.waves(n_steps), view(discharge_adj)
        blocks = self._blocks(waves)
        width = max((hi - lo for lo, hi in map(waves.within, blocks)), default=0)
        tape = view(memory.empty(2, len(blocks[0]) if blocks else 0, self.tile, width))
        for block, kept in zip(reversed(blocks), reversed(record.kept), strict=True):
            self._retrace(record, waves, block, kept, now, sent, tape)
            for wave in reversed(block):
                lo, hi = waves.active(wave)
                self.launcher.over(
                    hi - lo, self.kernels.reverse, wave, lo, hi, block.start, waves.within(block)[0], record.places,
                    record.p, tape, given, y, sent_adj, step_total, self.constants, self.n_sub, placed_adj, lateral_adj,
                )
        self.launcher.over(n, arrays.give_reaches, self._reach, y, view(state_adj))
        self.launcher.over_times(
            self.domain.n_cells, n_steps, self.link_kernels.spread, *self._links_by_cell, lateral_adj, view(runoff_adj)
        )
        p_adj = self.plan.adjoint_group(*(memory.empty_sums(n) for _ in placed_adj))
        for placed, total in zip(placed_adj, p_adj, strict=True):
            self.launcher.over(n, arrays.give_reaches, self._reach, placed, view(total))
        return runoff_adj, p_adj

    def _retrace(
        self, record: RouteRecord, waves: Waves, block: range, kept: Array, now: Array, sent: Array, tape: Array
    ) -> None:
        lo, hi = waves.crossing(block.start)
        self.launcher.over(hi - lo, restore_wave, (block.start + 1) % 2, lo, hi, now, sent, kept)
        for wave in block:
            lo, hi = waves.active(wave)
            self.launcher.over(
                hi - lo, self.kernels.retrace, wave, lo, hi, block.start, waves.within(block)[0], record.places,
                record.p, record.start, now, record.lateral_inflow, sent, self.constants, self.n_sub, tape,
            )

    def _keep(self, waves: Waves, wave: int, y: Array, sent: Array) -> Array:
        lo, hi = waves.crossing(wave)
        kept = view(self.memory.empty(1 + self.tile, hi - lo))
        self.launcher.over(hi - lo, keep_wave, (wave + 1) % 2, lo, hi, y, sent, kept)
        return kept

    def waves(self, n_steps: int) -> Waves:
        """The waves of a period; one launch each forward, two in the adjoint."""
        return Waves(self._levels, n_steps * self.n_sub, self.tile)

    def _blocks(self, waves: Waves) -> list[range]:
        """Blocks of waves: the longer, the less is kept between forward and adjoint and the longer the tape."""
        if self.block is not None or not waves.n_waves:
            return waves.blocks(self.block or 1)
        widest = max(hi - lo for lo, hi in map(waves.active, range(waves.n_waves)))
        return waves.blocks(max(1, round((waves.n_tiles * self.domain.n_reaches / (2 * widest)) ** 0.5)))

    def _with_outputs(self, reaches: np.ndarray) -> Places:
        """The network with its outputs; kept, for a training asks for the same gauges in every window."""
        key = reaches.tobytes()
        if key not in self._outputs:
            place = self._placement.place[reaches]
            self._outputs = {key: self._network._replace(
                first_output=_on_device(first_of(place, self.domain.n_reaches)),
                output=_on_device(np.argsort(place, kind="stable")),
            )}
        return self._outputs[key]

    def _take(self, values: Array) -> Array:
        placed = view(self.memory.empty(self.domain.n_reaches))
        self.launcher.over(self.domain.n_reaches, arrays.take_places, self._reach, view(values), placed)
        return placed


class CudaOperators:
    """The processes of a chain over a domain on a CUDA device, forward and adjoint.

    Parameters
    ----------
    chain : Chain
    domain : Domain
    step, routing_step : int
        Model step and routing sub-step [s].
    dtype : float64 or float32
        Of every array handed in and out; the adjoints of parameters are float64, as on the CPU.
    stream : callable, optional
        Returns the numba.cuda stream to launch on; asked at every launch.
    tile : int, optional
        Routing sub-steps that a thread takes at once; those of a model step by default. T model steps take
        T n_sub / tile + depth launches. The bits do not depend on it.
    empty : callable, optional
        empty(shape, dtype) allocates on the device; numba's allocator by default, `torch.empty` in training.
    block : int, optional
        Waves of routing between two kept states; what takes the least memory by default. No bit depends on it.
    threads : int
        Threads per block.
    varying, components : see `CellOperator`
    """

    on_device = True

    def __init__(
        self, chain: Chain, domain: Domain, step: int, routing_step: int, dtype: type[np.floating] = np.float64, *,
        stream: Callable[[], Any] = default_stream, tile: int | None = None,
        empty: Callable[[tuple[int, ...], Any], Array] = empty_device_array, block: int | None = None,
        threads: int = 128, varying: Collection[str] = (), components: Mapping[str, int] | None = None,
    ) -> None:
        self.chain, self.domain, self.step, self.routing_step, self.dtype = chain, domain, step, routing_step, dtype
        self.n_sub = step // routing_step
        self.memory = DeviceMemory(dtype, stream, empty, threads)
        self.cells = [
            CudaCellOperator(p, domain, step, self.memory, varying, (components or {}).get(p.name, 1))
            for p in chain.cells
        ]
        self.reach = CudaReachOperator(chain.reach, chain.links, domain, step, routing_step, self.memory, tile, block)

    def cell(self, name: str) -> CudaCellOperator:
        """Return the operator of a process by name."""
        return next(o for o in self.cells if o.process.name == name)

    def waves(self, n_steps: int) -> Waves:
        """The waves of routing over a period."""
        return self.reach.waves(n_steps)


def _on_device(values: np.ndarray) -> Array:
    return to_device(values.astype(np.int32))
