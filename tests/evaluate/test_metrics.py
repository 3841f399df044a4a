"""Scores: worked by hand, against their definitions, and where they are not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bmi_cdlm.evaluate import metrics
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.evaluate.metrics import am3, flv, high_flow_error, kge, kge_parts, kge_prime, nse

# Four steps worked by hand: mean o = 2.5, mean s = 3, sum (s - o)^2 = 2, sum (o - 2.5)^2 = 5,
# sum (s - 3)^2 = 8, sum (s - 3) (o - 2.5) = 6.
OBS = np.array([1.0, 2, 3, 4])
SIM = np.array([1.0, 3, 3, 5])
R = 6 / math.sqrt(5 * 8)
SERIES = (metrics.nse, metrics.log_nse, metrics.sqrt_nse, metrics.pcc, metrics.kge, metrics.kge_prime,
          metrics.pbias, metrics.fhv, metrics.flv, metrics.low_flow_mae)


def test_worked_by_hand():
    assert nse(SIM, OBS) == pytest.approx(1 - 2 / 5, rel=1e-14)
    assert metrics.pbias(SIM, OBS) == pytest.approx(20, rel=1e-14)
    assert metrics.pcc(SIM, OBS) == pytest.approx(R, rel=1e-14)
    alpha, beta = math.sqrt(8 / 5), 1.2
    assert kge_parts(SIM, OBS) == pytest.approx((R, alpha, beta), rel=1e-14)
    assert kge(SIM, OBS) == pytest.approx(1 - math.hypot(R - 1, alpha - 1, 0.2), rel=1e-14)
    gamma = alpha / beta
    assert kge_prime(SIM, OBS) == pytest.approx(1 - math.hypot(R - 1, gamma - 1, 0.2), rel=1e-14)


def test_log_and_root_follow_their_transform():
    assert metrics.log_nse(SIM, OBS) == pytest.approx(nse(np.log(SIM + 0.025), np.log(OBS + 0.025)), rel=1e-14)
    assert metrics.sqrt_nse(SIM, OBS) == pytest.approx(nse(np.sqrt(SIM), np.sqrt(OBS)), rel=1e-14)


def test_missing_steps_are_left_out_of_both():
    s = np.r_[SIM, np.nan, 100, np.nan]
    o = np.r_[OBS, 50, np.nan, np.nan]
    assert scores(s, o) == scores(SIM, OBS)
    assert scores(s, o)["n"] == 4


def test_a_perfect_simulation():
    found = scores(OBS, OBS)
    for name in ("nse", "log_nse", "sqrt_nse", "kge", "kge_r", "kge_alpha", "kge_beta", "kge_prime", "pcc"):
        assert found[name] == pytest.approx(1, abs=1e-14), name
    for name in ("pbias", "r1", "r10", "fhv", "flv", "low_flow_mae"):
        assert found[name] == 0, name


def test_the_mean_flow_scores_as_knoben_says():
    mean = np.full(4, OBS.mean())
    assert nse(mean, OBS) == 0
    assert kge(mean, OBS) == pytest.approx(1 - math.sqrt(2), rel=1e-14)
    assert math.isnan(metrics.pcc(mean, OBS))


@pytest.mark.parametrize("score", SERIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_pairs_have_no_score(score, n):
    assert math.isnan(score(OBS[:n], OBS[:n]))
    assert math.isnan(score(np.r_[OBS[:n], np.nan], np.r_[OBS[:n], 1]))


def test_no_observation_at_all():
    found = scores(OBS, np.full(4, np.nan), np.datetime64("2001-01-01") + np.arange(4))
    assert found.pop("n") == found.pop("years") == 0
    assert all(math.isnan(v) for v in found.values())


@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.7])
def test_constant_observations_have_no_efficiency(value):
    """The mean of equal numbers is not always that number, so a spread of zero must not be computed."""
    o = np.full(1001, value)
    s = o + np.linspace(0, 1, 1001)
    for score in (nse, kge, kge_prime, metrics.log_nse, metrics.sqrt_nse, metrics.pcc):
        assert math.isnan(score(s, o))
    assert metrics.pbias(s, o) == pytest.approx(50 / value, rel=1e-10)


def test_a_dry_river():
    found = scores(OBS, np.zeros(4))
    for name in ("nse", "log_nse", "kge", "kge_beta", "pbias", "r1", "r10", "fhv"):
        assert math.isnan(found[name]), name
    assert found["low_flow_mae"] == 1
    assert kge(np.zeros(4), OBS) == pytest.approx(1 - math.sqrt(3), rel=1e-14)
    assert math.isnan(kge_prime(np.zeros(4), OBS))


def test_negative_flow_has_no_logarithm_and_no_root():
    s = np.r_[-1.0, SIM[1:]]
    assert math.isnan(metrics.log_nse(s, OBS))
    assert math.isnan(metrics.sqrt_nse(s, OBS))
    assert math.isfinite(nse(s, OBS))


@pytest.mark.parametrize("share, n, k", [(0.01, 4, 1), (0.1, 100, 10), (0.1, 26, 3), (1, 9, 9)])
def test_high_flows_take_the_largest_of_each(share, n, k):
    rng = np.random.default_rng(n)
    s, o = rng.random(n), rng.random(n)
    expected = 100 * (np.sort(s)[-k:].mean() / np.sort(o)[-k:].mean() - 1)
    assert high_flow_error(s, o, share) == pytest.approx(expected, rel=1e-12)


def test_high_flows_on_the_observed_days():
    o = np.array([1.0, 10, 2, 8])
    s = np.array([12.0, 5, 1, 8])
    assert high_flow_error(s, o, 0.5) == pytest.approx(100 * (20 - 18) / 18)
    assert high_flow_error(s, o, 0.5, "obs_days") == pytest.approx(100 * (13 - 18) / 18)
    assert high_flow_error(o[:1], o[:1], 0.5) != high_flow_error(o[:1], o[:1], 0.5)
    with pytest.raises(ValueError, match="ranking is 'sim_days', expected 'own' or 'obs_days'"):
        high_flow_error(s, o, 0.5, "sim_days")


def test_low_flow_bias_by_its_equation():
    rng = np.random.default_rng(1)
    s, o = rng.random(100), rng.random(100)
    o[:5], s[7] = 0, 0
    low_s, low_o = (np.log(np.maximum(np.sort(q)[:30], 1e-6)) for q in (s, o))
    above_s, above_o = (low_s - low_s.min()).sum(), (low_o - low_o.min()).sum()
    assert flv(s, o) == pytest.approx(-100 * (above_s - above_o) / (above_o + 1e-6), rel=1e-12)
    assert metrics.low_flow_mae(s, o) == pytest.approx(np.abs(np.sort(s)[:30] - np.sort(o)[:30]).mean())
    assert metrics.fhv(s, o) == high_flow_error(s, o, 0.02)


def daily(first, last):
    return np.arange(np.datetime64(first), np.datetime64(last))


def test_am3_is_the_median_over_years():
    starts = daily("2001-01-01", "2004-01-01")
    o = np.ones(starts.size)
    s = np.ones(starts.size)
    for year, factor in ((2001, 1.1), (2002, 1.5), (2003, 0.8)):
        peak = int(np.flatnonzero(starts == np.datetime64(f"{year}-05-10"))[0])
        o[peak - 1 : peak + 2] = 5, 20, 5
        s[peak + 9 : peak + 12] = 10 * factor  # on other days, which does not matter
    assert am3(s, o, starts) == pytest.approx(10, rel=1e-12)


def test_am3_leaves_out_years_with_few_values():
    starts = daily("2001-01-01", "2003-01-01")
    o, s = np.full(starts.size, 2.0), np.full(starts.size, 3.0)
    s[400] = 1000.0
    o[365 : 365 + 37] = np.nan  # 2002: 328 of 365, just below 90 %
    assert am3(s, o, starts) == pytest.approx(50)
    assert am3(s, o, starts, coverage=0.89) == pytest.approx(50)
    o[365 + 36] = 2.0  # 329 of 365; the peak is at step 400, next to it and missing in o
    s[500] = 1000.0
    assert am3(s, o, starts) > 5000
    assert math.isnan(am3(s[:300], o[:300], starts[:300]))


def test_am3_of_hydrological_years():
    starts = daily("2001-10-01", "2002-10-01")
    o, s = np.full(365, 2.0), np.full(365, 4.0)
    assert am3(s, o, starts, first_month=10) == pytest.approx(100)
    assert math.isnan(am3(s, o, starts, first_month=1))


def test_am3_of_hourly_values_takes_three_days():
    starts = np.arange(np.datetime64("2001-01-01T00", "h"), np.datetime64("2002-01-01T00", "h"))
    o, s = np.ones(starts.size), np.ones(starts.size)
    o[1000:1072] = 3.0
    s[1000:1036] = 9.0
    assert am3(s, o, starts) == pytest.approx(100 * (5 / 3 - 1), rel=1e-12)


def test_scores_add_am3_where_dates_are_given():
    starts = daily("2001-01-01", "2002-01-01")
    flow = np.random.default_rng(0).random(365)
    assert "am3" not in scores(flow, flow)
    assert scores(flow, flow, starts)["am3"] == 0


def test_series_must_match():
    with pytest.raises(ValueError, match=r"simulated is of shape \(3,\), observed \(4,\)"):
        nse(OBS[:3], OBS)
    with pytest.raises(ValueError, match="expected two equal series"):
        nse(OBS[:, None], OBS[:, None])


flow = st.floats(0.01, 1e4)


@given(arrays(float, 30, elements=flow), arrays(float, 30, elements=flow), st.floats(0.1, 100))
def test_scores_do_not_depend_on_the_unit(s, o, factor):
    here, there = scores(s, o), scores(s * factor, o * factor)
    for name in ("nse", "sqrt_nse", "kge", "kge_prime", "pbias", "pcc", "r1", "r10", "fhv"):
        assert there[name] == pytest.approx(here[name], rel=1e-6, abs=1e-6, nan_ok=True), name


@given(arrays(float, 30, elements=flow), arrays(float, 30, elements=flow), st.permutations(range(30)))
def test_bounds_and_order(s, o, order):
    found, shuffled = scores(s, o), scores(s[order], o[order])
    for name, value in found.items():
        assert shuffled[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), name
    for name in ("nse", "log_nse", "sqrt_nse", "kge", "kge_prime"):
        assert not found[name] > 1
    assert not abs(found["pcc"]) > 1 + 1e-12
