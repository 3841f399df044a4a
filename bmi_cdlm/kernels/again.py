"""A kernel that is called again and again with the same arrays, as every step of a host calls it.

numba asks every array of every call for its type, which for a single cell takes twice as long as the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

import numpy as np

OWN_DATA = 0x4
"""The flag of an array that says whose its memory is, which its type does not depend on."""
NUMBERS = (int, float, np.float64, np.float32)
"""Kinds of numbers, each of which numba has one type for."""
_entries: dict[tuple, Callable] = {}
"""What numba compiled, by kernel and kinds of arguments: a thousand catchments ask for the same."""


class Again:
    """A compiled kernel, which it calls at once where all arguments are of the types of the call before.

    It holds on to the arguments of the last call: for arrays of a step, which somebody keeps anyway.

    Parameters
    ----------
    kernel : callable
        As `compiled` returns it.
    """

    def __init__(self, kernel: Callable) -> None:
        self._kernel: Any = kernel
        self._held: tuple[tuple, Callable | None] = (), None
        """Arguments of the last call, and what numba compiled for their types: one thing, for threads may call."""

    def __call__(self, *arguments: Any) -> Any:
        """Call the kernel."""
        last, entry = self._held
        if len(last) == len(arguments) and (all(map(is_, arguments, last)) or all(map(_alike, arguments, last))):
            if entry is not None:
                return entry(*arguments)
            self._held = arguments, self._entry(arguments)
        else:
            self._held = arguments, None
        return self._kernel(*arguments)

    def _entry(self, arguments: tuple) -> Callable | None:
        """What numba compiled for these arguments; None where it would convert one of them first."""
        if not hasattr(self._kernel, "overloads") or not hasattr(self._kernel, "typeof_pyval"):
            return None
        try:
            key = self._kernel, tuple(map(_kind, arguments))
        except TypeError:
            return None
        if key not in _entries:
            made = self._kernel.overloads.get(tuple(map(self._kernel.typeof_pyval, arguments)))
            if made is None:
                return None
            _entries[key] = made.entry_point
        return _entries[key]


def _kind(a: Any) -> Any:
    """What tells one type of arguments from every other; TypeError of what is no array, group, number or None."""
    kind = type(a)
    if kind is np.ndarray:
        return a.dtype, a.ndim, a.flags.num | OWN_DATA
    if issubclass(kind, tuple):
        return kind, tuple(map(_kind, a))
    if a is not None and kind not in NUMBERS:
        raise TypeError(f"{kind.__name__} is no argument of a kernel")
    return kind


def _alike(a: Any, b: Any) -> bool:
    """Whether two arguments are of one type beyond doubt."""
    if a is b:
        return True
    kind = type(a)
    if kind is not type(b):
        return False
    if kind is np.ndarray:
        return bool(a.dtype is b.dtype and a.ndim == b.ndim and (a.flags.num ^ b.flags.num) | OWN_DATA == OWN_DATA)
    if issubclass(kind, tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    return kind in NUMBERS
