"""Run as a program, prints how many values of each function on a CUDA device are not those of the CPU.

JSON {precision: {function: number}}; a process of its own, as for `compare_cuda`.
"""

from __future__ import annotations

import json

import numpy as np
from numba import cuda

from bmi_cdlm.kernels import transcendental
from bmi_cdlm.kernels.device.launch import SIMULATED, cuda_compiled
from bmi_cdlm.kernels.launch import compiled

WIDTH = 32
NAMES = ("power", "log of power", "exp", "log", "tanh")


def points(dtype) -> tuple[np.ndarray, np.ndarray]:
    """x and b; edges first."""
    rng, limits = np.random.default_rng(8), np.finfo(dtype)
    edges = [0, -0.0, -1, 1, 0.5, 2, np.inf, -np.inf, np.nan, limits.max, limits.tiny, limits.smallest_subnormal]
    edges += [90, -90, 720, -740, -800, 1e30, -1e30]
    count = (8 if SIMULATED else 4000) * WIDTH
    x = np.r_[edges, rng.uniform(0, 2, count), np.exp(rng.uniform(-80, 80, count)), rng.normal(0, 30, count)]
    x = x[: x.size // WIDTH * WIDTH].astype(dtype)
    return x, np.where(rng.uniform(size=x.size) < 0.05, 0, rng.uniform(-10, 10, x.size)).astype(dtype)


def compare(dtype) -> dict[str, int]:
    functions = (transcendental.power_and_log, transcendental.exp, transcendental.log, transcendental.tanh)
    power_and_log, exp, log, tanh = (cuda_compiled(f, dtype) for f in functions)
    of_cpu = [compiled(f, dtype) for f in functions]

    @cuda.jit
    def fill(x, b, out):
        i = cuda.grid(1)
        if i < x.size:
            y, log_x = power_and_log(x[i], b[i])
            out[0, i] = y
            out[1, i] = log_x
            out[2, i] = exp(x[i])
            out[3, i] = log(x[i])
            out[4, i] = tanh(x[i])

    x, b = points(dtype)
    out = np.empty((len(NAMES), x.size), dtype)
    fill[x.size // WIDTH, WIDTH](x, b, out)
    expected = np.array([
        (*of_cpu[0](v, e), *(f(v) for f in of_cpu[1:])) for v, e in zip(x, b, strict=True)
    ], dtype).T
    whole = np.int32 if dtype is np.float32 else np.int64
    differ = (out.view(whole) != np.ascontiguousarray(expected).view(whole)) & ~(np.isnan(out) & np.isnan(expected))
    return {name: int(row.sum()) for name, row in zip(NAMES, differ, strict=True)}


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        print(json.dumps({"simulated": SIMULATED, **{t.__name__: compare(t) for t in (np.float64, np.float32)}}))  # noqa: T201
