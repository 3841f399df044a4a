"""Calendars: real dates, and those of climate models, whose years have 365 days (noleap) or twelve months of 30.

Time is datetime64[s] everywhere. In a calendar of years of one length it counts the seconds since 1970 of that
calendar, and stands thousands of years beyond real dates: the distance of two times of one calendar is right, and none
is ever taken for one of another. What turns it into a date is here alone.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import netCDF4
import numpy as np

from bmi_cdlm.names.time_steps import DAY

STANDARD = "standard"
MONTHS = {"noleap": (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), "360_day": (30,) * 12}
"""Days of the months where every year is the same."""
CALENDARS = (STANDARD, *MONTHS)
NAMES_IN_FILES = {
    STANDARD: STANDARD, "gregorian": STANDARD, "proleptic_gregorian": STANDARD, "noleap": "noleap",
    "365_day": "noleap", "360_day": "360_day",
}
WRITTEN = {STANDARD: "proleptic_gregorian"}
"""The name in files that are made here, where it is another."""
UNITS = "seconds since 1970-01-01 00:00:00"
APART = 10_000_000 * DAY
"""Distance of the calendars from each other [s]; real dates have four digits."""
ORDINARY_YEAR, MEAN_YEAR = 365, 365.25
DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2})(?::(\d{2})(?::(\d{2}))?)?)?$")


def calendar_of(times: Any) -> str:
    """Return the calendar of a time, datetime64, or of an array's first."""
    first = np.ravel(np.asarray(times))[:1].astype("datetime64[s]")
    if not first.size or np.isnat(first[0]):
        return STANDARD
    return CALENDARS[round(int(first.astype(np.int64)[0]) / APART)]


def seconds_of(times: np.ndarray) -> np.ndarray:
    """Return the seconds since 1970 of the calendar of the times, int64."""
    seconds: np.ndarray = np.asarray(times).astype("datetime64[s]").astype(np.int64)
    return seconds - CALENDARS.index(calendar_of(times)) * APART


def at_seconds(seconds: Any, calendar: str) -> Any:
    """Return the times, datetime64[s], at seconds since 1970 of a calendar, int64."""
    return (np.asarray(seconds, np.int64) + CALENDARS.index(calendar) * APART).astype("datetime64[s]")[()]


def decode(values: np.ndarray, units: str, calendar: str) -> np.ndarray:
    """Return the times of a file, datetime64[s], to the nearest second: days in floating point are microseconds off.

    calendar : a key of `NAMES_IN_FILES`. Whatever netCDF4 raises on units that are none, or dates beyond four digits.
    """
    ours = NAMES_IN_FILES[calendar]
    dates = np.ravel(np.asarray(netCDF4.num2date(values, units, calendar, only_use_cftime_datetimes=True)))
    if ours == STANDARD:
        flat = np.array([date.replace(microsecond=0).isoformat() for date in dates], "datetime64[s]")
    else:
        whole = [_seconds(ours, (d.year, d.month, d.day), d.hour * 3600 + d.minute * 60 + d.second) for d in dates]
        flat = at_seconds(np.array(whole, np.int64), ours)
    up = np.array([date.microsecond >= 500_000 for date in dates], np.int64)
    return (flat + up.astype("timedelta64[s]")).reshape(np.shape(values))


def encode(times: np.ndarray) -> tuple[np.ndarray, str]:
    """Return times as numbers in `UNITS`, int64, and the name of their calendar in files."""
    calendar = calendar_of(times)
    return seconds_of(times), WRITTEN.get(calendar, calendar)


def parse(text: str, calendar: str) -> np.datetime64:
    """Return the time of an ISO date or time in a calendar; ValueError where it has no such date."""
    match = DATE.match(text.strip())
    if match is None:
        raise ValueError("expected for example 2012-08-01 or 2012-08-01T06:00")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    if calendar == STANDARD:
        return np.datetime64(datetime.datetime(year, month, day, hour, minute, second), "s")
    if not (1 <= month <= 12 and 1 <= day <= MONTHS[calendar][month - 1]):
        raise ValueError(f"the calendar {calendar} has no such day")
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("there is no such time of day")
    seconds = _seconds(calendar, (year, month, day), hour * 3600 + minute * 60 + second)
    found: np.datetime64 = at_seconds(seconds, calendar)
    return found


