"""A scalar function of a process at every place of some arrays."""

from __future__ import annotations

import dis
import types
from collections.abc import Callable
from functools import cache

from bmi_cdlm.kernels.loops.source import arguments_of, make_functions
from bmi_cdlm.kernels.marks import whole_arrays

ARITHMETIC = ("RESUME", "LOAD_FAST", "LOAD_CONST", "LOAD_SMALL_INT", "STORE_FAST", "UNARY_NEGATIVE", "BUILD_TUPLE",
              "RETURN_VALUE")
"""Instructions of functions that take arrays as they take numbers, beside the four operations."""


@cache
def elementwise(function: Callable, constants: tuple[str, ...]) -> types.FunctionType:
    """Return a loop that fills its last argument with the function of the arrays before it.

    Arguments: an array for each of the function's own, but for constants, which it takes of the group that follows, if
    there are any.
    """
    arguments = arguments_of(function)
    step = ["step"] if constants else []
    heads = ", ".join([*(a for a in arguments if a not in constants), *step, "filled"])
    whole = is_arithmetic(function)
    values = ", ".join(f"step.{a}" if a in constants else a if whole else f"{a}[i]" for a in arguments)
    body = f"filled[:] = {function.__name__}({values})" if whole else (
        f"for i in range(filled.size):\n        filled[i] = {function.__name__}({values})"
    )
    text = f'''
def fill_{function.__name__}({heads}):
    """{function.__name__} at every place."""
    {body}
'''
    made = make_functions(text, f"{function.__name__} at every place", {function.__name__: function})
    loop = made[f"fill_{function.__name__}"]
    if whole:
        whole_arrays(loop)
    return loop


def is_arithmetic(function: Callable) -> bool:
    """Whether a function is nothing but + - * / of its arguments: numpy does such at once, with the same bits."""
    return all(
        i.opname.startswith(ARITHMETIC) or (i.opname == "BINARY_OP" and i.argrepr in {"+", "-", "*", "/"})
        for i in dis.get_instructions(function) if i.opname != "CACHE"
    )
