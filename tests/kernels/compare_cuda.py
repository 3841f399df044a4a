"""Run as a program, prints how far CudaOperators are from Operators: JSON {case: {operator: {result: difference}}}.

A difference is relative to the largest value of the result, 0 where every bit is equal. A process of its own:
numba decides at its import whether it simulates a device (NUMBA_ENABLE_CUDASIM=1).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from make_domain import random_domain
from operator_cases import CHAIN, PAIRS, Arrays, Case, make_case

from bmi_cdlm.kernels.device.launch import SIMULATED, to_device
from bmi_cdlm.model import operators, operators_cuda
from bmi_cdlm.model.operators_cuda import CudaOperators
from bmi_cdlm.names.time_steps import HOUR

BLOCK = 8


class CudaCase(NamedTuple):
    """A case, its precision, and what must not change the results: the tile, and the waves of a block."""

    case: Case
    dtype: type
    tile: int | None = None
    waves: int | None = 5


def cases() -> dict[str, CudaCase]:
    forest, hourly = random_domain(21, 12, 5, 20), random_domain(22, 12, 5, 20)
    daily = make_case(31, forest, 20)
    plain = make_case(32, forest, 20, hysteresis=False)
    hours = make_case(33, hourly, 20, step=HOUR, x4=(5.0, 30.0))
    return {
        "daily, hysteresis": CudaCase(daily, np.float64),
        "daily, plain snow": CudaCase(plain, np.float64, tile=3),
        "daily, blocks of the shipped length": CudaCase(daily, np.float64, tile=10, waves=None),
        "daily, a launch per sub-step": CudaCase(make_case(34, forest, 5), np.float64, tile=1),
        "hourly": CudaCase(hours, np.float64),
        "daily, single precision": CudaCase(daily, np.float32),
        "hourly, single precision": CudaCase(hours, np.float32, tile=6),
    }


class FromHost:
    """CudaOperators behind the face of Operators: numpy arrays in and out, changed in place where it does so."""

    def __init__(self, ops: CudaOperators) -> None:
        self._ops = ops

    def __getattr__(self, name: str) -> Callable:
        method = getattr(self._ops, name)
        return method if SIMULATED else lambda *arguments: self._call(method, arguments)

    def _call(self, method: Callable, arguments: tuple):
        stays = method == self._ops.route  # its reaches are numbers for the host
        sent = [a if stays and k == 3 else over(to_device, a) for k, a in enumerate(arguments)]
        results = method(*sent)
        for mine, device in zip(arguments, sent, strict=True):
            if mine is not device:
                for host, changed in zip(arrays_of(mine), arrays_of(device), strict=True):
                    host[...] = changed.copy_to_host()
        if isinstance(results, tuple) and not hasattr(results, "_fields"):
            return tuple(over(lambda a: a.copy_to_host(), r) for r in results)
        return over(lambda a: a.copy_to_host(), results)


def arrays_of(value) -> list:
    """The arrays of an array or of a group; none of a record or a number."""
    if hasattr(value, "shape") and value.shape:
        return [value]
    is_group = isinstance(value, tuple) and all(hasattr(a, "shape") for a in value)
    return list(value) if is_group else []


def over(move: Callable, value):
    """Move an array or a group of arrays; anything else stays as it is."""
    moved = [move(a) for a in arrays_of(value)]
    if not moved:
        return value
    return type(value)(*moved) if isinstance(value, tuple) else moved[0]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
    assert np.isfinite(a).all() and np.isfinite(b).all()
    if np.array_equal(a, b):
        return 0.0
    return float(np.abs(a - b).max() / np.abs(a).max())


def compare(cuda_case: CudaCase) -> dict[str, dict[str, float]]:
    """Every operator forward and adjoint, on the same arrays: those that the CPU has computed on the way."""
    case, dtype, tile, waves = cuda_case
    cpu = case.operators(dtype)
    device = FromHost(CudaOperators(
        case.domain, case.step, case.routing_step, dtype, tile=tile, block=waves,
        threads=4 if SIMULATED else 128,
    ))
    rng, values = np.random.default_rng(9), {n: a.astype(dtype) for n, a in case.inputs.items()}
    found: dict[str, dict[str, float]] = {}
    for step in CHAIN:
        name = step[0].__name__
        (expected, expected_record), (outputs, record) = (step[0](o, case, values) for o in (cpu, device))
        found[name] = {n: difference(expected[n], outputs[n]) for n in expected}
        adj = {n: rng.normal(size=a.shape).astype(dtype) for n, a in expected.items()}
        expected_adj, outputs_adj = (
            step[1](o, case, r, {n: a.copy() for n, a in adj.items()})
            for o, r in ((cpu, expected_record), (device, record))
        )
        found[f"{name}_adjoint"] = {n: difference(expected_adj[n], outputs_adj[n]) for n in expected_adj}
        values |= {n: a for n, a in expected.items() if n not in case.inputs}
    inputs: Arrays = {n: a.astype(dtype) for n, a in case.inputs.items()}
    (expected, _), (outputs, _) = (PAIRS["chain"].forward(o, case, inputs) for o in (cpu, device))
    found["chain"] = {n: difference(expected[n], outputs[n]) for n in expected}
    cpu.close()
    return found


if __name__ == "__main__":
    operators.BLOCK_STEPS = operators_cuda.BLOCK_STEPS = BLOCK
    chosen = {n: c for n, c in cases().items() if n in sys.argv[1:] or len(sys.argv) == 1}
    sys.stdout.write(json.dumps({"simulated": SIMULATED, **{n: compare(c) for n, c in chosen.items()}}))
