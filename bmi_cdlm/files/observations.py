"""Observed discharge at gauges, put on the steps of a run."""

from __future__ import annotations

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
from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.names.variables import variable


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
        offset = align_steps(starts, file_step, start, end, step, where, ObservationError)
        ids = read_strings(dataset, "gauge_id", where, ObservationError)
        columns = select_ids(ids, gauge_id, "gauge_id", where, ObservationError)
        require(dataset, ["discharge"], where, ObservationError)
        check_dims(dataset, "discharge", ("time", "gauge"), where, ObservationError)
        check_numeric(dataset, "discharge", where, ObservationError)
        check_units(dataset, "discharge", variable("discharge").units, where, ObservationError)
        begin = start.astype("datetime64[s]")
        period = np.arange(begin, end.astype("datetime64[s]"), np.timedelta64(step, "s"))
        first, stop = max(offset, 0), min(offset + period.size, starts.size)
        if first >= stop:
            last = starts[-1] + np.timedelta64(step, "s")
            raise ObservationError(
                f"{where}: covers {starts[0]} to {last}, nothing of {start} to {end}. Expected an overlap. "
                "Choose another period or file."
            )
        discharge = np.full((period.size, len(gauge_id)), np.nan)
        rows = filled(dataset.variables["discharge"], slice(first, stop))
        discharge[first - offset : stop - offset] = rows[:, columns]
    _check_values(discharge, period, gauge_id, where)
    return period, discharge


def _check_values(discharge: np.ndarray, starts: np.ndarray, gauge_id: Sequence[str], where: str) -> None:
    wrong = (discharge < 0) | np.isinf(discharge)
    if wrong.any():
        row, gauge = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise ObservationError(
            f"{where}: 'discharge' is {discharge[row, gauge]:g} at {starts[row]} at gauge {gauge_id[gauge]}, "
            f"the first of {np.count_nonzero(wrong)} such values, expected finite numbers >= 0 m3 s-1. Mark "
            "missing values with NaN or _FillValue."
        )
