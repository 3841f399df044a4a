"""State through ngen's variables, as bytes and in place; resume, hot start, other domains, other versions."""

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
    change_config,
    opened,
    outputs,
    simulated,
    write_case,
)

from bmi_cdlm.domain.domain import cut, read_domain
from bmi_cdlm.files.restart import read_restart
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.host_variables import MASSES
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable

CREATE, FREE, SIZE, STATE = (f"ngen::serialization_{n}" for n in ("create", "free", "size", "state"))
MASS_NAMES = [v.name for v in MASSES]


def taken(component):
    """Save as ngen does; returns the bytes."""
    component.set_value(CREATE, np.ones(1, np.int32))
    size = component.get_value(SIZE, np.zeros(1, np.int64))[0]
    assert size == component.get_value_ptr(SIZE)[0] == component.get_var_nbytes(STATE) > 0
    content = component.get_value(STATE, np.empty(size, np.uint8)).tobytes()
    assert content == component.get_value_ptr(STATE).tobytes()
    component.set_value(FREE, np.ones(1, np.int32))
    assert component.get_value_ptr(SIZE)[0] == component.get_var_nbytes(STATE) == 0
    return content


def given_back(component, content, *, announced=True):
    if announced:
        component.set_value(SIZE, np.array([len(content)], np.int64))
        assert component.get_var_nbytes(STATE) == len(content)
    component.set_value(STATE, np.frombuffer(content, np.uint8))


def everything(component):
    """Copies of all that can be seen: inputs, outputs, masses, clock."""
    names = (*component.get_input_var_names(), *component.get_output_var_names(), *MASS_NAMES)
    return {**{n: component.get_value_ptr(n).copy() for n in names}, "now": np.array([component.get_current_time()])}


def hour(component, rng):
    """An hour of random weather; the caller sets each input now and then only."""
    for name, low, high in ((P, 0, 30), (E, 0, 6), (T, -10, 20)):
        if component.get_current_time() == 0 or rng.random() < 0.5:
            component.set_value(name, rng.uniform(low, high, N_CELLS))
    component.update_until(component.get_current_time() + 3600)


def test_names_types_and_units(tmp_path):
    with opened(write_case(tmp_path)) as component:
        expected = {
            CREATE: ("int32", 4, "ngen::trigger"), FREE: ("int32", 4, "ngen::trigger"), SIZE: ("int64", 8, "bytes"),
            STATE: ("uint8", 1, "ngen::opaque"),
        }
        for name, (dtype, itemsize, units) in expected.items():
            assert component.get_var_type(name) == dtype
            assert component.get_var_itemsize(name) == itemsize
            assert component.get_var_units(name) == units
            assert name not in (*component.get_input_var_names(), *component.get_output_var_names())
        assert component.get_value_ptr(SIZE)[0] == 0
        before = everything(component)
        taken(component)
        assert_same(everything(component), before)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("hours", [0, 5, 24, 37])
def test_a_restore_goes_on_as_if_unbroken(tmp_path, hours, announced):
    """At and within a step, from calls shorter than it: the state is all of it, held inputs and depth included."""
    config = write_case(tmp_path, forcing="caller", snow="cemaneige")
    with opened(config) as one, opened(config) as other:
        for component in (one, other):
            rng = np.random.default_rng(0)
            for _ in range(hours):
                hour(component, rng)
        saved, shown = taken(one), everything(one)
        pointers = {n: one.get_value_ptr(n) for n in shown if n != "now"}
        wild = np.random.default_rng(9)
        for _ in range(30):
            hour(one, wild)
        given_back(one, saved, announced=announced)
        assert_same(everything(one), shown)
        with opened(config) as fresh:
            given_back(fresh, saved)
            assert_same(everything(fresh), shown)
            generators = [np.random.default_rng(3) for _ in range(3)]
            for _ in range(30):
                for component, rng in zip((one, other, fresh), generators, strict=True):
                    hour(component, rng)
                assert_same(everything(one), everything(other))
                assert_same(everything(fresh), everything(other))
        for name, values in pointers.items():
            assert one.get_value_ptr(name) is values


