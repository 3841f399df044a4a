"""HBV in a form that loses and makes no water: one cell, one step [Bergstrom 1995; Feng et al. 2022; Song et al. 2025].

Stores [mm]: SP ice and MW liquid water of the snow, SM soil water, UZ and LZ water of the upper and the lower zone. P
precipitation and E potential evapotranspiration [mm per step], T air temperature [degC]. Rates are per day whatever
the step, of `days` days. Differences from the published codes: stores start empty rather than at 0.001 mm, none is
held above a floor, and regional exchange is told as what it is, water from outside or to it.
"""

from __future__ import annotations

from dataclasses import replace

from bmi_cdlm.kernels.transcendental import exp, power
from bmi_cdlm.names.declaration import RUNOFF, CellProcess, Flux, Input, Prepared, Queue, Stage, Store
from bmi_cdlm.names.parameters import INFINITE, Parameter, Range, per_day
from bmi_cdlm.processes.cemaneige import FLUXES as SNOW
from bmi_cdlm.processes.pet import PET_FACTOR


def snow_step(SP, MW, P, T, TT, CFMAX, CFR, CWH, days):
    """Degree-day snow that holds some of its melt. Returns SP, MW, water for the soil, snowfall, melt, refreezing and
    what leaves the snow; rain does not pass through it."""
    snowfall = P if T < TT else 0.0
    warmth = CFMAX * (T - TT) * days
    pack = SP + snowfall
    melt = min(max(warmth, 0.0), pack)
    pack = pack - melt
    liquid = MW + melt
    frozen = min(max(-CFR * warmth, 0.0), liquid)
    pack = pack + frozen
    liquid = liquid - frozen
    shed = max(0.0, liquid - CWH * pack)
    return pack, liquid - shed, (P - snowfall) + shed, snowfall, melt, frozen, shed


def high_snow_step(SP, MW, P, T, TM, CFMAX, CFR, CWH, days):
    """`snow_step` at a threshold temperature that depends on elevation."""
    SP, MW, water, snowfall, melt, frozen, shed = snow_step(SP, MW, P, T, TM, CFMAX, CFR, CWH, days)
    return SP, MW, water, snowfall, melt, frozen, shed


def soil_step(SM, water, E, FC, inverse_capacity, inverse_threshold, BETA, BETAET):
    """Recharge, overflow and evapotranspiration. Returns SM, water for the upper zone, evapotranspiration, recharge and
    overflow."""
    recharge = water * power(min(SM * inverse_capacity, 1.0), BETA)
    filled = SM + (water - recharge)
    overflow = max(0.0, filled - FC)
    filled = filled - overflow
    drawn = min(E * power(min(filled * inverse_threshold, 1.0), BETAET), filled)
    return filled - drawn, recharge + overflow, drawn, recharge, overflow


def capillary_step(SM, LZ, C, inverse_capacity, days):
    """Capillary rise, which may fill the soil beyond its capacity until the next step. Returns SM, LZ and the rise."""
    rise = C * days * LZ * (1.0 - min(SM * inverse_capacity, 1.0))
    return SM + rise, LZ - rise, rise


def soil_and_rise_step(SM, LZ, water, E, FC, inverse_capacity, inverse_threshold, BETA, BETAET, C, days):
    """`soil_step` and `capillary_step`. Returns SM, LZ, and what they return."""
    SM, inflow, drawn, recharge, overflow = soil_step(
        SM, water, E, FC, inverse_capacity, inverse_threshold, BETA, BETAET
    )
    SM, LZ, rise = capillary_step(SM, LZ, C, inverse_capacity, days)
    return SM, LZ, inflow, drawn, recharge, overflow, rise


def upper_zone_step(UZ, inflow, PERC, UZL, K0, K1, days):
    """Percolation, quick flow above a threshold, interflow. Returns UZ and the three."""
    held = UZ + inflow
    seeping = min(PERC * days, held)
    held = held - seeping
    quick = K0 * days * max(0.0, held - UZL)
    held = held - quick
    inter = K1 * days * held
    return held - inter, seeping, quick, inter


def response_step(UZ, LZ, inflow, PERC, UZL, K0, K1, K2, days):
    """The two zones. Returns UZ, LZ, runoff, percolation, quick flow, interflow and base flow."""
    UZ, seeping, quick, inter = upper_zone_step(UZ, inflow, PERC, UZL, K0, K1, days)
    deep = LZ + seeping
    base = K2 * days * deep
    return UZ, deep - base, (quick + inter) + base, seeping, quick, inter, base


