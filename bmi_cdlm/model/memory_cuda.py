"""Arrays on a CUDA device, and how a kernel is run over them; `memory` has the same for the host.

Anything with `__cuda_array_interface__` goes in without a copy (torch tensors, numba device arrays), and what `empty`
allocates comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bmi_cdlm.kernels.device import arrays
from bmi_cdlm.kernels.device.launch import Launcher, as_device_array, default_stream, empty_device_array, to_device
from bmi_cdlm.kernels.device.prepared import fill_kernels, ordinate_kernels
from bmi_cdlm.kernels.loops.plan import places_of
from bmi_cdlm.names.declaration import Queue

Array = Any
"""Anything on the device."""


class DeviceMemory:
    """Arrays of one precision on a CUDA device.

    Parameters
    ----------
    dtype : float64 or float32
    stream : callable
        Returns the numba.cuda stream to launch on; asked at every launch.
    empty : callable
        empty(shape, dtype) allocates on the device.
    threads : int
        Threads per block.
    """

    fill_loops, ordinate_loops = staticmethod(fill_kernels), staticmethod(ordinate_kernels)

    def __init__(
        self, dtype: type[np.floating], stream: Callable[[], Any] = default_stream,
        empty: Callable[[tuple[int, ...], Any], Array] = empty_device_array, threads: int = 128,
    ) -> None:
        self.dtype, self._allocate = dtype, empty
        self.launcher = Launcher(dtype, stream, threads)

    def run(self, kernel: Any, n: int, *arguments: Any) -> None:
        """Launch a kernel with a thread for each of n cells or reaches; its arguments may be anybody's arrays."""
        self.launcher.over(n, kernel, *map(view, arguments))

    def over(self, kernel: Any, shape: tuple[int, ...], *arguments: Any) -> None:
        """Launch a kernel with a thread for each number of arrays of one shape, [column] or [row, column]."""
        rows, columns = (1, *shape)[-2:]
        self.launcher.over_times(columns, rows, kernel, *(two_dimensional(view(a)) for a in arguments))

    def send(self, values: np.ndarray) -> Array:
        """An array of the domain, in this precision."""
        return to_device(values.astype(self.dtype))

    def real(self, values: Array) -> Array:
        """Parameters as they come: whoever has them on the device has made them there."""
        return values

    def empty(self, *shape: int) -> Array:
        """An array that somebody fills."""
        return self._allocate(shape, self.dtype)

    def empty_sums(self, *shape: int) -> Array:
        """An array of float64 that somebody fills."""
        return self._allocate(shape, np.float64)

    def full(self, value: float, *shape: int) -> Array:
        """An array of one value."""
        values = self.empty(*shape)
        self.over(arrays.fill, shape, self.dtype(value), values)
        return values

    def scaled(self, values: Array, share: float) -> Array:
        """A share of an array."""
        return self._made(arrays.scale, values, self.dtype(share))

    def sum(self, a: Array, b: Array) -> Array:
        """The sum of two arrays, a new one of float64."""
        total = self.empty_sums(*a.shape)
        self.over(arrays.add, tuple(a.shape), a, b, total)
        return total

    def product(self, a: Array, b: Array) -> Array:
        """The product of two arrays."""
        return self._made(arrays.multiply, a, b)

    def negative(self, values: Array) -> Array:
        """An array negated."""
        return self._made(arrays.negate, values)

    def seed(self, values: Array) -> Array:
        """An adjoint, summed in float64, as the kernels of prepared values take it."""
        return self._made(arrays.convert, values)

    def at_least(self, values: Array, least: float) -> Array:
        """No value below the smallest that there is."""
        return self._made(arrays.limit, values, self.dtype(least))

    def _made(self, kernel: Any, values: Array, *more: Any) -> Array:
        made = self.empty(*values.shape)
        self.over(kernel, tuple(values.shape), values, *more, made)
        return made

    def places(self, queue: Queue, base: Array, least: int) -> int:
        """Places of a queue: so many where they are named, for to look at the bases would wait for the device."""
        if least:
            return least
        values = view(base)
        host = values if isinstance(values, np.ndarray) else values.copy_to_host()
        return places_of(queue, float(host.max(initial=0.0)))


def view(value: Any) -> Any:
    """The device array behind an array, those of a group; anything else as it is."""
    if isinstance(value, tuple):
        return type(value)(*map(view, value)) if hasattr(value, "_fields") else value
    return as_device_array(value) if getattr(value, "shape", ()) else value


def two_dimensional(value: Any) -> Any:
    """An array [column] as [1, column]."""
    return value.reshape(1, value.shape[0]) if len(getattr(value, "shape", ())) == 1 else value
