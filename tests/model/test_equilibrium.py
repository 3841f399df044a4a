"""A start in equilibrium: what a steady net rain leaves as it is, and how little runs off the first dry day."""

from __future__ import annotations

import numpy as np
import pytest
from cases import change_config, opened, write_case
from make_domain import lumped_domain, random_domain, random_parameters
from process_cases import BESIDE, HBV, installed

from bmi_cdlm.model.equilibrium import DEFAULT_RAIN
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config

STEPS = [DAY, HOUR]


def constant(model, rain, demand=0.0, steps=1):
    shape = (steps, model.domain.n_cells)
    return Forcing(np.full(shape, rain), np.full(shape, demand), np.full(shape, 20.0))


def stored(model):
    arrays = model.state.arrays()
    names = ("production_store", "routing_store", "unit_hydrograph_1", "unit_hydrograph_2", "reach_flow")
    return {n: arrays[n].copy() for n in names}


@pytest.fixture(params=STEPS)
def model(request):
    domain = random_domain(3, 40, 25)
    made = Model(domain, random_parameters(5, domain, request.param), step=request.param)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("rain", [None, 0.0, 0.01, 3.0, 40.0])
def test_a_net_rain_leaves_everything_as_it_is(model, rain):
    model.settle(rain=rain)
    before = stored(model)
    discharge = model.live["discharge"].copy()
    assert model.live["water_in"][0] == 0.0 and not model.live["runoff"].any()  # the clock begins here
    model.advance(constant(model, DEFAULT_RAIN if rain is None else rain, steps=30))
    for name, values in stored(model).items():
        margin = 1e-9 * np.abs(before[name]).max()
        np.testing.assert_allclose(values, before[name], rtol=1e-8, atol=margin, err_msg=name)
    np.testing.assert_allclose(model.live["discharge"], discharge, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rain", [0.02, 0.5, 8.0])
def test_without_groundwater_it_runs_off_as_it_rains(step, rain):
    model = Model(lumped_domain(1), {"exchange_coefficient": np.zeros(1)}, step=step)
    model.settle(rain=rain)
    np.testing.assert_allclose(model.live["discharge"], rain / 86.4, rtol=1e-9)  # of 1 km2
    model.advance(constant(model, rain))
    np.testing.assert_allclose(model.live["runoff"], rain, rtol=1e-9)
    model.close()


@pytest.mark.slow
@pytest.mark.parametrize("runoff", [0.0, 0.02, 1.0, 12.0])
def test_a_mean_runoff_is_that_of_every_cell_that_can(model, runoff):
    model.settle(rain=0.0)
    least = model.live["discharge"].copy()
    model.settle(runoff=runoff)
    found = stored(model)
    area = model.domain.reaches.upstream_area
    flow = runoff * area / 86.4
    # Groundwater alone may give more; 1e-8 of the rest.
    assert (model.live["discharge"] >= np.maximum(flow * (1 - 1e-8), least * (1 - 1e-8)) - 1e-12).all()
    model.settle(runoff=runoff)
    for name, values in stored(model).items():
        np.testing.assert_array_equal(values, found[name])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("exchange", [-3.0, -0.2, 0.0, 1.0])
def test_a_mean_runoff_with_exchange(step, exchange):
    model = Model(lumped_domain(1), {"exchange_coefficient": np.full(1, exchange * step / DAY)}, step=step)
    model.settle(runoff=2.0)
    np.testing.assert_allclose(model.live["discharge"], 2.0 / 86.4, rtol=1e-8)
    model.close()


def test_an_hourly_model_does_not_start_with_a_flood():
    """9.2 mm ran off its first dry day, from half-full stores."""
    def first_day(settle):
        model = Model(lumped_domain(1), step=HOUR)
        if settle:
            model.settle()
        total = model.advance(constant(model, 0.0, 2.0, 24), ("runoff",))["runoff"].sum() / 24
        model.close()
        return total

    assert first_day(settle=False) > 9.0
    assert 0.3 < first_day(settle=True) < DEFAULT_RAIN


@pytest.mark.parametrize("snow", ["cemaneige", "cemaneige_hysteresis"])
def test_snow_starts_as_it_would(snow):
    model, other = (Model(lumped_domain(1), step=HOUR, snow=snow) for _ in range(2))
    model.settle()
    for name, values in model.state.cells[0]._asdict().items():
        np.testing.assert_array_equal(values, getattr(other.state.cells[0], name))
    for one in (model, other):
        one.close()


@pytest.mark.parametrize(("keys", "start"), [
    ({}, "steady"), ({"time_step": "1 h"}, "equilibrium"), ({"time_step": "1 h", "spin_up": 1}, "steady"),
    ({"time_step": "1 h", "initial_state": "steady"}, "steady"), ({"initial_runoff": 1.5}, "equilibrium"),
    ({"initial_state": "equilibrium", "spin_up": 1}, "equilibrium"),
])
def test_the_start_that_a_configuration_has(tmp_path, keys, start):
    config = write_case(tmp_path, n_steps=24)
    assert load_config(change_config(config, **{"routing_step": "15 min", **keys})).initial_state == start


@pytest.mark.parametrize(("keys", "message"), [
    ({"initial_rain": 1.0, "initial_runoff": 1.0}, "both given"), ({"initial_rain": -1.0}, "initial_rain is -1"),
    ({"initial_rain": 1.0, "initial_state": "steady"}, "without initial_state: equilibrium"),
])
def test_a_start_that_contradicts_itself_is_refused(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        load_config(change_config(write_case(tmp_path), **keys))


@pytest.mark.parametrize("forcing", ["caller", "forcing.nc"])
def test_a_component_starts_with_the_stated_runoff(tmp_path, forcing):
    config = write_case(tmp_path, step=HOUR, forcing=forcing, initial_runoff=1.0, lumped=True)
    with opened(config) as component:
        flow = component.get_value_ptr(variable("discharge").name)
        area = component._stepper.simulation.model.domain.cells.drained_area
        np.testing.assert_allclose(flow, area / 86.4, rtol=1e-8)
        assert component.get_value_ptr(variable("water_in").name)[0] == 0.0
        assert component.get_value_ptr("ngen::mass_stored")[0] == 0.0


# ---- processes of others -----------------------------------------------------------------------------------


def water(model):
    """What stores of the runoff process and its queues hold, and rivers."""
    group = model.state.cells[-1]._asdict()
    return {n: a.copy() for n, a in group.items()} | {"rivers": model.reach_volume.copy()}


def assert_settled(model, rain, rtol=1e-8, steps=30):
    """A steady rain of warm days without demand leaves everything as it is."""
    shape = (steps, model.domain.n_cells)
    before, discharge = water(model), model.live["discharge"].copy()
    model.advance(Forcing(np.full(shape, rain), np.zeros(shape), np.full(shape, 8.0)))
    for name, values in water(model).items():
        margin = rtol * max(1.0, np.abs(before[name]).max(initial=0.0))
        np.testing.assert_allclose(values, before[name], rtol=rtol, atol=margin, err_msg=name)
    np.testing.assert_allclose(model.live["discharge"], discharge, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("rain", [0.0, 0.05, 4.0])
@pytest.mark.parametrize("process", [HBV, BESIDE], ids=lambda p: p.name)
def test_any_process_settles(process, rain, components, step):
    """With own snow and capillary rise; with a queue whose inflow no flux tells, beside which water passes."""
    with installed(process):
        domain = random_domain(3, 20, 12)
        model = Model(domain, runoff=process.name, step=step, components={process.name: components})
        model.settle(rain=rain)
        assert_settled(model, rain)
        model.close()


@pytest.mark.parametrize("components", [1, 3])
def test_a_mean_runoff_with_components(components):
    rng = np.random.default_rng(3)
    domain = random_domain(3, 20, 12)
    given = {"routing_capacity": rng.uniform(20, 200, (components, 12) if components > 1 else 12)}
    model = Model(domain, given, step=DAY, snow="cemaneige", components={"gr4j": components})
    model.settle(runoff=1.5)
    expected = 1.5 * domain.reaches.upstream_area / 86.4
    np.testing.assert_allclose(model.live["discharge"], expected, rtol=1e-8, atol=1e-12)
    assert not model.live["snowpack"].any()
    model.close()


def test_a_store_without_an_equilibrium_stays_as_it_starts():
    """What seeps into a store without an outlet has no end."""
    with installed(HBV):
        model = Model(lumped_domain(1), {"test_slow": np.zeros(1)}, runoff=HBV.name)
        model.settle(rain=5.0)
        assert model.live["test_lower"][0] == 5.0 and np.isfinite(model.live["discharge"]).all()
        model.close()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("exchange", "rain"), [(0.5, 2.0), (0.0, 0.3), (-5.0, 2.0)])
def test_a_store_in_deficit_gives_off_what_flows_in(step, exchange, rain):
    """The exponential store of gr6: k ln(1 + e^(x / k)) leaves it, so that x is as far below 0 as little comes in.

    Where exchange takes more than comes, there is no equilibrium: it gives off hardly anything.
    """
    share = step / DAY
    given = {"exchange_coefficient": np.full(1, exchange * share), "exchange_threshold": np.full(1, 0.1),
             "exponential_coefficient": np.full(1, 3.0), "routing_capacity": np.full(1, 40.0)}
    model = Model(lumped_domain(1), given, step=step, runoff="gr6", ledger=True)
    model.settle(rain=rain)
    before = model.state.arrays()["exponential_store"].copy()
    model.advance(constant(model, rain, steps=2))
    after = model.state.arrays()["exponential_store"]
    filled = model.state.arrays()["routing_store"] / 40.0
    coming = 0.36 * rain + exchange * (filled - 0.1)
    if exchange < 0.0:
        assert coming < 0.0 and model.live["exponential_store_outflow"][0] * share < 2e-3
        assert before < -3.0 * np.log(1e3)
    else:
        np.testing.assert_allclose(after, before, rtol=1e-8)
        np.testing.assert_allclose(model.live["exponential_store_outflow"], coming, rtol=1e-6)
    model.ledger.check(1e-9, model.state, model.live, "the end")
    model.close()


def test_parameters_that_vary_have_their_default_in_equilibrium():
    found = []
    for varying in ((), ("quickflow_rate", "recharge_shape")):
        model = Model(lumped_domain(1), {}, step=DAY, runoff="hbv", varying=varying)
        model.settle(rain=20.0)
        found.append([model.state.arrays()[name][0] for name in ("soil_moisture", "upper_zone", "lower_zone")])
        model.close()
    assert found[0] == found[1] and found[0][1] > 0.0
