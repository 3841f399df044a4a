"""Normal errors in the loss, and the posterior of a fit, against densities of scipy and differences of values."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from training_cases import ALONE, change_training, train, write_training_case

from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.errors import ConfigError
from cdlm_training.errors import GaugeErrors, gaussian_term
from cdlm_training.evaluate import ERRORS, load_best
from cdlm_training.loop import Trainer
from cdlm_training.posterior import _parameters, _prior, free_weights, laplace

stats = pytest.importorskip("scipy.stats")

KEYS = {
    "mapping": "uniform", "cell_attributes": None, "reach_attributes": None, "hidden": None, "pet_factor": False,
    "loss": {"nse": 0, "gaussian": 1, "observation_error": 0.05}, "optimizer": "lbfgs", "learning_rate": None,
    "restarts": 1, "posterior": "laplace", "window": 50, "warm_up": 20, "updates": 12, "epochs": 2, "patience": 9,
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return train(write_training_case(tmp_path_factory.mktemp("posterior"), **KEYS))[0]


def test_the_term_is_the_density_of_scipy():
    rng = np.random.default_rng(1)
    s, o = rng.gamma(2.0, 1.5, (2, 30, 3))
    o[:5, 1] = np.nan
    o[:, 2] = np.nan
    errors = GaugeErrors(np.array([2.0, 3.0, 1.0]))
    np.testing.assert_allclose(errors.values(), [[0.2, 0.3, 0.1], [0.1, 0.1, 0.1]])
    errors.take(np.array([[0.4, 0.2, 1.0], [0.3, 0.6, 1.0]]))
    found = gaussian_term(torch.from_numpy(s), torch.from_numpy(o), errors.deviation(torch.from_numpy(s), np.arange(3)),
                          0.1)
    for g, (s0, s1) in enumerate([(0.4, 0.3), (0.2, 0.6)]):
        known = ~np.isnan(o[:, g])
        q, x = o[known, g], s[known, g]
        expected = -stats.norm.logpdf(q, x, np.sqrt((0.1 * q) ** 2 + (s0 + s1 * x) ** 2)).mean()
        assert float(found[g].detach()) == pytest.approx(expected, rel=1e-12)
    assert float(found[2].detach()) == 0.0
    flow, gauges = torch.from_numpy(s).requires_grad_(), np.arange(3)
    assert torch.autograd.gradcheck(
        lambda x, _: gaussian_term(x, torch.from_numpy(o), errors.deviation(x, gauges), 0.1), [flow, errors.log_s]
    )


@pytest.mark.slow
def test_errors_are_learned_and_kept(fitted):
    kept = load_checkpoint(fitted.config.output).record[ERRORS]
    values = fitted.generator.errors.values()
    assert [*kept] == ["g0", "g1", "g2", "g3"]
    np.testing.assert_allclose(np.array([*kept.values()]).T, values, rtol=1e-12)
    assert np.abs(values / GaugeErrors(fitted.data.spread).values() - 1).min() > 0.01, "they have moved"
    fitted.generator.errors.take(np.ones((2, 4)))
    load_best(fitted)
    np.testing.assert_allclose(fitted.generator.errors.values(), values, rtol=1e-12)


def minus_log_likelihood(trainer, z) -> float:
    """Of all observations of the training period, by numpy from the discharge of the chain."""
    weights, first = free_weights(trainer), 0
    with torch.no_grad():
        for w in weights:
            w.copy_(torch.from_numpy(z[first : first + w.numel()].reshape(tuple(w.shape))))
            first += w.numel()
        window, total = trainer.data.window(0, 50), 0.0
        for part in trainer.parts:
            s = trainer.chain(part, window).discharge.numpy()
            o, (s0, s1) = trainer.data.observed[:50, part.gauges], np.exp(z[-8:].reshape(2, 4)[:, part.gauges])
            deviation = np.sqrt((0.05 * o) ** 2 + (s0 + s1 * s) ** 2)
            total -= np.nansum(stats.norm.logpdf(o, s, deviation))
    return total


@pytest.mark.slow
def test_the_covariance_is_the_inverse_of_the_curvature(fitted):
    z = np.concatenate([w.detach().numpy().ravel() for w in free_weights(fitted)])
    found = laplace(fitted)
    assert not isinstance(found, str), found
    assert found.names[:2] == ("production_capacity", "exchange_coefficient") and found.names[-1] == "s1 g3"
    curvature, h = np.linalg.inv(found.covariance), 1e-3
    scale = np.sqrt(np.diag(curvature))
    for i, j in ((0, 0), (0, 2), (2, 2), (1, z.size - 8), (z.size - 1, z.size - 1), (z.size - 8, z.size - 4)):
        corners = 0.0
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            x = z.copy()
            x[i] += a * h
            x[j] += b * h
            corners += a * b * minus_log_likelihood(fitted, x)
        assert abs(corners / (4 * h * h) - curvature[i, j]) < 2e-4 * scale[i] * scale[j], (i, j)
    np.testing.assert_allclose(np.diag(found.correlations), 1.0)
    x = 1 / (1 + np.exp(-z[0]))
    target = fitted.spec.cell.targets[0]
    slope = found.values[0] * np.log(target.high / target.low) * x * (1 - x)
    assert found.deviations[0] == pytest.approx(slope * np.sqrt(found.covariance[0, 0]), rel=1e-9)
    minus_log_likelihood(fitted, z)


@pytest.mark.slow
def test_it_is_written_and_told(fitted):
    path = fitted.config.output.with_name("trained_posterior.csv")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][:4] == ["parameter", "value", "standard_deviation", "correlation with production_capacity"]
    assert len(rows) == len(rows[0]) - 2 and any("posterior (trained_posterior.csv): production" in one
                                                 for one in fitted.findings)


@pytest.mark.slow
def test_a_prior_makes_it_narrower(fitted):
    flat = laplace(fitted)
    old = fitted.config
    try:
        for prior in ("uniform", 0.5):
            fitted.config = old.model_copy(update={"posterior_prior": prior})
            held = laplace(fitted)
            assert (np.diag(held.covariance)[:-8] < np.diag(flat.covariance)[:-8]).all(), prior
    finally:
        fitted.config = old


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "match"), [
    ({"loss": {"gaussian": 1}}, r"expected gaussian in loss, and no other term of the flow \(nse; nse is 1 unless"),
    ({"mapping": "linear", "cell_attributes": ["forest"]}, "mapping is linear, .*expected uniform, false and float64"),
    ({"precision": "float32"}, "precision is float32; expected"),
])
def test_what_has_no_posterior_is_refused(fitted, keys, match):
    with pytest.raises(ConfigError, match=match):
        Trainer(change_training(fitted.path, "refused.yaml", **keys), ALONE)


@pytest.mark.slow
def test_many_parameters_are_refused(fitted, monkeypatch):
    monkeypatch.setattr("cdlm_training.posterior.MOST", 12)
    with pytest.raises(ConfigError, match=r"there are 1[3-9] parameters, s0 and s1 of 4 gauges among them; expected"):
        Trainer(fitted.path, ALONE)


@pytest.mark.parametrize("frozen", [[], ["cell"], ["reach"], ["errors"], ["cell", "errors"]])
def test_a_prior_is_of_the_parameters_that_are_learned(fitted, frozen):
    """About where each of them starts, whichever stay as they are; flat for the errors."""
    trainer = Trainer(change_training(
        fitted.path, "frozen.yaml", frozen=frozen, posterior_prior=2.0, starts={"celerity": 2.0},
    ), ALONE)
    weights = free_weights(trainer)
    z = np.concatenate([w.detach().numpy().ravel() for w in weights]) + 0.5
    first, second = _prior(trainer, z)
    n = 4 * ("cell" not in frozen) + ("reach" not in frozen)
    np.testing.assert_allclose(first[:n], 0.5 / 4.0, rtol=1e-6)
    np.testing.assert_allclose(second[:n], 0.25)
    assert not first[n:].any() and not second[n:].any() and first.size == z.size
    assert first.size - n == 8 * ("errors" not in frozen)
    names, values, slopes = _parameters(trainer, z - 0.5)
    assert len(names) == values.size == slopes.size == z.size
    if "reach" not in frozen:
        assert values[names.index("celerity")] == pytest.approx(2.0, rel=1e-6)
    assert ("s1 g3" in names) == ("errors" not in frozen)
