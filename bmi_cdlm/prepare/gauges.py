"""Gauges: their table, their place on the network, and their records of discharge."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.errors import DomainError, ObservationError
from bmi_cdlm.prepare.network import Upstream, upstream_of
from bmi_cdlm.prepare.rasters import Grid

Stamp = Literal["start", "end"]

COLUMNS = ("code", "x", "y", "area")
AREA_TOLERANCE = 0.2
NO_DISCHARGE = -99.0
STAMP_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M"}


class Gauge(NamedTuple):
    """A gauge: x, y in the grid's reference system [m]; area, official [km2]."""

    id: str
    x: float
    y: float
    area: float


def read_gauges(path: Path) -> list[Gauge]:
    """Read a comma-separated table with the columns code, x [m], y [m], area [km2]."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as cause:
        raise DomainError(
            f"{path}: cannot be read ({cause.strerror}). Expected the table of gauges; restore it."
        ) from cause
    if not rows or any(column not in rows[0] for column in COLUMNS):
        raise DomainError(
            f"{path}: columns {', '.join(rows[0]) if rows else 'none'}, expected {', '.join(COLUMNS)} and a "
            "row per gauge. Rename the columns."
        )
    try:
        return [Gauge(r["code"], float(r["x"]), float(r["y"]), float(r["area"])) for r in rows]
    except (TypeError, ValueError) as cause:
        raise DomainError(
            f"{path}: {cause}. Expected numbers for coordinates and areas; correct the table."
        ) from cause


def snap(gauge: Gauge, grid: Grid, land: np.ndarray, upstream: Upstream, radius: int = 1) -> int:
    """Return the pixel near a gauge whose drainage area fits the official one best.

    Parameters
    ----------
    land : bool[row, col]
        Pixels that have a flow direction.
    upstream : Upstream
        The network of the flattened raster.
    radius : int
        Rows and columns to look around the gauge's own pixel. The wider, the likelier a wrong river of
        the right size; 1 suits coordinates known to the metre.

    Raises
    ------
    DomainError
        The gauge is off the grid, or no pixel comes within 20 % of its area.
    """
    row, col = int((grid.top - gauge.y) // grid.size), int((gauge.x - grid.left) // grid.size)
    if not (0 <= row < grid.n_rows and 0 <= col < grid.n_cols):
        raise DomainError(
            f"gauge {gauge.id}: lies at ({gauge.x:.0f}, {gauge.y:.0f}), outside the flow direction raster. "
            f"Expected coordinates in {grid.crs}; convert them."
        )
    found: list[tuple[float, float, int]] = []
    for i in range(max(row - radius, 0), min(row + radius + 1, grid.n_rows)):
        for j in range(max(col - radius, 0), min(col + radius + 1, grid.n_cols)):
            if land[i, j]:
                pixel = i * grid.n_cols + j
                area = upstream_of(upstream, pixel).size * grid.pixel_area
                x, y = grid.left + (j + 0.5) * grid.size, grid.top - (i + 0.5) * grid.size
                away = float(np.hypot(x - gauge.x, y - gauge.y))
                found.append((abs(area - gauge.area) / gauge.area, away, pixel))
    error, _, pixel = min(found, default=(np.inf, 0.0, -1))
    if error > AREA_TOLERANCE:
        raise DomainError(
            f"gauge {gauge.id}: no pixel within {radius} rows and columns of ({gauge.x:.0f}, {gauge.y:.0f}) "
            f"drains {gauge.area:g} km2 (nearest: {100 * error:.0f} % off, expected at most "
            f"{100 * AREA_TOLERANCE:.0f} %). Check the gauge's coordinates and area, or widen the search."
        )
    return pixel


def read_discharge(path: Path, starts: np.ndarray, step: int, stamp: Stamp) -> np.ndarray:
    """Read a record of discharge [m3 s-1]: the time stamp of the first value, then a line per step.

    Parameters
    ----------
    starts : datetime64[s][time]
        Starts of the steps wanted.
    step : int
        Length of a step [s], also between the lines of the file.
    stamp : 'start' or 'end'
        Which end of a step the file's stamp marks.

    Returns
    -------
    float64[time]
        NaN where the file has -99 or does not reach.

    Raises
    ------
    ObservationError
        Unreadable stamp or numbers, other negative values, a step between the lines, or nothing of the
        period in the file.
    """
    header, values = _read_record(path)
    first = np.datetime64(header, "s") - np.timedelta64(step if stamp == "end" else 0, "s")
    offset = (starts - first).astype(np.int64)
    if (offset % step).any():
        raise ObservationError(
            f"{path}: steps start at {first} and every {step} s after, expected one at {starts[0]}. Check "
            "the stamp in the first line."
        )
    line = offset // step
    inside = (line >= 0) & (line < values.size)
    if not inside.any():
        end = first + values.size * np.timedelta64(step, "s")
        raise ObservationError(
            f"{path}: covers {first} to {end}, expected something of {starts[0]} to {starts[-1]}. Choose "
            "another period or record."
        )
    discharge = np.full(starts.size, np.nan)
    discharge[inside] = values[line[inside]]
    return discharge


def _read_record(path: Path) -> tuple[datetime, np.ndarray]:
    try:
        stamp, *lines = path.read_text(encoding="ascii").split()
        first = datetime.strptime(stamp, STAMP_FORMATS.get(len(stamp), "%Y%m%d"))
        values = np.array(lines, np.float64)
    except (OSError, ValueError) as cause:
        raise ObservationError(
            f"{path}: cannot be read as a record of discharge ({cause}). Expected a time stamp (YYYYMMDD or "
            "YYYYMMDDhhmm) in the first line, then one number per line."
        ) from cause
    values[values == NO_DISCHARGE] = np.nan
    bad = np.flatnonzero((values < 0) | np.isinf(values))
    if bad.size:
        raise ObservationError(
            f"{path}: discharge {values[bad[0]]:g} in line {bad[0] + 2} ({bad.size} such lines), expected m3 "
            f"s-1, or {NO_DISCHARGE:g} where missing. Correct the record."
        )
    return first, values
