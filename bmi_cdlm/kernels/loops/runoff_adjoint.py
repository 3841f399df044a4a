"""Adjoint loops over cells, mirroring `runoff`.

A block is recomputed tile by tile from the state at its start, with a tape of six rows per step (`RunoffTape`), then
swept backwards. What is kept between forward and backward is the states at block starts only:
(2 + n1 + n2) numbers per cell and block, where n1 and n2 are the lengths of the unit hydrographs.
"""

from __future__ import annotations

import numpy as np

from bmi_cdlm.kernels.groups import RunoffTape
from bmi_cdlm.kernels.loops.queues import queue_step_adjoint
from bmi_cdlm.kernels.loops.queues import queue_step_adjoint
from bmi_cdlm.kernels.loops.rows import (
    add_columns,
    add_row,
    copy_row,
    fill_row,
    give_columns,
    in_fours,
    inverse_row,
    take_columns,
    tile_rows,
    tile_width,
)
from bmi_cdlm.kernels.loops.runoff import (
    advance_queue,
    production_row,
    real,
    routing_store_row,
    snow_hysteresis_row,
    snow_row,
    snow_tile,
)
from bmi_cdlm.processes.cemaneige import snow_hysteresis_step_adjoint, snow_step_adjoint
from bmi_cdlm.processes.gr4j import (
    production_step_inverse_adjoint,
    routing_store_step_inverse_adjoint,
    s_curve_1_adjoint,
    s_curve_2_adjoint,
)


def production_row_adjoint(S, P, E, x1, inverse, n, step, S_adj, Pr_adj, P_adj, x1_adj):
    """Adjoint of `production_row`: S_adj in place, P_adj set, x1_adj added to; that of E is that of P negated."""
    for i in range(S.size):
        s, p, x = production_step_inverse_adjoint(
            S[i], P[i] * step.days, E[i] * step.days, x1[i], inverse[i], n[i], step.percolation_scale, S_adj[i],
            Pr_adj[i],
        )
        S_adj[i] = s
        P_adj[i] = p * step.days
        x1_adj[i] += x


def routing_store_row_adjoint(R, Q9, Q1, x2, inverse, after, step, runoff_adj, R_adj, x2_adj, x3_adj):
    """Adjoint of `routing_store_row`: R_adj in place, Q9 and Q1 become their adjoints, x2_adj and x3_adj added to."""
    for i in range(R.size):
        r, q9, q1, a, b = routing_store_step_inverse_adjoint(
            R[i], Q9[i], Q1[i], x2[i], inverse[i], after[i], R_adj[i], runoff_adj[i] * step.per_day
        )
        R_adj[i] = r
        Q9[i] = q9
        Q1[i] = q1
        x2_adj[i] += a
        x3_adj[i] += b


def sweep_queue(flow_adj, ordinates, share, Pr_adj):
    """Adjoint of `advance_queue` in the inflows of four steps, four places at a time: Pr_adj, four rows, is added to.

    flow_adj: adjoints of the outflows from the first of the steps on.
    """
    p0, p1, p2, p3 = Pr_adj[0], Pr_adj[1], Pr_adj[2], Pr_adj[3]
    for k in range(0, ordinates.shape[0], 4):
        o0, o1, o2, o3 = ordinates[k], ordinates[k + 1], ordinates[k + 2], ordinates[k + 3]
        q0, q1, q2, q3 = flow_adj[k], flow_adj[k + 1], flow_adj[k + 2], flow_adj[k + 3]
        q4, q5, q6 = flow_adj[k + 4], flow_adj[k + 5], flow_adj[k + 6]
        for i in range(p0.size):
            a, b, c, d = o0[i], o1[i], o2[i], o3[i]
            f0, f1, f2, f3, f4, f5, f6 = q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i]
            p0[i] = four_places(p0[i], share, a, b, c, d, f0, f1, f2, f3)
            p1[i] = four_places(p1[i], share, a, b, c, d, f1, f2, f3, f4)
            p2[i] = four_places(p2[i], share, a, b, c, d, f2, f3, f4, f5)
            p3[i] = four_places(p3[i], share, a, b, c, d, f3, f4, f5, f6)


def four_places(total, share, a, b, c, d, a_adj, b_adj, c_adj, d_adj):
    """Add what the ordinates a to d of four places, the first first, are to the adjoint of an inflow."""
    total += share * queue_step_adjoint(a, a_adj, a_adj)[1]
    total += share * queue_step_adjoint(b, b_adj, b_adj)[1]
    total += share * queue_step_adjoint(c, c_adj, c_adj)[1]
    return total + share * queue_step_adjoint(d, d_adj, d_adj)[1]


