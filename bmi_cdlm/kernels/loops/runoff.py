"""Loops over cells: rows (SIMD across cells) and tiles (a few hundred cells, time inside).

Rows are the only loops over cells: contiguous 1-D arrays, indexed from 0. Arrays of rates [mm d-1] are
[time, cell]; a flux array of one row keeps the last step only.
"""

from __future__ import annotations

from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.groups import CellTotals, RunoffFluxes, SnowParameters
from bmi_cdlm.kernels.loops.queues import queue_step
from bmi_cdlm.kernels.loops.queues import queue_step
from bmi_cdlm.kernels.loops.rows import copy_row, in_fours, inverse_row, take_columns, tile_rows, tile_width
from bmi_cdlm.processes.cemaneige import snow_hysteresis_step, snow_step
from bmi_cdlm.processes.gr4j import (
    production_step_inverse,
    routing_store_step_inverse,
    s_curve_1,
    s_curve_2,
)


def production_row(S, P, E, rain, x1, inverse, step, Pr, totals, fluxes, kept):
    """Production store of a row of cells, in place; `inverse` is 1 / X1.

    totals (`CellTotals`) and fluxes (`RunoffFluxes`): rows to add to and to fill, or None, for which other code is
    compiled: rows that nobody reads would take a third of the time.
    """
    for i in range(S.size):
        s, ae, pn, ps, pc, pr, n = production_step_inverse(
            S[i], P[i] * step.days, E[i] * step.days, x1[i], inverse[i], step.percolation_scale
        )
        S[i] = s
        Pr[i] = pr
        if kept is not None:
            kept[i] = n
        if totals is not None:
            totals.precipitation_total[i] += rain[i] * step.days
            totals.evapotranspiration_total[i] += ae * step.per_day * step.days
        if fluxes is not None:
            fluxes.evapotranspiration[i] = ae * step.per_day
            fluxes.net_rainfall[i] = pn * step.per_day
            fluxes.infiltration[i] = ps * step.per_day
            fluxes.percolation[i] = pc * step.per_day
            fluxes.effective_rainfall[i] = pr * step.per_day


def routing_store_row(R, Q9, Q1, x2, inverse, step, runoff, totals, fluxes):
    """Routing store and direct branch of a row of cells, in place; `inverse` is 1 / X3, the rest as above."""
    for i in range(R.size):
        r, q, ex, F, ae1, ae2, qr, qd = routing_store_step_inverse(R[i], Q9[i], Q1[i], x2[i], inverse[i])
        R[i] = r
        runoff[i] = q * step.per_day
        if totals is not None:
            totals.exchange_total[i] += ex * step.per_day * step.days
            totals.runoff_total[i] += q * step.per_day * step.days
        if fluxes is not None:
            fluxes.groundwater_exchange[i] = ex * step.per_day
            fluxes.potential_exchange[i] = F * step.per_day
            fluxes.routing_store_exchange[i] = ae1 * step.per_day
            fluxes.direct_exchange[i] = ae2 * step.per_day
            fluxes.routing_store_outflow[i] = qr * step.per_day
            fluxes.direct_runoff[i] = qd * step.per_day
            fluxes.routed_flow[i] = Q9[i] * step.per_day
            fluxes.direct_flow[i] = Q1[i] * step.per_day


def snow_row(G, eTG, P, T, p, step, liquid, snowfall, melt):
    """Plain CemaNeige of a row of cells, in place."""
    for i in range(G.size):
        g, e, water, sf, m = snow_step(
            G[i], eTG[i], P[i] * step.days, T[i], p.thermal_weighting[i], p.melt_factor[i], p.full_cover[i]
        )
        G[i] = g
        eTG[i] = e
        liquid[i] = water * step.per_day
        snowfall[i] = sf * step.per_day
        melt[i] = m * step.per_day


def snow_hysteresis_row(G, eTG, peak, cover, P, T, p, step, liquid, snowfall, melt):
    """CemaNeige with hysteresis of a row of cells, in place."""
    for i in range(G.size):
        g, e, top, ratio, water, sf, m = snow_hysteresis_step(
            G[i], eTG[i], peak[i], cover[i], P[i] * step.days, T[i], p.thermal_weighting[i], p.melt_factor[i],
            p.accumulation_threshold[i], p.full_cover[i],
        )
        G[i] = g
        eTG[i] = e
        peak[i] = top
        cover[i] = ratio
        liquid[i] = water * step.per_day
        snowfall[i] = sf * step.per_day
        melt[i] = m * step.per_day


