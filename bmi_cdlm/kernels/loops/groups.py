"""Groups of arrays that kernels take and give: named tuples made from a declaration, read by name."""

from __future__ import annotations

import hashlib
import sys
from collections import namedtuple
from typing import Any

GROUPS: dict[tuple[str, tuple[str, ...]], type[Any]] = {}


def group(name: str, fields: tuple[str, ...]) -> type[Any]:
    """Return the named tuple of that name with these fields: the same class whenever it is asked for.

    Its own name tells the fields: numba takes two classes of one name for the same and then resolves every call anew,
    which costs 0.1 ms, and compiled kernels on disk find the classes of their arguments here by name.
    """
    if (name, fields) not in GROUPS:
        place = f"{name}_{hashlib.sha256(repr(fields).encode()).hexdigest()[:8]}"
        made = namedtuple(place, fields)  # type: ignore[misc]
        made.__module__ = __name__
        setattr(sys.modules[__name__], place, made)
        GROUPS[name, fields] = made
    return GROUPS[name, fields]
