"""What operators of cells and of reaches share: groups of arrays, steps in blocks, and what is a small domain."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.model.preparation import Arrays, Group

NARROW = 1024
"""Cells, and reaches, below which the loops are taken that are compiled sooner: what the others would save there is a
millisecond a year."""


def is_narrow(n: int) -> bool:
    """Whether so many cells, or reaches, take the loops that are compiled sooner."""
    return n < NARROW


def copy_group(group: Group) -> Group:
    """Copy every array of a group."""
    return type(group)(*(a.copy() for a in group))


def zeros_of(group: Group) -> Group:
    """Return zeros in the shapes of a group."""
    return type(group)(*(np.zeros_like(a) for a in group))


def add_to(total: Group, part: Group) -> None:
    """Add a group to the arrays of another."""
    for a, b in zip(total, part, strict=True):
        a += b


def blocks_of(n_steps: int, length: int) -> list[slice]:
    """Steps cut into blocks of a length, the last one shorter."""
    return [slice(first, min(first + length, n_steps)) for first in range(0, n_steps, length)]


def steps_of(series: Arrays, block: slice) -> dict[str, np.ndarray]:
    """Some steps of inputs [time, cell] and of parameters [component, time, cell]."""
    return {name: a[block] if a.ndim == 2 else a[:, block] for name, a in series.items()}
