"""What a number's bits are read and written for, the same result compiled, interpreted and on a CUDA device.

Each of the three is exact, so that it has one result whichever way it is had: the interpreter asks numpy, compiled
kernels shift and mask bits, which a compiler can do to a row of numbers at once. The name of each in a kernel is that
of the plain function; `launch` and `cuda` put in its place what suits them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from bmi_cdlm.kernels.marks import primitive


@primitive
def nearest(x):
    """Return the whole number nearest to x, the even one of two."""
    return np.rint(x)


@primitive
def split_exponent(x):
    """Return m, k with x = m 2^k and sqrt(1/2) <= m < sqrt(2), for 0 < x < inf; other x give any two numbers."""
    if not 0 < x < np.inf:
        return type(x)(1), type(x)(0)
    m, k = np.frexp(x)
    low = m < type(m)(np.sqrt(0.5))
    return (m + m if low else m), type(m)(k - 1 if low else k)


@primitive
def times_two_to(x, n):
    """Return x 2^n for a whole number n and x from 1/2 to 2: inf past the largest number, small ones rounded once."""
    if np.isnan(n):
        return x * n
    with np.errstate(all="ignore"):
        return np.ldexp(x, int(min(max(n, -9999), 9999)))


class Layout(NamedTuple):
    """How a precision keeps its numbers: x = 2^(exponent - bias) (1 + mantissa / 2^digits)."""

    real: ir.Type
    whole: ir.IntType
    digits: int
    bias: int
    root: int
    """The bits of sqrt(1/2)."""

    def number(self, value: float) -> ir.Constant:
        """A constant of the precision."""
        return ir.Constant(self.real, float(value))

    def bits(self, value: int) -> ir.Constant:
        """A constant as long as its numbers."""
        return ir.Constant(self.whole, value)


SINGLE = Layout(ir.FloatType(), ir.IntType(32), 23, 127, int(np.float32(0.5**0.5).view(np.int32)))
DOUBLE = Layout(ir.DoubleType(), ir.IntType(64), 52, 1023, int(np.float64(0.5**0.5).view(np.int64)))


def layout_of(signature: Any) -> Layout:
    """The layout of a function's first argument."""
    return {32: SINGLE, 64: DOUBLE}[signature.args[0].bitwidth]


def lower_nearest(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write `nearest` in the language of LLVM: one instruction."""
    return builder.call(builder.module.declare_intrinsic("llvm.rint", [layout_of(signature).real]), arguments)


def lower_split_exponent(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write `split_exponent` in the language of LLVM.

    The bits of x less those of sqrt(1/2) hold k above and m below. k becomes a number as the last digits of
    2^digits + bias + k; numbers below the smallest normal one are first multiplied by 2^digits.
    """
    (x,), f = arguments, layout_of(signature)
    small = builder.fcmp_ordered("<", x, f.number(2.0 ** (1 - f.bias)))
    normal = builder.select(small, builder.fmul(x, f.number(2.0**f.digits)), x)
    moved = builder.add(builder.bitcast(normal, f.whole), f.bits((f.bias << f.digits) - f.root))
    mantissa = builder.add(builder.and_(moved, f.bits((1 << f.digits) - 1)), f.bits(f.root))
    exponent = builder.or_(builder.lshr(moved, f.bits(f.digits)), f.bits((f.bias + f.digits) << f.digits))
    unit = 2.0**f.digits + f.bias
    k = builder.fsub(
        builder.bitcast(exponent, f.real), builder.select(small, f.number(unit + f.digits), f.number(unit))
    )
    return context.make_tuple(builder, signature.return_type, (builder.bitcast(mantissa, f.real), k))


def lower_times_two_to(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Write `times_two_to` in the language of LLVM.

    As x 2^h 2^(n - h), h about n / 2, so that either power is a normal number. Added to 3/2 2^digits + bias, h stands
    in the last digits as the exponent of 2^h.
    """
    (x, n), f = arguments, layout_of(signature)
    most, least, base = f.number(2 * f.bias), f.number(2 - 2 * f.bias), f.number(1.5 * 2.0**f.digits + f.bias)
    n = builder.select(builder.fcmp_ordered("<", n, most), n, most)
    n = builder.select(builder.fcmp_ordered(">", n, least), n, least)
    half = builder.fma(n, f.number(0.5), base)
    rest = builder.fadd(builder.fsub(n, builder.fsub(half, base)), base)
    for exponent in (half, rest):
        x = builder.fmul(x, builder.bitcast(builder.shl(builder.bitcast(exponent, f.whole), f.bits(f.digits)), f.real))
    return x


def typed_nearest(_context: Any, x: Any) -> tuple[Any, Any]:
    """`nearest` of either precision."""
    return x(x), lower_nearest


def typed_split_exponent(_context: Any, x: Any) -> tuple[Any, Any]:
    """`split_exponent` of either precision."""
    return types.UniTuple(x, 2)(x), lower_split_exponent


def typed_times_two_to(_context: Any, x: Any, _n: Any) -> tuple[Any, Any]:
    """`times_two_to`, x and n of one precision."""
    return x(x, x), lower_times_two_to


TYPED = {nearest: typed_nearest, split_exponent: typed_split_exponent, times_two_to: typed_times_two_to}
"""For the `intrinsic` of a target: a CUDA device's is numba.cuda.extending's."""
COMPILED = {plain: intrinsic(typed) for plain, typed in TYPED.items()}