def snow_tile(p, lo, hi):
    """The snow parameters of the cells lo to hi."""
    return SnowParameters(
        p.thermal_weighting[lo:hi], p.melt_factor[lo:hi], p.accumulation_threshold[lo:hi], p.full_cover[lo:hi]
    )


def advance_snow(precipitation, air_temperature, p, state, liquid, fluxes, step, hysteresis, lo, hi):
    """Snow of the cells lo to hi over all steps; `state` is advanced in place, `liquid` [time, cell] filled."""
    tile = snow_tile(p, lo, hi)
    G, eTG = state.snowpack[lo:hi], state.thermal_state[lo:hi]
    peak, cover = state.snow_peak[lo:hi], state.snow_cover[lo:hi]
    for t in range(precipitation.shape[0]):
        P, T, water = precipitation[t, lo:hi], air_temperature[t, lo:hi], liquid[t, lo:hi]
        snowfall = fluxes.snowfall[t % fluxes.snowfall.shape[0], lo:hi]
        melt = fluxes.snowmelt[t % fluxes.snowmelt.shape[0], lo:hi]
        if hysteresis:
            snow_hysteresis_row(G, eTG, peak, cover, P, T, tile, step, water, snowfall, melt)
        else:
            snow_row(G, eTG, P, T, tile, step, water, snowfall, melt)


def ring_length(places, n_steps):
    """Rows of a ring: four more than places, in fours; no more than a few steps need, for rows cost time to make."""
    return in_fours(places) + 4 if n_steps >= 4 else places + n_steps - 1


def advance_queue(ring, head, ordinates, places, Pr, count, share):
    """Take the inflows of one to four steps into a unit hydrograph; the rows from `head` on leave with them.

    ring: rows in fours, four more than places; ordinates: rows in fours, zeros behind the last place; Pr: a row for
    each step. Four steps at once give the same bits as one by one.
    """
    if count == 4:
        advance_queue_four(ring, head, ordinates, Pr, share)
    else:
        for j in range(count):
            advance_queue_one(ring, head + j, ordinates[:places], Pr[j], share)


def advance_queue_one(ring, head, ordinates, Pr, share):
    """Take one step's inflow into a unit hydrograph: the row at `head` leaves now, nothing moves into the last place.

    The loop over cells is here, not in a row function: a call per place would cost as much as the place itself.
    """
    n, last = ring.shape[0], ordinates.shape[0] - 1
    for k in range(last):
        place = head + k if head + k < n else head + k - n
        for i in range(Pr.size):
            ring[place, i] = queue_step(ring[place, i], ordinates[k, i], share * Pr[i])
    place = head + last if head + last < n else head + last - n
    for i in range(Pr.size):
        ring[place, i] = queue_step(0.0, ordinates[last, i], share * Pr[i])


def advance_queue_four(ring, head, ordinates, Pr, share):
    """Take the inflows of four steps into a unit hydrograph, four places at a time.

    That is a third of the loads and stores of step by step. The last places come first: so every row gets its water in
    the order of the steps.
    """
    n, last = ring.shape[0], ordinates.shape[0] - 4
    p0, p1, p2, p3 = Pr[0], Pr[1], Pr[2], Pr[3]
    for k in range(last, -1, -4):
        place = head + k if head + k < n else head + k - n
        later = place + 4 if place + 4 < n else 0
        o0, o1, o2, o3 = ordinates[k], ordinates[k + 1], ordinates[k + 2], ordinates[k + 3]
        q0, q1, q2, q3 = ring[place], ring[place + 1], ring[place + 2], ring[place + 3]
        q4, q5, q6 = ring[later], ring[later + 1], ring[later + 2]
        if k == last:
            for i in range(p0.size):
                q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i] = four_inflows(
                    q0[i], q1[i], q2[i], 0.0, 0.0, 0.0, 0.0, o0[i], o1[i], o2[i], o3[i],
                    share * p0[i], share * p1[i], share * p2[i], share * p3[i],
                )
        else:
            for i in range(p0.size):
                q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i] = four_inflows(
                    q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i], o0[i], o1[i], o2[i], o3[i],
                    share * p0[i], share * p1[i], share * p2[i], share * p3[i],
                )


