"""Halves of a model: runoff that comes from outside for a run of routing alone, and rivers that only add up.

What stands in place of a process is a process: declared as any other, without stores and parameters.
"""

from __future__ import annotations

from bmi_cdlm.names.declaration import RUNOFF, CellProcess, Flux, Input, LinkProcess, ReachProcess, Stage


def hand_on(R):
    """Runoff as it is given [mm d-1]."""
    return R


CALLER = CellProcess(
    name="caller",
    title="Runoff that a caller gives, or a file: routing alone",
    source="none",
    inputs={"given_runoff": Input("R", "level")},
    enters="given_runoff",
    stages=(Stage(hand_on, returns=("Q",)),),
    stores={},
    parameters=(),
    fluxes={"runoff": Flux("Q")},
    gives=(RUNOFF, "Q"),
    gives_rate=True,
)


def pass_on(y, inflow):
    """What comes in goes out; nothing stays. Returns the outflow and y, which is 0."""
    return inflow, y


def no_volume(y):
    """Nothing stands in a reach [m3]; y is 0."""
    return 0.0 * y


def no_state(volume):
    """The state of a reach, which holds no water."""
    return 0.0 * volume


def no_steady_state(flow):
    """The state through which a constant flow passes: 0."""
    return 0.0 * flow


ROUTING_NONE = ReachProcess(
    name="none",
    title="Rivers that hand everything on at once: discharge is the sum of the runoff above",
    source="none",
    step=pass_on,
    state="reach_nothing",
    symbol="y",
    units="m3 s-1",
    linear=True,
    parameters=(),
    volume=no_volume,
    from_volume=no_state,
    steady=no_steady_state,
)


def same_flow(runoff, area):
    """Lateral inflow [m3 s-1] that is given as it is; the area of the link is 1."""
    return runoff


def same_flow_adjoint(area, flow_adj):
    """Adjoint of `same_flow`."""
    return flow_adj


DIRECT = LinkProcess(
    name="direct", title="Lateral inflow that is given for every reach", flow=same_flow, adjoint=same_flow_adjoint,
)
