"""Inputs of a model made of sources: by themselves, or formed of several in every interval before any mean is taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from bmi_cdlm.model.pet import MEAN, RANGE
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import SOURCES, variable
from bmi_cdlm.prepare.weather.inputs import CellInput, Target
from bmi_cdlm.prepare.weather.pet import WIND_HEIGHT, Site, elevation_of, pressure_at, saturation, wind_factor
from bmi_cdlm.prepare.weather.weather_config import ForcingSource
from bmi_cdlm.processes.pet import FORMATIONS

LOW, HIGH = (variable(name).key for name in RANGE)
PRESSURE = variable("air_pressure").key
COMPONENTS = tuple(variable(name).key for name in FORMATIONS["wind_speed"].of)
HUMIDITY = ("vapour_pressure", *(key for key, v in SOURCES.items() if v.known.forms == "vapour_pressure"))
HUMIDITY = tuple(
    sorted(HUMIDITY, key=("vapour_pressure", "dewpoint_temperature", "specific_humidity", "relative_humidity").index)
)
"""Sources of humidity, the best first."""
MOST_OF_FRACTION, LEAST = 1.1, 24
"""What relative humidity as a fraction does not go above [1], and how many values tell it from dry air in per cent."""


class Quantity(NamedTuple):
    """What is asked for: an input by its name in the registry, at the starts of steps and their length [s]."""

    name: str
    starts: np.ndarray
    step: int


class Given(NamedTuple):
    """What there is to make it of: sources by name, the target, where paths begin, the site, height of the wind [m]."""

    sources: Mapping[str, ForcingSource]
    target: Target
    folder: Path
    site: Site
    wind_height: float = WIND_HEIGHT


class Provider(Protocol):
    """An input on cells, read by steps; sources : what is read for it, by name."""

    where: str
    starts: np.ndarray
    missing: np.ndarray
    sources: list[CellInput]

    @property
    def n_used(self) -> int:
        """Values held per step, for the estimate of memory."""
        ...

    def read(self, first: int, stop: int) -> np.ndarray:
        """Values of steps, float64[time, cell] in registry units."""
        ...

    def fingerprint(self) -> list[str]:
        """What tells this input from another."""
        ...


def keys_of(name: str, given: Collection[str], step: int) -> tuple[str, ...]:
    """Return the names of the sources that an input is made of at steps [s], chosen among those given.

    The first choice where nothing suits: whoever opens it says that it is absent.
    """
    if name == MEAN:
        return (LOW, HIGH) if MEAN not in given and step == DAY and LOW in given and HIGH in given else (MEAN,)
    if name == "wind_speed":
        return COMPONENTS if name not in given and any(one in given for one in COMPONENTS) else (name,)
    if name == "air_pressure":
        return (PRESSURE,) if PRESSURE in given else ()
    if name == "vapour_pressure":
        best = next((key for key in HUMIDITY if key in given), HUMIDITY[0])
        pressure = (PRESSURE,) if best == "specific_humidity" and PRESSURE in given else ()
        warmth = _warmth_of(given, step) if best == "relative_humidity" else ()
        return (best, *pressure, *warmth)
    return (variable(name).key,)


def _warmth_of(given: Collection[str], step: int) -> tuple[str, ...]:
    """Sources of the temperature that saturation is taken at."""
    return (LOW, HIGH) if step == DAY and LOW in given and HIGH in given else (MEAN,)


def check_given(names: Collection[str], given: Collection[str], step: int, who: str) -> None:
    """Raise ForcingError where sources of inputs are absent."""
    absent = [key for name in names for key in keys_of(name, given, step) if key not in given]
    if absent:
        raise ForcingError(
            f"{who} needs {', '.join(dict.fromkeys(absent))}, the forcing has {', '.join(given) or 'nothing'}. "
            "Expected a source for each. Name one under `forcing`, or choose another method."
        )


def open_quantity(quantity: Quantity, given: Given) -> Provider:
    """Open an input.

    Raises
    ------
    ForcingError
        Whatever does not fit in its sources.
    """
    name, starts, step = quantity
    keys = keys_of(name, given.sources, step)

    def source(key: str) -> CellInput:
        return CellInput(key, given.sources[key], given.target, given.folder, starts, step)

    if name == "air_pressure" and not keys:
        return Constant(pressure_at(elevation_of(given.site, "air pressure without a source")), starts)
    if name == MEAN and keys != (MEAN,):
        return HalfSum(*(source(key) for key in keys))
    if name == "wind_speed":
        factor = wind_factor(given.wind_height)
        if keys == COMPONENTS:
            make = FORMATIONS[name].make
            return Formed([source(key) for key in keys], lambda x, y: make(x, y) * factor)
        if factor == 1.0:
            return source(name)
        return Formed([source(name)], lambda speed: speed * factor)
    if name == "vapour_pressure" and keys != (name,):
        return _vapour(keys, source, given, step)
    return source(keys[0])


def _vapour(keys: tuple[str, ...], source: Callable[[str], CellInput], given: Given, step: int) -> Provider:
    """Vapour pressure of humidity in one form or another [FAO-56 eq. 14, 19; SPEC 3.2]."""
    first = source(keys[0])
    if keys[0] == "dewpoint_temperature":
        return Formed([first], saturation)
    if keys[0] == "specific_humidity":
        make = FORMATIONS["vapour_pressure"].make
        if len(keys) == 2:
            return Formed([first, source(keys[1])], make)
        pressure = pressure_at(elevation_of(given.site, "air pressure without a source"))
        return Formed([first], lambda humidity: make(humidity, pressure), on_cells=True)
    where = first.where
    if step == DAY and MEAN in given.sources:
        warmth = source(MEAN)
        if warmth.step < DAY:  # saturation of every interval
            return Formed([first, warmth], lambda share, t: _share(share, where) * saturation(t))
    return Formed(
        [first, *(source(key) for key in keys[1:])],
        lambda share, *t: _share(share, where) * sum(saturation(one) for one in t) / len(t),
    )


def _share(percent: np.ndarray, where: str) -> np.ndarray:
    """Relative humidity [1] of one in per cent, which over a block of time is somewhere above that of a fraction."""
    valid = percent[~np.isnan(percent)]
    if valid.size >= LEAST and valid.max() <= MOST_OF_FRACTION:
        raise ForcingError(
            f"{where}: 'relative_humidity' is at most {valid.max():.3g} %, expected up to 100: it is a fraction. Set "
            "forcing.relative_humidity.units: '1'."
        )
    return percent / 100.0


class Constant:
    """An input that does not change in time, float64[cell]."""

    def __init__(self, values: np.ndarray, starts: np.ndarray) -> None:
        self.where, self.starts, self.n_used = "elevation", starts, 0
        self.missing = np.zeros(starts.size, bool)
        self.sources: list[CellInput] = []
        self._values = values

    def read(self, first: int, stop: int) -> np.ndarray:
        """The same values for all steps, float64[time, cell]."""
        return np.tile(self._values, (stop - first, 1))

    def fingerprint(self) -> list[str]:
        """Nothing that the elevation does not tell."""
        return []


class HalfSum:
    """Mean temperature of a day from its extremes, where no mean is given."""

    def __init__(self, low: CellInput, high: CellInput) -> None:
        self.where, self.starts = f"{low.where} and {high.where}", low.starts
        self.missing: np.ndarray = low.missing | high.missing
        self.n_used = low.n_used + high.n_used
        self.sources = [low, high]

    def read(self, first: int, stop: int) -> np.ndarray:
        """Half the sum of the extremes, float64[time, cell] [degC]."""
        low, high = (one.read(first, stop) for one in self.sources)
        return 0.5 * (low + high)

    def fingerprint(self) -> list[str]:
        """What tells this input from another."""
        return [text for one in self.sources for text in one.fingerprint()]


class Formed:
    """A quantity that a function makes of the single values of sources: in every interval, then averaged.

    On the pixels or places of the sources where they share them, else on the cells.
    """

    def __init__(
        self, parts: list[CellInput], function: Callable[..., np.ndarray], *, on_cells: bool = False
    ) -> None:
        first = parts[0]
        self.where, self.starts = " and ".join(dict.fromkeys(one.where for one in parts)), first.starts
        self.sources, self._function = parts, function
        self.missing: np.ndarray = np.any([one.missing for one in parts], axis=0)
        self._step = min(one.step for one in parts)
        for one in parts:
            if one.step % self._step:
                raise ForcingError(
                    f"{one.where}: '{one.name}' has intervals of {one.step} s and another part of the same quantity "
                    f"{self._step} s, expected whole multiples. Use data of the same intervals."
                )
        self._on_cells = on_cells or not all(first.shares_places_with(one) for one in parts[1:])
        per_step = first.ratio * (first.step // self._step)
        self.n_used = sum(one.n_used for one in parts) + (per_step * first.n_cells if self._on_cells else 0)

    def read(self, first: int, stop: int) -> np.ndarray:
        """Means over steps of what the function makes, float64[time, cell]."""
        if not self._on_cells:
            made = self._function(*(one.intervals(first, stop) for one in self.sources))
            return self.sources[0].to_steps(made, first, stop, "mean")
        made = self._function(*(
            np.repeat(one.on_cells(one.intervals(first, stop)), one.step // self._step, axis=0)
            for one in self.sources
        ))
        return made.reshape(stop - first, -1, made.shape[1]).mean(axis=1)

    def fingerprint(self) -> list[str]:
        """What tells this input from another."""
        return [text for one in self.sources for text in one.fingerprint()]
