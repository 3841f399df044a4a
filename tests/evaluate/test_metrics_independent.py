"""Scores against formulas written anew from their papers, in loops and with other libraries' functions."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest

from bmi_cdlm.evaluate.catalogue import METRICS, score_words, scores
from bmi_cdlm.evaluate.signatures import baseflow, baseflow_index
from bmi_cdlm.evaluate.summary import bootstrap, compare

AREA = 700.0
MILES = AREA / 1.609344**2
STARTS = np.arange(np.datetime64("2001-10-01"), np.datetime64("2004-10-01"))
SEEDS = (1, 2, 3)


def flows(seed: int, n: int = STARTS.size) -> tuple[np.ndarray, np.ndarray]:
    """A river with a season, floods that recede and gaps, and a simulation that is late and too high."""
    rng = np.random.default_rng(seed)
    rain = np.where(rng.random(n) < 0.15, rng.gamma(0.7, 30.0, n), 0.0)
    store, observed = 5.0, np.empty(n)
    for k in range(n):
        store += rain[k] * (1.3 + math.sin(k / 58.0))
        observed[k] = 0.02 * store + 0.4 * rain[k]
        store -= 0.02 * store
    simulated = 1.2 * np.roll(observed, 1) ** 0.9 * rng.lognormal(0.0, 0.2, n)
    observed[rng.integers(0, n, 40)] = np.nan
    simulated[rng.integers(0, n, 7)] = np.nan
    return simulated, observed


def pairs(seed: int) -> list[tuple[float, float]]:
    """Both flows where both are there, as plain numbers."""
    both = zip(*(series.tolist() for series in flows(seed)), strict=True)
    return [(s, o) for s, o in both if not (math.isnan(s) or math.isnan(o))]


def found(seed: int) -> dict[str, float]:
    return scores(*flows(seed), STARTS, AREA)


@pytest.mark.parametrize("seed", SEEDS)
def test_efficiencies_and_their_transforms(seed):
    """NSE is 1 less the error variance over that of the observations, of the flow, its root and its logarithm."""
    own, both = found(seed), pairs(seed)
    mean = sum(o for _, o in both) / len(both)

    def efficiency(of):
        middle = statistics.fmean(of(o) for _, o in both)
        return 1 - sum((of(s) - of(o)) ** 2 for s, o in both) / sum((of(o) - middle) ** 2 for _, o in both)

    assert own["nse"] == pytest.approx(efficiency(lambda q: q), rel=1e-10)
    assert own["sqrt_nse"] == pytest.approx(efficiency(math.sqrt), rel=1e-10)
    assert own["log_nse"] == pytest.approx(efficiency(lambda q: math.log(q + mean / 100)), rel=1e-10)
    assert own["n"] == len(both) < STARTS.size


@pytest.mark.parametrize("seed", SEEDS)
def test_kling_gupta_of_2009_and_of_2012(seed):
    own, both = found(seed), pairs(seed)
    s, o = ([pair[k] for pair in both] for k in (0, 1))
    r = statistics.correlation(s, o)
    beta = statistics.fmean(s) / statistics.fmean(o)
    alpha = statistics.pstdev(s) / statistics.pstdev(o)
    gamma = (statistics.pstdev(s) / statistics.fmean(s)) / (statistics.pstdev(o) / statistics.fmean(o))
    assert own["kge"] == pytest.approx(1 - math.dist((r, alpha, beta), (1, 1, 1)), rel=1e-10)
    assert own["kge_prime"] == pytest.approx(1 - math.dist((r, gamma, beta), (1, 1, 1)), rel=1e-10)
    parts = (own["kge_r"], own["kge_alpha"], own["kge_beta"], own["kge_gamma"])
    assert parts == pytest.approx((r, alpha, beta, gamma), rel=1e-10)
    assert own["pbias"] == pytest.approx(100 * (beta - 1), rel=1e-9), "too much water is positive"


@pytest.mark.parametrize("seed", SEEDS)
def test_biases_of_the_flow_duration_curve(seed):
    """Yilmaz et al. 2008: of the top 2 %, of the low 30 % in logs above the least, and of the slope between."""
    own, both = found(seed), pairs(seed)
    s, o = (sorted((pair[k] for pair in both), reverse=True) for k in (0, 1))
    n = len(o)
    top, low = round(0.02 * n), round(0.3 * n)
    assert own["fhv"] == pytest.approx(100 * (sum(s[:top]) - sum(o[:top])) / sum(o[:top]), rel=1e-10)

    def above_least(q):
        return sum(math.log(x) - math.log(q[-1]) for x in q[-low:])

    assert own["flv"] == pytest.approx(-100 * (above_least(s) - above_least(o)) / above_least(o), rel=1e-5)

    def slope(q):
        """Between the flows that are exceeded at 20 and at 70 % of the times, linear between ranks."""
        at = []
        for share in (0.2, 0.7):
            place = share * (n - 1)
            k = int(place)
            at.append(q[k] + (place - k) * (q[k + 1] - q[k]))
        return math.log(at[0]) - math.log(at[1])

    assert own["fms"] == pytest.approx(100 * (slope(s) / slope(o) - 1), rel=1e-9)
    assert own["low_flow_mae"] == pytest.approx(statistics.fmean(abs(a - b) for a, b in zip(s[-low:], o[-low:],
                                                                                            strict=True)), rel=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_baseflow_is_the_least_flow_of_the_interval(seed):
    """Sloto and Crouse 1996: N = A^0.2 days with A in square miles; the odd number of days nearest to 2 N, 3 to 11."""
    _, observed = flows(seed)
    days = min((k for k in range(3, 12, 2)), key=lambda k: abs(k - 2 * MILES**0.2))
    slow = []
    for k in range(observed.size):
        about = observed[max(0, k - days // 2) : k + days // 2 + 1]
        known = about[~np.isnan(about)]
        slow.append(known.min() if 2 * known.size >= about.size else math.nan)
    np.testing.assert_array_equal(baseflow(observed, AREA), slow)
    flow = [(b, q) for b, q in zip(slow, observed, strict=True) if not (math.isnan(b) or math.isnan(q))]
    expected = sum(b for b, _ in flow) / sum(q for _, q in flow)
    assert baseflow_index(observed, AREA) == pytest.approx(expected, rel=1e-12)
    assert 0 < expected < 1


@pytest.mark.parametrize("members", [1, 2, 7])
def test_ranked_probability_is_the_area_between_the_distributions(members):
    """The integral of (F(x) - [x >= o])^2 over x, piece by piece between members and observation."""
    rng = np.random.default_rng(members)
    ensemble, observed = rng.gamma(2.0, 3.0, (members, 60)), rng.gamma(2.0, 3.0, 60)
    observed[5] = np.nan
    expected, inside = [], []
    for own, o in zip(ensemble.T.tolist(), observed.tolist(), strict=True):
        if math.isnan(o):
            continue
        edges = sorted([*own, o])
        expected.append(sum(
            (b - a) * (sum(x <= a for x in own) / members - (o <= a)) ** 2
            for a, b in pairwise(edges)
        ))
        inside.append(min(own) <= o <= max(own))
    own = scores(ensemble.mean(axis=0), observed, members=ensemble)
    assert own["crps"] == pytest.approx(statistics.fmean(expected), rel=1e-10)
    assert own["coverage"] == pytest.approx(statistics.fmean(inside), rel=1e-12)
    assert own["coverage_expected"] == pytest.approx((members - 1) / (members + 1), rel=1e-12)
    if members == 1:
        assert own["crps"] == pytest.approx(own["mae"], rel=1e-12)


def test_coverage_is_what_is_expected_where_the_truth_is_one_more_member():
    rng = np.random.default_rng(8)
    ensemble = rng.normal(10.0, 2.0, (9, 4000))
    own = scores(ensemble.mean(axis=0), rng.normal(10.0, 2.0, 4000), members=ensemble)
    assert own["coverage"] == pytest.approx(own["coverage_expected"], abs=0.02)


def test_an_interval_of_paired_differences_holds_its_level():
    """Of samples of gauges from one population about 95 % of the intervals hold its median, and pairing narrows it."""
    rng = np.random.default_rng(4)
    held, widths = 0, []
    for k in range(200):
        basin = rng.normal(0.5, 0.3, 40)
        ours, others = basin + 0.02 + rng.normal(0, 0.01, 40), basin + rng.normal(0, 0.01, 40)
        apart = bootstrap(ours - others, draws=300, seed=k)
        held += apart.low <= 0.02 <= apart.high
        alone = bootstrap(ours, draws=300, seed=k)
        widths.append((apart.high - apart.low) / (alone.high - alone.low))
    assert 0.9 <= held / 200 <= 0.99
    assert max(widths) < 0.3


def test_pairs_are_of_gauges_that_both_have():
    ours = {"a": {"nse": 0.9}, "b": {"nse": math.nan}, "c": {"nse": 0.2}, "d": {}}
    others = {"a": {"nse": 0.5}, "b": {"nse": 0.1}, "c": {"nse": math.nan}, "d": {"nse": 0.3}}
    middle = compare(ours, others, ["nse"], list("abcd"))["nse"]
    assert middle.n == 1 and middle.median == middle.low == middle.high == pytest.approx(0.4)


def test_a_perfect_simulation_has_the_best_value_of_every_score():
    _, observed = flows(2)
    series = np.nan_to_num(observed, nan=3.0)
    own = scores(series, series, STARTS, AREA, np.stack([series, series]))
    for one in METRICS:
        assert math.isnan(one.best) or own[one.name] == pytest.approx(one.best, abs=1e-9), one.name


def test_scores_in_words_leave_out_what_is_not_known():
    assert score_words({"nse": 0.8149, "kge": -0.3, "pbias": -12.34}) == "NSE 0.81   KGE \N{MINUS SIGN}0.30   " \
        "bias \N{MINUS SIGN}12.3 %"
    assert score_words({"nse": math.nan, "pbias": 0.04}) == "bias +0.0 %"
    assert score_words({}) == ""
