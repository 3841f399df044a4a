"""Guards of KERNELS.md: one source for every precision, vectorised rows, nothing promoted, threads end."""

from __future__ import annotations

import inspect
import math
import re
import threading
from fractions import Fraction
from functools import cache

import numba
import numpy as np
import pytest
from kernels.every_kernel import GENERATED, KERNELS, PLANS, REACH_PLANS, ROWS, SCALARS, label
from numba import config, njit, typeof, types

from bmi_cdlm.kernels import launch, linked
from bmi_cdlm.kernels.fused import compiled_fma, fma
from bmi_cdlm.kernels.graph import Linker
from bmi_cdlm.kernels.groups import Links, ReachSeries
from bmi_cdlm.kernels.launch import callee, compiled, retyped
from bmi_cdlm.kernels.loops.cells import is_kept
from bmi_cdlm.kernels.loops.cells_adjoint import AdjointText
from bmi_cdlm.kernels.loops.demand import hour_of_day
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.queues import ring_length
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.rows import in_fours, only_row, tile_width, up_to_four
from bmi_cdlm.kernels.loops.source import make_functions
from bmi_cdlm.kernels.loops.stages import TOTALS
from bmi_cdlm.kernels.loops.topology import gather_children
from bmi_cdlm.kernels.workers import WORTH_A_THREAD, Workers
from bmi_cdlm.processes import gr4j

compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="inspects machine code: needs the compiler")
DTYPES = [np.float64, np.float32]
LLVM = {np.float64: "double", np.float32: "float"}
OF_COUNTS = (in_fours, only_row, tile_width, up_to_four, ring_length, hour_of_day)
"""Scalar steps of whole numbers, or that give one."""
IN_TURN = ("route_reach", "route_two", "reverse_one", "reverse_two", "sweep_states", "route_given")
"""Rows in which a sub-step waits for the one before."""
NOT_LINEAR = ("retrace_reach", "retrace_two")
"""They wait, too, where a process of reaches is not linear."""
IN_PLACES = ("collect_row", "set_column", "more_column", "receive")
"""Rows that read a column, or write here and there: neighbours in them are no neighbours in memory."""
MOVING = ("copy_row", "fill_row", "mask_row")
"""Rows that calculate nothing."""
HAND_ON = ("caller", "none")
"""Processes that calculate nothing."""
WITHOUT_NUMBERS = {"place_family", "part_of", "sort_family"}
"""Not over a row, but leaves of the call graph with subscripts."""
IN_LANES = {"turn_cells", "retrace_eight", "retrace_eight_parts", "reverse_eight"}
"""Written in vectors: `test_lanes` watches them."""
N = 64


def row(dtype) -> np.ndarray:
    return np.full(N, 0.5, dtype)


def rows(dtype, count: int) -> np.ndarray:
    return np.full((count, N), 0.5, dtype)


def by_hand(dtype) -> dict[str, tuple]:
    """Rows that stand in modules, with arguments of a precision."""
    def one():
        return row(dtype)

    def many(count):
        return rows(dtype, count)

    number, index = dtype(0.5), np.arange(N)
    return {
        "copy_row": (one(), one()),
        "fill_row": (one(), number),
        "add_row": (one(), one()),
        "add_terms": (*(one() for _ in range(4)),),
        "keep_inflow": (*(one() for _ in range(2)), 1, one()),
        "receive": (index - 1, 0, ReachSeries(many(2), index, one()), one(), 1),
        "sum_sub_steps": (one(), 1, one()),
        "sweep_states": (one(), one(), one(), number, one()),
        "advance_queue_one": (many(8), 5, many(3), one(), dtype(0.9)),
        "advance_queue_four": (many(8), 4, many(4), many(4), dtype(0.9)),
        "sweep_queue": (many(8), many(4), dtype(0.9), many(4)),
        "sum_ordinates": (many(8), many(4), dtype(0.9), many(4)),
        "saturate_row": (one(), dtype(5), one()),
        "first_layer_rows": (many(4), *(one() for _ in range(3)), many(4), many(4), one(), many(4)),
        "later_layer_rows": (many(12), 12, one(), many(4), many(4)),
        "last_layer_row": (*(one() for _ in range(6)),),
        "input_row": (*(one() for _ in range(4)), number, number, number, one()),
        "add_layer_rows": (many(12), 12, many(4), many(4)),
        "gate_row": (*(one() for _ in range(6)),),
        "linear_row": (one(), number, number, one()),
        "logarithmic_row": (one(), number, number, one()),
        "factor_row": (one(), dtype(0.3), dtype(2), one()),
        "factor_row_adjoint": (one(), dtype(0.3), dtype(2), one(), one()),
        "add_scaled_row": (one(), number, one()),
        "mask_row": (one(), one()),
        "saturate_row_adjoint": (one(), dtype(5), one(), one()),
        "sum_row": (one(),),
        "sum_products": (one(), one()),
        "sum_inputs": (*(one() for _ in range(5)),),
    }


