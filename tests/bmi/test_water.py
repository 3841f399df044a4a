"""The ledger that BMI shows: what came in and is not out is stored."""

from __future__ import annotations

import numpy as np
import pytest
from cases import E, P, T, change_config, opened, outputs, write_case

from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable

IN, OUT, EXCHANGED, STORED = (variable(f"water_{n}").name for n in ("in", "out", "exchanged", "stored"))


def total(component, name):
    return float(component.get_value_ptr(name)[0])


def assert_closed(component, stored_at_start):
    came, gone = total(component, IN), total(component, OUT)
    left = came + total(component, EXCHANGED) - gone - (total(component, STORED) - stored_at_start)
    assert abs(left) <= 1e-12 * (came + stored_at_start)


@pytest.mark.parametrize("snow", ["none", "cemaneige", "cemaneige_hysteresis"])
@pytest.mark.parametrize("step", [DAY, HOUR])
def test_the_ledger_closes_at_every_step(tmp_path, step, snow):
    with opened(write_case(tmp_path, step=step, snow=snow, spin_up=1)) as component:
        at_start = total(component, STORED)
        assert at_start > 0
        assert (total(component, IN), total(component, OUT), total(component, EXCHANGED)) == (0.0, 0.0, 0.0)
        while component.get_current_time() < component.get_end_time():
            component.update()
            assert_closed(component, at_start)
        assert total(component, IN) > 0 and total(component, OUT) > 0 and total(component, EXCHANGED) != 0


@pytest.mark.parametrize("snow", ["none", "cemaneige"])
def test_the_ledger_closes_over_calls_of_any_length(tmp_path, snow):
    config = write_case(tmp_path, snow=snow, forcing="caller", name_profile="ngen")
    rng = np.random.default_rng(5)
    with opened(config) as component:
        names, at_start = component.get_input_var_names(), total(component, STORED)
        area = component._stepper.simulation.model.domain.cells.drained_area * 1000.0
        rained = 0.0
        time = 0
        for target in [*np.sort(rng.choice(np.arange(60, 8 * DAY, 60), 40, replace=False)), 9 * DAY]:
            rain = rng.exponential(1e-4, 25)
            component.set_value(names[0], rain)
            component.set_value(E, rng.uniform(0, 5, 25))
            if snow != "none":
                component.set_value(T, rng.uniform(260, 290, 25))
            component.update_until(float(target))
            rained += (rain * area).sum() * (target - time)
            time = target
            assert_closed(component, at_start)
        np.testing.assert_allclose(total(component, IN), rained, rtol=1e-12)
        assert P not in names


def test_the_ledger_goes_on_after_a_restart(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    with opened(config) as component:
        at_start = total(component, STORED)
        component.update_until(4 * DAY)
        component._stepper.simulation.save(tmp_path / "middle.nc")
    with opened(change_config(config, initial_state="middle.nc")) as component:
        assert component.get_current_time() == 4 * DAY
        component.update_until(9 * DAY)
        assert_closed(component, at_start)


def test_the_ledger_is_that_of_the_cells_and_outlets(tmp_path):
    """Added up here from the fluxes of every step."""
    with opened(write_case(tmp_path, snow="cemaneige")) as component:
        domain = component._stepper.simulation.model.domain
        area, outlets = domain.cells.drained_area * 1000.0, domain.outlets
        came = gone = exchanged = 0.0
        while component.get_current_time() < component.get_end_time():
            came += (component.get_value_ptr(P) * area).sum()
            component.update()
            values = outputs(component)
            gone += (values[variable("evapotranspiration").name] * area).sum()
            gone += values[variable("discharge").name][outlets].sum() * DAY
            exchanged += (values[variable("groundwater_exchange").name] * area).sum()
        np.testing.assert_allclose(total(component, IN), came, rtol=1e-12)
        np.testing.assert_allclose(total(component, OUT), gone, rtol=1e-12)
        np.testing.assert_allclose(total(component, EXCHANGED), exchanged, rtol=1e-10)
