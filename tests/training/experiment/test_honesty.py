"""Nothing that is tested is seen: other records where none may be looked at leave every training as it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import MappingProxyType

import netCDF4
import numpy as np
import pytest
import yaml
from cases import START, change_config, write_series
from click.testing import CliRunner
from training_cases import ALONE, at, change_training, train, weights_of, write_training_case

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.generator.checkpoint import load_checkpoint, save_checkpoint
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from cdlm_training import fits
from cdlm_training.cli import main
from cdlm_training.experiment.config import load_experiment
from cdlm_training.experiment.jobs import make_jobs, run_jobs, saw, usable_gauges
from cdlm_training.experiment.splits import make_splits
from cdlm_training.labels.store import Column, LabelSet, Sites, save_labels
from cdlm_training.labels.teach import make_lessons
from cdlm_training.loop import Trainer
from cdlm_training.seen import what_it_saw
from cdlm_training.terms import Pretraining

N_STEPS, TRAINED, CHOSEN = 70, 35, 50
LINEAR = MappingProxyType({
    "mapping": "linear", "cell_attributes": ["forest"], "reach_attributes": [], "pet_factor": False,
})
DESIGNS = ("temporal", "folds", "regions", "upstream", "downstream")
REGIONS = {"g0": "west", "g1": "west", "g2": "east", "g3": "east"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Trained on steps to 35, epochs chosen on those to 50, tested on the others."""
    return write_training_case(
        tmp_path_factory.mktemp("honest"), n_steps=N_STEPS, train=[at(DAY, 0), at(DAY, TRAINED)],
        validate_on=[at(DAY, TRAINED), at(DAY, CHOSEN)], epochs=2, updates=1, learning_rate=0.3, **LINEAR,
    )


def doctored(case: Path, gauges=(), *, test: bool = True, seen: bool = False) -> str:
    """Observations that are others at some gauges, and at all in the test period, or at one gauge before it."""
    path = case.parent / f"doctored_{'_'.join(gauges)}_{test}_{seen}.nc"
    shutil.copy(case.parent / "observations.nc", path)
    with netCDF4.Dataset(path, "a") as data:
        ids = list(data["gauge_id"][:])
        flow = np.ma.filled(data["discharge"][:], np.nan)
        season = 4.0 + np.sin(np.arange(N_STEPS) / 3.0)
        for gauge in gauges:
            flow[:, ids.index(gauge)] = 5.0 * season
        if test:
            flow[CHOSEN:] = season[CHOSEN:, None] * np.arange(1, 1 + flow.shape[1])
        if seen:
            flow[10:30, 0] *= 3.0
        data["discharge"][:] = flow
    return str(path)


def experiment(case: Path, name: str, observations: str | None = None, **keys) -> Path:
    """The configuration of an experiment in a folder of its own."""
    (case.parent / "regions.csv").write_text("gauge,region\n" + "".join(f"{g},{r}\n" for g, r in REGIONS.items()))
    content = {} if observations is None else {"observations": observations}
    return change_config(case, f"{name}.yaml", **content, experiment={
        "output": name, "test": [at(DAY, CHOSEN), at(DAY, N_STEPS)], "folds": 2, "regions": "regions.csv", **keys,
    })


def run_lab(case: Path, name: str, observations: str | None = None, only: str | None = None, **keys) -> Path:
    """Train what an experiment has, or only one of its splits; returns its folder."""
    read = load_experiment(experiment(case, name, observations, **keys))
    domain = read_domain(read.run.domain)
    splits = make_splits(domain, read.config, usable_gauges(read.run, read.training, domain.gauges.id)[0])
    jobs = make_jobs(read, domain, [split for split in splits if only in (None, split.name)])
    run_jobs(jobs, 1, lambda text: None)
    return case.parent / name


def trained(folder: Path, design: str, split: str, variant: str = "base") -> dict[str, np.ndarray]:
    return weights_of(folder / "runs" / variant / design / split / "seed1" / "trained.safetensors")


def splits(case: Path, design: str):
    read = load_experiment(experiment(case, "splits", designs=[design]))
    domain = read_domain(read.run.domain)
    return make_splits(domain, read.config, domain.gauges.id)


@pytest.fixture(scope="module")
def lab(case):
    return run_lab(case, "lab", designs=list(DESIGNS), baselines=["lumped"])


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_no_design_sees_what_it_holds_out(case, lab, design):
    """Records of held-out gauges, and of all in the test period, may be anything: weights and chosen epochs stay."""
    for split in splits(case, design):
        other = run_lab(case, f"lab_{design}_{split.name}", doctored(case, split.held_out), split.name,
                        designs=[design], baselines=["lumped"])
        for variant in ("base", "lumped"):
            clean, again = (trained(folder, design, split.name, variant) for folder in (lab, other))
            assert all(np.array_equal(clean[n], again[n]) for n in clean), (variant, split.name)
            epochs = [
                load_checkpoint(folder / "runs" / variant / design / split.name / "seed1" / "trained.safetensors")
                .record["epoch"] for folder in (lab, other)
            ]
            assert epochs[0] == epochs[1]


