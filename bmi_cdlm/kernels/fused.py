"""A product and a sum rounded once, the same bits compiled, interpreted and on a CUDA device.

Written where it pays: it is half the operations and two thirds of the wait. The compiler makes none of its own accord
where it would change bits from one processor to the next.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba.extending import intrinsic

from bmi_cdlm.kernels.lanes import Lanes, fused
from bmi_cdlm.kernels.marks import primitive


@cache
def c_fma(single: bool) -> Callable[[float, float, float], float]:
    """The function of the C library, looked for when it is first needed: compiled kernels never do."""
    name, number = ("fmaf", ctypes.c_float) if single else ("fma", ctypes.c_double)
    found = getattr(ctypes.CDLL("ucrtbase" if os.name == "nt" else None), name)
    found.argtypes, found.restype = (number,) * 3, number
    return found


@primitive
def fma(a: float, b: float, c: float) -> np.floating:
    """Return a b + c, in float32 if c is; for interpreted kernels. Arrays are `lanes`."""
    if isinstance(c, np.ndarray):
        return np.array([fma(*abc) for abc in zip(a, b, c, strict=True)], c.dtype)
    single = type(c) is np.float32
    rounded = c_fma(single)(a, b, c)
    return np.float32(rounded) if single else np.float64(rounded)


@intrinsic
def compiled_fma(_context: Any, a: Any, _b: Any, _c: Any) -> tuple[Any, Any]:
    """`fma` as the one instruction it is; a, b, c of one precision, or lanes."""
    if isinstance(a, Lanes):
        return a(a, a, a), lambda _context, builder, _signature, arguments: fused(builder, a, arguments)
    return a(a, a, a), lambda _context, builder, _signature, arguments: builder.fma(*arguments)
