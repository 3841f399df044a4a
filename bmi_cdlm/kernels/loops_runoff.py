"""Loops over cells: rows (SIMD across cells) and tiles (a few hundred cells, time inside).

Rows are the only loops over cells: contiguous 1-D arrays, indexed from 0. Arrays of rates [mm d-1] are
[time, cell]; a flux array of one row keeps the last step only.
"""

from __future__ import annotations

import numpy as np
from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.cemaneige import snow_hysteresis_step, snow_step
from bmi_cdlm.kernels.gr4j import production_step, queue_step, routing_store_step, s_curve_1, s_curve_2
from bmi_cdlm.kernels.groups import SnowParameters


def production_row(S, P, E, x1, step, Pr, AE, Pn, Ps, perc, effective):
    """Production store of a row of cells, in place."""
    for i in range(S.size):
        s, ae, pn, ps, pc, pr = production_step(
            S[i], P[i] * step.days, E[i] * step.days, x1[i], step.percolation_scale
        )
        S[i] = s
        Pr[i] = pr
        AE[i] = ae * step.per_day
        Pn[i] = pn * step.per_day
        Ps[i] = ps * step.per_day
        perc[i] = pc * step.per_day
        effective[i] = pr * step.per_day


def queue_row(queue, ordinate, Pr, share):
    """One place of a unit hydrograph of a row of cells, in place: the ring has moved the water already."""
    for i in range(queue.size):
        queue[i] = queue_step(queue[i], ordinate[i], share * Pr[i])


def last_queue_row(queue, ordinate, Pr, share):
    """The last place of a unit hydrograph, into which nothing moves."""
    for i in range(queue.size):
        queue[i] = queue_step(0.0, ordinate[i], share * Pr[i])


def routing_store_row(R, Q9, Q1, x2, x3, step, runoff, exchange, F, AE1, AE2, Qr, Qd, routed, direct):
    """Routing store and direct branch of a row of cells, in place."""
    for i in range(R.size):
        r, q, ex, f, a1, a2, qr, qd = routing_store_step(R[i], Q9[i], Q1[i], x2[i], x3[i])
        R[i] = r
        runoff[i] = q * step.per_day
        exchange[i] = ex * step.per_day
        F[i] = f * step.per_day
        AE1[i] = a1 * step.per_day
        AE2[i] = a2 * step.per_day
        Qr[i] = qr * step.per_day
        Qd[i] = qd * step.per_day
        routed[i] = Q9[i] * step.per_day
        direct[i] = Q1[i] * step.per_day


def total_row(total, rate, days):
    """Add a row of rates to its totals."""
    for i in range(total.size):
        total[i] += rate[i] * days


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


def advance_snow(precipitation, air_temperature, p, state, liquid, fluxes, step, hysteresis, lo, hi):
    """Snow of the cells lo to hi over all steps; `state` is advanced in place, `liquid` [time, cell] filled."""
    tile = SnowParameters(
        p.thermal_weighting[lo:hi], p.melt_factor[lo:hi], p.accumulation_threshold[lo:hi], p.full_cover[lo:hi]
    )
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


def advance_queue(queue, head, ordinates, Pr, share):
    """Take one step's inflow into a unit hydrograph: a ring of rows, the one at `head` leaves now."""
    n = queue.shape[0]
    for k in range(n - 1):
        place = head + k
        queue_row(queue[place if place < n else place - n], ordinates[k], Pr, share)
    place = head + n - 1
    last_queue_row(queue[place if place < n else place - n], ordinates[n - 1], Pr, share)


def unroll_queue(ring, head, queue, lo, hi):
    """Write a tile's ring back as a queue: the row that leaves next comes first, the one that left is empty."""
    n = ring.shape[0]
    for k in range(n - 1):
        place = head + k
        queue[k, lo:hi] = ring[place if place < n else place - n]
    queue[n - 1, lo:hi] = 0.0


