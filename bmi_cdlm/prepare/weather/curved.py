"""Curvilinear weather grids, whose longitudes and latitudes lie on rows and columns (WRF, RDRS, HRRR).

Pixels are quadrangles. Their corners are those that the file states (CF bounds), else midpoints between centres, on the
sphere; at the rim as far out as they lie inwards. Areas of overlap are true in an equal-area plane about the cells, up
to the edges, which are straight there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.prepare.network.catchments import Cells
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.prepare.weather.remap import SLIVER, Pairs

LON_NAMES = ("lon", "longitude", "xlong", "xlon", "nav_lon", "lons")
LAT_NAMES = ("lat", "latitude", "xlat", "nav_lat", "lats")


class CurvedGrid(NamedTuple):
    """A grid of quadrangles. lon, lat : float64[row, col], centres; corner_lon, corner_lat : float64[row, col, 4], one
    after the other around a pixel [degrees].
    """

    lon: np.ndarray
    lat: np.ndarray
    corner_lon: np.ndarray
    corner_lat: np.ndarray

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.lon.shape[0])

    @property
    def n_cols(self) -> int:
        """Number of columns."""
        return int(self.lon.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, self.n_cols

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of all pixels in row order [degrees], float64[pixel]."""
        return self.lon.ravel(), self.lat.ravel()


def curved_grid(dataset: Any, array: Any, where: str, error: type[CdlmError]) -> tuple[CurvedGrid, str, str] | None:
    """The curvilinear grid of a variable with the names of its rows and columns; None where it has none.

    Raises
    ------
    error
        Longitudes and latitudes with gaps or beyond their limits, a grid of one row or column.
    """
    found = [_coordinate(dataset, array, *words) for words in ((LON_NAMES, "longitude"), (LAT_NAMES, "latitude"))]
    if found[0] is None or found[1] is None or found[0][1] != found[1][1]:
        return None
    (lon_name, (y, x)), (lat_name, _) = found  # type: ignore[misc]
    lon, lat = (_plane(dataset[name], y, x) for name in (lon_name, lat_name))
    if min(lon.shape) < 2:
        raise error(f"{where}: '{lon_name}' has shape {lon.shape}, expected two or more rows and columns. Use more.")
    if not (np.isfinite(lon).all() and np.isfinite(lat).all() and (np.abs(lat) <= 90.0).all()
            and (np.abs(lon) <= 540.0).all()):
        raise error(
            f"{where}: '{lon_name}' or '{lat_name}' is missing somewhere or beyond degrees, expected the centre of "
            "every pixel. Complete them."
        )
    corners = _stated_corners(dataset, lon_name, lat_name, y, x) or _midpoints(lon, lat)
    return CurvedGrid(lon, lat, *corners), y, x


def overlaps(grid: CurvedGrid, cells: Cells) -> Pairs:
    """Overlap of every cell with the pixels of a grid, as a share of the cell's area."""
    shapely = load("shapely")
    plane, shapes = _on_plane(cells)
    near, quadrangles = _pixels_about(grid, plane, shapely.total_bounds(shapes))
    tree = shapely.STRtree(quadrangles)
    cell, pixel = tree.query(shapes, predicate="intersects")
    share = shapely.area(shapely.intersection(shapes[cell], quadrangles[pixel])) / shapely.area(shapes)[cell]
    kept = share > SLIVER
    return Pairs(cell[kept], near[pixel[kept]], share[kept])


def holding(grid: CurvedGrid, cells: Cells) -> Pairs:
    """The pixel that holds the centre of each cell; where edges meet, the first."""
    shapely = load("shapely")
    plane, _ = _on_plane(cells)
    points = shapely.points(*plane(cells.lon, cells.lat))
    near, quadrangles = _pixels_about(grid, plane, shapely.total_bounds(points))
    cell, pixel = shapely.STRtree(quadrangles).query(points, predicate="intersects")
    cell, first = np.unique(cell, return_index=True)
    return Pairs(cell, near[pixel[first]], np.ones(cell.size))


