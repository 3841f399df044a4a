"""Potential evapotranspiration from the temperatures of a day and the radiation above the air [Hargreaves 1985]."""

from __future__ import annotations

import math

from bmi_cdlm.names.declaration import PetFormula, Reading
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.pet import daily_radiation, fao_sun


def hargreaves_demand(lowest, highest, above):
    """Demand [mm d-1] from the day's temperatures [degC] and the radiation above the air [MJ m-2 d-1]."""
    span = math.sqrt(max(0.0, highest - lowest))
    return max(0.0, 0.0023 * 0.408 * above * (0.5 * (lowest + highest) + 17.8) * span)


def hargreaves_daily_demand(
    lowest, highest, sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination,
    distance,
):
    """Demand [mm d-1] from the day's temperatures [degC]."""
    return hargreaves_demand(lowest, highest, daily_radiation(
        sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance
    ))


HARGREAVES = PetFormula(
    name="hargreaves",
    title="Potential evapotranspiration from the daily range of temperature",
    source="Hargreaves and Samani 1985, doi:10.13031/2013.26773",
    steps={DAY: hargreaves_daily_demand},
    inputs={"minimum_air_temperature": Reading("lowest"), "maximum_air_temperature": Reading("highest")},
    sun=fao_sun,
    needs_range=True,
)
