"""The window of an assimilation: the run that it makes of a configuration, and what it refuses before that runs."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bmi_cdlm.assimilate.assimilation import _targets
from bmi_cdlm.assimilate.choice import Choice
from bmi_cdlm.assimilate.window import window_config
from bmi_cdlm.names.calendars import parse
from bmi_cdlm.names.errors import ConfigError, OutputError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.ensemble import member_path

LEAST = {"domain": "domain.nc", "forcing": "forcing.nc", "observations": "o.nc", "start": "2001-03-01",
         "end": "2001-03-31"}


def config(**keys: object) -> Config:
    return Config(**{k: v for k, v in {**LEAST, **keys}.items() if v is not None})


def at(text: str, calendar: str = "standard") -> np.datetime64:
    return parse(f"{text}T00:00:00" if "T" not in text else text, calendar)


def test_a_run_that_ends_with_the_window_and_writes_nothing():
    own = config(output="run.nc", output_step="2 d", restart="end.nc", restart_every="4 d", spin_up=1)
    made = window_config(own, Choice(5 * DAY, at("2001-03-20")))
    assert (made.start, made.end) == (own.start, at("2001-03-20"))
    assert (made.output, made.output_step, made.restart, made.restart_every) == (None, None, None, None)
    assert made.spin_up == 1 and made.forcing == own.forcing
    assert window_config(own, Choice(30 * DAY)).end == own.end, "as long as the run"


@pytest.mark.parametrize(("keys", "window", "end", "message"), [
    ({"forcing": "caller"}, 5 * DAY, None, "forcing is 'caller', expected a forcing file: the window is run many"),
    ({"observations": None}, 5 * DAY, None, "assimilate needs 'observations', the file of observed discharge. Add it."),
    ({"coupled_inputs": ["reach_inflow"]}, 5 * DAY, None, "coupled_inputs names reach_inflow, expected none: there"),
    ({"start": "2001-03-01T06:00", "end": "2001-03-31T06:00", "day_begins": "00:00"}, 5 * DAY, None,
     "start is 2001-03-01T06:00:00, 21600 s into a day: a run in steps begins with one. Start at day_begins."),
    ({}, 5 * DAY, "2001-03-20T06:00:00", "at: is 2001-03-20T06:00:00, expected the end of a step of 1 d after start"),
    ({}, 5 * DAY, "2001-03-01", "at: is 2001-03-01T00:00:00, expected the end of a step"),
    ({}, 5 * DAY, "2001-04-01", "and not after end 2001-03-31T00:00:00. Choose another, or change the run."),
    ({}, 5 * DAY + HOUR, None, "window: is 121 h, expected a multiple of the time step, 1 d."),
    ({}, 20 * DAY, "2001-03-20", "window: is 20 d, and from start 2001-03-01T00:00:00 to 2001-03-20T00:00:00 are 19 d"),
])
def test_what_has_no_window(keys, window, end, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        window_config(config(**keys), Choice(window, None if end is None else at(end)))


def test_an_end_of_another_calendar():
    own = config(calendar="360_day", start="2001-02-01", end="2001-02-30")
    assert window_config(own, Choice(5 * DAY, at("2001-02-29", "360_day"))).end == at("2001-02-29", "360_day")
    with pytest.raises(ConfigError, match=r"at: 2001-02-20T00:00:00 is in the calendar standard, expected 360_day"):
        window_config(own, Choice(5 * DAY, at("2001-02-20")))


# ---- files -------------------------------------------------------------------------------------------------


def test_a_file_for_each_member(tmp_path):
    to = tmp_path / "start.nc"
    assert _targets(to, 1, Choice(DAY), force=False) == [to]
    three = [member_path(to, k) for k in (1, 2, 3)]
    assert _targets(to, 1, Choice(DAY, members=3), force=False) == three
    assert _targets(to, 3, Choice(DAY), force=False) == _targets(to, 3, Choice(DAY, members=3), force=False) == three
    with pytest.raises(ConfigError, match=r"members: 2, and the configuration is an ensemble of 3.* Expected 3, or"):
        _targets(to, 3, Choice(DAY, members=2), force=False)


def test_what_is_there_is_replaced_by_force_only(tmp_path):
    to = tmp_path / "start.nc"
    to.touch()
    with pytest.raises(OutputError, match=r"start\.nc: is there already\. Choose another path \(--to\), or replace it"):
        _targets(to, 1, Choice(DAY), force=False)
    assert _targets(to, 1, Choice(DAY), force=True) == [to]
    with pytest.raises(OutputError, match=r"start\.nc: is there, and a run that names it would take it in place of"):
        _targets(to, 1, Choice(DAY, members=2), force=True)
    to.unlink()
    member_path(to, 2).touch()
    with pytest.raises(OutputError, match=f"{re.escape(member_path(to, 2).name)}: is there already"):
        _targets(to, 1, Choice(DAY, members=2), force=False)
    assert len(_targets(to, 1, Choice(DAY, members=2), force=True)) == 2
    member_path(to, 3).touch()
    with pytest.raises(OutputError, match=r"is there, of a larger ensemble, and a run that names start\.nc would take"):
        _targets(to, 1, Choice(DAY, members=2), force=True)
