"""What ngen does with a formulation, in its order, and weather for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import DEPTH, E, T

from bmi_cdlm.bmi import BmiCdlm

RAIN = "atmosphere_water__liquid_equivalent_precipitation_rate"
MASSES = tuple(f"ngen::mass_{n}" for n in ("in", "out", "stored", "leaked"))
AORC = {
    RAIN: "mm s^-1", T: "K", "atmosphere_air_water~vapor__relative_saturation": "kg kg-1",
    "land_surface_air__pressure": "Pa", "land_surface_radiation~incoming~shortwave__energy_flux": "W m-2",
    "land_surface_radiation~incoming~longwave__energy_flux": "W m-2",
    "land_surface_wind__x_component_of_velocity": "m s-1", "land_surface_wind__y_component_of_velocity": "m s-1",
}
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "nextgen"


class Ngen:
    """What the host does with a formulation."""

    def __init__(self, config):
        assert Path(config).is_file()
        self.model = BmiCdlm()
        self.model.initialize(str(config))
        assert self.model.get_time_units() == "s"
        for call in (self.model.get_var_itemsize, self.model.get_var_nbytes, self.model.get_var_type,
                     lambda n: self.model.set_value(n, np.zeros(1))):
            with pytest.raises(KeyError):  # an unknown entry of model_params
                call("no_such_parameter")
        assert self.model.get_start_time() == 0.0
        assert self.model.get_output_item_count() == len(self.model.get_output_var_names())
        self.masses = {}
        for name in MASSES:
            assert self.model.get_var_itemsize(name) == self.model.get_var_nbytes(name) == 8
            assert self.model.get_var_type(name) == "float64"
            self.masses[name] = self.model.get_value_ptr(name)
            assert self.masses[name].shape == (1,) and self.masses[name] == 0.0
            assert self.model.get_var_units(name) == "m"
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
            itemsize = model.get_var_itemsize(name)
            value, units = forcing[name]
            assert model.get_var_units(name) == units
            dtype = model.get_var_type(name)
            model.set_value(name, np.full(model.get_var_nbytes(name) // itemsize, value, dtype))
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
            assert dest[0] == model.get_value_ptr(name)[0] and model.get_value_ptr(name).ndim == 1
        for name, live in self.masses.items():
            assert model.get_value_ptr(name) is live
        return first

    def residual(self):
        """What ngen's mass balance computes, and what came in."""
        came, gone, stored, leaked = (self.masses[n][0] for n in MASSES)
        return abs(came - gone - stored - leaked), came


def weather(hours, seed=4):
    rng = np.random.default_rng(seed)
    for hour in range(hours):
        sun = max(0.0, np.sin(2 * np.pi * (hour - 6) / 24))
        values = {
            RAIN: rng.exponential(2e-4) * (rng.random() < 0.4), T: rng.uniform(268, 276) + 12 * sun,
            "atmosphere_air_water~vapor__relative_saturation": rng.uniform(0.002, 0.004),
            "land_surface_air__pressure": rng.uniform(98_000, 100_000),
            "land_surface_radiation~incoming~shortwave__energy_flux": 500 * sun * rng.uniform(0.3, 1.0),
            "land_surface_radiation~incoming~longwave__energy_flux": rng.uniform(200, 300),
            "land_surface_wind__x_component_of_velocity": rng.normal(1, 3),
            "land_surface_wind__y_component_of_velocity": rng.normal(0, 3),
        }
        yield {**{n: (v, AORC[n]) for n, v in values.items()}, E: (rng.uniform(0, 5), "mm d-1")}
