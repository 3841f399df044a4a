"""GR4J, daily or hourly: one cell, one step [Perrin et al. 2003, doi:10.1016/S0022-1694(03)00225-7].

Depths in mm, fluxes in mm per step. The hourly model (GR4H) differs in two constants: the percolation
constant and the exponent of the unit hydrographs. Symbols: S, R water in the production and routing store;
P, E precipitation and potential evapotranspiration; X1 to X4 the parameters.
"""

from __future__ import annotations

import math

from bmi_cdlm.kernels.elementary import (
    percolated_fraction,
    percolated_slope,
    store_outflow_fraction,
    tanh_ratio,
)
from bmi_cdlm.names.declaration import RUNOFF, Adjoint, CellProcess, Flux, Input, Prepared, Queue, Stage, Store
from bmi_cdlm.names.parameters import INFINITE, Parameter, Range
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.pet import PET_FACTOR


def production_step(S, P, E, X1, percolation_scale):
    """Interception, evapotranspiration, infiltration and percolation: `production_step_inverse` with 1 / X1."""
    return production_step_inverse(S, P, E, X1, 1.0 / X1, percolation_scale)


def production_step_inverse(S, P, E, X1, inverse_1, percolation_scale):
    """Interception, evapotranspiration, infiltration and percolation; `inverse_1` is 1 / X1, which no step changes.

    percolation_scale is c^-4 with c = 9/4 (daily) or 21/4 (hourly). S is at most X1: percolation is meaningless far
    beyond. Returns S, actual evapotranspiration, Pn, Ps, percolation, Pr, the water for the unit hydrographs, and the
    numerator of `tanh_ratio`, for the adjoint.
    """
    wet = P > E
    gain, loss = P - E, E - P
    net = gain if wet else loss
    w = net * inverse_1
    ratio, d = tanh_ratio(w if w < 13.0 else 13.0)
    s = S * inverse_1
    # One quotient serves both branches: Ps = X1 (1 - s^2) T / (1 + s T), Es = S (2 - s) T / (1 + (1 - s) T). What is
    # chosen between stands ready before each choice: the compiler would divide once per branch otherwise.
    wet_top, dry_top, dry_rest = X1 * (1.0 - s * s), S * (2.0 - s), 1.0 - s
    top = wet_top if wet else dry_top
    rest = s if wet else dry_rest
    moved = top * ratio / (d + rest * ratio)
    drawn, more, less = P + moved, S + moved, S - moved
    Pn = net if wet else 0.0
    Ps = moved if wet else 0.0
    AE = E if wet else drawn
    S = more if wet else less
    S = S if S > 0.0 else 0.0
    z = S * inverse_1
    z2 = z * z
    percolation = S * percolated_fraction(z2 * z2 * percolation_scale)
    return S - percolation, AE, Pn, Ps, percolation, (Pn - Ps) + percolation, ratio


def production_step_adjoint(S, P, E, X1, percolation_scale, S_adj, Pr_adj):
    """Adjoint of `production_step` in its S and Pr. Returns the adjoints of S, P, E and X1."""
    inverse_1 = 1.0 / X1
    ratio = production_step_inverse(S, P, E, X1, inverse_1, percolation_scale)[6]
    S0_adj, P_adj, X1_adj = production_step_inverse_adjoint(
        S, P, E, X1, inverse_1, ratio, percolation_scale, S_adj, Pr_adj
    )
    return S0_adj, P_adj, -P_adj, X1_adj


