"""Muskingum-Cunge in storage form: one reach, one sub-step [Cunge 1969; Todini 2007].

The state is V, the water in the reach [m3], and nothing is lost or below zero whatever travel time and weighting do
from step to step. A channel of width p h^q at depth h, Manning's n and slope S0 holds V = s Q^b at a steady flow Q,
with b = (3 q + 3) / (3 q + 5). The travel time is V / Q, for with V carried a flood wave goes at dQ / dV by itself.
It is taken at W, the weighted discharge x I + (1 - x) O of the step: s W^b + a W = V + a I, a = seconds / (2 (1 - x)).
Cunge's weighting x = (1 - D) / 2 has no lower limit: below 0 it is the diffusion of a flat river. Above, it is limited
as in `muskingum`, so that no coefficient is negative.
"""

from __future__ import annotations

import math

from bmi_cdlm.kernels.bits import nearest, split_exponent, times_two_to
from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.rules import adjoint_of
from bmi_cdlm.kernels.transcendental import exp, log, power
from bmi_cdlm.names.declaration import Prepared, ReachProcess, Waves
from bmi_cdlm.names.parameters import Parameter, Range
from bmi_cdlm.processes.muskingum import muskingum_variance


def limited_step(V, inflow, kappa, D, seconds):
    """Outflow and water of a reach whose travel time is kappa seconds / (1 + D), with limited weighting. Returns O, V.

    direct: share of the inflow that leaves at once; lost: share of the water that does.
    """
    per_second = 1.0 / seconds
    share = 1.0 / (1.0 + D)
    wide = kappa if kappa > 1.0 else 1.0
    advance = kappa * (1.0 - D) * share
    middle = 1.0 / (kappa + 1.0)
    most = advance if advance < 1.0 else 1.0
    short = kappa <= 1.0
    long = advance >= 1.0
    direct = 1.0 - kappa * share if short else (1.0 - most) * middle
    beyond = (1.0 + D) / wide if long else 2.0 * middle
    lost = 1.0 if short else beyond
    outflow = fma(direct, inflow, lost * (V * per_second))
    return outflow, fma(1.0 - lost, V, (1.0 - direct) * (inflow * seconds))


def muskingum_cunge_step(V, inflow, s, spread, seconds):
    """A channel of q = 1/3, whose W is a cube: y^3 + s y^2 = r. Returns O, V.

    Below 1e-45 m3 s-1 water stands: in single precision the slope of 1 / y would have no value there.
    """
    per_second = 1.0 / seconds
    root = math.sqrt(V)
    D = spread * (root * math.sqrt(root))
    g = (1.0 + D) * per_second
    slow = s * g
    y = root_of_flow(slow, fma(V, g, inflow))
    kappa = slow * (1.0 / y if y > 1e-15 else 1e30)
    outflow, V = limited_step(V, inflow, kappa, D, seconds)
    return outflow, V


def root_of_flow(s, r):
    """Return y >= 0 with y^3 + s y^2 = r, within 3 ulp.

    In units of 2^n, n the third of the exponent of r, from 1 / sqrt(1 / y1^2 + 1 / y2^2), of a cube root y1 to 2 % and
    the square root of r / s, which is within 8 %, by two steps of third order [Householder 1970].
    """
    m, k = split_exponent(r if r > 0.0 else 1.0)
    n = nearest(k * 0.3333333333333333)
    u = times_two_to(m, k - 3.0 * n)
    sigma = s * times_two_to(1.0, -n)
    first = fma(u, fma(u, -0.083, 0.5362), 0.5392)
    y = first / math.sqrt(1.0 + sigma * (first * first / u))
    y = householder(householder(y, sigma, u), sigma, u)
    return y * times_two_to(1.0, n) if r > 0.0 else 0.0


def householder(y, s, r):
    """A step of third order towards the root of y^3 + s y^2 - r."""
    f = fma(y * y, y + s, -r)
    f1 = y * (3.0 * y + 2.0 * s)
    f2 = 3.0 * y + s
    return y - f * (f1 * f1 - f * f2) / (f1 * (f1 * f1 - 2.0 * f * f2) + f * f)


