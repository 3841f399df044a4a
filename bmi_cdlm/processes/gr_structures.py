"""gr4, gr5 and gr6: production and routing stores behind a store of interception, without unit hydrographs, for
distributed models of floods [Colleoni et al. 2025, doi:10.5194/egusphere-2025-690; Perrin et al. 2003].

Production is that of GR4J with a percolation constant that goes with the step, c = 9/4 (86400 s / step)^(1/4); the
three differ in exchange and in gr6's exponential store. Depths in mm, fluxes in mm per step.
"""

from __future__ import annotations

from dataclasses import replace

from bmi_cdlm.kernels.transcendental import exp, log
from bmi_cdlm.names.declaration import Adjoint, CellProcess, Flux, Stage, Store
from bmi_cdlm.names.parameters import INFINITE, Parameter, Range
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.gr4j import (
    EXCHANGE_COEFFICIENT,
    GR4J,
    PRODUCTION_CAPACITY,
    ROUTING_CAPACITY,
    production_step_inverse,
    production_step_inverse_adjoint,
    routing_store_step_inverse,
    routing_store_step_inverse_adjoint,
    store_and_direct_branch,
    store_and_direct_branch_adjoint,
)
from bmi_cdlm.processes.pet import PET_FACTOR


def interception_step(leaves, P, E, ci):
    """A store of depth ci that fills before anything falls through.

    Returns what is on the leaves, its evaporation, throughfall, and the demand that is left.
    """
    filled = leaves + P
    drawn = min(E, filled)
    left = filled - drawn
    held = min(left, ci)
    return held, drawn, left - held, E - drawn


def production_below_step(S, through, demand, drawn, X1, inverse_1, percolation_scale):
    """GR4J's production below the interception. Returns as `production_step_inverse`, evaporation that of both."""
    S, AE, Pn, Ps, percolation, Pr, ratio = production_step_inverse(
        S, through, demand, X1, inverse_1, percolation_scale
    )
    return S, drawn + AE, Pn, Ps, percolation, Pr, ratio


def production_below_step_adjoint(S, through, demand, X1, inverse_1, ratio, percolation_scale, S_adj, Pr_adj):
    """Adjoint of `production_below_step` in its S and Pr. Returns as `production_step_inverse_adjoint`, and of demand.
    """
    S0_adj, through_adj, X1_adj = production_step_inverse_adjoint(
        S, through, demand, X1, inverse_1, ratio, percolation_scale, S_adj, Pr_adj
    )
    return S0_adj, through_adj, -through_adj, X1_adj


def gr4_step(R, Pr, X2, inverse_3):
    """GR4J's exchange and routing store, nine tenths of Pr into the store. Returns as `routing_store_step_inverse`."""
    R, Q, exchange, F, AE1, AE2, Qr, Qd = routing_store_step_inverse(R, 0.9 * Pr, 0.1 * Pr, X2, inverse_3)
    return R, Q, exchange, F, AE1, AE2, Qr, Qd


def gr4_step_adjoint(R, Pr, X2, inverse_3, R_after, R_adj, Q_adj):
    """Adjoint of `gr4_step` in its R and Q, but for X3 in place of its inverse; `R_after` is R after the step."""
    R0_adj, Q9_adj, Q1_adj, X2_adj, X3_adj = routing_store_step_inverse_adjoint(
        R, 0.9 * Pr, 0.1 * Pr, X2, inverse_3, R_after, R_adj, Q_adj
    )
    return R0_adj, 0.9 * Q9_adj + 0.1 * Q1_adj, X2_adj, X3_adj


def gr5_step(R, Pr, X2, threshold, inverse_3):
    """Exchange that changes its sign at a filling of the routing store [Le Moine 2008]. Returns as `gr4_step`."""
    F = X2 * (R * inverse_3 - threshold)
    R, Q, exchange, AE1, AE2, Qr, Qd = store_and_direct_branch(R, 0.9 * Pr, 0.1 * Pr, F, inverse_3)
    return R, Q, exchange, F, AE1, AE2, Qr, Qd


