"""Weights that take values from the pixels of a weather grid, or from places, to the cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.network.catchments import Cells
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.prepare.weather.nearest import nearest_of

SLIVER = 1e-6  # of a cell; smaller overlaps are rounding
CELLS_AT_ONCE = 100_000


class Pairs(NamedTuple):
    """Shares of sources in cells: cell, source : int64[pair]; share : float64[pair]."""

    cell: np.ndarray
    source: np.ndarray
    share: np.ndarray


class Remap(NamedTuple):
    """Weights. sources : int64[used], the pixels or places that are used; matrix : sparse float64[cell, used], rows
    sum to one; lone, taken : int64[], cells that took the nearest valid source, and which; away : its distance [km].
    """

    sources: np.ndarray
    matrix: Any
    lone: np.ndarray
    taken: np.ndarray
    away: np.ndarray

    @property
    def n_filled(self) -> int:
        """Number of cells that took the nearest valid source."""
        return int(self.lone.size)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """From float64[time, used] to float64[time, cell]."""
        return np.ascontiguousarray((self.matrix @ values.T).T)


def conservative(grid: Grid, cells: Cells) -> Pairs:
    """Overlap of every cell with the pixels of a grid, as a share of the cell's area.

    In the grid's own reference system exact from its edges; in another the cell is the quadrangle of its corners there.
    """
    if cells.polygons is not None:
        return _overlap_shapes(grid, cells)
    if grid.crs == cells.grid.crs:
        return _overlap_rectangles(grid, cells)
    parts = [
        _overlap_polygons(grid, cells, np.arange(first, min(first + CELLS_AT_ONCE, cells.row.size)))
        for first in range(0, cells.row.size, CELLS_AT_ONCE)
    ]
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def bilinear(grid: Grid, cells: Cells) -> Pairs:
    """Weights of the four pixels whose centres surround the centre of each cell; of those that the grid has."""
    x, y = _to_grid(grid, cells.lon, cells.lat)
    col, row = (x - grid.left) / grid.dx - 0.5, (grid.top - y) / grid.dy - 0.5
    col, row = (np.where(np.abs(a - np.round(a)) < SLIVER, np.round(a), a) for a in (col, row))
    j, i = np.floor(col).astype(np.int64), np.floor(row).astype(np.int64)
    u, v = col - j, row - i
    cell = np.arange(cells.row.size)
    rows, cols = np.concatenate([i, i, i + 1, i + 1]), np.concatenate([j, j + 1, j, j + 1])
    share = np.concatenate([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u])
    return _pairs(grid, np.tile(cell, 4), rows, cols, share)


def nearest_pixel(grid: Grid, cells: Cells) -> Pairs:
    """The pixel that holds the centre of each cell."""
    x, y = _to_grid(grid, cells.lon, cells.lat)
    rows, cols = np.floor((grid.top - y) / grid.dy), np.floor((x - grid.left) / grid.dx)
    cell = np.arange(cells.row.size)
    return _pairs(grid, cell, rows.astype(np.int64), cols.astype(np.int64), np.ones(cell.size))


def complete(
    pairs: Pairs, valid: np.ndarray, places: tuple[np.ndarray, np.ndarray], cells: Cells, distance: float, where: str,
    *, whole: bool = False,
) -> Remap:
    """Leave out sources without values, share their weight out to the rest, and fill cells that have none.

    Parameters
    ----------
    valid : bool[source]
    places : float64[source], float64[source]
        Longitude and latitude of the sources [degrees].
    distance : float
        How far the nearest valid source of a cell without one may be [km].
    whole : bool
        Cells that lack one of their sources take the nearest valid one alone [SPEC 11: bilinear].

    Raises
    ------
    ForcingError
        No valid source at all, or none near enough: the source does not overlap with the domain.
    """
    n = cells.row.size
    good = valid[pairs.source] & (pairs.share > SLIVER)
    total = np.bincount(pairs.cell[good], pairs.share[good], n)
    poor = total < (1.0 - 1e-4 if whole else SLIVER)
    good &= ~poor[pairs.cell]
    cell, source = pairs.cell[good], pairs.source[good]
    share = pairs.share[good] / total[cell]
    lone = np.flatnonzero(poor)
    found, away = np.zeros(0, np.int64), np.zeros(0)
    if lone.size:
        found, away = _fill(valid, places, cells, lone, distance, where)
        cell, source, share = np.r_[cell, lone], np.r_[source, found], np.r_[share, np.ones(lone.size)]
    used, position = np.unique(source, return_inverse=True)
    matrix = load("scipy.sparse").csr_array((share, (cell, position)), shape=(n, used.size))
    return Remap(used, matrix, lone, found, away)


def _fill(
    valid: np.ndarray, places: tuple[np.ndarray, np.ndarray], cells: Cells, lone: np.ndarray, limit: float, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest valid source of cells, and its distance [km]."""
    lon, lat = places
    candidates = np.flatnonzero(valid & np.isfinite(lon) & np.isfinite(lat))
    if not candidates.size:
        what = "valid value in its first step" if not valid.any() else "lon and lat of its places"
        raise ForcingError(
            f"{where}: has no {what}, expected some: {lone.size} of {cells.row.size} cells, the first "
            f"{cells.id[lone[0]]}, take the nearest. Complete the source."
        )
    found, away = nearest_of((lon[candidates], lat[candidates]), (cells.lon[lone], cells.lat[lone]))
    far = np.flatnonzero(away > limit)
    if far.size:
        i = far[np.argmax(away[far])]
        raise ForcingError(
            f"{where}: does not reach {far.size} of {cells.row.size} cells; cell {cells.id[lone[i]]} at "
            f"{cells.lon[lone[i]]:.3f} E, {cells.lat[lone[i]]:.3f} N is {away[i]:.0f} km from the nearest value, "
            f"expected at most {limit:g} km. Use a source that overlaps with the domain, raise `fill_distance`, or "
            "leave such cells out with network.cell_mask."
        )
    return candidates[found], away


