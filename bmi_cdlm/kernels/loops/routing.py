"""Loops over reaches: links, time-blocked depth-first Muskingum, and the plan that cuts the network.

Arrays of discharge are [reach, time]: a reach is routed over a whole block of sub-steps before the next one,
and its hydrograph is handed on in a buffer (`slot`) that stays in cache. Children are pulled in their stored
order, then the lateral inflow is added, in every layout, cut and thread count: the bits never change.
"""

from __future__ import annotations

import numpy as np
from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.loops.rows import add_row
from bmi_cdlm.kernels.marks import uncounted
from bmi_cdlm.processes.links import link_flow
from bmi_cdlm.processes.muskingum import muskingum_coefficients, muskingum_step, muskingum_variance


def collect_runoff(links, runoff, lateral_inflow, lo, hi):
    """Lateral inflow (`ReachSeries`) of the reaches lo to hi from runoff [time, cell]."""
    for i in range(lo, hi):
        row = lateral_inflow.values[lateral_inflow.row[i]]
        collect_row(links, i, runoff, row)
        lateral_inflow.last[i] = row[row.size - 1]


def collect_row(links, i, runoff, row):
    """Lateral inflow of a reach in its row: the first cell sets, the others add."""
    first, last = links.first[i], links.first[i + 1]
    if first == last:
        for t in range(row.size):
            row[t] = 0.0
    else:
        cell, area = links.cell[first], links.area[first]
        for t in range(row.size):
            row[t] = link_flow(runoff[t, cell], area)
        for link in range(first + 1, last):
            cell, area = links.cell[link], links.area[link]
            for t in range(row.size):
                row[t] += link_flow(runoff[t, cell], area)


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


@uncounted
def route(
    network, links, p, y, runoff, lateral_inflow, hydrographs, discharge, inflow, outflow_total, n_sub, step_seconds,
    lo, hi, first, last,
):
    """Muskingum routing of the reaches sequence[lo:hi] over the model steps first to last, n_sub sub-steps each.

    y: float[reach], state, in place; runoff: float[time, cell] [mm d-1]; lateral_inflow, discharge (mean of the
    sub-steps): `ReachSeries`, filled; hydrographs: float[slot, time * n_sub], working space; inflow: float[place,
    time * n_sub], filled for the adjoint in the order of the sequence, or float[reach, 0]; outflow_total: float[reach]
    [m3], in place. A reach collects its lateral inflow just before it is routed: a country's would go to memory and
    come back.
    """
    place, begin, end, taping = lo, first * n_sub, last * n_sub, inflow.shape[1] > 0
    runoff = runoff[first:last]
    while place < hi:
        i = network.sequence[place]
        flow = hydrographs[network.slot[i], begin:end]
        gather_upstream(network, i, hydrographs, begin, flow)
        lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
        mean = discharge.values[discharge.row[i], first:last]
        collect_row(links, i, runoff, lateral)
        lateral_inflow.last[i] = lateral[lateral.size - 1]
        if taping:
            keep_inflow(flow, lateral, n_sub, inflow[place, begin:end])
        if network.in_step[place] == 2:
            j = network.sequence[place + 1]
            other = hydrographs[network.slot[j], begin:end]
            gather_upstream(network, j, hydrographs, begin, other)
            lateral_2 = lateral_inflow.values[lateral_inflow.row[j], first:last]
            mean_2 = discharge.values[discharge.row[j], first:last]
            collect_row(links, j, runoff, lateral_2)
            lateral_inflow.last[j] = lateral_2[lateral_2.size - 1]
            if taping:
                keep_inflow(other, lateral_2, n_sub, inflow[place + 1, begin:end])
            y[i], y[j], outflow_total[i], outflow_total[j] = route_two(
                flow, other, lateral, lateral_2, y[i], y[j], p.direct[i], p.direct[j], p.gain[i], p.gain[j], p.keep[i],
                p.keep[j], n_sub, mean, mean_2, outflow_total[i], outflow_total[j], step_seconds,
            )
            discharge.last[j] = mean_2[mean_2.size - 1]
            place += 2
        else:
            y[i], outflow_total[i] = route_reach(
                flow, lateral, y[i], p.direct[i], p.gain[i], p.keep[i], n_sub, mean, outflow_total[i], step_seconds
            )
            place += 1
        discharge.last[i] = mean[mean.size - 1]


@uncounted
def gather_upstream(network, i, hydrographs, begin, flow):
    """Sum what the reaches above send into reach i from sub-step `begin` on, in its own buffer `flow`."""
    first, last = network.first_child[i], network.first_child[i + 1]
    if first == last:
        flow[:] = 0.0
    for c in range(first + 1, last):
        add_row(flow, hydrographs[network.slot[network.child[c]], begin : begin + flow.size])


