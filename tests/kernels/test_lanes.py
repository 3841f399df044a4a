"""Eight reaches at once have the bits of each alone; what is written in vectors is taken in vectors."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numba import config

from bmi_cdlm.domain import network
from bmi_cdlm.domain.domain import Links
from bmi_cdlm.domain.network import order_reaches, plan_network, renumbered
from bmi_cdlm.kernels import dialect, lanes, launch, streaming
from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.groups import ReachSeries
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.reach_plan import reach_plan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.loops.rows import tile_rows
from bmi_cdlm.kernels.streaming import is_lined
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import on_lines, whole_series
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM, muskingum_coefficients, muskingum_step, muskingum_step_adjoint

PLAN = reach_plan(MUSKINGUM)
N = 200


def river(seed: int) -> np.ndarray:
    """A forest of two hundred reaches in routing order, with confluences of up to four."""
    rng = np.random.default_rng(seed)
    below = np.array([i + 1 + int(rng.integers(min(6, N - 1 - i))) if i < N - 3 else -1 for i in range(N)])

    return renumbered(below, order_reaches(below, [f"{i:02d}" for i in range(N)]))


def cut_both_ways(monkeypatch, seed):
    """A river, and its plan with eight reaches in step and with one."""
    downstream, plans = river(seed), []
    for together in (8, 1):
        monkeypatch.setattr(network, "IN_STEP", together)
        plans.append(plan_network(downstream, 2, 80))
    assert set(plans[0].network.in_step.tolist()) >= {8} and set(plans[1].network.in_step.tolist()) == {1}
    return downstream, plans


def routed(downstream, dtype, n_steps, n_sub, kept, plan, n_cells=70):
    """State, volumes, inflows of the tape by reach, last values and discharge of what is kept, after a block."""
    rng, n = np.random.default_rng(1), downstream.size
    K, x = rng.lognormal(np.log(3600.0), 1.5, n), rng.uniform(0, 0.5, n)
    found = np.array([muskingum_coefficients(k, w, 86400.0 / n_sub) for k, w in zip(K, x, strict=True)])
    p = PLAN.parameter_group(*(found[:, ["direct", "gain", "keep", "storage_time"].index(s)].astype(dtype)
                               for s in PLAN.parameter_group._fields))
    count = int((np.arange(n) % 3).sum())
    cells = rng.integers(0, n_cells, count) if n_cells == 70 else np.arange(count) % 3 * 256
    links = Links(np.r_[0, np.cumsum(np.arange(n) % 3)], cells, np.ones(count, dtype))
    runoff, state = rng.uniform(0, 9, (n_steps, n_cells)).astype(dtype), rng.random(n).astype(dtype)
    slot, gauges = plan.network.slot, np.arange(0, n, 5)

    def series(whole: bool) -> ReachSeries:
        if whole:
            return whole_series(on_lines(n, n_steps, dtype))
        row = slot.copy()
        row[gauges] = plan.n_slots + np.arange(gauges.size)
        return ReachSeries(np.empty((plan.n_slots + gauges.size, n_steps), dtype), row, np.empty(n, dtype))

    lateral, discharge = series(kept), series(kept)
    volume, tape = np.zeros(n, dtype), np.empty((2 * n, n_steps * n_sub), dtype)
    hydrographs = np.empty((plan.n_slots, n_steps * n_sub), dtype)
    again = ReachSeries(lateral.values.copy(), lateral.row, lateral.last.copy())
    for one, own, filled, to in ((state.copy(), volume.copy(), again, tape), (state, volume, lateral, tape[:, :0])):
        plan.route(Workers(1), compiled(reach_loops(PLAN, LINKS).route, dtype), (
            plan.network, links, p, one, runoff, filled, hydrographs, discharge, to.reshape(2 * n, -1), own,
            dtype(86400 // n_sub), n_sub, dtype(86400),
        ), n_steps, n_sub)
    by_reach, place = np.empty_like(tape[:n]), 0
    while place < n:  # eight rows together hold step after step of eight reaches
        together = int(plan.network.in_step[place])
        rows = tape[place : place + together]
        if together == 8 and (n_sub == 1 or n_sub % 8 == 0):
            rows = rows.reshape(-1, 8).T
        by_reach[plan.network.sequence[place : place + together]] = rows
        place += together
    places = np.arange(n) if kept else gauges
    return state, volume, by_reach, lateral.last, discharge.last, *(
        s.values[s.row[places]] for s in (lateral, discharge)
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n_steps", "n_sub"), [(19, 1), (5, 1), (2, 24), (3, 4)])
def test_eight_at_once_are_eight_alone(monkeypatch, dtype, n_steps, n_sub):
    downstream, plans = cut_both_ways(monkeypatch, n_steps)
    for kept in (True, False):
        for a, b in zip(*(routed(downstream, dtype, n_steps, n_sub, kept, plan) for plan in plans), strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n_steps", "n_cells"), [(300, 900), (5248, 70), (5251, 70)])
def test_eight_at_once_from_cells_in_each_others_place_and_past_the_caches(monkeypatch, dtype, n_steps, n_cells):
    """Cells 512 apart stand in the same rows, one after the other; what is kept of 5,248 steps is whole lines."""
    if config.DISABLE_JIT:
        n_steps = min(n_steps, 301)
    downstream, plans = river(n_steps), []
    for together in (8, 1):
        monkeypatch.setattr(network, "IN_STEP", together)
        plans.append(plan_network(downstream, 1))
    for kept in (True, False):
        found, expected = (routed(downstream, dtype, n_steps, 1, kept, plan, n_cells) for plan in plans)
        for a, b in zip(found, expected, strict=True):
            assert a.tobytes() == b.tobytes()


def test_lines_of_the_cache():
    """Whole lines where a row is a number of them, from the beginning of one on."""
    shifted = on_lines(1, 72)[0, 4:68].reshape(4, 16)
    for values, t, expected in (
        (on_lines(3, 16), 0, True), (on_lines(3, 16), 8, True), (on_lines(3, 16), 4, False),
        (on_lines(3, 12), 0, False), (shifted, 0, False),
    ):
        assert compiled(begins_on_lines)(values, t) == begins_on_lines(values, t) == expected
    for dtype in (np.float64, np.float32):
        assert all(on_lines(5, width, dtype).ctypes.data % 64 == 0 for width in (1, 7))


def begins_on_lines(values, t):
    """`is_lined`, to be compiled."""
    return is_lined(values, t)


def taken_back(downstream, dtype, n_steps, n_sub, plan, narrow):
    """Adjoints of states, of coefficients and, by reach, of lateral inflow, of the discharge of every fifth reach."""
    rng, n, loops = np.random.default_rng(2), downstream.size, reach_loops(PLAN, LINKS)
    p = PLAN.parameter_group(*(rng.uniform(0, 1, n).astype(dtype) for _ in PLAN.parameter_group._fields))
    none = Links(np.zeros(n + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, dtype))
    start, last = rng.random(n).astype(dtype), np.empty(n, dtype)
    series = (ReachSeries(np.empty((plan.n_slots, n_steps), dtype), plan.network.slot, last) for _ in range(2))
    lateral, discharge = series
    tape, volume = np.empty((2 * n, n_steps * n_sub), dtype), np.zeros(n, dtype)
    hydrographs = np.empty((plan.n_slots, n_steps * n_sub), dtype)
    several = Links(np.arange(n + 1), rng.integers(0, 9, n), rng.random(n).astype(dtype))
    plan.route(Workers(1), compiled(loops.narrow if narrow else loops.route, dtype), (
        plan.network, several if n_steps > 1 else none, p, start.copy(), rng.uniform(0, 9, (n_steps, 9)).astype(dtype),
        lateral, hydrographs, discharge, tape, volume, dtype(86400 // n_sub), n_sub, dtype(86400),
    ), n_steps, n_sub)
    asked = ReachSeries(np.zeros((1 + len(range(0, n, 5)), n_steps), dtype), np.zeros(n, np.int64), last)
    asked.row[::5] = 1 + np.arange(asked.values.shape[0] - 1)
    asked.values[1:] = rng.normal(size=asked.values[1:].shape)
    state_adj = rng.normal(size=n).astype(dtype)
    p_adj = PLAN.adjoint_group(*(np.zeros(n, dtype) for _ in PLAN.adjoint_group._fields))
    lateral_adj = np.empty((n, n_steps), dtype)
    plan.reverse(Workers(1), compiled(loops.narrow_reverse if narrow else loops.reverse, dtype), (
        plan.network, downstream, p, start, tape, asked, state_adj, p_adj, np.full_like(hydrographs, np.nan),
        lateral_adj, dtype(86400 // n_sub), n_sub,
    ), n_steps, n_sub)
    by_reach = np.empty_like(lateral_adj)
    by_reach[plan.network.sequence] = lateral_adj
    return state_adj, *p_adj, by_reach


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n_steps", "n_sub"), [(19, 1), (5, 1), (3, 24), (2, 8), (3, 4)])
def test_the_adjoint_of_eight_at_once_is_that_of_eight_alone(monkeypatch, dtype, n_steps, n_sub):
    downstream, plans = cut_both_ways(monkeypatch, n_steps)
    cases = [(plan, narrow) for plan in plans for narrow in (False, True)]
    expected, *others = (taken_back(downstream, dtype, n_steps, n_sub, *case) for case in cases)
    assert all(np.isfinite(a).all() and np.count_nonzero(a) > a.size / 2 for a in expected)
    for found in others:
        for a, b in zip(expected, found, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.skipif(config.DISABLE_JIT, reason="inspects machine code: needs the compiler")
def test_lanes_are_vectors(kernel_cache):
    """Compiled anew, in an empty folder: the code of what comes from disk cannot be read."""
    loops, plan, names = reach_loops(PLAN, LINKS), plan_network(river(0), 1), set()
    for dtype, word in ((np.float64, "f64"), (np.float32, "f32")):
        routed(river(0), dtype, 9, 1, True, plan)
        taken_back(river(0), dtype, 9, 1, plan, narrow=False)
        for loop in (loops.route, loops.reverse):
            root = launch.new_root(loop, dtype)
            root.compile(compiled(loop, dtype).signatures[-1])
            [code] = root.inspect_llvm().values()
            assert loop is loops.reverse or "!nontemporal" in code
            rows = re.findall(r"^define [^\n]*\d((?:route|retrace|reverse)_eight[a-z_]*)B\d(.*?)^}", code, re.S | re.M)
            for name, body in rows:
                names.add(name)
                assert len(re.findall(rf"call [^\n]*@llvm\.fma\.v8{word}", body)) >= 2 * 8, (name, word)
    assert names == {"route_eight", "route_eight_means", "retrace_eight", "retrace_eight_parts", "reverse_eight"}


def test_primitives_are_what_they_stand_for():
    values = np.arange(20.0 * 30).reshape(20, 30)
    rows = tuple(range(3, 11))
    steps = lanes.across(values, rows, 5)
    assert [s.tolist() for s in steps] == values[3:11, 5:13].T.tolist()
    copy = np.zeros_like(values)
    lanes.along(copy, rows, 5, steps)
    lanes.turn_block(values, 1, 2, copy, 12, 20)
    lanes.give_turned(copy, 0, 29, np.arange(8.0))
    assert copy[7, 22:].tolist() == lanes.take_turned(copy, 0, 29).tolist() == np.arange(8.0).tolist()
    assert (copy[3:11, 5:13] == values[3:11, 5:13]).all() and (copy[12:20, 20:28] == values[1:9, 2:10].T).all()
    assert fma(np.full(8, 2.0), np.full(8, 3.0), np.arange(8.0)).tolist() == (6.0 + np.arange(8.0)).tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [0, 3, 15, 16, 17, 100])
def test_rows_past_the_caches_arrive_whole(dtype, size):
    space, source = np.zeros(140, dtype), np.arange(1, size + 1, dtype=dtype)
    for begin in range(0, 18, 5):
        space[:] = -1
        compiled(stream, dtype)(source, space[begin : begin + size])
        assert (space[begin : begin + size] == source).all() and np.count_nonzero(space == -1) == 140 - size


def stream(values, copy):
    stream_row(values, copy)
    settle()


stream_row, settle = streaming.stream_row, streaming.settle


def test_rows_lie_apart():
    rows = compiled(tile_rows)(5, 512, np.empty(1))
    assert rows.shape[0] == 5 and rows.shape[1] >= 512 and rows.strides[0] % 128 == 64


def test_arithmetic_steps_only():
    def choosing(y, inflow, keep):
        return y if inflow > 0.0 else keep * y, y

    assert dialect.is_arithmetic(muskingum_step) and dialect.is_arithmetic(muskingum_step_adjoint)
    assert not dialect.is_arithmetic(choosing)
