"""The season: day of the year, and its place on the circle."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from bmi_cdlm.names.calendars import MEAN_YEAR, days_since_new_year

YEAR = MEAN_YEAR
"""Days in which the season comes back."""


def day_of_year(starts: np.ndarray) -> np.ndarray:
    """Return the day of the year, with its fraction, at the starts of steps (datetime64): 1 at New Year.

    Of a calendar whose years have 360 days it is that of a year of 365: the sun, and the season, go round in a year.
    """
    return 1.0 + days_since_new_year(starts)


def season(days: np.ndarray) -> np.ndarray:
    """Return sine and cosine of the season, float64[time, 2]; one by one, for the same bits in every block."""
    return np.array([on_circle(day) for day in days.tolist()], np.float64).reshape(-1, 2)


@lru_cache(2**14)
def on_circle(day: float) -> tuple[float, float]:
    """Sine and cosine of the season of a day of the year: the same days come back in every year of every window."""
    angle = 2.0 * math.pi / YEAR * day
    return math.sin(angle), math.cos(angle)
