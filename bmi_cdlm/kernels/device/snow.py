"""Snow on a CUDA device: one thread per cell, the time loop inside; mirrors `loops.runoff`.

The adjoint recomputes blocks of steps from the states at their starts, as in `device.runoff`.
"""

from __future__ import annotations

import numpy as np
from numba import cuda
from numpy import float64 as real  # the factory puts the compiled precision in its place

from bmi_cdlm.processes.cemaneige import (
    snow_hysteresis_step,
    snow_hysteresis_step_adjoint,
    snow_step,
    snow_step_adjoint,
)


def snow_cell(G, eTG, peak, cover, P, T, ctg, kf, accumulation, threshold, step, hysteresis):
    """One step of snow, P and the returned water in mm d-1. Returns G, eTG, peak, cover, rain plus melt."""
    if hysteresis:
        G, eTG, peak, cover, water, _snowfall, _melt = snow_hysteresis_step(
            G, eTG, peak, cover, P * step.days, T, ctg, kf, accumulation, threshold
        )
    else:
        G, eTG, water, _snowfall, _melt = snow_step(G, eTG, P * step.days, T, ctg, kf, threshold)
    return G, eTG, peak, cover, water * step.per_day


def melt_cells(precipitation, air_temperature, p, state, starts, step, hysteresis, block, liquid):
    """Snow of every cell over all steps; `state` in place.

    starts: SnowState of float[block, cell], filled with the state before every `block` steps.
    """
    i = cuda.grid(1)
    if i >= liquid.shape[1]:
        return
    ctg, kf = p.thermal_weighting[i], p.melt_factor[i]
    accumulation, threshold = p.accumulation_threshold[i], p.full_cover[i]
    G, eTG, peak, cover = state.snowpack[i], state.thermal_state[i], state.snow_peak[i], state.snow_cover[i]
    for t in range(liquid.shape[0]):
        if t % block == 0:
            b = t // block
            starts.snowpack[b, i] = G
            starts.thermal_state[b, i] = eTG
            starts.snow_peak[b, i] = peak
            starts.snow_cover[b, i] = cover
        G, eTG, peak, cover, water = snow_cell(
            G, eTG, peak, cover, precipitation[t, i], air_temperature[t, i], ctg, kf, accumulation, threshold, step,
            hysteresis,
        )
        liquid[t, i] = water
    state.snowpack[i] = G
    state.thermal_state[i] = eTG
    state.snow_peak[i] = peak
    state.snow_cover[i] = cover


def retrace_melt_cell(precipitation, air_temperature, p, starts, step, hysteresis, block, b, tape, i):
    """Run block b of a cell again; the tape, float[4, block, cell], keeps the state before each step."""
    ctg, kf = p.thermal_weighting[i], p.melt_factor[i]
    accumulation, threshold = p.accumulation_threshold[i], p.full_cover[i]
    G, eTG = starts.snowpack[b, i], starts.thermal_state[b, i]
    peak, cover = starts.snow_peak[b, i], starts.snow_cover[b, i]
    for t in range(b * block, min((b + 1) * block, precipitation.shape[0])):
        k = t - b * block
        tape[0, k, i] = G
        tape[1, k, i] = eTG
        tape[2, k, i] = peak
        tape[3, k, i] = cover
        G, eTG, peak, cover, _water = snow_cell(
            G, eTG, peak, cover, precipitation[t, i], air_temperature[t, i], ctg, kf, accumulation, threshold, step,
            hysteresis,
        )


def melt_cells_adjoint(
    precipitation, air_temperature, p, starts, step, hysteresis, block, tape, liquid_adj, state_adj, p_adj, P_adj, T_adj
):
    """Adjoint of `melt_cells` in rain plus melt.

    state_adj: at the end of the period, becomes that at its start; p_adj: SnowParameters of float64[cell], set,
    summed over the steps of a block in the kernel's precision and over blocks in float64.
    """
    i = cuda.grid(1)
    if i >= liquid_adj.shape[1]:
        return
    ctg, kf = p.thermal_weighting[i], p.melt_factor[i]
    accumulation, threshold = p.accumulation_threshold[i], p.full_cover[i]
    g, e = state_adj.snowpack[i], state_adj.thermal_state[i]
    top, ratio = state_adj.snow_peak[i], state_adj.snow_cover[i]
    ctg_total, kf_total = np.float64(0), np.float64(0)
    accumulation_total, threshold_total = np.float64(0), np.float64(0)
    n_steps = liquid_adj.shape[0]
    for b in range((n_steps - 1) // block, -1, -1):
        retrace_melt_cell(precipitation, air_temperature, p, starts, step, hysteresis, block, b, tape, i)
        ctg_sum, kf_sum, accumulation_sum, threshold_sum = real(0), real(0), real(0), real(0)
        for t in range(min((b + 1) * block, n_steps) - 1, b * block - 1, -1):
            k = t - b * block
            P, T, water_adj = precipitation[t, i] * step.days, air_temperature[t, i], liquid_adj[t, i] * step.per_day
            if hysteresis:
                g, e, top, ratio, rain_adj, heat_adj, d_ctg, d_kf, d_accumulation, d_threshold = (
                    snow_hysteresis_step_adjoint(
                        tape[0, k, i], tape[1, k, i], tape[2, k, i], tape[3, k, i], P, T, ctg, kf, accumulation,
                        threshold, g, e, top, ratio, water_adj,
                    )
                )
                accumulation_sum += d_accumulation
                threshold_sum += d_threshold
            else:
                g, e, rain_adj, heat_adj, d_ctg, d_kf = snow_step_adjoint(
                    tape[0, k, i], tape[1, k, i], P, T, ctg, kf, threshold, g, e, water_adj
                )
            ctg_sum += d_ctg
            kf_sum += d_kf
            P_adj[t, i] = rain_adj * step.days
            T_adj[t, i] = heat_adj
        ctg_total += ctg_sum
        kf_total += kf_sum
        accumulation_total += accumulation_sum
        threshold_total += threshold_sum
    state_adj.snowpack[i] = g
    state_adj.thermal_state[i] = e
    state_adj.snow_peak[i] = top
    state_adj.snow_cover[i] = ratio
    p_adj.thermal_weighting[i] = ctg_total
    p_adj.melt_factor[i] = kf_total
    p_adj.accumulation_threshold[i] = accumulation_total
    p_adj.full_cover[i] = threshold_total
