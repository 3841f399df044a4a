"""Queues on a CUDA device: a ring of places for every cell, in the device's memory; they mirror `loops.queues`."""

from __future__ import annotations

from numpy import float64 as real  # the factory puts the compiled precision in its place

from bmi_cdlm.kernels.loops.queues import queue_step, queue_step_adjoint


def pass_ring(ring, head, ordinates, inflow, i):
    """Take one step's inflow into a cell's queue, whose place at `head` leaves now; returns what leaves."""
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


def sweep_ring(ring_adj, head, ordinates, inflow, share, inflow_adj, ordinates_sum, i):
    """Adjoint of `pass_ring`, its place at `head` holding the adjoint of what left; returns inflow_adj, added to.

    inflow: before the share of it was taken.
    """
    n = ring_adj.shape[0]
    for k in range(n):
        place = head + k
        o, water = queue_step_adjoint(ordinates[k, i], share * inflow, ring_adj[place if place < n else place - n, i])
        ordinates_sum[k, i] += o
        inflow_adj += share * water
    return inflow_adj


def clear_places(values, i):
    """Set what a cell has in every place, [place, cell], to zero."""
    for k in range(values.shape[0]):
        values[k, i] = 0.0


def add_places(total, part, i):
    """Add to what a cell has in every place, [place, cell]."""
    for k in range(total.shape[0]):
        total[k, i] += part[k, i]
