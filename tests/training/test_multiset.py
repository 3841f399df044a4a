"""One parameter set out of many drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from training_cases import ALONE, Trainer, change_training, write_training_case

from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.generator.generator import static_parameters
from cdlm_training.cli import main
from cdlm_training.multiset import POWERS, cost_at, draw, estimate, set_places, told, weigh

UNIFORM = {"mapping": "uniform", "cell_attributes": None, "reach_attributes": None, "hidden": None,
           "pet_factor": False, "loss": {"nse": 1, "pet_factor": 0}, "window": 50}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("sets"), **UNIFORM)


def test_every_stratum_is_drawn_once():
    drawn = draw(40, 3, 5)
    assert np.array_equal(np.sort((drawn * 40).astype(int), axis=0), np.tile(np.arange(40)[:, None], 3))
    assert not np.array_equal(drawn[:, 0].argsort(), drawn[:, 1].argsort())


def test_weights_follow_their_equation():
    costs = np.array([0.2, 0.3, 0.6])
    expected = np.exp(-4 * np.array([0.0, 0.5, 2.0]) ** 2)
    np.testing.assert_allclose(weigh(costs, 2), expected / expected.sum(), rtol=1e-14)
    assert weigh(costs, 30).tolist() == [1, 0, 0]


@pytest.mark.slow
def test_the_estimate_is_the_weighted_mean_at_the_corner(case):
    trainer = Trainer(case, ALONE)
    found = estimate(trainer, 30, 2)
    drawn = draw(30, found.places.size, 2)
    costs = np.array([cost_at(trainer, one) for one in drawn])
    means = np.stack([weigh(costs, p) @ drawn for p in POWERS])
    np.testing.assert_allclose(found.places, means[POWERS.index(found.power)], rtol=1e-12)
    x = (found.costs.max() - found.costs) / np.ptp(found.costs)
    y = (found.distances - found.distances.min()) / np.ptp(found.distances)
    assert POWERS.index(found.power) == (x - y).argmax()
    expected = cost_at(trainer, found.places)
    assert found.costs[POWERS.index(found.power)] == pytest.approx(expected, rel=1e-12) and expected < np.median(costs)
    assert trainer.gradient(trainer.all_windows()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "drawn"), [
    ({"learn_routing": False}, 4), ({"frozen": ["cell"]}, 1), ({}, 5),
])
def test_only_what_is_learned_is_drawn(case, keys, drawn):
    """Without learn_routing the celerity keeps its default, whatever is drawn of the others."""
    trainer = Trainer(change_training(case, **keys), ALONE)
    before = {name: w.detach().clone() for name, w in trainer.generator.named_parameters()}
    found = estimate(trainer, 10, 3)
    set_places(trainer, found.places)
    assert found.places.size == drawn and len(told(trainer, found)) == 1 + drawn
    for name, w in trainer.generator.named_parameters():
        assert bool((w == before[name]).all()) is not w.requires_grad, name
    place = 1.0 / (1.0 + np.exp(-np.concatenate([w.detach().numpy().ravel() for w in trainer.weights()])))
    np.testing.assert_allclose(place, found.places, rtol=1e-10)


@pytest.mark.slow
def test_the_command_writes_a_checkpoint(case):
    said = CliRunner().invoke(main, ["multiset", str(case), "--sets", "12"])
    assert said.exit_code == 0, said.output
    trainer = Trainer(case, ALONE)
    best = load_checkpoint(trainer.config.output)
    made = static_parameters(best.spec, best.tensors, trainer.chain.attributes)["production_capacity"]
    assert np.ptp(made) == 0 and f"production_capacity {made[0]:.4g} [" in said.output
    other = CliRunner().invoke(main, ["multiset", str(change_training(case, pet_factor=True))])
    assert other.exit_code == 1 and "multiset draws the parameters of one set" in other.output
