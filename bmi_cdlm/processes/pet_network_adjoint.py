"""Adjoints of the network that corrects potential evapotranspiration: in its inputs, and in its weights.

A tile of cells is run again step by step, all its units at hand, then the layers are gone back over.
"""

from __future__ import annotations

from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.loops.rows import add_columns, fill_row, take_columns, tile_rows
from bmi_cdlm.kernels.marks import free_sums
from bmi_cdlm.processes.pet_network import first_layer_rows, later_layer_rows, saturate_row


def fill_factor_adjoint(
    precipitation, demand, air_temperature, season, network, factor, factor_adj, P_adj, E_adj, T_adj, lo, hi
):
    """Adjoint of `fill_factor` in its inputs, which is added to; factor: what it filled."""
    width = min(312, hi - lo)
    total, widest = network.widths.sum(), network.widths.max()
    rows = tile_rows(network.widths[0] + total + 2 * widest + 2, width, network.static)
    for first in range(lo, hi, width):
        last = min(first + width, hi)
        fill_factor_tile_adjoint(
            precipitation, demand, air_temperature, season, network, factor, factor_adj, P_adj, E_adj, T_adj, rows,
            first, last,
        )


def fill_factor_tile_adjoint(
    precipitation, demand, air_temperature, season, network, factor, factor_adj, P_adj, E_adj, T_adj, rows, lo, hi
):
    """Adjoint of `fill_factor_tile`: every unit is computed again and kept, then the layers are gone back over."""
    p, depth, n, cells = network, network.widths.size, network.widths[0], hi - lo
    total, widest = p.widths.sum(), p.widths.max()
    static, units = rows[:n], rows[n : n + total]
    unit_adj, below_adj = rows[n + total : n + total + widest], rows[n + total + widest : n + total + 2 * widest]
    rain, z_adj = rows[n + total + 2 * widest], rows[n + total + 2 * widest + 1]
    take_columns(p.static, lo, hi, static)
    for t in range(demand.shape[0]):
        P, E, T = precipitation[t, lo:hi], demand[t, lo:hi], air_temperature[t, lo:hi]
        saturate_row(P, p.half_rain, rain)
        begin = units_of_step(p, static, rain, E, T, season[t], units)
        factor_row_adjoint(factor[t, lo:hi], p.low, p.high, factor_adj[t, lo:hi], z_adj)
        last_units_adjoint(p, units[begin:], z_adj, unit_adj, cells)
        for layer in range(depth - 1, 0, -1):
            begin -= p.widths[layer - 1]
            units_below_adjoint(p, layer, units[begin:], unit_adj, below_adj, cells)
            unit_adj, below_adj = below_adj, unit_adj
        fill_row(rain, 0.0)
        for k in range(n):
            add_scaled_row(rain[:cells], p.forcing_weight[k, 0], unit_adj[k])
            add_scaled_row(E_adj[t, lo:hi], p.forcing_weight[k, 1], unit_adj[k])
            add_scaled_row(T_adj[t, lo:hi], p.forcing_weight[k, 2], unit_adj[k])
        saturate_row_adjoint(P, p.half_rain, rain, P_adj[t, lo:hi])


def units_of_step(p, static, rain, E, T, season, units):
    """Every unit of a step, a row each, layer after layer. Returns where the last layer begins."""
    for k in range(0, p.widths[0], 4):
        first_layer_rows(
            static[k : k + 4], rain, E, T, p.forcing_weight[k : k + 4], p.season_weight[k : k + 4], season,
            units[k : k + 4],
        )
    begin = 0
    for layer in range(1, p.widths.size):
        above = begin + p.widths[layer - 1]
        for k in range(0, p.widths[layer], 4):
            later_layer_rows(
                units[begin:], p.widths[layer - 1], p.bias[layer - 1, k : k + 4], p.weight[layer - 1, k : k + 4],
                units[above + k : above + k + 4],
            )
        begin = above
    return begin


def last_units_adjoint(p, units, z_adj, unit_adj, cells):
    """Adjoint of the last hidden layer, from that of the output."""
    for k in range(p.widths[p.widths.size - 1]):
        fill_row(unit_adj[k], 0.0)
        add_scaled_row(unit_adj[k, :cells], p.last_weight[k], z_adj)
        mask_row(unit_adj[k, :cells], units[k])


def units_below_adjoint(p, layer, units, unit_adj, below_adj, cells):
    """Adjoint of the layer below `layer`, whose own is `unit_adj`; units: those of the layer below."""
    for j in range(p.widths[layer - 1]):
        fill_row(below_adj[j], 0.0)
        for k in range(p.widths[layer]):
            add_scaled_row(below_adj[j, :cells], p.weight[layer - 1, k, j], unit_adj[k])
        mask_row(below_adj[j, :cells], units[j])


