"""States that hosts give back: both protocols, resume and hot start, hourly and daily, in mid-day, date fits or not."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from cases import DEPTH, N_CELLS, E, P, change_config, opened, write_case
from ngen_host import EXAMPLE, MASSES, RAIN, Ngen, weather

from bmi_cdlm.names.errors import ConfigError, StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.prepare.nextgen import Options, write_catchments
from bmi_cdlm.run.config import load_config

START = np.datetime64("2015-12-01", "s")
END = START + np.timedelta64(20, "D")
HOURS = 200
TOTAL = variable("runoff_depth_total").name


def catchment(folder, time_step, **options):
    """Configuration of the first catchment of the example."""
    paths = write_catchments(
        EXAMPLE / "catchments.csv", folder,
        Options(START, END, time_step, **{"snow": "cemaneige", "pet": "oudin", **options}),
    )
    return paths[1]


def save_as_ngen(model):
    """Protocol 0.2."""
    model.set_value("ngen::serialization_create", np.ones(1, np.int32))
    size = model.get_value_ptr("ngen::serialization_size")[0]
    content = model.get_value_ptr("ngen::serialization_state").copy()
    assert content.size == size > 0 and content.dtype == np.uint8
    model.set_value("ngen::serialization_free", np.ones(1, np.int32))
    return content


def restore_as_ngen(model, content):
    model.set_value("ngen::serialization_size", np.array([content.size], np.int64))
    model.set_value("ngen::serialization_state", content)


def save_as_ngwpc(model):
    """The other branch: the size is read, which takes the state."""
    assert model.get_var_type("serialization_create") == "uint64"
    assert model.get_var_itemsize("serialization_create") == model.get_var_nbytes("serialization_create") == 8
    assert model.get_value_ptr("serialization_state").size == 0
    size = model.get_value_ptr("serialization_create")
    assert size.dtype == np.uint64 and size.shape == (1,)
    content = model.get_value_ptr("serialization_state")
    assert content.dtype == np.uint8 and content.size == size[0] > 0
    content = content.copy()
    model.set_value("serialization_free", np.zeros(1, np.int32))
    assert model.get_value_ptr("serialization_state").size == 0
    return content


def restore_as_ngwpc(model, content):
    model.set_value("serialization_state", content)


PROTOCOLS = {"ngen": (save_as_ngen, restore_as_ngen), "ngwpc": (save_as_ngwpc, restore_as_ngwpc)}


@pytest.fixture(params=list(PROTOCOLS))
def protocol(request):
    return PROTOCOLS[request.param]


def report(host, forcing):
    """All that ngen writes of an hour, with its mass balance and the sum of depths."""
    first = host.step(forcing)
    residual, came = host.residual()
    assert residual <= 1e-9 * came + 1e-14
    return {**first, TOTAL: host.model.get_value_ptr(TOTAL)[0], **{n: host.masses[n][0] for n in MASSES}}


@pytest.mark.parametrize("time_step", [HOUR, DAY])
@pytest.mark.parametrize("saved_at", [0, 1, 24, 25, 49, 61])
def test_a_restart_that_init_configures_is_the_unbroken_run(tmp_path, protocol, time_step, saved_at):
    """ngen begins anew at the time of the state: clock from 0, a daily model in mid-day, every bit the same."""
    save, restore = protocol
    hours = list(weather(120))
    host = Ngen(catchment(tmp_path / "first", time_step))
    reports = []
    for hour in range(120):
        if hour == saved_at:
            state = save(host.model)
        reports.append(report(host, hours[hour]))
    host.model.finalize()
    at = START + np.timedelta64(saved_at, "h")
    config = catchment(tmp_path / "second", time_step, restart=at)
    assert load_config(config).start == at
    realization = json.loads((tmp_path / "second" / "realization.json").read_text())
    assert realization["time"]["start_time"] == str(at).replace("T", " ")
    host = Ngen(config)
    restore(host.model, state)
    assert host.model.get_current_time() == 0.0
    last = (END - at).astype(int)
    assert last <= host.model.get_end_time() <= last + 2 * DAY
    for hour in range(saved_at, 120):
        assert report(host, hours[hour]) == reports[hour], hour
        assert host.model.get_current_time() == (hour + 1 - saved_at) * 3600
    host.model.finalize()


@pytest.mark.parametrize("time_step", [HOUR, DAY])
def test_a_chain_of_restarts_in_mid_day(tmp_path, time_step):
    """Every 7 hours another process: still the unbroken run."""
    hours = list(weather(70))
    host = Ngen(catchment(tmp_path / "whole", time_step))
    expected = [report(host, forcing) for forcing in hours]
    host.model.finalize()
    state = None
    for first in range(0, 70, 7):
        at = START + np.timedelta64(first, "h")
        host = Ngen(catchment(tmp_path / str(first), time_step, restart=at))
        if state is not None:
            restore_as_ngen(host.model, state)
        for hour in range(first, first + 7):
            assert report(host, hours[hour]) == expected[hour]
        state = save_as_ngen(host.model)
        host.model.finalize()


@pytest.mark.parametrize("time_step", [HOUR, DAY])
def test_a_start_that_was_not_moved_is_refused_and_changes_nothing(tmp_path, protocol, time_step):
    save, restore = protocol
    config = catchment(tmp_path, time_step)
    hours = list(weather(60))
    host = Ngen(config)
    for forcing in hours[:25]:
        host.step(forcing)
    state = save(host.model)
    host.model.finalize()
    host, other = Ngen(config), Ngen(config)
    with pytest.raises(StateError, match=r"is of 2015-12-02T01:00:00, the configuration starts at 2015-12-01T00:00:00.*"
                       r"Set start: 2015-12-02T01:00:00 .*--restart 2015-12-02T01:00:00.*hot_start"):
        restore(host.model, state)
    assert [report(host, f) for f in hours[:30]] == [report(other, f) for f in hours[:30]]
    for found in (host, other):
        found.model.finalize()


def test_a_running_instance_may_be_taken_back(tmp_path):
    """An ensemble's way: not at the begin, but in the run."""
    host = Ngen(catchment(tmp_path, DAY))
    hours = list(weather(60))
    for forcing in hours[:30]:
        host.step(forcing)
    state = save_as_ngen(host.model)
    expected = [report(host, forcing) for forcing in hours[30:]]
    restore_as_ngen(host.model, state)
    assert [report(host, forcing) for forcing in hours[30:]] == expected
    host.model.finalize()


