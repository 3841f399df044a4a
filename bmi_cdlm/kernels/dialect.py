"""The dialect of scalar steps: what they may say, and a step as single assignments, its callees written into it.

A step is a plain function of numbers: assignments and one return at the end, with + - * /, whole powers, comparisons,
`a if condition else b`, math.sqrt, abs, min, max, fma, and calls of other functions of this kind. Such a step has no
branches, so that a compiler can take it for a row of cells at once, and its adjoint can be derived.

A function outside the dialect is called rather than read once its adjoint is known (`rules`).
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bmi_cdlm.kernels.assignments import COMPARISONS, SUMS, Lines, Operand, Value, is_condition
from bmi_cdlm.kernels.rules import Rule, rule_of
from bmi_cdlm.names.errors import DialectError

WIDTHS = {"abs": (1, 1), "min": (2, 99), "max": (2, 99), "fma": (3, 3), "math.sqrt": (1, 1)}
"""Fewest and most arguments of what is neither read nor looked up."""
OWN = "from bmi_cdlm.kernels.transcendental"
INSTEAD = {
    "math.exp": f"use exp {OWN}", "math.log": f"use log {OWN}", "math.tanh": f"use tanh {OWN}",
    "math.pow": f"use power(x, b) {OWN}", "pow": f"use power(x, b) {OWN}", "math.expm1": f"use exp {OWN}",
    "math.log1p": f"use log {OWN}", "np.exp": f"use exp {OWN}", "np.log": f"use log {OWN}",
    "np.tanh": f"use tanh {OWN}", "np.power": f"use power(x, b) {OWN}", "np.sqrt": "use math.sqrt",
    "np.minimum": "use min", "np.maximum": "use max", "np.where": "write a if condition else b", "np.abs": "use abs",
    "math.fabs": "use abs", "math.fma": "use fma from bmi_cdlm.kernels.fused",
    "np.clip": "use min and max", "float": "arguments and literals are numbers of the precision already",
}
STATEMENTS: dict[type[ast.stmt], str] = {
    ast.If: "an if statement: write `x = a if condition else b`, one for each value",
    ast.For: "a loop: a step is one cell and one step; loops are made around it",
    ast.While: "a loop: a step is one cell and one step; loops are made around it",
    ast.Assert: "an assert: it costs a row its speed; check where values come in",
    ast.Raise: "a raise: it costs a row its speed; check where values come in",
    ast.AnnAssign: "an annotation: write `x = ...`",
    ast.FunctionDef: "a function in a step: write it beside the step",
    ast.Global: "a global: take it as an argument", ast.Nonlocal: "a nonlocal: take it as an argument",
    ast.Import: "an import: write it at the top of the file",
    ast.ImportFrom: "an import: write it at the top of the file",
    ast.Delete: "a del: leave it out", ast.Pass: "a pass: leave it out",
}
EXPRESSIONS: dict[type[ast.expr], str] = {
    ast.Subscript: "a subscript: a step takes numbers, one argument each",
    ast.Attribute: "an attribute: a step takes numbers, one argument each",
    ast.Lambda: "a lambda: write a function beside the step",
    ast.NamedExpr: "an assignment in an expression: give it a line",
    ast.Tuple: "several values at once: choose or calculate each by itself", ast.Starred: "a *: write the values out",
    ast.Dict: "a dict: write the numbers as literals", ast.List: "a list: write the numbers as literals",
    ast.JoinedStr: "a string: a step has numbers only",
}


def names_of(function: Callable) -> dict[str, Any]:
    """Return what a function's names mean outside it."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return function.__globals__ | {name: cell.cell_contents for name, cell in cells}


