"""Guards of KERNELS.md: one source for every precision, vectorised rows, nothing promoted, threads end."""

from __future__ import annotations

import math
import re
import threading
from fractions import Fraction

import numpy as np
import pytest
from kernels.every_kernel import KERNELS, ROWS, SCALARS
from numba import config, njit, typeof, types

from bmi_cdlm.kernels.fused import compiled_fma, fma
from bmi_cdlm.kernels.graph import Linker
from bmi_cdlm.kernels.groups import CellTotals, Links, ReachParameters, ReachSeries, RunoffFluxes, SnowParameters, Step
from bmi_cdlm.kernels.launch import callee, compiled, retyped
from bmi_cdlm.kernels.loops.rows import in_fours, tile_width
from bmi_cdlm.kernels.loops.runoff import ring_length
from bmi_cdlm.kernels.workers import WORTH_A_THREAD, Workers
from bmi_cdlm.processes import gr4j

compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="inspects machine code: needs the compiler")
DTYPES = [np.float64, np.float32]
LLVM = {np.float64: "double", np.float32: "float"}
OF_COUNTS = (in_fours, tile_width, ring_length)
"""Scalar steps of whole numbers."""
IN_TURN = ("route_reach", "route_two", "sweep_reach", "sweep_two")
"""Rows in which a sub-step waits for the one before."""
IN_PLACES = ("collect_row", "receive")
"""Rows that read a column, or write here and there: neighbours in them are no neighbours in memory."""
MOVING = ("copy_row", "fill_row")
"""Rows that calculate nothing."""
WITHOUT_NUMBERS = {"tile_rows", "snow_tile", "flux_rows", "place_family"}
"""Not over a row, but leaves of the call graph with subscripts."""


def rows_of(dtype, n: int = 64):
    """Each row loop with arguments of a precision: (name, arguments)."""
    def row():
        return np.full(n, 0.5, dtype)

    def rows(count: int):
        return np.full((count, n), 0.5, dtype)

    step = Step(dtype(1), dtype(1), dtype(0.04))
    totals, fluxes = CellTotals(*(row() for _ in range(4))), RunoffFluxes(*(row() for _ in range(14)))
    snow, snow_adj = (SnowParameters(*(row() for _ in SnowParameters._fields)) for _ in range(2))
    reach, reach_adj = (ReachParameters(*(row() for _ in ReachParameters._fields)) for _ in range(2))
    number, index = dtype(0.5), np.arange(n)
    return {
        "copy_row": (row(), row()),
        "fill_row": (row(), number),
        "inverse_row": (row(), row()),
        "add_terms": (*(row() for _ in range(4)),),
        "add_link": (row(), row(), number),
        "collect_row": (Links(np.arange(0, 2 * n + 2, 2), np.repeat(index, 2), row()), 0, rows(9), row()),
        "keep_inflow": (*(row() for _ in range(2)), 1, row()),
        "receive": (index - 1, 0, ReachSeries(rows(2), index, row()), row(), 1),
        "route_reach": (*(row() for _ in range(2)), *[number] * 4, 1, row(), *[number] * 2),
        "route_two": (*(row() for _ in range(4)), *[number] * 8, 1, row(), row(), *[number] * 3),
        "sweep_reach": (*(row() for _ in range(2)), *[number] * 4, row(), row()),
        "sweep_two": (*(row() for _ in range(4)), *[number] * 8, *(row() for _ in range(4))),
        "reverse_reach": (reach, reach_adj, 0, *(row() for _ in range(4))),
        "sum_sub_steps": (row(), 1, row()),
        "production_row": (*(row() for _ in range(6)), step, row(), totals, None, None),
        "production_row for the adjoint": (*(row() for _ in range(6)), step, row(), None, None, row()),
        "production_row with fluxes": (*(row() for _ in range(6)), step, row(), totals, fluxes, None),
        "advance_queue_one": (rows(8), 5, rows(3), row(), dtype(0.9)),
        "advance_queue_four": (rows(8), 4, rows(4), rows(4), dtype(0.9)),
        "routing_store_row": (*(row() for _ in range(5)), step, row(), totals, None),
        "routing_store_row with fluxes": (*(row() for _ in range(5)), step, row(), totals, fluxes),
        "snow_row": (*(row() for _ in range(4)), snow, step, *(row() for _ in range(3))),
        "snow_hysteresis_row": (*(row() for _ in range(6)), snow, step, *(row() for _ in range(3))),
        "add_row": (row(), row()),
        "saturate_row": (row(), dtype(5), row()),
        "first_layer_rows": (rows(4), *(row() for _ in range(3)), rows(4), rows(4), row(), rows(4)),
        "later_layer_rows": (rows(12), 12, row(), rows(4), rows(4)),
        "last_layer_row": (*(row() for _ in range(6)),),
        "factor_row": (row(), row(), dtype(0.3), dtype(2), row(), row()),
        "production_row_adjoint": (*(row() for _ in range(6)), step, *(row() for _ in range(4))),
        "routing_store_row_adjoint": (*(row() for _ in range(6)), step, *(row() for _ in range(4))),
        "sweep_queue": (rows(8), rows(4), dtype(0.9), rows(4)),
        "sum_ordinates": (rows(8), rows(4), dtype(0.9), rows(4)),
        "snow_row_adjoint": (*(row() for _ in range(4)), snow, step, *(row() for _ in range(5)), snow_adj),
        "snow_hysteresis_row_adjoint": (*(row() for _ in range(6)), snow, step, *(row() for _ in range(7)), snow_adj),
    }


