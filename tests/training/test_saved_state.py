"""A training goes on from its saved state after a kill, to the bits of an unbroken one, and from no other's."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import change_config
from training_cases import assert_same_weights, change_training, here, log_of, train, write_training_case

from bmi_cdlm.names.container import unseal
from cdlm_training.distributed import Team
from cdlm_training.log import Log
from cdlm_training.loop import Trainer
from cdlm_training.objective import TrainingError
from cdlm_training.saved_state import STATE_FORMAT, write_state

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"))


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
    states = [state_of(tmp_path / k / "out/trained_training/state.pt")
              for k in ("broken", "unbroken")]
    assert states[0]["random"] == states[1]["random"] and states[0]["best"] == states[1]["best"]


def state_of(path):
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
    for key, value in (("seed", 5), ("learning_rate", 0.5), ("epochs", 3)):
        told = rf"state\.pt: belongs to another training: training\.{key} was other\."
        with pytest.raises(TrainingError, match=told):
            train(change_training(config, **{key: value}), resume=True)
    for key, value in (("routing_step", "2 h"), ("spin_up", 1)):
        with pytest.raises(TrainingError, match=rf"belongs to another training: run\.{key} was other\."):
            train(change_config(config, **{key: value}), resume=True)
    with pytest.raises(TrainingError, match=r"there is no state to resume from\. Train without --resume"):
        train(here(case, tmp_path / "elsewhere"), resume=True)
    assert not (tmp_path / "elsewhere").exists()


def test_keys_that_an_earlier_version_had_not_are_as_they_were_at_their_defaults(case, tmp_path):
    config = here(case, tmp_path, epochs=1)
    trainer, *_ = train(config)
    state = state_of(tmp_path / "out/trained_training/state.pt")
    own, of_run, files, gauges = json.loads(state["training"])
    del own["loss"]["pull"], of_run["precipitation"]
    state["training"] = json.dumps([own, of_run, files, gauges])
    write_state(tmp_path / "out/trained_training/state.pt", state)
    resumed, _, epochs = train(config, resume=True)
    assert resumed.epoch == trainer.epoch == 1 and epochs == []
    write_state(tmp_path / "out/trained_training/state.pt", state)
    pulled = change_training(config, loss={"nse": 1.0, "pull": {"celerity": 0.1}})
    with pytest.raises(TrainingError, match=r"another training: training\.loss\.pull was other\."):
        train(pulled, resume=True)
    state["training"] = json.dumps([{**own, "gone": 1}, of_run, {**files, "forcing": ""}, gauges[:-1]])
    write_state(tmp_path / "out/trained_training/state.pt", state)
    with pytest.raises(TrainingError, match=r"another training: training\.gone, files\.forcing, gauges was other\."):
        train(config, resume=True)


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
