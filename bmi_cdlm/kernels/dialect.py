"""The dialect of scalar steps: what they may say, and a step as single assignments, its callees written into it.

A step is a plain function of numbers: assignments and one return at the end, with + - * /, whole powers, comparisons,
`a if condition else b`, math.sqrt, abs, min, max, fma, and calls of other functions of this kind. Such a step has no
branches, so that a compiler can take it for a row of cells at once, and its adjoint can be derived.

A function outside the dialect (bits, tables, whole numbers) is called rather than read once its adjoint is known:

    @adjoint_of(tanh_ratio, "n", "d = n + 2.0")
    def tanh_ratio_adjoint(n, n_adj):
        return 2.0 * (n + 1.0) * n_adj
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bmi_cdlm.names.errors import DialectError

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}
SUMS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
CONDITIONS = frozenset((*COMPARISONS.values(), "and", "or", "not"))
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


class Value:
    """A number or condition that is calculated once: an operation on others; `name` is what the source calls it."""

    __slots__ = ("function", "given", "name", "operands", "operation", "place")

    def __init__(self, operation: str, operands: tuple, place: int, name: str = "", function: Callable | None = None):
        self.operation, self.operands, self.place = operation, operands, place
        self.name, self.function, self.given = name, function, ""


Operand = Value | float


class Rule(NamedTuple):
    """How a function is called and reversed without being read: its results by name, and its adjoint.

    results: "n", or "d = n + 2.0" for one that follows from those before it, the same bits; adjoint: a function in the
    dialect, or its name in the module of the function. It takes what it needs, by name, of the function's arguments,
    results and adjoints of results (n_adj), and returns the adjoints of `of`, by default of every argument in order.
    """

    results: tuple[str, ...]
    adjoint: Callable | str
    of: tuple[str, ...] | None = None


TRANSCENDENTAL = "bmi_cdlm.kernels.transcendental"
RULES: dict[str, Rule] = {
    f"{TRANSCENDENTAL}.exp": Rule(("y",), "exp_adjoint"),
    f"{TRANSCENDENTAL}.log": Rule(("y",), "log_adjoint"),
    f"{TRANSCENDENTAL}.tanh": Rule(("y",), "tanh_adjoint"),
    f"{TRANSCENDENTAL}.power_and_log": Rule(("y", "log_x"), "power_adjoint"),
}
"""Functions that are called rather than read, by module and name; `adjoint_of` adds to them."""


def rule_of(function: Callable) -> Rule | None:
    """Return the rule of a function, or None."""
    return RULES.get(f"{function.__module__}.{function.__qualname__}")


def adjoint_of(function: Callable, *results: str, of: tuple[str, ...] | None = None) -> Callable[[Callable], Callable]:
    """Register what is decorated as the adjoint of a function, which is called rather than read from then on.

    results and of: as in `Rule`.
    """
    def register(adjoint: Callable) -> Callable:
        RULES[f"{function.__module__}.{function.__qualname__}"] = Rule(results, adjoint, of)
        return adjoint

    return register


class Lines:
    """Single assignments, each written once: what is there already is taken again.

    slopes: of adjoints, where a 0 is exact, so that sums and products with it are left out. guards: conditions that
    must hold for what is read now to be used; what divides there divides by 1 where it is not.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.known: dict[tuple, Value] = {}
        self.guards: list[tuple[Operand, bool]] = []
        self.slopes = False

    def argument(self, name: str) -> Value:
        """Return a new number from outside."""
        return self.append("argument", (), name)

    def append(self, operation: str, operands: tuple, name: str = "", function: Callable | None = None) -> Value:
        """Return a new value."""
        value = Value(operation, operands, len(self.values), name, function)
        self.values.append(value)
        return value

    def find(self, operation: str, *operands: Operand, function: Callable | None = None) -> Value | None:
        """Return the value that is there already, or None."""
        return self.known.get(key_of(operation, operands, function))

    def put(self, operation: str, *operands: Operand, name: str = "", function: Callable | None = None) -> Operand:
        """Return what an operation comes to, a number where that is known."""
        if self.slopes and operation in ("*", "/", "if"):
            bare = [o.operands[0] if isinstance(o, Value) and o.operation == "neg" else o for o in operands]
            changed = sum(o is not b for o, b in zip(operands, bare, strict=True))
            if changed and (operation != "if" or changed + operands.count(0.0) == 2):
                found = self.put(operation, *bare, name=name)
                return found if changed == 2 and operation != "if" else self.put("neg", found)
        folded = fold(operation, operands, self.slopes)
        if folded is not None:
            return folded if not isinstance(folded, tuple) else self.put(folded[0], *folded[1:], name=name)
        key = key_of(operation, operands, function)
        if key not in self.known:
            self.known[key] = self.append(operation, operands, "", function)
        value = self.known[key]
        value.name = value.name or name
        return value

    def safe(self, operand: Operand) -> Operand:
        """Return a number that may be divided by or rooted: 1 where the guards say that it will not be used."""
        for condition, holds in self.guards:
            if not never_zero(operand):
                operand = self.put("if", condition, *((operand, 1.0) if holds else (1.0, operand)))
        return operand

    def finite(self, operand: Operand) -> Operand:
        """Return a number to reckon with: 1 for what a function returns, such as ln 0, where it will not be used."""
        return self.safe(operand) if isinstance(operand, Value) and operand.operation == "result" else operand

    def divide(self, a: Operand, b: Operand) -> Operand:
        """Return a / b."""
        return self.find("/", a, b) or self.put("/", a, self.safe(b))

    def root(self, a: Operand) -> Operand:
        """Return the square root of a."""
        return self.find("math.sqrt", a) or self.put("math.sqrt", self.safe(a))

    def call(self, function: Callable, rule: Rule, operands: Sequence[Operand]) -> list[Operand]:
        """Return the results of a called function, also those that follow from others: use them by their rule."""
        there = self.find("call", *operands, function=function)
        called = there or self.put("call", *map(self.safe, operands), function=function)
        return [self.put("result", called, float(k)) for k in range(len(rule.results))]


