"""Routing and its adjoint in chunks: no bit depends on where a network is cut, and the tape does not grow with it."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest
from make_domain import random_domain
from numba import config
from operator_cases import chain_of, make_case
from process_cases import RESERVOIRS

from bmi_cdlm.domain.network import plan_network
from bmi_cdlm.kernels import workers
from bmi_cdlm.model import blocks, reach_operator, route_adjoint
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.processes.outside import ROUTING_NONE

N, N_STEPS = (120, 11) if config.DISABLE_JIT else (700, 37)
PROCESSES = {p.name: p for p in (MUSKINGUM, RESERVOIRS, ROUTING_NONE)}


def there_and_back(process, n_sub, dtype, threads):
    """Discharge, state at the end, and all adjoints of a forest; the record."""
    chain = chain_of(GR4J, reach=process)
    case = make_case(5, random_domain(5, N, 30, 2 * N), N_STEPS, chain=chain, n_sub=n_sub)
    ops, rng = case.operators(dtype, threads), np.random.default_rng(1)
    inputs = {name: a.astype(dtype) for name, a in case.inputs.items()}
    p = ops.reach.prepare({name: inputs[name] for name in case.parameters(process)})
    state, runoff = inputs[process.state].copy(), inputs["given_runoff"]
    discharge, record = ops.reach.run(runoff, p, state, case.at)
    state_adj = rng.normal(size=N).astype(dtype)
    slope = rng.normal(size=discharge.shape).astype(dtype)
    runoff_adj, p_adj = ops.reach.reverse(record, slope, state_adj)
    ops.close()
    return (discharge, state, runoff_adj, state_adj, *p_adj), record


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_sub", [1, 3, 24])
@pytest.mark.parametrize("name", PROCESSES)
def test_no_bit_depends_on_chunks(monkeypatch, name, n_sub, dtype):
    process = PROCESSES[name]
    monkeypatch.setattr(workers, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(reach_operator, "plan_network", partial(plan_network, smallest_piece=60))
    monkeypatch.setattr(route_adjoint, "block_steps", lambda *_: 16)
    monkeypatch.setattr(blocks, "NARROW", 0)  # the loops of a large domain
    monkeypatch.setattr(route_adjoint, "CHUNK", N)
    monkeypatch.setattr(route_adjoint, "SMALLEST_CHUNK", 1)
    expected, whole = there_and_back(process, n_sub, dtype, 1)
    assert whole.handed_on[0].shape[0] == 0
    if process.linear or dtype is np.float64:  # slopes of the reservoirs may be beyond single precision
        assert all(np.isfinite(a).all() for a in expected)
    assert all(np.count_nonzero(a) > a.size / 20 for a in (expected if process.parameters else expected[:1]))
    for most, threads, narrow in ((16, 1, 0), (16, 1, 1024), (50, 1, 0), (16, 3, 0), (16, 3, 1024), (N, 2, 0)):
        monkeypatch.setattr(route_adjoint, "CHUNK", most)
        monkeypatch.setattr(blocks, "NARROW", narrow)
        for budget in (route_adjoint.HANDED_ON_BYTES, 0):
            monkeypatch.setattr(route_adjoint, "HANDED_ON_BYTES", budget)
            found, record = there_and_back(process, n_sub, dtype, threads)
            assert record.handed_on[0].shape[0] > 0
            kept = sum(block.nbytes for block in record.handed_on)
            assert record.again == (kept > max(budget, record.runoff.nbytes))
            assert not record.again or len({block.ctypes.data for block in record.handed_on}) == 1
            for a, b in zip(expected, found, strict=True):
                assert a.tobytes() == b.tobytes(), (most, threads, narrow, budget)


@pytest.mark.skipif(config.DISABLE_JIT, reason="too many reaches for the interpreter")
def test_memory_of_a_large_network():
    """Up the rivers there is the tape of a chunk, not of a block; from chunk to chunk go few hydrographs."""
    n, n_steps, n_sub = 20_000, 128, 24
    domain = random_domain(6, n, 500, n)
    ops = Operators(chain_of(GR4J), domain, DAY, DAY // n_sub, np.float32)
    values = {p.name: np.full(n, p.range_at(DAY).default, np.float32) for p in MUSKINGUM.parameters}
    p, runoff = ops.reach.prepare(values), np.ones((n_steps, 500), np.float32)
    discharge, record = ops.reach.run(runoff, p, np.zeros(n, np.float32), np.array([n - 1]))
    tape = n * n_steps * n_sub * 4
    assert 0 < sum(a.nbytes for a in record.handed_on) < 0.2 * tape
    tracemalloc.start()
    ops.reach.reverse(record, np.ones_like(discharge), np.zeros(n, np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    plan, steps = record.cut.network, route_adjoint.block_steps(n, n_sub, np.float32)
    hydrographs = 2 * plan.n_slots * steps * n_sub * 4
    lateral, sums = n * steps * 4, 12 * n * 8
    parts = (route_adjoint.TAPE_BYTES, hydrographs, lateral, sums, runoff.nbytes)
    assert peak < 1.1 * sum(parts), (peak, parts)


@pytest.mark.skipif(config.DISABLE_JIT, reason="too many reaches for the interpreter")
def test_memory_where_hydrographs_between_chunks_are_too_many(monkeypatch):
    """One space for those of a block, however long the period: only states at the starts of blocks add up."""
    monkeypatch.setattr(route_adjoint, "HANDED_ON_BYTES", 0)
    n, n_sub, kept = 20_000, 24, {}
    ops = Operators(chain_of(GR4J), random_domain(6, n, 500, n), DAY, DAY // n_sub, np.float32)
    values = {p.name: np.full(n, p.range_at(DAY).default, np.float32) for p in MUSKINGUM.parameters}
    p, steps = ops.reach.prepare(values), route_adjoint.block_steps(n, n_sub, np.float32)
    for count in (2, 8):
        runoff, state = np.ones((count * steps, 500), np.float32), np.zeros(n, np.float32)
        ops.reach.run(runoff[:steps], p, state.copy(), np.array([n - 1]))  # what is compiled and made once
        tracemalloc.start()
        _, record = ops.reach.run(runoff, p, state, np.array([n - 1]))
        kept[count] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert record.again and len({block.ctypes.data for block in record.handed_on}) == 1
    of_a_block = record.handed_on[0].nbytes
    assert of_a_block > 6 * n * 4, "what is not kept is large"
    assert kept[8] - kept[2] < 1.1 * 6 * (n * 4 + steps * 4 + 1000), kept
    assert of_a_block < kept[2] < 1.1 * (of_a_block + 2 * n * 4) + 2**20, kept
    ops.close()
