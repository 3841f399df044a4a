"""A nonlinear reservoir for reaches: the outflow is a power of the water in the reach, taken in an implicit step.

V water in the reach [m3]; T its residence time [s] at a discharge of 1 m3 s-1, so that the outflow is (V / T)^m.
"""

from bmi_cdlm.kernels.transcendental import power
from bmi_cdlm.names.declaration import Prepared, ReachProcess
from bmi_cdlm.names.parameters import Parameter, Range
from bmi_cdlm.processes.muskingum import CELERITY

SOURCE = "Laurenson 1964, doi:10.1016/0022-1694(64)90025-3"


def outflow_step(V, inflow, T, m, seconds):
    """Implicit in V, at the rate that V before the step has: as much leaves as is there, and what comes stays whole."""
    rate = power(V / T, m - 1.0) / T
    held = V + inflow * seconds
    left = held / (1.0 + rate * seconds)
    return (held - left) / seconds, left


def residence_time(length, c):
    """T [s] of a reach of a length [m] with the celerity c [m s-1]; of no length, a second."""
    return length / c if length > 0.0 else 1.0


def volume_of(V):
    """Water in a reach: the state itself."""
    return V


def state_of(volume):
    """The state that holds a volume: the volume itself."""
    return volume


def steady(flow, T, m):
    """The water [m3] through which a constant flow passes."""
    return T * power(flow, 1.0 / m)


NONLINEAR_REACH = ReachProcess(
    name="nonlinear_reach",
    title="Reaches that empty as a power of the water in them",
    source=SOURCE,
    step=outflow_step,
    state="reach_water",
    symbol="V",
    units="m3",
    parameters=(
        CELERITY,
        Parameter("outflow_exponent", "m", "1", (1.0, 3.0), Range(1, 2, 1.25), Range(1, 2, 1.25), "linear",
                  "Exponent of the outflow", SOURCE, grid="reach"),
    ),
    attributes={"length": "length"},
    prepared=(Prepared(residence_time, returns=("T",)),),
    volume=volume_of,
    from_volume=state_of,
    steady=steady,
)
