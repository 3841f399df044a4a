"""The operators of `operators` on a CUDA device: same methods, same meaning, same scalar steps.

Arrays live on the device: anything with `__cuda_array_interface__` goes in without a copy (torch tensors, numba
device arrays), and what `empty` allocates comes out. Under numba's simulator (NUMBA_ENABLE_CUDASIM=1) they are
numpy arrays, and float64 results have the bits of the CPU.

What is kept between forward and adjoint, above the arrays handed in and out: runoff and snow as on the CPU; per
reach-day the lateral inflow, and 1 + tile numbers per reach and block of waves that it is active in. The adjoint
works in 5 x 64 numbers per cell, and in a tape of 2 x tile numbers per wave of one block and reach active in it.
With blocks of about sqrt(T / 2) waves both grow with the root of the T tiles of the period.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.waves import Waves, first_of, level_reaches, place_links, place_reaches
from bmi_cdlm.kernels.device.launch import Launcher, as_device_array, default_stream, empty_device_array, to_device
from bmi_cdlm.kernels.device.routing import (
    Chain,
    Places,
    clear,
    fill_coefficients_reaches,
    fill_coefficients_reaches_adjoint,
    give_reaches,
    keep_wave,
    restore_wave,
    retrace_wave,
    reverse_wave,
    route_wave,
    sum_links,
    take_places,
)
from bmi_cdlm.kernels.device.runoff import (
    Rings,
    fill_ordinates_cells,
    fill_ordinates_cells_adjoint,
    runoff_cells,
    runoff_cells_adjoint,
)
from bmi_cdlm.kernels.device.snow import melt_cells, melt_cells_adjoint
from bmi_cdlm.kernels.groups import (
    ReachParameters,
    RunoffParameters,
    RunoffState,
    SnowParameters,
    SnowState,
)
from bmi_cdlm.model.operators import BLOCK_STEPS, HYDROGRAPH_EXPONENT, sort_by_cell, step_constants

Array = Any
"""Anything on the device."""


class SnowRecord(NamedTuple):
    """What the adjoint of snow needs; starts: SnowState of float[block, cell]."""

    precipitation: Array
    air_temperature: Array
    parameters: SnowParameters
    hysteresis: bool
    starts: SnowState


class RunoffRecord(NamedTuple):
    """What the adjoint of runoff needs; starts: RunoffState of float[block, (place,) cell]."""

    liquid: Array
    demand: Array
    parameters: RunoffParameters
    starts: RunoffState


class RouteRecord(NamedTuple):
    """What the adjoint of routing needs; start: float[place]; kept: one array per block of waves."""

    lateral_inflow: Array
    chain: Chain
    places: Places
    start: Array
    kept: list[Array]


class CudaOperators:
    """Snow, runoff and routing of a domain on a CUDA device, forward and adjoint.

    Parameters
    ----------
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
    """

    on_device = True

    def __init__(
        self, domain: Domain, step: int, routing_step: int, dtype: type[np.floating] = np.float64, *,
        stream: Callable[[], Any] = default_stream, tile: int | None = None,
        empty: Callable[[tuple[int, ...], Any], Array] = empty_device_array, block: int | None = None,
        threads: int = 128,
    ) -> None:
        self.domain, self.step, self.routing_step, self.dtype = domain, step, routing_step, dtype
        self.n_sub = step // routing_step
        self.tile = self.n_sub if tile is None else tile
        self.launcher = Launcher(dtype, stream, threads)
        self.constants = step_constants(step, dtype)
        self.exponent = dtype(HYDROGRAPH_EXPONENT[step])
        self._allocate, self.block = empty, block
        self._levels = level_reaches(domain.reaches.downstream)
        self._placement = place_reaches(self._levels, domain.reaches.downstream)
        self._reach = to_device(self._levels.reach)
        nothing = np.zeros(0, np.int64)
        self._network = Places(*map(_on_device, (*self._placement[1:], nothing, nothing)))
        self._outputs: dict[bytes, Places] = {}
        first, order = place_links(self._levels, domain.links.first)
        self._links = _links_on_device(first, domain.links.cell[order], domain.links.area[order].astype(dtype))
        first, reach, area = sort_by_cell(domain, dtype)
        self._links_by_cell = _links_on_device(first, self._placement.place[reach], area)

    # ---- snow --------------------------------------------------------------------------------------------

    def melt(
        self, precipitation: Array, air_temperature: Array, p: SnowParameters, state: SnowState, hysteresis: bool
    ) -> tuple[Array, SnowRecord]:
        """Rain plus melt [mm d-1], [time, cell]; `state` is advanced in place."""
        n_steps, n = precipitation.shape
        liquid = self._empty(n_steps, n)
        starts = SnowState(*(self._empty(_n_blocks(n_steps), n) for _ in SnowState._fields))
        self.launcher.over(
            n, melt_cells, _view(precipitation), _view(air_temperature), _views(p), _views(state), _views(starts),
            self.constants, hysteresis, BLOCK_STEPS, _view(liquid),
        )
        return liquid, SnowRecord(precipitation, air_temperature, p, hysteresis, starts)

    def melt_adjoint(
        self, record: SnowRecord, liquid_adj: Array, state_adj: SnowState
    ) -> tuple[Array, Array, SnowParameters]:
        """Adjoints of precipitation, temperature and parameters; `state_adj` goes from the end to the start."""
        n_steps, n = liquid_adj.shape
        P_adj, T_adj, tape = self._empty(n_steps, n), self._empty(n_steps, n), self._empty(4, BLOCK_STEPS, n)
        p_adj = SnowParameters(*(self._allocate((n,), np.float64) for _ in SnowParameters._fields))
        self.launcher.over(
            n, melt_cells_adjoint, _view(record.precipitation), _view(record.air_temperature),
            _views(record.parameters), _views(record.starts), self.constants, record.hysteresis, BLOCK_STEPS,
            _view(tape), _view(liquid_adj), _views(state_adj), _views(p_adj), _view(P_adj), _view(T_adj),
        )
        return P_adj, T_adj, p_adj

    # ---- runoff ------------------------------------------------------------------------------------------

    def ordinates(self, x4: Array, n_places: tuple[int, int]) -> tuple[Array, Array]:
        """Ordinates of the unit hydrographs, [k, cell], for X4 [steps]."""
        o1, o2 = (self._empty(n, x4.shape[0]) for n in n_places)
        self.launcher.over(x4.shape[0], fill_ordinates_cells, _view(x4), self.exponent, _view(o1), _view(o2))
        return o1, o2

    def ordinates_adjoint(self, x4: Array, o1_adj: Array, o2_adj: Array) -> Array:
        """Adjoint of X4."""
        x4_adj = self._empty(x4.shape[0])
        self.launcher.over(
            x4.shape[0], fill_ordinates_cells_adjoint, _view(x4), self.exponent, _view(o1_adj), _view(o2_adj),
            _view(x4_adj),
        )
        return x4_adj

    def generate_runoff(
        self, liquid: Array, demand: Array, p: RunoffParameters, state: RunoffState
    ) -> tuple[Array, RunoffRecord]:
        """Runoff [mm d-1], [time, cell]; `state` is advanced in place, no production store in it above its X1."""
        n_steps, n = liquid.shape
        runoff, n_blocks = self._empty(n_steps, n), _n_blocks(n_steps)
        starts = RunoffState(*(self._empty(n_blocks, *a.shape) for a in state))
        self.launcher.over(
            n, runoff_cells, _view(liquid), _view(demand), _views(p), _views(state), _views(starts),
            self._rings(state), self.constants, BLOCK_STEPS, _view(runoff),
        )
        return runoff, RunoffRecord(liquid, demand, p, starts)

    def generate_runoff_adjoint(
        self, record: RunoffRecord, runoff_adj: Array, state_adj: RunoffState
    ) -> tuple[Array, RunoffParameters]:
        """Adjoints of liquid water and parameters; `state_adj` goes from the end to the start.

        The adjoint of demand is that of liquid water negated: only what is between them counts.
        """
        n_steps, n = runoff_adj.shape
        liquid_adj = self._empty(n_steps, n)
        p_adj = RunoffParameters(*(self._allocate(tuple(a.shape), np.float64) for a in record.parameters))
        self.launcher.over(
            n, runoff_cells_adjoint, _view(record.liquid), _view(record.demand), _views(record.parameters),
            _views(record.starts), self._rings(state_adj), self.constants, BLOCK_STEPS,
            _view(self._empty(5, BLOCK_STEPS, n)), self._rings(state_adj), self._rings(state_adj), _view(runoff_adj),
            _views(state_adj), _views(p_adj), _view(liquid_adj),
        )
        return liquid_adj, p_adj

    # ---- routing -----------------------------------------------------------------------------------------

    def coefficients(self, travel_time: Array, weighting: Array) -> ReachParameters:
        """Muskingum coefficients for K [s] and x."""
        n = travel_time.shape[0]
        p = ReachParameters(*(self._empty(n) for _ in ReachParameters._fields))
        self.launcher.over(
            n, fill_coefficients_reaches, _view(travel_time), _view(weighting), self.dtype(self.routing_step),
            _views(p),
        )
        return p

    def coefficients_adjoint(self, travel_time: Array, weighting: Array, p_adj: ReachParameters) -> tuple[Array, Array]:
        """Adjoints of K and x."""
        n = travel_time.shape[0]
        K_adj, x_adj = self._empty(n), self._empty(n)
        self.launcher.over(
            n, fill_coefficients_reaches_adjoint, _view(travel_time), _view(weighting), self.dtype(self.routing_step),
            _views(p_adj), _view(K_adj), _view(x_adj),
        )
        return K_adj, x_adj

    def route(
        self, runoff: Array, p: ReachParameters, y: Array, reaches: np.ndarray
    ) -> tuple[Array, RouteRecord]:
        """Discharge [m3 s-1] of some reaches (a numpy array), [time, len(reaches)]; `y` is advanced in place."""
        n_steps, n = runoff.shape[0], self.domain.n_reaches
        lateral_inflow, discharge = self._empty(n_steps, n), self._empty(n_steps, reaches.size)
        self.launcher.over_times(n, n_steps, sum_links, *self._links, _view(runoff), _view(lateral_inflow), False)
        places = self._with_outputs(reaches)
        chain = Chain(*(self._take(a) for a in (p.direct, p.gain, p.keep)))
        start, now, step_total = self._take(y), _view(self._empty(n)), _view(self._empty(n))
        sent, kept = _view(self._empty(2, self.tile, n)), []
        waves = self.waves(n_steps)
        for block in self._blocks(waves):
            kept.append(self._keep(waves, block.start, now, sent))
            for wave in block:
                lo, hi = waves.active(wave)
                self.launcher.over(
                    hi - lo, route_wave, wave, lo, hi, places, chain, start, now, _view(lateral_inflow), sent,
                    step_total, self.n_sub, _view(discharge),
                )
        self.launcher.over(n, give_reaches, self._reach, now, _view(y))
        return discharge, RouteRecord(lateral_inflow, chain, places, start, kept)

    def route_adjoint(self, record: RouteRecord, discharge_adj: Array, y_adj: Array) -> tuple[Array, ReachParameters]:
        """Adjoints of runoff [time, cell] and of the coefficients; `y_adj` goes from the end to the start."""
        n_steps, n = discharge_adj.shape[0], self.domain.n_reaches
        lateral_adj, runoff_adj = _view(self._empty(n_steps, n)), self._empty(n_steps, self.domain.n_cells)
        y, now, step_total = self._take(y_adj), _view(self._empty(n)), _view(self._empty(n))
        chain_adj = Chain(*(_view(self._allocate((n,), np.float64)) for _ in Chain._fields))
        sent, sent_adj = _view(self._empty(2, self.tile, n)), _view(self._empty(2, self.tile, n))
        waves = self.waves(n_steps)
        blocks = self._blocks(waves)
        width = max(hi - lo for lo, hi in map(waves.within, blocks))
        tape = _view(self._empty(2, len(blocks[0]), self.tile, width))
        for block, kept in zip(reversed(blocks), reversed(record.kept), strict=True):
            self._retrace(record, waves, block, kept, now, sent, tape)
            for wave in reversed(block):
                lo, hi = waves.active(wave)
                self.launcher.over(
                    hi - lo, reverse_wave, wave, lo, hi, block.start, waves.within(block)[0], record.places,
                    record.chain, tape, _view(discharge_adj), y, sent_adj, step_total, self.n_sub, chain_adj,
                    lateral_adj,
                )
        self.launcher.over(n, give_reaches, self._reach, y, _view(y_adj))
        self.launcher.over_times(
            self.domain.n_cells, n_steps, sum_links, *self._links_by_cell, lateral_adj, _view(runoff_adj), True
        )
        p_adj = ReachParameters(*(self._allocate((n,), np.float64) for _ in ReachParameters._fields))
        for placed, total in zip(chain_adj, p_adj, strict=False):
            self.launcher.over(n, give_reaches, self._reach, placed, _view(total))
        self.launcher.over(n, clear, _view(p_adj.storage_time))
        return runoff_adj, p_adj

    def _retrace(
        self, record: RouteRecord, waves: Waves, block: range, kept: Array, now: Array, sent: Array, tape: Array
    ) -> None:
        lo, hi = waves.crossing(block.start)
        self.launcher.over(hi - lo, restore_wave, (block.start + 1) % 2, lo, hi, now, sent, kept)
        for wave in block:
            lo, hi = waves.active(wave)
            self.launcher.over(
                hi - lo, retrace_wave, wave, lo, hi, block.start, waves.within(block)[0], record.places, record.chain,
                record.start, now, _view(record.lateral_inflow), sent, self.n_sub, tape,
            )

    def _keep(self, waves: Waves, wave: int, y: Array, sent: Array) -> Array:
        lo, hi = waves.crossing(wave)
        kept = _view(self._empty(1 + self.tile, hi - lo))
        self.launcher.over(hi - lo, keep_wave, (wave + 1) % 2, lo, hi, y, sent, kept)
        return kept

    # ---- waves and arrays --------------------------------------------------------------------------------

    def waves(self, n_steps: int) -> Waves:
        """The waves of a period; one launch each forward, two in the adjoint."""
        return Waves(self._levels, n_steps * self.n_sub, self.tile)

    def _blocks(self, waves: Waves) -> list[range]:
        """Blocks of waves: the longer, the less is kept between forward and adjoint and the longer the tape."""
        if self.block is not None:
            return waves.blocks(self.block)
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
        placed = _view(self._empty(self.domain.n_reaches))
        self.launcher.over(self.domain.n_reaches, take_places, self._reach, _view(values), placed)
        return placed

    def _rings(self, state: RunoffState) -> Rings:
        return Rings(*(_view(self._empty(*a.shape)) for a in (state.unit_hydrograph_1, state.unit_hydrograph_2)))

    def _empty(self, *shape: int) -> Array:
        return self._allocate(shape, self.dtype)


_view = as_device_array


def _views(group: Any) -> Any:
    return type(group)(*(_view(a) for a in group))


def _on_device(values: np.ndarray) -> Array:
    return to_device(values.astype(np.int32))


def _links_on_device(first: np.ndarray, other: np.ndarray, area: np.ndarray) -> tuple[Array, Array, Array]:
    return to_device(first), to_device(other), to_device(area)


def _n_blocks(n_steps: int) -> int:
    return -(-n_steps // BLOCK_STEPS)
