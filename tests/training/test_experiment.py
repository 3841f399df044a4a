"""Experiments: splits that leak nothing, variants, seeds, baselines, what is done once, and the table."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from cases import START, change_config, write_series
from click.testing import CliRunner
from page_cases import decode, read_page
from training_cases import at, weights_of, write_training_case

from bmi_cdlm.domain.basins import basin_means, nested
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from cdlm_training.cli import main
from cdlm_training.experiment.baselines import choose_donors, climatology, distances
from cdlm_training.experiment.config import load_experiment
from cdlm_training.experiment.splits import make_splits

N_STEPS = 70
EXPERIMENT = {"output": "lab", "test": [at(DAY, 50), at(DAY, N_STEPS)], "designs": ["temporal", "folds"], "folds": 2}
LINEAR = {"mapping": "linear", "cell_attributes": ["forest"], "reach_attributes": [], "pet_factor": False}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(
        tmp_path_factory.mktemp("lab"), n_steps=N_STEPS, train=[at(DAY, 0), at(DAY, 50)], epochs=1, updates=1, **LINEAR,
    )


def experiment(case: Path, name: str, **keys) -> Path:
    return change_config(case, name, experiment={**EXPERIMENT, **keys})


def call(*words: object) -> str:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    return result.output


def splits_of(path: Path):
    read = load_experiment(path)
    domain = read_domain(read.run.domain)
    return {(s.design, s.name): s for s in make_splits(domain, read.config, domain.gauges.id)}


def test_splits_hold_out_what_they_say(case, tmp_path):
    (tmp_path / "regions.csv").write_text("gauge,region\ng0,west\ng1,west\ng2,east\ng3,east\n")
    found = splits_of(experiment(
        case, "splits.yaml", designs=["temporal", "folds", "regions", "upstream", "downstream"],
        regions=str(tmp_path / "regions.csv"),
    ))
    assert found["temporal", "all"][2:] == (("g0", "g1", "g2", "g3"), ())
    folds = {found["folds", f"fold{k}"].held_out for k in range(2)}
    assert folds == {("g0", "g1", "g2"), ("g3",)}, "nested gauges share a fold"
    assert found["regions", "east"].held_out == ("g2", "g3") and found["regions", "east"].fitted == ("g0", "g1")
    assert found["upstream", "all"].held_out == ("g1", "g2"), "g0 and g3 are the lowest"
    assert "g0" in found["downstream", "all"].held_out and "g3" not in found["downstream", "all"].held_out


@pytest.fixture(scope="module")
def done(case):
    path = experiment(
        case, "lab.yaml", seeds=[1, 2], baselines=["climatology"],
        variants={"base": {}, "one": {"training": {"mapping": "uniform", "cell_attributes": []}}},
        ensembles={"both": ["base", "one"]},
    )
    return path, call("experiment", path)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((path.parent / "lab" / "scores.csv").read_text().splitlines()))


def test_every_training_is_there_and_scored(done):
    path, said = done
    folder = path.parent / "lab"
    assert len(list(folder.rglob("trained.safetensors"))) == 3 * 2 * 2
    for text in (
        "## temporal, test period, gauges that were fitted", "## folds, test period, gauges that no training saw",
        "base, mean of 2 seeds", "base, ensemble of 2", "climatology", "one, ensemble of 2",
        "base, ensemble of 2: CRPS ", "both, ensemble of 4",
        "within its members, expected 33 %",
    ):
        assert text in said and text in (folder / "results.md").read_text()
    config = load_config(path)
    ids = read_domain(config.domain).gauges.id
    observed = read_observations(config.observations, ids, config.start, config.end, DAY)[1][50:]
    runs = [folder / "runs" / "base" / "folds" / "fold0" / f"seed{seed}" / "discharge.nc" for seed in (1, 2)]
    each = np.stack([read_output(run, "discharge")[2][50:] for run in runs])
    held_out = splits_of(path)["folds", "fold0"].held_out
    rows = {(r["of"], r["gauge"]): r for r in rows_of(path) if r["design"] == "folds" and r["period"] == "test"
            and r["role"] == "unseen" and r["model"] == "base"}
    assert {g for _, g in rows} == set(ids)
    for gauge in held_out:
        g = ids.index(gauge)
        for k, of in enumerate(("seed 1", "seed 2")):
            expected = scores(each[k, :, g], observed[:, g])["nse"]
            assert float(rows[of, gauge]["nse"]) == pytest.approx(expected, rel=1e-7)
        mean = rows["ensemble of 2", gauge]
        assert float(mean["nse"]) == pytest.approx(scores(each[:, :, g].mean(axis=0), observed[:, g])["nse"], rel=1e-7)
        assert float(mean["coverage_expected"]) == pytest.approx(1 / 3) and mean["crps"]
    _, all_ids, whole = read_output(folder / "discharge_base_folds.nc", "discharge")
    assert all_ids == ids
    np.testing.assert_array_equal(whole[50:, ids.index(held_out[0])], each[:, :, ids.index(held_out[0])].mean(axis=0))


def test_an_ensemble_of_variants_is_the_mean_of_all_their_trainings(done):
    path, _ = done
    folder, config = path.parent / "lab", load_config(path)
    ids = read_domain(config.domain).gauges.id
    each = [
        read_output(folder / "runs" / variant / "temporal" / "all" / f"seed{seed}" / "discharge.nc", "discharge")[2]
        for variant in ("base", "one") for seed in (1, 2)
    ]
    _, _, whole = read_output(folder / "discharge_both_temporal.nc", "discharge")
    np.testing.assert_array_equal(whole, np.stack(each).mean(axis=0))
    assert not np.array_equal(whole, np.stack(each[:2]).mean(axis=0)), "base alone"
    observed = read_observations(config.observations, ids, config.start, config.end, DAY)[1]
    row = next(r for r in rows_of(path) if (r["design"], r["period"], r["role"], r["model"], r["gauge"]) == (
        "temporal", "test", "fitted", "both", "g0"
    ))
    assert row["of"] == "ensemble of 4"
    g = ids.index("g0")
    assert float(row["nse"]) == pytest.approx(scores(whole[50:, g], observed[50:, g])["nse"], rel=1e-7)


def test_the_report_shows_the_ensemble_as_the_forecast(done):
    """Its hydrographs are the mean of all members, within their range."""
    path, _ = done
    folder, config = path.parent / "lab", load_config(path)
    ids = read_domain(config.domain).gauges.id
    data = read_page(folder / "report.html")[1]
    nse = {r["gauge"]: float(r["nse"]) for r in rows_of(path) if (r["design"], r["period"], r["role"], r["model"]) == (
        "folds", "test", "unseen", "both"
    )}
    best = max(nse, key=lambda gauge: nse[gauge])
    fold = next(s.name for s in splits_of(path).values() if s.design == "folds" and best in s.held_out)
    each = np.stack([
        read_output(folder / "runs" / variant / "folds" / fold / f"seed{seed}" / "discharge.nc", "discharge")[2]
        for variant in ("base", "one") for seed in (1, 2)
    ])[:, 50:, ids.index(best)]
    chart = data["hydrograph_Best"]
    assert f"({best})" in chart["title"]
    np.testing.assert_array_equal(decode(chart["curves"][1]["y"]), each.mean(axis=0).astype(np.float32))
    for edge, expected in zip(chart["band"], (each.min(axis=0), each.max(axis=0)), strict=True):
        np.testing.assert_array_equal(decode(edge), expected.astype(np.float32))
    assert "both, ensemble of 4, folds, test period" in (folder / "report.html").read_text()


def test_what_is_done_is_not_done_again(done):
    path, _ = done
    folder = path.parent / "lab"
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("trained.safetensors")}
    lost = folder / "runs" / "one" / "folds" / "fold1" / "seed2"
    before = weights_of(lost / "trained.safetensors")
    (lost / "done.json").unlink()
    table = (folder / "results.md").read_text()
    said = call("experiment", path)
    assert "11 of 12 trainings were done before" in said and "1 of 1: one, folds fold1, seed 2: NSE" in said
    assert (folder / "results.md").read_text() == table
    changed = {p.parent for p in folder.rglob("trained.safetensors") if p.stat().st_mtime_ns != stamps[p]}
    assert changed <= {lost}
    after = weights_of(lost / "trained.safetensors")
    assert all(np.array_equal(before[n], after[n]) for n in before)


def test_a_held_out_gauge_and_the_test_period_leave_no_trace(done, tmp_path):
    """The same experiment with other observations where none may be looked at comes to the same weights."""
    path, _ = done
    config = load_config(path)
    with netCDF4.Dataset(config.observations) as dataset:
        ids, discharge = list(dataset["gauge_id"][:]), np.ma.filled(dataset["discharge"][:], np.nan)
    for k in (0, 1):
        split = splits_of(path)["folds", f"fold{k}"]
        other = discharge.copy()
        other[:, [ids.index(g) for g in split.held_out]] *= 7.0
        other[50:] *= 3.0
        file = tmp_path / f"observations{k}.nc"
        write_series(file, "gauge", np.array(ids, object), {"discharge": (other, "m3 s-1")}, START, DAY)
        again = experiment(case_of(path), f"leak{k}.yaml", output=str(tmp_path / f"lab{k}"), designs=["folds"])
        call("experiment", change_config(again, again.name, observations=str(file)))
        where = Path("runs", "base", "folds", split.name, "seed1", "trained.safetensors")
        clean, doctored = weights_of(path.parent / "lab" / where), weights_of(tmp_path / f"lab{k}" / where)
        assert all(np.array_equal(clean[n], doctored[n]) for n in clean)
        touched = Path("runs", "base", "folds", f"fold{1 - k}", "seed1", "trained.safetensors")
        assert any(
            not np.array_equal(a, b) for a, b in zip(
                weights_of(path.parent / "lab" / touched).values(),
                weights_of(tmp_path / f"lab{k}" / touched).values(), strict=True,
            )
        ), "where they may be looked at they matter"


def case_of(path: Path) -> Path:
    return path.with_name("case.yaml")


@pytest.mark.slow
def test_two_experiments_in_one_folder_are_refused(done):
    path, _ = done
    with held(path.parent / "lab"):
        result = CliRunner().invoke(main, ["experiment", str(path)])
        assert result.exit_code == 1 and "another `cdlm-train experiment` is at work there" in " ".join(
            result.output.split()
        )
    assert "Experiment lab" in call("experiment", path), "a process that died holds nothing"


@pytest.mark.slow
def test_a_training_that_outlived_its_experiment_is_not_trained_beside(done):
    path, _ = done
    folder = path.parent / "lab" / "runs" / "one" / "folds" / "fold0" / "seed2"
    (folder / "done.json").unlink()
    weights = (folder / "trained.safetensors").read_bytes()
    with held(folder):
        result = CliRunner().invoke(main, ["experiment", str(path)])
        said = " ".join(result.output.split())
        assert result.exit_code == 1 and "one, folds fold0, seed 2: " in said
        assert "a process of one that was killed" in said
        assert not (folder / "done.json").exists() and (folder / "trained.safetensors").read_bytes() == weights
    assert "11 of 12 trainings were done before" in call("experiment", path)


@contextmanager
def held(folder: Path):
    """Another process holds a folder, and is killed."""
    code = (
        "import sys; from pathlib import Path; from cdlm_training.experiment.alone import alone_in\n"
        "with alone_in(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"in\n"
        yield
        other.kill()


def test_several_processes_come_to_the_same(done, tmp_path):
    path, _ = done
    again = experiment(case_of(path), "many.yaml", output=str(tmp_path / "lab"), processes=2, designs=["folds"])
    call("experiment", again)
    where = Path("runs", "base", "folds", "fold1", "seed1", "trained.safetensors")
    one, other = weights_of(path.parent / "lab" / where), weights_of(tmp_path / "lab" / where)
    assert all(np.array_equal(one[n], other[n]) for n in one)


@pytest.mark.slow
def test_donors_and_other_models(case, tmp_path):
    config = load_config(case)
    ids = read_domain(config.domain).gauges.id
    observed = read_observations(config.observations, ids, config.start, config.end, DAY)[1]
    write_series(tmp_path / "twice.nc", "gauge", np.array(ids, object), {"discharge": (2 * observed, "m3 s-1")}, START,
                 DAY)
    path = experiment(
        case, "donors.yaml", output=str(tmp_path / "lab"), designs=["folds"],
        baselines=["nearest", "similar", "lumped"],
        donors=2, against={"twice": str(tmp_path / "twice.nc")}, similarity=["forest", "elevation"],
    )
    said = call("experiment", path)
    rows = list(csv.DictReader((tmp_path / "lab" / "scores.csv").read_text().splitlines()))
    found = {(r["model"], r["of"], r["role"]) for r in rows}
    for model in ("nearest donors", "similar donors"):
        for of in ("mean simulation", "mean parameters"):
            assert (model, of, "unseen") in found and (model, of, "fitted") not in found
    assert ("lumped", "seed 1", "unseen") in found
    assert ("each gauge by itself", "", "fitted") in found and "fitted to gauge g3 by itself, 4 of 4" in said
    twice = [r for r in rows if r["model"] == "twice"]
    assert twice and {float(r["kge_beta"]) for r in twice} == {2.0}
    local = [float(r["nse"]) for r in rows if r["model"] == "each gauge by itself" and r["period"] == "train"]
    base = [float(r["nse"]) for r in rows if r["model"] == "base" and r["period"] == "train" and r["role"] == "fitted"]
    assert np.median(local) > np.median(base), "a fit to one gauge beats one step of a regional one"
    stamps = [p.stat().st_mtime_ns for p in sorted((tmp_path / "lab" / "local").glob("*.npz"))]
    call("experiment", path)
    assert [p.stat().st_mtime_ns for p in sorted((tmp_path / "lab" / "local").glob("*.npz"))] == stamps


def test_validation_by_scenarios_is_the_experiment(done):
    """Trainings that were done are not done again; medians are those of the experiment's own scores."""
    path, _ = done
    said = call("validate", path, "--design", "spatio-temporal", "--design", "temporal", "--design", "spatial")
    assert re.search(r"(\d+) of \1 trainings were done before", said)
    folder = load_experiment(path).config.output
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    table = [line for line in (folder / "validation.md").read_text().splitlines() if line.startswith("|")][2:]
    for scenario, design, period, role in (
        ("spatio-temporal", "folds", "test", "unseen"), ("temporal", "temporal", "test", "fitted"),
        ("spatial", "folds", "train", "unseen"),
    ):
        own = [r for r in rows if (r["design"], r["period"], r["role"], r["model"]) == (design, period, role, "base")]
        gauges = {r["gauge"] for r in own}
        means = [
            np.mean([float(r["nse"]) for r in own if r["gauge"] == g and r["of"].startswith("seed")]) for g in gauges
        ]
        line = next(one for one in table if one.startswith(f"| {scenario} (") and "| base, mean of 2 seeds |" in one)
        assert f"| {len(gauges)} | {np.median(means):.3f} [" in line


