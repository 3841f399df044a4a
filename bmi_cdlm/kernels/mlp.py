"""The network that corrects potential evapotranspiration: dense layers with relu, a row of cells at a time.

Every sum has one fixed order, so that blocks, single steps and threads give the same bits. Rows take four inputs and
four units of a layer at once, since reading and writing would cost more than the sums; layers are padded with zeros
to a multiple of four.
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


def four_products(x0, x1, x2, x3, w0, w1, w2, w3):
    """What four inputs add to a unit, in the one order that there is."""
    return (x0 * w0 + x1 * w1) + (x2 * w2 + x3 * w3)


def saturate_row(value, half, share):
    """Bring precipitation to 0 ... 1."""
    for i in range(value.size):
        share[i] = value[i] / (value[i] + half)


def first_layer_rows(static, rain, demand, temperature, weights, season_weights, season, out):
    """Four units of the first layer: what attributes add is known, and the season is the same for all cells."""
    s0, s1, s2, s3 = static[0], static[1], static[2], static[3]
    z0, z1, z2, z3 = out[0], out[1], out[2], out[3]
    a0, b0, c0 = weights[0, 0], weights[0, 1], weights[0, 2]
    d0 = season_weights[0, 0] * season[0] + season_weights[0, 1] * season[1]
    a1, b1, c1 = weights[1, 0], weights[1, 1], weights[1, 2]
    d1 = season_weights[1, 0] * season[0] + season_weights[1, 1] * season[1]
    a2, b2, c2 = weights[2, 0], weights[2, 1], weights[2, 2]
    d2 = season_weights[2, 0] * season[0] + season_weights[2, 1] * season[1]
    a3, b3, c3 = weights[3, 0], weights[3, 1], weights[3, 2]
    d3 = season_weights[3, 0] * season[0] + season_weights[3, 1] * season[1]
    for i in range(z0.size):
        r, E, T = rain[i], demand[i], temperature[i]
        v0 = (s0[i] + d0) + ((r * a0 + E * b0) + T * c0)
        v1 = (s1[i] + d1) + ((r * a1 + E * b1) + T * c1)
        v2 = (s2[i] + d2) + ((r * a2 + E * b2) + T * c2)
        v3 = (s3[i] + d3) + ((r * a3 + E * b3) + T * c3)
        z0[i] = v0 if v0 > 0.0 else 0.0
        z1[i] = v1 if v1 > 0.0 else 0.0
        z2[i] = v2 if v2 > 0.0 else 0.0
        z3[i] = v3 if v3 > 0.0 else 0.0


def begin_rows(out, x, weights, bias):
    """Begin the sums of four units with their bias and four inputs."""
    z0, z1, z2, z3 = out[0], out[1], out[2], out[3]
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    a0, b0, c0, d0, e0 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3], bias[0]
    a1, b1, c1, d1, e1 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3], bias[1]
    a2, b2, c2, d2, e2 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3], bias[2]
    a3, b3, c3, d3, e3 = weights[3, 0], weights[3, 1], weights[3, 2], weights[3, 3], bias[3]
    for i in range(z0.size):
        a, b, c, d = x0[i], x1[i], x2[i], x3[i]
        z0[i] = e0 + four_products(a, b, c, d, a0, b0, c0, d0)
        z1[i] = e1 + four_products(a, b, c, d, a1, b1, c1, d1)
        z2[i] = e2 + four_products(a, b, c, d, a2, b2, c2, d2)
        z3[i] = e3 + four_products(a, b, c, d, a3, b3, c3, d3)


def start_rows(out, bias):
    """Begin the sums of four units with their bias."""
    for k in range(4):
        out[k] = bias[k]


def add_rows(out, x, weights):
    """Add four inputs to four units."""
    z0, z1, z2, z3 = out[0], out[1], out[2], out[3]
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    a0, b0, c0, d0 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    a1, b1, c1, d1 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    a2, b2, c2, d2 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    a3, b3, c3, d3 = weights[3, 0], weights[3, 1], weights[3, 2], weights[3, 3]
    for i in range(z0.size):
        a, b, c, d = x0[i], x1[i], x2[i], x3[i]
        z0[i] += four_products(a, b, c, d, a0, b0, c0, d0)
        z1[i] += four_products(a, b, c, d, a1, b1, c1, d1)
        z2[i] += four_products(a, b, c, d, a2, b2, c2, d2)
        z3[i] += four_products(a, b, c, d, a3, b3, c3, d3)


def end_rows(out, x, weights):
    """Add the last four inputs to four units, and cut below zero."""
    z0, z1, z2, z3 = out[0], out[1], out[2], out[3]
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    a0, b0, c0, d0 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    a1, b1, c1, d1 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    a2, b2, c2, d2 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    a3, b3, c3, d3 = weights[3, 0], weights[3, 1], weights[3, 2], weights[3, 3]
    for i in range(z0.size):
        a, b, c, d = x0[i], x1[i], x2[i], x3[i]
        v0 = z0[i] + four_products(a, b, c, d, a0, b0, c0, d0)
        v1 = z1[i] + four_products(a, b, c, d, a1, b1, c1, d1)
        v2 = z2[i] + four_products(a, b, c, d, a2, b2, c2, d2)
        v3 = z3[i] + four_products(a, b, c, d, a3, b3, c3, d3)
        z0[i] = v0 if v0 > 0.0 else 0.0
        z1[i] = v1 if v1 > 0.0 else 0.0
        z2[i] = v2 if v2 > 0.0 else 0.0
        z3[i] = v3 if v3 > 0.0 else 0.0


def last_layer_row(out, x, bias, weights):
    """The sum of the last layer, four inputs after four."""
    out[:] = bias
    for j in range(0, weights.size, 4):
        add_four_row(out, x[j], x[j + 1], x[j + 2], x[j + 3], weights[j : j + 4])


def add_four_row(out, x0, x1, x2, x3, weights):
    """Add four inputs to a unit."""
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for i in range(out.size):
        out[i] += four_products(x0[i], x1[i], x2[i], x3[i], a, b, c, d)


def factor_row(z, demand, low, high, factor, corrected):
    """The factor, and the demand it corrects."""
    for i in range(z.size):
        m = limited_sigmoid(z[i], low, high)
        factor[i] = m
        corrected[i] = demand[i] * m


def next_layer(out, x, n_inputs, bias, weights):
    """Four units of a later layer."""
    if n_inputs == 4:
        start_rows(out, bias)
    else:
        begin_rows(out, x[:4], weights[:, :4], bias)
    for j in range(4, n_inputs - 4, 4):
        add_rows(out, x[j : j + 4], weights[:, j : j + 4])
    end_rows(out, x[n_inputs - 4 : n_inputs], weights[:, n_inputs - 4 : n_inputs])


def correct_demand(precipitation, demand, air_temperature, season, network, factor, corrected, lo, hi):
    """Factor and corrected potential evapotranspiration of the cells lo to hi over all steps.

    precipitation, demand [mm d-1], air_temperature [degC] : float[time, cell]; season : float[time, 2]; factor :
    float[time or 1, cell]; corrected : float[time, cell] [mm d-1].
    """
    for first in range(lo, hi, 384):  # rows of a power of two of cells would evict each other from the caches
        last = first + 384 if first + 384 < hi else hi
        correct_demand_tile(
            precipitation, demand, air_temperature, season, network, factor, corrected, first, last
        )


def correct_demand_tile(precipitation, demand, air_temperature, season, network, factor, corrected, lo, hi):
    """The network for so few cells that all units stay in the caches."""
    p, n = network, hi - lo
    static = p.static[:, lo:hi].copy()
    units = np.empty((p.widths.max(), n), static.dtype)
    others = np.empty_like(units)
    rain, z = np.empty(n, static.dtype), np.empty(n, static.dtype)
    for t in range(demand.shape[0]):
        E, T = demand[t, lo:hi], air_temperature[t, lo:hi]
        saturate_row(precipitation[t, lo:hi], p.half_rain, rain)
        for k in range(0, p.widths[0], 4):
            first_layer_rows(
                static[k : k + 4], rain, E, T, p.forcing_weight[k : k + 4], p.season_weight[k : k + 4], season[t],
                units[k : k + 4],
            )
        for layer in range(1, p.widths.size):
            for k in range(0, p.widths[layer], 4):
                next_layer(
                    others[k : k + 4], units, p.widths[layer - 1], p.bias[layer - 1, k : k + 4],
                    p.weight[layer - 1, k : k + 4],
                )
            units, others = others, units
        last_layer_row(z, units, p.last_bias, p.last_weight)
        factor_row(z, E, p.low, p.high, factor[t % factor.shape[0], lo:hi], corrected[t, lo:hi])
