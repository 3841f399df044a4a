"""GR4J on a CUDA device: one thread per cell, the time loop inside; mirrors `loops.runoff` and its adjoint.

Arrays are as there, [time, cell] and [place, cell], so that neighbouring threads read neighbouring numbers. A
thread keeps stores in registers; the unit hydrographs are rings in the device's memory. The adjoint recomputes
blocks of steps from the states at their starts, with a tape of one block, all in one launch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import cuda
from numpy import float64 as real  # the factory puts the compiled precision in its place

from bmi_cdlm.processes.gr4j import (
    production_step,
    production_step_adjoint,
    queue_step,
    queue_step_adjoint,
    routing_store_step,
    routing_store_step_adjoint,
    s_curve_1,
    s_curve_1_adjoint,
    s_curve_2,
    s_curve_2_adjoint,
)


class Rings(NamedTuple):
    """float[place, cell]: the two unit hydrographs of every cell, each a ring of places."""

    first: np.ndarray
    second: np.ndarray


def pass_ring(ring, head, ordinates, inflow, i):
    """Take one step's inflow into a cell's unit hydrograph, whose place at `head` leaves now; returns what leaves."""
    n = ring.shape[0]
    leaving = real(0)
    for k in range(n):
        place = head + k
        place = place if place < n else place - n
        water = queue_step(ring[place, i] if k < n - 1 else real(0), ordinates[k, i], inflow)
        ring[place, i] = water
        leaving = water if k == 0 else leaving
    return leaving


def unroll_ring(ring, head, queue, i):
    """Write a cell's ring as a queue: the place that leaves next comes first, the one that left is empty."""
    n = ring.shape[0]
    for k in range(n - 1):
        place = head + k
        queue[k, i] = ring[place if place < n else place - n, i]
    queue[n - 1, i] = real(0)


def roll_ring(queue, head, ring, i):
    """Write a cell's queue into its ring, the place that leaves next at `head`."""
    n = ring.shape[0]
    for k in range(n):
        place = head + k
        ring[place if place < n else place - n, i] = queue[k, i] if k < n - 1 else real(0)


def runoff_cell(S, R, P, E, x1, x2, x3, step, rings, head_1, head_2, p, i):
    """One step of GR4J, P, E and the runoff in mm d-1. Returns S, R, Pr, Q9, Q1 and the runoff."""
    S, _AE, _Pn, _Ps, _percolation, Pr, _n = production_step(
        S, P * step.days, E * step.days, x1, step.percolation_scale
    )
    Q9 = pass_ring(rings.first, head_1, p.ordinates_1, 0.9 * Pr, i)
    Q1 = pass_ring(rings.second, head_2, p.ordinates_2, 0.1 * Pr, i)
    R, Q, _exchange, _F, _AE1, _AE2, _Qr, _Qd = routing_store_step(R, Q9, Q1, x2, x3)
    return S, R, Pr, Q9, Q1, Q * step.per_day


def runoff_cells(liquid, demand, p, state, starts, rings, step, block, runoff):
    """GR4J of every cell over all steps; `state` in place.

    starts: RunoffState of float[block, cell] and float[block, place, cell], filled with the state before every
    `block` steps; rings: working space.
    """
    i = cuda.grid(1)
    if i >= runoff.shape[1]:
        return
    x1, x2, x3 = p.production_capacity[i], p.exchange_coefficient[i], p.routing_capacity[i]
    S, R = state.production_store[i], state.routing_store[i]
    n1, n2, head_1, head_2 = rings.first.shape[0], rings.second.shape[0], 0, 0
    roll_ring(state.unit_hydrograph_1, 0, rings.first, i)
    roll_ring(state.unit_hydrograph_2, 0, rings.second, i)
    for t in range(runoff.shape[0]):
        if t % block == 0:
            b = t // block
            starts.production_store[b, i] = S
            starts.routing_store[b, i] = R
            unroll_ring(rings.first, head_1, starts.unit_hydrograph_1[b], i)
            unroll_ring(rings.second, head_2, starts.unit_hydrograph_2[b], i)
        S, R, _Pr, _Q9, _Q1, Q = runoff_cell(
            S, R, liquid[t, i], demand[t, i], x1, x2, x3, step, rings, head_1, head_2, p, i
        )
        runoff[t, i] = Q
        head_1 = head_1 + 1 if head_1 + 1 < n1 else 0
        head_2 = head_2 + 1 if head_2 + 1 < n2 else 0
    state.production_store[i] = S
    state.routing_store[i] = R
    unroll_ring(rings.first, head_1, state.unit_hydrograph_1, i)
    unroll_ring(rings.second, head_2, state.unit_hydrograph_2, i)


