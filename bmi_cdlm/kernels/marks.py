"""Marks at a function: what the compiler may do with it that its code alone does not say.

A mark only sets an attribute and returns the plain function.
"""

from __future__ import annotations

from collections.abc import Callable

MARKS = ("free_sums", "uncounted", "whole_arrays")


def free_sums(function: Callable) -> Callable:
    """Mark a function whose sums are in no stated order: the compiler takes its additions in vectors.

    For sums of gradients only. The bits of what the model runs forward may not depend on the processor.
    """
    function.free_sums = True  # type: ignore[attr-defined]
    return function


def uncounted(function: Callable) -> Callable:
    """Mark a function that makes views of arrays and no array of its own: nobody counts the references to them.

    To count the references of a reach's rows takes 5 % of its routing, of a layer's units 4 % of the network. An array
    that such a function made would never be given back.
    """
    function.uncounted = True  # type: ignore[attr-defined]
    return function


def whole_arrays(function: Callable) -> Callable:
    """Mark a function that works on whole arrays by arithmetic alone: numpy runs it as it is, nothing to compile."""
    function.whole_arrays = True  # type: ignore[attr-defined]
    return function


def primitive(function: Callable) -> Callable:
    """Mark a function that interpreted kernels call as it is, and that is one instruction or a few in compiled ones.

    What stands in its place there is known to `launch` and `device.launch`.
    """
    function.primitive = True  # type: ignore[attr-defined]
    return function


def makes_arrays(function: Callable) -> Callable:
    """Mark a primitive that returns an array of its own: references to that are counted."""
    function.makes_arrays = True  # type: ignore[attr-defined]
    return function


def is_primitive(function: Callable) -> bool:
    """Whether something else stands in the place of a function in compiled kernels."""
    return getattr(function, "primitive", False)


def marks_of(function: Callable) -> tuple[str, ...]:
    """The marks that stand at a function."""
    return tuple(mark for mark in MARKS if getattr(function, mark, False))
