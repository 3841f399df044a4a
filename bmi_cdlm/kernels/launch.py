"""The only place that compiles: every kernel, for float64 or float32, from the same plain functions.

A function is compiled after its callees: the float literals in its code become the precision's own type, so
that float32 stays float32, and the names it calls become the compiled ones. With NUMBA_DISABLE_JIT=1 the plain
functions run as they are.
"""

from __future__ import annotations

import builtins
import math
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import config, njit
from numba.core.options import DefaultOptions

from bmi_cdlm.kernels import elementary
from bmi_cdlm.kernels.cache import KernelCache
from bmi_cdlm.kernels.fused import compiled_fma, fma
from bmi_cdlm.kernels.groups import CellTotals, RunoffFluxes, RunoffTape, SnowParameters
from bmi_cdlm.kernels.loops import routing as loops_routing
from bmi_cdlm.kernels.loops import routing_adjoint as loops_routing_adjoint
from bmi_cdlm.kernels.loops import rows, topology
from bmi_cdlm.kernels.loops import runoff as loops_runoff
from bmi_cdlm.kernels.loops import runoff_adjoint as loops_runoff_adjoint
from bmi_cdlm.processes import cemaneige, gr4j, links, muskingum, pet
from bmi_cdlm.processes import pet_network as mlp

SCALARS: tuple[Callable, ...] = (
    elementary.tanh_ratio,
    elementary.percolated_fraction,
    elementary.percolated_slope,
    elementary.store_outflow_fraction,
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
    names: dict = {
        "__name__": __name__, "__builtins__": builtins, "math": math, "np": np, "real": dtype,
        "fma": fma if getattr(config, "DISABLE_JIT", False) else compiled_fma,
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


