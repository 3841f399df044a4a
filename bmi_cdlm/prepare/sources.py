"""Rasters wherever they are: a GeoTIFF, a variable of a NetCDF file, or a file inside an installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.errors import CdlmError, ConfigError
from bmi_cdlm.files import one_at_a_time, open_input, require
from bmi_cdlm.prepare.grid import Grid
from bmi_cdlm.prepare.packages import PACKAGE, load, resolve

SPACING = 1e-3  # of a pixel; coordinates in files are rounded
NETCDF = (".nc", ".nc4", ".cdf")


class Raster(NamedTuple):
    """values : [row, col] or [band, row, col], in the type of the file; valid : bool[row, col]; where : for errors."""

    grid: Grid
    values: np.ndarray
    valid: np.ndarray
    where: str


class Source(NamedTuple):
    """A file, and the variable in it where it is NetCDF."""

    path: Path
    variable: str | None


def locate(name: str, folder: Path) -> Source:
    """Return the file behind a raster's name; a relative path starts in `folder`.

    Raises
    ------
    ConfigError
        A package that is not installed, or a NetCDF file without the name of a variable.
    """
    variable = None
    text = name.removeprefix(PACKAGE)
    base, colon, last = text.rpartition(":")
    if colon and base.lower().endswith(NETCDF):
        text, variable = base, last
    path = resolve(f"{PACKAGE}{text}" if name.startswith(PACKAGE) else text, folder)
    if path.suffix.lower() in NETCDF and not variable:
        raise ConfigError(f"{name}: which variable? Expected 'file.nc:variable'. Add its name after a colon.")
    return Source(path, variable)


@one_at_a_time
def read_raster(name: str, folder: Path, error: type[CdlmError], crs: str | None = None, bands: int = 1) -> Raster:
    """Read a whole raster, north up, and the grid that it defines.

    Parameters
    ----------
    name : str
        'file.tif', 'file.nc:variable' ('file.nc:one,other' for two bands) or 'package:NAME/path/file.tif'.
    crs : str
        Reference system where the file names none.
    bands : int
        1, or how many to stack.

    Raises
    ------
    error
        An unreadable file, no reference system, coordinates that are not evenly spaced, too few bands.
    """
    path, variable = locate(name, folder)
    if variable is not None:
        return _read_netcdf(path, variable, error, crs, bands)
    rasterio = load("rasterio")
    try:
        raster = rasterio.open(path)
    except rasterio.errors.RasterioIOError as cause:
        raise error(f"{path}: cannot be read as a raster ({cause}). Expected a GeoTIFF; check the file.") from cause
    with raster:
        across, turn, left, tilt, down, top = raster.transform[:6]
        if turn or tilt or across <= 0.0 or down >= 0.0:
            raise error(f"{path}: pixels are turned or upside down, expected rows from north to south. Warp it.")
        if raster.count < bands:
            raise error(f"{path}: has {raster.count} bands, expected {bands}. Check the encoding or the file.")
        system = raster.crs.to_string() if raster.crs else crs
        grid = Grid(left, top, across, -down, raster.height, raster.width, _named(system, str(path), error))
        values = raster.read(list(range(1, bands + 1))) if bands > 1 else raster.read(1)
        nodata = raster.nodata
        if nodata is not None and values.dtype.kind == "f":
            nodata = values.dtype.type(nodata)  # -3.4e38 is not a float32
        return Raster(grid, values, _valid(values, [nodata]), str(path))


def _read_netcdf(path: Path, name: str, error: type[CdlmError], crs: str | None, bands: int) -> Raster:
    names = name.split(",")
    if len(names) == bands > 1:
        layers = [_read_netcdf(path, one, error, crs, 1) for one in names]
        valid = np.logical_and.reduce([layer.valid for layer in layers])
        return layers[0]._replace(values=np.stack([layer.values for layer in layers]), valid=valid)
    with open_input(path, error) as dataset:
        require(dataset, [name], str(path), error)
        variable = dataset.variables[name]
        where = f"{path}: '{name}'"
        if variable.ndim != (2 if bands == 1 else 3) or (bands > 1 and variable.shape[0] < bands):
            wanted = "rows and columns" if bands == 1 else f"{bands} bands of rows and columns"
            raise error(f"{where} has shape {variable.shape}, expected {wanted}. Name another variable.")
        y, x = (_coordinate(dataset, dim, where, error) for dim in variable.dimensions[-2:])
        variable.set_auto_scale(False)  # what marks missing values is not scaled
        values = variable[:bands] if bands > 1 else variable[:]
        dx, dy = abs(x[-1] - x[0]) / (x.size - 1), abs(y[-1] - y[0]) / (y.size - 1)
        if y[0] < y[-1]:
            values, y = values[..., ::-1, :], y[::-1]
        if x[0] > x[-1]:
            values, x = values[..., ::-1], x[::-1]
        system = _named(_netcdf_crs(dataset, variable) or crs, where, error)
        grid = Grid(float(x[0] - dx / 2), float(y[0] + dy / 2), float(dx), float(dy), y.size, x.size, system)
        missing = [variable.getncattr(a) for a in ("_FillValue", "missing_value") if a in variable.ncattrs()]
        valid = _valid(values, missing)
        scale, offset = getattr(variable, "scale_factor", 1.0), getattr(variable, "add_offset", 0.0)
        values = np.ascontiguousarray(values if scale == 1.0 and offset == 0.0 else values * scale + offset)
        return Raster(grid, values, valid, where)


def _coordinate(dataset: netCDF4.Dataset, dim: str, where: str, error: type[CdlmError]) -> np.ndarray:
    if dim not in dataset.variables or dataset.variables[dim].size < 2:
        raise error(f"{where}: dimension '{dim}' has no coordinates, or one only. Expected those of centres.")
    values = np.asarray(dataset.variables[dim][:], np.float64)
    steps = np.diff(values)
    even = abs(values[-1] - values[0]) / steps.size
    # Float32 coordinates in degrees are good to 1e-5.
    rounding = 4.0 * float(np.finfo(dataset.variables[dim].dtype).eps) * np.abs(values).max() if (
        dataset.variables[dim].dtype.kind == "f") else 0.0
    if even <= 0.0 or np.abs(np.abs(steps) - even).max() > SPACING * even + rounding:
        raise error(f"{where}: '{dim}' is not evenly spaced. Expected a regular grid; resample it.")
    return values


def _netcdf_crs(dataset: netCDF4.Dataset, variable: netCDF4.Variable) -> str | None:
    """The reference system that the grid mapping names, or degrees of longitude and latitude by their units."""
    mapping = dataset.variables.get(getattr(variable, "grid_mapping", ""))
    for attribute in ("crs_wkt", "spatial_ref", "epsg_code"):
        if mapping is not None and attribute in mapping.ncattrs():
            return str(load("pyproj").CRS.from_user_input(mapping.getncattr(attribute)).to_string())
    coordinates = [dataset.variables[dim] for dim in variable.dimensions[-2:]]
    units = [str(getattr(c, "units", "")) for c in coordinates]
    return "EPSG:4326" if mapping is None and units == ["degrees_north", "degrees_east"] else None


def _named(crs: str | None, where: str, error: type[CdlmError]) -> str:
    if crs is None:
        raise error(
            f"{where}: names no coordinate reference system, expected for example EPSG:4326. Set the key `crs`, or "
            "write it into the file."
        )
    return crs


def _valid(values: np.ndarray, missing: list[Any]) -> np.ndarray:
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    for value in missing:
        if value is not None:
            valid &= values != value
    return np.asarray(valid if valid.ndim == 2 else valid.all(axis=0))
