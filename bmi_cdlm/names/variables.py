"""The registry of variables: what each is called, in which unit, on which grid, and what it means.

BMI, output files, configuration and documentation are all derived from this table; a name or a unit stands nowhere
else. Inputs stand in `inputs`, what couples models in `coupling`, what hosts ask for besides in `host_variables`.
"""

from __future__ import annotations

from collections.abc import Collection

from bmi_cdlm.names.coupling import COUPLING, SUB_STEPS
from bmi_cdlm.names.entry import INFINITE, Grid, Role, Variable
from bmi_cdlm.names.errors import UnknownNameError, nearest
from bmi_cdlm.names.inputs import INGREDIENTS, INPUTS

VARIABLES: list[Variable] = [
    *INPUTS,
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
BY_SHORT: dict[str, Variable] = {v.short: v for v in (*VARIABLES, *COUPLING, *SUB_STEPS)}
SOURCES: dict[str, Variable] = {v.key: v for v in (*VARIABLES, *INGREDIENTS) if v.facts is not None}
"""Inputs and ingredients by their names among the sources of `prepare`."""


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