def test_donors_are_near_and_never_nested(case):
    domain = read_domain(load_config(case).domain)
    close = nested(domain)
    names = {g: k for k, g in enumerate(domain.gauges.id)}
    assert close[names["g0"], names["g1"]] and close[names["g2"], names["g0"]] and not close[names["g0"], names["g3"]]
    assert close.diagonal().all() and (close == close.T).all()
    apart = np.array([[0.0, 1, 2, 9], [1, 0, 3, 5], [2, 3, 0, 4], [9, 5, 4, 0]])
    assert choose_donors(domain, apart, "g3", ["g0", "g1", "g2"], 2) == ["g2", "g1"]
    assert choose_donors(domain, apart, "g0", ["g1", "g2", "g3"], 2) == ["g3"]
    lat, lon = np.radians(basin_means(domain, np.stack([domain.cells.lat, domain.cells.lon], 1))).T
    angle = math.acos(
        math.sin(lat[0]) * math.sin(lat[3]) + math.cos(lat[0]) * math.cos(lat[3]) * math.cos(lon[0] - lon[3])
    )
    assert distances(domain, load_config(case).domain, None)[0, 3] == pytest.approx(6371.0 * angle, rel=1e-6)


def test_climatology_is_the_mean_about_the_calendar_day():
    starts = np.arange(np.datetime64("2001-01-01"), np.datetime64("2004-01-01"))
    flow = np.full((starts.size, 1), np.nan)
    flow[100 - 15], flow[365 + 100 + 15], flow[2 * 365 + 100] = 3.0, 5.0, 1000.0
    found = climatology(flow, starts, 0, 730)  # the third year is not looked at
    assert found[2 * 365 + 100] == found[100] == 4.0
    assert found[100 - 16] == 3.0 and found[100 + 16] == 5.0 and np.isnan(found[100 + 31])


