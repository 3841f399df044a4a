"""Commands of `cdlm-train`: their words, and what each refuses before it reads or writes much."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cases import change_config
from click.testing import CliRunner, Result
from training_cases import ALONE, at, change_training, write_training_case

from bmi_cdlm.generator.checkpoint import load_checkpoint, load_members, save_checkpoint
from bmi_cdlm.names.time_steps import DAY
from cdlm_training.cli import COMMANDS, main
from cdlm_training.loop import Trainer

RECORD = {"gauges": ["g0"], "periods": {}, "scores": {}, "fingerprints": {}, "licence": "none", "command": "drawn"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def members(case):
    """Checkpoints of one generator with other weights, and one of another routing step."""
    made = []
    for name, keys, scale in (("a", {}, 1.0), ("b", {}, 0.5), ("other", {"routing_step": "6 h"}, 1.0)):
        trainer = Trainer(change_config(case, f"{name}.yaml", **keys), ALONE)
        path = case.parent / f"{name}.safetensors"
        tensors = {n: scale * v for n, v in trainer.generator.tensors().items()}
        save_checkpoint(path, trainer.spec, tensors, RECORD)
        made.append(path)
    return made


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(w) for w in words])


def refused(*words: object) -> str:
    """One message, without a traceback."""
    result = call(*words)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: ") and "Traceback" not in result.output
    return " ".join(result.output.split())


def test_every_command_is_listed_and_has_words():
    said = call("--help").output
    for name in COMMANDS:
        assert f"  {name} " in said
        own = call(name, "--help")
        assert own.exit_code == 0 and own.output.startswith("Usage: "), own.output
        assert len(own.output.splitlines()) > 4, name


def test_a_word_that_is_no_command_is_a_configuration(case):
    assert "nothing.yaml: cannot be read" in refused("nothing.yaml")
    result = call("experimnt", case)
    assert result.exit_code == 2 and "unexpected extra argument" in result.output.lower()


@pytest.mark.parametrize("words", [
    ["--weights", "w.safetensors"], ["--statistics", "s.json"], ["--resume", "--weights", "w", "--statistics", "s"],
])
def test_weights_of_others_go_with_their_statistics(case, words):
    result = call("train", case, *words)
    assert result.exit_code == 2 and "--weights goes with --statistics, and without --resume" in result.output


def test_an_ensemble_is_of_members_that_differ_and_fit(members, tmp_path):
    a, b, other = members
    target = tmp_path / "both.safetensors"
    assert "an ensemble of 2 members" in call("ensemble", target, a, b).output
    assert len(load_members(target)) == 2
    before = target.read_bytes()
    assert "have the same weights" in refused("ensemble", target, a, a)
    assert "has routing_step" in refused("ensemble", target, a, other)
    assert "has 1 members, expected two or more" in refused("ensemble", target, a)
    assert "no such checkpoint" in refused("ensemble", target, a, tmp_path / "none.safetensors")
    assert "ends in .safetensors" in refused("ensemble", tmp_path / "both.nc", a, b)
    assert target.read_bytes() == before, "what is refused leaves what was there"
    three = tmp_path / "three.safetensors"
    assert "have the same weights" in refused("ensemble", three, target, a), "it is a member already"
    assert not three.exists()
    assert (load_checkpoint(target, 2).tensors["cell.0.weight"] == load_checkpoint(b).tensors["cell.0.weight"]).all()


def test_an_ensemble_may_be_written_onto_one_of_its_members(members, tmp_path):
    a, b, _ = members
    own = tmp_path / "a.safetensors"
    own.write_bytes(a.read_bytes())
    assert call("ensemble", own, own, b).exit_code == 0
    assert len(load_members(own)) == 2


def test_apply_takes_networks_of_windows_alone(members, case, tmp_path):
    assert "ends in .nc" in refused("apply", members[0], case, "--to", tmp_path / "p.txt")
    said = refused("apply", members[0], case, "--to", tmp_path / "p.nc")
    assert "expected 'bmi_cdlm resnet 1'" in said and "needs no apply" in said
    assert "there is no such file" in refused("apply", tmp_path / "none.safetensors", case, "--to", tmp_path / "p.nc")
    assert not (tmp_path / "p.nc").exists()


@pytest.mark.parametrize("keys", [
    {"mapping": "mlp"}, {"mapping": "uniform", "cell_attributes": [], "reach_attributes": [], "pet_factor": True},
    {"mapping": "uniform", "cell_attributes": [], "reach_attributes": [], "pet_factor": False,
     "loss": {"nse": 0, "rmse_comb": 1}},
    {"mapping": "uniform", "cell_attributes": [], "reach_attributes": [], "pet_factor": False,
     "gauge_weights": "median"},
])
def test_multiset_is_of_one_set_and_terms_of_gauges(case, keys):
    path = change_training(case, "sets.yaml", output="sets/x.safetensors", hidden=[3], **keys)
    assert "multiset draws the parameters of one set" in refused("multiset", path)
    assert not (case.parent / "sets").exists()
    assert call("multiset", path, "--sets", "3").exit_code == 2


def test_blocks_that_are_missing_are_named(case):
    for command, block in (("experiment", "experiment"), ("validate", "experiment"), ("fit-maps", "map_fit")):
        words = ["--design", "temporal"] if command == "validate" else []
        assert f"key '{block}' is missing" in refused(command, case, *words)
    assert "key 'experiment' is missing" in refused("similarity", case, "--to", case.parent / "s.nc")
    assert call("validate", case).exit_code == 2, "a design is to be named"
    assert "temporal" in call("validate", case, "--design", "spacial").output


def test_folders_that_are_no_experiments_are_refused(tmp_path):
    for words in (("report", tmp_path), ("compare", tmp_path, tmp_path), ("report", tmp_path / "none")):
        assert "experiment.json: cannot be read" in refused(*words)


def test_labels_need_a_model_and_a_file_of_their_own(case, tmp_path):
    assert call("labels", case).exit_code == 2
    assert "ends in .nc" in refused("labels", case, "--model", "gr2m", "--to", tmp_path / "labels.txt")
    assert call("labels", case, "--model", "gr2m", "--restarts", "0").exit_code == 2


def test_similarity_needs_two_donors_and_attributes(case, tmp_path):
    keys = {"output": "near", "test": [at(DAY, 50), at(DAY, 70)]}
    old = yaml.safe_load(case.read_text())["training"]
    alone = change_config(case, "alone.yaml", training={**old, "gauges": ["g0"]}, experiment=keys)
    assert "1 gauges can be fitted, expected two" in refused("similarity", alone, "--to", tmp_path / "x.nc")
    plain = {k: v for k, v in old.items() if k != "cell_attributes"} | {"mapping": "uniform"}
    bare = change_config(case, "bare.yaml", training=plain, experiment=keys)
    assert "Name some in experiment.similarity" in refused("similarity", bare, "--to", tmp_path / "x.nc")
    assert not (tmp_path / "x.nc").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_help_needs_no_torch(tmp_path: Path):
    """Words are told where torch is not installed, and a training says how to install it."""
    code = "import sys; sys.modules['torch'] = None; from cdlm_training.cli import main; main(sys.argv[1:])"

    def run(*words: object) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True,
                              timeout=200, check=False)

    assert run("experiment", "--help").returncode == 0
    found = run("experiment", tmp_path / "x.yaml")
    assert found.returncode == 1 and 'pip install "bmi-cdlm[train]"' in " ".join((found.stdout + found.stderr).split())
