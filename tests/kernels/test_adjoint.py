"""Adjoints that are derived from the source of a step: against dual numbers, by hand, and what is refused."""

from __future__ import annotations

import builtins
import inspect
import linecache
import math
import os
import re
import subprocess
import sys
import traceback
import types
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from kernels.dual import Dual, DualMath, tangent_of
from kernels.dual import exp as dual_exp
from kernels.dual import fma as dual_fma
from kernels.dual import log as dual_log
from kernels.dual import power_and_log as dual_power
from kernels.dual import tanh as dual_tanh
from kernels.test_adjoint_steps import N_RANDOM, PAIRS, TOLERANCE, Pair, dot_error
from numba import config, njit, typeof
from process_cases import hbv_response_step, hbv_snow_step, hbv_soil_step

from bmi_cdlm.kernels import dialect, elementary, transcendental
from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.elementary import percolated_fraction, tanh_ratio
from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.launch import callee
from bmi_cdlm.kernels.rules import RULES, Rule, adjoint_of
from bmi_cdlm.names.errors import DialectError
from bmi_cdlm.processes import cemaneige, gr4j, muskingum, pet_network

DTYPES = [np.float64, np.float32]
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="needs the compiler")
OUTSIDE = {"s_curve_1", "s_curve_2", "muskingum_coefficients"}
"""What is calculated once per parameter, not once per step, and has early returns and powers of its own."""
STEPS = [name for name in PAIRS if name not in OUTSIDE]


def derived(name: str) -> Pair:
    """A pair of the adjoints by hand, with the one that is derived in its place."""
    pair = PAIRS[name]
    seeds = {place: f"seed_{k}" for k, place in enumerate(pair.outputs)}
    adjoint = derive(pair.forward, pair.active, seeds)
    reads = tuple(inspect.signature(adjoint).parameters)[: -len(seeds)]
    return pair._replace(adjoint=adjoint, keeps=reads)


@pytest.mark.parametrize("name", STEPS)
def test_dot_at_random(name, record_property):
    pair, rng = derived(name), np.random.default_rng(len(name))
    worst = max(dot_error(pair, pair.draw(rng), rng) for _ in range(N_RANDOM))
    record_property("dot_error", float(worst))
    assert worst <= TOLERANCE


@pytest.mark.parametrize("name", STEPS)
def test_dot_at_edges(name):
    pair = derived(name)
    for k, edge in enumerate(pair.edges):
        assert dot_error(pair, edge, np.random.default_rng(k)) <= TOLERANCE, edge


@pytest.mark.parametrize("name", STEPS)
def test_what_is_derived_is_what_is_by_hand(name):
    pair, by_hand, rng = derived(name), PAIRS[name], np.random.default_rng(4)
    for arguments in (*pair.edges, *(pair.draw(rng) for _ in range(N_RANDOM))):
        v = rng.normal(size=len(pair.outputs))
        found = np.atleast_1d(pair.adjoint(*(arguments[a] for a in pair.keeps), *v))
        expected = np.atleast_1d(by_hand.adjoint(*(arguments[a] for a in by_hand.keeps), *v))
        u = np.array([abs(arguments[a]) or 1.0 for a in pair.active])
        # An input's share of what all come to: what cancels is known no better by either.
        scale = max(np.abs(expected * u).max(), pair.floor * u.max() * np.abs(v).max())
        np.testing.assert_allclose(found * u, expected * u, rtol=1e-10, atol=1e-10 * scale, err_msg=str(arguments))


@pytest.mark.parametrize("name", STEPS)
def test_a_slightly_wrong_rule_or_seed_is_seen(name):
    pair, rng = derived(name), np.random.default_rng(1)
    wrong = pair._replace(adjoint=lambda *a: tuple(1.000001 * r for r in np.atleast_1d(pair.adjoint(*a))))
    assert max(dot_error(wrong, pair.draw(rng), rng) for _ in range(100)) > 1e-8


