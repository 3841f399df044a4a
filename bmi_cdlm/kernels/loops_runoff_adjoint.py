"""Adjoint loops over cells, mirroring `loops_runoff`.

A block is recomputed tile by tile from the state at its start, with a tape of five rows per step that stays in
cache, then swept backwards. What is kept between forward and backward is the states at block starts only:
(2 + n1 + n2) numbers per cell and block, where n1 and n2 are the lengths of the unit hydrographs.
"""

from __future__ import annotations

import numpy as np

from bmi_cdlm.kernels.cemaneige import snow_hysteresis_step_adjoint, snow_step_adjoint
from bmi_cdlm.kernels.gr4j import (
    production_step_inverse_adjoint,
    queue_step_adjoint,
    routing_store_step_inverse_adjoint,
    s_curve_1_adjoint,
    s_curve_2_adjoint,
)
from bmi_cdlm.kernels.loops_runoff import (
    advance_queue,
    inverse_row,
    production_row,
    real,
    routing_store_row,
    snow_hysteresis_row,
    snow_row,
    snow_tile,
    take_rows,
    tile_rows,
)


def production_row_adjoint(S, P, E, x1, inverse, step, S_adj, Pr_adj, P_adj, E_adj, x1_adj):
    """Adjoint of `production_row`: S_adj in place, P_adj and E_adj set, x1_adj added to."""
    for i in range(S.size):
        s, p, e, x = production_step_inverse_adjoint(
            S[i], P[i] * step.days, E[i] * step.days, x1[i], inverse[i], step.percolation_scale, S_adj[i], Pr_adj[i]
        )
        S_adj[i] = s
        P_adj[i] = p * step.days
        E_adj[i] = e * step.days
        x1_adj[i] += x


def routing_store_row_adjoint(R, Q9, Q1, x2, inverse, step, runoff_adj, R_adj, Q9_adj, Q1_adj, x2_adj, x3_adj):
    """Adjoint of `routing_store_row`: R_adj in place, Q9_adj and Q1_adj set, x2_adj and x3_adj added to."""
    for i in range(R.size):
        r, q9, q1, a, b = routing_store_step_inverse_adjoint(
            R[i], Q9[i], Q1[i], x2[i], inverse[i], R_adj[i], runoff_adj[i] * step.per_day
        )
        R_adj[i] = r
        Q9_adj[i] = q9
        Q1_adj[i] = q1
        x2_adj[i] += a
        x3_adj[i] += b


def sweep_queue(ring_adj, head, ordinates, Pr, share, Pr_adj, ordinates_adj):
    """Adjoint of `advance_queue`, when the row at `head` holds the adjoint of the outflow.

    Pr_adj and ordinates_adj are added to. The loop over cells is here for the same reason as there.
    """
    n = ring_adj.shape[0]
    for k in range(n):
        place = head + k
        place = place if place < n else place - n
        for i in range(Pr.size):
            ordinate_adj, inflow_adj = queue_step_adjoint(ordinates[k, i], share * Pr[i], ring_adj[place, i])
            ordinates_adj[k, i] += ordinate_adj
            Pr_adj[i] += share * inflow_adj


def roll_queue(queue_adj, head, ring_adj, lo, hi):
    """Adjoint of `unroll_queue`: a tile's ring from its queue; the place that has left counts for nothing."""
    n = ring_adj.shape[0]
    for k in range(n - 1):
        place = head + k
        ring_adj[place if place < n else place - n, : hi - lo] = queue_adj[k, lo:hi]


