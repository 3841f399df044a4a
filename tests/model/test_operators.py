"""The operators over a period: dot tests against dual numbers, cuts that change no bit, and precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from kernels.dual import Dual, dual_kernels, seeded, tangents_of, values_of
from make_domain import random_domain
from numba import config
from operator_cases import (
    CASES,
    CELL,
    CHAIN_OUTPUTS,
    FORCING,
    PAIRS,
    Arrays,
    Case,
    all_values,
    chain_gradients,
    make_case,
)

from bmi_cdlm.domain.network import plan_network
from bmi_cdlm.kernels import launch, workers
from bmi_cdlm.kernels.groups import RunoffState, SnowState
from bmi_cdlm.model import operators
from bmi_cdlm.model.model import Forcing, Model
from bmi_cdlm.model.operators import Operators

TOLERANCE = 1e-10
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="too many cells for the interpreter")


@pytest.fixture(autouse=True)
def small_blocks(request, monkeypatch):
    """Blocks shorter than the period, for snow and runoff of another length than for routing."""
    if "whole_blocks" in request.fixturenames:
        return
    monkeypatch.setattr(operators, "BLOCK_STEPS", 7)
    monkeypatch.setattr(Operators, "_routing_blocks", lambda self, n: operators._blocks(n, 3))


@pytest.fixture
def whole_blocks():
    """Blocks of the length that is shipped."""


@pytest.fixture
def cut_for_threads(monkeypatch):
    """Several threads cut even a small case, down to pieces of one reach."""
    monkeypatch.setattr(workers, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(operators, "plan_network", partial(plan_network, smallest_piece=1))


@pytest.fixture
def dual_operators(monkeypatch) -> Callable[[Case], Operators]:
    """The operators of a case on arrays of dual numbers: their own code, and the kernels' own code, interpreted."""
    monkeypatch.setattr(operators, "kernels", lambda dtype: dual_kernels() if dtype is Dual else launch.kernels(dtype))
    return lambda case, threads=1: case.operators(Dual, threads)


@pytest.mark.parametrize("hysteresis", [True, False])
def test_operators_run_the_functions_and_give_the_bits_of_the_runtime(hysteresis):
    case = CASES["forest, hysteresis"]()
    given = {n: case.inputs[n] for n in (*CELL, "unit_hydrograph_base", "melt_factor", "travel_time", "weighting")}
    model = Model(
        case.domain, given, step=case.step, routing_step=case.routing_step,
        snow="cemaneige_hysteresis" if hysteresis else "cemaneige",
    )
    ops = case.operators()
    assert ops.kernels is model._kernels
    state = model.state.copy()
    snow, runoff_state, y = SnowState(*state.snow), RunoffState(*state.runoff), state.reach_flow
    out = model.advance(Forcing(*(case.inputs[n] for n in FORCING)), keep=("runoff", "discharge"))

    P, E, T = (case.inputs[n] for n in FORCING)
    liquid, _ = ops.melt(P, T, model._given.snow, snow, hysteresis)
    runoff, _ = ops.generate_runoff(liquid, E, model._given.runoff, runoff_state)
    coefficients = ops.coefficients(case.inputs["travel_time"], case.inputs["weighting"])
    discharge, _ = ops.route(runoff, coefficients, y, case.at)
    np.testing.assert_array_equal(runoff, out["runoff"])
    np.testing.assert_array_equal(discharge, out["discharge"][:, case.at])
    for ours, theirs in zip((*snow, *runoff_state, y), (*model.state.snow, *model.state.runoff, model.state.reach_flow),
                            strict=True):
        np.testing.assert_array_equal(ours, theirs)


