"""Single assignments: a calculation as a list of numbers and conditions, each calculated once of others before it.

A step is read into them (`dialect`), its adjoint is added to them (`adjoint`), and they are written out (`writer`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from bmi_cdlm.kernels.rules import Rule

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}
SUMS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
CONDITIONS = frozenset((*COMPARISONS.values(), "and", "or", "not"))


class Value:
    """A number or condition that is calculated once: an operation on others; `name` is what the source calls it."""

    __slots__ = ("function", "given", "name", "operands", "operation", "place")

    def __init__(self, operation: str, operands: tuple, place: int, name: str = "", function: Callable | None = None):
        self.operation, self.operands, self.place = operation, operands, place
        self.name, self.function, self.given = name, function, ""


Operand = Value | float


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
