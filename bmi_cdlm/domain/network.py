"""Topology of the river network: its routing order, and how it is cut for threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, NoReturn

import numpy as np

from bmi_cdlm.kernels.groups import Network
from bmi_cdlm.kernels.launch import compiled_if_worth
from bmi_cdlm.kernels.loops.routing import accumulate, add_ways, assign_slots
from bmi_cdlm.kernels.loops.topology import (
    add_downstream,
    arrange_in_step,
    gather_children,
    place_subtrees,
    sort_downstream,
    sort_siblings,
)
from bmi_cdlm.kernels.workers import Task, Workers
from bmi_cdlm.names.errors import DomainError

PIECES_PER_THREAD = 16
SMALLEST_PIECE = 2048
PARTS_PER_THREAD = 8
SMALLEST_PART, MOST_WAITING = 128, 512
"""Reaches of a part of the trunk that are worth a task; hydrographs that flow into it and stay in the caches."""
PARTS_AHEAD = 2
"""Parts of the trunk per thread by which pieces may run ahead of it: threads seldom wait, and few buffers are held."""
IN_STEP = 8
"""Reaches that the kernels route at once."""
ALONE = 2
"""What a reach of the trunk costs more than one in step, about; as much of the pieces goes beside it, two at once."""
NONE = np.empty(0, np.int64)


class NetworkPlan(NamedTuple):
    """How a network is routed: ranges of `network.sequence`, and the buffers that this takes.

    pieces : whole sub-trees; trunk : parts of the rivers below, each takes in the one before it and the pieces that
    feed it; feeds : per piece, the part of the trunk, or their number where it is none; n_cuts : pieces of time for
    the parts of the trunk; ahead : parts by which pieces may run ahead, whose buffers they take over; made : the tasks
    of a number of steps, once they were asked for.
    """

    network: Network
    pieces: list[tuple[int, int]]
    trunk: list[tuple[int, int]]
    n_slots: int
    feeds: list[int]
    n_cuts: int
    ahead: int
    made: dict[int, list[Task]]

    def tasks(self, n_steps: int) -> list[Task]:
        """What to route for a block of steps: ranges of reaches and steps (lo, hi, first, last), and what each needs.

        Pieces come shortly before the part of the trunk that takes them in, so that their hydrographs do not wait long.
        """
        if n_steps not in self.made:
            self.made[n_steps] = self._make_tasks(n_steps)
        return self.made[n_steps]

    def _make_tasks(self, n_steps: int) -> list[Task]:
        n_cuts = min(n_steps, self.n_cuts)
        cuts = [n_steps * c // n_cuts for c in range(n_cuts + 1)]
        tasks: list[Task] = []
        done: list[list[int]] = []
        for k in range(len(self.trunk) + 1):
            before = tuple(done[k - self.ahead][-1:]) if self.ahead <= k < len(self.trunk) else ()
            feeding = [
                Task((*piece, 0, n_steps), before)
                for piece, part in zip(self.pieces, self.feeds, strict=True) if part == k
            ]
            fed = range(len(tasks), len(tasks) + len(feeding))
            tasks += feeding
            done.append([])
            for c in range(n_cuts if k < len(self.trunk) else 0):
                needs = (*(fed if c == 0 else done[k][-1:]), *(done[k - 1][c : c + 1] if k else ()))
                done[k].append(len(tasks))
                tasks.append(Task((*self.trunk[k], cuts[c], cuts[c + 1]), needs))
        return tasks

    def route(self, workers: Workers, kernel: Callable, arguments: tuple, n_steps: int, n_sub: int) -> None:
        """Call the kernel `route` for all reaches and steps."""
        workers.run_tasks(kernel, arguments, self.tasks(n_steps), self.network.sequence.size * n_steps * n_sub)

    def reverse(self, workers: Workers, kernel: Callable, arguments: tuple, n_steps: int, n_sub: int) -> None:
        """Call the kernel `reverse_route` for all reaches over a block of steps, in turn up the rivers."""
        tasks = self.tasks(1)
        needs: list[list[int]] = [[] for _ in tasks]
        for k, task in enumerate(tasks):
            for j in task.needs:
                needs[j].append(len(tasks) - 1 - k)
        backwards = [Task(tasks[k].part[:2], tuple(needs[k])) for k in reversed(range(len(tasks)))]
        workers.run_tasks(kernel, arguments, backwards, self.network.sequence.size * n_steps * n_sub)


def order_reaches(
    downstream: np.ndarray, reach_id: Sequence[str], where: str = "domain", stands_for: np.ndarray | None = None
) -> np.ndarray:
    """Return the depth-first post-order of a river forest, largest tributary first, ties by reach_id.

    Parameters
    ----------
    downstream : int64[reach]
        Index of the reach below, -1 at an outlet; any order.
    reach_id : str[reach]
    stands_for : int64[reach], optional
        Number of reaches that each stands for, itself included, where some were cut off: tributaries keep their order.

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
    downstream = np.ascontiguousarray(downstream, np.int64)
    waiting, downward = np.empty(n, np.int64), np.empty(n, np.int64)
    if compiled_if_worth(sort_downstream, n)(downstream, waiting, downward) < n:
        _raise_cycle(downstream, waiting, reach_id, where)
    size = np.ones(n, np.int64)
    compiled_if_worth(add_downstream, n)(downstream, downward, size)
    first_child, child = np.empty(n + 2, np.int64), np.empty(n, np.int64)
    compiled_if_worth(gather_children, n)(downstream, first_child, child)
    tied = np.empty(n, bool)
    weight = size
    if stands_for is not None:
        weight = np.array(stands_for, np.int64)
        compiled_if_worth(add_downstream, n)(downstream, downward, weight)
    compiled_if_worth(sort_siblings, n)(first_child, child, weight, tied)
    _break_ties(child, tied, reach_id)
    start = np.empty(n, np.int64)
    compiled_if_worth(place_subtrees, n)(downward, first_child, child, size, start)
    order = np.empty(n, np.int64)
    order[start + size - 1] = np.arange(n)
    return order


