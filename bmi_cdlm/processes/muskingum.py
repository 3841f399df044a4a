"""Muskingum routing with limited weighting: one reach, one sub-step [McCarthy 1938; Cunge 1969; SPEC 4].

One state per reach, y [m3 s-1]: the part of the next outflow that is already determined. The water in the
reach is V = y * storage_time. Inflow, lateral inflow included, enters at the head of the reach. No coefficient
is negative for any K >= 0 and 0 <= x <= 1/2; volume and mean delay K are exact.
"""

from __future__ import annotations

from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.names.declaration import Prepared, ReachProcess
from bmi_cdlm.names.parameters import INFINITE, Parameter, Range


def muskingum_coefficients(K, x, seconds):
    """Return direct, gain and keep for O = direct I + y; y <- gain I + keep y, and the storage time [s].

    K travel time [s], x weighting, seconds the sub-step [s]. The weighting is limited to
    min(x, seconds / 2K, 1 - seconds / 2K), which gives three branches, each computed directly.
    """
    if 2.0 * K * (1.0 - x) <= seconds:
        return 1.0 - K / seconds, K / seconds, 0.0, seconds
    if 2.0 * K * x >= seconds:
        direct = 0.0
        keep = 1.0 - seconds / K
    else:
        D = 2.0 * K * (1.0 - x) + seconds
        direct = (seconds - 2.0 * K * x) / D
        keep = (2.0 * K * (1.0 - x) - seconds) / D
    # C1 + C0 C2 = (1 - C0) (1 - C2): from the rounded C2, so that volume is exact however long the reach is.
    lost = 1.0 - keep
    return direct, (1.0 - direct) * lost, keep, seconds / lost


def muskingum_step(y, inflow, direct, gain, keep):
    """Outflow of a reach over one sub-step and its state after it. Returns O, y."""
    return fma(direct, inflow, y), fma(keep, y, gain * inflow)


def muskingum_coefficients_adjoint(K, x, seconds, direct_adj, gain_adj, keep_adj):
    """Adjoint of `muskingum_coefficients` in direct, gain and keep. Returns the adjoints of K and x."""
    direct, _gain, keep, _storage_time = muskingum_coefficients(K, x, seconds)
    if 2.0 * K * (1.0 - x) <= seconds:
        return (gain_adj - direct_adj) / seconds, 0.0
    if 2.0 * K * x >= seconds:
        return (keep_adj - gain_adj) * seconds / (K * K), 0.0
    D = 2.0 * K * (1.0 - x) + seconds
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


def muskingum_variance(K, x, seconds):
    """Variance [s2] that a reach adds to the travel time of water."""
    if 2.0 * K * (1.0 - x) <= seconds:
        return K * seconds - K * K
    if 2.0 * K * x >= seconds:
        return K * K - K * seconds
    return K * K * (1.0 - 2.0 * x)


def travel_time(length, c):
    """K [s] of a reach of a length [m] at the celerity c [m s-1]."""
    return length / c


def reach_volume(y, storage_time):
    """Water in a reach [m3]."""
    return y * storage_time


def state_of_volume(volume, storage_time):
    """The state of a reach that holds a volume [m3]."""
    return volume / storage_time


def steady_state(flow, direct):
    """The state of a reach through which a constant flow passes."""
    return (1.0 - direct) * flow


CELERITY = Parameter(
    "celerity", "c", "m s-1", (1e-6, INFINITE), Range(0.1, 5, 1), Range(0.1, 5, 1), "log",
    "Speed of the flood wave; travel time K = length / celerity", "Cunge 1969", grid="reach",
)

MUSKINGUM = ReachProcess(
    name="muskingum",
    title="Muskingum with limited weighting: exact volume and mean delay, no negative coefficient",
    source="McCarthy 1938; Cunge 1969, doi:10.1080/00221686909500264",
    step=muskingum_step,
    state="reach_flow",
    symbol="y",
    units="m3 s-1",
    linear=True,
    adjoint=muskingum_step_adjoint,
    parameters=(
        CELERITY,
        Parameter(
            "weighting", "x", "1", (0.0, 0.5), Range(0, 0.45, 0.2), Range(0, 0.45, 0.2), "linear",
            "Muskingum weighting between inflow and outflow", "McCarthy 1938", grid="reach",
        ),
    ),
    attributes={"length": "length"},
    prepared=(
        Prepared(travel_time, returns=("K",), given="travel_time"),
        Prepared(
            muskingum_coefficients, returns=("direct", "gain", "keep", "storage_time"),
            adjoint=muskingum_coefficients_adjoint, active=("K", "x"), seeds=("direct", "gain", "keep"),
        ),
    ),
    volume=reach_volume,
    from_volume=state_of_volume,
    steady=steady_state,
    travel_time="K",
    variance=muskingum_variance,
)
