"""The only place that compiles: every kernel, for float64 or float32, from the same plain functions.

A function is compiled after its callees: the float literals in its code become the precision's own type, so
that float32 stays float32, and the names it calls become the compiled ones. With NUMBA_DISABLE_JIT=1 the plain
functions run as they are.
"""

from __future__ import annotations

import builtins
import heapq
import math
import threading
import types
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import config, njit
from numba.core.options import DefaultOptions

from bmi_cdlm.kernels import (
    cemaneige,
    elementary,
    gr4j,
    links,
    loops_routing,
    loops_routing_adjoint,
    loops_runoff,
    loops_runoff_adjoint,
    mlp,
    muskingum,
    pet,
    rows,
    topology,
    transcendental,
)
from bmi_cdlm.kernels.bits import COMPILED, INTERPRETED
from bmi_cdlm.kernels.cache import KernelCache
from bmi_cdlm.kernels.fused import compiled_fma, fma
from bmi_cdlm.kernels.groups import CellTotals, RunoffFluxes, RunoffTape, SnowParameters

TASKS_PER_THREAD = 2
WORTH_A_THREAD = 20_000
"""Cell-steps or reach-steps below which handing work to a thread costs more than it saves."""
SCALARS: tuple[Callable, ...] = (
    elementary.tanh_ratio,
    elementary.percolated_fraction,
    elementary.percolated_slope,
    elementary.store_outflow_fraction,
    transcendental.log_parts,
    transcendental.expm1_parts,
    transcendental.exp,
    transcendental.exp_adjoint,
    transcendental.log,
    transcendental.log_adjoint,
    transcendental.tanh,
    transcendental.tanh_adjoint,
    transcendental.power_and_log,
    transcendental.power,
    transcendental.power_adjoint,
    gr4j.production_step_inverse,
    gr4j.production_step,
    gr4j.queue_step,
    gr4j.routing_store_step_inverse,
    gr4j.routing_store_step,
    gr4j.s_curve_1,
    gr4j.s_curve_2,
    gr4j.production_step_inverse_adjoint,
    gr4j.production_step_adjoint,
    gr4j.queue_step_adjoint,
    loops_runoff.four_inflows,
    loops_runoff_adjoint.four_places,
    loops_runoff_adjoint.four_steps,
    gr4j.routing_store_step_inverse_adjoint,
    gr4j.routing_store_step_adjoint,
    gr4j.s_curve_1_adjoint,
    gr4j.s_curve_2_adjoint,
    cemaneige.solid_fraction,
    cemaneige.thermal_state_step,
    cemaneige.potential_melt,
    cemaneige.snow_step,
    cemaneige.cover_on_depletion,
    cemaneige.snow_hysteresis_step,
    cemaneige.solid_fraction_adjoint,
    cemaneige.thermal_state_step_adjoint,
    cemaneige.potential_melt_adjoint,
    cemaneige.cover_on_depletion_adjoint,
    cemaneige.snow_step_adjoint,
    cemaneige.snow_hysteresis_step_adjoint,
    links.link_flow,
    links.link_flow_adjoint,
    muskingum.muskingum_coefficients,
    muskingum.muskingum_step,
    muskingum.muskingum_variance,
    muskingum.muskingum_coefficients_adjoint,
    muskingum.muskingum_step_adjoint,
    mlp.limited_sigmoid,
    mlp.add_products,
    pet.limited,
    pet.sunset_angle,
    pet.daily_radiation,
    pet.hourly_radiation,
    pet.oudin_demand,
    pet.hargreaves_demand,
    pet.saturation_pressure,
    pet.net_radiation,
    pet.penman_demand,
)
ROWS: tuple[Callable, ...] = (
    rows.copy_row,
    rows.fill_row,
    rows.add_row,
    rows.inverse_row,
    rows.tile_rows,
    rows.in_fours,
    rows.tile_width,
    rows.take_columns,
    rows.give_columns,
    rows.add_columns,
    loops_runoff.production_row,
    loops_runoff.routing_store_row,
    loops_runoff.snow_tile,
    loops_runoff.snow_row,
    loops_runoff.snow_hysteresis_row,
    loops_runoff.ring_length,
    loops_runoff.advance_queue_one,
    loops_runoff.advance_queue_four,
    loops_runoff.advance_queue,
    loops_runoff.unroll_queue,
    loops_runoff.flux_rows,
    loops_runoff.advance_gr4j_tile,
    loops_runoff_adjoint.production_row_adjoint,
    loops_runoff_adjoint.routing_store_row_adjoint,
    loops_runoff_adjoint.sweep_queue,
    loops_runoff_adjoint.sum_ordinates,
    loops_runoff_adjoint.retrace_gr4j,
    loops_runoff_adjoint.reverse_gr4j_tile,
    loops_runoff_adjoint.retrace_snow,
    loops_runoff_adjoint.snow_row_adjoint,
    loops_runoff_adjoint.snow_hysteresis_row_adjoint,
    loops_routing.add_terms,
    loops_routing.collect_row,
    loops_routing.gather_upstream,
    loops_routing.keep_inflow,
    loops_routing.route_reach,
    loops_routing.route_two,
    loops_routing_adjoint.add_link,
    loops_routing_adjoint.hand_up,
    loops_routing_adjoint.receive,
    loops_routing_adjoint.sweep_reach,
    loops_routing_adjoint.sweep_two,
    loops_routing_adjoint.reverse_reach,
    loops_routing_adjoint.sum_sub_steps,
    mlp.saturate_row,
    mlp.first_layer_rows,
    mlp.later_layer_rows,
    mlp.last_layer_row,
    mlp.factor_row,
    mlp.correct_demand_tile,
    topology.place_family,
)
LOOPS: tuple[Callable, ...] = (
    loops_runoff.advance_snow,
    loops_runoff.advance_gr4j,
    loops_runoff.fill_ordinates,
    loops_runoff_adjoint.reverse_gr4j,
    loops_runoff_adjoint.fill_ordinates_adjoint,
    loops_runoff_adjoint.reverse_snow,
    loops_routing.collect_runoff,
    loops_routing.fill_coefficients,
    loops_routing.fill_variance,
    loops_routing.route,
    loops_routing.accumulate,
    loops_routing.steady_flow,
    loops_routing.assign_slots,
    loops_routing.compensated_sum,
    loops_routing_adjoint.spread_runoff,
    loops_routing_adjoint.reverse_route,
    loops_routing_adjoint.fill_coefficients_adjoint,
    mlp.correct_demand,
    pet.fill_oudin,
    pet.fill_hargreaves,
    pet.fill_penman_monteith,
    topology.sort_downstream,
    topology.add_downstream,
    topology.gather_children,
    topology.sort_siblings,
    topology.place_subtrees,
    topology.arrange_in_step,
)
SUMS: tuple[Callable, ...] = (loops_routing_adjoint.reverse_reach, loops_routing_adjoint.sum_sub_steps)
"""Rows that sum gradients: the order of their additions is free, so that they are taken in vectors."""
UNCOUNTED: tuple[Callable, ...] = (loops_routing.gather_upstream, loops_routing.route, mlp.correct_demand_tile)
"""Kernels that make views of arrays only: to count the references of a reach's rows takes 5 % of its routing, of
a layer's units 4 % of the network. The option `_nrt` is one that numba does not document."""


