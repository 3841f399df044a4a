"""What is prepared of parameters, on a CUDA device: the loops of the host with a thread for each cell or reach."""

from __future__ import annotations

from functools import cache

from numba import cuda

from bmi_cdlm.kernels.loops.prepared import Filler, Head, fill_loops, ordinate_loops
from bmi_cdlm.names.declaration import Prepared, Queue

EVERY_THREAD = Head("i = cuda.grid(1)\n    if i < {n}:", {"cuda": cuda}, " on a device")


@cache
def fill_kernels(prepared: Prepared, constants: tuple[str, ...], passive: tuple[str, ...]) -> Filler:
    """Return the kernels of a prepared value; see `fill_loops`."""
    return fill_loops(prepared, constants, passive, EVERY_THREAD)


@cache
def ordinate_kernels(queue: Queue, constants: tuple[str, ...]) -> Filler:
    """Return the kernels of a queue's ordinates; see `ordinate_loops`."""
    return ordinate_loops(queue, constants, EVERY_THREAD)
