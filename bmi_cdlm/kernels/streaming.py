"""Rows that go to memory past the caches: what a run keeps of every reach is written once and read much later.

An ordinary store reads the line that it writes to, and drives another out: twice the traffic for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bmi_cdlm.kernels import lanes
from bmi_cdlm.kernels.marks import primitive

LINE = 64
"""Bytes of a line of the cache."""


@primitive
def stream_row(values, copy):
    """Copy a row, past the caches; `settle` before anybody else reads it."""
    copy[:] = values


@primitive
def ask_along(values, t, column):
    """Ask for 64 numbers of row t from a column on, soon to be read: none of them need be there."""


@primitive
def is_lined(values, t):
    """Whether place t of every row of an array is the first of a line of the cache."""
    return values.ctypes.data % LINE == 0 and values.strides[0] % LINE == 0 and t * values.itemsize % LINE == 0


@primitive
def stream_steps(values, rows, t, steps):
    """`lanes.put_steps` past the caches, at whole vectors; `settle` before anybody else reads it."""
    values[list(rows), t : t + lanes.LANES] = np.stack(steps)


@primitive
def settle():
    """Wait until all that went past the caches has arrived."""


@intrinsic
def compiled_stream_row(_context: Any, values: Any, copy: Any) -> tuple[Any, Any]:
    """`stream_row` of either precision: whole lines at a time, one by one before the first and after the last."""
    width = values.dtype.bitwidth // 8
    per_line = LINE // width

    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        source, target = (
            context.make_array(kind)(context, builder, array) for kind, array in zip(sig.args, arguments, strict=True)
        )
        size = builder.extract_value(target.shape, 0)
        whole = size.type

        def number(value: int) -> Any:
            return ir.Constant(whole, value)

        place = builder.ptrtoint(target.data, whole)
        before = builder.udiv(builder.and_(builder.neg(place), number(LINE - 1)), number(width))
        before = builder.select(builder.icmp_unsigned("<", before, size), before, size)
        lines = builder.udiv(builder.sub(size, before), number(per_line))
        after = builder.add(before, builder.mul(lines, number(per_line)))
        alone = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        vector = ir.VectorType(target.data.type.pointee, per_line).as_pointer()

        def copy_range(first: Any, stop: Any, step: int) -> None:
            with cgutils.for_range_slice(builder, first, stop, number(step)) as (k, _count):
                read, written = builder.gep(source.data, [k]), builder.gep(target.data, [k])
                if step == 1:
                    builder.store(builder.load(read), written)
                else:
                    line = builder.load(builder.bitcast(read, vector), align=width)
                    stored = builder.store(line, builder.bitcast(written, vector), align=LINE)
                    stored.set_metadata("nontemporal", alone)

        copy_range(number(0), before, 1)
        copy_range(before, after, per_line)
        copy_range(after, size, 1)
        return context.get_dummy_value()

    return types.none(values, copy), lower


@intrinsic
def compiled_ask_along(_context: Any, values: Any, t: Any, column: Any) -> tuple[Any, Any]:
    """`ask_along` of either precision, into the second cache."""
    def lower(context: Any, builder: Any, _sig: Any, arguments: Any) -> Any:
        array, row, place = arguments
        whole, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, whole, whole, whole])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        at = builder.bitcast(lanes.pointer(context, builder, values, array, row, place), byte)
        for k in range(values.dtype.bitwidth // 8):
            builder.call(prefetch, [builder.gep(at, [ir.Constant(row.type, 64 * k)]), whole(0), whole(2), whole(1)])
        return context.get_dummy_value()

    return types.none(values, types.intp, types.intp), lower


@intrinsic
def compiled_is_lined(_context: Any, values: Any, t: Any) -> tuple[Any, Any]:
    """`is_lined` of either precision."""
    def lower(context: Any, builder: Any, _sig: Any, arguments: Any) -> Any:
        array, step = arguments
        of = context.make_array(values)(context, builder, array)
        width = builder.extract_value(of.shape, 1)
        size = builder.mul(width, ir.Constant(width.type, values.dtype.bitwidth // 8))
        at = builder.mul(step, ir.Constant(step.type, values.dtype.bitwidth // 8))
        bits = builder.or_(builder.or_(builder.ptrtoint(of.data, width.type), size), at)
        return builder.icmp_unsigned("==", builder.and_(bits, ir.Constant(width.type, LINE - 1)), width.type(0))

    return types.boolean(values, types.intp), lower


@intrinsic
def compiled_stream_steps(_context: Any, values: Any, rows: Any, t: Any, steps: Any) -> tuple[Any, Any]:
    """`stream_steps` of either precision."""
    def lower(context: Any, builder: Any, _sig: Any, arguments: Any) -> Any:
        array, found, step, written = arguments
        alone = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        size = lanes.LANES * values.dtype.bitwidth // 8
        every = (cgutils.unpack_tuple(builder, those, lanes.LANES) for those in (found, written))
        for row, one in zip(*every, strict=True):
            place = lanes.pointer(context, builder, values, array, row, step)
            stored = builder.store(one, lanes.vector_at(builder, values, place), align=size)
            stored.set_metadata("nontemporal", alone)
        return context.get_dummy_value()

    return types.none(values, rows, types.intp, steps), lower


@intrinsic
def compiled_settle(_context: Any) -> tuple[Any, Any]:
    """`settle` as a fence."""
    def lower(context: Any, builder: Any, _sig: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), lower


COMPILED = {
    stream_row: compiled_stream_row, ask_along: compiled_ask_along, is_lined: compiled_is_lined,
    stream_steps: compiled_stream_steps, settle: compiled_settle,
}
"""What stands in the place of each in compiled kernels."""
