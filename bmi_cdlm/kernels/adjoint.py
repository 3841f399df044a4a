"""The adjoint of a scalar step, derived from its source: reverse mode, written out as a plain function.

    routing_adjoint = derive(routing_store_step, ("R", "Q9"), {0: "R_adj", 1: "Q_adj"})
    R_adj, Q9_adj = routing_adjoint(R, Q9, Q1, x2, x3, R_adj, Q_adj)

What it writes is in the dialect itself, without branches, and reads as if by hand: inspect.getsource shows it. Where
a step has a kink the derivative is that of the branch which it takes; a root at 0 has no slope, nor has a switch.
"""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FunctionType
from typing import Any

from bmi_cdlm.kernels.assignments import CONDITIONS, Lines, Operand, Value
from bmi_cdlm.kernels.dialect import flatten, write
from bmi_cdlm.kernels.rules import rule_of
from bmi_cdlm.kernels.writer import Writer, compiled
from bmi_cdlm.names.errors import DialectError

Term = tuple[bool, Operand]
"""Whether it is subtracted, and what."""


def derive(
    function: Callable, active: Sequence[str], seeds: Mapping[int, str], *, kept: Mapping[int, str] | tuple = (),
    name: str | None = None,
) -> FunctionType:
    """Return the adjoint of a step in the dialect, a plain function.

    active: arguments whose adjoints it returns, in this order (by itself if there is one); seeds: places of returned
    values whose adjoints it takes, with the names of these; kept: places of returned values that it takes rather than
    calculate them again, with their names. Its arguments are those of the step's that it reads, in the step's order,
    what is kept, and the seeds.
    """
    kept, seeds, active = dict(kept), dict(seeds), tuple(active)
    lines, arguments, returned = flatten(function)
    validate(function, arguments, returned, active, seeds, kept)
    for place, label in kept.items():
        if isinstance(value := returned[place], Value) and value.operation != "argument":
            value.given = label
    n_forward = len(lines.values)
    given = {label: lines.argument(label) for label in seeds.values()}
    adjoints = Reverse(lines, [arguments[a] for a in active])
    for place, label in seeds.items():
        adjoints.add(returned[place], given[label])
    adjoints.sweep(lines.values[:n_forward])
    results = [adjoints.total(arguments[a], f"{a}_adj") for a in active]
    name = name or f"{function.__name__}_adjoint"
    writer = Writer(results, (*arguments, *kept.values(), *seeds.values()), name)
    reads = [a for a, value in arguments.items() if value.place in writer.uses]
    document = (
        f"Adjoint of `{function.__name__}` in result{'s' * (len(seeds) > 1)} {enumerated([*map(str, seeds)])}, derived."
        f" Returns the adjoint{'s' * (len(active) > 1)} of {enumerated(active)}."
    )
    text = writer.text([*reads, *kept.values(), *seeds.values()], document)
    return compiled(text, name, function, writer.callees)


def reached(function: Callable, places: Collection[int]) -> set[str]:
    """Arguments of a step that returned values at some places have a slope in, or may have."""
    _, arguments, returned = flatten(function)
    waiting, seen = [returned[place] for place in places], set[Operand]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Value) and value.operation not in CONDITIONS and value not in seen:
            seen.add(value)
            waiting += value.operands[1:] if value.operation == "if" else value.operands
    return {name for name, value in arguments.items() if value in seen}


def enumerated(words: Sequence[str]) -> str:
    """Return words as a sentence does."""
    return ", ".join(words[:-1]) + " and " * (len(words) > 1) + words[-1]


