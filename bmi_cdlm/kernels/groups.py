"""Groups of arrays that kernels take and give, as named tuples (numba takes them as they are)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """Constants of the model step: its length [d], its inverse, and GR4J's percolation constant c^-4."""

    days: float
    per_day: float
    percolation_scale: float


class SnowParameters(NamedTuple):
    """float[cell]: registry parameters, and the pack that is full cover [mm]."""

    thermal_weighting: np.ndarray
    melt_factor: np.ndarray
    accumulation_threshold: np.ndarray
    full_cover: np.ndarray


class SnowState(NamedTuple):
    """float[cell]: pack [mm], thermal state [degC], pack at the last peak [mm], cover [1]."""

    snowpack: np.ndarray
    thermal_state: np.ndarray
    snow_peak: np.ndarray
    snow_cover: np.ndarray


class SnowFluxes(NamedTuple):
    """float[time or 1, cell] [mm d-1]; one row keeps the last step only."""

    snowfall: np.ndarray
    snowmelt: np.ndarray


class RunoffParameters(NamedTuple):
    """float[cell]: X1 to X3; float[k, cell]: ordinates of the unit hydrographs."""

    production_capacity: np.ndarray
    exchange_coefficient: np.ndarray
    routing_capacity: np.ndarray
    ordinates_1: np.ndarray
    ordinates_2: np.ndarray


class RunoffState(NamedTuple):
    """float[cell] stores [mm]; float[k, cell] water in the unit hydrographs that leaves k steps later [mm]."""

    production_store: np.ndarray
    routing_store: np.ndarray
    unit_hydrograph_1: np.ndarray
    unit_hydrograph_2: np.ndarray


class RunoffFluxes(NamedTuple):
    """float[time or 1, cell] [mm d-1]; one row keeps the last step only."""

    evapotranspiration: np.ndarray
    net_rainfall: np.ndarray
    infiltration: np.ndarray
    percolation: np.ndarray
    effective_rainfall: np.ndarray
    routed_flow: np.ndarray
    direct_flow: np.ndarray
    groundwater_exchange: np.ndarray
    potential_exchange: np.ndarray
    routing_store_exchange: np.ndarray
    direct_exchange: np.ndarray
    routing_store_outflow: np.ndarray
    direct_runoff: np.ndarray
    runoff: np.ndarray


class RunoffTape(NamedTuple):
    """What the adjoint of runoff reads of a tile run again: float[time, cell], before each step or in it.

    ratio : n of `tanh_ratio` in the production store; routing_store : one row more, after the last step;
    effective_rainfall : rows of zeros to a multiple of four; routed_flow, direct_flow : what leaves the unit
    hydrographs in each step, then later, a row for every place more.
    """

    production_store: np.ndarray
    routing_store: np.ndarray
    ratio: np.ndarray
    effective_rainfall: np.ndarray
    routed_flow: np.ndarray
    direct_flow: np.ndarray


class CellTotals(NamedTuple):
    """float[cell]: water since the start [mm]."""

    precipitation_total: np.ndarray
    evapotranspiration_total: np.ndarray
    exchange_total: np.ndarray
    runoff_total: np.ndarray


class Network(NamedTuple):
    """River network in processing order.

    sequence: int64[reach], order of processing; in_step: int8[reach], 2 where a place of the sequence and the next
    are routed at once, else 1; first_child: int64[reach + 1] and child: int64[], children of
    reach i in their stored order; slot: int64[reach], buffer that holds the reach's hydrograph.
    """

    sequence: np.ndarray
    in_step: np.ndarray
    first_child: np.ndarray
    child: np.ndarray
    slot: np.ndarray


class Links(NamedTuple):
    """Overlaps of cells with reach catchments, sorted by reach.

    first : int64[reach + 1], links of reach i are first[i]:first[i + 1]; cell : int64[link]; area :
    float[link] [km2].
    """

    first: np.ndarray
    cell: np.ndarray
    area: np.ndarray


class ReachSeries(NamedTuple):
    """A flux of every reach over a block of steps [m3 s-1].

    values : float[row, time]; row : int64[reach], where each reach writes: several share a row that nobody reads
    after them; last : float[reach], the last step's value.
    """

    values: np.ndarray
    row: np.ndarray
    last: np.ndarray


class ReachParameters(NamedTuple):
    """float[reach]: coefficients of `muskingum_coefficients`, and the storage time [s]."""

    direct: np.ndarray
    gain: np.ndarray
    keep: np.ndarray
    storage_time: np.ndarray


class PetNetwork(NamedTuple):
    """The network to the factor on potential evapotranspiration, padded to multiples of four units a layer.

    static : float[unit, cell], what the first layer gets from attributes, biases and standardisation;
    forcing_weight : float[unit, 3], of saturated precipitation, demand and temperature; season_weight :
    float[unit, 2]; half_rain : half value of the saturation [mm d-1]; widths : int64[layer]; weight, bias :
    float[layer - 1, out, in], float[layer - 1, out], of the later layers; last_weight, last_bias : of the
    output; low, high : limits of the factor.
    """

    static: np.ndarray
    forcing_weight: np.ndarray
    season_weight: np.ndarray
    half_rain: float
    widths: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    last_weight: np.ndarray
    last_bias: float
    low: float
    high: float


class PetFluxes(NamedTuple):
    """float[time or 1, cell]: factor [1] (one row keeps the last step only) and corrected demand [mm d-1]."""

    pet_factor: np.ndarray
    corrected_evapotranspiration: np.ndarray


class PetPlace(NamedTuple):
    """float[cell]: sine, cosine and tangent of the latitude [1], longitude [degrees east], elevation [m]."""

    sin_latitude: np.ndarray
    cos_latitude: np.ndarray
    tan_latitude: np.ndarray
    longitude: np.ndarray
    elevation: np.ndarray


class PetWeather(NamedTuple):
    """float[time, cell]: what Penman-Monteith reads beside temperature [Pa, Pa, W m-2, m s-1 at 10 m]."""

    vapour_pressure: np.ndarray
    air_pressure: np.ndarray
    shortwave_radiation: np.ndarray
    wind_speed: np.ndarray