class Reader:
    """Reads one function into lines; complains with file, line number and what to write instead."""

    def __init__(self, lines: Lines, function: Callable, callers: tuple[Callable, ...] = ()) -> None:
        function = getattr(function, "py_func", function)
        self.lines, self.function, self.callers = lines, function, callers
        name = getattr(function, "__name__", repr(function))
        try:
            text, self.first = inspect.getsourcelines(function)
            self.file = inspect.getsourcefile(function)
            self.text = textwrap.dedent("".join(text)).splitlines()
        except (OSError, TypeError):
            raise DialectError(f"{name} has no Python source to read: write the step in a file") from None
        if name == "<lambda>":
            raise DialectError(f"{self.file}:{self.first}: a lambda: write the step with def")
        self.tree: Any = ast.parse("\n".join(self.text)).body[0]
        if not isinstance(self.tree, ast.FunctionDef):
            raise self.refuse(self.tree, "not a plain function: write the step with def")
        self.outside = names_of(function)
        self.arguments = self.read_arguments()
        self.env: dict[str, Operand] = {}

    def refuse(self, node: Any, what: str) -> DialectError:
        """Return the error of a place in the source."""
        number = getattr(node, "lineno", self.tree.lineno)
        return DialectError(
            f"{self.file}:{self.first + number - 1}: {self.text[number - 1].strip()}\n"
            f"{self.function.__name__} is outside the dialect of steps: {what}."
        )

    def read_arguments(self) -> tuple[str, ...]:
        """Names of the arguments."""
        a = self.tree.args
        if a.vararg or a.kwarg or a.kwonlyargs or a.defaults or a.posonlyargs:
            raise self.refuse(self.tree, "a default, *, / or ** among its arguments: plain names only, each given")
        return tuple(argument.arg for argument in a.args)

    def read(self, operands: Sequence[Operand]) -> list[Operand]:
        """Write the body into the lines; return what it returns."""
        self.env = dict(zip(self.arguments, operands, strict=True))
        body = self.tree.body
        for statement in body[:-1] if isinstance(body[-1], ast.Return) else body:
            self.statement(statement, statement is body[0])
        if not isinstance(body[-1], ast.Return):
            raise self.refuse(self.tree, "no return at its end: end it with `return ...`")
        if body[-1].value is None:
            raise self.refuse(body[-1], "a return without a value: return what the step calculates")
        return self.several(body[-1].value)

    def statement(self, s: Any, first: bool) -> None:
        """Write one statement into the lines."""
        if first and isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and isinstance(s.value.value, str):
            return
        if isinstance(s, ast.AugAssign) and isinstance(s.target, ast.Name):
            name = ast.copy_location(ast.Name(s.target.id, ast.Load()), s)
            self.assign(s.target, [self.value(ast.copy_location(ast.BinOp(name, s.op, s.value), s))])
        elif isinstance(s, ast.Assign):
            found = self.several(s.value)
            for target in s.targets:
                self.assign(target, found)
        elif isinstance(s, ast.Return):
            raise self.refuse(s, "an early return: one return, at the end; choose with `a if condition else b`")
        elif isinstance(s, ast.Expr):
            raise self.refuse(s, "an expression that nothing is done with: leave it out")
        else:
            raise self.refuse(s, STATEMENTS.get(type(s), f"{type(s).__name__}: assignments and a return only"))

    def assign(self, target: Any, found: list[Operand]) -> None:
        """Give names to what was found."""
        targets = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        if len(targets) != len(found):
            raise self.refuse(target, f"{len(found)} values for {len(targets)} names: as many names as values")
        for t, value in zip(targets, found, strict=True):
            if not isinstance(t, ast.Name):
                raise self.refuse(t, EXPRESSIONS.get(type(t), "an assignment to other than names"))
            if isinstance(value, Value) and t.id != "_":
                value.name = value.name or t.id.strip("_")
            self.env[t.id] = value

    def several(self, e: ast.expr) -> list[Operand]:
        """What an expression comes to, one value or more."""
        if isinstance(e, ast.Tuple):
            return [self.value(part) for part in e.elts]
        return self.call(e) if isinstance(e, ast.Call) else [self.value(e)]

    def number(self, e: ast.expr) -> Operand:
        """What an expression comes to, which must be a number."""
        found = self.value(e)
        if is_condition(found):
            raise self.refuse(e, "a condition where a number is needed: write `1.0 if condition else 0.0`")
        return found

    def condition(self, e: ast.expr) -> Operand:
        """What an expression comes to, which must be a condition."""
        found = self.value(e)
        if not is_condition(found):
            raise self.refuse(e, "a number where a condition is needed: compare it, as in `x > 0.0`")
        return found

    def under(self, condition: Operand, holds: bool, read: Callable, e: ast.expr) -> Operand:
        """Read an expression that is used only where a condition holds, or does not."""
        self.lines.guards.append((condition, holds))
        try:
            return read(e)
        finally:
            self.lines.guards.pop()

    def value(self, e: ast.expr) -> Operand:
        """What an expression comes to."""
        put = self.lines.put
        if isinstance(e, ast.Constant):
            return self.constant(e)
        if isinstance(e, ast.Name):
            return self.name(e)
        if isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.USub):
            return put("neg", self.number(e.operand))
        if isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.Not):
            return put("not", self.condition(e.operand))
        if isinstance(e, ast.BinOp):
            return self.sum(e)
        if isinstance(e, ast.Compare):
            return self.compare(e)
        if isinstance(e, ast.BoolOp):
            word = "and" if isinstance(e.op, ast.And) else "or"
            found = self.condition(e.values[0])
            for part in e.values[1:]:
                found = put(word, found, self.under(found, word == "and", self.condition, part))
            return found
        if isinstance(e, ast.IfExp):
            test = self.condition(e.test)
            return put("if", test, self.under(test, True, self.value, e.body),
                       self.under(test, False, self.value, e.orelse))
        if isinstance(e, ast.Call):
            results = self.call(e)
            if len(results) != 1:
                word = ast.unparse(e.func)
                raise self.refuse(e, f"{len(results)} values of {word}: give each a name, in a line of its own")
            return results[0]
        raise self.refuse(e, EXPRESSIONS.get(type(e), f"`{ast.unparse(e)}`: numbers and conditions only"))

    def constant(self, e: ast.Constant) -> float:
        """A literal."""
        if type(e.value) is int:
            raise self.refuse(e, f"the whole number {e.value}, which makes float32 float64: write {e.value}.0")
        if type(e.value) is not float:
            raise self.refuse(e, f"the constant {e.value!r}: numbers such as 1.0 only")
        if not math.isfinite(e.value):
            raise self.refuse(e, "a constant that is not finite: write a number that a step can meet")
        return e.value

    def name(self, e: ast.Name) -> Operand:
        """A name."""
        if e.id in self.env:
            return self.env[e.id]
        if isinstance(self.outside.get(e.id), (int, float)):
            what = f"{e.id} is a constant of the module, whose precision stays float64"
            raise self.refuse(e, f"{what}: write the number into the step, or take it as an argument")
        if e.id in self.outside:
            raise self.refuse(e, f"{e.id} is no number: a step takes numbers as arguments")
        raise self.refuse(e, f"{e.id} has no value here: assign it on every path, before it is used")

    def sum(self, e: ast.BinOp) -> Operand:
        """An operation on two numbers."""
        put = self.lines.put
        if isinstance(e.op, ast.Pow):
            return self.power(e)
        if type(e.op) not in SUMS:
            raise self.refuse(e, f"`{ast.unparse(e)}`: of the operators + - * / and ** only")
        a, b = self.number(e.left), self.number(e.right)
        if isinstance(e.op, ast.Div):
            if b == 0.0 and not self.lines.guards:
                raise self.refuse(e, "a division by 0.0")
            return self.lines.divide(self.lines.finite(a), b)
        return put(SUMS[type(e.op)], *map(self.lines.finite, (a, b)))

    def power(self, e: ast.BinOp) -> Operand:
        """A whole power, as the products that numba makes of it."""
        exponent = e.right.value if isinstance(e.right, ast.Constant) else None
        if exponent == 0.5:
            raise self.refuse(e, "a power of 0.5: use math.sqrt")
        if type(exponent) is not int or not 2 <= exponent <= 16:
            raise self.refuse(e, f"`{ast.unparse(e)}`: whole exponents from 2 to 16 only; else use power(x, b) {OWN}")
        square: Operand = self.number(e.left)
        found: Any = None
        while exponent:
            if exponent % 2:
                found = square if found is None else self.lines.put("*", found, square)
            exponent //= 2
            square = self.lines.put("*", square, square) if exponent else square
        return found

    def compare(self, e: ast.Compare) -> Operand:
        """A comparison; a < b < c is a < b and b < c."""
        left, found = self.number(e.left), None  # type: tuple[Operand, Any]
        for operator, right in zip(e.ops, e.comparators, strict=True):
            if type(operator) not in COMPARISONS:
                raise self.refuse(e, f"`{ast.unparse(e)}`: compare numbers, with < <= > >= == !=")
            b = self.number(right) if found is None else self.under(found, True, self.number, right)
            one = self.lines.put(COMPARISONS[type(operator)], left, b)
            found, left = one if found is None else self.lines.put("and", found, one), b
        return found

    def call(self, e: ast.Call) -> list[Operand]:
        """What a call returns: of a few known functions, of one with a rule, or of one that is read in turn."""
        word = ast.unparse(e.func)
        if e.keywords:
            raise self.refuse(e, f"a keyword in {word}(...): pass arguments by their places")
        for argument in e.args:
            if isinstance(argument, ast.Starred):
                raise self.refuse(e, f"a * in {word}(...): write the arguments out")
        if word in self.env:
            raise self.refuse(e, f"the call of {word}, which is a number here: give one of the two another name")
        found: Any = self.outside.get(word)
        if word in INSTEAD and not (isinstance(e.func, ast.Name) and word in self.outside):
            raise self.refuse(e, f"{word}: {INSTEAD[word]}")
        if word == "fma" or word == "math.sqrt" or (word in WIDTHS and found is None):
            return [self.built_in(word, e)]
        if not isinstance(e.func, ast.Name) or not callable(found):
            known = "math.sqrt, abs, min, max, fma and functions of the dialect only"
            raise self.refuse(e, f"the call of {word}: {known}, or one whose adjoint is registered with adjoint_of")
        found = getattr(found, "py_func", found)
        if not inspect.isfunction(found):
            other = "write it in Python, or register its adjoint with adjoint_of"
            own = "write math.sqrt" if found is math.sqrt else INSTEAD.get(f"math.{found.__name__}", other)
            raise self.refuse(e, f"the call of {word}: {own}")
        operands = [self.number(argument) for argument in e.args]
        rule = rule_of(found)
        if rule is not None:
            return self.called(e, found, rule, operands)
        if found in (*self.callers, self.function):
            raise self.refuse(e, f"{word} calls itself")
        inner = Reader(self.lines, found, (*self.callers, self.function))
        if len(operands) != len(inner.arguments):
            raise self.refuse(e, f"{len(operands)} arguments for {word}({', '.join(inner.arguments)})")
        return inner.read(operands)

    def built_in(self, word: str, e: ast.Call) -> Operand:
        """What abs, min, max, fma or math.sqrt comes to."""
        if word == "math.sqrt" and not hasattr(self.outside.get("math"), "sqrt"):
            raise self.refuse(e, "math is not imported: write `import math` at the top of the file")
        if word == "fma" and not callable(self.outside.get("fma")):
            raise self.refuse(e, "fma is not imported: use fma from bmi_cdlm.kernels.fused")
        low, high = WIDTHS[word]
        if not low <= len(e.args) <= high:
            more = " or more" * (high > low)
            raise self.refuse(e, f"{len(e.args)} arguments for {word}: give it {low}{more}")
        operands = [self.number(argument) for argument in e.args]
        if word == "math.sqrt":
            return self.lines.root(operands[0])
        if word in ("min", "max"):  # of two at a time, as Python takes the first of equals
            found = operands[0]
            for operand in operands[1:]:
                found = self.lines.put(word, found, operand)
            return found
        return self.lines.put(word, *operands, function=self.outside["fma"] if word == "fma" else None)

    def called(self, e: ast.Call, function: Callable, rule: Rule, operands: list[Operand]) -> list[Operand]:
        """Results of a function with a rule: some of its call, others that follow from those."""
        expected = tuple(inspect.signature(function).parameters)
        if len(operands) != len(expected):
            raise self.refuse(e, f"{len(operands)} arguments for {function.__name__}({', '.join(expected)})")
        direct = self.lines.call(function, rule, operands)
        outer, self.env = self.env, dict(zip(expected, operands, strict=True))
        for result, value in zip(rule.results, direct, strict=True):
            name, _, expression = (part.strip() for part in result.partition("="))
            self.env[name] = self.value(ast.parse(expression, mode="eval").body) if expression else value
        inner, self.env = self.env, outer
        return [inner[result.partition("=")[0].strip()] for result in rule.results]