def four_inflows(q0, q1, q2, q3, q4, q5, q6, o0, o1, o2, o3, a, b, c, d):
    """Add what the inflows a to d of four steps, the first first, leave in seven rows through four ordinates."""
    q0 = queue_step(q0, o0, a)
    q1 = queue_step(queue_step(q1, o1, a), o0, b)
    q2 = queue_step(queue_step(queue_step(q2, o2, a), o1, b), o0, c)
    q3 = queue_step(queue_step(queue_step(queue_step(q3, o3, a), o2, b), o1, c), o0, d)
    q4 = queue_step(queue_step(queue_step(q4, o3, b), o2, c), o1, d)
    q5 = queue_step(queue_step(q5, o3, c), o2, d)
    return q0, q1, q2, q3, q4, q5, queue_step(q6, o3, d)


def unroll_queue(ring, head, queue, lo, hi):
    """Write a tile's ring back as a queue: the row that leaves next comes first, the one that left is empty."""
    n = ring.shape[0]
    for k in range(queue.shape[0] - 1):
        place = head + k
        copy_row(ring[place if place < n else place - n, : hi - lo], queue[k, lo:hi])
    queue[queue.shape[0] - 1, lo:hi] = 0.0


def advance_gr4j(precipitation, liquid, demand, p, state, totals, fluxes, step, lo, hi):
    """GR4J of the cells lo to hi over all steps; state and totals are advanced in place, fluxes filled.

    precipitation (for the totals), liquid (rain plus melt) and demand (potential evapotranspiration):
    float[time, cell] [mm d-1]. After a step, place 0 of a unit hydrograph is water that leaves with the next.
    """
    places = p.ordinates_1.shape[0] + p.ordinates_2.shape[0]
    width = tile_width(hi - lo, 1024 if places <= 24 else 768)
    for first in range(lo, hi, width):
        last = first + width if first + width < hi else hi
        advance_gr4j_tile(precipitation, liquid, demand, p, state, totals, fluxes, step, first, last)


