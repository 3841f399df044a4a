"""Reference evapotranspiration of grass: Penman and Monteith in the form of FAO-56 [Allen et al. 1998]."""

from __future__ import annotations

import math

from bmi_cdlm.names.declaration import PetFormula, Reading
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.pet import daily_radiation, fao_sun, hourly_radiation, limited


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


def penman_demand(lowest, highest, vapour, pressure, radiation, speed, above, elevation, numerator, by_day, by_night):
    """Reference evapotranspiration [mm d-1] (FAO-56, eq. 6 and 53).

    vapour pressure and air pressure [kPa]; solar radiation at the ground [W m-2]; wind speed 10 m above the ground
    [m s-1]; radiation above the air [MJ m-2 d-1]; by_day, by_night: shares of the net radiation that go into the
    ground.
    """
    solar, wind = radiation * 0.0864, speed * 0.7479510751679441  # MJ m-2 d-1; at 2 m, eq. 47
    mean = 0.5 * (lowest + highest)
    missing = 0.5 * (saturation_pressure(lowest) + saturation_pressure(highest)) - vapour
    slope = 4098.0 * saturation_pressure(mean) / ((mean + 237.3) * (mean + 237.3))
    psychrometric = 0.000665 * pressure
    net = net_radiation(solar, lowest, highest, vapour, above, elevation)
    net -= net * (by_day if above > 0.0 else by_night)
    demand = 0.408 * slope * net + psychrometric * numerator / (mean + 273.0) * wind * missing
    return max(0.0, demand / (slope + psychrometric * (1.0 + 0.34 * wind)))


def daily_demand(
    lowest, highest, vapour, pressure, radiation, speed, elevation, numerator, by_day, by_night,
    sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance,
):
    """A day's demand [mm d-1] from its lowest and highest temperature [degC]."""
    above = daily_radiation(
        sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance
    )
    return penman_demand(
        lowest, highest, vapour, pressure, radiation, speed, above, elevation, numerator, by_day, by_night
    )


def hourly_demand(
    T, vapour, pressure, radiation, speed, elevation, numerator, by_day, by_night,
    sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance, solar_hour,
):
    """An hour's demand [mm d-1] from its mean temperature T [degC]."""
    above = hourly_radiation(
        sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance,
        solar_hour,
    )
    return penman_demand(T, T, vapour, pressure, radiation, speed, above, elevation, numerator, by_day, by_night)


PENMAN_MONTEITH = PetFormula(
    name="penman_monteith",
    title="Reference evapotranspiration of grass (FAO-56)",
    source="Allen et al. 1998, FAO irrigation and drainage paper 56",
    steps={DAY: daily_demand, HOUR: hourly_demand},
    inputs={
        "air_temperature": Reading("T"),
        "minimum_air_temperature": Reading("lowest"),
        "maximum_air_temperature": Reading("highest"),
        "vapour_pressure": Reading("vapour", unit=1000.0),
        "air_pressure": Reading("pressure", unit=1000.0),
        "shortwave_radiation": Reading("radiation"),
        "wind_speed": Reading("speed"),
    },
    constants={
        "numerator": {DAY: 900.0, HOUR: 888.0}, "by_day": {DAY: 0.0, HOUR: 0.1}, "by_night": {DAY: 0.0, HOUR: 0.5},
    },
    sun=fao_sun,
)