def validate(function, arguments, returned, active, seeds, kept) -> None:
    """Raise DialectError unless what is asked for is there."""
    where = f"{function.__name__}({', '.join(arguments)})"
    for a in active:
        if a not in arguments:
            raise DialectError(f"the adjoint of {where} in {a!r}: not one of its arguments")
    if not active or len(set(active)) < len(active):
        raise DialectError(f"the adjoint of {where} in {active}: name each active argument once, one at least")
    if not seeds:
        raise DialectError(f"the adjoint of {where} without seeds: name the adjoint of one result at least")
    for what, places in (("seeds", seeds), ("kept", kept)):
        for place in places:
            if type(place) is not int or not 0 <= place < len(returned):
                raise DialectError(
                    f"the adjoint of {where}, {what} {places}: it returns {len(returned)} values, places 0 to"
                    f" {len(returned) - 1}, none at {place}"
                )
    names = [*arguments, *kept.values(), *seeds.values()]
    for label in {**kept, **seeds}.values():
        if names.count(label) > 1 or not label.isidentifier() or keyword.iskeyword(label):
            raise DialectError(f"the adjoint of {where}: {label!r} must be a name that no other of its arguments has")
    for place in seeds:
        if isinstance(returned[place], Value) and returned[place].operation in CONDITIONS:
            raise DialectError(f"the adjoint of {where}: what it returns at {place} is a condition and has no slope")


