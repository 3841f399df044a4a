"""`benchmarks/against.py`: what it takes from scripts and tables, its ratios, and what it says of slower rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table


@pytest.fixture
def against(script):
    return script("against")


@pytest.fixture
def child(against):
    return sys.modules["against_child"]


def test_numbers_of_cells(child):
    assert child.number("1,234") == 1234
    assert child.number(" 9.8 (9.1–10.2)") == 9.8
    assert child.best_rate("146 (144–148)") == 148
    assert child.best_rate("1,222 (1,146–1,230)") == 1230
    assert child.best_rate("8.1") == 8.1


def test_rows_of_printed_tables(child, monkeypatch):
    """Long names are not cut, and a table of another kind is passed over."""
    monkeypatch.setattr(Console, "print", Console.print)
    tables = child.capture_tables()
    rates = Table("what runs", "precision", "cores", "work per run", "10⁶ per second", "times smash, medians")
    rates.add_row("runoff and routing, forward and adjoint, " * 4, "float32", "2", "8 M", "86.0 (80.0–100)", "")
    calls = Table("model", "call", "update [us]", "its kernels [us]", "beyond [us]")
    calls.add_row("hourly, snow", "1 h", "51", "16", "35")
    many = Table("model", "initialize [ms]", "memory [KiB]", "state [KiB]", "steps/s", "state taken [ms]")
    many.add_row("hourly", "5.0", "35", "4", "20,000", "3.0")
    year = Table("part", "seconds")
    year.add_row("weather drawn", "1.1")
    year.add_row("runoff, routing, output", "38.0")
    for table in (rates, calls, many, year):
        Console(width=20).print("words", table)
    assert child.times_of_tables("national", tables) == {
        child.row_name("runoff and routing, forward and adjoint, " * 4, "float32", 2): pytest.approx(10.0),
        "update, hourly, snow, by 1 h": 51.0, "many catchments, hourly: step": pytest.approx(50.0),
        "many catchments, hourly: initialize": pytest.approx(5000.0), "runoff, routing, output": 38.0,
    }


def test_rates_are_taken_in_place_of_interleave(child):
    found = child.capture_rates()
    timing = sys.modules["timing"]
    runs = []
    cases = [
        timing.Case(name, "float64", n, 1000, lambda: runs.append(sum(range(2000)))) for name, n in (("a", 1), ("b", 2))
    ]
    rates = timing.interleave(cases, 4)
    assert [r.shape for r in rates] == [(4,), (4,)] and len(runs) == 5 * 3
    assert found == {
        "a, float64, 1 core": 1e9 / rates[0].max(), "b, float64, 2 cores": 1e9 / rates[1].max(),
    }


def test_results_are_found_among_other_words(child):
    text = f'NumbaWarning: what\n{child.MARK}{{"a": 1.5}}\nbye'
    assert list(child.results_in(text)) == [{"a": 1.5}]


def test_sides_are_measured_in_turn_and_ratios_are_of_neighbours(against, capsys):
    calls, seconds = [], iter([1.0, 1.1, 2.0, 2.2, 3.0, 3.0])

    def measure(task, side):
        calls.append(side.name)
        return {"row": next(seconds), **({"gone": 1.0} if side.name == "old" else {})}

    task = against.Task("bmi", {})
    rows = against.run_rounds([task], (Path("old"), Path("new")), 3, measure)
    assert calls == ["old", "new"] * 3
    assert [r.name for r in rows] == ["row"] and rows[0].ratio == pytest.approx(1.1)
    np.testing.assert_allclose(rows[0].ratios, [1.1, 1.1, 1.0])
    assert "'gone' is on the old side only" in capsys.readouterr().err


def test_words_choose_groups_and_rows(against):
    named = (("forward", "GR4J"), ("gradient", "GR4J"), ("bmi", "update"))
    rows = [against.Row(group, name, np.ones(1), np.ones(1)) for group, name in named]
    assert len(against.selected(rows, ())) == 3
    assert [r.group for r in against.selected(rows, ("gr4j",))] == ["forward", "gradient"]
    assert [r.group for r in against.selected(rows, ("bmi",))] == ["bmi"]
    assert against.groups_of(("bmi", "cold")) == ["bmi", "cold"]
    assert against.groups_of(("GR4J",)) == list(against.GROUPS) == against.groups_of(())


def test_slower_rows_are_flagged(against, monkeypatch, tmp_path):
    monkeypatch.setattr(against, "check_out", lambda commit, folder: folder)
    monkeypatch.setattr(
        against, "measure_in_process", lambda task, side, cores: {"row": 1.0 if side.name == "old" else 1.05}
    )
    words = ["0a10580", "--rows", "bmi", "--rounds", "2", "--json", str(tmp_path / "out.json")]
    for tolerance, code in (("1.03", 1), ("1.06", 0)):
        with pytest.raises(SystemExit) as raised:
            against.main([*words, "--tolerance", tolerance], standalone_mode=False)
        assert raised.value.code == code
        content = json.loads((tmp_path / "out.json").read_text())
        assert content["rows"] == [{
            "group": "bmi", "row": "row", "unit": "us", "old": [1.0, 1.0], "new": [1.05, 1.05], "ratio": 1.05,
            "slower": bool(code),
        }]


def test_a_measurement_that_fails_says_what_it_said(against, tmp_path):
    with pytest.raises(RuntimeError, match=r"bmi of .*exit 1"):
        against.measure_in_process(against.Task("bmi", {}), tmp_path)


@pytest.mark.slow
def test_a_cold_start_and_tiny_benchmarks_are_measured(against, tmp_path):
    config = against.cold_configs(tmp_path)[f"{against.COLD} simplest"]
    cold = against.Task("cold", {"name": "c", "config": str(config)})
    assert against.measure_in_process(cold, against.ROOT)["c"] > 0
    bmi = against.measure_in_process(against.Task("bmi", {"sizes": {"updates": 20, "instances": 3}}), against.ROOT)
    assert len(bmi) == 10 and min(bmi.values()) > 0


def test_results_are_drawn_over_time(against, script, tmp_path):
    history = script("history")
    row = against.Row("bmi", "update", np.array([9.0, 8.0]), np.array([5.0, 4.0]))
    for k, (machine, new) in enumerate([("a", 4.0), ("a", 2.0), ("b", 3.0)]):
        content = json.loads(against.as_json([row._replace(new=np.array([new, new + 1.0]))], "0a10580", 1.03))
        assert content["measured"].keys() == {"machine", "date", "commit"}
        content["measured"] = {"machine": machine, "date": f"2026-01-0{k + 1}T00:00:00+00:00", "commit": f"{k}" * 40}
        (tmp_path / f"{k}.json").write_text(json.dumps(content))
    points = history.read_points(tmp_path)
    drawn = {machine: [p.best for p in curve] for machine, _, curve in history.curves(points)}
    assert drawn == {"a": [4.0, 2.0], "b": [3.0]}
    history.main([str(tmp_path), "--rows", "UPDATE"], standalone_mode=False)
    assert (tmp_path / "history.png").stat().st_size > 5000
    for words, file, said in ((["--rows", "cold"], None, "no row holds cold"), ([], "{}", "says machine, date")):
        if file is not None:
            (tmp_path / "9.json").write_text(file)
        with pytest.raises(click.ClickException, match=said):
            history.main([str(tmp_path), *words], standalone_mode=False)
