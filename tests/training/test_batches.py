"""Pairs of a gauge and a window, losses over all samples of an update, dropout: the settings of dHBV."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import ALONE, change_training, drawn_trainer, train, weights_of, write_training_case

from bmi_cdlm.doctor import examine
from bmi_cdlm.names.errors import ConfigError
from cdlm_training.batches import Pair, draw_pairs, make_batch, updates_to_cover
from cdlm_training.config import load_train_config
from cdlm_training.loop import Trainer

LOSS = {"nse": 0.0, "rmse_comb": 1.0, "nse_batch": 0.5, "pet_factor": 0.0}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"), pairs_per_update=5, loss=LOSS, missing=0.2)


def gradients(trainer) -> dict[str, np.ndarray]:
    return {n: w.grad.numpy().copy() for n, w in trainer.generator.named_parameters() if w.grad is not None}


def discharge_of(trainer, pair: Pair) -> np.ndarray:
    """The counted discharge at a pair's gauge, by a run of the whole in its window."""
    for part in trainer.parts:
        if pair.gauge in part.gauges:
            with torch.no_grad():
                return trainer.chain(part, pair.window).discharge[:, list(part.gauges).index(pair.gauge)].numpy()
    raise AssertionError(pair)


def test_pairs_run_together_are_each_in_its_own_window(case, tmp_path):
    whole = drawn_trainer(change_training(case, "whole.yaml", pairs_per_update=None))
    trainer = drawn_trainer(case)
    pairs = [Pair(g, trainer.data.window(first, 25)) for g, first in ((3, 4), (0, 20), (1, 8), (2, 22), (0, 2))]
    batch = make_batch(trainer.data, pairs, trainer.workers)
    assert 1 < len(batch) < len(pairs)  # the other basin beside the first; those nested and those drawn twice apart
    left = list(pairs)
    for window, part in batch:
        assert window.steps.shape == (45, part.cells.size) and window.target.shape == (25, part.gauges.size)
        with torch.no_grad():
            found = trainer.chain(part, window).discharge.numpy()
        for k, gauge in enumerate(part.gauges):
            pair = next(p for p in left if p.gauge == gauge and (p.window.target == window.target[:, k]).all())
            left = [p for p in left if p is not pair]
            np.testing.assert_allclose(found[:, k], discharge_of(whole, pair), rtol=1e-12)
            expected = trainer.data.observed[pair.window.target, gauge]
            np.testing.assert_array_equal(window.observed(trainer.data.observed, part.gauges)[:, k], expected)
    assert not left
    trainer.workers.close()
    whole.workers.close()


def test_pairs_from_a_learned_start_run_together_where_their_windows_are_as_long(case):
    learned = change_training(case, "learned.yaml", learn_start=True, warm_up=None, updates=1, epochs=1)
    trainer = drawn_trainer(learned)
    whole = drawn_trainer(change_training(learned, "whole_learned.yaml", pairs_per_update=None))
    pairs = [Pair(g, trainer.data.window(first, 25)) for g, first in ((3, 4), (2, 20), (3, 20))]
    batch = make_batch(trainer.data, pairs, trainer.workers)
    assert [window.steps.shape[0] for window, _ in batch] == [29, 45]
    for window, part in batch:
        with torch.no_grad():
            found = trainer.chain(part, window).discharge.numpy()
        for k, gauge in enumerate(part.gauges):
            pair = next(p for p in pairs if p.gauge == gauge and (p.window.target == window.target[:, k]).all())
            np.testing.assert_allclose(found[:, k], discharge_of(whole, pair), rtol=1e-12)
    trainer.workers.close()
    whole.workers.close()
    train(learned)  # draws windows of several lengths


@pytest.mark.slow
def test_the_loss_is_that_over_all_samples_and_its_gradient_a_difference(case):
    trainer = drawn_trainer(case)
    data, pairs = trainer.data, draw_pairs(trainer.data, np.random.default_rng(2), 5)
    batch = make_batch(data, pairs, trainer.workers)
    loss = trainer.gradient_of(batch, 1)
    errors, logs, scaled = [], [], []
    for window, part in batch:
        with torch.no_grad():
            s = trainer.chain(part, window).discharge.numpy()
        o = window.observed(data.observed, part.gauges)
        valid = ~np.isnan(o)
        a, b = (x * data.to_depth[part.gauges] for x in (s, o))
        errors.append((a - b)[valid])
        logs.append((np.log10(np.sqrt(a + 1e-6) + 0.1) - np.log10(np.sqrt(b + 1e-6) + 0.1))[valid])
        scaled.append(((s - o) / data.spread[part.gauges])[valid])
    root = [np.sqrt((np.concatenate(x) ** 2).mean()) for x in (errors, logs)]
    expected = 0.75 * root[0] + 0.25 * root[1] + 0.5 * (np.concatenate(scaled) ** 2).mean()
    assert loss == pytest.approx(expected, rel=1e-10)
    found = gradients(trainer)
    rng = np.random.default_rng(1)
    direction = {n: rng.normal(size=g.shape) for n, g in found.items()}
    kept, values = trainer.generator.tensors(), []
    for sign in (1, -1):
        trainer.generator.load({n: v + sign * 1e-6 * direction.get(n, 0.0) for n, v in kept.items()})
        values.append(trainer.gradient_of(batch, 1))
    slope = sum(float((found[n] * direction[n]).sum()) for n in found)
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
    trainer.workers.close()


