"""States and parameters set from outside: bounds, effect from the next step on, and no water lost or made."""

from __future__ import annotations

from contextlib import contextmanager

import netCDF4
import numpy as np
import pytest
from cases import (
    N_CELLS,
    N_REACHES,
    N_STEPS,
    Q,
    assert_same,
    change_config,
    opened,
    outputs,
    simulated,
    write_case,
    write_parameters,
)

from bmi_cdlm.bmi.component import BmiValueError
from bmi_cdlm.files.netcdf import same_units
from bmi_cdlm.names.errors import LedgerError, ParameterError, StateError
from bmi_cdlm.names.host_variables import MASSES
from bmi_cdlm.names.parameters import BY_NAME
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import VARIABLES, variable

WATER = ("production_store", "routing_store", "queued_routed_flow", "queued_direct_flow", "reach_storage", "snowpack")
CORE = {"production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base", "celerity",
        "weighting"}
SNOW = {"thermal_weighting", "melt_factor"}
HYSTERESIS = {"accumulation_threshold", "cover_ratio_threshold"}


by_step = {"params": [DAY, HOUR], "ids": ["daily", "hourly"]}


@contextmanager
def in_the_middle(folder, step):
    """In the middle of a run, with snow and a ledger that is checked at every step."""
    with opened(write_case(folder, step=step, snow="cemaneige_hysteresis", ledger_tolerance=1e-10)) as found:
        found.update_until(4 * step)
        yield found


@pytest.fixture(**by_step)
def component(request, tmp_path):
    with in_the_middle(tmp_path, request.param) as found:
        yield found


@pytest.fixture(**by_step, scope="module")
def untouched(request, tmp_path_factory):
    """One for all tests of what is refused: they look that nothing has changed."""
    with in_the_middle(tmp_path_factory.mktemp("untouched"), request.param) as found:
        yield found


def get(component, short):
    return component.get_value_ptr(variable(short).name if short not in BY_NAME else short)


def put(component, short, values):
    component.set_value(variable(short).name if short not in BY_NAME else short, values)


def total(component, short):
    return float(get(component, short)[0])


def storage(component):
    model = component._stepper.simulation.model
    return model.state.arrays(), model


# ---- what can be set -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("snow", "expected"), [
    ("none", CORE), ("cemaneige", CORE | SNOW),
    ("cemaneige_hysteresis", CORE | SNOW | HYSTERESIS),
])
def test_the_parameters_that_a_run_reads_answer_by_name_and_are_not_listed(tmp_path, snow, expected):
    with opened(write_case(tmp_path, snow=snow)) as component:
        assert set(component.get_parameter_names()) == expected
        assert not expected & {*component.get_input_var_names(), *component.get_output_var_names()}
        for name in expected:
            size = N_CELLS if BY_NAME[name].grid == "cell" else N_REACHES
            assert component.get_var_grid(name) == (0 if size == N_CELLS else 1)
            assert same_units(component.get_var_units(name), component.get_var_units(name) + " ")  # UDUNITS reads it
            assert component.get_var_nbytes(name) == 8 * size
            live = component.get_value_ptr(name)
            assert component.get_value(name, np.empty(size)).tolist() == live.tolist()
            with pytest.raises(ValueError, match="read-only"):
                live[:] = 1.0


def test_units_of_parameters_are_those_of_the_step(tmp_path):
    with opened(write_case(tmp_path / "d")) as daily, opened(write_case(tmp_path / "h", step=HOUR)) as hourly:
        for name, day, hour in (("exchange_coefficient", "mm d-1", "mm h-1"), ("unit_hydrograph_base", "d", "h")):
            assert (daily.get_var_units(name), hourly.get_var_units(name)) == (day, hour)


def test_everything_that_has_bounds_keeps_within_them_and_takes_them(component):
    published = component.get_output_var_names()
    names = [v.short for v in VARIABLES if v.bounds is not None and v.name in published]
    names += component.get_parameter_names()
    assert len(names) == 9 + 10
    for short in names:
        name = variable(short).name if short not in BY_NAME else short
        live = component.get_value_ptr(name)
        low, high = component.get_value_bounds(name)
        assert low.shape == high.shape == live.shape and low.dtype == high.dtype == np.float64
        assert (low <= live).all() and (live <= high).all(), short
        if short != "reach_storage" and not short.startswith("queued"):
            for limit in (low, high):
                finite = np.where(np.isfinite(limit), limit, live)
                component.set_value(name, finite)
                np.testing.assert_array_equal(component.get_value_ptr(name), finite)
                assert component.get_value_ptr(name) is live


