"""Potential evapotranspiration from weather by a formula: what each reads, where, and when [SPEC 3]."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

import numpy as np

from bmi_cdlm.kernels.groups import PetNetwork, PetPlace
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.demand import arrays_of, demand_loop, plan_of
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.declaration import Formation, PetFormula
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import VARIABLES, variable
from bmi_cdlm.processes.pet import FORMATIONS
from bmi_cdlm.processes.pet_network import fill_factor, fill_factor_shallow

RANGE = tuple(v.short for v in VARIABLES if v.facts is not None and v.facts.within != "mean")
"""Lowest and highest temperature."""
MEAN = "air_temperature"
HALF_DAY = (0, 0, 0, 0, 0, 0, 0.035, 0.062, 0.079, 0.097, 0.110, 0.117)
HOUR_SHARES = np.array([*HALF_DAY, *reversed(HALF_DAY)])
"""Share of a day's evaporative demand in each of its solar hours, as in airGR."""


def factor_loop(network: PetNetwork) -> Callable:
    """The loop that fills the factor of a network; of one hidden layer that for which least is compiled."""
    return fill_factor if network.widths.size > 1 else fill_factor_shallow


def required(formula: PetFormula, step: int) -> tuple[str, ...]:
    """Return what a formula reads at a model step [s], by short names in the order of the registry.

    The mean temperature comes with the lowest and highest: a caller may have nothing else, and parts of a step make
    the range then.
    """
    read = {*plan_of(formula, step).quantities}
    if not read.isdisjoint(RANGE):
        read.add(MEAN)
    return tuple(v.short for v in VARIABLES if v.short in read)


def takes_elevation(formula: PetFormula, step: int) -> bool:
    """Whether a formula asks for the elevation of cells at a model step [s]."""
    return "elevation" in plan_of(formula, step).takes


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
    for name, one in made.items():
        formed[name] = one.make(*[weather[n] for n in one.of])
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

    def __init__(self, formula: PetFormula, step: int, place: PetPlace) -> None:
        self._formula, self._step = formula, step
        self._plan = plan_of(formula, step)
        self._facts = tuple(getattr(place, name) for name in self._plan.places)
        self._loops: dict[tuple[str, ...], tuple[tuple[str, ...], Callable]] = {}

    def evaluate(self, weather: Mapping[str, np.ndarray], start: int, workers: Workers) -> np.ndarray:
        """Return potential evapotranspiration [mm d-1], float64[time, cell].

        Parameters
        ----------
        weather : dict of float64[time, cell]
            What `required` names, or what it is made of (see `form`), in registry units.
        start : int
            Begin of the first step [s since 1970 UTC, as `names.calendars` counts them].
        """
        given = tuple(weather)
        found = self._loops.get(given)
        if found is None:
            found = self._loops[given] = self._loop(given)
        names, fill = found
        first = weather[names[0]]
        demand = np.empty(first.shape)
        sky = self.sky(start, first.shape[0])
        arguments = (*[weather[name] for name in names], *self._facts, sky, HOUR_SHARES, demand)
        workers.run(fill, arguments, workers.tasks(first.shape[1]), first.size)
        return demand

    def _loop(self, given: tuple[str, ...]) -> tuple[tuple[str, ...], Callable]:
        """Names of the arrays to read, and the loop over them: a quantity itself where it is given, or its makings."""
        formed = tuple(
            (name, FORMATIONS[name]) for name in self._plan.quantities if name not in given and name in FORMATIONS
        )
        return arrays_of(self._plan, dict(formed)), compiled(demand_loop(self._plan, formed))

    def sky(self, start: int, count: int) -> np.ndarray:
        """Where the sun stands in steps from `start` [s since 1970 UTC] on, float64[time, 5].

        A row: sine, cosine and tangent of the declination, the term of the distance, and the solar hour at Greenwich in
        the middle of an hourly step.
        """
        rows = np.empty((count, 5))
        for t in range(count):
            day, second = divmod(start + t * self._step, DAY)
            row, ahead = _sun(self._formula, day)
            rows[t] = row
            rows[t, 4] = second / HOUR + 0.5 + ahead
        return rows


@lru_cache(maxsize=512)
def _sun(formula: PetFormula, day: int) -> tuple[np.ndarray, float]:
    """A row of `Demand.sky` but for the hour, and what solar time is ahead of mean time [h].

    day: number of days since 1970.
    """
    declination, distance, ahead = formula.sun(float(day_of_year(np.array(day * DAY, "datetime64[s]"))))
    return np.array([math.sin(declination), math.cos(declination), math.tan(declination), distance, 0.0]), ahead