def llvm_of(dtype, name: str) -> str:
    """The row itself, without what hands over Python objects."""
    row = next(callee(f, dtype) for f in KERNELS if f.__name__ == name.split()[0])
    arguments = rows_of(dtype)[name]
    row(*arguments)
    code = row.inspect_llvm(typeof_all(arguments))
    [body] = re.findall(r"^define [^\n]*@_ZN8bmi_cdlm[^\n]*\n(.*?)^}", code, re.DOTALL | re.MULTILINE)
    return body


def typeof_all(arguments):
    return tuple(typeof(a) for a in arguments)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in rows_of(np.float64) if name not in (*IN_TURN, *IN_PLACES)])
def test_rows_are_vectorised(dtype, name):
    code, done = llvm_of(dtype, name), "store" if name in MOVING else r"fmul|fadd|fdiv|@llvm\.fma\S*\("
    assert re.search(rf"({done}) ?(?:reassoc )?<\d+ x {LLVM[dtype]}>", code), f"{name} is scalar code"


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", rows_of(np.float64))
def test_rows_call_no_step(dtype, name):
    """Scalar steps are in the row; what would stay outside costs as much as the step itself."""
    assert not re.findall(r"\bcall\b[^\n]*@_ZN8bmi_cdlm\S*", llvm_of(dtype, name))


def test_every_row_is_watched():
    """Whatever is called and calls scalar steps only."""
    assert {f.__name__ for f in ROWS} - {name.split()[0] for name in rows_of(np.float64)} == WITHOUT_NUMBERS


@compiled_only
@pytest.mark.parametrize("name", rows_of(np.float32))
def test_single_precision_rows_hold_no_double_arithmetic(name):
    code = llvm_of(np.float32, name)
    assert not re.findall(r"\bfpext\b.*", code)
    assert not re.findall(r"\bf(?:add|sub|mul|div|cmp|neg)\b[^\n]*\bdouble\b", code)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_scalar_steps_return_their_own_precision(dtype):
    """Arguments of one precision in, the same precision out; integers nowhere."""
    expected = {np.float64: types.float64, np.float32: types.float32}[dtype]
    for function in set(SCALARS) - set(OF_COUNTS):
        scalar = callee(function, dtype)
        count = function.__code__.co_argcount
        scalar(*[dtype(0.5)] * count)
        signature = next(s for s in scalar.overloads if s == (expected,) * count)
        returned = scalar.overloads[signature].signature.return_type
        parts = set(returned) if isinstance(returned, types.BaseTuple) else {returned}
        assert parts == {expected}, f"{function.__name__} returns {returned}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", KERNELS, ids=lambda f: f.__name__)
