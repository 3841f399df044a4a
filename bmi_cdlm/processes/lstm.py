"""The network that lets parameters vary from day to day: an LSTM over the forcing, a row of cells at a time.

A layer with relu takes the forcing of the step and what attributes add, which is known; four gates take that layer and
what the step before left; a last layer gives every parameter within its bounds. A cell's sums have one fixed order, so
that blocks, single steps, tiles, threads and restarts give the same bits. As in `pet_network`, four inputs and four
units go at once, and layers are padded with zeros to a multiple of four: a unit of padding stays 0.

It is no declaration, for the reasons given there; the parameters that it gives are declared (`may_vary`).
"""

from __future__ import annotations

from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.loops.rows import copy_row, fill_row, give_columns, take_columns, tile_rows
from bmi_cdlm.kernels.marks import uncounted
from bmi_cdlm.kernels.transcendental import exp, tanh
from bmi_cdlm.processes.pet_network import add_products, last_layer_row, saturate_row

WIDEST_TILE = 64
"""Cells whose units stay in the caches."""


def sigmoid(z):
    """Return 1 / (1 + exp(-z))."""
    return 0.5 + 0.5 * tanh(0.5 * z)


def input_row(static, rain, demand, temperature, a, b, c, out):
    """A unit of the first layer: what attributes add, and the forcing of the step."""
    for i in range(out.size):
        v = fma(temperature[i], c, fma(demand[i], b, fma(rain[i], a, static[i])))
        out[i] = v if v > 0.0 else 0.0


def add_layer_rows(x, n_inputs, weights, out):
    """Add the inputs of four units, four at a time."""
    z0, z1, z2, z3 = out[0], out[1], out[2], out[3]
    for j in range(0, n_inputs, 4):
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        a0, b0, c0, d0 = weights[0, j], weights[0, j + 1], weights[0, j + 2], weights[0, j + 3]
        a1, b1, c1, d1 = weights[1, j], weights[1, j + 1], weights[1, j + 2], weights[1, j + 3]
        a2, b2, c2, d2 = weights[2, j], weights[2, j + 1], weights[2, j + 2], weights[2, j + 3]
        a3, b3, c3, d3 = weights[3, j], weights[3, j + 1], weights[3, j + 2], weights[3, j + 3]
        for i in range(z0.size):
            a, b, c, d = x0[i], x1[i], x2[i], x3[i]
            z0[i] = add_products(z0[i], a, b, c, d, a0, b0, c0, d0)
            z1[i] = add_products(z1[i], a, b, c, d, a1, b1, c1, d1)
            z2[i] = add_products(z2[i], a, b, c, d, a2, b2, c2, d2)
            z3[i] = add_products(z3[i], a, b, c, d, a3, b3, c3, d3)


def gate_row(into, keep, new, out, memory, hidden):
    """What a unit remembers and what it shows, in place."""
    for i in range(memory.size):
        c = fma(sigmoid(keep[i]), memory[i], sigmoid(into[i]) * tanh(new[i]))
        memory[i] = c
        hidden[i] = sigmoid(out[i]) * tanh(c)


def linear_row(z, low, span, out):
    """A parameter within its bounds."""
    for i in range(out.size):
        out[i] = fma(span, sigmoid(z[i]), low)


def logarithmic_row(z, low, span, out):
    """A parameter within its bounds, whose logarithms are given."""
    for i in range(out.size):
        out[i] = exp(fma(span, sigmoid(z[i]), low))


def fill_lstm(precipitation, demand, air_temperature, network, hidden, memory, series, lo, hi):
    """Parameters of the cells lo to hi over all steps, and what the network remembers of them, in place.

    precipitation, demand [mm d-1], air_temperature [degC] : float[time, cell]; hidden, memory : float[unit, cell];
    series : float[parameter, time, cell], filled.
    """
    width, n = min(WIDEST_TILE, hi - lo), network.static.shape[0]
    rows = tile_rows(8 * n + 2, width, network.static)
    for first in range(lo, hi, width):
        last = min(first + width, hi)
        fill_lstm_tile(precipitation, demand, air_temperature, network, hidden, memory, series, rows, first, last)


@uncounted
def fill_lstm_tile(precipitation, demand, air_temperature, network, hidden, memory, series, rows, lo, hi):
    """The network for so few cells that all units stay in the caches, in `rows` at least as wide."""
    p, n = network, network.static.shape[0]
    static, h, c, x, z = rows[:n], rows[n : 2 * n], rows[2 * n : 3 * n], rows[3 * n : 4 * n], rows[4 * n : 8 * n]
    rain, y = rows[8 * n], rows[8 * n + 1]
    take_columns(p.static, lo, hi, static)
    take_columns(hidden, lo, hi, h)
    take_columns(memory, lo, hi, c)
    for t in range(demand.shape[0]):
        E, T = demand[t, lo:hi], air_temperature[t, lo:hi]
        if p.half_rain > 0.0:
            saturate_row(precipitation[t, lo:hi], p.half_rain, rain)
        else:
            copy_row(precipitation[t, lo:hi], rain)
        for k in range(n):
            w = p.forcing_weight[k]
            input_row(static[k], rain, E, T, w[0], w[1], w[2], x[k, : hi - lo])
        for k in range(4 * n):
            fill_row(z[k], p.gate_bias[k])
        for k in range(0, 4 * n, 4):
            add_layer_rows(x, n, p.gate_weight[k : k + 4], z[k : k + 4])
            add_layer_rows(h, n, p.recurrent_weight[k : k + 4], z[k : k + 4])
        for k in range(n):
            gate_row(z[k], z[n + k], z[2 * n + k], z[3 * n + k], c[k], h[k])
        for m in range(p.last_bias.size):
            fill_row(y, p.last_bias[m])
            for k in range(0, n, 4):
                last_layer_row(h[k], h[k + 1], h[k + 2], h[k + 3], p.last_weight[m, k : k + 4], y)
            if p.logarithmic[m]:
                logarithmic_row(y, p.low[m], p.span[m], series[m, t, lo:hi])
            else:
                linear_row(y, p.low[m], p.span[m], series[m, t, lo:hi])
    give_columns(h, hidden, lo, hi)
    give_columns(c, memory, lo, hi)