def retrace_gr4j(liquid, demand, x1, inverse_1, x2, inverse_3, o1, o2, start, step, tape, lo, hi):
    """Run a tile forward from the block's start; the tape keeps S, R, Pr, Q9 and Q1 before each step uses them."""
    n = hi - lo
    rows = tile_rows(3, n, x1)
    S, R, waste = rows[0, :n], rows[1, :n], rows[2, :n]
    S[:] = start.production_store[lo:hi]
    R[:] = start.routing_store[lo:hi]
    ring_1, ring_2 = take_rows(start.unit_hydrograph_1, lo, hi), take_rows(start.unit_hydrograph_2, lo, hi)
    head_1, head_2 = 0, 0
    for t in range(liquid.shape[0]):
        P, Pr, Q9, Q1 = liquid[t, lo:hi], tape[2, t, :n], tape[3, t, :n], tape[4, t, :n]
        tape[0, t, :n] = S
        tape[1, t, :n] = R
        production_row(S, P, demand[t, lo:hi], P, x1, inverse_1, step, Pr, None, None)
        advance_queue(ring_1, head_1, o1, Pr, 0.9)
        advance_queue(ring_2, head_2, o2, Pr, 0.1)
        Q9[:] = ring_1[head_1, :n]
        Q1[:] = ring_2[head_2, :n]
        routing_store_row(R, Q9, Q1, x2, inverse_3, step, waste, None, None)
        head_1 = head_1 + 1 if head_1 + 1 < ring_1.shape[0] else 0
        head_2 = head_2 + 1 if head_2 + 1 < ring_2.shape[0] else 0


def reverse_gr4j(liquid, demand, p, start, step, runoff_adj, state_adj, p_adj, liquid_adj, demand_adj, lo, hi):
    """Adjoint of `advance_gr4j` in the runoff, for one block of steps and the cells lo to hi.

    start: state at the block's start; runoff_adj: float[time, cell], derivative by the runoff [mm d-1]; state_adj:
    adjoint of the state at the block's end, becomes that at its start; p_adj: parameters, added to; liquid_adj,
    demand_adj: float[time, cell], filled.
    """
    for first in range(lo, hi, 512):
        last = first + 512 if first + 512 < hi else hi
        reverse_gr4j_tile(
            liquid, demand, p, start, step, runoff_adj, state_adj, p_adj, liquid_adj, demand_adj, first, last
        )


def reverse_gr4j_tile(liquid, demand, p, start, step, runoff_adj, state_adj, p_adj, liquid_adj, demand_adj, lo, hi):
    """Adjoint of `advance_gr4j_tile`."""
    n_steps, n = liquid.shape[0], hi - lo
    n1, n2 = p.ordinates_1.shape[0], p.ordinates_2.shape[0]
    rows = tile_rows(10, n, p.production_capacity)
    x1, x2, inverse_1, inverse_3 = rows[0, :n], rows[1, :n], rows[2, :n], rows[3, :n]
    S_adj, R_adj, Pr_adj, x1_adj, x2_adj, x3_adj = (
        rows[4, :n], rows[5, :n], rows[6, :n], rows[7, :n], rows[8, :n], rows[9, :n]
    )
    x1[:] = p.production_capacity[lo:hi]
    x2[:] = p.exchange_coefficient[lo:hi]
    inverse_row(x1, inverse_1)
    inverse_row(p.routing_capacity[lo:hi], inverse_3)
    o1, o2 = take_rows(p.ordinates_1, lo, hi), take_rows(p.ordinates_2, lo, hi)
    tape = tile_rows(5 * n_steps, n, x1).reshape(5, n_steps, rows.shape[1])
    retrace_gr4j(liquid, demand, x1, inverse_1, x2, inverse_3, o1, o2, start, step, tape, lo, hi)

    S_adj[:] = state_adj.production_store[lo:hi]
    R_adj[:] = state_adj.routing_store[lo:hi]
    ring_1, ring_2 = tile_rows(n1, n, x1), tile_rows(n2, n, x1)
    roll_queue(state_adj.unit_hydrograph_1, n_steps % n1, ring_1, lo, hi)
    roll_queue(state_adj.unit_hydrograph_2, n_steps % n2, ring_2, lo, hi)
    o1_adj, o2_adj = tile_rows(n1, n, x1), tile_rows(n2, n, x1)
    for t in range(n_steps - 1, -1, -1):
        head_1, head_2 = t % n1, t % n2
        routing_store_row_adjoint(
            tape[1, t, :n], tape[3, t, :n], tape[4, t, :n], x2, inverse_3, step, runoff_adj[t, lo:hi], R_adj,
            ring_1[head_1, :n], ring_2[head_2, :n], x2_adj, x3_adj,
        )
        Pr_adj[:] = 0.0
        sweep_queue(ring_2, head_2, o2, tape[2, t, :n], 0.1, Pr_adj, o2_adj)
        sweep_queue(ring_1, head_1, o1, tape[2, t, :n], 0.9, Pr_adj, o1_adj)
        production_row_adjoint(
            tape[0, t, :n], liquid[t, lo:hi], demand[t, lo:hi], x1, inverse_1, step, S_adj, Pr_adj,
            liquid_adj[t, lo:hi], demand_adj[t, lo:hi], x1_adj,
        )
    state_adj.production_store[lo:hi] = S_adj
    state_adj.routing_store[lo:hi] = R_adj
    ring_1[n1 - 1] = 0.0
    ring_2[n2 - 1] = 0.0
    state_adj.unit_hydrograph_1[:, lo:hi] = ring_1[:, :n]
    state_adj.unit_hydrograph_2[:, lo:hi] = ring_2[:, :n]
    p_adj.production_capacity[lo:hi] += x1_adj
    p_adj.exchange_coefficient[lo:hi] += x2_adj
    p_adj.routing_capacity[lo:hi] += x3_adj
    p_adj.ordinates_1[:, lo:hi] += o1_adj[:, :n]
    p_adj.ordinates_2[:, lo:hi] += o2_adj[:, :n]


