"""Trainings of an experiment: what each depends on, what a kill leaves, and what is refused before any begins."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from cases import change_config
from click.testing import CliRunner
from training_cases import ALONE, at, change_training, weights_of, write_training_case

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.output import read_output
from bmi_cdlm.generator.checkpoint import save_checkpoint
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY
from cdlm_training import fits
from cdlm_training.cli import main
from cdlm_training.experiment import jobs as module
from cdlm_training.experiment.baselines import LocalFits
from cdlm_training.experiment.config import load_experiment, merged
from cdlm_training.experiment.jobs import CONFIG, DISCHARGE, DONE, Identities, make_jobs, run_jobs, usable_gauges
from cdlm_training.experiment.splits import make_splits
from cdlm_training.loop import Trainer

TEST = [at(DAY, 50), at(DAY, 70)]
LINEAR = {"mapping": "linear", "cell_attributes": ["forest"], "reach_attributes": [], "pet_factor": False}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(
        tmp_path_factory.mktemp("jobs"), train=[at(DAY, 0), at(DAY, 50)], epochs=2, updates=1, **LINEAR,
    )


def experiment(case: Path, name: str, *, run=None, training=None, **keys) -> Path:
    old = yaml.safe_load(case.read_text())["training"]
    return change_config(case, f"{name}.yaml", **(run or {}), training={**old, **(training or {})}, experiment={
        "output": name, "test": TEST, "folds": 2, **keys,
    })


def jobs_of(path: Path):
    read = load_experiment(path)
    domain = read_domain(read.run.domain)
    chosen, _ = usable_gauges(read.run, read.training, domain.gauges.id)
    return make_jobs(read, domain, make_splits(domain, read.config, chosen))


def refused(path: Path) -> str:
    folder = load_yaml(path)
    result = CliRunner().invoke(main, ["experiment", str(path)])
    assert result.exit_code == 1 and result.output.startswith("Error: "), result.output
    assert not list(folder.rglob("trained.*")), "before anything is trained"
    return " ".join(result.output.split())


def load_yaml(path: Path) -> Path:
    return path.parent / yaml.safe_load(path.read_text())["experiment"]["output"]


# ---- what a training depends on ------------------------------------------------------------------------------------


def test_a_training_depends_on_the_content_of_all_its_files(case, tmp_path):
    """A start, a table of gauges or observations that are others under the same name are other trainings."""
    trainer = Trainer(change_training(case, "plain.yaml"), ALONE)
    start, table = tmp_path / "start.safetensors", tmp_path / "gauges.csv"

    def write_start(scale: float) -> None:
        record = {name: {} for name in ("periods", "scores", "fingerprints")}
        tensors = {n: scale * v for n, v in trainer.generator.tensors().items()}
        save_checkpoint(start, trainer.spec, tensors, {**record, "gauges": [], "licence": "none", "command": "drawn"})

    write_start(1.0)
    table.write_text("id,years\ng0,9\ng1,9\ng2,9\ng3,9\n")
    observations = tmp_path / "observations.nc"
    shutil.copy(case.parent / "observations.nc", observations)
    job, = jobs_of(experiment(
        case, "content", run={"screening": {"table": str(table)}, "observations": str(observations)},
        training={"start_from": str(start)},
    ))
    first = Identities().of(job)
    assert Identities().of(job) == first, "the same again"
    changes = (
        (start, lambda: write_start(0.5)), (table, lambda: table.write_text("id,years\ng0,8\ng1,9\ng2,9\ng3,9\n")),
        (observations, lambda: observations.write_bytes((case.parent / "forcing.nc").read_bytes())),
    )
    for path, change in changes:
        before = path.read_bytes()
        change()
        assert Identities().of(job) != first, path.name
        path.write_bytes(before)
    assert Identities().of(job) == first


@pytest.mark.parametrize(("run", "training", "same"), [
    ({"threads": 2}, {}, True), ({}, {"threads": 2}, True), ({"memory": "64 MiB"}, {}, True),
    ({}, {"output": "elsewhere.safetensors"}, True), ({"output": "run.nc"}, {}, True),
    ({}, {"epochs": 5}, False), ({}, {"loss": {"kge": 0.1}}, False), ({"routing_step": "6 h"}, {}, False),
    ({"spin_up": 1}, {}, False), ({}, {"licence": "CC-BY-4.0"}, False),
])
def test_keys_without_effect_do_not_train_again(case, run, training, same):
    first, other = (
        Identities().of(jobs_of(path)[0])
        for path in (experiment(case, "same"), experiment(case, "changed", run=run, training=training))
    )
    assert (first == other) is same


def test_a_job_has_the_gauges_of_its_split_and_its_seed(case):
    jobs = jobs_of(experiment(case, "many", designs=["temporal", "folds"], seeds=[3, 8], variants={
        "a": {}, "b": {"training": {"loss": {"kge": 0.5}}, "routing_step": "6 h"},
    }))
    assert len(jobs) == 2 * 3 * 2 and len({job.folder for job in jobs}) == len(jobs)
    for job in jobs:
        kept = yaml.safe_load((job.folder / CONFIG).read_text())
        assert kept["training"]["gauges"] == list(job.split.fitted) and kept["training"]["seed"] == job.seed
        assert kept["training"]["held_out_fold"] is None and "experiment" not in kept
        assert kept["routing_step"] == ("6 h" if job.variant == "b" else "4 h")
        assert Path(kept["forcing"]).is_absolute()
    assert "folds fold1, seed 8" in jobs[-1].name


def test_blocks_are_laid_over_blocks():
    old = {"snow": "none", "training": {"loss": {"nse": 1.0, "kge": 0.1}, "hidden": [4]}}
    found = merged(old, {"training": {"loss": {"kge": 0.5}, "hidden": [8, 8]}, "runoff": "gr5"})
    assert found == {"snow": "none", "runoff": "gr5", "training": {"loss": {"nse": 1.0, "kge": 0.5}, "hidden": [8, 8]}}
    assert old["training"]["loss"]["kge"] == 0.1, "what it is laid over stays"


# ---- kills ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(case):
    job, = jobs_of(experiment(case, "whole"))
    run_jobs([job], 1, lambda text: None)
    return weights_of(job.folder / "trained.safetensors"), read_output(job.folder / DISCHARGE, "discharge")[2]


class KilledError(BaseException):
    """As a signal: nothing of the code may take it for an error of its own."""


def killed(*arguments: object, **keys: object) -> None:
    raise KilledError


@pytest.mark.slow
@pytest.mark.parametrize("where", [
    "cdlm_training.loop.Trainer._conclude", "cdlm_training.experiment.jobs.write_discharge",
    "cdlm_training.scores.simulate_gauges", "cdlm_training.log.Log.write", "second epoch",
])
def test_a_killed_training_is_gone_on_with_to_the_same_bits(case, whole, where, monkeypatch):
    name = where.rpartition(".")[2].replace(" ", "_")
    path = experiment(case, f"killed_{name}")
    job, = jobs_of(path)
    with monkeypatch.context() as patch:
        if where == "second epoch":
            own = Trainer._update
            patch.setattr(Trainer, "_update", lambda t, p: killed() if t.epoch == 1 else own(t, p))
        else:
            patch.setattr(where, killed)
        with pytest.raises(KilledError):
            run_jobs([job], 1, lambda text: None)
    assert not (job.folder / DONE).is_file()
    updates = []
    own = Trainer._update
    monkeypatch.setattr(Trainer, "_update", lambda t, p: updates.append(1) or own(t, p))
    told: list[str] = []
    run_jobs([job], 1, told.append)
    assert len(told) == 1 and told[0].startswith("1 of 1: base")
    found = weights_of(job.folder / "trained.safetensors")
    assert all(np.array_equal(found[n], whole[0][n]) for n in found)
    np.testing.assert_array_equal(read_output(job.folder / DISCHARGE, "discharge")[2], whole[1])
    expected = {"second epoch": 1, "cdlm_training.log.Log.write": 2}
    assert len(updates) == expected.get(where, 0), "epochs that have a state are not done again"
    run_jobs([job], 1, told.append)
    assert told[1:] == ["1 of 1 trainings were done before"]


def test_a_training_is_not_done_again_for_a_key_that_came_since(case):
    """What was done by a version without a key counts where the key is at its default; else it is told why not."""
    path = experiment(case, "updated")
    job, = jobs_of(path)
    told: list[str] = []
    run_jobs([job], 1, told.append)
    version, files, run, training = json.loads((job.folder / DONE).read_text())
    del run["precipitation"], training["loss"]["pull"]
    (job.folder / DONE).write_text(json.dumps([version, files, run, training]))
    run_jobs([job], 1, told.append)
    assert told[1:] == ["1 of 1 trainings were done before"]
    weights = (job.folder / "trained.safetensors").stat().st_mtime_ns
    job, = jobs_of(experiment(case, "updated", training={"loss": {"nse": 1.0, "pull": {"celerity": 0.1}}}))
    run_jobs([job], 1, told.append)
    assert told[2] == "1 of 1 trainings are done anew: training.loss.pull was other"
    assert (job.folder / "trained.safetensors").stat().st_mtime_ns > weights
    (job.folder / DONE).write_text("[")
    run_jobs([job], 1, told.append)
    assert told[4] == "1 of 1 trainings are done anew: version, files, run, training was other"


@pytest.mark.slow
def test_another_configuration_does_not_go_on_with_the_state_of_the_one_before(case, monkeypatch):
    job, = jobs_of(experiment(case, "other"))
    own = Trainer._update
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", lambda t, p: killed() if t.epoch == 1 else own(t, p))
        with pytest.raises(KilledError):
            run_jobs([job], 1, lambda text: None)
    job, = jobs_of(experiment(case, "other", training={"learning_rate": 0.1}))
    updates = []
    monkeypatch.setattr(Trainer, "_update", lambda t, p: updates.append(t.epoch) or own(t, p))
    run_jobs([job], 1, lambda text: None)
    assert updates == [0, 1]
    kept = json.loads((job.folder / DONE).read_text())
    assert kept[-1]["learning_rate"] == 0.1


@pytest.mark.slow
def test_fits_to_single_gauges_are_kept_until_what_they_are_of_changes(case, monkeypatch):
    monkeypatch.setattr(fits, "ITERATIONS", 1)
    done: list[str] = []
    fit = LocalFits._fit
    monkeypatch.setattr(LocalFits, "_fit", lambda self, part: done.append("fit") or fit(self, part))

    def run(**training: object) -> np.ndarray:
        done.clear()
        read = load_experiment(experiment(case, "local", training=training))
        local = LocalFits(read, ["g1", "g3"], lambda text: None)
        local.close()
        return local.found

    first = run()
    assert len(done) == 2
    np.testing.assert_array_equal(run(), first)
    assert not done
    np.testing.assert_array_equal(run(dropout=0.5, mapping="mlp", hidden=[3], pairs_per_update=2), first)
    assert not done, "keys of a network have no effect on them"
    other = run(loss={"nse": 0, "rmse_comb": 1.0})
    assert len(done) == 2 and (other != first).any(), "terms over all samples are those of the gauge"
    (case.parent / "local" / "local" / "0.npz").write_bytes(b"")
    assert np.array_equal(run(loss={"nse": 0, "rmse_comb": 1.0}), other) and len(done) == 1, "half a file is no fit"


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "said"), [
    ({"variants": {"a": {"training": {"gauges": ["g0"]}}}}, "variants.a has training.gauges, which is the same"),
    ({"variants": {"a": {"training": {"seed": 2}}}}, "variants.a has training.seed"),
    ({"variants": {"a": {"training": {"held_out_fold": 0}}}}, "variants.a has training.held_out_fold"),
    ({"variants": {"a": {"experiment": {"seeds": [2]}}}}, "variants.a has experiment"),
    ({"variants": {"a": {"training": "mlp"}}}, "variants.a.training is mlp; expected keys of a training"),
    ({"variants": {"a": {}, "b": {"training": {"cell_attributes": ["clay"]}}}}, "variant b: .* attribute 'clay'"),
    ({"variants": {"a": {}, "b": {"training": {"start_from": "no.safetensors"}}}}, "variant b: .*no such checkpoint"),
    ({"variants": {"a": {}, "b": {"training": {"frozen": ["pot"]}}}}, "variant b: frozen: there are no weights 'pot'"),
    ({"variants": {"a": {}, "b": {"training": {"starts": {"X1": 3.0}}}}}, "variant b: starts: 'X1' is not generated"),
    ({"training": {"gauges": ["g0", "g9"]}}, "training.gauges: the domain has no gauge 'g9'. Did you mean"),
    ({"test": ["2001-04-21T06:00", at(DAY, 70)]}, "experiment.test has 2001-04-21T06:00:00, within the step"),
    ({"seeds": [2**60]}, "seed is 1152921504606846976: Input should be less than"),
    ({"designs": ["folds"], "training": {"gauge_weights": {"g0": 1.0, "g1": 1.0, "g2": 2.0}}},
     "training.gauge_weights: gauge g3, which the split folds fold. fits, has none"),
    ({"designs": ["folds"], "training": {"gauges": ["g0"]}}, "folds leaves no gauge to fit"),
])
def test_what_is_wrong_with_one_is_said_before_any_is_trained(case, tmp_path, keys, said):
    path = experiment(case, "wrong", **{"output": str(tmp_path / "lab"), **keys})
    found = refused(path)
    assert re.search(said, found), found


def test_a_split_without_an_epoch_to_choose_is_refused(case, tmp_path):
    """Where only the gauges that it holds out were observed in the years that choose the epoch."""
    file = tmp_path / "observations.nc"
    shutil.copy(case.parent / "observations.nc", file)
    with netCDF4.Dataset(file, "a") as data:
        data["discharge"][40:50, 3] = np.nan
    path = experiment(
        case, "choice", run={"observations": str(file)}, designs=["temporal", "folds"], output=str(tmp_path / "lab"),
        training={"train": [at(DAY, 0), at(DAY, 40)], "validate_on": [at(DAY, 40), at(DAY, 50)]},
    )
    said = refused(path)
    assert "none of the 1 gauges that the split folds fold" in said and "in 2001-04-10 to 2001-04-20" in said


def test_errors_of_a_training_name_it(case, monkeypatch):
    job, = jobs_of(experiment(case, "named"))

    def fails(*arguments: object) -> float:
        raise ConfigError("the disk is full.")

    monkeypatch.setattr(module, "run_job", fails)
    with pytest.raises(ConfigError, match=r"base, temporal all, seed 1: the disk is full\."):
        run_jobs([job], 1, lambda text: None)