def test_inputs_have_bounds_and_outputs_have_none(tmp_path):
    with opened(write_case(tmp_path, snow="cemaneige", name_profile="ngen")) as component:
        low, high = component.get_value_bounds(variable("air_temperature").name)
        np.testing.assert_allclose(low, 173.15)  # in K: -100 to 70 degC
        np.testing.assert_allclose(high, 343.15)
        for short in ("discharge", "cell_water_stored", "water_in", "runoff_total"):
            with pytest.raises(BmiValueError, match="derives"):
                component.get_value_bounds(variable(short).name)


BAD = [
    ("production_capacity", 0.0, "to inf"), ("production_capacity", np.inf, "inf"),
    ("routing_capacity", np.nan, "0.01"),
    ("exchange_coefficient", -np.inf, "-inf"), ("unit_hydrograph_base", 480.1, "480"), ("weighting", 0.51, "0.5"),
    ("unit_hydrograph_base", -1e-9, "0"), ("celerity", 0.0, "1e-06"), ("thermal_weighting", 1.01, "1"),
    ("cover_ratio_threshold", 0.0, "1e-06"), ("production_store", 1e9, "0"), ("thermal_state", 0.1, "-inf"),
    ("snow_cover", 1.1, "1"), ("snowpack", -1.0, "0"), ("reach_storage", np.inf, "0"),
    ("queued_routed_flow", -1.0, "0"),
]


@pytest.mark.parametrize(("short", "value", "bound"), BAD, ids=[f"{s}-{v}" for s, v, _ in BAD])
def test_what_is_out_of_bounds_is_refused_with_name_index_value_and_bounds(untouched, short, value, bound):
    name = variable(short).name if short not in BY_NAME else short
    before, state = outputs(untouched), {n: a.copy() for n, a in storage(untouched)[0].items()}
    kept = untouched.get_value_ptr(name).copy()
    wrong = kept.copy()
    wrong[3] = value
    error = ParameterError if short in BY_NAME else StateError
    grid = "reach" if untouched.get_var_grid(name) == 1 else "cell"
    where = rf"at index 3, at {grid} [cr]\d+ \(1 of \d+ {grid}e?s\), expected"
    with pytest.raises(error, match=rf"'{name}' is .* {where}") as refused:
        untouched.set_value(name, wrong)
    assert str(value) in str(refused.value) and bound in str(refused.value)
    with pytest.raises(error, match=r"\(1 of 2 "):
        untouched.set_value_at_indices(name, np.array([1, 3]), np.array([kept[1], value]))
    np.testing.assert_array_equal(untouched.get_value_ptr(name), kept)
    assert_same(outputs(untouched), before)
    assert_same(storage(untouched)[0], state)


def test_a_capacity_cannot_shrink_below_its_store(component):
    store = get(component, "production_store")
    i = int(store.argmax())
    with pytest.raises(ParameterError, match="must hold the water in its store"):
        component.set_value_at_indices("production_capacity", np.array([i]), np.array([store[i] * 0.99]))
    component.set_value_at_indices("production_capacity", np.array([i]), store[i : i + 1].copy())
    component.update()


# ---- effect ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CORE | SNOW | HYSTERESIS))
def test_a_parameter_set_before_the_first_step_is_the_parameter_of_the_file(tmp_path, name):
    """From the same state: bit for bit the run that was initialized with it."""
    config = write_case(tmp_path, snow="cemaneige_hysteresis")
    with opened(config) as component:
        store = component._stepper.simulation.model.state.cells[-1].production_store
        np.minimum(store, 100.0, out=store)  # no more than the capacity by default
        component._stepper.simulation.save(tmp_path / "start.nc")
    resumed = change_config(config, initial_state="start.nc")
    default = change_config(resumed, "default.yaml", parameters="default")
    with opened(resumed) as other, opened(default) as component:
        wanted = {n: other.get_value_ptr(n).copy() for n in other.get_parameter_names()}
        for n in sorted(wanted, key=lambda n: n == name):  # `name` last
            component.set_value(n, wanted[n])
        component.update_until(component.get_end_time())
        other.update_until(other.get_end_time())
        got, expected = outputs(component), outputs(other)
        assert (expected[Q] > 0).any()
        for key in expected:
            # The volume of a reach was kept, from one storage time to the other and back: rounding.
            np.testing.assert_allclose(got[key], expected[key], rtol=1e-9, atol=1e-9, err_msg=key)
        cells = [v.name for v in VARIABLES if v.grid == "cell" and v.name in expected]
        assert_same({n: got[n] for n in cells}, {n: expected[n] for n in cells})