def response_and_exchange_step(UZ, LZ, inflow, PERC, UZL, K0, K1, K2, regional_rate, days):
    """`response_step` with regional exchange, which takes no more than there is. Returns it last."""
    UZ, seeping, quick, inter = upper_zone_step(UZ, inflow, PERC, UZL, K0, K1, days)
    deep = LZ + seeping
    exchange = max(-deep, regional_rate * days)
    deep = deep + exchange
    base = K2 * days * deep
    return UZ, deep - base, (quick + inter) + base, seeping, quick, inter, base, exchange


def leave_step(delayed):
    """Runoff behind the unit hydrograph."""
    return delayed


def gamma_weight(k, a, b, length, days):
    """Density of a gamma distribution of shape a + 0.1 and scale b + 0.5 d in the middle of a step, up to a factor."""
    t = (k + 0.5) * days
    return power(t, a - 0.9) * exp(-t / (b + 0.5)) if k < length else 0.0


def inverse_of_field_capacity(FC):
    """1 / FC, which no step changes."""
    return 1.0 / FC


def inverse_of_threshold(LP, FC):
    """1 / (LP FC): above LP FC evapotranspiration is potential."""
    return 1.0 / (LP * FC)


def regional_exchange(RT, AC, upstream_area):
    """Regional exchange [mm d-1] by the area above [km2]: a loss below AC, a gain above, fading out from 2500 km2."""
    growing = max(-1.0, min(1.0, (upstream_area - AC) * 0.001))
    fading = exp(-max(0.0, min(10.0, (upstream_area - 2500.0) * 0.02)))
    return RT * (growing if upstream_area < 2500.0 else fading)


def threshold_temperature(TT, elevation):
    """TT, or 4 degC from 2000 m upwards."""
    return TT if elevation < 2000.0 else 4.0


SOURCE = "Bergstrom 1995; Feng et al. 2022, doi:10.1029/2022WR032404; Song et al. 2025, doi:10.1029/2024WR038928"
PUBLISHED, LATER = "Feng et al. 2022", "Song et al. 2025"


SNOW_AND_SOIL = (
    per_day("snow_threshold_temperature", "TT", "degC", (-50.0, 50.0), Range(-2.5, 2.5, 0), "linear",
            "Below it precipitation is snow, above it snow melts", PUBLISHED),
    per_day("degree_day_factor", "CFMAX", "mm degC-1 d-1", (0.0, INFINITE), Range(0.5, 10, 3), "log",
            "Degree-day factor of melt", PUBLISHED),
    per_day("refreezing_factor", "CFR", "1", (0.0, INFINITE), Range(0, 0.1, 0.05), "linear",
            "Share of the degree-day factor that is for refreezing", PUBLISHED),
    per_day("snow_water_capacity", "CWH", "1", (0.0, INFINITE), Range(0, 0.2, 0.1), "linear",
            "Liquid water that snow holds, a share of its ice", PUBLISHED),
    per_day("field_capacity", "FC", "mm", (0.01, INFINITE), Range(50, 1000, 250), "log", "Capacity of the soil",
            PUBLISHED),
    per_day("recharge_shape", "BETA", "1", (0.01, 100.0), Range(1, 6, 2), "linear",
            "Exponent of the soil's wetness in the share of water that recharges", PUBLISHED, may_vary=True),
    per_day("evaporation_threshold", "LP", "1", (0.01, 1.0), Range(0.2, 1, 0.7), "linear",
            "Share of the soil's capacity above which evapotranspiration is potential", PUBLISHED),
    per_day("evaporation_shape", "BETAET", "1", (0.01, 100.0), Range(0.3, 5, 1), "linear",
            "Exponent of the soil's wetness in the share of demand that evaporates", PUBLISHED, may_vary=True),
)
RISE = (
    per_day("capillary_rate", "C", "d-1", (0.0, 1.0), Range(0, 1, 0.1), "linear",
            "Share of the lower zone that rises into an empty soil", PUBLISHED),
)
ZONES = (
    per_day("percolation_capacity", "PERC", "mm d-1", (0.0, INFINITE), Range(0, 10, 2), "linear",
            "Largest percolation into the lower zone", PUBLISHED),
    per_day("quickflow_threshold", "UZL", "mm", (0.0, INFINITE), Range(0, 100, 20), "linear",
            "Water in the upper zone above which there is quick flow", PUBLISHED),
    per_day("quickflow_rate", "K0", "d-1", (0.0, 1.0), Range(0.05, 0.9, 0.3), "linear",
            "Outflow of the upper zone above its threshold", PUBLISHED, may_vary=True),
    per_day("interflow_rate", "K1", "d-1", (0.0, 1.0), Range(0.01, 0.5, 0.1), "log", "Outflow of the upper zone",
            PUBLISHED),
    per_day("baseflow_rate", "K2", "d-1", (0.0, 1.0), Range(0.001, 0.2, 0.03), "log", "Outflow of the lower zone",
            PUBLISHED),
)
EXCHANGE = (
    per_day("regional_exchange_capacity", "RT", "mm d-1", (0.0, INFINITE), Range(0, 20, 0), "linear",
            "Largest regional exchange, from nowhere or to nowhere; 0 is none", LATER),
    per_day("regional_exchange_area", "AC", "km2", (0.0, INFINITE), Range(0, 2500, 1250), "linear",
            "Area above at which regional exchange turns from a loss into a gain", LATER),
)
HYDROGRAPH = (
    per_day("unit_hydrograph_shape", "a", "1", (0.0, 100.0), Range(0, 2.9, 1), "linear",
            "Shape of the unit hydrograph, less 0.1", PUBLISHED),
    per_day("unit_hydrograph_scale", "b", "d", (0.0, 1000.0), Range(0, 6.5, 0.5), "linear",
            "Scale of the unit hydrograph, less 0.5", PUBLISHED),
    Parameter("unit_hydrograph_length", "length", "steps", (1.0, 480.0), Range(1, 15, 15), Range(24, 360, 360),
              "linear", "Where the unit hydrograph is cut off; 1 is none", PUBLISHED),
)

