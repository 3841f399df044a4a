"""Several parameter sets per cell: units are [component * cell], cells are their mean, plain or by weights."""

from __future__ import annotations


def gather_components(units, share, cells):
    """Mean over components, [time, cell], each with the same share, in the order of the components."""
    n = cells.shape[1]
    for t in range(cells.shape[0]):
        row = cells[t]
        for i in range(n):
            row[i] = share * units[t, i]
        for first in range(n, units.shape[1], n):
            part = units[t, first : first + n]
            for i in range(n):
                row[i] += share * part[i]


def weigh_components(units, weights, cells):
    """Mean over components, [time, cell], by weights, [component * cell], in the order of the components."""
    n = cells.shape[1]
    for t in range(cells.shape[0]):
        row, first_part = cells[t], units[t]
        for i in range(n):
            row[i] = weights[i] * first_part[i]
        for first in range(n, units.shape[1], n):
            part, share = units[t, first : first + n], weights[first : first + n]
            for i in range(n):
                row[i] += share[i] * part[i]


def weigh_components_adjoint(units, weights, cells_adj, units_adj, weights_adj):
    """Adjoint of `weigh_components`: units_adj is filled, weights_adj, of float64, added to in the order of time."""
    n = cells_adj.shape[1]
    for t in range(cells_adj.shape[0]):
        row = cells_adj[t]
        for first in range(0, units.shape[1], n):
            part, share = units[t, first : first + n], weights[first : first + n]
            part_adj, share_adj = units_adj[t, first : first + n], weights_adj[first : first + n]
            for i in range(n):
                part_adj[i] = share[i] * row[i]
            for i in range(n):
                share_adj[i] += part[i] * row[i]


def spread_components(units_adj, cells_adj):
    """Adjoint of an input that all components share, [time, cell]: the sum over components."""
    n = cells_adj.shape[1]
    for t in range(cells_adj.shape[0]):
        row = cells_adj[t]
        for i in range(n):
            row[i] = units_adj[t, i]
        for first in range(n, units_adj.shape[1], n):
            part = units_adj[t, first : first + n]
            for i in range(n):
                row[i] += part[i]