@pytest.mark.parametrize(("keys", "message"), [
    ({"test": [at(DAY, 40), at(DAY, 60)]}, "expected periods that do not overlap"),
    ({"test": [at(DAY, 60), at(DAY, 90)]}, "experiment.test is .* expected within"),
    ({"designs": ["regions"]}, "expected a table of them in 'regions'"),
    ({"desings": ["folds"]}, "Did you mean 'designs'"),
    ({"variants": {"lumped": {}}, "baselines": ["lumped"]}, "names two of variants, ensembles, baselines and against"),
    ({"variants": {"lumped": {"training": {"epochs": 3}}}}, "'lumped' is the name of a baseline, with keys"),
    ({"variants": {"..": {}}}, r"variants: '\.\.' is to name a file or folder; .* not dots alone"),
    ({"ensembles": {".": ["base"]}}, r"ensembles: '\.' is to name a file or folder; .* not dots alone"),
    ({"ensembles": {"base": ["base", "base"]}}, "'base' names two of variants, ensembles"),
    ({"ensembles": {"all": ["base", "bsae"]}}, "ensembles.all names 'bsae', which is no variant. Did you mean"),
    ({"ensembles": {"all": ["base", "base"]}}, "ensembles.all names a variant twice"),
    ({"ensembles": {"all": ["base"]}}, "ensembles.all has 1 of the variants, expected two or more"),
    ({"ensembles": {"a/b": ["base"]}}, "ensembles: 'a/b' is to name a file or folder"),
    ({"variants": {"a": {"training": {"epoch": 3}}}}, "variant a: .* Did you mean 'epochs'"),
    ({"variants": {"a": {"training": {"train": [at(DAY, 0), at(DAY, 60)]}}}}, "variant a: .* overlaps with"),
    ({"variants": {"a": {"start": at(DAY, 1)}}}, "variant a: start is .* expected that of the experiment"),
    ({"baselines": ["similar"], "similarity": ["clay"]}, "no cell attribute 'clay'"),
    ({"folds": 3}, "Ask for fewer folds"), ({"against": {"x": "none.nc"}}, "there is no such file"),
])
def test_what_is_wrong_is_said_before_anything_is_trained(case, tmp_path, keys, message):
    path = experiment(case, "wrong.yaml", **{"output": str(tmp_path / "lab"), **keys})
    result = CliRunner().invoke(main, ["experiment", str(path)])
    assert result.exit_code == 1 and result.output.startswith("Error: ")
    assert not list(tmp_path.rglob("*.safetensors"))
    assert re.search(message, result.output.replace("\n", " ")), result.output


