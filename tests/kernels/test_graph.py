"""What is read from the code of kernels: callees, kind, a digest; and what is refused."""

from __future__ import annotations

import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from kernels.every_kernel import GENERATED, KERNELS, PLANS, REACH_PLANS, SCALARS
from numba import config

from bmi_cdlm.kernels import fused, graph, launch
from bmi_cdlm.kernels.graph import Linker, callees, digest, is_scalar, retyped, uses
from bmi_cdlm.kernels.launch import call_graph, callee, compiled
from bmi_cdlm.kernels.loops import queues, routing, rows
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.reach_flows import flow_loops
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.marks import free_sums, marks_of, uncounted
from bmi_cdlm.processes import cemaneige, gr4j, lstm, pet_network, pet_network_adjoint
from bmi_cdlm.processes.links import LINKS

compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="inspects what the compiler makes")


def made(source: str, **names) -> types.SimpleNamespace:
    """The functions of a source text, as a template makes them: from a text, with a dict of globals."""
    known = {"np": np, "real": np.float64, "fma": fused.fma, **names}
    exec(compile(source, "<template>", "exec", dont_inherit=True), known)
    return types.SimpleNamespace(**{k: v for k, v in known.items() if isinstance(v, types.FunctionType)})


SNOW = cell_loops(next(p for p in PLANS if p.process is cemaneige.CEMANEIGE))
ROUTING = {plan.process.name: reach_loops(plan, LINKS) for plan in REACH_PLANS}
MUSKINGUM, RESERVOIRS = ROUTING["muskingum"], ROUTING["reservoirs"]
GIVEN = tuple((flow_loops(plan, LINKS).route, "uncounted") for plan in REACH_PLANS)
ON_ROWS = (
    "narrow", "route_range", "prepare_group", "keep_rows", "feed_eight", "take_again",
    "route_eight", "route_eight_means",
)
"""Loops that go over rows that others have made, of processes that have them."""
TILES = tuple(
    (getattr(cell_loops(plan), f"advance_{narrow}{plan.process.name}_tile"), "uncounted")
    for plan in PLANS for narrow in ("", "narrow_")
)
STEP_AND_ROW = """
def step(v, a):
    return v * {factor} + a

def row(values, a):
    for i in range(values.size):
        values[i] = step(values[i], a)

def other(values):
    for i in range(values.size):
        values[i] += 1.0
"""


# ---- call graph --------------------------------------------------------------------------------------------


def test_callees_come_before_callers_and_everything_once():
    assert len(set(KERNELS)) == len(KERNELS) > 100
    place = {digest(f): k for k, f in enumerate(KERNELS)}
    assert all(place[digest(called)] < place[digest(f)] for f in KERNELS for called in callees(f))
    names = [f.__name__ for f in call_graph(SNOW.advance)]
    assert names[-1] == "advance_cemaneige"
    assert {"advance_cemaneige_tile", "cemaneige_snow_row", "snow_step", "solid_fraction"} <= set(names)
    assert "production_step_inverse" not in names


def test_an_attribute_of_the_name_of_a_function_is_no_callee():
    f = made("def slot(v):\n    return v\ndef last(network):\n    return network.slot\n")
    assert call_graph(f.last) == (f.last,)


def test_code_inside_a_function_counts():
    f = made("def step(v):\n    return 2.0 * v\ndef total(values):\n    return sum([step(v) for v in values])\n")
    assert callees(f.total) == [f.step]
    inside = made("def total(values):\n    return sum([0.1 * v for v in values])\n").total
    constants = [c for code in graph._codes(retyped(inside, np.float32, {}).__code__) for c in code.co_consts]
    assert [type(c) for c in constants if isinstance(c, float | np.floating)] == [np.float32]


def test_functions_from_a_text_run_with_their_own_callees(monkeypatch):
    """Two rows of one name that call two steps of one name: neither gets the other's."""
    one, two = made(STEP_AND_ROW.format(factor="2.0")), made(STEP_AND_ROW.format(factor="3.0"))
    for f, expected in ((one, 7.0), (two, 10.0), (one, 7.0)):
        for dtype in (np.float64, np.float32):
            values = np.full(3, 3.0, dtype)
            compiled(f.row, dtype)(values, dtype(1))
            assert values.tolist() == [expected] * 3 and values.dtype == dtype


@pytest.mark.parametrize(("names", "source", "message"), [
    ({"HALF": 0.5}, "HALF * v", r"f \(<template>:1\) uses 'HALF', a float .* literal"),
    ({"WEIGHTS": np.ones(2)}, "WEIGHTS[0] * v", "uses 'WEIGHTS', a ndarray"),
    ({"PAIR": (0.1, 0.2)}, "PAIR[0] * v", "uses 'PAIR', a tuple"),
    ({"single": np.float32}, "single(v)", "uses 'single', a type"),
    ({"sqrt": np.sqrt}, "sqrt(v)", "uses 'sqrt', a ufunc .* math.sqrt"),
    ({"os": __import__("os")}, "os.getpid() * v", "uses 'os', a module"),
    ({}, "unknown(v)", "uses 'unknown', which its module does not define"),
])
def test_what_a_kernel_cannot_use_is_refused(names, source, message):
    f = made(f"def f(v):\n    return {source}\n", **names).f
    with pytest.raises((TypeError, NameError), match=message):
        compiled(f)