def date_text(time: Any) -> str:
    """Return a time as an ISO date and time of its calendar."""
    calendar = calendar_of(time)
    if calendar == STANDARD:
        return str(time)
    day, second = divmod(int(seconds_of(time)), DAY)
    year, month, of_month = _date(calendar, day)
    return f"{year:04}-{month:02}-{of_month:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def days_since_new_year(times: np.ndarray) -> np.ndarray:
    """Return the days since New Year, with their fraction, float64: those of a year of 365 where all years have fewer.

    A year of 360 days goes once round the sun too, so that each of its days counts 365/360.
    """
    calendar = calendar_of(times)
    if calendar == STANDARD:
        starts = times.astype("datetime64[s]")
        passed: np.ndarray = (starts - starts.astype("datetime64[Y]").astype("datetime64[s]")).astype(np.int64)
        return passed / DAY
    length = sum(MONTHS[calendar])
    share: np.ndarray = seconds_of(times) % (length * DAY) / (DAY * length) * ORDINARY_YEAR
    return share


def year_length(time: np.datetime64) -> int:
    """Return the days of a year from a time on, leap days of the standard calendar not counted."""
    calendar = calendar_of(time)
    return ORDINARY_YEAR if calendar == STANDARD else sum(MONTHS[calendar])


def mean_year(times: np.ndarray) -> float:
    """Return the mean length of a year of the calendar of the times [d]."""
    calendar = calendar_of(times)
    return MEAN_YEAR if calendar == STANDARD else float(sum(MONTHS[calendar]))


def months_since(times: np.ndarray) -> np.ndarray:
    """Return the months since January 1970 that times lie in, int64."""
    calendar = calendar_of(times)
    if calendar == STANDARD:
        months: np.ndarray = times.astype("datetime64[M]").astype(np.int64)
        return months
    lengths = np.array(MONTHS[calendar])
    years, day = np.divmod(seconds_of(times) // DAY, lengths.sum())
    found: np.ndarray = 12 * years + np.searchsorted(np.cumsum(lengths), day, side="right")
    return found


def days_of_months(first: int, stop: int, calendar: str) -> int:
    """Return the number of days from one month since January 1970 to another."""
    if calendar == STANDARD:
        begin, end = (np.datetime64(month, "M").astype("datetime64[D]").astype(int) for month in (first, stop))
        return int(end - begin)
    lengths = MONTHS[calendar]
    begin, end = (month // 12 * sum(lengths) + sum(lengths[: month % 12]) for month in (first, stop))
    return end - begin


def in_calendar(times: np.ndarray, calendar: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of the same dates in another calendar, datetime64[s], and which of them it has, bool.

    29 February is not in noleap, the 31st of a month not in 360_day, and 30 February in that alone.
    """
    own = calendar_of(times)
    if own == calendar or not times.size:
        return times, np.ones(times.shape, bool)
    days, place = np.unique(seconds_of(times) // DAY, return_inverse=True)
    texts = [date_text(at_seconds(day * DAY, own)) for day in days.tolist()]
    found, there = np.zeros(days.size, np.int64), np.ones(days.size, bool)
    for k, text in enumerate(texts):
        try:
            found[k] = int(seconds_of(np.asarray(parse(text, calendar))))
        except ValueError:
            there[k] = False
    return at_seconds(found[place] + seconds_of(times) % DAY, calendar), there[place]


def moments(times: np.ndarray) -> list[Any]:
    """Return times as objects with `strftime`: datetime, or cftime's of their calendar."""
    numbers, calendar = encode(times)
    if calendar in MONTHS:
        return list(np.ravel(np.asarray(netCDF4.num2date(numbers, UNITS, calendar))))
    found: list[Any] = np.ravel(times).astype("datetime64[s]").astype(datetime.datetime).tolist()
    return found


def on_axis(times: np.ndarray) -> np.ndarray:
    """Return times for the axis of a picture, real dates: of the same year, and as far into it."""
    calendar = calendar_of(times)
    if calendar == STANDARD:
        return times.astype("datetime64[s]")
    years = (months_since(times) // 12).astype("datetime64[Y]")
    begin, end = (year.astype("datetime64[s]").astype(np.int64) for year in (years, years + 1))
    share = days_since_new_year(times) / ORDINARY_YEAR
    shown: np.ndarray = (begin + np.round(share * (end - begin)).astype(np.int64)).astype("datetime64[s]")
    return shown


def differs(have: Any, want: Any) -> str:
    """Return what to say where times are in another calendar than is asked for, or the empty string."""
    got, asked = calendar_of(have), calendar_of(want)
    if got == asked:
        return ""
    return (
        f"is in the calendar {got}, expected {asked}, in which the run counts. No day is made up or left out. Set "
        f"`calendar: {got}` in the configuration, or use files of its calendar."
    )


def _seconds(calendar: str, date: tuple[int, int, int], into_day: int) -> int:
    year, month, day = date
    months = MONTHS[calendar]
    return ((year - 1970) * sum(months) + sum(months[: month - 1]) + day - 1) * DAY + into_day


def _date(calendar: str, day: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970."""
    months = MONTHS[calendar]
    year, rest = divmod(day, sum(months))
    month = 0
    while rest >= months[month]:
        rest -= months[month]
        month += 1
    return 1970 + year, month + 1, rest + 1
