"""What is outside the dialect of steps is refused, with the line and what to write instead."""

from __future__ import annotations

import inspect
import linecache
import math
import re

import numpy as np
import pytest
from kernels.adjoint_cases import from_text

from bmi_cdlm.kernels import dialect
from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.names.errors import DialectError
from bmi_cdlm.processes import gr4j

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
