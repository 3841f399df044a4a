"""Rude calls: whatever a host hands over by mistake is refused in words, and nothing is changed by it."""

from __future__ import annotations

import copy
import inspect
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cftime
import numpy as np
import pytest
from bmipy import Bmi
from cases import N_CELLS, N_REACHES, E, P, Q, assert_same, change_config, opened, outputs, write_case
from cf_units import Unit

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.bmi.component import BmiValueError
from bmi_cdlm.names.errors import CdlmError, ClockError, ConfigError, LifecycleError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable

ROOT = Path(__file__).resolve().parents[2]
STORE, CAPACITY = variable("production_store").name, "production_capacity"


PROFILES = [("unstructured", "csdms"), ("points", "csdms"), ("points", "ngen")]


def made(folder, grid, names):
    return opened(write_case(folder, snow="cemaneige_hysteresis", grid_profile=grid, name_profile=names))


@pytest.fixture(params=PROFILES, ids="-".join)
def component(request, tmp_path):
    with made(tmp_path, *request.param) as found:
        found.update()
        yield found


@pytest.fixture(params=PROFILES, ids="-".join, scope="module")
def untouched(request, tmp_path_factory):
    """A component of all tests that only have calls refused, which change nothing: `refused` holds them to that."""
    with made(tmp_path_factory.mktemp("untouched"), *request.param) as found:
        found.update()
        yield found


def everything(component):
    """All that a caller could have changed."""
    names = (*component.get_input_var_names(), *component.get_output_var_names(), *component.get_parameter_names())
    values = {n: component.get_value_ptr(n).copy() for n in names}
    return values | {f"state {n}": a.copy() for n, a in component._stepper.simulation.model.state.arrays().items()}


def refused(component, error, call):
    """The call raises an error of ours, whose message says something, and changes nothing."""
    before, now = everything(component), component.get_current_time()
    with pytest.raises(error) as found:
        call()
    assert isinstance(found.value, CdlmError) and len(str(found.value)) > 20
    assert component.get_current_time() == now
    assert_same(everything(component), before)


def inputs(component):
    return component.get_input_var_names()


# ---- every function answers as documented ----------------------------------------------------------------------


def test_every_function_answers_with_the_documented_type(component, tmp_path):
    """What bmi-tester, pymt, grpc4bmi and ngen rely on; every function of BMI is called here."""
    seen, config = set(), tmp_path / "case.yaml"

    def call(name, *arguments):
        seen.add(name)
        return getattr(component, name)(*arguments)

    assert isinstance(call("get_component_name"), str) and call("get_time_units") == "s"
    names = (*call("get_input_var_names"), *call("get_output_var_names"))
    assert call("get_input_item_count") + call("get_output_item_count") == len(names) == len(set(names))
    assert call("get_start_time") == 0.0 and isinstance(call("get_time_step"), float)
    assert call("get_start_time") < call("get_current_time") < call("get_end_time") < 1e15
    for name in (*names, *component.get_parameter_names()):
        assert call("get_var_type", name) in ("float64", "int32", "int64")
        assert call("get_var_location", name) in ("node", "edge", "face")
        assert call("get_var_units", name) not in ("", "-") and not Unit(call("get_var_units", name)).is_unknown()
        size = call("get_var_nbytes", name) // call("get_var_itemsize", name)
        assert size > 0 and isinstance(call("get_var_grid", name), int)
        live = call("get_value_ptr", name)
        assert isinstance(live, np.ndarray) and live.ndim == 1 and live.size == size
        for function, dest, more in (("get_value", np.empty(size), ()),
                                     ("get_value_at_indices", np.zeros(1), (np.array([0], np.int32),))):
            assert call(function, name, dest, *more) is dest
    for name in inputs(component):
        assert call("set_value", name, component.get_value_ptr(name).copy()) is None
        assert call("set_value_at_indices", name, np.array([0]), component.get_value_ptr(name)[:1].copy()) is None
    for grid in range(4):
        assert isinstance(call("get_grid_rank", grid), int) and isinstance(call("get_grid_size", grid), int)
        assert call("get_grid_type", grid) in ("unstructured", "points", "scalar")
        assert (call("get_grid_rank", grid) == 0) == (call("get_grid_type", grid) == "scalar")
        nodes, edges, faces = (call(f"get_grid_{n}_count", grid) for n in ("node", "edge", "face"))
        assert nodes == call("get_grid_size", grid) > 0
        assert edges > 0 or faces == 0
        if call("get_grid_type", grid) == "scalar":
            continue
        for axis in "xyz":
            dest = np.empty(nodes)
            assert call(f"get_grid_{axis}", grid, dest) is dest
        counts = np.zeros(faces, np.int32)
        assert call("get_grid_nodes_per_face", grid, counts) is counts
        for what, n in (("edge_nodes", 2 * edges), ("face_nodes", counts.sum()), ("face_edges", counts.sum())):
            dest = np.empty(n, int)
            assert call(f"get_grid_{what}", grid, dest) is dest
    for what in ("shape", "spacing", "origin"):
        with pytest.raises(NotImplementedError):
            call(f"get_grid_{what}", 0, np.zeros(2))
    call("update")
    call("update_until", component.get_current_time() + DAY)
    call("finalize")
    call("initialize", config)
    assert seen == {n for n, _ in inspect.getmembers(Bmi, inspect.isfunction) if not n.startswith("_")}


