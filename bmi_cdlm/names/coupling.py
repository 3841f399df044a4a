"""Variables by which other models couple, where a configuration names them, and what comes with them."""

from __future__ import annotations

from collections.abc import Collection

from bmi_cdlm.names.entry import Variable

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
COUPLED: tuple[str, ...] = tuple(v.short for v in COUPLING if v.role == "input")
"""Short names of the inputs that `coupled_inputs` may name."""


def coupled_outputs(names: Collection[str]) -> list[Variable]:
    """Return the outputs that come with some of the coupled inputs."""
    return [v for v in COUPLING if v.role != "input" and not set(names).isdisjoint(v.of)]
