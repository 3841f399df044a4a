"""Memory of the operators between forward and backward, and at the peak: the law stated in operators.py."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from make_domain import lumped_domain
from numba import config
from operator_cases import FORCING, Case, chain_of, group, make_case

from bmi_cdlm.model.blocks import zeros_of
from bmi_cdlm.model.cell_operator import BLOCK_STEPS
from bmi_cdlm.model.route_adjoint import BLOCK_BYTES, LONGEST_BLOCK, SHORTEST_BLOCK, block_steps
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.gr4j import GR4J

compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="too many cells for the interpreter")


class Memory:
    """Bytes that numpy and Python hold above those at the start; scratch of compiled code is not seen."""

    def __init__(self) -> None:
        self.start = tracemalloc.get_traced_memory()[0]

    def held(self) -> int:
        return tracemalloc.get_traced_memory()[0] - self.start

    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self.start


@contextmanager
def memory() -> Iterator[Memory]:
    tracemalloc.start()
    try:
        yield Memory()
    finally:
        tracemalloc.stop()


N_CELLS = 512
PERIODS = (256, 512, 2048)
OBJECTS = 4096
"""Bytes of Python objects around the arrays of one block, and a few times as much around those of a call."""


def lumped_case(n_steps: int) -> Case:
    """As many reaches as cells, 24 sub-steps, no snow, X4 of 4, one gauge in eight."""
    case = make_case(9, lumped_domain(N_CELLS), n_steps, chain=chain_of(GR4J), n_sub=24, x4=(4.0, 4.0))
    return case._replace(
        at=np.arange(0, N_CELLS, 8), inputs={n: np.ascontiguousarray(a, np.float32) for n, a in case.inputs.items()}
    )


def run_once(n_steps: int) -> dict[str, int]:
    """Bytes kept between forward and backward, and at the peak, of runoff and routing one after the other.

    The caller lets go of what it no longer needs, as autograd does: the record of routing, and runoff with it, once it
    is reversed.
    """
    case = lumped_case(n_steps)
    values, ops = case.inputs, case.operators(np.float32)
    [cells], reach = ops.cells, ops.reach
    series = {name: values[name] for name in FORCING[:2]}
    p = cells.prepare({name: values[name] for name in case.parameters(GR4J)})
    coefficients = reach.prepare({name: values[name] for name in case.parameters(case.chain.reach)})
    state, y = group(cells.plan.state_group, values), values["reach_flow"]
    state_adj, y_adj = zeros_of(state), np.zeros_like(y)
    bytes_of = {}
    with memory() as m:
        runoff, runoff_record = cells.run(series, p, state)
        bytes_of["runoff kept"] = m.held() - runoff.nbytes
        before = m.held()
        discharge, route_record = reach.run(runoff, coefficients, y, case.at)
        bytes_of["route kept"] = m.held() - before - discharge.nbytes
        bytes_of["forward peak"] = m.peak()
        del runoff
        discharge_adj = np.ones_like(discharge)
        del discharge
        before = m.held()
        tracemalloc.reset_peak()
        runoff_adj, _ = reach.reverse(route_record, discharge_adj, y_adj)
        bytes_of["route scratch"] = m.peak() - before - 2 * runoff_adj.nbytes  # beside runoff_adj and lateral_adj
        bytes_of["route peak"] = m.peak()
        del route_record, discharge_adj
        before = m.held()
        tracemalloc.reset_peak()
        cells.reverse(runoff_record, runoff_adj, state_adj, wanted=())
        bytes_of["runoff scratch"] = m.peak() - before
        bytes_of["runoff peak"] = m.peak()
    return bytes_of


@compiled_only
def test_memory_law(record_property):
    """The law at the top of operators.py, in single precision; and 16 bytes per cell-day in all."""
    run_once(BLOCK_STEPS)  # imports and compiles
    found = {n_steps: run_once(n_steps) for n_steps in PERIODS}
    told = {n: {k: round(float(b) / n / N_CELLS, 2) for k, b in f.items()} for n, f in found.items()}
    record_property("memory", told)
    for n_steps, used in found.items():
        blocks = n_steps // BLOCK_STEPS
        states = blocks * (2 + 4 + 8) * 4 * N_CELLS
        assert states <= used["runoff kept"] <= states + (blocks + 16) * OBJECTS
        routing_blocks = n_steps // LONGEST_BLOCK
        states = routing_blocks * 4 * N_CELLS
        assert states <= used["route kept"] <= states + (routing_blocks + 16) * OBJECTS
    first, last = (found[n] for n in (PERIODS[0], PERIODS[-1]))
    blocks = (PERIODS[-1] - PERIODS[0]) // LONGEST_BLOCK
    for scratch in ("runoff scratch", "route scratch"):
        assert last[scratch] - first[scratch] <= blocks * OBJECTS, f"{scratch} grows with the period"
    peak = max(last[n] for n in ("forward peak", "route peak", "runoff peak"))
    assert peak <= 16 * PERIODS[-1] * N_CELLS


def test_routing_blocks_fit_their_budget():
    """Of many reaches a block is shorter than 64 days, 16 at least; of many sub-steps a day, too."""
    steps = {}
    for n_reaches in (0, 10, 200_000, 2_000_000):
        for dtype in (np.float32, np.float64):
            steps[n_reaches, dtype] = block_steps(n_reaches, DAY // HOUR, dtype)
            size = steps[n_reaches, dtype] * n_reaches * np.dtype(dtype).itemsize
            assert size <= BLOCK_BYTES or steps[n_reaches, dtype] == SHORTEST_BLOCK
    assert steps[0, np.float32] == steps[10, np.float32] == LONGEST_BLOCK and steps[10, np.float64] == 48
    assert steps[200_000, np.float64] == 41 and steps[2_000_000, np.float32] == SHORTEST_BLOCK
    assert block_steps(10, 1, np.float64) == 192 and block_steps(10, 96, np.float64) == SHORTEST_BLOCK
