"""A variable of the weather on cells and model steps: intervals, units and places made those of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.calendars import STANDARD, calendar_of
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import SOURCES
from bmi_cdlm.prepare.gauges.basins import basin_pairs, own_pairs, polygon_pairs
from bmi_cdlm.prepare.network.catchments import Drainage
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.weather.conversion import AMOUNTS, conversion, per_time, rate_conversion
from bmi_cdlm.prepare.weather.curved import CurvedGrid, holding, overlaps
from bmi_cdlm.prepare.weather.dataset_series import DatasetFiles
from bmi_cdlm.prepare.weather.fields import Fields, Gridded, Places
from bmi_cdlm.prepare.weather.heights import Change, change_of, read_heights
from bmi_cdlm.prepare.weather.nearest import nearest_of
from bmi_cdlm.prepare.weather.raster_series import RasterFiles
from bmi_cdlm.prepare.weather.remap import Pairs, bilinear, centres, conservative, nearest_pixel
from bmi_cdlm.prepare.weather.table_series import TableFiles
from bmi_cdlm.prepare.weather.weather_config import ForcingSource, Kind
from bmi_cdlm.prepare.weather.weights import Gaps, Layout, Weights

PET = "potential_evapotranspiration"
STATISTICS = {"mean": "mean", "lowest": "min", "highest": "max"}
METHOD_OF_CELLS = {"mean": "mean", "sum": "total", "point": "instantaneous", "maximum": "mean", "minimum": "mean"}
"""What `cell_methods` say of the numbers."""


class Target(NamedTuple):
    """What forcing is made for.

    gauge_id : list of str and gauge_reach : int64[gauge], for basin means; elevation : float64[cell] [m], or None.
    """

    drainage: Drainage
    gauge_id: list[str]
    gauge_reach: np.ndarray
    elevation: np.ndarray | None = None

    @property
    def ids(self) -> list[str]:
        """Basins that series may be of: catchments of a list, else gauges."""
        own = self.drainage.cells.id.tolist() if self.drainage.is_listed else []
        return list(dict.fromkeys([*own, *self.gauge_id]))


def open_fields(
    source: ForcingSource, usual: Sequence[str], folder: Path, model_step: int, ids: Sequence[str] | None = None,
    calendar: str = STANDARD,
) -> Fields:
    """Open the source of a variable.

    Parameters
    ----------
    source : ForcingSource
    usual : sequence of str
        Names under which the variable is usually found.
    folder : Path
        What paths are relative to.
    model_step : int
        Step of the model [s], which rasters have unless `step` says otherwise.
    ids : sequence of str, optional
        Basins that matter of tables.
    calendar : str
        Of the dates in tables, which do not tell it.

    Raises
    ------
    ForcingError
        Files that are not there or cannot be understood.
    """
    if source.layout is not None:
        return TableFiles(source, usual, folder, model_step, ids, calendar)
    if "%" in source.source[0] or source.first_step is not None:
        return RasterFiles(source, folder, model_step)
    return DatasetFiles(source, usual, folder, model_step)


class Intervals:
    """A variable by the headers of its files: intervals that cover the steps, and units that convert.

    Parameters
    ----------
    name : str
        One of `SOURCES`.
    starts : datetime64[s][time]
        Starts of the steps wanted, UTC.
    step : int
        Their length [s]; a whole number of intervals of the source.
    ids : sequence of str, optional
        Basins that matter of tables.

    Raises
    ------
    ForcingError
        A source that lacks intervals, units that do not convert.
    """

    def __init__(
        self, name: str, source: ForcingSource, folder: Path, starts: np.ndarray, step: int,
        ids: Sequence[str] | None = None,
    ) -> None:
        self.name, self._source, self.entry = name, source, SOURCES[name]
        self._fields = open_fields(source, self.entry.known.usual, folder, step, ids, calendar_of(starts))
        self.where = self._fields.where
        self.step = self._fields.step
        if step % self.step:
            raise ForcingError(
                f"{self.where}: '{name}' has intervals of {self.step} s, expected whole parts of {step} s. Use finer "
                f"data, or set `step`{' (1 d: spread over the hours)' if name == PET else ''} if the stamps mean "
                "another."
            )
        self.ratio = step // self.step
        self.starts = starts
        parts = (starts[:, None] + np.arange(self.ratio) * np.timedelta64(self.step, "s")).ravel()
        self.kind = self._kind()
        self._before = self._needs_before(parts[0])
        if self._before:
            parts = np.concatenate([[parts[0] - np.timedelta64(self.step, "s")], parts])
        self._parts = parts
        gone = self._fields.want(parts)
        self.missing: np.ndarray = gone[int(self._before) :].reshape(-1, self.ratio).max(axis=1)
        self._present = int(np.argmin(gone))
        self._convert = self._conversion()

    def _kind(self) -> Kind:
        if self._source.kind is not None:
            return self._source.kind
        if self.entry.units not in AMOUNTS or per_time(self._fields.units):
            return "mean"
        for part in self._fields.cell_methods.split("time:")[1:]:
            word = part.split()[0] if part.split() else ""
            if word in METHOD_OF_CELLS:
                return METHOD_OF_CELLS[word]  # type: ignore[return-value]
        rate_conversion(
            self._fields.units, self.entry.units, DAY, f"{self.where}, '{self.name}'", ForcingError
        )  # raises where the units are none of an amount either
        raise ForcingError(
            f"{self.where}: '{self.name}' is in '{self._fields.units}', an amount; of each interval, or accumulated "
            "since a reset? The file does not say. Set `kind` to total or accumulated (ERA5 by the hour: total "
            "with stamp: end; ERA5-Land: accumulated)."
        )

    def _needs_before(self, start: np.datetime64) -> bool:
        return self.kind == "accumulated" and int(start.astype(np.int64)) % self._source.reset != 0

    def _conversion(self) -> Any:
        units, where = self.entry.units, f"{self.where}, '{self.name}'"
        if self.kind in ("total", "accumulated"):
            found = rate_conversion(self._fields.units, units, self.step, where, ForcingError)
        else:
            found = conversion(self._fields.units, units, where, ForcingError)
        return found._replace(factor=found.factor * self._source.scale)


class CellInput(Intervals):
    """A variable on the cells, read by steps; see `Intervals`.

    Attributes
    ----------
    n_neighbours : int
        Intervals of cells so far for which a neighbour stood in.
    station_distances : float64[cell] or None
        How far each cell lies from its station [km], with method nearest.

    Raises
    ------
    ForcingError
        Also where fields do not reach the cells.
    """

    def __init__(
        self, name: str, source: ForcingSource, target: Target, folder: Path, starts: np.ndarray, step: int
    ) -> None:
        super().__init__(name, source, folder, starts, step, target.ids)
        self.n_cells = target.drainage.cells.row.size
        self.n_neighbours = 0
        self.station_distances: np.ndarray | None = None
        self.weights = self._weights(target, folder, self._present)
        self._fields.select(self.weights.sources)
        self.sources = [self]
        self.change = None if source.height is None else self._change(target, folder)

    @property
    def remark(self) -> str:
        """What is to be said of the source's stamps, or nothing."""
        return str(getattr(self._fields, "remark", ""))

    @property
    def n_used(self) -> int:
        """Values held per step of the model, for the estimate of memory."""
        return (self._fields.n_read + (0 if self.weights.is_steady else self.n_cells)) * self.ratio

    def read(self, first: int, stop: int) -> np.ndarray:
        """Means (or least or greatest values) over steps, float64[time, cell] in the units of `SOURCES`."""
        statistic = self._source.statistic or STATISTICS[self.entry.known.within]
        values = self.to_steps(self.intervals(first, stop), first, stop, statistic)
        return values if self.change is None else self.change(values)

    def intervals(self, first: int, stop: int) -> np.ndarray:
        """Values of all intervals of steps, float64[interval, source read]; NaN where missing."""
        lead = int(self._before)
        a, b = first * self.ratio + lead, stop * self.ratio + lead
        if self.kind == "accumulated":
            values = self._decumulate(a, b)
        else:
            values = self._fields.read(a, b)
            self.weights.check(values, self._parts[a:b])
        return self._convert(values)

    def on_cells(self, values: np.ndarray, each: int = 1) -> np.ndarray:
        """From float64[row, source read] to float64[row, cell]; `each` row stands for so many intervals."""
        found, neighbours = self.weights(values)
        rows = values.shape[0] if neighbours.shape[0] == 1 else 1
        self.n_neighbours += int(np.count_nonzero(neighbours)) * rows * each
        return found

    def to_steps(self, values: np.ndarray, first: int, stop: int, statistic: str) -> np.ndarray:
        """From float64[interval, source read] to steps, float64[time, cell]."""
        def over_steps(rows: np.ndarray) -> np.ndarray:
            if self.ratio == 1:
                return rows
            return np.asarray(getattr(np, statistic)(rows.reshape(stop - first, self.ratio, -1), axis=1))

        if self.weights.same_for(values):
            return self.on_cells(over_steps(values), each=self.ratio)
        return over_steps(self.on_cells(values))

    def shares_places_with(self, other: CellInput) -> bool:
        """Whether both have the same intervals, pixels or places, and weights."""
        def places(one: CellInput) -> tuple:
            shape = one._fields.shape
            if isinstance(shape, CurvedGrid):
                return shape.lon.tobytes(), shape.lat.tobytes()
            return shape if isinstance(shape, Grid) else tuple(shape.id)

        return (
            self.step == other.step and places(self) == places(other)
            and self.weights.fingerprint() == other.weights.fingerprint()
        )

    def fingerprint(self) -> list[str]:
        """What tells this input from another: its files and weights."""
        changed = [] if self.change is None else [str((*self.change.factor, *self.change.offset))]
        return [*self._fields.fingerprint(), self.weights.fingerprint(), *changed]

    def _change(self, target: Target, folder: Path) -> Change:
        """From the height of the grid, shared out to the cells as its values are."""
        if not isinstance(self._fields.shape, Gridded):
            raise ForcingError(f"{self.where}: '{self.name}' has `height`, expected it of grids only. Leave it out.")
        assert self._source.height is not None
        heights = read_heights(self._source.height, self._fields.shape, folder)
        base = self.weights.base
        height = base(heights[base.sources][None])[0]
        return change_of(self.name, self._source, height, target.elevation, self.where)

    def _decumulate(self, first: int, stop: int) -> np.ndarray:
        """Amounts of intervals from amounts since the last reset."""
        seconds = self._parts[first:stop].astype(np.int64)
        anew = seconds % self._source.reset == 0
        lead = 0 if anew[0] else 1
        values = self._fields.read(first - lead, stop)
        self.weights.check(values, self._parts[first - lead : stop])
        amounts = values[lead:].copy()
        later = np.flatnonzero(~anew)
        amounts[later] -= values[later + lead - 1]
        return amounts

    def _weights(self, target: Target, folder: Path, present: int) -> Weights:
        """Weights to the cells; which sources have values, the first interval tells and the rest confirm."""
        shape, cells, source = self._fields.shape, target.drainage.cells, self._source
        n = shape.n_rows * shape.n_cols if isinstance(shape, Gridded) else len(shape.id)
        pairs, places = self._pairs(target, folder)
        used = np.unique(pairs.source)
        every = np.arange(n)
        around = every if used.size == 0 or not isinstance(shape, Gridded) else _window_of(shape, used)
        self._fields.select(around)
        valid = np.zeros(n, bool)
        valid[around] = ~np.isnan(self._fields.read(present, present + 1)[0])
        come_and_go = source.method == "nearest" and not isinstance(shape, Gridded)
        gaps: Gaps = source.gaps or ("nearest" if come_and_go else "refuse")
        whole = source.method == "bilinear"
        own = target.drainage.is_listed and not isinstance(shape, Gridded) and (source.method or "basin") == "basin"
        distance = -1.0 if own and source.gaps != "nearest" else source.fill_distance  # no other basin stands in
        layout = Layout(pairs, places, cells, distance, gaps, whole, self.where)
        return Weights(layout, around, valid)

    def _pairs(self, target: Target, folder: Path) -> tuple[Pairs, tuple[np.ndarray, np.ndarray]]:
        shape, method, cells = self._fields.shape, self._source.method, target.drainage.cells
        if isinstance(shape, CurvedGrid):
            curved = {"conservative": overlaps, "nearest": holding}
            if (method or "conservative") not in curved:
                raise ForcingError(
                    f"{self.where}: is a curvilinear grid; method is {method}, expected one of {', '.join(curved)}."
                )
            self._check_has_shape(target, method)
            return curved[method or "conservative"](shape, cells), shape.centres()
        if isinstance(shape, Grid):
            ways = {"conservative": conservative, "bilinear": bilinear, "nearest": nearest_pixel}
            if (method or "conservative") not in ways:
                raise ForcingError(f"{self.where}: is a grid; method is {method}, expected one of {', '.join(ways)}.")
            self._check_has_shape(target, method)
            return ways[method or "conservative"](shape, cells), centres(shape)
        return self._pairs_of_places(shape, target, folder), (shape.lon, shape.lat)

    def _check_has_shape(self, target: Target, method: str | None) -> None:
        """Refuse to share pixels out to cells that are points."""
        without = target.drainage.is_listed and target.drainage.cells.polygons is None
        if (method or "conservative") == "conservative" and without:
            raise ForcingError(
                f"{self.where}: is a grid, and the catchments have no polygons to share its pixels out by. "
                "Expected polygons in network.table, or method nearest or bilinear (the pixels about the centre)."
            )

    def _pairs_of_places(self, shape: Places, target: Target, folder: Path) -> Pairs:
        method = self._source.method or "basin"
        gauged = not set(shape.id) & set(target.drainage.cells.id.tolist()) and set(shape.id) & set(target.gauge_id)
        if method == "basin" and target.drainage.is_listed and not gauged:
            return own_pairs(shape.id, target.drainage.cells.id.tolist(), self.where)
        if method == "basin":
            return basin_pairs(shape.id, target.gauge_id, target.gauge_reach, target.drainage, self.where)
        if method == "polygon" and target.drainage.is_listed:
            raise ForcingError(
                f"{self.where}: method polygon takes pixels of a raster network, and network.table has none. Expected "
                "series called like the catchments (method basin), or method nearest."
            )
        if method == "polygon":
            return polygon_pairs(shape.id, self._source, target.drainage, folder, self.where)
        if method == "nearest":
            if np.isnan(shape.lon).any() or np.isnan(shape.lat).any():
                raise ForcingError(
                    f"{self.where}: places without lon and lat, expected both for method nearest. Add them."
                )
            cells = target.drainage.cells
            found, away = nearest_of((shape.lon, shape.lat), (cells.lon, cells.lat))
            self.station_distances = away
            near = np.flatnonzero(away <= self._source.fill_distance)  # the others are refused: nothing is nearer
            return Pairs(near, found[near], np.ones(near.size))
        raise ForcingError(
            f"{self.where}: holds stations or basins; method is {method}, expected basin, polygon or nearest. Set "
            "`method`."
        )


def _window_of(grid: Grid | CurvedGrid, used: np.ndarray, margin: int = 20) -> np.ndarray:
    """Pixels of the window around those used, with a margin in which to look for valid ones."""
    row, col = np.divmod(used, grid.n_cols)
    rows = np.arange(max(0, row.min() - margin), min(grid.n_rows, row.max() + 1 + margin))
    cols = np.arange(max(0, col.min() - margin), min(grid.n_cols, col.max() + 1 + margin))
    return (rows[:, None] * grid.n_cols + cols).ravel()
