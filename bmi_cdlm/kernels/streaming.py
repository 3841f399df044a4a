"""Rows that go to memory past the caches: what a run keeps of every reach is written once and read much later.

An ordinary store reads the line that it writes to, and drives another out: twice the traffic for nothing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bmi_cdlm.kernels.marks import primitive

LINE = 64
"""Bytes of a line of the cache."""


@primitive
def stream_row(values, copy):
    """Copy a row, past the caches; `settle` before anybody else reads it."""
    copy[:] = values


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
def compiled_settle(_context: Any) -> tuple[Any, Any]:
    """`settle` as a fence."""
    def lower(context: Any, builder: Any, _sig: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), lower


COMPILED = {stream_row: compiled_stream_row, settle: compiled_settle}
"""What stands in the place of each in compiled kernels."""
