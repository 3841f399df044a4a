"""The calls of ngen's Python BMI adapter, in its order: an hourly host and one catchment per instance."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DEPTH, E, Q, T, change_config, opened, write_case

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.parameters import DAY, HOUR
from bmi_cdlm.variables import variable

RAIN = "atmosphere_water__liquid_equivalent_precipitation_rate"
WATER = tuple(variable(f"water_{n}").name for n in ("in", "out", "stored", "exchanged"))


class Ngen:
    """What the host does with a formulation."""

    def __init__(self, config):
        self.model = BmiCdlm()
        self.model.initialize(str(config))
        assert self.model.get_time_units() == "s"
        with pytest.raises(KeyError):  # an unknown entry of model_params
            self.model.get_var_itemsize("no_such_parameter")
        assert self.model.get_start_time() == 0.0
        assert self.model.get_output_item_count() == len(self.model.get_output_var_names())
        self.water = {}
        for name in WATER:
            assert self.model.get_var_itemsize(name) == self.model.get_var_nbytes(name) == 8
            assert self.model.get_var_type(name) == "float64"
            self.water[name] = self.model.get_value_ptr(name)
            assert self.water[name].shape == (1,)
            assert self.model.get_var_units(name) == "m3"
        for name in self.model.get_output_var_names():
            assert isinstance(self.model.get_var_units(name), str)
        assert self.model.get_var_units(DEPTH) == "m"

    def step(self, forcing):
        """One hour: give every input, step, report."""
        model = self.model
        now = model.get_current_time()
        assert now + 3600 <= model.get_end_time()
        assert model.get_current_time() == now
        assert model.get_input_item_count() == len(model.get_input_var_names())
        for name in model.get_input_var_names():
            dtype = model.get_var_type(name)
            n = model.get_var_nbytes(name) // model.get_var_itemsize(name)
            value, units = forcing[name]
            assert model.get_var_units(name) == units
            model.set_value(name, np.full(n, value, dtype))
        if model.get_time_step() == 3600:
            model.update()
        else:
            model.update_until(model.get_current_time() + 3600)
        assert model.get_current_time() == now + 3600
        first = {}
        for name in (DEPTH, *model.get_output_var_names()):
            dest = np.zeros(1, model.get_var_type(name))
            model.get_value_at_indices(name, dest, np.array([0], np.int32))
            first[name] = dest[0]
            assert dest[0] == model.get_value_ptr(name)[0]
        for name, live in self.water.items():
            assert model.get_value_ptr(name) is live
        return first


def weather(hours, seed=4):
    rng = np.random.default_rng(seed)
    for _ in range(hours):
        yield {
            RAIN: (rng.exponential(2e-4), "mm s^-1"), E: (rng.uniform(0, 5), "mm d-1"), T: (rng.uniform(262, 288), "K"),
        }


@pytest.fixture
def config(tmp_path):
    return write_case(
        tmp_path, lumped=True, n_steps=4, forcing="caller", name_profile="ngen", snow="cemaneige", observations=None
    )


def test_an_hourly_host_of_the_daily_model(config):
    host = Ngen(config)
    assert host.model.get_time_step() == DAY
    stored = host.water[WATER[2]][0]
    days, hours = list(weather(72)), []
    for forcing in days:
        hours.append(host.step(forcing))
    assert all(h[DEPTH] == 0.0 for h in hours[:23])
    depths = np.array([h[DEPTH] for h in hours])
    with opened(config) as daily:
        for day in range(3):
            for name in daily.get_input_var_names():
                mean = np.mean([d[name][0] for d in days[24 * day : 24 * day + 24]])
                daily.set_value(name, np.array([mean]))
            daily.update()
            np.testing.assert_allclose(hours[24 * day + 23][Q], daily.get_value_ptr(Q)[0], rtol=1e-10)
            # A day's runoff leaves in the 24 calls from the one that completes it.
            released = depths[24 * day + 23 : 24 * day + 47].sum()
            if day < 2:
                np.testing.assert_allclose(released, daily.get_value_ptr(DEPTH)[0], rtol=1e-10)
    came, gone, now, exchanged = (host.water[n][0] for n in WATER)
    assert abs(came + exchanged - gone - (now - stored)) <= 1e-12 * (came + stored)
    host.model.finalize()


def test_an_hourly_host_of_the_hourly_model(tmp_path):
    config = write_case(
        tmp_path, step=HOUR, lumped=True, n_steps=30, forcing="caller", name_profile="ngen", snow="cemaneige"
    )
    host = Ngen(config)
    assert host.model.get_time_step() == 3600
    area = host.model._stepper.simulation.model.domain.cells.drained_area[0]
    for forcing in weather(30):
        first = host.step(forcing)
        runoff = first[variable("runoff").name]
        np.testing.assert_allclose(first[DEPTH], runoff / 24 / 1000, rtol=1e-14)
        # The nexus gets depth x area / 3600.
        lateral = first[variable("lateral_inflow").name]
        np.testing.assert_allclose(first[DEPTH] * area * 1e6 / 3600, lateral, rtol=1e-12)
    host.model.finalize()


def test_many_catchments_one_after_the_other(config):
    """One instance per catchment, all alive at once, stepped in turn."""
    other = change_config(config, sub_step_policy="accumulate", threads=2)
    hosts = [Ngen(config) for _ in range(5)] + [Ngen(other)]
    for forcing in weather(30):
        reports = [host.step(forcing) for host in hosts]
        assert all(r == reports[0] for r in reports)
    for host in hosts:
        host.model.finalize()
