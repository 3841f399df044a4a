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
            family = child[first:last]
            family[:] = family[np.argsort(-size[family], kind="mergesort")]
        elif last - first == 2 and size[child[first]] < size[child[first + 1]]:
            child[first], child[first + 1] = child[first + 1], child[first]
        for place in range(first, last):
            tied[place] = place + 1 < last and size[child[place]] == size[child[place + 1]]


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