@pytest.mark.parametrize("time_step", [HOUR, DAY])
@pytest.mark.parametrize("saved_at", [24, 31, 47])
def test_a_hot_start_loses_no_water(tmp_path, protocol, time_step, saved_at):
    """Sums begin at 0, stores do not; what waited leaves as it would, what was not used falls in the first step."""
    save, restore = protocol
    config = catchment(tmp_path, time_step)
    hours = list(weather(200))
    host = Ngen(config)
    for forcing in hours[:saved_at]:
        before = report(host, forcing)
    simulation = host.model._stepper.simulation
    waited = simulation.release.runoff[0] / 1000.0
    unused = simulation.inputs.pending["precipitation"][0] / DAY / 1000.0
    live, area = simulation.model.live, simulation.model.domain.cells.drained_area[0] * 1e6
    held, state = live["water_stored"][0] / area, save(host.model)
    host.model.finalize()
    assert (waited > 0) == (time_step == DAY and saved_at != 47)
    assert (unused > 0) == (time_step == DAY and saved_at != 24)

    host = Ngen(change_config(config, restart_mode="hot_start"))
    restore(host.model, state)
    assert host.model.get_current_time() == 0.0
    assert all(host.masses[n][0] == 0.0 for n in MASSES)
    assert host.model.get_value_ptr(DEPTH)[0] == host.model.get_value_ptr(TOTAL)[0] == 0.0
    handed = rained = 0.0
    for number, forcing in enumerate(hours[:72], 1):
        after = report(host, forcing)
        handed += after[DEPTH]
        rained += forcing[RAIN][0] * 3600 / 1000.0
        np.testing.assert_allclose(after[TOTAL], handed, rtol=1e-11, atol=1e-18)
        np.testing.assert_allclose(after["ngen::mass_in"], rained, rtol=1e-11)
        if waited and number <= simulation.release.seconds // 3600:
            np.testing.assert_allclose(after[DEPTH], before[DEPTH], rtol=1e-11)  # at the rate at which it left
    # Over both runs: all rain of the incomplete day is in the stores or left, and so is the runoff that waited.
    model = host.model._stepper.simulation.model
    state = model.state
    ran_off = state.totals.runoff_total[0] / 1000.0
    used = model.live["water_in"][0] / area
    np.testing.assert_allclose(used, rained + unused, rtol=1e-12)
    gone = state.totals.evapotranspiration_total[0] / 1000.0 + ran_off - state.totals.exchange_total[0] / 1000.0
    np.testing.assert_allclose(held + used - gone, model.live["water_stored"][0] / area, rtol=1e-12)
    still = host.model._stepper.release.runoff[0] / 1000.0
    np.testing.assert_allclose(handed, ran_off + waited - still, rtol=1e-11)
    host.model.finalize()


