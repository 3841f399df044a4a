"""Loops over the topology of a river network, each in time proportional to its reaches."""

from __future__ import annotations

import numpy as np


def sort_downstream(downstream, waiting, order):
    """Fill `order` with reaches, each after all that drain into it; returns how many: those of a cycle are left out.

    downstream, waiting, order: int64[reach]; waiting: of a reach that is left out, how many it waits for, else -1.
    """
    waiting[:] = 0
    for i in range(downstream.size):
        if downstream[i] >= 0:
            waiting[downstream[i]] += 1
    done = 0
    for i in range(downstream.size):
        j = i
        while j >= 0 and waiting[j] == 0:
            waiting[j] = -1
            order[done] = j
            done += 1
            j = downstream[j]
            if j >= 0:
                waiting[j] -= 1
    return done


def add_downstream(downstream, order, values):
    """Add each reach's value to the one below, in the given order, in place."""
    for k in range(order.size):
        i = order[k]
        if downstream[i] >= 0:
            values[downstream[i]] += values[i]


def gather_children(downstream, first_child, child):
    """Fill the children of every reach: first_child int64[reach + 2], child int64[reach].

    The outlets are the children of one reach more, the last.
    """
    n = downstream.size
    first_child[:] = 0
    for i in range(n):
        parent = downstream[i] if downstream[i] >= 0 else n
        first_child[parent + 1] += 1
    for parent in range(n + 1):
        first_child[parent + 1] += first_child[parent]
    place = first_child.copy()
    for i in range(n):
        parent = downstream[i] if downstream[i] >= 0 else n
        child[place[parent]] = i
        place[parent] += 1


def sort_siblings(first_child, child, size, tied):
    """Sort the children of every reach, the largest sub-tree first; `tied`: bool[reach], place as large as the next."""
    for parent in range(first_child.size - 1):
        first, last = first_child[parent], first_child[parent + 1]
        if last - first > 2:
            sort_family(child[first:last], size)
        elif last - first == 2 and size[child[first]] < size[child[first + 1]]:
            child[first], child[first + 1] = child[first + 1], child[first]
        for place in range(first, last):
            tied[place] = place + 1 < last and size[child[place]] == size[child[place + 1]]


def sort_family(family, size):
    """Sort reaches, the largest sub-tree first, those of one size as they come: runs of twice the length at a time.

    numba's own sort takes as long to compile as the routing.
    """
    n, length = family.size, 1
    merged = np.empty(n, np.int64)
    while length < n:
        for begin in range(0, n, 2 * length):
            middle, end = min(begin + length, n), min(begin + 2 * length, n)
            a, b = begin, middle
            for place in range(begin, end):
                if b >= end or (a < middle and size[family[a]] >= size[family[b]]):
                    merged[place] = family[a]
                    a += 1
                else:
                    merged[place] = family[b]
                    b += 1
        for place in range(n):
            family[place] = merged[place]
        length *= 2


def place_subtrees(order, first_child, child, size, start):
    """First place of every sub-tree in depth-first post-order, int64[reach], from an order of `sort_downstream`."""
    place_family(first_child, child, size, start, order.size, 0)
    for k in range(order.size - 1, -1, -1):
        place_family(first_child, child, size, start, order[k], start[order[k]])


def place_family(first_child, child, size, start, parent, place):
    """Place the sub-trees of the children of a reach one after another."""
    for c in range(first_child[parent], first_child[parent + 1]):
        start[child[c]] = place
        place += size[child[c]]


def arrange_in_step(reaches, downstream, together, missing, starts, sequence, in_step):
    """Arrange reaches so that as many as `together` are routed at once, none of which drains into another.

    reaches: int64[m] in routing order; missing: int64[reach], -1, and so again after; starts: int64[>= m], working
    space; sequence: int64[m] and in_step: int8[m], filled: how many the group of each reach has, `together`, 2 or 1. A
    reach that may be routed comes before the next source, so that few hydrographs wait.
    """
    for k in range(reaches.size):
        missing[reaches[k]] = 0
    for k in range(reaches.size):
        below = downstream[reaches[k]]
        if below >= 0 and missing[below] >= 0:
            missing[below] += 1
    n_starts = 0
    for k in range(reaches.size):
        if missing[reaches[k]] == 0:
            starts[n_starts] = reaches[k]
            n_starts += 1
    ready = np.empty(together, np.int64)
    n_ready, begun, done = 0, 0, 0
    while done < reaches.size:
        while n_ready < together and begun < n_starts:
            ready[n_ready] = starts[begun]
            n_ready += 1
            begun += 1
        group = n_ready
        n_ready = 0
        for k in range(group):
            i = ready[k]
            sequence[done + k] = i
            in_step[done + k] = together if group == together else (2 if k < group - group % 2 else 1)
            missing[i] = -1
        for k in range(group):
            below = downstream[sequence[done + k]]
            if below >= 0 and missing[below] > 0:
                missing[below] -= 1
                if missing[below] == 0:
                    ready[n_ready] = below
                    n_ready += 1
        done += group
