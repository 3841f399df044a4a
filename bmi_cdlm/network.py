"""Topology of the river network: its routing order, and how it is cut for threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, NoReturn

import numpy as np

from bmi_cdlm.errors import DomainError
from bmi_cdlm.kernels.groups import Network
from bmi_cdlm.kernels.launch import Workers, kernels

PIECES_PER_THREAD = 8
SMALLEST_PIECE = 2048
SMALLEST_TRUNK = 128
"""Reaches of the trunk that are worth a thread of their own."""
CUTS_PER_RANGE = 4
"""Pieces of time per thread in which the parts of the trunk follow each other: more waits less, and calls more."""


class NetworkPlan(NamedTuple):
    """How a network is routed: ranges of `network.sequence`, pieces at once, then the trunk's; buffers needed.

    Every range of the trunk takes in the one before it and the pieces.
    """

    network: Network
    pieces: list[tuple[int, int]]
    trunk: list[tuple[int, int]]
    n_slots: int

    def stages(self, n_steps: int) -> list[list[tuple[int, int, int, int]]]:
        """What to route in turn for a block of steps: ranges of reaches and steps (lo, hi, first, last) at once.

        The ranges of the trunk follow each other down the river; while one routes some steps, the one below routes
        those that went before.
        """
        n_parts = len(self.trunk)
        n_cuts = min(n_steps, CUTS_PER_RANGE * n_parts) if n_parts > 1 else 1
        cuts = [n_steps * k // n_cuts for k in range(n_cuts + 1)]
        stages = [[(lo, hi, 0, n_steps) for lo, hi in self.pieces]] if self.pieces else []
        for front in range(n_parts + n_cuts - 1 if n_parts else 0):
            stages.append([
                (*self.trunk[k], cuts[front - k], cuts[front - k + 1])
                for k in range(n_parts) if 0 <= front - k < n_cuts
            ])
        return stages

    def route(self, workers: Workers, kernel: Callable, arguments: tuple, n_steps: int, n_sub: int) -> None:
        """Call the kernel `route` for all reaches and steps."""
        for ranges in self.stages(n_steps):
            work = n_sub * sum((hi - lo) * (last - first) for lo, hi, first, last in ranges)
            workers.run(kernel, arguments, ranges, work)


def order_reaches(downstream: np.ndarray, reach_id: Sequence[str], where: str = "domain") -> np.ndarray:
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
    compiled, n = kernels(), downstream.size
    downstream = np.ascontiguousarray(downstream, np.int64)
    waiting, downward = np.empty(n, np.int64), np.empty(n, np.int64)
    if compiled.sort_downstream(downstream, waiting, downward) < n:
        _raise_cycle(downstream, waiting, reach_id, where)
    size = np.ones(n, np.int64)
    compiled.add_downstream(downstream, downward, size)
    first_child, child = np.empty(n + 2, np.int64), np.empty(n, np.int64)
    compiled.gather_children(downstream, first_child, child)
    tied = np.empty(n, bool)
    compiled.sort_siblings(first_child, child, size, tied)
    _break_ties(child, tied, reach_id)
    start = np.empty(n, np.int64)
    compiled.place_subtrees(downward, first_child, child, size, start)
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


def _break_ties(child: np.ndarray, tied: np.ndarray, reach_id: Sequence[str]) -> None:
    """Sort runs of siblings of one size by their ids, in place; comparing every id would take longer than the rest."""
    begins = np.flatnonzero(tied & ~np.r_[False, tied[:-1]])
    ends = np.flatnonzero(~tied & np.r_[False, tied[:-1]]) + 1
    for first, last in zip(begins.tolist(), ends.tolist(), strict=True):
        child[first:last] = sorted(child[first:last].tolist(), key=reach_id.__getitem__)


def _raise_cycle(downstream: np.ndarray, waiting: np.ndarray, reach_id: Sequence[str], where: str) -> NoReturn:
    i = int(np.flatnonzero(waiting > 0)[0])
    seen: dict[int, int] = {}
    while i not in seen:
        seen[i] = len(seen)
        i = int(downstream[i])
    cycle = list(seen)[seen[i]:]
    shown = " -> ".join(reach_id[j] for j in [*cycle[:8], i])
    raise DomainError(
        f"{where}: 'downstream' has a cycle of {len(cycle)} reaches: {shown}. Expected a tree that ends in -1. "
        "Break the cycle at its outlet."
    )


def plan_network(downstream: np.ndarray, threads: int, smallest_piece: int | None = None) -> NetworkPlan:
    """Cut a network in routing order into pieces for threads, and give every reach a hydrograph buffer.

    Parameters
    ----------
    downstream : int64[reach]
        Reach below, -1 at an outlet; depth-first post-order.
    threads : int
    smallest_piece : int
        Reaches below which a piece is not worth a task; SMALLEST_PIECE where not given.

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
    small = size <= limit
    below = np.where(downstream >= 0, downstream, 0)
    roots = np.flatnonzero(small & ((downstream < 0) | ~small[below]))
    ends = _group_pieces(roots, size, limit)
    starts = np.r_[0, ends[:-1]] if ends.size else ends
    sequence = np.r_[np.flatnonzero(small), np.flatnonzero(~small)].astype(np.int64)
    pieces = [(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
    trunk = _cut_evenly(pieces[-1][1] if pieces else 0, n, threads, min(least, SMALLEST_TRUNK))
    in_step = np.ones(n, np.int8)
    for lo, hi in (*pieces, *trunk):
        sequence[lo:hi], in_step[lo:hi] = _pair(sequence[lo:hi], size)
    network = Network(sequence, in_step, first_child, child, np.empty(n, np.int64))
    piece_end = np.array([*ends, *(hi for _, hi in trunk)], np.int64)
    n_slots = kernels().assign_slots(network, downstream, piece_end, np.empty(n, np.int64))
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
    in_step = np.ones(reaches.size, np.int8)
    in_step[: 2 * n] = 2
    return np.concatenate([pairs, first[n:], free[n:], below]), in_step


def _children(downstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Children of every reach in routing order, as first_child int64[reach + 1] and child int64[]."""
    n = downstream.size
    first_child, child = np.empty(n + 2, np.int64), np.empty(n, np.int64)
    kernels().gather_children(downstream, first_child, child)
    return first_child[:-1].copy(), child[: first_child[-2]].copy()


def _cut_evenly(lo: int, hi: int, parts: int, least: int) -> list[tuple[int, int]]:
    """Cut a range into equal parts of at least that length, or leave it whole."""
    parts = max(1, min(parts, (hi - lo) // least))
    ends = [lo + (hi - lo) * k // parts for k in range(parts + 1)]
    return [(a, b) for a, b in pairwise(ends) if a < b]


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