def test_every_precision_runs_the_code_of_the_plain_function(dtype, function):
    for made in (callee(function, dtype), compiled(function, dtype)):
        code, plain = getattr(made, "py_func", made).__code__, function.__code__
        assert (code.co_code, code.co_names, code.co_varnames) == (plain.co_code, plain.co_names, plain.co_varnames)
        for ours, theirs in zip(code.co_consts, plain.co_consts, strict=True):
            assert type(ours) is (dtype if type(theirs) is float else type(theirs))
            if type(theirs) is float:
                assert ours == dtype(theirs)


def test_a_kernel_is_the_same_object_at_every_call():
    for function in (gr4j.production_step, tile_width):
        assert compiled(function) is compiled(function, np.float64) is not compiled(function, np.float32)
        assert callee(function) is callee(function, np.float64) is not callee(function, np.float32)


def test_retyped_literals_and_names():
    def scale(v):
        return v * 0.1 + other(2)  # noqa: F821 - given by `names`

    single = retyped(scale, np.float32, {"other": lambda n: np.float32(n)})
    assert single(np.float32(1)).dtype == np.float32
    assert single.__code__.co_consts.count(np.float32(0.1)) == 1
    assert 2 in single.__code__.co_consts


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_compiled_step_is_the_plain_one(dtype):
    """A plain call in Python gives the bits of the compiled step; math.sqrt rounds once in both."""
    rng = np.random.default_rng(5)
    step = compiled(gr4j.production_step, dtype)
    plain_step = Linker(dtype, lambda _function, plain: plain, {math: Roots, fma: fma})(gr4j.production_step)
    for _ in range(200):
        S, P, E = (dtype(v) for v in rng.uniform(0, 50, 3))
        args = (S, P, E, dtype(rng.uniform(20, 500)), dtype(0.039))
        assert [dtype(v).tobytes() for v in step(*args)] == [dtype(v).tobytes() for v in plain_step(*args)]


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_and_a_sum_are_rounded_once(dtype):
    """Interpreted as compiled: the exact result, rounded; where it cancels, rounding twice would leave nothing."""
    instruction = njit(lambda a, b, c: compiled_fma(a, b, c))
    rng = np.random.default_rng(6)
    for a, b, c in rng.uniform(-2, 2, (300, 3)).astype(dtype):
        for last in (c, -a * b):
            found = fma(a, b, last)
            assert type(found) is dtype and found.tobytes() == dtype(instruction(a, b, last)).tobytes()
            exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(last))
            assert abs(Fraction(float(found)) - exact) <= Fraction(float(np.spacing(abs(found)))) / 2


class Roots:
    """np.sqrt keeps single precision where math.sqrt does not."""

    sqrt = staticmethod(np.sqrt)


def test_workers_cover_every_range_once_and_hand_errors_on():
    seen = np.zeros(100, int)

    def count(out, lo, hi):
        out[lo:hi] += 1

    for threads in (1, 3):
        workers = Workers(threads)
        workers.run(count, (seen,), [(0, 40), (40, 99), (99, 100)], 2 * WORTH_A_THREAD)
        with pytest.raises(ZeroDivisionError):
            workers.run(lambda lo, hi: lo // 0, (), [(0, 1), (1, 2)], 2 * WORTH_A_THREAD)
        workers.close()
        workers.run(count, (seen,), [], 0)
    assert (seen == 2).all()


def test_small_work_starts_no_thread(monkeypatch):
    monkeypatch.setattr("bmi_cdlm.kernels.workers.WORTH_A_THREAD", WORTH_A_THREAD)
    names: set[str] = set()

    def note(lo, hi):
        names.add(threading.current_thread().name)

    workers = Workers(3)
    workers.run(note, (), [(0, 1), (1, 2)], WORTH_A_THREAD - 1)
    assert names == {threading.current_thread().name}
    workers.run(note, (), [(0, 1), (1, 2)], WORTH_A_THREAD)
    assert any(name.startswith("cdlm") for name in names)
    workers.close()
