"""From fine pixels to reaches: which pixels are the ends of reaches, and which catchment every pixel belongs to."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.prepare.network.directions import Flow
from bmi_cdlm.prepare.packages import load

OUTSIDE = -9999


def iterative_outlets(flow: Flow, factor: int) -> np.ndarray:
    """Return the fine pixels at which reaches end, int64[]: one per block at most [IHU: Eilander et al. 2021].

    Only the choice of outlets is taken from the upscaled raster. What lies below an outlet is the next outlet on
    the fine path, neighbour or not, so that upstream areas are those of the fine raster, and no cycle can arise.
    """
    pyflwdir, below = load("pyflwdir"), flow.downstream
    # Upstream areas in pixels: the method compares them with shares of a block's pixels.
    pixels = np.where(below >= 0, 1, OUTSIDE).astype(np.int32)
    pixels = pyflwdir.streams.accuflux(below, flow.sequence, pixels, np.int32(OUTSIDE))
    _, outlets, _ = pyflwdir.upscale.ihu(below, pixels, flow.grid.shape, factor, mv=below.dtype.type(-1))
    found = np.unique(outlets)
    return found[found >= 0].astype(np.int64)


def largest_pixels(flow: Flow, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each block's pixel of largest upstream area, int64[], and the block's index of every pixel, int64[pixel].

    Blocks without a pixel of the network have none; pixels outside have -1.
    """
    n_blocks, block = block_of(flow, factor)
    pixels = np.flatnonzero(flow.inside)
    best = np.full(n_blocks, -1, np.int64)
    order = pixels[np.argsort(flow.upstream_area[pixels], kind="stable")]
    best[block[order]] = order  # of several values for one place numpy keeps the last
    used = best >= 0
    place = np.where(used, np.cumsum(used) - 1, -1)
    return best[used], np.where(flow.inside, place[block], -1)


def block_of(flow: Flow, factor: int) -> tuple[int, np.ndarray]:
    """Return how many blocks of factor by factor pixels there are, and that of every pixel, int64[pixel]."""
    n_rows, n_cols = flow.grid.shape
    rows, cols = np.arange(n_rows) // factor, np.arange(n_cols) // factor
    width = int(cols[-1]) + 1
    return (int(rows[-1]) + 1) * width, (rows[:, None] * width + cols).ravel()


def drain_to(downstream: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return the first of the pixels `stop` on the way down from every pixel, itself included; int[pixel], -1 outside.

    The way is doubled in every pass: as many passes as the longest way has binary digits.

    Parameters
    ----------
    downstream : int[pixel]
        Pixel below, itself where the flow ends, -1 outside; without cycles.
    stop : bool[pixel]
        Ends of flow stop as well.
    """
    inside = np.flatnonzero(downstream >= 0).astype(downstream.dtype)
    place = np.full(downstream.size, -1, downstream.dtype)
    place[inside] = np.arange(inside.size, dtype=downstream.dtype)
    ahead = np.where(stop[inside], np.arange(inside.size, dtype=downstream.dtype), place[downstream[inside]])
    moving = np.flatnonzero(ahead != ahead[ahead])
    while moving.size:
        ahead[moving] = ahead[ahead[moving]]
        moving = moving[ahead[moving] != ahead[ahead[moving]]]
    found = np.full(downstream.size, -1, downstream.dtype)
    found[inside] = inside[ahead]
    return found


def keep(flow: Flow, kept: np.ndarray) -> Flow:
    """Cut out the pixels `kept`, bool[pixel]; what drained out of them ends there. Areas and steps stay the same."""
    below = flow.downstream
    own = np.arange(below.size, dtype=below.dtype)
    cut = np.where(kept, np.where((below >= 0) & kept[below], below, own), -1).astype(below.dtype)
    return flow._replace(downstream=cut, sequence=flow.sequence[kept[flow.sequence]])
