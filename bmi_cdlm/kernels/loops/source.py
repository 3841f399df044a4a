"""Functions written by a template: real functions, whose text tracebacks and `inspect` show."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from bmi_cdlm.names.errors import DeclarationError


def make_functions(text: str, title: str, known: Mapping[str, Any]) -> dict[str, types.FunctionType]:
    """Compile the functions of a text; they call each other and what is `known`, and nothing else.

    Raises
    ------
    DeclarationError
        A known function has no name that a text could call it by.
    """
    unnamed = [name for name in known if not name.isidentifier()]
    if unnamed:
        function = known[unnamed[0]].__code__
        raise DeclarationError(
            f"{title}: {unnamed[0]} ({function.co_filename}:{function.co_firstlineno}) has no name, expected a "
            "function made by def: the loops of a process call its functions by their names. Write it so."
        )
    filename = f"<{title}>"
    linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename
    names: dict[str, Any] = {"__name__": title, **known}
    exec(compile(text, filename, "exec"), names)
    return {
        name: value for name, value in names.items()
        if isinstance(value, types.FunctionType) and value.__code__.co_filename == filename
    }


@cache
def arguments_of(function: Callable) -> tuple[str, ...]:
    """Names of the arguments of a function, in order."""
    return tuple(inspect.signature(function).parameters)


def signature(items: Iterable[str], indent: int = 4, width: int = 116) -> str:
    """Arguments or parameters, broken into lines."""
    lines, line = [], ""
    for item in items:
        if line and indent + len(line) + len(item) + 2 > width:
            lines.append(line.rstrip())
            line = ""
        line += item + ", "
    return ("\n" + " " * indent).join([*lines, line.rstrip()])


def returned_count(step: Callable) -> int:
    """How many values a scalar step returns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(step)))
    *_, last = (node for node in ast.walk(tree) if isinstance(node, ast.Return))
    return len(last.value.elts) if isinstance(last.value, ast.Tuple) else 1
