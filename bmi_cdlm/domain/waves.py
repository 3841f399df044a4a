"""Time skewed against depth: which reaches can be routed at once, whatever the depth of the network [SPEC 4.2].

A reach's level is one less than that of the reach below, and outlets share the last. The tile j of sub-steps of
a reach runs in wave level + j: what the reaches above send in the same tile comes from the wave before, never
from an earlier one, so that outflows are kept for two waves, and there are as many waves as tiles and levels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Levels(NamedTuple):
    """Reaches by level: reach int64[place]; first int64[level + 1], the first place of each level."""

    reach: np.ndarray
    first: np.ndarray


def level_reaches(downstream: np.ndarray) -> Levels:
    """Sort reaches (any order, no cycle) by level, headwaters farthest from an outlet first, ties by index.

    Counted from the outlets, not from the headwaters: then no reach waits in memory for a longer tributary. In
    depth-first order, reaches side by side have their children side by side.
    """
    hops = (downstream >= 0).astype(np.int64)
    jump = downstream.astype(np.int64)
    while (inner := np.flatnonzero(jump >= 0)).size:
        hops[inner] += hops[jump[inner]]
        jump[inner] = jump[jump[inner]]
    level = hops.max(initial=0) - hops
    return Levels(np.argsort(level, kind="stable"), np.r_[0, np.cumsum(np.bincount(level))].astype(np.int64))


class Placement(NamedTuple):
    """Reaches in the order of their level: place int64[reach], the inverse of `Levels.reach`.

    level, below (-1 at an outlet): int64[place]; first_child int64[place + 1] and child int64[]: places of the
    children, in their stored order.
    """

    place: np.ndarray
    level: np.ndarray
    below: np.ndarray
    first_child: np.ndarray
    child: np.ndarray


def place_reaches(levels: Levels, downstream: np.ndarray) -> Placement:
    """Put the network in the order of levels."""
    n = downstream.size
    place = np.empty(n, np.int64)
    place[levels.reach] = np.arange(n)
    below = downstream[levels.reach]
    below = np.where(below >= 0, place[below], -1)
    inner = np.flatnonzero(downstream >= 0)
    child = place[inner[np.lexsort((inner, place[downstream[inner]]))]]
    level = np.repeat(np.arange(len(levels.first) - 1), np.diff(levels.first))
    return Placement(place, level, below, first_of(below[below >= 0], n), child)


def place_links(levels: Levels, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Links by place: first int64[place + 1], and the links in that order, from the first link of each reach."""
    counts = np.diff(first)[levels.reach]
    placed = np.r_[0, np.cumsum(counts)]
    return placed, np.repeat(first[:-1][levels.reach] - placed[:-1], counts) + np.arange(placed[-1])


def first_of(group: np.ndarray, n: int) -> np.ndarray:
    """First member of each of n groups when members are sorted by group: int64[n + 1]."""
    return np.r_[0, np.cumsum(np.bincount(group, minlength=n))]


class Waves:
    """The waves of a period.

    Parameters
    ----------
    levels : Levels
    n_sub_steps, tile : int
        Routing sub-steps of the period, and of a tile.
    """

    def __init__(self, levels: Levels, n_sub_steps: int, tile: int) -> None:
        self._first = levels.first
        self.n_tiles = -(-n_sub_steps // tile)
        self.n_waves = self.n_tiles + len(levels.first) - 2 if self.n_tiles else 0

    def active(self, wave: int) -> tuple[int, int]:
        """Range of the places that have a tile in this wave."""
        return self._between(wave - self.n_tiles + 1, wave)

    def crossing(self, wave: int) -> tuple[int, int]:
        """Range of the places that have run before this wave and are read in it."""
        return self._between(wave - self.n_tiles, wave - 1)

    def within(self, waves: range) -> tuple[int, int]:
        """Range of the places that have a tile in any of these waves."""
        return self.active(waves.start)[0], self.active(waves.stop - 1)[1]

    def blocks(self, length: int) -> list[range]:
        """Cut the waves into blocks."""
        return [range(first, min(first + length, self.n_waves)) for first in range(0, self.n_waves, length)]

    def _between(self, lowest: int, highest: int) -> tuple[int, int]:
        """Range of the places of some levels, both ends included, those out of range left out."""
        top = len(self._first) - 1
        lo = int(self._first[min(max(lowest, 0), top)])
        return lo, max(lo, int(self._first[min(max(highest + 1, 0), top)]))
