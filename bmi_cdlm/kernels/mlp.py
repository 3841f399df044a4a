"""The network that corrects potential evapotranspiration: dense layers with relu, a row of cells at a time.

Every sum has one fixed order, so that blocks, single steps and threads give the same bits. A row takes four
inputs of a layer at once; layers are padded with zeros to a multiple of four.
"""

from __future__ import annotations

import numpy as np

from bmi_cdlm.kernels.elementary import tanh_ratio


def limited_sigmoid(z, low, high):
    """Return low + (high - low) / (1 + exp(-z)), level beyond |z| = 26."""
    w = min(abs(0.5 * z), 13.0)
    n, d = tanh_ratio(w)
    t = n / d
    t = -t if z < 0.0 else t
    return low + (high - low) * (0.5 + 0.5 * t)


def saturate_row(value, half, share):
    """Bring precipitation to 0 ... 1."""
    for i in range(value.size):
        share[i] = value[i] / (value[i] + half)


def first_layer_row(static, rain, demand, temperature, weights, shift, out):
    """One unit of the first layer: what attributes and season add is known."""
    a, b, c = weights[0], weights[1], weights[2]
    for i in range(out.size):
        v = (static[i] + shift) + ((rain[i] * a + demand[i] * b) + temperature[i] * c)
        out[i] = v if v > 0.0 else 0.0


def start_row(out, value):
    """Begin a sum with its bias."""
    for i in range(out.size):
        out[i] = value


def add_four_row(out, x0, x1, x2, x3, weights):
    """Add four inputs to a unit."""
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for i in range(out.size):
        out[i] += (x0[i] * a + x1[i] * b) + (x2[i] * c + x3[i] * d)


def relu_row(out):
    """Cut below zero."""
    for i in range(out.size):
        v = out[i]
        out[i] = v if v > 0.0 else 0.0


def factor_row(z, demand, low, high, factor, corrected):
    """The factor, and the demand it corrects."""
    for i in range(z.size):
        m = limited_sigmoid(z[i], low, high)
        factor[i] = m
        corrected[i] = demand[i] * m


def add_layer(out, inputs, n_inputs, bias, weights):
    """One unit of a later layer before its relu."""
    start_row(out, bias)
    for j in range(0, n_inputs, 4):
        add_four_row(out, inputs[j], inputs[j + 1], inputs[j + 2], inputs[j + 3], weights[j : j + 4])


def correct_demand(precipitation, demand, air_temperature, season, network, factor, corrected, lo, hi):
    """Factor and corrected potential evapotranspiration of the cells lo to hi over all steps.

    precipitation, demand [mm d-1], air_temperature [degC] : float[time, cell]; season : float[time, 2]; factor :
    float[time or 1, cell]; corrected : float[time, cell] [mm d-1].
    """
    for first in range(lo, hi, 256):
        last = first + 256 if first + 256 < hi else hi
        correct_demand_tile(
            precipitation, demand, air_temperature, season, network, factor, corrected, first, last
        )


def correct_demand_tile(precipitation, demand, air_temperature, season, network, factor, corrected, lo, hi):
    """The network for so few cells that all units stay in the first caches."""
    p, n = network, hi - lo
    static = p.static[:, lo:hi].copy()
    units = np.empty((p.widths.max(), n), static.dtype)
    others = np.empty_like(units)
    rain, z = np.empty(n, static.dtype), np.empty(n, static.dtype)
    for t in range(demand.shape[0]):
        E, T = demand[t, lo:hi], air_temperature[t, lo:hi]
        saturate_row(precipitation[t, lo:hi], p.half_rain, rain)
        for k in range(p.widths[0]):
            shift = p.season_weight[k, 0] * season[t, 0] + p.season_weight[k, 1] * season[t, 1]
            first_layer_row(static[k], rain, E, T, p.forcing_weight[k], shift, units[k])
        for layer in range(1, p.widths.size):
            for k in range(p.widths[layer]):
                add_layer(others[k], units, p.widths[layer - 1], p.bias[layer - 1, k], p.weight[layer - 1, k])
                relu_row(others[k])
            units, others = others, units
        add_layer(z, units, p.widths[p.widths.size - 1], p.last_bias, p.last_weight)
        factor_row(z, E, p.low, p.high, factor[t % factor.shape[0], lo:hi], corrected[t, lo:hi])
