"""Arrays on the host, and how a loop is run over them; `memory_cuda` has the same for a CUDA device."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.plan import places_of
from bmi_cdlm.kernels.loops.prepared import fill_loops, ordinate_loops
from bmi_cdlm.names.declaration import Queue


class HostMemory:
    """Arrays of one precision on the host.

    Parameters
    ----------
    dtype : float64 or float32
    """

    fill_loops, ordinate_loops = staticmethod(cache(fill_loops)), staticmethod(cache(ordinate_loops))
    """Made once, whatever number of models there is: every making of a loop is compiled anew."""

    def __init__(self, dtype: type[np.floating]) -> None:
        self.dtype = dtype

    def run(self, loop: Any, _n: int, *arguments: Any) -> None:
        """Run a loop over n cells or reaches."""
        compiled(loop, self.dtype)(*arguments)

    def send(self, values: np.ndarray) -> np.ndarray:
        """An array of the domain, in this precision."""
        return values.astype(self.dtype)

    def real(self, values: np.ndarray) -> np.ndarray:
        """Parameters, whole numbers in this precision: a kernel would be compiled once more for their type."""
        return self.send(values) if values.dtype.kind in "iu" else values

    def empty(self, *shape: int) -> np.ndarray:
        """An array that somebody fills."""
        return np.empty(shape, self.dtype)

    def full(self, value: float, *shape: int) -> np.ndarray:
        """An array of one value."""
        return np.full(shape, value, self.dtype)

    def scaled(self, values: np.ndarray, share: float) -> np.ndarray:
        """A share of an array."""
        return share * values

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The product of two arrays."""
        return a * b

    def sum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The sum of two arrays, a new one; of float64 if one of them is."""
        return a + b

    def seed(self, values: np.ndarray) -> np.ndarray:
        """An adjoint, summed in float64, as the loops of prepared values take it."""
        return values.astype(self.dtype)

    def at_least(self, values: np.ndarray, least: float) -> np.ndarray:
        """No value below the smallest that there is."""
        return np.maximum(values, self.dtype(least))

    def places(self, queue: Queue, base: np.ndarray, least: int) -> int:
        """Places of a queue with these bases, at least so many."""
        return places_of(queue, float(base.max(initial=0.0)), max(least, 1))