def retyped(function: Callable, dtype: type[np.floating], names: dict) -> types.FunctionType:
    """Return the function with its float literals in `dtype`, looking names up in `names`."""
    code = function.__code__
    constants = tuple(dtype(c) if type(c) is float else c for c in code.co_consts)
    return types.FunctionType(code.replace(co_consts=constants), names, function.__name__)


def options(function: Callable) -> dict[str, Any]:
    """Return what a row or a loop is compiled with; a numba that knows no `_nrt` counts."""
    uncounted = {"_nrt": False} if function in UNCOUNTED and hasattr(DefaultOptions, "_nrt") else {}
    return {
        "error_model": "numpy", "nogil": True, "fastmath": {"reassoc"} if function in SUMS else False, **uncounted,
    }


def kernels(dtype: type[np.floating] = np.float64) -> types.SimpleNamespace:
    """Return every scalar step, row and loop compiled for float64 or float32, by its name: one set per process.

    Compilation happens at the first call of a loop, and is kept on disk from process to process.
    """
    # Not cached itself: `kernels()` and `kernels(np.float64)` would be two entries.
    return compile_kernels(dtype)  # type: ignore[arg-type]


@lru_cache(maxsize=2)
def compile_kernels(dtype: type[np.floating]) -> types.SimpleNamespace:
    """Make the kernels of a precision, callees before callers."""
    interpreted = getattr(config, "DISABLE_JIT", False)
    names: dict = {
        "__name__": __name__, "__builtins__": builtins, "math": math, "np": np, "real": dtype,
        "fma": fma if interpreted else compiled_fma, **(INTERPRETED if interpreted else COMPILED),
        **{group.__name__: group for group in (CellTotals, RunoffFluxes, RunoffTape, SnowParameters)},
    }
    for function in SCALARS:
        names[function.__name__] = njit(forceinline=True, error_model="numpy", nogil=True)(
            retyped(function, dtype, names)
        )
    for function in ROWS:
        names[function.__name__] = njit(**options(function))(retyped(function, dtype, names))
    for function in LOOPS:
        compiled = njit(**options(function))(retyped(function, dtype, names))
        if hasattr(compiled, "_cache"):
            compiled._cache = KernelCache(function.__name__, np.dtype(dtype).name)
        names[function.__name__] = compiled
    return types.SimpleNamespace(**{f.__name__: names[f.__name__] for f in (*SCALARS, *ROWS, *LOOPS)})


