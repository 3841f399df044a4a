"""What formulas of potential evapotranspiration share: the sun, the radiation above the air, quantities of the weather.

Temperatures in degC, radiation in MJ m-2 d-1 and rates in mm d-1 at every step length. Sine, cosine and tangent of
latitude and declination come ready-made.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.names.declaration import Formation
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


def daily_radiation(
    sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance
):
    """Radiation above the air, mean of a day [MJ m-2 d-1] (FAO-56, eq. 21)."""
    sunset = sunset_angle(tan_latitude, tan_declination)
    received = sunset * sin_latitude * sin_declination + cos_latitude * cos_declination * math.sin(sunset)
    return 37.586031360582005 * distance * received


def hourly_radiation(
    sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance, solar_hour
):
    """Radiation above the air, mean of the hour around a solar hour [MJ m-2 d-1] (FAO-56, eq. 28 to 31)."""
    sunset = sunset_angle(tan_latitude, tan_declination)
    angle = 0.2617993877991494 * (solar_hour - 24.0 * real(math.floor(solar_hour / 24.0)) - 12.0)
    first = limited(angle - 0.1308996938995747, -sunset, sunset)
    last = limited(angle + 0.1308996938995747, -sunset, sunset)
    received = (last - first) * sin_latitude * sin_declination
    received = received + cos_latitude * cos_declination * (math.sin(last) - math.sin(first))
    return max(0.0, 451.0323763269841 * distance * received)


def fao_sun(day_of_year):
    """Declination [rad], term of the distance [1], solar time ahead of mean solar time [h] (FAO-56, eq. 23, 24, 32)."""
    declination = 0.409 * math.sin(6.283185307179586 * day_of_year / 365.0 - 1.39)
    distance = 1.0 + 0.033 * math.cos(6.283185307179586 * day_of_year / 365.0)
    b = 6.283185307179586 * (day_of_year - 81.0) / 364.0
    return declination, distance, 0.1645 * math.sin(2.0 * b) - 0.1255 * math.cos(b) - 0.025 * math.sin(b)


def speed(x, y):
    """Speed from components."""
    return np.sqrt(x * x + y * y)


def vapour_pressure(humidity, pressure):
    """Vapour pressure from specific humidity [1], in the units of the air pressure."""
    return humidity * pressure / (0.622 + 0.378 * humidity)


FORMATIONS = {
    "wind_speed": Formation(("wind_x", "wind_y"), speed, carriers=("wind_x", "wind_y")),
    "vapour_pressure": Formation(
        ("specific_humidity", "air_pressure"), vapour_pressure, carriers=("air_pressure",)
    ),
}
"""Quantities of the weather that may be made of others, of numbers or of arrays."""