STORES = {
    "snow_ice": Store("SP", "mm", "snowpack_ice__leq_depth", "Ice in the snow (SP)", holds_water=True),
    "snow_liquid_water": Store(
        "MW", "mm", "snowpack_liquid-water__leq_depth", "Liquid water in the snow (MW)", holds_water=True,
    ),
    "soil_moisture": Store(
        "SM", "mm", "soil_moisture-store_water__volume-per-area_storage_density",
        "Water in the soil (SM), which capillary rise may fill above its capacity for a step", holds_water=True,
        serves="evapotranspiration",
    ),
    "upper_zone": Store(
        "UZ", "mm", "soil_upper-zone_water__volume-per-area_storage_density", "Water in the upper zone (UZ)",
        holds_water=True,
    ),
    "lower_zone": Store(
        "LZ", "mm", "soil_lower-zone_water__volume-per-area_storage_density", "Water in the lower zone (LZ)",
        holds_water=True, serves="exchange",
    ),
}
FLUXES = {
    "snowfall": SNOW["snowfall"],
    "melt_in_snow": Flux(
        "melt", "snowpack_ice_melt__volume_flux", "Melt, some of which stays in the snow as liquid water",
    ),
    "refreezing": Flux("frozen", "snowpack_liquid-water_refreezing__volume_flux", "Refreezing of liquid water in snow"),
    "snowmelt": SNOW["snowmelt"]._replace(symbol="shed"),
    "evapotranspiration": Flux("drawn", ledger="out"),
    "recharge": Flux(
        "recharge", "soil_moisture-store_water_recharge__volume_flux", "Share of rain and melt that the soil lets pass",
    ),
    "soil_overflow": Flux(
        "overflow", "soil_moisture-store_water_overflow__volume_flux", "Water that the soil has no room for",
    ),
    "deep_percolation": Flux(
        "seeping", "soil_upper-zone_water_percolation__volume_flux", "Percolation into the lower zone",
    ),
    "quickflow": Flux(
        "quick", "soil_upper-zone_water_quick-flow__volume_flux", "Outflow of the upper zone above its threshold",
    ),
    "interflow": Flux("inter", "soil_upper-zone_water_interflow__volume_flux", "Outflow of the upper zone"),
    "baseflow": Flux("base", "soil_lower-zone_water_base-flow__volume_flux", "Outflow of the lower zone"),
    "runoff": Flux("Q"),
}
RISEN = {"capillary_rise": Flux(
    "rise", "soil_lower-zone_water_capillary-rise__volume_flux", "Capillary rise from the lower zone into the soil",
)}
EXCHANGED = {"groundwater_exchange": Flux("exchange", ledger="exchange")}
GAMMA = {
    "gamma_hydrograph": Queue(
        takes="generated", gives="delayed", share=1.0, weight=gamma_weight, base="unit_hydrograph_length", spans=1.0,
        at_least=1.0, held="queued_runoff",
        standard_name="land_surface_water_queued-runoff__volume-per-area_storage_density",
        meaning="Runoff on its way through the unit hydrograph; setting it scales what is there",
    ),
}
SNOW_STAGE = Stage(snow_step, returns=("SP", "MW", "water", "snowfall", "melt", "frozen", "shed"))
DRY_SOIL = Stage(soil_step, returns=("SM", "inflow", "drawn", "recharge", "overflow"))
SOIL = Stage(soil_and_rise_step, returns=("SM", "LZ", "inflow", "drawn", "recharge", "overflow", "rise"))
RESPONSE = Stage(response_step, returns=("UZ", "LZ", "generated", "seeping", "quick", "inter", "base"))
LEAVE = Stage(leave_step, returns=("Q",))
INVERSES = (
    Prepared(inverse_of_field_capacity, returns=("inverse_capacity",)),
    Prepared(inverse_of_threshold, returns=("inverse_threshold",)),
)
REGIONAL = Prepared(regional_exchange, returns=("regional_rate",))

