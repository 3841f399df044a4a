"""Functions that are called rather than read: their rules, ours and those of other packages."""

from __future__ import annotations

import inspect
import math
import re

import numpy as np
import pytest
from kernels.adjoint_cases import adjoint_and_slopes, from_text

from bmi_cdlm.kernels import elementary, transcendental
from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.elementary import percolated_fraction, tanh_ratio
from bmi_cdlm.kernels.rules import RULES, Rule, adjoint_of
from bmi_cdlm.names.errors import DialectError
from bmi_cdlm.processes import pet_network


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
