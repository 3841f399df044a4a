"""Yearly rain and demand in words: in a wrong unit they are many times too much or too little."""

from __future__ import annotations

import numpy as np

RAIN, PET = "precipitation", "potential_evapotranspiration"
WETTEST = 6000.0  # mm a year, of a whole basin; a few places on coasts and below the Himalaya have more
DRIEST = 10.0  # mm a year; the driest deserts have no basins, and only a polar night has less demand
LONG_ENOUGH = 300.0  # days: a shorter period may lie in a dry season


def told(name: str, yearly: np.ndarray) -> str:
    """Return what falls or is asked for in a year, float64[cell] [mm a year], as mean and range."""
    return f"{name} {yearly.mean():.4g} mm a year (cells {yearly.min():.4g} to {yearly.max():.4g})"


def doubt(name: str, yearly: np.ndarray, days: float, hint: str = "") -> str:
    """Return what is odd about `told`, or nothing. days : length of the period; hint : what else may be wrong."""
    if name == RAIN and yearly.mean() > WETTEST:
        return f"more than {WETTEST:g}: check units{hint}"
    if name in (RAIN, PET) and yearly.mean() < DRIEST and days >= LONG_ENOUGH:
        return f"less than {DRIEST:g}: check units{hint}, such as m or mm s-1 taken for mm d-1"
    return ""