def test_a_hot_start_goes_on_from_bytes(tmp_path):
    """What a hot start took over is a part of its own states."""
    config = catchment(tmp_path, DAY)
    hot = change_config(config, restart_mode="hot_start")
    hours = list(weather(90))
    host = Ngen(config)
    for forcing in hours[:31]:
        host.step(forcing)
    state = save_as_ngen(host.model)
    host.model.finalize()
    host = Ngen(hot)
    restore_as_ngen(host.model, state)
    for forcing in hours[31:40]:
        host.step(forcing)
    middle = save_as_ngen(host.model)
    expected = [report(host, forcing) for forcing in hours[40:]]
    host.model.finalize()
    host = Ngen(catchment(tmp_path / "on", DAY, restart=START + np.timedelta64(9, "h")))
    restore_as_ngen(host.model, middle)
    assert [report(host, forcing) for forcing in hours[40:]] == expected
    host.model.finalize()


def test_other_hosts_are_followed_and_told(tmp_path, caplog):
    config = write_case(tmp_path, forcing="caller")
    with opened(config) as one, opened(config) as other:
        for component in (one, other):
            component.set_value(P, np.full(N_CELLS, 5.0))
            component.set_value(E, np.full(N_CELLS, 1.0))
        one.update_until(31 * 3600)
        state = save_as_ngen(one)
        with caplog.at_level(logging.WARNING):
            restore_as_ngen(other, state)
        assert other.get_current_time() == 31 * 3600
        assert "the state is of 2001-03-02T07:00:00: the clock goes on at 111600 s after start" in caplog.text
        caplog.clear()
        for _ in range(3):  # within the run nobody needs to be told
            restore_as_ngen(other, state)
        assert not caplog.text


def test_a_restart_file_with_ngens_names_tells_where_the_clock_is(tmp_path, caplog):
    config = catchment(tmp_path, DAY)
    host = Ngen(config)
    for forcing in weather(31):
        host.step(forcing)
    host.model._stepper.simulation.save(tmp_path / "state.nc")
    host.model.finalize()
    with caplog.at_level(logging.WARNING), opened(change_config(config, initial_state="state.nc")) as component:
        assert component.get_current_time() == 31 * 3600
    assert "the state is of 2015-12-02T07:00:00: the clock goes on at 111600 s after start" in caplog.text
    caplog.clear()
    keys = {"start": "2015-12-02T07:00", "end": "2015-12-20T07:00", "initial_state": "state.nc"}
    with caplog.at_level(logging.WARNING), opened(change_config(config, **keys)) as component:
        assert component.get_current_time() == 0.0 and not caplog.text


def test_a_state_in_mid_day_does_not_fit_a_forcing_file_of_other_days(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(31 * 3600)
        state = save_as_ngen(component)
    moved = change_config(config, start="2001-03-02T07:00", end="2001-03-09T07:00", forcing="caller")
    with opened(moved) as component:
        restore_as_ngen(component, state)
        assert component.get_current_time() == 0.0
        component.set_value(P, np.full(N_CELLS, 5.0))
        component.set_value(E, np.full(N_CELLS, 1.0))
        component.update_until(17 * 3600)  # its day is over
        assert component._stepper.simulation.inputs.pending_seconds == 0
        component.update()
        assert component.get_current_time() == 17 * 3600 + DAY
        component.update_until(component.get_end_time())
    later = change_config(config, start="2001-03-03", end="2001-03-09")
    with opened(later) as component, pytest.raises(StateError, match="valid at 2001-03-02T07:00:00, expected a step"):
        restore_as_ngen(component, state)


@pytest.mark.parametrize("restart", ["2015-11-30", "2015-12-21"])
def test_a_restart_outside_the_run_is_refused(tmp_path, restart):
    with pytest.raises(ConfigError, match=r"restart is .* expected a time from start"):
        catchment(tmp_path, DAY, restart=np.datetime64(restart, "s"))
