"""The network that corrects potential evapotranspiration: dense layers with relu, a row of cells at a time.

Every sum has one fixed order, so that blocks, single steps and threads give the same bits. Rows take four inputs and
four units of a layer at once, since reading and writing would cost more than the sums; layers are padded with zeros
to a multiple of four.

It is no declaration, as those of the other files here. A declared step is a scalar function of symbols with one value a
cell; the network has as many layers and units as its checkpoint says, a static term [unit, cell] and sums over units,
so that its loops, with four units and four inputs at once, are the process itself, and no template could write them.
What it gives is declared: the factor is a `Parameter` that may vary in time.
"""

from __future__ import annotations

from bmi_cdlm.kernels.elementary import tanh_ratio
from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.loops.rows import fill_row, take_columns, tile_rows
from bmi_cdlm.kernels.marks import uncounted
from bmi_cdlm.kernels.rules import adjoint_of


def limited_sigmoid(z, low, high):
    """Return low + (high - low) / (1 + exp(-z)), level beyond |z| = 26."""
    w = min(abs(0.5 * z), 13.0)
    n, d = tanh_ratio(w)
    t = n / d
    t = -t if z < 0.0 else t
    return low + (high - low) * (0.5 + 0.5 * t)


@adjoint_of(limited_sigmoid, "y")
def limited_sigmoid_adjoint(z, low, high, y_adj):
    """Adjoint of `limited_sigmoid`; its slope in z, (1 - t^2) / 4, is taken without its cancellation."""
    size = abs(0.5 * z)
    n, d = tanh_ratio(min(size, 13.0))
    t = n / d
    t = -t if z < 0.0 else t
    share = 0.5 + 0.5 * t
    slope = (n + 1.0) / (d * d)
    z_adj = (high - low) * slope * y_adj if size <= 13.0 else 0.0
    return z_adj, (1.0 - share) * y_adj, share * y_adj


def add_products(z, x0, x1, x2, x3, w0, w1, w2, w3):
    """Add four inputs to a unit, in the one order that there is."""
    return fma(x3, w3, fma(x2, w2, fma(x1, w1, fma(x0, w0, z))))


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
    for i in range(demand.size):
        r, E, T = rain[i], demand[i], temperature[i]
        v0 = fma(T, c0, fma(E, b0, fma(r, a0, s0[i] + d0)))
        v1 = fma(T, c1, fma(E, b1, fma(r, a1, s1[i] + d1)))
        v2 = fma(T, c2, fma(E, b2, fma(r, a2, s2[i] + d2)))
        v3 = fma(T, c3, fma(E, b3, fma(r, a3, s3[i] + d3)))
        z0[i] = v0 if v0 > 0.0 else 0.0
        z1[i] = v1 if v1 > 0.0 else 0.0
        z2[i] = v2 if v2 > 0.0 else 0.0
        z3[i] = v3 if v3 > 0.0 else 0.0


def later_layer_rows(x, n_inputs, bias, weights, out):
    """Four units of a later layer: a pass begins their sums, more add to them, the last cuts them below zero."""
    z0, z1, z2, z3 = out[0], out[1], out[2], out[3]
    e0, e1, e2, e3 = bias[0], bias[1], bias[2], bias[3]
    if n_inputs == 4:  # the only pass is the last
        for k in range(4):
            fill_row(out[k], bias[k])
    for j in range(0, n_inputs, 4):
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        a0, b0, c0, d0 = weights[0, j], weights[0, j + 1], weights[0, j + 2], weights[0, j + 3]
        a1, b1, c1, d1 = weights[1, j], weights[1, j + 1], weights[1, j + 2], weights[1, j + 3]
        a2, b2, c2, d2 = weights[2, j], weights[2, j + 1], weights[2, j + 2], weights[2, j + 3]
        a3, b3, c3, d3 = weights[3, j], weights[3, j + 1], weights[3, j + 2], weights[3, j + 3]
        if j == n_inputs - 4:
            for i in range(z0.size):
                a, b, c, d = x0[i], x1[i], x2[i], x3[i]
                v0 = add_products(z0[i], a, b, c, d, a0, b0, c0, d0)
                v1 = add_products(z1[i], a, b, c, d, a1, b1, c1, d1)
                v2 = add_products(z2[i], a, b, c, d, a2, b2, c2, d2)
                v3 = add_products(z3[i], a, b, c, d, a3, b3, c3, d3)
                z0[i] = v0 if v0 > 0.0 else 0.0
                z1[i] = v1 if v1 > 0.0 else 0.0
                z2[i] = v2 if v2 > 0.0 else 0.0
                z3[i] = v3 if v3 > 0.0 else 0.0
        elif j == 0:
            for i in range(z0.size):
                a, b, c, d = x0[i], x1[i], x2[i], x3[i]
                z0[i] = add_products(e0, a, b, c, d, a0, b0, c0, d0)
                z1[i] = add_products(e1, a, b, c, d, a1, b1, c1, d1)
                z2[i] = add_products(e2, a, b, c, d, a2, b2, c2, d2)
                z3[i] = add_products(e3, a, b, c, d, a3, b3, c3, d3)
        else:
            for i in range(z0.size):
                a, b, c, d = x0[i], x1[i], x2[i], x3[i]
                z0[i] = add_products(z0[i], a, b, c, d, a0, b0, c0, d0)
                z1[i] = add_products(z1[i], a, b, c, d, a1, b1, c1, d1)
                z2[i] = add_products(z2[i], a, b, c, d, a2, b2, c2, d2)
                z3[i] = add_products(z3[i], a, b, c, d, a3, b3, c3, d3)