def sum_ordinates(flow_adj, Pr, share, ordinates_adj):
    """Adjoint of `advance_queue` in its ordinates, added to: four places and four steps at once.

    flow_adj: adjoints of the outflows from the first of the steps on; Pr: a row for each step.
    """
    p0, p1, p2, p3 = Pr[0], Pr[1], Pr[2], Pr[3]
    for k in range(0, ordinates_adj.shape[0], 4):
        o0, o1, o2, o3 = ordinates_adj[k], ordinates_adj[k + 1], ordinates_adj[k + 2], ordinates_adj[k + 3]
        q0, q1, q2, q3 = flow_adj[k], flow_adj[k + 1], flow_adj[k + 2], flow_adj[k + 3]
        q4, q5, q6 = flow_adj[k + 4], flow_adj[k + 5], flow_adj[k + 6]
        for i in range(o0.size):
            a, b, c, d = share * p0[i], share * p1[i], share * p2[i], share * p3[i]
            f0, f1, f2, f3, f4, f5, f6 = q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i]
            o0[i] = four_steps(o0[i], a, b, c, d, f0, f1, f2, f3)
            o1[i] = four_steps(o1[i], a, b, c, d, f1, f2, f3, f4)
            o2[i] = four_steps(o2[i], a, b, c, d, f2, f3, f4, f5)
            o3[i] = four_steps(o3[i], a, b, c, d, f3, f4, f5, f6)


def four_steps(total, a, b, c, d, a_adj, b_adj, c_adj, d_adj):
    """Add what the inflows a to d of four steps, the last first, are to the adjoint of an ordinate."""
    total += queue_step_adjoint(d, d, d_adj)[0]
    total += queue_step_adjoint(c, c, c_adj)[0]
    total += queue_step_adjoint(b, b, b_adj)[0]
    return total + queue_step_adjoint(a, a, a_adj)[0]


def retrace_gr4j(liquid, demand, x1, inverse_1, x2, inverse_3, o1, o2, start, step, tape, lo, hi):
    """Run a tile forward from the block's start, as `advance_gr4j_tile`, and fill the tape."""
    n, n_steps = hi - lo, liquid.shape[0]
    n1, n2 = start.unit_hydrograph_1.shape[0], start.unit_hydrograph_2.shape[0]
    rows = tile_rows(3, n, x1)
    S, R, waste = rows[0, :n], rows[1, :n], rows[2, :n]
    copy_row(start.production_store[lo:hi], S)
    copy_row(start.routing_store[lo:hi], R)
    take_columns(start.unit_hydrograph_1[: n1 - 1], lo, hi, tape.routed_flow)
    take_columns(start.unit_hydrograph_2[: n2 - 1], lo, hi, tape.direct_flow)
    for first in range(0, n_steps, 4):
        last = first + 4 if first + 4 < n_steps else n_steps
        for t in range(first, last):
            P, Pr = liquid[t, lo:hi], tape.effective_rainfall[t, :n]
            copy_row(S, tape.production_store[t])
            production_row(S, P, demand[t, lo:hi], P, x1, inverse_1, step, Pr, None, None, tape.ratio[t, :n])
        inflows = tape.effective_rainfall[first:]
        advance_queue(tape.routed_flow, first, o1, n1, inflows, last - first, 0.9)
        advance_queue(tape.direct_flow, first, o2, n2, inflows, last - first, 0.1)
        for t in range(first, last):
            copy_row(R, tape.routing_store[t])
            routing_store_row(
                R, tape.routed_flow[t, :n], tape.direct_flow[t, :n], x2, inverse_3, step, waste, None, None
            )
    copy_row(R, tape.routing_store[n_steps])


def reverse_gr4j(liquid, demand, p, start, step, runoff_adj, state_adj, p_adj, liquid_adj, lo, hi):
    """Adjoint of `advance_gr4j` in the runoff, for one block of steps and the cells lo to hi.

    start: state at the block's start; runoff_adj: float[time, cell], derivative by the runoff [mm d-1]; state_adj:
    adjoint of the state at the block's end, becomes that at its start; p_adj: parameters, added to;
    liquid_adj: float[time, cell], filled; that of demand is its negative.
    """
    width = tile_width(hi - lo, 768)
    for first in range(lo, hi, width):
        last = first + width if first + width < hi else hi
        reverse_gr4j_tile(liquid, demand, p, start, step, runoff_adj, state_adj, p_adj, liquid_adj, first, last)