# ---- values ------------------------------------------------------------------------------------------------


WRONG_VALUES = [
    None, "3", [None] * N_CELLS, ["1"] * N_CELLS, np.ones(N_CELLS, complex), np.ones(N_CELLS, object),
    np.array(["2000-01-01"] * N_CELLS, "datetime64[s]"), np.ones(N_CELLS, bool), np.ones(N_CELLS + 1), 1.0, [], {},
    np.ones((N_CELLS, 2)),
]


@pytest.mark.parametrize("wrong", WRONG_VALUES, ids=lambda w: f"{type(w).__name__}-{getattr(w, 'dtype', '')}")
def test_values_that_are_no_numbers_or_too_many(untouched, wrong):
    for name in (inputs(untouched)[0], STORE, CAPACITY):
        refused(untouched, BmiValueError, lambda n=name: untouched.set_value(n, wrong))
        if np.size(wrong) != 1:
            refused(untouched, BmiValueError, lambda n=name: untouched.set_value_at_indices(n, np.array([0]), wrong))


@pytest.mark.parametrize("dest", [
    None, [0.0] * N_REACHES, np.empty(N_REACHES, int), np.empty(N_REACHES, complex), np.empty(N_REACHES, "U3"),
    np.empty(N_REACHES + 1), np.empty((N_REACHES, 2)), 3.0, np.broadcast_to(0.0, N_REACHES),
], ids=lambda d: f"{type(d).__name__}-{getattr(d, 'dtype', '')}")
def test_buffers_that_hold_something_else(untouched, dest):
    refused(untouched, BmiValueError, lambda: untouched.get_value(Q, dest))
    refused(untouched, BmiValueError, lambda: untouched.get_value_at_indices(Q, dest, np.arange(N_REACHES)))


@pytest.mark.parametrize("places", [
    [-1], [N_REACHES], [2**40], [0.0], ["0"], [True], [None], np.array([0j]), [np.nan],
], ids=str)
def test_indices_that_are_none(untouched, places):
    n = len(places)
    refused(untouched, BmiValueError, lambda: untouched.get_value_at_indices(Q, np.empty(n), places))
    for name in (inputs(untouched)[0], STORE, CAPACITY):
        refused(untouched, BmiValueError, lambda a=name: untouched.set_value_at_indices(a, places, np.ones(n)))


@pytest.mark.parametrize("name", ["", "discharge ", Q.upper(), Q + "\n", None, 3, ("a",), ["a"], b"rain"], ids=repr)
def test_names_that_are_none(untouched, name):
    dest = np.empty(N_REACHES)
    for call in (
        lambda: untouched.get_value(name, dest), lambda: untouched.get_value_ptr(name),
        lambda: untouched.get_var_units(name), lambda: untouched.set_value(name, dest),
        lambda: untouched.set_value_at_indices(name, [0], [0.0]), lambda: untouched.get_var_grid(name),
        lambda: untouched.get_value_bounds(name),
    ):
        refused(untouched, UnknownNameError, call)