FIVE = {
    "production": (gr4j.production_step_inverse, ("S", "P", "X1", "inverse_1"), (0, 5), {6: "n"}),
    "routing store": (gr4j.routing_store_step_inverse, ("R", "Q9", "Q1", "X2", "inverse_3"), (0, 1), {}),
    "snow": (cemaneige.snow_step, ("G", "eTG", "P", "T", "CTG", "Kf"), (0, 1, 2), {}),
    "hysteresis": (cemaneige.snow_hysteresis_step, ("G", "eTG", "peak", "cover", "P", "T"), (0, 1, 2, 3, 4), {}),
    "muskingum": (muskingum.muskingum_step, ("y", "inflow", "direct", "gain", "keep"), (0, 1), {}),
}


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FIVE)
def test_rows_of_what_is_derived_are_vectorised_and_of_one_precision(name, dtype):
    step, active, outputs, kept = FIVE[name]
    function = derive(step, active, {k: f"adj_{k}" for k in outputs}, kept=kept, name="derived")
    arguments = list(inspect.signature(function).parameters)
    out = [f"out_{k}" for k in range(len(active))]
    text = (
        f"def row({', '.join((*arguments, *out))}):\n    for i in range({arguments[0]}.size):\n        "
        f"{', '.join(f'{o}[i]' for o in out)} = derived({', '.join(f'{a}[i]' for a in arguments)})\n"
    )
    scalar = callee(function, dtype)
    scope = {"derived": scalar, "__name__": "bmi_cdlm.kernels.launch", "__builtins__": builtins}
    exec(text, scope)
    row = njit(error_model="numpy", nogil=True)(scope["row"])
    arrays = [np.full(64, 0.5, dtype) for _ in (*arguments, *out)]
    row(*arrays)
    code = row.inspect_llvm(tuple(map(typeof, arrays)))
    word = {np.float64: "double", np.float32: "float"}[dtype]
    assert re.search(rf"(fmul|fadd|@llvm\.fma\S*\() ?<\d+ x {word}>", code), "scalar code"
    if dtype is np.float32:
        assert not re.search(r"(fmul|fadd|fdiv|fsub) [^\n]*double", code)
    exact = function(*(0.5 for _ in arguments))
    np.testing.assert_allclose([a[0] for a in arrays[len(arguments):]], exact, rtol=1e-5 if word == "float" else 1e-13)


# HBV in three stages, as another process would have it


def on_duals(function: Callable) -> Callable:
    """A function, and all that it calls, to run on dual numbers."""
    special = {"math": DualMath, "fma": dual_fma, "real": float, "power_and_log": dual_power, "exp": dual_exp,
               "log": dual_log,
               "tanh": dual_tanh}
    names = function.__globals__ | special
    for name in function.__code__.co_names:
        if inspect.isfunction(names.get(name)) and name not in special:
            names[name] = on_duals(names[name])
    return types.FunctionType(function.__code__, names)


def slopes(function: Callable, arguments: dict[str, float], active: tuple[str, ...]) -> np.ndarray:
    """Exact derivatives, float64[output, active argument]."""
    unit = dict(zip(active, np.eye(len(active)), strict=True))
    found = on_duals(function)(**{n: Dual(v, unit[n]) if n in unit else v for n, v in arguments.items()})
    found = found if isinstance(found, tuple) else (found,)
    return np.array([np.broadcast_to(tangent_of(f), len(active)) for f in found], np.float64)


def adjoint_and_slopes(function: Callable, arguments: dict[str, float], seeds: dict[int, float]):
    """What is derived and what dual numbers say, for every argument; both float64[argument]."""
    active = tuple(arguments)
    adjoint = derive(function, active, {place: f"seed_{place}" for place in seeds})
    values = arguments | {f"seed_{place}": v for place, v in seeds.items()}
    found = adjoint(*(values[name] for name in inspect.signature(adjoint).parameters))
    exact = slopes(function, arguments, active)
    return np.atleast_1d(found), sum(v * exact[place] for place, v in seeds.items())


HBV = {
    hbv_snow_step: {
        "pack": (0, 60), "liquid": (0, 5), "P": (0, 12), "T": (-5, 9), "TT": (-1, 1), "CFMAX": (1, 8), "CFR": (0, 0.1),
        "CWH": (0, 0.2),
    },
    hbv_soil_step: {
        "soil": (50, 90), "lower": (0, 50), "water": (0, 9), "E": (0, 6), "FC": (60, 800), "BETA": (1, 5),
        "LP": (0.3, 1), "BETAET": (0.5, 3), "C": (0, 0.5),
    },
    hbv_response_step: {
        "upper": (0, 30), "lower": (0, 50), "recharge": (0, 5), "PERC": (0, 6), "UZL": (5, 80), "K0": (0.1, 0.8),
        "K1": (0.02, 0.4), "K2": (0.002, 0.15),
    },
}


@pytest.mark.parametrize("step", HBV, ids=lambda f: f.__name__)
def test_hbv_in_stages(step):
    rng = np.random.default_rng(2)
    for k in range(40):
        arguments = {a: rng.uniform(*limits) for a, limits in HBV[step].items()}
        if k < len(arguments):
            first = list(arguments)[k]
            arguments[first] = HBV[step][first][0]  # empty stores, no rain, a rate of 0
        found, exact = adjoint_and_slopes(step, arguments, {0: 0.7, 1: -0.4, 2: 1.3, 3: 0.2, 4: -1.1})
        size = np.array([abs(v) or 1.0 for v in arguments.values()])
        np.testing.assert_allclose(found * size, exact * size, rtol=1e-10, atol=1e-12 * np.abs(exact * size).max())


