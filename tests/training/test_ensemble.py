"""Ensembles: one file, run as its members and their mean, the trainer's own; what their spread is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import change_config
from click.testing import CliRunner
from training_cases import at, change_training, train, weights_of, write_training_case

from bmi_cdlm import BmiCdlm
from bmi_cdlm.cli import main as cdlm
from bmi_cdlm.doctor import examine
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.evaluate.evaluation import evaluate
from bmi_cdlm.files.output import read_output
from bmi_cdlm.generator.checkpoint import load_checkpoint, load_members, save_ensemble
from bmi_cdlm.names.errors import CheckpointError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.ensemble import member_path
from cdlm_training.cli import main as cdlm_train

SEEDS = (1, 2, 3)


def call(command, *words: object) -> str:
    result = CliRunner().invoke(command, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three trainings of a case whose runs start as they do, and their ensemble."""
    case = write_training_case(tmp_path_factory.mktemp("ensemble"), learn_start=True, warm_up=None, epochs=1)
    trainers = [
        train(change_training(case, f"{seed}.yaml", seed=seed, output=f"out/{seed}.safetensors"))[0] for seed in SEEDS
    ]
    path = case.parent / "ensemble.safetensors"
    call(cdlm_train, "ensemble", path, *(t.config.output for t in trainers))
    run = change_config(case, "run.yaml", parameters=str(path), output="run.nc", training=None)
    said = call(cdlm, "run", run, "--quiet")
    assert "the mean of 3 members, and each beside it, to run.member3.nc" in said
    return run, trainers, path


def test_the_file_holds_every_member_whole(made, tmp_path):
    _, trainers, path = made
    for k, trainer in enumerate(trainers, 1):
        member, alone = load_checkpoint(path, k), load_checkpoint(trainer.config.output)
        assert (member.spec, dict(member.record)) == (alone.spec, dict(alone.record))
        assert member.tensors.keys() == alone.tensors.keys()
        assert all(np.array_equal(member.tensors[n], alone.tensors[n]) for n in alone.tensors)
    with pytest.raises(CheckpointError, match=r"is an ensemble of 3 members.* member: 1 to 3"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="an ensemble of 3 members, and member is 4"):
        load_checkpoint(path, 4)
    with pytest.raises(CheckpointError, match="is no ensemble, and member is 1"):
        load_checkpoint(trainers[0].config.output, 1)
    spoilt = tmp_path / "spoilt.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    spoilt.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its sha256"):
        load_members(spoilt)
    with pytest.raises(CheckpointError, match="has 1 members, expected two or more"):
        save_ensemble(tmp_path / "one.safetensors", load_members(path)[:1])
    with pytest.raises(CheckpointError, match="have the same weights, expected members that differ"):
        save_ensemble(tmp_path / "twice.safetensors", [*load_members(path), load_members(path)[0]])
    assert not (tmp_path / "twice.safetensors").exists()


def test_the_mean_of_a_run_is_that_of_the_trainers(made):
    run, trainers, _ = made
    config = load_config(run)
    _, _, mean = read_output(config.output, "discharge")
    total = np.zeros_like(mean)
    for trainer in trainers:
        trainer.generator.load(weights_of(trainer.config.output))
        window = trainer.data.window(0, config.n_steps)
        with torch.no_grad():
            for part in trainer.parts:
                total[:, trainer.data.gauges[part.gauges]] += trainer.chain(part, window).discharge.numpy()
    np.testing.assert_allclose(mean, total / 3, rtol=1e-9)
    members = [read_output(member_path(config.output, k), "discharge")[2] for k in (1, 2, 3)]
    np.testing.assert_array_equal(mean, (members[0] + members[1] + members[2]) / 3)
    assert not np.array_equal(members[0], members[1])


def test_one_member_runs_like_any_checkpoint(made, tmp_path):
    run, trainers, _ = made
    second = change_config(run, "second.yaml", member=2, output=str(tmp_path / "second.nc"))
    alone = change_config(run, "alone.yaml", parameters=str(trainers[1].config.output), output=str(tmp_path / "a.nc"))
    for config in (second, alone):
        call(cdlm, "run", config, "--quiet")
    np.testing.assert_array_equal(
        read_output(tmp_path / "second.nc", "discharge")[2], read_output(tmp_path / "a.nc", "discharge")[2]
    )
    component = BmiCdlm()
    with pytest.raises(CheckpointError, match="Say which with member"):
        component.initialize(str(run))
    component.initialize(str(second))
    component.update()
    component.finalize()
    found = {(one.level, one.subject): one.text for one in examine(run)}
    assert "in each of 3 members" in found["ok", "time"], found
    assert not [key for key in found if key[0] == "fail"] and ("note", "initial state") not in found


