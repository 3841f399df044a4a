"""Potential evapotranspiration from weather by a formula: what each reads, where, and when [SPEC 3]."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import numpy as np

from bmi_cdlm.kernels.groups import PetPlace, PetWeather
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.pet import fill_hargreaves, fill_oudin, fill_penman_monteith

Formula = Literal["oudin", "hargreaves", "penman_monteith"]
RANGE = ("minimum_air_temperature", "maximum_air_temperature")
MEAN = "air_temperature"
HALF_DAY = (0, 0, 0, 0, 0, 0, 0.035, 0.062, 0.079, 0.097, 0.110, 0.117)
HOUR_SHARES = np.array([*HALF_DAY, *reversed(HALF_DAY)])
"""Share of a day's evaporative demand in each of its solar hours, as in airGR."""
EPOCH = datetime.date(1970, 1, 1).toordinal()


def required(formula: Formula, step: int) -> tuple[str, ...]:
    """Return the short names of the inputs of a formula at a model step [s]; hourly ones need no daily range."""
    if formula == "oudin":
        return (MEAN,)
    if formula == "hargreaves":
        return MEAN, *RANGE
    return (MEAN, *PetWeather._fields) if step == HOUR else (MEAN, *RANGE, *PetWeather._fields)


def make_place(latitude: np.ndarray, longitude: np.ndarray, elevation: np.ndarray) -> PetPlace:
    """Return what the formulas know of cells, from float64[cell]: degrees north, degrees east, m."""
    angle = np.radians(latitude)
    return PetPlace(np.sin(angle), np.cos(angle), np.tan(angle), longitude, elevation)


class Demand:
    """Potential evapotranspiration by a formula, at a place and a model step [s]."""

    def __init__(self, formula: Formula, step: int, place: PetPlace) -> None:
        self._formula, self._step, self._place = formula, step, place
        self._shares = HOUR_SHARES if step == HOUR else np.zeros(0)

    def evaluate(self, weather: Mapping[str, np.ndarray], start: int, workers: Workers) -> np.ndarray:
        """Return potential evapotranspiration [mm d-1], float64[time, cell].

        Parameters
        ----------
        weather : dict of float64[time, cell]
            The inputs of `required`, in registry units.
        start : int
            Begin of the first step [s since 1970 UTC].
        """
        mean, place = weather[MEAN], self._place
        demand = np.empty(mean.shape)
        sky = self.sky(start, mean.shape[0])
        lowest, highest = (weather.get(name, mean) for name in RANGE)
        arguments: tuple
        if self._formula == "oudin":
            function, arguments = compiled(fill_oudin), (mean, place, sky, self._shares, demand)
        elif self._formula == "hargreaves":
            function, arguments = compiled(fill_hargreaves), (lowest, highest, place, sky, demand)
        else:
            others = PetWeather(*(weather[name] for name in PetWeather._fields))
            function = compiled(fill_penman_monteith)
            arguments = lowest, highest, others, place, sky, self._step == HOUR, demand
        workers.run(function, arguments, workers.tasks(mean.shape[1]), mean.size)
        return demand

    def sky(self, start: int, count: int) -> np.ndarray:
        """Where the sun stands in steps from `start` [s since 1970 UTC] on, float64[time, 5]; see `processes.pet`."""
        rows = np.empty((count, 5))
        for t in range(count):
            day, second = divmod(start + t * self._step, DAY)
            sun = _sun(self._formula == "oudin", day)
            rows[t] = *sun[:4], second / HOUR + 0.5 + (0.0 if self._formula == "oudin" else sun[4])
        return rows


@lru_cache(maxsize=512)
def _sun(as_oudin: bool, day: int) -> tuple[float, float, float, float, float]:
    """Sine, cosine, tangent of the declination, distance term, and solar time ahead of mean time [h] (FAO-56, eq. 32).

    day: number of days since 1970.
    """
    j = float(datetime.date.fromordinal(EPOCH + day).timetuple().tm_yday)
    if as_oudin:
        declination, distance = 0.4093 * math.sin(j / 58.1 - 1.405), 1.0 + math.cos(j / 58.1) / 30.0
    else:
        declination = 0.409 * math.sin(2.0 * math.pi * j / 365.0 - 1.39)
        distance = 1.0 + 0.033 * math.cos(2.0 * math.pi * j / 365.0)
    b = 2.0 * math.pi * (j - 81.0) / 364.0
    ahead = 0.1645 * math.sin(2.0 * b) - 0.1255 * math.cos(b) - 0.025 * math.sin(b)
    return math.sin(declination), math.cos(declination), math.tan(declination), distance, ahead
