"""Adjoint loops over reaches, mirroring `loops_routing`: downstream to upstream, a block of sub-steps per reach."""

from __future__ import annotations

from bmi_cdlm.kernels.links import link_flow_adjoint
from bmi_cdlm.kernels.loops_routing import real
from bmi_cdlm.kernels.muskingum import muskingum_coefficients_adjoint, muskingum_step, muskingum_step_adjoint


def spread_runoff(first_link, link_reach, link_area, lateral_adj, runoff_adj, lo, hi):
    """Adjoint of `collect_runoff`: runoff_adj [time, cell] of the cells lo to hi from lateral_adj [reach, time].

    first_link, link_reach, link_area: the links sorted by cell.
    """
    n_steps = runoff_adj.shape[0]
    for start in range(0, n_steps, 16):
        stop = start + 16 if start + 16 < n_steps else n_steps
        for cell in range(lo, hi):
            for t in range(start, stop):
                runoff_adj[t, cell] = 0.0
            for link in range(first_link[cell], first_link[cell + 1]):
                reach = link_reach[link]
                area = link_area[link]
                for t in range(start, stop):
                    runoff_adj[t, cell] += link_flow_adjoint(area, lateral_adj[reach, t])


def reverse_route(
    network, downstream, p, start, lateral_inflow, upstream_inflow, discharge_adj, y_adj, p_adj, hydrographs_adj,
    lateral_adj, states, n_sub, lo, hi,
):
    """Adjoint of `route` in the discharge, for one block of steps and the reaches sequence[lo:hi], backwards.

    start: float[reach], state at the block's start; lateral_inflow: float[reach, time]; upstream_inflow: as `route`
    filled it; discharge_adj: `ReachSeries`; y_adj: adjoint of the state at the block's end, becomes that at its
    start; p_adj: coefficients, added to; hydrographs_adj: float[slot, time * n_sub] and states: float[slot,
    time * n_sub], working space; lateral_adj: float[reach, time], filled.
    """
    place = hi - 1
    while place >= lo:
        i = network.sequence[place]
        flow_adj, states_1 = hydrographs_adj[network.slot[i]], states[network.slot[i]]
        mean_adj = discharge_adj.values[discharge_adj.row[i]]
        if downstream[i] < 0:
            flow_adj[:] = 0.0
        if network.in_step[place] == 2:
            j = network.sequence[place - 1]
            flow_adj_2, states_2 = hydrographs_adj[network.slot[j]], states[network.slot[j]]
            if downstream[j] < 0:
                flow_adj_2[:] = 0.0
            retrace_two(
                upstream_inflow[i], upstream_inflow[j], lateral_inflow[i], lateral_inflow[j], start[i], start[j],
                p.gain[i], p.gain[j], p.keep[i], p.keep[j], n_sub, states_1, states_2,
            )
            y_adj[i], y_adj[j] = reverse_two(
                upstream_inflow[i], upstream_inflow[j], lateral_inflow[i], lateral_inflow[j], states_1, states_2,
                y_adj[i], y_adj[j], p, p_adj, i, j, n_sub, mean_adj, discharge_adj.values[discharge_adj.row[j]],
                flow_adj, flow_adj_2, lateral_adj[i], lateral_adj[j],
            )
            hand_up(network, i, flow_adj, hydrographs_adj)
            hand_up(network, j, flow_adj_2, hydrographs_adj)
            place -= 2
        else:
            retrace_reach(upstream_inflow[i], lateral_inflow[i], start[i], p.gain[i], p.keep[i], n_sub, states_1)
            y_adj[i] = reverse_reach(
                upstream_inflow[i], lateral_inflow[i], states_1, y_adj[i], p, p_adj, i, n_sub, mean_adj, flow_adj,
                lateral_adj[i],
            )
            hand_up(network, i, flow_adj, hydrographs_adj)
            place -= 1


def hand_up(network, i, flow_adj, hydrographs_adj):
    """Adjoint of `gather_upstream`: every tributary gets the adjoint; the first one's buffer is the reach's own."""
    for c in range(network.first_child[i] + 1, network.first_child[i + 1]):
        hydrographs_adj[network.slot[network.child[c]]] = flow_adj


def retrace_reach(upstream_inflow, lateral_inflow, y, gain, keep, n_sub, states):
    """Recompute the state of a reach before each sub-step of a block."""
    k = 0
    for t in range(lateral_inflow.size):
        for _ in range(n_sub):
            states[k] = y
            _waste, y = muskingum_step(y, upstream_inflow[k] + lateral_inflow[t], gain, gain, keep)
            k += 1


