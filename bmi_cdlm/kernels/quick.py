"""What numba works out again and again while it compiles a kernel, worked out once.

Of four thousand calls that a first step has typed, some hundred and fifty differ; numba tries every way that a function
of its own could be meant for each of them, which is a quarter of its work in Python. It leans on what numba does not
document: a numba in which that is not found is left as it is.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from numba.core.base import BaseContext
from numba.core.types.functions import BaseFunction

HAS_PLACES = (
    hasattr(BaseFunction, "get_call_type") and hasattr(BaseContext, "get_abi_sizeof")
    and "_impl_keys" in BaseFunction.__init__.__code__.co_names
)
_signatures: dict[tuple, Any] = {}
"""Of functions of numba's own, by function with all that is known of it, context and types of arguments."""
_sizes: dict[Any, int] = {}
"""Bytes of LLVM's types on this machine, for each of which numba has a module of its own written and read."""


@contextmanager
def quick() -> Iterator[None]:
    """Compile under it what Python calls, with what it calls, holding numba's lock.

    Garbage is not collected: a compiler makes a million objects that live as long as it works.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with _remembered() if HAS_PLACES else nullcontext():
            yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _remembered() -> Iterator[None]:
    """With answers of ours in two places of numba."""
    resolve, size = BaseFunction.get_call_type, BaseContext.get_abi_sizeof
    BaseFunction.get_call_type = _remembering(resolve)  # type: ignore[method-assign]
    BaseContext.get_abi_sizeof = _size_of(size)  # type: ignore[method-assign]
    try:
        yield
    finally:
        BaseFunction.get_call_type = resolve  # type: ignore[method-assign]
        BaseContext.get_abi_sizeof = size  # type: ignore[method-assign]


def _remembering(resolve: Any) -> Any:
    """numba's choice of a signature, which it is asked for once where the choice is from a table.

    A function that is compiled for its types depends on how its caller is compiled, and is asked for every time.
    """

    def get_call_type(function: Any, context: Any, args: tuple, kws: dict) -> Any:
        key = function, context, args, tuple(kws.items())
        found = _signatures.get(key)
        if found is None:
            found = resolve(function, context, args, kws)
            if function._impl_keys[found.args] is function.typing_key:
                _signatures[key] = found
        return found

    return get_call_type


def _size_of(measure: Any) -> Any:
    """numba's measure of a type of LLVM, which is taken once."""

    def get_abi_sizeof(context: Any, kind: Any) -> int:
        if kind not in _sizes:
            _sizes[kind] = measure(context, kind)
        return _sizes[kind]

    return get_abi_sizeof