def test_an_empty_store_warns_of_nothing():
    """Its power is 0 and the logarithm infinite, also for numpy's numbers, which interpreted kernels are given."""
    arguments = {a: np.float64(sum(limits) / 2) for a, limits in HBV[hbv_soil_step].items()}
    arguments |= {"soil": np.float64(0.0), "water": np.float64(0.0)}
    active = tuple(arguments)
    adjoint = derive(hbv_soil_step, active, {0: "a", 2: "b", 3: "c"})
    found = adjoint(*(arguments.get(n, np.float64(1.0)) for n in inspect.signature(adjoint).parameters))
    assert np.isfinite(found).all() and found[active.index("BETA")] == 0.0


def test_rules_of_the_transcendental_functions():
    text = "def step(x, b):\n    return power(x, b) + exp(x) * log(x + b) - tanh(x * b)\n"
    names = {n: getattr(transcendental, n) for n in ("power", "exp", "log", "tanh")}
    x, b = 0.8, 1.7
    found = derive(from_text(text, **names), ("x", "b"), {0: "y_adj"})(x, b, 1.0)
    sech = 1.0 - math.tanh(x * b) ** 2
    expected = (
        b * x ** (b - 1) + math.exp(x) * (math.log(x + b) + 1 / (x + b)) - b * sech,
        x**b * math.log(x) + math.exp(x) / (x + b) - x * sech,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# Kinks, guards, rules


def from_text(text: str, **names: object) -> types.FunctionType:
    """A function whose source is this text."""
    file = f"<text {abs(hash(text))}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope = {"math": math, "fma": fma, "tanh_ratio": tanh_ratio, "percolated_fraction": percolated_fraction, **names}
    exec(compile(text, file, "exec"), scope)
    return scope["step"]


@pytest.mark.parametrize(("expression", "x", "y", "slope"), [
    ("min(x, y)", 1.0, 1.0, 1.0), ("min(y, x)", 1.0, 1.0, 0.0), ("max(x, y)", 1.0, 1.0, 1.0),
    ("max(y, x)", 1.0, 1.0, 0.0), ("abs(x)", 0.0, 0.0, 1.0), ("abs(x)", -2.0, 0.0, -1.0),
    ("math.sqrt(x)", 0.0, 0.0, 0.0), ("x * x * x * math.sqrt(x)", 0.0, 0.0, 0.0), ("math.sqrt(x)", 4.0, 0.0, 0.25),
    ("x if x > y else 2.0 * y", 1.0, 1.0, 0.0), ("x if x >= y else 2.0 * y", 1.0, 1.0, 1.0),
    ("y / x if x > 0.0 else 0.0", 0.0, 3.0, 0.0), ("y / x if x > 0.0 else 0.0", 2.0, 3.0, -0.75),
    ("y / x if x > 0.0 else x", 0.0, 3.0, 1.0), ("math.sqrt(x) if x > 0.0 else y", -4.0, 3.0, 0.0),
    ("math.sqrt(x - y) / (x - y) if x > y else x", 1.0, 1.0, 1.0),
    ("x if y > 0.0 and x / y > 1.0 else 2.0 * x", 1.0, 0.0, 2.0),
    ("x if y == 0.0 or x / y > 1.0 else 2.0 * x", 1.0, 0.0, 1.0),
    ("x if 0.0 < y < x / y else 2.0 * x", 1.0, 0.0, 2.0), ("x if not x > y else y", 1.0, 2.0, 1.0),
    ("(y / (x - 1.0) if x > 1.0 else x / y) if y > 0.0 else 3.0 * x", 1.0, 0.0, 3.0),
    ("percolated_fraction(x)", 0.0, 0.0, 0.25), ("x ** 2", 3.0, 0.0, 6.0), ("x ** 3", 2.0, 0.0, 12.0),
    ("x ** 4", 2.0, 0.0, 32.0), ("x ** 5", 2.0, 0.0, 80.0), ("fma(x, x, y)", 3.0, 1.0, 6.0), ("-x", 1.0, 0.0, -1.0),
    ("1.0 / x", 2.0, 0.0, -0.25), ("x / x", 2.0, 0.0, 0.0), ("y", 1.0, 1.0, 0.0), ("2.0", 1.0, 1.0, 0.0),
    ("x", 1.0, 1.0, 1.0), ("min(x, y, 2.0 * x)", 1.0, 5.0, 1.0), ("3.0 * (x / 2.0)", 1.0, 0.0, 1.5),
])
def test_the_branch_that_is_taken(expression, x, y, slope):
    step = from_text(f"def step(x, y):\n    return {expression}\n")
    step(x, y)  # is fine itself
    adjoint = derive(step, ("x",), {0: "out_adj"})
    values = {"x": x, "y": y, "out_adj": 1.0}
    found = adjoint(*(values[a] for a in inspect.signature(adjoint).parameters))
    assert found == pytest.approx(slope, rel=1e-15), inspect.getsource(adjoint)


def test_rules_are_what_their_functions_do():
    for w in (0.0, 0.3, 5.0, 13.0):
        n, d = tanh_ratio(w)
        assert d == n + 2.0, "what the rule says of d"
    for a in (1e-9, 0.004, (4 / 9) ** 4):
        slope = elementary.percolated_fraction_adjoint(percolated_fraction(a), 1.0)
        assert slope == pytest.approx(elementary.percolated_slope(a) / (4.0 * a), rel=1e-14)
    for a in (0.0, 1e-9, 1.0, 1e6):
        assert elementary.store_outflow_fraction_adjoint(a, 1.0) == pytest.approx(0.25 * (1 + a) ** -1.25, rel=1e-14)


@pytest.mark.parametrize("z", [-40.0, -26.0, -3.0, -0.1, 0.0, 0.7, 8.0, 20.0, 26.0])
def test_the_limited_sigmoid(z):
    arguments = {"z": z, "low": 0.5, "high": 3.0}
    by_rule = derive(from_text("def step(z, low, high):\n    return limited_sigmoid(z, low, high)\n",
                               limited_sigmoid=pet_network.limited_sigmoid), tuple(arguments), {0: "y_adj"})
    found, exact = adjoint_and_slopes(pet_network.limited_sigmoid, arguments, {0: 1.0})
    assert "limited_sigmoid" not in by_rule.__globals__, "its value is not needed"
    # Beyond |z| = 15 it is the rule that is exact: 1 - t cancels in the others.
    rtol = 1e-4 if abs(z) > 15 else 1e-11
    np.testing.assert_allclose(by_rule(**arguments, y_adj=1.0), exact, rtol=rtol)
    np.testing.assert_allclose(found, exact, rtol=rtol)
    if abs(z) <= 26:
        slope = 2.5 / ((1.0 + math.exp(-z)) * (1.0 + math.exp(z)))
        assert by_rule(**arguments, y_adj=1.0)[0] == pytest.approx(slope, rel=1e-13)


def test_an_adjoint_of_another_package(monkeypatch):
    """A function outside the dialect is called once its adjoint is known, by names, all of its results included."""
    def table(x, k):
        found = [x * x, x * k][int(k)]
        return found, found + 1.0

    label = f"{table.__module__}.{table.__qualname__}"
    step = from_text("def step(x, k):\n    a, b = table(x, k)\n    return a * b\n", table=table)
    with pytest.raises(DialectError, match=r"a list: write the numbers as literals|a subscript"):
        derive(step, ("x",), {0: "out_adj"})
    monkeypatch.setitem(RULES, label, None)

    @adjoint_of(table, "a", "b", of=("x",))
    def table_adjoint(x, a_adj, b_adj):
        return 2.0 * x * (a_adj + b_adj)

    assert RULES[label] == Rule(("a", "b"), table_adjoint, ("x",))
    adjoint = derive(step, ("x", "k"), {0: "out_adj"})
    assert adjoint(3.0, 0.0, 1.0) == (6.0 * (9.0 + 10.0), 0.0)
    assert adjoint.__globals__["table"] is table
    followed = Rule(("a", "b = a + 1.0"), from_text("def step(x, a_adj):\n    return 2.0 * x * a_adj\n"), ("x",))
    monkeypatch.setitem(RULES, label, followed)
    assert derive(step, ("x",), {0: "out_adj"})(3.0, 0.0, 1.0) == 6.0 * (9.0 + 10.0)
    kept = derive(step, ("x",), {0: "out_adj"}, kept={0: "y"})
    assert tuple(inspect.signature(kept).parameters) == ("x", "k", "y", "out_adj")


def test_a_rule_that_does_not_fit(monkeypatch):
    def table(x, k):
        return x * k

    label = f"{table.__module__}.{table.__qualname__}"
    step = from_text("def step(x, k):\n    return table(x, k)\n", table=table)
    slope = from_text("def step(x, y_adj):\n    return x * y_adj\n")
    for rule, message in [
        (Rule(("y",), slope), "returns 1 values for the arguments x and k; name those"),
        (Rule(("y",), slope, ("z",)), "for the arguments z"),
        (Rule(("y",), "gone"), "names gone: write that beside it"),
        (Rule(("z",), slope, ("x",)), "y_adj is none of x, k, z, z_adj, which its rule knows"),
    ]:
        monkeypatch.setitem(RULES, label, rule)
        with pytest.raises(DialectError, match=re.escape(message)):
            derive(step, ("x",), {0: "y_adj"})


def test_two_functions_of_one_name():
    text = "def step(x, y):\n    return inner(x, y) * tanh_ratio(x)\n"
    inner = from_text("def step(a, b):\n    n, d = tanh_ratio(a)\n    return n / d * b\n")
    other = from_text("def step(a):\n    return 2.0 * a\n")
    step = from_text(text, inner=inner, tanh_ratio=other)  # read, so that there is no doubt
    assert derive(step, ("y",), {0: "out_adj"})(0.5, 1.0) == pytest.approx(math.tanh(0.5))
    text = "def step(x, tanh_ratio):\n    return inner(x, tanh_ratio) * tanh_ratio\n"
    clash = from_text(text, inner=inner)
    with pytest.raises(DialectError, match="tanh_ratio is an argument of step_adjoint and a function that it calls"):
        derive(clash, ("x", "tanh_ratio"), {0: "out_adj"})


# What is written


def test_it_takes_what_it_reads():
    def names(*arguments, **more):
        return tuple(inspect.signature(derive(*arguments, **more)).parameters)

    assert names(muskingum.muskingum_step, ("gain",), {1: "y_adj"}) == ("inflow", "y_adj")
    assert names(muskingum.muskingum_step, ("gain",), {0: "O_adj"}) == ("O_adj",)
    assert names(cemaneige.thermal_state_step, ("eTG",), {0: "g"}, kept={}) == ("eTG", "T", "CTG", "g")
    kept = derive(gr4j.production_step_inverse, ("S", "P"), {0: "S_adj", 5: "Pr_adj"}, kept={6: "n"})
    assert tuple(inspect.signature(kept).parameters)[-3:] == ("n", "S_adj", "Pr_adj")
    assert set(kept.__globals__) == {"percolated_fraction", "__builtins__", "__name__"}, "n is not calculated again"
    arguments = PAIRS["production_step"].edges[0]
    inverse = arguments | {"inverse_1": 1.0 / arguments["X1"]}
    n = gr4j.production_step_inverse(**inverse)[6]
    whole = derive(gr4j.production_step_inverse, ("S", "P"), {0: "S_adj", 5: "Pr_adj"})
    assert "tanh_ratio" in whole.__globals__
    values = inverse | {"n": n, "S_adj": 0.3, "Pr_adj": 0.9}
    first, second = (f(*(values[a] for a in inspect.signature(f).parameters)) for f in (kept, whole))
    assert first == second


def test_kept_results_of_other_kinds():
    step = from_text("def step(x, y):\n    z = x * y\n    w = z if z > 1.0 else 1.0\n    return w * w, w, x, 2.0\n")
    adjoint = derive(step, ("x", "y"), {0: "a_adj"}, kept={1: "w"})
    assert adjoint(2.0, 3.0, 6.0, 1.0) == (36.0, 24.0)
    assert adjoint(2.0, 3.0, 5.0, 1.0) == (30.0, 20.0), "w is taken as it is given"
    assert derive(step, ("x",), {0: "a_adj"}, kept={2: "also_x", 3: "two"})(2.0, 3.0, 2.0, 2.0, 1.0) == 36.0


def test_what_is_nothing_is_left_out():
    step = from_text("def step(x, y, z):\n    return x + 0.0 * y, z\n")
    adjoint = derive(step, ("x", "z"), {0: "a_adj"})
    assert adjoint(2.0) == (2.0, 0.0)
    text = inspect.getsource(adjoint)
    assert text.splitlines()[-1] == "    return a_adj, 0.0"
    for name in STEPS:
        text = inspect.getsource(derived(name).adjoint)
        assert not re.search(r"(?<![\d.])(0\.0 [*/]|1\.0 \*)|[*] [01]\.0(?!\d)|[+] 0\.0(?!\d)", text), text


def test_names_do_not_collide():
    step = from_text(
        "def step(x, x_adj, total, product):\n    x_adj = x_adj * x\n    math_ = x_adj * total\n    x = x * x\n"
        "    abs_, min_ = x + product, x * x\n    return math_ * abs_ * min_ * math.sqrt(x_adj)\n"
    )
    arguments = {"x": 2.0, "x_adj": 3.0, "total": 0.5, "product": 0.1}
    found, exact = adjoint_and_slopes(step, arguments, {0: 1.0})
    np.testing.assert_allclose(found, exact, rtol=1e-14)


@pytest.mark.parametrize("name", STEPS)
def test_it_is_a_plain_function_in_the_dialect(name):
    adjoint = derived(name).adjoint
    dialect.check(adjoint)
    assert adjoint.__name__ == f"{name}_adjoint"
    assert max(map(len, inspect.getsource(adjoint).splitlines())) <= 120
    callees = set(adjoint.__globals__) - {"__builtins__", "__name__"}
    assert callees <= set(adjoint.__code__.co_names) and all(n in callees | {"sqrt", "abs", "min", "max"}
                                                              for n in adjoint.__code__.co_names)
    assert not re.search(r"^\s+(if|for|while) ", inspect.getsource(adjoint), re.M)


def test_second_derivatives():
    first = derive(gr4j.routing_store_step, ("R",), {1: "Q_adj"})
    arguments = {"R": 40.0, "Q9": 5.0, "Q1": 0.6, "X2": -1.0, "X3": 90.0, "Q_adj": 1.0}
    second = derive(first, ("R",), {0: "curvature"})
    names = [a for a in inspect.signature(second).parameters if a != "curvature"]
    h = 1e-4
    above, below = (first(**arguments | {"R": 40.0 + d}) for d in (h, -h))
    assert second(*(arguments[a] for a in names), 1.0) == pytest.approx((above - below) / (2 * h), rel=1e-6)


def test_a_traceback_shows_its_line():
    adjoint = derive(from_text("def step(x, y):\n    return x / y\n"), ("x",), {0: "q_adj"})
    with pytest.raises(ZeroDivisionError) as error:
        adjoint(0.0, 1.0)
    assert "q_adj / y" in "".join(traceback.format_exception(error.value))


def test_the_text_is_the_same_in_every_process():
    code = (
        "import inspect\nfrom bmi_cdlm.kernels.adjoint import derive\nfrom bmi_cdlm.processes import cemaneige, gr4j\n"
        "print(inspect.getsource(derive(gr4j.production_step, ('S', 'P', 'E', 'X1'), {0: 'S_adj', 5: 'Pr_adj'})))\n"
        "f = derive(cemaneige.snow_hysteresis_step, ('G', 'peak', 'T'), {0: 'G_adj', 3: 'c_adj', 4: 'l_adj'})\n"
        "print(inspect.getsource(f), f.__code__.co_filename)\n"
    )
    texts = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, check=True,
                       capture_output=True, text=True).stdout
        for seed in ("0", "1")
    }
    assert len(texts) == 1 and "def production_step_adjoint" in texts.pop()


