"""GR4J, daily or hourly: one cell, one step [Perrin et al. 2003, doi:10.1016/S0022-1694(03)00225-7].

Depths in mm, fluxes in mm per step. The hourly model (GR4H) differs in two constants: the percolation
constant and the exponent of the unit hydrographs. Symbols: S, R water in the production and routing store;
P, E precipitation and potential evapotranspiration; x1 to x4 the parameters X1 to X4.
"""

from __future__ import annotations

import math

from bmi_cdlm.kernels.elementary import (
    percolated_fraction,
    percolated_slope,
    store_outflow_fraction,
    tanh_ratio,
)
from bmi_cdlm.kernels.fused import fma


def production_step(S, P, E, x1, percolation_scale):
    """Interception, evapotranspiration, infiltration and percolation: `production_step_inverse` with 1 / X1."""
    return production_step_inverse(S, P, E, x1, 1.0 / x1, percolation_scale)


def production_step_inverse(S, P, E, x1, inverse, percolation_scale):
    """Interception, evapotranspiration, infiltration and percolation; `inverse` is 1 / X1, which no step changes.

    percolation_scale is c^-4 with c = 9/4 (daily) or 21/4 (hourly). S is at most X1: percolation is meaningless far
    beyond. Returns S, actual evapotranspiration, Pn, Ps, percolation, Pr, the water for the unit hydrographs, and n of
    `tanh_ratio`, for the adjoint.
    """
    wet = P > E
    gain, loss = P - E, E - P
    net = gain if wet else loss
    w = net * inverse
    n, d = tanh_ratio(w if w < 13.0 else 13.0)
    s = S * inverse
    # One quotient serves both branches: Ps = X1 (1 - s^2) T / (1 + s T), Es = S (2 - s) T / (1 + (1 - s) T). What is
    # chosen between stands ready before each choice: the compiler would divide once per branch otherwise.
    wet_top, dry_top, dry_rest = x1 * (1.0 - s * s), S * (2.0 - s), 1.0 - s
    top = wet_top if wet else dry_top
    rest = s if wet else dry_rest
    moved = top * n / (d + rest * n)
    drawn, more, less = P + moved, S + moved, S - moved
    Pn = net if wet else 0.0
    Ps = moved if wet else 0.0
    AE = E if wet else drawn
    S = more if wet else less
    S = S if S > 0.0 else 0.0
    z = S * inverse
    z2 = z * z
    percolation = S * percolated_fraction(z2 * z2 * percolation_scale)
    return S - percolation, AE, Pn, Ps, percolation, (Pn - Ps) + percolation, n


def production_step_adjoint(S, P, E, x1, percolation_scale, S_adj, Pr_adj):
    """Adjoint of `production_step` in its S and Pr. Returns the adjoints of S, P, E and x1."""
    inverse = 1.0 / x1
    n = production_step_inverse(S, P, E, x1, inverse, percolation_scale)[6]
    S0_adj, P_adj, x1_adj = production_step_inverse_adjoint(
        S, P, E, x1, inverse, n, percolation_scale, S_adj, Pr_adj
    )
    return S0_adj, P_adj, -P_adj, x1_adj


def production_step_inverse_adjoint(S, P, E, x1, inverse, n, percolation_scale, S_adj, Pr_adj):
    """Adjoint of `production_step_inverse` in its S and Pr; n is what that returned.

    Returns the adjoints of S, P and x1, what it does through its inverse included; that of E is that of P negated, for
    only P - E counts.
    """
    wet = P > E
    net = P - E if wet else E - P
    w = net * inverse
    d = n + 2.0
    # T = tanh(w), and 1 - T without its cancellation where demand is far beyond the store.
    quotient = 1.0 / d
    T = n * quotient
    lack = (d - n) * quotient
    s = S * inverse
    rest = s if wet else 1.0 - s
    D = 1.0 / (1.0 + rest * T)
    top = x1 * (1.0 - s * s) if wet else S * (2.0 - s)
    moved = top * T * D
    S2 = S + moved if wet else S - moved
    alive = S2 > 0.0
    S2 = S2 if alive else 0.0
    z = S2 * inverse
    z2 = z * z
    a = z2 * z2 * percolation_scale
    slope = percolated_slope(a)

    percolation_adj = Pr_adj - S_adj
    S2_adj = S_adj + (percolated_fraction(a) + slope) * percolation_adj
    x1_adj = -z * slope * percolation_adj
    S2_adj = S2_adj if alive else 0.0
    moved_adj = S2_adj - Pr_adj if wet else -S2_adj
    T_adj = top * D * D * moved_adj
    # Both branches of d(moved)/ds at fixed T and x1; the dry one counts S itself apart, as x1 s.
    wet_slope = -x1 * T * (2.0 * s + T * (1.0 + s * s)) * D * D
    dry_slope = -S * T * lack * D * D
    s_adj = (wet_slope if wet else dry_slope) * moved_adj
    net_adj = lack * (1.0 + T) * T_adj * inverse if w < 13.0 else 0.0
    x1_adj = x1_adj - (s * s_adj) * inverse - w * net_adj
    x1_adj = x1_adj + (1.0 - s * s) * T * D * moved_adj if wet else x1_adj
    S0_adj = S2_adj + s_adj * inverse
    S0_adj = S0_adj if wet else S0_adj + (2.0 - s) * T * D * moved_adj
    P_adj = Pr_adj + net_adj if wet else -net_adj
    return S0_adj, P_adj, x1_adj