def of_reaches(plan: ReachPlan, function, dtype) -> tuple:
    """Arguments of a row of a process of reaches, by their names."""
    def of(name: str):
        bare = re.sub("_[12]", "", name)  # of two reaches at once
        if bare in ("p", "p_adj"):
            kind = plan.parameter_group if bare == "p" else plan.adjoint_group
            return kind(*(row(dtype) for _ in kind._fields))
        if bare == "links":
            index = np.arange(N)
            return Links(np.arange(0, 2 * N + 2, 2), np.repeat(index, 2), row(dtype))
        if bare in ("i", "cell", "n_sub"):
            return int(bare == "n_sub")
        if bare == "runoff":
            return rows(dtype, 9)
        if bare in (*plan.coefficients, *plan.fixed, "state", "state_adj", "volume", "seconds", "step_seconds", "area"):
            return dtype(0.5)
        return row(dtype)

    return tuple(map(of, inspect.signature(function).parameters))


def of_cells(plan: CellPlan, function, dtype) -> dict[str, tuple]:
    """Arguments of a row of a process of cells, as for each of its callers; what it does not fill is None."""
    step = plan.constant_group(*(dtype(0.5) for _ in plan.constant_group._fields))
    names = tuple(inspect.signature(function).parameters)
    totals = [n for n in names if n in (*TOTALS, "rain")]
    fluxes = [n for n in names if n.endswith("_flux")]
    tape = [n for stage in plan.process.stages for n in stage.kept if is_kept(plan, stage, n)]

    def given(*left_out) -> tuple:
        return tuple(step if n == "step" else None if n in left_out else row(dtype) for n in names)

    if "_row_adjoint" in function.__name__:
        return {"": given()}
    return {" quiet": given(*fluxes, *tape), " with fluxes": given(*tape), " for the adjoint": given(*totals, *fluxes)}


@cache
def rows_of(dtype) -> dict[str, tuple]:
    """Each row with arguments of a precision, by what it is: (function, arguments)."""
    found, arguments = {}, by_hand(dtype)
    for function in ROWS:
        name, plan = label(function), GENERATED.get(function)
        if function.__name__ in IN_LANES:
            continue
        if function.__name__ in arguments:
            found[name] = function, arguments.pop(function.__name__)
        elif isinstance(plan, CellPlan):
            found |= {name + what: (function, a) for what, a in of_cells(plan, function, dtype).items()}
        elif plan is not None:
            found[name] = function, of_reaches(plan, function, dtype)
        else:
            assert function.__name__ in WITHOUT_NUMBERS, name
    # A row that calls a row of its own is none of ROWS, but has loops over cells.
    found |= {n: (next(f for f in KERNELS if f.__name__ == n), a) for n, a in arguments.items()}
    return found


def waits(name: str) -> bool:
    """Whether a sub-step waits for the one before."""
    function, plan = rows_of(np.float64)[name][0], GENERATED.get(rows_of(np.float64)[name][0])
    linear = isinstance(plan, ReachPlan) and plan.process.linear
    nonlinear = isinstance(plan, ReachPlan) and not linear
    return function.__name__ in IN_TURN or (nonlinear and function.__name__ in NOT_LINEAR)


