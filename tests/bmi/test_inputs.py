"""What an input holds and when: set by the caller, read from the file, checked at the update, in other units."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cases import (
    DEPTH,
    N_CELLS,
    N_STEPS,
    E,
    P,
    Q,
    T,
    assert_same,
    case_forcing,
    change_config,
    opened,
    outputs,
    step_all,
    write_case,
)

from bmi_cdlm.names.entry import alias
from bmi_cdlm.names.errors import CdlmError, ForcingError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select, variable
from bmi_cdlm.run.config import load_config

NGEN_P = "atmosphere_water__liquid_equivalent_precipitation_rate"
STORE = variable("production_store").name


def set_all(component, rain=3.0, demand=1.0, warmth=5.0):
    for name, value in ((P, rain), (E, demand), (T, warmth)):
        if name in component.get_input_var_names():
            component.set_value(name, np.full(N_CELLS, value))


def assert_unmoved(component, call, message):
    """The call is refused with the message, and neither clock nor outputs nor inputs change."""
    before, time = outputs(component), component.get_current_time()
    held = {n: component.get_value_ptr(n).copy() for n in component.get_input_var_names()}
    with pytest.raises(ForcingError, match=message):
        call()
    assert component.get_current_time() == time
    assert_same(outputs(component), before)
    assert_same({n: component.get_value_ptr(n) for n in held}, held)


@pytest.fixture
def caller(tmp_path):
    with opened(write_case(tmp_path, forcing="caller", snow="cemaneige")) as component:
        yield component


def test_what_the_caller_never_set_is_an_error_that_names_it(caller):
    for name in (P, E, T):
        assert np.isnan(caller.get_value_ptr(name)).all()
    for missing in (P, E, T):
        set_all(caller)
        caller.get_value_ptr(missing)[:] = np.nan
        for call in (caller.update, lambda: caller.update_until(3600.0), lambda: caller.update_until(3 * DAY)):
            assert_unmoved(caller, call, f"'{missing}' is nan .* set_value")


def test_one_cell_never_set_is_named(caller):
    set_all(caller)
    caller.set_value_at_indices(P, np.array([4]), np.array([np.nan]))
    assert_unmoved(caller, caller.update, r"at cell c4 \(1 of 25 cells\)")
    caller.set_value_at_indices(P, np.array([4]), np.array([0.0]))
    caller.update()


@pytest.mark.parametrize(
    ("name", "value"),
    [(P, -1e-9), (P, np.inf), (P, np.nan), (E, -0.5), (E, np.inf), (T, -300.0), (T, -np.inf), (T, np.inf)],
)
def test_a_value_without_meaning_is_refused_at_the_update(caller, name, value):
    set_all(caller)
    caller.update()
    caller.update_until(DAY + 3600)
    caller.set_value_at_indices(name, np.array([7, 9]), np.full(2, value))
    for call in (caller.update, lambda: caller.update_until(DAY + 7200), lambda: caller.update_until(5 * DAY)):
        assert_unmoved(caller, call, r"at cell c7 \(2 of 25 cells\)")
    set_all(caller)
    caller.update_until(2 * DAY)


def test_what_the_caller_sets_is_held(caller, tmp_path):
    set_all(caller, rain=20.0)
    held = step_all(caller)[Q]
    with opened(tmp_path / "case.yaml") as again:
        rows = []
        while again.get_current_time() < again.get_end_time():
            set_all(again, rain=20.0)
            again.update()
            rows.append(again.get_value_ptr(Q).copy())
    np.testing.assert_array_equal(held, rows)
    assert (caller.get_value_ptr(P) == 20.0).all()


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_a_caller_that_sets_the_file_gets_the_files_run(tmp_path, step):
    config = write_case(tmp_path, step=step, snow="cemaneige")
    forcing = case_forcing(N_STEPS[step], N_CELLS)
    # The steady start is taken from the file's first days: give both the same state.
    with opened(config) as component:
        component._stepper.simulation.save(tmp_path / "start.nc")
    from_file = change_config(config, initial_state="start.nc")
    with opened(from_file) as component:
        expected = step_all(component)[Q]
    with opened(change_config(from_file, "caller.yaml", forcing="caller")) as component:
        for t in range(N_STEPS[step]):
            for name, values in zip((P, E, T), forcing[:3], strict=True):
                component.set_value(name, values[t])
            component.update()
            np.testing.assert_array_equal(component.get_value_ptr(Q), expected[t])


def test_inputs_show_the_step_that_comes_next(tmp_path):
    forcing = case_forcing(N_STEPS[DAY], N_CELLS)
    with opened(write_case(tmp_path)) as component:
        for t in range(N_STEPS[DAY]):
            np.testing.assert_array_equal(component.get_value_ptr(P), forcing.precipitation[t])
            np.testing.assert_array_equal(component.get_value_ptr(E), forcing.potential_evapotranspiration[t])
            component.update()
        np.testing.assert_array_equal(component.get_value_ptr(P), forcing.precipitation[-1])  # the last ones stay
    with opened(tmp_path / "case.yaml") as component:
        component.update_until(4 * DAY)
        np.testing.assert_array_equal(component.get_value_ptr(P), forcing.precipitation[4])
        component.update_until(4 * DAY + 3600)  # within a step: those of the running step
        np.testing.assert_array_equal(component.get_value_ptr(P), forcing.precipitation[4])


def test_setting_an_input_of_the_file_replaces_that_step_only(tmp_path):
    config = write_case(tmp_path)
    forcing = case_forcing(N_STEPS[DAY], N_CELLS)
    with opened(config) as plain, opened(config) as touched, opened(config) as long:
        water = []
        for t in range(5):
            if t == 2:
                touched.set_value(P, forcing.precipitation[2] + 10.0)
                long.update_until(2 * DAY)
                long.set_value(P, forcing.precipitation[2] + 10.0)
            plain.update()
            touched.update()
            water.append(touched.get_value_ptr(variable("water_in").name)[0]
                         - plain.get_value_ptr(variable("water_in").name)[0])
            if t >= 2:
                np.testing.assert_array_equal(touched.get_value_ptr(P), forcing.precipitation[t + 1])
        long.update_until(5 * DAY)
        got, expected = outputs(long), outputs(touched)
        del got[DEPTH], expected[DEPTH]  # over calls of other lengths
        assert_same(got, expected)
        extra = 10.0 * 1000.0 * plain._stepper.simulation.model.domain.cells.drained_area.sum()
    assert water[:2] == [0.0, 0.0]
    np.testing.assert_allclose(water[2:], extra, rtol=1e-9)


def test_a_bad_value_over_the_files_is_refused_and_gone_after_the_step(tmp_path):
    with opened(write_case(tmp_path)) as component:
        component.set_value_at_indices(P, np.array([3]), np.array([-1.0]))
        assert_unmoved(component, component.update, "is -1.0 mm d-1 at cell c3")
        component.set_value_at_indices(P, np.array([3]), np.array([1.0]))
        component.update()
        component.update()


def test_a_store_set_before_the_update_counts_in_it(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as wet, opened(config) as dry:
        wet.set_value(STORE, 0.9 * wet._stepper.simulation.model.parameters["production_capacity"])
        dry.set_value(STORE, np.zeros(N_CELLS))
        for component in (wet, dry):
            component.update_until(5 * DAY)
        assert wet.get_value_ptr(Q).sum() > dry.get_value_ptr(Q).sum()


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_units_of_the_host_give_the_same_river(tmp_path, step):
    forcing = case_forcing(N_STEPS[step], N_CELLS)
    config = write_case(tmp_path, step=step, snow="cemaneige", forcing="caller")
    with opened(config) as component, opened(change_config(config, name_profile="ngen")) as other:
        assert other.get_var_units(NGEN_P) == "mm s^-1"
        assert (other.get_var_units(T), component.get_var_units(T)) == ("K", "degC")
        for t in range(N_STEPS[step]):
            for name, values in zip((P, E, T), forcing[:3], strict=True):
                component.set_value(name, values[t])
            other.set_value(NGEN_P, forcing.precipitation[t] / 86400.0)
            other.set_value(E, forcing.potential_evapotranspiration[t])
            other.set_value(T, forcing.air_temperature[t] + 273.15)
            component.update()
            other.update()
            np.testing.assert_allclose(other.get_value_ptr(Q), component.get_value_ptr(Q), rtol=1e-10, atol=1e-12)


def test_units_of_the_host_do_not_change_a_bit_of_a_file(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    forcing = case_forcing(N_STEPS[DAY], N_CELLS)
    with opened(config) as component, opened(change_config(config, name_profile="ngen")) as other:
        np.testing.assert_allclose(other.get_value_ptr(T), forcing.air_temperature[0] + 273.15, rtol=1e-15)
        np.testing.assert_allclose(other.get_value_ptr(NGEN_P), forcing.precipitation[0] / 86400.0, rtol=1e-15)
        other.set_value_at_indices(NGEN_P, np.array([0]), other.get_value_ptr(NGEN_P)[:1].copy())
        for _ in range(5):
            component.update()
            other.update()
            assert_same(outputs(other), outputs(component))
        other.set_value_at_indices(T, np.array([1]), np.array([200.0]))
        component.set_value_at_indices(T, np.array([1]), np.array([200.0 - 273.15]))
        component.update_until(9 * DAY)
        other.update_until(9 * DAY)
        np.testing.assert_allclose(other.get_value_ptr(Q), component.get_value_ptr(Q), rtol=1e-12)


def test_kelvin_below_zero_is_refused(tmp_path):
    with opened(write_case(tmp_path, snow="cemaneige", name_profile="ngen")) as component:
        component.set_value_at_indices(T, np.array([2]), np.array([-1.0]))
        assert_unmoved(component, component.update, "is -1.0 K at cell c2")


# ---- missing values, limits, units -----------------------------------------------------------------------


def masked(values, k, dtype=np.float64):
    """A masked array with what netCDF4 puts under a mask."""
    fill = 9.969209968386869e36 if np.dtype(dtype).kind == "f" else 32767
    out = np.ma.masked_array(np.array(values, dtype), mask=np.arange(len(values)) == k)
    out.data[k] = fill
    return out


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_masked_is_missing(tmp_path, dtype, whole):
    rain = masked(np.full(N_CELLS, 2), 3, dtype)
    with opened(write_case(tmp_path)) as component:
        if whole:
            component.set_value(P, rain)
        else:
            component.set_value_at_indices(P, np.arange(N_CELLS), rain)
        assert np.isnan(component.get_value_ptr(P)[3]) and component.get_value_ptr(P)[4] == 2.0
        assert_unmoved(component, component.update, r"is nan mm d-1 at cell c3 .*a masked value is missing too")
        component.set_value_at_indices(P, np.array([3]), np.array([2.0]))
        component.update()


@pytest.mark.parametrize("name", [STORE, "production_capacity"])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_masked_is_no_state_and_no_parameter(tmp_path, name, whole):
    with opened(write_case(tmp_path)) as component:
        before = component.get_value_ptr(name).copy()
        values = masked(before, 3)
        with pytest.raises(CdlmError, match=r"is nan .* at index 3"):
            if whole:
                component.set_value(name, values)
            else:
                component.set_value_at_indices(name, np.arange(N_CELLS), values)
        np.testing.assert_array_equal(component.get_value_ptr(name), before)
        with pytest.raises(CdlmError, match="indices are masked"):
            component.set_value_at_indices(name, np.ma.masked_array([1, 2], [True, False]), before[:2])


@pytest.mark.parametrize(("profile", "value", "message"), [
    ("csdms", 283.15, r"is 283.15 degC .*-100 to 70 degC. Is it in K \(283.15 K = 10 degC\)"),
    ("ngen", 10.0, r"is 10.0 K .*Is it in degC \(10 degC\)"), ("csdms", 1e20, r"is 1e\+20 degC .*Correct the value"),
])
def test_units_of_callers_are_guessed(tmp_path, profile, value, message):
    with opened(write_case(tmp_path, snow="cemaneige", name_profile=profile)) as component:
        component.set_value(T, np.full(N_CELLS, value))
        assert_unmoved(component, component.update, message)


@pytest.mark.parametrize(("short", "value", "message"), [
    ("air_pressure", 1013.0, r"Is it in hPa"), ("specific_humidity", 8.0, r"Is it in g kg-1"),
    ("shortwave_radiation", -5.0, "0 to 700 W m-2"), ("wind_x", 400.0, "-150 to 150 m s-1"),
])
def test_units_of_weather_are_guessed(tmp_path, short, value, message):
    config = write_case(tmp_path, pet="penman_monteith", forcing="caller")
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        dataset.createVariable("cell_elevation", "f8", ("cell",))[:] = 200.0
        dataset["cell_elevation"].units = "m"
    with opened(config) as component:
        for name in load_config(config).published:
            component.set_value(variable(name).name, np.full(N_CELLS, variable(name).known.typical))
        component.set_value_at_indices(variable(short).name, np.array([4]), np.array([value]))
        assert_unmoved(component, component.update, message)


def test_rain_that_nobody_has_measured_is_refused_by_the_length_of_the_call(tmp_path):
    """9999 mm d-1 is a fill value over a day and over an hour; over a minute it has been measured."""
    with opened(write_case(tmp_path, forcing="caller")) as component:
        component.set_value(E, np.zeros(N_CELLS))
        component.set_value(P, np.full(N_CELLS, 9999.0))
        low, high = component.get_value_bounds(P)
        assert low.tolist() == [0.0] * N_CELLS and high.tolist() == [2000.0] * N_CELLS
        assert_unmoved(component, component.update, "is 9999.0 mm d-1 .*0 to 2000 mm d-1")
        assert_unmoved(component, lambda: component.update_until(3600.0), "0 to 9700 mm d-1")
        component.update_until(60.0)


def test_bounds_of_every_published_input(tmp_path):
    names = [v.short for v in select(role="input")]
    for profile in ("csdms", "ngen"):
        config = write_case(tmp_path / profile, forcing="caller", published_inputs=names, name_profile=profile)
        with opened(config) as component:
            assert len(component.get_input_var_names()) == len(names)
            for name, entry in zip(component.get_input_var_names(), select(role="input"), strict=True):
                low, high = component.get_value_bounds(name)
                unit = alias(entry, profile)
                expected = entry.known.limits()
                np.testing.assert_allclose(low * unit.factor + unit.offset, expected[0], atol=1e-9)
                np.testing.assert_allclose(high * unit.factor + unit.offset, expected[1], rtol=1e-12)
