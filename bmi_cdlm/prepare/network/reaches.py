"""Reaches between the chosen outlets: what is below, how long and steep they are, cut where too long, in order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.network import order_reaches, places_in, renumbered
from bmi_cdlm.prepare.network.directions import Flow
from bmi_cdlm.prepare.network.upscale import block_of, drain_to
from bmi_cdlm.prepare.packages import load

CLOSE = 1e-9  # of a length: 2 km in two parts of 1 km, not three


class Tree(NamedTuple):
    """Reaches in any order.

    end : int64[reach], fine pixel at which the reach ends; downstream : int64[reach], -1 at an outlet; length [m],
    slope : float64[reach]; part : int64[reach], 0, or 1 and on for a part below its own reach's end that has no pixel.
    catchment : int32[pixel], reach whose catchment holds the pixel, -1 outside.
    """

    end: np.ndarray
    downstream: np.ndarray
    length: np.ndarray
    slope: np.ndarray
    part: np.ndarray
    catchment: np.ndarray


class Paths(NamedTuple):
    """The main way up from the end of every reach: length [m] to its head, the pixel `head` there."""

    length: np.ndarray
    head: np.ndarray


def grow_tree(
    flow: Flow, ends: np.ndarray, always: np.ndarray, factor: int, channel_area: float, max_length: float
) -> Tree:
    """Connect reaches that end at the pixels `ends`, int64[]; every pixel of the flow is in one catchment.

    A reach of upscaled pixels runs up the largest tributary from its end to the next end, or to where the upstream
    area falls below `channel_area` [km2]. Where no pixels are joined (factor 1) it is the way to the next pixel, down.
    Reaches also end at the pixels `always`, those of gauges, however small; and flow that ends where no reach does, in
    small pits and at coasts, makes one more reach per block.
    """
    ends = np.union1d(ends[flow.upstream_area[ends] >= channel_area], always).astype(np.int64)
    ends, reach_of_end = _with_basins(flow, ends, factor)
    tree = _connect(flow, ends, reach_of_end)
    stop = reach_of_end >= 0
    if factor == 1:
        length = flow.step[ends]
        return _with_empty_parts(tree, length, _slopes(flow, ends, flow.downstream[ends], length), max_length)
    above = _main_upstream(flow)
    paths = _walk_up(flow, above, ends, stop, channel_area)
    slope = _slopes(flow, paths.head, ends, paths.length)
    parts = np.maximum(np.ceil(paths.length / max_length - CLOSE), 1.0).astype(np.int64)
    pixel, reach = _cut_paths(flow, above, ends, stop, paths.length, parts)
    if pixel.size == 0:
        return tree._replace(length=paths.length, slope=slope)
    reach_of_end[pixel] = ends.size + np.arange(pixel.size)
    tree = _connect(flow, np.r_[ends, pixel], reach_of_end)
    origin = np.r_[np.arange(ends.size), reach]
    whole = paths.length[origin] / parts[origin]
    found = np.bincount(origin, minlength=ends.size)
    lacking = np.r_[parts - found, np.zeros(pixel.size, np.int64)]
    return _append_empty(tree, whole, slope[origin], lacking)


def connect_blocks(flow: Flow, ends: np.ndarray, block: np.ndarray, max_length: float) -> Tree:
    """Connect blocks by plain maximum accumulation: each block is a catchment, and drains where its largest pixel does.

    Simple, and only as good as one pixel stands for its block: upstream areas are not those of the fine raster. Since
    upstream area grows along every link, no cycle can arise.
    """
    below = flow.downstream[ends]
    downstream = np.where(below == ends, -1, block[below])
    rows, cols = np.divmod(ends, flow.grid.n_cols)
    next_row, next_col = np.divmod(np.where(downstream >= 0, ends[downstream], ends), flow.grid.n_cols)
    down, right = next_row - rows, next_col - cols
    # Between largest pixels, at the length of a pixel's side in the reach's own row.
    north, east = flow.grid.step_lengths(1, 0)[rows], flow.grid.step_lengths(0, 1)[rows]
    length = np.hypot(down * north, right * east)
    tree = Tree(ends, downstream, length, length, np.zeros(ends.size, np.int64), block.astype(np.int32))
    slope = _slopes(flow, ends, np.where(downstream >= 0, ends[downstream], ends), length)
    return _with_empty_parts(tree, length, slope, max_length)


def order_tree(tree: Tree, flow: Flow) -> tuple[Tree, np.ndarray, np.ndarray]:
    """Put reaches in the depth-first order of `network.order_reaches`.

    Returns
    -------
    tree : Tree
    id : str[reach]
        'row_column' of the fine pixel at the end, and '_1', '_2' for parts below it that have no pixel.
    strahler : int64[reach]
    """
    ids = flow.grid.ids(*np.divmod(tree.end, flow.grid.n_cols))
    empty = tree.part > 0
    if empty.any():
        ids = ids.astype(f"U{ids.dtype.itemsize // 4 + 6}")
        ids[empty] = np.char.add(np.char.add(ids[empty], "_"), tree.part[empty].astype("U5"))
    order = order_reaches(tree.downstream, ids.tolist(), "network")
    below, position = renumbered(tree.downstream, order), places_in(order)
    catchment = np.where(tree.catchment >= 0, position[tree.catchment], -1).astype(np.int32)
    ordered = Tree(tree.end[order], below, tree.length[order], tree.slope[order], tree.part[order], catchment)
    return ordered, ids[order], strahler_order(below)


def strahler_order(downstream: np.ndarray) -> np.ndarray:
    """Return the Strahler order of every reach, int64[reach], from reaches in depth-first post-order."""
    n = downstream.size
    below = np.where(downstream >= 0, downstream, np.arange(n)).astype(np.int64)
    upward = np.arange(n - 1, -1, -1, dtype=np.int64)
    return np.asarray(load("pyflwdir").streams.strahler_order(below, upward)).astype(np.int64)


def _with_basins(flow: Flow, ends: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends, and one more per block in which other flow ends; the reach that stops at a pixel, int64[pixel] or -1."""
    reach_of_end = np.full(flow.downstream.size, -1, np.int64)
    reach_of_end[ends] = np.arange(ends.size)
    left = flow.ends
    left = left[reach_of_end[left] < 0]
    if left.size == 0:
        return ends, reach_of_end
    n_blocks, block = block_of(flow, factor)
    left = left[np.argsort(flow.upstream_area[left], kind="stable")]
    largest = np.full(n_blocks, -1, np.int64)
    largest[block[left]] = left
    more = np.unique(largest[block[left]])
    reach_of_end[more] = ends.size + np.arange(more.size)
    reach_of_end[left] = reach_of_end[largest[block[left]]]
    return np.r_[ends, more], reach_of_end


