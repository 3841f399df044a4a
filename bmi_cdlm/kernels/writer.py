"""Single assignments as the text of a function, which reads as if by hand, and that function."""

from __future__ import annotations

import ast
import builtins
import hashlib
import keyword
import linecache
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType

from bmi_cdlm.kernels.assignments import COMPARISONS, SUMS, Operand, Value
from bmi_cdlm.kernels.rules import rule_of
from bmi_cdlm.names.errors import DialectError

SYMBOLS: dict[str, type] = {word: kind for kind, word in (*COMPARISONS.items(), *SUMS.items())}
WIDTH = 112
"""Characters that a line of the text has at most, its indent aside."""
PLAIN_NAMES = {
    "+": "total", "-": "difference", "*": "product", "/": "quotient", "neg": "opposite", "fma": "total",
    "math.sqrt": "root", "abs": "size", "min": "least", "max": "most", "if": "chosen",
}
"""Names for what has none in the source."""


def results_of(called: Value) -> tuple[str, ...]:
    """Return the results of a called function, by its rule."""
    return rule_of(called.function).results  # type: ignore[arg-type, union-attr]


class Writer:
    """Writes values out: a line for what has a name or is used twice, the rest where it is used."""

    def __init__(self, results: Sequence[Operand], arguments: Sequence[str], name: str) -> None:
        self.results, self.name = results, name
        self.uses: dict[int, int] = {}
        self.values: dict[int, Value] = {}
        self.chosen: set[int] = set()
        """Places of what a condition chooses between: it stands ready, for else a compiler makes branches."""
        self.callees: dict[str, object] = {}
        for result in results:
            self.visit(result)
        for argument in arguments:
            if argument in self.callees:
                raise DialectError(f"{argument} is an argument of {name} and a function that it calls: rename one")
        self.taken = {*arguments, *self.callees, *dir(builtins), *keyword.kwlist, "math", "_", name}
        self.written: dict[int, ast.expr] = {}

    def visit(self, operand: Operand) -> None:
        """Count the uses of a value and of all that it needs."""
        waiting = [operand]
        while waiting:
            value = waiting.pop()
            if not isinstance(value, Value):
                continue
            self.uses[value.place] = self.uses.get(value.place, 0) + 1
            if value.place in self.values:
                continue
            self.values[value.place] = value
            if value.given:
                continue
            if value.function is not None:
                word = "fma" if value.operation == "fma" else value.function.__name__
                if self.callees.setdefault(word, value.function) is not value.function:
                    raise DialectError(f"two functions {word} in {self.name}: give them different names")
            if value.operation == "math.sqrt":
                self.callees["math"] = math
            if value.operation == "if":
                self.chosen |= {o.place for o in value.operands[1:] if isinstance(o, Value)}
            waiting += value.operands

    def fresh(self, name: str) -> str:
        """Return a name like this one that is not taken."""
        made, k = name, 1
        while made in self.taken:
            k += 1
            made = f"{name}_{k}"
        self.taken.add(made)
        return made

    def expression(self, operand: Operand) -> ast.expr:
        """Return an operand as written."""
        return self.written[operand.place] if isinstance(operand, Value) else ast.Constant(operand)

    def operation(self, value: Value) -> ast.expr:
        """Return an operation on what is written already."""
        word, operands = value.operation, value.operands
        if word == "result":
            return self.expression(operands[0])
        parts = [self.expression(o) for o in operands]
        if word in SUMS.values():
            return ast.BinOp(parts[0], SYMBOLS[word](), parts[1])
        if word in COMPARISONS.values():
            return ast.Compare(parts[0], [SYMBOLS[word]()], [parts[1]])
        if word in ("and", "or"):
            return ast.BoolOp(ast.And() if word == "and" else ast.Or(), parts)
        if word in ("neg", "not"):
            return ast.UnaryOp(ast.USub() if word == "neg" else ast.Not(), parts[0])
        if word == "if":
            return ast.IfExp(*parts)
        word = value.function.__name__ if word == "call" and value.function else word
        return ast.Call(ast.Name(word), parts, [])

    def stands_alone(self, value: Value, text: str) -> bool:
        """Whether a value has a line of its own."""
        if value.operation == "call":
            return False
        leaves = all(not isinstance(o, Value) or isinstance(self.written[o.place], ast.Name) for o in value.operands)
        if leaves and value.operation in (*COMPARISONS.values(), "neg") and not value.name:
            return False
        named = bool(value.name) or value.place in self.chosen
        return named or self.uses[value.place] > 1 or len(text) > WIDTH - 32

    def body(self) -> list[str]:
        """Return the lines, without the return."""
        out: list[str] = []
        for place in sorted(self.values):
            value = self.values[place]
            if value.operation == "argument" or value.given:
                self.written[place] = ast.Name(value.given or value.name)
                continue
            if value.operation == "result" and len(results_of(value.operands[0])) > 1:
                continue
            expression = self.operation(value)
            if value.operation == "call" and len(results_of(value)) > 1:
                results = self.used_results(value)
                names = [self.fresh(self.name_of(r)) if r else "_" for r in results]
                for result, name in zip(results, names, strict=True):
                    if result:
                        self.written[result.place] = ast.Name(name)
                out.append(f"{', '.join(names)} = {ast.unparse(expression)}")
                continue
            text = ast.unparse(expression)
            if self.stands_alone(value, text):
                name = self.fresh(self.name_of(value))
                out.append(f"{name} = {text}")
                expression = ast.Name(name)
            self.written[place] = expression
        return out

    def used_results(self, called: Value) -> list[Value | None]:
        """Return the results of a call that are used, None for others."""
        results = [v for v in self.values.values() if v.operation == "result" and v.operands[0] is called]
        by_place = {v.operands[1]: v for v in results if not v.given}
        return [by_place.get(float(k)) for k in range(len(results_of(called)))]

    @staticmethod
    def name_of(value: Value) -> str:
        """Return what to call a value: as the source does, or for what it is."""
        if value.operation == "result" and not value.name:
            called, place = value.operands
            return results_of(called)[int(place)].partition("=")[0].strip()
        return value.name or PLAIN_NAMES.get(value.operation, "condition")

    def text(self, arguments: Sequence[str], document: str) -> str:
        """Return the function as text."""
        body = self.body()
        returned = "return " + ", ".join(ast.unparse(self.expression(r)) for r in self.results)
        head = f"def {self.name}({', '.join(arguments)}):"
        if len(head) > WIDTH:
            head = f"def {self.name}(\n" + textwrap.fill(
                ", ".join(arguments), WIDTH, initial_indent="    ", subsequent_indent="    "
            ) + "\n):"
        if len(returned) > WIDTH:
            returned = "return (\n" + textwrap.fill(
                returned.removeprefix("return "), WIDTH, initial_indent="    ", subsequent_indent="    "
            ) + ",\n)"
        quoted = textwrap.fill(f'"""{document}"""', WIDTH)
        return head + "\n" + textwrap.indent("\n".join([quoted, *body, returned]), "    ") + "\n"


def compiled(text: str, name: str, function: Callable, callees: Mapping[str, object]) -> FunctionType:
    """Return the function that a text says, its source to be seen where that of others is."""
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    file = f"<{name} derived from {function.__module__}.{function.__qualname__}, {mark}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names = {"__name__": function.__module__, "__builtins__": builtins, **dict(sorted(callees.items()))}
    exec(compile(text, file, "exec"), names)
    return names.pop(name)  # type: ignore[return-value]