@pytest.mark.parametrize("name", sorted(CORE | SNOW | HYSTERESIS))
def test_a_parameter_takes_effect_in_the_next_step(tmp_path, name):
    config = write_case(tmp_path, snow="cemaneige_hysteresis", n_steps=40)
    with opened(config) as plain, opened(config) as changed:
        for component in (plain, changed):
            component.update_until(10 * DAY)
        low, high = (np.clip(limit, -5.0, 1e4) for limit in changed.get_value_bounds(name))
        old = changed.get_value_ptr(name)
        if name == "unit_hydrograph_base":
            high[:] = 9.0
        if name == "celerity":
            low[:], high[:] = 0.1, 5.0
        changed.set_value(name, np.where(high - old > old - low, 0.5 * old + 0.5 * high, 0.5 * old + 0.5 * low))
        # Thresholds of snow need a pack that melts or grows; all others show in the step at once.
        for _ in range(30 if name not in CORE else 1):
            plain.update()
            changed.update()
        assert any((a != b).any() for a, b in zip(outputs(changed).values(), outputs(plain).values(), strict=True))


def test_some_places_are_some_places(component):
    before = get(component, "routing_capacity").copy()
    component.set_value_at_indices("routing_capacity", np.array([4, 2, 4]), np.array([10.0, 20.0, 30.0]))
    after = get(component, "routing_capacity")
    assert (after[4], after[2]) == (30.0, 20.0)
    assert (np.delete(after, [2, 4]) == np.delete(before, [2, 4])).all()


def test_a_travel_time_of_the_file_takes_the_place_of_the_celerity(tmp_path):


    config = write_case(tmp_path)
    write_parameters(tmp_path / "timed.nc", {"weighting": np.full(N_REACHES, 0.2)})
    with netCDF4.Dataset(tmp_path / "timed.nc", "a") as dataset:
        times = dataset.createVariable("travel_time", "f8", ("reach",))
        times.units = "s"
        times[:] = 5e4
    with opened(change_config(config, parameters="timed.nc", ledger_tolerance=1e-10)) as component:
        assert "celerity" not in component.get_parameter_names()
        component.update()
        water = total(component, "water_stored")
        component.set_value("travel_time", np.full(N_REACHES, 2e5))
        assert total(component, "water_stored") == pytest.approx(water, rel=1e-14)
        component.update_until(component.get_end_time())


