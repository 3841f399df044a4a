"""Links and Muskingum routing on a CUDA device: time skewed against depth [SPEC 4.2].

Reaches lie in the order of their level: the outlets have the last, a reach one less than the reach below it. A
thread moves one reach through a tile of sub-steps; the tile j of a reach runs in wave level + j, one launch for
all of them, so that what the reaches above send is there from the wave before and is kept for two waves only.
The adjoint runs the waves backwards. Children are pulled in their stored order, then the lateral inflow is
added, as on the CPU; neither the length of a tile nor that of a block of waves changes the bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import cuda
from numpy import float64 as real  # the factory puts the compiled precision in its place

from bmi_cdlm.processes.links import link_flow, link_flow_adjoint
from bmi_cdlm.processes.muskingum import (
    muskingum_coefficients,
    muskingum_coefficients_adjoint,
    muskingum_step,
    muskingum_step_adjoint,
)


class Places(NamedTuple):
    """int32[place]: reaches in the order of their level; `place` is where a reach lies in it.

    level; below: place of the reach below, -1 at an outlet; first_child (one longer) and child: places of the
    children, in their stored order; first_output (one longer) and output: columns of the discharge handed out.
    """

    level: np.ndarray
    below: np.ndarray
    first_child: np.ndarray
    child: np.ndarray
    first_output: np.ndarray
    output: np.ndarray


class Chain(NamedTuple):
    """float[place]: coefficients of `muskingum_coefficients`."""

    direct: np.ndarray
    gain: np.ndarray
    keep: np.ndarray


def sum_links(first_link, other, link_area, values, sums, backwards):
    """Lateral inflow [time, place] from runoff [time, cell]; backwards, the adjoint of runoff from that of inflow.

    Links are sorted by the column of `sums`, a thread per column and time; other: column of `values` of a link.
    """
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    if i >= sums.shape[1]:
        return
    while t < sums.shape[0]:
        total = real(0)
        for link in range(first_link[i], first_link[i + 1]):
            value = values[t, other[link]]
            total += link_flow_adjoint(link_area[link], value) if backwards else link_flow(value, link_area[link])
        sums[t, i] = total
        t += stride


def fill_coefficients_reaches(travel_time, weighting, step, p):
    """Muskingum coefficients of every reach for a sub-step [s]."""
    i = cuda.grid(1)
    if i >= travel_time.size:
        return
    direct, gain, keep, storage_time = muskingum_coefficients(travel_time[i], weighting[i], step)
    p.direct[i] = direct
    p.gain[i] = gain
    p.keep[i] = keep
    p.storage_time[i] = storage_time


def fill_coefficients_reaches_adjoint(travel_time, weighting, step, p_adj, travel_time_adj, weighting_adj):
    """Adjoint of `fill_coefficients_reaches`: travel_time_adj and weighting_adj are set."""
    i = cuda.grid(1)
    if i >= travel_time.size:
        return
    K_adj, x_adj = muskingum_coefficients_adjoint(
        travel_time[i], weighting[i], step, real(p_adj.direct[i]), real(p_adj.gain[i]), real(p_adj.keep[i])
    )
    travel_time_adj[i] = K_adj
    weighting_adj[i] = x_adj


def clear(values):
    """Set all to zero."""
    i = cuda.grid(1)
    if i < values.size:
        values[i] = real(0)


def take_places(reach, values, placed):
    """Bring float[reach] into the order of places."""
    place = cuda.grid(1)
    if place < placed.size:
        placed[place] = values[reach[place]]


def give_reaches(reach, placed, values):
    """Bring float[place] back into the order of reaches."""
    place = cuda.grid(1)
    if place < placed.size:
        values[reach[place]] = placed[place]


def pull_inflow(sent, half, s, places, place):
    """What the reaches above send in sub-step s of a tile."""
    inflow = real(0)
    for c in range(places.first_child[place], places.first_child[place + 1]):
        inflow += sent[half, s, places.child[c]]
    return inflow


def route_wave(wave, lo, hi, places, chain, start, y, lateral_inflow, sent, step_total, n_sub, discharge):
    """One wave of Muskingum routing, the places lo to hi.

    start, y: float[place], state before the first tile and, in place, before the next; sent: float[2, sub-step of
    a tile, place], outflows of this wave and the last; step_total: float[place], outflow of the model step under
    way; discharge: float[time, output], mean of the sub-steps [m3 s-1].
    """
    place = lo + cuda.grid(1)
    if place >= hi:
        return
    tile = wave - places.level[place]
    size = sent.shape[1]
    state = start[place] if tile == 0 else y[place]
    total = step_total[place]
    for s in range(min(size, lateral_inflow.shape[0] * n_sub - tile * size)):
        k = tile * size + s
        t = k // n_sub
        total = real(0) if k == t * n_sub else total
        inflow = pull_inflow(sent, (wave + 1) % 2, s, places, place) + lateral_inflow[t, place]
        outflow, state = muskingum_step(state, inflow, chain.direct[place], chain.gain[place], chain.keep[place])
        sent[wave % 2, s, place] = outflow
        total += outflow
        if k == t * n_sub + n_sub - 1:
            for o in range(places.first_output[place], places.first_output[place + 1]):
                discharge[t, places.output[o]] = total / real(n_sub)
    step_total[place] = total
    y[place] = state


def retrace_wave(wave, lo, hi, first_wave, origin, places, chain, start, y, lateral_inflow, sent, n_sub, tape):
    """Run a wave again for the adjoint.

    tape: float[2, wave, sub-step of a tile, place], inflow and state before each sub-step; its first wave is
    `first_wave`, its first place `origin`.
    """
    place = lo + cuda.grid(1)
    if place >= hi:
        return
    tile = wave - places.level[place]
    size = sent.shape[1]
    state = start[place] if tile == 0 else y[place]
    for s in range(min(size, lateral_inflow.shape[0] * n_sub - tile * size)):
        t = (tile * size + s) // n_sub
        inflow = pull_inflow(sent, (wave + 1) % 2, s, places, place) + lateral_inflow[t, place]
        tape[0, wave - first_wave, s, place - origin] = inflow
        tape[1, wave - first_wave, s, place - origin] = state
        outflow, state = muskingum_step(state, inflow, chain.direct[place], chain.gain[place], chain.keep[place])
        sent[wave % 2, s, place] = outflow
    y[place] = state


def reverse_wave(
    wave, lo, hi, first_wave, origin, places, chain, tape, discharge_adj, y_adj, sent_adj, step_total, n_sub,
    chain_adj, lateral_adj,
):
    """Adjoint of `route_wave` in the discharge; waves go from the last to the first.

    y_adj: float[place], in place; sent_adj: float[2, sub-step of a tile, place], adjoints of the inflows of this
    wave and of the one before in this direction; step_total: float[place], adjoint of the lateral inflow of the
    model step under way; chain_adj: Chain of float64, set at the last tile and added to; lateral_adj: float[time,
    place], filled.
    """
    place = lo + cuda.grid(1)
    if place >= hi:
        return
    tile = wave - places.level[place]
    size = sent_adj.shape[1]
    n_sub_steps = lateral_adj.shape[0] * n_sub
    below, y, lateral = places.below[place], y_adj[place], step_total[place]
    direct_adj, gain_adj, keep_adj = real(0), real(0), real(0)
    for s in range(min(size, n_sub_steps - tile * size) - 1, -1, -1):
        k = tile * size + s
        t = k // n_sub
        mean_adj = real(0)
        for o in range(places.first_output[place], places.first_output[place + 1]):
            mean_adj += discharge_adj[t, places.output[o]]
        flow_adj = sent_adj[(wave + 1) % 2, s, below] if below >= 0 else real(0)
        y, inflow_adj, d, g, p = muskingum_step_adjoint(
            tape[1, wave - first_wave, s, place - origin], tape[0, wave - first_wave, s, place - origin],
            chain.direct[place], chain.gain[place], chain.keep[place], flow_adj + mean_adj / real(n_sub), y,
        )
        sent_adj[wave % 2, s, place] = inflow_adj
        lateral = inflow_adj if k == t * n_sub + n_sub - 1 else lateral + inflow_adj
        if k == t * n_sub:
            lateral_adj[t, place] = lateral
        direct_adj += d
        gain_adj += g
        keep_adj += p
    y_adj[place] = y
    step_total[place] = lateral
    last = (tile + 1) * size >= n_sub_steps
    chain_adj.direct[place] = direct_adj if last else chain_adj.direct[place] + direct_adj
    chain_adj.gain[place] = gain_adj if last else chain_adj.gain[place] + gain_adj
    chain_adj.keep[place] = keep_adj if last else chain_adj.keep[place] + keep_adj


def keep_wave(half, lo, hi, y, sent, kept):
    """Keep what the waves from here on need: float[1 + sub-step of a tile, place - lo], the state and the outflows."""
    place = lo + cuda.grid(1)
    if place >= hi:
        return
    kept[0, place - lo] = y[place]
    for s in range(sent.shape[1]):
        kept[1 + s, place - lo] = sent[half, s, place]


def restore_wave(half, lo, hi, y, sent, kept):
    """Put back what `keep_wave` kept."""
    place = lo + cuda.grid(1)
    if place >= hi:
        return
    y[place] = kept[0, place - lo]
    for s in range(sent.shape[1]):
        sent[half, s, place] = kept[1 + s, place - lo]