def gr5_step_adjoint(R, Pr, X2, threshold, inverse_3, R_after, R_adj, Q_adj):
    """Adjoint of `gr5_step` in its R and Q. Returns those of R, Pr, X2, threshold and X3."""
    filling = R * inverse_3 - threshold
    R1_adj, Q1_adj, F_adj, X3_adj = store_and_direct_branch_adjoint(
        R, 0.9 * Pr, 0.1 * Pr, X2 * filling, inverse_3, R_after, R_adj, Q_adj
    )
    filling_adj = X2 * F_adj
    r_adj = filling_adj * inverse_3
    return R1_adj + r_adj, 0.9 * R1_adj + 0.1 * Q1_adj, filling * F_adj, -filling_adj, X3_adj - R * inverse_3 * r_adj


def gr6_step(R, X, Pr, X2, threshold, coefficient, inverse_3):
    """As `gr5_step`, with four tenths of the store's share through an exponential store [Pushpalatha et al. 2011].

    X, the exponential store, may be below 0, a deficit; its outflow is coefficient ln(1 + exp(X / coefficient)),
    written so that nothing overflows. Returns R, X, then as `gr4_step`, the outflow of the exponential store, and for
    the adjoint the exponential and the logarithm.
    """
    F = X2 * (R * inverse_3 - threshold)
    R, Q, exchange, AE1, AE2, Qr, Qd = store_and_direct_branch(R, 0.54 * Pr, 0.1 * Pr, F, inverse_3)
    filled = X + 0.36 * Pr + F
    faded = exp(-abs(filled) / coefficient)
    softened = log(1.0 + faded)
    Qe = max(filled, 0.0) + coefficient * softened
    return R, filled - Qe, Q + Qe, exchange + F, F, AE1, AE2, Qr, Qd, Qe, faded, softened


def gr6_step_adjoint(
    R, X, Pr, X2, threshold, coefficient, inverse_3, R_after, faded, softened, R_adj, X_adj, Q_adj
):
    """Adjoint of `gr6_step` in its R, X and Q. Returns those of R, X, Pr, X2, threshold, coefficient and X3.

    Of what fills the exponential store the share faded / (1 + faded) stays above 0, or leaves below it.
    """
    filling = R * inverse_3 - threshold
    F = X2 * filling
    R1_adj, Q1_adj, F_adj, X3_adj = store_and_direct_branch_adjoint(
        R, 0.54 * Pr, 0.1 * Pr, F, inverse_3, R_after, R_adj, Q_adj
    )
    filled = X + 0.36 * Pr + F
    share = 1.0 / (1.0 + faded)
    less = faded * share
    leaving = share if filled > 0.0 else less
    Qe_adj = Q_adj - X_adj
    X0_adj = X_adj + leaving * Qe_adj
    F_adj = F_adj + X0_adj
    filling_adj = X2 * F_adj
    r_adj = filling_adj * inverse_3
    coefficient_adj = (softened + abs(filled) / coefficient * less) * Qe_adj
    return (
        R1_adj + r_adj, X0_adj, 0.54 * R1_adj + 0.1 * Q1_adj + 0.36 * X0_adj, filling * F_adj, -filling_adj,
        coefficient_adj, X3_adj - R * inverse_3 * r_adj,
    )


