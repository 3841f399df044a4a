"""Potential evapotranspiration of one cell and one step, and its loops over cells [SPEC 3].

Temperatures in degC, radiation in MJ m-2 d-1 and rates in mm d-1 at every step length. The sine, cosine and tangent of
latitude and declination come ready-made: a row of a `sky` is sin, cos, tan of the declination, the distance term,
and the solar hour at Greenwich in the middle of an hourly step.
"""

from __future__ import annotations

import math

from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.names.parameters import INFINITE, Parameter, Range

PET_FACTOR = Parameter(
    "pet_factor", "pet_factor", "1", (0.0, INFINITE), Range(0.5, 2, 1), Range(0.5, 2, 1), "log",
    "Factor on potential evapotranspiration", "Oudin et al. 2006", may_vary=True, optional=True,
)
"""What a PET network generates day by day; every process that takes potential evapotranspiration may take it."""


def limited(value, low, high):
    """Return the value within two limits."""
    return min(max(value, low), high)


def sunset_angle(tan_latitude, tan_declination):
    """Hour angle of the sunset [rad]: 0 where the sun does not rise, pi where it does not set (FAO-56, eq. 25)."""
    return math.acos(limited(-tan_latitude * tan_declination, -1.0, 1.0))


def daily_radiation(sin_latitude, cos_latitude, tan_latitude, sin_sun, cos_sun, tan_sun, distance):
    """Radiation above the air, mean of a day [MJ m-2 d-1] (FAO-56, eq. 21)."""
    sunset = sunset_angle(tan_latitude, tan_sun)
    received = sunset * sin_latitude * sin_sun + cos_latitude * cos_sun * math.sin(sunset)
    return 37.586031360582005 * distance * received


def hourly_radiation(
    sin_latitude, cos_latitude, tan_latitude, sin_sun, cos_sun, tan_sun, distance, solar_hour
):
    """Radiation above the air, mean of the hour around a solar hour [MJ m-2 d-1] (FAO-56, eq. 28 to 31)."""
    sunset = sunset_angle(tan_latitude, tan_sun)
    angle = 0.2617993877991494 * (solar_hour - 24.0 * real(math.floor(solar_hour / 24.0)) - 12.0)
    first = limited(angle - 0.1308996938995747, -sunset, sunset)
    last = limited(angle + 0.1308996938995747, -sunset, sunset)
    received = (last - first) * sin_latitude * sin_sun + cos_latitude * cos_sun * (math.sin(last) - math.sin(first))
    return max(0.0, 451.0323763269841 * distance * received)


def oudin_demand(temperature, sin_latitude, cos_latitude, sin_sun, cos_sun, distance):
    """Oudin et al. (2005), as in airGR, from the mean temperature; 0 where the sun does not rise."""
    level = cos_latitude * cos_sun
    zenith = max(0.001, level + sin_latitude * sin_sun)
    sunset = math.acos(limited(1.0 - zenith / level, -1.0, 1.0))
    if sunset <= 0.0:
        return 0.0
    mean_zenith = max(0.001, zenith + level * (math.sin(sunset) / sunset - 1.0))
    return max(0.0, 446.0 * sunset * mean_zenith * distance * (temperature + 5.0) / 2850.0)


def hargreaves_demand(lowest, highest, above):
    """Hargreaves and Samani (1985), from the day's temperatures and the radiation above the air."""
    span = math.sqrt(max(0.0, highest - lowest))
    return max(0.0, 0.0023 * 0.408 * above * (0.5 * (lowest + highest) + 17.8) * span)


def saturation_pressure(temperature):
    """Saturation vapour pressure [kPa] (FAO-56, eq. 11)."""
    return 0.6108 * math.exp(17.27 * temperature / (temperature + 237.3))


def net_radiation(solar, lowest, highest, vapour, above, elevation):
    """Net radiation over grass [MJ m-2 d-1] (FAO-56, eq. 37 to 40); vapour pressure [kPa], elevation [m].

    Clouds are told from the share of a clear sky's radiation that arrives: 0.3 at least [ASCE-EWRI 2005], 0.7 while
    the sun is down.
    """
    clear = (0.75 + 2e-5 * elevation) * above
    share = limited(solar / clear, 0.3, 1.0) if clear > 0.0 else 0.7
    cold, warm = (lowest + 273.16) * (lowest + 273.16), (highest + 273.16) * (highest + 273.16)
    emitted = 4.903e-9 * 0.5 * (cold * cold + warm * warm)
    return 0.77 * solar - emitted * (0.34 - 0.14 * math.sqrt(vapour)) * (1.35 * share - 0.35)


