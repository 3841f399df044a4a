"""Raster layers, from a GeoTIFF or a variable of a NetCDF: where their pixels are, and their values, whole or part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError, nearest, shown
from bmi_cdlm.names.memory import available_memory
from bmi_cdlm.prepare.network.grid import Grid, check_grid, check_system, vertical_units
from bmi_cdlm.prepare.packages import PACKAGE, load, resolve
from bmi_cdlm.prepare.weather.gridded import open_dataset, open_field

BYTES_PER_PIXEL = 60
"""What a network takes while it is made: directions, areas and order of every pixel."""
PIXELS_AT_ONCE = 4_000_000
Window = tuple[slice, slice]
NETCDF = (".nc", ".nc4", ".cdf", ".zarr", ".h5")


class Reader(Protocol):
    """Reads rows and columns of a layer as float64[row, col], nodata as NaN."""

    def __call__(self, window: Window) -> np.ndarray:
        """Read a window."""
        ...


class Layer(NamedTuple):
    """An open raster. where : its name in messages; units : those that the file states, or None; height_units : those
    of heights in its reference system, where that has some.
    """

    where: str
    grid: Grid
    units: str | None
    read: Reader
    height_units: str | None = None


class Raster(NamedTuple):
    """A whole layer. values : float32[row, col] or [band, row, col], NaN where there are none; valid : bool[row, col],
    where all bands have one; where : for errors; units : those that the file states for heights, or None.
    """

    grid: Grid
    values: np.ndarray
    valid: np.ndarray
    where: str
    units: str | None = None


def read_raster(name: str, folder: Path, error: type[CdlmError], crs: str | None = None, bands: int = 1) -> Raster:
    """Read a whole raster, north up, and the grid that it defines; float32 holds codes and columns exactly.

    Parameters
    ----------
    name : str
        As for `open_layer`; with several bands also 'file.nc:one,other'.
    crs : str
        Reference system where the file has none.
    bands : int
        1, or how many to stack.

    Raises
    ------
    error
        As `open_layer`, or too few bands.
    """
    layers = []
    for band in range(bands):
        with open_layer(name, folder, crs, error, band, bands) as layer:
            needed, free = BYTES_PER_PIXEL * layer.grid.n_rows * layer.grid.n_cols, available_memory()
            if needed > free:
                raise error(
                    f"{layer.where}: has {layer.grid.n_rows} by {layer.grid.n_cols} pixels, whose network takes about "
                    f"{needed / 2**30:.3g} GiB; {free / 2**30:.3g} GiB of memory are free. Cut or coarsen the raster."
                )
            values = np.empty(layer.grid.shape, np.float32)
            count = max(1, PIXELS_AT_ONCE // layer.grid.n_cols)
            for row in range(0, layer.grid.n_rows, count):
                rows = slice(row, min(row + count, layer.grid.n_rows))
                values[rows] = layer.read((rows, slice(0, layer.grid.n_cols)))
            layers.append(values)
    valid = np.logical_and.reduce([~np.isnan(values) for values in layers])
    return Raster(layer.grid, layers[0] if bands == 1 else np.stack(layers), valid, layer.where, heights_in(layer))


def heights_in(layer: Layer) -> str | None:
    """Units of the heights of a terrain model, as its file states them."""
    return layer.units or layer.height_units


def locate(name: str, folder: Path) -> tuple[Path, str | None]:
    """Return the file behind a raster's name, and the variable in it where it is NetCDF or the like.

    Raises
    ------
    ConfigError
        A package that is not installed, or a NetCDF file without the name of a variable.
    """
    package, text = (PACKAGE, name.removeprefix(PACKAGE)) if name.startswith(PACKAGE) else ("", name)
    base, colon, variable = text.rpartition(":")
    if colon and Path(base).suffix.lower() in NETCDF:
        return resolve(f"{package}{base}", folder), variable
    path = resolve(name, folder)
    if path.suffix.lower() in NETCDF:
        raise ConfigError(f"{name}: which variable? Expected 'file.nc:variable'. Add its name after a colon.")
    return path, None


@contextmanager
def open_layer(
    source: str, folder: Path, crs: str | None = None, error: type[CdlmError] = DomainError, band: int = 0,
    bands: int = 1,
) -> Iterator[Layer]:
    """Open a raster by the text of a configuration.

    Parameters
    ----------
    source : str
        'file.tif', 'file.nc:variable' or 'package:NAME/path/file.tif'; relative to `folder`.
    crs : str
        Reference system where the file has none.
    band, bands : int
        Which of how many bands, from 0.

    Raises
    ------
    error
        The file cannot be read, is turned or sheared, has no reference system, no such variable, or too few bands.
    """
    path, variable = locate(source, folder)
    if variable is not None:
        with open_dataset(path, error) as dataset:
            yield _variable_layer(dataset, f"{path}:{variable}", crs, error, (band, bands))
        return
    with open_geotiff(path, error) as raster:
        if raster.count < bands:
            raise error(f"{path}: has {raster.count} bands, expected {bands}. Check the encoding or the file.")
        grid = geotiff_grid(raster, crs, str(path), error)
        units = raster.units[band] if raster.units and raster.units[band] else None
        yield Layer(str(path), grid, units, lambda w: read_band(raster, w, band), vertical_units(grid.crs))


def _variable_layer(
    dataset: Any, where: str, crs: str | None, error: type[CdlmError], which: tuple[int, int]
) -> Layer:
    """A layer of an open dataset; bands are variables of their own, or along a third dimension."""
    band, bands = which
    name = where.rpartition(":")[2]
    names = name.split(",")
    own = len(names) == bands
    name = names[band] if own else name
    if name not in dataset.variables:
        known = [str(one) for one in dataset.data_vars]
        raise error(f"{where}: there is no variable '{name}'.{nearest(name, known)} The file has: {', '.join(known)}.")
    field = open_field(dataset, name, crs, where, error)
    sizes = {str(d): field.array.sizes[d] for d in field.array.dims if d not in (field.x, field.y)}
    long = [d for d, size in sizes.items() if size > 1]
    index = dict.fromkeys(sizes, 0)
    if not own:
        if len(long) != 1 or sizes[long[0]] < bands:
            raise error(
                f"{where}: has shape {field.array.shape}, expected {bands} bands of rows and columns. Name another "
                "variable, or one for each band: 'file.nc:one,other'."
            )
        index[long[0]] = band
    elif long:
        raise error(f"{where}: has the dimension {', '.join(long)}, expected rows and columns only. Choose one.")
    units = field.array.attrs.get("units")
    assert isinstance(field.grid, Grid)
    return Layer(where, field.grid, None if units is None else str(units), lambda w: field.read(w, index))


@contextmanager
def open_geotiff(path: Path, error: type[CdlmError]) -> Iterator[Any]:
    """Open a raster file with rasterio."""
    rasterio = load("rasterio")
    if not path.is_file():
        raise error(f"{path}: there is no such raster. Restore it, or correct the path.")
    try:
        raster = rasterio.open(path)
        _ = raster.profile, raster.units, raster.scales, raster.offsets, raster.crs and raster.crs.to_string()
    except Exception as cause:  # the library's own, and Python's where a text is none
        raise error(
            f"{path}: cannot be read as a raster ({shown(str(cause))}). Expected a GeoTIFF; check the file."
        ) from cause
    with raster:
        try:
            yield raster
        except rasterio.errors.RasterioError as cause:  # found where a block is read
            raise error(f"{path}: cannot be read whole ({shown(str(cause))}). Copy the raster again.") from cause


def geotiff_grid(raster: Any, crs: str | None, where: str, error: type[CdlmError]) -> Grid:
    """Grid of an open raster; `crs` stands in where the file has none."""
    across, shear, left, turn, down, top = raster.transform[:6]
    if shear or turn or across <= 0 or down >= 0:
        raise error(
            f"{where}: transform {tuple(raster.transform[:6])}, expected rows from the north down and columns from the "
            "west. Warp the raster north up."
        )
    system = raster.crs.to_string() if raster.crs else crs
    if system is None:
        raise error(f"{where}: has no reference system, expected one. Set `crs`, such as EPSG:2154.")
    return check_grid(Grid(left, top, across, -down, raster.height, raster.width, check_system(system)), where, error)


def read_band(raster: Any, window: Window, band: int = 0) -> np.ndarray:
    """Read a window of a band as float64[row, col], scaled, nodata as NaN."""
    raw = raster.read(band + 1, window=window)
    values = raw.astype(np.float64)
    if raster.nodata is not None:
        # Compared in float64 after rounding nodata as the file's own type does: -3.4e38 is not a float32.
        nodata = raster.nodata if raw.dtype.kind in "iu" else np.float64(raw.dtype.type(raster.nodata))
        values[values == nodata] = np.nan
    scale, offset = raster.scales[band], raster.offsets[band]
    return values if scale == 1.0 and offset == 0.0 else values * scale + offset
