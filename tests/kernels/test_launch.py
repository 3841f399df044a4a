"""Guards of KERNELS.md: one source for every precision, vectorised rows, nothing promoted, threads end."""

from __future__ import annotations

import builtins
import dis
import inspect
import re
import threading
from fractions import Fraction

import numpy as np
import pytest
from numba import config, njit, typeof, types

from bmi_cdlm.kernels import cemaneige, elementary, gr4j, muskingum, transcendental
from bmi_cdlm.kernels.fused import compiled_fma, fma
from bmi_cdlm.kernels.groups import CellTotals, RunoffFluxes, SnowParameters, Step
from bmi_cdlm.kernels.launch import LOOPS, ROWS, SCALARS, WORTH_A_THREAD, Workers, kernels, retyped

compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="inspects machine code: needs the compiler")
DTYPES = [np.float64, np.float32]
LLVM = {np.float64: "double", np.float32: "float"}


def rows_of(dtype, n: int = 64):
    """Each row loop with arguments of a precision: (name, arguments)."""
    def row():
        return np.full(n, 0.5, dtype)

    def rows(count: int):
        return np.full((count, n), 0.5, dtype)

    step = Step(dtype(1), dtype(1), dtype(0.04))
    totals, fluxes = CellTotals(*(row() for _ in range(4))), RunoffFluxes(*(row() for _ in range(14)))
    snow, snow_adj = (SnowParameters(*(row() for _ in SnowParameters._fields)) for _ in range(2))
    return {
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
    row = getattr(kernels(dtype), name.split()[0])
    arguments = rows_of(dtype)[name]
    row(*arguments)
    return row.inspect_llvm(typeof_all(arguments))


def typeof_all(arguments):
    return tuple(typeof(a) for a in arguments)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", rows_of(np.float64))
def test_rows_are_vectorised(dtype, name):
    code = llvm_of(dtype, name)
    assert re.search(rf"(fmul|fadd|@llvm\.fma\S*\() ?<\d+ x {LLVM[dtype]}>", code), f"{name} is scalar code"


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
    compiled = kernels(dtype)
    for function in SCALARS:
        scalar = getattr(compiled, function.__name__)
        count = function.__code__.co_argcount
        scalar(*[dtype(0.5)] * count)
        signature = next(s for s in scalar.overloads if s == (expected,) * count)
        returned = scalar.overloads[signature].signature.return_type
        parts = set(returned) if isinstance(returned, types.BaseTuple) else {returned}
        assert parts == {expected}, f"{function.__name__} returns {returned}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [*SCALARS, *ROWS, *LOOPS], ids=lambda f: f.__name__)
def test_every_precision_runs_the_code_of_the_plain_function(dtype, function):
    compiled = getattr(kernels(dtype), function.__name__)
    code, plain = getattr(compiled, "py_func", compiled).__code__, function.__code__
    assert (code.co_code, code.co_names, code.co_varnames) == (plain.co_code, plain.co_names, plain.co_varnames)
    for ours, theirs in zip(code.co_consts, plain.co_consts, strict=True):
        assert type(ours) is (dtype if type(theirs) is float else type(theirs))
        if type(theirs) is float:
            assert ours == dtype(theirs)


@pytest.mark.parametrize("function", [*SCALARS, *ROWS, *LOOPS], ids=lambda f: f.__name__)
def test_kernels_read_no_constant_of_a_module(function):
    """Retyping sees literals only: a module's float, or a tuple of literals, would stay float64 in float32."""
    compiled = getattr(kernels(), function.__name__)
    known = getattr(compiled, "py_func", compiled).__globals__
    used = {i.argval for i in dis.get_instructions(function) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    assert used <= known.keys() | set(dir(builtins)), "launch gives it no such name"
    assert all(callable(known[name]) or inspect.ismodule(known[name]) for name in used & known.keys())
    assert not [c for c in function.__code__.co_consts if isinstance(c, tuple) and any(type(v) is float for v in c)]


def test_no_kernel_is_left_out():
    """Whatever the modules of physics define is compiled; what a loop calls stands before it."""
    names = {f.__name__ for f in SCALARS}
    for module in (cemaneige, elementary, gr4j, muskingum, transcendental):
        own = {
            name for name, f in vars(module).items()
            if callable(f) and getattr(f, "__module__", "") == module.__name__ and not name.endswith("_adjoint")
        }
        assert own <= names, own - names
    assert len({f.__name__ for f in (*SCALARS, *ROWS, *LOOPS)}) == len((*SCALARS, *ROWS, *LOOPS))


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
    compiled = kernels(dtype)
    for _ in range(200):
        S, P, E = (dtype(v) for v in rng.uniform(0, 50, 3))
        args = (S, P, E, dtype(rng.uniform(20, 500)), dtype(0.039))
        plain = retyped_chain(dtype).production_step(*args)
        assert [dtype(v).tobytes() for v in compiled.production_step(*args)] == [dtype(v).tobytes() for v in plain]


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_and_a_sum_are_rounded_once(dtype):
    """Interpreted as compiled: the exact result, rounded; where it cancels, rounding twice would leave nothing."""
    compiled = njit(lambda a, b, c: compiled_fma(a, b, c))
    rng = np.random.default_rng(6)
    for a, b, c in rng.uniform(-2, 2, (300, 3)).astype(dtype):
        for last in (c, -a * b):
            found = fma(a, b, last)
            assert type(found) is dtype and found.tobytes() == dtype(compiled(a, b, last)).tobytes()
            exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(last))
            assert abs(Fraction(float(found)) - exact) <= Fraction(float(np.spacing(abs(found)))) / 2


def retyped_chain(dtype):
    """The plain functions in a precision, never compiled; np.sqrt keeps single precision where math.sqrt does not."""
    names = {"math": Roots, "np": np, "real": dtype, "fma": fma}
    for function in SCALARS:
        names[function.__name__] = retyped(function, dtype, names)
    return type("Plain", (), {k: staticmethod(v) for k, v in names.items() if callable(v)})


class Roots:
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
    monkeypatch.setattr("bmi_cdlm.kernels.launch.WORTH_A_THREAD", WORTH_A_THREAD)
    names: set[str] = set()

    def note(lo, hi):
        names.add(threading.current_thread().name)

    workers = Workers(3)
    workers.run(note, (), [(0, 1), (1, 2)], WORTH_A_THREAD - 1)
    assert names == {threading.current_thread().name}
    workers.run(note, (), [(0, 1), (1, 2)], WORTH_A_THREAD)
    assert any(name.startswith("cdlm") for name in names)
    workers.close()
