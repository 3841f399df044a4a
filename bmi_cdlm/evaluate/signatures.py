"""What is read off a hydrograph before anything is compared: means of days and months, baseflow, flow duration,
signatures of periods and floods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

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
RECESSION, PASSES = 0.925, 3
"""Of the recursive filter: its parameter [1], and how often it goes over a series, forwards, backwards, forwards."""


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


def slow_flow(flow: np.ndarray) -> np.ndarray:
    """Baseflow by the recursive filter, float64[time], in the unit of the flow and nowhere above it.

    Quick flow follows f = a f' + (1 + a) / 2 (q - q'), kept from 0 to q, of which baseflow is what is left [Lyne and
    Hollick 1979]. Each pass goes over the baseflow of the one before, the other way [Nathan and McMahon 1990]. A pass
    begins with a guess: the first with q where that is below its lower quartile, else with the mean over 1.5; a further
    one with q / 1.2 where that q is below the mean of baseflow, else with that mean.

    flow : float[time], without NaN, at equal steps, at least one.
    """
    whole = np.asarray(flow, np.float64)
    first = whole[0] if whole[0] < np.quantile(whole, 0.25) else whole.mean() / 1.5
    slow = _filtered(whole, float(first))
    for _ in range(PASSES - 1):
        whole, slow, mean = whole[::-1], slow[::-1], slow.mean()
        slow = _filtered(slow, float(whole[0] / 1.2 if whole[0] < mean else mean))
    return slow if PASSES % 2 else slow[::-1]


def _filtered(flow: np.ndarray, first: float) -> np.ndarray:
    """What one pass of the recursive filter leaves: the filter of quick flow, written for what is not quick."""
    before, slow = flow.tolist(), [first]
    for last, now in pairwise(before):
        slow.append(min(RECESSION * slow[-1] + (1 - RECESSION) / 2 * (last + now), now))
    return np.array(slow)


def duration_slope(flow: np.ndarray) -> float:
    """Slope of the middle of the flow duration curve: ln of flow exceeded at 20 % less ln of that at 70 % of times.

    flow : float[time], without NaN. NaN where such a flow is not above 0. Yilmaz et al. 2008.
    """
    if flow.size < 2:
        return math.nan
    high, low = np.quantile(flow, [0.8, 0.3])
    return float(np.log(high) - np.log(low)) if low > 0 else math.nan


class Window(NamedTuple):
    """What a signature is read off: rain [mm per step], float64[time]; flow and its quick part [m3 s-1], [time], arrays
    or tensors of a training; step [s]; area [km2].
    """

    rain: np.ndarray
    flow: Any
    quick: Any
    step: int
    area: float


class Signature(NamedTuple):
    """A signature: of : from a window, NaN where it is not defined; style : of its column; has_slope : it changes
    smoothly with the flow almost everywhere, and reads no quick flow, so that a training can take it.
    """

    name: str
    units: str
    meaning: str
    of: Callable[[Window], Any]
    style: str = ".3f"
    has_slope: bool = False


def _of_rain(window: Window, flow: Any) -> Any:
    """Depth of a flow over that of rain; NaN without rain or area."""
    rain = float(window.rain.sum())
    if not (rain > 0 and window.area > 0):
        return math.nan
    return flow.sum() * window.step / (window.area * 1e3) / rain


def _quick_share(window: Window) -> Any:
    flow = window.flow.sum()
    return window.quick.sum() / flow if flow > 0 else math.nan


def _ratios(letter: str, over: str) -> tuple[Signature, ...]:
    return (
        Signature(f"{letter}rc", "1", f"Runoff coefficient: flow over rain of {over}", lambda w: _of_rain(w, w.flow),
                  has_slope=True),
        Signature(f"{letter}rchf", "1", "The same of quick flow", lambda w: _of_rain(w, w.quick)),
        Signature(f"{letter}rclf", "1", "The same of baseflow", lambda w: _of_rain(w, w.flow - w.quick)),
        Signature(f"{letter}rch2r", "1", f"Quick flow over flow of {over}", _quick_share),
    )


def _quantile(percent: int, window: Window) -> Any:
    """Linear between the two values beside it, as numpy's; by their places, so that a slope goes to them."""
    flow, order = window.flow, window.flow.argsort()
    place = percent / 100 * (len(flow) - 1)
    below = int(place)
    low, high = (flow[order[min(k, len(flow) - 1)]] for k in (below, below + 1))
    return low + (high - low) * (place - below)


OF_PERIODS: tuple[Signature, ...] = (
    *_ratios("C", "the period"),
    *(Signature(f"Cfp{p}", "m3 s-1", f"Flow that is not exceeded at {p} % of the times", partial(_quantile, p), ".4g",
                has_slope=True) for p in (2, 10, 50, 90)),
)
OF_EVENTS: tuple[Signature, ...] = (
    *_ratios("E", "the event"),
    Signature("Eff", "m3 s-1", "Mean quick flow", lambda w: w.quick.mean(), ".4g"),
    Signature("Ebf", "m3 s-1", "Mean baseflow", lambda w: (w.flow - w.quick).mean(), ".4g"),
    Signature("Epf", "m3 s-1", "Largest flow", lambda w: w.flow.max(), ".4g", has_slope=True),
    Signature("Elt", "steps", "Lag: from the step of the largest rain to that of the largest flow",
              lambda w: w.flow.argmax() - w.rain.argmax(), ".0f"),
)


def signatures(wanted: Sequence[Signature], window: Window) -> dict[str, float]:
    """Some signatures of a window of arrays by name."""
    return {one.name: float(one.of(window)) for one in wanted}
