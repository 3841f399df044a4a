"""Topology of the river network: its routing order, and how it is cut for threads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.errors import DomainError
from bmi_cdlm.kernels.groups import Network
from bmi_cdlm.kernels.launch import kernels

PIECES_PER_THREAD = 8
SMALLEST_PIECE = 2048
NONE = np.empty(0, np.int64)


class NetworkPlan(NamedTuple):
    """How a network is routed: ranges of `network.sequence` in parallel, then the trunk; buffers needed."""

    network: Network
    pieces: list[tuple[int, int]]
    trunk: list[tuple[int, int]]
    n_slots: int


def order_reaches(downstream: np.ndarray, reach_id: list[str], where: str = "domain") -> np.ndarray:
    """Return the depth-first post-order of a river forest, largest tributary first, ties by reach_id.

    Parameters
    ----------
    downstream : int64[reach]
        Index of the reach below, -1 at an outlet; any order.
    reach_id : str[reach]

    Returns
    -------
    int64[reach]
        Position in the input of each reach of the new order. The order of the children of a reach depends
        on the sub-trees alone, so that a basin cut out of a domain keeps its order.

    Raises
    ------
    DomainError
        The network has a cycle; the message names its reaches.
    """
    n = downstream.size
    levels = _levels_from_headwaters(downstream, reach_id, where)
    size = np.ones(n, np.int64)
    for level in levels:
        inner = level[downstream[level] >= 0]
        np.add.at(size, downstream[inner], size[inner])
    rank = np.empty(n, np.int64)
    rank[np.argsort(np.array(reach_id), kind="stable")] = np.arange(n)
    siblings = np.lexsort((rank, -size, downstream))
    before = np.cumsum(size[siblings]) - size[siblings]
    parent = downstream[siblings]
    family = np.flatnonzero(np.r_[True, parent[1:] != parent[:-1]])
    before -= np.repeat(before[family], np.diff(np.r_[family, n]))
    offset = np.empty(n, np.int64)
    offset[siblings] = before
    start = np.zeros(n, np.int64)
    for level in reversed(levels):
        below = downstream[level]
        start[level] = np.where(below >= 0, start[below], 0) + offset[level]
    order = np.empty(n, np.int64)
    order[start + size - 1] = np.arange(n)
    return order


def accumulate_downstream(downstream: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return, per reach in routing order, the sum of `values` over all that drains through it (float64[reach])."""
    total = np.array(values, np.float64)
    kernels().accumulate(downstream, total)
    return total


def upstream_of(downstream: np.ndarray, reach: int) -> tuple[int, int]:
    """Range lo, hi of the reaches that drain through `reach`, itself included: a sub-tree is contiguous."""
    size = int(accumulate_downstream(downstream, np.ones(downstream.size))[reach])
    return reach + 1 - size, reach + 1


def _levels_from_headwaters(downstream: np.ndarray, reach_id: list[str], where: str) -> list[np.ndarray]:
    waiting = np.bincount(downstream[downstream >= 0], minlength=downstream.size)
    level = np.flatnonzero(waiting == 0)
    levels, done = [], 0
    while level.size:
        levels.append(level)
        done += level.size
        below = downstream[level]
        below = below[below >= 0]
        np.subtract.at(waiting, below, 1)
        level = np.unique(below[waiting[below] == 0])
    if done < downstream.size:
        i = int(np.flatnonzero(waiting > 0)[0])
        seen: list[int] = []
        while i not in seen:
            seen.append(i)
            i = int(downstream[i])
        cycle = seen[seen.index(i):]
        shown = " -> ".join(reach_id[j] for j in [*cycle[:8], i])
        raise DomainError(
            f"{where}: 'downstream' has a cycle of {len(cycle)} reaches: {shown}. Expected a tree that ends in -1. "
            "Break the cycle at its outlet."
        )
    return levels


