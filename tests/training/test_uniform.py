"""Trainings of one parameter set, made of the keys of others: all of them are trainings, with a loss of one gauge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import change_config
from training_cases import ALONE, TRAINING, at, change_training, train, write_training_case

from bmi_cdlm.names.time_steps import DAY
from cdlm_training.config import TrainConfig
from cdlm_training.experiment.config import LUMPED, merged
from cdlm_training.loop import Trainer
from cdlm_training.simulate import make_parts
from cdlm_training.terms import OF_GAUGES, OF_SAMPLES
from cdlm_training.uniform import AS_ONE, loss_of_one_gauge, training_of_one_gauge

PERIOD = {"train": ["2001-01-01", "2002-01-01"]}
BASES = {
    "dropout": {"dropout": 0.5}, "pairs": {"pairs_per_update": 2, "updates": "cover"},
    "gauges drawn": {"gauges_per_update": 2}, "frozen": {"frozen": ["pet", "cell.0"]},
    "varying": {"varying": ["recharge_shape"]}, "start": {"start_from": "region.safetensors", "loss": {"prior": 1.0}},
    "labels": {"pretrain": {"labels": "labels.nc"}, "loss": {"prior": 0.5}},
    "field": {"mapping": "distributed", "cell_attributes": [], "reach_attributes": [], "output": "local.nc",
              "regularisation": {"smoothing": 1.0}},
    "resnet": {"mapping": "resnet", "output": "x.nc"}, "restarts": {"restarts": 3},
    "quartile": {"gauge_weights": "median"}, "samples": {"loss": {"nse": 0, "rmse_comb": 1}},
    "learned start": {"learn_start": True, "warm_up": 0}, "lbfgs": {"optimizer": "lbfgs", "updates": 2},
    "likelihood": {"mapping": "uniform", "cell_attributes": [], "reach_attributes": [], "pet_factor": False,
                   "precision": "float64", "loss": {"nse": 0, "gaussian": 1}, "posterior": "laplace"},
}


@pytest.mark.parametrize("base", BASES)
def test_whatever_is_trained_has_a_training_of_one_set(base):
    """For all gauges, as the baseline of an experiment, and for one gauge, whose keys are none of a network."""
    keys = {**TRAINING, **PERIOD, **BASES[base]}
    TrainConfig.model_validate({**keys, "output": Path(keys["output"])})
    lumped = merged({"training": keys}, LUMPED)["training"]
    found = TrainConfig.model_validate({**lumped, "output": Path("lumped.safetensors")})
    assert found.mapping == "uniform" and found.n_starts == 1 and not found.frozen and not found.loss.prior
    assert (found.optimizer, found.learning_rate) == ("adamw", 0.05)
    one = TrainConfig.model_validate({**training_of_one_gauge(keys), "output": Path("one.safetensors")})
    assert (one.optimizer, one.learning_rate, one.precision, one.updates) == ("lbfgs", 1.0, "float64", 1)
    assert not one.draws_parts and one.quartile is None and one.gauge_weights == "equal"
    assert not one.loss.of_samples and not one.loss.prior and not one.loss.mean_runoff and not one.loss.gaussian
    assert one.loss.of_gauges, "a fit has something to fit"


@pytest.mark.parametrize(("given", "kept"), [
    (None, {"nse": 1.0}), ({}, {"nse": 1.0}), ({"nse": 0, "kge": 2.0, "prior": 3.0}, {"nse": 0.0, "kge": 2.0}),
    ({"nse": 0, "nse_log": 0.5, "kge_root": 1.0}, {"nse": 0.0, "nse_log": 0.5, "kge_root": 1.0}),
    ({"nse": 0, "rmse_comb": 1.0}, {"nse": 0.0, "rmse_log": 1.0}),
    ({"nse": 0.5, "nse_batch": 1.0}, {"nse": 1.5}),
    ({"nse": 0, "gaussian": 1.0, "mean_runoff": 1.0}, {"nse": 1.0}),
    ({"signatures": {"Crc": 0.1}, "flood_quantile": 0.9}, {"nse": 1.0, "signatures": {"Crc": 0.1}}),
    ({"nse": 0, "events": {"Epf": 0.1}, "flood_quantile": 0.9},
     {"nse": 0.0, "events": {"Epf": 0.1}, "flood_quantile": 0.9}),
])
def test_the_loss_at_one_gauge(given, kept):
    assert loss_of_one_gauge(given) == kept


def test_every_term_has_a_place_at_one_gauge():
    """A new term of the loss is one of a gauge, or says what it is at one."""
    assert set(AS_ONE) == set(OF_SAMPLES) and set(AS_ONE.values()) <= set(OF_GAUGES)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(
        tmp_path_factory.mktemp("one"), mapping="uniform", cell_attributes=[], reach_attributes=[], pet_factor=False,
        hidden=None, window=50, missing=0.2,
    )


@pytest.mark.parametrize("term", sorted(AS_ONE))
def test_a_term_over_all_samples_of_one_gauge_is_that_of_the_gauge(case, term):
    """Value and gradient of an update with one gauge and one window, whichever of the two is asked for."""
    found = []
    for name in (term, AS_ONE[term]):
        trainer = Trainer(change_training(case, gauges=["g3"], loss={"nse": 0, name: 1.0, "pet_factor": 0}), ALONE)
        parts = make_parts(trainer.data, trainer.workers, np.array([0]))
        loss = trainer.gradient(trainer.all_windows(), parts)
        found.append((loss, torch.cat([w.grad.ravel() for w in trainer.weights()]).numpy()))
        trainer.workers.close()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-10)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-8)


def test_a_fit_to_one_gauge_ignores_the_records_of_others(case):
    """What a fit to g3 finds does not depend on what the other gauges measured, whatever the training asked of all."""
    import netCDF4

    keys = training_of_one_gauge({"loss": {"nse": 0, "nse_batch": 1.0}, "gauge_weights": "median"})
    path = change_training(case, "one.yaml", **keys, gauges=["g3"], epochs=1, output="out/one.safetensors")
    clean = train(path)[0].generator.cell.each[-1].bias.detach().numpy().copy()
    doctored = path.parent / "others.nc"
    doctored.write_bytes((path.parent / "observations.nc").read_bytes())
    with netCDF4.Dataset(doctored, "a") as data:
        data["discharge"][:, :3] = 7.0 + np.arange(data["discharge"].shape[0])[:, None]
    again = change_config(path, "others.yaml", observations=str(doctored))
    np.testing.assert_array_equal(train(again)[0].generator.cell.each[-1].bias.detach().numpy(), clean)
    with netCDF4.Dataset(doctored, "a") as data:
        data["discharge"][:, 3] = 3.0 * np.asarray(data["discharge"][:, 3])
    assert (train(again)[0].generator.cell.each[-1].bias.detach().numpy() != clean).any()
    assert at(DAY, 50) in path.read_text(), "the training period is that of the case"
