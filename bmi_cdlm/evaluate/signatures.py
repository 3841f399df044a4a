"""What is read off a hydrograph before anything is compared: means of days and months, baseflow, flow duration."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from bmi_cdlm.names.calendars import at_seconds, calendar_of, days_of_months, months_since, seconds_of
from bmi_cdlm.names.time_steps import DAY

Period = Literal["day", "month"]
COVERAGE = 0.9
"""Share of a day's or month's steps that must hold both values."""
SQUARE_MILE = 2.58999
"""[km2]"""
NARROWEST, WIDEST = 3, 11
"""Limits of the sliding interval of HYSEP [d]."""


def step_of(starts: np.ndarray) -> int:
    """Length of the steps [s]; that of a day where there is one step only."""
    if starts.size < 2:
        return DAY
    return int((starts[1] - starts[0]) / np.timedelta64(1, "s"))


def means_over(
    simulated: np.ndarray, observed: np.ndarray, starts: np.ndarray, period: Period, coverage: float = COVERAGE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of days or months, over the steps at which neither series is NaN.

    Parameters
    ----------
    simulated, observed : float[time]
    starts : datetime64[time]
        Begins of the steps, without gaps. A step belongs to the period in which it begins.
    coverage : float
        A period with a smaller share of its steps has NaN in both.

    Returns
    -------
    simulated, observed : float64[period]
    starts : datetime64[s][period]
    """
    numbers = seconds_of(starts) // DAY if period == "day" else months_since(starts)
    known, place = np.unique(numbers, return_inverse=True)
    begin = _first_days(known, period, calendar_of(starts))
    valid = ~(np.isnan(simulated) | np.isnan(observed))
    count = np.bincount(place, weights=valid, minlength=known.size)
    days = _first_days(known + 1, period, calendar_of(starts)) - begin
    enough = count >= coverage * days * DAY / step_of(starts)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.bincount(place, weights=np.where(valid, values, 0.0), minlength=known.size)
        return np.where(enough, total / np.maximum(count, 1), np.nan)

    return mean(simulated), mean(observed), at_seconds(begin * DAY, calendar_of(starts))


def _first_days(periods: np.ndarray, period: Period, calendar: str) -> np.ndarray:
    """First days of numbered days or months, in days since 1970 of a calendar, int64."""
    if period == "day":
        return periods
    return np.array([days_of_months(0, int(month), calendar) for month in periods], np.int64)


def hysep_window(area: float) -> int:
    """Width of the sliding interval [d], odd: nearest to 2 N, N = A^0.2 days with A in square miles, from 3 to 11.

    area : drainage area [km2]. Sloto and Crouse 1996.
    """
    width = math.ceil(2 * (area / SQUARE_MILE) ** 0.2)
    return int(np.clip(width - (width % 2 == 0), NARROWEST, WIDEST))


def baseflow(daily: np.ndarray, area: float) -> np.ndarray:
    """Baseflow of daily flow by HYSEP's sliding interval, float64[day]: the least flow of the days about, in its unit.

    The interval is cut at the ends of the record; where less than half of it is known, baseflow is NaN [Sloto and
    Crouse 1996].
    """
    half = hysep_window(area) // 2
    padded = np.concatenate([np.full(half, np.nan), np.asarray(daily, np.float64), np.full(half, np.nan)])
    days = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    known = ~np.isnan(days)
    inside = np.lib.stride_tricks.sliding_window_view(
        np.r_[np.zeros(half), np.ones(np.size(daily)), np.zeros(half)], 2 * half + 1
    ).sum(axis=1)
    least = np.where(known, days, np.inf).min(axis=1)
    return np.where(2 * known.sum(axis=1) >= inside, least, np.nan)


def baseflow_index(daily: np.ndarray, area: float) -> float:
    """Baseflow over flow [1], over the days that have both; NaN where nothing flows."""
    slow = baseflow(daily, area)
    both = ~(np.isnan(slow) | np.isnan(daily))
    flow = float(np.asarray(daily, np.float64)[both].sum())
    return float(slow[both].sum()) / flow if flow > 0 else math.nan


def duration_slope(flow: np.ndarray) -> float:
    """Slope of the middle of the flow duration curve: ln of flow exceeded at 20 % less ln of that at 70 % of times.

    flow : float[time], without NaN. NaN where such a flow is not above 0. Yilmaz et al. 2008.
    """
    if flow.size < 2:
        return math.nan
    high, low = np.quantile(flow, [0.8, 0.3])
    return float(np.log(high) - np.log(low)) if low > 0 else math.nan