# What is refused

CONSTANT = 0.25
REFUSED = {
    "    if x > 0.0:\n        y = x\n    return y": "an if statement: write `x = a if condition else b`",
    "    if x > 0.0:\n        return x\n    return y": "an if statement",
    "    return x\n    return y": "an early return",
    "    for k in range(3):\n        x = x + 1.0\n    return x": "a loop",
    "    while x > 0.0:\n        x = x - 1.0\n    return x": "a loop",
    "    return x[0]": "a subscript",
    "    x[0] = y\n    return x": "a subscript",
    "    return x.real": "an attribute",
    "    return x ** y": r"use power\(x, b\) from bmi_cdlm.kernels.transcendental",
    "    return x ** 0.5": "use math.sqrt",
    "    return x ** 2.5": r"use power\(x, b\)",
    "    return x ** -1": r"whole exponents from 2 to 16",
    "    return math.exp(x)": "use exp from bmi_cdlm.kernels.transcendental",
    "    return math.tanh(x)": "use tanh from",
    "    return math.log(x)": "use log from",
    "    return math.pow(x, y)": r"use power\(x, b\)",
    "    return pow(x, y)": r"use power\(x, b\)",
    "    return np.sqrt(x)": "use math.sqrt",
    "    return math.cos(x)": "the call of math.cos",
    "    return exp(x)": "use exp from",
    "    return sqrt(x)": "write math.sqrt",
    "    return x * CONSTANT": "CONSTANT is a constant of the module",
    "    return x * 2": "write 2.0",
    "    return x if True else y": "the constant True",
    "    return x + 'a'": "the constant 'a'",
    "    return x * 1e999": "not finite",
    "    return x / 0.0": "division by 0.0",
    "    return unknown(x)": "the call of unknown",
    "    return helper(x, y=y)": "a keyword in helper",
    "    return helper(*x)": r"a \* in helper",
    "    return helper(x)": r"1 arguments for helper\(x, y\)",
    "    return helper(x, y) + 1.0": "2 values of helper",
    "    a, b, c = helper(x, y)\n    return a": "2 values for 3 names",
    "    fma = x\n    return fma(x, y, x)": "fma, which is a number here",
    "    return bad(x)": "<helper>:2: return x if x else 0.0\nbad is outside.*compare it",
    "    return again(x)": "again calls itself",
    "    return tanh_ratio(x, y)": r"2 arguments for tanh_ratio\(w\)",
    "    return fma(x, y)": "2 arguments for fma",
    "    return min(x)": "1 arguments for min: give it 2 or more",
    "    f = lambda x: x\n    return f(x)": "a lambda",
    "    return (lambda a: a)(x)": "the call of",
    "    return {'a': x}": "a dict",
    "    return [x, y]": "a list",
    "    return x if x else y": "a number where a condition is needed",
    "    return x if x + y else y": "a number where a condition is needed",
    "    return (x > y) * x": "a condition where a number is needed",
    "    return x // y": r"of the operators",
    "    return x % y": r"of the operators",
    "    return x if x is y else 0.0": "compare numbers",
    "    return (x, y) if x > y else (y, x)": "several values at once",
    "    return z": "z has no value here",
    "    return helper": "helper is no number",
    "    y = x": "no return at its end",
    "    return": "a return without a value",
    "    x\n    return y": "an expression that nothing is done with",
    "    raise ValueError\n    return x": "a raise",
    "    assert x > 0.0\n    return x": "an assert",
    "    y: float = x\n    return y": "an annotation",
    "    def f(a):\n        return a\n    return f(x)": "a function in a step",
    "    global CONSTANT\n    return x": "a global",
    "    import math\n    return x": "an import",
    "    pass\n    return x": "a pass",
    "    with x:\n        y = x\n    return y": "With: assignments and a return only",
    "    return (z := x) + z": "an assignment in an expression",
    "    return f'{x}'": "a string",
    "    return +x": "numbers and conditions only",
    "    return [a for a in x]": "numbers and conditions only",
}


