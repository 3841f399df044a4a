"""Another product to compare with: discharge at gauges, or runoff on a grid, averaged over basins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import netCDF4
import numpy as np

from bmi_cdlm.domain.basins import basin_means
from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.netcdf import (
    align_steps,
    check_dims,
    check_units,
    filled,
    one_at_a_time,
    open_input,
    read_time,
    require,
)
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.calendars import decode, months_since
from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.names.time_steps import DAY

SMALLEST, LARGEST = 600.0, 50_000.0
"""Basins [km2] over which runoff on a grid is averaged: smaller ones are a few points of it, in larger ones the way to
the gauge takes longer than a month shows."""
STEPS = 64
"""Of a product that are averaged at once."""
MONTH = (28 * DAY, 31 * DAY)
"""Length of the steps of a monthly product [s]."""


def read_product(
    path: Path, domain: Domain, gauges: Sequence[str], areas: Sequence[float], starts: np.ndarray, step: int,
    *, monthly: bool,
) -> np.ndarray:
    """Discharge of another product at gauges [m3 s-1], float64[time, gauge], NaN where it has none.

    A file with a dimension `gauge` is as one of observations. Another has `runoff` [mm d-1] on (time, lat, lon), 1-D
    lat and lon, and steps of the run, or months where means of months are scored: every cell takes the nearest point of
    the grid, and a gauge of SMALLEST to LARGEST km2 the mean of the cells above it, without any way along the river.

    Parameters
    ----------
    areas : [km2]
    starts : datetime64[time]
        Begins of steps of length `step` [s].
    monthly : whether means of months are scored.

    Raises
    ------
    ObservationError
        Neither of both; other units, dimensions or steps; a grid that does not reach over the domain.
    """
    with open_input(path, ObservationError) as data:
        on_gauges = "gauge" in data.dimensions
    if on_gauges:
        end = starts[-1] + np.timedelta64(step, "s")
        return read_observations(path, gauges, starts[0], end, step)[1]
    depth = _basin_runoff(path, domain, starts, step, monthly=monthly)
    places = [domain.gauges.id.index(gauge) for gauge in gauges]
    area = np.asarray(areas, np.float64)
    inside = (area >= SMALLEST) & (area <= LARGEST)
    return np.where(inside, depth[:, places] * area * 1e3 / DAY, np.nan)


@one_at_a_time
def _basin_runoff(path: Path, domain: Domain, starts: np.ndarray, step: int, *, monthly: bool) -> np.ndarray:
    """Mean runoff above every gauge [mm d-1], float64[time, gauge]."""
    where = str(path)
    with open_input(path, ObservationError) as data:
        require(data, ["runoff", "lat", "lon", "time"], where, ObservationError)
        check_dims(data, "runoff", ("time", "lat", "lon"), where, ObservationError)
        check_units(data, "runoff", "mm d-1", where, ObservationError)
        rows = _rows(data, where, starts, step, monthly=monthly)
        row, column = (_nearest(data, name, own, where) for name, own in (
            ("lat", domain.cells.lat), ("lon", domain.cells.lon),
        ))
        found = np.full((starts.size, len(domain.gauges.id)), np.nan)
        steps = np.unique(rows[rows >= 0])
        means = np.full((rows.max(initial=-1) + 1, len(domain.gauges.id)), np.nan)
        for first in range(0, steps.size, STEPS):  # steps that are met follow each other
            lo, hi = int(steps[first]), int(steps[min(first + STEPS, steps.size) - 1]) + 1
            values = np.asarray(filled(data["runoff"], slice(lo, hi)), np.float64)[:, row, column]
            means[lo:hi] = basin_means(domain, values.T).T
        found[rows >= 0] = means[rows[rows >= 0]]
    if not np.isfinite(found).any():
        raise ObservationError(f"{where}: has no runoff over the basins in the period. Choose another period or file.")
    return found


def _rows(data: netCDF4.Dataset, where: str, starts: np.ndarray, step: int, *, monthly: bool) -> np.ndarray:
    """Step of the file for every step of the run, int64, -1 where there is none."""
    time = data["time"]
    own = decode(filled(time, ...), str(getattr(time, "units", "")), str(getattr(time, "calendar", "standard")).lower())
    apart = np.diff(own).astype("timedelta64[s]").astype(np.int64)
    if apart.size and MONTH[0] <= apart.min() and apart.max() <= MONTH[1]:
        if not monthly:
            raise ObservationError(f"{where}: has months, and steps of {step} s are scored. Use --by month.")
        months = {int(month): k for k, month in enumerate(months_since(own))}
        return np.array([months.get(int(month), -1) for month in months_since(starts)], np.int64)
    file_starts, file_step = read_time(data, where, ObservationError)
    end = starts[-1] + np.timedelta64(step, "s")
    rows = np.arange(starts.size) + align_steps(file_starts, file_step, starts[0], end, step, where, ObservationError)
    return np.where((rows >= 0) & (rows < file_starts.size), rows, -1)


def _nearest(data: netCDF4.Dataset, name: str, wanted: np.ndarray, where: str) -> np.ndarray:
    """Place on an axis of the grid that is nearest to each cell, int64[cell]; cells lie within half a step of it."""
    check_dims(data, name, (name,), where, ObservationError)
    axis = np.asarray(filled(data[name], ...), np.float64)
    own = wanted.copy()
    if name == "lon" and axis.max() > 180:
        own = own % 360
    order = np.argsort(axis)
    rising = axis[order]
    half = np.diff(rising).max() / 2 if rising.size > 1 else np.inf
    at = np.clip(np.searchsorted(rising, own), 1, max(1, rising.size - 1))
    left = np.abs(own - rising[at - 1]) <= np.abs(own - rising[np.minimum(at, rising.size - 1)])
    place = np.where(left, at - 1, np.minimum(at, rising.size - 1))
    far = np.abs(rising[place] - own) > half * (1 + 1e-6)
    if far.any():
        raise ObservationError(
            f"{where}: '{name}' goes from {rising[0]:g} to {rising[-1]:g}, and {far.sum()} cells of the domain lie "
            f"beyond, the first at {own[far][0]:g}. Expected a grid over the whole domain."
        )
    return order[place]
