"""When the values of a source hold: stamps, bounds and calendars turned into starts of intervals, in UTC."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.calendars import NAMES_IN_FILES, date_text, decode
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.prepare.weather.gridded import TIME_NAMES, is_time
from bmi_cdlm.prepare.weather.weather_config import Stamp


class Stamps(NamedTuple):
    """Times of a file. dims : the dimensions that they lie on; values : datetime64[s][step]; bounds :
    datetime64[s][step, 2] or None.
    """

    dims: tuple[str, ...]
    values: np.ndarray
    bounds: np.ndarray | None


def read_stamps(dataset: Any, array: Any, space: tuple[str, ...], where: str, error: type[CdlmError]) -> Stamps:
    """Read the times of a variable; those of forecasts, on (time, step), are taken in the order of the file.

    Raises
    ------
    error
        No times, units without a date, a calendar that no run has, further dimensions.
    """
    rest = tuple(str(d) for d in array.dims if d not in space and (array.sizes[d] > 1 or is_time(dataset, str(d))))
    for name in _candidates(dataset, rest):
        variable = dataset[name]
        if set(map(str, variable.dims)) == set(rest):
            values = _dates(variable.transpose(*rest), where, error).ravel()
            return Stamps(rest, values, _bounds(dataset, variable, rest, where, error))
    further = [d for d in rest if not is_time(dataset, d)]
    if further and len(further) < len(rest):
        choices = [f"{d} ({_choices(dataset, array, d)})" for d in further]
        raise error(
            f"{where}: '{array.name}' on ({', '.join(map(str, array.dims))}) has a further dimension beside time and "
            f"place: {', '.join(choices)}. Expected one value of it. Choose with the key select: "
            f"{{{further[0]}: VALUE}}, or {{{further[0]}: first}} for the first of them that is not missing."
        )
    raise error(
        f"{where}: '{array.name}' on ({', '.join(map(str, array.dims))}) has no times for ({', '.join(rest)}), "
        "expected a coordinate such as 'time' in '<unit> since <date>'. Add it, or choose one along the other "
        "dimensions."
    )


def interval_starts(
    stamps: Stamps, stamp: Stamp | None, step: int, utc_offset: float, where: str, error: type[CdlmError]
) -> np.ndarray:
    """Starts of the intervals in UTC, datetime64[s][step]; `stamp` None: as the bounds say, else the stamps."""
    offset = np.timedelta64(round(utc_offset * 3600), "s")
    if stamp is None and stamps.bounds is not None:
        lengths = np.diff(stamps.bounds, axis=1)[:, 0].astype(np.int64)
        wrong = np.flatnonzero(lengths != step)
        if wrong.size:
            i = int(wrong[0])
            raise error(
                f"{where}: bounds at {date_text(stamps.values[i])} span {lengths[i]} s, expected {step} s "
                f"({wrong.size} such intervals). Split the file by interval, or set `stamp` to leave the bounds aside."
            )
        return stamps.bounds[:, 0] - offset
    back = {"start": 0, "middle": step // 2, "end": step}[stamp or "start"]
    return stamps.values - np.timedelta64(back, "s") - offset


def spacing(starts: np.ndarray) -> int:
    """Smallest distance of stamps [s], 0 where there is one only."""
    return int(np.diff(np.sort(starts)).astype(np.int64).min()) if starts.size > 1 else 0


def find(have: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of every wanted time among sorted ones, int64; -1 where it is not there."""
    place = np.minimum(np.searchsorted(have, wanted), have.size - 1)
    return np.where(have[place] == wanted, place, -1)


def _choices(dataset: Any, array: Any, dim: str) -> str:
    """The values along a dimension, the first few."""
    values = np.asarray(dataset[dim].values).tolist() if dim in dataset.variables else list(range(array.sizes[dim]))
    return ", ".join(map(str, values[:4])) + (" ..." if len(values) > 4 else "")


def _candidates(dataset: Any, rest: tuple[str, ...]) -> list[str]:
    named = [*rest, *TIME_NAMES]
    known = [n for n in named if n in dataset.variables and "since" in str(dataset[n].attrs.get("units", ""))]
    others = [str(n) for n in dataset.coords if dataset[n].attrs.get("standard_name") == "time"]
    # WRF calls it XTIME on Time: whatever else counts since a date, if it is the only one.
    like = [
        str(n) for n, v in dataset.variables.items()
        if tuple(map(str, v.dims)) == rest and "since" in str(v.attrs.get("units", ""))
    ]
    found = list(dict.fromkeys(known + others + (like if len(like) == 1 else [])))
    # GRIB's `time` is when a forecast began, and `valid_time` when its values hold.
    return sorted(found, key=lambda n: dataset[n].attrs.get("standard_name") == "forecast_reference_time")


def _dates(variable: Any, where: str, error: type[CdlmError], like: Any = None) -> np.ndarray:
    attributes = {**(like.attrs if like is not None else {}), **variable.attrs}
    units, calendar = str(attributes.get("units", "")), str(attributes.get("calendar", "standard")).lower()
    if calendar not in NAMES_IN_FILES:
        raise error(
            f"{where}: '{variable.name}' has calendar '{calendar}', expected one of {', '.join(NAMES_IN_FILES)}. "
            "Convert the file."
        )
    values = np.asarray(variable.values)
    try:
        return decode(values, units, calendar)
    except (ValueError, TypeError) as cause:
        raise error(
            f"{where}: '{variable.name}' has units '{units}', expected '<unit> since <date>' ({cause})."
        ) from cause


def _bounds(
    dataset: Any, variable: Any, rest: tuple[str, ...], where: str, error: type[CdlmError]
) -> np.ndarray | None:
    name = variable.attrs.get("bounds", variable.encoding.get("bounds"))
    if name is None or str(name) not in dataset.variables or len(rest) != 1:
        return None
    bounds = dataset[str(name)]
    if bounds.ndim != 2 or bounds.shape[1] != 2:
        raise error(f"{where}: '{name}' has shape {bounds.shape}, expected (time, 2). Correct or remove it.")
    return _dates(bounds, where, error, like=variable)
