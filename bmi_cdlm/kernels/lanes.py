"""Eight reaches at once, one in each lane of a vector register, with the bits that each has alone.

A step of a reach waits for the one before it. Reaches that do not wait for each other go side by side: eight steps of
eight rows are read, turned in registers so that a vector holds one step of all eight, and turned back behind the last.
Interpreted kernels hold lanes as numpy arrays of eight. Compiled ones know the type `Lanes`, on which + - * / and `fma`
work, so that a step that is arithmetic alone is compiled for it as it stands.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from bmi_cdlm.kernels.marks import primitive

LANES = 8


@primitive
def eight(numbers, sequence, place):
    """Whole numbers of the reaches sequence[place : place + 8], a tuple."""
    return tuple(int(n) for n in numbers[sequence[place : place + LANES]])


@primitive
def spread(number):
    """The same number in every lane."""
    return np.full(LANES, number, type(number))


@primitive
def take(values, sequence, place):
    """Values of the reaches sequence[place : place + 8]."""
    return values[sequence[place : place + LANES]]


@primitive
def give(values, sequence, place, lanes):
    """Write values of the reaches sequence[place : place + 8]."""
    values[sequence[place : place + LANES]] = lanes


@primitive
def take_column(values, rows, t):
    """Step t of eight rows of an array."""
    return values[list(rows), t]


@primitive
def give_column(values, rows, t, lanes):
    """Write step t of eight rows of an array."""
    values[list(rows), t] = lanes


@primitive
def across(values, rows, t):
    """The steps t to t + 7 of eight rows of an array: a tuple of lanes, one for each step."""
    return tuple(np.ascontiguousarray(values[list(rows), t : t + LANES].T))


@primitive
def along(values, rows, t, steps):
    """Write the steps t to t + 7 of eight rows from lanes, one for each step."""
    values[list(rows), t : t + LANES] = np.stack(steps).T


@primitive
def steps_of(values, rows, t):
    """The steps t to t + 7 of eight rows of an array: a tuple of lanes, one for each row."""
    return tuple(values[list(rows), t : t + LANES])


@primitive
def steps_if(values, rows, t):
    """`steps_of`, and zeros where there is no row, below 0."""
    return tuple(np.where(np.array(rows)[:, None] < 0, 0, values[list(rows), t : t + LANES]).astype(values.dtype))


@primitive
def turned_lanes(lanes):
    """Eight lanes with rows for columns: of steps of each row the rows of each step, or back."""
    return tuple(np.ascontiguousarray(np.stack(lanes).T))


@primitive
def put_steps(values, rows, t, lanes):
    """Write the steps t to t + 7 of eight rows from lanes, one for each row."""
    values[list(rows), t : t + LANES] = np.stack(lanes)


@primitive
def turn_block(values, t, column, turned, row, column_t):
    """Write the columns column to column + 7 of the rows t to t + 7 along eight rows of another array."""
    turned[row : row + LANES, column_t : column_t + LANES] = values[t : t + LANES, column : column + LANES].T


@primitive
def take_turned(values, place, t):
    """Step t of eight rows of an array that hold the steps of all eight one after the other, from row `place` on."""
    return values[place : place + LANES].reshape(-1, LANES)[t].copy()


@primitive
def give_turned(values, place, t, lanes):
    """Write step t of eight rows that hold the steps of all eight one after the other."""
    values[place : place + LANES].reshape(-1, LANES)[t] = lanes


# ---- compiled ----------------------------------------------------------------------------------------------

I32 = ir.IntType(32)


class Lanes(types.Type):
    """The type of eight numbers of a precision in one vector."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


def vector(dtype: Any) -> ir.VectorType:
    """The vector that holds eight numbers."""
    return ir.VectorType({32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth], LANES)


def is_number(kind: Any) -> bool:
    """Whether a type is one of the precisions."""
    return kind in (types.float32, types.float64)


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """A vector register."""

    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, vector(kind.dtype))


class LanesArithmetic(AbstractTemplate):
    """Types of an operation on lanes, or on lanes and a number."""

    def generic(self, arguments: tuple, _keywords: dict) -> Any:
        """Return the signature, or None."""
        a, b = arguments
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Lanes) and other in (one, one.dtype):
                return signature(one, a, b)
        return None


