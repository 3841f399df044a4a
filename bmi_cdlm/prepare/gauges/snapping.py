"""Gauges find their river: the pixel or reach nearby whose drainage area fits the official one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.packages import load

if TYPE_CHECKING:
    from bmi_cdlm.prepare.config import GaugesConfig
    from bmi_cdlm.prepare.network.catchments import Drainage

logger = logging.getLogger(__name__)
DISTANCE_WEIGHT = 0.01
"""Area error that being a whole radius away is worth: of two pixels that fit alike, the nearer one."""


class SnappedPixels(NamedTuple):
    """Where gauges lie on a raster of upstream areas; nothing near: row and col -1, NaN else.

    row, col : int64[gauge]; area : float64[gauge], upstream of the pixel [km2]; area_error : float64[gauge],
    area / official - 1 [1], NaN where the official one is unknown; distance : float64[gauge], to the pixel's centre
    [m].
    """

    row: np.ndarray
    col: np.ndarray
    area: np.ndarray
    area_error: np.ndarray
    distance: np.ndarray


class SnappedGauges(NamedTuple):
    """Gauges on reaches, those rejected and dropped left out.

    sites : the gauges; reach : int64[gauge]; area : float64[gauge], upstream of the reach's end [km2]; area_error :
    float64[gauge], area / official - 1 [1]; distance : float64[gauge], to the end of the reach [m]; rejected :
    bool[gauge], beyond the limit and kept; dropped : ids and reasons of those left out.
    """

    sites: list[GaugeSite]
    reach: np.ndarray
    area: np.ndarray
    area_error: np.ndarray
    distance: np.ndarray
    rejected: np.ndarray
    dropped: dict[str, str]


def snap_pixels(
    sites: Sequence[GaugeSite], grid: Grid, upstream_area: np.ndarray, radius: float
) -> SnappedPixels:
    """Find the pixel of each gauge.

    Parameters
    ----------
    upstream_area : float[row, col]
        Area that drains through each pixel [km2], NaN off the land.
    radius : float
        How far a pixel's centre may be away [m]; the pixel that holds the gauge is always looked at.

    Returns
    -------
    SnappedPixels
        The pixel with the smallest |error of `sought_area`| + 0.01 distance / radius; where its area is unknown, the
        one with the largest upstream area.
    """
    found = [_snap(site, grid, upstream_area, radius) for site in sites]
    row, col, area, distance = (np.array([pixel[k] for pixel in found]) for k in range(4))
    official = np.array([site.area for site in sites])
    return SnappedPixels(row.astype(np.int64), col.astype(np.int64), area, area / official - 1, distance)


def _snap(site: GaugeSite, grid: Grid, upstream_area: np.ndarray, radius: float) -> tuple[int, int, float, float]:
    row, col, distance = _near(site, grid, radius)
    area = upstream_area[row, col].astype(np.float64)
    land = area > 0
    if not land.any():
        return -1, -1, np.nan, np.nan
    row, col, area, distance = row[land], col[land], area[land], distance[land]
    best = int(np.argmin(_misfit(area, site.sought_area, distance, radius)))
    return int(row[best]), int(col[best]), float(area[best]), float(distance[best])


def _misfit(area: np.ndarray, sought: float, distance: np.ndarray, radius: float) -> np.ndarray:
    if np.isnan(sought):
        return -area
    return np.abs(area / sought - 1) + DISTANCE_WEIGHT * distance / max(radius, 1e-9)


def _near(site: GaugeSite, grid: Grid, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and distances [m] of the pixels within the radius, and of the one that holds the gauge."""
    here = np.array([site.lon]), np.array([site.lat])
    row, col = (int(place[0]) for place in grid.find(*here))
    centre, beside = np.array([row]), np.array([col])
    sides = _distance(
        *grid.lonlat(centre, beside), *grid.lonlat(np.r_[centre + 1, centre], np.r_[beside, beside + 1])
    )
    down, right = (int(radius / side) + 1 for side in sides.tolist())
    rows = np.arange(max(row - down, 0), min(row + down + 1, grid.n_rows))
    cols = np.arange(max(col - right, 0), min(col + right + 1, grid.n_cols))
    row_of, col_of = (a.ravel() for a in np.meshgrid(rows, cols, indexing="ij"))
    away = _distance(*here, *grid.lonlat(row_of, col_of))
    inside = (away <= radius) | ((row_of == row) & (col_of == col))
    return row_of[inside], col_of[inside], away[inside]


def _distance(lon: np.ndarray, lat: np.ndarray, to_lon: np.ndarray, to_lat: np.ndarray) -> np.ndarray:
    """Metres on the ellipsoid from one place to others, float64[place]."""
    there = np.asarray(to_lon, np.float64), np.asarray(to_lat, np.float64)
    _, _, away = load("pyproj").Geod(ellps="WGS84").inv(
        np.full(there[0].shape, float(lon[0])), np.full(there[0].shape, float(lat[0])), *there
    )
    return np.asarray(away, np.float64)


