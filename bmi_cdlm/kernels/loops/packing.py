"""Rounding to few digits as bits, and turning rows of places into rows of steps on the way to a file."""

from __future__ import annotations

import numpy as np


def round_block(bits, drop, rounded):
    """Round numbers to the nearest with `drop` bits less in the mantissa, half to even, as numbers of 32 bits.

    bits: uint64[time, point], float64 as bits, in any order in memory; rounded: uint32[time, point], filled with
    float32 as bits. Returns whether all are 0 or normal numbers of float32; what others become is not stated.
    """
    n_steps, n_points, usual = bits.shape[0], bits.shape[1], True
    one, half, drop = np.uint64(1), (np.uint64(1) << np.uint64(drop - 1)) - np.uint64(1), np.uint64(drop)
    low, high, offset = np.uint64(897), np.uint64(1150), np.uint64(896 << 23)
    for left in range(0, n_points, 16):
        right = min(left + 16, n_points)
        for t in range(n_steps):
            for p in range(left, right):
                x = bits[t, p]
                size = x & np.uint64(0x7FFFFFFFFFFFFFFF)
                near = (size + half + ((size >> drop) & one)) >> drop << drop
                exponent = near >> np.uint64(52)
                usual &= (size == np.uint64(0)) | ((exponent >= low) & (exponent <= high))
                number = np.uint64(0) if size == np.uint64(0) else (near >> np.uint64(29)) - offset
                rounded[t, p] = np.uint32(number | (x >> np.uint64(63) << np.uint64(31)))
    return usual