def test_several_experiments_are_read_before_the_first_begins(case, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        "cdlm_training.experiment.run.run_experiment",
        lambda path, tell, part: begun.append(path) or f"table of {path.stem}",
    )
    paths = [experiment(case, f"{n}.yaml", output=str(tmp_path / n)) for n in ("first", "second")]
    wrong = experiment(case, "third.yaml", output=str(tmp_path / "third"), unheard=1)
    refused = CliRunner().invoke(main, ["experiment", *map(str, paths), str(wrong)])
    assert refused.exit_code == 1 and "unheard" in refused.output and not begun
    said = call("experiment", *paths)
    assert begun == paths and said.index("table of first") < said.index("table of second")


def test_a_part_of_an_experiment_is_what_was_asked_for(done, tmp_path):
    """Nothing is trained again, and table, discharge and report are of the part, which they say."""
    shutil.copytree(done[0].parent / "lab", tmp_path / "lab")
    (tmp_path / "lab" / "discharge_base_temporal.nc").unlink()
    path = change_config(done[0], "part.yaml", experiment={
        **yaml.safe_load(done[0].read_text())["experiment"], "output": str(tmp_path / "lab"),
    })
    said = " ".join(call("experiment", path, "--design", "folds", "--seed", 2, "--variant", "one").split())
    assert "2 of 2 trainings were done before" in said
    assert (
        "A part of the experiment of the file: designs folds of temporal, folds; seeds 2 of 1, 2; variants one of "
        "base, one; not the ensembles both." in said
    )
    rows = list(csv.DictReader((tmp_path / "lab" / "scores.csv").read_text().splitlines()))
    assert {(r["design"], r["model"]) for r in rows} == {("folds", "one"), ("folds", "climatology")}
    assert not (tmp_path / "lab" / "discharge_base_temporal.nc").exists()
    manifest = json.loads((tmp_path / "lab" / "experiment.json").read_text())
    assert manifest["variants"] == ["one"] and manifest["seeds"] == [2] and "A part" in manifest["notes"][1]
    assert "A part of the experiment" in (tmp_path / "lab" / "report.html").read_text()
    whole = call("experiment", path)
    assert "12 of 12 trainings were done before" in whole and "A part" not in whole and "both, ensemble of 4" in whole


