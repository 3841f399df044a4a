"""A scalar function of a process at every place of some arrays."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache

from bmi_cdlm.kernels.loops.source import arguments_of, make_functions


@cache
def elementwise(function: Callable, constants: tuple[str, ...]) -> types.FunctionType:
    """Return a loop that fills its last argument with the function of the arrays before it.

    Arguments: an array for each of the function's own, but for constants, which it takes of the group that follows, if
    there are any.
    """
    arguments = arguments_of(function)
    step = ["step"] if constants else []
    heads = ", ".join([*(a for a in arguments if a not in constants), *step, "filled"])
    values = ", ".join(f"step.{a}" if a in constants else f"{a}[i]" for a in arguments)
    text = f'''
def fill_{function.__name__}({heads}):
    """{function.__name__} at every place."""
    for i in range(filled.size):
        filled[i] = {function.__name__}({values})
'''
    return make_functions(text, f"{function.__name__} at every place", {function.__name__: function})[
        f"fill_{function.__name__}"
    ]
