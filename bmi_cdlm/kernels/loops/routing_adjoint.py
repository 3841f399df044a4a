"""Adjoint loops over reaches, mirroring `routing`: downstream to upstream, a block of sub-steps per reach."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.kernels.loops.routing import real
from bmi_cdlm.kernels.loops.rows import copy_row
from bmi_cdlm.kernels.marks import free_sums
from bmi_cdlm.processes.links import link_flow_adjoint
from bmi_cdlm.processes.muskingum import muskingum_coefficients_adjoint, muskingum_step, muskingum_step_adjoint


def spread_runoff(first_link, link_row, link_area, lateral_adj, runoff_adj, lo, hi):
    """Adjoint of `collect_runoff`: runoff_adj [time, cell] of the cells lo to hi from lateral_adj [row, time].

    first_link, link_row, link_area: the links sorted by cell. Cells are summed along time, then put across it.
    """
    n_steps, width = runoff_adj.shape[0], 64
    tile = np.empty((width, n_steps), runoff_adj.dtype)
    for left in range(lo, hi, width):
        right = left + width if left + width < hi else hi
        for cell in range(left, right):
            row = tile[cell - left]
            row[:] = 0.0
            for link in range(first_link[cell], first_link[cell + 1]):
                add_link(row, lateral_adj[link_row[link]], link_area[link])
        for t in range(n_steps):
            for cell in range(left, right):
                runoff_adj[t, cell] = tile[cell - left, t]


def add_link(runoff_adj, lateral_adj, area):
    """Adjoint of a link, one term of `collect_row`."""
    for t in range(runoff_adj.size):
        runoff_adj[t] += link_flow_adjoint(area, lateral_adj[t])


def reverse_route(
    network, downstream, p, start, inflow, discharge_adj, y_adj, p_adj, hydrographs_adj, lateral_adj, n_sub, lo, hi,
):
    """Adjoint of `route` in the discharge, for one block of steps and the reaches sequence[lo:hi], backwards.

    start: float[reach], state at the block's start; inflow: float[place, time * n_sub], as `route` filled it;
    discharge_adj: `ReachSeries`, its first row for all whose discharge nobody asked for; y_adj: adjoint of the state at
    the block's end, becomes that at its start; p_adj: coefficients, added to; hydrographs_adj: float[slot, time *
    n_sub], working space; lateral_adj: float[place, time], filled; with one sub-step it may be `inflow` itself.
    """
    place = hi - 1
    space = np.empty((4, inflow.shape[1]), y_adj.dtype)
    y_1, y_2, y_1_adj, y_2_adj = space[0], space[1], space[2], space[3]
    while place >= lo:
        i = network.sequence[place]
        flow_adj = hydrographs_adj[network.slot[i]]
        receive(downstream, i, discharge_adj, flow_adj, n_sub)
        if network.in_step[place] == 2:
            j = network.sequence[place - 1]
            flow_2_adj = hydrographs_adj[network.slot[j]]
            receive(downstream, j, discharge_adj, flow_2_adj, n_sub)
            y_adj[i], y_adj[j] = sweep_two(
                inflow[place], inflow[place - 1], flow_adj, flow_2_adj, start[i], start[j], y_adj[i], y_adj[j],
                p.gain[i], p.gain[j], p.keep[i], p.keep[j], y_1, y_2, y_1_adj, y_2_adj,
            )
            reverse_reach(p, p_adj, i, inflow[place], y_1, flow_adj, y_1_adj)
            reverse_reach(p, p_adj, j, inflow[place - 1], y_2, flow_2_adj, y_2_adj)
            sum_sub_steps(flow_adj, n_sub, lateral_adj[place])
            sum_sub_steps(flow_2_adj, n_sub, lateral_adj[place - 1])
            hand_up(network, i, flow_adj, hydrographs_adj)
            hand_up(network, j, flow_2_adj, hydrographs_adj)
            place -= 2
        else:
            y_adj[i] = sweep_reach(inflow[place], flow_adj, start[i], y_adj[i], p.gain[i], p.keep[i], y_1, y_1_adj)
            reverse_reach(p, p_adj, i, inflow[place], y_1, flow_adj, y_1_adj)
            sum_sub_steps(flow_adj, n_sub, lateral_adj[place])
            hand_up(network, i, flow_adj, hydrographs_adj)
            place -= 1


def receive(downstream, i, discharge_adj, flow_adj, n_sub):
    """Adjoint of the outflow of reach i, in its own buffer: from the reach below and from its discharge."""
    if downstream[i] < 0:
        flow_adj[:] = 0.0
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


def sweep_reach(inflow, outflow_adj, state, state_adj, gain, keep, y, y_adj):
    """What waits from sub-step to sub-step, `y` before each, forward, and `y_adj` after each, backward.

    Returns the adjoint of the state at the block's start. The two do not wait for each other. All else of the adjoint
    step is left to `reverse_reach`, which waits for nothing.
    """
    n = inflow.size
    for k in range(n):
        y[k] = state
        _waste, state = muskingum_step(state, inflow[k], gain, gain, keep)
        back = np.uint64(n - 1 - k)
        y_adj[back] = state_adj
        state_adj = muskingum_step_adjoint(state, state, gain, gain, keep, outflow_adj[back], state_adj)[0]
    return state_adj


def sweep_two(
    inflow_1, inflow_2, outflow_1_adj, outflow_2_adj, state_1, state_2, state_1_adj, state_2_adj, gain_1, gain_2,
    keep_1, keep_2, y_1, y_2, y_1_adj, y_2_adj,
):
    """`sweep_reach` of two reaches at once, neither upstream of the other."""
    n = inflow_1.size
    for k in range(n):
        y_1[k] = state_1
        y_2[k] = state_2
        _waste, state_1 = muskingum_step(state_1, inflow_1[k], gain_1, gain_1, keep_1)
        _waste, state_2 = muskingum_step(state_2, inflow_2[k], gain_2, gain_2, keep_2)
        back = np.uint64(n - 1 - k)
        y_1_adj[back] = state_1_adj
        y_2_adj[back] = state_2_adj
        adjoints = muskingum_step_adjoint(state_1, state_1, gain_1, gain_1, keep_1, outflow_1_adj[back], state_1_adj)
        state_1_adj = adjoints[0]
        adjoints = muskingum_step_adjoint(state_2, state_2, gain_2, gain_2, keep_2, outflow_2_adj[back], state_2_adj)
        state_2_adj = adjoints[0]
    return state_1_adj, state_2_adj


@free_sums
def reverse_reach(p, p_adj, i, inflow, y, flow_adj, y_adj):
    """Adjoint of `route_reach` but for the state: `flow_adj` comes in for the outflow and goes out for the inflow.

    Adds to the adjoints of the coefficients. The sums are in no stated order.
    """
    direct, gain, keep = p.direct[i], p.gain[i], p.keep[i]
    direct_adj, gain_adj, keep_adj = real(0), real(0), real(0)
    for k in range(inflow.size):
        _waste, flow_adj[k], d, g, h = muskingum_step_adjoint(
            y[k], inflow[k], direct, gain, keep, flow_adj[k], y_adj[k]
        )
        direct_adj += d
        gain_adj += g
        keep_adj += h
    p_adj.direct[i] += direct_adj
    p_adj.gain[i] += gain_adj
    p_adj.keep[i] += keep_adj


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


def fill_coefficients_adjoint(travel_time, weighting, step, p_adj, travel_time_adj, weighting_adj):
    """Adjoint of `fill_coefficients`: travel_time_adj and weighting_adj are added to."""
    for i in range(travel_time.size):
        K_adj, x_adj = muskingum_coefficients_adjoint(
            travel_time[i], weighting[i], step, p_adj.direct[i], p_adj.gain[i], p_adj.keep[i]
        )
        travel_time_adj[i] += K_adj
        weighting_adj[i] += x_adj