@pytest.mark.slow
def test_windows_over_the_whole_domain_have_these_losses_too(case):
    """Two windows at all gauges: the same loss as of the pairs of every gauge and window."""
    trainer = drawn_trainer(change_training(case, "windows.yaml", pairs_per_update=None, windows_per_update=2))
    windows = [trainer.data.window(first, 25) for first in (3, 20)]
    loss = trainer.gradient(windows)
    pairs = [Pair(g, w) for w in windows for g in range(4)]
    other = drawn_trainer(case)
    assert other.gradient_of(make_batch(other.data, pairs, other.workers), 1) == pytest.approx(loss, rel=1e-10)
    for name, value in gradients(trainer).items():
        np.testing.assert_allclose(gradients(other)[name], value, rtol=1e-8, atol=1e-12)
    trainer.workers.close()
    other.workers.close()


def test_an_epoch_that_covers_has_the_batches_of_the_original():
    # ln 0.01 / ln(1 - 100 * 365 / (531 * (5478 - 365))), by hand
    assert updates_to_cover(100, 365, 531, 5478 - 365) == 341
    assert updates_to_cover(5, 365, 2, 400) == 1


@pytest.mark.slow
def test_a_training_with_all_of_it_repeats_itself_and_resumes(case, tmp_path):
    keys = {"dropout": 0.5, "hidden": [6], "optimizer": "adadelta", "learning_rate": None, "updates": "cover",
            "patience": 9, "pairs_per_update": 2}
    config = change_training(case, "all.yaml", output=str(tmp_path / "a.safetensors"), **keys)
    trainer, _, epochs = train(config)
    assert trainer.config.learning_rate == 1.0 and len(epochs) == 2
    assert trainer.updates == updates_to_cover(2, 25, 4, 30) == 9  # ln 0.01 / ln(1 - 50 / 120)
    short = change_training(case, "short.yaml", output=str(tmp_path / "b.safetensors"), **keys)
    halted = Trainer(short, ALONE)

    def stop(epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        halted.train(resume=False, report=stop, progress=lambda loss: None)
    resumed, _, rest = train(short, resume=True)
    assert [e.number for e in rest] == [2]
    for name, value in trainer.generator.tensors().items():
        np.testing.assert_array_equal(resumed.generator.tensors()[name], value, err_msg=name)
    assert set(weights_of(trainer.config.output)) == set(trainer.generator.tensors())


def test_dropout_leaves_out_its_share_and_keeps_the_mean(case):
    trainer = drawn_trainer(change_training(case, "dropped.yaml", dropout=0.4, hidden=[2000]))
    network, attributes = trainer.generator.cell, trainer.chain.attributes.cell[:3]
    seen = []
    original = network.each[-1].forward

    def watch(x):
        seen.append(x.detach().numpy().copy())
        return original(x)

    network.each[-1].forward = watch
    random = np.random.default_rng(1)
    for drawn in (None, random, random):
        trainer.generator.draw_dropout(drawn)
        network(attributes)
        network(attributes)
    plain, _, first, again, other, _ = seen
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first == 0).mean() == pytest.approx(0.4, abs=0.03)
    np.testing.assert_allclose(first[first != 0], (plain / 0.6)[first != 0], rtol=1e-12)
    trainer.workers.close()


@pytest.mark.parametrize(("keys", "match"), [
    ({"pairs_per_update": None, "updates": "cover"}, "updates is cover, which counts pairs; expected pairs_per_update"),
    ({"gauges_per_update": 2}, "pairs_per_update draws gauges and windows together"),
    ({"optimizer": "lbfgs"}, "pairs_per_update needs adamw"),
    ({"dropout": 0.5, "mapping": "linear"}, r"dropout is 0\.5 and mapping is linear; expected mlp"),
    ({"pairs_per_update": None, "optimizer": "lbfgs", "dropout": 0.1}, "dropout needs adamw or adadelta"),
    ({"loss": {"nse": 0.0}}, "expected one of nse, kge, rmse_log, .*, rmse_comb, mean_runoff, baseflow_index above"),
])
def test_contradictions_are_refused(case, keys, match):
    with pytest.raises(ConfigError, match=match):
        load_train_config(change_training(case, "bad.yaml", **keys))


def test_the_doctor_knows_of_epochs_that_cover(case):
    config = change_training(case, "doctor.yaml", updates="cover")
    told = [f.text for f in examine(config) if f.subject == "training" and f.level == "ok"]
    assert len(told) == 1 and "2 epochs of 45 steps" in told[0]
