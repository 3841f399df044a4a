"""The registry of parameters: symbol, units, bounds, scale, default and source of each.

Configuration, parameter files, generators, calibration and documentation are derived from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ParameterError, UnknownNameError, nearest
from bmi_cdlm.names.time_steps import DAY

Grid = Literal["cell", "reach"]
Part = Literal["core", "snow", "hysteresis"]


class Range(NamedTuple):
    """Range in which a parameter is learned or calibrated, and its default, at one model step."""

    low: float
    high: float
    default: float


class Parameter(NamedTuple):
    """One parameter.

    legal: closed interval outside which the equations have no meaning; daily, hourly: learning range and
    default at that model step; scale: how a generator moves between the bounds; part: the option that
    reads it.
    """

    name: str
    symbol: str
    units: str
    grid: Grid
    legal: tuple[float, float]
    daily: Range
    hourly: Range
    scale: Literal["linear", "log"]
    part: Part
    meaning: str
    source: str

    def range_at(self, step_seconds: int) -> Range:
        """Return bounds and default at a model step of 86400 or 3600 s."""
        return self.daily if step_seconds == DAY else self.hourly


INFINITE = float("inf")

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "production_capacity", "X1", "mm", "cell", (0.01, INFINITE), Range(10, 3000, 350), Range(10, 3000, 350),
        "log", "core", "Capacity of the production store", "Perrin et al. 2003",
    ),
    Parameter(
        "exchange_coefficient", "X2", "mm per step", "cell", (-INFINITE, INFINITE), Range(-10, 5, 0),
        Range(-1, 0.5, 0), "linear", "core", "Groundwater exchange, positive into the cell",
        "Perrin et al. 2003",
    ),
    Parameter(
        "routing_capacity", "X3", "mm", "cell", (0.01, INFINITE), Range(1, 1000, 90), Range(1, 1000, 90),
        "log", "core", "One-step-ahead capacity of the routing store", "Perrin et al. 2003",
    ),
    Parameter(
        "unit_hydrograph_base", "X4", "steps", "cell", (0.0, 480.0), Range(0.5, 5, 1.7), Range(0.5, 120, 12),
        "log", "core", "Time base of the first unit hydrograph; the second has twice as much",
        "Perrin et al. 2003",
    ),
    Parameter(
        "thermal_weighting", "CTG", "1", "cell", (0.0, 1.0), Range(0, 1, 0.25), Range(0.9, 1, 0.94),
        "linear", "snow", "Weight of the snowpack's past thermal state", "Valery et al. 2014",
    ),
    Parameter(
        "melt_factor", "Kf", "mm degC-1 per step", "cell", (0.0, INFINITE), Range(0.5, 15, 4),
        Range(0.02, 0.6, 0.17), "log", "snow", "Degree-day melt factor", "Valery et al. 2014",
    ),
    Parameter(
        "accumulation_threshold", "Ga", "mm", "cell", (1e-6, INFINITE), Range(1, 100, 30), Range(1, 100, 30),
        "log", "hysteresis", "Snowfall that restores full snow cover", "Riboust et al. 2019",
    ),
    Parameter(
        "cover_ratio_threshold", "Rv", "1", "cell", (1e-6, 1.0), Range(0.05, 1, 0.5), Range(0.05, 1, 0.5),
        "linear", "hysteresis", "Share of the mean annual snowfall that is full snow cover",
        "Riboust et al. 2019",
    ),
    Parameter(
        "celerity", "c", "m s-1", "reach", (1e-6, INFINITE), Range(0.1, 5, 1), Range(0.1, 5, 1),
        "log", "core", "Speed of the flood wave; travel time K = length / celerity", "Cunge 1969",
    ),
    Parameter(
        "weighting", "x", "1", "reach", (0.0, 0.5), Range(0, 0.45, 0.2), Range(0, 0.45, 0.2),
        "linear", "core", "Muskingum weighting between inflow and outflow", "McCarthy 1938",
    ),
)

BY_NAME: dict[str, Parameter] = {p.name: p for p in PARAMETERS}
LONGEST_TRAVEL_TIME = 1e12
TRAVEL_TIME = "travel_time"
"""Name of the optional variable K [s] on reaches, which takes the place of length / celerity."""


def parameter(name: str) -> Parameter:
    """Return the parameter of that name; UnknownNameError names the nearest."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise UnknownNameError(
            f"There is no parameter '{name}'.{nearest(name, BY_NAME)} Known: {', '.join(BY_NAME)}."
        ) from None


def defaults(step_seconds: int, n_cells: int, n_reaches: int) -> dict[str, np.ndarray]:
    """Return every parameter at its default, as float64 arrays on its grid."""
    size = {"cell": n_cells, "reach": n_reaches}
    return {p.name: np.full(size[p.grid], p.range_at(step_seconds).default, np.float64) for p in PARAMETERS}


def check(values: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse values that are not finite or outside the legal range.

    Raises
    ------
    ParameterError
        Naming the parameter, the place, the value and the range.
    """
    for name, value in values.items():
        low, high = (0.0, LONGEST_TRAVEL_TIME) if name == TRAVEL_TIME else parameter(name).legal
        bad = np.flatnonzero(~(np.isfinite(value) & (value >= low) & (value <= high)))
        if bad.size:
            i = int(bad[0])
            raise ParameterError(
                f"{where}: '{name}' is {value[i]} at index {i} ({bad.size} of {value.size} values are bad), "
                f"expected a number from {low:g} to {high:g}. Correct the parameter file."
            )
