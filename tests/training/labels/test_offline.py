"""Fits of monthly models: the search against scipy's, recovery of a truth, what has no label, the joined capacity."""

from __future__ import annotations

import numpy as np
import pytest

from cdlm_training.labels.evolution import evolve
from cdlm_training.labels.monthly import ABCD, DWBM, GR2M, run
from cdlm_training.labels.offline import calibrate, known_range
from cdlm_training.labels.store import FARTHEST, Column, LabelSet, chosen, join_capacities

N = 72


def weather(n_sites, n_months=N, seed=2):
    rng = np.random.default_rng(seed)
    month = np.arange(n_months)[:, None]
    rain = rng.gamma(2.0, 40.0, (n_months, n_sites))
    return rain, 60 + 50 * np.sin(2 * np.pi * month / 12 + rng.uniform(0, 1, n_sites))


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def test_the_search_finds_what_scipy_finds():
    """A bent valley per population, each with its minimum elsewhere; and one whose minimum is at a corner."""
    optimize = pytest.importorskip("scipy.optimize")
    shift = np.array([-0.5, 0.0, 0.7, 3.0])

    def cost(values, populations):
        x, y = 4 * values - 2
        return rosenbrock(x + shift[populations], y)

    found = evolve(cost, 2, 4, seed=1)
    assert found.converged.all()
    for k, off in enumerate(shift):
        theirs = optimize.differential_evolution(
            lambda v, off=off: rosenbrock(v[0] + off, v[1]), [(-2, 2)] * 2, seed=1, tol=1e-10
        )
        np.testing.assert_allclose(4 * found.values[:, k] - 2, theirs.x, atol=2e-3)
        assert found.cost[k] == pytest.approx(theirs.fun, abs=2e-6)


@pytest.mark.parametrize(("model", "low", "high"), [
    (GR2M, [60, 0.6], [900, 1.2]), (DWBM, [60, 1.4, 1.4, 0.1], [600, 3.5, 3.5, 0.8]),
    (ABCD, [0.85, 80, 0.2, 0.05], [0.99, 700, 0.8, 0.6]),
], ids=["gr2m", "dwbm", "abcd"])
def test_a_fit_finds_the_parameters_behind_a_runoff(model, low, high):
    rain, demand = weather(3)
    truth = np.random.default_rng(4).uniform(0.1, 0.9, (len(low), 3)) * np.subtract(high, low)[:, None] + np.c_[low]
    runoff = run(model, truth, rain, demand).runoff
    runoff[7, 1] = np.nan
    found = calibrate(model, rain, demand, runoff, restarts=2, seed=5)
    np.testing.assert_allclose(found.values, truth, rtol=0.02)
    assert found.skill["kge"].min() > 0.99 and found.spread.max() < 0.1
    assert found.skill["n_values"].tolist() == [54, 53, 54]


def test_what_cannot_be_fitted_has_no_label():
    rain, demand = weather(4)
    runoff = run(GR2M, np.array([[300.0] * 4, [1.0] * 4]), rain, demand).runoff
    runoff[8:, 0] = np.nan
    runoff[:, 1] = 5.0
    rain[3, 2] = np.nan
    found = calibrate(GR2M, rain, demand, runoff, restarts=1, seed=5)
    assert np.isnan(found.values).all(axis=0).tolist() == [True, True, True, False]
    assert np.isnan(found.skill["kge"]).tolist() == [True, True, True, False]


def test_a_gap_is_no_value():
    """What is the same at all known times does not vary, whatever is missing between; nothing known does not either."""
    nan = np.nan
    values = np.array([[5.0, nan, 1.0, nan, 0.0], [nan, nan, 3.0, 7.0, 0.0], [5.0, nan, nan, 7.0, 0.0]])
    assert known_range(values).tolist() == [0.0, 0.0, 2.0, 0.0, 0.0]


def test_the_last_quarter_is_not_seen():
    rain, demand = weather(1)
    runoff = run(GR2M, np.array([[300.0], [0.9]]), rain, demand).runoff
    other = runoff.copy()
    other[54:] = other[54:][::-1]
    a, b = (calibrate(GR2M, rain, demand, one, restarts=1, seed=5) for one in (runoff, other))
    np.testing.assert_array_equal(a.values, b.values)
    assert a.skill["kge_fitted"] == b.skill["kge_fitted"] and a.skill["kge"] > 0.99 > b.skill["kge"]


def test_the_best_restart_is_taken_and_the_spread_is_over_those_that_ended():
    """Of a linear range 0 to 1 the logit is the scale without bounds; at a bound it is cut."""
    column = (Column("share", "1", 0.0, 1.0, "linear", ""),)
    tries = np.array([[[0.5, 0.5, np.nan]], [[0.8, np.nan, np.nan]], [[1.0, 0.2, np.nan]]])
    cost = np.array([[0.3, 0.9, np.inf], [0.2, np.inf, np.nan], [0.4, 0.5, np.inf]])
    values, spread = chosen(column, tries, cost)
    np.testing.assert_allclose(values, [[0.8, 0.2, np.nan]])
    np.testing.assert_allclose(spread, [[np.std([0, np.log(4), FARTHEST]), np.std([0, -np.log(4)]), np.nan]])


def test_capacities_are_joined_by_skill():
    def labels(model, capacity, kge):
        values = np.array([capacity, [1.0] * 3])
        nothing = np.zeros((2, 3))
        return LabelSet(model.name, calibrated_columns(model), model.capacity, values, nothing, {"kge": np.array(kge)},
                        "")

    sets = [labels(GR2M, [100.0, 200.0, 50.0], [0.6, -0.5, -1]), labels(ABCD, [400.0, 300.0, np.nan], [0.2, 0.1, 0.9])]
    joined = join_capacities(sets)
    np.testing.assert_allclose(joined, [np.exp((0.6 * np.log(100) + 0.2 * np.log(400)) / 0.8), 300.0, np.nan])
    assert join_capacities([sets[0]._replace(capacity=None)]) is None


def calibrated_columns(model):
    place = [p.name for p in model.parameters].index(model.capacity)
    own = [model.parameters[place], model.parameters[(place + 1) % len(model.parameters)]]
    return tuple(own)
