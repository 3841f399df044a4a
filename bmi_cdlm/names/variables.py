"""The registry of variables: what each is called, in which unit, on which grid, and what it means.

BMI, output files, configuration and documentation are all derived from this table; a name or a unit
stands nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from bmi_cdlm.names.errors import UnknownNameError, nearest
from bmi_cdlm.names.facts import KELVIN, SOURCE_OF_RECORDS, TEMPERATURES, WIND_SPEEDS, Confusion, InputFacts, Within

Grid = Literal["cell", "reach", "gauge", "domain", "link", "boundary"]
Role = Literal["input", "flux", "state", "total", "parameter", "identity"]
Part = Literal["core", "process", "pet", "weather", "ledger", "coupling"]
INFINITE = float("inf")


class Alias(NamedTuple):
    """Another published name of an input: value in registry units = value * factor + offset."""

    name: str
    units: str
    factor: float
    offset: float


class Variable(NamedTuple):
    """One variable of the model.

    short: name in files, configuration and code; name: CSDMS Standard Name; role: `input`, `flux` (mean
    over the last step), `state` (at the end of the step) or `total` (cumulative since the start); part: what must be
    there for it: `process` one of the processes `of`, `weather` being the inputs that a process or a formula of
    potential evapotranspiration may take. facts: of an input, its limits and whatever
    else is known of it. sub_steps: whether it has a value for every routing sub-step of a step, [sub-step, place].
    """

    short: str
    name: str
    units: str
    grid: Grid
    role: Role
    meaning: str
    part: Part = "core"
    ngen: Alias | None = None
    bounds: tuple[float, float] | None = None
    of: tuple[str, ...] = ()
    facts: InputFacts | None = None
    sub_steps: bool = False

    @property
    def known(self) -> InputFacts:
        """The facts of an input."""
        assert self.facts is not None, self.short
        return self.facts

    @property
    def key(self) -> str:
        """Name of an input among the sources of `prepare`."""
        return self.known.key or self.short


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


VARIABLES: list[Variable] = [
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
    Variable(
        "pet_factor", "land_surface_water_evapotranspiration__potential_volume_flux_correction_factor", "1",
        "cell", "flux", "Factor on potential evapotranspiration from the generator's PET network", part="pet",
    ),
    Variable(
        "corrected_evapotranspiration",
        "land_surface_water_evapotranspiration__corrected_potential_volume_flux", "mm d-1", "cell", "flux",
        "Evaporative demand of the atmosphere times its factor", part="pet",
    ),
    Variable(
        "evapotranspiration", "land_surface_water_evapotranspiration__volume_flux", "mm d-1", "cell", "flux",
        "Actual evapotranspiration", part="process",
    ),
    Variable(
        "groundwater_exchange", "land_subsurface_water_exchange__volume_flux", "mm d-1", "cell", "flux",
        "Groundwater exchange of the cell, positive into the cell", part="process",
    ),
    Variable(
        "runoff", "land_surface_water_runoff__volume_flux", "mm d-1", "cell", "flux",
        "Runoff of the cell into the river network",
    ),
    Variable(
        "cell_water_stored", "land_surface_water__volume-per-area_storage_density", "mm", "cell", "state",
        "Water in snow, stores and unit hydrographs of the cell",
    ),
    Variable(
        "precipitation_total", "atmosphere_water_precipitation__time_integral_of_leq_volume_flux", "mm", "cell",
        "total", "Precipitation since the start, or runoff that was given: what came into the cell",
    ),
    Variable(
        "evapotranspiration_total", "land_surface_water_evapotranspiration__time_integral_of_volume_flux", "mm",
        "cell", "total", "Actual evapotranspiration since the start; with the runoff, what left the cell",
    ),
    Variable(
        "runoff_total", "land_surface_water_runoff__time_integral_of_volume_flux", "mm", "cell", "total",
        "Runoff since the start",
    ),
    Variable(
        "exchange_total", "land_subsurface_water_exchange__time_integral_of_volume_flux", "mm", "cell", "total",
        "Groundwater exchange since the start, positive into the cell",
    ),
    Variable(
        "added_total", "land_surface_water_addition__time_integral_of_volume_flux", "mm", "cell", "total",
        "Water that callers put into the stores of the cell since the start, less what they took",
    ),
    Variable(
        "cell_water_residual", "land_surface_water_balance_residual__time_integral_of_volume_flux", "mm", "cell",
        "total", "What came in since the start less what left and what is stored more than then", part="ledger",
    ),
    Variable(
        "lateral_inflow", "stream_channel_reach_water~incoming__lateral_component_of_volume_rate", "m3 s-1",
        "reach", "flux", "Runoff entering at the head of the reach",
    ),
    Variable(
        "discharge", "channel_exit_water_flowing_x-section__volume_rate", "m3 s-1", "reach", "flux",
        "Discharge at the end of the reach, mean over the model step",
    ),
    Variable(
        "reach_storage", "stream_channel_reach_water__volume", "m3", "reach", "state", "Water in the reach",
        bounds=(0.0, INFINITE),
    ),
    Variable(
        "outflow_total", "channel_exit_water_flowing_x-section__time_integral_of_volume_rate", "m3", "reach", "total",
        "Water that left the reach since the start",
    ),
    Variable(
        "reach_added_total", "stream_channel_reach_water_addition__time_integral_of_volume_rate", "m3", "reach",
        "total", "Water that callers put into the reach since the start, less what they took",
    ),
    Variable(
        "inflow_total", "stream_channel_reach_water~incoming__time_integral_of_volume_rate", "m3", "reach", "total",
        "Water that came into the reach since the start, from above and from its own catchment", part="ledger",
    ),
    Variable(
        "reach_water_residual", "stream_channel_reach_water_balance_residual__time_integral_of_volume_rate", "m3",
        "reach", "total", "What came in since the start less what left and what is stored more than then",
        part="ledger",
    ),
    Variable(
        "gauge_discharge", "drainage-basin_outlet_water_flowing_x-section__volume_rate", "m3 s-1", "gauge",
        "flux", "Discharge at the gauge, mean over the model step",
    ),
    Variable(
        "runoff_depth", "drainage-basin_water_runoff__last-call_time_integral_of_volume_flux", "m", "domain", "flux",
        "Runoff of all cells that the last call handed out, as a depth over the drained area",
    ),
    Variable(
        "runoff_depth_total", "drainage-basin_water_runoff__time_integral_of_volume_flux", "m", "domain", "total",
        "Runoff of all cells since the start, as a depth over the drained area: the sum of what calls handed out",
    ),
    Variable(
        "outlet_discharge", "drainage-basin_outlets_water_flowing_x-section__volume_rate", "m3 s-1", "domain", "flux",
        "Discharge of all outlets of the domain together, mean over the model step",
    ),
    Variable(
        "water_in", "drainage-basin_water~incoming__time_integral_of_volume_rate", "m3", "domain", "total",
        "Precipitation since the start, or runoff that was given",
    ),
    Variable(
        "water_out", "drainage-basin_water~outgoing__time_integral_of_volume_rate", "m3", "domain", "total",
        "Evapotranspiration and discharge at the outlets since the start",
    ),
    Variable(
        "water_exchanged", "drainage-basin_subsurface_water_exchange__time_integral_of_volume_rate", "m3",
        "domain", "total", "Groundwater exchange since the start, positive into the domain",
    ),
    Variable(
        "water_added", "drainage-basin_water_addition__time_integral_of_volume_rate", "m3", "domain", "total",
        "Water that callers put into stores and reaches since the start, less what they took",
    ),
    Variable(
        "water_stored", "drainage-basin_water__volume", "m3", "domain", "state",
        "Water in snow, stores, unit hydrographs and reaches now",
    ),
    Variable(
        "water_residual", "drainage-basin_water_balance_residual__time_integral_of_volume_rate", "m3", "domain",
        "total", "What came in since the start less what left and what is stored more than then", part="ledger",
    ),
]
"""Inputs, and what every model computes; what processes compute comes in with `registry.declare`."""

MASSES: tuple[Variable, ...] = (
    Variable("mass_in", "ngen::mass_in", "m", "domain", "total", "Precipitation"),
    Variable("mass_out", "ngen::mass_out", "m", "domain", "total", "Evapotranspiration and discharge handed out"),
    Variable(
        "mass_stored", "ngen::mass_stored", "m", "domain", "total",
        "Change of all stores and reaches, input not yet used and discharge not yet handed out",
    ),
    Variable("mass_leaked", "ngen::mass_leaked", "m", "domain", "total", "Groundwater exchange out of the domain"),
)
"""What NextGen's mass balance asks for by name, depths over the drained area since the start: in = out + stored +
leaked. They are in no list of names."""

SERIALIZATION: tuple[Variable, ...] = (
    Variable("create", "ngen::serialization_create", "ngen::trigger", "domain", "total", "Take the state"),
    Variable("free", "ngen::serialization_free", "ngen::trigger", "domain", "total", "Forget the state that was taken"),
    Variable("size", "ngen::serialization_size", "bytes", "domain", "total", "Length of the state"),
    Variable("state", "ngen::serialization_state", "ngen::opaque", "domain", "total", "The state: read, or given back"),
    Variable("taken", "serialization_create", "bytes", "domain", "total", "Reading it takes the state; its length"),
    Variable("free", "serialization_free", "1", "domain", "total", "Forget the state that was taken"),
    Variable("state", "serialization_state", "1", "domain", "total", "The state: read, or given back"),
)
"""By which NextGen saves and restores, in two protocols: that of ngen, and that of its branch `ngwpc`, whose names
have no prefix. In no list of names either."""

IDENTITY: tuple[Variable, ...] = tuple(
    Variable(short, name, units, grid, "identity", meaning)  # type: ignore[arg-type]
    for short, name, units, grid, meaning in (
        ("cell_id", "model_grid_cell__id", "1", "cell", "Ids, where all are whole numbers (int64)"),
        ("cell_id_text", "model_grid_cell__id_text", "1", "cell", "Ids as text (uint8, UTF-8, a row of bytes each)"),
        ("cell_lon", "model_grid_cell__longitude", "degrees_east", "cell", "Longitude of the centre"),
        ("cell_lat", "model_grid_cell__latitude", "degrees_north", "cell", "Latitude of the centre"),
        ("cell_area", "model_grid_cell__area", "km2", "cell", "Geometric area"),
        ("cell_drained_area", "model_grid_cell__drained_area", "km2", "cell", "Area that drains to reaches"),
        ("reach_id", "channel_reach__id", "1", "reach", "Ids, where all are whole numbers (int64)"),
        ("reach_id_text", "channel_reach__id_text", "1", "reach", "Ids as text (uint8, UTF-8, a row of bytes each)"),
        ("reach_lon", "channel_reach__longitude", "degrees_east", "reach", "Longitude"),
        ("reach_lat", "channel_reach__latitude", "degrees_north", "reach", "Latitude"),
        ("reach_length", "channel_reach__length", "m", "reach", "Length"),
        ("reach_slope", "channel_reach__slope", "1", "reach", "Slope"),
        ("reach_area", "channel_reach_catchment__area", "km2", "reach", "Area of its own catchment"),
        ("upstream_area", "channel_reach_basin__area", "km2", "reach", "Area of all that drains through it"),
        ("downstream", "channel_reach_downstream__index", "1", "reach", "Index of the reach below (int64), -1: outlet"),
        ("gauge_id", "gauge__id", "1", "gauge", "Ids, where all are whole numbers (int64)"),
        ("gauge_id_text", "gauge__id_text", "1", "gauge", "Ids as text (uint8, UTF-8, a row of bytes each)"),
        ("gauge_reach", "gauge_channel_reach__index", "1", "gauge", "Index of the reach at whose end it is (int64)"),
        ("gauge_area", "gauge_basin__area", "km2", "gauge", "Official area, NaN where unknown"),
        ("boundary_reach", "channel_reach_boundary__index", "1", "boundary", "Reach whose discharge is given (int64)"),
        ("link_cell", "cell_reach_link_cell__index", "1", "link", "Index of the cell (int64)"),
        ("link_reach", "cell_reach_link_reach__index", "1", "link", "Index of the reach into which it drains (int64)"),
        ("link_area", "cell_reach_link__area", "km2", "link", "Area of the cell in the reach's catchment"),
        ("link_share", "cell_reach_link_cell__area_fraction", "1", "link", "Share of the cell's drained area"),
    )
)
"""What the places of the grids are, for clients without the domain file; in no list of names, as parameters. Indices
count from 0 in the order of the grids. `_text` holds count x width bytes, padded with zeros."""

MOST_FLOW = 1e6
"""Flow that nobody puts into a reach or takes from it [m3 s-1]: the Amazon carries 3.7e5 at Obidos in a flood."""

COUPLING: tuple[Variable, ...] = (
    Variable(
        "reach_inflow", "stream_channel_reach_water~incoming~external__volume_rate", "m3 s-1", "reach", "input",
        "Flow put into the head of the reach, or where negative taken from the reach, by whoever couples to it",
        part="coupling", bounds=(-MOST_FLOW, MOST_FLOW),
    ),
    Variable(
        "given_lateral_inflow", "stream_channel_reach_water~incoming~external__lateral_component_of_volume_rate",
        "m3 s-1", "reach", "input", "Lateral inflow of the reach, where another model makes it (`runoff: caller`); "
        "stands in place of given_runoff", part="coupling", bounds=(0.0, MOST_FLOW), of=("given_runoff",),
    ),
    Variable(
        "given_evapotranspiration", "land_surface_water_evapotranspiration~external__volume_flux", "mm d-1", "cell",
        "input", "Actual evapotranspiration, where another model makes it; stands in place of "
        "potential_evapotranspiration. It takes of the rain and of a store, what is there at most", part="coupling",
        bounds=(0.0, 300.0), of=("potential_evapotranspiration",),
    ),
    Variable(
        "given_exchange", "land_subsurface_water_exchange~external__volume_flux", "mm d-1", "cell", "input",
        "Groundwater exchange, positive into the cell, where another model makes it; stands in place of that of the "
        "process. It takes what is in a store at most", part="coupling", bounds=(-2000.0, 2000.0),
    ),
    Variable(
        "boundary_inflow", "channel_entrance_water_flowing_x-section__sub-step_volume_rate", "m3 s-1", "boundary",
        "input", "Discharge of the reaches that were cut off above, in every routing sub-step of the next steps, "
        "[sub-step, boundary]; NaN until set", part="coupling", bounds=(0.0, MOST_FLOW), sub_steps=True,
    ),
    Variable(
        "evapotranspiration_missing", "land_surface_water_evapotranspiration~external__unmet_volume_flux", "mm d-1",
        "cell", "flux", "Evapotranspiration that was given, and for which there was no water", part="coupling",
        of=("given_evapotranspiration",),
    ),
    Variable(
        "exchange_missing", "land_subsurface_water_exchange~external__unmet_volume_flux", "mm d-1", "cell", "flux",
        "Groundwater exchange that was given, and for which there was no water or no room", part="coupling",
        of=("given_exchange",),
    ),
    Variable(
        "reach_inflow_asked", "stream_channel_reach_water~incoming~external__requested_volume_rate", "m3 s-1", "reach",
        "flux", "Flow that was to be put into the reach or taken from it, mean over the model step", part="coupling",
        of=("reach_inflow",),
    ),
    Variable(
        "reach_inflow_taken", "stream_channel_reach_water~incoming~external__actual_volume_rate", "m3 s-1", "reach",
        "flux", "Flow that was put into the reach or taken from it: a withdrawal takes what flows and stands there at "
        "most", part="coupling", of=("reach_inflow",),
    ),
)
"""Inputs by which other models couple, where `coupled_inputs` names them, and the outputs that come with them (`of`).
Inputs are 0 until set, and held afterwards; `of` an input is the input that it stands in place of. In no list of names
before a configuration names them."""

SUB_STEPS: tuple[Variable, ...] = tuple(
    Variable(
        f"{short}_sub_steps", name.replace("__", "__sub-step_"), "m3 s-1", grid, "flux",  # type: ignore[arg-type]
        f"Discharge at the {place} in every routing sub-step of the last model step, [sub-step, {grid}]",
        part="coupling", of=(short,), sub_steps=True,
    )
    for short, name, grid, place in (
        ("discharge", "channel_exit_water_flowing_x-section__volume_rate", "reach", "end of the reach"),
        ("gauge_discharge", "drainage-basin_outlet_water_flowing_x-section__volume_rate", "gauge", "gauge"),
    )
)
"""Outputs that `sub_step_outputs` may ask for, by the flux that they tell more of (`of`): vectors, one value after the
other for all places of the first sub-step, then of the second, and so on."""

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

BY_SHORT: dict[str, Variable] = {v.short: v for v in (*VARIABLES, *COUPLING, *SUB_STEPS)}


def alias(v: Variable, profile: str) -> Alias:
    """Return the name and units of an input in a name profile, and the way back to registry units."""
    return v.ngen if profile == "ngen" and v.ngen is not None else Alias(v.name, v.units, 1.0, 0.0)


SOURCES: dict[str, Variable] = {v.key: v for v in (*VARIABLES, *INGREDIENTS) if v.facts is not None}
"""Inputs and ingredients by their names among the sources of `prepare`."""

SUMMED = {"mm d-1": "mm", "m3 s-1": "m3"}
"""Units of fluxes that have sums over a call, and those of the sums."""


def over_call(v: Variable) -> tuple[Variable, Variable]:
    """Return the variables that are the sum and the mean of a flux over the last call."""
    thing, quantity = v.name.split("__")
    return (
        v._replace(
            short=f"{v.short}_call_sum", name=f"{thing}__last-call_time_integral_of_{quantity}", units=SUMMED[v.units],
            meaning=f"{v.meaning}: sum over the steps of the last call",
        ),
        v._replace(
            short=f"{v.short}_call_mean", name=f"{thing}__last-call_time_mean_of_{quantity}",
            meaning=f"{v.meaning}: mean over the steps of the last call",
        ),
    )


COUPLED: tuple[str, ...] = tuple(v.short for v in COUPLING if v.role == "input")
"""Short names of the inputs that `coupled_inputs` may name."""


def coupled_outputs(names: Collection[str]) -> list[Variable]:
    """Return the outputs that come with some of the coupled inputs."""
    return [v for v in COUPLING if v.role != "input" and not set(names).isdisjoint(v.of)]


def plural(grid: str) -> str:
    """Return what places of a grid are called when there are many, or none: `reaches`."""
    return f"{grid[:-1]}ies" if grid.endswith("y") else f"{grid}es" if grid.endswith("ch") else f"{grid}s"


def variable(short: str) -> Variable:
    """Return the variable of that short name; UnknownNameError names the nearest."""
    try:
        return BY_SHORT[short]
    except KeyError:
        raise UnknownNameError(
            f"There is no variable '{short}'.{nearest(short, BY_SHORT)} Known: {', '.join(BY_SHORT)}."
        ) from None


def select(
    *, role: Role | None = None, grid: Grid | None = None, processes: Collection[str] | None = None, pet: bool = True,
    ledger: bool = True,
) -> list[Variable]:
    """Return the variables of a role and a grid, in registry order, as a run with these options has them.

    processes : names of the processes of the run; all that are known where None.
    """
    parts = {"core": True, "process": False, "pet": pet, "weather": True, "ledger": ledger}
    return [
        v for v in VARIABLES
        if (role is None or v.role == role) and (grid is None or v.grid == grid)
        and (parts[v.part] or (v.part == "process" and (processes is None or not set(v.of).isdisjoint(processes))))
    ]
