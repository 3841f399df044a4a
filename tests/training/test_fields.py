"""Fields of parameters: what they are, where they begin, what holds them, and the file that they become."""

from __future__ import annotations

import importlib.util
import json

import netCDF4
import numpy as np
import pytest
import torch
from cases import change_config
from training_cases import ALONE, change_training, drawn_trainer, train, write_training_case

from bmi_cdlm.domain.domain import Cells
from bmi_cdlm.generator.specification import Target
from bmi_cdlm.names.errors import CheckpointError, ConfigError
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.parameter_file import read_parameters
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.evaluate import load_best, write_checkpoint
from cdlm_training.fields import FARTHEST, LEVEL, Field, parameters_of, unbounded
from cdlm_training.fits import Call, Fit
from cdlm_training.loop import Trainer
from cdlm_training.objective import TrainingError
from cdlm_training.regularisation import Regulariser, shared_edges
from cdlm_training.scores import simulate_gauges
from cdlm_training.search import POWERS, corner_of, next_weight
from cdlm_training.terms import Regularisation

DISTRIBUTED = {
    "mapping": "distributed", "output": "out/field.nc", "cell_attributes": None, "reach_attributes": None,
    "hidden": None, "precision": None, "learning_rate": None, "learn_start": True, "warm_up": None, "window": 50,
    "updates": 1, "epochs": 2,
}
HELD = {"prior": 0.3, "smoothing": 2.0, "hard_smoothing": 0.7, "weight": 0.5}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A field's training beside a regional checkpoint of another mapping, without a PET factor."""
    folder = tmp_path_factory.mktemp("field")
    config = write_training_case(folder, spin_up=1, pet_factor=False, learn_start=True, warm_up=None, epochs=1)
    on_a_grid(folder / "domain.nc")
    train(config)
    return config


