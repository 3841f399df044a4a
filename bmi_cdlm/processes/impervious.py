"""Runoff processes of cells a share of which is sealed: roofs and roads hand rain on at once, the rest is as it was.

What evaporation leaves of rain and melt, max(P - E, 0), runs off at once from the sealed share of a cell [Boyd et al.
1993, doi:10.1016/0022-1694(93)90114-A]; what is left goes into the soil of the process below, which loses and makes no
water by it. Depths in mm, fluxes in mm per step, of the whole cell.
"""

from __future__ import annotations

from dataclasses import replace

from bmi_cdlm.names.declaration import Flux, Stage
from bmi_cdlm.names.parameters import Parameter, Range
from bmi_cdlm.processes.gr4j import GR4J, production_step_inverse, routing_store_step_inverse
from bmi_cdlm.processes.hbv import HBV, response_and_exchange_step, soil_and_rise_step


def sealed_rain_step(P, E, sealed):
    """Split rain and melt. Returns what runs off at once, and what is left for the soil."""
    direct = sealed * max(P - E, 0.0)
    return direct, P - direct


def sealed_water_step(water, E, sealed):
    """`sealed_rain_step` of what leaves a snow of the process itself."""
    direct, soaked = sealed_rain_step(water, E, sealed)
    return direct, soaked


def production_below_step(S, soaked, E, X1, inverse_1, percolation_scale):
    """GR4J's production from what is not sealed. Returns S, evapotranspiration, Pn, Ps, percolation and Pr."""
    S, AE, Pn, Ps, percolation, Pr, _ratio = production_step_inverse(S, soaked, E, X1, inverse_1, percolation_scale)
    return S, AE, Pn, Ps, percolation, Pr


def routing_store_beside_step(R, Q9, Q1, direct, X2, inverse_3):
    """GR4J's routing store and direct branch, and what runs off at once. Returns as `routing_store_step_inverse`."""
    R, Q, exchange, F, AE1, AE2, Qr, Qd = routing_store_step_inverse(R, Q9, Q1, X2, inverse_3)
    return R, Q + direct, exchange, F, AE1, AE2, Qr, Qd


def soil_below_step(SM, LZ, soaked, E, FC, inverse_capacity, inverse_threshold, BETA, BETAET, C, days):
    """HBV's soil and capillary rise under what is not sealed. Returns as `soil_and_rise_step`."""
    SM, LZ, inflow, drawn, recharge, overflow, rise = soil_and_rise_step(
        SM, LZ, soaked, E, FC, inverse_capacity, inverse_threshold, BETA, BETAET, C, days
    )
    return SM, LZ, inflow, drawn, recharge, overflow, rise


def response_beside_step(UZ, LZ, inflow, direct, PERC, UZL, K0, K1, K2, regional_rate, days):
    """HBV's two zones, and what runs off at once. Returns as `response_and_exchange_step`."""
    UZ, LZ, Q, seeping, quick, inter, base, exchange = response_and_exchange_step(
        UZ, LZ, inflow, PERC, UZL, K0, K1, K2, regional_rate, days
    )
    return UZ, LZ, Q + direct, seeping, quick, inter, base, exchange


SHARE = Parameter(
    "impervious_share", "sealed", "1", (0.0, 1.0), Range(0, 0.9, 0.05), Range(0, 0.9, 0.05), "linear",
    "Share of a cell from which rain and melt run off at once; cell_impervious_share of the domain where it has that",
    "Boyd et al. 1993, doi:10.1016/0022-1694(93)90114-A", of_domain=True,
)
DIRECT = {"impervious_runoff": Flux(
    "direct", "land_surface_water_impervious-area_runoff__volume_flux", "Runoff of the sealed share of cells",
)}
SPLIT = ("direct", "soaked")

GR4J_IMPERVIOUS = replace(
    GR4J, name="gr4j_impervious", title="GR4J below a share of the cell that is sealed and hands rain on at once",
    source=f"{GR4J.source}; {SHARE.source}",
    stages=(
        Stage(sealed_rain_step, returns=SPLIT),
        Stage(production_below_step, returns=GR4J.stages[0].returns[:-1]),
        Stage(routing_store_beside_step, returns=GR4J.stages[1].returns, kept=GR4J.stages[1].kept),
    ),
    parameters=(*GR4J.parameters[:-1], SHARE, GR4J.parameters[-1]), fluxes={**GR4J.fluxes, **DIRECT},
)
HBV_IMPERVIOUS = replace(
    HBV, name="hbv_impervious", title="hbv below a share of the cell that is sealed and hands rain and melt on at once",
    source=f"{HBV.source}; {SHARE.source}",
    stages=(
        HBV.stages[0], Stage(sealed_water_step, returns=SPLIT), Stage(soil_below_step, returns=HBV.stages[1].returns),
        Stage(response_beside_step, returns=HBV.stages[2].returns),
    ),
    parameters=(*HBV.parameters[:-1], SHARE, HBV.parameters[-1]), fluxes={**HBV.fluxes, **DIRECT},
)
