"""Basins of gauges: which lie in which, and means of cells over all that drains to a gauge."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import upstream_of

NO_AREA = 1e-12
"""Weight of a link without area, so that basins of nothing else have a mean too."""


def basin_means(domain: Domain, values: np.ndarray) -> np.ndarray:
    """Means of values of cells over what drains to each gauge, float64[gauge, value], by drained area.

    values : float64[cell, value].
    """
    means = np.empty((len(domain.gauges.id), values.shape[1]))
    links = domain.links
    for k, reach in enumerate(domain.gauges.reach.tolist()):
        lo, hi = upstream_of(domain.reaches.downstream, reach)
        own = slice(links.first[lo], links.first[hi])
        means[k] = np.average(values[links.cell[own]], axis=0, weights=np.maximum(links.area[own], NO_AREA))
    return means


def upstream_gauges(domain: Domain) -> np.ndarray:
    """Whether the second gauge drains to the first, bool[gauge, gauge]; a gauge, and others on its reach, do."""
    reach = domain.gauges.reach
    ranges = np.array([upstream_of(domain.reaches.downstream, int(r)) for r in reach]).reshape(-1, 2)
    return (ranges[:, :1] <= reach) & (reach < ranges[:, 1:])


def nested(domain: Domain) -> np.ndarray:
    """Whether water passes from one gauge to the other, bool[gauge, gauge]; a gauge is nested with itself."""
    above = upstream_gauges(domain)
    return above | above.T
