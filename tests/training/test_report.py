"""The report of an experiment and the comparison of two: numbers in the pages are those of the folder."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cases import change_config
from click.testing import CliRunner
from page_cases import decode, read_page
from training_cases import at, write_training_case

from bmi_cdlm.cli import main as cdlm
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.pictures.map_data import largest_first
from bmi_cdlm.pictures.page import Curve
from bmi_cdlm.run.config import load_config
from cdlm_training.cli import main
from cdlm_training.experiment.report import _hydrographs, _lines_of, _telling
from cdlm_training.experiment.report_training import _floor
from cdlm_training.experiment.table import Part, read_scores

N_STEPS, FIRST = 70, 50
HEADINGS = [
    "What saw what", "Scores", "Distributions over gauges", "Scores on the map", "Hydrographs", "Parameters",
    "Factor on PET by season", "Trainings", "Attributes outside the training range", "Data and code",
]


def call(*words: object, code: int = 0, program=main) -> str:
    result = CliRunner().invoke(program, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    case = write_training_case(
        tmp_path_factory.mktemp("report"), n_steps=N_STEPS, train=[at(DAY, 0), at(DAY, FIRST)], epochs=2, updates=1,
        mapping="linear", cell_attributes=["forest"], reach_attributes=["length"],
    )
    path = change_config(case, "lab.yaml", experiment={
        "output": "lab", "test": [at(DAY, FIRST), at(DAY, N_STEPS)], "designs": ["temporal", "folds"], "folds": 2,
        "seeds": [1, 2], "baselines": ["climatology"],
    })
    assert "report.html" in call("experiment", path)
    return path


@pytest.fixture(scope="module")
def page(lab):
    return read_page(lab.parent / "lab" / "report.html")


def rows_of(lab: Path, **keys: str) -> dict[str, float]:
    """NSE by gauge of the rows of the scores that have these values."""
    rows = csv.DictReader((lab.parent / "lab" / "scores.csv").read_text().splitlines())
    return {row["gauge"]: float(row["nse"]) for row in rows if all(row[k] == v for k, v in keys.items())}


def test_the_page_has_its_parts_and_its_distributions(lab, page):
    tags, data = page
    assert tags.headings == ["Experiment lab", *HEADINGS]
    chart = data["cdf2_nse"]  # the third part of the test period: folds, gauges that no training saw
    x = decode(chart["x"])
    curves = {curve["name"]: decode(curve["y"]) for curve in chart["curves"]}
    own = rows_of(lab, design="folds", period="test", role="unseen", of="ensemble of 2")
    expected = [np.mean([value <= limit for value in own.values()]) for limit in x]
    np.testing.assert_allclose(curves["base, ensemble of 2"], expected)
    layer = data["scores"]["layers"][3]
    assert layer["name"] == "NSE: base, ensemble of 2, folds, never seen" and (layer["low"], layer["high"]) == (0, 1)
    np.testing.assert_allclose(decode(layer["values"]), [own[g] for g in data["scores"]["gauges"]["ids"]], rtol=1e-6)


def test_hydrographs_are_those_of_best_median_and_worst(lab, page):
    data, config = page[1], load_config(lab)
    ids = read_domain(config.domain).gauges.id
    observed = read_observations(config.observations, ids, config.start, config.end, DAY)[1]
    own = rows_of(lab, design="folds", period="test", role="unseen", of="ensemble of 2")
    order = sorted(own, key=lambda gauge: own[gauge])
    for told, gauge in (("Best", order[3]), ("Median", order[1]), ("Worst", order[0])):
        chart = data[f"hydrograph_{told}"]
        assert f"({gauge})" in chart["title"] and chart["told"].startswith(f"NSE {own[gauge]:.2f}".replace("-", "−"))
        fold = "fold1" if gauge == "g3" else "fold0"
        folder = lab.parent / "lab" / "runs" / "base" / "folds" / fold
        g = ids.index(gauge)
        each = np.stack([
            read_output(folder / f"seed{k}" / "discharge.nc", "discharge")[2][FIRST:, g] for k in (1, 2)
        ])
        seen, simulated = (decode(curve["y"]) for curve in chart["curves"])
        np.testing.assert_array_equal(seen, observed[FIRST:, g].astype(np.float32))
        np.testing.assert_array_equal(simulated, each.mean(axis=0).astype(np.float32))
        np.testing.assert_array_equal(decode(chart["band"][1]), each.max(axis=0).astype(np.float32))
        assert chart["times"] == {"first": int((config.start + np.timedelta64(FIRST, "D")).astype(int)), "step": DAY,
                                  "n": N_STEPS - FIRST, "calendar": "standard"}


@pytest.mark.parametrize(("unseen", "shown"), [
    (3, {"Best": "g2", "Median": "g1", "Worst": "g0"}), (2, {"Best": "g3", "Median": "g1", "Worst": "g0"}),
    (1, {"Best": "g3", "Median": "g1", "Worst": "g0"}), (0, {"Best": "g3", "Median": "g1", "Worst": "g0"}),
])
def test_hydrographs_are_of_gauges_never_seen_where_there_are_three(unseen, shown):
    """One gauge without a record in the years of training is no best, median and worst."""
    data = {}
    text = _hydrographs(*of_gauges({"unseen": unseen, "fitted": 4}), data)
    assert {key.removeprefix("hydrograph_"): one["title"].split()[-1] for key, one in data.items()} == shown
    assert ("gauges that no training saw" in text) == (unseen == 3) and "best, median, worst by NSE" in text


def test_maps_and_charts_have_room():
    """The first map is of the gauges never seen where there are three; many names take lines above a chart."""
    of = {n: Part("temporal", "test", role, {"m": {str(g): {} for g in range(n)}})
          for n, role in ((1, "unseen"), (3, "unseen"), (9, "fitted"))}
    assert [len(one.models["m"]) for one in sorted(of.values(), key=_telling)] == [3, 9, 1]
    assert _lines_of(["a"]) == 1 and _lines_of([f"hysteresis, mean of {k} seeds" for k in range(9)]) == 5


@pytest.mark.parametrize(("fitted", "keys"), [(2, ["Best", "Worst"]), (1, ["Only"]), (0, [])])
def test_few_gauges_have_a_hydrograph_each(fitted, keys):
    data = {}
    text = _hydrographs(*of_gauges({"unseen": 0, "fitted": fitted}), data)
    assert [key.removeprefix("hydrograph_") for key in data] == keys and bool(text) == bool(keys)


def of_gauges(numbers: dict[str, int]):
    """A record of ten steps and four gauges, and the parts of its test period: NSE rises from g0 on."""
    ids = [f"g{k}" for k in range(4)]
    stations = SimpleNamespace(id=ids, name=ids)
    record = SimpleNamespace(
        manifest=SimpleNamespace(forecast="m"), domain=SimpleNamespace(gauges=stations), steps=lambda period: slice(10),
        observed=np.ones((10, 4)), discharge=lambda model, design, gauge: np.ones((1, 10)),
        starts=np.datetime64("2001-01-01", "s") + np.arange(10) * np.timedelta64(DAY, "s"),
    )
    parts = [
        Part("temporal", "test", role, {"m": {g: {"nse": 0.1 * k} for k, g in enumerate(ids[:n])}})
        for role, n in numbers.items() if n
    ]
    return record, parts


def test_parameters_and_the_factor_on_pet_are_those_of_the_checkpoints(lab, page):
    data, config = page[1], load_config(lab)
    domain = read_domain(config.domain)
    paths = [lab.parent / "lab" / "runs" / "base" / "temporal" / "all" / f"seed{k}" / "trained.safetensors"
             for k in (1, 2)]
    values = [load_checkpoint(path).evaluate(config.domain, domain)[0] for path in paths]
    layers = {layer["name"]: layer for layer in data["parameters"]["layers"]}
    for name, order in (("production_capacity", np.arange(domain.n_cells)), ("celerity", largest_first(domain))):
        mean = (values[0][name] + values[1][name]) / 2
        np.testing.assert_allclose(decode(layers[name]["values"]), mean[order], rtol=1e-6)
    run = change_config(
        lab, "factor.yaml", experiment=None, training=None, parameters=str(paths[0]), output="factor.nc",
        output_at="cells", output_variables=["pet_factor"],
    )
    call("run", run, program=cdlm)
    starts, _, factor = read_output(run.parent / "factor.nc", "pet_factor")
    month = starts.astype("datetime64[M]").astype(int) % 12
    shown = decode(data["pet"]["curves"][0]["y"])
    for m in range(12):
        expected = factor[month == m].mean() if (month == m).any() else np.nan
        np.testing.assert_allclose(shown[m], expected, rtol=1e-6)
    assert np.isfinite(shown).sum() == 3, "March to May"


def test_trainings_ranges_and_files_are_told(lab, page):
    text, data = (lab.parent / "lab" / "report.html").read_text(), page[1]
    logs = [list(csv.DictReader(p.read_text().splitlines())) for p in (lab.parent / "lab").rglob("log.csv")]
    assert len(logs) == 6
    expected = np.median([[float(row["loss"]) for row in log] for log in logs], axis=0)
    np.testing.assert_allclose(decode(data["training_loss"]["curves"][0]["y"]), expected, rtol=1e-6)
    manifest = json.loads((lab.parent / "lab" / "experiment.json").read_text())
    assert all(digest in text for _, digest in manifest["files"].values())
    assert "<td class=\"word\">forest</td>" in text and "folds (4 gauges)" in text
    assert "No training has read discharge of its held-out gauges" in text
    assert _floor([Curve("a", np.array([-4.0, np.nan]))]) is None and _floor([Curve("a", np.array([-9, 0.5]))]) == -1
    assert _floor([Curve("a", np.array([0.7, 0.8]))]) is None, "an axis from 0 would leave it at the top"


def test_a_report_can_be_written_again(lab):
    path = lab.parent / "lab" / "report.html"
    before = path.read_bytes()
    assert call("report", path.parent) == f"wrote {path}"
    assert path.read_bytes() == before
    said = call("report", lab.parent, code=1)
    assert "experiment.json: cannot be read (No such file or directory). Expected the folder of a finished" in said


def test_two_models_are_compared_gauge_by_gauge(lab, tmp_path):
    folder = lab.parent / "lab"
    said = call("compare", folder, folder, "--other", "climatology", "--to", tmp_path / "c.html")
    assert "A is lab: base, ensemble of 2, B is lab: climatology" in said
    own = rows_of(lab, design="temporal", period="test", role="fitted", of="ensemble of 2")
    other = rows_of(lab, design="temporal", period="test", role="fitted", model="climatology")
    apart = [own[g] - other[g] for g in own]
    assert f"{np.median(apart):+.3f}" in said and f"{100 * np.mean(np.array(apart) > 0):.0f} %" in said
    _, data = read_page(tmp_path / "c.html")
    found = decode(data["differences0_nse"]["curves"][0]["y"])
    np.testing.assert_allclose(found, np.sort(apart), rtol=1e-6)
    assert data["map"]["layers"][0]["colours"] == "diverging"
    ids = data["map"]["gauges"]["ids"]
    expected = [own[g] - other[g] for g in ids]
    np.testing.assert_allclose(decode(data["map"]["layers"][0]["values"]), expected, rtol=1e-6)


def test_what_cannot_be_compared_is_told(lab, tmp_path):
    folder, other = lab.parent / "lab", tmp_path / "other"
    said = call("compare", folder, folder, "--model", "climatolog", code=1)
    assert "has no model 'climatolog'. Did you mean 'climatology'? It has: base, mean of 2 seeds; base" in said
    shutil.copytree(folder, other)
    manifest = json.loads((folder / "experiment.json").read_text())
    manifest["files"]["forcing"][1] = "another"
    (other / "experiment.json").write_text(json.dumps(manifest))
    assert "note: The files of forcing differ." in call("compare", folder, other)
    assert (folder / "compare_other.html").is_file()
    manifest["periods"]["test"][0] = "2001-04-21T00:00:00"
    (other / "experiment.json").write_text(json.dumps(manifest))
    assert "was tested on 2001-04-21T00:00:00 to" in call("compare", folder, other, code=1)
    (other / "scores.csv").write_text("gauge,nse\ng0,1\n")
    assert "cannot be read as the scores of an experiment" in call("compare", folder, other, code=1)


def test_scores_come_back_as_they_were_written(lab):
    found = read_scores(lab.parent / "lab" / "scores.csv")
    assert len({(one.design, one.period) for one in found}) == 4
    wanted = ("folds", "test", "unseen", "seed 2")
    own = next(one for one in found if (one.design, one.period, one.role, one.of) == wanted)
    assert {g: v["nse"] for g, v in own.gauges.items()} == rows_of(
        lab, design="folds", period="test", role="unseen", of="seed 2"
    )
