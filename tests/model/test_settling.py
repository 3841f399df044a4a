"""How long rivers remember, of Muskingum's reaches and of linear processes with longer tails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from make_domain import random_domain

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.names.declaration import Prepared
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose
from bmi_cdlm.processes.kinematic import KINEMATIC
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.processes.outside import ROUTING_NONE


@pytest.mark.parametrize("hours", [0.3, 2.0, 40.0])
def test_after_the_settling_steps_less_than_rounding_is_left_of_what_stood_anywhere(hours):
    """Of the water of each reach by itself, and not much earlier: short reaches, long ones and both."""
    n = 25
    domain, rng = random_domain(3, n, 9), np.random.default_rng(7)
    reach = Operators(choose(), domain, DAY, HOUR).reach
    travel = rng.lognormal(np.log(HOUR * hours), 1.0, n)
    p = reach.prepare({"travel_time": travel, "weighting": rng.uniform(0, 0.5, n)})
    steps = int(reach.settling_steps(p))
    least = np.finfo(np.float64).eps / 100.0
    left = []
    for kept in (steps, steps // 3):
        for i in range(n):
            state = np.zeros(n)
            state[i] = 1.0
            before = reach.volume(p, state).sum()
            reach.run(np.zeros((kept, domain.n_cells)), p, state, np.array([n - 1]))
            left.append(reach.volume(p, state).sum() / before)
    assert max(left[:n]) <= least < max(left[n:])


def spread_share(K, seconds):
    """Share that stays of water which a routing step spreads over the whole reach, and the time that stores it."""
    return K / (K + seconds), seconds


def spread_step(y, inflow, kept):
    """A linear reservoir, implicit in time. Returns the outflow and the state."""
    return (1.0 - kept) * (y + inflow), kept * (y + inflow)


def spread_steady(flow, kept):
    """The state through which a constant flow passes."""
    return flow * kept / (1.0 - kept)


SPREAD = replace(
    MUSKINGUM, name="spread", step=spread_step, adjoint=None, variance=None, parameters=MUSKINGUM.parameters[:1],
    prepared=(MUSKINGUM.prepared[0], Prepared(spread_share, returns=("kept", "storage_time"))),
    steady=spread_steady,
)
"""Of the mean travel time that it says, but with a longer tail than any reach of Muskingum's."""


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_process_that_keeps_water_longer_than_its_travel_time_says_settles_later(dtype):
    n, rng = 12, np.random.default_rng(1)
    domain = random_domain(5, n, 4)
    for travel in (np.full(n, float(HOUR)), rng.uniform(0.0, 9.0, n) * HOUR, np.full(n, 30.0 * HOUR)):
        reach = ReachOperator(SPREAD, LINKS, domain, DAY, HOUR, dtype, Workers(1))
        p = reach.prepare({"travel_time": travel.astype(dtype)})
        steps, left = int(reach.settling_steps(p)), []
        for kept in (steps, steps // 3):
            for i in range(n):
                state = np.zeros(n, dtype)
                state[i] = 1.0
                reach.run(np.zeros((kept, domain.n_cells), dtype), p, state, np.array([n - 1]))
                left.append(float(state.sum()))
        assert max(left[:n]) <= np.finfo(dtype).eps / 100.0 < max(left[n:])


def test_where_nobody_knows_when_rivers_settle_none_ever_do():
    domain = random_domain(3, 9, 5)
    for process, values in (
        (KINEMATIC, None), (ROUTING_NONE, {}),
        (MUSKINGUM, {"travel_time": np.full(9, np.nan), "weighting": np.full(9, 0.2)}),
    ):
        reach = ReachOperator(process, LINKS, domain, DAY, HOUR, np.float64, Workers(1))
        if values is None:
            values = {p.name: np.full(9, p.range_at(DAY).default, float) for p in process.parameters}
        assert reach.settling_steps(reach.prepare(values)) == np.inf
