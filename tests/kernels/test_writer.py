"""Derived adjoints as they are written: plain functions that read as if by hand, and rows that become vectors."""

from __future__ import annotations

import builtins
import inspect
import os
import re
import subprocess
import sys
import traceback

import numpy as np
import pytest
from kernels.adjoint_cases import STEPS, adjoint_and_slopes, derived, from_text
from kernels.test_adjoint_steps import PAIRS
from numba import config, njit, typeof

from bmi_cdlm.kernels import dialect
from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.launch import callee
from bmi_cdlm.processes import cemaneige, gr4j, muskingum

DTYPES = [np.float64, np.float32]
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="needs the compiler")
FIVE = {
    "production": (gr4j.production_step_inverse, ("S", "P", "X1", "inverse_1"), (0, 5), {6: "n"}),
    "routing store": (gr4j.routing_store_step_inverse, ("R", "Q9", "Q1", "X2", "inverse_3"), (0, 1), {}),
    "snow": (cemaneige.snow_step, ("G", "eTG", "P", "T", "CTG", "Kf"), (0, 1, 2), {}),
    "hysteresis": (cemaneige.snow_hysteresis_step, ("G", "eTG", "peak", "cover", "P", "T"), (0, 1, 2, 3, 4), {}),
    "muskingum": (muskingum.muskingum_step, ("y", "inflow", "direct", "gain", "keep"), (0, 1), {}),
}


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