def key_of(operation: str, operands: Sequence, function: Callable | None = None) -> tuple:
    """Return what two equal calculations have in common."""
    places = [str(o.place) if isinstance(o, Value) else repr(o) + "#" for o in operands]
    return (operation, function, *(sorted(places) if operation in ("+", "*") else places))


def never_zero(operand: Operand) -> bool:
    """Whether a number is never 0 or below: a constant, or x if x > 0.0 else a constant."""
    if not isinstance(operand, Value):
        return operand > 0.0
    if operand.operation != "if":
        return False
    test, chosen, other = operand.operands
    above = isinstance(test, Value) and test.operation == ">" and test.operands[0] is chosen and (
        not isinstance(test.operands[1], Value) and test.operands[1] >= 0.0
    )
    return (above or never_zero(chosen)) and never_zero(other)


def fold(operation: str, operands: Sequence[Any], slopes: bool) -> Any:
    """Return what an operation with a 0 or 1 or on numbers alone comes to, the same bits, or None.

    A tuple is another operation that comes to the same. slopes: a 0 is exact.
    """
    numbers = [o if isinstance(o, float) else None for o in operands]
    if operation == "neg":
        (a,) = operands
        if numbers[0] is not None:
            return -a
        return a.operands[0] if a.operation == "neg" else None
    if operation == "if":
        _test, a, b = operands
        return a if a is b or (isinstance(a, float) and a == b) else None
    if operation == "fma" and slopes:
        a, b, c = operands
        return c if 0.0 in numbers[:2] else (("*", a, b) if c == 0.0 else None)
    if operation not in SUMS.values():
        return None
    (a, b), (m, n) = operands, numbers
    if m is not None and n is not None and not (operation == "/" and n == 0.0):
        return {"+": m + n, "-": m - n, "*": m * n}[operation] if operation != "/" else m / n
    if operation in "*/" and n == 1.0:
        return a
    if operation == "*":
        if m == 1.0:
            return b
        if -1.0 in (m, n):
            return ("neg", a if n == -1.0 else b)
        if slopes and 0.0 in (m, n):
            return 0.0
        number, other = (m, b) if m is not None else (n, a)
        if slopes and number is not None and other.operation == "*":
            c, d = other.operands
            c, d = (d, c) if isinstance(d, float) else (c, d)
            return ("*", number * c, d) if isinstance(c, float) else None
    if operation == "-" and n == 0.0:
        return a
    if slopes and operation == "+" and 0.0 in (m, n):
        return a if n == 0.0 else b
    if slopes and m == 0.0:
        return ("neg", b) if operation == "-" else 0.0
    return None


def is_condition(operand: Operand) -> bool:
    """Whether it may stand where a condition must."""
    if not isinstance(operand, Value):
        return False
    if operand.operation == "if":
        return is_condition(operand.operands[1]) and is_condition(operand.operands[2])
    return operand.operation in CONDITIONS


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
