"""What a kernel calls and what kind of code it is, read from its byte code: nothing has to be listed anywhere.

A name counts where the code loads it from the module; it is looked up in the function's own `__globals__`, so that
functions of another package and functions made from source text are found like ours.
"""

from __future__ import annotations

import builtins
import dis
import hashlib
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from bmi_cdlm.kernels.marks import is_primitive, marks_of

MODULES = ("math", "numpy", "numba")


def call_graph(*roots: Callable) -> tuple[types.FunctionType, ...]:
    """Every function that the roots come to call, and the roots: each once, callees before callers."""
    order: dict[types.FunctionType, None] = {}
    for root in roots:
        _visit(root, order, ())
    return tuple(order)


def _visit(function: Any, order: dict[types.FunctionType, None], way: tuple) -> None:
    if function in order:
        return
    if function in way:
        raise TypeError(
            f"kernel {_place(function)} comes to call itself, through "
            f"{', '.join(f.__name__ for f in way[way.index(function):])}. Write a loop instead."
        )
    for called in callees(function):
        _visit(called, order, (*way, function))
    order[function] = None


def callees(function: Callable) -> list[types.FunctionType]:
    """The functions that a function calls itself, in the order of their names; primitives are instructions."""
    return [f for f in uses(function).values() if isinstance(f, types.FunctionType) and not is_primitive(f)]


@cache
def uses(function: Callable) -> Mapping[str, object]:
    """Names that a function's code loads from its module, in order, with what stands behind them; builtins left out.

    What no kernel can use is refused, for the precision of a kernel is that of the literals in its code: a number or an
    array of the module would stay float64 in float32.
    """
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"kernel {function!r} is a {type(function).__name__}, expected a plain Python function.")
    if function.__code__.co_freevars or function.__defaults__ or function.__kwdefaults__:
        raise TypeError(
            f"kernel {_place(function)} takes {', '.join(function.__code__.co_freevars) or 'a default value'} from "
            "where it is defined. Hand it over as an argument."
        )
    found: dict[str, object] = {}
    for name in sorted(_loaded(function)):
        if name in function.__globals__:
            found[name] = function.__globals__[name]
            if not _is_usable(found[name]):
                raise TypeError(
                    f"kernel {_place(function)} uses {name!r}, a {type(found[name]).__name__} of its module, expected "
                    "a plain function, a NamedTuple, math, numpy, an integer or None. Write a number as a literal in "
                    "the code, call math.sqrt by that name, and hand anything else over as an argument."
                )
        elif not hasattr(builtins, name):
            raise NameError(f"kernel {_place(function)} uses {name!r}, which its module does not define.")
    return types.MappingProxyType(found)


def _is_usable(value: object) -> bool:
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in MODULES
    if isinstance(value, type):
        return value is np.float64 or issubclass(value, (np.integer, np.bool_)) or _is_group(value)
    return value is None or isinstance(value, types.FunctionType) or type(value) in (int, bool)


def _is_group(value: type) -> bool:
    return issubclass(value, tuple) and hasattr(value, "_fields")


def _place(function: Any) -> str:
    return f"{function.__name__} ({function.__code__.co_filename}:{function.__code__.co_firstlineno})"


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _instructions(function: Callable) -> Iterator[dis.Instruction]:
    for code in _codes(function.__code__):
        yield from dis.get_instructions(code)


def _loaded(function: Callable) -> set[str]:
    """Names that code takes from its module.

    `dis` would write every operation out for people to read, which a start from the folder feels.
    """
    found, load, extend = set(), dis.opmap["LOAD_GLOBAL"], dis.opmap["EXTENDED_ARG"]
    for code in _codes(function.__code__):
        more = 0
        for operation, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
            place = more << 8 | low
            more = place if operation == extend else 0
            if operation == load:
                found.add(code.co_names[place >> 1])  # the lowest bit says what else is loaded
    return found


# ---- kinds -------------------------------------------------------------------------------------------------


@cache
def is_scalar(function: Callable) -> bool:
    """Whether a function is a scalar step: no loop, no array taken apart, and nothing else in what it calls.

    A fixed place of something, as in `step(...)[1]`, is no array taken apart.
    """
    before = None
    for i in _instructions(function):
        if "JUMP_BACKWARD" in i.opname or i.opname == "FOR_ITER":
            return False
        if "SUBSCR" in i.opname or "SLICE" in i.opname:
            fixed = before is not None and before.opname == "LOAD_CONST" and type(before.argval) is int
            if i.opname != "BINARY_SUBSCR" or not fixed:
                return False
        before = i
    return all(map(is_scalar, callees(function)))


MAKE_ARRAYS = {"copy", "reshape", "astype", "flatten", "ravel", "transpose", "T", "repeat", "take"}


