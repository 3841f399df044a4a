"""Working space of a kernel: rows on lines of the cache, and parts of rows, each by one call.

Of `numpy.empty` and what brings its rows into place numba compiles eight functions, each with machine code of its own;
of a slice it writes a hundred instructions, for places that are counted from the end or beyond it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from bmi_cdlm.kernels.marks import makes_arrays, primitive

LINE = 64
"""Bytes of a line of the cache."""


@makes_arrays
@primitive
def loose_rows(count, width, like):
    """Space, [count, at least width], whose rows begin on lines of the cache and differ in where they lie in it.

    Rows a power of two apart would share the few lines of one set and drive each other out.
    """
    line = LINE // like.itemsize
    lines = (width + line - 1) // line
    stride = (lines + 1 - lines % 2) * line
    space = np.empty(count * stride + line, like.dtype)
    first = (-space.ctypes.data % LINE) // like.itemsize
    return space[first : first + count * stride].reshape(count, stride)


@primitive
def part(values, lo, hi):
    """The places lo to hi of an array of one dimension, which all are there."""
    return values[lo:hi]


@primitive
def row_part(values, t, lo, hi):
    """The places lo to hi of row t of an array, which all are there."""
    return values[t, lo:hi]


@intrinsic
def compiled_loose_rows(_context: Any, count: Any, width: Any, like: Any) -> tuple[Any, Any]:
    """`loose_rows` of either precision."""
    kind = types.Array(like.dtype, 2, "C")
    itemsize = like.dtype.bitwidth // 8
    line = LINE // itemsize

    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        rows, least, _ = arguments
        whole = least.type

        def number(value: int) -> Any:
            return ir.Constant(whole, value)

        lines = builder.sdiv(builder.add(least, number(line - 1)), number(line))
        stride = builder.mul(builder.or_(lines, number(1)), number(line))
        bytes_of_row = builder.mul(stride, number(itemsize))
        memory = context.nrt.meminfo_alloc_aligned(builder, size=builder.mul(rows, bytes_of_row), align=LINE)
        made = context.make_array(kind)(context, builder)
        populate_array(
            made, data=builder.bitcast(context.nrt.meminfo_data(builder, memory), made.data.type), shape=(rows, stride),
            strides=(bytes_of_row, number(itemsize)), itemsize=number(itemsize), meminfo=memory,
        )
        return impl_ret_new_ref(context, builder, sig.return_type, made._getvalue())

    return kind(types.intp, types.intp, like), lower


def lower_part(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    """The view that begins at a place of an array and goes to `hi` in its last dimension."""
    values, *place, hi = arguments
    of, last = context.make_array(sig.args[0])(context, builder, values), sig.args[0].ndim - 1
    made = context.make_array(sig.return_type)(context, builder)
    populate_array(
        made, data=cgutils.get_item_pointer(context, builder, sig.args[0], of, place),
        shape=(builder.sub(hi, place[-1]),), strides=(builder.extract_value(of.strides, last),),
        itemsize=of.itemsize, meminfo=of.meminfo, parent=of.parent,
    )
    return impl_ret_borrowed(context, builder, sig.return_type, made._getvalue())


def kind_of_part(values: Any) -> Any:
    """The type of a part of an array, which is that of numba's slice of it."""
    return values.copy(ndim=1, layout="C" if values.layout == "C" else "A")


@intrinsic
def compiled_part(_context: Any, values: Any, lo: Any, hi: Any) -> tuple[Any, Any]:
    """`part` of an array of any kind."""
    return kind_of_part(values)(values, types.intp, types.intp), lower_part


@intrinsic
def compiled_row_part(_context: Any, values: Any, t: Any, lo: Any, hi: Any) -> tuple[Any, Any]:
    """`row_part` of an array of any kind."""
    return kind_of_part(values)(values, types.intp, types.intp, types.intp), lower_part


COMPILED = {loose_rows: compiled_loose_rows, part: compiled_part, row_part: compiled_row_part}
"""What stands in the place of each in compiled kernels."""
