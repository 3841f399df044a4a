"""Terms of the loss against their formulas in numpy, where something is missing, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bmi_cdlm.evaluate import metrics
from bmi_cdlm.evaluate.signatures import baseflow_index
from cdlm_training.loss import (
    LOG_OFFSET,
    LOG_SHARE,
    TRANSFORMS,
    BatchSums,
    baseflow_index_term,
    depth_squares,
    kge_term,
    mean_runoff_term,
    nse_batch_term,
    nse_term,
    pet_factor_term,
    pet_roughness_term,
    quantile_weights,
    rmse_comb_term,
    rmse_log_term,
    transformed,
)

N_STEPS, N_GAUGES = 40, 5
OFFSET = torch.tensor([0.03, 0.02, 0.4, 0.1, 0.05], dtype=torch.float64)
SPREAD, TO_DEPTH = np.array([1.0, 0.3, 2.0, 5.0, 0.7]), np.array([0.5, 2.0, 0.1, 1.0, 8.0])


@pytest.fixture
def series():
    """Simulated and observed; gauge 1 has gaps, gauge 2 one observation, gauge 3 none, gauge 4 constant ones."""
    rng = np.random.default_rng(1)
    s, o = rng.gamma(2.0, 1.5, (2, N_STEPS, N_GAUGES))
    o[rng.random(N_STEPS) < 0.4, 1] = np.nan
    o[1:, 2] = np.nan
    o[:, 3] = np.nan
    o[:, 4] = 2.0
    return s, o


TERMS = {
    "nse": lambda s, o: nse_term(s, o, torch.from_numpy(SPREAD)),
    "kge": kge_term,
    "rmse_log": lambda s, o: rmse_log_term(s, o, torch.from_numpy(TO_DEPTH)),
    "transformed": lambda s, o: sum(
        nse_term(transformed(s, name, OFFSET), transformed(o, name, OFFSET), torch.from_numpy(SPREAD))
        for name in TRANSFORMS
    ),
    "kge_inverse": lambda s, o: kge_term(transformed(s, "inverse", OFFSET), transformed(o, "inverse", OFFSET)),
}


def value(name, s, o) -> np.ndarray:
    return TERMS[name](torch.from_numpy(s), torch.from_numpy(o)).numpy()


def test_nse_is_the_squared_error_over_the_variance(series):
    s, o = series
    got = value("nse", s, o)
    for g in (0, 1, 2, 4):
        valid = ~np.isnan(o[:, g])
        expected = ((s - o)[valid, g] ** 2).mean() / SPREAD[g] ** 2
        assert got[g] == pytest.approx(expected, rel=1e-13)
    assert got[3] == 0


def test_nse_with_the_window_s_own_spread_is_that_of_the_metrics(series):
    s, o = series
    spread = torch.from_numpy(np.nanstd(o[:, :2], axis=0))
    got = nse_term(torch.from_numpy(s[:, :2]), torch.from_numpy(o[:, :2]), spread).numpy()
    np.testing.assert_allclose(1 - got, [metrics.nse(s[:, g], o[:, g]) for g in range(2)], rtol=1e-12)


def test_kge_is_that_of_the_metrics(series):
    s, o = series
    got = value("kge", s, o)
    np.testing.assert_allclose(1 - got[:2], [metrics.kge(s[:, g], o[:, g]) for g in range(2)], rtol=1e-12)
    np.testing.assert_array_equal(got[2:], 0)


def test_kge_of_a_constant_simulation_is_that_of_the_mean_flow(series):
    _, o = series
    s = np.full_like(o, np.nanmean(o[:, 0]))
    assert value("kge", s, o)[0] == pytest.approx(np.sqrt(2), rel=1e-6)
    assert 1 - value("kge", s, o)[0] == pytest.approx(metrics.kge(s[:, 0], o[:, 0]), rel=1e-6)


def test_rmse_log_follows_its_formula(series):
    s, o = series
    got = value("rmse_log", s, o)
    for g in (0, 1, 2, 4):
        valid = ~np.isnan(o[:, g])
        a, b = s[valid, g] * TO_DEPTH[g], o[valid, g] * TO_DEPTH[g]
        logs = [np.log10(np.sqrt(x + LOG_OFFSET) + 0.1) for x in (a, b)]
        expected = (1 - LOG_SHARE) * np.sqrt(((a - b) ** 2).mean())
        expected += LOG_SHARE * np.sqrt(((logs[0] - logs[1]) ** 2).mean())
        assert got[g] == pytest.approx(expected, rel=1e-12)
    assert got[3] == pytest.approx(0, abs=1e-11)


def test_transforms_are_of_the_flow_itself(series):
    s, _ = series
    s[0, 0] = 0.0
    q = s + OFFSET.numpy()
    expected = {"root": np.sqrt(q), "inverse": 1 / q, "log": np.log(q), "box_cox": (q**0.25 - 1) / 0.25}
    for name, values in expected.items():
        np.testing.assert_allclose(transformed(torch.from_numpy(s), name, OFFSET).numpy(), values, rtol=1e-13)
    assert set(expected) == set(TRANSFORMS)


def test_the_quantile_of_costs():
    costs = np.array([4.0, np.nan, 1.0, 3.0, 10.0])
    for share in (0.25, 0.5, 0.75, 0.1):
        weights = quantile_weights(costs, share)
        assert weights.sum() == pytest.approx(1.0) and weights[1] == 0
        assert np.nansum(weights * costs) == pytest.approx(np.nanquantile(costs, share), rel=1e-14)
    assert quantile_weights(np.array([np.nan, 7.0]), 0.75).tolist() == [0, 1]
    assert not quantile_weights(np.full(3, np.nan), 0.5).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("simulation", ["random", "constant", "zero", "perfect"])
@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_finite_whatever_is_missing(series, name, simulation, dtype):
    s, o = series
    s = {"random": s, "constant": np.full_like(s, 1.3), "zero": np.zeros_like(s), "perfect": np.nan_to_num(o)}[
        simulation
    ]
    simulated = torch.from_numpy(s).to(dtype).requires_grad_()
    term = TERMS[name](simulated, torch.from_numpy(o).to(dtype))
    assert term.dtype == torch.float64 and bool(torch.isfinite(term).all())
    term.sum().backward()
    assert bool(torch.isfinite(simulated.grad).all())
    assert not simulated.grad[:, 3].any()  # the gauge without observations
    assert not simulated.grad[torch.from_numpy(np.isnan(o))].any()


@pytest.mark.parametrize("name", TERMS)
def test_gradcheck(series, name):
    s, o = series
    observed = torch.from_numpy(o[:12])
    assert torch.autograd.gradcheck(lambda x: TERMS[name](x, observed), torch.from_numpy(s[:12]).requires_grad_())


def test_mean_runoff_is_area_weighted_over_the_known_cells():
    rng = np.random.default_rng(2)
    runoff, area = rng.gamma(2.0, 1.0, (30, 4)), np.array([1.0, 3.0, 2.0, 5.0])
    target = np.array([400.0, 900.0, np.nan, 0.0])
    error = runoff.mean(axis=0)[:2] * 365.25 / target[:2] - 1
    tensor = torch.from_numpy(runoff).requires_grad_()
    got = mean_runoff_term(tensor, torch.from_numpy(target), torch.from_numpy(area))
    assert float(got.detach()) == pytest.approx((area[:2] * error**2).sum() / 4.0, rel=1e-13)
    got.backward()
    assert bool(torch.isfinite(tensor.grad).all()) and not tensor.grad[:, 2:].any()
    nothing = mean_runoff_term(torch.from_numpy(runoff), torch.full((4,), torch.nan), torch.from_numpy(area))
    assert float(nothing) == 0


def test_baseflow_index_is_area_weighted_over_the_known_cells():
    rng = np.random.default_rng(2)
    runoff, area = rng.gamma(2.0, 1.0, (60, 3)), np.array([1.0, 3.0, 2.0])
    target = np.array([0.3, np.nan, 0.8])
    error = np.array([baseflow_index(series, 700.0) for series in runoff.T])[[0, 2]] - target[[0, 2]]
    tensor = torch.from_numpy(runoff).requires_grad_()
    got = baseflow_index_term(tensor, torch.from_numpy(target), torch.from_numpy(area), 7)
    assert float(got.detach()) == pytest.approx((area[[0, 2]] * error**2).sum() / 3.0, rel=1e-13)
    got.backward()
    assert bool(torch.isfinite(tensor.grad).all()) and not tensor.grad[:, 1].any()


def test_pet_factor_is_the_deviation_of_the_mean_of_each_cell():
    factor = torch.tensor([[0.5, 1.2], [1.5, 1.4]])
    assert float(pet_factor_term(factor)) == pytest.approx(0.3**2 / 2, rel=1e-6)


def test_the_roughness_of_the_pet_factor():
    factor = torch.tensor([[1.0, 0.5], [1.2, 0.5], [1.1, 0.9]], dtype=torch.float64, requires_grad=True)
    assert float(pet_roughness_term(factor).detach()) == pytest.approx((0.2**2 + 0.1**2 + 0.4**2) / 4, rel=1e-12)
    assert float(pet_roughness_term(torch.ones(1, 3))) == 0.0
    assert float(pet_roughness_term(torch.full((4, 2), 0.7))) == 0.0
    assert torch.autograd.gradcheck(pet_roughness_term, [factor])


# ---- over all samples of an update ---------------------------------------------------------------------------


def halves(s, o):
    """The series in two parts of unequal size, as two sub-networks of an update."""
    return [(torch.from_numpy(s[:, k]).requires_grad_(), torch.from_numpy(o[:, k]), k) for k in ([0, 1], [2, 3, 4])]


def test_nse_batch_is_the_mean_over_all_samples(series):
    s, o = series
    valid = ~np.isnan(o)
    expected = (((s - np.nan_to_num(o)) / SPREAD)[valid] ** 2).mean()
    parts = halves(s, o)
    found = [nse_batch_term(x, y, torch.from_numpy(SPREAD[k]), valid.sum()) for x, y, k in parts]
    assert float(sum(found).detach()) == pytest.approx(expected, rel=1e-13)


def test_rmse_comb_has_its_roots_over_all_samples_and_their_slope(series):
    s, o = series
    valid = ~np.isnan(o)
    x = torch.from_numpy(s).requires_grad_()
    a, b = (x * torch.from_numpy(TO_DEPTH))[torch.from_numpy(valid)], torch.from_numpy((o * TO_DEPTH)[valid])
    logs = [torch.log10(torch.sqrt(v + LOG_OFFSET) + 0.1) for v in (a, b)]
    expected = 0.75 * ((a - b) ** 2).mean().sqrt() + 0.25 * ((logs[0] - logs[1]) ** 2).mean().sqrt()
    expected.backward()
    parts, sums = halves(s, o), np.zeros(2)
    for one, other, k in parts:
        sums += [float(v.detach().sum()) for v in depth_squares(one, other, torch.from_numpy(TO_DEPTH[k]))]
    whole = BatchSums(valid.sum(), *sums)
    found = sum(rmse_comb_term(one, other, torch.from_numpy(TO_DEPTH[k]), whole) for one, other, k in parts)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-13)
    found.backward()
    for one, _, k in parts:
        np.testing.assert_allclose(one.grad.numpy(), x.grad.numpy()[:, k], rtol=1e-12, atol=1e-16)
    perfect = rmse_comb_term(torch.from_numpy(np.nan_to_num(o)), torch.from_numpy(o), torch.from_numpy(TO_DEPTH),
                             BatchSums(valid.sum()))
    assert float(perfect) == 0.0
