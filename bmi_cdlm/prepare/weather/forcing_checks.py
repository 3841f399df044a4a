"""Values without a meaning, refused before they become forcing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from bmi_cdlm.model.pet import RANGE
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.variables import variable
from bmi_cdlm.prepare.weather.inputs import Target

FEW = 10  # days and cells that may have no range of temperature by chance
ROUNDING = 0.001  # mm d-1 or W m-2; a mean further below zero is no rounding
FILLS = (-9999.0, -999.0, -99.0, -99.9, -32768.0, 1e20, -1e20, 9.96921e36, -3.4028235e38, 9999.0, 99999.0)


def check_values(
    name: str, values: np.ndarray, starts: np.ndarray, gone: np.ndarray, *, seconds: int, tolerance: float, where: str,
    target: Target,
) -> None:
    """Refuse values of an input without a meaning; rounding below zero becomes zero, in place.

    Parameters
    ----------
    name : str
    values : float[time, cell]
    starts : datetime64[time]
    gone : bool[time]
        Steps that are missing as a whole, and are allowed to.
    seconds : int
        Length of a step.
    tolerance : float
        Below zero that counts as rounding.
    where : str
        What gave them, for the message.
    target : Target
        Its cells, for the message.

    Raises
    ------
    ForcingError
    """
    entry = variable(name)
    low, high = entry.known.limits(seconds)
    if low == 0.0:
        _check_sign(name, values, where)
        tiny = (values < 0.0) & (values >= -tolerance)
        values[tiny] = 0.0
    wrong = ~((values >= low) & (values <= high))
    wrong[gone] = False
    if wrong.any():
        _refuse(name, values, wrong, starts, seconds, where, target)


def check_range(values: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse extremes of days that are one number: means of the day, whose range of 0 would make no demand.

    values : float[day, cell] by input; where : what gave the lowest temperature.
    """
    low, high = (values[name] for name in RANGE)
    valid = ~(np.isnan(low) | np.isnan(high))
    if np.count_nonzero(valid) < FEW or not (low[valid] == high[valid]).all():
        return
    raise ForcingError(
        f"{where}: the lowest and the highest temperature of all {np.count_nonzero(valid)} days "
        "and cells (of this block of time) are the same, expected a range: both are means of the day, as in the "
        "files of CAMELS (US) by Maurer and NLDAS. Take another source, or a formula of the mean, such as oudin."
    )


def _check_sign(name: str, values: np.ndarray, where: str) -> None:
    """Refuse what is below zero in the mean of a block: no rounding, whatever is allowed as such."""
    valid = values[~np.isnan(values)]
    mean = float(valid.mean()) if valid.size else 0.0
    if mean >= -ROUNDING or np.count_nonzero(valid < 0.0) < np.count_nonzero(valid) / 2:
        return  # a few of them, such as -9999 for missing, are no sign: each is refused
    key = variable(name).key
    raise ForcingError(
        f"{where}: '{name}' is {mean:.3g} {variable(name).units} in the mean of cells and time, {valid.min():.3g} "
        f"at least, expected 0 or more: its sign is that of a flux downwards, as of ERA5's potential evaporation. "
        f"Set forcing.{key}.scale: -1, or correct the source or its `kind`."
    )


def _refuse(
    name: str, values: np.ndarray, wrong: np.ndarray, starts: np.ndarray, seconds: int, where: str, target: Target
) -> NoReturn:
    """Name the first of the values that are wrong, what it may come from, and what to do."""
    entry = variable(name)
    low, high = entry.known.limits(seconds)
    row, cell = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
    cells, value = target.drainage.cells, float(values[row, cell])
    tolerance = ", or raise negative_tolerance" if low == 0.0 and value < 0.0 else ""
    if np.isnan(value):
        got, guess = "missing", ""
        remedy = (
            "Complete the source, set `gaps` to share or nearest where others have a value then, or declare the "
            "stamp as `missing`."
        )
    else:
        got = f"{value:g} {entry.units}"
        guess = entry.known.guess(value, entry.units, entry.units, seconds)
        remedy = f"Correct the source, its units or `kind`{tolerance}."
        if any(np.isclose(value, one, rtol=1e-6) for one in FILLS):
            guess = " It looks like a number for missing: name it (`missing_values` of a table, _FillValue)."
    raise ForcingError(
        f"{where}: '{name}' is {got} at {date_text(starts[row])} in cell {cells.id[cell]} at "
        f"{cells.lon[cell]:.3f} E, {cells.lat[cell]:.3f} N, the first of {np.count_nonzero(wrong)} such values in "
        f"{np.count_nonzero(wrong.any(axis=0))} cells (of this block of time), expected {low:g} to {high:g}."
        f"{guess} {remedy}"
    )
