"""The area of each gauge that drains to no other: its reaches, its cells, and how much of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.prepare.gauges.hierarchy import nest

SMALLEST = 1e-3
"""Share of all that drains to a gauge below which it has no area of its own: it stands beside another."""


class Areas(NamedTuple):
    """Own areas of some gauges.

    reach : int64[reach], the place among these gauges of the one whose own area it is in, -1 of none; area :
    float64[gauge], own area [km2]; link : int64[link], the reach's; above : for each gauge the places of those next
    upstream; order : places, every gauge after those upstream of it; tree : int64[gauge], group of nested gauges.
    """

    reach: np.ndarray
    area: np.ndarray
    link: np.ndarray
    above: list[list[int]]
    order: list[int]
    tree: np.ndarray

    @property
    def has_own(self) -> np.ndarray:
        """Whether a gauge has an area of its own, bool[gauge]."""
        return self.area > 0


def own_areas(domain: Domain, gauges: Sequence[int]) -> Areas:
    """Split what drains to some gauges, by their places in the domain, into the own area of each."""
    at = domain.gauges.reach[np.asarray(gauges, np.int64)]
    hierarchy = nest(domain.reaches.downstream, domain.reaches.upstream_area, at)
    reach = np.full(domain.n_reaches, -1, np.int64)
    order = sorted(range(at.size), key=lambda k: (int(at[k]), k))
    for k in reversed(order):  # lowest first: those upstream take their part out of it
        lo, hi = upstream_of(domain.reaches.downstream, int(at[k]))
        if hierarchy.incremental_area[k] > SMALLEST * domain.reaches.upstream_area[at[k]]:
            reach[lo:hi] = k
    link = np.repeat(reach, np.diff(domain.links.first))
    area = np.bincount(link[link >= 0], weights=domain.links.area[link >= 0], minlength=at.size)
    above = [np.flatnonzero(hierarchy.below == k).tolist() for k in range(at.size)]
    return Areas(reach, area, link, above, order, hierarchy.tree)


def shares(domain: Domain, areas: Areas) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What own areas consist of: gauge and cell, int64[part], and the share of the area that is that cell's.

    The shares of a gauge with an own area sum to one.
    """
    inside = areas.link >= 0
    gauge, cell = areas.link[inside], domain.links.cell[inside]
    keys, place = np.unique(gauge * domain.n_cells + cell, return_inverse=True)
    area = np.bincount(place, weights=domain.links.area[inside], minlength=keys.size)
    gauge, cell = keys // domain.n_cells, keys % domain.n_cells
    return gauge, cell, area / areas.area[gauge]


def means(domain: Domain, areas: Areas, values: np.ndarray) -> np.ndarray:
    """Means over own areas of values float[..., cell], float64[..., gauge]; NaN where a gauge has no own area."""
    gauge, cell, share = shares(domain, areas)
    found = np.zeros((*values.shape[:-1], areas.area.size))
    first = np.flatnonzero(np.r_[True, np.diff(gauge) > 0]) if gauge.size else np.zeros(0, np.int64)
    if first.size:
        found[..., gauge[first]] = np.add.reduceat(values[..., cell] * share, first, axis=-1)
    return np.where(areas.has_own, found, np.nan)


def main_owner(domain: Domain, areas: Areas) -> np.ndarray:
    """For each cell the gauge whose own area has most of it, int64[cell], -1 where none has any."""
    gauge, cell, share = shares(domain, areas)
    size = share * areas.area[gauge]
    owner = np.full(domain.n_cells, -1, np.int64)
    order = np.argsort(size, kind="stable")
    owner[cell[order]] = gauge[order]
    return owner
