"""What a run goes on from: the options and the time of a state, and rivers that come from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from make_domain import random_domain

from bmi_cdlm.files.restart import Restart
from bmi_cdlm.names.calendars import parse
from bmi_cdlm.names.errors import ConfigError, StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.continuing import UNSAID, WORDS, can_resume, check_boundary, check_options, elapsed_at

LEAST = {"domain": "domain.nc", "forcing": "forcing.nc", "start": "2001-03-01", "end": "2001-03-11"}


def config(**keys: object) -> Config:
    return Config(**{**LEAST, **keys})


def state(time: str = "2001-03-04", calendar: str = "standard", **words: object) -> Restart:
    """A state that a run with the defaults has saved, but for some words; None leaves one out."""
    own = {"time_step": str(DAY), "snow": "none", "runoff": "gr4j", "routing": "muskingum", "components": "1",
           "inputs_from": "file", "name_profile": "csdms", "pending_seconds": "0"}
    said = {k: str(v) for k, v in {**own, **words}.items() if v is not None}
    return Restart({}, {}, [], [], said, parse(f"{time}T00:00:00" if "T" not in time else time, calendar))


# ---- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [word for word in WORDS if word not in UNSAID])
def test_a_state_says_what_it_was_made_with(word):
    check_options(config(), state(), hot_start=False)
    with pytest.raises(StateError, match=rf"restart: lacks '{word}', expected {', '.join(WORDS)}\. Take the state"):
        check_options(config(), state(**{word: None}), hot_start=True)


@pytest.mark.parametrize(("word", "value"), UNSAID.items())
def test_a_state_that_leaves_out_what_is_not_there(word, value):
    """States from before the word was, and of today's that have nothing of it."""
    check_options(config(), state(**{word: None}), hot_start=False)
    check_options(config(), state(**{word: value}), hot_start=False)
    with pytest.raises(StateError, match=rf"restart: {word} is '{value}', expected 'undercatch'"):
        check_options(config(**{word: "undercatch"}), state(**{word: None}), hot_start=False)


@pytest.mark.parametrize(("keys", "named"), [
    ({"time_step": "1 h"}, "time_step is '86400', expected '3600'"), ({"snow": "cemaneige"}, "snow is 'none', exp"),
    ({"runoff": "gr5"}, "runoff is 'gr4j', expected 'gr5'"), ({"components": 3}, "components is '1', expected '3'"),
    ({"routing": "kinematic"}, "routing is 'muskingum', expected 'kinematic'"),
])
@pytest.mark.parametrize("hot_start", [True, False])
def test_another_step_or_other_processes(keys, named, hot_start):
    """Stores of cells are those of their process, whenever they are read."""
    with pytest.raises(StateError, match=rf"restart: {named}.* Use the options of that run\."):
        check_options(config(**keys), state(), hot_start=hot_start)


def test_rivers_alone_are_taken_by_a_hot_start_of_cells_that_hold_nothing():
    given = config(runoff="caller", forcing="caller")
    assert not given.chain.holds_water
    check_options(given, state(runoff="gr5", components=2), hot_start=True)
    with pytest.raises(StateError, match=r"runoff is 'gr5'.*, or restart_mode: hot_start, which takes the rivers"):
        check_options(given, state(runoff="gr5"), hot_start=False)
    with pytest.raises(StateError, match="routing is 'kinematic', expected 'muskingum'"):
        check_options(given, state(runoff="gr5", routing="kinematic"), hot_start=True)


# ---- time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("time", "pending", "at_steps", "seconds"), [
    ("2001-03-01", 0, True, 0), ("2001-03-04", 0, True, 3 * DAY), ("2001-03-11", 0, True, 10 * DAY),
    ("2001-03-04T06:00:00", 0, False, 3 * DAY + 6 * HOUR), ("2001-03-10", 23 * HOUR, False, 9 * DAY),
])
def test_seconds_since_the_start(time, pending, at_steps, seconds):
    assert elapsed_at(config(), state(time), pending, at_steps=at_steps) == seconds


@pytest.mark.parametrize(("time", "pending", "at_steps", "at", "kind"), [
    ("2001-02-28", 0, True, "2001-02-28T00:00:00", "a step"),
    ("2001-03-12", 0, True, "2001-03-12T00:00:00", "a step"),
    ("2001-03-04T06:00:00", 0, True, "2001-03-04T06:00:00", "a step"),
    ("2001-02-28", 0, False, "2001-02-28T00:00:00", "a time"),
    ("2001-03-11", HOUR, False, "2001-03-11T01:00:00", "a time"),
])
def test_a_state_of_another_time(time, pending, at_steps, at, kind):
    message = (
        f"restart: valid at {at}, expected {kind} between start 2001-03-01T00:00:00 and end 2001-03-11T00:00:00. "
        "Change start or end, or set restart_mode: hot_start."
    )
    with pytest.raises(StateError, match=re.escape(message)):
        elapsed_at(config(), state(time), pending, at_steps=at_steps)


def test_a_state_within_a_step_and_a_policy_that_refuses_it():
    strict = config(sub_step_policy="refuse")
    assert elapsed_at(strict, state(), 0, at_steps=False) == 3 * DAY
    with pytest.raises(StateError, match="restart: saved 60 s into a step, and sub_step_policy is 'refuse'"):
        elapsed_at(strict, state(), 60, at_steps=False)


def test_a_state_of_another_calendar():
    with pytest.raises(StateError, match=r"restart: its date is in the calendar 360_day, expected standard"):
        elapsed_at(config(), state("2001-02-30", "360_day"), 0, at_steps=True)
    own = config(calendar="360_day", start="2001-02-28", end="2001-03-08")
    assert elapsed_at(own, state("2001-02-30", "360_day"), 0, at_steps=True) == 2 * DAY


# ---- rivers from elsewhere, and going on -------------------------------------------------------------------


def test_rivers_that_come_from_elsewhere():
    whole = random_domain(3, 9, 5)
    cut = whole._replace(boundary=np.array([4, 6]))
    caller = {"forcing": "caller", "coupled_inputs": ["boundary_inflow"]}
    check_boundary(config(), whole)
    check_boundary(config(**caller), cut)
    named = re.escape(f"domain.nc: what drains to reach {whole.reaches.id[4]} was cut off (2 such reaches)")
    with pytest.raises(ConfigError, match=rf"{named}.*Set coupled_inputs: \[boundary_inflow\]"):
        check_boundary(config(), cut)
    with pytest.raises(ConfigError, match=r"names 'boundary_inflow', and no reach of domain\.nc was cut off.*--below"):
        check_boundary(config(**caller), whole)
    with pytest.raises(ConfigError, match="spin_up is 2, expected 0: nobody gives the discharge of what was cut off"):
        check_boundary(SimpleNamespace(spin_up=2, coupled_inputs=("boundary_inflow",), domain=Path("domain.nc")), cut)


def test_what_to_resume(tmp_path, caplog):
    with pytest.raises(ConfigError, match=r"resume: the configuration has no 'restart', expected the file to go on"):
        can_resume(config())
    own = config(restart=str(tmp_path / "r.nc"))
    assert can_resume(own) is False and "r.nc: not written yet, running from the start" in caplog.text
    (tmp_path / "r.nc").touch()
    assert can_resume(own) is True
