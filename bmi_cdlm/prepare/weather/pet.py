"""Potential evapotranspiration of days from weather, and its share in each hour of the day.

Arrays are float64[day, cell]. pyet gives FAO-56 Penman-Monteith and the terms of radiation and vapour pressure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.packages import load

DAY = 86400
HOUR = 3600
_MORNING = (0.0,) * 6 + (0.035, 0.062, 0.079, 0.097, 0.110, 0.117)
# Share of a day's potential evapotranspiration that falls in each hour, 00-01 UTC first [SPEC 3.1].
HOURLY_SHARES = _MORNING + _MORNING[::-1]

PetMethod = Literal["given", "oudin", "hargreaves", "priestley_taylor", "fao56"]
INVERSE_LATENT_HEAT = 0.408  # kg MJ-1, at 2.45 MJ kg-1 [FAO-56 eq. 20]
PRIESTLEY_TAYLOR = 1.26
EPSILON = 0.622  # of the molar masses of water and dry air
_RADIATION = ("minimum_temperature", "maximum_temperature", "shortwave_radiation")
# What each formula reads, besides humidity.
METHODS: dict[str, tuple[str, ...]] = {
    "oudin": ("air_temperature",),
    "hargreaves": ("minimum_temperature", "maximum_temperature"),
    "priestley_taylor": _RADIATION,
    "fao56": (*_RADIATION, "wind_speed"),
}
HUMIDITY = ("vapour_pressure", "dewpoint_temperature", "specific_humidity", "relative_humidity")


class Site(NamedTuple):
    """Where it is. latitude : float64[cell] [degrees]; elevation : float64[cell] [m], or None; wind_height [m]."""

    latitude: np.ndarray
    elevation: np.ndarray | None = None
    wind_height: float = 10.0


def inputs(method: PetMethod, given: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the variables that a formula reads, chosen among those given.

    Raises
    ------
    ForcingError
        Something that the formula needs is not given.
    """
    if method == "given":
        return ()
    names = [*METHODS[method]]
    if method in ("priestley_taylor", "fao56"):
        names += [next((name for name in HUMIDITY if name in given), "vapour_pressure")]
        names += ["surface_pressure"] if "surface_pressure" in given or "specific_humidity" in names else []
    if "wind_speed" in names and "wind_speed" not in given and "eastward_wind" in given:
        names.remove("wind_speed")
        names += ["eastward_wind", "northward_wind"]
    absent = [name for name in names if name not in given]
    if absent:
        raise ForcingError(
            f"pet: method {method} needs {', '.join(absent)}, the forcing has {', '.join(given) or 'nothing'}. "
            "Expected a source for each. Name one under `forcing`, or choose another method."
        )
    return tuple(names)


def compute(method: PetMethod, days: np.ndarray, weather: Mapping[str, np.ndarray], site: Site) -> np.ndarray:
    """Potential evapotranspiration of days [mm d-1], float64[day, cell], never negative.

    Parameters
    ----------
    method : PetMethod
        Another than `given`.
    days : datetime64[D][day]
    weather : mapping of str to float64[day, cell]
        Means of the day: temperatures and dew point [degC], vapour and surface pressure [kPa], specific humidity
        [kg kg-1], relative humidity [%], shortwave radiation [MJ m-2 d-1], wind [m s-1]. See `inputs`. The formulas
        of radiation take half the sum of the extremes for the mean temperature, as FAO-56 says, unless
        `air_temperature` is among them.
    site : Site

    Raises
    ------
    ForcingError
        A minimum temperature above the maximum, humidity or radiation that cannot be, no elevation.
    """
    _check(days, weather)
    if method == "oudin":
        return oudin(_day_of_year(days), site.latitude, weather["air_temperature"])
    if method == "hargreaves":
        return _hargreaves(days, weather, site)
    return _with_radiation(method, days, weather, site)