def helpers() -> dict[str, object]:
    text = "def bad(x):\n    return x if x else 0.0\n"
    linecache.cache["<helper>"] = (len(text), None, text.splitlines(keepends=True), "<helper>")
    scope: dict = {}
    exec(compile(text, "<helper>", "exec"), scope)
    helper = from_text("def step(x, y):\n    return x, y\n")
    again = from_text("def step(x):\n    return again(x)\n")
    again.__globals__["again"] = again
    return {"helper": helper, "bad": scope["bad"], "again": again, "np": np, "CONSTANT": CONSTANT, "sqrt": math.sqrt,
            "exp": math.exp}


@pytest.mark.parametrize("body", REFUSED)
def test_what_is_outside_the_dialect(body):
    step = from_text(f"def step(x, y):\n{body}\n", **helpers())
    with pytest.raises(DialectError, match=f"(?s){REFUSED[body]}") as error:
        dialect.check(step)
    file, number, line = re.match(r"(<.*?>):(\d+): (.*)", str(error.value)).groups()
    source = "".join(linecache.cache[file][2]).splitlines()
    assert source[int(number) - 1].strip() == line
    with pytest.raises(DialectError):
        derive(step, ("x",), {0: "out_adj"})


def test_functions_that_cannot_be_read():
    scope: dict = {}
    exec("def step(x):\n    return x\n", scope)
    with pytest.raises(DialectError, match="step has no Python source to read: write the step in a file"):
        dialect.check(scope["step"])
    with pytest.raises(DialectError, match="sqrt has no Python source"):
        dialect.check(math.sqrt)
    with pytest.raises(DialectError, match="a lambda: write the step with def"):
        dialect.check(lambda x: x)
    for arguments in ("x, y=1.0", "*x", "x, *, y", "x, /", "**x"):
        with pytest.raises(DialectError, match="plain names only"):
            dialect.check(from_text(f"def step({arguments}):\n    return x\n"))
    with pytest.raises(DialectError, match="math is not imported"):
        dialect.check(from_text("def step(x):\n    return math.sqrt(x)\n", math=None))
    with pytest.raises(DialectError, match="fma is not imported"):
        dialect.check(from_text("def step(x):\n    return fma(x, x, x)\n", fma=None))


