"""Every declared process, step by step: its adjoints transpose its steps, and no water is lost in them.

Arguments are drawn as a run would come to them: parameters in their ranges, prepared values and results of earlier
stages calculated, stores within their limits.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from kernels.dual import jacobian
from kernels.every_kernel import PLANS, REACH_PLANS
from kernels.test_adjoint_steps import TOLERANCE

from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.loops.plan import CellPlan, Reverse
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.source import returned_count
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import OWN

N_RANDOM = 200
STAGES = [(plan, k) for plan in PLANS for k in range(len(plan.process.stages))]
FLOOR = 1e-5
"""Share of the largest input that terms are taken to have at least: evaporation far beyond a capacity cancels."""


def called(plan: CellPlan) -> str:
    return plan.process.name + ("" if not plan.varying else ", varying")


def stage_id(stage: Any) -> str:
    plan, k = stage
    return f"{called(plan)}: {plan.process.stages[k].step.__name__}"


every_stage = pytest.mark.parametrize("stage", STAGES, ids=stage_id)
every_process = pytest.mark.parametrize("plan", PLANS, ids=called)
every_reach_process = pytest.mark.parametrize("plan", REACH_PLANS, ids=lambda p: p.process.name)


def draw_within(rng: np.random.Generator, p: Any, step: int) -> float:
    """A parameter in its learning range, at an end of it now and then."""
    low, high, _ = p.range_at(step)
    return float(rng.choice([low, high])) if rng.random() < 0.1 else float(rng.uniform(low, high))


def as_tuple(returned: Any) -> tuple:
    return returned if isinstance(returned, tuple) else (returned,)


def prepare(process: Any, known: dict[str, float]) -> None:
    """Add prepared values."""
    for one in process.prepared:
        arguments = (known[a] for a in inspect.signature(one.step).parameters)
        known |= dict(zip(one.returns, as_tuple(one.step(*arguments)), strict=True))


def draw(plan: CellPlan, rng: np.random.Generator) -> dict[str, float]:
    """What the first stage finds: every symbol but for what stages and queues give."""
    process, step = plan.process, int(rng.choice([DAY, HOUR]))
    known: dict[str, float] = {"days": step / DAY, "per_day": DAY / step}
    known |= {symbol: by_step[step] for symbol, by_step in process.constants.items()}
    known |= {p.symbol: draw_within(rng, p, step) for p in process.parameters}
    known |= {symbol: float(rng.choice([0.0, rng.uniform(1, 500)])) for symbol in process.attributes}
    prepare(process, known)
    symbols = {p.name: p.symbol for p in process.parameters}
    for store in process.stores.values():
        low, high = np.clip(store.bounds, -5.0, 80.0)
        if store.at_most is not None:
            high = known[symbols[store.at_most]]
        elif store.start_of is not None:  # no store many times what it starts from, where its equations lose digits
            high = min(1.2 * known[store.start_of], high)
        share = rng.choice([0.0, 1.0, rng.random()], p=[0.1, 0.1, 0.8])
        known[store.symbol] = float(low + share * (high - low))
    for i in process.inputs.values():
        dry = rng.random() < 0.3
        rate = 0.0 if dry else float(rng.exponential(8.0))
        known[i.symbol] = float(rng.normal(1.0, 5.0)) if i.kind == "level" else rate
    known |= {q.gives: float(rng.exponential(3.0)) for q in process.queues.values()}
    return known


def calls(plan: CellPlan, rng: np.random.Generator) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """What every stage is given, and what it returns, of one step."""
    known = draw(plan, rng)
    for stage in plan.process.stages:
        given = {a: known[a] for a in plan.takes(stage)}
        returned = dict(zip(stage.returns, as_tuple(stage.step(**given)), strict=True))
        yield dict(known), returned
        known |= returned


def seeds_of(plan: CellPlan, k: int) -> list[str]:
    """Symbols of what a stage returns whose adjoints its adjoint takes: what goes to fluxes alone has none."""
    handed_on = plan.queued | {s for j, r in plan.reverses.items() if j > k for s in r.returns if s in plan.series}
    return [s for s in plan.process.stages[k].returns if s in plan.stores or s in handed_on or s == plan.gives]


def adjoints(
    plan: CellPlan, k: int, reverse: Reverse, known: dict[str, float], returned: dict[str, float], v: dict[str, float]
) -> dict[str, float]:
    """What an adjoint of stage k returns, by symbol; what is kept for it is what the stage returned."""
    values = {f"{s}_adj": 0.0 for s in plan.series}
    values |= {f"{s}_adj": a for s, a in v.items()} | {f"{s}_after": a for s, a in returned.items()}
    kept = {s: returned[s] for s in plan.process.stages[k].kept if s not in plan.stores}
    values |= known | kept
    found = reverse.function(*(values[a] for a in reverse.takes))
    return dict(zip(reverse.returns, as_tuple(found), strict=True))


class Slopes(NamedTuple):
    """Derivatives at one draw: of prepared values, as (what is returned, parameters, slopes), and of a stage."""

    prepared: list[tuple[tuple[str, ...], tuple[str, ...], np.ndarray]]
    active: tuple[str, ...]
    stage: np.ndarray


def slopes_at(plan: CellPlan, k: int, known: dict[str, float]) -> Slopes:
    """From dual numbers, once for all weights of a draw: they cost more than all else here."""
    prepared = []
    for one in reversed(plan.process.prepared):
        names = tuple(inspect.signature(one.step).parameters)
        prepared.append((one.returns, names, jacobian(one.step, {a: known[a] for a in names}, names)))
    stage = plan.process.stages[k]
    active = tuple(a for a in plan.takes(stage) if a not in plan.numbers)
    return Slopes(prepared, active, jacobian(stage.step, {a: known[a] for a in plan.takes(stage)}, active))


def of_parameters(slopes: Slopes, found: dict[str, float]) -> dict[str, float]:
    """Adjoints of prepared values carried back to the parameters that they come from."""
    total = dict(found)
    for returns, names, matrix in slopes.prepared:
        seeds = {s: total.pop(s, 0.0) for s in returns}
        for j, a in enumerate(names):
            total[a] = total.get(a, 0.0) + sum(seeds[s] * matrix[i, j] for i, s in enumerate(returns))
    return total


def whole(plan: CellPlan, k: int, hand: bool, slopes: Slopes, found: dict[str, float]) -> dict[str, float]:
    """Adjoints of stores, inputs, parameters and series that a stage comes to."""
    total = of_parameters(slopes, found)
    adjoint = plan.process.stages[k].adjoint
    if hand and adjoint is not None:
        total |= {a: -total[b] for a, b in adjoint.negated.items()}
    return {a: v for a, v in total.items() if a not in plan.process.attributes and a not in plan.numbers}


def exact(plan: CellPlan, k: int, slopes: Slopes, v: dict[str, float]) -> dict[str, float]:
    """Derivatives of the weighted sum of what a stage returns."""
    weights = np.array([v.get(s, 0.0) for s in plan.process.stages[k].returns])
    return whole(plan, k, False, slopes, dict(zip(slopes.active, weights @ slopes.stage, strict=True)))


def error_of(plan: CellPlan, k: int, reverse: Reverse, rng: np.random.Generator) -> float:
    """Largest difference of <J u, v> and <u, J^T v> over inputs u taken singly, relative to the sum of their terms."""
    known, returned = list(calls(plan, rng))[k]
    hand = plan.process.stages[k].adjoint
    by_hand = hand is not None and reverse.function is hand.step
    worst, symbols, slopes = 0.0, seeds_of(plan, k), slopes_at(plan, k, known)
    for weights in (*np.eye(len(symbols)), rng.normal(size=len(symbols))):
        v = dict(zip(symbols, weights, strict=True))
        found = whole(plan, k, by_hand, slopes, adjoints(plan, k, reverse, known, returned, v))
        expected = exact(plan, k, slopes, v)
        u = {a: abs(known[a]) or 1.0 for a in expected}
        scale = max(
            sum(abs(expected[a]) * u[a] for a in u), sum(abs(found.get(a, 0.0)) * u[a] for a in u),
            FLOOR * max(u.values()) * np.abs(weights).max(),
        )
        for a in u:
            assert np.isfinite(expected[a]) and np.isfinite(found.get(a, 0.0)), (a, known)
            worst = max(worst, abs(expected[a] - found.get(a, 0.0)) * u[a] / scale)
    return worst


@every_stage
def test_dot_of_what_a_run_takes(stage, record_property):
    """By hand where there is one, and derived elsewhere: J from dual numbers, through prepared values to parameters."""
    plan, k = stage
    rng = np.random.default_rng(len(stage_id(stage)))
    worst = max(error_of(plan, k, plan.reverses[k], rng) for _ in range(N_RANDOM))
    record_property("dot_error", float(worst))
    assert worst <= TOLERANCE


@every_stage
def test_dot_of_what_is_derived(stage, record_property):
    plan, k = stage
    rng = np.random.default_rng(1 + len(stage_id(stage)))
    derived = plan.derived(plan.process.stages[k])
    worst = max(error_of(plan, k, derived, rng) for _ in range(N_RANDOM))
    record_property("dot_error", float(worst))
    assert worst <= TOLERANCE


@every_stage
def test_what_has_no_adjoint_has_no_slope(stage):
    """Of what earlier stages hand on an adjoint returns all that what counts depends on."""
    plan, k = stage
    rng, taken = np.random.default_rng(6), plan.takes(plan.process.stages[k])
    left_out = tuple(a for a in taken if a in plan.series and a not in plan.reverses[k].returns)
    if not left_out:
        return
    counts = [plan.process.stages[k].returns.index(s) for s in seeds_of(plan, k)]
    for _ in range(N_RANDOM):
        known, _ = list(calls(plan, rng))[k]
        assert not jacobian(plan.process.stages[k].step, {a: known[a] for a in taken}, left_out)[counts].any()


def test_what_goes_to_fluxes_alone_is_left_out():
    plan = next(plan for plan, _ in STAGES if plan.process.name == "gr4" and not plan.varying)
    assert "drawn_adj" not in plan.reverses[0].takes and "drawn" not in plan.reverses[1].returns
    assert "drawn" in plan.series and "drawn" not in plan.reread


BY_HAND = [(plan, k) for plan, k in STAGES if plan.process.stages[k].adjoint is not None and not plan.varying]


@pytest.mark.parametrize("stage", BY_HAND, ids=stage_id)
def test_what_is_by_hand_is_what_is_derived(stage):
    plan, k = stage
    rng, hand, derived = np.random.default_rng(5), plan.reverses[k], plan.derived(plan.process.stages[k])
    assert hand.function is plan.process.stages[k].adjoint.step is not derived.function
    for _ in range(N_RANDOM):
        known, returned = list(calls(plan, rng))[k]
        v, slopes = {s: rng.normal() for s in seeds_of(plan, k)}, slopes_at(plan, k, known)
        ours, theirs = (
            whole(plan, k, r is hand, slopes, adjoints(plan, k, r, known, returned, v)) for r in (hand, derived)
        )
        u = {a: abs(known[a]) or 1.0 for a in theirs}
        scale = max(*(abs(theirs[a]) * u[a] for a in u), FLOOR * max(u.values()))
        for a in u:
            assert abs(ours.get(a, 0.0) - theirs[a]) * u[a] <= 1e-10 * scale, (a, known)


def test_every_override_is_compared():
    own = [stage for process in OWN if hasattr(process, "stages") for stage in process.stages]
    assert [plan.process.stages[k] for plan, k in BY_HAND] == [stage for stage in own if stage.adjoint is not None]
    assert len(BY_HAND) == 10


@every_stage
def test_a_slightly_wrong_adjoint_is_seen(stage):
    """One part in a million of any of its results; of what only goes into fluxes, any number in place of 0."""
    plan, k = stage
    right = plan.reverses[k]
    for place, symbol in enumerate(right.returns):
        nothing = all(v == 0.0 for v in drawn_adjoints(plan, k, symbol))
        assert not nothing or symbol in ONLY_TOLD

        def wrong(*arguments, place=place, nothing=nothing):
            found = list(as_tuple(right.function(*arguments)))
            found[place] = 1.0 if nothing else found[place] * 1.000001
            return tuple(found)

        rng = np.random.default_rng(2)
        assert any(error_of(plan, k, right._replace(function=wrong), rng) > TOLERANCE for _ in range(100)), symbol


ONLY_TOLD = ("drawn",)
"""Symbols of what a stage takes and only tells on, in a flux: no adjoint comes from there."""


def drawn_adjoints(plan: CellPlan, k: int, symbol: str) -> Iterator[float]:
    rng = np.random.default_rng(9)
    for _ in range(50):
        known, returned = list(calls(plan, rng))[k]
        v = {s: rng.normal() for s in seeds_of(plan, k)}
        yield adjoints(plan, k, plan.reverses[k], known, returned, v)[symbol]


@every_process
def test_no_water_is_lost_in_a_step(plan):
    """In - out + exchange = what the stores hold more, and what flows into queues; over all stages of a step [mm]."""
    process, rng = plan.process, np.random.default_rng(3)
    water = [s.symbol for s in process.stores.values() if s.holds_water]
    for _ in range(N_RANDOM):
        made = list(calls(plan, rng))
        before, last = made[0][0], made[-1][0] | made[-1][1]
        flows = {f.symbol: f.ledger for f in process.fluxes.values() if f.ledger}
        water_in = ("liquid_water", process.enters)
        rain = next(i.symbol for name, i in process.inputs.items() if name in water_in)
        gained = before[rain] + sum(before[q.gives] for q in process.queues.values())
        lost = last[plan.gives] + sum(q.share * last[q.takes] for q in process.queues.values())
        for symbol, kind in flows.items():
            lost += last[symbol] if kind == "out" else -last[symbol]
        held = sum(last[s] - before[s] for s in water)
        size = gained + sum(abs(last[s]) for s in (*flows, plan.gives)) + sum(before[s] for s in water)
        assert abs(gained - lost - held) <= 1e-12 * size, before
        deficits = [s.symbol for s in process.stores.values() if s.bounds[0] < 0.0]
        assert all(last[s] >= -1e-12 * size for s in water if s not in deficits), before


@every_process
def test_stores_stay_within_their_bounds(plan):
    rng = np.random.default_rng(4)
    for _ in range(N_RANDOM):
        made = list(calls(plan, rng))
        last = made[-1][0] | made[-1][1]
        for store in plan.process.stores.values():
            low, high = store.bounds
            assert low - 1e-12 <= last[store.symbol] <= high, store
            if store.at_most is not None:
                capacity = last[plan.parameters[store.at_most].symbol]
                assert last[store.symbol] <= capacity * (1 + 1e-12), store


# ---- reaches -----------------------------------------------------------------------------------------------


def draw_reach(plan: ReachPlan, rng: np.random.Generator) -> dict[str, float]:
    process = plan.process
    known = {"seconds": float(rng.choice([900.0, 3600.0, 86400.0])), "inflow": float(rng.exponential(3.0))}
    known |= {p.symbol: draw_within(rng, p, DAY) for p in process.parameters}
    known |= {symbol: float(rng.choice([0.0, rng.uniform(100, 40000)])) for symbol in process.attributes}
    prepare(process, known)
    volume = float(rng.exponential(3.0e4) * (rng.random() < 0.9))
    if process.name == "none":  # the one whose reaches hold nothing
        volume = 0.0
    return known | {process.symbol: call(process.from_volume, known | {"volume": volume}), "volume": volume}


def call(function: Any, known: dict[str, float]) -> Any:
    return function(*(known[a] for a in inspect.signature(function).parameters))


@every_reach_process
def test_dot_of_a_reach(plan, record_property):
    process, rng, worst = plan.process, np.random.default_rng(6), 0.0
    active = (process.symbol, "inflow", *plan.coefficients)
    derived = derive(process.step, active, {0: "outflow_adj", 1: f"{process.symbol}_adj"})
    for adjoint in (plan.adjoint, derived):
        for _ in range(N_RANDOM):
            known = draw_reach(plan, rng)
            slopes = jacobian(process.step, {a: known[a] for a in plan.takes}, active)
            for v in (*np.eye(2), rng.normal(size=2)):
                found = as_tuple(call(adjoint, known | {"outflow_adj": v[0], f"{process.symbol}_adj": v[1]}))
                expected = v @ slopes
                u = np.array([abs(known[a]) or 1.0 for a in active])
                assert np.isfinite(found).all()
                scale = max(np.abs(expected * u).sum(), np.abs(v) @ np.abs(slopes) @ u)
                worst = max(worst, float(np.abs((expected - found) * u).max() / scale) if scale > 0.0 else 0.0)
    record_property("dot_error", float(worst))
    assert worst <= TOLERANCE


@every_reach_process
def test_no_water_is_lost_in_a_reach(plan):
    """What the volume changes by is inflow less outflow; no outflow from nothing; volume and state are two ways to say
    one thing, and a steady state stays."""
    process, rng = plan.process, np.random.default_rng(7)
    for _ in range(N_RANDOM):
        known = draw_reach(plan, rng)
        outflow, state = call(process.step, known)
        before, after = (call(process.volume, known | {process.symbol: s}) for s in (known[process.symbol], state))
        assert before == pytest.approx(known["volume"], rel=1e-13)
        moved = known["seconds"] * (known["inflow"] - outflow)
        assert abs(after - before - moved) <= 1e-12 * (before + after + known["seconds"] * (known["inflow"] + outflow))
        assert outflow >= 0.0 and after >= 0.0
        flow = known["inflow"]
        steady = known | {process.symbol: call(process.steady, known | {"flow": flow})}
        assert call(process.step, steady)[0] == pytest.approx(flow, rel=1e-12)


def test_linear_is_said_of_what_is_linear():
    """Outflow and state of a sum are the sums; or else they are not."""
    rng = np.random.default_rng(8)
    for plan in REACH_PLANS:
        process, worst = plan.process, 0.0
        for _ in range(20):
            known = draw_reach(plan, rng)
            twice = known | {"inflow": 2 * known["inflow"], process.symbol: 2 * known[process.symbol]}
            one, two = (np.array(call(process.step, k)) for k in (known, twice))
            worst = max(worst, float(np.abs(two - 2 * one).max() / (np.abs(two).max() or 1.0)))
        assert (worst < 1e-12) is process.linear, process.name


def test_returned_count_is_that_of_the_steps():
    for plan, k in STAGES:
        stage = plan.process.stages[k]
        assert returned_count(stage.step) == len(stage.returns)