def body_of(dtype, name: str) -> str:
    """The row itself, without what hands over Python objects."""
    function, arguments = rows_of(dtype)[name]
    made = callee(function, dtype)
    made.compile(typeof_all(arguments))
    code = made.inspect_llvm(typeof_all(arguments))
    own = f"{len(function.__name__)}{function.__name__}B"  # an older numba keeps what was taken into it beside it
    [body] = re.findall(rf"^define [^\n]*@_ZN8bmi_cdlm\w*{own}[^\n]*\n(.*?)^}}", code, re.DOTALL | re.MULTILINE)
    return body


llvm_of = cache(body_of)


def typeof_all(arguments):
    return tuple(typeof(a) for a in arguments)


NAMES = tuple(rows_of(np.float64))
RUNS, TRAININGS = (" quiet", " with fluxes"), (" for the adjoint",)
"""Ends of names of rows that runs take, in float64, and that trainings do, in float32 as a rule."""


def watched_in(name: str) -> tuple[type, ...]:
    """Precisions that a row is compiled in here: every row in the one that it is for, what is shared in both."""
    if name.endswith(RUNS):
        return (np.float64,)
    return (np.float32,) if name.endswith(TRAININGS) or "_row_adjoint" in name else (np.float64, np.float32)


def watched(names) -> list:
    return [pytest.param(n, dtype, id=f"{n}-{dtype.__name__}") for n in names for dtype in watched_in(n)]


PLACED = {name for name in NAMES if rows_of(np.float64)[name][0].__name__ in IN_PLACES}


@compiled_only
@pytest.mark.parametrize(("name", "dtype"), watched(
    name for name in NAMES if not waits(name) and name not in PLACED
))
def test_rows_are_vectorised(name, dtype):
    plan = GENERATED.get(rows_of(dtype)[name][0])
    moves = name in MOVING or (plan is not None and plan.process.name in HAND_ON)
    code, done = llvm_of(dtype, name), "store" if moves else r"fmul|fadd|fdiv|@llvm\.fma\S*\("
    assert re.search(rf"({done}) ?(?:reassoc )?<\d+ x {LLVM[dtype]}>", code), f"{name} is scalar code"
    # Two steps of one cell side by side would be vectors, too.
    assert re.search(r"^vector\.body", code, re.MULTILINE), f"{name} is no loop over vectors of cells"


@compiled_only
@pytest.mark.parametrize(("name", "dtype"), watched(NAMES))
def test_rows_call_no_step(name, dtype):
    """Scalar steps are in the row; what would stay outside costs as much as the step itself. A whole row may."""
    called = re.findall(r"\bcall\b[^\n]*@(_ZN8bmi_cdlm\w*)", llvm_of(dtype, name))
    assert not [c for c in called if any(f"{len(f.__name__)}{f.__name__}B" in c for f in SCALARS)]


def test_every_row_is_watched():
    """Whatever is called and calls scalar steps only; every stage of every process, forward and adjoint."""
    functions = {function for function, _ in rows_of(np.float64).values()}
    assert {f.__name__ for f in set(ROWS) - functions} == WITHOUT_NUMBERS | IN_LANES
    assert all(map(watched_in, NAMES)) and {np.float32, np.float64} == {d for n in NAMES for d in watched_in(n)}
    names = {f.__name__ for f in functions}
    for plan in PLANS:
        for stage in plan.process.stages:
            own = plan.stage_name(stage)
            assert f"{own}_row" in names and names & {f"{own}_row_adjoint", f"{own}_row_adjoint_1"}, own
    assert len([n for n in NAMES if waits(n)]) == 1 + 5 * len(REACH_PLANS) and len(PLACED) == 4


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_too_many_arrays_is_seen(dtype):
    """Without the split of its rows, a stage of many parameters is scalar code: the test above can fail."""
    plan = next(p for p in PLANS if p.process.name == "cemaneige_hysteresis")
    writer = AdjointText(plan)
    writer.parts = lambda k: [plan.reverses[k].returns]
    known = {writer.step_name(k): r.function for k, r in plan.reverses.items()}
    whole = make_functions(writer.row(0, plan.reverses[0].returns, None), "one row", known)[writer.row_name(0, None)]
    arguments = of_cells(plan, whole, dtype)[""]
    made = callee(whole, dtype)
    made.compile(typeof_all(arguments))
    assert not re.search(r"^vector\.body", made.inspect_llvm(typeof_all(arguments)), re.MULTILINE)