def centres(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of all pixels of a grid in row order [degrees], float64[pixel]."""
    row, col = (index.ravel() for index in np.indices(grid.shape))
    return grid.lonlat(row, col)


def _overlap_rectangles(grid: Grid, cells: Cells) -> Pairs:
    """Products of overlaps along both axes; along meridians by the sine of latitude, which shares out areas."""
    to_area = (lambda y: np.sin(np.radians(y))) if grid.is_geographic else (lambda y: y)
    own = cells.grid
    period = grid.n_cols if grid.is_around else 0
    left = own.left + cells.col * own.dx
    left = grid.turn(left, 0.5 * own.dx)
    top = own.top - cells.row * own.dy
    cols, across = _overlap_axis((left - grid.left) / grid.dx, own.dx / grid.dx)
    rows, _ = _overlap_axis((grid.top - top) / grid.dy, own.dy / grid.dy)
    upper = np.minimum(top[:, None], grid.top - rows * grid.dy)
    lower = np.maximum((top - own.dy)[:, None], grid.top - (rows + 1) * grid.dy)
    upper = np.maximum(upper, lower)
    down = (to_area(upper) - to_area(lower)) / (to_area(top) - to_area(top - own.dy))[:, None]
    share = (down[:, :, None] * across[:, None, :]).reshape(-1)
    n, k, m = rows.shape[0], rows.shape[1], cols.shape[1]
    cell = np.repeat(np.arange(n), k * m)
    row = np.broadcast_to(rows[:, :, None], (n, k, m)).reshape(-1)
    col = np.broadcast_to(cols[:, None, :], (n, k, m)).reshape(-1)
    return _pairs(grid, cell, row, col, share, period)


def _overlap_axis(begin: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels under intervals [pixels], int64[cell, k], and the share of the interval in each."""
    first = np.floor(begin + SLIVER).astype(np.int64)
    index = first[:, None] + np.arange(int(np.ceil(width)) + 1)
    overlap = np.minimum(index + 1, begin[:, None] + width) - np.maximum(index, begin[:, None])
    return index, np.maximum(overlap, 0.0) / width


def _overlap_polygons(grid: Grid, cells: Cells, which: np.ndarray) -> Pairs:
    """Overlap of quadrangles with pixels, by clipping."""
    shapely = load("shapely")
    x, y = _to_grid(grid, cells.corner_lon[which], cells.corner_lat[which])
    if grid.is_geographic:  # a cell across the seam keeps its corners together
        x = x - 360.0 * np.round((x - x[:, :1]) / 360.0)
    col, row = (x - grid.left) / grid.dx, (grid.top - y) / grid.dy  # in pixels
    usable = np.isfinite(col).all(axis=1) & np.isfinite(row).all(axis=1)
    col, row, which = col[usable], row[usable], which[usable]
    quadrangle = shapely.polygons(np.stack([col, row], axis=-1))
    j0, j1 = np.floor(col.min(axis=1)).astype(np.int64), np.ceil(col.max(axis=1)).astype(np.int64)
    i0, i1 = np.floor(row.min(axis=1)).astype(np.int64), np.ceil(row.max(axis=1)).astype(np.int64)
    n_cols, n_rows = j1 - j0, i1 - i0
    count = n_cols * n_rows
    cell = np.repeat(np.arange(which.size), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    i, j = i0[cell] + place // n_cols[cell], j0[cell] + place % n_cols[cell]
    pieces = shapely.intersection(quadrangle[cell], shapely.box(j, i, j + 1, i + 1))
    share = shapely.area(pieces) / shapely.area(quadrangle)[cell]
    return _pairs(grid, which[cell], i, j, share)


def _overlap_shapes(grid: Grid, cells: Cells) -> Pairs:
    """Overlap of polygons with pixels, by clipping; on a geographic grid in longitude and the sine of latitude, where
    areas are true.
    """
    shapely = load("shapely")
    to_area = (lambda y: np.sin(np.radians(np.clip(y, -90.0, 90.0)))) if grid.is_geographic else (lambda y: y)
    cell, row, col, share = [], [], [], []
    for k, shape in enumerate(cells.polygons):
        def to_plane(points: np.ndarray, middle: float = float(cells.lon[k])) -> np.ndarray:
            lon = points[:, 0] - 360.0 * np.round((points[:, 0] - middle) / 360.0)  # together across 180 degrees
            if grid.crs == "EPSG:4326":
                return np.column_stack([lon + (grid.turn(np.array([middle]))[0] - middle), points[:, 1]])
            return np.column_stack(_to_grid(grid, lon, points[:, 1]))

        outline = shapely.make_valid(shapely.transform(shape, to_plane))
        west, south, east, north = outline.bounds
        j0, j1 = int(np.floor((west - grid.left) / grid.dx)), int(np.ceil((east - grid.left) / grid.dx))
        i0, i1 = int(np.floor((grid.top - north) / grid.dy)), int(np.ceil((grid.top - south) / grid.dy))
        i, j = (index.ravel() for index in np.meshgrid(np.arange(i0, i1), np.arange(j0, j1), indexing="ij"))
        outline = shapely.transform(outline, lambda points: np.column_stack([points[:, 0], to_area(points[:, 1])]))
        left, top = grid.left + j * grid.dx, grid.top - i * grid.dy
        boxes = shapely.box(left, to_area(top - grid.dy), left + grid.dx, to_area(top))
        pieces = shapely.area(shapely.intersection(outline, boxes))
        kept = pieces > 0
        cell.append(np.full(np.count_nonzero(kept), k))
        row.append(i[kept])
        col.append(j[kept])
        share.append(pieces[kept] / pieces.sum())
    return _pairs(grid, np.concatenate(cell), np.concatenate(row), np.concatenate(col), np.concatenate(share))


def _pairs(
    grid: Grid, cell: np.ndarray, row: np.ndarray, col: np.ndarray, share: np.ndarray, period: int | None = None
) -> Pairs:
    """Keep the pairs whose pixel lies on the grid; around the globe columns go on."""
    if period if period is not None else grid.is_around:
        col = col % grid.n_cols
    inside = (row >= 0) & (row < grid.n_rows) & (col >= 0) & (col < grid.n_cols) & (share > SLIVER)
    return Pairs(cell[inside], row[inside] * grid.n_cols + col[inside], share[inside])


def _to_grid(grid: Grid, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates on the grid of longitudes and latitudes."""
    if grid.crs == "EPSG:4326":
        return grid.turn(lon), lat
    x, y = load("pyproj").Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True).transform(lon, lat)
    return grid.turn(x), y
