"""The season: day of the year, and its place on the circle."""

from __future__ import annotations

import math

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
    angles = [2.0 * math.pi / YEAR * float(day) for day in days]
    return np.array([[math.sin(a), math.cos(a)] for a in angles], np.float64).reshape(-1, 2)
