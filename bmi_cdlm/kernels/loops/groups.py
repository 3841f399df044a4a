"""Groups of arrays that kernels take and give: named tuples made from a declaration, read by name."""

from __future__ import annotations

import hashlib
import sys
from collections import namedtuple
from typing import Any

GROUPS: dict[tuple[str, tuple[str, ...]], type[Any]] = {}


def group(name: str, fields: tuple[str, ...]) -> type[Any]:
    """Return the named tuple of that name with these fields: the same class whenever it is asked for.

    Compiled kernels on disk name the classes of their arguments; under a name that tells the fields they find them here.
    """
    if (name, fields) not in GROUPS:
        made = namedtuple(name, fields)  # type: ignore[misc]  # noqa: PYI024
        place = f"{name}_{hashlib.sha256(repr(fields).encode()).hexdigest()[:8]}"
        made.__module__, made.__qualname__ = __name__, place
        setattr(sys.modules[__name__], place, made)
        GROUPS[name, fields] = made
    return GROUPS[name, fields]