def plan_network(
    downstream: np.ndarray, threads: int, smallest_piece: int | None = None, boundary: np.ndarray = NONE,
    kept: np.ndarray = NONE,
) -> NetworkPlan:
    """Cut a network in routing order into pieces for threads, and give every reach a hydrograph buffer.

    Parameters
    ----------
    downstream : int64[reach]
        Reach below, -1 at an outlet; depth-first post-order.
    threads : int
    smallest_piece : int
        Reaches below which a piece is not worth a task; SMALLEST_PIECE where not given.
    boundary : int64[], headwaters
        Are not routed: their hydrographs are given, each in a buffer that nothing overwrites before it is read.
    kept : int64[], outlets
        Whose hydrographs stay in their buffers to the end.

    Returns
    -------
    NetworkPlan
        Pieces are whole sub-trees and independent; the trunk below them comes after all of them. The results
        do not depend on the cut: children are pulled in one order everywhere.
    """
    n = downstream.size
    first_child, child = _children(downstream)
    size = accumulate_downstream(downstream, np.ones(n)).astype(np.int64)
    least = SMALLEST_PIECE if smallest_piece is None else smallest_piece
    limit = n if threads == 1 else max(least, n // (PIECES_PER_THREAD * threads))
    routed = np.ones(n, bool)
    routed[boundary] = False
    work = accumulate_downstream(downstream, routed).astype(np.int64)
    small = (size <= limit) & routed
    below = np.where(downstream >= 0, downstream, 0)
    roots = np.flatnonzero(small & ((downstream < 0) | ~small[below]))
    ends = boundary.size + _group_pieces(roots, work, limit)
    starts = np.r_[boundary.size, ends[:-1]] if ends.size else ends
    sequence = np.r_[boundary, np.flatnonzero(small), np.flatnonzero(routed & ~small)].astype(np.int64)
    trunk = [(int(ends[-1]) if ends.size else boundary.size, n)] if (routed & ~small).any() else []
    pieces = [(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
    in_step = np.ones(n, np.int64)
    for lo, hi in pieces:
        sequence[lo:hi], in_step[lo:hi] = _pair(sequence[lo:hi], size)
    network = Network(sequence, in_step, first_child, child, np.empty(n, np.int64))
    piece_end = np.array([boundary.size, *ends, *(hi for _, hi in trunk)], np.int64)
    leaving = downstream.copy()
    leaving[kept] = n  # only what leaves the network gives its buffer back
    n_slots = kernels().assign_slots(network, leaving, piece_end, np.empty(n, np.int64))
    return NetworkPlan(network, pieces, trunk, int(n_slots))


def _pair(reaches: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arrange a piece so that pairs of reaches can be routed at once; the new sequence, and `Network.in_step`.

    The first half of a post-order drains nothing of the second, and of the second half only the few reaches whose
    sub-tree begins in the first drain anything of it: they come last.
    """
    half = reaches.size // 2
    first, second = reaches[:half], reaches[half:]
    begins = np.searchsorted(reaches, second + 1 - size[second])
    free, below = second[begins >= half], second[begins < half]
    n = min(half, free.size)
    pairs = np.column_stack([first[:n], free[:n]]).ravel()
    in_step = np.ones(reaches.size, np.int64)
    in_step[: 2 * n] = 2
    return np.concatenate([pairs, first[n:], free[n:], below]), in_step


def _children(downstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Children of every reach in routing order, as first_child int64[reach + 1] and child int64[]."""
    inner = np.flatnonzero(downstream >= 0)
    child = inner[np.argsort(downstream[inner], kind="stable")]
    counts = np.bincount(downstream[inner], minlength=downstream.size)
    return np.r_[0, np.cumsum(counts)].astype(np.int64), child.astype(np.int64)


def _group_pieces(roots: np.ndarray, size: np.ndarray, limit: int) -> np.ndarray:
    """Ends of the pieces, counted in reaches: neighbouring small sub-trees share a piece up to the limit."""
    ends: list[int] = []
    total = in_piece = 0
    for n in size[roots].tolist():
        if in_piece and in_piece + n > limit:
            ends.append(total)
            in_piece = 0
        total += n
        in_piece += n
    return np.array([*ends, total] if total else [], np.int64)
