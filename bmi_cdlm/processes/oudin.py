"""Potential evapotranspiration from the mean temperature alone, as in airGR [Oudin et al. 2005]."""

from __future__ import annotations

import math

from bmi_cdlm.names.declaration import PetFormula, Reading
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.pet import limited


def oudin_demand(T, sin_latitude, cos_latitude, sin_declination, cos_declination, distance):
    """A day's demand [mm d-1] at a mean temperature T [degC]; 0 where the sun does not rise."""
    level = cos_latitude * cos_declination
    zenith = max(0.001, level + sin_latitude * sin_declination)
    sunset = math.acos(limited(1.0 - zenith / level, -1.0, 1.0))
    if sunset <= 0.0:
        return 0.0
    mean_zenith = max(0.001, zenith + level * (math.sin(sunset) / sunset - 1.0))
    return max(0.0, 446.0 * sunset * mean_zenith * distance * (T + 5.0) / 2850.0)


def oudin_hourly_demand(T, sin_latitude, cos_latitude, sin_declination, cos_declination, distance, hour_share):
    """An hour's demand [mm d-1]: its share of a day as warm."""
    daily = oudin_demand(T, sin_latitude, cos_latitude, sin_declination, cos_declination, distance)
    return daily * (24.0 * hour_share)


def oudin_sun(day_of_year):
    """Declination [rad] and term of the distance [1], as airGR has them; its hours are of mean solar time."""
    return 0.4093 * math.sin(day_of_year / 58.1 - 1.405), 1.0 + math.cos(day_of_year / 58.1) / 30.0, 0.0


OUDIN = PetFormula(
    name="oudin",
    title="Potential evapotranspiration from the mean temperature",
    source="Oudin et al. 2005, doi:10.1016/j.jhydrol.2004.08.026",
    steps={DAY: oudin_demand, HOUR: oudin_hourly_demand},
    inputs={"air_temperature": Reading("T")},
    sun=oudin_sun,
)