@pytest.mark.slow
def test_what_may_be_seen_matters(case, lab):
    """Other records of one gauge in the training period change the trainings that fit it, and no other."""
    sees = run_lab(case, "lab_seen", doctored(case, test=False, seen=True), designs=["folds"])
    for split in splits(case, "folds"):
        own = zip(*(trained(folder, "folds", split.name).values() for folder in (lab, sees)), strict=True)
        assert any((a != b).any() for a, b in own) is ("g0" in split.fitted)


@pytest.mark.slow
def test_the_weather_of_the_test_period_leaves_no_trace(case):
    """Neither scales of forcing nor the choice of an epoch look past the years that may be seen."""
    forcing = case.parent / "other_weather.nc"
    shutil.copy(case.parent / "forcing.nc", forcing)
    with netCDF4.Dataset(forcing, "a") as data:
        for name in ("precipitation", "potential_evapotranspiration", "air_temperature"):
            data[name][CHOSEN:] = 2.0 * np.asarray(data[name][CHOSEN:]) + 1.0
    # Without a warm-up: in a record of less than a year it would cycle through all of it.
    keys = {"epochs": 2, "pet_factor": True, "warm_up": 0, "output": "out/weather.safetensors"}
    clean = train(change_training(case, "weather.yaml", **keys))[0]
    other = train(change_config(change_training(case, "weather.yaml", **keys), "other.yaml", forcing=str(forcing)))[0]
    for (name, a), b in zip(clean.generator.named_parameters(), other.generator.parameters(), strict=True):
        assert (a == b).all(), name
    assert clean.spec.to_json() == other.spec.to_json()


def test_a_held_out_fold_chooses_no_epoch(case):
    """Of `held_out_fold` neither records nor scores count: weights, epoch and what is told are those of the others."""
    keys = {"folds": 2, "held_out_fold": 0, "output": "out/fold.safetensors", "select_by": "kge"}
    path = change_training(case, "fold.yaml", **keys)
    trainer, scores, _ = train(path)
    assert trainer.data.ids == ["g3"] and trainer.data.held_out == ["g0", "g1", "g2"]
    assert scores.kge == scores.gauges["g3"][1] == scores.median_kge
    assert scores.nse == scores.gauges["g3"][0]
    again = train(change_config(path, "fold_other.yaml", observations=doctored(case, ("g0", "g1", "g2"))))[0]
    assert [fit._asdict() for fit in again.fits] == [fit._asdict() for fit in trainer.fits]
    best = [weights_of(one.config.output) for one in (trainer, again)]
    assert all(np.array_equal(best[0][n], best[1][n]) for n in best[0])


@pytest.mark.slow
def test_fits_of_donors_see_neither_the_target_nor_its_test_period(case, monkeypatch):
    """The discharge that donors give at a gauge stays where its own record is another."""
    monkeypatch.setattr(fits, "ITERATIONS", 2)
    keys = {"output": "near", "test": [at(DAY, CHOSEN), at(DAY, N_STEPS)], "donors": 2, "similarity": ["forest"]}
    found = []
    for name, observations in (("near", None), ("near_other", doctored(case, ("g3",)))):
        content = {} if observations is None else {"observations": observations}
        path = change_config(case, f"{name}.yaml", **content, experiment={**keys, "output": name})
        to = case.parent / f"{name}_simulated.nc"
        made = CliRunner().invoke(main, ["similarity", str(path), "--mean", "simulations", "--to", str(to)])
        assert made.exit_code == 0, made.output
        run = load_config(path)
        found.append(read_observations(to, read_domain(run.domain).gauges.id, run.start, run.end, DAY)[1])
    np.testing.assert_array_equal(found[0][:, 3], found[1][:, 3])
    assert (found[0][:, 0] != found[1][:, 0]).any(), "g3 is a donor of g0, and its record matters there"


# ---- starts and labels that have seen ---------------------------------------------------------------------------


def start_of(case: Path, name: str, gauges, period) -> Path:
    """A checkpoint of the generator of the case that says it saw some gauges in a period."""
    trainer = Trainer(change_training(case, "plain.yaml", output="out/plain.safetensors"), ALONE)
    path = case.parent / name
    save_checkpoint(path, trainer.spec, trainer.generator.tensors(), {
        "gauges": list(gauges), "periods": {"train": [at(DAY, k) for k in period]}, "scores": {}, "fingerprints": {},
        "licence": "none", "command": "drawn",
    })
    return path