@pytest.mark.parametrize("grid", [-1, 4, None, True, "0", 1.5, [0], (1,), np.array([1])], ids=repr)
def test_grids_that_are_none(untouched, grid):
    for call in (untouched.get_grid_rank, untouched.get_grid_type, untouched.get_grid_node_count):
        refused(untouched, UnknownNameError, lambda c=call: c(grid))
    refused(untouched, UnknownNameError, lambda: untouched.get_grid_x(grid, np.empty(3)))


@pytest.mark.parametrize("dest", [np.empty(N_REACHES, int), [0.0] * N_REACHES, None, np.empty(N_REACHES - 1)],
                         ids=lambda d: f"{type(d).__name__}-{getattr(d, 'dtype', '')}")
def test_coordinates_want_floats_and_indices_want_integers(untouched, dest):
    refused(untouched, BmiValueError, lambda: untouched.get_grid_x(1, dest))
    edges = untouched.get_grid_edge_count(1)
    for wrong in (np.empty(2 * edges), np.empty(2 * edges + 1, int), None):
        refused(untouched, BmiValueError, lambda w=wrong: untouched.get_grid_edge_nodes(1, w))


def test_outputs_are_not_inputs(untouched):
    for name in untouched.get_output_var_names():
        kept = untouched.get_value_ptr(name).copy()
        try:
            untouched.get_value_bounds(name)
        except BmiValueError:
            refused(untouched, BmiValueError, lambda n=name, v=kept: untouched.set_value(n, v))
            refused(untouched, BmiValueError, lambda n=name: untouched.set_value_at_indices(n, [0], [0.0]))


# ---- time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [
    0.0, -1.0, DAY - 1.0, DAY + 0.5, np.nan, np.inf, -np.inf, 1e300, 10 * DAY, None, "86400", [2 * DAY], 2j * DAY,
    np.array([2.0 * DAY]),
], ids=repr)
def test_times_that_cannot_be_reached(untouched, time):
    refused(untouched, ClockError, lambda: untouched.update_until(time))


@pytest.mark.parametrize("kind", [int, float, np.int64, np.float32, np.float64, np.array], ids=lambda k: k.__name__)
def test_times_of_any_kind_of_number(component, kind):
    component.update_until(kind(3 * DAY))
    assert type(component.get_current_time()) is float and component.get_current_time() == 3 * DAY


def test_a_policy_that_refuses_fractions_says_so(tmp_path):
    with opened(write_case(tmp_path, sub_step_policy="refuse")) as component:
        refused(component, ClockError, lambda: component.update_until(3600.0))
        component.update_until(DAY)


# ---- order of calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [None, 3, "", "none.yaml", b"case.yaml", ["case.yaml"], "."], ids=repr)
def test_a_failing_initialize_then_a_good_one(tmp_path, monkeypatch, config):
    good = write_case(tmp_path)
    monkeypatch.chdir(tmp_path)
    component = BmiCdlm()
    with pytest.raises(ConfigError):
        component.initialize(config)
    with pytest.raises(LifecycleError):
        component.update()
    component.initialize(str(good))
    component.update()
    refused(component, ConfigError, lambda: component.initialize(config))
    component.update()
    assert component.get_current_time() == 2 * DAY
    component.finalize()


