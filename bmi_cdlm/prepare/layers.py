"""A raster layer, from a GeoTIFF or a variable of a NetCDF: where its pixels are, and windows of its values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bmi_cdlm.errors import CdlmError, DomainError
from bmi_cdlm.prepare.grid import Grid
from bmi_cdlm.prepare.gridded import open_dataset, open_field
from bmi_cdlm.prepare.packages import load, resolve

Window = tuple[slice, slice]
NETCDF = (".nc", ".nc4", ".cdf", ".zarr", ".h5")


class Reader(Protocol):
    """Reads rows and columns of a layer as float64[row, col], nodata as NaN."""

    def __call__(self, window: Window) -> np.ndarray:
        """Read a window."""
        ...


class Layer(NamedTuple):
    """An open raster. where : its name in messages; units : those that the file states, or None."""

    where: str
    grid: Grid
    units: str | None
    read: Reader


@contextmanager
def open_layer(
    source: str, folder: Path, crs: str | None = None, error: type[CdlmError] = DomainError
) -> Iterator[Layer]:
    """Open a raster by the text of a configuration: a GeoTIFF, or `file.nc:variable`.

    Raises
    ------
    error
        The file cannot be read, is turned or sheared, has no reference system, or no such variable.
    """
    head, colon, variable = source.rpartition(":")
    if colon and not head.endswith("package") and "/" not in variable and Path(head).suffix in NETCDF:
        path = resolve(head, folder)
        with open_dataset(path, error) as dataset:
            where = f"{path}:{variable}"
            if variable not in dataset.variables:
                raise error(f"{where}: there is no such variable. The file has: {', '.join(map(str, dataset))}.")
            field = open_field(dataset, variable, crs, where, error)
            extra = [str(d) for d in field.array.dims if d not in (field.x, field.y)]
            long = [d for d in extra if field.array.sizes[d] > 1]
            if long:
                raise error(
                    f"{where}: has the dimension {', '.join(long)}, expected rows and columns only. Choose one."
                )
            index = dict.fromkeys(extra, 0)
            units = field.array.attrs.get("units")
            yield Layer(where, field.grid, None if units is None else str(units), lambda w: field.read(w, index))
        return
    path = resolve(source, folder)
    with open_geotiff(path, error) as raster:
        grid = geotiff_grid(raster, crs, str(path), error)
        units = raster.units[0] if raster.units and raster.units[0] else None
        yield Layer(str(path), grid, units, lambda w: read_band(raster, w))


@contextmanager
def open_geotiff(path: Path, error: type[CdlmError]) -> Iterator[Any]:
    """Open a raster file with rasterio."""
    rasterio = load("rasterio")
    if not path.is_file():
        raise error(f"{path}: there is no such raster. Restore it, or correct the path.")
    try:
        raster = rasterio.open(path)
    except rasterio.errors.RasterioIOError as cause:
        raise error(f"{path}: cannot be read as a raster ({cause}). Expected a GeoTIFF; check the file.") from cause
    with raster:
        yield raster


def geotiff_grid(raster: Any, crs: str | None, where: str, error: type[CdlmError]) -> Grid:
    """Grid of an open raster; `crs` stands in where the file names none."""
    across, shear, left, turn, down, top = raster.transform[:6]
    if shear or turn or across <= 0 or down >= 0:
        raise error(
            f"{where}: transform {tuple(raster.transform[:6])}, expected rows from the north down and columns from the "
            "west. Warp the raster north up."
        )
    system = crs if raster.crs is None else raster.crs.to_string()
    if system is None:
        raise error(f"{where}: has no reference system, expected one. Set `crs`, such as EPSG:2154.")
    return Grid(left, top, across, -down, raster.height, raster.width, system)


def read_band(raster: Any, window: Window) -> np.ndarray:
    """Read a window of the first band as float64[row, col], scaled, nodata as NaN."""
    raw = raster.read(1, window=window)
    values = raw.astype(np.float64)
    if raster.nodata is not None:
        # Compared in float64 after rounding nodata as the file's own type does: -3.4e38 is not a float32.
        nodata = raster.nodata if raw.dtype.kind in "iu" else np.float64(raw.dtype.type(raster.nodata))
        values[values == nodata] = np.nan
    scale, offset = raster.scales[0], raster.offsets[0]
    return values if scale == 1.0 and offset == 0.0 else values * scale + offset