def refused(case: Path, training: dict, design: str = "folds", **keys) -> str:
    old = yaml.safe_load(case.read_text())["training"]
    path = change_config(case, "refused.yaml", training={**old, **training}, experiment={
        "output": "refused", "test": [at(DAY, CHOSEN), at(DAY, N_STEPS)], "folds": 2, "designs": [design], **keys,
    })
    result = CliRunner().invoke(main, ["experiment", str(path)])
    assert result.exit_code == 1 and not list((case.parent / "refused").rglob("trained.*")), result.output
    return " ".join(result.output.split())


def test_a_start_that_saw_a_held_out_gauge_is_refused(case):
    start = start_of(case, "seen.safetensors", ["g1"], (0, TRAINED))
    said = refused(case, {"start_from": str(start)})
    assert "variant base: training.start_from" in said and "was fitted to gauge g1" in said
    assert "the split folds fold" in said and "(1 of 3 such gauges)" in said
    said = refused(case, {}, variants={"a": {}, "b": {"training": {"start_from": str(start)}}})
    assert "variant b: training.start_from" in said


def test_every_split_may_start_from_a_checkpoint_of_its_own(case, tmp_path):
    """Design and split in the path; swapped, they are refused."""
    groups = {split.name: split.fitted for split in splits(case, "folds")}
    for swapped in (False, True):
        for name, other in zip(groups, reversed(groups), strict=True):
            start_of(case, f"folds_{name}.safetensors", groups[other if swapped else name], (0, TRAINED))
        start = str(case.parent / "{design}_{split}.safetensors")
        if swapped:
            assert "which the split folds fold0 holds out" in refused(case, {"start_from": start})
            continue
        training = {**yaml.safe_load(case.read_text())["training"], "start_from": start}
        read = load_experiment(change_config(case, "each.yaml", training=training, experiment={
            "output": str(tmp_path / "each"), "test": [at(DAY, CHOSEN), at(DAY, N_STEPS)], "designs": ["folds"],
            "folds": 2,
        }))
        for job in make_jobs(read, read_domain(read.run.domain), splits(case, "folds")):
            kept = yaml.safe_load((job.folder / "config.yaml").read_text())["training"]["start_from"]
            assert kept == str(case.parent / f"folds_{job.split.name}.safetensors")


def test_a_start_that_saw_the_test_period_is_refused(case):
    start = start_of(case, "late.safetensors", ["g3"], (20, CHOSEN + 1))
    said = refused(case, {"start_from": str(start)}, "temporal")
    assert "at gauge g3, and the test period is" in said and "leave start_from out" in said


def test_a_start_from_elsewhere_is_taken(case, tmp_path):
    """Gauges of another domain, and years that end where the test begins."""
    for name, gauges, period in (("far", ["x1"], (0, N_STEPS)), ("before", ["g0", "g3"], (0, CHOSEN))):
        start = start_of(case, f"{name}.safetensors", gauges, period)
        training = {**yaml.safe_load(case.read_text())["training"], "start_from": str(start)}
        read = load_experiment(change_config(case, "taken.yaml", training=training, experiment={
            "output": str(tmp_path / name), "test": [at(DAY, CHOSEN), at(DAY, N_STEPS)],
        }))
        domain = read_domain(read.run.domain)
        assert len(make_jobs(read, domain, make_splits(domain, read.config, domain.gauges.id))) == 1


def write_labels(case: Path, name: str, **record) -> Path:
    """Labels of all gauges of the case."""
    trainer = Trainer(change_training(case, "plain.yaml", output="out/plain.safetensors"), ALONE)
    targets = (*trainer.spec.cell.targets, *trainer.spec.reach.targets)
    columns = tuple(Column(t.name, "1", t.low, t.high, t.scale, t.name) for t in targets)
    values = np.repeat([[t.default] for t in targets], 4, axis=1) * np.array([0.9, 1.0, 1.1, 1.2])
    nothing = np.full(4, np.nan)
    skill = {"kge": np.full(4, 0.8), "kge_fitted": nothing, "n_values": nothing}
    made = LabelSet("gr4j", columns, None, values, np.full(values.shape, 0.5), skill, "drawn")
    place = np.arange(4.0)
    sites = Sites("gauge", ["g0", "g1", "g2", "g3"], 4 * place, 0 * place, 10 + place)
    save_labels(case.parent / name, sites, [made], {
        "snow": "none", "time_step": "86400", **record,
    })
    return case.parent / name