def advance_gr4j_tile(precipitation, liquid, demand, p, state, totals, fluxes, step, lo, hi):
    """GR4J of some hundred cells, whose state stays in the caches of a core while time goes by.

    Four steps of each store, then the next. Fluxes of one row are written in the last step only. A call of a row costs
    as much as some ten cells, hence tiles so wide.
    """
    n, n_steps = hi - lo, liquid.shape[0]
    rows = tile_rows(6 + min(4, n_steps), n, state.production_store)
    S, R, x1, x2 = rows[0, :n], rows[1, :n], rows[2, :n], rows[3, :n]
    inverse_1, inverse_3, Pr = rows[4, :n], rows[5, :n], rows[6:]
    copy_row(state.production_store[lo:hi], S)
    copy_row(state.routing_store[lo:hi], R)
    copy_row(p.production_capacity[lo:hi], x1)
    copy_row(p.exchange_coefficient[lo:hi], x2)
    inverse_row(x1, inverse_1)
    inverse_row(p.routing_capacity[lo:hi], inverse_3)
    n1, n2, head_1, head_2 = p.ordinates_1.shape[0], p.ordinates_2.shape[0], 0, 0
    o1, o2 = tile_rows(in_fours(n1), n, S), tile_rows(in_fours(n2), n, S)
    ring_1, ring_2 = tile_rows(ring_length(n1, n_steps), n, S), tile_rows(ring_length(n2, n_steps), n, S)
    take_columns(state.unit_hydrograph_1[: n1 - 1], lo, hi, ring_1)
    take_columns(state.unit_hydrograph_2[: n2 - 1], lo, hi, ring_2)
    take_columns(p.ordinates_1, lo, hi, o1)
    take_columns(p.ordinates_2, lo, hi, o2)
    sums = None if totals is None else CellTotals(
        totals.precipitation_total[lo:hi], totals.evapotranspiration_total[lo:hi], totals.exchange_total[lo:hi],
        totals.runoff_total[lo:hi],
    )
    every = False
    for flux in fluxes[:-1]:
        every = every or flux.shape[0] > 1
    for first in range(0, n_steps, 4):
        last = first + 4 if first + 4 < n_steps else n_steps
        for t in range(first, last):
            rain, P, E = precipitation[t, lo:hi], liquid[t, lo:hi], demand[t, lo:hi]
            if every or t + 1 == n_steps:
                kept = flux_rows(fluxes, t, lo, hi)
                production_row(S, P, E, rain, x1, inverse_1, step, Pr[t - first, :n], sums, kept, None)
            else:
                production_row(S, P, E, rain, x1, inverse_1, step, Pr[t - first, :n], sums, None, None)
        advance_queue(ring_1, head_1, o1, n1, Pr, last - first, 0.9)
        advance_queue(ring_2, head_2, o2, n2, Pr, last - first, 0.1)
        for t in range(first, last):
            Q9, Q1 = ring_1[head_1 + t - first, :n], ring_2[head_2 + t - first, :n]
            runoff = fluxes.runoff[t % fluxes.runoff.shape[0], lo:hi]
            if every or t + 1 == n_steps:
                kept = flux_rows(fluxes, t, lo, hi)
                routing_store_row(R, Q9, Q1, x2, inverse_3, step, runoff, sums, kept)
            else:
                routing_store_row(R, Q9, Q1, x2, inverse_3, step, runoff, sums, None)
        head_1 = head_1 + last - first if head_1 + last - first < ring_1.shape[0] else 0
        head_2 = head_2 + last - first if head_2 + last - first < ring_2.shape[0] else 0
    copy_row(S, state.production_store[lo:hi])
    copy_row(R, state.routing_store[lo:hi])
    unroll_queue(ring_1, head_1, state.unit_hydrograph_1, lo, hi)
    unroll_queue(ring_2, head_2, state.unit_hydrograph_2, lo, hi)


def flux_rows(fluxes, t, lo, hi):
    """The rows of a step and a tile: step t of a series, or the one row there is."""
    return RunoffFluxes(
        fluxes.evapotranspiration[t % fluxes.evapotranspiration.shape[0], lo:hi],
        fluxes.net_rainfall[t % fluxes.net_rainfall.shape[0], lo:hi],
        fluxes.infiltration[t % fluxes.infiltration.shape[0], lo:hi],
        fluxes.percolation[t % fluxes.percolation.shape[0], lo:hi],
        fluxes.effective_rainfall[t % fluxes.effective_rainfall.shape[0], lo:hi],
        fluxes.routed_flow[t % fluxes.routed_flow.shape[0], lo:hi],
        fluxes.direct_flow[t % fluxes.direct_flow.shape[0], lo:hi],
        fluxes.groundwater_exchange[t % fluxes.groundwater_exchange.shape[0], lo:hi],
        fluxes.potential_exchange[t % fluxes.potential_exchange.shape[0], lo:hi],
        fluxes.routing_store_exchange[t % fluxes.routing_store_exchange.shape[0], lo:hi],
        fluxes.direct_exchange[t % fluxes.direct_exchange.shape[0], lo:hi],
        fluxes.routing_store_outflow[t % fluxes.routing_store_outflow.shape[0], lo:hi],
        fluxes.direct_runoff[t % fluxes.direct_runoff.shape[0], lo:hi],
        fluxes.runoff[t % fluxes.runoff.shape[0], lo:hi],
    )


def fill_ordinates(x4, exponent, ordinates_1, ordinates_2):
    """Ordinates of both unit hydrographs, float[k, cell], from X4 [steps]; each sums to one."""
    for i in range(x4.size):
        for k in range(ordinates_1.shape[0]):
            ordinates_1[k, i] = s_curve_1(real(k + 1), x4[i], exponent) - (
                s_curve_1(real(k), x4[i], exponent) if k > 0 else 0.0
            )
        for k in range(ordinates_2.shape[0]):
            ordinates_2[k, i] = s_curve_2(real(k + 1), x4[i], exponent) - (
                s_curve_2(real(k), x4[i], exponent) if k > 0 else 0.0
            )
