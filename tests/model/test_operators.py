"""The operators over a period: dot tests against dual numbers, cuts that change no bit, and precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from kernels.dual import Dual, dual, seeded, tangents_of, values_of
from make_domain import lumped_domain, random_domain
from numba import config
from operator_cases import (
    CASES,
    FORCING,
    NAMES,
    Arrays,
    Case,
    all_values,
    chain_gradients,
    chain_of,
    chain_pair,
    make_case,
    of_every_operator,
    pairs,
)
from process_cases import BESIDE, CELLS, HBV, REACHES, RESERVOIRS, VARYING

from bmi_cdlm.domain.network import plan_network
from bmi_cdlm.kernels import launch, workers
from bmi_cdlm.kernels.loops import rows
from bmi_cdlm.model import blocks, cell_operator, elementwise, memory, reach_operator, route_adjoint
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.declaration import LIQUID_WATER, RUNOFF
from bmi_cdlm.processes.cemaneige import CEMANEIGE
from bmi_cdlm.processes.gr4j import GR4J

TOLERANCE = 1e-10
EVERY_CASE = of_every_operator() if config.DISABLE_JIT else list(CASES)
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="too many cells for the interpreter")


@pytest.fixture(autouse=True)
def small_blocks(request, monkeypatch):
    """Blocks shorter than the period, for snow and runoff of another length than for routing."""
    if "whole_blocks" in request.fixturenames:
        return
    monkeypatch.setattr(cell_operator, "BLOCK_STEPS", 7)
    monkeypatch.setattr(route_adjoint, "block_steps", lambda *_: 3)


@pytest.fixture
def whole_blocks():
    """Blocks of the length that is shipped."""


def several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads cut even a small case, down to pieces of one reach."""
    monkeypatch.setattr(workers, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(reach_operator, "plan_network", partial(plan_network, smallest_piece=1))


@pytest.fixture
def cut_for_threads(monkeypatch):
    """Cut so throughout a test."""
    several_threads(monkeypatch)


@pytest.fixture
def dual_operators(monkeypatch) -> Callable[[Case], Operators]:
    """The operators of a case on arrays of dual numbers: their own code, and the kernels' own code, interpreted."""
    def compiled(function, dtype):
        return dual(function) if dtype is Dual else launch.compiled(function, dtype)

    class Memory(memory.HostMemory):
        """Of duals: numpy compares none of them."""

        def at_least(self, values, least):
            if self.dtype is not Dual:
                return super().at_least(values, least)
            return np.array([v if v >= least else Dual(least) for v in values], object)

        def places(self, queue, base, least):
            return super().places(queue, values_of(base) if self.dtype is Dual else base, least)

    for module in (cell_operator, reach_operator, route_adjoint, elementwise, memory):
        monkeypatch.setattr(module, "compiled", compiled)
    for module in (cell_operator, reach_operator):
        monkeypatch.setattr(module, "HostMemory", Memory)
    return lambda case: case.operators(Dual)


@pytest.mark.parametrize("name", ["forest, hysteresis", "forest, plain snow"])
def test_operators_run_the_functions_and_give_the_bits_of_the_runtime(name):
    case = CASES[name]()
    snow = case.chain.cells[0].name
    given = {n: case.inputs[n] for process in case.chain.processes for n in case.parameters(process)}
    model = Model(case.domain, given, step=case.step, routing_step=case.routing_step, snow=snow)
    ops = case.operators()
    values = dict(case.inputs) | {n: a.copy() for n, a in model.state.arrays().items()}
    for k, process in enumerate(case.chain.cells):
        for n in process.stores:
            getattr(model.state.cells[k], n)[:] = values[n] = case.inputs[n]
    out = model.advance(Forcing(*(case.inputs[n] for n in FORCING[:3])), keep=("runoff", "discharge"))
    outputs = {}
    for pair in list(pairs(case).values())[:-1]:
        found, _ = pair.forward(ops, case, values)
        values |= found
        outputs |= found
    np.testing.assert_array_equal(values["runoff"], out["runoff"])
    np.testing.assert_array_equal(values["discharge"], out["discharge"][:, case.at])
    state = model.state.arrays()
    ends = {n.removeprefix("end "): a for n, a in outputs.items() if n.startswith("end ")}
    assert ends.keys() == {n for process in case.chain.processes for n in case.states(process)}
    for n, values in ends.items():
        np.testing.assert_array_equal(values, state[n], err_msg=n)


def random_like(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    return {name: rng.normal(size=a.shape) for name, a in arrays.items()}


class Product(NamedTuple):
    """<u, J^T v> of an input that moves alone, the sum of its terms without their signs, and <J u, v>."""

    adjoint: float
    size: float
    forward: float

    def error(self, factor: float = 1.0) -> float:
        """Their difference, relative to the terms, if the adjoint were so many times what it is."""
        scale = max(factor * self.size, abs(self.forward))
        return float(abs(factor * self.adjoint - self.forward) / scale) if scale > 0.0 else 0.0


_forward: dict[tuple[str, str], np.ndarray] = {}
"""<J u, v> by case and operator: dual numbers take a hundred times as long as what they are compared with."""


def products(name: str, of: str, dual_operators: Callable, threads: int = 1) -> dict[str, Product]:
    """Both sides of the dot test of an operator, for each input.

    J u comes from the operator itself on dual numbers, one direction per input; v weights every output, the
    final states among them. threads : of the adjoint.
    """
    case = CASES[of]()
    pair, rng = pairs(case)[name], np.random.default_rng(0)
    inputs = all_values(case)
    active = pair.active
    u = {n: rng.normal(size=inputs[n].shape) * np.where(inputs[n] == 0.0, 1.0, np.abs(inputs[n])) for n in active}
    ops = case.operators(np.float64, threads)
    outputs, record = pair.forward(ops, case, inputs)
    v = random_like(outputs, rng)
    found = pair.adjoint(ops, case, record, {n: a.copy() for n, a in v.items()})
    ops.close()

    if (of, name) not in _forward:
        seeds = inputs | {n: seeded(inputs[n], u[n], i, len(active)) for i, n in enumerate(active)}
        ops = dual_operators(case)
        moved, _ = pair.forward(ops, case, {n: a.astype(object) for n, a in seeds.items()})
        ops.close()
        for n, a in outputs.items():
            np.testing.assert_allclose(values_of(moved[n]), a, rtol=1e-11, atol=1e-13, err_msg=f"dual value of {n}")
        _forward[of, name] = sum(
            np.tensordot(v[n], tangents_of(moved[n], len(active)), v[n].ndim) for n in outputs
        )
    both = {}
    for n, forward in zip(active, _forward[of, name], strict=True):
        terms = found[n] * u[n]
        assert np.isfinite(terms).all() and np.isfinite(forward), n
        both[n] = Product(terms.sum(), np.abs(terms).sum(), forward)
    return both


def assert_products_agree(found: dict[str, Product], record_property: Callable) -> None:
    errors = {n: one.error() for n, one in found.items()}
    record_property("dot_error", max(errors.values()))
    assert max(errors.values()) <= TOLERANCE, errors


ON_THREADS = (
    "forest, hysteresis", "forest, plain snow", "three stages, varying", "beside a queue", "components of all",
)
WHOLE = (
    *ON_THREADS, "a factor that varies", "hourly, X4 of 100", "hbv, muskingum_cunge", "runoff from outside",
    "runoff that is added up", "gr4, kinematic", "sealed, gr4j", "gradual snow", "components with weights",
)
"""Cases whose chain is tested whole beside its operators: every way in which one hands on to the next."""


@pytest.mark.parametrize(
    ("case", "name"), [n for n in NAMES if n[1] != "chain" or n[0] in WHOLE], ids=lambda v: str(v)
)
def test_dot(case, name, dual_operators, record_property):
    assert_products_agree(products(name, case, dual_operators), record_property)


@pytest.mark.parametrize(("case", "name"), [n for n in NAMES if n[0] in ON_THREADS], ids=lambda v: str(v))
def test_dot_on_several_threads(case, name, dual_operators, record_property, monkeypatch):
    """Of the adjoint on three threads, and of the operator itself on one."""
    products(name, case, dual_operators)
    several_threads(monkeypatch)
    ops = CASES[case]().operators(threads=3)
    assert len(ops.reach.network.trunk) > 2, "the network is not cut"
    assert all(len(one._tasks) > one.components for one in ops.cells), "the cells are not cut"
    ops.close()
    assert_products_agree(products(name, case, dual_operators, threads=3), record_property)


@pytest.mark.skipif(config.DISABLE_JIT, reason="looks at the cases, which are the same")
def test_the_cases_reach_every_branch():
    """Otherwise a dot test of zeros: each input of a chain has a gradient in one case at least."""
    reached, wanted = set(), set()
    for make in CASES.values():
        case = make()
        outputs, _ = chain_gradients(case, {})
        _, gradients = chain_gradients(case, random_like(outputs, np.random.default_rng(1)))
        names = {
            (name, n) for name, pair in pairs(case).items() if name != "chain" for n in pair.active if n in gradients
        }
        wanted |= names
        reached |= {(name, n) for name, n in names if np.count_nonzero(gradients[n]) > gradients[n].size / 20}
        assert tuple(gradients) == chain_pair(case).active
    assert sorted(wanted - reached) == []
    assert {name for name, _ in wanted} == {p.name for p in (*CELLS, *REACHES)}
    assert {n for make in CASES.values() for n in make().varying} == {n for names in VARYING.values() for n in names}
    case = CASES["forest, hysteresis"]()
    ratio = case.inputs["travel_time"] / case.routing_step
    x = case.inputs["weighting"]
    short, long = 2 * ratio * (1 - x) <= 1, 2 * ratio * x >= 1
    assert (ratio == 0).any() and short.sum() > 5 and long.sum() > 5 and (~short & ~long).sum() > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", dict.fromkeys(name for _, name in NAMES if name != "chain"))
def test_a_slightly_wrong_adjoint_is_seen(name, dual_operators):
    """One part in a million of one result, in one of the cases at least."""
    seen: dict[str, bool] = {}
    for case, one in NAMES:
        if one == name:
            for n, product in products(name, case, dual_operators).items():
                seen[n] = seen.get(n, False) or product.error(1.000001) > 10 * TOLERANCE
    assert [n for n, is_seen in seen.items() if not is_seen] == []


@pytest.mark.parametrize(("case", "dtype"), [
    *((case, np.float64) for case in (
        "forest, hysteresis", "hourly", "three stages, varying", "beside a queue", "components", "components of all")),
    *((case, np.float32) for case in ("forest, hysteresis", "three stages, varying", "components")),
])
def test_gradients_have_the_same_bits_on_any_number_of_threads(case, dtype, cut_for_threads, monkeypatch):
    case = CASES[case]()
    outputs, _ = chain_gradients(case, {})
    v = random_like(outputs, np.random.default_rng(2))
    one = chain_gradients(case, v, dtype)
    for threads, narrow in ((2, blocks.NARROW), (3, blocks.NARROW), (1, 0), (3, 0)):
        # 0: the loops of a large domain
        monkeypatch.setattr(blocks, "NARROW", narrow)
        several = chain_gradients(case, v, dtype, threads)
        for expected, got in zip(one, several, strict=True):
            for n in expected:
                assert expected[n].tobytes() == got[n].tobytes(), n


@pytest.mark.parametrize("case", EVERY_CASE)
def test_gradients_do_not_depend_on_blocks(case, monkeypatch):
    """Values to the bit, gradients to the rounding of sums per block."""
    case = CASES[case]()
    v = random_like(chain_gradients(case, {})[0], np.random.default_rng(3))
    outputs, gradients = chain_gradients(case, v)
    for length in (5,) if config.DISABLE_JIT else (1, 5, 1000):
        monkeypatch.setattr(cell_operator, "BLOCK_STEPS", length)
        monkeypatch.setattr(route_adjoint, "block_steps", lambda *_, length=length: length)
        again, others = chain_gradients(case, v)
        assert all(outputs[n].tobytes() == again[n].tobytes() for n in outputs)
        for n in gradients:
            np.testing.assert_allclose(others[n], gradients[n], rtol=1e-11, atol=1e-12 * np.abs(gradients[n]).max())


@pytest.mark.parametrize("name", ["forest, hysteresis", "three stages, varying", "beside a queue", "components of all"])
def test_an_adjoint_over_two_halves_is_that_over_the_whole(name):
    """The adjoint of the state at the start of the second half goes into the first."""
    case = CASES[name]()
    half, series = 5, {*FORCING, *case.varying}
    v = random_like(chain_gradients(case, {})[0], np.random.default_rng(4))
    outputs, whole = chain_gradients(case, v)
    states = [n.removeprefix("end ") for n in outputs if n != "discharge"]

    def part(rows, initial):
        cut = {n: a[rows] if n in series else a for n, a in (case.inputs | initial).items()}
        return case._replace(inputs=cut)

    first = part(slice(None, half), {})
    middle, _ = chain_gradients(first, {})
    second = part(slice(half, None), {n: middle[f"end {n}"] for n in states})
    end, late = chain_gradients(second, v | {"discharge": v["discharge"][half:]})
    for n in states:
        np.testing.assert_array_equal(end[f"end {n}"], outputs[f"end {n}"])
    own = {f"end {n}": late[n] for n in states} | {"discharge": v["discharge"][:half]}
    _, early = chain_gradients(first, own)
    for n, expected in whole.items():
        if n in series:
            got = np.concatenate((early[n], late[n]))
        else:
            got = early[n] if n in states else early[n] + late[n]
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max(), err_msg=n)


@pytest.mark.parametrize("reach", ["muskingum", "reservoirs"])
def test_no_steps_have_gradients_of_zero(reach):
    domain = random_domain(7, 20, 10)
    chain = chain_of(GR4J) if reach == "muskingum" else chain_of(GR4J, reach=RESERVOIRS)
    own = {"weighting": np.full(20, 0.2)} if reach == "muskingum" else {"test_exponent": np.full(20, 1.2)}
    ops = Operators(chain, domain, 86400, 3600)
    p = ops.reach.prepare({"celerity": np.full(20, 0.5), **own})
    y_adj = np.ones(20)
    discharge, record = ops.reach.run(np.empty((0, 10)), p, np.zeros(20), np.array([3]))
    runoff_adj, p_adj = ops.reach.reverse(record, np.empty((0, 1)), y_adj)
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


@pytest.mark.parametrize(("case", "name"), [n for n in NAMES if n[1] != "chain" and n[0] in (
    "forest, hysteresis", "forest, plain snow", "three stages, varying", "components", "a factor that varies",
)], ids=lambda v: str(v))
def test_precision_of_what_operators_return(case, name):
    """Single precision in, single precision out; the sums of parameters over time are made in double."""
    case = CASES[case]()
    pair, values = pairs(case)[name], {n: a.astype(np.float32) for n, a in all_values(case).items()}
    ops = case.operators(np.float32)
    outputs, record = pair.forward(ops, case, values)
    found = pair.adjoint(ops, case, record, {n: np.ones_like(a) for n, a in outputs.items()})
    process = next(p for p in case.chain.processes if p.name == name)
    sums = {*case.parameters(process)}
    assert {a.dtype for a in outputs.values()} == {np.dtype(np.float32)}, name
    assert {found[n].dtype for n in found.keys() - sums} == {np.dtype(np.float32)}
    direct = {n for n in sums & found.keys() if found[n].dtype == np.float64}
    assert direct >= {n for n in sums if n in ("test_snow_limit", "exchange_coefficient", "melt_factor", "test_leak")}
    kept = [a for a in flatten(record) if isinstance(a, np.ndarray)]
    assert len(kept) > len(case.series(process) if name in [p.name for p in case.chain.cells] else ())
    assert np.dtype(np.float64) not in {a.dtype for a in kept}, f"{name} keeps double precision"


@pytest.mark.parametrize("name", ["three stages, varying", "beside a queue", "forest, hysteresis", "components of all"])
@pytest.mark.parametrize("widest", [1, 3, 64])
def test_tiles_of_any_width_give_the_same_bits(name, widest, monkeypatch):
    """Forward and adjoint, with tiles of their own or one cell after another."""
    case = CASES[name]()
    v = random_like(chain_gradients(case, {})[0], np.random.default_rng(6))
    expected = chain_gradients(case, v)
    monkeypatch.setattr(workers.Workers, "tasks", lambda self, n: [
        (lo, min(lo + widest, n)) for lo in range(0, n, widest)])
    for ours, theirs in zip(chain_gradients(case, v), expected, strict=True):
        for n in theirs:
            assert ours[n].tobytes() == theirs[n].tobytes(), n


@compiled_only
@pytest.mark.parametrize("process", [p for p in CELLS if p.gives[0] == RUNOFF], ids=lambda p: p.name)
def test_tiles_within_a_task_give_the_same_bits(process):
    """More cells than a tile has: as those of any number beside each other, forward and adjoint."""
    n = 1700
    varying = VARYING.get(process.name, ())
    case = make_case(3, lumped_domain(n), 6, chain=chain_of(process), x4=(0.4, 3.0), varying=varying)
    assert rows.tile_width(n, 1024) < n
    outputs, _ = chain_gradients(case, {})
    v = random_like(outputs, np.random.default_rng(7))
    outputs, gradients = chain_gradients(case, v)
    for lo, hi in ((0, 5), (848, 853), (1695, n)):
        def cut(a, lo=lo, hi=hi):
            return np.ascontiguousarray(a[..., lo:hi]) if a.shape[-1] == n else a

        part = case._replace(
            domain=lumped_domain(hi - lo), at=np.arange(hi - lo), inputs={k: cut(a) for k, a in case.inputs.items()}
        )
        whole = case._replace(at=np.arange(n))
        ours, theirs = chain_gradients(part, {}), chain_gradients(whole, {})
        for k, a in ours[0].items():
            places = a.shape[0] if a.ndim > 1 else None
            expected = cut(theirs[0][k])
            # A queue is as long as the longest of its cells.
            assert a.tobytes() == np.ascontiguousarray(expected[:places]).tobytes(), k
    assert all(np.isfinite(a).all() for a in gradients.values())


def flat_steps(case: Case, lengths: list[int]) -> Arrays:
    """What the chain gives, and its final state, in calls of these lengths."""
    ops, values, found = case.operators(), dict(case.inputs), []
    series, pair, first = {*FORCING, *case.varying}, chain_pair(case), 0
    for length in lengths:
        part = {n: a[first : first + length] if n in series else a for n, a in values.items()}
        outputs, _ = pair.forward(ops, case, part)
        values |= {n.removeprefix("end "): a for n, a in outputs.items() if n != "discharge"}
        found.append(outputs["discharge"])
        first += length
    ops.close()
    return {"discharge": np.concatenate(found)} | {n: values[n] for p in case.chain.processes for n in case.states(p)}


@pytest.mark.parametrize("case", EVERY_CASE)
def test_steps_and_blocks_of_any_length_give_the_same_bits(case):
    case = CASES[case]()
    n_steps = case.inputs["precipitation"].shape[0]
    whole = flat_steps(case, [n_steps])
    for length in (3,) if config.DISABLE_JIT else (1, 2, 3, 5):
        lengths = [min(length, n_steps - first) for first in range(0, n_steps, length)]
        for n, a in flat_steps(case, lengths).items():
            assert a.tobytes() == whole[n].tobytes(), (length, n)


@pytest.mark.parametrize("process", [CEMANEIGE, GR4J, HBV, BESIDE], ids=lambda p: p.name)
def test_components_are_the_mean_of_their_own_runs(process):
    """Forward, and gradients of what is shared the sum of theirs."""
    case = make_case(5, lumped_domain(4), 9, chain=chain_of(process), components={process.name: 3},
                     varying=VARYING.get(process.name, ()))
    n, own = 4, (*case.parameters(process), *case.states(process))

    def run(case):
        pair, ops = pairs(case)[process.name], case.operators()
        outputs, record = pair.forward(ops, case, case.inputs)
        adj = {k: np.zeros_like(a) for k, a in outputs.items()} | {process.gives[0]: weights}
        return outputs[process.gives[0]], pair.adjoint(ops, case, record, adj)

    weights = np.random.default_rng(8).normal(size=(9, n))
    given, gradients = run(case)
    alone = []
    for c in range(3):
        mine = slice(c * n, (c + 1) * n)
        inputs = {k: np.ascontiguousarray(a[..., mine]) if k in own else a for k, a in case.inputs.items()}
        alone.append(run(case._replace(components={}, inputs=inputs)))
    np.testing.assert_allclose(given, sum(a for a, _ in alone) / 3, rtol=1e-14)
    assert np.ptp([a for a, _ in alone], axis=0).max() > 0.01, "the components are the same"
    for k, a in gradients.items():
        parts = [found[k] / 3 for _, found in alone]
        expected = np.concatenate(parts, axis=-1) if k in own else sum(parts)
        np.testing.assert_allclose(a, expected, rtol=1e-11, atol=1e-13 * np.abs(expected).max(), err_msg=k)
    assert LIQUID_WATER not in gradients


def flatten(record: object) -> list:
    """All leaves of nested tuples, lists and dictionaries."""
    if isinstance(record, dict):
        record = list(record.values())
    return [leaf for part in record for leaf in flatten(part)] if isinstance(record, tuple | list) else [record]