def _connect(flow: Flow, ends: np.ndarray, reach_of_end: np.ndarray) -> Tree:
    first = drain_to(flow.downstream, reach_of_end >= 0)
    catchment = np.where(first >= 0, reach_of_end[first], -1).astype(np.int32)
    below = flow.downstream[ends]
    downstream = np.where(below == ends, -1, catchment[below]).astype(np.int64)
    zero = np.zeros(ends.size)
    return Tree(ends, downstream, zero, zero, np.zeros(ends.size, np.int64), catchment)


def _main_upstream(flow: Flow) -> np.ndarray:
    """The largest of the pixels that drain into each, int[pixel], -1 for none."""
    core = load("pyflwdir").core
    return np.asarray(core.main_upstream(flow.downstream, flow.upstream_area, mv=flow.downstream.dtype.type(-1)))


def _walk_up(flow: Flow, above: np.ndarray, ends: np.ndarray, stop: np.ndarray, channel_area: float) -> Paths:
    """All reaches walk up together, pixel by pixel; those that have arrived drop out."""
    length, head = np.zeros(ends.size), ends.copy()
    walking = np.arange(ends.size)
    while walking.size:
        up = above[head[walking]]
        on = up >= 0
        on &= stop[up] | (flow.upstream_area[up] >= channel_area)
        walking, up = walking[on], up[on]
        length[walking] += flow.step[up]
        head[walking] = up
        walking = walking[~stop[up]]
    return Paths(length, head)


def _cut_paths(
    flow: Flow, above: np.ndarray, ends: np.ndarray, stop: np.ndarray, length: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels on the way up at which parts begin to end, and the reach that each divides; int64[] both."""
    walking = np.flatnonzero(parts > 1)
    at, gone, part = ends.copy(), np.zeros(ends.size), np.zeros(ends.size, np.int64)
    pixels, reaches = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while walking.size:
        up = above[at[walking]].astype(np.int64)
        on = up >= 0
        on[on] = ~stop[up[on]]
        walking, up = walking[on], up[on]
        gone[walking] += flow.step[up]
        reached = np.floor(gone[walking] * parts[walking] / length[walking] + CLOSE).astype(np.int64)
        on = reached < parts[walking]
        walking, up, reached = walking[on], up[on], reached[on]
        new = reached > part[walking]
        pixels.append(up[new])
        reaches.append(walking[new])
        part[walking], at[walking] = reached, up
    return np.concatenate(pixels), np.concatenate(reaches)


def _slopes(flow: Flow, head: np.ndarray, end: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Fall from head to end per length; 0 where it rises, has no length or no elevation; NaN without any elevation."""
    if flow.elevation is None:
        return np.full(length.size, np.nan)
    fall = flow.elevation[head].astype(np.float64) - flow.elevation[end]
    return np.where((length > 0.0) & (fall > 0.0), fall / np.where(length > 0.0, length, 1.0), 0.0)


def _with_empty_parts(tree: Tree, length: np.ndarray, slope: np.ndarray, max_length: float) -> Tree:
    parts = np.maximum(np.ceil(length / max_length - CLOSE), 1.0).astype(np.int64)
    return _append_empty(tree, length / parts, slope, parts - 1)


def _append_empty(tree: Tree, length: np.ndarray, slope: np.ndarray, lacking: np.ndarray) -> Tree:
    """Add parts without a pixel below the ends of reaches: they carry flow on and have no catchment of their own."""
    tree = tree._replace(length=length, slope=slope)
    if not lacking.any():
        return tree
    n = tree.end.size
    origin = np.repeat(np.arange(n), lacking)
    first = np.cumsum(lacking) - lacking
    part = np.arange(origin.size) - first[origin] + 1
    new = n + np.arange(origin.size)
    below = np.where(part == lacking[origin], tree.downstream[origin], new + 1)
    own = np.where(lacking > 0, n + first, tree.downstream)
    fields: dict[str, Any] = {name: np.r_[a, a[origin]] for name, a in tree._asdict().items() if name != "catchment"}
    return tree._replace(**fields)._replace(downstream=np.r_[own, below], part=np.r_[tree.part, part])
