"""The training loop: it learns, repeats itself, stops early, and leaves its files."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from cases import START, change_config, write_series
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_cases import ALONE, assert_same_weights, at, change_training, here, train, weights_of, write_training_case

from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from cdlm_training.loop import Trainer
from cdlm_training.scores import simulate_gauges

GAUGES = ["g0", "g1", "g2", "g3"]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"))


@pytest.mark.slow
def test_a_small_basin_overfits(tmp_path):
    config = write_training_case(
        tmp_path, n_steps=84, snow="cemaneige", spin_up=1, mapping="linear", learning_rate=0.1, window=60, warm_up=84,
        updates=25, epochs=5, weight_decay=0.0, clip=10.0,
    )
    losses: list[float] = []
    _, scores, epochs = train(config, progress=losses.append)
    assert len(losses) == 125
    assert np.mean(losses[-10:]) < 0.1 * losses[0]
    assert scores.nse > 0.9 and min(n for n, _ in scores.gauges.values()) > 0.8
    assert [e.number for e in epochs] == [1, 2, 3, 4, 5]
    assert scores.nse == pytest.approx(max(e.scores.nse for e in epochs), abs=1e-12)


@pytest.mark.slow
def test_lbfgs_improves_a_uniform_mapping(case, tmp_path):
    config = here(
        case, tmp_path, mapping="uniform", cell_attributes=None, reach_attributes=None, pet_factor=False,
        optimizer="lbfgs", learning_rate=None, updates=2, epochs=3, restarts=1,
    )
    losses: list[float] = []
    trainer, _, epochs = train(config, progress=losses.append)
    assert len(trainer.all_windows()) == 2
    assert losses[-1] < 0.75 * losses[0] and (np.diff(losses) <= 1e-9).all()
    assert epochs[-1].scores.nse > epochs[0].scores.nse - 0.05
    resumed = here(case, tmp_path, mapping="uniform", cell_attributes=None, reach_attributes=None, pet_factor=False,
                   optimizer="lbfgs", learning_rate=None, updates=2, epochs=3, restarts=1)
    trainer, _, epochs = train(resumed, resume=True)
    assert epochs == [] and trainer.epoch == 3  # it had come to its end


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_same_seed_gives_the_same_bits_and_another_others(case, tmp_path, precision):
    paths = []
    for k, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(k)
        folder.mkdir()
        config = here(case, folder, seed=seed, precision=precision)
        paths.append(train(config)[0]._last)
    assert_same_weights(*paths[:2])
    one, other = weights_of(paths[0]), weights_of(paths[2])
    assert not np.array_equal(one["cell.0.weight"], other["cell.0.weight"])
    assert {v.dtype for v in one.values()} == {np.dtype(precision)}


def test_threads_give_the_same_bits(case, tmp_path):
    paths = []
    for threads in (1, 2):
        folder = tmp_path / f"threads{threads}"
        folder.mkdir()
        paths.append(train(here(case, folder, threads=threads, epochs=1))[0]._last)
    assert_same_weights(*paths)


@pytest.mark.parametrize(("key", "weights"), [
    ("pet_roughness", {"nse": 1.0, "pet_factor": 0.0, "pet_roughness": 3e4}),
    ("mean_runoff", {"nse": 1.0, "mean_runoff": 5.0}), ("pet_factor", {"nse": 1.0, "pet_factor": 100.0}),
    ("kge", {"nse": 0.0, "kge": 1.0}), ("rmse_log", {"nse": 0.0, "rmse_log": 1.0}),
])
def test_every_term_has_its_effect(case, tmp_path, key, weights):
    plain = Trainer(change_training(case, loss={"nse": 1.0, "pet_factor": 0.0}), ALONE)
    other = Trainer(change_training(case, loss=weights, mean_runoff_attribute="mean_runoff"), ALONE)
    losses, gradients = [], []
    for trainer in (plain, other):
        with torch.no_grad():
            trainer.generator.pet.each[-1].bias += 0.3
            trainer.generator.pet.each[-1].weight += 0.2  # else the factor is the same every day
        losses.append(trainer.gradient([trainer.data.window(10, 30)]))
        gradients.append(torch.cat([w.grad.flatten() for w in trainer.generator.parameters()]))
    assert abs(losses[0] - losses[1]) > 1e-3
    cosine = float(torch.nn.functional.cosine_similarity(*gradients, dim=0))
    assert cosine < 0.9999


@pytest.mark.slow
def test_the_pet_term_holds_the_factor_at_one(case, tmp_path):
    means = []
    for k, weight in enumerate((0.0, 1000.0)):
        folder = tmp_path / str(k)
        folder.mkdir()
        trainer, *_ = train(here(case, folder, loss={"nse": 1.0, "pet_factor": weight}, updates=15, clip=1e4))
        with torch.no_grad():
            factor = trainer.chain(trainer.parts[0], trainer.data.window(0, 50)).pet_factor
        means.append(float((factor.mean(dim=0) - 1).abs().mean()))
    assert means[1] < 0.3 * means[0]


# ---- validation and early stopping -----------------------------------------------------------------------


def test_scores_are_those_of_the_runtime_in_the_validation_period(case, tmp_path):
    config = here(case, tmp_path, validate_on=[at(DAY, 50), at(DAY, 70)], gauges=["g1", "g2"], epochs=1)
    trainer, scores, _ = train(config)
    ids, simulated = simulate_gauges(load_config(config), trainer.config.output)
    _, observed = read_observations(trainer.run.observations, ids, trainer.run.start, trainer.run.end, DAY)
    for k, gauge in enumerate(ids):
        expected = nse(simulated[50:, k], observed[50:, k]), kge(simulated[50:, k], observed[50:, k])
        assert scores.gauges[gauge] == expected
    assert scores.nse == pytest.approx(np.mean([scores.gauges[g][0] for g in ("g1", "g2")]))
    assert scores.kge == pytest.approx(np.mean([scores.gauges[g][1] for g in ("g1", "g2")]))
    record = load_checkpoint(trainer.config.output).record
    assert record["scores"]["g3"] == dict(zip(("nse", "kge"), scores.gauges["g3"], strict=True))


def test_a_gauge_that_cannot_be_scored_is_left_open(case, tmp_path):
    """A gauge of the domain that is not trained on, without observations."""
    run = load_config(case)
    _, observed = read_observations(run.observations, GAUGES, run.start, run.end, DAY)
    observed[:, 3] = np.nan
    path = write_series(
        tmp_path / "o.nc", "gauge", np.array(GAUGES, object), {"discharge": (observed, "m3 s-1")}, START, DAY
    )
    config = here(case, tmp_path, gauges=["g0", "g1"], epochs=1)
    config = change_config(config, config.name, observations=str(path))
    trainer, scores, _ = train(config)
    assert np.isnan(scores.gauges["g3"]).all() and np.isfinite([scores.nse, scores.kge]).all()
    record = load_checkpoint(trainer.config.output).record
    assert record["scores"]["g3"] == {"nse": None, "kge": None}
    assert record["gauges"] == ["g0", "g1"]


@pytest.mark.slow
@pytest.mark.parametrize("select_by", ["nse", "kge", "median_nse"])
def test_it_stops_after_epochs_without_a_better_score(case, tmp_path, select_by, monkeypatch):
    told = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9, 0.9])
    real = Trainer._validate

    def told_scores(self):
        scores = real(self)
        each = [score for score, _ in scores.gauges.values()]
        assert (scores.nse, scores.median_nse) == (pytest.approx(np.mean(each)), pytest.approx(np.median(each)))
        return scores._replace(**{"nse": -1.0, "kge": -1.0, "median_nse": -1.0, select_by: next(told)})

    monkeypatch.setattr(Trainer, "_validate", told_scores)
    config = here(case, tmp_path, epochs=7, patience=3, updates=1, select_by=select_by)
    trainer, _, epochs = train(config)
    assert [e.number for e in epochs] == [1, 2, 3, 4, 5]
    assert (trainer.best, trainer.fits[-1].best_epoch) == (0.5, 2)
    assert load_checkpoint(trainer.config.output).record["epoch"] == 2
    assert load_checkpoint(trainer._last).record["epoch"] == 5
    trainer, _, epochs = train(config, resume=True)
    assert epochs == [] and trainer.epoch == 5


# ---- what it leaves --------------------------------------------------------------------------------------


def test_files_written(case, tmp_path):
    config = here(case, tmp_path, epochs=3)
    trainer, _, epochs = train(config)
    folder = trainer.config.log_folder
    events = [p.name for p in folder.iterdir() if p.name.startswith("events.out.tfevents")]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["log.csv", "config.yaml", "environment.txt", "findings.txt", "state.pt", "last.safetensors", *events]
    )
    assert len(events) == 1
    assert sorted(p.name for p in folder.parent.iterdir()) == ["trained.safetensors", "trained_training"]
    assert (folder / "config.yaml").read_text() == config.read_text()
    environment = (folder / "environment.txt").read_text()
    assert f"torch=={torch.__version__.split('+')[0]}" in environment and "python 3" in environment
    header, *rows = list(csv.reader((folder / "log.csv").read_text().splitlines()))
    assert header == ["epoch", "loss", "nse", "kge", "seconds"]
    for row, epoch in zip(rows, epochs, strict=True):
        expected = [epoch.number, epoch.loss, epoch.scores.nse, epoch.scores.kge, epoch.seconds]
        assert [float(x) for x in row] == pytest.approx(expected, rel=1e-5)
    board = EventAccumulator(str(folder)).Reload()
    found = [(e.step, e.value) for e in board.Scalars("validation/nse")]
    assert found == [(e.number, pytest.approx(e.scores.nse, rel=1e-6)) for e in epochs]
    assert set(board.Tags()["scalars"]) == {"loss", "validation/nse", "validation/kge", "seconds"}

    checkpoint = load_checkpoint(trainer.config.output)
    assert checkpoint.spec == trainer.spec
    assert checkpoint.record["fingerprints"]["domain"] == content_digest(config.parent / "domain.nc")
    assert checkpoint.record["periods"]["train"] == checkpoint.record["periods"]["validation"] == [
        at(DAY, 0), at(DAY, 50)
    ]
    assert checkpoint.record["training"]["hidden"] == [4]
    assert load_checkpoint(trainer._last).record["epoch"] == 3
    assert checkpoint.record["licence"] == "not stated"
    licensed = train(here(case, tmp_path, epochs=1, licence="CC-BY-4.0"))[0]
    assert load_checkpoint(licensed.config.output).record["licence"] == "CC-BY-4.0"


def test_clipping_and_the_schedule(case, tmp_path, monkeypatch):
    trainer = Trainer(here(case, tmp_path, clip=1e-3, final_learning_rate=0.2), ALONE)
    norms, rates = [], []
    real = trainer.optimizer.step

    def step():
        norms.append(float(torch.cat([w.grad.flatten() for w in trainer.generator.parameters()]).norm()))
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        real()

    monkeypatch.setattr(trainer.optimizer, "step", step)
    with pytest.warns(UserWarning, match="lr_scheduler"):
        trainer.train(resume=False, report=lambda epoch: None, progress=lambda loss: None)
    assert norms == pytest.approx([1e-3] * 6, rel=1e-3)
    k = np.arange(6)
    np.testing.assert_allclose(rates, 0.02 * (0.2 + 0.8 * (1 + np.cos(np.pi * k / 6)) / 2), rtol=1e-12)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.004)
