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

    start: float[reach], state at the block's start; upstream_inflow: as `route` filled it; discharge_adj:
    float[reach, time]; y_adj: adjoint of the state at the block's end, becomes that at its start; p_adj:
    coefficients, added to; hydrographs_adj: float[slot, time * n_sub] and states: float[slot, time * n_sub],
    working space; lateral_adj: float[reach, time], filled.
    """
    for place in range(hi - 1, lo - 1, -1):
        i = network.sequence[place]
        flow_adj = hydrographs_adj[network.slot[i]]
        first, last = network.first_child[i], network.first_child[i + 1]
        if downstream[i] < 0:
            flow_adj[:] = 0.0
        retrace_reach(upstream_inflow[i], lateral_inflow[i], start[i], p.direct[i], p.gain[i], p.keep[i], n_sub,
                      states[network.slot[i]])
        y, direct, gain, keep = reverse_reach(
            upstream_inflow[i], lateral_inflow[i], states[network.slot[i]], y_adj[i], p.direct[i], p.gain[i], p.keep[i],
            n_sub, discharge_adj[i], flow_adj, lateral_adj[i],
        )
        y_adj[i] = y
        p_adj.direct[i] += direct
        p_adj.gain[i] += gain
        p_adj.keep[i] += keep
        for c in range(first + 1, last):
            hydrographs_adj[network.slot[network.child[c]]] = flow_adj


def retrace_reach(upstream_inflow, lateral_inflow, y, direct, gain, keep, n_sub, states):
    """Recompute the state of a reach before each sub-step of a block."""
    k = 0
    for t in range(lateral_inflow.size):
        for _ in range(n_sub):
            states[k] = y
            _outflow, y = muskingum_step(y, upstream_inflow[k] + lateral_inflow[t], direct, gain, keep)
            k += 1


def reverse_reach(
    upstream_inflow, lateral_inflow, states, y_adj, direct, gain, keep, n_sub, discharge_adj, flow_adj, lateral_adj
):
    """Adjoint of `route_reach`: `flow_adj` comes in for the outflow and goes out for the inflow, in place.

    Returns the adjoints of the state at the block's start and of the three coefficients.
    """
    direct_adj, gain_adj, keep_adj = real(0), real(0), real(0)
    k = upstream_inflow.size - 1
    for t in range(lateral_inflow.size - 1, -1, -1):
        mean_adj = discharge_adj[t] / real(n_sub)
        lateral = real(0)
        for _ in range(n_sub):
            y_adj, inflow_adj, d, g, p = muskingum_step_adjoint(
                states[k], upstream_inflow[k] + lateral_inflow[t], direct, gain, keep, flow_adj[k] + mean_adj, y_adj
            )
            flow_adj[k] = inflow_adj
            lateral += inflow_adj
            direct_adj += d
            gain_adj += g
            keep_adj += p
            k -= 1
        lateral_adj[t] = lateral
    return y_adj, direct_adj, gain_adj, keep_adj


def fill_coefficients_adjoint(travel_time, weighting, step, p_adj, travel_time_adj, weighting_adj):
    """Adjoint of `fill_coefficients`: travel_time_adj and weighting_adj are added to."""
    for i in range(travel_time.size):
        K_adj, x_adj = muskingum_coefficients_adjoint(
            travel_time[i], weighting[i], step, p_adj.direct[i], p_adj.gain[i], p_adj.keep[i]
        )
        travel_time_adj[i] += K_adj
        weighting_adj[i] += x_adj
