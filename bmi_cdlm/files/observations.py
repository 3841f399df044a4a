"""Observed discharge at gauges, put on the steps of a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bmi_cdlm.files.netcdf import (
    align_steps,
    check_dims,
    check_numeric,
    check_units,
    filled,
    one_at_a_time,
    open_input,
    read_strings,
    read_time,
    require,
    select_ids,
)
from bmi_cdlm.names.calendars import calendar_of, date_text, in_calendar
from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.names.variables import variable

logger = logging.getLogger(__name__)


@one_at_a_time
def read_observations(
    path: Path, gauge_id: Sequence[str], start: np.datetime64, end: np.datetime64, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read the observed discharge of a period, gauges in the order asked for.

    Parameters
    ----------
    path : Path
        NetCDF with `discharge` on (time, gauge) and `gauge_id`; more gauges than asked for may be there.
    gauge_id : sequence of str
    start, end : datetime64
        Period, `end` exclusive; `start` must be the begin of a step of the file.
    step : int
        Model step [s], which the file must have too.

    Returns
    -------
    starts : datetime64[s][time]
        Begins of the steps of the whole period.
    discharge : float64[time, gauge]
        [m3 s-1], NaN where it was not observed or the file does not reach.

    Raises
    ------
    ObservationError
        The file lacks a gauge, has another step, day boundary or unit, does not overlap with the period, or
        holds values that are negative or infinite.
    """
    where = str(path)
    with open_input(path, ObservationError) as dataset:
        starts, file_step = read_time(dataset, where, ObservationError)
        slots, period = _slots(starts, file_step, start, end, step, where)
        ids = read_strings(dataset, "gauge_id", where, ObservationError)
        columns = select_ids(ids, gauge_id, "gauge_id", where, ObservationError)
        require(dataset, ["discharge"], where, ObservationError)
        check_dims(dataset, "discharge", ("time", "gauge"), where, ObservationError)
        check_numeric(dataset, "discharge", where, ObservationError)
        check_units(dataset, "discharge", variable("discharge").units, where, ObservationError)
        rows = np.flatnonzero(slots >= 0)
        if not rows.size:
            last = starts[-1] + np.timedelta64(step, "s")
            raise ObservationError(
                f"{where}: covers {date_text(starts[0])} to {date_text(last)}, nothing of {date_text(start)} to "
                f"{date_text(end)}. Expected an overlap. Choose another period or file."
            )
        discharge = np.full((period.size, len(gauge_id)), np.nan)
        first, stop = int(rows[0]), int(rows[-1]) + 1
        values = filled(dataset.variables["discharge"], slice(first, stop))[rows - first]
        discharge[slots[rows]] = values[:, columns]
    _check_values(discharge, period, gauge_id, where)
    return period, discharge


def _slots(
    starts: np.ndarray, file_step: int, start: np.datetime64, end: np.datetime64, step: int, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Step of the period that every step of the file is, int64, -1 for those outside, and the steps of the period.

    In another calendar than the run's it is the one of the same date, if there is one; what has none is told.
    """
    period = np.arange(start.astype("datetime64[s]"), end.astype("datetime64[s]"), np.timedelta64(step, "s"))
    calendar = calendar_of(start)
    if calendar_of(starts) == calendar:
        slots = np.arange(starts.size) - align_steps(starts, file_step, start, end, step, where, ObservationError)
        return np.where((slots >= 0) & (slots < period.size), slots, -1), period
    same, there = in_calendar(starts, calendar)
    if not there.any():
        return np.full(starts.size, -1), period
    align_steps(same[there], file_step, start, end, step, where, ObservationError)
    slots = (same - period[0]).astype(np.int64) // step
    inside = there & (slots >= 0) & (slots < period.size)
    met = np.zeros(period.size, bool)
    met[slots[inside]] = True
    rows = np.flatnonzero(inside)
    between = ~there[rows[0] : rows[-1]] if rows.size else ~there
    logger.warning(
        "%s: has dates of the calendar %s and the run those of %s: steps of the same date are compared. %d steps of "
        "the file have no such date in %s and are left out; %d of %d steps of the period have none in the file", where,
        calendar_of(starts), calendar, np.count_nonzero(between), calendar, np.count_nonzero(~met), met.size,
    )
    return np.where(inside, slots, -1), period


def _check_values(discharge: np.ndarray, starts: np.ndarray, gauge_id: Sequence[str], where: str) -> None:
    wrong = (discharge < 0) | np.isinf(discharge)
    if wrong.any():
        row, gauge = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise ObservationError(
            f"{where}: 'discharge' is {discharge[row, gauge]:g} at {date_text(starts[row])} at gauge "
            f"{gauge_id[gauge]}, "
            f"the first of {np.count_nonzero(wrong)} such values, expected finite numbers >= 0 m3 s-1. Mark "
            "missing values with NaN or _FillValue."
        )