@adjoint_of(root_of_flow, "y")
def root_of_flow_adjoint(s, y, y_adj):
    """Adjoint of `root_of_flow` in s and r."""
    slope = y_adj / (y * (3.0 * y + 2.0 * s)) if y > 0.0 else 0.0
    return -(y * y) * slope, slope


def shaped_step(V, inflow, s, spread, b, exponent, seconds):
    """A channel of any shape; exponent is 1 / (q + 1). Returns O, V."""
    D = spread * power(V, exponent)
    g = (1.0 + D) / seconds
    kappa = relative_travel_time(s * g, fma(V, g, inflow), b)
    outflow, V = limited_step(V, inflow, kappa, D, seconds)
    return outflow, V


def relative_travel_time(s, r, b):
    """Return kappa = s W^(b - 1) with W + s W^b = r, b from 3/5 to 9/11; within 40 ulp where it is not beyond 1e20.

    W is r / (1 + kappa), so that y = ln kappa is the root of y - (1 - b) ln(1 + kappa) = ln s + (b - 1) ln r: nearly
    linear in y, and two steps of Halley lead there from a start within 0.08.
    """
    c = log(s if s > 0.0 else 1.0) - (1.0 - b) * log(r if r > 0.0 else 1.0)
    x = c / b
    start = c + (1.0 - b) * 0.5 * (x + math.sqrt(x * x + 1.92))
    kappa = exp(halley(halley(start, c, b), c, b))
    some = kappa if r > 1e-30 else 1e30  # less than that stands
    return some if s > 0.0 else 0.0


def halley(y, c, b):
    """A step of Halley towards the root of y - (1 - b) ln(1 + e^y) - c."""
    kappa = exp(y)
    share = kappa / (1.0 + kappa)
    f = y - (1.0 - b) * log(1.0 + kappa) - c
    f1 = 1.0 - (1.0 - b) * share
    f2 = -0.5 * (1.0 - b) * share * (1.0 - share)
    return y - f * f1 / (f1 * f1 - f * f2)


@adjoint_of(relative_travel_time, "kappa")
def relative_travel_time_adjoint(s, r, b, kappa, kappa_adj):
    """Adjoint of `relative_travel_time` in s, r and b."""
    inside = s > 0.0 and r > 1e-30
    wet = r if inside else 1.0
    more = 1.0 + (kappa if inside else 1.0)
    rate = kappa * kappa_adj * more / (1.0 + b * (more - 1.0)) if inside else 0.0
    return rate / (s if inside else 1.0), (b - 1.0) * rate / wet, (log(wet) - log(more)) * rate


def channel(length, slope, n, p):
    """s of V = s Q^b, and D / V^(3/4), of a channel of q = 1/3; no slope counts as less than 1e-5. Returns both."""
    s, spread, _b, _exponent = shaped_channel(length, slope, n, p, 0.3333333333333333)
    return s, spread


def shaped_channel(length, slope, n, p, q):
    """s of V = s Q^b, D / V^exponent, b and the exponent 1 / (q + 1), of a channel of any shape. Returns the four.

    Hydraulic radius is the mean depth h / (q + 1); of no length, there is neither water nor diffusion.
    """
    S0 = slope if slope > 1e-5 else 1e-5
    some = length if length > 0.0 else 1.0
    b = (3.0 * q + 3.0) / (3.0 * q + 5.0)
    exponent = 1.0 / (q + 1.0)
    rough = power(n * power(q + 1.0, 1.6666666666666667) / (p * math.sqrt(S0)), b)
    s = length * p * exponent * rough
    spread = b * exponent / (S0 * some) * power((q + 1.0) / (p * some), exponent)
    return s, spread if length > 0.0 else 0.0, b, exponent


def water(V):
    """Water in a reach [m3]: the state itself."""
    return V


def state_of(volume):
    """The state of a reach that holds a volume [m3]: the volume itself."""
    return volume


def steady_water(flow, s):
    """Water in a channel of q = 1/3 through which a constant flow passes."""
    return s * power(flow, 0.6666666666666666)


