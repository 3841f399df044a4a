"""What an assimilation is told: its window, what it fits, and how far each of what it weighs may be off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.names.time_steps import HOUR

FITTED = ("stores", "rivers", "rain")
"""What can be fitted."""


class Errors(NamedTuple):
    """Standard deviations, and over what distance and time errors are alike.

    store : of a store, as a share of its capacity, or of what stands for one (`parts.scale_of`); stores : in its own
    units, by name of the store, in place of that; river, rain : of the logarithm of the water in a reach and of the
    factor on rain [1]; flow : of an observation, as a share of it; floor : what is added to that, as a share of the
    mean observed flow of the window at its gauge; time : how long an error of an observation lasts [s]: observations
    within count as one; distance : L of the correlation exp(-d^2 / (2 L^2)) of errors of the state d apart [km], 0 for
    none.
    """

    store: float = 0.05
    stores: Mapping[str, float] = {}
    river: float = 0.3
    rain: float = 0.3
    flow: float = 0.1
    floor: float = 0.5
    time: int = 6 * HOUR
    distance: float = 20.0


class Choice(NamedTuple):
    """An assimilation.

    window : how long the observations go back from `at` [s]; at : end of the window, where a forecast starts, None for
    the end of the run; fit : of `FITTED`; stores : names of those that are fitted, None for all that hold water; gauges
    : ids of those that are used, None for all; members : perturbed fits, 0 for the best estimate alone; seed : of their
    perturbations; iterations : at most so many.
    """

    window: int
    at: np.datetime64 | None = None
    fit: tuple[str, ...] = ("stores",)
    stores: tuple[str, ...] | None = None
    gauges: tuple[str, ...] | None = None
    errors: Errors = Errors()
    members: int = 0
    seed: int = 1
    iterations: int = 100
