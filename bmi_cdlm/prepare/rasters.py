"""Rasters on one regular projected grid: where its pixels are, and the values of files aligned with it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.errors import CdlmError, DomainError
from bmi_cdlm.prepare.packages import load

ALIGNMENT_TOLERANCE = 1e-3  # of a pixel; corners in files are rounded


class Grid(NamedTuple):
    """A regular grid of square pixels, row 0 in the north.

    left, top : outer corner in the north-west [m]; size : side of a pixel [m]; crs : its coordinate
    reference system, as 'EPSG:2154' or WKT.
    """

    left: float
    top: float
    size: float
    n_rows: int
    n_cols: int
    crs: str

    @property
    def pixel_area(self) -> float:
        """Area of a pixel on the map [km2]."""
        return (self.size / 1000.0) ** 2


class Pixels(NamedTuple):
    """Chosen pixels of a grid. row, col : int64[pixel]."""

    grid: Grid
    row: np.ndarray
    col: np.ndarray

    @property
    def ids(self) -> list[str]:
        """Stable ids 'row_column' on the whole grid, str[pixel]."""
        return [f"{row:04d}_{col:04d}" for row, col in zip(self.row.tolist(), self.col.tolist(), strict=True)]


def read_grid(path: Path, error: type[CdlmError] = DomainError) -> tuple[Grid, np.ndarray]:
    """Read a whole raster, and the grid that it defines.

    Returns
    -------
    grid : Grid
    values : float64[row, col]
        NaN where the file has its nodata value.
    """
    with _open(path, error) as raster:
        across, _, left, _, down, top = raster.transform[:6]
        if raster.crs is None or across <= 0 or abs(across + down) > ALIGNMENT_TOLERANCE * across:
            raise error(
                f"{path}: pixels of {across} by {down} and reference system {raster.crs}, expected square "
                "pixels, north up, in a named projected system. Reproject the raster."
            )
        grid = Grid(left, top, across, raster.height, raster.width, raster.crs.to_string())
        return grid, _values(raster, None)


def read_pixels(path: Path, pixels: Pixels, error: type[CdlmError]) -> np.ndarray:
    """Read the values of a raster at pixels of the grid: float64[pixel], NaN where nodata.

    Only the window around the pixels is read. The raster may cover another part of the plane than the
    grid, but must have its pixels in the same places; one without a reference system is taken to be in
    the grid's.
    """
    with _open(path, error) as raster:
        rows_down, cols_right = _offset(raster, pixels.grid, str(path), error)
        row, col = pixels.row + rows_down, pixels.col + cols_right
        first_row, last_row, first_col, last_col = row.min(), row.max(), col.min(), col.max()
        if first_row < 0 or first_col < 0 or last_row >= raster.height or last_col >= raster.width:
            raise error(
                f"{path}: has {raster.height} rows and {raster.width} columns, expected rows {first_row} to "
                f"{last_row} and columns {first_col} to {last_col}, counted from its corner. Use a raster "
                "that covers the whole basin."
            )
        window = ((int(first_row), int(last_row) + 1), (int(first_col), int(last_col) + 1))
        return _values(raster, window)[row - first_row, col - first_col]


def centres(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of the pixel centres [degrees], float64[pixel] each."""
    grid = pixels.grid
    x, y = grid.left + (pixels.col + 0.5) * grid.size, grid.top - (pixels.row + 0.5) * grid.size
    return _to_degrees(grid, x, y)


def corners(pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of the corners [degrees], float64[pixel, 4]: SW, SE, NE, NW."""
    grid = pixels.grid
    x = grid.left + (pixels.col[:, None] + np.array([0, 1, 1, 0])) * grid.size
    y = grid.top - (pixels.row[:, None] + np.array([1, 1, 0, 0])) * grid.size
    return _to_degrees(grid, x, y)


def _to_degrees(grid: Grid, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    transformer = load("pyproj").Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = transformer.transform(x, y)
    return lon, lat


def _open(path: Path, error: type[CdlmError]) -> Any:
    rasterio = load("rasterio")
    try:
        return rasterio.open(path)
    except rasterio.errors.RasterioIOError as cause:
        raise error(
            f"{path}: cannot be read as a raster ({cause}). Expected a GeoTIFF; check the file."
        ) from cause


def _values(raster: Any, window: tuple[tuple[int, int], tuple[int, int]] | None) -> np.ndarray:
    raw = raster.read(1, window=window)
    values = raw.astype(np.float64)
    if raster.nodata is not None:
        # Compared in float64 after rounding nodata as the file's own type does: -3.4e38 is not a float32.
        nodata = raster.nodata if raw.dtype.kind in "iu" else np.float64(raw.dtype.type(raster.nodata))
        values[values == nodata] = np.nan
    return values


def _offset(raster: Any, grid: Grid, where: str, error: type[CdlmError]) -> tuple[int, int]:
    """Rows and columns from the grid's corner to the raster's, after checking that both align."""
    across, _, left, _, down, top = raster.transform[:6]
    col, row = (grid.left - left) / grid.size, (top - grid.top) / grid.size
    same_size = max(abs(across - grid.size), abs(down + grid.size)) <= ALIGNMENT_TOLERANCE * grid.size
    if not same_size or max(abs(col - round(col)), abs(row - round(row))) > ALIGNMENT_TOLERANCE:
        raise error(
            f"{where}: pixels of {across:g} by {-down:g} m with a corner at ({left:.10g}, {top:.10g}), "
            f"expected {grid.size:g} m aligned with ({grid.left:.10g}, {grid.top:.10g}). Resample it."
        )
    system = grid.crs if raster.crs is None else _name_of_system(raster.crs.to_wkt())
    if system != grid.crs:
        raise error(f"{where}: reference system {system}, expected {grid.crs}. Reproject the raster.")
    return round(row), round(col)


@lru_cache(maxsize=64)
def _name_of_system(wkt: str) -> str:
    """The authority's code of a system, however it is spelled out; looked up once, it takes 15 ms."""
    return str(load("rasterio").crs.CRS.from_wkt(wkt).to_string())