def test_what_a_kernel_can_use():
    f = made(
        "def f(v):\n    return (v * N if NONE is None else v) + real(np.int32(1)) + int32(2)\n", N=3, NONE=None,
        int32=np.int32,
    ).f
    assert compiled(f, np.float32)(np.float32(2)) == 9


def test_values_of_the_place_of_definition_are_refused():
    factor = 2.0
    with pytest.raises(TypeError, match="takes factor from where it is defined"):
        compiled(lambda v: factor * v)
    with pytest.raises(TypeError, match="takes a default value"):
        compiled(made("def f(v, a=1.0):\n    return v\n").f)
    with pytest.raises(TypeError, match="expected a plain Python function"):
        compiled(np.sin)


def test_a_circle_is_refused():
    f = made("def f(v):\n    return g(v)\ndef g(v):\n    return f(v)\n").f
    with pytest.raises(TypeError, match=r"comes to call itself, through f, g\. Write a loop"):
        compiled(f)


def test_many_threads_get_one_and_the_same():
    f, found = made(STEP_AND_ROW.format(factor="1.0")), []
    threads = [threading.Thread(target=lambda: found.append((compiled(f.row), callee(f.step)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


# ---- kinds and marks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "scalar"), [
    ("return v * 2.0 if v > 0.0 else v", True),
    ("a, b = v, 2.0\n    return a * b", True),
    ("if v > 0.0:\n        return v\n    return 0.0", True),
    ("return step(v)[1]", True),
    ("return v[k]", False),
    ("return v[1:]", False),
    ("return v[0, 1]", False),
    ("v[0] = 1.0", False),
    ("for i in range(3):\n        v += 1.0\n    return v", False),
    ("while v > 0.0:\n        v -= 1.0\n    return v", False),
    ("while v is not None:\n        v = w\n    return v", False),
    ("return sum([w for w in range(3)])", False),
    ("return loop(v)", False),
])
def test_kind_of_code(source, scalar):
    f = made(
        "def step(v):\n    return v, v\ndef loop(v):\n    for i in range(3):\n        v += 1.0\n    return v\n"
        f"def f(v, k, w):\n    {source}\n"
    ).f
    assert is_scalar(f) is scalar


def test_kinds_of_ours():
    for function in (gr4j.production_step, cemaneige.snow_hysteresis_step, queues.four_inflows, rows.in_fours):
        assert is_scalar(function)
    for function in (
        rows.copy_row, SNOW.advance_cemaneige_tile, SNOW.cemaneige_snow_row, SNOW.advance, routing.gather_upstream,
    ):
        assert not is_scalar(function)
    assert launch.options(gr4j.production_step) == {"error_model": "numpy", "nogil": True, "forceinline": True}
    assert launch.options(rows.copy_row) == {"error_model": "numpy", "nogil": True, "_nrt": False}
    assert launch.options(rows.tile_rows) == {"error_model": "numpy", "nogil": True}


def test_marks_stand_at_the_function_and_change_nothing_else():
    marked = {digest(f): marks_of(f) for f in KERNELS if marks_of(f)}
    whole = [f for f in KERNELS if "whole_arrays" in marks_of(f)]
    assert whole and all(f.__name__.startswith("fill_") and not callees(f)[1:] for f in whole)
    marked = {key: marks for key, marks in marked.items() if key not in map(digest, whole)}
    assert marked == {digest(f): (mark,) for f, mark in (
        *((made.reverse_reach, "free_sums") for made in ROUTING.values() if hasattr(made, "reverse_reach")),
        (routing.sum_sub_steps, "free_sums"), (routing.gather_upstream, "uncounted"),
        *((getattr(made, name), "uncounted") for made in ROUTING.values() for name in ON_ROWS if hasattr(made, name)),
        *GIVEN, *TILES, (pet_network.fill_factor_tile, "uncounted"), (pet_network.fill_shallow_tile, "uncounted"),
        (lstm.fill_lstm_tile, "uncounted"),
        *((getattr(pet_network_adjoint, name), "free_sums") for name in ("sum_row", "sum_products", "sum_inputs")),
    )}

    def plain(v):
        return v

    assert free_sums(uncounted(plain)) is plain and marks_of(plain) == ("free_sums", "uncounted")
    assert launch.options(RESERVOIRS.reverse_reach)["fastmath"] == {"reassoc"}
    assert not marked.keys() & set(map(digest, SCALARS))


def test_functions_of_one_process_are_made_once_more_and_are_the_same():
    """Two operators of a process share what is compiled and kept on disk."""
    again = cell_loops(CellPlan(cemaneige.CEMANEIGE))
    assert again.advance is not SNOW.advance and digest(again.advance) == digest(SNOW.advance)
    assert digest(MUSKINGUM.route) != digest(RESERVOIRS.route)
    assert digest(MUSKINGUM.collect) == digest(RESERVOIRS.collect)
    assert set(map(digest, GENERATED)) <= set(map(digest, KERNELS))


@compiled_only
def test_an_unknown_option_of_numba_is_left_out(monkeypatch):
    assert launch.options(MUSKINGUM.route_range)["_nrt"] is False
    monkeypatch.setattr(launch, "DefaultOptions", object)
    assert "_nrt" not in launch.options(MUSKINGUM.route_range)


# ---- digest ------------------------------------------------------------------------------------------------


def test_an_edit_of_a_callee_changes_its_callers_only():
    before, after = (made(STEP_AND_ROW.format(factor=factor)) for factor in ("2.0", "2.5"))
    assert digest(before.step) != digest(after.step) and digest(before.row) != digest(after.row)
    assert digest(before.other) == digest(after.other)


@pytest.mark.parametrize("edit", [
    ("a * 2.0", "a * 2"), ("a * 2.0", "a / 2.0"), ("a * 2.0", "b * 2.0"), ("a * 2.0", "np.abs(a) * 2.0"),
    ("a * 2.0", "(lambda v: v + 1.0)(a)"), ("a * 2.0", "a * -0.0"), ("a * 2.0", "a * 0.0"), ("a * 2.0", "a * N"),
    ("f(a, b)", "f(b, a)"), ("f(a, b)", "f(a, b, *c)"), ("def", "@free_sums\ndef"), ("def", "@uncounted\ndef"),
    ("a * 2.0", "Pair(a, a)[0]"),
])
def test_every_edit_of_the_code_is_seen(edit):
    from collections import namedtuple

    names = {"N": 3, "free_sums": free_sums, "uncounted": uncounted, "Pair": namedtuple("Pair", "p q")}
    source = "def f(a, b):\n    return a * 2.0\n"
    assert digest(made(source, **names).f) != digest(made(source.replace(*edit), **names).f)


def test_names_behind_the_code_are_seen():
    from collections import namedtuple

    source = "def f(a):\n    return Pair(a, a * N)\n"
    found = {
        digest(made(source, N=n, Pair=namedtuple("Pair", fields)).f)
        for n, fields in ((1, "p q"), (2, "p q"), (1, "q p"), (1, "p q"))
    }
    assert len(found) == 3


def test_words_and_lines_are_not_seen():
    assert digest(made('def f(a):\n    """One."""\n    return a\n').f) == digest(
        made('# longer\n\n\ndef f(a):\n    """Another."""\n\n    return a\n').f
    )


def test_running_a_function_does_not_change_its_digest():
    """The interpreter rewrites byte code that it runs often."""
    source = "def f(a):\n    for i in range(9):\n        a = a * 2.0 + np.abs(a)\n    return a\n"
    used, fresh = made(source).f, made(source).f
    for k in range(1000):
        used(0.5 * k)
    assert digest(used) == digest(fresh)


def test_digests_are_those_of_any_process():
    """Nor addresses nor the order of sets, which the seed of hashes changes, nor the order of compiling."""
    script = (
        "from kernels.every_kernel import KERNELS\nfrom bmi_cdlm.kernels.graph import digest\n"
        "print(*(digest(f) for f in reversed(KERNELS)))"
    )
    expected = [digest(f) for f in reversed(KERNELS)]
    for seed in ("1", "2"):
        path = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(path), "PATH": ""},
        )
        assert run.stdout.split() == expected
    assert len(set(expected)) == len(expected)