def flatten(function: Callable, lines: Lines | None = None) -> tuple[Lines, dict[str, Value], list[Operand]]:
    """Return a step as single assignments, its arguments by name, and what it returns. Raises DialectError."""
    lines = Lines() if lines is None else lines
    reader = Reader(lines, function)
    arguments = {name: lines.argument(name) for name in reader.arguments}
    return lines, arguments, reader.read(list(arguments.values()))


def check(function: Callable) -> None:
    """Raise DialectError unless a step is in the dialect."""
    flatten(function)


def is_arithmetic(function: Callable) -> bool:
    """Whether a step is + - * / and fma of its arguments alone, which a vector of numbers can take as it stands."""
    values = flatten(function)[0].values
    return {v.operation for v in values} <= {"argument", *SUMS.values(), "fma"} and not any(
        isinstance(o, float) for v in values if v.operation == "fma" for o in v.operands
    )


def write(lines: Lines, function: Callable, operands: Mapping[str, Operand]) -> list[Operand]:
    """Write a function into lines, its arguments given by name; returns what it returns."""
    reader = Reader(lines, function)
    for name in reader.arguments:
        if name not in operands:
            raise reader.refuse(reader.tree, f"{name} is none of {', '.join(operands)}, which its rule knows")
    return reader.read([operands[name] for name in reader.arguments])
