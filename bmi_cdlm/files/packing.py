"""Output as 32-bit numbers, rounded to a stated number of digits, and as means over several steps."""

from __future__ import annotations

import math

import numpy as np

from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.packing import round_block

FLOAT32_BITS = 23
MOST_DIGITS = 7


def kept_bits(digits: int) -> int:
    """Bits of the mantissa that hold so many significant decimal digits: half a unit of the last digit is kept."""
    return min(FLOAT32_BITS, math.ceil(digits * math.log2(10)))


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Round to the nearest float32 with `kept_bits(digits)` bits in its mantissa, half to even; NaN and inf stay.

    The relative error is at most 2^-(bits + 1), for magnitudes from 1.2e-38 to 3.4e38.
    """
    drop = np.uint64(52 - kept_bits(digits))
    bits = np.array(values, np.float64).view(np.uint64)
    finite = np.isfinite(values)
    last = (bits >> drop) & np.uint64(1)
    up = bits + (np.uint64(1) << (drop - np.uint64(1))) - np.uint64(1) + last
    bits[finite] = ((up >> drop) << drop)[finite]
    return bits.view(np.float64).astype(np.float32)


def round_into(values: np.ndarray, digits: int, out: np.ndarray) -> None:
    """Fill `out`, float32[time, point], with `rounded` values, float64[time, point] in any order in memory.

    A kernel takes a fortieth of the time; where a number is inf, NaN or too small for it, numpy takes its time.
    """
    bits = np.asarray(values, np.float64).view(np.uint64)
    usual = compiled(round_block)(bits, 52 - kept_bits(digits), out.view(np.uint32))
    if not usual:
        out[:] = rounded(values, digits)


def describe(digits: int) -> str:
    """Words on the rounding, for the attribute of a variable."""
    bits = kept_bits(digits)
    return f"rounded to {digits} significant digits: {bits} bits of the mantissa, relative error at most 2^-{bits + 1}"


def average(values: np.ndarray, count: int) -> np.ndarray:
    """Means of every `count` steps, float64[time / count, n], added up in the order of time."""
    if count == 1:
        return values
    total = values[0::count].copy()
    for k in range(1, count):
        total += values[k::count]
    return total / count
