"""The configuration: every key, every way to get one wrong, and what the message says."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.variables import VARIABLES
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.screening import ScreeningConfig
from bmi_cdlm.run.values import parse_date, parse_duration

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"domain": "domain.nc", "forcing": "forcing.nc", "start": "2012-08-01", "end": "2012-08-11"}


@pytest.fixture
def load(tmp_path):
    """Write keys over the least that is needed (None leaves one out) and load."""
    path = tmp_path / "run.yaml"

    def write_and_load(overrides=None, **keys):
        path.write_text(yaml.safe_dump({k: v for k, v in {**LEAST, **keys}.items() if v is not None}))
        return load_config(path, overrides)

    return write_and_load


def assert_refused(load, *patterns, overrides=None, **keys):
    """The message names the file and holds every pattern."""
    with pytest.raises(ConfigError) as caught:
        load(overrides, **keys)
    for pattern in ("run.yaml", *patterns):
        assert pattern in str(caught.value), str(caught.value)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, Exception)


def test_defaults(load):
    config = load()
    assert config.time_step == 86400 and config.routing_step == 3600
    assert config.n_steps == 10
    assert config.parameters == "default" and config.initial_state == "steady"
    assert config.output is None and config.restart is None and config.observations is None
    assert config.output_variables == ("discharge",) and config.output_at == "gauges"
    assert (config.snow, config.spin_up, config.threads) == ("none", 0, 1)
    assert (config.sub_step_policy, config.name_profile, config.grid_profile) == ("accumulate", "csdms", "unstructured")
    assert config.restart_mode == "resume" and config.forcing_fill == {}
    assert config.inputs == ["precipitation", "potential_evapotranspiration"]


EVERY_KEY = {
    "domain": ("d.nc", "d.nc"), "forcing": ("caller", "caller"), "parameters": ("p.nc", "p.nc"),
    "forcing_fill": ({"precipitation": "zero"}, {"precipitation": "zero"}),
    "start": ("2012-08-01T06:00", np.datetime64("2012-08-01T06:00:00")),
    "end": ("2012-08-02 06:00:00", np.datetime64("2012-08-02T06:00:00")),
    "calendar": ("gregorian", "standard"),
    "time_step": ("1 h", 3600), "routing_step": ("15 min", 900),
    "precipitation": ("undercatch", "undercatch"),
    "snow": ("cemaneige_hysteresis", "cemaneige_hysteresis"), "runoff": ("gr4j", "gr4j"),
    "routing": ("muskingum", "muskingum"), "components": (3, 3),
    "initial_state": ("state.nc", "state.nc"), "restart_mode": ("hot_start", "hot_start"), "spin_up": (0, 0),
    "day_begins": (None, None), "call_sums": (["runoff"], ("runoff",)),
    "initial_rain": (None, None), "initial_runoff": (None, None),
    "output": ("out/run.nc", "out/run.nc"), "output_variables": (["snowmelt", "runoff"], ("snowmelt", "runoff")),
    "output_at": ("cells", "cells"), "output_step": ("12 h", 43200), "output_precision": (4, 4),
    "restart_every": ("12 h", 43200), "memory": ("64 MiB", 2**26), "restart": ("end.nc", "end.nc"),
    "observations": ("o.nc", "o.nc"),
    "threads": (2, 2), "sub_step_policy": ("refuse", "refuse"), "name_profile": ("ngen", "ngen"),
    "grid_profile": ("points", "points"), "training": ({"epochs": 3}, {"epochs": 3}),
    "experiment": ({"folds": 3}, {"folds": 3}), "member": (2, 2),
    "screening": ({"table": "/g.csv"}, ScreeningConfig(table=Path("/g.csv"))),
    "signatures": ({"search": 3}, {"search": 3}), "map_fit": ({"folds": True}, {"folds": True}),
    "prepare": ({"title": "a case"}, {"title": "a case"}),
    "ledger_tolerance": (1e-9, 1e-9), "time_units": ("since", "since"),
    "forcing_fill_limit": ({"precipitation": "3 d"}, {"precipitation": 3 * 86400}),
    "pet": ("oudin", "oudin"), "pet_kind": ("oudin", "oudin"),
    "sub_step_outputs": (["discharge"], ("discharge",)),
    "coupled_inputs": (["reach_inflow"], ("reach_inflow",)),
    "published_inputs": (["precipitation", "air_temperature"], ("precipitation", "air_temperature")),
}


def test_every_key_is_read(load, tmp_path):
    assert set(EVERY_KEY) == set(Config.model_fields)
    config = load(**{key: given for key, (given, _) in EVERY_KEY.items()})
    for key, (_, expected) in EVERY_KEY.items():
        if isinstance(expected, str) and expected.endswith(".nc"):
            expected = tmp_path / expected
        assert getattr(config, key) == expected, key
    assert config.n_steps == 24
    assert config.inputs == ["precipitation", "air_temperature"]
    assert config.published == ("precipitation", "air_temperature")


def test_every_key_is_described():
    for key, field in Config.model_fields.items():
        assert field.description and field.description.endswith("."), key


def test_a_configuration_is_frozen(load):
    with pytest.raises(ValidationError):
        load().threads = 4


WEATHER = [
    "precipitation", "air_temperature", "minimum_air_temperature", "maximum_air_temperature", "specific_humidity",
    "air_pressure", "shortwave_radiation", "wind_x", "wind_y",
]


@pytest.mark.parametrize(("keys", "inputs"), [
    ({}, ["precipitation", "potential_evapotranspiration"]),
    ({"snow": "cemaneige"}, ["precipitation", "potential_evapotranspiration", "air_temperature"]),
    ({"pet": "oudin"}, WEATHER[:2]), ({"pet": "oudin", "snow": "cemaneige"}, WEATHER[:2]),
    ({"pet": "hargreaves"}, WEATHER[:4]), ({"pet": "penman_monteith"}, WEATHER),
    ({"pet": "penman_monteith", "time_step": "1 h"}, WEATHER[:2] + WEATHER[4:]),
])
def test_what_a_run_needs(load, keys, inputs):
    assert load(**keys).inputs == inputs
    assert load(**keys).published == tuple(inputs)
    published = load(**keys, forcing="caller").published  # a caller's daily range is accumulated
    assert published == tuple(n for n in inputs if not n.startswith("m"))


@pytest.mark.parametrize(("keys", "message"), [
    ({"pet": "hargreaves", "time_step": "1 h"}, "no hourly form"),
    ({"pet": "oudin", "pet_kind": "penman_monteith"}, "pet_kind is penman_monteith while pet is oudin"),
    ({"member": 2}, "member is 2, and parameters is default; expected a checkpoint"),
    ({"published_inputs": ["precipitation", "precipitation"]}, "one input twice"),
    ({"published_inputs": ["precipitatoin"]}, "Did you mean 'precipitation'"),
    ({"published_inputs": ["runoff"]}, "no input 'runoff'"),
    ({"published_inputs": ["precipitation"], "forcing": "caller"}, "lacks 'potential_evapotranspiration'"),
])
def test_inputs_that_cannot_be(load, keys, message):
    with pytest.raises(ConfigError, match=message):
        load(**keys)


# ---- files and paths -------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "cases"
    folder.mkdir()
    keys = {**LEAST, "output": "../out.nc", "parameters": str(tmp_path / "p.nc")}
    (folder / "run.yaml").write_text(yaml.safe_dump(keys))
    monkeypatch.chdir(tmp_path)
    config = load_config("cases/run.yaml")
    assert config.domain == Path("cases/domain.nc")
    assert config.output.resolve() == tmp_path / "out.nc"
    assert config.parameters == tmp_path / "p.nc"
    assert load_config(str(folder / "run.yaml")).forcing == folder / "forcing.nc"


def test_overrides_replace_keys_and_stay_as_they_are(load):
    config = load({"threads": 3, "parameters": Path("elsewhere/p.nc")}, threads=2)
    assert config.threads == 3
    assert config.parameters == Path("elsewhere/p.nc")
    assert_refused(load, "threads", overrides={"threads": 0})
    assert_refused(load, "thraeds", overrides={"thraeds": 1})


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read .*No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"domain: [a, b", "is not valid YAML"), (b"a: b: c", "is not valid YAML"), (b"\xff\xfe\x00", "cannot be read"),
        (b"", "holds NoneType, expected keys and values"), (b"- a\n- b\n", "holds list"), (b"just words", "holds str"),
        (b"!!python/object/apply:os.getcwd []", "is not valid YAML"),
        (b"domain: a.nc\ndomain: b.nc\n", "key 'domain' is given twice, first in line 1"),
        (b"? [a]\n: b\n", "is not valid YAML"),
        (b"training:\n  epochs: 1\n  epochs: 2\n", "key 'epochs' is given twice, first in line 2"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "bad.yaml" in str(caught.value)
    if b"holds" not in message.encode():
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("tread", "threads"), ("outputs", "output"), ("routing-step", "routing_step"), ("Domain", "domain")],
)
def test_an_unknown_key_names_the_nearest(load, wrong, right):
    assert_refused(load, f"unknown key '{wrong}'", f"Did you mean '{right}'?", "Known: domain, forcing", **{wrong: 1})


def test_keys_that_are_no_names(load):
    assert_refused(load, "unknown key '12'", **{"12": 1})
    assert_refused(load, "unknown key", **{"": 1})


@pytest.mark.parametrize("key", ["domain", "forcing", "start", "end"])
def test_a_missing_key(load, key):
    assert_refused(load, f"key '{key}' is missing", **{key: None})


# ---- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1 d", 86400), ("1 h", 3600), ("15 min", 900), ("30 s", 30), ("24 h", 86400), (" 2  h ", 7200)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "1", "d", "1 day", "1d", "1.5 h", "-1 h", "0 h", "h 1", "1 h 30 min", None, 3600, "¹ h", "1 H", True],
)
def test_durations_that_are_none(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    "value",
    ["2012-08-01", datetime.date(2012, 8, 1), datetime.datetime(2012, 8, 1), np.datetime64("2012-08-01"),
     "2012-08-01T00:00:00", "2012-08-01 00:00", "2012-08-01T00:00Z", "2012-08-01T02:00+02:00", "20120801",
     datetime.datetime(2012, 8, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))],
)
def test_dates(value):
    date = parse_date(value)
    assert date == np.datetime64("2012-08-01T00:00:00")
    assert date.dtype == "datetime64[s]"


@pytest.mark.parametrize(
    "value",
    [2012, "2012", "2012-08", "now", "today", "NaT", "", "2012-13-01", "2012-02-30", "01.08.2012", None, [1], True,
     np.datetime64("NaT"), 3.5, {"a": 1}],
)
def test_dates_that_are_none(load, value):
    with pytest.raises(ValueError, match="is not a date; expected for example 2012-08-01"):
        parse_date(value)
    if isinstance(value, (int, str)):
        assert_refused(load, f"start: '{value}' is not a date", start=value)


def test_a_fraction_of_a_second_is_no_date(load):
    assert_refused(load, "end:", "whole second", end="2012-08-11T00:00:00.5")


@pytest.mark.parametrize("end", ["2012-08-01", "2012-07-31"])
def test_end_before_start(load, end):
    assert_refused(load, f"end is {end}", "after start, 2012-08-01", end=end)


def test_a_period_of_no_whole_steps(load):
    assert_refused(load, "no whole number of time steps of 86400 s", end="2012-08-02T12:00")
    assert load(end="2012-08-02T12:00", time_step="1 h").n_steps == 36
    assert_refused(load, "steps of 3600 s", end="2012-08-02T12:30", time_step="1 h")


@pytest.mark.parametrize("step", ["6 h", "2 d", "15 min", "1 s"])
def test_a_step_that_the_model_does_not_offer(load, step):
    assert_refused(load, f"time_step is {parse_duration(step)} s", "`1 d` or `1 h`", time_step=step, end="2012-08-03")


@pytest.mark.parametrize(("step", "routing"), [("1 d", "7 h"), ("1 d", "2 d"), ("1 h", "1 d"), ("1 h", "25 min")])
def test_a_routing_step_that_does_not_divide(load, step, routing):
    got = f"routing_step is {parse_duration(routing)} s"
    assert_refused(load, got, "divisor", time_step=step, routing_step=routing)


@pytest.mark.parametrize(
    ("keys", "patterns"),
    [
        ({"time_step": "fast"}, ["time_step", "'fast' is not a duration"]),
        ({"time_step": 3600}, ["time_step", "'3600' is not a duration"]),
        ({"threads": 0}, ["threads is 0", "greater than or equal to 1"]),
        ({"threads": "many"}, ["threads is 'many'", "integer"]),
        ({"threads": 1.5}, ["threads is 1.5"]),
        ({"spin_up": -1}, ["spin_up is -1"]),
        ({"snow": "yes"}, ["snow: there is no process 'yes'", "Installed: cemaneige, cemaneige_hysteresis", "none"]),
        ({"snow": "cemaneig"}, ["snow: there is no process 'cemaneig'", "Did you mean 'cemaneige'?"]),
        ({"runoff": "gr4jj"}, ["runoff: there is no process 'gr4jj'", "Did you mean 'gr4j'?", "Installed: gr4j"]),
        ({"routing": "muskingam"}, ["routing: there is no process", "Did you mean 'muskingum'?", "bmi_cdlm.processes"]),
        ({"runoff": "muskingum"}, ["runoff: 'muskingum' is a process of kind routing", "`routing:`"]),
        ({"snow": "gr4j"}, ["snow: 'gr4j' is a process of kind runoff"]),
        ({"precipitation": "undercach"}, ["there is no process 'undercach'", "Did you mean 'undercatch'?", "given"]),
        ({"precipitation": "undercatch", "runoff": "hbv_undercatch"}, ["it would count twice"]),
        ({"runoff": 4}, ["runoff is 4", "string"]),
        ({"components": 0}, ["components is 0", "greater than or equal to 1"]),
        ({"components": 4097}, ["components is 4097", "less than or equal to 4096"]),
        ({"components": "two"}, ["components is 'two'", "integer"]),
        ({"sub_step_policy": "accept"}, ["sub_step_policy is 'accept'", "'refuse'"]),
        ({"name_profile": "NGEN"}, ["name_profile is 'NGEN'", "'ngen'"]),
        ({"grid_profile": "raster"}, ["grid_profile is 'raster'", "'points'"]),
        ({"restart_mode": "cold"}, ["restart_mode is 'cold'", "'hot_start'"]),
        ({"domain": 3}, ["domain is 3", "path"]),
        ({"output": ["a"]}, ["output is ['a']"]),
        ({"forcing_fill": "guess"}, ["forcing_fill.precipitation is 'guess'", "'interpolate'"]),
        ({"forcing_fill": {"air_temperature": "mean"}}, ["forcing_fill.air_temperature is 'mean'"]),
        ({"forcing_fill_limit": {"air_temperature": "long"}}, ["limit.air_temperature", "'long' is not a"]),
        ({"forcing_fill_limit": {"rain": "1 d"}}, ["forcing_fill_limit", "no input 'rain'"]),
        ({"forcing_fill": {"rain": "zero"}}, ["forcing_fill", "no input 'rain'"]),
        ({"forcing_fill": ["zero"]}, ["forcing_fill is ['zero']"]),
        ({"spin_up": 1, "forcing": "caller"}, ["spin_up is 1", "forcing: caller"]),
        ({"spin_up": 2, "initial_state": "state.nc"}, ["spin_up is 2", "restart file"]),
    ],
    ids=lambda v: "-".join(f"{k}={x}" for k, x in v.items()) if isinstance(v, dict) else "",
)
def test_bad_values_name_key_and_value(load, keys, patterns):
    assert_refused(load, *patterns, **keys)


def test_all_faults_are_named_at_once(load):
    told = ("threads is 0", "snow: there is no process 'x'", "key 'end' is missing")
    assert_refused(load, *told, threads=0, snow="x", end=None)


def test_one_fill_for_all_inputs(load):
    assert set(load(forcing_fill="hold").forcing_fill.items()) == {
        (v.short, "hold") for v in VARIABLES if v.role == "input"
    }


# ---- output ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "patterns"),
    [
        ({"output_variables": ["dischrage"]}, ["no variable 'dischrage'", "Did you mean 'discharge'"]),
        ({"output_variables": []}, ["output_variables is empty"]),
        ({"output_variables": ["discharge", "discharge"]}, ["one variable twice"]),
        ({"output_variables": "discharge"}, ["output_variables is 'discharge'"]),
        ({"output_variables": ["precipitation"], "output_at": "cells"}, ["'precipitation' is input"]),
        ({"output_variables": ["runoff"]}, ["'runoff' is flux on cell; expected an output on reach", "at: gauges"]),
        ({"output_variables": ["discharge"], "output_at": "cells"}, ["on reach; expected an output on cell"]),
        ({"output_variables": ["runoff"], "output_at": ["7"]}, ["expected an output on reach"]),
        ({"output_variables": ["water_in"]}, ["'water_in' is total on domain"]),
        ({"output_variables": ["snowpack"], "output_at": "cells"},
         ["'snowpack' is of snow cemaneige or", "expected snow: cemaneige"]),
        ({"output_variables": ["snowmelt"], "output_at": "cells"},
         ["'snowmelt' is of snow cemaneige or", "expected snow: cemaneige"]),
        ({"output_at": "everywhere"}, ["output_at: ", "everywhere' cannot be read", "reaches, cells, a list"]),
        ({"output_at": []}, ["output_at"]),
        ({"output_at": ["a", "a"]}, ["output_at", "twice"]),
        ({"output": "forcing.nc"}, ["output is", "the file of forcing"]),
        ({"restart": "domain.nc"}, ["restart is", "the file of domain"]),
        ({"output": "a.nc", "restart": "a.nc"}, ["restart is", "the file of output"]),
    ],
    ids=str,
)
def test_outputs_that_cannot_be(load, keys, patterns):
    assert_refused(load, *patterns, **keys)


@pytest.mark.parametrize(("keys", "message"), [
    ({"initial_runoff": 1.0, "initial_state": "state.nc"},
     "initial_rain or initial_runoff without initial_state: equilibrium, which they describe"),
    ({"output_variables": ["inflow_total"], "output_at": "reaches"},
     "output_variables: 'inflow_total' is kept with a ledger_tolerance only; set one"),
    ({"output_variables": ["exchange_missing"], "output_at": "cells"},
     "output_variables: 'exchange_missing' is of coupled_inputs, which other models give through BMI"),
    ({"coupled_inputs": ["reach_inflow", "reach_inflow"]},
     "coupled_inputs names one input twice: reach_inflow, reach_inflow"),
    ({"published_inputs": ["reach_inflow"]}, "published_inputs names 'reach_inflow'; expected it under coupled_inputs"),
])
def test_keys_that_need_another(load, keys, message):
    assert_refused(load, message, **keys)


def test_the_key_that_they_need(load):
    kept = {"output_variables": ["inflow_total"], "output_at": "reaches", "ledger_tolerance": 1e-9}
    assert load(**kept).output_variables == ("inflow_total",)
    assert load(initial_rain=1.0, initial_state="equilibrium").initial_rain == 1.0


def test_ids_may_be_numbers(load):
    assert load(output_at=[101, "b7"]).output_at == ("101", "b7")
    assert_refused(load, "output_at", output_at=[1.5])


@pytest.mark.parametrize("name", ["lez.yaml", "cance.yaml"])
def test_the_cases_of_the_project_are_valid(name):
    config = load_config(ROOT / "cfg" / name)
    assert config.n_steps > 300
    assert config.domain.parent == ROOT / "cfg" / Path(name).stem


# ---- files that nothing is written over -------------------------------------------------------------------


@pytest.mark.parametrize("key", ["output", "restart"])
@pytest.mark.parametrize(
    ("written", "of", "more"),
    [("sub/../domain.nc", "domain", {}), ("./forcing.nc", "forcing", {}), ("link.nc", "domain", {}),
     ("p.nc", "parameters", {"parameters": "p.nc"}), ("o.nc", "observations", {"observations": "o.nc"}),
     ("t.csv", "screening.table", {"screening": {"table": "sub/../t.csv"}}),
     ("run.yaml", "the configuration itself", {}), ("sub/../run.yaml", "the configuration itself", {}),
     ("ids.txt", "output_at", {"output_at": "ids.txt"})],
)
def test_inputs_are_not_written_over_however_they_are_named(load, tmp_path, key, written, of, more):
    (tmp_path / "sub").mkdir()
    (tmp_path / "domain.nc").touch()
    (tmp_path / "link.nc").symlink_to("domain.nc")
    (tmp_path / "ids.txt").write_text("r1\n")
    assert_refused(load, f"{key} is ", f"the file of {of}; expected a path of its own", **{key: written}, **more)


def test_a_run_may_go_on_from_the_restart_file_that_it_writes(load):
    config = load(restart="r.nc", initial_state="./r.nc")
    assert config.restart.name == config.initial_state.name == "r.nc"
    assert_refused(load, "output is ", "the file of initial_state", output="a/../r.nc", initial_state="r.nc")
    assert_refused(load, "restart is ", "the file of output", output="a/../r.nc", restart="r.nc")


def test_what_commands_write_is_none_of_the_files_of_a_run(load, tmp_path):
    config = load(output="run.nc", restart="r.nc", observations="o.nc")
    own = {"domain.nc": "domain", "x/../o.nc": "observations", "run.nc": "output", "r.nc": "restart"}
    for name, key in own.items():
        with pytest.raises(ConfigError, match=rf"--to: .*{name} is the file of {key}, which would be lost"):
            config.check_target(tmp_path / name, "--to")
    config.check_target(tmp_path / "r.nc", "--to", replaces=("restart",))
    config.check_target(tmp_path / "page.html", "--to")


@pytest.mark.parametrize("key", ["threads", "spin_up", "components", "initial_rain", "ledger_tolerance", "member"])
@pytest.mark.parametrize("value", [True, False])
def test_a_word_of_yaml_is_no_number(load, key, value):
    """YAML reads `yes` as true, which counts as 1 in Python."""
    assert_refused(load, f"{key}: is {str(value).lower()}", "expected a number", **{key: value})


def test_ids_of_a_file_with_a_byte_order_mark(load, tmp_path):
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfr1\r\n r2 \r\n\r\n")
    assert load(output_at="ids.txt").output_at == ("r1", "r2")


@pytest.mark.parametrize("key", ["pet", "runoff"])
def test_none_is_no_process_of_another_kind(load, key):
    assert_refused(load, f"{key}: there is no process 'none'", "Installed: ", **{key: "none"})
    assert load(routing="none").routing == load(routing="none", snow="none").routing == "none"


def test_a_hint_ends_as_a_question(load):
    with pytest.raises(ConfigError, match=r"no input 'precip'\. Did you mean 'precipitation'\? See cfg/README"):
        load(published_inputs=["precip"])
