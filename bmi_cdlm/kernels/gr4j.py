"""GR4J, daily or hourly: one cell, one step [Perrin et al. 2003, doi:10.1016/S0022-1694(03)00225-7].

Depths in mm, fluxes in mm per step. The hourly model (GR4H) differs in two constants: the percolation
constant and the exponent of the unit hydrographs. Symbols: S, R water in the production and routing store;
P, E precipitation and potential evapotranspiration; x1 to x4 the parameters X1 to X4.
"""

from __future__ import annotations

import math

from bmi_cdlm.kernels.elementary import store_outflow_fraction, tanh_ratio


def production_step(S, P, E, x1, percolation_scale):
    """Interception, evapotranspiration, infiltration and percolation.

    percolation_scale is c^-4 with c = 9/4 (daily) or 21/4 (hourly). Returns S, actual evapotranspiration,
    Pn, Ps, percolation and Pr, the water for the unit hydrographs.
    """
    wet = P > E
    inverse = 1.0 / x1
    net = P - E if wet else E - P
    w = net * inverse
    n, d = tanh_ratio(w if w < 13.0 else 13.0)
    s = S * inverse
    # One quotient serves both branches: Ps = X1 (1 - s^2) T / (1 + s T), Es = S (2 - s) T / (1 + (1 - s) T).
    top = x1 * (1.0 - s * s) if wet else S * (2.0 - s)
    moved = top * n / (d + (s if wet else 1.0 - s) * n)
    Pn = net if wet else 0.0
    Ps = moved if wet else 0.0
    AE = E if wet else P + moved
    S = S + moved if wet else S - moved
    S = S if S > 0.0 else 0.0
    z = S * inverse
    z2 = z * z
    percolation = S * store_outflow_fraction(z2 * z2 * percolation_scale)
    return S - percolation, AE, Pn, Ps, percolation, (Pn - Ps) + percolation


def queue_step(following, ordinate, inflow):
    """Move the water of a unit hydrograph one place on and add its share of the inflow."""
    return following + ordinate * inflow


def routing_store_step(R, Q9, Q1, x2, x3):
    """Exchange with the groundwater, routing store and direct branch.

    Returns R, runoff Q, total exchange, potential exchange F, exchange of the store and of the direct
    branch, and the runoff Qr and Qd of the two.
    """
    inverse = 1.0 / x3
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


def s_curve_1(k, x4, exponent):
    """Share of an impulse that has left the first unit hydrograph after k steps."""
    return (k / x4) ** exponent if k < x4 else 1.0


def s_curve_2(k, x4, exponent):
    """Share of an impulse that has left the second unit hydrograph, of base 2 x4, after k steps."""
    if k <= x4:
        return 0.5 * (k / x4) ** exponent
    return 1.0 - 0.5 * (2.0 - k / x4) ** exponent if k < 2.0 * x4 else 1.0