def retrace_two(
    upstream_1, upstream_2, lateral_1, lateral_2, y1, y2, gain_1, gain_2, keep_1, keep_2, n_sub, states_1, states_2
):
    """`retrace_reach` of two reaches at once."""
    k = 0
    for t in range(lateral_1.size):
        for _ in range(n_sub):
            states_1[k] = y1
            states_2[k] = y2
            _waste, y1 = muskingum_step(y1, upstream_1[k] + lateral_1[t], gain_1, gain_1, keep_1)
            _waste, y2 = muskingum_step(y2, upstream_2[k] + lateral_2[t], gain_2, gain_2, keep_2)
            k += 1


def reverse_reach(
    upstream_inflow, lateral_inflow, states, y_adj, p, p_adj, i, n_sub, discharge_adj, flow_adj, lateral_adj
):
    """Adjoint of `route_reach`: `flow_adj` comes in for the outflow and goes out for the inflow, in place.

    Adds to the adjoints of the coefficients; returns that of the state at the block's start.
    """
    direct, gain, keep = p.direct[i], p.gain[i], p.keep[i]
    direct_adj, gain_adj, keep_adj = real(0), real(0), real(0)
    k = upstream_inflow.size - 1
    for t in range(lateral_inflow.size - 1, -1, -1):
        mean_adj = discharge_adj[t] / real(n_sub)
        lateral = real(0)
        for _ in range(n_sub):
            y_adj, inflow_adj, d, g, h = muskingum_step_adjoint(
                states[k], upstream_inflow[k] + lateral_inflow[t], direct, gain, keep, flow_adj[k] + mean_adj, y_adj
            )
            flow_adj[k] = inflow_adj
            lateral += inflow_adj
            direct_adj += d
            gain_adj += g
            keep_adj += h
            k -= 1
        lateral_adj[t] = lateral
    p_adj.direct[i] += direct_adj
    p_adj.gain[i] += gain_adj
    p_adj.keep[i] += keep_adj
    return y_adj


def reverse_two(
    upstream_1, upstream_2, lateral_1, lateral_2, states_1, states_2, y1_adj, y2_adj, p, p_adj, i, j, n_sub,
    discharge_1_adj, discharge_2_adj, flow_1_adj, flow_2_adj, lateral_1_adj, lateral_2_adj,
):
    """`reverse_reach` of the reaches i and j at once, neither upstream of the other."""
    direct_1, gain_1, keep_1 = p.direct[i], p.gain[i], p.keep[i]
    direct_2, gain_2, keep_2 = p.direct[j], p.gain[j], p.keep[j]
    direct_1_adj, gain_1_adj, keep_1_adj = real(0), real(0), real(0)
    direct_2_adj, gain_2_adj, keep_2_adj = real(0), real(0), real(0)
    k = upstream_1.size - 1
    for t in range(lateral_1.size - 1, -1, -1):
        mean_1_adj, mean_2_adj = discharge_1_adj[t] / real(n_sub), discharge_2_adj[t] / real(n_sub)
        sum_1, sum_2 = real(0), real(0)
        for _ in range(n_sub):
            y1_adj, inflow_1_adj, d1, g1, h1 = muskingum_step_adjoint(
                states_1[k], upstream_1[k] + lateral_1[t], direct_1, gain_1, keep_1, flow_1_adj[k] + mean_1_adj, y1_adj
            )
            y2_adj, inflow_2_adj, d2, g2, h2 = muskingum_step_adjoint(
                states_2[k], upstream_2[k] + lateral_2[t], direct_2, gain_2, keep_2, flow_2_adj[k] + mean_2_adj, y2_adj
            )
            flow_1_adj[k] = inflow_1_adj
            flow_2_adj[k] = inflow_2_adj
            sum_1 += inflow_1_adj
            sum_2 += inflow_2_adj
            direct_1_adj += d1
            gain_1_adj += g1
            keep_1_adj += h1
            direct_2_adj += d2
            gain_2_adj += g2
            keep_2_adj += h2
            k -= 1
        lateral_1_adj[t] = sum_1
        lateral_2_adj[t] = sum_2
    p_adj.direct[i] += direct_1_adj
    p_adj.gain[i] += gain_1_adj
    p_adj.keep[i] += keep_1_adj
    p_adj.direct[j] += direct_2_adj
    p_adj.gain[j] += gain_2_adj
    p_adj.keep[j] += keep_2_adj
    return y1_adj, y2_adj


def fill_coefficients_adjoint(travel_time, weighting, step, p_adj, travel_time_adj, weighting_adj):
    """Adjoint of `fill_coefficients`: travel_time_adj and weighting_adj are added to."""
    for i in range(travel_time.size):
        K_adj, x_adj = muskingum_coefficients_adjoint(
            travel_time[i], weighting[i], step, p_adj.direct[i], p_adj.gain[i], p_adj.keep[i]
        )
        travel_time_adj[i] += K_adj
        weighting_adj[i] += x_adj
