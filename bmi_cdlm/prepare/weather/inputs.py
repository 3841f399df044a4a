"""A variable of the weather on cells and model steps: intervals, units and places made those of the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.gauges.basins import basin_pairs, polygon_pairs
from bmi_cdlm.prepare.network.catchments import Drainage
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.weather.conversion import conversion, per_time, rate_conversion
from bmi_cdlm.prepare.weather.dataset_series import DatasetFiles
from bmi_cdlm.prepare.weather.fields import Fields, Places
from bmi_cdlm.prepare.weather.nearest import nearest_of
from bmi_cdlm.prepare.weather.raster_series import RasterFiles
from bmi_cdlm.prepare.weather.remap import Pairs, Remap, bilinear, centres, complete, conservative, nearest_pixel
from bmi_cdlm.prepare.weather.weather_config import ForcingSource, Kind
from bmi_cdlm.prepare.weather.weather_variables import WANTED

PET = "potential_evapotranspiration"
WARMTH = "air_temperature"
EXTREMES = ("minimum_temperature", "maximum_temperature")
DAY = 86400
STATISTICS = {"minimum_temperature": "min", "maximum_temperature": "max"}
FACTS = {"mean": "mean", "sum": "total", "point": "instantaneous", "maximum": "mean", "minimum": "mean"}


class Target(NamedTuple):
    """What forcing is made for.

    gauge_id : list of str and gauge_reach : int64[gauge], for basin means; elevation : float64[cell] [m], or None.
    """

    drainage: Drainage
    gauge_id: list[str]
    gauge_reach: np.ndarray
    elevation: np.ndarray | None = None


def open_fields(source: ForcingSource, usual: tuple[str, ...], folder: Path, model_step: int) -> Fields:
    """Open the source of a variable.

    Parameters
    ----------
    source : ForcingSource
    usual : tuple of str
        Names under which the variable is usually found.
    folder : Path
        What paths are relative to.
    model_step : int
        Step of the model [s], which rasters have unless `step` says otherwise.

    Raises
    ------
    ForcingError
        Files that are not there or cannot be understood.
    """
    if "%" in source.source[0]:
        return RasterFiles(source, folder, model_step)
    return DatasetFiles(source, usual, folder, model_step)


class Intervals:
    """A variable by the headers of its files: intervals that cover the steps, and units that convert.

    Parameters
    ----------
    name : str
        One of `WANTED`.
    starts : datetime64[s][time]
        Starts of the steps wanted, UTC.
    step : int
        Their length [s]; a whole number of intervals of the source.

    Raises
    ------
    ForcingError
        A source that lacks intervals, units that do not convert.
    """

    def __init__(self, name: str, source: ForcingSource, folder: Path, starts: np.ndarray, step: int) -> None:
        self.name, self._source = name, source
        self._fields = open_fields(source, WANTED[name].usual, folder, step)
        self.where = self._fields.where
        self.step = self._fields.step
        if step % self.step:
            raise ForcingError(
                f"{self.where}: '{name}' has intervals of {self.step} s, expected whole parts of {step} s. Use finer "
                f"data, or set `step`{' (1 d: spread over the hours)' if name == PET else ''} if the stamps mean "
                "another."
            )
        self._ratio = step // self.step
        self.starts = starts
        parts = (starts[:, None] + np.arange(self._ratio) * np.timedelta64(self.step, "s")).ravel()
        self.kind = self._kind()
        self._before = self._needs_before(parts[0])
        if self._before:
            parts = np.concatenate([[parts[0] - np.timedelta64(self.step, "s")], parts])
        self._parts = parts
        gone = self._fields.want(parts)
        self.missing: np.ndarray = gone[int(self._before) :].reshape(-1, self._ratio).max(axis=1)
        self._present = int(np.argmin(gone))
        self._convert = self._conversion()

    def _kind(self) -> Kind:
        if self._source.kind is not None:
            return self._source.kind
        if not WANTED[self.name].per_day or per_time(self._fields.units):
            return "mean"
        for part in self._fields.cell_methods.split("time:")[1:]:
            word = part.split()[0] if part.split() else ""
            if word in FACTS:
                return FACTS[word]  # type: ignore[return-value]
        rate_conversion(
            self._fields.units, WANTED[self.name].units, DAY, f"{self.where}, '{self.name}'", ForcingError
        )  # raises where the units are none of an amount either
        raise ForcingError(
            f"{self.where}: '{self.name}' is in '{self._fields.units}', an amount; of each interval, or accumulated "
            "since a reset? The file does not say. Set `kind` to total or accumulated (ERA5: total, ERA5-Land: "
            "accumulated)."
        )

    def _needs_before(self, start: np.datetime64) -> bool:
        return self.kind == "accumulated" and int(start.astype(np.int64)) % self._source.reset != 0

    def _conversion(self) -> Any:
        units, where = WANTED[self.name].units, f"{self.where}, '{self.name}'"
        if self.kind in ("total", "accumulated"):
            found = rate_conversion(self._fields.units, units, self.step, where, ForcingError)
        else:
            found = conversion(self._fields.units, units, where, ForcingError)
        return found._replace(factor=found.factor * self._source.scale)


class CellInput(Intervals):
    """A variable on the cells, read by steps; see `Intervals`.

    Raises
    ------
    ForcingError
        Also where fields do not reach the cells.
    """

    def __init__(
        self, name: str, source: ForcingSource, target: Target, folder: Path, starts: np.ndarray, step: int
    ) -> None:
        super().__init__(name, source, folder, starts, step)
        self.remap = self._weights(target, folder, self._present)
        self._fields.select(self.remap.sources)

    @property
    def n_used(self) -> int:
        """Values read per step of the model, for the estimate of memory."""
        return self._fields.n_read * self._ratio

    def read(self, first: int, stop: int) -> np.ndarray:
        """Means (or least or greatest values) over steps, float64[time, cell] in the units of `WANTED`."""
        lead = int(self._before)
        a, b = first * self._ratio + lead, stop * self._ratio + lead
        if self.kind == "accumulated":
            values = self._decumulate(a, b)
        else:
            values = self._fields.read(a, b)
        if self._ratio > 1:
            values = values.reshape(stop - first, self._ratio, -1)
            statistic = self._source.statistic or STATISTICS.get(self.name, "mean")
            values = getattr(np, statistic)(values, axis=1)
        return self.remap(self._convert(values))

    def fingerprint(self) -> list[str]:
        """What tells this input from another: its files and weights."""
        matrix = self.remap.matrix
        weights = hashlib.sha256()
        for part in (self.remap.sources, matrix.indptr, matrix.indices, matrix.data):
            weights.update(np.ascontiguousarray(part).tobytes())
        return [*self._fields.fingerprint(), weights.hexdigest()]

    def _decumulate(self, first: int, stop: int) -> np.ndarray:
        """Amounts of intervals from amounts since the last reset."""
        seconds = self._parts[first:stop].astype(np.int64)
        anew = seconds % self._source.reset == 0
        lead = 0 if anew[0] else 1
        values = self._fields.read(first - lead, stop)
        amounts = values[lead:].copy()
        later = np.flatnonzero(~anew)
        amounts[later] -= values[later + lead - 1]
        return amounts

    def _weights(self, target: Target, folder: Path, present: int) -> Remap:
        """Weights to the cells; which sources have values is judged by the first interval there is."""
        shape, cells = self._fields.shape, target.drainage.cells
        n = shape.n_rows * shape.n_cols if isinstance(shape, Grid) else len(shape.id)
        pairs, places = self._pairs(target, folder)
        used = np.unique(pairs.source)
        every = np.arange(n)
        around = every if used.size == 0 or not isinstance(shape, Grid) else _window_of(shape, used)
        self._fields.select(around)
        valid = np.zeros(n, bool)
        valid[around] = ~np.isnan(self._fields.read(present, present + 1)[0])
        whole = self._source.method == "bilinear"
        return complete(pairs, valid, places, cells, self._source.fill_distance, self.where, whole=whole)

    def _pairs(self, target: Target, folder: Path) -> tuple[Pairs, tuple[np.ndarray, np.ndarray]]:
        shape, method, cells = self._fields.shape, self._source.method, target.drainage.cells
        if isinstance(shape, Grid):
            ways = {"conservative": conservative, "bilinear": bilinear, "nearest": nearest_pixel}
            if (method or "conservative") not in ways:
                raise ForcingError(f"{self.where}: is a grid; method is {method}, expected one of {', '.join(ways)}.")
            return ways[method or "conservative"](shape, cells), centres(shape)
        return self._pairs_of_places(shape, target, folder), (shape.lon, shape.lat)

    def _pairs_of_places(self, shape: Places, target: Target, folder: Path) -> Pairs:
        method = self._source.method or "basin"
        if method == "basin":
            return basin_pairs(shape.id, target.gauge_id, target.gauge_reach, target.drainage, self.where)
        if method == "polygon":
            return polygon_pairs(shape.id, self._source, target.drainage, folder, self.where)
        if method == "nearest":
            if np.isnan(shape.lon).any() or np.isnan(shape.lat).any():
                raise ForcingError(
                    f"{self.where}: places without lon and lat, expected both for method nearest. Add them."
                )
            cells = target.drainage.cells
            found, _ = nearest_of((shape.lon, shape.lat), (cells.lon, cells.lat))
            return Pairs(np.arange(found.size), found, np.ones(found.size))
        raise ForcingError(
            f"{self.where}: holds stations or basins; method is {method}, expected basin, polygon or nearest. Set "
            "`method`."
        )


class HalfSum:
    """Mean temperature of a day from its extremes, where no mean is given."""

    def __init__(self, low: CellInput, high: CellInput) -> None:
        self.where, self.starts = f"{low.where} and {high.where}", low.starts
        self.missing: np.ndarray = low.missing | high.missing
        self.n_used = low.n_used + high.n_used
        self._both = (low, high)

    def read(self, first: int, stop: int) -> np.ndarray:
        """Half the sum of the extremes, float64[time, cell] [degC]."""
        low, high = (one.read(first, stop) for one in self._both)
        return 0.5 * (low + high)

    def fingerprint(self) -> list[str]:
        """What tells this input from another."""
        return [text for one in self._both for text in one.fingerprint()]


def has_warmth(sources: Mapping[str, ForcingSource], step: int) -> bool:
    """Whether the mean air temperature of steps [s] is given, or follows from the extremes of days."""
    return WARMTH in sources or (step == DAY and all(name in sources for name in EXTREMES))


def open_input(
    name: str, sources: Mapping[str, ForcingSource], target: Target, folder: Path, starts: np.ndarray, step: int
) -> CellInput | HalfSum:
    """Open a variable on cells; see `CellInput`."""
    if name == WARMTH and name not in sources:
        low, high = (CellInput(one, sources[one], target, folder, starts, step) for one in EXTREMES)
        return HalfSum(low, high)
    return CellInput(name, sources[name], target, folder, starts, step)


def _window_of(grid: Grid, used: np.ndarray, margin: int = 20) -> np.ndarray:
    """Pixels of the window around those used, with a margin in which to look for valid ones."""
    row, col = np.divmod(used, grid.n_cols)
    rows = np.arange(max(0, row.min() - margin), min(grid.n_rows, row.max() + 1 + margin))
    cols = np.arange(max(0, col.min() - margin), min(grid.n_cols, col.max() + 1 + margin))
    return (rows[:, None] * grid.n_cols + cols).ravel()