# ---- linking -----------------------------------------------------------------------------------------------


def test_literals_take_the_precision_and_names_what_stands_for_them():
    f = made("def f(v):\n    return fma(v, 0.1, real(2)), np.float64(3), (0.5, 1), 'word', 4\n").f
    linker = Linker(np.float32, lambda function, plain: plain, {fused.fma: lambda a, b, c: ("fma", b, c)})
    (name, tenth, two), three, (half, one), word, four = linker(f)(np.float32(1))
    assert name == "fma" and type(tenth) is type(two) is type(half) is np.float32
    assert type(three) is np.float64 and type(one) is type(four) is int and word == "word"
    assert linker(f) is linker(f)
    assert set(uses(f)) == {"fma", "real", "np"}


@compiled_only
def test_a_pair_of_literals_is_compiled_in_the_precision():
    f = made("def f(v):\n    a, b = 0.5, 0.25\n    return v * a + b\n").f
    found = compiled(f, np.float32)
    assert found(np.float32(1)) == 0.75
    [overload] = found.overloads.values()
    assert str(overload.signature.return_type) == "float32"


@compiled_only
def test_symbols_of_machine_code_tell_functions_of_one_name_apart():
    one, two = made(STEP_AND_ROW.format(factor="2.0")), made(STEP_AND_ROW.format(factor="3.0"))
    names = {callee(f.step, dtype).py_func.__qualname__ for f in (one, two) for dtype in (np.float64, np.float32)}
    assert len(names) == 4
    again = made(STEP_AND_ROW.format(factor="2.0"))
    assert callee(again.step).py_func.__qualname__ == callee(one.step).py_func.__qualname__