def test_file_and_bytes_are_one(tmp_path):
    config = write_case(tmp_path, forcing="caller", snow="cemaneige")
    with opened(config) as component:
        rng = np.random.default_rng(1)
        for _ in range(31):
            hour(component, rng)
        simulation = component._stepper.simulation
        simulation.save(tmp_path / "state.nc")
        ids = simulation.model.domain.cells.id, simulation.model.domain.reaches.id
        file, content = read_restart(tmp_path / "state.nc", *ids), read_restart(taken(component), *ids)
        shown = everything(component)
    assert file.attributes == content.attributes and file.time == content.time
    for ours, theirs in ((file.cell, content.cell), (file.reach, content.reach)):
        assert_same(dict(sorted(ours.items())), dict(sorted(theirs.items())))
    with opened(change_config(config, initial_state="state.nc")) as component:
        assert_same(everything(component), shown)  # the depth of a call of an hour, and what the caller holds
    with opened(change_config(config, initial_state="state.nc", name_profile="ngen")) as component:
        np.testing.assert_allclose(component.get_value_ptr(T), shown[T] + 273.15, rtol=1e-14)
        component.update_until(component.get_current_time() + 3600)


def test_a_file_of_bytes_and_bytes_of_a_file(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(3 * DAY + 7200)
        shown = everything(component)
        (tmp_path / "bytes.nc").write_bytes(taken(component))
    with opened(change_config(config, initial_state="bytes.nc")) as component:
        assert_same(everything(component), shown)
        component._stepper.simulation.save(tmp_path / "file.nc")
        component.update_until(5 * DAY)
        given_back(component, (tmp_path / "file.nc").read_bytes())
        assert_same(everything(component), shown)


@pytest.mark.parametrize("name_profile", ["csdms", "ngen"])
def test_a_restore_shows_the_files_values_and_the_callers_in_their_place(tmp_path, name_profile):
    config = write_case(tmp_path, snow="cemaneige", name_profile=name_profile)
    with opened(config) as component, opened(config) as other:
        for found in (component, other):
            found.update_until(2 * DAY)
            found.set_value_at_indices(T, np.array([3]), np.array([-3.0 if name_profile == "csdms" else 270.0]))
            found.update_until(2 * DAY + 3600)
        saved, shown = taken(component), everything(component)
        component.update_until(7 * DAY)
        given_back(component, saved)
        assert_same(everything(component), shown)
        component._stepper.simulation.save(tmp_path / "middle.nc")
        with opened(change_config(config, initial_state="middle.nc")) as resumed:
            assert_same(everything(resumed), shown)
        for target in (2 * DAY + 7200, 3 * DAY, 6 * DAY):
            component.update_until(target)
            other.update_until(target)
            assert_same(everything(component), everything(other))


def test_a_resume_takes_the_new_files_weather(tmp_path):
    """A state at the end of a step holds nothing of the old forcing file."""
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(4 * DAY)
        assert not [n for n in component._stepper.simulation.snapshot().cell if n.startswith(("held_", "pending_"))]
        saved = taken(component)
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["precipitation"][:] = 1.25
    with opened(config) as component:
        given_back(component, saved)
        assert (component.get_value_ptr(P) == 1.25).all()


def test_hot_start_takes_the_state_alone(tmp_path):
    config = write_case(tmp_path, forcing="caller")
    with opened(config) as component:
        for name, value in ((P, 9.0), (E, 1.0)):
            component.set_value(name, np.full(N_CELLS, value))
        component.update_until(3 * DAY + 3600)
        saved, stores = taken(component), component.get_value_ptr(variable("production_store").name).copy()
    with opened(change_config(config, restart_mode="hot_start")) as component:
        given_back(component, saved)
        assert component.get_current_time() == 0.0
        np.testing.assert_array_equal(component.get_value_ptr(variable("production_store").name), stores)
        assert all(component.get_value_ptr(n)[0] == 0.0 for n in MASS_NAMES)
        assert np.isnan(component.get_value_ptr(P)).all() and component.get_value_ptr(DEPTH)[0] == 0.0


def test_what_is_no_state_is_refused_and_changes_nothing(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    with opened(config) as component:
        component.update_until(DAY + 3600)
        saved, before = taken(component), everything(component)
        for wrong in (b"", b"nonsense", saved[: len(saved) // 2], b"\x89HDF\r\n\x1a\n"):
            with pytest.raises(StateError):
                given_back(component, wrong)
        component.set_value(SIZE, np.array([5], np.int64))
        with pytest.raises(StateError, match="expected 5 bytes, as announced"):
            component.set_value(STATE, np.frombuffer(saved, np.uint8))
        for size in (np.array([-1]), np.array([1.5]), np.array([1, 2])):
            with pytest.raises(StateError, match="one whole number of bytes"):
                component.set_value(SIZE, size)
        with pytest.raises(StateError, match="of float64, expected"):
            component.set_value(STATE, np.zeros(8))
        assert_same(everything(component), before)
    with opened(change_config(config, snow="none")) as component:
        before = everything(component)
        with pytest.raises(StateError, match="snow is 'cemaneige', expected 'none'"):
            given_back(component, saved)
        assert_same(everything(component), before)
    with opened(write_case(tmp_path / "other", lumped=True, snow="cemaneige")) as component:
        given_back(component, saved)  # has a cell c0 and a reach r0, too


@pytest.mark.parametrize("found", ["bmi_cdlm restart 2", "bmi_cdlm restart 4", "other"])
def test_a_state_of_another_version_is_refused(tmp_path, found, monkeypatch):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(2 * DAY)
        with monkeypatch.context() as patch:
            patch.setattr("bmi_cdlm.files.restart.FORMAT", found)
            saved = taken(component)
            component._stepper.simulation.save(tmp_path / "state.nc")
        before = everything(component)
        with pytest.raises(StateError, match=f"format is '{found}', expected 'bmi_cdlm restart 3'"):
            given_back(component, saved)
        assert_same(everything(component), before)
    with pytest.raises(StateError, match=f"state.nc: format is '{found}'"), opened(
        change_config(config, initial_state="state.nc")
    ):
        pass


def test_a_state_within_a_step_needs_the_same_inputs(tmp_path):
    config = write_case(tmp_path, forcing="caller", snow="cemaneige")
    with opened(config) as component:
        for name in (P, E, T):
            component.set_value(name, np.full(N_CELLS, 3.0))
        component.update_until(3600.0)
        saved = taken(component)
    with opened(change_config(config, pet="hargreaves")) as component:
        before = everything(component)
        with pytest.raises(StateError, match=r"3600 s into a step without 'minimum_air_temperature'"):
            given_back(component, saved)
        assert_same(everything(component), before)


def test_the_accumulated_range_is_kept(tmp_path):
    config = write_case(tmp_path, forcing="caller", pet="hargreaves")
    with opened(config) as one, opened(config) as other:
        for time in range(1, 24):
            for component in (one, other):
                component.set_value(P, np.full(N_CELLS, 2.0))
                component.set_value(T, np.full(N_CELLS, 10.0 + 6.0 * np.sin(time)))
                component.update_until(3600.0 * time)
            given_back(one, taken(one))
        one.update()
        other.update()
        assert_same(everything(one), everything(other))


def test_a_sub_basin_goes_on_from_the_whole_domains_bytes(tmp_path):
    """By ids, and within a step: what waits and what has accumulated comes along."""
    config = write_case(tmp_path, forcing="caller")
    with opened(config) as component:
        rng = np.random.default_rng(2)
        for _ in range(40):
            component.set_value(P, rng.uniform(0, 30, N_CELLS))
            component.set_value(E, rng.uniform(0, 6, N_CELLS))
            component.update_until(component.get_current_time() + 3600)
        saved = taken(component)
        whole = read_domain(component._stepper.simulation.config.domain)
        simulation = component._stepper.simulation
        reach = int(np.argmax(whole.reaches.upstream_area * (whole.reaches.downstream >= 0)))
        part, cells, reaches = cut(whole, reach)
        restart = read_restart(saved, part.cells.id, part.reaches.id)
        assert_same(
            {n: restart.cell[f"pending_{n}"] for n in simulation.inputs.pending},
            {n: v[cells] for n, v in simulation.inputs.pending.items()},
        )
        np.testing.assert_array_equal(restart.reach["unreleased"], simulation.model.state.unreleased[reaches])
        parameters = simulation.model.parameters
        small = Model(part, {
            n: v[reaches] if v.size == whole.n_reaches else v[cells] for n, v in parameters.items()
        })
        small.restore(restart.cell, restart.reach)
        forcing = simulation.make_forcing({n: rng.uniform(0, 5, (3, N_CELLS)) for n in simulation.inputs.pending}, 0, 3)
        theirs = simulation.model.advance(forcing, ("discharge",))["discharge"][:, reaches].copy()
        ours = small.advance(
            type(forcing)(*(None if a is None else a[:, cells].copy() for a in forcing)), ("discharge",)
        )["discharge"]
        np.testing.assert_array_equal(ours, theirs)


def test_a_restart_of_a_batch_run_in_bmi(tmp_path):
    config = write_case(tmp_path, restart="end.nc", end="2001-03-06")
    with simulated(config) as simulation:
        simulation.run()
        expected = {v.name: simulation.model.live[v.short].copy() for v in simulation.model.outputs}
    with opened(change_config(config, initial_state="end.nc", end="2001-03-10", restart=None)) as component:
        assert component.get_current_time() == 5 * DAY
        found = outputs(component)
        assert_same({n: found[n] for n in found}, {n: expected[n] for n in found})
        assert (component.get_value_ptr(Q) > 0).any()


@pytest.mark.parametrize("snow", ["none", "cemaneige"])
def test_a_state_whose_x4_had_grown_goes_where_x4_is_short(tmp_path, snow):
    """Parameters are set first, as ngen does; also where X4 is back to the short one meanwhile."""
    config = write_case(tmp_path, snow=snow, n_steps=40, ledger_tolerance=1e-9)
    base = "unit_hydrograph_base"
    for last in (15.0, 1.3):
        with opened(config) as one, opened(config) as other:
            live = other.get_value_ptr(Q)
            one.set_value(base, np.full(N_CELLS, 15.0))
            one.update_until(9 * DAY)
            one.set_value(base, np.full(N_CELLS, last))
            other.set_value(base, np.full(N_CELLS, last))
            given_back(other, taken(one))
            assert_same(everything(other), everything(one))
            for component in (one, other):
                component.update_until(40 * DAY)
            assert_same(everything(other), everything(one))
            assert live is other.get_value_ptr(Q)


def test_a_state_that_does_not_fit_loses_no_water(tmp_path):
    """Its queues are shorter than those of the run that refuses it."""
    config = write_case(tmp_path)
    with opened(config) as component:
        component.set_value("unit_hydrograph_base", np.full(N_CELLS, 15.0))
        component.update_until(9 * DAY)
        before, simulation = everything(component), component._stepper.simulation
        restart = simulation.snapshot()
        cell = {n: v[:2] if n.startswith("unit_hydrograph") else v for n, v in restart.cell.items()}
        del cell["routing_store"]
        with pytest.raises(StateError, match="state lacks 'routing_store'"):
            simulation.restore(restart._replace(cell=cell))
        simulation.model.refresh()
        assert_same({n: v for n, v in everything(component).items() if n != DEPTH}, {
            n: v for n, v in before.items() if n != DEPTH})


def test_an_attribute_that_was_changed(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(DAY + 3600)
        saved, before = taken(component), everything(component)
        for old, new in ((b"pending_seconds", b"pending_secands"), (b"2001-03-02", b"2001-03-03")):
            assert old in saved
            with pytest.raises(StateError, match="sha256"):
                given_back(component, saved.replace(old, new))
        assert_same(everything(component), before)


def test_a_state_within_a_step_where_fractions_are_refused(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(DAY + 3600)
        saved = taken(component)
    with opened(change_config(config, sub_step_policy="refuse")) as component:
        before = everything(component)
        with pytest.raises(StateError, match="saved 3600 s into a step, and sub_step_policy is 'refuse'"):
            given_back(component, saved)
        assert_same(everything(component), before)


def test_a_store_above_its_capacity_here_is_refused(tmp_path):
    """GR4J would lose that water: the capacity is a parameter, and must be set before the state."""
    config = write_case(tmp_path, ledger_tolerance=1e-9)
    store, capacity = variable("production_store").name, "production_capacity"
    with opened(config) as one, opened(config) as other:
        one.set_value(capacity, np.full(N_CELLS, 4000.0))
        one.set_value(store, np.full(N_CELLS, 3900.0))
        one.update()
        saved, before = taken(one), everything(other)
        with pytest.raises(StateError, match=rf"'production_store' holds .* mm at cell .* \({N_CELLS} of {N_CELLS}"):
            given_back(other, saved)
        assert_same(everything(other), before)
        other.set_value(capacity, np.full(N_CELLS, 4000.0))
        given_back(other, saved)
        for component in (one, other):
            component.update_until(N_STEPS[DAY] * DAY)
        assert_same(everything(other), everything(one))