def test_held_out_gauges_stand_beside_where_they_were_fitted(done):
    said = done[1]
    assert "## held out and fitted, test period, gauge by gauge" in said
    assert "| folds, all | base, ensemble of 2 | 4 |" in said and "folds, all" in (
        done[0].parent / "lab" / "report.html"
    ).read_text()


@pytest.mark.parametrize(("words", "message"), [
    (["--design", "fold"], "experiment.designs has no 'fold'. Did you mean 'folds'? Expected one of: temporal, folds."),
    (["--seed", "3"], "experiment.seeds has no '3'. Expected one of: 1."),
    (["--variant", "bsae"], "experiment.variants has no 'bsae'. Did you mean 'base'? Expected one of: base."),
])
def test_a_part_that_is_not_there_is_told_before_anything_is_trained(case, tmp_path, words, message):
    first = experiment(case, "a.yaml", output=str(tmp_path / "lab"), seeds=[1, 3])
    path = experiment(case, "b.yaml", output=str(tmp_path / "other"))
    result = CliRunner().invoke(main, ["experiment", str(first), str(path), *words])
    assert result.exit_code == 1 and message in " ".join(result.output.split())
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_file_without_an_experiment(case):
    result = CliRunner().invoke(main, ["experiment", str(case)])
    assert result.exit_code == 1 and "key 'experiment' is missing" in result.output
    assert "experiment" not in yaml.safe_load(case.read_text())