@compiled_only
@pytest.mark.parametrize("name", [name for name in NAMES if np.float32 in watched_in(name)])
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
        scalar.compile((expected,) * count)
        signature = next(s for s in scalar.overloads if s == (expected,) * count)
        returned = scalar.overloads[signature].signature.return_type
        parts = set(returned) if isinstance(returned, types.BaseTuple) else {returned}
        assert parts == {expected}, f"{function.__name__} returns {returned}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_precision_runs_the_code_of_the_plain_function(dtype):
    for function in KERNELS:
        for made in (callee(function, dtype), compiled(function, dtype)):
            code, plain = getattr(made, "py_func", made).__code__, function.__code__
            ours, theirs = ((c.co_code, c.co_names, c.co_varnames) for c in (code, plain))
            assert ours == theirs, label(function)
            for our, their in zip(code.co_consts, plain.co_consts, strict=True):
                assert type(our) is (dtype if type(their) is float else type(their)), label(function)
                if type(their) is float:
                    assert our == dtype(their), label(function)


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


@compiled_only
def test_what_others_compile_into_themselves_gets_no_machine_code():
    """Pins what `linked` takes of numba: with another one it would be as slow as before, and nobody would know."""
    assert linked.HAS_LIBRARY
    assert linked.HAS_PASSES or tuple(map(int, numba.__version__.split(".")[:2])) < (0, 63)
    plain, called = compiled(gr4j.production_step), callee(gr4j.production_step)
    arguments = (0.5,) * gr4j.production_step.__code__.co_argcount
    assert np.isfinite(plain(*arguments)).all()
    called.compile(tuple(map(typeof, arguments)))
    [one] = called.overloads.values()
    assert isinstance(one.library, linked.LinkedLibrary) and "define" in one.library.get_llvm_str()
    assert one.library.get_pointer_to_function(one.fndesc.llvm_func_name) == 0
    assert one.fndesc.llvm_cpython_wrapper_name not in one.library.get_llvm_str()


@compiled_only
def test_a_loop_over_little_is_run_as_it_is_until_it_is_worth_compiling(monkeypatch):
    monkeypatch.setattr(launch, "_roots", {})
    monkeypatch.setattr(launch, "_gone_through", {})
    found = [launch.compiled_if_worth(gather_children, n) for n in (900, 100, 1, 5)]
    assert found[:2] == [gather_children] * 2 and found[2] is found[3] is compiled(gather_children)
    monkeypatch.setattr(launch, "_gone_through", {})
    assert launch.compiled_if_worth(gather_children, 1) is compiled(gather_children)


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


def test_items_are_shared_out_and_what_they_hand_over_themselves_runs_where_they_are():
    workers = Workers(2)

    def run(item):
        parts: list[tuple[int, str]] = []
        workers.run(lambda lo, hi: parts.append((lo, threading.current_thread().name)), (), [(0, 1), (1, 2)],
                    WORTH_A_THREAD)
        return item, threading.current_thread().name, {name for _, name in parts}, len(parts)

    found = workers.each(run, "abcd", [1.0, 9.0, 2.0, 3.0])
    assert [item for item, *_ in found] == list("abcd") and all(count == 2 for *_, count in found)
    here = threading.current_thread().name
    assert found[1][1] == here and here not in found[1][2]  # more than half of all: both threads work on it
    assert all(own.startswith("cdlm") and inside == {own} for k, (_, own, inside, _) in enumerate(found) if k != 1)
    with pytest.raises(ZeroDivisionError):
        workers.each(lambda item: item // 0, [1, 2, 3], [1.0, 1.0, 1.0])
    workers.close()


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
