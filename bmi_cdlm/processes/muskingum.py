"""Muskingum routing with limited weighting: one reach, one sub-step [McCarthy 1938; Cunge 1969; SPEC 4].

One state per reach, y [m3 s-1]: the part of the next outflow that is already determined. The water in the
reach is V = y * storage_time. Inflow, lateral inflow included, enters at the head of the reach. No coefficient
is negative for any K >= 0 and 0 <= x <= 1/2; volume and mean delay K are exact.
"""

from __future__ import annotations

from bmi_cdlm.kernels.fused import fma


def muskingum_coefficients(K, x, step):
    """Return direct, gain and keep for O = direct I + y; y <- gain I + keep y, and the storage time [s].

    K travel time [s], x weighting, step the sub-step [s]. The weighting is limited to
    min(x, step / 2K, 1 - step / 2K), which gives three branches, each computed directly.
    """
    if 2.0 * K * (1.0 - x) <= step:
        return 1.0 - K / step, K / step, 0.0, step
    if 2.0 * K * x >= step:
        direct = 0.0
        keep = 1.0 - step / K
    else:
        D = 2.0 * K * (1.0 - x) + step
        direct = (step - 2.0 * K * x) / D
        keep = (2.0 * K * (1.0 - x) - step) / D
    # C1 + C0 C2 = (1 - C0) (1 - C2): from the rounded C2, so that volume is exact however long the reach is.
    lost = 1.0 - keep
    return direct, (1.0 - direct) * lost, keep, step / lost


def muskingum_step(y, inflow, direct, gain, keep):
    """Outflow of a reach over one sub-step and its state after it. Returns O, y."""
    return fma(direct, inflow, y), fma(keep, y, gain * inflow)


def muskingum_coefficients_adjoint(K, x, step, direct_adj, gain_adj, keep_adj):
    """Adjoint of `muskingum_coefficients` in direct, gain and keep. Returns the adjoints of K and x."""
    direct, _gain, keep, _storage_time = muskingum_coefficients(K, x, step)
    if 2.0 * K * (1.0 - x) <= step:
        return (gain_adj - direct_adj) / step, 0.0
    if 2.0 * K * x >= step:
        return (keep_adj - gain_adj) * step / (K * K), 0.0
    D = 2.0 * K * (1.0 - x) + step
    direct_adj = direct_adj - (1.0 - keep) * gain_adj
    keep_adj = keep_adj - (1.0 - direct) * gain_adj
    K_adj = (-2.0 * (x + direct * (1.0 - x)) * direct_adj + 2.0 * (1.0 - x) * (1.0 - keep) * keep_adj) / D
    x_adj = (2.0 * K * (direct - 1.0) * direct_adj + 2.0 * K * (keep - 1.0) * keep_adj) / D
    return K_adj, x_adj


def muskingum_step_adjoint(y, inflow, direct, gain, keep, outflow_adj, y_adj):
    """Adjoint of `muskingum_step`. Returns the adjoints of y, inflow, direct, gain and keep."""
    return (
        fma(keep, y_adj, outflow_adj), fma(direct, outflow_adj, gain * y_adj),
        inflow * outflow_adj, inflow * y_adj, y * y_adj,
    )


def muskingum_variance(K, x, step):
    """Variance [s2] that a reach adds to the travel time of water."""
    if 2.0 * K * (1.0 - x) <= step:
        return K * step - K * K
    if 2.0 * K * x >= step:
        return K * K - K * step
    return K * K * (1.0 - 2.0 * x)
