"""Potential evapotranspiration from weather by a formula: what each reads, where, and when [SPEC 3]."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.kernels.groups import PetPlace, PetWeather
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import VARIABLES, variable
from bmi_cdlm.processes.pet import fill_hargreaves, fill_oudin, fill_penman_monteith

Formula = Literal["oudin", "hargreaves", "penman_monteith"]
FILLS: dict[str, Callable] = {
    "oudin": fill_oudin, "hargreaves": fill_hargreaves, "penman_monteith": fill_penman_monteith,
}
RANGE = tuple(v.short for v in VARIABLES if v.facts is not None and v.facts.within != "mean")
"""Lowest and highest temperature."""
MEAN = "air_temperature"
COMBINED = ("vapour_pressure", "air_pressure", "shortwave_radiation", "wind_speed")
"""What Penman-Monteith reads beside temperature."""
HALF_DAY = (0, 0, 0, 0, 0, 0, 0.035, 0.062, 0.079, 0.097, 0.110, 0.117)
HOUR_SHARES = np.array([*HALF_DAY, *reversed(HALF_DAY)])
"""Share of a day's evaporative demand in each of its solar hours, as in airGR."""
EPOCH = datetime.date(1970, 1, 1).toordinal()


def required(formula: Formula, step: int) -> tuple[str, ...]:
    """Return what a formula reads at a model step [s], by short names; hourly ones need no daily range."""
    if formula == "oudin":
        return (MEAN,)
    if formula == "hargreaves":
        return MEAN, *RANGE
    return (MEAN, *COMBINED) if step == HOUR else (MEAN, *RANGE, *COMBINED)


class Formation(NamedTuple):
    """How a quantity is made of single values of inputs, before any mean is taken: mean speeds are not the speed of
    mean components.
    """

    of: tuple[str, ...]
    make: Callable[..., np.ndarray]


def speed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Speed from components."""
    return np.sqrt(x * x + y * y)


def vapour_pressure(humidity: np.ndarray, pressure: np.ndarray) -> np.ndarray:
    """Vapour pressure from specific humidity [1], in the units of the air pressure."""
    return humidity * pressure / (0.622 + 0.378 * humidity)


FORMATIONS = {
    "wind_speed": Formation(("wind_x", "wind_y"), speed),
    "vapour_pressure": Formation(("specific_humidity", "air_pressure"), vapour_pressure),
}


def choose(quantities: Collection[str], given: Collection[str], file: Collection[str] = ()) -> list[str]:
    """Return the inputs to take for what a formula reads: a quantity itself or what it is made of.

    given : inputs that were asked for by name, which decide; file : those that a file has.
    """
    chosen: dict[str, None] = {}
    for name in quantities:
        made_of = FORMATIONS[name].of if name in FORMATIONS else ()
        asked = bool(made_of) and all(one in given for one in made_of)
        itself = not made_of or name in given or (name in file and not asked)
        chosen |= dict.fromkeys((name,) if itself else made_of)
    return list(chosen)


def formed_names(names: Collection[str]) -> list[str]:
    """Return the names of what `form` makes of inputs."""
    made = [name for name, one in FORMATIONS.items() if name not in names and all(n in names for n in one.of)]
    return [n for n in names if variable(n).known.forms not in made] + made


def form(weather: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return the weather with every quantity that single values are to make, in place of those that made it."""
    kept, made = _parts(tuple(weather))
    if not made:
        return weather
    formed = {name: weather[name] for name in kept}
    for name, (of, make) in made.items():
        formed[name] = make(*[weather[n] for n in of])
    return formed


@lru_cache(maxsize=64)
def _parts(names: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Formation]]:
    """Which of some inputs stay, and what is made of the others."""
    formed = formed_names(names)
    return tuple(n for n in formed if n in names), {n: FORMATIONS[n] for n in formed if n not in names}


def make_place(latitude: np.ndarray, longitude: np.ndarray, elevation: np.ndarray) -> PetPlace:
    """Return what the formulas know of cells, from float64[cell]: degrees north, degrees east, m."""
    angle = np.radians(latitude)
    return PetPlace(np.sin(angle), np.cos(angle), np.tan(angle), longitude, elevation)


class Demand:
    """Potential evapotranspiration by a formula, at a place and a model step [s]."""

    def __init__(self, formula: Formula, step: int, place: PetPlace) -> None:
        self._formula, self._step, self._place = formula, step, place
        self._shares = HOUR_SHARES if step == HOUR else np.zeros(0)
        self._fill = compiled(FILLS[formula])

    def evaluate(self, weather: Mapping[str, np.ndarray], start: int, workers: Workers) -> np.ndarray:
        """Return potential evapotranspiration [mm d-1], float64[time, cell].

        Parameters
        ----------
        weather : dict of float64[time, cell]
            What `required` names, or what it is made of (see `form`), in registry units.
        start : int
            Begin of the first step [s since 1970 UTC].
        """
        mean, place = weather[MEAN], self._place
        demand = np.empty(mean.shape)
        sky = self.sky(start, mean.shape[0])
        low, high = RANGE
        arguments: tuple
        if self._formula == "oudin":
            arguments = mean, place, sky, self._shares, demand
        elif self._formula == "hargreaves":
            arguments = weather.get(low, mean), weather.get(high, mean), place, sky, demand
        else:
            names = self._reads(tuple(weather))
            others = PetWeather._make([None if name is None else weather[name] for name in names])
            arguments = (
                weather.get(low, mean), weather.get(high, mean), others, place, sky, self._step == HOUR, demand
            )
        workers.run(self._fill, arguments, workers.tasks(mean.shape[1]), mean.size)
        return demand

    @staticmethod
    @lru_cache(maxsize=64)
    def _reads(names: tuple[str, ...]) -> tuple[str | None, ...]:
        """What stands at each place of `PetWeather`: a quantity, or what it is made of, not both."""
        idle = {n for name, one in FORMATIONS.items() if name in names for n in one.of if n not in COMBINED}
        idle |= {name for name in FORMATIONS if name not in names}
        return tuple(None if name in idle else name for name in PetWeather._fields)

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
