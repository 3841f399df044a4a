"""Working space of a kernel: rows on lines of the cache, made by one call.

Of `numpy.empty` and what brings its rows into place numba compiles eight functions, each with machine code of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import impl_ret_new_ref
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


COMPILED = {loose_rows: compiled_loose_rows}
"""What stands in the place of each in compiled kernels."""