def test_the_error_names_a_line_of_a_file():
    with pytest.raises(DialectError) as error:
        dialect.check(gr4j.s_curve_2)
    number = inspect.getsourcelines(gr4j.s_curve_2)[1] + 2
    start = f"{gr4j.__file__}:{number}: if k <= X4:\ns_curve_2 is outside the dialect of steps"
    assert str(error.value).startswith(start)


@pytest.mark.parametrize(("active", "seeds", "kept", "message"), [
    (("x", "q"), {0: "a"}, {}, "'q': not one of its arguments"),
    ((), {0: "a"}, {}, "one at least"), (("x",), {}, {}, "without seeds"), (("x", "x"), {0: "a"}, {}, "once"),
    (("x",), {2: "a"}, {}, "returns 2 values, places 0 to 1, none at 2"), (("x",), {-1: "a"}, {}, "none at -1"),
    (("x",), {0: "a"}, {5: "k"}, "none at 5"), (("x",), {0: "x"}, {}, "'x' must be a name that no other"),
    (("x",), {0: "a"}, {1: "a"}, "'a' must be a name"), (("x",), {0: "a b"}, {}, "'a b' must be a name"),
    (("x",), {1: "a"}, {}, "what it returns at 1 is a condition"),
])
def test_what_is_asked_for_must_be_there(active, seeds, kept, message):
    step = from_text("def step(x, y):\n    return x * y, x > y\n")
    with pytest.raises(DialectError, match=re.escape(message)):
        derive(step, active, seeds, kept=kept)


