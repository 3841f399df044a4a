"""The report on gauges: nesting, records, water balance, regulation."""

from __future__ import annotations

import csv
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import START, write_case
from rich.console import Console

from bmi_cdlm.domain.domain import cut, read_domain
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.config import GaugesConfig
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.quality import assess, report_table, write_report
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.run.config import load_config

N_STEPS = 40


def make(folder: Path, columns: list[dict] | None = None, **keys: object):
    run = load_config(write_case(folder, n_steps=N_STEPS, **keys))
    domain = read_domain(run.domain)
    n = len(domain.gauges.id)
    area = domain.reaches.upstream_area[domain.gauges.reach]
    sites = [
        GaugeSite(g, f"River {g}", 0.0, 0.0, a, c)
        for g, a, c in zip(domain.gauges.id, domain.gauges.area, columns or [{}] * n, strict=True)
    ]
    gauges = SnappedGauges(
        sites, domain.gauges.reach, area, area / domain.gauges.area - 1, np.arange(n) * 100.0, np.zeros(n, bool), {},
        np.full(n, np.nan), np.full(n, np.nan), np.zeros(n),
    )
    return run, domain, gauges


def change(path: Path, name: str, values: np.ndarray) -> None:
    with netCDF4.Dataset(path, "a") as dataset:
        dataset[name][:] = values


def test_water_balance_is_that_of_all_that_drains_to_each_gauge(tmp_path: Path) -> None:
    run, domain, gauges = make(tmp_path)
    with netCDF4.Dataset(run.forcing) as dataset:
        rain = dataset["precipitation"][:].data
    with netCDF4.Dataset(run.observations) as dataset:
        discharge = dataset["discharge"][:].data
    for i, quality in enumerate(assess(run, gauges, GaugesConfig(table="t"))):
        part, cells, _ = cut(domain, int(domain.gauges.reach[i]))
        weights = part.cells.drained_area / part.cells.drained_area.sum()
        expected = (rain[:, cells] @ weights).mean()
        assert quality.record.precipitation == pytest.approx(expected, rel=1e-12)
        area = domain.gauges.area[i] if np.isfinite(domain.gauges.area[i]) else gauges.area[i]
        depth = discharge[:, i].mean() * DAY / 1000 / area
        assert quality.record.runoff == pytest.approx(depth, rel=1e-12)
        assert quality.record.runoff_ratio == pytest.approx(depth / expected, rel=1e-12)
        assert ("runoff ratio > 1" in quality.flags) == (depth > expected)
        np.testing.assert_equal(quality.area_error, gauges.area_error[i])
        assert quality.distance == 100.0 * i


def test_area_without_a_cell_is_told_and_counts(tmp_path: Path) -> None:
    run, domain, gauges = make(tmp_path)
    own = 0.015 * domain.reaches.area
    with netCDF4.Dataset(run.domain, "a") as dataset:
        variable = dataset.createVariable("reach_uncovered_area", "f8", ("reach",))
        variable.units = "km2"
        in_file = np.empty(own.size)
        in_file[domain.file_order] = own
        variable[:] = in_file
    for i, quality in enumerate(assess(run, gauges, GaugesConfig(table="t"))):
        assert quality.uncovered == pytest.approx(0.015 / 1.015)
        assert quality.area == gauges.area[i]
        np.testing.assert_allclose(quality.area_error, 1.015 * gauges.area[i] / domain.gauges.area[i] - 1)


def test_records_with_gaps_short_ones_and_none(tmp_path: Path) -> None:
    run, domain, gauges = make(tmp_path)
    discharge = np.full((N_STEPS, len(domain.gauges.id)), 1e-3)
    discharge[:10, 0] = np.nan  # begins late, no gap
    discharge[10:20, 1] = np.nan  # a gap of a quarter
    discharge[:, 2] = np.nan
    change(run.observations, "discharge", discharge)
    report = assess(run, gauges, GaugesConfig(table="t", shortest_record=35 / 365))
    unknown = [("no official area",) if np.isnan(a) else () for a in domain.gauges.area]
    expected = [("short record",), ("gaps",), ("no record",), ()]
    assert [q.flags for q in report] == [(*a, *b) for a, b in zip(unknown, expected, strict=True)]
    assert report[0].record.years == pytest.approx(30 / 365.25)
    assert report[0].record.missing == 0.0
    assert report[0].record.first == START + np.timedelta64(10 * DAY, "s")
    assert report[1].record.missing == pytest.approx(0.25)
    assert np.isnan(report[2].record.runoff_ratio)


