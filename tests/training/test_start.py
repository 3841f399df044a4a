"""The start belongs to the fit: it is learned, kept and checked; fits begin several times; bounds are told of."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import START, change_config, write_parameters, write_series
from training_cases import ALONE, change_training, train, weights_of, write_training_case

from bmi_cdlm.generator.checkpoint import load_checkpoint, save_checkpoint
from bmi_cdlm.generator.generator import make_spec
from bmi_cdlm.names.errors import CheckpointError, ConfigError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation
from cdlm_training.config import load_train_config
from cdlm_training.loop import Trainer
from cdlm_training.scores import simulate_gauges

UNIFORM = {
    "mapping": "uniform", "cell_attributes": None, "reach_attributes": None, "pet_factor": False, "warm_up": None,
}
SHARES = {"production_store_start": 0.8, "routing_store_start": 0.2}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("start"), spin_up=1)


@pytest.mark.parametrize("components", [1, 2])
def test_a_run_starts_as_the_training_did(tmp_path, components, caplog):
    config = write_training_case(
        tmp_path, components=components, spin_up=1, learn_start=True, warm_up=None, starts=SHARES, epochs=1, updates=1,
    )
    trainer, _, _ = train(config)
    window = trainer.data.window(12, 30)
    assert window.steps.tolist() == list(range(42)) and window.counted == 30
    run = load_config(config)
    _, simulated = simulate_gauges(run, trainer.config.output)
    assert "spin_up is not run" in caplog.text, "which the training itself has no part in"
    with torch.no_grad():
        for part in trainer.parts:
            own = trainer.chain(part, window).discharge.numpy()
            np.testing.assert_allclose(own, simulated[12:42][:, trainer.data.gauges[part.gauges]], rtol=1e-9)
    assert not any("other stores" in one for one in trainer.findings)


def test_the_slope_of_a_start_is_that_of_the_loss(case):
    trainer = Trainer(change_training(case, **{**UNIFORM, "learn_start": True, "starts": SHARES}), ALONE)
    names = [t.name for t in trainer.spec.cell.targets]
    windows = [trainer.data.window(0, 40)]
    trainer.gradient(windows)
    bias = trainer.generator.cell.each[-1].bias
    slopes = bias.grad.numpy().copy()
    for name in SHARES:
        k, losses = names.index(name), []
        for step in (1e-4, -1e-4):
            with torch.no_grad():
                bias[k] += step
            losses.append(trainer.gradient(windows))
            with torch.no_grad():
                bias[k] -= step
        assert slopes[k] == pytest.approx((losses[0] - losses[1]) / 2e-4, rel=1e-5)
        assert abs(slopes[k]) > 1e-4


def test_a_learned_start_is_that_of_its_time(tmp_path, caplog):
    config = write_training_case(tmp_path, learn_start=True, warm_up=None, starts=SHARES, epochs=1, updates=1)
    trainer, _, _ = train(config)
    checkpoint = trainer.config.output
    assert load_checkpoint(checkpoint).record["starts_at"] == str(START)
    later = load_config(change_config(config, "later.yaml", start=str(START + np.timedelta64(10, "D"))))
    with closing(Simulation(later.model_copy(update={"parameters": checkpoint}))) as simulation:
        assert not simulation.model.has_start
    assert "this run starts at" in caplog.text
    content = load_checkpoint(checkpoint)
    record = {k: v for k, v in content.record.items() if k != "starts_at"}
    with pytest.raises(CheckpointError, match="its record has no 'starts_at'"):
        save_checkpoint(tmp_path / "none.safetensors", content.spec, content.tensors, record)


def test_a_parameter_file_may_say_how_a_run_starts(case, tmp_path):
    write_parameters(tmp_path / "own.nc", {"production_store_start": np.full(8, 0.75)})
    run = load_config(case).model_copy(update={"parameters": tmp_path / "own.nc"})
    with closing(Simulation(run)) as simulation:
        held = simulation.model.live["production_store"]
        np.testing.assert_allclose(held, 0.75 * simulation.model.parameters["production_capacity"], rtol=1e-15)
        assert (simulation.model.live["discharge"] == 0).all()
        np.testing.assert_array_equal(  # the other store as at any start
            simulation.model.live["routing_store"], 0.5 * simulation.model.parameters["routing_capacity"]
        )


@pytest.mark.slow
def test_a_known_start_is_found_again(tmp_path):
    config = write_training_case(
        tmp_path, missing=0.0, learn_start=True, **UNIFORM, optimizer="lbfgs", learning_rate=None, restarts=1,
        updates=4, epochs=6, window=50, loss={"nse": 1.0, "pet_factor": 0.0},
    )
    write_parameters(tmp_path / "truth.nc", {n: np.full(8, v) for n, v in SHARES.items()})
    run = load_config(config).model_copy(update={"parameters": tmp_path / "truth.nc"})
    ids, discharge = simulate_gauges(run, tmp_path / "truth.nc")
    write_series(tmp_path / "observations.nc", "gauge", np.array(ids, object), {"discharge": (discharge, "m3 s-1")},
                 START, DAY)
    trainer, scores, _ = train(config)
    found = trainer.mean_parameters()
    assert scores.nse > 0.999
    for name, value in SHARES.items():
        assert found[name] == pytest.approx(value, abs=0.04), name


def test_a_start_that_does_not_fit_is_told(case):
    """The run has a spin-up of the whole record, the training none."""
    trainer, _, _ = train(change_training(case, warm_up=0, epochs=1, updates=1, output="out/unlike.safetensors"))
    assert any("the run starts from other stores than the training did" in one for one in trainer.findings)
    assert "other stores" in (trainer.config.log_folder / "findings.txt").read_text()


def test_what_contradicts_a_learned_start_is_refused(case):
    with pytest.raises(ConfigError, match="learn_start is on and warm_up is 20; expected 0"):
        load_train_config(change_training(case, learn_start=True, warm_up=20))
    domain = case.parent / "domain.nc"
    with pytest.raises(ConfigError, match="the stores of 'hbv_1_0' start empty"):
        make_spec(domain, cell_attributes=(), reach_attributes=(), runoff="hbv_1_0", learn_start=True)


def test_ranges_and_parameters_that_learn_against_them(case):
    ranges = {"celerity": [0.8, 1.0], "unit_hydrograph_base": [0.5, 20]}
    trainer, _, _ = train(change_training(
        case, **{**UNIFORM, "ranges": ranges, "starts": {"celerity": 0.999}}, epochs=1, updates=1,
        output="out/ranges.safetensors",
    ))
    found = {t.name: (t.low, t.high) for t in (*trainer.spec.cell.targets, *trainer.spec.reach.targets)}
    assert found["celerity"] == (0.8, 1.0) and found["unit_hydrograph_base"] == (0.5, 20)
    told = [one for one in trainer.findings if "bound" in one]
    assert len(told) == 1
    assert told[0].startswith("celerity learned against its upper bound of 1 m s-1: 100 % of reaches are at it")
    for name, limits, expected in (
        ("celerity", [2, 3], r"starts at 1, outside\. Say with starts"), ("celerity", [2, 1], "expected a lower and"),
        ("production_capacity", [0, 10], "within 0.01 to inf"), ("celerty", [1, 2], "Did you mean 'celerity'"),
    ):
        with pytest.raises(ConfigError, match=expected):
            Trainer(change_training(case, **{**UNIFORM, "ranges": {name: limits}}), ALONE)


@pytest.mark.slow
def test_a_small_fit_begins_several_times_and_is_resumed(case, tmp_path):
    keys = {**UNIFORM, "warm_up": 20, "optimizer": "lbfgs", "learning_rate": None, "updates": 1, "epochs": 2}
    assert load_train_config(change_training(case, **keys))[1].n_starts == 5
    assert load_train_config(change_training(case, **keys, restarts=1))[1].n_starts == 1
    assert load_train_config(case)[1].n_starts == 1
    keys["learn_routing"] = False
    whole = change_training(case, **keys, restarts=3, output=str(tmp_path / "whole.safetensors"))
    trainer, scores, epochs = train(whole)
    assert [fit.epochs for fit in trainer.fits] == [2, 2, 2] and len(epochs) == 6
    assert trainer.best == max(fit.score for fit in trainer.fits) == pytest.approx(scores.nse, abs=1e-12)
    capacities = {fit.parameters["production_capacity"] for fit in trainer.fits}
    assert {fit.parameters["celerity"] for fit in trainer.fits} == {1.0}, "which is not learned"
    assert len(capacities) == 3 and "3 fits, each begun elsewhere, ended at NSE" in trainer.findings[-1]
    broken = change_training(case, "broken.yaml", **keys, restarts=3, output=str(tmp_path / "broken.safetensors"))

    class StopError(Exception):
        pass

    def stop(epoch):
        if epoch.number == 3:
            raise StopError

    with pytest.raises(StopError):
        Trainer(broken, ALONE).train(resume=False, report=stop, progress=lambda loss: None)
    resumed, _, _ = train(broken, resume=True)
    assert [fit._asdict() for fit in resumed.fits] == [fit._asdict() for fit in trainer.fits]
    one, other = weights_of(Path(trainer.config.output)), weights_of(Path(resumed.config.output))
    assert all(np.array_equal(one[name], other[name]) for name in one)
