"""Scores over gauges: bootstrap intervals, groups, paired differences; `cdlm evaluate` on a part of a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from cases import START, write_case, write_series
from click.testing import CliRunner

from bmi_cdlm.cli import main
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.evaluate.evaluation import Wanted, evaluate
from bmi_cdlm.evaluate.signatures import means_over
from bmi_cdlm.evaluate.summary import area_class, bootstrap, compare, make_groups, read_regions, summarise
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.errors import ConfigError, ObservationError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config


def test_the_interval_of_a_median_is_that_of_the_binomial_distribution():
    """A median of n drawn values is at most the k-th largest one with the chance of n / 2 successes of share k / n."""
    n = 21
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))

    def chance(k: int) -> float:
        return sum(math.comb(n, j) * (k / n) ** j * (1 - k / n) ** (n - j) for j in range((n + 1) // 2, n + 1))

    low = next(k for k in range(1, n + 1) if chance(k) >= 0.025)
    high = next(k for k in range(1, n + 1) if chance(k) >= 0.975)
    assert min(abs(chance(k) - p) for p in (0.025, 0.975) for k in (low - 1, low, high - 1, high)) > 0.005
    assert bootstrap(np.r_[values, np.nan]) == (11, low, high, n)
    assert bootstrap(np.full(3, np.nan)).n == 0


def test_a_paired_difference_is_that_of_the_same_gauges():
    ours = {g: {"nse": v} for g, v in zip("abcd", [0.9, 0.5, np.nan, 0.1], strict=True)}
    others = {g: {"nse": v} for g, v in zip("abcd", [0.8, 0.4, 0.9, 0.0], strict=True)}
    found = compare(ours, others, ["nse"], list("abcd"))["nse"]
    assert found == pytest.approx((0.1, 0.1, 0.1, 3)), "every gauge is 0.1 better, however they are drawn"


def test_groups_and_their_rows():
    areas = {"a": 499.0, "b": 500.0, "c": 1e6, "d": math.nan}
    assert [area_class(v) for v in areas.values()] == ["< 500 km2", "500 to 1000 km2", ">= 10000 km2", "area unknown"]
    groups = make_groups(areas, {"a": "west", "b": "east", "c": "west", "d": "east"})
    assert groups["all"] == list("abcd") and groups["west"] == ["a", "c"] and groups["500 to 1000 km2"] == ["b"]
    assert list(make_groups({"a": 1.0, "b": 2.0})) == ["all"]
    own = {g: {"nse": v} for g, v in zip("abcd", [-1.0, 0.6, 0.8, np.nan], strict=True)}
    row = summarise(own, ["nse"], groups)[0]
    assert (row.middle.median, row.middle.n, row.quartiles) == (0.6, 3, (pytest.approx(-0.2), pytest.approx(0.7)))
    assert (row.below_zero, row.above_half) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_regions_are_read_for_every_gauge(tmp_path: Path):
    path = tmp_path / "regions.csv"
    path.write_text("gauge,region\na,north\nb,south\n")
    assert read_regions(path, ["b"]) == {"b": "south"}
    with pytest.raises(ObservationError, match=r"regions\.csv: has no region of gauge 'c'"):
        read_regions(path, ["a", "c"])
    path.write_text("id,region\na,north\n")
    with pytest.raises(ObservationError, match=r"has no column 'gauge', expected gauge and region.*Found: id, region"):
        read_regions(path, ["a"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_case(tmp_path_factory.mktemp("run"), n_steps=70, output="run.nc")
    assert CliRunner().invoke(main, ["run", str(config), "--quiet"]).exit_code == 0
    return config


def test_a_part_of_a_run_is_scored_as_its_rows(run: Path):
    config = load_config(run)
    first, last = START + np.timedelta64(10, "D"), START + np.timedelta64(45, "D")
    starts, ids, simulated = read_output(config.output, "discharge")
    observed = read_observations(config.observations, ids, config.start, config.end, DAY)[1]
    results = evaluate(config, Wanted(first, last))
    for place, result in enumerate(results):
        expected = scores(simulated[10:45, place], observed[10:45, place], starts[10:45], result.area)
        assert result.scores == pytest.approx(expected, rel=1e-14, nan_ok=True) and result.scores["n"] == 35
    by_month = evaluate(config, Wanted(by="month"))[0]
    s, o, months = means_over(simulated[:, 0], observed[:, 0], starts, "month")
    assert by_month.scores["nse"] == scores(s, o, months)["nse"] and math.isnan(by_month.scores["bfi_observed"])
    with pytest.raises(ConfigError, match="expected a period within it"):
        evaluate(config, Wanted(first, config.end + np.timedelta64(1, "D")))


def test_the_command_beside_another_model(run: Path, tmp_path: Path):
    config = load_config(run)
    _, ids, simulated = read_output(config.output, "discharge")
    other = simulated * 1.5
    other[:20] = np.nan
    write_series(tmp_path / "other.nc", "gauge", np.array(ids, object), {"discharge": (other, "m3 s-1")}, START, DAY)
    result = CliRunner().invoke(main, [
        "evaluate", str(run), "--no-plots", "--against", str(tmp_path / "other.nc"), "--table",
        str(tmp_path / "scores.csv"),
    ])
    assert result.exit_code == 0, result.output
    assert "this run less the other model" in result.output and "medians over gauges" in result.output
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [row["gauge"] for row in rows] == ids
    assert {row["n"] for row in rows} == {"50"}, "both are scored where both have a value"
    pair = evaluate(config, Wanted(against=tmp_path / "other.nc"))[0]
    assert pair.against[1]["kge_beta"] == pytest.approx(1.5 * pair.scores["kge_beta"], rel=1e-12)
    result = CliRunner().invoke(main, ["evaluate", str(run), "--from", "2012-13-01"])
    assert result.exit_code == 1 and "cdlm evaluate: '2012-13-01' is not a date" in result.output


def test_regions_of_a_spreadsheet_and_tables_that_say_two_things(tmp_path: Path):
    path = tmp_path / "regions.csv"
    path.write_bytes("\ufeffgauge,region\r\na, north\r\nb,south\r\n".encode())
    assert read_regions(path, ["a"]) == {"a": "north"}
    path.write_text("gauge,region\na,north\na,south\n")
    with pytest.raises(ObservationError, match="line 3: 'a' stands in an earlier line too"):
        read_regions(path, ["a"])
    path.write_text("gauge,region\na,north, upper part\n")
    with pytest.raises(ObservationError, match="line 2 has 3 values, expected 2"):
        read_regions(path, ["a"])
