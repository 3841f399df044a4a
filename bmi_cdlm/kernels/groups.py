"""Groups of arrays that kernels take and give, as named tuples (numba takes them as they are)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Network(NamedTuple):
    """River network in processing order.

    sequence: int64[reach], order of processing; in_step: int8[reach], how many places of the sequence, this one among
    them, may be routed at once: 8, 2 or 1; first_child: int64[reach + 1] and child: int64[], children of
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


class Chunks(NamedTuple):
    """A network's sequence in chunks, and the hydrographs that go from one to another.

    place : int64[chunk + 1], chunk k is sequence[place[k] : place[k + 1]]; leaving : int64[], reaches that drain into a
    later chunk, in the order of the sequence, those of chunk k from first_leaving[k] on; arriving, row : int64[],
    reaches that drain into chunk k, from first_arriving[k] on, and their places among the leaving.
    """

    place: np.ndarray
    first_leaving: np.ndarray
    leaving: np.ndarray
    first_arriving: np.ndarray
    arriving: np.ndarray
    row: np.ndarray


class GivenFlows(NamedTuple):
    """Flows that others put into reaches, or take out below 0, over a block of steps [m3 s-1], and what they want.

    row : int64[reach], of each reach in the arrays, -1 where there is none; asked, moved : float[row, time], what is
    asked for, and what comes of it, filled; added : float[reach] [m3], its sum since the start, in place; kept_row :
    int64[reach], where the hydrograph of a reach is kept, -1 where it is not; kept : float[kept row, sub-step], filled.
    """

    row: np.ndarray
    asked: np.ndarray
    moved: np.ndarray
    added: np.ndarray
    kept_row: np.ndarray
    kept: np.ndarray


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


class PetNetworkAdjoint(NamedTuple):
    """Adjoint of a `PetNetwork`, by its names: static : float[unit, cell]; the others float64[tile, ...], of tiles of
    cells whose sum each is."""

    static: np.ndarray
    forcing_weight: np.ndarray
    season_weight: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    last_weight: np.ndarray
    last_bias: np.ndarray


class LstmNetwork(NamedTuple):
    """The network to parameters that vary in time, padded to a multiple of four units, `unit`.

    static : float[unit, cell], what the first layer gets from attributes, biases and standardisation; forcing_weight :
    float[unit, 3], of precipitation, demand and temperature; half_rain : half value of the saturation of precipitation
    [mm d-1], 0 for none; gate_weight, recurrent_weight : float[4 * unit, unit], of the gates in the order input,
    forget, cell, output, by the first layer and by the step before; gate_bias : float[4 * unit]; last_weight :
    float[parameter, unit]; last_bias : float[parameter]; low, span : float[parameter], lower bound and width of the
    range, of its logarithms where `logarithmic`, bool[parameter].
    """

    static: np.ndarray
    forcing_weight: np.ndarray
    half_rain: float
    gate_weight: np.ndarray
    recurrent_weight: np.ndarray
    gate_bias: np.ndarray
    last_weight: np.ndarray
    last_bias: np.ndarray
    low: np.ndarray
    span: np.ndarray
    logarithmic: np.ndarray


class PetPlace(NamedTuple):
    """float[cell]: sine, cosine and tangent of the latitude [1], longitude [degrees east], elevation [m]."""

    sin_latitude: np.ndarray
    cos_latitude: np.ndarray
    tan_latitude: np.ndarray
    longitude: np.ndarray
    elevation: np.ndarray