def reverse_gr4j_tile(liquid, demand, p, start, step, runoff_adj, state_adj, p_adj, liquid_adj, lo, hi):
    """Adjoint of `advance_gr4j_tile`.

    Unit hydrographs are taken in fours, with ordinates of zero behind the last.
    """
    n_steps, n = liquid.shape[0], hi - lo
    n1, n2 = p.ordinates_1.shape[0], p.ordinates_2.shape[0]
    rows = tile_rows(13, n, p.production_capacity)
    x1, x2, inverse_1, inverse_3 = rows[0, :n], rows[1, :n], rows[2, :n], rows[3, :n]
    S_adj, R_adj, x1_adj, x2_adj, x3_adj = rows[4, :n], rows[5, :n], rows[6, :n], rows[7, :n], rows[8, :n]
    Pr_adj = rows[9:]
    copy_row(p.production_capacity[lo:hi], x1)
    copy_row(p.exchange_coefficient[lo:hi], x2)
    inverse_row(x1, inverse_1)
    inverse_row(p.routing_capacity[lo:hi], inverse_3)
    o1, o2 = tile_rows(in_fours(n1), n, x1), tile_rows(in_fours(n2), n, x1)
    take_columns(p.ordinates_1, lo, hi, o1)
    take_columns(p.ordinates_2, lo, hi, o2)
    tape = RunoffTape(
        tile_rows(n_steps, n, x1), tile_rows(n_steps + 1, n, x1), tile_rows(n_steps, n, x1),
        tile_rows(in_fours(n_steps), n, x1), tile_rows(in_fours(n_steps) + in_fours(n1), n, x1),
        tile_rows(in_fours(n_steps) + in_fours(n2), n, x1),
    )
    retrace_gr4j(liquid, demand, x1, inverse_1, x2, inverse_3, o1, o2, start, step, tape, lo, hi)

    Q9, Q1, Pr = tape.routed_flow, tape.direct_flow, tape.effective_rainfall
    copy_row(state_adj.production_store[lo:hi], S_adj)
    copy_row(state_adj.routing_store[lo:hi], R_adj)
    take_columns(state_adj.unit_hydrograph_1[: n1 - 1], lo, hi, Q9[n_steps:])
    take_columns(state_adj.unit_hydrograph_2[: n2 - 1], lo, hi, Q1[n_steps:])
    o1_adj, o2_adj = tile_rows(in_fours(n1), n, x1), tile_rows(in_fours(n2), n, x1)
    for first in range(in_fours(n_steps) - 4, -1, -4):
        last = first + 4 if first + 4 < n_steps else n_steps
        for t in range(last - 1, first - 1, -1):
            routing_store_row_adjoint(
                tape.routing_store[t, :n], Q9[t, :n], Q1[t, :n], x2, inverse_3, tape.routing_store[t + 1, :n], step,
                runoff_adj[t, lo:hi], R_adj, x2_adj, x3_adj,
            )
        for j in range(4):
            fill_row(Pr_adj[j], 0.0)
        sweep_queue(Q1[first:], o2, 0.1, Pr_adj)
        sweep_queue(Q9[first:], o1, 0.9, Pr_adj)
        for t in range(last - 1, first - 1, -1):
            production_row_adjoint(
                tape.production_store[t, :n], liquid[t, lo:hi], demand[t, lo:hi], x1, inverse_1, tape.ratio[t, :n],
                step, S_adj, Pr_adj[t - first, :n], liquid_adj[t, lo:hi], x1_adj,
            )
        sum_ordinates(Q1[first:], Pr[first:], 0.1, o2_adj)
        sum_ordinates(Q9[first:], Pr[first:], 0.9, o1_adj)
    copy_row(S_adj, state_adj.production_store[lo:hi])
    copy_row(R_adj, state_adj.routing_store[lo:hi])
    give_columns(Q9, state_adj.unit_hydrograph_1[: n1 - 1], lo, hi)
    give_columns(Q1, state_adj.unit_hydrograph_2[: n2 - 1], lo, hi)
    state_adj.unit_hydrograph_1[n1 - 1, lo:hi] = 0.0
    state_adj.unit_hydrograph_2[n2 - 1, lo:hi] = 0.0
    add_row(p_adj.production_capacity[lo:hi], x1_adj)
    add_row(p_adj.exchange_coefficient[lo:hi], x2_adj)
    add_row(p_adj.routing_capacity[lo:hi], x3_adj)
    add_columns(o1_adj, p_adj.ordinates_1, lo, hi)
    add_columns(o2_adj, p_adj.ordinates_2, lo, hi)


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
    width = tile_width(hi - lo, 768)
    for first in range(lo, hi, width):
        last = first + width if first + width < hi else hi
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
        copy_row(G, tape[0, t])
        copy_row(eTG, tape[1, t])
        copy_row(peak, tape[2, t])
        copy_row(cover, tape[3, t])
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
