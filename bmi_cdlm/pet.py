"""Potential evapotranspiration from weather: Oudin, Hargreaves, FAO-56 Penman-Monteith [SPEC 3].

Arrays are float64[time, cell], places float64[cell], days and hours float64[time]; rates are mm d-1 and MJ m-2 d-1 at
every step length. Every operation is one element at a time, so that blocks and single steps give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.parameters import DAY, HOUR
from bmi_cdlm.season import day_of_year

Formula = Literal["oudin", "hargreaves", "penman_monteith"]
RANGE = ("minimum_air_temperature", "maximum_air_temperature")
MEAN = "air_temperature"
PENMAN = (MEAN, "specific_humidity", "air_pressure", "shortwave_radiation", "wind_x", "wind_y")
SOLAR_CONSTANT = 0.0820
"""MJ m-2 min-1."""
STEFAN_BOLTZMANN = 4.903e-9
"""MJ K-4 m-2 d-1."""
DARK_RATIO = 0.7
"""Relative solar radiation while the sun is down."""
LEAST_RATIO = 0.3
"""Relative solar radiation under the thickest clouds [ASCE-EWRI 2005]."""
HALF_DAY = (0, 0, 0, 0, 0, 0, 0.035, 0.062, 0.079, 0.097, 0.110, 0.117)
HOUR_SHARES = np.array([*HALF_DAY, *reversed(HALF_DAY)])
"""Share of a day's evaporative demand in each of its solar hours, as in airGR."""


class Place(NamedTuple):
    """float64[cell]: latitude [rad], longitude [degrees east], elevation [m]."""

    latitude: np.ndarray
    longitude: np.ndarray
    elevation: np.ndarray


def required(formula: Formula, step: int) -> tuple[str, ...]:
    """Return the short names of the inputs of a formula at a model step [s]; hourly ones need no daily range."""
    if formula == "penman_monteith":
        return PENMAN if step == HOUR else (*PENMAN, *RANGE)
    return (MEAN,) if formula == "oudin" else (MEAN, *RANGE)


def evaluate(
    formula: Formula, step: int, place: Place, weather: Mapping[str, np.ndarray], starts: np.ndarray
) -> np.ndarray:
    """Return potential evapotranspiration [mm d-1], float64[time, cell].

    Parameters
    ----------
    weather : dict of float64[time, cell]
        The inputs of `required`, in registry units.
    starts : datetime64[time]
        Starts of the steps; the hours of an hourly step are UTC.
    """
    days = np.floor(day_of_year(starts))
    if formula == "oudin":
        pet = oudin(weather[MEAN], place.latitude, days)
        return pet if step == DAY else pet * (24.0 * HOUR_SHARES[_solar_hours(starts, place.longitude).astype(int)])
    if formula == "hargreaves":
        lowest, highest = (weather[name] for name in RANGE)
        return hargreaves(lowest, highest, daily_radiation(place.latitude, days))
    hourly = step == HOUR
    above = hourly_radiation(place, days, starts) if hourly else daily_radiation(place.latitude, days)
    return penman_monteith(weather, above, place.elevation, hourly=hourly)


