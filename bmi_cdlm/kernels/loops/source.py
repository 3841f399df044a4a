"""Functions written by a template: real functions, whose text tracebacks and `inspect` show."""

from __future__ import annotations

import inspect
import linecache
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any


def make_functions(text: str, title: str, known: Mapping[str, Any]) -> dict[str, types.FunctionType]:
    """Compile the functions of a text; they call each other and what is `known`, and nothing else."""
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