def fill_ordinates_adjoint(x4, exponent, ordinates_1_adj, ordinates_2_adj, x4_adj):
    """Adjoint of `fill_ordinates`: x4_adj is added to."""
    for i in range(x4.size):
        for k in range(ordinates_1_adj.shape[0]):
            above = ordinates_1_adj[k + 1, i] if k + 1 < ordinates_1_adj.shape[0] else 0.0
            x4_adj[i] += s_curve_1_adjoint(real(k + 1), x4[i], exponent, ordinates_1_adj[k, i] - above)
        for k in range(ordinates_2_adj.shape[0]):
            above = ordinates_2_adj[k + 1, i] if k + 1 < ordinates_2_adj.shape[0] else 0.0
            x4_adj[i] += s_curve_2_adjoint(real(k + 1), x4[i], exponent, ordinates_2_adj[k, i] - above)


def reverse_snow(
    precipitation, air_temperature, p, start, step, hysteresis, liquid_adj, state_adj, p_adj, P_adj, T_adj, lo, hi
):
    """Adjoint of `advance_snow` in rain plus melt, for one block of steps and the cells lo to hi.

    Arguments as in `reverse_gr4j`; P_adj, T_adj: float[time, cell], filled.
    """
    for first in range(lo, hi, 256):
        last = first + 256 if first + 256 < hi else hi
        n = last - first
        tape = tile_rows(4 * precipitation.shape[0], n, precipitation)
        tape = tape.reshape(4, precipitation.shape[0], tape.shape[1])
        retrace_snow(precipitation, air_temperature, p, start, step, hysteresis, tape, first, last)
        own, own_adj = snow_tile(p, first, last), snow_tile(p_adj, first, last)
        G_adj, eTG_adj = state_adj.snowpack[first:last], state_adj.thermal_state[first:last]
        peak_adj, cover_adj = state_adj.snow_peak[first:last], state_adj.snow_cover[first:last]
        for t in range(precipitation.shape[0] - 1, -1, -1):
            G, eTG, peak, cover = tape[0, t, :n], tape[1, t, :n], tape[2, t, :n], tape[3, t, :n]
            P, T, water_adj = precipitation[t, first:last], air_temperature[t, first:last], liquid_adj[t, first:last]
            if hysteresis:
                snow_hysteresis_row_adjoint(
                    G, eTG, peak, cover, P, T, own, step, water_adj, G_adj, eTG_adj, peak_adj, cover_adj,
                    P_adj[t, first:last], T_adj[t, first:last], own_adj,
                )
            else:
                snow_row_adjoint(
                    G, eTG, P, T, own, step, water_adj, G_adj, eTG_adj, P_adj[t, first:last], T_adj[t, first:last],
                    own_adj,
                )