def test_an_ensemble_goes_on_from_the_states_of_its_members(made, tmp_path):
    run, _, _ = made
    first = change_config(run, "first.yaml", end=at(DAY, 30), restart=str(tmp_path / "state.nc"),
                          output=str(tmp_path / "first.nc"))
    then = change_config(run, "then.yaml", start=at(DAY, 30), initial_state=str(tmp_path / "state.nc"),
                         output=str(tmp_path / "then.nc"))
    assert [one.text for one in examine(then) if one.level == "fail"] == [
        f"{tmp_path / 'state.nc'}: there is no such file. Check the path in the configuration, or make the file first."
    ]
    call(cdlm, "run", first, "--quiet")
    assert not [one for one in examine(then) if one.level == "fail"]
    call(cdlm, "run", then, "--quiet")
    for name in ("then.nc", "then.member2.nc"):
        whole = load_config(run).output.with_name(name.replace("then", "run"))
        np.testing.assert_array_equal(
            read_output(tmp_path / name, "discharge")[2], read_output(whole, "discharge")[2][30:]
        )


def test_no_member_runs_where_another_does_not_fit(made, tmp_path):
    run, _, path = made
    one = load_members(path)[0]
    other = one._replace(spec=replace(one.spec, pet=replace(one.spec.pet, kind="oudin")))
    save_ensemble(tmp_path / "mixed.safetensors", [one, other])
    config = change_config(run, "mixed.yaml", parameters=str(tmp_path / "mixed.safetensors"), pet_kind="hargreaves",
                           output=str(tmp_path / "mixed.nc"))
    result = CliRunner().invoke(cdlm, ["run", str(config), "--quiet"])
    assert "member 2: corrects the potential evapotranspiration 'oudin'" in result.output.replace("\n", " ")
    assert [p.name for p in tmp_path.iterdir()] == ["mixed.safetensors"]


def test_members_of_ensembles_are_joined_and_started_from(made, tmp_path):
    _, trainers, path = made
    tuned = change_training(change_config(trainers[0].path, "tuned.yaml", member=2), "tuned.yaml", start_from=str(path),
                            output=str(tmp_path / "tuned.safetensors"), learning_rate=1e-12)
    train(tuned)
    found, expected = weights_of(tmp_path / "tuned.safetensors"), load_checkpoint(path, 2).tensors
    assert all(np.allclose(found[n], expected[n], atol=1e-9) for n in expected)
    said = call(cdlm_train, "ensemble", tmp_path / "all.safetensors", path, tmp_path / "tuned.safetensors")
    assert "an ensemble of 4 members" in said and len(load_members(tmp_path / "all.safetensors")) == 4


def test_evaluate_tells_what_the_spread_is_worth(made):
    run, _, _ = made
    config = load_config(run)
    result = evaluate(config)[1]
    members = np.stack([read_output(member_path(config.output, k), "discharge")[2][:, 1] for k in (1, 2, 3)])
    valid = ~np.isnan(result.observed)
    x, o = members[:, valid], result.observed[valid]
    pairs = np.abs(x[:, None] - x[None]).mean(axis=(0, 1))
    assert result.scores["crps"] == pytest.approx((np.abs(x - o).mean(axis=0) - pairs / 2).mean(), rel=1e-12)
    inside = (x.min(axis=0) <= o) & (o <= x.max(axis=0))
    assert result.scores["coverage"] == pytest.approx(inside.mean(), rel=1e-14)
    assert result.scores["coverage_expected"] == 0.5
    assert result.scores["mae"] == pytest.approx(np.abs(x.mean(axis=0) - o).mean(), rel=1e-12)
    assert "CRPS" in call(cdlm, "evaluate", run, "--no-plots", "--by", "month")


def test_the_ranked_probability_score_by_hand():
    found = scores(np.array([2.0, 2.0]), np.array([2.0, 5.0]), members=np.array([[3.0, 1.0], [1.0, 3.0]]))
    assert found["crps"] == pytest.approx((0.5 + 2.5) / 2, rel=1e-14)  # 1 - 1/2 and 3 - 1/2
    assert (found["coverage"], found["mae"]) == (0.5, 1.5)
    single = scores(np.array([2.0]), np.array([5.0]), members=np.array([[2.0]]))
    assert single["crps"] == single["mae"] == 3.0


@pytest.mark.slow
def test_a_killed_ensemble_goes_on(made, tmp_path: Path, monkeypatch):
    from bmi_cdlm.run.simulation import Simulation

    run, _, _ = made
    config = change_config(run, "killed.yaml", output=str(tmp_path / "run.nc"), restart=str(tmp_path / "state.nc"),
                           restart_every="10 d")
    real, seen = Simulation.advance, []

    def die(self, *words, **keys):
        seen.append(self.config.member)
        if seen.count(2) > 3:
            raise KeyboardInterrupt
        return real(self, *words, **keys)

    monkeypatch.setattr(Simulation, "advance", die)
    assert CliRunner().invoke(cdlm, ["run", str(config), "--quiet"]).exit_code != 0
    monkeypatch.setattr(Simulation, "advance", real)
    call(cdlm, "run", config, "--quiet", "--resume")
    np.testing.assert_array_equal(
        read_output(tmp_path / "run.nc", "discharge")[2], read_output(load_config(run).output, "discharge")[2]
    )
