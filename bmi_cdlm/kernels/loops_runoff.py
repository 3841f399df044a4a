"""Loops over cells: rows (SIMD across cells) and tiles (a few hundred cells, time inside).

Rows are the only loops over cells: contiguous 1-D arrays, indexed from 0. Arrays of rates [mm d-1] are
[time, cell]; a flux array of one row keeps the last step only.
"""

from __future__ import annotations

from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.cemaneige import snow_hysteresis_step, snow_step
from bmi_cdlm.kernels.gr4j import production_step_inverse, queue_step, routing_store_step_inverse, s_curve_1, s_curve_2
from bmi_cdlm.kernels.groups import CellTotals, RunoffFluxes, SnowParameters
from bmi_cdlm.kernels.rows import copy_row, inverse_row, take_columns, tile_rows


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


def advance_queue(ring, head, ordinates, Pr, share):
    """Take one step's inflow into a unit hydrograph: a ring of rows, the one at `head` leaves now.

    Nothing moves into the last place. The loop over cells is here, not in a row function: a call per place would
    cost as much as the place itself.
    """
    n = ring.shape[0]
    for k in range(n - 1):
        place = head + k
        place = place if place < n else place - n
        for i in range(Pr.size):
            ring[place, i] = queue_step(ring[place, i], ordinates[k, i], share * Pr[i])
    place = head + n - 1
    place = place if place < n else place - n
    for i in range(Pr.size):
        ring[place, i] = queue_step(0.0, ordinates[n - 1, i], share * Pr[i])


def unroll_queue(ring, head, queue, lo, hi):
    """Write a tile's ring back as a queue: the row that leaves next comes first, the one that left is empty."""
    n = ring.shape[0]
    for k in range(n - 1):
        place = head + k
        copy_row(ring[place if place < n else place - n, : hi - lo], queue[k, lo:hi])
    queue[n - 1, lo:hi] = 0.0


def advance_gr4j(precipitation, liquid, demand, p, state, totals, fluxes, step, lo, hi):
    """GR4J of the cells lo to hi over all steps; state and totals are advanced in place, fluxes filled.

    precipitation (for the totals), liquid (rain plus melt) and demand (potential evapotranspiration):
    float[time, cell] [mm d-1]. After a step, place 0 of a unit hydrograph is water that leaves with the next.
    """
    places = p.ordinates_1.shape[0] + p.ordinates_2.shape[0]
    widest = 1024 if places <= 24 else 512
    count = (hi - lo + widest - 1) // widest
    width = (hi - lo + count - 1) // count
    for first in range(lo, hi, width):
        last = first + width if first + width < hi else hi
        advance_gr4j_tile(precipitation, liquid, demand, p, state, totals, fluxes, step, first, last)


def advance_gr4j_tile(precipitation, liquid, demand, p, state, totals, fluxes, step, lo, hi):
    """GR4J of some hundred cells, whose state stays in the caches of a core while time goes by.

    Fluxes of one row are written in the last step only. A call of a row costs as much as some ten cells, hence
    tiles so wide.
    """
    n = hi - lo
    rows = tile_rows(7, n, state.production_store)
    S, R, Pr, x1, x2 = rows[0, :n], rows[1, :n], rows[2, :n], rows[3, :n], rows[4, :n]
    inverse_1, inverse_3 = rows[5, :n], rows[6, :n]
    copy_row(state.production_store[lo:hi], S)
    copy_row(state.routing_store[lo:hi], R)
    copy_row(p.production_capacity[lo:hi], x1)
    copy_row(p.exchange_coefficient[lo:hi], x2)
    inverse_row(x1, inverse_1)
    inverse_row(p.routing_capacity[lo:hi], inverse_3)
    n1, n2, head_1, head_2 = p.ordinates_1.shape[0], p.ordinates_2.shape[0], 0, 0
    ring_1, ring_2, o1, o2 = tile_rows(n1, n, S), tile_rows(n2, n, S), tile_rows(n1, n, S), tile_rows(n2, n, S)
    take_columns(state.unit_hydrograph_1, lo, hi, ring_1)
    take_columns(state.unit_hydrograph_2, lo, hi, ring_2)
    take_columns(p.ordinates_1, lo, hi, o1)
    take_columns(p.ordinates_2, lo, hi, o2)
    sums = None if totals is None else CellTotals(
        totals.precipitation_total[lo:hi], totals.evapotranspiration_total[lo:hi], totals.exchange_total[lo:hi],
        totals.runoff_total[lo:hi],
    )
    every = False
    for flux in fluxes[:-1]:
        every = every or flux.shape[0] > 1
    for t in range(liquid.shape[0]):
        rain, P, E = precipitation[t, lo:hi], liquid[t, lo:hi], demand[t, lo:hi]
        runoff = fluxes.runoff[t % fluxes.runoff.shape[0], lo:hi]
        if every or t + 1 == liquid.shape[0]:
            rows = flux_rows(fluxes, t, lo, hi)
            production_row(S, P, E, rain, x1, inverse_1, step, Pr, sums, rows, None)
            advance_queue(ring_1, head_1, o1, Pr, 0.9)
            advance_queue(ring_2, head_2, o2, Pr, 0.1)
            routing_store_row(R, ring_1[head_1, :n], ring_2[head_2, :n], x2, inverse_3, step, runoff, sums, rows)
        else:
            production_row(S, P, E, rain, x1, inverse_1, step, Pr, sums, None, None)
            advance_queue(ring_1, head_1, o1, Pr, 0.9)
            advance_queue(ring_2, head_2, o2, Pr, 0.1)
            routing_store_row(R, ring_1[head_1, :n], ring_2[head_2, :n], x2, inverse_3, step, runoff, sums, None)
        head_1 = head_1 + 1 if head_1 + 1 < n1 else 0
        head_2 = head_2 + 1 if head_2 + 1 < n2 else 0
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
