"""Variables on regular grids in NetCDF, Zarr or GRIB: opened lazily, their axes and reference system understood."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import CdlmError, nearest
from bmi_cdlm.names.variables import SOURCES
from bmi_cdlm.prepare.network.grid import Grid, check_system, is_geographic, metres_of
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.prepare.weather.curved import CurvedGrid, curved_grid

GRIB = (".grib", ".grb", ".grib1", ".grb1", ".grib2", ".grb2")
REGULAR = 0.05  # of a pixel: coordinates may be stored in single precision
EAST = ("degrees_east", "degree_east", "degrees_e", "degree_e")
TIME_NAMES = ("time", "valid_time", "date", "datetime")
NORTH = ("degrees_north", "degree_north", "degrees_n", "degree_n")
X_NAMES = ("lon", "longitude", "x", "rlon", "easting", "projection_x_coordinate", "grid_longitude")
Y_NAMES = ("lat", "latitude", "y", "rlat", "northing", "projection_y_coordinate", "grid_latitude")


class Field(NamedTuple):
    """A variable with two axes in space, and perhaps others.

    array : xarray.DataArray, lazy; grid : row 0 in the north; x, y : names of its dimensions; flipped : whether rows
    of the file run from the south. Values beyond the valid range that the file states are missing.
    """

    array: Any
    grid: Grid | CurvedGrid
    x: str
    y: str
    flipped: bool

    def read(self, window: tuple[slice, slice], index: dict[str, Any] | None = None) -> np.ndarray:
        """Read rows and columns of the grid as float64[..., row, col], missing values as NaN."""
        rows, cols = window
        if self.flipped:
            n = self.grid.n_rows
            rows = slice(n - rows.stop, n - rows.start)
        part = self.array.isel({**(index or {}), self.y: rows, self.x: cols})
        values = within_range(np.asarray(part.transpose(..., self.y, self.x).values, np.float64), self.array)
        return values[..., ::-1, :] if self.flipped else values


def within_range(values: np.ndarray, array: Any) -> np.ndarray:
    """Return float64 values of a variable with NaN beyond its attributes valid_min, valid_max or valid_range.

    As CF has it, the range of packed values is packed too where it is of their type.
    """
    attributes = {**array.encoding, **array.attrs}
    low, high = np.ravel(attributes.get("valid_range", (-np.inf, np.inf)))[[0, -1]]
    limits = [np.asarray(attributes.get("valid_min", low)), np.asarray(attributes.get("valid_max", high))]
    scale, offset = attributes.get("scale_factor"), attributes.get("add_offset")
    if scale is not None or offset is not None:
        packed = np.dtype(attributes.get("dtype", np.float64)).kind in "iu"
        limits = [
            one * (1.0 if scale is None else scale) + (0.0 if offset is None else offset)
            if packed and one.dtype.kind in "iu" else one for one in limits
        ]
    low, high = sorted(float(one) for one in limits)
    if low == -np.inf and high == np.inf:
        return values
    slack = 1e-6 * max(abs(one) for one in (low, high) if np.isfinite(one))  # of numbers in single precision
    with np.errstate(invalid="ignore"):
        return np.where((values < low - slack) | (values > high + slack), np.nan, values)


def open_dataset(path: Path, error: type[CdlmError], messages: Mapping[str, Any] | None = None) -> Any:
    """Open a NetCDF, Zarr or GRIB file lazily: packed values are unpacked, times left as numbers.

    messages : which messages of a GRIB file, by keys of its library.
    """
    xarray = load("xarray")
    if not path.exists():
        raise error(f"{path}: there is no such file. Check the path of the source.")
    if path.suffix.lower() in GRIB and path.is_file():
        return _open_grib(path, error, messages or {})
    engine = "zarr" if path.is_dir() else None
    try:
        with warnings.catch_warnings():  # two fill values, of which xarray heeds both
            warnings.filterwarnings("ignore", message=".*multiple fill values.*")
            return xarray.open_dataset(path, engine=engine, decode_times=False, cache=False, chunks=None)
    except Exception as cause:  # the engines raise whatever they like
        raise error(
            f"{path}: cannot be opened ({type(cause).__name__}: {cause}). Expected NetCDF, Zarr, or GRIB in a file "
            f"whose name ends in one of {', '.join(GRIB)}."
        ) from cause


def _open_grib(path: Path, error: type[CdlmError], messages: Mapping[str, Any]) -> Any:
    """Open a GRIB file by the library of the ECMWF; nothing is written beside it."""
    try:
        importlib.import_module("cfgrib")
    except Exception as cause:  # without its library in C it raises what it likes
        raise error(
            f"{path}: is GRIB, and the package cfgrib with its library cannot be loaded ({cause}). Install "
            "bmi_cdlm[grib], or convert the file to NetCDF."
        ) from cause
    how = {"indexpath": "", "filter_by_keys": dict(messages), "errors": "raise"}
    try:
        found = load("xarray").open_dataset(
            path, engine="cfgrib", decode_times=False, cache=False, chunks=None, backend_kwargs=how
        )
    except Exception as cause:
        raise error(
            f"{path}: cannot be opened as one set of fields ({type(cause).__name__}: "
            f"{' '.join(str(cause).split())[:300]}). "
            "Expected messages of one kind of level and step. Choose them with the key messages, such as "
            "{typeOfLevel: surface} or {shortName: tp}."
        ) from cause
    if not found.data_vars:
        raise error(f"{path}: has no message with {dict(messages)}, expected some. Correct the key messages.")
    return found


def is_time(dataset: Any, dim: str) -> bool:
    """Return whether a dimension is one of times."""
    counts = dim in dataset.variables and "since" in str(dataset[dim].attrs.get("units", ""))
    return dim.lower() in TIME_NAMES or counts


def choose_variable(dataset: Any, name: str | None, usual: Sequence[str], where: str, error: type[CdlmError]) -> str:
    """Return the variable asked for, else the only one with one of the usual names or standard names."""
    known = [str(one) for one in dataset.data_vars]
    if name is not None:
        if name in dataset.variables:
            return name
        listed = ", ".join(known) or "no variables but coordinates and dimensions"
        raise error(f"{where}: there is no variable '{name}'.{nearest(name, known)} The file has: {listed}.")
    # By its name; else by its standard name, unless its name is that of another quantity: tasmax is no mean.
    others = {word for entry in SOURCES.values() for word in entry.known.usual} - set(usual)
    found = [one for one in known if one.lower() in usual] or [
        one for one in known
        if str(dataset[one].attrs.get("standard_name", "")) in usual and one.lower() not in others
        and not any(way in str(dataset[one].attrs.get("cell_methods", "")) for way in ("time: max", "time: min"))
    ]
    if len(found) != 1:
        got = f"{', '.join(found)} all fit" if found else "no variable fits"
        raise error(
            f"{where}: {got} of {', '.join(known) or 'none'}, expected one called {', '.join(usual)}. Set `variable`."
        )
    return found[0]


def open_field(
    dataset: Any, name: str, crs: str | None, where: str, error: type[CdlmError], axes: Mapping[Any, str] | None = None
) -> Field:
    """Find the axes in space of a variable, its grid and its reference system; `axes` names those not to be found.

    Raises
    ------
    error
        Axes that are not regular or not found, no reference system, further dimensions longer than one.
    """
    array = dataset[name]
    x, y = (_axis(dataset, array, kind, where, error, (axes or {}).get(kind)) for kind in ("x", "y"))
    xs, ys = (np.asarray(dataset[axis].values, np.float64) for axis in (x, y))
    system = _system(dataset, array, x, y, crs, where, error)
    if not is_geographic(system):
        xs, ys = (_lengths(dataset, axis, values, system) for axis, values in ((x, xs), (y, ys)))
    else:
        xs = np.unwrap(xs, period=360.0)  # a cut-out across the meridian where a count from 0 begins anew
    dx, dy = (_spacing(values, axis, where, error) for values, axis in ((xs, x), (ys, y)))
    if dx < 0:
        raise error(f"{where}: '{x}' falls from {xs[0]} to {xs[-1]}, expected it to rise. Turn the columns round.")
    top = max(ys[0], ys[-1]) + 0.5 * abs(dy)
    grid = Grid(float(xs[0] - 0.5 * dx), float(top), float(dx), float(abs(dy)), ys.size, xs.size, system)
    return Field(array, grid, x, y, dy > 0)


def open_weather(
    dataset: Any, name: str, crs: str | None, where: str, error: type[CdlmError], axes: Mapping[Any, str] | None = None
) -> Field:
    """Find the grid of a variable as `open_field`, or a curvilinear one: where its axes have no coordinates, or the
    reference system of these is stated nowhere.
    """
    array = dataset[name]
    if crs is None and not axes:
        found = curved_grid(dataset, array, where, error)
        if found is not None and not _is_mapped(dataset, array, found[1:]):
            return Field(array, found[0], found[2], found[1], flipped=False)
    return open_field(dataset, name, crs, where, error, axes)


def _is_mapped(dataset: Any, array: Any, axes: tuple[str, str]) -> bool:
    """Whether rows and columns have coordinates in a stated reference system."""
    mapping = array.attrs.get("grid_mapping", array.encoding.get("grid_mapping"))
    with_values = all(axis in dataset.variables and dataset[axis].ndim == 1 for axis in axes)
    return with_values and mapping is not None and str(mapping) in dataset.variables


def _lengths(dataset: Any, axis: str, values: np.ndarray, system: str) -> np.ndarray:
    """Coordinates of a projection in its own unit: an axis may be in km."""
    from cf_units import Unit

    text = str(dataset[axis].attrs.get("units", ""))
    try:
        unit = Unit(text)
    except ValueError:
        return values
    if not text or not unit.is_convertible("m") or unit == Unit("m"):
        return values
    return np.round(values * float(unit.convert(1.0, "m")) / metres_of(system), 6)


def _axis(
    dataset: Any, array: Any, kind: str, where: str, error: type[CdlmError], given: str | None = None
) -> str:
    if given is not None:
        able = _with_coordinates(dataset, array)
        if given not in able:
            able = [d for d in able if not is_time(dataset, d)]
            raise error(
                f"{where}: axes.{kind} is '{given}', expected a dimension of '{array.name}' that has coordinates, of "
                f"({', '.join(map(str, array.dims))}): {_told(able)}. Correct the key, or add the coordinates."
            )
        return given
    names, degrees = (X_NAMES, EAST) if kind == "x" else (Y_NAMES, NORTH)
    for dim in map(str, array.dims):
        attrs = dataset[dim].attrs if dim in dataset.variables else {}
        standard = str(attrs.get("standard_name", ""))
        told = str(attrs.get("axis", "")).lower() == kind or str(attrs.get("units", "")).lower() in degrees
        if told or standard in names or dim.lower() in names:
            if dim not in dataset.variables:
                raise error(
                    f"{where}: dimension '{dim}' of '{array.name}' has no coordinates, expected one value for each of "
                    f"{array.sizes[dim]}. Add the variable '{dim}', or longitude and latitude on rows and columns."
                )
            return dim
    dims = [str(d) for d in array.dims if not is_time(dataset, str(d))]
    alike = [d for d in dims if d.lower().startswith(kind) and d in dataset.variables and dataset[d].ndim == 1]
    if len(alike) == 1:
        return alike[0]
    if not dims:
        raise error(
            f"{where}: '{array.name}' on ({', '.join(map(str, array.dims))}) is one series without a place, expected a "
            "grid, or a dimension of stations or basins with ids. For a file per gauge put {id} into the path, such as "
            "series/{id}.nc."
        )
    able = [d for d in _with_coordinates(dataset, array) if d in dims]
    remedy = "Add a variable of that name with them, or longitude and latitude on rows and columns."
    if able:
        remedy = f"Name it with the key axes: {{{kind}: {able[-1] if kind == 'x' else able[0]}}}."
    raise error(
        f"{where}: '{array.name}' on ({', '.join(map(str, array.dims))}) has no {kind} axis, expected a dimension with "
        f"coordinates and the attribute axis '{kind.upper()}' or a name such as {', '.join(names[:3])}; of its "
        f"dimensions in space {_told(able)}. {remedy}"
    )


def _with_coordinates(dataset: Any, array: Any) -> list[str]:
    """Dimensions of a variable that are variables too, on themselves alone."""
    dims = map(str, array.dims)
    return [d for d in dims if d in dataset.variables and tuple(map(str, dataset[d].dims)) == (d,)]


def _told(able: Sequence[str]) -> str:
    return f"{', '.join(able)} {'has' if len(able) == 1 else 'have'} some" if able else "none has any"


def _spacing(values: np.ndarray, axis: str, where: str, error: type[CdlmError]) -> float:
    n = values.size
    if n < 2:
        raise error(f"{where}: '{axis}' has {n} values, expected two or more. Use a larger cut-out.")
    step = (values[-1] - values[0]) / (n - 1)
    off = np.abs(values - (values[0] + np.arange(n) * step)).max() if step else np.inf
    if not off <= REGULAR * abs(step):
        raise error(
            f"{where}: '{axis}' is not regular (off by up to {off:g} at a spacing of {step:g}), expected equal steps. "
            "Resample it to a regular grid."
        )
    return float(step)


def _system(
    dataset: Any, array: Any, x: str, y: str, crs: str | None, where: str, error: type[CdlmError]
) -> str:
    """The reference system: the file's grid mapping, degrees, or what the configuration says."""
    pyproj = load("pyproj")
    mapping = array.attrs.get("grid_mapping", array.encoding.get("grid_mapping"))
    if mapping is not None and str(mapping) in dataset.variables:
        attributes = dict(dataset[str(mapping)].attrs)
        try:
            if "epsg_code" in attributes:
                return _named(pyproj.CRS.from_user_input(attributes["epsg_code"]))
            return _named(pyproj.CRS.from_cf(attributes))
        except (pyproj.exceptions.CRSError, KeyError) as cause:
            raise error(f"{where}: the grid mapping '{mapping}' cannot be understood ({cause}). Correct it.") from cause
    units = {str(dataset[axis].attrs.get("units", "")).lower() for axis in (x, y)}
    plain = {x.lower(), y.lower()} <= {"lon", "longitude", "lat", "latitude"}
    if crs is not None:
        return check_system(crs)
    if units <= {*EAST, *NORTH} or (plain and units <= {"", "degrees", "degree"}):
        return "EPSG:4326"
    named = "no grid_mapping" if mapping is None else f"its grid_mapping '{mapping}' is not in the file"
    raise error(
        f"{where}: '{array.name}' has no reference system ({named}, and axes in {', '.join(sorted(units))}), "
        "expected one. Set `crs`, such as EPSG:2154."
    )


def _named(system: Any) -> str:
    """Code of a system where it has one, else WKT; comparable between files."""
    code = system.to_epsg(min_confidence=100)
    return f"EPSG:{code}" if code else str(system.to_wkt())