def retrace_snow(precipitation, air_temperature, p, start, step, hysteresis, tape, lo, hi):
    """Run the snow of a tile forward from the block's start; the tape keeps the state before each step."""
    n, tile = hi - lo, snow_tile(p, lo, hi)
    G, eTG = start.snowpack[lo:hi].copy(), start.thermal_state[lo:hi].copy()
    peak, cover = start.snow_peak[lo:hi].copy(), start.snow_cover[lo:hi].copy()
    waste = np.empty((3, n), G.dtype)
    for t in range(precipitation.shape[0]):
        tape[0, t, :n], tape[1, t, :n], tape[2, t, :n], tape[3, t, :n] = G, eTG, peak, cover
        P, T = precipitation[t, lo:hi], air_temperature[t, lo:hi]
        if hysteresis:
            snow_hysteresis_row(G, eTG, peak, cover, P, T, tile, step, waste[0], waste[1], waste[2])
        else:
            snow_row(G, eTG, P, T, tile, step, waste[0], waste[1], waste[2])


def snow_row_adjoint(G, eTG, P, T, p, step, liquid_adj, G_adj, eTG_adj, P_adj, T_adj, p_adj):
    """Adjoint of `snow_row`: G_adj and eTG_adj in place, P_adj and T_adj set, p_adj added to."""
    for i in range(G.size):
        g, e, precipitation_adj, temperature_adj, ctg, kf = snow_step_adjoint(
            G[i], eTG[i], P[i] * step.days, T[i], p.thermal_weighting[i], p.melt_factor[i], p.full_cover[i], G_adj[i],
            eTG_adj[i], liquid_adj[i] * step.per_day,
        )
        G_adj[i] = g
        eTG_adj[i] = e
        P_adj[i] = precipitation_adj * step.days
        T_adj[i] = temperature_adj
        p_adj.thermal_weighting[i] += ctg
        p_adj.melt_factor[i] += kf


def snow_hysteresis_row_adjoint(
    G, eTG, peak, cover, P, T, p, step, liquid_adj, G_adj, eTG_adj, peak_adj, cover_adj, P_adj, T_adj, p_adj
):
    """Adjoint of `snow_hysteresis_row`, as `snow_row_adjoint`.

    The step is taken twice, for the parameters and for the rest: a loop over all these arrays is not vectorised.
    """
    for i in range(G.size):
        _g, _e, _top, _ratio, _P, _T, ctg, kf, ga, full = snow_hysteresis_step_adjoint(
            G[i], eTG[i], peak[i], cover[i], P[i] * step.days, T[i], p.thermal_weighting[i], p.melt_factor[i],
            p.accumulation_threshold[i], p.full_cover[i], G_adj[i], eTG_adj[i], peak_adj[i], cover_adj[i],
            liquid_adj[i] * step.per_day,
        )
        p_adj.thermal_weighting[i] += ctg
        p_adj.melt_factor[i] += kf
        p_adj.accumulation_threshold[i] += ga
        p_adj.full_cover[i] += full
    for i in range(G.size):
        g, e, top, ratio, precipitation_adj, temperature_adj, _ctg, _kf, _ga, _full = snow_hysteresis_step_adjoint(
            G[i], eTG[i], peak[i], cover[i], P[i] * step.days, T[i], p.thermal_weighting[i], p.melt_factor[i],
            p.accumulation_threshold[i], p.full_cover[i], G_adj[i], eTG_adj[i], peak_adj[i], cover_adj[i],
            liquid_adj[i] * step.per_day,
        )
        G_adj[i] = g
        eTG_adj[i] = e
        peak_adj[i] = top
        cover_adj[i] = ratio
        P_adj[i] = precipitation_adj * step.days
        T_adj[i] = temperature_adj
