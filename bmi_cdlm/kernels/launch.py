"""The only place that compiles: any plain function, for float64 or float32, and what it calls before it.

The float literals in the code become the precision's own type, so that float32 stays float32, and the names it calls
become the compiled ones. What is compiled how follows from the code (`graph`) and from marks at the function
(`marks`). With NUMBA_DISABLE_JIT=1 the plain functions run as they are.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import config, njit
from numba.core.options import DefaultOptions

from bmi_cdlm.kernels import bits, lanes, space, streaming
from bmi_cdlm.kernels.ahead import watched
from bmi_cdlm.kernels.cache import KernelCache
from bmi_cdlm.kernels.fused import compiled_fma, fma
from bmi_cdlm.kernels.graph import Linker, base_names, call_graph, callees, digest, is_scalar, only_views, retyped
from bmi_cdlm.kernels.linked import LINKED, RAW, ROOT
from bmi_cdlm.kernels.marks import marks_of

__all__ = ["call_graph", "callee", "compiled", "compiled_if_worth", "options", "retyped"]

INTERPRETED = bool(getattr(config, "DISABLE_JIT", False))
WORTH_COMPILING = 1_000
"""Places that a loop may go through in a process before it is compiled; see `compiled_if_worth`."""
_gone_through: dict[Callable, int] = {}
_roots: dict[tuple[Callable, Any], Any] = {}
_making = threading.Lock()


def compiled(function: Callable, dtype: type[np.floating] = np.float64) -> Any:
    """Return a plain function compiled for float64 or float32: the same object at every call.

    Its callees are compiled into it. Compilation happens when it is first called with arguments of some type, and is
    kept on disk from process to process.
    """
    found = _roots.get((function, dtype))
    if found is None:
        with _making:
            found = _roots.setdefault((function, dtype), new_root(function, dtype))
    return found


def compiled_if_worth(function: Callable, size: int) -> Any:
    """Return a plain function as it is for the first few small things that it works on, then compiled.

    size : places that it goes through. To compile a loop takes a quarter of a second, to run it a hundredth for every
    thousand places.
    """
    if (function, np.float64) not in _roots:
        _gone_through[function] = _gone_through.get(function, 0) + size
        if _gone_through[function] <= WORTH_COMPILING:
            return function
    return compiled(function)


def new_root(function: Callable, dtype: type[np.floating]) -> Any:
    """Return a function compiled as by `compiled`, once more.

    What it calls is made when it is compiled: one that comes from the folder needs none of it.
    """
    if "whole_arrays" in marks_of(function):
        return function
    if INTERPRETED:
        return callee(function, dtype)
    call_graph(function)  # refuses what calls itself
    names = base_names()
    root = njit(**(options(function) | ROOT))(named(function, dtype, retyped(function, dtype, names)))
    linker = _linker(dtype)  # type: ignore[arg-type]
    root._cache = KernelCache(function, np.dtype(dtype).name, lambda: names.update(linker.names(function)))
    return watched(function, root)


def callee(function: Callable, dtype: type[np.floating] = np.float64) -> Any:
    """Return a plain function compiled as others call it, without a file of its own: for compiled functions alone.

    Python cannot call it: there is no machine code of it by itself (`linked`).
    """
    return _linker(dtype)(function)  # type: ignore[arg-type]


@cache
def _linker(dtype: type[np.floating]) -> Linker:
    def make(function: Callable, plain: types.FunctionType) -> Any:
        return njit(**(options(function) | (LINKED if is_row(function) else RAW)))(named(function, dtype, plain))

    own = {fma: compiled_fma, **bits.COMPILED, **lanes.COMPILED, **space.COMPILED, **streaming.COMPILED}
    return Linker(dtype, make, {} if INTERPRETED else own)


def named(function: Callable, dtype: type[np.floating], plain: types.FunctionType) -> types.FunctionType:
    """Return a retyped function under a name that no other has.

    Symbols of machine code carry this name, and what is read from the folder finds its callees by it: of two functions
    of one name one would run the other's.
    """
    plain.__qualname__ = f"{np.dtype(dtype).name}_{digest(function)[:20]}.{function.__name__}"
    return plain


def is_row(function: Callable) -> bool:
    """Whether a function is a loop that vectors are made of: of those it calls none but what fills or copies."""
    return not is_scalar(function) and all(is_scalar(f) or not callees(f) for f in callees(function))


def options(function: Callable) -> dict[str, Any]:
    """Return what a function is compiled with: scalar steps into their callers, the rest by itself.

    A large scalar step would not go into a row unless told to, and the row would not be vectorised. `_nrt` is an
    option that numba does not document; a numba that does not know it counts references.
    """
    marks = marks_of(function)
    chosen: dict[str, Any] = {"error_model": "numpy", "nogil": True}
    if is_scalar(function):
        chosen["forceinline"] = True
    if "free_sums" in marks:
        chosen["fastmath"] = {"reassoc"}
    if not is_scalar(function) and only_views(function) and hasattr(DefaultOptions, "_nrt"):
        chosen["_nrt"] = False
    return chosen
