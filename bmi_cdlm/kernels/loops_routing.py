"""Loops over reaches: links, time-blocked depth-first Muskingum, and the plan that cuts the network.

Arrays of discharge are [reach, time]: a reach is routed over a whole block of sub-steps before the next one,
and its hydrograph is handed on in a buffer (`slot`) that stays in cache. Children are pulled in their stored
order, then the lateral inflow is added, in every layout, cut and thread count: the bits never change.
"""

from __future__ import annotations

from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.links import link_flow
from bmi_cdlm.kernels.muskingum import muskingum_coefficients, muskingum_step, muskingum_variance


def collect_runoff(first_link, link_cell, link_area, runoff, lateral_inflow, lo, hi):
    """Lateral inflow [reach, time] of the reaches lo to hi from runoff [time, cell].

    A few steps at a time: a column of many steps would touch a cache line each, of which little is used.
    """
    n_steps = runoff.shape[0]
    for start in range(0, n_steps, 16):
        stop = start + 16 if start + 16 < n_steps else n_steps
        for i in range(lo, hi):
            for t in range(start, stop):
                lateral_inflow[i, t] = 0.0
            for link in range(first_link[i], first_link[i + 1]):
                cell = link_cell[link]
                area = link_area[link]
                for t in range(start, stop):
                    lateral_inflow[i, t] += link_flow(runoff[t, cell], area)


def fill_coefficients(travel_time, weighting, step, p):
    """Muskingum coefficients of every reach for a sub-step [s]."""
    for i in range(travel_time.size):
        direct, gain, keep, storage_time = muskingum_coefficients(travel_time[i], weighting[i], step)
        p.direct[i] = direct
        p.gain[i] = gain
        p.keep[i] = keep
        p.storage_time[i] = storage_time


def fill_variance(travel_time, weighting, step, variance):
    """Variance [s2] that every reach adds to the travel time, for a sub-step [s]."""
    for i in range(travel_time.size):
        variance[i] = muskingum_variance(travel_time[i], weighting[i], step)


def route(
    network, p, y, lateral_inflow, hydrographs, discharge, upstream_inflow, outflow_total, n_sub, step_seconds, lo, hi
):
    """Muskingum routing of the reaches sequence[lo:hi] over all model steps, n_sub sub-steps each.

    y: float[reach], state, in place; lateral_inflow, discharge (mean of the sub-steps): float[reach, time]
    [m3 s-1]; hydrographs: float[slot, time * n_sub], working space; upstream_inflow: float[reach, time * n_sub],
    filled for the adjoint with what the reaches above send, or float[reach, 0]; outflow_total: float[reach] [m3],
    in place.
    """
    for place in range(lo, hi):
        i = network.sequence[place]
        flow = hydrographs[network.slot[i]]
        first, last = network.first_child[i], network.first_child[i + 1]
        if first == last:
            flow[:] = 0.0
        for c in range(first + 1, last):
            add_row(flow, hydrographs[network.slot[network.child[c]]])
        if upstream_inflow.shape[1] > 0:
            upstream_inflow[i, :] = flow
        y[i] = route_reach(
            flow, lateral_inflow[i], y[i], p.direct[i], p.gain[i], p.keep[i], n_sub, discharge[i]
        )
        outflow_total[i] = add_volume(outflow_total[i], discharge[i], step_seconds)


def add_row(flow, tributary):
    """Add the hydrograph of a tributary."""
    for k in range(flow.size):
        flow[k] += tributary[k]


def route_reach(flow, lateral_inflow, y, direct, gain, keep, n_sub, discharge):
    """Route a block of sub-steps through a reach: `flow` comes in and goes out in place; returns y."""
    k = 0
    for t in range(lateral_inflow.size):
        total = 0.0
        for _ in range(n_sub):
            outflow, y = muskingum_step(y, flow[k] + lateral_inflow[t], direct, gain, keep)
            flow[k] = outflow
            total += outflow
            k += 1
        discharge[t] = total / real(n_sub)
    return y


def add_volume(volume, discharge, step_seconds):
    """Volume [m3] that has left a reach, step by step."""
    for t in range(discharge.size):
        volume += discharge[t] * step_seconds
    return volume


def accumulate(downstream, values):
    """Add each reach's value to the one below, in routing order, in place."""
    for i in range(downstream.size):
        if downstream[i] >= 0:
            values[downstream[i]] += values[i]


def steady_flow(network, lateral_inflow, flow):
    """Discharge [m3 s-1] of every reach when `lateral_inflow` (float[reach]) is constant.

    Summed in the order in which `route` pulls, so that a steady state is a fixed point.
    """
    for i in range(flow.size):
        first, last = network.first_child[i], network.first_child[i + 1]
        total = 0.0
        for c in range(first, last):
            total += flow[network.child[c]]
        flow[i] = total + lateral_inflow[i]


def assign_slots(network, downstream, piece_end, free):
    """Give every reach a hydrograph buffer, reused within a piece only; returns the number of buffers.

    piece_end: int64[piece], where each piece ends in the sequence; free: int64[reach], working space. A reach
    takes over the buffer of its first child; an outlet's buffer is free again at once.
    """
    sequence, first_child, child, slot = network
    used = 0
    start = 0
    for piece in range(piece_end.size):
        n_free = 0
        for place in range(start, piece_end[piece]):
            i = sequence[place]
            first, last = first_child[i], first_child[i + 1]
            if first < last:
                slot[i] = slot[child[first]]
                for c in range(first + 1, last):
                    free[n_free] = slot[child[c]]
                    n_free += 1
            elif n_free > 0:
                n_free -= 1
                slot[i] = free[n_free]
            else:
                slot[i] = used
                used += 1
            if downstream[i] < 0:
                free[n_free] = slot[i]
                n_free += 1
        start = piece_end[piece]
    return used


def compensated_sum(values, weights):
    """Sum of values times weights with Neumaier's compensation: a ledger of a million cells stays exact."""
    total = 0.0
    lost = 0.0
    for i in range(values.size):
        term = values[i] * weights[i]
        after = total + term
        if abs(total) >= abs(term):
            lost += (total - after) + term
        else:
            lost += (term - after) + total
        total = after
    return total + lost