def snap_gauges(sites: Sequence[GaugeSite], drainage: Drainage, config: GaugesConfig) -> SnappedGauges:
    """Put gauges on reaches: of those near it, the one that fits best.

    Near are reaches that end within the radius; where none of them fits, all with a pixel in it and those just above.

    Raises
    ------
    DomainError
        A gauge has no reach near it or misses its area by more than the limit, unless `rejected` is keep or drop
        (one without any reach near can only be dropped).
    """
    reaches = drainage.reaches
    upstream = _Upstream(reaches.downstream)
    kept: list[tuple[GaugeSite, int, float, bool]] = []
    refused: dict[str, str] = {}
    for site in sites:
        reach, distance = _find_reach(site, drainage, upstream, config)
        error = abs(reaches.upstream_area[reach] / site.area - 1) if reach >= 0 else np.inf
        if reach >= 0 and not error > config.area_limit:  # an unknown area fits
            kept.append((site, reach, distance, False))
            continue
        refused[site.id] = (
            "no reach within the radius" if reach < 0 else
            f"drains {reaches.upstream_area[reach]:.4g} km2, officially {site.area:.4g} km2 ({100 * error:.0f} % off)"
        )
        if config.rejected == "keep" and reach >= 0:
            kept.append((site, reach, distance, True))
    _report(refused, config, {site.id for site, *_ in kept})
    return _gather(kept, reaches.upstream_area, {i: r for i, r in refused.items() if i not in {k[0].id for k in kept}})


def _gather(
    kept: list[tuple[GaugeSite, int, float, bool]], upstream_area: np.ndarray, dropped: dict[str, str]
) -> SnappedGauges:
    sites = [site for site, *_ in kept]
    reach = np.array([k[1] for k in kept], np.int64)
    area = np.asarray(upstream_area, np.float64)[reach]
    return SnappedGauges(
        sites, reach, area, area / np.array([s.area for s in sites], np.float64) - 1,
        np.array([k[2] for k in kept], np.float64), np.array([k[3] for k in kept], bool), dropped,
    )


def _report(refused: dict[str, str], config: GaugesConfig, kept: set[str]) -> None:
    """Raise where gauges are refused, or log what became of them."""
    lost = [i for i in refused if i not in kept]
    if (config.rejected == "refuse" and refused) or (config.rejected == "keep" and lost):
        shown = refused if config.rejected == "refuse" else {i: refused[i] for i in lost}
        listed = "; ".join(f"{i} {reason}" for i, reason in list(shown.items())[:5])
        raise DomainError(
            f"gauges: {len(shown)} find no reach that fits within {config.radius:g} m and {config.area_limit:.0%} of "
            f"their area: {listed}{' ...' if len(shown) > 5 else ''}. Check their coordinates and areas, widen "
            "gauges.radius, or set gauges.rejected to drop or keep."
        )
    for one, reason in refused.items():
        logger.info("gauge %s %s: %s", one, "kept though it" if one in kept else "dropped, it", reason)


class _Upstream:
    """Which reaches drain into one, found by bisection: no lists of all, which a country would not bear."""

    def __init__(self, downstream: np.ndarray) -> None:
        self._reach = np.argsort(downstream, kind="stable")
        self._below = downstream[self._reach]

    def of(self, reaches: np.ndarray) -> np.ndarray:
        """Return the reaches just above, int64[]."""
        first, last = (np.searchsorted(self._below, reaches, side) for side in ("left", "right"))
        return np.concatenate([np.zeros(0, np.int64), *(self._reach[a:b] for a, b in zip(first, last, strict=True))])


def _find_reach(
    site: GaugeSite, drainage: Drainage, upstream: _Upstream, config: GaugesConfig
) -> tuple[int, float]:
    """The reach that fits best, -1 where none is near, and the distance to its end [m]."""
    reaches, radius = drainage.reaches, config.radius
    row, col, _ = _near(site, drainage.catchments.grid, radius)
    near = np.unique(drainage.catchments.reach[row, col])
    near = near[near >= 0].astype(np.int64)
    # A gauge often stands just below the end of a reach: in the catchment of the next one.
    places = np.union1d(near, upstream.of(near))
    if not places.size:
        return -1, np.nan
    away = _distance(np.array([site.lon]), np.array([site.lat]), reaches.lon[places], reaches.lat[places])
    area = np.asarray(reaches.upstream_area, np.float64)[places]
    misfit = _misfit(area, site.sought_area, away, radius)
    # One that ends within the radius is taken where it fits, even if another a little farther fits better.
    good = (away <= radius) & ~(np.abs(area / site.sought_area - 1) > config.area_limit)
    best = int(np.argmin(np.where(good, misfit, np.inf) if good.any() else misfit))
    return int(places[best]), float(away[best])