def oudin(temperature: np.ndarray, latitude: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Oudin et al. (2005), as in airGR, from the mean temperature [degC]; latitude [rad]."""
    declination = _per_time(lambda day: 0.4093 * math.sin(day / 58.1 - 1.405), days)
    distance = _per_time(lambda day: 1.0 + math.cos(day / 58.1) / 30.0, days)
    level = np.cos(latitude) * np.cos(declination)
    zenith = np.maximum(0.001, np.cos(latitude - declination))
    sunset = np.arccos(np.clip(1.0 - zenith / level, -1.0, 1.0))
    up = sunset > 0.0
    mean_zenith = zenith + level * (np.sin(sunset) / np.where(up, sunset, 1.0) - 1.0)
    radiation = 446.0 * sunset * np.maximum(0.001, mean_zenith) * distance
    return np.where(up, np.maximum(0.0, radiation * (temperature + 5.0) / 2850.0), 0.0)


def hargreaves(lowest: np.ndarray, highest: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Hargreaves and Samani (1985), from the day's temperatures [degC] and radiation above the air [MJ m-2 d-1]."""
    span = np.sqrt(np.maximum(highest - lowest, 0.0))
    return np.maximum(0.0, 0.0023 * 0.408 * above * (0.5 * (lowest + highest) + 17.8) * span)


def penman_monteith(
    weather: Mapping[str, np.ndarray], above: np.ndarray, elevation: np.ndarray, *, hourly: bool
) -> np.ndarray:
    """Reference evapotranspiration of FAO-56 (Allen et al. 1998, eq. 6 and 53) under the radiation `above` the air."""
    lowest, highest = (weather[MEAN],) * 2 if hourly else (weather[name] for name in RANGE)
    mean = 0.5 * (lowest + highest)
    pressure, humidity = weather["air_pressure"] / 1000.0, weather["specific_humidity"]
    vapour = humidity * pressure / (0.622 + 0.378 * humidity)
    saturated = 0.5 * (_saturation(lowest) + _saturation(highest))
    slope = 4098.0 * _saturation(mean) / ((mean + 237.3) * (mean + 237.3))
    psychrometric = 0.000665 * pressure
    wind = np.sqrt(weather["wind_x"] * weather["wind_x"] + weather["wind_y"] * weather["wind_y"])
    wind = wind * (4.87 / math.log(67.8 * 10.0 - 5.42))
    net = net_radiation(weather["shortwave_radiation"] * 0.0864, lowest, highest, vapour, above, elevation)
    ground = net * np.where(above > 0.0, 0.1, 0.5) if hourly else 0.0
    aerodynamic = (24.0 * 37.0 if hourly else 900.0) / (mean + 273.0) * wind * (saturated - vapour)
    demand = 0.408 * slope * (net - ground) + psychrometric * aerodynamic
    return np.maximum(0.0, demand / (slope + psychrometric * (1.0 + 0.34 * wind)))


def net_radiation(
    solar: np.ndarray, lowest: np.ndarray, highest: np.ndarray, vapour: np.ndarray, above: np.ndarray,
    elevation: np.ndarray,
) -> np.ndarray:
    """Net radiation over grass [MJ m-2 d-1] (FAO-56, eq. 37 to 40); vapour pressure [kPa]."""
    clear = (0.75 + 2e-5 * elevation) * above
    up = clear > 0.0
    ratio = np.where(up, np.clip(solar / np.where(up, clear, 1.0), LEAST_RATIO, 1.0), DARK_RATIO)
    emitted = STEFAN_BOLTZMANN * 0.5 * (_fourth_power(lowest + 273.16) + _fourth_power(highest + 273.16))
    return 0.77 * solar - emitted * (0.34 - 0.14 * np.sqrt(vapour)) * (1.35 * ratio - 0.35)


def daily_radiation(latitude: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Radiation above the air, mean of the day [MJ m-2 d-1] (FAO-56, eq. 21); latitude [rad]."""
    declination, distance = _declination(days), _distance(days)
    sunset = np.arccos(np.clip(-np.tan(latitude) * np.tan(declination), -1.0, 1.0))
    level, upright = np.cos(latitude) * np.cos(declination), np.sin(latitude) * np.sin(declination)
    return 24.0 * 60.0 / math.pi * SOLAR_CONSTANT * distance * (sunset * upright + level * np.sin(sunset))


def hourly_radiation(place: Place, days: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Radiation above the air, mean of the hour from `starts` (UTC) [MJ m-2 d-1] (FAO-56, eq. 28 to 33)."""
    declination, distance = _declination(days), _distance(days)
    correction = _per_time(_seasonal_correction, days)
    solar = np.mod(_solar_hours(starts, place.longitude) + correction, 24.0)
    sunset = np.arccos(np.clip(-np.tan(place.latitude) * np.tan(declination), -1.0, 1.0))
    angle = math.pi / 12.0 * (solar - 12.0)
    first = np.clip(angle - math.pi / 24.0, -sunset, sunset)
    last = np.clip(angle + math.pi / 24.0, -sunset, sunset)
    level = np.cos(place.latitude) * np.cos(declination)
    upright = np.sin(place.latitude) * np.sin(declination)
    received = (last - first) * upright + level * (np.sin(last) - np.sin(first))
    return np.maximum(0.0, 24.0 * 12.0 * 60.0 / math.pi * SOLAR_CONSTANT * distance * received)


def _per_time(function, days: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """A function of the day, float64[time, 1]."""
    return np.array([[function(float(day))] for day in days], np.float64).reshape(-1, 1)


def _declination(days: np.ndarray) -> np.ndarray:
    return _per_time(lambda day: 0.409 * math.sin(2.0 * math.pi * day / 365.0 - 1.39), days)


def _distance(days: np.ndarray) -> np.ndarray:
    """Inverse relative distance to the sun, squared."""
    return _per_time(lambda day: 1.0 + 0.033 * math.cos(2.0 * math.pi * day / 365.0), days)


def _seasonal_correction(day: float) -> float:
    """Solar time ahead of mean time [h]."""
    b = 2.0 * math.pi * (day - 81.0) / 364.0
    return 0.1645 * math.sin(2.0 * b) - 0.1255 * math.cos(b) - 0.025 * math.sin(b)


def _solar_hours(starts: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Mean solar time [h] in the middle of the hours that begin at `starts` (UTC), float64[time, cell]."""
    seconds = starts.astype("datetime64[s]").astype(np.int64) % DAY
    return np.mod(seconds[:, None] / HOUR + 0.5 + longitude / 15.0, 24.0)


def _saturation(temperature: np.ndarray) -> np.ndarray:
    """Saturation vapour pressure [kPa] (FAO-56, eq. 11)."""
    return 0.6108 * np.exp(17.27 * temperature / (temperature + 237.3))


def _fourth_power(kelvin: np.ndarray) -> np.ndarray:
    square = kelvin * kelvin
    return square * square
