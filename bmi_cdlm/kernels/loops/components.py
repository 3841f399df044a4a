"""Several parameter sets per cell: units are [component * cell], cells are their mean."""

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