def test_dates_of_an_experiment_are_those_of_its_calendar(case, tmp_path):
    """Split, trained and written in a calendar of 30 days a month."""
    old = yaml.safe_load(case.read_text())
    for name in ("forcing", "observations"):
        (tmp_path / f"{name}.nc").write_bytes((case.parent / f"{name}.nc").read_bytes())
        with netCDF4.Dataset(tmp_path / f"{name}.nc", "a") as dataset:
            dataset["time"][:] = DAY * np.arange(N_STEPS)
            dataset["time"].setncatts({"units": "seconds since 2001-02-01", "calendar": "360_day"})
    path = change_config(
        case, "thirty.yaml", calendar="360_day", start="2001-02-01", end="2001-04-11",
        forcing=str(tmp_path / "forcing.nc"), observations=str(tmp_path / "observations.nc"),
        training={**old["training"], "train": ["2001-02-01", "2001-03-21"]},
        experiment={"output": str(tmp_path / "lab"), "test": ["2001-03-21", "2001-04-11"]},
    )
    assert "Trained on 2001-02-01 to 2001-03-21" in call("experiment", path)
    starts = read_output(tmp_path / "lab" / "discharge_base_temporal.nc", "discharge")[0]
    assert date_text(starts[29])[:10] == "2001-02-30"
    early = change_config(path, "early.yaml", experiment={"output": "e", "test": ["2001-03-20", "2001-04-11"]})
    said = CliRunner().invoke(main, ["experiment", str(early)]).output
    assert "test is 2001-03-20 to 2001-04-11, and training.train is 2001-02-01 to 2001-03-21" in said


