"""Monthly series of weather and runoff, of own areas of gauges or of cells."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Cells
from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, require, same_units, select_ids
from bmi_cdlm.names.calendars import STANDARD, calendar_of, days_of_months, decode, months_since
from bmi_cdlm.names.time_steps import DAY
from cdlm_training.labels.areas import Areas
from cdlm_training.labels.store import LabelError

COVERAGE = 0.9
"""Share of the steps of a month that must have values."""
SPARSE = 20
"""A product whose values lie more days apart is one of months."""
KINDS = ("mm d-1", "mm month-1", "kg m-2 s-1")


class Months(NamedTuple):
    """Whole months of a period: number since January 1970, int64[month]; days, float64[month]; the steps of each,
    first and stop, int64[month]."""

    number: np.ndarray
    days: np.ndarray
    first: np.ndarray
    stop: np.ndarray

    def sums(self, rates: np.ndarray) -> np.ndarray:
        """Depths [mm per month] of rates float64[time, ...] [mm d-1]; NaN where more than a tenth is missing."""
        found = np.empty((self.number.size, *rates.shape[1:]))
        for k, (lo, hi) in enumerate(zip(self.first, self.stop, strict=True)):
            known = ~np.isnan(rates[lo:hi])
            count = known.sum(axis=0)
            mean = np.where(known, rates[lo:hi], 0.0).sum(axis=0) / np.maximum(count, 1)
            found[k] = np.where(count >= COVERAGE * (hi - lo), mean * self.days[k], np.nan)
        return found


def whole_months(starts: np.ndarray, step: int) -> Months:
    """Months that lie in a period with all their steps; starts : datetime64[time], without gaps; step [s].

    Raises
    ------
    LabelError
        Fewer than a year.
    """
    numbers, first, count = np.unique(months_since(starts), return_index=True, return_counts=True)
    calendar = calendar_of(starts)
    days = np.array([days_of_months(int(n), int(n) + 1, calendar) for n in numbers], np.float64)
    whole = count * step >= days * DAY
    if np.count_nonzero(whole) < 12:
        raise LabelError(
            f"the training period has {np.count_nonzero(whole)} whole months, expected a year or more for monthly "
            "models. Lengthen training.train."
        )
    return Months(numbers[whole], days[whole], first[whole], (first + count)[whole])


def own_runoff(observed: np.ndarray, areas: Areas) -> np.ndarray:
    """Runoff of the own area of each gauge [mm d-1], float64[time, gauge], from discharge [m3 s-1].

    NaN where that of the gauge or of one next upstream is missing. Nothing is made of travel times: for means over
    months.
    """
    own = np.asarray(observed, np.float64).copy()
    for k, above in enumerate(areas.above):
        own[:, k] -= observed[:, above].sum(axis=1)
    depth = DAY / (1000.0 * np.where(areas.has_own, areas.area, np.nan))
    return own * depth


@one_at_a_time
def read_product(path: Path, name: str, cells: Cells, months: Months) -> np.ndarray:
    """Monthly runoff of every cell [mm per month], float64[month, cell], of a gridded product; NaN where it has none.

    The file has the variable on (time, lat, lon) or, with `cell_id`, on (time, cell), monthly or in shorter steps, in
    mm d-1, mm month-1 or kg m-2 s-1. A cell has the mean of the pixels whose centres lie in it, or the pixel in which
    it lies.

    Raises
    ------
    LabelError
        Unreadable, other dimensions or units, no overlap in time or space.
    """
    where = str(path)
    with open_input(path, LabelError) as file:
        require(file, [name, "time"], where, LabelError)
        variable, time = file.variables[name], file.variables["time"]
        units = str(getattr(variable, "units", ""))
        kind = next((u for u in KINDS if units.replace("mm/month", KINDS[1]) == u or same_units(units, u)), None)
        if kind is None:
            raise LabelError(f"{where}: '{name}' has units '{units}', expected one of {', '.join(KINDS)}. Convert it.")
        times = decode(np.asarray(filled(time, slice(None))), time.units, str(getattr(time, "calendar", STANDARD)))
        rows, place = _rows_of(months_since(times), months, np.ptp(times[:2]), where)
        values = np.asarray(filled(variable, slice(rows.min(), rows.max() + 1)), np.float64)[rows - rows.min()]
        on_cells = _on_cells(file, variable, values, cells, where)
    total, count = np.zeros((months.number.size, len(cells.id))), np.zeros((months.number.size, len(cells.id)))
    known = ~np.isnan(on_cells)
    np.add.at(total, place, np.where(known, on_cells, 0.0))
    np.add.at(count, place, known)
    there = np.bincount(place, minlength=months.number.size)[:, None]
    mean = np.where((count > 0) & (count >= COVERAGE * there), total / np.maximum(count, 1), np.nan)
    if np.isnan(mean).all():
        raise LabelError(f"{where}: '{name}' has no value in a cell of the domain, expected some. Choose another file.")
    scale = {"mm d-1": months.days, "kg m-2 s-1": DAY * months.days, "mm month-1": np.ones(months.days.size)}[kind]
    return mean * scale[:, None]


def _rows_of(numbers: np.ndarray, months: Months, apart: np.timedelta64, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a file that lie in the months, and in which; a month with a tenth of its days missing has none."""
    place = np.searchsorted(months.number, numbers)
    inside = (place < months.number.size) & (months.number[np.minimum(place, months.number.size - 1)] == numbers)
    days = float(apart / np.timedelta64(1, "D"))
    count = np.bincount(place[inside], minlength=months.number.size)
    expected = np.ones(months.number.size) if not 0 < days < SPARSE else COVERAGE * months.days / days
    inside[inside] = count[place[inside]] >= expected[place[inside]]
    if not inside.any():
        raise LabelError(f"{where}: has no month of the training period, expected an overlap. Choose other years.")
    return np.flatnonzero(inside), place[inside]