def advance_gr4j(precipitation, liquid, demand, p, state, totals, fluxes, step, lo, hi):
    """GR4J of the cells lo to hi over all steps; state and totals are advanced in place, fluxes filled.

    precipitation (for the totals), liquid (rain plus melt) and demand (potential evapotranspiration):
    float[time, cell] [mm d-1]. After a step, place 0 of a unit hydrograph is water that leaves with the next.
    """
    for first in range(lo, hi, 256):
        last = first + 256 if first + 256 < hi else hi
        advance_gr4j_tile(precipitation, liquid, demand, p, state, totals, fluxes, step, first, last)


def advance_gr4j_tile(precipitation, liquid, demand, p, state, totals, fluxes, step, lo, hi):
    """GR4J of a few hundred cells, whose state stays in the first caches while time goes by."""
    S, R = state.production_store[lo:hi].copy(), state.routing_store[lo:hi].copy()
    ring_1, ring_2 = state.unit_hydrograph_1[:, lo:hi].copy(), state.unit_hydrograph_2[:, lo:hi].copy()
    o1, o2 = p.ordinates_1[:, lo:hi].copy(), p.ordinates_2[:, lo:hi].copy()
    x1, x2 = p.production_capacity[lo:hi].copy(), p.exchange_coefficient[lo:hi].copy()
    x3 = p.routing_capacity[lo:hi].copy()
    n1, n2, head_1, head_2 = ring_1.shape[0], ring_2.shape[0], 0, 0
    Pr = np.empty(hi - lo, S.dtype)
    f = fluxes
    for t in range(liquid.shape[0]):
        AE = f.evapotranspiration[t % f.evapotranspiration.shape[0], lo:hi]
        exchange = f.groundwater_exchange[t % f.groundwater_exchange.shape[0], lo:hi]
        runoff = f.runoff[t % f.runoff.shape[0], lo:hi]
        production_row(
            S, liquid[t, lo:hi], demand[t, lo:hi], x1, step, Pr, AE,
            f.net_rainfall[t % f.net_rainfall.shape[0], lo:hi],
            f.infiltration[t % f.infiltration.shape[0], lo:hi],
            f.percolation[t % f.percolation.shape[0], lo:hi],
            f.effective_rainfall[t % f.effective_rainfall.shape[0], lo:hi],
        )
        advance_queue(ring_1, head_1, o1, Pr, 0.9)
        advance_queue(ring_2, head_2, o2, Pr, 0.1)
        routing_store_row(
            R, ring_1[head_1], ring_2[head_2], x2, x3, step, runoff, exchange,
            f.potential_exchange[t % f.potential_exchange.shape[0], lo:hi],
            f.routing_store_exchange[t % f.routing_store_exchange.shape[0], lo:hi],
            f.direct_exchange[t % f.direct_exchange.shape[0], lo:hi],
            f.routing_store_outflow[t % f.routing_store_outflow.shape[0], lo:hi],
            f.direct_runoff[t % f.direct_runoff.shape[0], lo:hi],
            f.routed_flow[t % f.routed_flow.shape[0], lo:hi],
            f.direct_flow[t % f.direct_flow.shape[0], lo:hi],
        )
        head_1 = head_1 + 1 if head_1 + 1 < n1 else 0
        head_2 = head_2 + 1 if head_2 + 1 < n2 else 0
        total_row(totals.precipitation_total[lo:hi], precipitation[t, lo:hi], step.days)
        total_row(totals.evapotranspiration_total[lo:hi], AE, step.days)
        total_row(totals.exchange_total[lo:hi], exchange, step.days)
        total_row(totals.runoff_total[lo:hi], runoff, step.days)
    state.production_store[lo:hi] = S
    state.routing_store[lo:hi] = R
    unroll_queue(ring_1, head_1, state.unit_hydrograph_1, lo, hi)
    unroll_queue(ring_2, head_2, state.unit_hydrograph_2, lo, hi)


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