SOURCE = "Colleoni et al. 2025, doi:10.5194/egusphere-2025-690"
BEFORE = (
    Stage(interception_step, returns=("leaves", "drawn", "through", "demand")),
    Stage(
        production_below_step, returns=("S", "AE", "Pn", "Ps", "percolation", "Pr", "ratio"), kept=("ratio",),
        adjoint=Adjoint(production_below_step_adjoint, ("S", "through", "demand", "X1")),
    ),
)
BELOW = ("Q", "exchange", "F", "AE1", "AE2", "Qr", "Qd")
INTERCEPTION = Parameter(
    "interception_capacity", "ci", "mm", (0.0, INFINITE), Range(0, 5, 0), Range(0, 5, 1), "linear",
    "Depth that leaves hold before water falls through; cell_interception_capacity of the domain where it has that",
    SOURCE, of_domain=True,
)
THRESHOLD = Parameter(
    "exchange_threshold", "threshold", "1", (-INFINITE, INFINITE), Range(0, 1, 0.1), Range(0, 1, 0.1), "linear",
    "Filling of the routing store, as a share of its capacity, at which exchange changes its sign", "Le Moine 2008",
)
COEFFICIENT = Parameter(
    "exponential_coefficient", "coefficient", "mm", (0.01, INFINITE), Range(0.1, 20, 10), Range(0.1, 20, 10), "log",
    "Depth over which the outflow of the exponential store fades", "Pushpalatha et al. 2011, "
    "doi:10.1016/j.jhydrol.2011.09.034",
)

GR4 = CellProcess(
    name="gr4",
    title="gr4 of distributed flood models: interception, production and routing store, no unit hydrograph",
    source=SOURCE,
    inputs=GR4J.inputs,
    stages=(*BEFORE, Stage(
        gr4_step, returns=("R", *BELOW), kept=("R",), adjoint=Adjoint(gr4_step_adjoint, ("R", "Pr", "X2", "X3")),
    )),
    stores={
        "interception_store": Store(
            "leaves", "mm", "land_vegetation_canopy_water__volume-per-area_storage_density",
            "Water that leaves hold, up to their capacity", holds_water=True, at_most="interception_capacity",
        ),
        **GR4J.stores,
    },
    parameters=(PRODUCTION_CAPACITY, EXCHANGE_COEFFICIENT, ROUTING_CAPACITY, INTERCEPTION, PET_FACTOR),
    prepared=GR4J.prepared,
    constants={"percolation_scale": {DAY: (9 / 4) ** -4, HOUR: (9 / 4) ** -4 / 24}},
    fluxes={
        name: flux for name, flux in GR4J.fluxes.items() if name not in ("routed_flow", "direct_flow")
    } | {
        "interception_evaporation": Flux(
            "drawn", "land_vegetation_canopy_water_evaporation__volume_flux", "Evaporation from interception",
        ),
    },
    gives=GR4J.gives,
    closed=GR4J.closed,
    left_at_default=("interception_capacity",),
)
GR5 = replace(
    GR4, name="gr5", title="gr5 of distributed flood models: as gr4, with exchange that changes its sign",
    stages=(*BEFORE, Stage(
        gr5_step, returns=("R", *BELOW), kept=("R",),
        adjoint=Adjoint(gr5_step_adjoint, ("R", "Pr", "X2", "threshold", "X3")),
    )),
    parameters=(*GR4.parameters[:-1], THRESHOLD, PET_FACTOR),
)
GR6 = replace(
    GR4, name="gr6", title="gr6 of distributed flood models: as gr5, with an exponential store for low flows",
    stages=(*BEFORE, Stage(
        gr6_step, returns=("R", "X", *BELOW, "Qe", "faded", "softened"), kept=("R", "faded", "softened"),
        adjoint=Adjoint(gr6_step_adjoint, ("R", "X", "Pr", "X2", "threshold", "coefficient", "X3")),
    )),
    stores={
        **GR4.stores,
        "exponential_store": Store(
            "X", "mm", "soil_exponential-store_water__volume-per-area_storage_density",
            "Water in the exponential store (X); below 0 a deficit", holds_water=True, bounds=(-INFINITE, INFINITE),
        ),
    },
    parameters=(*GR5.parameters[:-1], COEFFICIENT, PET_FACTOR),
    fluxes={
        **GR4.fluxes,
        "exponential_store_outflow": Flux(
            "Qe", "soil_exponential-store_water_outflow__volume_flux", "Runoff from the exponential store",
        ),
    },
)
