"""Dates of calendars against cftime, which counts in another way; the season, memory, and what is said of both."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmi_cdlm.names.calendars import (
    CALENDARS,
    MONTHS,
    STANDARD,
    calendar_of,
    date_text,
    days_of_months,
    days_since_new_year,
    decode,
    differs,
    encode,
    in_calendar,
    mean_year,
    moments,
    months_since,
    on_axis,
    parse,
    seconds_of,
    year_length,
)
from bmi_cdlm.names.memory import available_memory
from bmi_cdlm.names.season import day_of_year, on_circle, season

OTHERS = [name for name in CALENDARS if name != STANDARD]
DAY = 86400
SECONDS = st.integers(-200 * 365 * DAY, 200 * 365 * DAY)
every = pytest.mark.parametrize("calendar", CALENDARS)


def of(seconds: list[int], calendar: str) -> np.ndarray:
    """Times of a calendar at seconds since 1970, as a file gives them."""
    return decode(np.array(seconds, np.int64), "seconds since 1970-01-01", calendar)


@every
@given(st.data())
def test_times_come_back(calendar, data):
    seconds = data.draw(st.lists(SECONDS, min_size=1, max_size=5))
    times = of(seconds, calendar)
    assert calendar_of(times) == calendar and seconds_of(times).tolist() == seconds
    numbers, name = encode(times)
    assert numbers.tolist() == seconds and decode(numbers, "seconds since 1970-01-01", name).tolist() == times.tolist()


@pytest.mark.parametrize("calendar", OTHERS)
@given(st.data())
def test_dates_are_those_of_cftime(calendar, data):
    second = data.draw(SECONDS)
    date = cftime.num2date(second, "seconds since 1970-01-01", calendar)
    time = of([second], calendar)[0]
    assert date_text(time) == f"{date.year:04}-{date.month:02}-{date.day:02}T{date.hour:02}:{date.minute:02}:" \
                              f"{date.second:02}"
    assert parse(date_text(time), calendar) == time
    assert months_since(np.array([time])).tolist() == [12 * (date.year - 1970) + date.month - 1]
    into = date.dayofyr - 1 + (date.hour * 3600 + date.minute * 60 + date.second) / DAY
    assert days_since_new_year(np.array([time]))[0] == pytest.approx(into * 365 / sum(MONTHS[calendar]), abs=1e-9)
    assert [str(one) for one in moments(np.array([time]))] == [str(date)]


@given(st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)))
def test_real_dates_are_those_of_python(moment):
    moment = moment.replace(microsecond=0)
    time = np.datetime64(moment, "s")
    assert date_text(time) == moment.isoformat() and parse(moment.isoformat(), STANDARD) == time
    assert months_since(np.array([time])).tolist() == [12 * (moment.year - 1970) + moment.month - 1]
    begin = datetime.datetime(moment.year, 1, 1)
    assert days_since_new_year(np.array([time]))[0] == pytest.approx((moment - begin).total_seconds() / DAY, abs=1e-9)
    assert moments(np.array([time])) == [moment] and on_axis(np.array([time]))[0] == time


@every
def test_years_and_months(calendar):
    time = parse("2004-02-28", calendar)
    length = {STANDARD: 365}.get(calendar, sum(MONTHS.get(calendar, ())))
    assert year_length(time) == length
    assert mean_year(np.array([time])) == (length if calendar != STANDARD else pytest.approx(365.25, abs=0.01))
    first = 12 * (2004 - 1970)
    whole = days_of_months(first, first + 12, calendar)
    assert whole == (366 if calendar == STANDARD else length)
    assert sum(days_of_months(first + k, first + k + 1, calendar) for k in range(12)) == whole
    assert days_of_months(first, first, calendar) == 0


def test_dates_that_a_calendar_lacks():
    days = parse("2004-02-28", "360_day") + np.arange(4) * np.timedelta64(DAY, "s")
    same, there = in_calendar(days, STANDARD)
    assert there.tolist() == [True, True, False, True]  # 28, 29, 30 February, 1 March
    assert [date_text(t) for t in same[there]] == [f"2004-{d}T00:00:00" for d in ("02-28", "02-29", "03-01")]
    assert in_calendar(days, "noleap")[1].tolist() == [True, False, False, True]
    assert in_calendar(days, "360_day")[0] is days
    last = np.array([parse("2001-01-31T18:00", STANDARD)])
    assert in_calendar(last, "360_day")[1].tolist() == [False]
    assert date_text(in_calendar(last, "noleap")[0][0]) == "2001-01-31T18:00:00", "the hour stays"


@pytest.mark.parametrize(("text", "calendar", "message"), [
    ("2001-02-29", "noleap", "the calendar noleap has no such day"), ("2001-13-01", "360_day", "has no such day"),
    ("2001-01-31", "360_day", "has no such day"), ("2001-01-30T24:00", "360_day", "there is no such time of day"),
    ("2001-02-30", STANDARD, "day"), ("soon", STANDARD, "expected for example 2012-08-01"),
])
def test_texts_that_are_no_dates(text, calendar, message):
    with pytest.raises(ValueError, match=message):
        parse(text, calendar)


def test_another_calendar_is_told():
    real, other = parse("2001-01-01", STANDARD), parse("2001-01-01", "360_day")
    assert differs(real, real) == differs(np.array([other]), other) == ""
    assert differs(np.array([other]), real).startswith("is in the calendar 360_day, expected standard, in")
    assert differs(np.zeros(0, "datetime64[s]"), real) == "", "nothing is of no other"


def test_a_picture_shows_real_dates():
    times = parse("2001-01-01", "360_day") + np.array([0, 90, 180, 359]) * np.timedelta64(DAY, "s")
    shown = on_axis(times).astype("datetime64[D]").astype(str).tolist()
    assert shown == ["2001-01-01", "2001-04-02", "2001-07-02", "2001-12-30"]


# ---- the season, and memory ------------------------------------------------------------------------------------


@every
def test_the_season_comes_back_with_the_year(calendar):
    begin = parse("2001-01-01", calendar)
    days = begin + np.arange(year_length(begin)) * np.timedelta64(DAY, "s")
    number = day_of_year(days)
    assert number[0] == 1.0 and 365.0 <= number[-1] + 365 / year_length(begin) <= 367.0
    circle = season(number)
    np.testing.assert_allclose((circle**2).sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(circle.mean(axis=0), 0.0, atol=3e-3)
    assert season(np.zeros(0)).shape == (0, 2)
    assert on_circle(0.0) == (0.0, 1.0) and circle[0, 0] == math.sin(2 * math.pi / 365.25)


@pytest.mark.parametrize(("content", "expected"), [
    ("MemTotal: 9 kB\nMemAvailable:   2048 kB\n", 2.0**21), ("MemTotal: 9 kB\n", math.inf),
    ("MemAvailable: much kB\n", math.inf), (OSError("no such file"), math.inf),
])
def test_memory_that_the_system_tells(monkeypatch, content, expected):
    def read_text(self, encoding):
        if isinstance(content, OSError):
            raise content
        return content

    monkeypatch.setattr(Path, "read_text", read_text)
    assert available_memory() == expected