def oudin(day_of_year: np.ndarray, latitude: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Oudin et al. (2005), with the radiation of Morton as in airGR [SPEC 3.1]; pyet has that of FAO-56.

    day_of_year : int64[day]; latitude : float64[cell] [degrees]; temperature : float64[day, cell] [degC].
    Returns float64[day, cell] [mm d-1]; 0 where the sun does not rise.
    """
    J, phi = day_of_year[:, None], np.radians(latitude)
    delta = 0.4093 * np.sin(J / 58.1 - 1.405)
    cosz = np.maximum(0.001, np.cos(phi - delta))
    both = np.maximum(np.cos(phi) * np.cos(delta), 1e-12)
    omega = np.arccos(np.clip(1.0 - cosz / both, -1.0, 1.0))
    sinc = np.sinc(omega / np.pi)
    cosp = np.maximum(0.001, cosz + both * (sinc - 1.0))
    radiation = 446.0 * omega * cosp * (1.0 + np.cos(J / 58.1) / 30.0)
    return np.maximum(0.0, radiation * (temperature + 5.0) / 2850.0)


def day_shares(step: int, noon: int = 12) -> np.ndarray:
    """Return the share of a day's potential evapotranspiration in each step of the day, float64[24 h / step].

    The shares of the hours are divided by their exact sum, so that a day keeps its total to the last bit
    that rounding allows. `step` [s] is a whole number of hours that divides a day; `noon` [h] of UTC.
    """
    if step % HOUR or DAY % step:
        raise ForcingError(
            f"potential evapotranspiration: a day cannot be spread over steps of {step} s, expected whole "
            "hours that divide a day. Choose another step."
        )
    shares = np.roll(np.array(HOURLY_SHARES) / math.fsum(HOURLY_SHARES), noon - 12)
    return shares.reshape(-1, step // HOUR).sum(axis=1)


def spread_over_day(daily: np.ndarray, starts: np.ndarray, step: int, noon: int = 12) -> np.ndarray:
    """Return the rates [mm d-1] of steps from the rates of the days that they lie in, float64[time, cell]."""
    into_day = (starts - starts.astype("datetime64[D]")).astype("timedelta64[s]").astype(np.int64)
    rate = day_shares(step, noon) * (DAY / step)
    return daily * rate[into_day // step][:, None]


def _hargreaves(days: np.ndarray, weather: Mapping[str, np.ndarray], site: Site) -> np.ndarray:
    """Hargreaves and Samani (1985), 0.0023 Ra (T + 17.8) sqrt(Tmax - Tmin) [FAO-56 eq. 52]."""
    low, high = weather["minimum_temperature"], weather["maximum_temperature"]
    radiation = _extraterrestrial(days, site.latitude)
    depth = 0.0023 * INVERSE_LATENT_HEAT * radiation * (0.5 * (low + high) + 17.8) * np.sqrt(high - low)
    return np.maximum(0.0, depth)


def _with_radiation(
    method: PetMethod, days: np.ndarray, weather: Mapping[str, np.ndarray], site: Site
) -> np.ndarray:
    """FAO-56 Penman-Monteith, or Priestley and Taylor (1972) with the net radiation of FAO-56."""
    pyet = load("pyet")
    if site.elevation is None:
        raise ForcingError(
            f"pet: method {method} needs the elevation of cells, there is none. Expected the attribute `elevation`. "
            "Name a raster under attributes.elevation, or set pet.elevation."
        )
    elevation = np.broadcast_to(site.elevation, site.latitude.shape)
    low, high = weather["minimum_temperature"], weather["maximum_temperature"]
    mean = weather.get("air_temperature", 0.5 * (low + high))
    pressure = weather.get("surface_pressure", np.broadcast_to(pyet.calc_press(elevation), mean.shape))
    vapour = _vapour_pressure(pyet, weather, mean, pressure)
    field = _on_days(days)
    clear_sky = field((0.75 + 2e-5 * elevation) * _extraterrestrial(days, site.latitude))
    net = pyet.calc_rad_net(
        field(mean), rs=field(weather["shortwave_radiation"]), rso=clear_sky, tmax=field(high), tmin=field(low),
        ea=field(vapour),
    )
    if method == "priestley_taylor":
        slope = pyet.calc_vpc(mean)
        pet = PRIESTLEY_TAYLOR * INVERSE_LATENT_HEAT * slope / (slope + pyet.calc_psy(pressure)) * net.values
    else:
        pet = pyet.pm_fao56(
            field(mean), field(_wind_at_2m(weather, site.wind_height)), rn=net, tmax=field(high), tmin=field(low),
            pressure=field(pressure), ea=field(vapour),
        ).values
    return np.where(pet < 0.0, 0.0, pet)


def _extraterrestrial(days: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Radiation at the top of the atmosphere [MJ m-2 d-1], float64[day, cell] [FAO-56 eq. 21, by pyet]."""
    xarray, pandas = load("xarray"), load("pandas")
    radians = xarray.DataArray(np.radians(latitude), dims="cell")
    index = pandas.DatetimeIndex(days.astype("datetime64[ns]"))
    return np.asarray(load("pyet").extraterrestrial_r(index, radians))


def _on_days(days: np.ndarray) -> Any:
    xarray = load("xarray")
    time = days.astype("datetime64[ns]")
    return lambda values: xarray.DataArray(values, dims=("time", "cell"), coords={"time": time})


def _vapour_pressure(
    pyet: Any, weather: Mapping[str, np.ndarray], mean: np.ndarray, pressure: np.ndarray
) -> np.ndarray:
    """Actual vapour pressure [kPa] from the best humidity given [FAO-56 eq. 14, 19; SPEC 3.2]."""
    if "vapour_pressure" in weather:
        return weather["vapour_pressure"]
    if "dewpoint_temperature" in weather:
        return np.asarray(pyet.calc_e0(weather["dewpoint_temperature"]))
    if "specific_humidity" in weather:
        q = weather["specific_humidity"]
        return q * pressure / (EPSILON + (1.0 - EPSILON) * q)
    saturation = pyet.calc_es(tmax=weather["maximum_temperature"], tmin=weather["minimum_temperature"])
    return np.asarray(weather["relative_humidity"] / 100.0 * saturation)


def _wind_at_2m(weather: Mapping[str, np.ndarray], height: float) -> np.ndarray:
    """Wind at 2 m over short grass from that at another height [FAO-56 eq. 47]."""
    if "wind_speed" in weather:
        speed = weather["wind_speed"]
    else:
        speed = np.hypot(weather["eastward_wind"], weather["northward_wind"])
    return speed if height == 2.0 else speed * 4.87 / math.log(67.8 * height - 5.42)


def _check(days: np.ndarray, weather: Mapping[str, np.ndarray]) -> None:
    """Raise ForcingError on weather that a formula would turn into nonsense; NaN passes."""
    for name, low, high, units in (
        ("shortwave_radiation", 0.0, 60.0, "MJ m-2 d-1"), ("relative_humidity", 0.0, 105.0, "%"),
        ("vapour_pressure", 0.0, 12.0, "kPa"), ("surface_pressure", 20.0, 120.0, "kPa"),
        ("specific_humidity", 0.0, 0.08, "kg kg-1"), ("wind_speed", 0.0, 150.0, "m s-1"),
    ):
        if name in weather:
            _refuse((weather[name] < low) | (weather[name] > high), days, name, weather[name],
                    f"{low:g} to {high:g} {units}")
    if "minimum_temperature" in weather and "maximum_temperature" in weather:
        low_t, high_t = weather["minimum_temperature"], weather["maximum_temperature"]
        _refuse(low_t > high_t, days, "minimum_temperature", low_t, "at most the maximum temperature")


def _refuse(wrong: np.ndarray, days: np.ndarray, name: str, values: np.ndarray, expected: str) -> None:
    if wrong.any():
        day, cell = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise ForcingError(
            f"pet: '{name}' is {values[day, cell]:g} on {days[day]} in cell {cell} (counted from 0), the first of "
            f"{np.count_nonzero(wrong)} such values, expected {expected}. Check the source and its units."
        )


def _day_of_year(days: np.ndarray) -> np.ndarray:
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1