def production_step_inverse_adjoint(S, P, E, X1, inverse_1, ratio, percolation_scale, S_adj, Pr_adj):
    """Adjoint of `production_step_inverse` in its S and Pr; ratio is what that returned.

    Returns the adjoints of S, P and X1, what it does through its inverse_1 included; that of E is that of P negated,
    for only P - E counts.
    """
    wet = P > E
    net = P - E if wet else E - P
    w = net * inverse_1
    d = ratio + 2.0
    # T = tanh(w), and 1 - T without its cancellation where demand is far beyond the store.
    quotient = 1.0 / d
    T = ratio * quotient
    lack = (d - ratio) * quotient
    s = S * inverse_1
    rest = s if wet else 1.0 - s
    D = 1.0 / (1.0 + rest * T)
    top = X1 * (1.0 - s * s) if wet else S * (2.0 - s)
    moved = top * T * D
    S2 = S + moved if wet else S - moved
    alive = S2 > 0.0
    S2 = S2 if alive else 0.0
    z = S2 * inverse_1
    z2 = z * z
    a = z2 * z2 * percolation_scale
    slope = percolated_slope(a)

    percolation_adj = Pr_adj - S_adj
    S2_adj = S_adj + (percolated_fraction(a) + slope) * percolation_adj
    X1_adj = -z * slope * percolation_adj
    S2_adj = S2_adj if alive else 0.0
    moved_adj = S2_adj - Pr_adj if wet else -S2_adj
    T_adj = top * D * D * moved_adj
    # Both branches of d(moved)/ds at fixed T and X1; the dry one counts S itself apart, as X1 s.
    wet_slope = -X1 * T * (2.0 * s + T * (1.0 + s * s)) * D * D
    dry_slope = -S * T * lack * D * D
    s_adj = (wet_slope if wet else dry_slope) * moved_adj
    net_adj = lack * (1.0 + T) * T_adj * inverse_1 if w < 13.0 else 0.0
    X1_adj = X1_adj - (s * s_adj) * inverse_1 - w * net_adj
    X1_adj = X1_adj + (1.0 - s * s) * T * D * moved_adj if wet else X1_adj
    S0_adj = S2_adj + s_adj * inverse_1
    S0_adj = S0_adj if wet else S0_adj + (2.0 - s) * T * D * moved_adj
    P_adj = Pr_adj + net_adj if wet else -net_adj
    return S0_adj, P_adj, X1_adj


def routing_store_step(R, Q9, Q1, X2, X3):
    """Exchange, routing store and direct branch: `routing_store_step_inverse` with 1 / X3."""
    return routing_store_step_inverse(R, Q9, Q1, X2, 1.0 / X3)


def routing_store_step_inverse(R, Q9, Q1, X2, inverse_3):
    """Exchange with the groundwater, routing store and direct branch; `inverse_3` is 1 / X3.

    Returns R, runoff Q, total exchange, potential exchange F, exchange of the store and of the direct
    branch, and the runoff Qr and Qd of the two.
    """
    r = R * inverse_3
    F = X2 * (r * r * r * math.sqrt(r))
    R, Q, exchange, AE1, AE2, Qr, Qd = store_and_direct_branch(R, Q9, Q1, F, inverse_3)
    return R, Q, exchange, F, AE1, AE2, Qr, Qd


def store_and_direct_branch(R, Q9, Q1, F, inverse_3):
    """Routing store and direct branch under a potential exchange F, of which each takes what it has.

    Returns R, runoff Q, total exchange, exchange of the store and of the direct branch, and the runoff of the two.
    """
    filled = R + Q9 + F
    AE1 = F if filled >= 0.0 else -(R + Q9)
    R = filled if filled >= 0.0 else 0.0
    z = R * inverse_3
    z2 = z * z
    Qr = R * store_outflow_fraction(z2 * z2)
    direct = Q1 + F
    AE2 = F if direct >= 0.0 else -Q1
    Qd = direct if direct >= 0.0 else 0.0
    return R - Qr, Qr + Qd, AE1 + AE2, AE1, AE2, Qr, Qd


def routing_store_step_adjoint(R, Q9, Q1, X2, X3, R_adj, Q_adj):
    """Adjoint of `routing_store_step` in its R and Q. Returns the adjoints of R, Q9, Q1, X2 and X3."""
    inverse_3 = 1.0 / X3
    after = routing_store_step_inverse(R, Q9, Q1, X2, inverse_3)[0]
    return routing_store_step_inverse_adjoint(R, Q9, Q1, X2, inverse_3, after, R_adj, Q_adj)


def routing_store_step_inverse_adjoint(R, Q9, Q1, X2, inverse_3, R_after, R_adj, Q_adj):
    """Adjoint of `routing_store_step_inverse`, but for X3 in place of its inverse; `R_after` is R after the step."""
    r = R * inverse_3
    r2_5 = r * r * math.sqrt(r)
    F = X2 * (r2_5 * r)
    R1_adj, Q1_adj, F_adj, X3_adj = store_and_direct_branch_adjoint(R, Q9, Q1, F, inverse_3, R_after, R_adj, Q_adj)
    r_adj = 3.5 * X2 * r2_5 * F_adj * inverse_3
    return R1_adj + r_adj, R1_adj, Q1_adj, r2_5 * r * F_adj, X3_adj - r * r_adj