def retrace_runoff_cell(liquid, demand, p, starts, rings, step, block, b, tape, i):
    """Run block b of a cell again; the tape, float[5, block, cell], keeps S, R, Pr, Q9, Q1 as a step uses them."""
    x1, x2, x3 = p.production_capacity[i], p.exchange_coefficient[i], p.routing_capacity[i]
    S, R = starts.production_store[b, i], starts.routing_store[b, i]
    n1, n2, head_1, head_2 = rings.first.shape[0], rings.second.shape[0], 0, 0
    roll_ring(starts.unit_hydrograph_1[b], 0, rings.first, i)
    roll_ring(starts.unit_hydrograph_2[b], 0, rings.second, i)
    for t in range(b * block, min((b + 1) * block, liquid.shape[0])):
        k = t - b * block
        tape[0, k, i] = S
        tape[1, k, i] = R
        S, R, Pr, Q9, Q1, _Q = runoff_cell(
            S, R, liquid[t, i], demand[t, i], x1, x2, x3, step, rings, head_1, head_2, p, i
        )
        tape[2, k, i] = Pr
        tape[3, k, i] = Q9
        tape[4, k, i] = Q1
        head_1 = head_1 + 1 if head_1 + 1 < n1 else 0
        head_2 = head_2 + 1 if head_2 + 1 < n2 else 0


def sweep_ring(ring_adj, head, ordinates, Pr, share, Pr_adj, ordinates_sum, i):
    """Adjoint of `pass_ring`, its place at `head` holding the adjoint of what left; returns Pr_adj, added to."""
    n = ring_adj.shape[0]
    for k in range(n):
        place = head + k
        o, inflow = queue_step_adjoint(ordinates[k, i], share * Pr, ring_adj[place if place < n else place - n, i])
        ordinates_sum[k, i] += o
        Pr_adj += share * inflow
    return Pr_adj