@pytest.mark.parametrize("broken", [
    {"domain": "none.nc"}, {"forcing": "none.nc"}, {"parameters": "none.nc"}, {"parameters": "none.safetensors"},
    {"initial_state": "none.nc"}, {"start": "1900-01-01"}, {"time_step": "1 h"}, {"routing_step": "7 h"},
    {"ledger_tolerance": 0}, {"ledger_tolerance": "much"}, {"time_units": "d"}, {"snow": "deep"}, {"colour": "blue"},
], ids=lambda b: "-".join(map(str, next(iter(b.items())))))
def test_whatever_is_wrong_at_initialize_the_next_one_works(tmp_path, broken):
    good = write_case(tmp_path)
    bad = change_config(good, "bad.yaml", **broken)
    component = BmiCdlm()
    with pytest.raises(CdlmError, match=r"\w{3,}"):
        component.initialize(str(bad))
    component.initialize(str(good))
    component.update()
    flow = component.get_value_ptr(Q)
    kept = flow.copy()
    refused(component, CdlmError, lambda: component.initialize(str(bad)))
    assert component.get_value_ptr(Q) is flow and (flow == kept).all()
    component.finalize()


def test_after_finalize_everything_is_refused_and_pointers_stay_readable(component):
    live = {n: component.get_value_ptr(n) for n in (*inputs(component), Q, STORE, CAPACITY)}
    kept = {n: v.copy() for n, v in live.items()}
    component.finalize()
    for call in (component.update, lambda: component.update_until(2 * DAY), component.get_current_time,
                 lambda: component.set_value(STORE, kept[STORE]), component.get_parameter_names,
                 lambda: component.get_value_bounds(STORE), lambda: component.get_grid_rank(0)):
        with pytest.raises(LifecycleError, match="initialize"):
            call()
    assert_same(live, kept)
    component.finalize()


# ---- manners ---------------------------------------------------------------------------------------------


def test_it_is_quiet_and_leaves_logging_alone(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    code = (
        "import logging, warnings; warnings.simplefilter('error')\n"
        "before = logging.root.handlers[:], logging.root.level\n"
        "from bmi_cdlm import BmiCdlm\n"
        f"m = BmiCdlm(); m.initialize({str(config)!r}); m.update_until(3 * 86400.0); m.finalize()\n"
        "assert before == (logging.root.handlers, logging.root.level)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'training'}"},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert logging.getLogger("bmi_cdlm").handlers == []


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_times_turn_into_dates_when_asked(tmp_path, step):
    """As eWaterCycle reads them."""
    config = write_case(tmp_path, step=step, time_units="since")
    with opened(config) as component:
        units = component.get_time_units()
        assert units == "seconds since 2001-03-01 00:00:00" and component.get_start_time() == 0.0
        component.update()

        def date(time):
            return cftime.num2date(time, units, only_use_cftime_datetimes=False, only_use_python_datetimes=True)

        assert date(component.get_start_time()).isoformat() == "2001-03-01T00:00:00"
        assert (date(component.get_current_time()) - date(0.0)).total_seconds() == step
        end = component._stepper.simulation.config.end
        assert np.datetime64(date(component.get_end_time())) == end
        component.set_value(E, np.ones(N_CELLS))
        component.set_value(P, np.ones(N_CELLS))
        component.update_until(component.get_end_time())
        expected = outputs(component)
    with opened(change_config(config, time_units="s")) as component:
        assert component.get_time_units() == "s"
        component.update()
        component.set_value(E, np.ones(N_CELLS))
        component.set_value(P, np.ones(N_CELLS))
        component.update_until(component.get_end_time())
        assert_same(outputs(component), expected)


def test_a_component_that_holds_a_model_is_neither_copied_nor_pickled(tmp_path):
    """Two of one model would move each other, and to finalize one would close the other."""
    idle = pickle.loads(pickle.dumps(BmiCdlm()))
    assert copy.deepcopy(idle).get_component_name() == "CDLM"
    with opened(write_case(tmp_path)) as component:
        for call in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(LifecycleError, match=r"neither copied nor pickled. .* hand its state over"):
                call(component)
        component.update()
    idle.initialize(str(tmp_path / "case.yaml"))
    idle.finalize()
    assert pickle.dumps(idle)


def test_grids_that_are_not_there_are_named_as_they_were_asked_for(tmp_path):
    with opened(write_case(tmp_path)) as component:
        for grid in ("0", 1.0, 99, True):
            with pytest.raises(UnknownNameError, match=rf"there is no grid {grid!r}\. Grids: 0 cells, .*11 boundaries"):
                component.get_grid_type(grid)
