"""Kinematic wave in storage form: one reach, one sub-step [Lighthill and Whitham 1955; Te Chow et al. 1988].

The state is V, the water in the reach [m3]; a steady flow Q holds V = length alpha Q^beta. All inflow enters at the
head, and the step is implicit in the outflow: seconds Q + length alpha Q^beta = V + seconds I. What is in the reach
afterwards is the rest, so that no water is lost or made, and nothing is below zero.
"""

from __future__ import annotations

import math

from bmi_cdlm.kernels.rules import adjoint_of
from bmi_cdlm.kernels.transcendental import exp, log
from bmi_cdlm.names.declaration import Prepared, ReachProcess, Waves
from bmi_cdlm.names.parameters import Parameter, Range
from bmi_cdlm.processes.muskingum_cunge import (
    halley,
    relative_travel_time_adjoint,
    state_of,
    steady_shaped_water,
    water,
    wave_time_shaped,
)


def kinematic_step(V, inflow, s, b, seconds):
    """Outflow and water of a reach. Returns O, V."""
    held = V + seconds * inflow
    kappa = steps_of_travel(s / seconds, held / seconds, b)
    left = 1.0 / (1.0 + kappa)
    return held * left / seconds, held * (kappa * left)


def steps_of_travel(s, r, b):
    """Return kappa = s W^(b - 1) with W + s W^b = r, as `relative_travel_time`, for any b from 0.3 to 1."""
    c = log(s if s > 0.0 else 1.0) - (1.0 - b) * log(r if r > 0.0 else 1.0)
    x = c / b
    start = c + (1.0 - b) * 0.5 * (x + math.sqrt(x * x + 1.92))
    kappa = exp(halley(halley(halley(start, c, b), c, b), c, b))
    some = kappa if r > 1e-30 else 1e30  # less than that stands
    return some if s > 0.0 else 0.0


adjoint_of(steps_of_travel, "kappa")(relative_travel_time_adjoint)


def wet_channel(length, alpha, beta):
    """s and b of V = s Q^b. Returns both."""
    return length * alpha, beta


def no_variance(flow):
    """A kinematic wave does not diffuse [s2]."""
    return 0.0 * flow


def kinematic_step_variance(flow, s, b, seconds):
    """Variance that the step adds to a small flood wave on a flow [s2]."""
    K = wave_time_shaped(flow, s, b)
    return K * K + K * seconds


KINEMATIC = ReachProcess(
    name="kinematic",
    title="Kinematic wave in storage form: exact volume and mean delay, never negative",
    source="Lighthill and Whitham 1955, doi:10.1098/rspa.1955.0088; Te Chow et al. 1988",
    step=kinematic_step,
    state="channel_water",
    symbol="V",
    units="m3",
    parameters=(
        Parameter(
            "kinematic_coefficient", "alpha", "m(2-3beta) s(beta)", (1e-3, 1e4), Range(0.1, 50, 5), Range(0.1, 50, 5),
            "log", "Wet area of a flow of 1 m3 s-1; (n B^(2/3) / slope^(1/2))^(3/5) for a width B and Manning's n",
            "Te Chow et al. 1988", grid="reach",
        ),
        Parameter(
            "kinematic_exponent", "beta", "1", (0.3, 1.0), Range(0.3, 1, 0.6), Range(0.3, 1, 0.6), "linear",
            "Exponent beta of the wet area", "Te Chow et al. 1988", grid="reach",
        ),
    ),
    attributes={"length": "length"},
    prepared=(Prepared(wet_channel, returns=("s", "b")),),
    volume=water,
    from_volume=state_of,
    steady=steady_shaped_water,
    waves=Waves(wave_time_shaped, no_variance, kinematic_step_variance),
)
