"""Potential evapotranspiration of days from weather, and its share in each hour of the day.

The formulas are those of a run (`model.pet`); pyet gives Priestley and Taylor, with its own terms of radiation. Arrays
are float64[day, cell] in the units of the registry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.pet import HOUR_SHARES, MEAN, RANGE, Demand, make_place, required, takes_elevation
from bmi_cdlm.names.calendars import STANDARD, calendar_of, date_text
from bmi_cdlm.names.declaration import PetFormula
from bmi_cdlm.names.errors import ConfigError, ForcingError
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.processes.catalogue import FORMULAS, GIVEN, find_formula
from bmi_cdlm.processes.penman_monteith import PENMAN_MONTEITH

BY_PYET = "priestley_taylor"
"""The method that no run has as a formula."""
OTHER_NAMES = {"fao56": PENMAN_MONTEITH.name}
METHODS = (*(one.name for one in FORMULAS if DAY in one.steps), BY_PYET, *OTHER_NAMES)
"""Methods that are ours; formulas of other packages come in by their names."""
PRIESTLEY_TAYLOR = 1.26
INVERSE_LATENT_HEAT = 0.408  # kg MJ-1, at 2.45 MJ kg-1 [FAO-56 eq. 20]
MEGAJOULES = 0.0864  # MJ m-2 d-1 per W m-2
NO_LEAP_YEAR = np.datetime64("2001-01-01", "D")
WIND_HEIGHT = 10.0  # m, of the wind of the registry


class Site(NamedTuple):
    """Where it is. latitude, longitude : float64[cell] [degrees]; elevation : float64[cell] [m], or None."""

    latitude: np.ndarray
    longitude: np.ndarray
    elevation: np.ndarray | None = None


def formula_of(method: str | None) -> PetFormula | None:
    """Return the formula of a run that a method is; None where demand is given, not made, or made by pyet.

    Raises
    ------
    ConfigError
        There is no such method, or it knows no days.
    """
    if method is None or method in (GIVEN, BY_PYET):
        return None
    formula = find_formula(OTHER_NAMES.get(method, method))
    if DAY not in formula.steps:
        raise ConfigError(
            f"pet: method {method} has no daily form, and demand is made of days. Expected one of {', '.join(METHODS)}."
        )
    return formula


def reads(method: str) -> tuple[str, ...]:
    """Return what a method reads of a day, by names of the registry; the mean only where the range does not do."""
    formula = formula_of(method)
    if formula is None:
        return (*RANGE, "vapour_pressure", "air_pressure", "shortwave_radiation")
    names = required(formula, DAY)
    return tuple(name for name in names if name != MEAN) or names


def compute(method: str, start: int, weather: Mapping[str, np.ndarray], site: Site) -> np.ndarray:
    """Potential evapotranspiration of days [mm d-1], float64[day, cell], never negative; NaN where an input is.

    Parameters
    ----------
    method : str
        Another than `given`.
    start : int
        Begin of the first day [s since 1970 UTC].
    weather : mapping of str to float64[day, cell]
        What `reads` names, in the units of the registry.
    site : Site

    Raises
    ------
    ForcingError
        A minimum temperature above the maximum, or no elevation where the method takes it.
    """
    _check_range(start, weather)
    if RANGE[0] in weather:  # the middle of the day's range, as FAO-56 says
        weather = {**weather, MEAN: 0.5 * (weather[RANGE[0]] + weather[RANGE[1]])}
    formula = formula_of(method)
    if formula is None:
        return _priestley_taylor(start, weather, site)
    elevation = np.zeros(site.latitude.size)
    if takes_elevation(formula, DAY):
        elevation = elevation_of(site, f"pet: method {method}")
    demand = Demand(formula, DAY, make_place(site.latitude, site.longitude, elevation)).evaluate(
        {name: np.ascontiguousarray(values, np.float64) for name, values in weather.items()}, start, Workers(1)
    )
    for values in weather.values():  # the kernels' limits at 0 would turn what is missing into no demand
        demand[np.isnan(values)] = np.nan
    return demand


def elevation_of(site: Site, what: str) -> np.ndarray:
    """Elevation of the cells [m], which something asks for; ForcingError where there is none."""
    if site.elevation is None:
        raise ForcingError(
            f"{what} needs the elevation of cells, there is none. Expected the attribute `elevation`. "
            "Name a raster under attributes.elevation, or set pet.elevation."
        )
    return np.broadcast_to(np.asarray(site.elevation, np.float64), site.latitude.shape).copy()


def pressure_at(elevation: np.ndarray) -> np.ndarray:
    """Air pressure [Pa] at an elevation [m] (FAO-56, eq. 7)."""
    return 101_300.0 * ((293.0 - 0.0065 * elevation) / 293.0) ** 5.26


def saturation(temperature: np.ndarray) -> np.ndarray:
    """Saturation vapour pressure [Pa] at a temperature [degC] (FAO-56, eq. 11)."""
    return 610.8 * np.exp(17.27 * temperature / (temperature + 237.3))


def wind_factor(height: float) -> float:
    """Factor from the wind at a height [m] to that at 10 m, over short grass (FAO-56, eq. 47)."""
    def to_two(z: float) -> float:
        return 1.0 if z == 2.0 else 4.87 / math.log(67.8 * z - 5.42)

    return to_two(height) / to_two(WIND_HEIGHT)


def spread_over_day(
    daily: np.ndarray, starts: np.ndarray, step: int, longitude: np.ndarray, noon: int | None = None
) -> np.ndarray:
    """Return the rates [mm d-1] of steps from the rates of the UTC days that they lie in, float64[time, cell].

    The shares are those of a run (`model.pet`): of the solar hours of every cell, or of the hours about a `noon` [h] of
    UTC. They are divided by their sum, so that a day keeps its total.

    daily : float64[time, cell], of each step's day; longitude : float64[cell] [degrees east]; `step` [s] is a whole
    number of hours that divides a day.
    """
    if step % HOUR or DAY % step:
        raise ForcingError(
            f"potential evapotranspiration: a day cannot be spread over steps of {step} s, expected whole "
            "hours that divide a day. Choose another step."
        )
    shares = HOUR_SHARES / math.fsum(HOUR_SHARES)
    ahead = longitude / 15.0 if noon is None else np.full(longitude.shape, 12.0 - noon)
    into_day = (starts - starts.astype("datetime64[D]")).astype("timedelta64[s]").astype(np.int64)
    rate = np.zeros((starts.size, longitude.size))
    for part in range(step // HOUR):
        hour = (into_day / HOUR + part + 0.5)[:, None] + ahead
        rate += shares[np.floor(hour - 24.0 * np.floor(hour / 24.0)).astype(np.int64) % 24]
    return daily * rate * (DAY / step)


def _priestley_taylor(start: int, weather: Mapping[str, np.ndarray], site: Site) -> np.ndarray:
    """Priestley and Taylor (1972) with the net radiation of FAO-56, by pyet."""
    pyet, xarray, pandas = load("pyet"), load("xarray"), load("pandas")
    elevation = elevation_of(site, f"pet: method {BY_PYET}")
    mean = weather[MEAN]
    starts = np.datetime64(start, "s") + np.arange(mean.shape[0]) * np.timedelta64(DAY, "s")
    if calendar_of(starts) != STANDARD:  # pyet takes the day of the year of a real date: that of a year of 365 days
        starts = NO_LEAP_YEAR + np.floor(day_of_year(starts) - 1.0).astype("timedelta64[D]")
    days = pandas.DatetimeIndex(starts.astype("datetime64[ns]")).normalize()

    def field(values: np.ndarray) -> Any:
        return xarray.DataArray(np.broadcast_to(values, mean.shape), dims=("time", "cell"), coords={"time": days})

    radians = xarray.DataArray(np.radians(site.latitude), dims="cell")
    above = np.asarray(pyet.extraterrestrial_r(days, radians))
    net = pyet.calc_rad_net(
        field(mean), rs=field(weather["shortwave_radiation"] * MEGAJOULES),
        rso=field((0.75 + 2e-5 * elevation) * above), tmax=field(weather[RANGE[1]]), tmin=field(weather[RANGE[0]]),
        ea=field(weather["vapour_pressure"] / 1000.0),
    )
    slope = pyet.calc_vpc(mean)
    psychrometric = pyet.calc_psy(weather["air_pressure"] / 1000.0)
    demand = PRIESTLEY_TAYLOR * INVERSE_LATENT_HEAT * slope / (slope + psychrometric) * net.values
    return np.where(demand < 0.0, 0.0, demand)


def _check_range(start: int, weather: Mapping[str, np.ndarray]) -> None:
    """Raise ForcingError on a lowest temperature above the highest; NaN passes."""
    if RANGE[0] not in weather:
        return
    low, high = (weather[name] for name in RANGE)
    wrong = low > high
    if wrong.any():
        day, cell = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        date = date_text(np.datetime64(start + day * DAY, "s"))[:10]
        raise ForcingError(
            f"pet: '{RANGE[0]}' is {low[day, cell]:g} on {date} in cell {cell} (counted from 0), the first of "
            f"{np.count_nonzero(wrong)} such values, expected at most the maximum temperature, {high[day, cell]:g}. "
            "Check both sources."
        )
