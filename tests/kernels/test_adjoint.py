"""Adjoints that are derived from the source of a step, against dual numbers and those by hand; of any step at all."""

from __future__ import annotations

import inspect
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from kernels.adjoint_cases import STEPS, adjoint_and_slopes, derived, from_text
from kernels.dual import jacobian
from kernels.test_adjoint_steps import N_RANDOM, PAIRS, TOLERANCE, dot_error
from process_cases import hbv_response_step, hbv_snow_step, hbv_soil_step

from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.names.errors import DialectError


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
    exact = jacobian(step, arguments, tuple(arguments))
    assume(np.isfinite(exact).all() and np.abs(exact).max() < 1e6)
    assume(np.abs(step(**arguments)).max() < 1e6)
    found, expected = adjoint_and_slopes(step, arguments, {0: v[0], 1: v[1]})
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(exact).max()), err_msg=text)
