"""The kernels of a CUDA device, compiled from the same plain functions as those of the CPU.

The scalar steps are those of the CPU, retyped and compiled as device functions; around them stand the loops of `snow`,
`runoff` and `routing`. A function that asks `cuda.grid` for its place is a kernel, others are device functions. Only
`model.operators_cuda` imports this module: the model runs without numba-cuda. Nothing is cached on disk; a process
compiles what it launches.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import config, cuda

from bmi_cdlm.kernels.bits import TYPED, nearest
from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.graph import Linker, uses

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
MOST_BLOCKS_Y = 65535
"""Along the second axis of a grid, a limit of CUDA."""


def device_fma(a, b, c):
    """`fma` as the instruction it is; the simulator would round twice."""
    return cuda.fma(a, b, c)


def is_grid(function: Callable) -> bool:
    """Whether a function is a kernel: a thread of it asks for its place in the grid."""
    return any(module is cuda for module in uses(function).values()) and "grid" in function.__code__.co_names


def cuda_compiled(function: Callable, dtype: Any) -> Any:
    """Return a plain function as a kernel or a device function of one precision, with what it calls."""
    return _linker(dtype)(function)


@cache
def _linker(dtype: Any) -> Linker:
    # Device functions that are not inlined hand tuples through memory; the simulator knows no such option.
    inline = {} if SIMULATED else {"forceinline": True}

    def make(function: Callable, plain: types.FunctionType) -> Any:
        return cuda.jit(plain) if is_grid(function) else cuda.jit(device=True, **inline)(plain)

    own = {} if SIMULATED else {fma: cuda.jit(device=True, **inline)(device_fma), **device_bits(dtype)}
    return Linker(dtype, make, own)


def device_bits(dtype: Any) -> dict[Callable, Any]:
    """The functions of `bits` for a device; the simulator has no `intrinsic`, a device no llvm.rint."""
    from numba.cuda import libdevice
    from numba.cuda.extending import intrinsic

    rint = libdevice.rintf if dtype is np.float32 else libdevice.rint
    return {**{plain: intrinsic(typed) for plain, typed in TYPED.items()}, nearest: rint}


def default_stream() -> Any:
    """Return the stream that waits for all work, and for which all work waits."""
    return 0


class Launcher:
    """Launches the kernels of one precision.

    Parameters
    ----------
    dtype : float64 or float32
    stream : callable
        Returns the numba.cuda stream to launch on, the same object for the same stream; asked at every launch, for
        a caller's current stream changes.
    threads : int
        Threads per block.
    """

    def __init__(self, dtype: Any, stream: Callable[[], Any] = default_stream, threads: int = 128) -> None:
        self.dtype, self.stream, self.threads = dtype, stream, threads
        self._configured: dict[tuple, Any] = {}

    def over(self, n: int, function: Callable, *arguments: Any) -> None:
        """Launch a kernel with a thread for each of n cells, reaches or places."""
        if n:
            self._configure(function, -(-n // self.threads))(*arguments)

    def over_times(self, n: int, n_steps: int, function: Callable, *arguments: Any) -> None:
        """Launch a kernel with a thread for each of n cells or places and each time."""
        if n and n_steps:
            self._configure(function, (-(-n // self.threads), min(n_steps, MOST_BLOCKS_Y)))(*arguments)

    def _configure(self, function: Callable, blocks: int | tuple[int, int]) -> Any:
        kernel = cuda_compiled(function, self.dtype)
        threads = self.threads if isinstance(blocks, int) else (self.threads, 1)
        if SIMULATED:
            return kernel[blocks, threads]
        stream = self.stream()
        key = function, blocks, stream
        if key not in self._configured:
            with warnings.catch_warnings():  # a narrow wave is no mistake
                warnings.filterwarnings("ignore", message="Grid size")
                self._configured[key] = kernel[blocks, threads, stream]
        return self._configured[key]


def as_device_array(array: Any) -> Any:
    """Return the device array behind an array with `__cuda_array_interface__`, without a copy.

    The simulator's device is the host: there, any array that numpy can view.
    """
    if SIMULATED:
        return np.asarray(array)
    if not hasattr(array, "__cuda_array_interface__"):
        raise TypeError(
            f"got {type(array).__name__} {getattr(array, 'dtype', '')}, expected an array on the CUDA device. "
            "Move it there first: torch.Tensor.cuda(), or numba.cuda.to_device()."
        )
    return cuda.as_cuda_array(array, sync=False)  # who made it did so on the stream of the launch


def empty_device_array(shape: tuple[int, ...], dtype: Any) -> Any:
    """Allocate on the device; under the simulator, a numpy array."""
    return np.empty(shape, dtype) if SIMULATED else cuda.device_array(shape, dtype)


def to_device(array: np.ndarray) -> Any:
    """Copy to the device, to be read on any stream from now on; under the simulator, as it is."""
    if SIMULATED:
        return array
    placed = cuda.to_device(np.ascontiguousarray(array))
    cuda.default_stream().synchronize()
    return placed