class Reverse:
    """Adjoints of values, gathered from the last line to the first; what they calculate is added to the lines."""

    def __init__(self, lines: Lines, active: Sequence[Value]) -> None:
        self.lines = lines
        self.live = set(active)
        self.terms: dict[Value, list[Term]] = {}
        lines.slopes = True
        for value in lines.values:
            operands = value.operands[1:] if value.operation == "if" else value.operands
            if value.operation not in CONDITIONS and any(o in self.live for o in operands):
                self.live.add(value)
        divisors = [v.operands[1] for v in lines.values if v.operation == "/" and v in self.live]
        self.shared = {d for d in divisors if divisors.count(d) > 1 and isinstance(d, Value)}

    def add(self, operand: Any, term: Operand, negative: bool = False) -> None:
        """Add a term to the adjoint of an operand, or subtract it."""
        if operand in self.live and term != 0.0:
            self.terms.setdefault(operand, []).append(signed(negative, term))

    def total(self, value: Value, name: str = "") -> Operand:
        """Return the adjoint of a value, 0.0 where nothing depends on it."""
        found = self.sum(self.terms.get(value, []))
        if isinstance(found, Value) and name and not found.name and found.operation != "neg":
            found.name = name
        return found

    def sum(self, terms: Sequence[Term]) -> Operand:
        """Return the sum of terms; those that one condition chooses are chosen together."""
        put = self.lines.put
        tests = [choice_of(term) for _, term in terms]
        plain: list[Term] = []
        for k, ((negative, term), test) in enumerate(zip(terms, tests, strict=True)):
            if test is None or tests.count(test) < 2:
                plain.append((negative, term))
            elif test not in tests[:k]:
                same: Any = [term for term, other in zip(terms, tests, strict=True) if other is test]
                sides = [[signed(n, t.operands[k]) for n, t in same if t.operands[k] != 0.0] for k in (1, 2)]
                plain.append(signed(False, put("if", test, *map(self.sum, sides))))
        added, taken = [t for n, t in plain if not n], [t for n, t in plain if n]
        total: Operand = added[0] if added else 0.0
        for term in added[1:]:
            total = put("+", total, term)
        if not added and taken:
            total, *taken = [put("neg", taken[0]), *taken[1:]]
        for term in taken:
            total = put("-", total, term)
        return total

    def sweep(self, values: Sequence[Value]) -> None:
        """Hand adjoints on from results to operands."""
        waiting: dict[Value, dict[int, Operand]] = {}
        for value in reversed(values):
            if value not in self.live or value.operation == "argument":
                continue
            if value.operation == "call":
                if value in waiting:
                    self.reverse_call(value, waiting[value])
                continue
            g = self.total(value, f"{value.name}_adj" if value.name else "")
            if g == 0.0:
                continue
            if value.operation == "result":
                called, place = value.operands
                waiting.setdefault(called, {})[int(place)] = g
            else:
                self.reverse(value, g)

    def reverse(self, y: Value, g: Operand) -> None:
        """Hand the adjoint of one operation on."""
        put, add, word = self.lines.put, self.add, y.operation
        if word == "if":
            test, a, b = y.operands
            add(a, put("if", test, g, 0.0))
            add(b, put("if", test, 0.0, g))
        elif word == "neg":
            add(y.operands[0], g, True)
        elif word in ("+", "-"):
            add(y.operands[0], g)
            add(y.operands[1], g, word == "-")
        elif word == "*":
            self.reverse_product(y.operands[0], y.operands[1], g)
        elif word == "fma":
            self.reverse_product(y.operands[0], y.operands[1], g)
            add(y.operands[2], g)
        elif word == "/":
            self.reverse_quotient(y, y.operands[0], y.operands[1], g)
        elif word == "math.sqrt":
            above = put(">", y, 0.0)
            half = put("/", put("if", above, 0.5, 0.0), put("if", above, y, 1.0))
            add(y.operands[0], put("*", half, g))
        elif word == "abs":
            (a,) = y.operands
            add(a, put("if", put(">=", a, 0.0), g, put("neg", g)))
        elif word in ("min", "max"):
            a, b = y.operands
            other = put("<" if word == "min" else ">", b, a)
            add(a, put("if", other, 0.0, g))
            add(b, put("if", other, g, 0.0))
        else:
            raise AssertionError(word)

    def reverse_product(self, a: Any, b: Any, g: Operand) -> None:
        """Hand the adjoint of a b on."""
        put = self.lines.put
        if a is b:
            self.add(a, put("*", put("*", 2.0, a), g))
            return
        if a in self.live:
            self.add(a, put("*", b, g))
        if b in self.live:
            self.add(b, put("*", a, g))

    def reverse_quotient(self, y: Value, a: Any, b: Any, g: Operand) -> None:
        """Hand the adjoint of y = a / b on, with no second division by b where one is there or serves several."""
        put = self.lines.put
        if a == 1.0:
            self.add(b, put("*", put("*", y, y), g), True)
            return
        inverse = self.lines.find("/", 1.0, b)
        if not isinstance(b, Value):
            inverse = put("/", 1.0, b)  # type: ignore[assignment]
        elif b in self.shared and inverse is None:
            inverse = put("/", 1.0, b, name=f"{b.name}_inverse" if b.name else "inverse")  # type: ignore[assignment]
        share = put("/", g, b) if inverse is None else put("*", g, inverse)
        self.add(a, share)
        if b in self.live:
            self.add(b, put("*", y, share), True)

    def reverse_call(self, called: Value, found: Mapping[int, Operand]) -> None:
        """Hand the adjoints of the results of a called function on, by its rule."""
        function, lines = called.function, self.lines
        assert function is not None
        rule = rule_of(function)
        assert rule is not None
        adjoint = function.__globals__.get(rule.adjoint) if isinstance(rule.adjoint, str) else rule.adjoint
        if adjoint is None:
            raise DialectError(f"the rule of {function.__name__} names {rule.adjoint}: write that beside it")
        arguments = tuple(inspect.signature(function).parameters)
        operands: dict[str, Operand] = dict(zip(arguments, called.operands, strict=True))
        for k, result in enumerate(rule.results):
            operands[result] = lines.put("result", called, float(k))
            operands[f"{result}_adj"] = found.get(k, 0.0)
        slopes = write(lines, adjoint, operands)
        of = arguments if rule.of is None else rule.of
        if len(of) != len(slopes) or not set(of) <= set(arguments):
            raise DialectError(
                f"the rule of {function.__name__}({', '.join(arguments)}): its adjoint returns {len(slopes)} values for"
                f" the arguments {enumerated(of)}; name those that it returns the adjoints of in `of`"
            )
        for argument, slope in zip(of, slopes, strict=True):
            self.add(operands[argument], slope)


def signed(negative: bool, term: Operand) -> Term:
    """Return a term with what sign it has of its own."""
    if isinstance(term, Value) and term.operation == "neg":
        return not negative, term.operands[0]
    return negative, term


def choice_of(term: Operand) -> Operand | None:
    """Return the condition under which a term is other than 0, where it has one."""
    return term.operands[0] if isinstance(term, Value) and term.operation == "if" and 0.0 in term.operands[1:] else None
