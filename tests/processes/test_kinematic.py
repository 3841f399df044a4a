"""The kinematic wave in storage form: golden values of an independent program, water, limits, waves."""

from __future__ import annotations

import numpy as np
import pytest
from reach_cases import River

from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.model.elementwise import Elementwise
from bmi_cdlm.processes.kinematic import KINEMATIC, kinematic_step, steps_of_travel, wet_channel

STEP = 900
T = np.arange(400)


def chain(n=20, a=5.0, b=0.6, length=1000.0, routing_step=STEP, model_step=STEP):
    """A chain of reaches of one kind."""
    values = {"kinematic_coefficient": a, "kinematic_exponent": b}
    return River(KINEMATIC, [*range(1, n), -1], values, length, 0.01, routing_step, model_step)


def test_golden_flood_of_a_chain():
    """Twenty reaches, a flood of 60 m3 s-1 at the head, four hundred quarters of an hour."""
    inflow = np.full((T.size, 20), 0.05)
    inflow[:, 0] = 2.0 + 60.0 * np.exp(-0.5 * ((T + 0.5 - 60.0) / 12.0) ** 2)
    river = chain()
    start = river.steady(np.cumsum(inflow[0]))
    found, left = river.route(inflow, start)
    for t, flows in {
        60: (61.7782995616, 52.6550634140, 17.5212081968), 80: (18.1398367760, 36.4771614691, 51.5009948320),
        120: (2.00207137046, 3.26060867254, 7.28004961488),
    }.items():
        np.testing.assert_allclose(found[t, [0, 9, 19]], flows, rtol=1e-9)
    assert found[:, 19].sum() == pytest.approx(2984.78465915, rel=1e-9)
    assert left.sum() == pytest.approx(171961.980646, rel=1e-9)
    came = start.sum() + STEP * inflow.sum()
    assert abs(came - STEP * found[:, 19].sum() - left.sum()) <= 1e-15 * came


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_random_states_are_never_negative_and_lose_nothing(dtype):
    rng, n = np.random.default_rng(1), 20_000
    step, allowed = compiled(kinematic_step, dtype), 8 * np.finfo(dtype).eps
    V, inflow = (10.0 ** rng.uniform(-3, 8, n) * (rng.random(n) < 0.9) for _ in range(2))
    a, b, length = 10.0 ** rng.uniform(-1, 1.7, n), rng.uniform(0.3, 1.0, n), 10.0 ** rng.uniform(1, 5, n)
    for i in range(n):
        s, seconds = wet_channel(length[i], a[i], b[i])[0], rng.choice([300.0, 900.0, 3600.0, 86400.0])
        out, left = step(*map(dtype, (V[i], inflow[i], s, b[i], seconds)))
        came = V[i] + seconds * inflow[i]
        assert out >= 0.0 and left >= 0.0 and abs(came - seconds * float(out) - float(left)) <= allowed * came
        if dtype is np.float64:  # what is left is what a steady flow of that size holds
            assert left == pytest.approx(s * out ** b[i], rel=1e-12, abs=1e-300)


def test_no_water_and_no_length():
    step = compiled(kinematic_step)
    assert step(0.0, 0.0, 5000.0, 0.6, 900.0) == (0.0, 0.0)
    assert step(0.0, 3.0, 0.0, 0.6, 900.0) == (3.0, 0.0)
    assert compiled(steps_of_travel)(2.0, 0.0, 0.6) == 1e30 and compiled(steps_of_travel)(0.0, 2.0, 0.6) == 0.0


def test_of_exponent_one_it_is_a_linear_reservoir():
    """V = length a Q: every step keeps K / (K + seconds) of the water."""
    V = 7000.0
    for inflow in (3.0, 0.0, 12.0, 0.5):
        out, left = compiled(kinematic_step)(V, inflow, 4000.0, 1.0, 900.0)
        assert out == pytest.approx((V + 900.0 * inflow) / 4900.0, rel=1e-13)
        V = left


def test_a_small_wave_is_as_late_and_as_wide_as_is_said():
    """The mean delay K of a reach is exact, the variance K^2 + K seconds."""
    flow, n = 30.0, 400
    river = chain(1, length=12000.0)
    inflow = np.full((n, 1), flow)
    inflow[1, 0] += 1e-4
    out = river.route(inflow, river.steady(flow))[0][:, 0] - flow
    t = STEP * (np.arange(n) - 1.0)
    mean = (out * t).sum() / out.sum()
    time, channel, step = (
        float(Elementwise(f, river.operator.constants, np.float64)(river.p.symbols, {"flow": np.array([flow])})[0])
        for f in KINEMATIC.waves
    )
    assert time == pytest.approx(12000.0 * 5.0 * 0.6 * flow**-0.4, rel=1e-12) and channel == 0.0
    assert mean == pytest.approx(time, rel=1e-5)
    assert (out * (t - mean) ** 2).sum() / out.sum() == pytest.approx(step, rel=1e-4)
