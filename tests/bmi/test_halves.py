"""Routing alone, on runoff or lateral inflow of another model, and runoff alone: halves are the whole, bit for bit."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cases import GAUGE_Q, START, Q, assert_same, change_config, opened, outputs, simulated, write_case, write_series
from generator_cases import specify, write_attribute_domain, write_drawn_checkpoint
from make_domain import random_domain, random_forcing

from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import CheckpointError, ConfigError, ForcingError, StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config

RUNOFF, GIVEN, LATERAL, GIVEN_LATERAL, FLOW = (
    variable(n).name
    for n in ("runoff", "given_runoff", "lateral_inflow", "given_lateral_inflow", "reach_inflow")
)
ON_RIVERS = ("discharge", "gauge_discharge", "lateral_inflow", "reach_storage", "outflow_total", "outlet_discharge")
ROUTING = {
    "forcing": "caller", "runoff": "caller", "snow": "none", "initial_state": "state.nc", "restart_mode": "hot_start",
    "observations": None, "ledger_tolerance": 1e-12,
}


@pytest.mark.slow
@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("keys", [{}, {"threads": 2}, {"snow": "cemaneige", "components": 3}])
def test_routing_alone_is_the_whole_fed_with_its_own_runoff(tmp_path, step, keys):
    """0 bits of difference, from runoff per cell and from lateral inflow per reach, at every step."""
    config = write_case(tmp_path, step=step, n_steps=40, **keys)
    by_reach = ROUTING | {"coupled_inputs": ["given_lateral_inflow", "reach_inflow"]}
    with simulated(config) as simulation:
        simulation.save(tmp_path / "state.nc")
    more = {"components": None}
    with (
        opened(config) as whole, opened(change_config(config, "cells.yaml", **ROUTING, **more)) as cells,
        opened(change_config(config, "reaches.yaml", **by_reach, **more)) as reaches,
    ):
        assert cells.get_input_var_names() == (GIVEN,)
        assert reaches.get_input_var_names() == (GIVEN_LATERAL, FLOW)
        assert np.isnan(cells.get_value_ptr(GIVEN)).all() and not reaches.get_value_ptr(GIVEN_LATERAL).any()
        for _ in range(40):
            whole.update()
            cells.set_value(GIVEN, whole.get_value_ptr(RUNOFF))
            reaches.set_value(GIVEN_LATERAL, whole.get_value_ptr(LATERAL))
            for part in (cells, reaches):
                part.update()
                for name in ON_RIVERS:
                    full = variable(name).name
                    np.testing.assert_array_equal(part.get_value_ptr(full), whole.get_value_ptr(full), err_msg=name)
        assert whole.get_value_ptr(Q).max() > 0
        for part in (cells, reaches):
            live = part._stepper.simulation.model.live
            assert abs(live["water_residual"][0]) < 1e-12 * live["water_out"][0] and live["water_out"][0] > 0
        runoff = cells._stepper.simulation.model.live
        np.testing.assert_array_equal(runoff["precipitation_total"], runoff["runoff_total"])


def test_runoff_may_come_from_a_file_in_blocks(tmp_path):
    config = write_case(tmp_path, output="run.nc", output_at="reaches")
    domain, forcing = load_config(config).domain, tmp_path / "runoff.nc"
    with simulated(config) as simulation:
        simulation.save(tmp_path / "state.nc")
        series = simulation.model.advance(simulation.read_forcing(0, 9), ("runoff", "discharge"))
        runoff, expected = series["runoff"].copy(), series["discharge"].copy()
        ids = simulation.model.domain.cells.id
    write_series(forcing, "cell", np.array(ids), {"given_runoff": (runoff, "mm d-1")}, START, DAY)
    keys = ROUTING | {"forcing": "runoff.nc", "ledger_tolerance": None, "output": "routed.nc"}
    with simulated(change_config(config, "routing.yaml", **keys)) as simulation:
        simulation.run()
    with netCDF4.Dataset(tmp_path / "routed.nc") as dataset:
        np.testing.assert_array_equal(dataset["discharge"][:], expected)
    assert domain.exists()


def test_parts_of_a_step_and_a_restart(tmp_path):
    """Runoff accumulates within a step as rain does; a saved half goes on to the bit."""
    config = write_case(tmp_path, **ROUTING | {"initial_state": None, "restart_mode": None})
    rng = np.random.default_rng(1)
    with opened(config) as component:
        n, rows = component.get_value_ptr(GIVEN).size, rng.uniform(0, 9, (6, 25))
        for k, row in enumerate(rows):
            component.set_value(GIVEN, row)
            component.update_until(component.get_current_time() + 10 * HOUR)
            if k == 3:
                component._stepper.simulation.save(tmp_path / "half.nc")
        expected = outputs(component)
        mean = (10 * rows[0] + 10 * rows[1] + 4 * rows[2]) / 24
        assert n == 25
        np.testing.assert_allclose(component.get_value_ptr(variable("runoff_total").name) > mean, True)
        component._stepper.simulation.restore_from(tmp_path / "half.nc")
        for row in rows[4:]:
            component.set_value(GIVEN, row)
            component.update_until(component.get_current_time() + 10 * HOUR)
        assert_same(outputs(component), expected)


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_without_routing_discharge_is_the_sum_of_the_runoff_above(tmp_path, step):
    with opened(write_case(tmp_path, step=step, routing="none", ledger_tolerance=1e-12)) as component:
        model = component._stepper.simulation.model
        reaches, gauges = model.domain.reaches, model.domain.gauges.reach
        storage = variable("reach_storage").name
        for _ in range(8):
            component.update()
            summed = accumulate_downstream(reaches.downstream, component.get_value_ptr(LATERAL))
            np.testing.assert_allclose(component.get_value_ptr(Q), summed, rtol=1e-14, atol=1e-15)
            np.testing.assert_array_equal(component.get_value_ptr(GAUGE_Q), component.get_value_ptr(Q)[gauges])
            assert not component.get_value_ptr(storage).any()
        with pytest.raises(StateError, match="expected 0 to 0"):
            component.set_value_at_indices(storage, np.array([1]), np.array([5.0]))
    with opened(write_case(tmp_path / "other", step=step)) as component:
        assert np.isinf(component.get_value_bounds(storage).high).all()


def test_the_adjoint_of_a_half_is_that_of_the_whole():
    """Gradients of routing parameters and of the runoff, where runoff is given; of the rain, where rivers only add."""
    domain, forcing = random_domain(4, 20, 8), random_forcing(5, 12, 8)
    weigh = np.random.default_rng(2).normal(size=(12, 20))
    runoff = Model(domain, routing="none").advance(forcing, ("runoff",))["runoff"].copy()
    half = Model(domain, runoff="caller")
    half.record(Forcing(0.0 * runoff, None, others={"given_runoff": runoff}))
    found = half.adjoint(weigh)
    assert set(found.parameters) >= {"celerity", "weighting"} and found.forcing["given_runoff"].any()
    moved = np.random.default_rng(3).normal(size=runoff.shape)
    difference = [
        (half.record(Forcing(0.0 * runoff, None, others={"given_runoff": runoff + s * moved})) * weigh).sum()
        for s in (0.5, -0.5)
    ]  # linear in the runoff
    np.testing.assert_allclose((found.forcing["given_runoff"] * moved).sum(), np.subtract(*difference), rtol=1e-10)


def test_a_checkpoint_of_the_whole_gives_either_half_its_parameters(tmp_path):
    config = write_case(tmp_path, snow="cemaneige", parameters="drawn.safetensors", pet_kind="oudin")
    write_attribute_domain(tmp_path / "domain.nc")
    write_drawn_checkpoint(tmp_path / "drawn.safetensors", specify(tmp_path / "domain.nc"))
    routing = ROUTING | {"initial_state": None, "restart_mode": None, "pet_kind": None}
    with (
        simulated(config) as whole, simulated(change_config(config, "routing.yaml", **routing)) as rivers,
        simulated(change_config(config, "runoff.yaml", routing="none", routing_step="1 d")) as cells,
    ):
        for half, names in ((rivers, ("celerity",)), (cells, ("production_capacity", "melt_factor"))):
            for name in names:
                np.testing.assert_array_equal(half.model.parameters[name], whole.model.parameters[name])
            assert set(half.model.parameters) < set(whole.model.parameters)
        assert whole.model.pet is not None and rivers.model.pet is None
        cells.advance(cells.read_forcing(0, 5))
        whole.advance(whole.read_forcing(0, 5))
        np.testing.assert_array_equal(cells.model.live["runoff"], whole.model.live["runoff"])
    with pytest.raises(CheckpointError, match="routing_step"), simulated(change_config(config, routing_step="1 d")):
        pass


def test_an_equilibrium_has_the_runoff_that_is_stated(tmp_path):
    keys = ROUTING | {"initial_state": "equilibrium", "initial_runoff": 1.25, "restart_mode": None}
    with opened(write_case(tmp_path, **keys)) as component:
        area = component._stepper.simulation.model.domain.reaches.upstream_area
        np.testing.assert_allclose(component.get_value_ptr(Q), 1.25 * area / 86.4, rtol=1e-8)


@pytest.mark.parametrize(("value", "message"), [(-0.1, "0 to 2000"), (np.nan, "Call set_value"), (5e4, "0 to 2000")])
def test_runoff_that_has_no_meaning_is_refused(tmp_path, value, message):
    with opened(write_case(tmp_path, **ROUTING | {"initial_state": None, "restart_mode": None})) as component:
        component.set_value(GIVEN, np.ones(25))
        component.set_value_at_indices(GIVEN, np.array([3]), np.array([value]))
        with pytest.raises(ForcingError, match=message):
            component.update()
        assert component.get_current_time() == 0


@pytest.mark.parametrize(("keys", "message"), [
    ({"coupled_inputs": ["given_lateral_inflow"]}, "stands in place of 'given_runoff', which no process"),
    ({"runoff": "caller", "coupled_inputs": ["given_lateral_inflow"]}, "expected forcing: caller"),
    ({"runoff": "caller", "forcing": "caller", "coupled_inputs": ["given_lateral_inflow"],
      "published_inputs": ["given_runoff"]}, "both given; expected one"),
    ({"runoff": "caller", "snow": "cemaneige"}, "Set snow: none"),
])
def test_a_flow_and_its_complement_are_refused(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write_case(tmp_path, **keys))


def test_a_state_of_the_whole_is_taken_by_a_hot_start_only(tmp_path):
    config = write_case(tmp_path)
    with simulated(config) as simulation:
        simulation.save(tmp_path / "state.nc")
    with pytest.raises(StateError, match=r"runoff is 'gr4j', expected 'caller'.*restart_mode: hot_start"):
        load = change_config(config, **ROUTING | {"restart_mode": "resume"})
        with opened(load):
            pass
