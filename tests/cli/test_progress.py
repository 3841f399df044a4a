"""What a command says while it works."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from cases import write_case
from click.testing import CliRunner
from rich.console import Console

from bmi_cdlm.cli import main
from bmi_cdlm.commands.common import Once
from bmi_cdlm.commands.progress import Phases, Watch
from bmi_cdlm.names.progress import Pace, clock


class Clock:
    """Goes on when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def log() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=200, markup=False, highlight=False), text


def test_times_in_words() -> None:
    assert [clock(s) for s in (0, 7.4, 760, 11100, -3)] == ["0:00", "0:07", "12:40", "3:05:00", "0:00"]
    now = Clock()
    pace = Pace(now)
    assert pace.told(0, 8) == "0 %, 0:00 gone"
    now.seconds += 30
    assert pace.told(2, 8) == "25 %, 0:30 gone, about 1:30 left"
    assert pace.told(8, 8) == "100 %, 0:30 gone"
    pace.before = 4  # done by an earlier run: two of its own in 30 s
    assert pace.told(6, 8) == "75 %, 0:30 gone, about 0:30 left"


def test_a_log_has_a_line_now_and_then_and_one_at_the_end() -> None:
    now, (console, text) = Clock(), log()
    with Watch("lez", 400, "steps", now=now, console=console) as watch:
        for _ in range(400):
            now.seconds += 0.5
            watch.advance()
    assert text.getvalue().splitlines() == [
        "lez: 6 of 400 steps, 2 %, 0:03 gone, about 3:17 left",
        "lez: 126 of 400 steps, 32 %, 1:03 gone, about 2:17 left",
        "lez: 246 of 400 steps, 62 %, 2:03 gone, about 1:17 left",
        "lez: 366 of 400 steps, 92 %, 3:03 gone, about 0:17 left",
        "lez: 400 of 400 steps, 100 %, 3:20 gone",
    ]


def test_what_comes_once_before_the_first_part_is_no_pace() -> None:
    now, (console, text) = Clock(), log()
    with Watch("lez", 100, "steps", now=now, console=console) as watch:
        now.seconds += 500  # compiling
        watch.advance(10)
        for _ in range(9):
            now.seconds += 8
            watch.advance(10)
    first, second, last = text.getvalue().splitlines()
    assert first == "lez: 10 of 100 steps, 10 %, 8:20 gone"
    assert second == "lez: 90 of 100 steps, 90 %, 9:24 gone, about 0:08 left"
    assert last == "lez: 100 of 100 steps, 100 %, 9:32 gone"


@pytest.mark.parametrize("quiet", [True, False])
def test_what_is_quick_or_quiet_says_nothing(quiet: bool) -> None:
    now, (console, text) = Clock(), log()
    with Watch("lez", 4, "steps", quiet=quiet, now=now, console=console) as watch:
        for _ in range(4):
            now.seconds += 100 if quiet else 0.7
            watch.advance(more="loss 1")
    with Phases("lez", quiet=quiet, now=now, console=console) as phases:
        phases.say("domain")
    assert text.getvalue() == ""


def test_phases_in_a_log() -> None:
    now, (console, text) = Clock(), log()
    with Phases("lez", now=now, console=console) as phases:
        for words, seconds in (("network", 4), ("forcing: 10 %", 5), ("forcing: 20 %", 30), ("forcing: 90 %", 40)):
            now.seconds += seconds
            phases.say(words)
    assert text.getvalue().splitlines() == [
        "lez: network (0:04 gone)", "lez: forcing: 10 % (0:09 gone)", "lez: forcing: 90 % (1:19 gone)"
    ]


def test_a_warning_comes_once() -> None:
    once = Once()

    def passes(level: int, message: str, *values: object) -> bool:
        return bool(once.filter(logging.LogRecord("bmi_cdlm.x", level, "", 0, message, values, None)))

    assert [passes(logging.WARNING, "%s is odd", name) for name in "aab"] == [True, False, True]
    assert [passes(logging.INFO, "read %s", name) for name in "aa"] == [True, True]


def test_scores_as_json_are_those_of_the_table_and_nothing_else(tmp_path: Path) -> None:
    config = write_case(tmp_path, output="run.nc")
    table = tmp_path / "scores.csv"
    assert CliRunner().invoke(main, ["run", str(config), "--quiet"]).exit_code == 0
    result = CliRunner().invoke(main, ["evaluate", str(config), "--json", "--table", str(table)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    rows = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert list(found["gauges"]) == [str(name) for name in rows["gauge"]]
    for row in rows:
        assert found["gauges"][str(row["gauge"])]["nse"] == pytest.approx(float(row["nse"]), rel=1e-4)
    median = float(np.median([one["nse"] for one in found["gauges"].values()]))
    assert found["groups"]["all"]["nse"]["median"] == pytest.approx(median, rel=1e-12)
    assert CliRunner().invoke(main, ["evaluate", str(config), "--json", "--balance"]).exit_code == 2