# ---- water -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [0.0, 0.5, 1.0, 3.7, 11.3])
def test_unit_hydrographs_keep_their_water_when_x4_changes(component, base):
    def queued():
        return [get(component, f"queued_{which}_flow").copy() for which in ("routed", "direct")]

    before, live = queued(), get(component, "queued_routed_flow")
    assert before[0].any()
    added = total(component, "water_added")
    put(component, "unit_hydrograph_base", np.full(N_CELLS, base))
    for got, expected in zip(queued(), before, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert live is get(component, "queued_routed_flow")
    while component.get_current_time() < component.get_end_time():
        component.update()  # the ledger is checked
    put(component, "unit_hydrograph_base", np.full(N_CELLS, 1.5))
    assert total(component, "water_added") == added


def test_an_x4_that_grows_is_that_x4_for_what_flows_in_later(tmp_path):
    """With empty queues a change is the same as having had it from the start."""
    config = write_case(tmp_path, n_steps=30)
    with opened(config) as long, opened(config) as grown:
        for component, first in ((long, 8.0), (grown, 1.0)):
            put(component, "unit_hydrograph_base", np.full(N_CELLS, first))
        put(grown, "unit_hydrograph_base", np.full(N_CELLS, 8.0))
        for component in (long, grown):
            component.update_until(30 * DAY)
        assert_same(outputs(grown), outputs(long))


@pytest.mark.parametrize(("name", "value"), [("celerity", 0.05), ("celerity", 7.0), ("weighting", 0.0)])
def test_reaches_keep_their_water_when_k_or_x_changes(component, name, value):
    before = get(component, "reach_storage").copy()
    put(component, name, np.full(N_REACHES, value))
    component._stepper.simulation.model.refresh()
    np.testing.assert_allclose(get(component, "reach_storage"), before, rtol=1e-14)
    while component.get_current_time() < component.get_end_time():
        component.update()


@pytest.mark.parametrize("short", WATER)
def test_water_that_is_set_is_booked_as_added(component, short):
    start = total(component, "water_stored") - total(component, "water_added")
    values = get(component, short) * 0.5 + 0.1
    low, high = component.get_value_bounds(variable(short).name)
    values = np.clip(values, low, high)
    put(component, short, values)
    np.testing.assert_array_equal(get(component, short), values)
    assert total(component, "water_added") != 0
    assert total(component, "water_stored") - total(component, "water_added") == pytest.approx(start, rel=1e-12)
    grid = "reach_added_total" if short == "reach_storage" else "added_total"
    assert get(component, grid).any()
    component._stepper.simulation.model.refresh()
    np.testing.assert_allclose(get(component, short), values, rtol=1e-13)
    while component.get_current_time() < component.get_end_time():
        component.update()  # the ledger is checked
    put(component, short, np.clip(np.zeros_like(values), low, high))
    assert (get(component, short) == 0).all()


def test_a_hydrograph_without_delay_holds_nothing(tmp_path):
    with opened(write_case(tmp_path, n_steps=30)) as component:
        put(component, "unit_hydrograph_base", np.full(N_CELLS, 0.4))
        component.update_until(20 * DAY)
        assert (component.get_value_bounds(variable("queued_routed_flow").name).high == 0.0).all()
        with pytest.raises(StateError, match="expected 0 to 0"):
            put(component, "queued_routed_flow", np.full(N_CELLS, 1.0))
        put(component, "unit_hydrograph_base", np.full(N_CELLS, 3.0))
        put(component, "queued_routed_flow", np.full(N_CELLS, 1.0))
        flows = []
        for _ in range(4):
            before = get(component, "effective_rainfall").copy()
            component.update()
            flows.append(get(component, "routed_flow").copy())
            del before
        assert (np.array(flows[:2]) > 0).all()


def test_added_water_survives_a_restart(tmp_path):
    config = write_case(tmp_path, ledger_tolerance=1e-10)
    with opened(config) as component:
        component.update_until(4 * DAY)
        put(component, "routing_store", get(component, "routing_store") + 3.0)
        put(component, "reach_storage", get(component, "reach_storage") * 2.0)
        component._stepper.simulation.save(tmp_path / "middle.nc")
        expected = outputs(component)
    with opened(change_config(config, initial_state="middle.nc")) as component:
        got = outputs(component)
        for short in ("added_total", "reach_added_total"):
            np.testing.assert_array_equal(got[variable(short).name], expected[variable(short).name])
        assert total(component, "water_added") == expected[variable("water_added").name][0] > 0
        component.update_until(component.get_end_time())


# ---- the ledger ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snow", ["none", "cemaneige", "cemaneige_hysteresis"])
@pytest.mark.parametrize("step", [DAY, HOUR])
def test_the_ledger_of_every_cell_and_reach_closes(tmp_path, step, snow):
    with opened(write_case(tmp_path, step=step, snow=snow, ledger_tolerance=1e-12, spin_up=1)) as component:
        while component.get_current_time() < component.get_end_time():
            component.update()
        domain = component._stepper.simulation.model.domain
        v = {s.short: get(component, s.short) for s in VARIABLES if s.name in component.get_output_var_names()}
        assert (np.abs(v["cell_water_residual"]) <= 1e-11).all()
        assert (np.abs(v["reach_water_residual"]) <= 1e-12 * (v["inflow_total"] + v["reach_storage"])).all()
        assert abs(v["water_residual"][0]) <= 1e-12 * v["water_in"][0]
        # Per cell and per reach they add up to the domain.
        area = domain.cells.drained_area * 1000
        assert (v["precipitation_total"] * area).sum() == pytest.approx(v["water_in"][0], rel=1e-12)
        out = (v["evapotranspiration_total"] * area).sum() + v["outflow_total"][domain.outlets].sum()
        assert out == pytest.approx(v["water_out"][0], rel=1e-12)
        stored = (v["cell_water_stored"] * area).sum() + v["reach_storage"].sum()
        assert stored == pytest.approx(v["water_stored"][0], rel=1e-12)
        assert (v["runoff_total"] * area).sum() == pytest.approx(
            v["inflow_total"].sum() - v["outflow_total"][domain.reaches.downstream >= 0].sum(), rel=1e-12)


def test_a_run_with_a_ledger_has_the_bits_of_one_without(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    with opened(config) as plain, opened(change_config(config, ledger_tolerance=1e-9)) as checked:
        for component in (plain, checked):
            component.update_until(component.get_end_time())
        expected, got = outputs(plain), outputs(checked)
        assert set(got) - set(expected) == {v.name for v in VARIABLES if v.part == "ledger"}
        # A ledger has the steps taken one by one: the runoff of the call is summed in another order.
        of_call = "drainage-basin_water_runoff__last-call_time_integral_of_volume_flux"
        np.testing.assert_allclose(got.pop(of_call), expected.pop(of_call), rtol=1e-14)
        assert_same({n: got[n] for n in expected}, expected)


@pytest.mark.parametrize(("short", "place", "message"), [
    ("routing_store", 3, r"cell c3 has a residual of -2 mm at .*ledger_tolerance; 1 of 25 exceed it"),
    ("reach_flow", 5, r"reach r\d+ has a residual of .* m3"),
])
def test_water_that_nobody_accounts_for_stops_the_run(tmp_path, short, place, message):
    with opened(write_case(tmp_path, ledger_tolerance=1e-9)) as component:
        component.update()
        storage(component)[0][short][place] += 2.0
        with pytest.raises(LedgerError, match=message):
            component.update()
        assert component.get_current_time() == 2 * DAY


def test_an_infinite_tolerance_shows_and_never_stops(tmp_path):
    with opened(write_case(tmp_path, ledger_tolerance=float("inf"))) as component:
        component.update()
        storage(component)[0]["routing_store"][3] += 2.0
        component.update_until(component.get_end_time())
        assert get(component, "cell_water_residual")[3] == pytest.approx(-2.0, rel=1e-9)
        assert total(component, "water_residual") < 0


def test_a_batch_run_checks_every_step_too(tmp_path):

    with simulated(write_case(tmp_path, ledger_tolerance=1e-9, output="run.nc")) as simulation:
        seen = []
        check = simulation.model.ledger.check
        simulation.model.ledger.check = lambda *given: (seen.append(given[-1]), check(*given))
        simulation.run()
        assert len(seen) == N_STEPS[DAY]


def test_means_and_masses_follow_a_state_that_is_set(component):
    component.update()
    mean, leaked = total(component, "mean_production_store"), component.get_value_ptr("ngen::mass_leaked")[0]
    added, depth = total(component, "water_added"), total(component, "runoff_depth")
    put(component, "production_store", 0.5 * get(component, "production_store"))
    assert total(component, "mean_production_store") == pytest.approx(0.5 * mean, rel=1e-12)
    came, gone, stored, now_leaked = (component.get_value_ptr(v.name)[0] for v in MASSES)
    assert now_leaked > leaked and total(component, "water_added") < added
    assert came - gone - stored - now_leaked == pytest.approx(0.0, abs=1e-12)
    assert total(component, "runoff_depth") == depth


def test_queues_are_as_long_as_their_water_needs(tmp_path):
    with opened(write_case(tmp_path, n_steps=60)) as component:
        model = component._stepper.simulation.model
        put(component, "unit_hydrograph_base", np.full(N_CELLS, 20.0))
        component.update_until(5 * DAY)
        put(component, "unit_hydrograph_base", np.full(N_CELLS, 2.0))
        assert 5 < model.state.cells[-1].unit_hydrograph_1.shape[0] <= 20
        component.update_until(60 * DAY)
        put(component, "unit_hydrograph_base", np.full(N_CELLS, 2.0))
        assert [queue.shape[0] for queue in model.state.queues().values()] == [2, 4]


def test_a_ledger_error_leaves_clock_inputs_and_masses_right(tmp_path):
    """The step that it complains of is done, and the next inputs are shown."""
    config = write_case(tmp_path, n_steps=6, ledger_tolerance=1e-9)
    with opened(config) as component, opened(config) as sound:
        component.get_value_ptr(variable("routing_store").name)[:] += 1.0
        with pytest.raises(LedgerError):
            component.update_until(3 * DAY)
        sound.update()
        assert component.get_current_time() == sound.get_current_time() == DAY
        for name in component.get_input_var_names():
            np.testing.assert_array_equal(component.get_value_ptr(name), sound.get_value_ptr(name))
        assert component.get_value_ptr("ngen::mass_in")[0] == sound.get_value_ptr("ngen::mass_in")[0] > 0