def random_like(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    return {name: rng.normal(size=a.shape) for name, a in arrays.items()}


def dot_errors(name: str, case: Case, dual_operators: Callable, seed: int = 0, threads: int = 1) -> dict[str, float]:
    """|<J u, v> - <u, J^T v>| of an operator for each input moving alone, relative to the sum of its terms.

    J u comes from the operator itself on dual numbers, one direction per input; v weights every output, the
    final states among them.
    """
    pair, rng = PAIRS[name], np.random.default_rng(seed)
    inputs = all_values(case)
    active = [n for n in pair.active if case.hysteresis or n != "full_cover"]  # static in plain snow: no adjoint
    u = {n: rng.normal(size=inputs[n].shape) * np.where(inputs[n] == 0.0, 1.0, np.abs(inputs[n])) for n in active}
    ops = case.operators(np.float64, threads)
    outputs, record = pair.forward(ops, case, inputs)
    v = random_like(outputs, rng)
    found = pair.adjoint(ops, case, record, {n: a.copy() for n, a in v.items()})
    ops.close()

    seeds = inputs | {n: seeded(inputs[n], u[n], i, len(active)) for i, n in enumerate(active)}
    constants = {n: a.astype(object) for n, a in seeds.items()}
    ops = dual_operators(case, threads)
    moved, _ = pair.forward(ops, case, constants)
    ops.close()
    for n, a in outputs.items():
        np.testing.assert_allclose(values_of(moved[n]), a, rtol=1e-11, atol=1e-13, err_msg=f"dual value of {n}")
    Ju_v = sum(np.tensordot(v[n], tangents_of(moved[n], len(active)), v[n].ndim) for n in outputs)
    errors = {}
    for i, n in enumerate(active):
        terms = found[n] * u[n]
        assert np.isfinite(terms).all() and np.isfinite(Ju_v[i]), n
        scale = max(np.abs(terms).sum(), abs(Ju_v[i]))
        errors[n] = float(abs(terms.sum() - Ju_v[i]) / scale) if scale > 0.0 else 0.0
    return errors


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("case", CASES)
def test_dot(name, case, dual_operators, record_property):
    errors = dot_errors(name, CASES[case](), dual_operators)
    record_property("dot_error", float(max(errors.values())))
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("name", ["melt", "generate_runoff", "route", "chain"])
@pytest.mark.parametrize("case", ["forest, hysteresis", "forest, plain snow"])
def test_dot_on_several_threads(name, case, cut_for_threads, dual_operators, record_property):
    case = CASES[case]()
    plan = case.operators(threads=3)._plan
    assert len(plan.trunk) > 2, "the network is not cut"
    errors = dot_errors(name, case, dual_operators, threads=3)
    record_property("dot_error", float(max(errors.values())))
    assert max(errors.values()) <= TOLERANCE, errors


def test_the_cases_reach_every_branch():
    """Otherwise a dot test of zeros: each input of the chain has a gradient in one case at least."""
    reached = set()
    for make in CASES.values():
        case = make()
        outputs, _ = chain_gradients(case, {})
        _, gradients = chain_gradients(case, random_like(outputs, np.random.default_rng(1)))
        reached |= {n for n, g in gradients.items() if np.count_nonzero(g) > g.size / 20}
        assert set(gradients) == set(PAIRS["chain"].active)
    assert reached == set(PAIRS["chain"].active), set(PAIRS["chain"].active) - reached
    case = CASES["forest, hysteresis"]()
    ratio = case.inputs["travel_time"] / case.routing_step
    x = case.inputs["weighting"]
    short, long = 2 * ratio * (1 - x) <= 1, 2 * ratio * x >= 1
    assert (ratio == 0).any() and short.sum() > 5 and long.sum() > 5 and (~short & ~long).sum() > 5


@pytest.mark.parametrize("name", ["melt", "generate_runoff", "route"])
def test_a_slightly_wrong_adjoint_is_seen(name, dual_operators, monkeypatch):
    """One part in a million of one result."""
    pair = PAIRS[name]

    def wrong(ops, case, record, adj, scaled):
        found = pair.adjoint(ops, case, record, adj)
        return found | {scaled: found[scaled] * 1.000001}

    for scaled in pair.active:
        monkeypatch.setitem(PAIRS, name, pair._replace(adjoint=partial(wrong, scaled=scaled)))
        errors = (dot_errors(name, make(), dual_operators)[scaled] for make in CASES.values())
        assert any(error > 10 * TOLERANCE for error in errors), scaled


@pytest.mark.parametrize("case", ["forest, hysteresis", "hourly"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients_have_the_same_bits_on_any_number_of_threads(case, dtype, cut_for_threads):
    case = CASES[case]()
    outputs, _ = chain_gradients(case, {})
    v = random_like(outputs, np.random.default_rng(2))
    one = chain_gradients(case, v, dtype)
    for threads in (2, 3):
        several = chain_gradients(case, v, dtype, threads)
        for expected, got in zip(one, several, strict=True):
            for n in expected:
                assert expected[n].tobytes() == got[n].tobytes(), n


@pytest.mark.parametrize("case", CASES)
def test_gradients_do_not_depend_on_blocks(case, monkeypatch):
    """Values to the bit, gradients to the rounding of sums per block."""
    case = CASES[case]()
    v = random_like(chain_gradients(case, {})[0], np.random.default_rng(3))
    outputs, gradients = chain_gradients(case, v)
    for length in (1, 5, 1000):
        monkeypatch.setattr(operators, "BLOCK_STEPS", length)
        monkeypatch.setattr(Operators, "_routing_blocks", lambda self, n, length=length: operators._blocks(n, length))
        again, others = chain_gradients(case, v)
        assert all(outputs[n].tobytes() == again[n].tobytes() for n in outputs)
        for n in gradients:
            np.testing.assert_allclose(others[n], gradients[n], rtol=1e-11, atol=1e-12 * np.abs(gradients[n]).max())


def test_an_adjoint_over_two_halves_is_that_over_the_whole():
    """The adjoint of the state at the start of the second half goes into the first."""
    case = CASES["forest, hysteresis"]()
    half = 8
    v = random_like(chain_gradients(case, {})[0], np.random.default_rng(4))
    outputs, whole = chain_gradients(case, v)
    states = [n for n in CHAIN_OUTPUTS if n != "discharge"]

    def part(rows, initial):
        cut = {n: a[rows] if n in FORCING else a for n, a in (case.inputs | initial).items()}
        return case._replace(inputs=cut)

    first = part(slice(None, half), {})
    middle, _ = chain_gradients(first, {})
    second = part(slice(half, None), {n: middle[n] for n in states})
    end, late = chain_gradients(second, v | {"discharge": v["discharge"][half:]})
    for n in states:
        np.testing.assert_array_equal(end[n], outputs[n])
    _, early = chain_gradients(first, {n: late[n] for n in states} | {"discharge": v["discharge"][:half]})
    for n, expected in whole.items():
        if n in FORCING:
            got = np.concatenate((early[n], late[n]))
        else:
            got = early[n] if n in states else early[n] + late[n]
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max(), err_msg=n)


def test_no_steps_have_gradients_of_zero():
    domain = random_domain(7, 20, 10)
    ops = Operators(domain, 86400, 3600)
    p = ops.coefficients(np.full(20, 5000.0), np.full(20, 0.2))
    y_adj = np.ones(20)
    discharge, record = ops.route(np.empty((0, 10)), p, np.zeros(20), np.array([3]))
    runoff_adj, p_adj = ops.route_adjoint(record, np.empty((0, 1)), y_adj)
    assert discharge.shape == (0, 1) and runoff_adj.shape == (0, 10)
    assert not any(a.any() for a in p_adj) and (y_adj == 1).all()


def realistic(n_steps: int, seed: int = 5) -> Case:
    """A basin that is run in, its inputs rounded to single precision."""
    domain = random_domain(21, 40, 24, 80)
    rng = np.random.default_rng(seed)
    case = make_case(seed, domain, n_steps, n_sub=24, x4=(0.8, 4.0))
    season = np.cos(2 * np.pi * np.arange(n_steps) / 365)[:, None]
    inputs = case.inputs | {
        "air_temperature": 8.0 - 12.0 * season + rng.normal(0, 3, (n_steps, domain.n_cells)),
        "production_store": 0.5 * case.inputs["production_capacity"],
        "routing_store": 0.5 * case.inputs["routing_capacity"],
        "exchange_coefficient": rng.uniform(-1.0, 1.0, domain.n_cells),
        "travel_time": rng.uniform(500.0, 60000.0, domain.n_reaches),
    }
    return case._replace(inputs={n: a.astype(np.float32).astype(np.float64) for n, a in inputs.items()})


@compiled_only
def test_single_precision_gradients(whole_blocks, record_property):
    """A year and a half, the squared error against the same flow two days late. Worst input, by norm."""
    case = realistic(550)
    flow = chain_gradients(case, {})[0]["discharge"]
    v = {"discharge": ((flow - np.roll(flow, 2, axis=0)) / flow.std(axis=0)).astype(np.float32)}
    (flow, double), (flow_32, single) = (chain_gradients(case, v, dtype) for dtype in (np.float64, np.float32))
    assert {a.dtype for a in flow_32.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(flow_32["discharge"], flow["discharge"], rtol=1e-4, atol=1e-5)
    errors = {}
    for n, expected in double.items():
        size = np.linalg.norm(expected)
        errors[n] = np.linalg.norm(single[n] - expected) / size if size else np.abs(single[n]).max()
    record_property("dot_error", float(max(errors.values())))
    assert max(errors.values()) < 1e-4, errors


def test_precision_of_what_operators_return():
    """Single precision in, single precision out; double for the sums of parameters over time alone."""
    case = CASES["forest, hysteresis"]()
    values = {n: a.astype(np.float32) for n, a in all_values(case).items()}
    sums = {
        "melt": {"thermal_weighting", "melt_factor", "accumulation_threshold", "full_cover"},
        "generate_runoff": {"production_capacity", "exchange_coefficient", "routing_capacity", "ordinates_1",
                            "ordinates_2"},
        "route": {"direct", "gain", "keep"}, "ordinates": set(), "coefficients": set(),
    }
    for name, double in sums.items():
        ops = case.operators(np.float32)
        outputs, record = PAIRS[name].forward(ops, case, values)
        found = PAIRS[name].adjoint(ops, case, record, {n: np.ones_like(a) for n, a in outputs.items()})
        assert {a.dtype for a in outputs.values()} == {np.dtype(np.float32)}, name
        assert {n for n, a in found.items() if a.dtype == np.float64} == double
        assert {found[n].dtype for n in found.keys() - double} == {np.dtype(np.float32)}
        kept = [a for a in flatten(record) if isinstance(a, np.ndarray)]
        assert {a.dtype for a in kept} <= {np.dtype(np.float32), case.at.dtype}, f"{name} keeps double precision"


def flatten(record: object) -> list:
    """All leaves of nested tuples and lists."""
    return [leaf for part in record for leaf in flatten(part)] if isinstance(record, tuple | list) else [record]
