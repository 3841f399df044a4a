"""The keys below `training`: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import change_config
from training_cases import ALONE, at, change_training, write_training_case

from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.names.time_steps import DAY
from cdlm_training.config import TrainConfig, load_train_config
from cdlm_training.loop import Trainer
from cdlm_training.reference import render
from cdlm_training.terms import LossWeights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"))


def refused(config: Path, match: str, error: type[Exception] = ConfigError) -> None:
    """Refused before anything is written."""
    before = sorted(config.parent.rglob("*"))
    with pytest.raises(error, match=match):
        Trainer(config, ALONE)
    assert sorted(config.parent.rglob("*")) == before


def test_what_is_written_is_read(case):
    run, keys = load_train_config(case)
    assert keys.output == case.parent / "out" / "trained.safetensors"
    assert keys.log_folder == case.parent / "out" / "trained_training"
    assert keys.train == (run.start, run.start + np.timedelta64(50, "D"))
    assert keys.dtype is np.float64 and keys.gauges == "all" and keys.validate_on is None
    assert load_train_config(change_training(case, precision=None))[1].dtype is np.float32
    assert load_train_config(change_training(case, gauges=[3204040, "g1"]))[1].gauges == ("3204040", "g1")


def test_periods_are_of_the_calendar_of_the_run(case):
    keys = {"calendar": "360_day", "start": "2001-01-30", "end": "2001-04-30"}
    config = change_config(change_training(case, train=["2001-02-29", "2001-03-30"]), "days.yaml", **keys)
    run, training = load_train_config(config)
    assert [date_text(t)[:10] for t in training.train] == ["2001-02-29", "2001-03-30"]
    assert ((training.train[1] - training.train[0]) / np.timedelta64(1, "D"), run.n_steps) == (31, 90)
    with pytest.raises(ConfigError, match="the calendar noleap has no such day"):
        load_train_config(change_config(config, "other.yaml", calendar="noleap", start="2001-01-28"))


def test_the_learning_rate_follows_the_optimizer(case):
    rates = {
        (name, rate): load_train_config(change_training(case, optimizer=name, learning_rate=rate))[1].learning_rate
        for name in (None, "adamw", "lbfgs") for rate in (None, 0.3)
    }
    assert rates == {
        (None, None): 0.01, ("adamw", None): 0.01, ("lbfgs", None): 1.0, (None, 0.3): 0.3, ("adamw", 0.3): 0.3,
        ("lbfgs", 0.3): 0.3,
    }


def test_training_is_missing(case):
    refused(change_config(case, training=None), r"key 'training' is missing\. Add it; training/README\.md lists")


def test_training_is_no_mapping(case):
    refused(change_config(case, training=["mlp"]), "training is")


@pytest.mark.parametrize("key", list(TrainConfig.model_fields))
def test_an_unknown_key_is_named_with_the_nearest(case, key):
    config = change_training(case, **{f"{key}s_": 1})
    refused(config, rf"unknown key 'training\.{key}s_'\. Did you mean '{key}'\? Known: ")


@pytest.mark.parametrize("key", list(LossWeights.model_fields))
def test_an_unknown_term_of_the_loss_is_named_with_the_nearest(case, key):
    config = change_training(case, loss={f"{key}_": 1.0})
    refused(config, rf"unknown key 'training\.loss\.{key}_'\. Did you mean '{key}'\? Known: ")


@pytest.mark.parametrize("key", ["output", "train"])
def test_what_is_required(case, key):
    refused(change_training(case, **{key: None}), rf"training: key '{key}' is missing\. See training/README\.md")


@pytest.mark.parametrize(("keys", "message"), [
    ({"output": "x.pt"}, r"output is x\.pt; expected a name that ends in \.safetensors"),
    ({"train": [at(DAY, 20), at(DAY, 20)]}, "train ends at .* expected a time after its start"),
    ({"train": [at(DAY, 0)]}, "train is .*Field required|key 'train' is missing"),
    ({"train": ["soon", at(DAY, 0)]}, "train.*'soon' is not a date"),
    ({"validate_on": [at(DAY, 20), at(DAY, 10)]}, "validate_on ends at"),
    ({"train": [at(DAY, -9), at(DAY, 20)]}, "train is .* expected within the run"),
    ({"validate_on": [at(DAY, 60), at(DAY, 99)]}, "validate_on is .* expected within the run"),
    ({"gauges": []}, "gauges holds no id or one twice"),
    ({"gauges": ["g0", "g0"]}, "gauges holds no id or one twice"),
    ({"gauges": ["g7"]}, "the domain has no gauge 'g7'"),
    ({"gauges": "g0"}, "gauges is 'g0'"),
    ({"mapping": "cnn"}, "mapping is 'cnn'"),
    ({"cell_attributes": []}, "mapping is mlp, but cell_attributes is empty"),
    ({"hidden": []}, "mapping is mlp and hidden is empty; expected units"),
    ({"hidden": [0]}, "hidden is 0: Input should be greater than or equal to 1"),
    ({"pet_hidden": [-1]}, "pet_hidden is -1: Input should be greater"),
    ({"cell_attributes": ["forest", "elevation", "forest"]}, "cell_attributes names 'forest' twice"),
    ({"cell_attributes": ["forest", "cell_forest"]}, "cell_attributes names 'forest' twice"),
    ({"reach_attributes": ["reach_length", "length"]}, "reach_attributes names 'length' twice"),
    *((({key: value}, f"{key} is {value}: Input should be a finite number"))
      for key in ("learning_rate", "clip", "weight_decay", "posterior_prior") for value in (float("inf"),)),
    ({"loss": {"nse": float("inf")}}, "Input should be a finite number"),
    ({"loss": {"signatures": {"Crc": float("inf")}}}, "Input should be a finite number"),
    ({"ranges": {"celerity": [float("nan"), 3.0]}}, "Input should be a finite number"),
    ({"starts": {"celerity": float("inf")}}, "Input should be a finite number"),
    ({"pet_limits": [0.5, float("inf")]}, "Input should be a finite number"),
    ({"pretrain": {"labels": "labels.nc", "learning_rate": float("inf")}}, "Input should be a finite number"),
    ({"seed": 2**70}, "seed is 1180591620717411303424: Input should be less than"),
    ({"train": [at(DAY, 0), "2001-04-20T06:00"]}, "within the step of the run that begins at 2001-04-20T00:00:00"),
    ({"pet_hidden": []}, "expected at least one layer"),
    ({"pet_limits": [1.1, 2.0]}, "pet_limits are 1.1 and 2.0; expected 0 < low < 1 < high"),
    ({"learn_routing": False, "learn_weighting": True}, "learn_weighting needs learn_routing"),
    ({"starts": {"X1": 300}}, "starts: 'X1' is not generated"),
    ({"starts": {"celerity": 50}}, "starts: 'celerity' is 50.0, expected a value from 0.1 to 5"),
    ({"starts": {"celerity": "fast"}}, "starts is 'fast'"),
    ({"starts": {"celerity": 0.1}}, "starts: 'celerity' is 0.1, a bound of its range, 0.1 to 5; expected a value"),
    ({"window": 0}, "window is 0"),
    ({"warm_up": -1}, "warm_up is -1"),
    ({"windows_per_update": 0}, "windows_per_update is 0"),
    ({"updates": 0}, "updates is 0"),
    ({"epochs": 0}, "epochs is 0"),
    ({"patience": 0}, "patience is 0"),
    ({"gauges_per_update": 0}, "gauges_per_update is 0"),
    ({"gauges_per_update": 2, "optimizer": "lbfgs"}, "gauges_per_update needs adamw"),
    ({"device": "gpu"}, "device is 'gpu'"),
    ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
    ({"learning_rate": 0}, "learning_rate is 0"),
    ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ({"final_learning_rate": 1.5}, "final_learning_rate is 1.5"),
    ({"weight_decay": -1}, "weight_decay is -1"),
    ({"clip": 0}, "clip is 0"),
    ({"loss": {"nse": -1.0}}, r"loss\.nse is -1.0"),
    ({"loss": {"nse": 0.0}}, "loss has no term of the flow"),
    ({"loss": 3}, "loss is 3"),
    ({"loss": {"mean_runoff": 1.0}}, "loss.mean_runoff needs mean_runoff_attribute"),
    ({"loss": {"baseflow_index": 1.0}}, "loss.baseflow_index needs baseflow_index_attribute"),
    ({"gauge_weights": "area"}, "gauge_weights is 'area'"),
    ({"gauge_weights": {"g0": 0}}, "gauge_weights is 0"),
    ({"gauge_weights": "median", "gauges_per_update": 2}, "gauge_weights is median, which compares all gauges"),
    ({"gauge_weights": "median", "loss": {"nse_batch": 1}}, "expected terms of each gauge in loss .*, and none"),
    ({"loss": {"nse_box": 1}}, r"unknown key 'training\.loss\.nse_box'\. Did you mean 'nse_box_cox'"),
    ({"precision": "float16"}, "precision is 'float16'"),
    ({"threads": 0}, "threads is 0"),
    ({"select_by": "mse"}, "select_by is 'mse'"),
    ({"seed": -1}, "seed is -1"),
])
def test_bad_values(case, keys, message):
    refused(change_training(case, **keys), message)


@pytest.mark.parametrize(("keys", "which"), [
    ({"output": "a/../domain.nc"}, "domain"), ({"output": "forcing.nc"}, "forcing"),
    ({"output": "observations.nc"}, "observations"),
])
def test_no_output_is_written_onto_what_is_read(case, keys, which):
    """However the path is written: the file would be lost with the first epoch."""
    field = {"mapping": "distributed", "cell_attributes": None, "reach_attributes": None, "pet_factor": None}
    refused(change_training(case, **field, **keys), f"output: .* is the file of {which}, which would be lost")


def test_a_fit_does_not_write_onto_what_it_starts_from(case):
    keys = {"start_from": "start.safetensors", "output": "start.safetensors"}
    refused(change_training(case, **keys), r"the file of training\.start_from, which would be lost")
    network = {"mapping": "resnet", "start_from": "net.safetensors", "output": "net.nc", "pet_factor": None}
    refused(change_training(case, **network), r"net\.safetensors is the file of training\.start_from")


@pytest.mark.parametrize("keys", [
    {"cell_attributes": ["florest"]}, {"reach_attributes": ["lenght"]},
    {"loss": {"mean_runoff": 1.0}, "mean_runoff_attribute": "mean_runof"},
])
def test_attributes_that_the_domain_lacks(case, keys):
    refused(change_training(case, **keys), "there is no (cell|reach) attribute .* Did you mean", DomainError)


def test_a_map_of_runoff_in_other_units(case):
    keys = {"loss": {"mean_runoff": 1.0}, "mean_runoff_attribute": "forest"}
    refused(change_training(case, **keys), "'forest' has units '1', expected 'mm yr-1'", DomainError)


def test_a_map_of_the_baseflow_index_says_by_which_interval(tmp_path):
    case = write_training_case(tmp_path)
    with netCDF4.Dataset(case.parent / "domain.nc", "a") as data:
        del data["cell_baseflow_index"].hysep_window
    keys = {"loss": {"baseflow_index": 1.0}, "baseflow_index_attribute": "baseflow_index"}
    refused(change_training(case, **keys), "cell_baseflow_index, a map of the .* has no hysep_window", DomainError)


def test_the_reference_is_that_of_the_code():
    assert (ROOT / "training" / "README.md").read_text(encoding="utf-8") == render()
    for key in (*TrainConfig.model_fields, *LossWeights.model_fields):
        assert f"| `{key}` |" in render()


@pytest.mark.parametrize("path", sorted((ROOT / "cfg").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configurations_are_read(path):
    if "\ntraining:" in path.read_text(encoding="utf-8"):
        load_train_config(path)
