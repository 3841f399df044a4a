"""Fine-tuning: where it starts, what pulls it back, what stays, and which checkpoints are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import ALONE, change_training, train, weights_of, write_training_case

from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.errors import CheckpointError, ConfigError
from cdlm_training.config import load_train_config
from cdlm_training.loop import Trainer

FEW = {"gauges": ["g1"], "start_from": "out/trained.safetensors", "output": "out/tuned.safetensors"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    config = write_training_case(tmp_path_factory.mktemp("regional"), epochs=1)
    train(config)
    return config


def test_it_starts_where_the_checkpoint_is(case):
    regional = load_checkpoint(case.parent / "out" / "trained.safetensors")
    tuned = change_training(case, **FEW, train=[*load_later(case)])
    trainer = Trainer(tuned, ALONE)
    assert trainer.spec == regional.spec, "with the scales of its attributes and forcing"
    plain = Trainer(change_training(case, gauges=["g1"], train=[*load_later(case)]), ALONE)
    assert plain.spec.pet.features != regional.spec.pet.features, "which another period would change"
    for name, values in trainer.generator.tensors().items():
        np.testing.assert_array_equal(values, regional.tensors[name])
    assert "start_from" in trainer.fingerprints


def load_later(case):
    """The later part of the training period."""
    first, last = load_train_config(case)[1].train
    return str(first + np.timedelta64(20, "D")), str(last)


def test_the_pull_is_the_squared_distance_of_free_parameters(case):
    trainer = Trainer(change_training(case, **FEW, loss={"nse": 1.0, "prior": 3.0}), ALONE)
    windows = [trainer.data.window(10, 30)]
    before = trainer.gradient(windows)
    assert pull(trainer) == 0.0
    with torch.no_grad():
        trainer.generator.cell.each[-1].bias[0] += 0.5
        trainer.generator.reach.each[-1].bias += 0.2
    assert pull(trainer) == pytest.approx(0.25 + 0.04, rel=1e-12)
    pulled = trainer.gradient(windows)
    slope = trainer.generator.cell.each[-1].bias.grad[0].item()
    trainer.prior = None
    free = trainer.gradient(windows)
    assert pulled - free == pytest.approx(3.0 * 0.29, rel=1e-9) and before != free
    assert slope - trainer.generator.cell.each[-1].bias.grad[0].item() == pytest.approx(3.0 * 2 * 0.5, rel=1e-9)


def pull(trainer):
    domain = trainer.data.domain
    return float(trainer.prior(np.arange(domain.n_cells), np.arange(domain.n_reaches)).detach())


def test_a_strong_pull_keeps_a_fit_where_it_was(case):
    far = {}
    for weight in (0.0, 1e4):
        keys = {**FEW, "output": f"out/pulled{weight:g}.safetensors"}
        trainer, _, _ = train(change_training(case, **keys, loss={"nse": 1.0, "prior": weight}, epochs=3, patience=3))
        trainer.generator.load(weights_of(trainer._last))
        now = trainer.mean_parameters()["production_capacity"]
        trainer.generator.load(load_checkpoint(trainer.config.start_from).tensors)
        far[weight] = abs(now / trainer.mean_parameters()["production_capacity"] - 1)
    assert far[1e4] < 0.2 * far[0.0]


def test_frozen_weights_stay(case):
    trainer, _, _ = train(change_training(case, **FEW, frozen=["pet", "cell.0"], epochs=1))
    now, before = weights_of(trainer._last), weights_of(trainer.config.start_from)
    stayed = {name for name in now if np.array_equal(now[name], before[name])}
    assert stayed == {name for name in now if name.startswith(("pet.", "cell.0."))}
    with pytest.raises(ConfigError, match=r"frozen: there are no weights 'cell\.7'"):
        Trainer(change_training(case, **FEW, frozen=["cell.7"]), ALONE)
    with pytest.raises(ConfigError, match="frozen: all weights are"):
        Trainer(change_training(case, **FEW, frozen=["cell", "reach", "pet"]), ALONE)
    pulled = {**FEW, "loss": {"prior": 1.0}, "frozen": ["cell", "reach"]}
    with pytest.raises(ConfigError, match=r"loss\.prior depends on nothing that is learned \(pet\)"):
        Trainer(change_training(case, **pulled), ALONE)
    runoff = {**FEW, "loss": {"nse": 0.0, "mean_runoff": 1.0}, "mean_runoff_attribute": "mean_runoff"}
    with pytest.raises(ConfigError, match=r"loss\.mean_runoff depends on nothing that is learned \(reach\)"):
        Trainer(change_training(case, **runoff, frozen=["cell", "pet"]), ALONE)


def test_another_generator_is_refused(case):
    with pytest.raises(ConfigError, match=r"cell\.hidden\.0 is 4 there, 5 here"):
        Trainer(change_training(case, **FEW, hidden=[5]), ALONE)
    with pytest.raises(ConfigError, match=r"cell\.attributes is forest, elevation there, forest here"):
        Trainer(change_training(case, **FEW, cell_attributes=["forest"]), ALONE)
    with pytest.raises(ConfigError, match=r"celerity\.low is 0\.1 there, 0\.5 here"):
        Trainer(change_training(case, **FEW, ranges={"celerity": [0.5, 5]}), ALONE)
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        Trainer(change_training(case, **{**FEW, "start_from": "out/none.safetensors"}), ALONE)
    with pytest.raises(ConfigError, match=r"loss\.prior needs start_from"):
        load_train_config(change_training(case, loss={"nse": 1.0, "prior": 1.0}))


def test_a_uniform_mapping_is_pulled_too(case):
    """Its parameters are its weights themselves, of which the prior needs a copy."""
    uniform = {"reach_attributes": [], "output": "out/uniform.safetensors", "epochs": 1, "updates": 1}
    train(change_training(case, "uniform.yaml", **uniform))
    keys = {**FEW, **uniform, "start_from": "out/uniform.safetensors", "output": "out/pulled.safetensors"}
    trainer = Trainer(change_training(case, **keys, loss={"nse": 1.0, "prior": 1.0}), ALONE)
    with torch.no_grad():
        trainer.generator.reach.each[-1].bias += 0.5
    assert pull(trainer) == pytest.approx(0.25, rel=1e-12)


def test_parameters_that_are_named_are_pulled_to_where_they_start(case):
    """Of three components the middle one starts at the default, those beside it apart from it."""
    keys = {"output": "out/held.safetensors", "starts": {"routing_capacity": 50.0}}
    weights = {"routing_capacity": 3.0, "celerity": 0.5}
    held = Trainer(change_training(case, **keys, loss={"nse": 1.0, "pull": weights}), ALONE)
    free = Trainer(change_training(case, **keys, loss={"nse": 1.0}), ALONE)
    places = np.arange(held.data.domain.n_cells), np.arange(held.data.domain.n_reaches)
    windows, start = [held.data.window(10, 30)], float(held.pull(*places).detach())
    at = [t.name for t in held.spec.cell.targets].index("routing_capacity")
    for trainer in (held, free):
        with torch.no_grad():
            trainer.generator.cell.each[-1].weight.zero_()
            trainer.generator.cell.each[-1].bias[at] += 0.5
            trainer.generator.reach.each[-1].weight.zero_()
            trainer.generator.reach.each[-1].bias += 0.2
    expected = 3.0 * 0.5**2 + 0.5 * 0.2**2
    assert float(held.pull(*places).detach()) == pytest.approx(expected, rel=1e-6) and start < 0.01 * expected
    assert held.gradient(windows) - free.gradient(windows) == pytest.approx(expected, rel=1e-6)
    slopes = [trainer.generator.cell.each[-1].bias.grad[at].item() for trainer in (held, free)]
    assert slopes[0] - slopes[1] == pytest.approx(3.0 * 2 * 0.5, rel=1e-6)


def test_a_pull_of_what_is_not_learned_is_refused(case):
    loss = {"nse": 1.0, "pull": {"routing_capacty": 1.0}}
    with pytest.raises(ConfigError, match=r"loss\.pull: 'routing_capacty' is no .*Did you mean 'routing_capacity'"):
        Trainer(change_training(case, loss=loss), ALONE)
    with pytest.raises(ConfigError, match="greater than 0"):
        load_train_config(change_training(case, loss={"nse": 1.0, "pull": {"celerity": 0.0}}))
    pulled = {"nse": 1.0, "pull": {"routing_capacity": 1.0, "celerity": 1.0}}
    for keys in ({"learn_routing": False, "reach_attributes": []}, {"frozen": ["reach"]}):
        with pytest.raises(ConfigError, match=r"loss\.pull: 'celerity' is no .*routing_capacity"):
            Trainer(change_training(case, **keys, loss=pulled), ALONE)
