"""Variables of the weather: the units that the preparation wants, and the names under which sources have them."""

from __future__ import annotations

from typing import NamedTuple


class Wanted(NamedTuple):
    """What the preparation wants of a variable: units, whether these are per day, and its usual names."""

    units: str
    usual: tuple[str, ...]

    @property
    def per_day(self) -> bool:
        """Whether it is a rate, of which a source may give amounts."""
        return "d-1" in self.units


WANTED = {
    "precipitation": Wanted("mm d-1", (
        "tp", "total_precipitation", "pr", "prec", "precip", "prcp", "precipitation", "rainfall",
        "lwe_precipitation_rate", "precipitation_flux", "precipitation_amount", "lwe_thickness_of_precipitation_amount",
    )),
    "air_temperature": Wanted("degC", (
        "t2m", "2m_temperature", "tas", "tmean", "tg", "temperature", "air_temperature",
    )),
    "potential_evapotranspiration": Wanted("mm d-1", (
        "pev", "pet", "potential_evaporation", "potential_evapotranspiration", "water_potential_evaporation_flux",
    )),
    "minimum_temperature": Wanted("degC", ("tasmin", "tmin", "mn2t", "tn", "minimum_temperature")),
    "maximum_temperature": Wanted("degC", ("tasmax", "tmax", "mx2t", "tx", "maximum_temperature")),
    "dewpoint_temperature": Wanted("degC", ("d2m", "2m_dewpoint_temperature", "dewpoint", "dew_point_temperature")),
    "vapour_pressure": Wanted("kPa", (
        "vp", "vapour_pressure", "vapor_pressure", "water_vapor_partial_pressure_in_air",
    )),
    "specific_humidity": Wanted("kg kg-1", ("huss", "q2m", "q", "specific_humidity")),
    "relative_humidity": Wanted("%", ("hurs", "rh", "rhmean", "relative_humidity")),
    "shortwave_radiation": Wanted("MJ m-2 d-1", (
        "ssrd", "surface_solar_radiation_downwards", "rsds", "shortwave", "srad",
        "surface_downwelling_shortwave_flux_in_air",
    )),
    "wind_speed": Wanted("m s-1", ("si10", "sfcwind", "wind", "wind_speed")),
    "eastward_wind": Wanted("m s-1", ("u10", "10m_u_component_of_wind", "uas", "eastward_wind")),
    "northward_wind": Wanted("m s-1", ("v10", "10m_v_component_of_wind", "vas", "northward_wind")),
    "surface_pressure": Wanted("kPa", ("sp", "surface_pressure", "ps", "pressure", "surface_air_pressure")),
}