def _on_cells(
    file: netCDF4.Dataset, variable: netCDF4.Variable, values: np.ndarray, cells: Cells, where: str
) -> np.ndarray:
    """Values float64[time, cell] of values on (time, cell) or (time, lat, lon)."""
    dims = variable.dimensions
    if dims[1:] == ("cell",):
        have = read_strings(file, "cell_id", where, LabelError)
        return values[:, select_ids(have, cells.id, "cell_id", where, LabelError)]
    if len(dims) != 3 or any(d not in file.variables for d in dims[1:]):
        raise LabelError(
            f"{where}: '{variable.name}' is on ({', '.join(dims)}), expected (time, cell) with cell_id, or (time, lat, "
            "lon) with these coordinates. Rearrange it."
        )
    lat, lon = (np.asarray(filled(file.variables[d], slice(None)), np.float64) for d in dims[1:])
    at_lat, at_lon = _pixels(lat, cells.corner_lat), _pixels(lon, _turned(cells.corner_lon, lon))
    found = np.full((values.shape[0], len(cells.id)), np.nan)
    for k, (rows, columns) in enumerate(zip(at_lat, at_lon, strict=True)):
        if rows.size and columns.size:
            patch = values[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].reshape(values.shape[0], -1)
            known = ~np.isnan(patch)
            mean = np.where(known, patch, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
            found[:, k] = np.where(known.any(axis=1), mean, np.nan)
    return found


def _turned(corner: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Corners [degrees east] by whole turns so that each cell lies on the axis of a file."""
    turn = np.round((corner.mean(axis=1) - (lon.min() + lon.max()) / 2) / 360.0) * 360.0
    return corner - turn[:, None]


def _pixels(centres: np.ndarray, corners: np.ndarray) -> list[np.ndarray]:
    """Places along an axis, rising and side by side, whose centres lie within the corners float64[cell, corner], or of
    the pixel in which the cell lies; none where it lies beside the axis."""
    low, high, middle = corners.min(axis=1), corners.max(axis=1), corners.mean(axis=1)
    half = 0.5 * float(np.abs(np.diff(centres)).max()) if centres.size > 1 else np.inf
    found = []
    for lo, hi, at in zip(low, high, middle, strict=True):
        inside = np.flatnonzero((centres >= lo) & (centres < hi))
        nearest = int(np.abs(centres - at).argmin())
        reached = abs(centres[nearest] - at) <= half
        found.append(inside if inside.size else np.full(int(reached), nearest))
    return found