def _coordinate(dataset: Any, array: Any, names: tuple[str, ...], standard: str) -> tuple[str, tuple[str, str]] | None:
    """A variable of longitudes or latitudes on two dimensions in space of the array (and perhaps time), and these."""
    listed = str(array.attrs.get("coordinates", array.encoding.get("coordinates", ""))).split()
    for name in (*listed, *map(str, dataset.variables)):
        if name not in dataset.variables:
            continue
        one = dataset[name]
        if str(one.attrs.get("standard_name", "")) != standard and name.lower() not in names:
            continue
        dims = [str(d) for d in one.dims]
        if len(dims) == 3 and dims[0] == str(array.dims[0]):
            dims = dims[1:]  # WRF repeats them at every time
        if len(dims) == 2 and all(d in map(str, array.dims) for d in dims):
            return name, (dims[0], dims[1])
    return None


def _plane(variable: Any, y: str, x: str) -> np.ndarray:
    """Values on rows and columns, at the first time where they have several."""
    first = {d: 0 for d in map(str, variable.dims) if d not in (y, x)}
    return np.asarray(variable.isel(first).transpose(y, x).values, np.float64)


def _stated_corners(dataset: Any, lon: str, lat: str, y: str, x: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Corners by CF bounds, float64[row, col, 4]; None where the file has none of four."""
    found = []
    for name in (lon, lat):
        bounds = str(dataset[name].attrs.get("bounds", dataset[name].encoding.get("bounds", "")))
        if bounds not in dataset.variables or dataset[bounds].ndim != 3 or dataset[bounds].shape[-1] != 4:
            return None
        values = np.asarray(dataset[bounds].transpose(y, x, ...).values, np.float64)
        if not np.isfinite(values).all():
            return None
        found.append(values)
    return found[0], found[1]


def _midpoints(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners midway between the centres about them, on the sphere: also across 180 degrees and at a pole."""
    a, b = np.radians(lon), np.radians(lat)
    points = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    for axis in (0, 1):  # one more on either side, as far out as the next lies inwards
        points = np.moveaxis(points, axis, 0)
        points = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
        points = np.moveaxis(points, 0, axis)
    middle = 0.25 * (points[:-1, :-1] + points[1:, :-1] + points[:-1, 1:] + points[1:, 1:])
    corner_lon = np.degrees(np.arctan2(middle[..., 1], middle[..., 0]))
    corner_lat = np.degrees(np.arctan2(middle[..., 2], np.hypot(middle[..., 0], middle[..., 1])))
    around = ((slice(None, -1), slice(None, -1)), (slice(None, -1), slice(1, None)),
              (slice(1, None), slice(1, None)), (slice(1, None), slice(None, -1)))
    return np.stack([corner_lon[i] for i in around], -1), np.stack([corner_lat[i] for i in around], -1)


def _on_plane(cells: Cells) -> tuple[Any, Any]:
    """An equal-area plane about the cells, as a function of longitudes and latitudes, and the cells' shapes on it."""
    shapely, pyproj = load("shapely"), load("pyproj")
    a, b = np.radians(cells.lon), np.radians(cells.lat)
    x, y, z = (np.cos(b) * np.cos(a)).mean(), (np.cos(b) * np.sin(a)).mean(), np.sin(b).mean()
    lon, lat = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    system = f"+proj=laea +lon_0={lon:.6f} +lat_0={lat:.6f} +datum=WGS84 +units=m"
    transform = pyproj.Transformer.from_crs("EPSG:4326", system, always_xy=True).transform
    if cells.polygons is not None:
        shapes = np.array([
            shapely.make_valid(shapely.transform(one, lambda at: np.column_stack(transform(at[:, 0], at[:, 1]))))
            for one in cells.polygons
        ], object)
    else:
        shapes = shapely.polygons(np.stack(transform(cells.corner_lon, cells.corner_lat), axis=-1))
    return transform, shapes


def _pixels_about(grid: CurvedGrid, plane: Any, bounds: np.ndarray) -> tuple[np.ndarray, Any]:
    """Positions of the pixels about a box of the plane, int64[near], and their quadrangles there."""
    shapely = load("shapely")
    x, y = plane(grid.corner_lon.reshape(-1, 4), grid.corner_lat.reshape(-1, 4))
    usable = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    x, y = np.where(usable[:, None], x, 0.0), np.where(usable[:, None], y, 0.0)
    west, south, east, north = bounds
    usable &= (x.max(1) >= west) & (x.min(1) <= east) & (y.max(1) >= south) & (y.min(1) <= north)
    near = np.flatnonzero(usable)
    return near, shapely.polygons(np.stack([x[near], y[near]], axis=-1))
