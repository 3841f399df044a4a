"""Muskingum with limited weighting: coefficients, volume, delay and spread are exact for every K, x and step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmi_cdlm.kernels.groups import Links, Network
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.prepared import fill_loops
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.loops.routing import compensated_sum
from bmi_cdlm.model.buffers import whole_series
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM, muskingum_coefficients, muskingum_step, muskingum_variance

PLAN = ReachPlan(MUSKINGUM)
ROUTE = reach_loops(PLAN, LINKS).route
COEFFICIENTS = fill_loops(MUSKINGUM.prepared[1], PLAN.constant_group._fields, ())

STEPS = st.sampled_from([60.0, 900.0, 3600.0, 86400.0])
WEIGHTINGS = st.one_of(st.floats(0, 0.5), st.sampled_from([0.0, 0.2, 0.5]))
# K in steps: around one half and one, where branches meet, and far from both.
RATIOS = st.one_of(
    st.floats(0, 3, allow_subnormal=False), st.floats(0, 50, allow_subnormal=False),
    st.sampled_from([0.0, 0.5, 1.0, 1e-300]),
)


def classical(K: float, x: float, step: float) -> tuple[float, float, float]:
    """C0, C1, C2 of SPEC 4.2 with the weighting limited by hand."""
    if K == 0:
        return 1.0, 0.0, 0.0
    x = min(x, step / (2 * K), 1 - step / (2 * K))
    D = 2 * K * (1 - x) + step
    return (step - 2 * K * x) / D, (step + 2 * K * x) / D, (2 * K * (1 - x) - step) / D


def route_chain(K, x, step: float, lateral: np.ndarray, n_sub: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Discharge [reach, time] of a river without tributaries, and the storage at the end [m3]."""
    n = len(K)
    found = {name: np.empty(n) for name in COEFFICIENTS.returns}
    seconds = PLAN.constant_group(step)
    compiled(COEFFICIENTS.fill)(np.array(K, float), np.array(x, float), seconds, *found.values())
    p = PLAN.parameter_group(**found)
    network = Network(
        np.arange(n), np.ones(n, np.int64), np.r_[0, np.arange(n)], np.arange(n - 1), np.zeros(n, np.int64)
    )
    y, discharge = np.zeros(n), whole_series(np.empty(lateral.shape))
    # A cell for every reach, so large that 1 mm d-1 is 1 m3 s-1.
    links = Links(np.arange(n + 1), np.arange(n), np.full(n, 86.4))
    compiled(ROUTE)(
        network, links, p, y, np.ascontiguousarray(lateral.T), whole_series(np.empty(lateral.shape)),
        np.empty((1, lateral.shape[1] * n_sub)), discharge, np.empty((n, 0)), np.zeros(n), float(step), n_sub,
        step * n_sub, 0, n, 0, lateral.shape[1],
    )
    return discharge.values, y * p.storage_time


@given(st.one_of(RATIOS, st.floats(1, 1e6)), WEIGHTINGS, STEPS)
def test_coefficients_are_the_limited_classical_ones(ratio, x, step):
    K = ratio * step
    direct, gain, keep, storage_time = muskingum_coefficients(K, x, step)
    assert direct >= 0 and gain >= 0 and keep >= 0
    c0, c1, c2 = classical(K, x, step)
    np.testing.assert_allclose((direct, gain, keep), (c0, c1 + c0 * c2, c2), rtol=1e-9, atol=1e-14)
    # What enters leaves: a unit of inflow sends `direct` at once and gain / (1 - keep) later.
    assert direct + gain / (1 - keep) == pytest.approx(1, rel=1e-15)
    assert storage_time * (1 - keep) == pytest.approx(step, rel=1e-15)


@given(st.one_of(RATIOS, st.floats(1, 1e6)), WEIGHTINGS, STEPS, st.integers(0, 2**32))
def test_storage_changes_by_inflow_minus_outflow(ratio, x, step, seed):
    """V_t - V_{t-1} = step (I_t - O_t) with V = y * storage_time [SPEC 4.1], relative to the largest of the terms."""
    rng = np.random.default_rng(seed)
    direct, gain, keep, storage_time = muskingum_coefficients(ratio * step, x, step)
    y = float(rng.exponential(1.0)) / max(ratio, 1.0)
    for _ in range(30):
        inflow = float(rng.exponential(1.0) * (rng.random() < 0.7))
        before = y * storage_time
        outflow, y = muskingum_step(y, inflow, direct, gain, keep)
        assert outflow >= 0 and y >= 0
        after = y * storage_time
        error = after - before - step * (inflow - outflow)
        assert abs(error) <= 1e-14 * (before + after + step * (inflow + outflow))


