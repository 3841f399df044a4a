"""Names in an adjoint that is written: two functions of one name cannot stand in it."""

from __future__ import annotations

import linecache
import types

import pytest

from bmi_cdlm.kernels.adjoint import RULES, Rule, derive
from bmi_cdlm.names.errors import DialectError


def written(name: str, text: str, **outside: object) -> types.FunctionType:
    """A function of a source text, which can be read again."""
    file = f"<{name} {abs(hash(text))}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope = dict(outside)
    exec(compile(text, file, "exec"), scope)
    return scope[name]


@pytest.fixture
def two(monkeypatch) -> tuple[types.FunctionType, types.FunctionType]:
    """Two functions called `table`, of two modules, outside the dialect, each with its slope."""
    found = []
    for module, factor in (("one", "2.0"), ("other", "3.0")):
        table = written("table", f"def table(x):\n    return [{factor} * x][0]\n")
        table.__module__ = module
        slope = written("slope", f"def slope(y_adj):\n    return {factor} * y_adj\n")
        monkeypatch.setitem(RULES, f"{module}.table", Rule(("y",), slope, ("x",)))
        found.append(table)
    return tuple(found)


def test_each_alone(two):
    for table, factor in zip(two, (2.0, 3.0), strict=True):
        step = written("step", "def step(x):\n    return inner(x) * inner(x)\n", inner=table)
        assert derive(step, ("x",), {0: "adj"})(0.5, 1.0) == pytest.approx(2 * factor**2 * 0.5)


def test_both_in_one_step(two):
    step = written("step", "def step(x):\n    return inner(x) * other(x)\n", inner=two[0], other=two[1])
    with pytest.raises(DialectError, match="two functions table in step_adjoint: give them different names"):
        derive(step, ("x",), {0: "adj"})
    two[1].__name__ = "table_2"
    assert derive(step, ("x",), {0: "adj"})(0.5, 1.0) == pytest.approx(2 * 6.0 * 0.5)