def last_layer_row(x0, x1, x2, x3, weights, out):
    """Add four inputs to the one unit of the last layer."""
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for i in range(out.size):
        out[i] = add_products(out[i], x0[i], x1[i], x2[i], x3[i], a, b, c, d)


def factor_row(z, low, high, factor):
    """The factor on potential evapotranspiration."""
    for i in range(z.size):
        factor[i] = limited_sigmoid(z[i], low, high)


def fill_factor(precipitation, demand, air_temperature, season, network, factor, lo, hi):
    """Factor on the potential evapotranspiration of the cells lo to hi over all steps.

    precipitation, demand [mm d-1], air_temperature [degC] : float[time, cell]; season : float[time, 2]; factor :
    float[time, cell].
    """
    width = min(312, hi - lo)  # all units stay in the caches, and a call of a row costs as much as some twenty cells
    rows = tile_rows(network.widths[0] + 2 * network.widths.max() + 2, width, network.static)
    for first in range(lo, hi, width):
        fill_factor_tile(
            precipitation, demand, air_temperature, season, network, factor, rows, first, min(first + width, hi)
        )


@uncounted
def fill_factor_tile(precipitation, demand, air_temperature, season, network, factor, rows, lo, hi):
    """The network for so few cells that all units stay in the caches, in `rows` at least as wide.

    Units of the last hidden layer go into the sum while they are at hand, four after four.
    """
    p, depth, n = network, network.widths.size, network.widths[0]
    widest = (rows.shape[0] - n) // 2 - 1
    static, units, others = rows[:n], rows[n : n + widest], rows[n + widest : n + 2 * widest]
    rain, z = rows[n + 2 * widest], rows[n + 2 * widest + 1]
    take_columns(p.static, lo, hi, static)
    for t in range(demand.shape[0]):
        E, T = demand[t, lo:hi], air_temperature[t, lo:hi]
        saturate_row(precipitation[t, lo:hi], p.half_rain, rain)
        fill_row(z, p.last_bias)
        for k in range(0, n, 4):
            four = units[k : k + 4]
            first_layer_rows(
                static[k : k + 4], rain, E, T, p.forcing_weight[k : k + 4], p.season_weight[k : k + 4], season[t], four
            )
            if depth == 1:
                last_layer_row(four[0], four[1], four[2], four[3], p.last_weight[k : k + 4], z)
        for layer in range(1, depth):
            for k in range(0, p.widths[layer], 4):
                four = others[k : k + 4] if layer + 1 < depth else others[:4]
                later_layer_rows(
                    units, p.widths[layer - 1], p.bias[layer - 1, k : k + 4], p.weight[layer - 1, k : k + 4], four
                )
                if layer + 1 == depth:
                    last_layer_row(four[0], four[1], four[2], four[3], p.last_weight[k : k + 4], z)
            units, others = others, units
        factor_row(z[: hi - lo], p.low, p.high, factor[t, lo:hi])


def fill_factor_shallow(precipitation, demand, air_temperature, season, network, factor, lo, hi):
    """`fill_factor` of a network with one hidden layer, for which nothing of later ones is compiled."""
    width = hi - lo if hi - lo < 312 else 312
    rows = tile_rows(network.widths[0] + 6, width, network.static)
    for first in range(lo, hi, width):
        last = first + width if first + width < hi else hi
        fill_shallow_tile(precipitation, demand, air_temperature, season, network, factor, rows, first, last)


@uncounted
def fill_shallow_tile(precipitation, demand, air_temperature, season, network, factor, rows, lo, hi):
    """`fill_factor_tile` of one hidden layer: four units go into the sum before the next four are made."""
    p, n = network, network.widths[0]
    static, four, rain, z = rows[:n], rows[n : n + 4], rows[n + 4], rows[n + 5]
    take_columns(p.static, lo, hi, static)
    for t in range(demand.shape[0]):
        E, T = demand[t, lo:hi], air_temperature[t, lo:hi]
        saturate_row(precipitation[t, lo:hi], p.half_rain, rain)
        fill_row(z, p.last_bias)
        for k in range(0, n, 4):
            first_layer_rows(
                static[k : k + 4], rain, E, T, p.forcing_weight[k : k + 4], p.season_weight[k : k + 4], season[t], four
            )
            last_layer_row(four[0], four[1], four[2], four[3], p.last_weight[k : k + 4], z)
        factor_row(z[: hi - lo], p.low, p.high, factor[t, lo:hi])