class Task(NamedTuple):
    """A range to call a kernel with, and which earlier tasks of the list it needs."""

    part: tuple[int, ...]
    needs: tuple[int, ...]


class Workers:
    """Our own threads for kernels without the interpreter lock: nothing starts before it is needed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    def tasks(self, n: int) -> list[tuple[int, int]]:
        """Cut 0..n into ranges: one for one thread, else a few per thread, shared by whoever is free."""
        size = n if self.threads == 1 else max(1, -(-n // (TASKS_PER_THREAD * self.threads)))
        return [(lo, min(lo + size, n)) for lo in range(0, n, size)]

    def run(self, function: Callable, arguments: tuple, ranges: Sequence[tuple[int, ...]], work: int) -> None:
        """Call function(*arguments, *range) for every range; in any order when there are several threads.

        work: cell-steps or reach-steps in all; a small job is not worth a thread.
        """
        if self.threads == 1 or len(ranges) == 1 or work < WORTH_A_THREAD:
            for part in ranges:
                function(*arguments, *part)
            return
        for future in [self._started().submit(function, *arguments, *part) for part in ranges]:
            future.result()

    def run_tasks(self, function: Callable, arguments: tuple, tasks: Sequence[Task], work: int) -> None:
        """Call function(*arguments, *part) for every task, each after those that it needs.

        A thread that is free takes the first task of the list that waits for nothing; nobody waits for the others.
        """
        if self.threads == 1 or len(tasks) == 1 or work < WORTH_A_THREAD:
            for part, _ in tasks:
                function(*arguments, *part)
            return
        queue = Queue(tasks)
        for future in [self._started().submit(queue.work_off, function, arguments) for _ in range(self.threads)]:
            future.result()

    def _started(self) -> ThreadPoolExecutor:
        with self._starting:  # kernels and the preparation of the next block's inputs may come at once
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="cdlm")
            return self._pool

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


class Queue:
    """Tasks on their way through several threads."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._left = len(tasks)
        self._missing = [len(task.needs) for task in tasks]
        self._ready = [k for k, task in enumerate(tasks) if not task.needs]
        self._waiting: list[list[int]] = [[] for _ in tasks]
        for k, task in enumerate(tasks):
            for needed in task.needs:
                self._waiting[needed].append(k)
        self._changed = threading.Condition()

    def work_off(self, function: Callable, arguments: tuple) -> None:
        """Call function(*arguments, *part) for tasks as they get ready, until none is left."""
        while (task := self._take()) is not None:
            try:
                function(*arguments, *self._tasks[task].part)
            except BaseException:
                self._give_up()
                raise
            self._end(task)

    def _take(self) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._left <= 0)
            return heapq.heappop(self._ready) if self._left > 0 else None

    def _end(self, task: int) -> None:
        with self._changed:
            self._left -= 1
            for k in self._waiting[task]:
                self._missing[k] -= 1
                if not self._missing[k]:
                    heapq.heappush(self._ready, k)
            self._changed.notify_all()

    def _give_up(self) -> None:
        with self._changed:
            self._left = 0
            self._changed.notify_all()