@given(st.lists(st.tuples(RATIOS, WEIGHTINGS), min_size=1, max_size=5), STEPS)
def test_a_path_delays_by_the_sum_of_K_and_keeps_the_volume(reaches, step):
    """An impulse at the head of the first reach: volume 1, first moment sum(K), variance the sum of the parts."""
    K, x = np.array([k * step for k, _ in reaches]), np.array([w for _, w in reaches])
    longest = max(1.0, (K / step).max())
    n_steps = int(45 * longest + 12 * (K / step).sum() + 20)
    lateral = np.zeros((K.size, n_steps))
    lateral[0, 0] = 1.0
    out = route_chain(K, x, step, lateral)[0][-1]
    t = step * np.arange(n_steps)
    assert (out >= 0).all()
    assert math.fsum(out) == pytest.approx(1, rel=1e-12)
    mean = math.fsum(out * t)
    assert mean == pytest.approx(K.sum(), rel=1e-11, abs=1e-11 * step)
    variance = math.fsum(out * (t - mean) ** 2)
    expected = sum(muskingum_variance(k, w, step) for k, w in zip(K, x, strict=True))
    assert variance == pytest.approx(expected, rel=1e-9, abs=1e-9 * step**2)


def test_runoff_of_every_reach_feels_that_reach():
    """An impulse of each reach's own runoff leaves it K later on average, also in a headwater."""
    K, x = np.array([1800.0, 7200.0, 500.0, 0.0]), np.full(4, 0.2)
    for i in range(4):
        lateral = np.zeros((4, 400))
        lateral[i, 0] = 1.0
        out = route_chain(K, x, 3600.0, lateral)[0]
        assert math.fsum(out[i] * 3600.0 * np.arange(400)) == pytest.approx(K[i], rel=1e-11)
        assert not out[:i].any()


def test_three_branches_and_their_edges():
    """step = 1, x = 0.3: short up to K = 1 / 1.4, long from K = 1 / 0.6; the formulas of both sides agree there."""
    x = 0.3
    edges = {"short": 1 / (2 * (1 - x)), "long": 1 / (2 * x)}
    for K, expected in (
        (0.5, (0.5, 0.5, 0.0, 1.0)), (0.0, (1.0, 0.0, 0.0, 1.0)), (4.0, (0.0, 0.25, 0.75, 4.0)),
    ):
        assert muskingum_coefficients(K, x, 1.0) == expected
    for edge in edges.values():
        below, at, above = (
            np.array([*muskingum_coefficients(K, x, 1.0), muskingum_variance(K, x, 1.0)])
            for K in (edge * (1 - 1e-9), edge, edge * (1 + 1e-9))
        )
        np.testing.assert_allclose(below, at, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(above, at, rtol=1e-7, atol=1e-8)
    # At equality the short branch is taken: nothing is kept.
    assert muskingum_coefficients(1.0, 0.5, 1.0) == (0.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize(("edge", "x"), [("short", 0.0), ("short", 0.2), ("short", 0.5), ("long", 0.2), ("long", 0.5)])
@pytest.mark.parametrize("side", [1 - 1e-12, 1.0, 1 + 1e-12])
def test_spread_at_branch_edges(x, edge, side):
    """The second moment of the impulse response at and beside K (1 - x) = step / 2 and 2 K x = step."""
    K = side * (1 / (2 * (1 - x)) if edge == "short" else 1 / (2 * x))
    lateral = np.zeros((1, 400))
    lateral[0, 0] = 1.0
    out = route_chain([K], [x], 1.0, lateral)[0][0]
    variance = math.fsum(out * (np.arange(400) - K) ** 2)
    assert variance == pytest.approx(muskingum_variance(K, x, 1.0), rel=1e-9, abs=1e-11)


def test_a_reach_without_length_passes_everything_on_at_once():
    rng = np.random.default_rng(0)
    lateral = rng.exponential(1.0, (1, 50))
    out, stored = route_chain([0.0], [0.2], 3600.0, lateral)
    assert np.array_equal(out, lateral) and stored[0] == 0


def test_discharge_is_the_mean_of_the_sub_steps():
    """24 sub-steps of one hour against the same hours as model steps; volume is the mean times the day."""
    K, x = np.array([5000.0, 30000.0]), np.array([0.2, 0.4])
    daily = np.random.default_rng(3).exponential(1.0, (2, 20))
    out, stored = route_chain(K, x, 3600.0, daily, n_sub=24)
    hourly, hourly_stored = route_chain(K, x, 3600.0, np.repeat(daily, 24, axis=1))
    np.testing.assert_allclose(out, hourly.reshape(2, 20, 24).mean(axis=2), rtol=1e-13)
    assert np.array_equal(stored, hourly_stored)
    assert math.fsum(out[1]) * 86400 + stored.sum() == pytest.approx(math.fsum(daily.ravel()) * 86400, rel=1e-13)


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1000])
def test_a_compensated_sum_keeps_what_cancellation_would_lose(n):
    rng = np.random.default_rng(n)
    values = np.repeat(rng.uniform(-1.0, 1.0, n), 2) * 10.0 ** rng.integers(-12, 16, 2 * n)
    values[1::2] = -values[::2] * (1.0 + 1e-13)
    exact = math.fsum(values)
    assert compiled(compensated_sum)(values, np.ones(2 * n)) == pytest.approx(exact, rel=1e-15, abs=1e-30)
    assert n < 2 or abs(values.sum() - exact) > 1e-15 * abs(exact)