def runoff_cells_adjoint(
    liquid, demand, p, starts, rings, step, block, tape, rings_adj, sums, runoff_adj, state_adj, p_adj, liquid_adj,
):
    """Adjoint of `runoff_cells` in the runoff.

    rings, rings_adj, sums (of the ordinates' adjoints over a block): Rings, working space; state_adj: at the end
    of the period, becomes that at its start; p_adj: RunoffParameters of float64, set, summed over
    the steps of a block in the kernel's precision and over blocks in float64; liquid_adj: float[time, cell], filled;
    that of demand is its negative.
    """
    i = cuda.grid(1)
    if i >= runoff_adj.shape[1]:
        return
    x1, x2, x3 = p.production_capacity[i], p.exchange_coefficient[i], p.routing_capacity[i]
    S_adj, R_adj = state_adj.production_store[i], state_adj.routing_store[i]
    n_steps, n1, n2 = runoff_adj.shape[0], rings.first.shape[0], rings.second.shape[0]
    roll_ring(state_adj.unit_hydrograph_1, n_steps % n1, rings_adj.first, i)
    roll_ring(state_adj.unit_hydrograph_2, n_steps % n2, rings_adj.second, i)
    x1_total, x2_total, x3_total = np.float64(0), np.float64(0), np.float64(0)
    clear_totals(p_adj.ordinates_1, i)
    clear_totals(p_adj.ordinates_2, i)
    for b in range((n_steps - 1) // block, -1, -1):
        retrace_runoff_cell(liquid, demand, p, starts, rings, step, block, b, tape, i)
        clear_totals(sums.first, i)
        clear_totals(sums.second, i)
        x1_sum, x2_sum, x3_sum = real(0), real(0), real(0)
        for t in range(min((b + 1) * block, n_steps) - 1, b * block - 1, -1):
            k = t - b * block
            Pr = tape[2, k, i]
            R_adj, Q9_adj, Q1_adj, d_x2, d_x3 = routing_store_step_adjoint(
                tape[1, k, i], tape[3, k, i], tape[4, k, i], x2, x3, R_adj, runoff_adj[t, i] * step.per_day
            )
            rings_adj.first[t % n1, i] = Q9_adj
            rings_adj.second[t % n2, i] = Q1_adj
            Pr_adj = sweep_ring(rings_adj.second, t % n2, p.ordinates_2, Pr, 0.1, real(0), sums.second, i)
            Pr_adj = sweep_ring(rings_adj.first, t % n1, p.ordinates_1, Pr, 0.9, Pr_adj, sums.first, i)
            S_adj, rain_adj, _evaporation_adj, d_x1 = production_step_adjoint(
                tape[0, k, i], liquid[t, i] * step.days, demand[t, i] * step.days, x1, step.percolation_scale, S_adj,
                Pr_adj,
            )
            liquid_adj[t, i] = rain_adj * step.days
            x1_sum += d_x1
            x2_sum += d_x2
            x3_sum += d_x3
        x1_total += x1_sum
        x2_total += x2_sum
        x3_total += x3_sum
        add_totals(p_adj.ordinates_1, sums.first, i)
        add_totals(p_adj.ordinates_2, sums.second, i)
    state_adj.production_store[i] = S_adj
    state_adj.routing_store[i] = R_adj
    unroll_ring(rings_adj.first, 0, state_adj.unit_hydrograph_1, i)
    unroll_ring(rings_adj.second, 0, state_adj.unit_hydrograph_2, i)
    p_adj.production_capacity[i] = x1_total
    p_adj.exchange_coefficient[i] = x2_total
    p_adj.routing_capacity[i] = x3_total


def clear_totals(total, i):
    """Set the totals of a cell, [place, cell], to zero."""
    for k in range(total.shape[0]):
        total[k, i] = 0.0


def add_totals(total, part, i):
    """Add to the totals of a cell, [place, cell]."""
    for k in range(total.shape[0]):
        total[k, i] += part[k, i]


def fill_ordinates_cells(x4, exponent, ordinates_1, ordinates_2):
    """Ordinates of both unit hydrographs, float[k, cell], from X4 [steps]."""
    i = cuda.grid(1)
    if i >= x4.size:
        return
    before = real(0)
    for k in range(ordinates_1.shape[0]):
        share = s_curve_1(real(k + 1), x4[i], exponent)
        ordinates_1[k, i] = share - before
        before = share
    before = real(0)
    for k in range(ordinates_2.shape[0]):
        share = s_curve_2(real(k + 1), x4[i], exponent)
        ordinates_2[k, i] = share - before
        before = share


def fill_ordinates_cells_adjoint(x4, exponent, ordinates_1_adj, ordinates_2_adj, x4_adj):
    """Adjoint of `fill_ordinates_cells`: x4_adj is set."""
    i = cuda.grid(1)
    if i >= x4.size:
        return
    total = real(0)
    n1, n2 = ordinates_1_adj.shape[0], ordinates_2_adj.shape[0]
    for k in range(n1):
        above = real(ordinates_1_adj[k + 1, i]) if k + 1 < n1 else real(0)
        total += s_curve_1_adjoint(real(k + 1), x4[i], exponent, real(ordinates_1_adj[k, i]) - above)
    for k in range(n2):
        above = real(ordinates_2_adj[k + 1, i]) if k + 1 < n2 else real(0)
        total += s_curve_2_adjoint(real(k + 1), x4[i], exponent, real(ordinates_2_adj[k, i]) - above)
    x4_adj[i] = total
