"""A scalar function of a process on arrays by symbol."""

from __future__ import annotations

from typing import Any

import numpy as np

from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.elementwise import elementwise
from bmi_cdlm.kernels.loops.source import arguments_of
from bmi_cdlm.model.preparation import Arrays, Group


class Elementwise:
    """A scalar function of a process at every place, from arrays by symbol and the numbers of a step."""

    def __init__(self, function: Any, constants: Group, dtype: type[np.floating]) -> None:
        arguments = arguments_of(function)
        self._takes = [a for a in arguments if a not in constants._fields]
        # Where the function takes no number of a step, none is handed in: that costs as much as the rest.
        used = tuple(a for a in constants._fields if a in arguments)
        self._numbers, self._dtype = ((constants,) if used else ()), dtype
        self._loop = compiled(elementwise(function, used), dtype)

    def __call__(
        self, symbols: Arrays, own: Arrays | None = None, places: Any = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Fill `out`, or a new array; own : arrays in place of those of their symbols; places : at some places only."""
        found = [symbols[a] if own is None or a not in own else own[a] for a in self._takes]
        if places is not None:
            found = [v if own is not None and a in own else v[places] for a, v in zip(self._takes, found, strict=True)]
        filled = np.empty(found[0].size, self._dtype) if out is None else out
        self._loop(*found, *self._numbers, filled)
        return filled