def steady_shaped_water(flow, s, b):
    """Water in a channel of any shape through which a constant flow passes."""
    return s * power(flow, b)


def wave_time(flow, s):
    """Time that a small flood wave on a flow takes through a channel of q = 1/3 [s]: dV / dQ."""
    return wave_time_shaped(flow, s, 0.6666666666666666)


def wave_time_shaped(flow, s, b):
    """Time that a small flood wave on a flow takes through a channel of any shape [s]: dV / dQ."""
    return b * s * power(flow, b - 1.0) if flow > 0.0 else 0.0


def channel_variance(flow, s, spread):
    """Variance that a channel of q = 1/3 adds to a small flood wave on a flow [s2]."""
    return channel_variance_shaped(flow, s, spread, 0.6666666666666666, 0.75)


def channel_variance_shaped(flow, s, spread, b, exponent):
    """Variance that a channel of any shape adds to a small flood wave on a flow [s2]."""
    K = wave_time_shaped(flow, s, b)
    return K * K * (spread * power(steady_shaped_water(flow, s, b), exponent))


def step_variance(flow, s, spread, seconds):
    """Variance that the step adds to a small flood wave in place of `channel_variance` [s2]."""
    return step_variance_shaped(flow, s, spread, 0.6666666666666666, 0.75, seconds)


def step_variance_shaped(flow, s, spread, b, exponent, seconds):
    """Variance that the step adds to a small flood wave in place of `channel_variance_shaped` [s2]."""
    D = spread * power(steady_shaped_water(flow, s, b), exponent)
    return muskingum_variance(wave_time_shaped(flow, s, b), 0.5 * (1.0 - D), seconds)


ROUGHNESS = Parameter(
    "manning_roughness", "n", "s m-1/3", (1e-4, 10.0), Range(0.01, 0.3, 0.035), Range(0.01, 0.3, 0.035), "log",
    "Roughness of the channel", "Manning 1891; Bindas et al. 2024, doi:10.1029/2023WR035337", grid="reach",
)
WIDTH = Parameter(
    "channel_width", "p", "m", (0.01, 1e5), Range(1, 300, 15), Range(1, 300, 15), "log",
    "Width of the channel at a depth of 1 m: p h^q at depth h", "Leopold and Maddock 1953", grid="reach",
)
SHAPE = Parameter(
    "channel_shape", "q", "1", (0.0, 2.0), Range(0, 1, 1 / 3), Range(0, 1, 1 / 3), "linear",
    "Exponent of the width: 0 a rectangle, 1/3 nearly a parabola, 1 a triangle", "Leopold and Maddock 1953",
    grid="reach",
)
SOURCE = "Cunge 1969, doi:10.1080/00221686909500264; Todini 2007, doi:10.5194/hess-11-1645-2007"

MUSKINGUM_CUNGE = ReachProcess(
    name="muskingum_cunge",
    title="Muskingum-Cunge in storage form, channels of q = 1/3: exact volume, never negative",
    source=SOURCE,
    step=muskingum_cunge_step,
    state="channel_water",
    symbol="V",
    units="m3",
    parameters=(ROUGHNESS, WIDTH),
    attributes={"length": "length", "slope": "slope"},
    prepared=(Prepared(channel, returns=("s", "spread")),),
    volume=water,
    from_volume=state_of,
    steady=steady_water,
    waves=Waves(wave_time, channel_variance, step_variance),
)
MUSKINGUM_CUNGE_SHAPED = ReachProcess(
    name="muskingum_cunge_shaped",
    title="Muskingum-Cunge in storage form, channels of any shape: exact volume, never negative",
    source=SOURCE,
    step=shaped_step,
    state="channel_water",
    symbol="V",
    units="m3",
    parameters=(ROUGHNESS, WIDTH, SHAPE),
    attributes={"length": "length", "slope": "slope"},
    prepared=(Prepared(shaped_channel, returns=("s", "spread", "b", "exponent")),),
    volume=water,
    from_volume=state_of,
    steady=steady_shaped_water,
    waves=Waves(wave_time_shaped, channel_variance_shaped, step_variance_shaped),
)
