"""Made-up river networks and domains of any size, the same for the same seed: a country in a few seconds."""

from __future__ import annotations

import numpy as np
from kernel_cases import random_river

from bmi_cdlm.domain.domain import Cells, Domain, Gauges, Links, Reaches, area_of_rivers
from bmi_cdlm.domain.network import accumulate_downstream, order_reaches

LARGEST = (0.42, 0.16, 0.08, 0.05, 0.03)
"""Shares of all reaches in the largest basins; the rest is in basins whose sizes follow a Pareto law."""
SMALLEST_BASIN = 50
SECOND_LINKS = 3
"""Every so many reaches drain a second cell too."""


def random_country(seed: int, n_reaches: int, n_cells: int, n_gauges: int) -> Domain:
    """A domain in routing order.

    Basins are drawn from all binary trees with equal chances [Shreve 1966]. Reaches that follow each other lie beside
    each other: along a Hilbert curve over the raster of cells, whose order is by rows.
    """
    rng = np.random.default_rng(seed)
    downstream = random_forest(rng, n_reaches)
    n = downstream.size
    ids = [str(i) for i in range(n)]
    order = order_reaches(downstream, ids)
    position = np.empty(n, np.int64)
    position[order] = np.arange(n)
    below = downstream[order]
    below = np.where(below >= 0, position[below], -1)
    row, column, cell = hilbert_raster(n_cells)
    links = _links(rng, n, cell)
    area = np.add.reduceat(links.area, links.first[:-1])
    drained = np.bincount(links.cell, weights=links.area, minlength=n_cells)
    lon, lat, nowhere = 80.0 + 0.03 * column, 50.0 - 0.03 * row, np.zeros(n)
    upstream_area = accumulate_downstream(below, area)
    n_gauges = min(n_gauges, n)
    gauged = np.sort(rng.choice(n, n_gauges, replace=False))
    names = [f"g{k}" for k in range(n_gauges)]
    corners = np.zeros((n_cells, 4))
    return Domain(
        Cells([str(k) for k in range(n_cells)], lon, lat, np.maximum(drained, 0.1), drained, corners, corners,
              np.full(n_cells, np.nan), np.full(n_cells, np.nan),
              area_of_rivers(links, upstream_area, n_cells)),
        Reaches([ids[i] for i in order], below, rng.lognormal(np.log(1000.0), 0.5, n), nowhere, area, upstream_area,
                nowhere, nowhere),
        links,
        Gauges(names, names, gauged, upstream_area[gauged]),
        order,
    )


def random_forest(rng: np.random.Generator, n_reaches: int) -> np.ndarray:
    """Downstream reach of basins with about that many reaches in all, one of them with 42 %."""
    sources = [max(1, round(share * n_reaches / 2)) for share in LARGEST]
    left = n_reaches // 2 - sum(sources)
    while left > 0:
        sources.append(min(left, round(SMALLEST_BASIN / rng.uniform(0.0005, 1.0))))
        left -= sources[-1]
    parts, first = [], 0
    for seed, count in zip(rng.integers(2**31, size=len(sources)), sources, strict=True):
        below = random_river(int(seed), count)
        parts.append(np.where(below >= 0, below + first, -1))
        first += below.size
    return np.concatenate(parts)


def hilbert_raster(n_cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of cells counted by rows, and the cell at every place of a Hilbert curve through them all."""
    order = max(1, int(np.ceil(np.log2(max(n_cells, 2)) / 2)))
    left, x, y = np.arange(n_cells), np.zeros(n_cells, np.int64), np.zeros(n_cells, np.int64)
    for k in range(order):
        side = 1 << k
        right = (left >> 1) & 1
        up = (left ^ right) & 1
        turned = up == 0
        flipped = turned & (right == 1)
        x, y = np.where(flipped, side - 1 - x, x), np.where(flipped, side - 1 - y, y)
        x, y = np.where(turned, y, x), np.where(turned, x, y)
        x, y, left = x + side * right, y + side * up, left >> 2
    by_rows = np.lexsort((x, y))
    cell = np.empty(n_cells, np.int64)
    cell[by_rows] = np.arange(n_cells)
    return y[by_rows], x[by_rows], cell


def _links(rng: np.random.Generator, n: int, cell: np.ndarray) -> Links:
    """Every reach drains the cell where it lies, every third one the next cell of the curve too."""
    place = np.arange(n) * cell.size // n
    second = np.arange(0, n, SECOND_LINKS)
    reach = np.r_[np.arange(n), second]
    at = np.r_[cell[place], cell[(place[second] + 1) % cell.size]]
    area = np.r_[rng.uniform(0.5, 1.1, n), rng.uniform(0.1, 0.5, second.size)]
    sort = np.lexsort((at, reach))
    first = np.r_[0, np.cumsum(np.bincount(reach, minlength=n))].astype(np.int64)
    return Links(first, at[sort], area[sort])