def penman_demand(lowest, highest, vapour, pressure, solar, wind, above, elevation, numerator, by_day, by_night):
    """Reference evapotranspiration of FAO-56 (Allen et al. 1998, eq. 6 and 53).

    vapour pressure and air pressure [kPa]; solar radiation [MJ m-2 d-1]; wind speed 2 m above the ground [m s-1];
    numerator: 900, hourly 24 x 37; by_day, by_night: shares of the net radiation that go into the ground.
    """
    mean = 0.5 * (lowest + highest)
    missing = 0.5 * (saturation_pressure(lowest) + saturation_pressure(highest)) - vapour
    slope = 4098.0 * saturation_pressure(mean) / ((mean + 237.3) * (mean + 237.3))
    psychrometric = 0.000665 * pressure
    net = net_radiation(solar, lowest, highest, vapour, above, elevation)
    net -= net * (by_day if above > 0.0 else by_night)
    demand = 0.408 * slope * net + psychrometric * numerator / (mean + 273.0) * wind * missing
    return max(0.0, demand / (slope + psychrometric * (1.0 + 0.34 * wind)))


def fill_oudin(temperature, place, sky, shares, demand, lo, hi):
    """Oudin's demand [mm d-1] of the cells lo to hi, [time, cell]; shares: of a day's demand in its hours, or empty."""
    for t in range(temperature.shape[0]):
        for i in range(lo, hi):
            daily = oudin_demand(
                temperature[t, i], place.sin_latitude[i], place.cos_latitude[i], sky[t, 0], sky[t, 1], sky[t, 3]
            )
            if shares.size > 0:
                hour = sky[t, 4] + place.longitude[i] / 15.0
                daily *= 24.0 * shares[int(hour - 24.0 * real(math.floor(hour / 24.0))) % 24]
            demand[t, i] = daily


def fill_hargreaves(lowest, highest, place, sky, demand, lo, hi):
    """Hargreaves' demand [mm d-1] of the cells lo to hi, [time, cell]."""
    for t in range(lowest.shape[0]):
        for i in range(lo, hi):
            above = daily_radiation(
                place.sin_latitude[i], place.cos_latitude[i], place.tan_latitude[i], sky[t, 0], sky[t, 1], sky[t, 2],
                sky[t, 3],
            )
            demand[t, i] = hargreaves_demand(lowest[t, i], highest[t, i], above)


def fill_penman_monteith(lowest, highest, weather, place, sky, hourly, demand, lo, hi):
    """FAO-56's demand [mm d-1] of the cells lo to hi, [time, cell]; weather: `PetWeather`, wind at 10 m."""
    numerator = 888.0 if hourly else 900.0
    by_day = 0.1 if hourly else 0.0
    by_night = 0.5 if hourly else 0.0
    for t in range(lowest.shape[0]):
        for i in range(lo, hi):
            if hourly:
                above = hourly_radiation(
                    place.sin_latitude[i], place.cos_latitude[i], place.tan_latitude[i], sky[t, 0], sky[t, 1],
                    sky[t, 2], sky[t, 3], sky[t, 4] + place.longitude[i] / 15.0,
                )
            else:
                above = daily_radiation(
                    place.sin_latitude[i], place.cos_latitude[i], place.tan_latitude[i], sky[t, 0], sky[t, 1],
                    sky[t, 2], sky[t, 3],
                )
            pressure = weather.air_pressure[t, i] / 1000.0
            vapour = vapour_at(weather.vapour_pressure, weather.specific_humidity, pressure, t, i)
            wind = speed_at(weather.wind_speed, weather.wind_x, weather.wind_y, t, i) * 0.7479510751679441
            demand[t, i] = penman_demand(
                lowest[t, i], highest[t, i], vapour, pressure, weather.shortwave_radiation[t, i] * 0.0864, wind, above,
                place.elevation[i], numerator, by_day, by_night,
            )


def vapour_at(vapour, humidity, pressure, t, i):
    """Vapour pressure [kPa] at a time and place: as given [Pa], or of specific humidity [1] and air pressure [kPa]."""
    if vapour is not None:
        return vapour[t, i] / 1000.0
    if humidity is not None:
        return humidity[t, i] * pressure / (0.622 + 0.378 * humidity[t, i])
    return math.nan


def speed_at(speed, x, y, t, i):
    """Wind speed at a time and place: as given, else of its components."""
    if speed is not None:
        return speed[t, i]
    if x is not None:
        return math.sqrt(x[t, i] * x[t, i] + y[t, i] * y[t, i])
    return math.nan