# Any step at all


@st.composite
def steps(draw) -> str:
    """The text of a step of a few lines."""
    names, lines = ["a", "b", "c", "d"], []

    def some() -> str:
        return draw(st.one_of(st.sampled_from(names), st.sampled_from(["0.5", "-1.25", "2.0", "1.0", "0.0"])))

    def expression() -> str:
        x, y, z = some(), some(), some()
        return draw(st.sampled_from([
            f"{x} + {y}", f"{x} - {y} - {z}", f"{x} * {y}", f"-{x}", f"{x} / (1.0 + {y} * {y})",
            f"2.5 / (1.5 + abs({x}))", f"{x} / {y} if {y} > 0.125 else {z}", f"{x} if {y} < {z} else {x} * {y}",
            f"min({x}, {y}, {z})", f"max({x}, {y})", f"fma({x}, {y}, {z})", f"math.sqrt(1.0 + {x} * {x})",
            f"math.sqrt({x}) if {x} > 0.0 else {y}",
            f"{x} ** 2 * {y}" if x.isidentifier() else x, f"{y} * {x} ** 3" if x.isidentifier() else y,
            f"{x} if {y} > 0.0 and {z} / {y} < 1.0 else {z}", f"{x} if -1.0 < {y} <= {z} or not {x} > {y} else -{y}",
            f"blend({x}, {y})", f"{x} / (1.0 + abs({x})) * {y}", f"({x} + {y}) * ({x} + {y}) - {x} * {y}",
        ]))

    for k in range(draw(st.integers(1, 9))):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            lines.append(f"p{k}, q{k} = pair({some()}, {expression()})")
            names += [f"p{k}", f"q{k}"]
        elif kind == 1:
            lines.append(f"{draw(st.sampled_from(names))} {draw(st.sampled_from(['+=', '-=', '*=']))} {expression()}")
        elif kind == 2:
            x, y = draw(st.sampled_from(names)), draw(st.sampled_from(names))
            lines.append(f"{x}, {y} = {y}, {x}")
        else:
            lines.append(f"v{k} = {expression()}")
            names.append(f"v{k}")
    returned = ", ".join([expression(), *draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))])
    return "def step(a, b, c, d):\n" + "".join(f"    {line}\n" for line in (*lines, f"return {returned}"))


BLEND = from_text("def step(x, y):\n    w = x if x > 0.0 else 0.0\n    return w / (1.0 + w) * y\n")
PAIR = from_text("def step(u, v):\n    low = min(u, v)\n    return blend(low, u), low - v\n", blend=BLEND)
for helper_, label_ in ((BLEND, "blend"), (PAIR, "pair")):
    helper_.__name__ = label_
number = st.one_of(st.integers(-3000, 3000).map(lambda k: k / 1000), st.sampled_from([0.0, 1.0, -1.0, 0.5]))


@settings(max_examples=300, deadline=None)
@given(steps(), st.tuples(number, number, number, number), st.tuples(number, number))
def test_any_step(text, values, v):
    step = from_text(text, blend=BLEND, pair=PAIR)
    arguments = dict(zip("abcd", values, strict=True))
    exact = slopes(step, arguments, tuple(arguments))
    assume(np.isfinite(exact).all() and np.abs(exact).max() < 1e6)
    assume(np.abs(step(**arguments)).max() < 1e6)
    found, expected = adjoint_and_slopes(step, arguments, {0: v[0], 1: v[1]})
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(exact).max()), err_msg=text)
