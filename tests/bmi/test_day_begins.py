"""A daily model that is started at any hour: its days end where the configuration says."""

from __future__ import annotations

import numpy as np
import pytest
from cases import N_CELLS, START, E, P, Q, T, case_forcing, change_config, opened, outputs, simulated, write_case

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.host_variables import MASSES
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.values import parse_time_of_day

WATER_IN = variable("water_in").name
NAMES = (P, E, T)


def late(config, hours, **keys):
    """The case from so many hours after its start, its days as they were."""
    start = START + np.timedelta64(hours, "h")
    return change_config(config, start=str(start), end=str(start + np.timedelta64(8, "D")), day_begins="00:00", **keys)


@pytest.mark.parametrize("hours", [1, 9, 23])
def test_an_hourly_host_that_starts_within_a_day(tmp_path, hours):
    """The first step is complete at the boundary: water of the hours there were, other inputs by their mean."""
    config = late(write_case(tmp_path, forcing="caller", snow="cemaneige"), hours)
    forcing = case_forcing(72, N_CELLS)
    whole = change_config(
        config, "whole.yaml", start=str(START), end=str(START + np.timedelta64(8, "D")), day_begins=None
    )
    with opened(config) as component, opened(whole) as daily:
        assert component.get_current_time() == 0.0 and component.get_end_time() == 8 * DAY
        first = 24 - hours
        for hour in range(first + 24):
            assert (component.get_value_ptr(WATER_IN)[0] > 0) == (hour > first - 1)
            for name, values in zip(NAMES, forcing[:3], strict=True):
                component.set_value(name, values[hour])
            component.update_until((hour + 1) * 3600)
            came, gone, stored, leaked = (component.get_value_ptr(v.name)[0] for v in MASSES)
            assert abs(came - gone - stored - leaked) <= 1e-12
            np.testing.assert_allclose(came * 1000, rained(component, forcing.precipitation[: hour + 1]), rtol=1e-11)
        for part, length in (((0, first), 24), ((first, first + 24), 24)):
            for name, values in zip(NAMES, forcing[:3], strict=True):
                chosen = values[slice(*part)]
                daily.set_value(name, chosen.mean(axis=0) if name == T else chosen.sum(axis=0) / length)
            daily.update()
        for name in (Q, variable("runoff").name, variable("snowpack").name, WATER_IN):
            np.testing.assert_allclose(component.get_value_ptr(name), daily.get_value_ptr(name), rtol=1e-9, atol=1e-12)


def rained(component, rows):
    """Depth of hourly rows of rain over the domain [mm]."""
    area = component._stepper.simulation.model.domain.cells.drained_area
    return (rows.sum(axis=0) / 24 * area).sum() / area.sum()


@pytest.mark.parametrize("hours", [5, 18])
def test_a_forcing_file_of_other_hours(tmp_path, hours):
    """It holds whole days; those of the run end where they do."""
    config = write_case(tmp_path, n_steps=9)
    moved = late(config, hours)
    with opened(moved) as component, opened(config) as whole:
        np.testing.assert_array_equal(component.get_value_ptr(P), whole.get_value_ptr(P))
        component.update_until((24 - hours) * 3600)
        assert component._stepper.inputs.pending_seconds == 0
        whole.update()
        np.testing.assert_array_equal(component.get_value_ptr(P), whole.get_value_ptr(P))  # the second day
        component.update()
        assert component.get_current_time() == (48 - hours) * 3600
        component.update_until(component.get_end_time())
        assert component._stepper.inputs.pending_seconds == hours * 3600
    with pytest.raises(ConfigError, match="into a day"), simulated(moved) as simulation:
        simulation.run()


@pytest.mark.parametrize("at", [0, 2, 6, 30])
def test_a_state_goes_on_where_it_was(tmp_path, at):
    """Also from within the first, shorter step, and where the start is moved to it."""
    config = late(write_case(tmp_path, forcing="caller", snow="cemaneige"), 19)
    rng = np.random.default_rng(5)
    hours = [[rng.uniform(0, 20, N_CELLS), rng.uniform(0, 5, N_CELLS), rng.uniform(-5, 9, N_CELLS)] for _ in range(60)]

    def step(component, hour):
        for name, values in zip(NAMES, hours[hour], strict=True):
            component.set_value(name, values)
        component.update_until(component.get_current_time() + 3600)
        return outputs(component)

    rows = []
    with opened(config) as component:
        for hour in range(60):
            if hour == at:
                component.set_value("ngen::serialization_create", [1])
                content = component.get_value_ptr("ngen::serialization_state").copy()
            rows.append(step(component, hour))
    start = START + np.timedelta64(19 + at, "h")
    moved = change_config(config, "moved.yaml", start=str(start), end=str(start + np.timedelta64(8, "D")))
    for name in (config, moved):
        with opened(name) as component:
            component.set_value("ngen::serialization_state", content)
            assert component.get_current_time() == (0.0 if name is moved else at * 3600)
            for hour in range(at, 60):
                for variable_name, values in step(component, hour).items():
                    np.testing.assert_array_equal(values, rows[hour][variable_name], err_msg=variable_name)


def test_a_hot_start_within_a_day(tmp_path):
    config = late(write_case(tmp_path, forcing="caller"), 19)
    with opened(config) as component:
        for name in NAMES[:2]:
            component.set_value(name, np.full(N_CELLS, 4.0))
        component.update_until(31 * 3600)
        component.set_value("ngen::serialization_create", [1])
        content = component.get_value_ptr("ngen::serialization_state").copy()
    with opened(change_config(config, "hot.yaml", restart_mode="hot_start")) as component:
        component.set_value("ngen::serialization_state", content)
        assert component.get_current_time() == 0.0
        assert component._stepper.inputs.pending_seconds == component._stepper.inputs.before == 19 * 3600
        for name in NAMES[:2]:
            component.set_value(name, np.full(N_CELLS, 4.0))
        component.update_until(3 * DAY)
        came, gone, stored, leaked = (component.get_value_ptr(v.name)[0] for v in MASSES)
        assert came > 0 and abs(came - gone - stored - leaked) <= 1e-12


@pytest.mark.parametrize(("value", "seconds"), [("06:00", 21600), ("0:00", 0), (720, 43200), ("23:59", 86340)])
def test_times_of_day(value, seconds):
    assert parse_time_of_day(value) == seconds


@pytest.mark.parametrize("value", ["24:00", "6", "6 h", 1440, -60, True, "06:60", "06:5"])
def test_times_of_day_that_are_none(value):
    with pytest.raises(ValueError, match="no time of day"):
        parse_time_of_day(value)


def test_what_cannot_be(tmp_path):
    config = late(write_case(tmp_path, forcing="caller"), 9)
    for keys, message in (({"sub_step_policy": "refuse"}, "32400 s into a day"),
                          ({"time_step": "1 h", "routing_step": "15 min"}, "day_begins is for a daily model")):
        with pytest.raises(ConfigError, match=message):
            load_config(change_config(config, "wrong.yaml", **keys))
    component = BmiCdlm()
    component.initialize(str(config))
    component.finalize()