def keep_inflow(flow, lateral_inflow, n_sub, inflow):
    """Keep the whole inflow of a reach, the lateral inflow of a model step in each of its sub-steps."""
    if n_sub == 1:
        for t in range(lateral_inflow.size):
            inflow[t] = flow[t] + lateral_inflow[t]
        return
    for t in range(lateral_inflow.size):
        lateral = lateral_inflow[t]
        if n_sub == 24:  # a length known beforehand is taken in vectors
            for k in range(24 * t, 24 * t + 24):
                inflow[k] = flow[k] + lateral
        else:
            for k in range(t * n_sub, (t + 1) * n_sub):
                inflow[k] = flow[k] + lateral


def route_reach(flow, lateral_inflow, y, direct, gain, keep, n_sub, discharge, volume, step_seconds):
    """Route a block of sub-steps through a reach: `flow` comes in and goes out in place.

    Returns y and the volume [m3] that has left the reach, added to step by step.
    """
    if n_sub == 1:
        for t in range(lateral_inflow.size):
            outflow, y = muskingum_step(y, flow[t] + lateral_inflow[t], direct, gain, keep)
            flow[t] = outflow
            discharge[t] = outflow
            volume += outflow * step_seconds
        return y, volume
    k = 0
    for t in range(lateral_inflow.size):
        total = 0.0
        for _ in range(n_sub):
            outflow, y = muskingum_step(y, flow[k] + lateral_inflow[t], direct, gain, keep)
            flow[k] = outflow
            total += outflow
            k += 1
        mean = total / real(n_sub)
        discharge[t] = mean
        volume += mean * step_seconds
    return y, volume


def route_two(
    flow_1, flow_2, lateral_1, lateral_2, y1, y2, direct_1, direct_2, gain_1, gain_2, keep_1, keep_2, n_sub,
    discharge_1, discharge_2, volume_1, volume_2, step_seconds,
):
    """`route_reach` of two reaches at once, neither upstream of the other.

    A sub-step waits for the one before it, so that one reach alone leaves the processor idle most of the time.
    """
    if n_sub == 1:
        for t in range(lateral_1.size):
            outflow_1, y1 = muskingum_step(y1, flow_1[t] + lateral_1[t], direct_1, gain_1, keep_1)
            outflow_2, y2 = muskingum_step(y2, flow_2[t] + lateral_2[t], direct_2, gain_2, keep_2)
            flow_1[t] = outflow_1
            flow_2[t] = outflow_2
            discharge_1[t] = outflow_1
            discharge_2[t] = outflow_2
            volume_1 += outflow_1 * step_seconds
            volume_2 += outflow_2 * step_seconds
        return y1, y2, volume_1, volume_2
    k = 0
    for t in range(lateral_1.size):
        total_1 = 0.0
        total_2 = 0.0
        for _ in range(n_sub):
            outflow_1, y1 = muskingum_step(y1, flow_1[k] + lateral_1[t], direct_1, gain_1, keep_1)
            outflow_2, y2 = muskingum_step(y2, flow_2[k] + lateral_2[t], direct_2, gain_2, keep_2)
            flow_1[k] = outflow_1
            flow_2[k] = outflow_2
            total_1 += outflow_1
            total_2 += outflow_2
            k += 1
        mean_1 = total_1 / real(n_sub)
        mean_2 = total_2 / real(n_sub)
        discharge_1[t] = mean_1
        discharge_2[t] = mean_2
        volume_1 += mean_1 * step_seconds
        volume_2 += mean_2 * step_seconds
    return y1, y2, volume_1, volume_2


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
    takes over the buffer of its first child; an outlet's buffer is free again after the reach that follows, with which
    it may be routed at once.
    """
    sequence, first_child, child, slot = network.sequence, network.first_child, network.child, network.slot
    used = 0
    start = 0
    for piece in range(piece_end.size):
        n_free = 0
        leaving = -1
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
            if leaving >= 0:
                free[n_free] = leaving
                n_free += 1
            leaving = slot[i] if downstream[i] < 0 else -1
        start = piece_end[piece]
    return used


def compensated_sum(values, weights):
    """Sum of values times weights with its rounding carried along: a ledger of a million cells stays exact.

    64 lanes are summed side by side, since one sum alone waits for every addition; the order never changes.
    """
    lanes = 64 if values.size > 64 else values.size
    total, lost = np.zeros(lanes, values.dtype), np.zeros(lanes, values.dtype)
    for first in range(0, values.size, 64):
        last = first + lanes if first + lanes < values.size else values.size
        add_terms(total, lost, values[first:last], weights[first:last])
    whole, rest, one = np.zeros(1, values.dtype), np.zeros(1, values.dtype), np.ones(1, values.dtype)
    for k in range(total.size):
        add_terms(whole, rest, total[k : k + 1], one)
        rest[0] += lost[k]
    return whole[0] + rest[0]


def add_terms(total, lost, values, weights):
    """Add a product to each lane, and what rounding took from it to `lost` [Knuth's TwoSum]."""
    for k in range(values.size):
        before, term = total[k], values[k] * weights[k]
        after = before + term
        added = after - before
        total[k] = after
        lost[k] += (before - (after - added)) + (term - added)
