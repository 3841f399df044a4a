"""Rows: contiguous 1-D arrays, and tiles of them that stay in the caches of a core."""

from __future__ import annotations

from bmi_cdlm.kernels.space import loose_rows
from bmi_cdlm.kernels.streaming import stream_row


def copy_row(values, copy):
    """Copy a row; numba's assignment of a slice takes four times as long."""
    for i in range(values.size):
        copy[i] = values[i]


def give_row(values, copy, far):
    """Copy a row, past the caches if it goes `far`: a large array is read much later."""
    if far:
        stream_row(values, copy)
    else:
        copy_row(values, copy)


def fill_row(values, value):
    """Fill a row."""
    for i in range(values.size):
        values[i] = value


def add_row(total, values):
    """Add a row to another."""
    for i in range(total.size):
        total[i] += values[i]


def tile_rows(count, width, like):
    """Zeros in the shape of `loose_rows`."""
    rows = loose_rows(count, width, like)
    for k in range(count):
        fill_row(rows[k], 0.0)
    return rows


def in_fours(count):
    """The next multiple of four."""
    return (count + 3) // 4 * 4


def only_row(count, t):
    """Row of step t of an array of so many rows, which has every step's or one for all."""
    return t if count > 1 else 0


def up_to_four(count):
    """A number, four at most."""
    return count if count < 4 else 4


def tile_width(count, widest):
    """Width of the tiles, at most `widest` and nearly equal, that a number of cells is cut into."""
    tiles = (count + widest - 1) // widest if count > 0 else 1
    return (count + tiles - 1) // tiles if count > 0 else 1


def take_columns(values, lo, hi, rows):
    """Copy the columns lo to hi of an array into the first rows of a tile."""
    for k in range(values.shape[0]):
        copy_row(values[k, lo:hi], rows[k])


def give_columns(rows, values, lo, hi):
    """Copy the first rows of a tile into the columns lo to hi of an array."""
    for k in range(values.shape[0]):
        copy_row(rows[k, : hi - lo], values[k, lo:hi])


def add_columns(rows, values, lo, hi):
    """Add the first rows of a tile to the columns lo to hi of an array."""
    for k in range(values.shape[0]):
        add_row(values[k, lo:hi], rows[k])


def part_of(values, lo, hi):
    """The places lo to hi of a row, or None of None: which of them is known when this is compiled."""
    if values is not None:  # in this order: numba would take the other for an array that may be missing
        return values[lo:hi]
    return values