@pytest.mark.slow
def test_gauges_that_are_screened_out_are_neither_fitted_nor_scored(case, tmp_path):
    (tmp_path / "gauges.csv").write_text("id,years\ng0,9\ng1,9\ng2,1\ng3,9\n")
    path = change_config(
        experiment(case, "whole.yaml", output=str(tmp_path / "lab"), designs=["temporal"]), "screened.yaml",
        screening={"table": str(tmp_path / "gauges.csv")},
    )
    call("experiment", path)
    rows = list(csv.DictReader((tmp_path / "lab" / "scores.csv").read_text().splitlines()))
    assert {r["gauge"] for r in rows} == {"g0", "g1", "g3"}
    kept = yaml.safe_load((tmp_path / "lab/runs/base/temporal/all/seed1/config.yaml").read_text())
    assert kept["training"]["gauges"] == ["g0", "g1", "g3"]


@pytest.mark.slow
def test_a_map_never_saw_what_a_split_holds_out(case, tmp_path):
    """Every fold takes the map that did not see its gauges; a split that all maps have seen is refused."""
    domain = tmp_path / "domain.nc"
    domain.write_bytes((case.parent / "domain.nc").read_bytes())
    with netCDF4.Dataset(domain, "a") as data:
        for suffix, gauges in (("", ["g0", "g1", "g2", "g3"]), ("_fold0", ["g3"]), ("_fold1", ["g0", "g1", "g2"])):
            one = data.createVariable(f"cell_mapped{suffix}", "f8", ("cell",))
            one.setncatts({"units": "mm yr-1", "learned_from": json.dumps(gauges)})
            one[:] = 500.0
            one = data.createVariable(f"cell_indexed{suffix}", "f8", ("cell",))
            one.setncatts({"units": "1", "learned_from": json.dumps(gauges), "hysep_window": 5})
            one[:] = 0.5
    training = {**yaml.safe_load(case.read_text())["training"], "mean_runoff_attribute": "mapped",
                "baseflow_index_attribute": "indexed"}
    path = change_config(
        experiment(case, "mapped.yaml", output=str(tmp_path / "lab"), designs=["folds"]), "mapped.yaml",
        domain=str(domain), training={**training, "loss": {"nse": 1, "mean_runoff": 0.1, "baseflow_index": 0.1}},
    )
    call("experiment", path)
    for split in ("fold0", "fold1"):
        kept = yaml.safe_load((tmp_path / f"lab/runs/base/folds/{split}/seed1/config.yaml").read_text())["training"]
        fold = "fold0" if "g3" in kept["gauges"] else "fold1"
        assert kept["mean_runoff_attribute"] == f"mapped_{fold}"
        assert kept["baseflow_index_attribute"] == f"indexed_{fold}"
    with netCDF4.Dataset(domain, "a") as data:
        data["cell_mapped_fold0"].learned_from = json.dumps(["g0", "g3"])
    result = CliRunner().invoke(main, ["experiment", str(path)])
    assert result.exit_code == 1 and "was learned from gauge g0, which this split holds out" in result.output
