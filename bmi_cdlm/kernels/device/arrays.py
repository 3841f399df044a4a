"""Whole arrays on a CUDA device, [row, column], a thread for each number: what numpy does on the host."""

from __future__ import annotations

from numba import cuda
from numpy import float64 as real  # the factory puts the compiled precision in its place


def fill(value, values):
    """Set all to one value."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < values.shape[1] and t < values.shape[0]:
        values[t, i] = value
        t += stride


def convert(a, values):
    """An array in the precision of another."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < a.shape[1] and t < a.shape[0]:
        values[t, i] = a[t, i]
        t += stride


def limit(a, least, values):
    """An array with no value below the least."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < a.shape[1] and t < a.shape[0]:
        values[t, i] = a[t, i] if a[t, i] > least else least
        t += stride


def scale(a, share, scaled):
    """A share of an array."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < a.shape[1] and t < a.shape[0]:
        scaled[t, i] = share * a[t, i]
        t += stride


def add(a, b, total):
    """The sum of two arrays."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < a.shape[1] and t < a.shape[0]:
        total[t, i] = a[t, i] + b[t, i]
        t += stride


def multiply(a, b, product):
    """The product of two arrays."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < a.shape[1] and t < a.shape[0]:
        product[t, i] = a[t, i] * b[t, i]
        t += stride


def negate(a, opposite):
    """An array negated."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < a.shape[1] and t < a.shape[0]:
        opposite[t, i] = -a[t, i]
        t += stride


def gather_units(units, share, cells):
    """Mean over components, [time, cell], each with the same share, in the order of the components."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < cells.shape[1] and t < cells.shape[0]:
        mean = share * units[t, i]
        for unit in range(i + cells.shape[1], units.shape[1], cells.shape[1]):
            mean += share * units[t, unit]
        cells[t, i] = mean
        t += stride


def weigh_units(units, weights, cells):
    """Mean over components, [time, cell], by weights, [1, component * cell], in the order of the components."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < cells.shape[1] and t < cells.shape[0]:
        mean = weights[0, i] * units[t, i]
        for unit in range(i + cells.shape[1], units.shape[1], cells.shape[1]):
            mean += weights[0, unit] * units[t, unit]
        cells[t, i] = mean
        t += stride


def share_out(cells_adj, weights, units_adj):
    """Adjoint of `weigh_units` in the units."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < units_adj.shape[1] and t < units_adj.shape[0]:
        units_adj[t, i] = weights[0, i] * cells_adj[t, i % cells_adj.shape[1]]
        t += stride


def sum_weights(units, cells_adj, weights_adj):
    """Adjoint of `weigh_units` in the weights, [component * cell], of float64, in the order of time."""
    i = cuda.grid(1)
    if i < weights_adj.size:
        weights_adj[i] = real(0)
        for t in range(units.shape[0]):
            weights_adj[i] += units[t, i] * cells_adj[t, i % cells_adj.shape[1]]


def spread_units(units_adj, cells_adj):
    """Adjoint of an input that all components share, [time, cell]: the sum over components."""
    i, t = cuda.grid(2)
    _, stride = cuda.gridsize(2)
    while i < cells_adj.shape[1] and t < cells_adj.shape[0]:
        total = real(0)
        for unit in range(i, units_adj.shape[1], cells_adj.shape[1]):
            total += units_adj[t, unit]
        cells_adj[t, i] = total
        t += stride


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