def queue_step(following, ordinate, inflow):
    """Move the water of a unit hydrograph one place on and add its share of the inflow."""
    return fma(ordinate, inflow, following)


def queue_step_adjoint(ordinate, inflow, queue_adj):
    """Adjoint of `queue_step`; that of `following` is `queue_adj`. Returns the adjoints of ordinate and inflow."""
    return inflow * queue_adj, ordinate * queue_adj


def routing_store_step(R, Q9, Q1, x2, x3):
    """Exchange, routing store and direct branch: `routing_store_step_inverse` with 1 / X3."""
    return routing_store_step_inverse(R, Q9, Q1, x2, 1.0 / x3)


def routing_store_step_inverse(R, Q9, Q1, x2, inverse):
    """Exchange with the groundwater, routing store and direct branch; `inverse` is 1 / X3.

    Returns R, runoff Q, total exchange, potential exchange F, exchange of the store and of the direct
    branch, and the runoff Qr and Qd of the two.
    """
    r = R * inverse
    F = x2 * (r * r * r * math.sqrt(r))
    filled = R + Q9 + F
    AE1 = F if filled >= 0.0 else -(R + Q9)
    R = filled if filled >= 0.0 else 0.0
    z = R * inverse
    z2 = z * z
    Qr = R * store_outflow_fraction(z2 * z2)
    direct = Q1 + F
    AE2 = F if direct >= 0.0 else -Q1
    Qd = direct if direct >= 0.0 else 0.0
    return R - Qr, Qr + Qd, AE1 + AE2, F, AE1, AE2, Qr, Qd


def routing_store_step_adjoint(R, Q9, Q1, x2, x3, R_adj, Q_adj):
    """Adjoint of `routing_store_step` in its R and Q. Returns the adjoints of R, Q9, Q1, x2 and x3."""
    inverse = 1.0 / x3
    after = routing_store_step_inverse(R, Q9, Q1, x2, inverse)[0]
    return routing_store_step_inverse_adjoint(R, Q9, Q1, x2, inverse, after, R_adj, Q_adj)


def routing_store_step_inverse_adjoint(R, Q9, Q1, x2, inverse, after, R_adj, Q_adj):
    """Adjoint of `routing_store_step_inverse`, but for X3 in place of its inverse; `after` is R after the step.

    With g = (1 + z^4)^(-1/4), the share of the store that stays, and v = g z, the store after the step in units of X3,
    outflow and slope need no root: 1 - g = v^4 / ((1 + g) (1 + g^2)) and z^4 g^5 = v^4 g. Of a store many times X3
    little stays, known to few digits; v = (1 - g^4)^(1/4) is then taken from its series.
    """
    r = R * inverse
    r2_5 = r * r * math.sqrt(r)
    F = x2 * (r2_5 * r)
    filled = R + Q9 + F
    full = filled > 0.0
    R1 = filled if full else 1.0
    left = after if full else 1.0
    g = left / R1
    u = (g * g) * (g * g)
    series = 1.0 - u * (0.25 + u * (0.09375 + u * (0.0546875 + u * 0.03759765625)))
    v = series if g < 0.125 else after * inverse
    v2 = v * v
    a = v2 * v2
    slope = a * g
    fraction = a / ((1.0 + g) * (1.0 + g * g))

    Qr_adj = Q_adj - R_adj
    R1_adj = R_adj + (fraction + slope) * Qr_adj
    x3_adj = -v * a * Qr_adj
    R1_adj = R1_adj if filled >= 0.0 else 0.0
    Q1_adj = Q_adj if Q1 + F >= 0.0 else 0.0
    F_adj = R1_adj + Q1_adj
    r_adj = 3.5 * x2 * r2_5 * F_adj * inverse
    return R1_adj + r_adj, R1_adj, Q1_adj, r2_5 * r * F_adj, x3_adj - r * r_adj


def s_curve_1(k, x4, exponent):
    """Share of an impulse that has left the first unit hydrograph after k steps."""
    return (k / x4) ** exponent if k < x4 else 1.0


def s_curve_2(k, x4, exponent):
    """Share of an impulse that has left the second unit hydrograph, of base 2 x4, after k steps."""
    if k <= x4:
        return 0.5 * (k / x4) ** exponent
    return 1.0 - 0.5 * (2.0 - k / x4) ** exponent if k < 2.0 * x4 else 1.0


def s_curve_1_adjoint(k, x4, exponent, share_adj):
    """Adjoint of `s_curve_1` in x4."""
    return -exponent / x4 * (k / x4) ** exponent * share_adj if 0.0 < k < x4 else 0.0


def s_curve_2_adjoint(k, x4, exponent, share_adj):
    """Adjoint of `s_curve_2` in x4."""
    if k <= 0.0 or k >= 2.0 * x4:
        return 0.0
    if k <= x4:
        return -0.5 * exponent / x4 * (k / x4) ** exponent * share_adj
    return -0.5 * exponent * (2.0 - k / x4) ** (exponent - 1.0) * k / (x4 * x4) * share_adj
