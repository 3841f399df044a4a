"""A nonlinear reservoir: soil that evaporates and drains as a power of its wetness.

S water in the soil [mm]; P rain plus melt, E evaporative demand [mm per step]; Smax capacity [mm]; k drainage of a full
soil [mm d-1]; b its exponent.
"""

from bmi_cdlm.kernels.transcendental import power
from bmi_cdlm.names.declaration import RUNOFF, CellProcess, Flux, Input, Stage, Store
from bmi_cdlm.names.parameters import Parameter, Range
from bmi_cdlm.processes.pet import PET_FACTOR


def soil_step(S, P, E, Smax, k, b, days):
    """Rain fills the soil, the rest runs off; then it evaporates and drains. Returns S, evaporation and runoff."""
    filled = S + P
    over = filled - Smax
    spilled = over if over > 0.0 else 0.0
    filled = filled - spilled
    wetness = filled / Smax
    wanted = E * wetness
    evaporated = wanted if wanted < filled else filled
    left = filled - evaporated
    wanted = k * days * power(left / Smax, b)
    drained = wanted if wanted < left else left
    return left - drained, evaporated, drained + spilled


SOURCE = "Horton 1938; Wittenberg 1999, doi:10.1002/(SICI)1099-1085(19990415)13:5<715::AID-HYP775>3.0.CO;2-N"

NONLINEAR_RESERVOIR = CellProcess(
    name="nonlinear_reservoir",
    title="A soil that drains as a power of its wetness",
    source=SOURCE,
    inputs={
        "liquid_water": Input("P"),
        "potential_evapotranspiration": Input("E", factor="pet_factor", corrected="corrected_evapotranspiration"),
    },
    stages=(Stage(soil_step, returns=("S", "evaporated", "Q")),),
    stores={
        "soil_water": Store(
            "S", "mm", "soil_water__volume-per-area_storage_density", "Water in the soil", holds_water=True,
            at_most="soil_capacity", start=0.5, start_of="Smax", serves="evapotranspiration",
        ),
    },
    parameters=(
        Parameter("soil_capacity", "Smax", "mm", (1.0, 1e5), Range(20, 1000, 150), Range(20, 1000, 150), "log",
                  "Capacity of the soil", SOURCE),
        Parameter("drainage_rate", "k", "mm d-1", (0.0, 1e4), Range(0.5, 100, 10), Range(0.5, 100, 10), "log",
                  "Drainage of a full soil", SOURCE),
        Parameter("drainage_exponent", "b", "1", (1.0, 20.0), Range(1, 8, 2), Range(1, 8, 2), "linear",
                  "Exponent of drainage", SOURCE, may_vary=True),
        PET_FACTOR,
    ),
    fluxes={"evapotranspiration": Flux("evaporated", ledger="out"), "runoff": Flux("Q")},
    gives=(RUNOFF, "Q"),
)
