"""Inputs: their names, what is known of each (`facts`), and what sources give in place of one."""

from __future__ import annotations

from bmi_cdlm.names.entry import Alias, Variable
from bmi_cdlm.names.facts import KELVIN, SOURCE_OF_RECORDS, TEMPERATURES, WIND_SPEEDS, Confusion, InputFacts, Within


def air_temperature(
    short: str, quantity: str, meaning: str, typical: float, usual: tuple[str, ...], within: Within = "mean",
    key: str = "",
) -> Variable:
    """Return an input that is an air temperature: its mean, lowest or highest value of a step."""
    name = f"land_surface_air__{quantity}"
    return Variable(
        short, name, "degC", "cell", "input", meaning, part="weather", ngen=Alias(name, "K", 1.0, -273.15),
        facts=InputFacts(
            -100.0, 70.0, typical, TEMPERATURES, within=within, key=key, usual=usual, standard_name="air_temperature",
            confused=KELVIN,
        ),
    )


INPUTS: tuple[Variable, ...] = (
    Variable(
        "precipitation", "atmosphere_water_precipitation__leq_volume_flux", "mm d-1", "cell", "input",
        "Rain and snow falling on the cell",
        ngen=Alias("atmosphere_water__liquid_equivalent_precipitation_rate", "mm s^-1", 86400.0, 0.0),
        facts=InputFacts(
            0.0, 2000.0, 3.0,
            "1825 mm in a day, Foc-Foc (La Reunion) 1966; 401 mm in an hour, Shangdi 1975; 38 mm in a minute, Barot "
            "(Guadeloupe) 1970: World record point precipitation measurements, NOAA HDSC",
            peaks=((3600, 9700.0), (1, 60_000.0)),
            usual=(
                "tp", "total_precipitation", "pr", "pre", "prec", "precip", "prcp", "rr", "precipitation", "rainfall",
                "lwe_precipitation_rate", "precipitation_flux", "precipitation_amount",
                "lwe_thickness_of_precipitation_amount",
            ),
            standard_name="lwe_precipitation_rate", bridge=86400,
        ),
    ),
    Variable(
        "potential_evapotranspiration", "land_surface_water_evapotranspiration__potential_volume_flux",
        "mm d-1", "cell", "input", "Evaporative demand of the atmosphere",
        facts=InputFacts(
            0.0, 100.0, 2.0, "four times what the greatest solar radiation of a day, 700 W m-2, evaporates",
            peaks=((1, 300.0),), bridge=10 * 86400,
            usual=(
                "pev", "pet", "potential_evaporation", "potential_evapotranspiration",
                "water_potential_evaporation_flux",
            ),
        ),
    ),
    air_temperature(
        "air_temperature", "temperature", "Mean air temperature near the ground", 8.0,
        ("t2m", "2m_temperature", "tas", "tavg", "tmean", "tg", "temperature", "air_temperature"),
    ),
    air_temperature(
        "minimum_air_temperature", "time_min_of_temperature", "Lowest air temperature of the step", 4.0,
        ("tasmin", "tmin", "tmmn", "mn2t", "tn", "minimum_temperature", "minimum_air_temperature"),
        within="lowest", key="minimum_temperature",
    ),
    air_temperature(
        "maximum_air_temperature", "time_max_of_temperature", "Highest air temperature of the step", 12.0,
        ("tasmax", "tmax", "tmmx", "mx2t", "tx", "maximum_temperature", "maximum_air_temperature"),
        within="highest", key="maximum_temperature",
    ),
    Variable(
        "specific_humidity", "land_surface_air_water~vapor__specific_humidity", "1", "cell", "input",
        "Mass of vapour in the mass of moist air", part="weather",
        ngen=Alias("atmosphere_air_water~vapor__relative_saturation", "kg kg-1", 1.0, 0.0),
        facts=InputFacts(
            0.0, 0.08, 0.006, f"twice that at a dew point of 35 degC and 1000 hPa, the record: {SOURCE_OF_RECORDS}",
            forms="vapour_pressure", usual=("huss", "q2m", "q", "specific_humidity"),
            standard_name="specific_humidity", confused=(Confusion("g kg-1", 1e-3),),
        ),
    ),
    Variable(
        "vapour_pressure", "land_surface_air_water~vapor__partial_pressure", "Pa", "cell", "input",
        "Vapour pressure near the ground; in place of specific humidity", part="weather",
        facts=InputFacts(
            0.0, 8500.0, 800.0, f"half as much again as at a dew point of 35 degC, the record: {SOURCE_OF_RECORDS}",
            usual=("vp", "vapour_pressure", "vapor_pressure", "water_vapor_partial_pressure_in_air"),
            standard_name="water_vapor_partial_pressure_in_air",
        ),
    ),
    Variable(
        "air_pressure", "land_surface_air__pressure", "Pa", "cell", "input", "Air pressure at the ground",
        part="weather", ngen=Alias("land_surface_air__pressure", "Pa", 1.0, 0.0),
        facts=InputFacts(
            20_000.0, 115_000.0, 95_000.0,
            f"33 kPa on Mount Everest; 108.5 kPa at sea level, Tosontsengel 2001: {SOURCE_OF_RECORDS}",
            key="surface_pressure",
            usual=("sp", "surface_pressure", "ps", "pressure", "surface_air_pressure", "air_pressure"),
            standard_name="surface_air_pressure", confused=(Confusion("hPa", 100.0), Confusion("kPa", 1000.0)),
        ),
    ),
    Variable(
        "shortwave_radiation", "land_surface_radiation~incoming~shortwave__energy_flux", "W m-2", "cell", "input",
        "Solar radiation reaching the ground", part="weather",
        ngen=Alias("land_surface_radiation~incoming~shortwave__energy_flux", "W m-2", 1.0, 0.0),
        facts=InputFacts(
            0.0, 700.0, 150.0,
            "565 W m-2 above the air on a polar summer's day [FAO-56, eq. 21]; 1500 W m-2 beside clouds, and 1900 "
            "for a minute [Gueymard 2017]",
            peaks=((3600, 1600.0), (1, 2000.0)),
            usual=(
                "ssrd", "surface_solar_radiation_downwards", "rsds", "shortwave", "srad",
                "surface_downwelling_shortwave_flux_in_air", "shortwave_radiation",
            ),
            standard_name="surface_downwelling_shortwave_flux_in_air",
            confused=(Confusion("J m-2 h-1", 1.0 / 3600.0), Confusion("J m-2 d-1", 1.0 / 86400.0)),
        ),
    ),
    Variable(
        "longwave_radiation", "land_surface_radiation~incoming~longwave__energy_flux", "W m-2", "cell", "input",
        "Thermal radiation reaching the ground; taken from a host that has it, no formula reads it", part="weather",
        ngen=Alias("land_surface_radiation~incoming~longwave__energy_flux", "W m-2", 1.0, 0.0),
        facts=InputFacts(
            0.0, 1000.0, 300.0, "a black body of 90 degC", usual=("strd", "rlds", "longwave_radiation"),
            standard_name="surface_downwelling_longwave_flux_in_air",
            confused=(Confusion("J m-2 h-1", 1.0 / 3600.0), Confusion("J m-2 d-1", 1.0 / 86400.0)),
        ),
    ),
    Variable(
        "wind_x", "land_surface_wind__x_component_of_velocity", "m s-1", "cell", "input",
        "Eastward wind 10 m above the ground", part="weather",
        ngen=Alias("land_surface_wind__x_component_of_velocity", "m s-1", 1.0, 0.0),
        facts=InputFacts(
            -150.0, 150.0, 2.0, WIND_SPEEDS, forms="wind_speed", key="eastward_wind",
            usual=("u10", "10m_u_component_of_wind", "uas", "eastward_wind", "wind_x"), standard_name="eastward_wind",
        ),
    ),
    Variable(
        "wind_y", "land_surface_wind__y_component_of_velocity", "m s-1", "cell", "input",
        "Northward wind 10 m above the ground", part="weather",
        ngen=Alias("land_surface_wind__y_component_of_velocity", "m s-1", 1.0, 0.0),
        facts=InputFacts(
            -150.0, 150.0, 1.0, WIND_SPEEDS, forms="wind_speed", key="northward_wind",
            usual=("v10", "10m_v_component_of_wind", "vas", "northward_wind", "wind_y"), standard_name="northward_wind",
        ),
    ),
    Variable(
        "wind_speed", "land_surface_wind__reference_height_speed", "m s-1", "cell", "input",
        "Wind speed 10 m above the ground; in place of the components", part="weather",
        facts=InputFacts(
            0.0, 150.0, 2.5, WIND_SPEEDS, usual=("si10", "sfcwind", "wind", "wind_speed"), standard_name="wind_speed",
        ),
    ),
    Variable(
        "given_runoff", "land_surface_water_runoff~external__volume_flux", "mm d-1", "cell", "input",
        "Runoff of the cell, where another model makes it (`runoff: caller`)", part="weather",
        facts=InputFacts(
            0.0, 2000.0, 1.0, "no more runs off than the greatest rain; see precipitation",
            peaks=((3600, 9700.0), (1, 60_000.0)), bridge=86400,
            usual=("ro", "mrro", "total_runoff", "runoff_flux", "given_runoff"),
            standard_name="",
        ),
    ),
)
INGREDIENTS: tuple[Variable, ...] = (
    Variable(
        "dewpoint_temperature", "land_surface_air_water~vapor__dew_point_temperature", "degC", "cell", "input",
        "Dew point near the ground", part="weather",
        facts=InputFacts(
            -110.0, 50.0, 3.0, f"35 degC, Dhahran 2003: {SOURCE_OF_RECORDS}", forms="vapour_pressure",
            usual=("d2m", "2m_dewpoint_temperature", "dewpoint", "dew_point_temperature"), confused=KELVIN,
        ),
    ),
    Variable(
        "relative_humidity", "land_surface_air_water~vapor__relative_saturation", "%", "cell", "input",
        "Vapour pressure in that of saturated air", part="weather",
        facts=InputFacts(
            0.0, 105.0, 75.0, "saturation, and the error of a sensor", forms="vapour_pressure",
            usual=("hurs", "rh", "rhmean", "relative_humidity"),
        ),
    ),
)
"""What sources of `prepare` give in place of an input that it is made of; no model takes it."""