HBV = CellProcess(
    name="hbv",
    title="HBV with capillary rise and, where it is given, regional exchange; no unit hydrograph, for reaches route",
    source=SOURCE,
    inputs={
        "precipitation": Input("P"), "air_temperature": Input("T", "level"),
        "potential_evapotranspiration": Input("E", factor="pet_factor", corrected="corrected_evapotranspiration"),
    },
    stages=(
        SNOW_STAGE, SOIL,
        Stage(response_and_exchange_step, returns=("UZ", "LZ", "Q", "seeping", "quick", "inter", "base", "exchange")),
    ),
    stores=STORES,
    parameters=(*SNOW_AND_SOIL, *RISE, *ZONES, *EXCHANGE, PET_FACTOR),
    prepared=(*INVERSES, REGIONAL),
    attributes={"upstream_area": "upstream_area"},
    fluxes=FLUXES | RISEN | EXCHANGED,
    gives=(RUNOFF, "Q"),
    left_at_default=("regional_exchange_capacity", "regional_exchange_area"),
    closed={"regional_exchange_capacity": 0.0},
)
HBV_1_0 = replace(
    HBV, name="hbv_1_0", title="HBV as in dHBV 1.0: no capillary rise, a gamma unit hydrograph",
    stages=(SNOW_STAGE, DRY_SOIL, RESPONSE, LEAVE), queues=GAMMA, prepared=INVERSES, attributes={}, fluxes=FLUXES,
    stores=STORES | {"soil_moisture": STORES["soil_moisture"]._replace(at_most="field_capacity")},
    parameters=(*SNOW_AND_SOIL, *ZONES, *HYDROGRAPH, PET_FACTOR),
    left_at_default=("evaporation_shape", "unit_hydrograph_length"), closed={},
)
HBV_1_1P = replace(
    HBV_1_0, name="hbv_1_1p", title="HBV as in dHBV 1.1p: capillary rise, a gamma unit hydrograph",
    stages=(SNOW_STAGE, SOIL, RESPONSE, LEAVE), stores=STORES, fluxes=FLUXES | RISEN,
    parameters=(*SNOW_AND_SOIL, *RISE, *ZONES, *HYDROGRAPH, PET_FACTOR), left_at_default=("unit_hydrograph_length",),
)
HBV_2_0 = replace(
    HBV, name="hbv_2_0",
    title="HBV as in dHBV 2.0: as hbv, with snow below 4 degC from 2000 m upwards and a gamma unit hydrograph",
    stages=(
        SNOW_STAGE._replace(step=high_snow_step), SOIL,
        Stage(response_and_exchange_step, returns=(*RESPONSE.returns, "exchange")), LEAVE,
    ),
    queues=GAMMA, prepared=(*INVERSES, REGIONAL, Prepared(threshold_temperature, returns=("TM",))),
    attributes={"upstream_area": "upstream_area", "elevation": "elevation"},
    parameters=(*SNOW_AND_SOIL, *RISE, *ZONES, *EXCHANGE, *HYDROGRAPH, PET_FACTOR),
    left_at_default=(*HBV.left_at_default, "unit_hydrograph_length"),
)