def in_lanes(builder: Any, kind: Any, value: Any) -> Any:
    """A number spread over the lanes, or the lanes that it is."""
    if isinstance(kind, Lanes):
        return value
    whole = vector(kind)
    first = builder.insert_element(ir.Constant(whole, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def arithmetic(instruction: str) -> Callable:
    """Return what lowers an operation."""
    def lower(_context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        a, b = (in_lanes(builder, kind, value) for kind, value in zip(sig.args, arguments, strict=True))
        return getattr(builder, instruction)(a, b)

    return lower


for _operation, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):
    infer_global(_operation)(type(f"Lanes_{_instruction}", (LanesArithmetic,), {}))
    for _kinds in ((Lanes, Lanes), (Lanes, types.Float), (types.Float, Lanes)):
        lower_builtin(_operation, *_kinds)(arithmetic(_instruction))


def fused(builder: Any, kind: Lanes, arguments: Sequence[Any]) -> Any:
    """A product and a sum rounded once, in every lane."""
    whole = vector(kind.dtype)
    name = f"llvm.fma.v{LANES}f{kind.dtype.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(whole, [whole] * 3), name)
    return builder.call(function, arguments)


def turned(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Eight vectors with rows for columns: three rounds of eight exchanges between two vectors.

    Each is one instruction that writes to a register of its own: of two neighbours in turn, then in pieces of 16 bytes.
    """
    def exchange(a: Any, b: Any, mask: Sequence[int]) -> Any:
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, LANES), list(mask)))

    def each(found: Sequence[Any], pairs: Sequence[tuple[int, int]], *masks: Sequence[int]) -> list[Any]:
        return [exchange(found[i], found[j], mask) for i, j in pairs for mask in masks]

    low, high = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
    if isinstance(rows[0].type.element, ir.DoubleType):
        even, odd = (0, 1, 4, 5, 8, 9, 12, 13), (2, 3, 6, 7, 10, 11, 14, 15)
        # of the rows 2 k and 2 k + 1 the even columns and the odd ones; of those the first and third piece, or others
        found = each(rows, [(0, 1), (2, 3), (4, 5), (6, 7)], (0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15))
        found = each(found, [(0, 2), (4, 6), (1, 3), (5, 7)], even, odd)
        found = each(found, [(0, 2), (1, 3), (4, 6), (5, 7)], even, odd)
        return [found[k] for k in (0, 4, 2, 6, 1, 5, 3, 7)]
    found = each(rows, [(0, 1), (2, 3), (4, 5), (6, 7)], (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15))
    found = each(found, [(0, 2), (1, 3), (4, 6), (5, 7)], (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))
    found = each(found, [(0, 4), (1, 5), (2, 6), (3, 7)], low, high)
    return [found[k] for k in (0, 2, 4, 6, 1, 3, 5, 7)]


def pointer(context: Any, builder: Any, kind: Any, array: Any, *index: Any) -> Any:
    """Where an element of a contiguous array lies; no index is negative."""
    found = context.make_array(kind)(context, builder, array)
    if len(index) == 2:
        width = builder.extract_value(found.shape, 1)
        return builder.gep(found.data, [builder.add(builder.mul(index[0], width), index[1])])
    return builder.gep(found.data, [index[0]])


def vector_at(builder: Any, kind: Any, place: Any) -> Any:
    """A pointer to a number as one to eight of them."""
    return builder.bitcast(place, vector(kind.dtype).as_pointer())


def read(context: Any, builder: Any, kind: Any, array: Any, rows: Any, t: Any) -> list[Any]:
    """Eight numbers of each of eight rows."""
    found = [pointer(context, builder, kind, array, row, t) for row in cgutils.unpack_tuple(builder, rows, LANES)]
    return [builder.load(vector_at(builder, kind, p), align=kind.dtype.bitwidth // 8) for p in found]


def write(context: Any, builder: Any, kind: Any, array: Any, rows: Any, t: Any, vectors: Sequence[Any]) -> None:
    """Write eight numbers of each of eight rows."""
    for row, lanes in zip(cgutils.unpack_tuple(builder, rows, LANES), vectors, strict=True):
        place = vector_at(builder, kind, pointer(context, builder, kind, array, row, t))
        builder.store(lanes, place, align=kind.dtype.bitwidth // 8)


def places(context: Any, builder: Any, kinds: Sequence[Any], sequence: Any, place: Any) -> list[Any]:
    """The reaches at eight places of a sequence."""
    return [
        builder.load(pointer(context, builder, kinds[1], sequence, builder.add(place, ir.Constant(place.type, k))))
        for k in range(LANES)
    ]


def gathered(builder: Any, kind: Any, pointers: Sequence[Any]) -> Any:
    """Lanes of eight numbers that lie anywhere."""
    lanes = ir.Constant(vector(kind.dtype), ir.Undefined)
    for k, place in enumerate(pointers):
        lanes = builder.insert_element(lanes, builder.load(place), ir.Constant(I32, k))
    return lanes


def scattered(builder: Any, lanes: Any, pointers: Sequence[Any]) -> None:
    """Write eight numbers that lie anywhere."""
    for k, place in enumerate(pointers):
        builder.store(builder.extract_element(lanes, ir.Constant(I32, k)), place)


@intrinsic
def compiled_eight(_context, numbers, sequence, place):
    """`eight` of int64."""
    def lower(context, builder, sig, arguments):
        found = places(context, builder, sig.args, arguments[1], arguments[2])
        return context.make_tuple(builder, sig.return_type, [
            builder.load(pointer(context, builder, numbers, arguments[0], i)) for i in found
        ])

    return types.UniTuple(numbers.dtype, LANES)(numbers, sequence, types.intp), lower


@intrinsic
def compiled_spread(_context, number):
    """`spread` of either precision."""
    return Lanes(number)(number), lambda _context, builder, sig, arguments: in_lanes(builder, sig.args[0], arguments[0])


@intrinsic
def compiled_take(_context, values, sequence, place):
    """`take` of either precision."""
    def lower(context, builder, sig, arguments):
        found = places(context, builder, sig.args, arguments[1], arguments[2])
        return gathered(builder, values, [pointer(context, builder, values, arguments[0], i) for i in found])

    return Lanes(values.dtype)(values, sequence, types.intp), lower


@intrinsic
def compiled_give(_context, values, sequence, place, lanes):
    """`give` of either precision."""
    def lower(context, builder, sig, arguments):
        found = places(context, builder, sig.args, arguments[1], arguments[2])
        scattered(builder, arguments[3], [pointer(context, builder, values, arguments[0], i) for i in found])
        return context.get_dummy_value()

    return types.none(values, sequence, types.intp, lanes), lower


@intrinsic
def compiled_take_column(_context, values, rows, t):
    """`take_column` of either precision."""
    def lower(context, builder, _sig, arguments):
        array, found, step = arguments
        return gathered(builder, values, [
            pointer(context, builder, values, array, row, step) for row in cgutils.unpack_tuple(builder, found, LANES)
        ])

    return Lanes(values.dtype)(values, rows, types.intp), lower


@intrinsic
def compiled_give_column(_context, values, rows, t, lanes):
    """`give_column` of either precision."""
    def lower(context, builder, _sig, arguments):
        array, found, step, written = arguments
        scattered(builder, written, [
            pointer(context, builder, values, array, row, step) for row in cgutils.unpack_tuple(builder, found, LANES)
        ])
        return context.get_dummy_value()

    return types.none(values, rows, types.intp, lanes), lower


@intrinsic
def compiled_across(_context, values, rows, t):
    """`across` of either precision."""
    result = types.UniTuple(Lanes(values.dtype), LANES)

    def lower(context, builder, sig, arguments):
        return context.make_tuple(builder, result, turned(builder, read(context, builder, values, *arguments)))

    return result(values, rows, types.intp), lower


@intrinsic
def compiled_along(_context, values, rows, t, steps):
    """`along` of either precision."""
    def lower(context, builder, sig, arguments):
        vectors = turned(builder, cgutils.unpack_tuple(builder, arguments[3], LANES))
        write(context, builder, values, *arguments[:3], vectors)
        return context.get_dummy_value()

    return types.none(values, rows, types.intp, steps), lower


@intrinsic
def compiled_steps_of(_context, values, rows, t):
    """`steps_of` of either precision."""
    result = types.UniTuple(Lanes(values.dtype), LANES)

    def lower(context, builder, sig, arguments):
        return context.make_tuple(builder, result, read(context, builder, values, *arguments))

    return result(values, rows, types.intp), lower


@intrinsic
def compiled_steps_if(_context, values, rows, t):
    """`steps_if` of either precision."""
    result = types.UniTuple(Lanes(values.dtype), LANES)

    def lower(context, builder, sig, arguments):
        array, found, step = arguments
        whole = vector(values.dtype)
        zeros = cgutils.global_constant(builder.module, "no_steps", ir.Constant(whole, None))
        lanes = []
        for row in cgutils.unpack_tuple(builder, found, LANES):
            place = vector_at(builder, values, pointer(context, builder, values, array, row, step))
            there = builder.icmp_signed(">=", row, row.type(0))
            lanes.append(builder.load(builder.select(there, place, zeros), align=values.dtype.bitwidth // 8))
        return context.make_tuple(builder, result, lanes)

    return result(values, rows, types.intp), lower


@intrinsic
def compiled_turned_lanes(_context, lanes):
    """`turned_lanes` of either precision."""
    def lower(context, builder, sig, arguments):
        return context.make_tuple(builder, lanes, turned(builder, cgutils.unpack_tuple(builder, arguments[0], LANES)))

    return lanes(lanes), lower


@intrinsic
def compiled_put_steps(_context, values, rows, t, lanes):
    """`put_steps` of either precision."""
    def lower(context, builder, sig, arguments):
        write(context, builder, values, *arguments[:3], cgutils.unpack_tuple(builder, arguments[3], LANES))
        return context.get_dummy_value()

    return types.none(values, rows, types.intp, lanes), lower


@intrinsic
def compiled_turn_block(_context, values, t, column, turned_values, row, column_t):
    """`turn_block` of either precision."""
    def lower(context, builder, sig, arguments):
        array, first, left, target, top, start = arguments

        def eight_from(number):
            return cgutils.pack_array(builder, [builder.add(number, ir.Constant(number.type, k)) for k in range(LANES)])

        vectors = turned(builder, read(context, builder, values, array, eight_from(first), left))
        write(context, builder, turned_values, target, eight_from(top), start, vectors)
        return context.get_dummy_value()

    index = types.intp
    return types.none(values, index, index, turned_values, index, index), lower


def turned_at(context, builder, kind, arguments):
    """Where a step of eight rows begins whose steps follow each other."""
    array, place, t = arguments
    step = builder.mul(t, ir.Constant(t.type, LANES))
    return vector_at(builder, kind, pointer(context, builder, kind, array, place, step))


@intrinsic
def compiled_take_turned(_context, values, place, t):
    """`take_turned` of either precision."""
    def lower(context, builder, _sig, arguments):
        return builder.load(turned_at(context, builder, values, arguments), align=values.dtype.bitwidth // 8)

    return Lanes(values.dtype)(values, types.intp, types.intp), lower


@intrinsic
def compiled_give_turned(_context, values, place, t, lanes):
    """`give_turned` of either precision."""
    def lower(context, builder, _sig, arguments):
        *where, written = arguments
        builder.store(written, turned_at(context, builder, values, where), align=values.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(values, types.intp, types.intp, lanes), lower


COMPILED = {
    eight: compiled_eight, spread: compiled_spread, take: compiled_take, give: compiled_give,
    take_column: compiled_take_column, give_column: compiled_give_column, across: compiled_across,
    along: compiled_along, steps_of: compiled_steps_of, steps_if: compiled_steps_if,
    turned_lanes: compiled_turned_lanes, put_steps: compiled_put_steps, turn_block: compiled_turn_block,
    take_turned: compiled_take_turned, give_turned: compiled_give_turned,
}
"""What stands in the place of each in compiled kernels."""
