"""Fields in time from NetCDF, Zarr or GRIB, on grids or at stations and basins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmi_cdlm.names.calendars import calendar_of, date_text, differs
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.packages import resolve
from bmi_cdlm.prepare.weather.curved import CurvedGrid
from bmi_cdlm.prepare.weather.fields import Gridded, Places, Window, size_of, stat_of, window_around
from bmi_cdlm.prepare.weather.gridded import (
    GRIB,
    Field,
    choose_variable,
    is_time,
    open_dataset,
    open_weather,
    within_range,
)
from bmi_cdlm.prepare.weather.timeline import Stamps, find, interval_starts, read_stamps, spacing
from bmi_cdlm.prepare.weather.weather_config import ForcingSource

ID_NAMES = ("id", "basin_id", "station_id", "gauge_id", "site_id", "name", "basin", "station", "gauge")
OVER_TIME = ("accum", "avg", "max", "min", "diff", "rms")
"""Kinds of GRIB whose values are of the time that ends with their stamp."""
LON_NAMES, LAT_NAMES = ("lon", "longitude"), ("lat", "latitude")


class DatasetFiles:
    """A variable in NetCDF, Zarr or GRIB files, on a grid or at places, one file after the other in time."""

    def __init__(self, source: ForcingSource, usual: Sequence[str], folder: Path, model_step: int) -> None:
        self._files = _expand(source.source, folder)
        self.where = str(self._files[0])
        self._crs, self._axes = source.crs, source.axes
        self._select, self._add = source.select, source.add
        self._messages = source.messages
        self._declared = np.array(list(source.missing), "datetime64[s]")
        self._sources, self.n_read = np.zeros(0, np.int64), 0
        self._window: Window = (slice(0), slice(0))
        stamps = []
        for number, path in enumerate(self._files):
            with open_dataset(path, ForcingError, source.messages) as dataset:
                if not number:
                    self._name = choose_variable(dataset, _asked(dataset, source), usual, str(path), ForcingError)
                    self._describe(dataset, source)
                elif self._name not in dataset.variables:
                    raise ForcingError(
                        f"{path}: there is no '{self._name}' as in {self._files[0]}. Use files of one kind."
                    )
                self._check_shape(dataset, path, source)
                self._check_select(dataset, path)
                self._check_added(dataset, path, source)
                apart = (*self._space, *self._select)
                stamps.append(read_stamps(dataset, dataset[self._name], apart, str(path), ForcingError))
        self._join(stamps, source, model_step)

    def _check_added(self, dataset: Any, path: Path, source: ForcingSource) -> None:
        """Refuse variables to add that are not there, or in other units or on other dimensions."""
        array = dataset[self._name]
        for name in self._add:
            choose_variable(dataset, name, (), str(path), ForcingError)
            other, units = dataset[name], dataset[name].attrs.get("units")
            if other.dims != array.dims or (source.units is None and units != array.attrs.get("units")):
                raise ForcingError(
                    f"{path}: '{name}' on ({', '.join(map(str, other.dims))}) in '{units}' cannot be added to "
                    f"'{self._name}' on ({', '.join(map(str, array.dims))}) in '{array.attrs.get('units')}'. Expected "
                    "the same dimensions and units."
                )

    def _check_select(self, dataset: Any, path: Path) -> None:
        """Refuse a choice along a dimension that is not there, or of a value that it does not have."""
        array = dataset[self._name]
        for dim, value in self._select.items():
            if dim not in map(str, array.dims):
                raise ForcingError(
                    f"{path}: select names '{dim}', which is no dimension of '{self._name}' on "
                    f"({', '.join(map(str, array.dims))}). Correct the key."
                )
            _positions(dataset, array, dim, value, str(path))

    def _describe(self, dataset: Any, source: ForcingSource) -> None:
        array = dataset[self._name]
        units = source.units or array.attrs.get("units")
        self.units: str | None = None if units is None else str(units)
        self.cell_methods = str(array.attrs.get("cell_methods", ""))
        # Of files made from GRIB the stamps may have been moved: theirs are as `stamp` says.
        is_grib = self._files[0].suffix.lower() in GRIB
        of_interval = str(array.attrs.get("GRIB_stepType")) in OVER_TIME
        self._over_time, self._from_grib = is_grib and of_interval, not is_grib and of_interval
        self.shape: Grid | CurvedGrid | Places = _places(dataset, array, source, self.where) or open_weather(
            dataset, self._name, source.crs, self.where, ForcingError, source.axes
        ).grid

    def _check_shape(self, dataset: Any, path: Path, source: ForcingSource) -> None:
        if isinstance(self.shape, Gridded):
            field = open_weather(dataset, self._name, source.crs, str(path), ForcingError, source.axes)
            self._space: tuple[str, ...] = (field.y, field.x)
            same = field.grid.shape == self.shape.shape and np.allclose(field.grid[:2], self.shape[:2], atol=1e-4)
        else:
            array = dataset[self._name]
            self._space = (_place_dimension(dataset, array, source, str(path)),)
            same = array.sizes[self._space[0]] == len(self.shape.id)
        if not same:
            raise ForcingError(
                f"{path}: lies on other points than {self._files[0]}, expected the same. Use files of one kind."
            )

    def _join(self, stamps: list[Stamps], source: ForcingSource, model_step: int) -> None:
        """Order the intervals of all files."""
        for one, path in zip(stamps, self._files, strict=True):
            if calendar_of(one.values) != calendar_of(stamps[0].values):
                raise ForcingError(
                    f"{path}: has dates of the calendar {calendar_of(one.values)}, and {self._files[0]} those of "
                    f"{calendar_of(stamps[0].values)}. Expected one calendar. Use files of one kind."
                )
        values = np.concatenate([one.values for one in stamps])
        bounds = stamps[0].bounds
        length = int((bounds[0, 1] - bounds[0, 0]).astype(np.int64)) if bounds is not None else 0
        self.step = source.step or (length if source.stamp is None else 0) or spacing(values) or model_step
        at_end = self._over_time or source.kind == "accumulated"
        stamp = source.stamp or ("end" if at_end and bounds is None else None)
        self.remark = ""
        if self._from_grib and stamp is None and bounds is None and self.step < DAY:
            self.remark = (
                f"'{self._name}' comes from GRIB, where values are of the time before their stamp, and stamps are "
                "taken as starts of intervals. Set stamp: end unless the file has them moved."
            )
        starts = np.concatenate([
            interval_starts(one, stamp, self.step, source.utc_offset, str(path), ForcingError)
            for one, path in zip(stamps, self._files, strict=True)
        ])
        self._file = np.repeat(np.arange(len(stamps)), [one.values.size for one in stamps])
        self._row = np.concatenate([np.arange(one.values.size) for one in stamps])
        self._dims = [one.dims for one in stamps]
        order = np.argsort(starts, kind="stable")
        self._starts, self._file, self._row = starts[order], self._file[order], self._row[order]
        twice = np.flatnonzero(np.diff(self._starts).astype(np.int64) == 0)
        if twice.size:
            a, b = (self._files[self._file[twice[0] + k]] for k in (0, 1))
            raise ForcingError(
                f"{a}: the interval from {date_text(self._starts[twice[0]])} is there twice, also in {b} "
                f"({twice.size} such intervals), expected each once. Leave one file out."
            )
        self._declared = self._declared + (starts[0] - values[0])  # from stamps to starts

    def want(self, starts: np.ndarray) -> np.ndarray:
        """Find every interval in the files."""
        other = differs(self._starts, starts)
        if other:
            raise ForcingError(f"{self.where}: '{self._name}' {other}")
        position = find(self._starts, starts)
        missing = np.isin(starts, self._declared) & (position < 0)
        absent = np.flatnonzero((position < 0) & ~missing)
        if absent.size:
            end = self._starts[-1] + np.timedelta64(self.step, "s")
            raise ForcingError(
                f"{self.where}: '{self._name}' has no interval of {self.step} s from {date_text(starts[absent[0]])} "
                "UTC "
                f"({absent.size} of {starts.size} are absent); the files begin at {date_text(self._starts[0])} and end "
                f"at {date_text(end)}. Expected every interval. Complete the files, check `stamp`, `step` and "
                "`utc_offset`, or declare gaps as `missing`."
            )
        self._position = position
        return missing

    def select(self, sources: np.ndarray) -> None:
        """Read these pixels or places from now on."""
        if isinstance(self.shape, Gridded):
            self._sources, self._window = window_around(sources, self.shape)
            self.n_read = size_of(self._window)
        else:
            self._sources, self.n_read = sources, len(self.shape.id)

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read wanted intervals, file by file."""
        position = self._position[first:stop]
        values = np.full((position.size, self._sources.size), np.nan)
        for number in np.unique(self._file[position[position >= 0]]).tolist():
            mine = np.flatnonzero((position >= 0) & (self._file[position] == number))
            values[mine] = self._read_rows(number, self._row[position[mine]])
        return values

    def _read_rows(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Rows of one file, which is closed again: left open, the collector of garbage would close it from any thread,
        and HDF5 crashes where two are in it.
        """
        path = self._files[number]
        with open_dataset(path, ForcingError, self._messages) as dataset:
            try:
                return self._rows_of(dataset, number, rows)
            except ForcingError:
                raise
            except (OSError, RuntimeError, ValueError) as cause:
                raise ForcingError(f"{path}: cannot be read ({cause}). Expected a whole file; restore it.") from cause

    def _rows_of(self, dataset: Any, number: int, rows: np.ndarray) -> np.ndarray:
        where, dims = str(self._files[number]), self._dims[number]
        opened = self._variables_of(dataset, where)
        array = opened[0][0]
        inner = int(np.prod([array.sizes[d] for d in dims[1:]]))
        low, high = int(rows.min()) // inner, int(rows.max()) // inner + 1
        index: dict[str, Any] = {str(d): 0 for d in array.dims if d not in dims and d not in self._space}
        index |= {dims[0]: slice(low, high)} if dims else {}

        def read_one(array: Any, field: Field | None, index: dict[str, Any]) -> np.ndarray:
            if field is not None:
                values = field.read(self._window, index)
                return values.reshape(-1, values.shape[-2] * values.shape[-1])
            part = array.isel(index).transpose(*dims, *self._space)
            return within_range(np.asarray(part.values, np.float64), array).reshape(-1, array.sizes[self._space[0]])

        def read(index: dict[str, Any]) -> np.ndarray:
            values = read_one(*opened[0], index)
            for more in opened[1:]:
                values = values + read_one(*more, index)
            return values

        chosen = {dim: _positions(dataset, array, dim, value, where) for dim, value in self._select.items()}
        values: np.ndarray | None = None
        for places in itertools.product(*chosen.values()):
            one = read(index | dict(zip(chosen, places, strict=True)))
            values = one if values is None else np.where(np.isnan(values), one, values)
        assert values is not None
        return values[rows - low * inner][:, self._sources]

    def _variables_of(self, dataset: Any, where: str) -> list[tuple[Any, Field | None]]:
        """The variable, and those added to it."""
        found = []
        for name in (self._name, *self._add):
            field = None
            if isinstance(self.shape, Gridded):
                field = open_weather(dataset, name, self._crs, where, ForcingError, self._axes)
            found.append((dataset[name], field))
        return found

    def fingerprint(self) -> list[str]:
        """Names, sizes and times of the files."""
        return [stat_of(path) for path in self._files]


def _asked(dataset: Any, source: ForcingSource) -> str | None:
    """Name of the variable that the configuration asks for; of several the first that is there."""
    names = (source.variable,) if isinstance(source.variable, str | int) else source.variable or ()
    texts = [str(one) for one in names]
    return next((one for one in texts if one in dataset.variables), texts[0] if texts else None)


def _expand(sources: tuple[str, ...], folder: Path) -> list[Path]:
    """Files behind paths and wildcards."""
    found: list[Path] = []
    for text in sources:
        path = resolve(text, folder)
        if any(mark in text for mark in "*?["):
            steady = next(i for i, one in enumerate(path.parts) if any(mark in one for mark in "*?["))
            matches = sorted(Path(*path.parts[:steady]).glob("/".join(path.parts[steady:])))
            if not matches:
                raise ForcingError(f"{path}: no file matches. Check the path and the wildcards.")
            found += matches
        else:
            found.append(path)
    return found


def _positions(dataset: Any, array: Any, dim: str, value: object, where: str) -> list[int]:
    """Positions along a dimension that a choice means: of a value, or `first`, all of them in order."""
    if value == "first":
        return list(range(array.sizes[dim]))
    known = np.asarray(dataset[dim].values).tolist() if dim in dataset.variables else list(range(array.sizes[dim]))
    texts = [one.decode() if isinstance(one, bytes) else str(one) for one in known]
    wanted = {str(value), str(float(value)) if isinstance(value, int | float) else ""}
    found = [i for i, text in enumerate(texts) if text in wanted]
    if not found:
        raise ForcingError(
            f"{where}: select.{dim} is {value!r}, expected one of {', '.join(texts[:8])}, or first. Correct the key."
        )
    return found[:1]


def _place_dimension(dataset: Any, array: Any, source: ForcingSource, where: str) -> str:
    apart = tuple(_not_time(dataset, array)) + tuple(source.select)
    times = read_stamps(dataset, array, apart, where, ForcingError).dims
    return next(str(d) for d in array.dims if d not in times and d not in source.select)


def _not_time(dataset: Any, array: Any) -> list[str]:
    return [str(d) for d in array.dims if not is_time(dataset, str(d))]


def _places(dataset: Any, array: Any, source: ForcingSource, where: str) -> Places | None:
    """Ids and positions where the variable lies on (time, place); None where it lies on a grid."""
    rest = [d for d in _not_time(dataset, array) if d not in source.select]
    if len(rest) != 1:
        return None
    along = {str(n): v for n, v in dataset.variables.items() if tuple(map(str, v.dims)) == (rest[0],)}
    name = source.ids or next((n for n in (*ID_NAMES, rest[0]) if n in along), None)
    if name is None or name not in along:
        raise ForcingError(
            f"{where}: no ids along '{rest[0]}', expected a variable such as {', '.join(ID_NAMES[:4])}. Set `ids`."
        )
    ids = [one.decode() if isinstance(one, bytes) else str(one) for one in np.asarray(along[name].values).tolist()]
    lon, lat = (
        next((np.asarray(along[n].values, np.float64) for n in names if n in along), np.full(len(ids), np.nan))
        for names in (LON_NAMES, LAT_NAMES)
    )
    return Places(ids, lon, lat)