def fill_factor_weights_adjoint(
    precipitation, demand, air_temperature, season, network, factor, factor_adj, network_adj, width, lo, hi
):
    """Adjoint of `fill_factor` in the network, for the tiles lo to hi of `width` cells each; added to.

    network_adj : `PetNetworkAdjoint`. A tile has sums of its own, so that they do not depend on threads.
    """
    n_cells, total, widest = demand.shape[1], network.widths.sum(), network.widths.max()
    rows = tile_rows(2 * network.widths[0] + total + 2 * widest + 2, min(width, n_cells), network.static)
    for tile in range(lo, hi):
        first = tile * width
        fill_factor_tile_weights_adjoint(
            precipitation, demand, air_temperature, season, network, factor, factor_adj, network_adj, rows, tile,
            first, min(first + width, n_cells),
        )


def fill_factor_tile_weights_adjoint(
    precipitation, demand, air_temperature, season, network, factor, factor_adj, network_adj, rows, tile, lo, hi
):
    """Adjoint of a tile in the network, as `fill_factor_tile_adjoint` is in the inputs."""
    p, depth, n, cells = network, network.widths.size, network.widths[0], hi - lo
    total, widest = p.widths.sum(), p.widths.max()
    static, static_adj, units = rows[:n], rows[n : 2 * n], rows[2 * n : 2 * n + total]
    work = rows[2 * n + total :]
    unit_adj, below_adj, rain, z_adj = work[:widest], work[widest : 2 * widest], work[2 * widest], work[2 * widest + 1]
    take_columns(p.static, lo, hi, static)
    for k in range(n):
        fill_row(static_adj[k], 0.0)
    for t in range(demand.shape[0]):
        E, T = demand[t, lo:hi], air_temperature[t, lo:hi]
        saturate_row(precipitation[t, lo:hi], p.half_rain, rain)
        begin = units_of_step(p, static, rain, E, T, season[t], units)
        factor_row_adjoint(factor[t, lo:hi], p.low, p.high, factor_adj[t, lo:hi], z_adj)
        network_adj.last_bias[tile] += sum_row(z_adj[:cells])
        for k in range(p.widths[depth - 1]):
            network_adj.last_weight[tile, k] += sum_products(z_adj[:cells], units[begin + k])
        last_units_adjoint(p, units[begin:], z_adj, unit_adj, cells)
        for layer in range(depth - 1, 0, -1):
            begin -= p.widths[layer - 1]
            for k in range(p.widths[layer]):
                network_adj.bias[tile, layer - 1, k] += sum_row(unit_adj[k, :cells])
                for j in range(p.widths[layer - 1]):
                    network_adj.weight[tile, layer - 1, k, j] += sum_products(unit_adj[k, :cells], units[begin + j])
            units_below_adjoint(p, layer, units[begin:], unit_adj, below_adj, cells)
            unit_adj, below_adj = below_adj, unit_adj
        for k in range(n):
            whole, of_rain, of_demand, of_temperature = sum_inputs(unit_adj[k, :cells], rain, E, T, static_adj[k])
            network_adj.forcing_weight[tile, k, 0] += of_rain
            network_adj.forcing_weight[tile, k, 1] += of_demand
            network_adj.forcing_weight[tile, k, 2] += of_temperature
            network_adj.season_weight[tile, k, 0] += whole * season[t, 0]
            network_adj.season_weight[tile, k, 1] += whole * season[t, 1]
    add_columns(static_adj, network_adj.static, lo, hi)


@free_sums
def sum_row(values):
    """The sum of a row."""
    total = real(0)
    for i in range(values.size):
        total += values[i]
    return total


@free_sums
def sum_products(values, others):
    """The sum of the products of two rows, as far as the first goes."""
    total = real(0)
    for i in range(values.size):
        total += values[i] * others[i]
    return total


@free_sums
def sum_inputs(unit_adj, rain, E, T, static_adj):
    """The adjoint of a unit of the first layer, summed by itself and with each input, and added to the static term."""
    whole, of_rain, of_demand, of_temperature = real(0), real(0), real(0), real(0)
    for i in range(unit_adj.size):
        u = unit_adj[i]
        static_adj[i] += u
        whole += u
        of_rain += u * rain[i]
        of_demand += u * E[i]
        of_temperature += u * T[i]
    return whole, of_rain, of_demand, of_temperature


def factor_row_adjoint(factor, low, high, factor_adj, z_adj):
    """Adjoint of `factor_row`, from what it filled: no slope where the sigmoid is level."""
    for i in range(factor.size):
        z_adj[i] = factor_adj[i] * (factor[i] - low) * (high - factor[i]) / (high - low)


def add_scaled_row(total, scale, values):
    """Add a multiple of a row to another."""
    for i in range(total.size):
        total[i] += scale * values[i]


def mask_row(values, unit):
    """Adjoint of relu: nothing where a unit is cut off."""
    for i in range(values.size):
        values[i] = values[i] if unit[i] > 0.0 else 0.0


def saturate_row_adjoint(value, half, share_adj, value_adj):
    """Adjoint of `saturate_row`, added to."""
    for i in range(value.size):
        value_adj[i] += share_adj[i] * half / ((value[i] + half) * (value[i] + half))