def test_labels_of_held_out_gauges_and_of_those_below_are_left_out(case, monkeypatch):
    """A label of a gauge is that of the area between it and the gauges above: it saw their records too."""
    domain = read_domain(load_config(case).domain)
    assert saw(domain, ["g3"]) == ["g3"] and saw(domain, ["g1"]) == ["g0", "g1"] and saw(domain, []) == []
    labels = write_labels(case, "labels.nc", period=[at(DAY, 0), at(DAY, CHOSEN)])
    old = yaml.safe_load(case.read_text())["training"]
    given = {"labels": str(labels), "folds": 2, "split": "folds", "leave_out": ["g2"]}
    read = load_experiment(change_config(case, "taught.yaml", training={**old, "pretrain": given}, experiment={
        "output": "taught", "test": [at(DAY, CHOSEN), at(DAY, N_STEPS)], "designs": ["temporal", "folds", "upstream"],
        "folds": 2,
    }))
    splits = make_splits(domain, read.config, domain.gauges.id)
    with pytest.raises(ValueError, match=r"variant base: the split folds fold\d: .* has 1 labels .*, expected 2"):
        make_jobs(read, domain, splits)  # of four gauges too few are left: said before anything is trained
    monkeypatch.setattr("cdlm_training.experiment.jobs.check_folds", lambda *words: None)
    left = {}
    for job in make_jobs(read, domain, splits):
        kept = yaml.safe_load((job.folder / "config.yaml").read_text())["training"]["pretrain"]
        left[job.split.design, job.split.name] = set(kept["leave_out"])
    assert left["temporal", "all"] == {"g2"} and left["upstream", "all"] == {"g0", "g1", "g2"}
    assert {frozenset(v) for k, v in left.items() if k[0] == "folds"} == {
        frozenset({"g0", "g1", "g2"}), frozenset({"g2", "g3"})
    }


def test_a_generator_is_not_taught_what_is_left_out(case):
    labels = write_labels(case, "labels.nc")
    trainer = Trainer(change_training(case, "plain.yaml", output="out/plain.safetensors"), ALONE)
    given = {"labels": labels, "folds": 2, "split": "folds", "weight_by": "equal"}

    def weights(held_out=(), **keys):
        found = make_lessons(Pretraining(**given, **keys), trainer.run, trainer.spec, trainer.data.domain, held_out)
        return found.cell.weight[:, 0].numpy(), found.fold

    whole, folds = weights()
    assert (whole > 0).all() and (folds >= 0).all()
    for left in (weights(leave_out=("g1",)), weights(held_out=("g1",))):
        assert (left[0] > 0).tolist() == [True, False, True, True] and left[1][1] == -1
    with pytest.raises(ValueError, match=r"leave_out: the domain has no gauge 'g9'\. Did you mean"):
        weights(leave_out=("g9",))


def test_a_training_that_holds_a_fold_out_leaves_its_labels_out(case):
    labels = write_labels(case, "labels.nc")
    keys = {"folds": 2, "held_out_fold": 1, "output": "out/taught.safetensors",
            "pretrain": {"labels": str(labels), "folds": 2, "split": "folds", "epochs": 2}}
    with pytest.raises(ValueError, match="lie in 1 groups of nested gauges, expected 2"):  # g3 was the other
        Trainer(change_training(case, "taught_fold.yaml", **keys), ALONE)
    blocks = {**keys["pretrain"], "split": "blocks"}
    with pytest.raises(ValueError, match="lie in 1 blocks"):  # nested gauges lie in one
        Trainer(change_training(case, "taught_fold.yaml", **{**keys, "pretrain": blocks}), ALONE)


def test_labels_of_the_test_period_are_refused(case):
    labels = write_labels(case, "late.nc", period=[at(DAY, 0), at(DAY, CHOSEN + 5)])
    given = {"labels": str(labels), "folds": 2, "split": "folds"}
    said = refused(case, {"pretrain": given}, "temporal")
    assert "variant base: training.pretrain" in said and "Make labels of earlier years" in said


def test_what_files_say_that_they_saw(case, tmp_path):
    start = start_of(case, "seen.safetensors", ["g1", "g2"], (0, 9))
    found = what_it_saw(start)
    assert found.gauges == {"g1", "g2"} and found.periods == ((at(DAY, 0), at(DAY, 9)),)
    with netCDF4.Dataset(tmp_path / "field.nc", "w") as data:
        data.setncatts({"gauges": '["a"]', "learned_from": '["b"]'})
        data.setncattr("periods", '{"train": ["2001-01-01", "2002-01-01"]}')
    found = what_it_saw(tmp_path / "field.nc")
    assert found.gauges == {"a", "b"} and found.periods == (("2001-01-01", "2002-01-01"),)
    with pytest.raises(ConfigError, match="was fitted to gauge b, which fold 1 holds out"):
        found.check_gauges("parameters", ["c", "b"], "fold 1", "Leave it out.")
    write_series(tmp_path / "bare.nc", "gauge", np.array(["a"], object), {"discharge": (np.ones((3, 1)), "m3 s-1")},
                 START, DAY)
    assert not what_it_saw(tmp_path / "bare.nc").gauges
    with pytest.raises(ValueError, match="no such checkpoint"):
        what_it_saw(tmp_path / "none.safetensors")