def on_a_grid(domain):
    """Give the eight cells corners of a grid of four by two."""
    with netCDF4.Dataset(domain, "a") as file:
        file.createDimension("corner", 4)
        at = {"lon": np.arange(8) % 4, "lat": np.arange(8) // 4}
        for name, offset in (("lon", [0, 1, 1, 0]), ("lat", [0, 0, 1, 1])):
            corner = file.createVariable(f"cell_corner_{name}", "f8", ("cell", "corner"))
            corner.units = "degrees_east" if name == "lon" else "degrees_north"
            corner[:] = 0.5 * (at[name][:, None] + np.array(offset))


def field(case, name="field.yaml", **keys):
    return change_training(case, name, **{**DISTRIBUTED, **keys})


def scattered(trainer, seed=3, spread=0.5):
    """The trainer with every z moved by itself."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for network in (trainer.generator.cell, trainer.generator.reach):
            z = network.each[-1].bias
            z += torch.from_numpy(rng.normal(scale=spread, size=tuple(z.shape)))
    return trainer


def test_what_is_taken_where_nothing_is_given(case):
    keys = load_train_config(field(case))[1]
    assert (keys.optimizer, keys.precision, keys.pet_factor, keys.learning_rate) == ("lbfgs", "float64", False, 1.0)
    assert keys.n_starts == 1 and keys.log_folder.name == "field_training"


@pytest.mark.parametrize("components", [1, 2])
def test_a_run_with_the_file_is_the_training(tmp_path, components):
    config = write_training_case(tmp_path, components=components, spin_up=1, **DISTRIBUTED)
    trainer, scores, _ = train(config)
    _, simulated = simulate_gauges(load_config(config), trainer.config.output)
    window = trainer.data.window(0, 50)
    with torch.no_grad():
        for part in trainer.parts:
            own = trainer.chain(part, window).discharge.numpy()
            np.testing.assert_allclose(own, simulated[:50][:, trainer.data.gauges[part.gauges]], rtol=1e-9)
    made = read_parameters(trainer.config.output, trainer.data.domain)
    for name, values in parameters_of(trainer.generator, trainer.chain.attributes).items():
        np.testing.assert_allclose(values, made[name], rtol=1e-12, err_msg=name)
    assert made["production_capacity"].shape == ((8,) if components == 1 else (2, 8))
    assert np.unique(made["production_capacity"]).size > 1, "every cell has its own"
    assert not any("other stores" in one for one in trainer.findings) and scores.nse == trainer.best
    if importlib.util.find_spec("matplotlib") is not None:
        assert (trainer.config.log_folder / "parameters.png").read_bytes().startswith(b"\x89PNG")
    with netCDF4.Dataset(trainer.config.output) as file:
        told = {name: file.getncattr(name) for name in file.ncattrs()}
    assert told["time_step"] == "1 d" and told["mapping"] == "distributed"
    assert told["starts_at"] == str(trainer.run.start)
    assert json.loads(told["fingerprints"]) == trainer.fingerprints
    assert json.loads(told["training"])["optimizer"] == "lbfgs"


def test_the_gradient_where_a_step_ends_is_not_calculated_again(case, monkeypatch):
    """And what comes of it has the same bits; one fit's is not another's."""
    found, count = [], []
    for again in (False, True):
        if again:
            monkeypatch.setattr(Call, "is_of", lambda *_: False)
        trainer = scattered(Trainer(field(case, f"again_{again}.yaml", output=f"out/{again}.nc"), Team(0, 1)))
        gradient, calls = trainer.gradient, []
        monkeypatch.setattr(trainer, "gradient", lambda w, made=gradient, calls=calls: calls.append(w) or made(w))
        losses = [trainer._update(lambda _: None) for _ in range(3)]
        found.append((losses, [w.detach().clone() for w in trainer.weights()]))
        count.append(len(calls))
    assert found[0][0] == found[1][0] and all(map(torch.equal, found[0][1], found[1][1]))
    assert found[0][0][2] < found[0][0][0] and count[1] - 2 <= count[0] < count[1]
    call = Call((1, 0.5), found[0][1], 0.0, [])
    assert not call.is_of((2, 0.5), found[0][1]) and not call.is_of((1, 0.25), found[0][1])


def test_a_start_in_the_file_is_that_of_its_time(case, caplog):
    trainer, _, _ = train(field(case, output="out/timed.nc", epochs=1))
    later = change_config(case, "later.yaml", start=str(trainer.run.start + np.timedelta64(10, "D")))
    simulate_gauges(load_config(later), trainer.config.output)
    assert "this run starts at" in caplog.text


def test_slopes_are_those_of_loss_and_regularisation(case):
    trainer = scattered(Trainer(field(case, regularisation=HELD), ALONE))
    windows = [trainer.data.window(0, 50)]
    trainer.gradient(windows)
    fields = {"cell": trainer.generator.cell.each[-1].bias, "reach": trainer.generator.reach.each[-1].bias}
    slopes = {part: z.grad.clone() for part, z in fields.items()}
    for part, z in fields.items():
        slope, losses = slopes[part], []
        along = torch.from_numpy(np.random.default_rng(5).normal(size=tuple(z.shape)))
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                z += step * along
            losses.append(trainer.gradient(windows))
        with torch.no_grad():
            z += 1e-5 * along
        assert float((slope * along).sum()) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6), part


def test_the_regulariser_has_the_slopes_of_its_values(case):
    trainer = Trainer(field(case, regularisation=HELD), ALONE)
    assert float(trainer.regulariser().detach()) == 0.0, "where all is uniform and where it began"
    scattered(trainer)
    cell = trainer.generator.cell.each[-1]
    z = cell.bias.detach().clone().requires_grad_()

    def penalty(values):
        del cell.bias
        cell.bias = values
        return trainer.regulariser()

    assert torch.autograd.gradcheck(penalty, [z])


def test_the_terms_by_hand(case):
    """Reaches first: what drains into a reach and what takes its water are its neighbours."""
    for name in ("prior", "smoothing", "hard_smoothing"):
        trainer = Trainer(field(case, regularisation={name: 2.0, "weight": 1}, learn_routing=name != "prior"), ALONE)
        domain, start = trainer.data.domain, {}
        networks = {"cell": trainer.generator.cell, "reach": trainer.generator.reach}
        for part, network in networks.items():
            start[part] = network.each[-1].bias.detach().numpy().copy()
        scattered(trainer)
        expected = 0.0
        for part, network in networks.items():
            if name == "prior" and part == "reach":
                continue  # it is not learned
            z, n = network.each[-1].bias.detach().numpy(), start[part].shape[0]
            if name == "prior":
                expected += 2.0 * ((z - start[part]) ** 2).mean(axis=0).sum()
                continue
            beside = np.zeros((n, n))
            pairs = shared_edges(domain.cells) if part == "cell" else [
                (i, j) for i, j in enumerate(domain.reaches.downstream) if j >= 0
            ]
            for i, j in pairs:
                beside[i, j] = beside[j, i] = 1.0
            m = 1 / (1 + np.exp(-z)) - (name == "smoothing") / (1 + np.exp(-start[part]))
            expected += 2.0 * ((beside @ m - beside.sum(axis=1)[:, None] * m) ** 2).mean(axis=0).sum()
        assert float(trainer.regulariser().detach()) == pytest.approx(expected, rel=1e-12), name
        assert expected > 0.01


def test_cells_that_share_an_edge():
    """Three by two of a grid in a rotated frame without its last, corners from either side off by rounding."""
    at = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    corners = np.array([[(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)] for i, j in at], float) * 0.25
    corners += np.random.default_rng(1).normal(scale=1e-12, size=corners.shape)
    lon, lat = (corners @ np.array([[0.96, -0.28], [0.28, 0.96]])).transpose(2, 0, 1)
    lon[1] = np.roll(lon[1], 2)
    lat[1] = np.roll(lat[1], 2)  # whichever corner comes first
    none = np.zeros(5)
    cells = Cells(list("abcde"), none, none, none, none, lon - 0.3, lat, none, none, none)
    assert shared_edges(cells).tolist() == [[0, 1], [0, 3], [1, 2], [1, 4], [3, 4]]


def test_it_starts_from_what_a_checkpoint_generates(case):
    regional = Trainer(case, ALONE)
    trainer = Trainer(field(case, start_from="out/trained.safetensors", regularisation={"prior": 1.0}), ALONE)
    generated = load_best(regional)
    for name, values in parameters_of(trainer.generator, trainer.chain.attributes).items():
        np.testing.assert_allclose(values, generated[name], rtol=1e-12, err_msg=name)
    assert "start_from" in trainer.fingerprints and float(trainer.regulariser().detach()) == 0.0


def test_the_inverse_of_bounds():
    log = Target("production_capacity", 10.0, 1000.0, 100.0, "log")
    found = unbounded(log, np.array([10.0, 100.0, 10 * 100 ** 0.75, 1000.0]), FARTHEST)
    np.testing.assert_allclose(found, [-6, 0, np.log(3), 6], atol=1e-12)
    assert np.abs(unbounded(log, np.array([10.0, 1000.0]), LEVEL)).tolist() == [LEVEL, LEVEL]
    weights = Target("component_weight", 0.0, 1.0, 0.5, "share", 2)
    np.testing.assert_allclose(np.diff(unbounded(weights, np.array([[0.8], [0.2]]), FARTHEST), axis=0), -np.log(4))


@pytest.mark.slow
def test_the_weight_is_found_and_a_broken_fit_goes_on(case, tmp_path):
    keys = {"regularisation": {"prior": 1.0, "weight": "fast"}, "start_from": "out/trained.safetensors"}
    trainer, scores, epochs = train(field(case, **keys, output=str(tmp_path / "whole.nc")))
    first, second = trainer.fits
    assert first.weight == 0 and len(epochs) == 4
    assert second.weight == pytest.approx((first.cost_before - first.cost) / first.penalty, rel=1e-12)
    assert second.cost_before == pytest.approx(first.cost_before, rel=1e-12), "both begin in one place"
    assert second.penalty < 0.5 * first.penalty and first.cost < second.cost < first.cost_before
    assert scores.nse == second.score and "the regularisation weighs" in trainer.findings[-1]
    broken = field(case, "broken.yaml", **keys, output=str(tmp_path / "broken.nc"))

    class StopError(Exception):
        pass

    for last in (2, 3):  # between the fits, and within the second

        def stop(epoch, last=last):
            if epoch.number == last:
                raise StopError

        with pytest.raises(StopError):
            Trainer(broken, ALONE).train(resume=False, report=stop, progress=lambda loss: None)
        resumed, _, _ = train(broken, resume=True)
        assert [fit._asdict() for fit in resumed.fits] == [fit._asdict() for fit in trainer.fits]
        domain = trainer.data.domain
        one, other = (read_parameters(t.config.output, domain) for t in (trainer, resumed))
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_the_corner_is_the_result(case, tmp_path):
    pytest.importorskip("matplotlib")
    keys = {"regularisation": {"prior": 1.0, "weight": "lcurve"}, "output": str(tmp_path / "curve.nc")}
    trainer, scores, _ = train(field(case, **keys, start_from="out/trained.safetensors"))
    weights = [fit.weight for fit in trainer.fits]
    assert weights[0] == 0 and weights[1:] == pytest.approx([weights[3] * 10**p for p in POWERS], rel=1e-12)
    chosen = trainer.fits[corner_of(trainer.fits)]
    assert scores.nse == chosen.score and f"weighs {chosen.weight:.4g}, of 6 fits" in trainer.findings[-1]
    assert (trainer.config.log_folder / "lcurve.png").read_bytes().startswith(b"\x89PNG")


def test_the_corner_of_the_curve():
    held = Regularisation(prior=1.0, weight="lcurve")
    fits = [Fit.new()._replace(cost_before=10.0, cost=2.0, penalty=4.0)]
    assert next_weight(held, []) == 0.0
    assert [next_weight(held, fits * (k + 1)) for k in range(5)] == pytest.approx([2.0 * 10**p for p in POWERS])
    fits += [Fit.new()._replace(cost=cost, penalty=penalty) for cost, penalty in ((3, 1), (4, 0.8), (6, 0))]
    assert corner_of(fits) == 1, "(1, 1), (.75, .25), (.5, .2), (0, 0): .5 below the diagonal"
    with pytest.raises(TrainingError, match="expected a gain and a cost"):
        next_weight(held, [Fit.new()._replace(cost_before=1.0, cost=1.0, penalty=1.0)])


def refused(config, match, error=ConfigError):
    before = sorted(config.parent.rglob("*"))
    with pytest.raises(error, match=match):
        Trainer(config, ALONE)
    assert sorted(config.parent.rglob("*")) == before


@pytest.mark.parametrize(("keys", "match"), [
    ({"output": "out/field.safetensors"}, r"output is field\.safetensors; expected a name that ends in \.nc"),
    ({"cell_attributes": ["forest"]}, "cell_attributes is forest, and mapping is distributed"),
    ({"reach_attributes": ["length"]}, "reach_attributes is length, and mapping is distributed"),
    ({"pet_factor": True}, "pet_factor is on, and mapping is distributed"),
    ({"mapping": "uniform", "output": "out/u.safetensors", "regularisation": {"prior": 1}},
     "regularisation is of mapping: distributed, and mapping is uniform"),
    ({"mapping": "uniform"}, r"output is field\.nc; expected a name that ends in \.safetensors"),
    ({"regularisation": {"weight": 1}}, "regularisation has no term"),
    ({"regularisation": {"prio": 1}}, r"unknown key 'training\.regularisation\.prio'\. Did you mean 'prior'"),
    ({"regularisation": {"prior": 1}, "restarts": 2}, "needs several fits from one start"),
    ({"starts": {"celerity": 5.0}, "ranges": {"celerity": [0.1, 5.0]}}, "'celerity' is 5, a bound of its range"),
    ({"start_from": "out/trained.safetensors", "learn_start": False}, "generates 'production_store_start', which"),
    ({"start_from": "out/trained.safetensors", "starts": {"celerity": 2.0}}, "'celerity' starts where the checkpoint"),
    ({"start_from": "out/trained.safetensors", "ranges": {"production_capacity": [349.0, 351.0]},
      "starts": {}}, "generates 'production_capacity' from .* expected within 349 to 351"),
    ({"start_from": "out/trained.safetensors", "loss": {"nse": 1.0, "prior": 1.0}}, r"expected regularisation\.prior"),
])
def test_what_contradicts_a_field_is_refused(case, keys, match):
    refused(field(case, "refused.yaml", **keys), match)


def test_checkpoints_that_are_no_field_are_refused(case, tmp_path):
    write_checkpoint(tmp_path / "pet.safetensors", drawn_trainer(change_training(case, pet_factor=True)), None)
    refused(field(case, start_from=str(tmp_path / "pet.safetensors")), "generates a factor on PET")
    config = change_config(field(case, start_from="out/trained.safetensors"), "steps.yaml", routing_step="6 h")
    refused(config, "was trained with routing_step: 240 min", CheckpointError)


def test_smoothing_needs_neighbours(case):
    domain = Trainer(field(case), ALONE).data.domain
    moved = domain.cells.corner_lon + np.arange(8)[:, None] ** 2
    apart = domain._replace(cells=domain.cells._replace(corner_lon=moved))
    generator = Trainer(field(case), ALONE).generator
    assert isinstance(generator.cell, Field)
    with pytest.raises(ConfigError, match="no two cells of the domain share an edge"):
        Regulariser(generator, apart, Regularisation(smoothing=1.0))
