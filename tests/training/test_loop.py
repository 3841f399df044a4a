"""The training loop: it learns, repeats itself, goes on after a kill, stops where it must, and leaves its files."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
import yaml
from cases import START, change_config, write_series
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_cases import ALONE, at, change_training, train, weights_of, write_training_case

from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.container import unseal
from bmi_cdlm.names.errors import CheckpointError, ConfigError, OutputError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.log import Log
from cdlm_training.loop import STATE_FORMAT, Trainer, TrainingError
from cdlm_training.scores import simulate_gauges

TESTS = Path(__file__).resolve().parents[1]
GAUGES = ["g0", "g1", "g2", "g3"]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"))


def here(case: Path, folder: Path, **training) -> Path:
    """The case, writing below another folder."""
    return change_training(case, f"{folder.name}.yaml", output=str(folder / "out" / "trained.safetensors"), **training)


def log_of(config: Path) -> list[list[str]]:
    """Rows of a log, without the seconds."""
    output = Path(yaml.safe_load(config.read_text())["training"]["output"])
    text = (output.with_name("trained_training") / "log.csv").read_text()
    return [row[:-1] for row in csv.reader(text.splitlines())]


def assert_same_weights(a: Path, b: Path, *, same: bool = True) -> None:
    one, other = weights_of(a), weights_of(b)
    assert one.keys() == other.keys()
    equal = [np.array_equal(one[name], other[name]) for name in one]
    assert all(equal) if same else not any(equal)


# ---- whatever the run's PET is -----------------------------------------------------------------------------


WEATHER = {
    "minimum_air_temperature": -3.0, "maximum_air_temperature": 6.0, "specific_humidity": 0.004,
    "air_pressure": 95_000.0, "shortwave_radiation": 160.0, "wind_x": 3.0, "wind_y": -1.0,
}
"""Beside the air temperature of the case: the range about it, and the rest as it is."""


def with_weather(folder: Path, step: int = DAY) -> Path:
    """A case whose files have what every formula reads."""
    case = write_training_case(folder, step=step)
    with netCDF4.Dataset(folder / "forcing.nc", "a") as dataset:
        rng, warmth = np.random.default_rng(3), dataset["air_temperature"][:]
        for name, value in WEATHER.items():
            out = dataset.createVariable(name, "f8", ("time", "cell"))
            out.units = variable(name).units
            out[:] = warmth + value if "temperature" in name else value * rng.uniform(0.8, 1.2, warmth.shape)
    return case


@pytest.mark.parametrize(("pet", "step"), [
    ("oudin", DAY), ("hargreaves", DAY), ("penman_monteith", DAY), ("oudin", HOUR), ("penman_monteith", HOUR),
])
@pytest.mark.slow
def test_every_pet_trains_and_its_checkpoint_runs(tmp_path, pet, step):
    case = change_config(with_weather(tmp_path, step), pet=pet)
    trainer, scores, _ = train(case)
    run, config = load_train_config(case)
    file = trainer.data.forcing
    assert set(file) == {"precipitation", "potential_evapotranspiration"}
    with closing(Simulation(run)) as simulation:
        expected = simulation.read_forcing(0, run.n_steps)
    np.testing.assert_array_equal(file["potential_evapotranspiration"], expected.potential_evapotranspiration)
    assert file["potential_evapotranspiration"].max() > 0.0
    checkpoint = load_checkpoint(config.output)
    assert checkpoint.spec.pet.kind == pet
    simulated = simulate_gauges(run, config.output)[1]  # the checkpoint runs, with the same demand
    dataset = trainer.data
    scored = nse(simulated[dataset.steps_of(config.train)][:, 0],
                 dataset.observed[dataset.steps_of(config.train)][:, 0])
    assert scored == pytest.approx(scores.gauges["g0"][0], abs=1e-9)
    other = "oudin" if pet != "oudin" else "penman_monteith"
    with pytest.raises(CheckpointError, match=rf"corrects .* '{pet}', the run has '{other}'"):
        simulate_gauges(load_config(change_config(case, "other.yaml", pet=other)), config.output)


def test_the_kind_of_demand_is_that_of_the_run(tmp_path):
    case = write_training_case(tmp_path)
    assert load_train_config(case)[1].pet_kind == "unknown"
    assert load_train_config(change_config(case, pet_kind="Oudin"))[1].pet_kind == "Oudin"
    assert load_train_config(change_config(change_training(case, pet_kind="OUDIN"), pet="oudin"))[1].pet_kind == "oudin"
    with pytest.raises(ConfigError, match=r"training\.pet_kind is 'Hamon', and the run has pet: oudin"):
        load_train_config(change_config(change_training(case, pet_kind="Hamon"), pet="oudin"))


# ---- it learns -------------------------------------------------------------------------------------------


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


# ---- going on --------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from training_cases import train
updates = []
def progress(loss):
    updates.append(loss)
    if len(updates) == 8:  # the second of three in the third epoch
        os.kill(os.getpid(), signal.SIGKILL)
train(Path({config!r}), progress=progress)
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_killed_training_goes_on_to_the_bits_of_an_unbroken_one(case, tmp_path, precision):
    config = here(case, tmp_path / "broken", epochs=4, precision=precision)
    unbroken = here(case, tmp_path / "unbroken", epochs=4, precision=precision)
    script = KILLED.format(tests=str(TESTS), config=str(config))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row[0] for row in log_of(config)] == ["epoch", "1", "2"]
    if precision == "float64":
        words = [sys.executable, "-W", "error", "-m", "cdlm_training", str(config), "--resume"]
        resumed = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert resumed.returncode == 0, resumed.stderr
    else:
        train(config, resume=True)
    trainer, *_ = train(unbroken)
    for name in (trainer._last, trainer.config.output):
        assert_same_weights(name, tmp_path / "broken" / name.relative_to(tmp_path / "unbroken"))
    assert log_of(config) == log_of(unbroken)
    assert [row[0] for row in log_of(config)] == ["epoch", "1", "2", "3", "4"]
    states = [load_state(tmp_path / k / "out/trained_training/state.pt")
              for k in ("broken", "unbroken")]
    assert states[0]["random"] == states[1]["random"] and states[0]["best"] == states[1]["best"]


def load_state(path):
    return torch.load(io.BytesIO(unseal(path.read_bytes(), STATE_FORMAT, "", TrainingError, "")), weights_only=True)


def test_no_flipped_bit_of_a_saved_state_goes_in(case, tmp_path):
    """Bits here and there, every length of the header and some beyond: refused before torch reads a byte."""
    config = here(case, tmp_path, epochs=1)
    train(config)
    path = tmp_path / "out/trained_training/state.pt"
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    trainer = Trainer(config, Team(0, 1))
    kept = {name: values.clone() for name, values in trainer.generator.state_dict().items()}
    flips = [(int(place), 1 << int(rng.integers(8))) for place in (*range(80), *rng.integers(80, len(whole), 200))]
    ends = (*range(0, 90, 7), *rng.integers(80, len(whole), 20))
    for content in (*(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :] for place, bit in flips),
                    *(whole[:end] for end in ends)):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"state\.pt: .* Train without --resume"):
            trainer._load_state()
    assert all(torch.equal(values, kept[name]) for name, values in trainer.generator.state_dict().items())
    path.write_bytes(whole)
    trainer._load_state()
    assert trainer.epoch == 1


def test_a_damaged_log_is_no_obstacle(case, tmp_path, caplog):
    config = here(case, tmp_path, epochs=2)
    train(config)
    (tmp_path / "out/trained_training/log.csv").write_bytes(b"\xff\x00epoch\n1,x,y,z,0\n\n,,,,\n2,1.0,0.5,0.5,1.0")
    with caplog.at_level("WARNING"):
        trainer, _, epochs = train(config, resume=True)
    assert trainer.epoch == 2 and not epochs
    assert "holds 1 of the 2 epochs before" in caplog.text
    assert log_of(config) == [["epoch", "loss", "nse", "kge"], ["2", "1.0", "0.5", "0.5"]]


class StopError(Exception):
    """Ends a training where a test wants it."""


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "where"), [(Trainer, "_save_state"), (Log, "write")])
def test_whatever_a_break_leaves_half_done_is_done_again(case, tmp_path, broken, where, monkeypatch):
    unbroken = tmp_path / "unbroken"
    expected, *_ = train(here(case, unbroken, epochs=3, gauges_per_update=2))
    config = here(case, tmp_path, epochs=3, gauges_per_update=2)
    real, calls = getattr(broken, where), []

    def breaks(*args):
        calls.append(args)
        if len(calls) == 2:
            raise StopError
        real(*args)

    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(broken, where, breaks)
        train(config)
    trainer, _, epochs = train(config, resume=True)
    assert [e.number for e in epochs] == [2, 3]
    assert_same_weights(trainer._last, expected._last)
    assert log_of(config) == log_of(change_training(config, "unbroken.yaml", output=str(expected.config.output)))


def test_a_configuration_elsewhere_may_go_on_but_no_other_training(case, tmp_path, monkeypatch):
    config = here(case, tmp_path, epochs=1)
    train(config)
    monkeypatch.chdir(case.parent)
    assert train(Path(config.name), resume=True)[2] == []
    for keys in ({"seed": 5}, {"learning_rate": 0.5}, {"epochs": 3}):
        with pytest.raises(TrainingError, match=r"state\.pt: belongs to another training"):
            train(change_training(config, **keys), resume=True)
    for keys in ({"routing_step": "2 h"}, {"spin_up": 1}):
        with pytest.raises(TrainingError, match="belongs to another training"):
            train(change_config(config, **keys), resume=True)
    with pytest.raises(TrainingError, match=r"there is no state to resume from\. Train without --resume"):
        train(here(case, tmp_path / "elsewhere"), resume=True)
    assert not (tmp_path / "elsewhere").exists()


def test_a_fresh_training_forgets_the_one_before(case, tmp_path):
    config = here(case, tmp_path, epochs=2)
    train(config)

    def stop(loss: float) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(config, progress=stop)
    assert log_of(config) == [["epoch", "loss", "nse", "kge"]]
    with pytest.raises(TrainingError, match="there is no state"):
        train(config, resume=True)
    assert len(list((tmp_path / "out" / "trained_training").glob("events.*"))) == 1


# ---- it stops where it must ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cell.0.weight", "reach.1.bias"])
def test_a_loss_without_a_value_names_window_gauge_and_weight(case, tmp_path, name):
    config = here(case, tmp_path)
    trainer = Trainer(config, ALONE)

    def spoil(loss: float) -> None:
        with torch.no_grad():
            dict(trainer.generator.named_parameters())[name].view(-1)[0] = torch.nan

    message = (
        r"the loss at gauge g\d is nan in the window that starts at 2001-\d\d-\d\dT00:00:00; the weight "
        rf"'{name}' is not finite\. Lower learning_rate"
    )
    with pytest.raises(TrainingError, match=message):
        trainer.train(resume=False, report=lambda epoch: None, progress=spoil)
    assert not trainer.config.output.exists()


def test_a_gradient_without_a_value_names_window_and_weight(case):
    trainer = Trainer(case, ALONE)
    windows = [trainer.data.window(0, 20), trainer.data.window(5, 20)]
    trainer.generator.reach.each[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    where = "is not finite in the windows that start at 2001-03-01T00:00:00, 2001-03-06T00:00:00"
    finite = "all weights and parameters are finite"
    with pytest.raises(TrainingError, match=rf"the gradient of 'reach\.0\.weight' {where}; {finite}"):
        trainer.gradient(windows)
    with torch.no_grad():  # GR4J's branches swallow a demand without a value, its gradient does not
        trainer.generator.pet.each[0].weight[0] = torch.nan
    with pytest.raises(TrainingError, match=rf"{where}; the weight 'pet\.0\.weight' is not finite"):
        trainer.gradient(windows)


@pytest.mark.parametrize(("network", "name"), [("cell", "production_capacity"), ("reach", "celerity")])
def test_a_parameter_without_a_value_is_named_where_all_weights_have_one(case, network, name):
    trainer = Trainer(case, ALONE)

    def overflow(module, inputs, made):
        return made | {name: made[name] * torch.inf * 0.0}

    getattr(trainer.generator, network).register_forward_hook(overflow)
    # GR4J's branches swallow a store without a value, its gradient does not.
    what = {"cell": r"gradient of 'cell\.0\.weight' is not finite", "reach": r"loss at gauge g\d is nan"}[network]
    message = rf"the {what} in the windows? that starts? at 2001-03-01.*; the parameter '{name}' is not finite"
    with pytest.raises(TrainingError, match=message):
        trainer.gradient([trainer.data.window(0, 20)])


def test_weights_that_go_astray_in_the_last_update_are_not_written(case, tmp_path):
    trainer = Trainer(here(case, tmp_path, updates=1), ALONE)

    def spoil(loss: float) -> None:
        with torch.no_grad():
            trainer.generator.cell.each[0].bias[0] = torch.nan

    with pytest.raises(CheckpointError, match=r"weights 'cell\.0\.bias' are NaN or infinite"):
        trainer.train(resume=False, report=lambda epoch: None, progress=spoil)
    assert not trainer.config.output.exists() and not trainer._last.exists()


def test_a_folder_that_cannot_be_written(case, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        train(here(case, tmp_path))


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
