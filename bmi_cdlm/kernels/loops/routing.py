"""Loops over the river network that no process changes: what comes from above and goes below, sums, buffers."""

from __future__ import annotations

import numpy as np
from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.loops.rows import add_row, copy_row, fill_row, tile_rows
from bmi_cdlm.kernels.marks import free_sums, uncounted


@uncounted
def gather_upstream(network, i, hydrographs, begin, flow):
    """Sum what the reaches above send into reach i from sub-step `begin` on, in its own buffer `flow`."""
    first, last = network.first_child[i], network.first_child[i + 1]
    if first == last:
        fill_row(flow, 0.0)
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


def receive(downstream, i, discharge_adj, flow_adj, n_sub):
    """Adjoint of the outflow of reach i, in its own buffer: from the reach below and from its discharge."""
    if downstream[i] < 0:
        fill_row(flow_adj, 0.0)
    if discharge_adj.row[i] > 0:
        mean_adj = discharge_adj.values[discharge_adj.row[i]]
        for t in range(mean_adj.size):
            share = mean_adj[t] / real(n_sub)
            for k in range(t * n_sub, (t + 1) * n_sub):
                flow_adj[k] += share


def hand_up(network, i, flow_adj, hydrographs_adj):
    """Adjoint of `gather_upstream`: every tributary gets the adjoint; the first one's buffer is the reach's own."""
    for c in range(network.first_child[i] + 1, network.first_child[i + 1]):
        copy_row(flow_adj, hydrographs_adj[network.slot[network.child[c]]])


def sweep_states(outflow_adj, outflow_slope, state_slope, state_adj, y_adj):
    """Adjoints of the states of a reach after each sub-step, backward; returns that of the state at the block's start.

    outflow_slope, state_slope: how outflow and state of a sub-step follow from the state before it.
    """
    for k in range(outflow_adj.size - 1, -1, -1):
        y_adj[k] = state_adj
        state_adj = fma(state_slope[k], state_adj, outflow_slope[k] * outflow_adj[k])
    return state_adj


@free_sums
def sum_sub_steps(inflow_adj, n_sub, lateral_adj):
    """Adjoint of the lateral inflow of every model step, from its sub-steps'; the sums are in no stated order."""
    if n_sub == 1:
        for t in range(lateral_adj.size):
            lateral_adj[t] = inflow_adj[t]
        return
    for t in range(lateral_adj.size):
        total = real(0)
        if n_sub == 24:  # a length known beforehand is taken in vectors
            for k in range(24 * t, 24 * t + 24):
                total += inflow_adj[k]
        else:
            for k in range(t * n_sub, (t + 1) * n_sub):
                total += inflow_adj[k]
        lateral_adj[t] = total


def accumulate(downstream, values):
    """Add each reach's value to the one below, in routing order, in place."""
    for i in range(downstream.size):
        if downstream[i] >= 0:
            values[downstream[i]] += values[i]


def add_ways(downstream, values):
    """Add to each reach's value those of all reaches below it, against the routing order, in place."""
    for k in range(downstream.size):
        i = downstream.size - 1 - k
        if downstream[i] >= 0:
            values[i] += values[downstream[i]]


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
    takes over the buffer of its first child; an outlet's buffer is free again after the reaches with which it may be
    routed at once.
    """
    sequence, first_child, child, slot = network.sequence, network.first_child, network.child, network.slot
    leaving = np.empty(128, np.int64)
    used = 0
    start = 0
    for piece in range(piece_end.size):
        n_free = 0
        n_leaving = 0
        group_end = start
        for place in range(start, piece_end[piece]):
            if place == group_end:
                group_end = place + int(network.in_step[place])
                for k in range(n_leaving):
                    free[n_free] = leaving[k]
                    n_free += 1
                n_leaving = 0
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
                leaving[n_leaving] = slot[i]
                n_leaving += 1
        start = piece_end[piece]
    return used


def compensated_sum(values, weights):
    """Sum of values times weights with its rounding carried along: a ledger of a million cells stays exact.

    64 lanes are summed side by side, since one sum alone waits for every addition; the order never changes.
    """
    lanes = 64 if values.size > 64 else values.size
    rows = tile_rows(5, lanes, values)
    total, lost = rows[0, :lanes], rows[1, :lanes]
    for first in range(0, values.size, 64):
        last = first + lanes if first + lanes < values.size else values.size
        add_terms(total, lost, values[first:last], weights[first:last])
    whole, rest, one = rows[2, :1], rows[3, :1], rows[4, :1]
    one[0] = 1.0
    for k in range(total.size):
        add_terms(whole, rest, total[k : k + 1], one)
        rest[0] += lost[k]
    return whole[0] + rest[0]


def add_up_cells(stores, queues, helds, queued, stored):
    """Water of cells: that of stores, then that in queues; stores, helds: tuples of rows, queues: of [place, cell].

    helds and stored are filled; queued is working space.
    """
    copy_row(stores[0], stored)
    for k in range(1, len(stores)):
        add_row(stored, stores[k])
    for k in range(len(queues)):
        copy_row(queues[k][0], helds[k])
        for place in range(1, queues[k].shape[0]):
            add_row(helds[k], queues[k][place])
        if k == 0:
            copy_row(helds[k], queued)
        else:
            add_row(queued, helds[k])
    add_row(stored, queued)


def sum_balance(depths, volume, means, share, flows, at_outlets, in_reaches, every_reach, sums):
    """Every sum of a water balance in one call, for a call costs as much as all sums over a few cells.

    depths, weighted by volume, means, by share, and flows, by at_outlets, are tuples of arrays; sums has a place for
    each of them, in this order, and the last for the water in reaches.
    """
    k = 0
    for values in depths:
        sums[k] = compensated_sum(values, volume)
        k += 1
    for values in means:
        sums[k] = compensated_sum(values, share)
        k += 1
    for values in flows:
        sums[k] = compensated_sum(values, at_outlets)
        k += 1
    sums[k] = compensated_sum(in_reaches, every_reach)


def add_terms(total, lost, values, weights):
    """Add a product to each lane, and what rounding took from it to `lost` [Knuth's TwoSum]."""
    for k in range(values.size):
        before, term = total[k], values[k] * weights[k]
        after = before + term
        added = after - before
        total[k] = after
        lost[k] += (before - (after - added)) + (term - added)