def store_and_direct_branch_adjoint(R, Q9, Q1, F, inverse_3, R_after, R_adj, Q_adj):
    """Adjoint of `store_and_direct_branch` in its R and Q; `R_after` is R after the step.

    Returns the adjoints of R (which is that of Q9), Q1, F and, in place of its inverse, X3.

    With g = (1 + z^4)^(-1/4), the share of the store that stays, and v = g z, the store after the step in units of X3,
    outflow and slope need no root: 1 - g = v^4 / ((1 + g) (1 + g^2)) and z^4 g^5 = v^4 g. Of a store many times X3
    little stays, known to few digits; v = (1 - g^4)^(1/4) is then taken from its series.
    """
    filled = R + Q9 + F
    full = filled > 0.0
    R1 = filled if full else 1.0
    left = R_after if full else 1.0
    g = left / R1
    u = (g * g) * (g * g)
    series = 1.0 - u * (0.25 + u * (0.09375 + u * (0.0546875 + u * 0.03759765625)))
    v = series if g < 0.125 else R_after * inverse_3
    v2 = v * v
    a = v2 * v2
    slope = a * g
    fraction = a / ((1.0 + g) * (1.0 + g * g))

    Qr_adj = Q_adj - R_adj
    R1_adj = R_adj + (fraction + slope) * Qr_adj
    X3_adj = -v * a * Qr_adj
    R1_adj = R1_adj if filled >= 0.0 else 0.0
    Q1_adj = Q_adj if Q1 + F >= 0.0 else 0.0
    return R1_adj, Q1_adj, R1_adj + Q1_adj, X3_adj


def s_curve_1(k, X4, exponent):
    """Share of an impulse that has left the first unit hydrograph after k steps."""
    return (k / X4) ** exponent if k < X4 else 1.0


def s_curve_2(k, X4, exponent):
    """Share of an impulse that has left the second unit hydrograph, of base 2 X4, after k steps."""
    if k <= X4:
        return 0.5 * (k / X4) ** exponent
    return 1.0 - 0.5 * (2.0 - k / X4) ** exponent if k < 2.0 * X4 else 1.0


def s_curve_1_adjoint(k, X4, exponent, share_adj):
    """Adjoint of `s_curve_1` in X4."""
    return -exponent / X4 * (k / X4) ** exponent * share_adj if 0.0 < k < X4 else 0.0


def s_curve_2_adjoint(k, X4, exponent, share_adj):
    """Adjoint of `s_curve_2` in X4."""
    if k <= 0.0 or k >= 2.0 * X4:
        return 0.0
    if k <= X4:
        return -0.5 * exponent / X4 * (k / X4) ** exponent * share_adj
    return -0.5 * exponent * (2.0 - k / X4) ** (exponent - 1.0) * k / (X4 * X4) * share_adj


def inverse_of_capacity(X1):
    """1 / X1, which no step changes."""
    return 1.0 / X1


def inverse_of_routing_capacity(X3):
    """1 / X3, which no step changes."""
    return 1.0 / X3


PRODUCTION_CAPACITY = Parameter(
    "production_capacity", "X1", "mm", (0.01, INFINITE), Range(10, 3000, 350), Range(10, 3000, 350), "log",
    "Capacity of the production store", "Perrin et al. 2003",
)
EXCHANGE_COEFFICIENT = Parameter(
    "exchange_coefficient", "X2", "mm per step", (-INFINITE, INFINITE), Range(-10, 5, 0), Range(-1, 0.5, 0),
    "linear", "Groundwater exchange, positive into the cell", "Perrin et al. 2003",
)
ROUTING_CAPACITY = Parameter(
    "routing_capacity", "X3", "mm", (0.01, INFINITE), Range(1, 1000, 90), Range(1, 1000, 90), "log",
    "One-step-ahead capacity of the routing store", "Perrin et al. 2003",
)

