"""River networks from D8 flow directions: what drains where, how far, and what lies upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.errors import DomainError

# Flow direction codes 1 to 8, clockwise from north: (rows down, columns right) to the next pixel.
CLOCKWISE_FROM_NORTH: Mapping[int, tuple[int, int]] = {
    1: (-1, 0), 2: (-1, 1), 3: (0, 1), 4: (1, 1), 5: (1, 0), 6: (1, -1), 7: (0, -1), 8: (-1, -1),
}
PIT = 0


class Upstream(NamedTuple):
    """A network seen from below: what drains into i is `pixel[first[i]:first[i + 1]]`, rising."""

    first: np.ndarray
    pixel: np.ndarray


class Network(NamedTuple):
    """The part of a network that drains to chosen pixels, each pixel being a reach.

    pixel : int64[reach], index in the flattened raster, rising; downstream : int64[reach], index of the
    reach below, -1 at an outlet; outlet : int64[outlet], the reaches without one below.
    """

    pixel: np.ndarray
    downstream: np.ndarray
    outlet: np.ndarray


def downstream_pixels(
    directions: np.ndarray, moves: Mapping[int, tuple[int, int]] = CLOCKWISE_FROM_NORTH
) -> np.ndarray:
    """Return the pixel below each pixel of a flow direction raster.

    Parameters
    ----------
    directions : float64[row, col]
        Codes, 0 in a pit, NaN off the land.
    moves : code -> (rows down, columns right)

    Returns
    -------
    int64[row * col]
        Index in the flattened raster; -1 in a pit, off the land, and where the flow leaves the land or
        the raster.

    Raises
    ------
    DomainError
        A code that `moves` does not have.
    """
    n_rows, n_cols = directions.shape
    land = np.isfinite(directions)
    unknown = np.argwhere(land & ~np.isin(directions, [PIT, *moves]))
    if unknown.size:
        row, col = unknown[0].tolist()
        raise DomainError(
            f"flow directions: code {directions[row, col]:g} at row {row}, column {col} ({len(unknown)} such "
            f"pixels), expected {PIT} or one of {', '.join(map(str, moves))}. Name its encoding."
        )
    below = np.full(directions.size, -1, np.int64)
    for code, (down, right) in moves.items():
        row, col = np.nonzero(directions == code)
        to_row, to_col = row + down, col + right
        inside = (to_row >= 0) & (to_row < n_rows) & (to_col >= 0) & (to_col < n_cols)
        row, col, to_row, to_col = row[inside], col[inside], to_row[inside], to_col[inside]
        below[row * n_cols + col] = np.where(land[to_row, to_col], to_row * n_cols + to_col, -1)
    return below


def flow_lengths(
    directions: np.ndarray, size: float, moves: Mapping[int, tuple[int, int]] = CLOCKWISE_FROM_NORTH
) -> np.ndarray:
    """Return the distance from each pixel's centre to the next one's [m], float64[row, col].

    `size` is the side of a pixel [m]: a straight move is one side long, a diagonal one sqrt(2). A pit has
    no way to go and length 0.
    """
    lengths = np.zeros(directions.shape)
    for code, (down, right) in moves.items():
        lengths[directions == code] = size * np.hypot(down, right)
    return lengths


def invert(downstream: np.ndarray) -> Upstream:
    """Return who drains into each pixel, from where each drains (int64[pixel], -1 for none)."""
    pixel = np.argsort(downstream, kind="stable")
    first = np.searchsorted(downstream, np.arange(downstream.size + 1), sorter=pixel)
    return Upstream(first.astype(np.int64), pixel)


def upstream_of(upstream: Upstream, outlet: int) -> np.ndarray:
    """Return the pixels that drain through `outlet`, int64: itself first, each after the one below it.

    Raises
    ------
    DomainError
        The outlet lies on a cycle: its own flow comes back to it.
    """
    level = np.array([outlet], np.int64)
    levels = []
    while level.size:
        levels.append(level)
        count = upstream.first[level + 1] - upstream.first[level]
        start = np.repeat(upstream.first[level] - (np.cumsum(count) - count), count)
        level = upstream.pixel[start + np.arange(start.size)]
        # One pixel below each: the walk can meet no pixel twice before it meets the outlet again.
        if (level == outlet).any():
            raise DomainError(
                f"flow directions: the pixel with index {outlet} drains back into itself after {len(levels)} "
                "pixels. Expected flow that ends in a pit or leaves the raster. Break the cycle there."
            )
    return np.concatenate(levels)


def delineate(downstream: np.ndarray, upstream: Upstream, ends: np.ndarray) -> Network:
    """Cut out all pixels that drain through the pixels `ends`; ends may lie upstream of each other."""
    pixel = np.unique(np.concatenate([upstream_of(upstream, end) for end in np.unique(ends).tolist()]))
    position = np.full(downstream.size, -1, np.int64)
    position[pixel] = np.arange(pixel.size)
    below = downstream[pixel]
    below = np.where(below >= 0, position[below], -1)
    return Network(pixel, below, np.flatnonzero(below < 0))


def accumulate(network: Network, area: np.ndarray) -> np.ndarray:
    """Return the sum of `area` over each reach and all that drains through it, float64[reach]."""
    total = np.array(area, np.float64)
    upstream = invert(network.downstream)
    for outlet in network.outlet.tolist():
        for i in upstream_of(upstream, outlet)[:0:-1].tolist():
            total[network.downstream[i]] += total[i]
    return total