def places_in(order: np.ndarray) -> np.ndarray:
    """Return the place in an order, int64[reach] of former places, of every reach by its former place."""
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    return place


def renumbered(downstream: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the reaches below, int64[reach], -1 at outlets, in an order of former places and by places in it."""
    below = downstream[order]
    return np.where(below >= 0, places_in(order)[below], -1)


def accumulate_downstream(downstream: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return, per reach in routing order, the sum of `values` over all that drains through it (float64[reach])."""
    total = np.array(values, np.float64)
    compiled_if_worth(accumulate, downstream.size)(downstream, total)
    return total


def longest_way(downstream: np.ndarray, values: np.ndarray) -> float:
    """The largest sum of `values` [reach, in routing order] along any way down the rivers to their ends."""
    total = np.array(values, np.float64)
    compiled_if_worth(add_ways, downstream.size)(downstream, total)
    return float(total.max(initial=0.0))


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
        Pieces are whole sub-trees and independent. The results do not depend on the cut: children are pulled in one
        order everywhere.
    """
    n = downstream.size
    first_child, child = _children(downstream)
    routed = np.ones(n, bool)
    routed[boundary] = False
    part, feeds, pieces, n_cuts = _cut(
        downstream, routed, threads, SMALLEST_PIECE if smallest_piece is None else smallest_piece
    )
    in_pieces, in_trunk = np.flatnonzero(routed & (part < 0)), np.flatnonzero(part >= 0)
    in_trunk = in_trunk[np.argsort(part[in_trunk], kind="stable")]
    ranges = _ranges(boundary.size, [*pieces, *np.bincount(part[in_trunk])])
    sequence, in_step = np.r_[boundary, in_pieces, in_trunk].astype(np.int64), np.ones(n, np.int8)
    missing, starts = np.full(n, -1, np.int64), np.empty(n, np.int64)
    for k, (lo, hi) in enumerate(ranges):
        reaches, together = sequence[lo:hi].copy(), IN_STEP if k < len(pieces) else min(IN_STEP, ALONE)
        arrange = compiled_if_worth(arrange_in_step, hi - lo)
        arrange(reaches, downstream, together, missing, starts, sequence[lo:hi], in_step[lo:hi])
    network = Network(sequence, in_step, first_child, child, np.empty(n, np.int64))
    piece_end = np.array([boundary.size, *(hi for _, hi in ranges)], np.int64)
    leaving = downstream.copy()
    leaving[kept] = n  # only what leaves the network gives its buffer back
    n_slots = int(compiled_if_worth(assign_slots, n)(network, leaving, piece_end, starts))
    n_parts, ahead = len(ranges) - len(pieces), PARTS_AHEAD * threads
    if n_parts > ahead:
        into = np.empty(n, np.int64)
        into[sequence] = np.repeat([-1, *feeds, *range(n_parts)], np.diff(piece_end, prepend=0))
        n_slots = _share_slots(network.slot, into, leaving, n_parts, ahead)
    return NetworkPlan(
        network, ranges[: len(pieces)], ranges[len(pieces) :], n_slots, feeds, n_cuts, ahead, {}
    )


def _share_slots(slot: np.ndarray, part: np.ndarray, downstream: np.ndarray, n_parts: int, ahead: int) -> int:
    """Let pieces take over the buffers that were used up `ahead` parts of the trunk before theirs, in place.

    part : int64[reach], that the reach feeds or is in, -1 of what is given. Returns the number of buffers.
    """
    n = downstream.size
    first, last = np.full(slot.max() + 1, n_parts), np.full(slot.max() + 1, -1)
    np.minimum.at(first, slot, part)
    np.maximum.at(last, slot, np.r_[part, n_parts][np.where(downstream < 0, np.arange(n), downstream)])
    place, free, n_slots = np.empty(first.size, np.int64), NONE, 0
    for k in range(-1, n_parts + 1):
        own = np.flatnonzero(first == k)
        if k < n_parts:
            free = np.r_[free, place[last == k - ahead]]
        at_hand = free if k < n_parts else NONE
        fresh = n_slots + np.arange(max(0, own.size - at_hand.size))
        place[own] = np.r_[at_hand, fresh][: own.size]
        n_slots, free = n_slots + fresh.size, free[own.size :]
    slot[:] = place[slot]
    return n_slots


def _cut(
    downstream: np.ndarray, routed: np.ndarray, threads: int, least: int
) -> tuple[np.ndarray, list[int], list[int], int]:
    """Cut a network: the part of the trunk that each reach is in or -1, `feeds`, reaches per piece, and `n_cuts`.

    The trunk are the reaches that drain more than a piece may have.
    """
    n = downstream.size
    size = accumulate_downstream(downstream, np.ones(n))
    work = accumulate_downstream(downstream, routed).astype(np.int64)
    limit = n if threads == 1 else max(least, n // (PIECES_PER_THREAD * threads))
    small = (size <= limit) & routed
    below = np.where(downstream >= 0, downstream, 0)
    roots = np.flatnonzero(small & ((downstream < 0) | ~small[below]))
    stem = np.flatnonzero(routed & ~small)
    # Reaches of the trunk follow each other, and cost as much as several that are routed at once.
    cost = np.cumsum(np.where(small, 1, ALONE) * routed)
    # Parts of the trunk follow each other in time only where they are so much that threads would wait for them.
    n_cuts = threads if ALONE * stem.size * threads > cost[-1:].sum() else 1
    n_parts = min(PARTS_PER_THREAD * threads, -(-stem.size // min(least, SMALLEST_PART)))
    if n_cuts == 1:
        n_parts = max(n_parts, min(roots.size, stem.size) // MOST_WAITING)
    of_stem = np.unique(cost[stem] * n_parts // (cost[-1:] + 1), return_inverse=True)[1]
    feeds = np.r_[of_stem, of_stem.max(initial=-1) + 1][np.searchsorted(stem, roots)]
    if n_cuts == 1:
        beside, into = _beside_trunk(work[roots], feeds, np.bincount(of_stem)), feeds - 1
    else:  # next to the trunk the pieces are few: all go with it
        beside, into = feeds <= of_stem.max(), feeds
    part = np.full(n, -1)
    part[stem] = of_stem
    part[small] = np.where(beside, into, -1)[np.searchsorted(roots, np.flatnonzero(small))]
    return part, *_group_pieces(work[roots[~beside]], feeds[~beside], limit), n_cuts


def _beside_trunk(work: np.ndarray, feeds: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which sub-trees are routed in step with the part of the trunk before the one that they feed, bool[sub-tree].

    Reaches of the trunk alone would wait for each other. work, feeds : int64[sub-tree]; lengths : int64[part].
    """
    before = np.cumsum(work) - work
    within = before - before[np.searchsorted(feeds, feeds)] + work
    room = np.r_[0, (ALONE - 1) * lengths[:-1], 0] if lengths.size else np.zeros(1, np.int64)
    return within <= room[feeds]


def _children(downstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Children of every reach in routing order, as first_child int64[reach + 1] and child int64[]."""
    n = downstream.size
    first_child, child = np.empty(n + 2, np.int64), np.empty(n, np.int64)
    compiled_if_worth(gather_children, n)(downstream, first_child, child)
    return first_child[:-1].copy(), child[: first_child[-2]].copy()


def _ranges(start: int, sizes: Sequence[int] | np.ndarray) -> list[tuple[int, int]]:
    """Ranges of those sizes that follow each other."""
    ends = np.cumsum([start, *sizes]).tolist()
    return list(pairwise(ends))


def _group_pieces(work: np.ndarray, feeds: np.ndarray, limit: int) -> tuple[list[int], list[int]]:
    """What each piece feeds, and its reaches: neighbours that feed the same share a piece up to the limit."""
    fed: list[int] = []
    sizes: list[int] = []
    for n, into in zip(work.tolist(), feeds.tolist(), strict=True):
        if fed and fed[-1] == into and sizes[-1] + n <= limit:
            sizes[-1] += n
        else:
            sizes.append(n)
            fed.append(into)
    return fed, sizes