GR4J = CellProcess(
    name="gr4j",
    title="GR4J, daily or hourly: production store, two unit hydrographs, routing store, groundwater exchange",
    source="Perrin et al. 2003, doi:10.1016/S0022-1694(03)00225-7",
    inputs={
        "liquid_water": Input("P"),
        "potential_evapotranspiration": Input("E", factor="pet_factor", corrected="corrected_evapotranspiration"),
    },
    stages=(
        Stage(
            production_step_inverse, returns=("S", "AE", "Pn", "Ps", "percolation", "Pr", "ratio"), kept=("ratio",),
            adjoint=Adjoint(production_step_inverse_adjoint, returns=("S", "P", "X1"), negated={"E": "P"}),
        ),
        Stage(
            routing_store_step_inverse, returns=("R", "Q", "exchange", "F", "AE1", "AE2", "Qr", "Qd"), kept=("R",),
            adjoint=Adjoint(routing_store_step_inverse_adjoint, returns=("R", "Q9", "Q1", "X2", "X3")),
        ),
    ),
    queues={
        "unit_hydrograph_1": Queue(
            takes="Pr", gives="Q9", share=0.9, curve=s_curve_1, adjoint=s_curve_1_adjoint, base="unit_hydrograph_base",
            spans=1.0, at_least=0.5, held="queued_routed_flow",
            standard_name="soil_routing-store_water_inflow__volume-per-area_storage_density",
            meaning="Water on its way through the first unit hydrograph; setting it scales what is there",
        ),
        "unit_hydrograph_2": Queue(
            takes="Pr", gives="Q1", share=0.1, curve=s_curve_2, adjoint=s_curve_2_adjoint, base="unit_hydrograph_base",
            spans=2.0, at_least=0.5, held="queued_direct_flow",
            standard_name="land_surface_water_direct-branch__volume-per-area_storage_density",
            meaning="Water on its way through the second unit hydrograph; setting it scales what is there",
        ),
    },
    stores={
        "production_store": Store(
            "S", "mm", "soil_production-store_water__volume-per-area_storage_density",
            "Water in the production store (S), up to its capacity", holds_water=True, at_most="production_capacity",
            start=0.3, start_of="X1", serves="evapotranspiration",
        ),
        "routing_store": Store(
            "R", "mm", "soil_routing-store_water__volume-per-area_storage_density", "Water in the routing store (R)",
            holds_water=True, start=0.5, start_of="X3", serves="exchange",
        ),
    },
    parameters=(
        PRODUCTION_CAPACITY,
        EXCHANGE_COEFFICIENT,
        ROUTING_CAPACITY,
        Parameter(
            "unit_hydrograph_base", "X4", "steps", (0.0, 480.0), Range(0.5, 5, 1.7), Range(0.5, 120, 12), "log",
            "Time base of the first unit hydrograph; the second has twice as much", "Perrin et al. 2003",
        ),
        PET_FACTOR,
    ),
    prepared=(
        Prepared(inverse_of_capacity, returns=("inverse_1",)),
        Prepared(inverse_of_routing_capacity, returns=("inverse_3",)),
    ),
    constants={
        "percolation_scale": {DAY: (9 / 4) ** -4, HOUR: (21 / 4) ** -4},
        "exponent": {DAY: 2.5, HOUR: 1.25},
    },
    closed={"exchange_coefficient": 0.0},
    fluxes={
        "evapotranspiration": Flux("AE", ledger="out"),
        "net_rainfall": Flux(
            "Pn", "land_surface_water_net-rainfall__volume_flux",
            "Rain and melt left after evaporation from interception (Pn)",
        ),
        "infiltration": Flux(
            "Ps", "soil_production-store_water_infiltration__volume_flux",
            "Net rainfall entering the production store (Ps)",
        ),
        "percolation": Flux(
            "percolation", "soil_production-store_water_percolation__volume_flux",
            "Leakage from the production store",
        ),
        "effective_rainfall": Flux(
            "Pr", "soil_production-store_water_effective-rainfall__volume_flux",
            "Water entering the unit hydrographs (Pr)",
        ),
        "routed_flow": Flux(
            "Q9", "soil_routing-store_water_inflow__volume_flux",
            "Outflow of the first unit hydrograph, into the routing store (Q9)",
        ),
        "direct_flow": Flux(
            "Q1", "land_surface_water_direct-branch_inflow__volume_flux",
            "Outflow of the second unit hydrograph, into the direct branch (Q1)",
        ),
        "potential_exchange": Flux(
            "F", "land_subsurface_water_exchange__potential_volume_flux",
            "Potential groundwater exchange, positive into the cell (F)",
        ),
        "routing_store_exchange": Flux(
            "AE1", "soil_routing-store_water_exchange__volume_flux",
            "Groundwater exchange of the routing store, positive into the cell",
        ),
        "direct_exchange": Flux(
            "AE2", "land_surface_water_direct-branch_exchange__volume_flux",
            "Groundwater exchange of the direct branch, positive into the cell",
        ),
        "groundwater_exchange": Flux("exchange", ledger="exchange"),
        "routing_store_outflow": Flux(
            "Qr", "soil_routing-store_water_outflow__volume_flux",
            "Runoff from the routing store (Qr)",
        ),
        "direct_runoff": Flux(
            "Qd", "land_surface_water_direct-branch_runoff__volume_flux",
            "Runoff from the direct branch (Qd)",
        ),
        "runoff": Flux("Q"),
    },
    gives=(RUNOFF, "Q"),
)
