"""The kernels of a process of reaches and of links on a CUDA device, written from their declarations [SPEC 4.2].

Time is skewed against depth: reaches lie in the order of their level, the outlets have the last, a reach one less than
the reach below it. A thread moves one reach through a tile of sub-steps; the tile j of a reach runs in wave level + j,
one launch for all of them, so that what the reaches above send is there from the wave before and is kept for two waves
only. The adjoint runs the waves backwards, with a tape of inflow and state before each sub-step of a block of waves,
whether the process is linear or not. Children are pulled in their stored order, then the lateral inflow is added, as on
the CPU; neither the length of a tile nor that of a block of waves changes the bits.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numpy import float64 as real  # the factory puts the compiled precision in its place

from bmi_cdlm.kernels.loops.groups import group
from bmi_cdlm.kernels.loops.reach_plan import SECONDS, ReachPlan
from bmi_cdlm.kernels.loops.source import make_functions, signature
from bmi_cdlm.names.declaration import LinkProcess, ReachProcess


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


def pull_inflow(sent, half, s, places, place):
    """What the reaches above send in sub-step s of a tile."""
    inflow = real(0)
    for c in range(places.first_child[place], places.first_child[place + 1]):
        inflow += sent[half, s, places.child[c]]
    return inflow


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


LINKS = '''
def collect_links(first_link, cell, link_area, runoff, lateral_inflow):
    """Lateral inflow [time, place] from runoff [time, cell]; links are sorted by place."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < lateral_inflow.shape[1] and t < lateral_inflow.shape[0]:
        total = real(0)
        for link in range(first_link[i], first_link[i + 1]):
            total += link_flow(runoff[t, cell[link]], link_area[link])
        lateral_inflow[t, i] = total
        t += stride


def spread_links(first_link, place, link_area, lateral_adj, runoff_adj):
    """Adjoint of `collect_links`: runoff_adj [time, cell] from lateral_adj [time, place]; links are sorted by cell."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < runoff_adj.shape[1] and t < runoff_adj.shape[0]:
        total = real(0)
        for link in range(first_link[i], first_link[i + 1]):
            total += link_flow_adjoint(link_area[link], lateral_adj[t, place[link]])
        runoff_adj[t, i] = total
        t += stride
'''
WAVES = '''
def route_wave(wave, lo, hi, places, p, start, y, lateral_inflow, sent, step_total, step, n_sub, discharge):
    """One wave of routing, the places lo to hi.

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
        outflow, state = {step}
        sent[wave % 2, s, place] = outflow
        total += outflow
        if k == t * n_sub + n_sub - 1:
            for o in range(places.first_output[place], places.first_output[place + 1]):
                discharge[t, places.output[o]] = total / real(n_sub)
    step_total[place] = total
    y[place] = state


def retrace_wave(wave, lo, hi, first_wave, origin, places, p, start, y, lateral_inflow, sent, step, n_sub, tape):
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
        outflow, state = {step}
        sent[wave % 2, s, place] = outflow
    y[place] = state


def reverse_wave(
    wave, lo, hi, first_wave, origin, places, p, tape, discharge_adj, y_adj, sent_adj, step_total, step, n_sub, p_adj,
    lateral_adj,
):
    """Adjoint of `route_wave` in the discharge; waves go from the last to the first.

    y_adj: float[place], in place; sent_adj: float[2, sub-step of a tile, place], adjoints of the inflows of this
    wave and of the one before in this direction; step_total: float[place], adjoint of the lateral inflow of the
    model step under way; p_adj: of float64, set at the last tile and added to; lateral_adj: float[time, place],
    filled.
    """
    place = lo + cuda.grid(1)
    if place >= hi:
        return
    tile = wave - places.level[place]
    size = sent_adj.shape[1]
    n_sub_steps = lateral_adj.shape[0] * n_sub
    below, state_adj, lateral = places.below[place], y_adj[place], step_total[place]
{sums}
    for s in range(min(size, n_sub_steps - tile * size) - 1, -1, -1):
        k = tile * size + s
        t = k // n_sub
        mean_adj = real(0)
        for o in range(places.first_output[place], places.first_output[place + 1]):
            mean_adj += discharge_adj[t, places.output[o]]
        flow_adj = sent_adj[(wave + 1) % 2, s, below] if below >= 0 else real(0)
        outflow_adj = flow_adj + mean_adj / real(n_sub)
        inflow = tape[0, wave - first_wave, s, place - origin]
        state = tape[1, wave - first_wave, s, place - origin]
        state_adj, inflow_adj{results} = {adjoint}
        sent_adj[wave % 2, s, place] = inflow_adj
        lateral = inflow_adj if k == t * n_sub + n_sub - 1 else lateral + inflow_adj
        if k == t * n_sub:
            lateral_adj[t, place] = lateral
{adding}
    y_adj[place] = state_adj
    step_total[place] = lateral
    last = (tile + 1) * size >= n_sub_steps
{giving}
'''


@cache
def link_kernels(links: LinkProcess) -> types.SimpleNamespace:
    """Return the kernels of links: `collect` and `spread`."""
    known = {"cuda": cuda, "real": real, "link_flow": links.flow, "link_flow_adjoint": links.adjoint}
    made = make_functions(LINKS, f"kernels of {links.name} on a device", known)
    return types.SimpleNamespace(collect=made["collect_links"], spread=made["spread_links"])


@cache
def reach_kernels(process: ReachProcess) -> types.SimpleNamespace:
    """Return the kernels of a process, one for a wave each: `route`, `retrace` and `reverse`."""
    plan = ReachPlan(process)
    coefficients = plan.coefficients
    own = {c: f"p.{c}[place]" for c in coefficients} | {process.symbol: "state", SECONDS: "step.seconds"}
    forward = signature([own.get(a, a) for a in plan.takes], 12)
    backward = signature([(own | {f"{process.symbol}_adj": "state_adj"}).get(a, a) for a in plan.adjoint_takes], 12)
    text = WAVES.format(
        step=f"{process.step.__name__}(\n            {forward}\n        )",
        adjoint=f"{plan.adjoint.__name__}(\n            {backward}\n        )",
        results="".join(f", d_{c}" for c in coefficients),
        sums="\n".join(f"    sum_{c} = real(0)" for c in coefficients),
        adding="\n".join(f"        sum_{c} += d_{c}" for c in coefficients),
        giving="\n".join(
            f"    p_adj.{c}[place] = sum_{c} if last else p_adj.{c}[place] + sum_{c}" for c in coefficients
        ),
    )
    known: dict[str, Any] = {
        "cuda": cuda, "real": real, "pull_inflow": pull_inflow, process.step.__name__: process.step,
        plan.adjoint.__name__: plan.adjoint,
    }
    made = make_functions(text, f"kernels of {process.name} on a device", known)
    return types.SimpleNamespace(
        route=made["route_wave"], retrace=made["retrace_wave"], reverse=made["reverse_wave"],
        coefficients=group("PlacedCoefficients", coefficients),
    )