@cache
def only_views(function: Callable) -> bool:
    """Whether a loop works on arrays that others hold: it makes none and returns nothing, nor do the loops it calls.

    Nobody need count the references to its views then, which the compiler would get to read at every view.
    Arithmetic on whole arrays is not seen here: the compiler refuses it where nothing is counted.
    """
    if "uncounted" in marks_of(function) or is_scalar(function):
        return True
    before = None
    for i in _instructions(function):
        constant = i.opname == "RETURN_CONST" or (before is not None and before.opname == "LOAD_CONST")
        returned = i.argval if i.opname == "RETURN_CONST" else before.argval if before is not None else ...
        if i.opname.startswith("RETURN_") and i.opname != "RETURN_GENERATOR" and not (constant and returned is None):
            return False
        if i.opname in ("LOAD_ATTR", "LOAD_METHOD") and i.argval in MAKE_ARRAYS:
            return False
        before = i
    used = uses(function).values()
    by_numpy = any(isinstance(v, types.ModuleType) and v.__name__ != "math" for v in used)
    makes_arrays = by_numpy or any(getattr(v, "makes_arrays", False) for v in used)
    return not makes_arrays and all(map(only_views, callees(function)))


# ---- what machine code depends on --------------------------------------------------------------------------


@cache
def digest(function: Callable) -> str:
    """Hash of the code of a function and of all that it comes to call.

    The same in every process: no address, no order of a set or dict, no file or line; nor does a docstring count.
    """
    facts = function.__name__, _code_facts(function.__code__, function.__doc__), marks_of(function), [
        (name, _fact(value)) for name, value in uses(function).items()
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _fact(value: object) -> object:
    if isinstance(value, types.FunctionType) and is_primitive(value):
        return value.__name__
    if isinstance(value, types.FunctionType):
        return digest(value)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type):
        return value.__module__, value.__name__, getattr(value, "_fields", ())
    return repr(value)


def _code_facts(code: types.CodeType, doc: str | None = None) -> tuple:
    constants = code.co_consts[doc is not None and code.co_consts[:1] == (doc,):]
    return (
        code.co_name, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_code,
        code.co_exceptiontable, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
        [_constant_fact(c) for c in constants],
    )


def _constant_fact(constant: object) -> object:
    if isinstance(constant, types.CodeType):
        return _code_facts(constant)
    if isinstance(constant, tuple):
        return tuple(map(_constant_fact, constant))
    if isinstance(constant, frozenset):
        return "set", sorted(map(repr, constant))
    return type(constant).__name__, repr(constant)


# ---- linking -----------------------------------------------------------------------------------------------


def base_names() -> dict[str, Any]:
    """What every function's code finds by name."""
    return {"__name__": __name__, "__builtins__": builtins}


def retyped(function: Callable, dtype: Any, names: dict) -> types.FunctionType:
    """Return the function with its float literals in `dtype`, looking names up in `names`."""
    return types.FunctionType(_retyped(function.__code__, dtype), names, function.__name__)


def _retyped(constant: Any, dtype: Any) -> Any:
    if isinstance(constant, types.CodeType):
        return constant.replace(co_consts=tuple(_retyped(c, dtype) for c in constant.co_consts))
    if isinstance(constant, tuple):
        return tuple(_retyped(c, dtype) for c in constant)
    return dtype(constant) if type(constant) is float else constant


class Linker:
    """Makes functions of one precision, each linked with what it calls, once.

    Parameters
    ----------
    dtype : type
        Of the literals, and what stands for `numpy.float64`, which kernels call `real`.
    make : callable
        make(function, retyped function) returns what its callers call.
    instead : mapping
        What stands in the place of something that functions use: `fma`, `math`.
    """

    def __init__(
        self, dtype: Any, make: Callable[[Callable, types.FunctionType], Any], instead: Mapping[Any, Any]
    ) -> None:
        self._dtype, self._make, self._instead = dtype, make, {np.float64: dtype, **instead}
        self._made: dict[Callable, Any] = {}
        self._making = threading.Lock()

    def __call__(self, function: Callable) -> Any:
        """Return the function as its callers call it."""
        if function not in self._made:
            with self._making:
                for called in call_graph(function):
                    if called not in self._made:
                        self._made[called] = self._make(called, retyped(called, self._dtype, self._names(called)))
        return self._made[function]

    def names(self, function: Callable) -> dict[str, Any]:
        """What a function's code finds by name, its callees made."""
        for called in callees(function):
            self(called)
        return self._names(function)

    def _names(self, function: Callable) -> dict[str, Any]:
        names = base_names()
        for name, value in uses(function).items():
            if value in self._instead:
                names[name] = self._instead[value]
            else:
                made = isinstance(value, types.FunctionType) and not is_primitive(value)
                names[name] = self._made[value] if made else value  # type: ignore[index]
        return names
