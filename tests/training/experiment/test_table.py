"""Scores of an experiment: who is scored where, means over splits and seeds, lines of tables, CSV and back."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from bmi_cdlm.evaluate.catalogue import METRICS
from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.evaluate.summary import bootstrap
from bmi_cdlm.names.errors import ObservationError
from cdlm_training.experiment.splits import Split
from cdlm_training.experiment.table import (
    Result,
    Scene,
    Scored,
    headings,
    make_parts,
    markdown,
    read_scores,
    score_all,
    told,
    write_csv,
)
from cdlm_training.experiment.validation import SCENARIOS, designs_of, validation_table

IDS = ["a", "b", "c"]
AREAS = {"a": 10.0, "b": 200.0, "c": 3000.0}
STARTS = np.arange(np.datetime64("2001-01-01"), np.datetime64("2001-03-02"))
PERIODS = {"train": slice(0, 40), "test": slice(40, 60)}
WHOLE = Split("temporal", "all", ("a", "b", "c"), ())
FOLDS = (Split("folds", "fold0", ("b", "c"), ("a",)), Split("folds", "fold1", ("a",), ("b", "c")))


def flow(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 3.0, (STARTS.size, 3))


def scene(*splits: Split, observed: np.ndarray | None = None) -> Scene:
    return Scene(IDS, AREAS, flow(0) if observed is None else observed, STARTS, PERIODS, splits)


def by_role(found: list[Scored]) -> dict[tuple[str, str], Scored]:
    return {(one.period, one.role): one for one in found}


def test_every_gauge_is_scored_where_it_has_the_role():
    """Each split with its own discharge; a gauge that several splits fit has the mean of its scores."""
    of = {("folds", "fold0"): flow(1), ("folds", "fold1"): flow(2)}
    found = by_role(score_all(scene(*FOLDS), [Result("m", "", ("fitted", "unseen"), of.get)]))
    assert list(found["test", "unseen"].gauges) == IDS and list(found["test", "fitted"].gauges) == ["b", "c", "a"]
    for period, rows in PERIODS.items():
        for split in FOLDS:
            series = of["folds", split.name]
            for gauge in split.held_out:
                k = IDS.index(gauge)
                own = found[period, "unseen"].gauges[gauge]
                assert own["nse"] == nse(series[rows, k], flow(0)[rows, k])
                assert own["kge"] == kge(series[rows, k], flow(0)[rows, k])
                assert own["n"] == rows.stop - rows.start
    three = (Split("regions", "x", ("b", "c"), ("a",)), Split("regions", "y", ("a", "c"), ("b",)))
    series = {("regions", "x"): flow(3), ("regions", "y"): flow(4)}
    found = by_role(score_all(scene(*three), [Result("m", "", ("fitted",), series.get)]))
    each = [nse(s[:40, 2], flow(0)[:40, 2]) for s in series.values()]
    assert found["train", "fitted"].gauges["c"]["nse"] == pytest.approx(np.mean(each), rel=1e-12)


def test_without_any_held_out_those_that_are_not_fitted_are_unseen():
    some = Split("temporal", "all", ("a", "c"), ())
    found = by_role(score_all(scene(some), [Result("m", "", ("fitted", "unseen"), lambda key: flow(1))]))
    assert list(found["train", "unseen"].gauges) == ["b"] and list(found["train", "fitted"].gauges) == ["a", "c"]
    assert not list(score_all(scene(WHOLE), [Result("m", "", ("unseen",), lambda key: flow(1))]))


def test_a_gauge_without_records_or_discharge_has_no_row():
    observed, series = flow(0), flow(1)
    observed[:40, 1] = np.nan  # not in training
    series[:, 2] = np.nan  # no donor
    found = by_role(score_all(scene(WHOLE, observed=observed), [Result("m", "", ("fitted",), lambda key: series)]))
    assert list(found["train", "fitted"].gauges) == ["a"] and list(found["test", "fitted"].gauges) == ["a", "b"]
    lacking = score_all(scene(*FOLDS), [Result("m", "", ("unseen",), {("folds", "fold0"): flow(1)}.get)])
    assert list(by_role(lacking)["test", "unseen"].gauges) == ["a"], "a split that a model has not"


def test_an_ensemble_is_scored_by_its_mean_and_its_spread():
    members = np.stack([flow(1), flow(2), flow(3)])
    found = by_role(score_all(scene(WHOLE), [Result("m", "ensemble of 3", ("fitted",), lambda key: members, True)]))
    own = found["test", "fitted"].gauges["b"]
    assert own["nse"] == nse(members[:, 40:, 1].mean(axis=0), flow(0)[40:, 1])
    inside = (members[:, 40:, 1].min(axis=0) <= flow(0)[40:, 1]) & (flow(0)[40:, 1] <= members[:, 40:, 1].max(axis=0))
    assert own["coverage"] == pytest.approx(inside.mean()) and own["coverage_expected"] == 0.5
    assert own["crps"] < own["mae"]
    lines = markdown(list(found.values()), "T", [])
    assert "m, ensemble of 3: CRPS" in lines and "expected 50 %" in lines


def scored(model: str, of: str, values: dict[str, float], role="fitted") -> Scored:
    return Scored("temporal", "test", role, model, of, {g: {"nse": v, "kge": v - 0.1} for g, v in values.items()})


def test_seeds_of_a_model_are_one_line_and_differences_are_paired():
    rows = [
        scored("base", "seed 1", {"a": 0.5, "b": 0.7, "c": -0.2}), scored("base", "seed 2", {"a": 0.7, "b": 0.5}),
        scored("base", "ensemble of 2", {"a": 0.8, "b": 0.9}), scored("climatology", "", {"a": 0.1, "b": 0.3}),
    ]
    part, = make_parts(rows)
    assert list(part.models) == ["base, mean of 2 seeds", "base, ensemble of 2", "climatology"]
    assert part.models["base, mean of 2 seeds"] == {  # c has no second seed
        "a": {"nse": pytest.approx(0.6), "kge": pytest.approx(0.5)},
        "b": {"nse": pytest.approx(0.6), "kge": pytest.approx(0.5)},
    }
    lines = part.rows()
    assert [line[1] for line in lines] == ["2", "2", "2"] and lines[0][-1] == ""
    apart = bootstrap(np.array([0.1 - 0.6, 0.3 - 0.6]))
    assert lines[2][-1] == told(apart, "+.3f") == "-0.400 [-0.500, -0.300]"
    assert all(len(line) == len(headings()) for line in lines)
    assert "median NSE" in headings()[2]


def test_shares_below_zero_and_scores_that_are_not_there():
    part, = make_parts([scored("m", "", {"a": -1.0, "b": 0.5, "c": math.nan})])
    line = part.rows()[0]
    assert line[1] == "3" and line[-2] == "50 %", "of gauges that have a score"
    nothing, = make_parts([scored("m", "", {"a": math.nan})])
    assert nothing.rows()[0][2] == "-" and nothing.rows()[0][-2] == "-"
    other, = make_parts([scored("m", "", {"a": 0.5}), scored("x", "", {"b": 0.5})])
    assert other.rows()[1][-1] == "", "no gauge that both have"


def test_parts_are_by_design_period_and_role():
    rows = [scored("m", "", {"a": 0.5}), scored("m", "", {"b": 0.1}, "unseen")]
    assert [part.role for part in make_parts(rows)] == ["fitted", "unseen"]
    text = markdown(rows, "Lab", ["A note."])
    assert text.startswith("# Lab\n\nA note.\n\n## temporal, test period, gauges that were fitted\n")
    assert "## temporal, test period, gauges that no training saw" in text
    assert text.count("|---") == 2 * len(headings())


def test_scores_survive_their_file(tmp_path: Path):
    rows = [scored("base, odd \"name\"", "seed 1", {"a": 0.123456789123, "b": math.nan}), scored("x", "", {"c": -3e-9})]
    write_csv(tmp_path / "scores.csv", rows, AREAS)
    with (tmp_path / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["gauge"] for row in table] == ["a", "b", "c"] and table[1]["nse"] == ""
    assert [float(row["area_km2"]) for row in table] == [10.0, 200.0, 3000.0]
    assert set(table[0]) >= {one.name for one in METRICS}
    again = read_scores(tmp_path / "scores.csv")
    assert [one[:5] for one in again] == [one[:5] for one in rows]
    assert again[0].gauges["a"]["nse"] == pytest.approx(0.123456789, abs=1e-9) and "nse" not in again[0].gauges["b"]
    assert again[1].gauges["c"]["nse"] == -3e-9


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "design,period,role,model,of,gauge,nse\nx,y,z,m,,g,much\n"])
def test_a_table_of_others_is_refused(tmp_path: Path, content: str):
    (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(ObservationError, match=r"cannot be read as the scores of an experiment"):
        read_scores(tmp_path / "scores.csv")
    with pytest.raises(ObservationError, match="No such file"):
        read_scores(tmp_path / "none.csv")


def test_scenarios_of_the_literature_are_designs_periods_and_roles():
    """Downstream-only means that those upstream are held out."""
    assert designs_of(["spatio-temporal", "spatial", "temporal"]) == ("folds", "temporal")
    assert SCENARIOS["downstream-only"].design == "upstream" and SCENARIOS["upstream-only"].design == "downstream"
    assert {one.role for name, one in SCENARIOS.items() if name != "temporal"} == {"unseen"}
    assert SCENARIOS["spatial"].period == "train" and SCENARIOS["spatio-temporal"].period == "test"
    rows = [
        Scored(design, period, role, "m", "", {"a": {"nse": value}})
        for design, period, role, value in (
            ("folds", "train", "unseen", 0.1), ("folds", "test", "unseen", 0.2), ("folds", "test", "fitted", 0.3),
            ("temporal", "test", "fitted", 0.4),
        )
    ]
    lines = validation_table(rows, ["temporal", "spatial", "spatio-temporal", "upstream-only"], "T", []).splitlines()
    told_of = [line for line in lines if line.startswith("|")][2:]
    assert [line.split("|")[1].split(" (")[0].strip() for line in told_of] == ["temporal", "spatial", "spatio-temporal"]
    assert [float(line.split("|")[4].split("[")[0]) for line in told_of] == [0.4, 0.1, 0.2]
