"""Official drainage areas: what lies between gauges is scaled until each drains what its authority says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.config import PrepareConfig
from bmi_cdlm.prepare.gauges.hierarchy import nest
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.prepare.network.catchments import Drainage

MUCH = 0.1
"""Error of an area that is told."""


def with_official_areas(drainage: Drainage, gauges: SnappedGauges) -> tuple[Drainage, SnappedGauges]:
    """The drainage whose areas between gauges are scaled, so that what drains to a gauge is its official area.

    Flow directions may give a gauge another basin than it has; its runoff [mm] is then a wrong volume, by as much. The
    shares of cells in reaches are scaled, alike between two gauges: where water comes from stays as it is. Below the
    lowest gauges, and above one whose official area is unknown, nothing is scaled.

    Returns
    -------
    drainage : Drainage
        `links.area`, `reaches.area`, `reaches.uncovered_area` and `reaches.upstream_area` are scaled; cells keep their
        geometric area.
    gauges : SnappedGauges
        With the areas that the network has now, whose errors are 0 where an official one is known.

    Raises
    ------
    DomainError
        A gauge whose official area is no larger than that of the gauges above it, or two gauges on one reach.
    """
    reaches = drainage.reaches
    own = reaches.area + reaches.uncovered_area
    _check_apart(gauges)
    ids, official = [site.id for site in gauges.sites], np.array([site.area for site in gauges.sites], np.float64)
    by_reach = factors_between(reaches.downstream, own, gauges.reach, official, ids)
    area, uncovered = reaches.area * by_reach, reaches.uncovered_area * by_reach
    upstream = np.asarray(accumulate_downstream(reaches.downstream, own * by_reach))
    scaled = drainage._replace(
        reaches=reaches._replace(area=area, uncovered_area=uncovered, upstream_area=upstream),
        links=drainage.links._replace(area=drainage.links.area * by_reach[drainage.links.reach]),
    )
    found = upstream[gauges.reach]
    return scaled, gauges._replace(area=found, area_error=found / official - 1)


def factors_between(
    downstream: np.ndarray, own: np.ndarray, gauge_reach: np.ndarray, official: np.ndarray, ids: Sequence[str]
) -> np.ndarray:
    """Factor on the area of every reach, float64[reach], with which each gauge drains its official area.

    Parameters
    ----------
    downstream : int64[reach]
        Reach below, -1 at an outlet; larger than the own index.
    own : float64[reach]
        Area that drains to a reach by no other [km2].
    gauge_reach : int64[gauge]
        Each on a reach of its own.
    official : float64[gauge]
        Official area [km2], NaN where it is unknown.
    ids : str[gauge]

    Raises
    ------
    DomainError
        A gauge whose official area is no larger than that of the gauges above it.
    """
    tree, n = nest(downstream, np.asarray(accumulate_downstream(downstream, own)), gauge_reach), gauge_reach.size
    wanted = np.where(np.isfinite(official), official, 0.0)
    factor = np.ones(n + 1)  # the last one: reaches that drain to no gauge
    for g in np.argsort(gauge_reach, kind="stable").tolist():  # from upstream to downstream
        above = np.flatnonzero(tree.below == g)
        if np.isnan(official[g]):
            wanted[g] = tree.incremental_area[g] + wanted[above].sum()
            continue
        between = official[g] - wanted[above].sum()
        if not between > 0:
            names = ", ".join(ids[k] for k in above.tolist())
            raise DomainError(
                f"prepare.gauges.official_areas: gauge {ids[g]} officially drains {official[g]:.5g} km2, and the "
                f"gauges above it ({names}) {wanted[above].sum():.5g} km2. Expected less than it. Correct the table, "
                "or leave one of them out with gauges.only."
            )
        factor[g] = between / tree.incremental_area[g]
    return factor[_first_gauge_below(downstream, gauge_reach, n)]


def check_is_new(config: PrepareConfig) -> None:
    """Refuse to scale a domain that is there: it may have been scaled before. ConfigError says so."""
    if config.gauges is not None and config.gauges.official_areas and config.network and config.network.existing:
        raise ConfigError(
            "prepare.gauges.official_areas is true, and network.existing takes a domain that is there, whose areas "
            "stay. Expected a network that is made. Set official_areas when you make it, or leave it out here."
        )


def told_of(gauges: SnappedGauges) -> str:
    """In words how much is scaled, of gauges as they were found."""
    known = np.flatnonzero(np.isfinite(gauges.area_error))
    if not known.size:
        return "gauges: no official area is known, and none is scaled."
    many = int((np.abs(gauges.area_error[known]) > MUCH).sum())
    worst = int(known[np.abs(gauges.area_error[known]).argmax()])
    return (
        f"gauges: areas are scaled to the official ones, at {many} of {known.size} gauges by more than "
        f"{MUCH:.0%}, most at {gauges.sites[worst].id}, from {gauges.area[worst]:.4g} to "
        f"{gauges.sites[worst].area:.4g} km2."
    )


def _check_apart(gauges: SnappedGauges) -> None:
    first: dict[int, str] = {}
    for site, reach in zip(gauges.sites, gauges.reach.tolist(), strict=True):
        if reach in first:
            raise DomainError(
                f"prepare.gauges.official_areas: gauges {first[reach]} and {site.id} stand on one reach, expected one "
                "each, whose area can be scaled. Use a finer network.resolution, or leave one out with gauges.only."
            )
        first[reach] = site.id


def _first_gauge_below(downstream: np.ndarray, gauge_reach: np.ndarray, none: int) -> np.ndarray:
    """The gauge that a reach drains to first, its own included, int64[reach]; `none` where there is none."""
    found = np.full(downstream.size, none, np.int64)
    found[gauge_reach] = np.arange(gauge_reach.size)
    for reach in range(downstream.size - 1, -1, -1):  # a reach below has a larger index
        if found[reach] == none and downstream[reach] >= 0:
            found[reach] = found[downstream[reach]]
    return found