def test_regulation_by_the_limits_of_chase(tmp_path: Path) -> None:
    columns = [
        {"degree_of_regulation": 0.051, "withdrawal": np.nan}, {"degree_of_regulation": 0.05, "withdrawal": 0.1},
        {"degree_of_regulation": np.nan, "withdrawal": 0.2}, {"degree_of_regulation": np.nan, "withdrawal": np.nan},
    ]
    run, _, gauges = make(tmp_path, columns)
    report = assess(run, gauges, GaugesConfig(table="t"))
    assert [q.regulated for q in report] == [True, False, True, None]
    assert ["regulated" in q.flags for q in report] == [True, False, True, False]


def test_forcing_that_ends_early_or_comes_from_the_caller(tmp_path: Path) -> None:
    run, _, gauges = make(tmp_path)
    for other in (run.model_copy(update={"forcing": "caller"}), run.model_copy(update={"observations": None})):
        for quality in assess(other, gauges, GaugesConfig(table="t")):
            assert np.isnan(quality.record.runoff_ratio)
            assert other.observations is not None or quality.flags == ("no official area", "no record")


def test_report_as_csv_and_on_the_screen(tmp_path: Path) -> None:
    run, domain, gauges = make(tmp_path, [{"delineated_area": 3.0, "country": "X"}] * 4)
    gauges = gauges._replace(rejected=np.array([True, False, False, False]))
    report = assess(run, gauges, GaugesConfig(table="t"))
    write_report(tmp_path / "out" / "gauges.csv", report, {"far": "no reach within the radius"})
    with (tmp_path / "out" / "gauges.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [*domain.gauges.id, "far"]
    assert float(rows[0]["area_km2"]) == pytest.approx(gauges.area[0], rel=1e-5)
    assert rows[0]["flags"].startswith("area")
    assert (rows[1]["country"], float(rows[1]["delineated_area"])) == ("X", 3.0)
    assert rows[4]["flags"] == "dropped: no reach within the radius"
    console = Console(width=80, record=True)  # that of a screen that is none, such as a log
    console.print(report_table(report, {"far": "no reach within the radius"}))
    shown = console.export_text()
    for quality in report:
        line = next(line for line in shown.splitlines() if line.strip().startswith(quality.id))
        for number in (f"{quality.area:.1f}", f"{quality.incremental_area:.1f}", f"{quality.distance:.0f}"):
            assert number in line
        assert quality.below in line
    assert "far: no reach within the radius" in shown and "…" not in shown


def test_flags_of_area_other_candidate_and_raster_edge(tmp_path: Path) -> None:
    run, domain, gauges = make(tmp_path)
    n = len(domain.gauges.id)
    sites = [site._replace(area=float(a)) for site, a in zip(gauges.sites, gauges.area, strict=True)]
    sites[0] = sites[0]._replace(area=np.nan)
    other, border = np.full(n, np.nan), np.zeros(n)
    other[0], border[1] = 27189.0, 0.29
    gauges = gauges._replace(sites=sites, other_area=other, other_distance=other / 100, border=border)
    report = assess(run, gauges, GaugesConfig(table="t", shortest_record=0))
    assert [("no official area" in q.flags, "raster edge" in q.flags) for q in report[:3]] == [
        (True, False), (False, True), (False, False)]
    write_report(tmp_path / "report.csv", report, {"lost": "far"})
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["other_river_km2"] for row in rows[:2]] == ["27189", ""]
    assert [row["border_on_raster_edge"] for row in rows[:2]] == ["0", "0.29"]
    assert (rows[-1]["id"], rows[-1]["flags"], rows[-1]["border_on_raster_edge"]) == ("lost", "dropped: far", "")
    console = Console(width=200, record=True)
    console.print(report_table(report, {}))
    shown = console.export_text()
    assert "27189 km2 of another river 272 m away" in shown
    assert "29.0% of its border on that edge" in shown
