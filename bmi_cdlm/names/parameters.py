"""The registry of parameters: symbol, units, bounds, scale, default and source of each.

Configuration, parameter files, generators, calibration and documentation are derived from this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ParameterError, UnknownNameError, nearest
from bmi_cdlm.names.time_steps import DAY

Grid = Literal["cell", "reach"]


class Range(NamedTuple):
    """Range in which a parameter is learned or calibrated, and its default, at one model step."""

    low: float
    high: float
    default: float


class Parameter(NamedTuple):
    """One parameter.

    symbol : in the literature, and in the steps of its process; legal : closed interval outside which the equations
    have no meaning; daily, hourly : learning range and default at that model step; scale : how a generator moves
    between the bounds; grid : where it is given; may_vary : it may come as [time, cell]; optional : without it, the
    equations do without; of_domain : where nothing gives it, the attribute of cells of that name does, if the domain
    has it.
    """

    name: str
    symbol: str
    units: str
    legal: tuple[float, float]
    daily: Range
    hourly: Range
    scale: Literal["linear", "log"]
    meaning: str
    source: str
    grid: Grid = "cell"
    may_vary: bool = False
    optional: bool = False
    of_domain: bool = False

    def range_at(self, step_seconds: int) -> Range:
        """Return bounds and default at a model step of 86400 or 3600 s."""
        return self.daily if step_seconds == DAY else self.hourly


def per_day(
    name: str, symbol: str, units: str, legal: tuple[float, float], range: Range, scale: Literal["linear", "log"],
    meaning: str, source: str, may_vary: bool = False,
) -> Parameter:
    """A parameter of cells whose range is the same at every model step: a rate per day, a depth, a share."""
    return Parameter(name, symbol, units, legal, range, range, scale, meaning, source, may_vary=may_vary)


INFINITE = float("inf")
LARGEST = float(np.finfo(np.float64).max)

BY_NAME: dict[str, Parameter] = {}
"""Every parameter of the processes that are known, by name; `registry.declare` fills it."""
STARTS: dict[str, Parameter] = {}
"""By name, shares with which stores of the processes that are known start a run; `registry.declare` fills it. No
process reads them at a step."""
LONGEST_TRAVEL_TIME = 1e12
TRAVEL_TIME = "travel_time"
"""Name of the optional variable K [s] on reaches, which takes the place of length / celerity."""


COMPONENT_WEIGHT = Parameter(
    "component_weight", "w", "1", (0.0, 1.0), Range(0, 1, 1), Range(0, 1, 1), "linear",
    "Weight of each parameter set of the runoff process in its cell; those of a cell sum to one", "", optional=True,
)
"""Of no process: with several parameter sets per cell (components), whichever process of runoff it is. Without it each
weighs the same. [component, cell]."""
WEIGHT = COMPONENT_WEIGHT.name


def parameter(name: str) -> Parameter:
    """Return the parameter of that name; UnknownNameError names the nearest."""
    if name == WEIGHT:
        return COMPONENT_WEIGHT
    if name in STARTS:
        return STARTS[name]
    try:
        return BY_NAME[name]
    except KeyError:
        raise UnknownNameError(
            f"There is no parameter '{name}'.{nearest(name, BY_NAME)} Known: {', '.join(BY_NAME)}."
        ) from None


def grid_of(name: str) -> Grid:
    """The grid of a parameter, or of what may be given in place of one."""
    return "reach" if name == TRAVEL_TIME else parameter(name).grid


def defaults(step_seconds: int, n_cells: int, n_reaches: int) -> dict[str, np.ndarray]:
    """Return every parameter at its default, as float64 arrays on its grid."""
    size = {"cell": n_cells, "reach": n_reaches}
    return {p.name: np.full(size[p.grid], p.range_at(step_seconds).default, np.float64) for p in BY_NAME.values()}


def check_series(name: str, values: np.ndarray, cell_id: Sequence[str], where: str) -> None:
    """Refuse values of a parameter that varies in time, float64[time, cell] or [component, time, cell], out of range.

    Two passes over the values and no array of their size, where all are legal.

    Raises
    ------
    ParameterError
        Naming the parameter, the step, the cell, the value and the range.
    """
    low, high = parameter(name).legal
    if values.size == 0 or (values.min() >= low and values.max() <= min(high, LARGEST)):  # NaN is neither
        return
    bad = ~(np.isfinite(values) & (values >= low) & (values <= high))
    at = tuple(int(k) for k in np.unravel_index(bad.argmax(), bad.shape))
    of = f" of component {at[0]} (from 0)" if values.ndim == 3 else ""
    t, i = at[-2:]
    raise ParameterError(
        f"{where}: '{name}'{of} is {values[at]} in step {t} (from 0) at cell {cell_id[i]} ({np.count_nonzero(bad)} of "
        f"{bad.size} values are bad), expected a number from {low:g} to {high:g}. Correct the series."
    )


def check(values: Mapping[str, np.ndarray], where: str, remedy: str = "Correct the parameter file.") -> None:
    """Refuse values that are not finite or outside the legal range.

    where, remedy : what the values stand in and what to do, for the message.

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
                f"{where}: '{name}' is {value.flat[i]} at index {i} ({bad.size} of {value.size} values are bad), "
                f"expected a number from {low:g} to {high:g}. {remedy}"
            )
