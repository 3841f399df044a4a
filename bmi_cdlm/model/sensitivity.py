"""Gradients of a scalar of the discharge to forcing, parameters and initial state, by the adjoint kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.kernels.groups import (
    PetNetwork,
    ReachParameters,
    RunoffParameters,
    RunoffState,
    SnowParameters,
    SnowState,
)
from bmi_cdlm.model.operators import Operators, RouteRecord, RunoffRecord, SnowRecord, copy_group, zeros_of
from bmi_cdlm.model.state import State

PET_BLOCK = 16


class Gradients(NamedTuple):
    """Derivatives of a scalar.

    forcing : float64[time, cell] by registry name of the input; parameters : float64[cell | reach] by registry name,
    `travel_time` among them; state : by name of the state at the start of the recording.
    """

    forcing: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


class Setting(NamedTuple):
    """What a recording needs of a model: its options and parameters as kernels take them."""

    operators: Operators
    snow: str
    snow_parameters: SnowParameters
    runoff_parameters: RunoffParameters
    reach_parameters: ReachParameters
    unit_hydrograph_base: np.ndarray
    travel_time: np.ndarray
    weighting: np.ndarray
    pet: PetNetwork | None


class Weather(NamedTuple):
    """Forcing of the recorded steps: float64[time, cell]; demand as it reaches GR4J; season : float64[time, 2]."""

    precipitation: np.ndarray
    potential_evapotranspiration: np.ndarray
    air_temperature: np.ndarray | None
    demand: np.ndarray
    season: np.ndarray | None


class Recording(NamedTuple):
    """What the adjoint needs of a run."""

    setting: Setting
    weather: Weather
    snow: SnowRecord | None
    runoff: RunoffRecord
    route: RouteRecord


def record(setting: Setting, weather: Weather, state: State) -> tuple[np.ndarray, Recording]:
    """Run over the weather from a state, which stays as it is; discharge float64[time, reach] and the recording."""
    operators, liquid, snow = setting.operators, weather.precipitation, None
    if setting.snow != "none":
        assert weather.air_temperature is not None
        liquid, snow = operators.melt(
            weather.precipitation, weather.air_temperature, setting.snow_parameters, copy_group(state.snow),
            setting.snow == "cemaneige_hysteresis",
        )
    runoff, generated = operators.generate_runoff(
        liquid, weather.demand, setting.runoff_parameters, copy_group(state.runoff)
    )
    reaches = np.arange(operators.domain.n_reaches)
    discharge, routed = operators.route(runoff, setting.reach_parameters, state.reach_flow.copy(), reaches)
    return discharge, Recording(setting, weather, snow, generated, routed)


def adjoint(recording: Recording, discharge_adj: np.ndarray) -> Gradients:
    """Gradients of J from dJ / d discharge, float64[time, reach]."""
    setting, weather, operators = recording.setting, recording.weather, recording.setting.operators
    y_adj = np.zeros(operators.domain.n_reaches)
    runoff_adj, reach = operators.route_adjoint(recording.route, np.ascontiguousarray(discharge_adj, np.float64), y_adj)
    K_adj, x_adj = operators.coefficients_adjoint(setting.travel_time, setting.weighting, reach)
    stores: RunoffState = zeros_of(recording.runoff.starts[0])
    liquid_adj, p = operators.generate_runoff_adjoint(recording.runoff, runoff_adj, stores)
    x4_adj = operators.ordinates_adjoint(setting.unit_hydrograph_base, p.ordinates_1, p.ordinates_2)
    parameters = {
        "production_capacity": p.production_capacity, "exchange_coefficient": p.exchange_coefficient,
        "routing_capacity": p.routing_capacity, "unit_hydrograph_base": x4_adj,
        "travel_time": K_adj, "celerity": _celerity_adjoint(setting, K_adj), "weighting": x_adj,
    }
    state = {name: getattr(stores, name) for name in stores._fields} | {"reach_flow": y_adj}
    rain_adj, temperature_adj = liquid_adj, np.zeros_like(liquid_adj)
    if recording.snow is not None:
        pack: SnowState = zeros_of(recording.snow.starts[0])
        rain_adj, temperature_adj, snow = operators.melt_adjoint(recording.snow, liquid_adj, pack)
        parameters |= {"thermal_weighting": snow.thermal_weighting, "melt_factor": snow.melt_factor}
        if recording.snow.hysteresis:
            share_adj = snow.full_cover * operators.domain.cells.mean_annual_snowfall
            parameters |= {"accumulation_threshold": snow.accumulation_threshold, "cover_ratio_threshold": share_adj}
        state |= {name: getattr(pack, name) for name in pack._fields}
    forcing = {"precipitation": rain_adj, "potential_evapotranspiration": -liquid_adj}
    if weather.air_temperature is not None:
        forcing["air_temperature"] = temperature_adj
    if setting.pet is not None:
        _add_pet_adjoint(setting.pet, weather, forcing)
    return Gradients(forcing, parameters, state)


def _celerity_adjoint(setting: Setting, K_adj: np.ndarray) -> np.ndarray:
    """K = length / celerity; 0 for reaches of no length, where the celerity does not matter."""
    length = setting.operators.domain.reaches.length
    safe = np.where(length > 0, length, 1.0)
    return np.where(length > 0, -K_adj * setting.travel_time**2 / safe, 0.0)


def _add_pet_adjoint(pet: PetNetwork, weather: Weather, forcing: dict[str, np.ndarray]) -> None:
    """Carry the adjoint of the corrected demand through the PET network to the inputs."""
    n_steps = weather.demand.shape[0]
    for first in range(0, n_steps, PET_BLOCK):
        block = slice(first, min(first + PET_BLOCK, n_steps))
        rain_adj, demand_adj, temperature_adj = _pet_block_adjoint(
            pet, weather, block, forcing["potential_evapotranspiration"][block]
        )
        forcing["precipitation"][block] += rain_adj
        forcing["potential_evapotranspiration"][block] = demand_adj
        if "air_temperature" in forcing:
            forcing["air_temperature"][block] += temperature_adj


def _pet_block_adjoint(
    pet: PetNetwork, weather: Weather, block: slice, corrected_adj: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Backpropagation with arrays [time, unit, cell]; corrected = demand * factor."""
    rain, demand = weather.precipitation[block], weather.potential_evapotranspiration[block]
    cold = demand if weather.air_temperature is None else weather.air_temperature[block]
    assert weather.season is not None
    inputs = np.stack([rain / (rain + pet.half_rain), demand, cold], axis=1)
    shift = weather.season[block] @ pet.season_weight.T
    layers = [np.maximum(pet.static + shift[:, :, None] + np.einsum("uf,tfc->tuc", pet.forcing_weight, inputs), 0.0)]
    for k in range(1, pet.widths.size):
        w = pet.weight[k - 1, : pet.widths[k], : pet.widths[k - 1]]
        z = np.einsum("uv,tvc->tuc", w, layers[-1]) + pet.bias[k - 1, : pet.widths[k], None]
        layers.append(np.maximum(z, 0.0))
    z = np.einsum("u,tuc->tc", pet.last_weight, layers[-1]) + pet.last_bias
    share = 0.5 + 0.5 * np.tanh(np.clip(0.5 * z, -13.0, 13.0))
    factor = pet.low + (pet.high - pet.low) * share
    z_adj = corrected_adj * demand * (pet.high - pet.low) * share * (1 - share) * (np.abs(z) < 26.0)
    unit_adj = pet.last_weight[:, None] * z_adj[:, None, :] * (layers[-1] > 0)
    for k in range(pet.widths.size - 1, 0, -1):
        w = pet.weight[k - 1, : pet.widths[k], : pet.widths[k - 1]]
        unit_adj = np.einsum("uv,tuc->tvc", w, unit_adj) * (layers[k - 1] > 0)
    input_adj = np.einsum("uf,tuc->tfc", pet.forcing_weight, unit_adj)
    rain_adj = input_adj[:, 0] * pet.half_rain / (rain + pet.half_rain) ** 2
    return rain_adj, corrected_adj * factor + input_adj[:, 1], input_adj[:, 2]
