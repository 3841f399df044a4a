"""Run as a program, prints how far CudaOperators are from Operators: JSON {case: {operator: {result: difference}}}.

A difference is relative to the largest value of the result, 0 where every bit is equal. A process of its own:
numba decides at its import whether it simulates a device (NUMBA_ENABLE_CUDASIM=1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cuda_cases import (
    Arrays,
    Case,
    backward_cells,
    backward_reaches,
    cases,
    domain_of,
    flows_of,
    forward_cells,
    forward_reaches,
    host_operators,
    outlets_and_more,
    parameters_of,
    series_of,
    state_of,
)
from simulated_threads import in_turn

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.kernels.device.launch import SIMULATED, to_device
from bmi_cdlm.model import cell_operator, operators_cuda
from bmi_cdlm.model.operators_cuda import CudaOperators

BLOCK = 8


def copied(arrays: Arrays) -> Arrays:
    return {name: a.copy() for name, a in arrays.items()}


def sent(arrays: Arrays) -> Arrays:
    return {name: to_device(a.copy()) for name, a in arrays.items()}


def fetched(arrays: Arrays) -> Arrays:
    return {name: a.copy_to_host() if hasattr(a, "copy_to_host") else np.asarray(a) for name, a in arrays.items()}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.isfinite(a).all() and np.isfinite(b).all()
    if np.array_equal(a, b):
        return 0.0
    return float(np.abs(a - b).max() / np.abs(a).max())


def differences(expected: Arrays, got: Arrays) -> dict[str, float]:
    assert expected.keys() == got.keys(), (sorted(expected), sorted(got))
    return {name: difference(expected[name], got[name]) for name in expected}


def compare_pair(pair: tuple[Any, Any], host: Any, device: Any, *arguments: Any) -> tuple[dict, dict, Arrays]:
    """Forward and adjoint of an operator of the host and of its like on the device; and what it gives."""
    forward, backward = pair
    expected, expected_record = forward(host, copied, *arguments)
    outputs, record = forward(device, sent, *arguments)
    rng = np.random.default_rng(9)
    adj = {n: rng.normal(size=a.shape).astype(host.dtype) for n, a in expected.items()}
    expected_adj = backward(host, copied, expected_record, adj)
    outputs_adj = fetched(backward(device, sent, record, adj))
    return differences(expected, fetched(outputs)), differences(expected_adj, outputs_adj), expected


def device_operators(case: Case, domain: Domain) -> CudaOperators:
    return CudaOperators(
        case.chain, domain, case.step, case.step // 4, case.dtype, tile=case.tile, block=case.waves,
        threads=4 if SIMULATED else 128, **case.options,
    )


def compare(case: Case) -> dict[str, dict[str, float]]:
    """Every operator forward and adjoint, on the same arrays: those that the host has computed on the way."""
    domain, found = domain_of(21), {}
    host, device = host_operators(case, domain), device_operators(case, domain)
    handed_on: Arrays = {}
    for k, (mine, other) in enumerate(zip(host.cells, device.cells, strict=True)):
        name = mine.process.name
        if name not in case.compared:
            continue
        parameters = parameters_of(mine.process, case, mine.n_units, k)
        state = state_of(mine, mine.prepare(parameters), k)
        series = series_of(mine.process, case, k) | handed_on
        found[name], found[f"{name}_adjoint"], given = compare_pair(
            (forward_cells, backward_cells), mine, other, parameters, series, state
        )
        handed_on[mine.gives] = given["out"]
    name = host.reach.process.name
    if name in case.compared:
        found[name], found[f"{name}_adjoint"], _ = compare_pair(
            (forward_reaches, backward_reaches), host.reach, device.reach,
            parameters_of(host.reach.process, case, domain.n_reaches, 5), flows_of(case, 8) | handed_on,
            outlets_and_more(domain),
        )
    host.close()
    return found


if __name__ == "__main__":
    if SIMULATED:
        in_turn()
    cell_operator.BLOCK_STEPS = operators_cuda.BLOCK_STEPS = BLOCK
    chosen = {n: c for n, c in cases().items() if n in sys.argv[1:] or len(sys.argv) == 1}
    sys.stdout.write(json.dumps({"simulated": SIMULATED, **{n: compare(c) for n, c in chosen.items()}}))
