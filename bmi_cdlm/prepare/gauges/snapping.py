"""Gauges find their river: the pixel or reach nearby whose drainage area fits the official one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.network.border import border_shares
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.packages import load

if TYPE_CHECKING:
    from bmi_cdlm.prepare.config import GaugesConfig
    from bmi_cdlm.prepare.network.catchments import Drainage

logger = logging.getLogger(__name__)
NOTHING = (np.nan, np.nan)
DISTANCE_WEIGHT = 0.01
"""Area error that being a whole radius away is worth: of two pixels that fit alike, the nearer one."""


class SnappedPixels(NamedTuple):
    """Where gauges lie on a raster of upstream areas; nothing near: row and col -1, NaN else.

    row, col : int64[gauge]; area : float64[gauge], upstream of the pixel [km2]; area_error : float64[gauge],
    area / official - 1 [1], NaN where the official one is unknown; distance : float64[gauge], to the pixel's centre
    [m]; other_area [km2], other_distance [m] : float64[gauge], of the other candidate of a gauge without an area (the
    largest river within the radius, or the gauge's own), NaN where there is only one.
    """

    row: np.ndarray
    col: np.ndarray
    area: np.ndarray
    area_error: np.ndarray
    distance: np.ndarray
    other_area: np.ndarray
    other_distance: np.ndarray


class SnappedGauges(NamedTuple):
    """Gauges on reaches, those rejected and dropped left out.

    sites : the gauges; reach : int64[gauge]; area : float64[gauge], upstream of the reach's end [km2]; area_error :
    float64[gauge], area / official - 1 [1]; distance : float64[gauge], to the end of the reach [m]; rejected :
    bool[gauge], beyond the limit and kept; dropped : ids and reasons of those left out; other_area, other_distance :
    float64[gauge], as in SnappedPixels; border : float64[gauge], share of its basin's border on the raster's edge.
    """

    sites: list[GaugeSite]
    reach: np.ndarray
    area: np.ndarray
    area_error: np.ndarray
    distance: np.ndarray
    rejected: np.ndarray
    dropped: dict[str, str]
    other_area: np.ndarray
    other_distance: np.ndarray
    border: np.ndarray


class Rivers(NamedTuple):
    """What gauges without an area go by. downstream : int[pixel], the pixel below, itself at an end, or None;
    channel_area : upstream area from which on a pixel is a river [km2]; without_area : own or largest.
    """

    downstream: np.ndarray | None = None
    channel_area: float = 0.0
    without_area: Literal["own", "largest"] = "own"


def snap_pixels(
    sites: Sequence[GaugeSite], grid: Grid, upstream_area: np.ndarray, radius: float, rivers: Rivers | None = None
) -> SnappedPixels:
    """Find the pixel of each gauge.

    Parameters
    ----------
    upstream_area : float[row, col]
        Area that drains through each pixel [km2], NaN off the land.
    radius : float
        How far a pixel's centre may be away [m]; the pixel that holds the gauge is always looked at.
    rivers : Rivers, optional

    Returns
    -------
    SnappedPixels
        The pixel with the smallest |error of `sought_area`| + 0.01 distance / radius; where its area is unknown, the
        one that holds the gauge (off the land the nearest), or from there down the first of a river, as far as the
        radius reaches; or the one with the largest upstream area.
    """
    found = [_snap(site, grid, upstream_area, radius, rivers or Rivers()) for site in sites]
    row, col, area, distance = (np.array([pixel[k] for pixel, _ in found]) for k in range(4))
    other_area, other_distance = (np.array([other[k] for _, other in found], np.float64) for k in (0, 1))
    official = np.array([site.area for site in sites])
    return SnappedPixels(
        row.astype(np.int64), col.astype(np.int64), area, area / official - 1, distance, other_area, other_distance
    )


def _snap(
    site: GaugeSite, grid: Grid, upstream_area: np.ndarray, radius: float, rivers: Rivers
) -> tuple[tuple[int, int, float, float], tuple[float, float]]:
    """Row, column, area and distance of the pixel taken; area and distance of the other candidate."""
    row, col, distance = _near(site, grid, radius)
    area = upstream_area[row, col].astype(np.float64)
    land = area > 0
    if not land.any():
        return (-1, -1, np.nan, np.nan), NOTHING
    row, col, area, distance = row[land], col[land], area[land], distance[land]
    best, second = int(np.argmin(_misfit(area, site.sought_area, distance, radius))), NOTHING
    if np.isnan(site.sought_area):
        own = _own(site, grid, (row, col, area, distance), rivers)
        best, other = (own, best) if rivers.without_area == "own" else (best, own)
        second = NOTHING if area[best] == area[other] else (float(area[other]), float(distance[other]))
    return (int(row[best]), int(col[best]), float(area[best]), float(distance[best])), second


def _own(
    site: GaugeSite, grid: Grid, near: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], rivers: Rivers
) -> int:
    """Which of the pixels near a gauge (rows, columns, areas, distances) it stands at, or drains to as a river."""
    row, col, area, distance = near
    start = at = _holds(site, grid, row, col, distance)
    if rivers.downstream is None:
        return at
    place = {pixel: i for i, pixel in enumerate((row * grid.n_cols + col).tolist())}
    while area[at] < rivers.channel_area:
        pixel = int(row[at]) * grid.n_cols + int(col[at])
        below = int(rivers.downstream[pixel])
        if below == pixel or below not in place:
            return start  # no river within the radius: the gauge stays where it is
        at = place[below]
    return at


def _holds(site: GaugeSite, grid: Grid, row: np.ndarray, col: np.ndarray, distance: np.ndarray) -> int:
    """Which of some pixels holds a gauge, else the nearest."""
    own = grid.find(np.array([site.lon]), np.array([site.lat]))
    here = np.flatnonzero((row == own[0][0]) & (col == own[1][0]))
    return int(here[0]) if here.size else int(np.argmin(distance))


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
    dropped = {i: r for i, r in refused.items() if i not in {k[0].id for k in kept}}
    gathered = _gather(kept, reaches.upstream_area, dropped, drainage.catchments.others)
    return gathered._replace(border=border_shares(drainage)[gathered.reach])


def _gather(
    kept: list[tuple[GaugeSite, int, float, bool]], upstream_area: np.ndarray, dropped: dict[str, str],
    others: Mapping[str, tuple[float, float]],
) -> SnappedGauges:
    sites = [site for site, *_ in kept]
    reach = np.array([k[1] for k in kept], np.int64)
    area = np.asarray(upstream_area, np.float64)[reach]
    return SnappedGauges(
        sites, reach, area, area / np.array([s.area for s in sites], np.float64) - 1,
        np.array([k[2] for k in kept], np.float64), np.array([k[3] for k in kept], bool), dropped,
        np.array([others.get(site.id, NOTHING)[0] for site in sites], np.float64),
        np.array([others.get(site.id, NOTHING)[1] for site in sites], np.float64), np.zeros(len(sites)),
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
    reaches, radius, grid = drainage.reaches, config.radius, drainage.catchments.grid
    row, col, distance = _near(site, grid, radius)
    of_pixel = drainage.catchments.reach[row, col].astype(np.int64)
    near = np.unique(of_pixel[of_pixel >= 0])
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
    land = np.flatnonzero(of_pixel >= 0)
    if np.isnan(site.sought_area) and config.without_area == "own" and land.size:
        own = of_pixel[land[_holds(site, grid, row[land], col[land], distance[land])]]
        best = int(np.searchsorted(places, own))
    return int(places[best]), float(away[best])
