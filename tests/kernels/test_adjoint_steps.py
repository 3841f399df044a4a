"""Every adjoint step transposes its forward step: <J u, v> = <u, J^T v>, with J from dual numbers.

At kinks the derivative is the one-sided one of the branch that is taken; each has its case below.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
from kernels.dual import dual, jacobian
from kernels.every_kernel import SCALARS, label

from bmi_cdlm.kernels import elementary, transcendental
from bmi_cdlm.kernels.launch import callee
from bmi_cdlm.kernels.loops import queues
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes import cemaneige, gr4j, links, muskingum, muskingum_cunge, outside, pet_network

TOLERANCE = 1e-10
HYDROGRAPH_EXPONENT, PERCOLATION_SCALE = (gr4j.GR4J.constants[name] for name in ("exponent", "percolation_scale"))
N_RANDOM = 300
Arguments = dict[str, float]


class Pair(NamedTuple):
    """A forward step and its adjoint.

    active: arguments that have an adjoint, in the order in which it returns them; outputs: places of the forward
    results whose adjoints it takes; keeps: arguments of the forward step that the adjoint takes as well; floor: share
    of the largest input that the terms are taken to have at least. Evaporation far beyond the capacity leaves S - Es
    = 1e-11 S, known to five digits in the step itself; nothing else here cancels.
    """

    forward: Callable
    adjoint: Callable
    active: tuple[str, ...]
    outputs: tuple[int, ...]
    keeps: tuple[str, ...]
    draw: Callable[[np.random.Generator], Arguments]
    edges: list[Arguments]
    floor: float = 0.0


def production(S=120.0, P=8.0, E=3.0, X1=350.0, step=DAY) -> Arguments:
    return {"S": S, "P": P, "E": E, "X1": X1, "percolation_scale": PERCOLATION_SCALE[step]}


def store(R=40.0, Q9=5.0, Q1=0.6, X2=-1.0, X3=90.0) -> Arguments:
    return {"R": R, "Q9": Q9, "Q1": Q1, "X2": X2, "X3": X3}


def snow(G=50.0, eTG=-1.0, P=6.0, T=1.0, CTG=0.5, Kf=4.0, threshold=90.0) -> Arguments:
    return {"G": G, "eTG": eTG, "P": P, "T": T, "CTG": CTG, "Kf": Kf, "threshold": threshold}


def hysteresis(
    G=50.0, eTG=-1.0, peak=80.0, cover=0.6, P=6.0, T=1.0, CTG=0.5, Kf=4.0, Ga=30.0, threshold=90.0
) -> Arguments:
    return {"G": G, "eTG": eTG, "peak": peak, "cover": cover, "P": P, "T": T, "CTG": CTG, "Kf": Kf,
            "Ga": Ga, "threshold": threshold}


def reach(K=5000.0, x=0.2, seconds=3600.0) -> Arguments:
    return {"K": K, "x": x, "seconds": seconds}


def curve(k=2.0, X4=3.3, step=DAY) -> Arguments:
    return {"k": k, "X4": X4, "exponent": HYDROGRAPH_EXPONENT[step]}


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def draw_production(rng: np.random.Generator) -> Arguments:
    X1, step = log_uniform(rng, 1, 3000), rng.choice([DAY, HOUR])
    dry = rng.random(2) < 0.3
    P, E = np.where(dry, 0.0, rng.exponential(10.0, 2))
    return production(X1 * rng.random(), P, E, X1, step)


def draw_store(rng: np.random.Generator) -> Arguments:
    X3 = log_uniform(rng, 1, 1000)
    return store(X3 * rng.uniform(0, 1.2), rng.exponential(5.0), rng.exponential(1.0), rng.uniform(-10, 5), X3)


def draw_snow(rng: np.random.Generator) -> Arguments:
    return snow(rng.choice([0.0, rng.uniform(0, 200)]), rng.choice([0.0, -rng.exponential(3.0)]),
                rng.choice([0.0, rng.exponential(8.0)]), rng.uniform(-6, 12), rng.random(), rng.uniform(0.1, 15),
                rng.choice([0.0, rng.uniform(1, 200)]))


def draw_hysteresis(rng: np.random.Generator) -> Arguments:
    common = draw_snow(rng)
    return hysteresis(peak=rng.uniform(0, 200), cover=rng.choice([1.0, rng.random()]),
                      Ga=rng.uniform(1, 100), **common)


def draw_reach(rng: np.random.Generator) -> Arguments:
    step = float(rng.choice([900.0, 3600.0, 86400.0]))
    return reach(step * log_uniform(rng, 1e-3, 100), rng.uniform(0, 0.5), step)


def draw_curve(rng: np.random.Generator) -> Arguments:
    step = rng.choice([DAY, HOUR])
    X4 = rng.uniform(0.2, 5) * (1 if step == DAY else 24)
    return curve(float(rng.integers(0, math.ceil(2 * X4) + 2)), X4, step)


def draw_names(*names: str) -> Callable[[np.random.Generator], Arguments]:
    return lambda rng: {name: rng.normal() for name in names}


PRODUCTION_EDGES = [
    production(S=0.0), production(S=0.0, P=0.0), production(S=0.0, P=0.0, E=0.0),  # empty
    production(S=350.0), production(S=350.0, P=0.0), production(S=350.0, P=0.0, E=0.0),  # full
    production(P=3.0, E=3.0), production(P=3.0, E=math.nextafter(3.0, 0)), production(P=0.0, E=0.0),  # P = E
    production(P=400.0, E=1.0, X1=10.0, S=4.0), production(P=0.0, E=200.0, X1=10.0, S=4.0),  # beyond tanh's cap
    production(P=130.0, E=0.0, X1=10.0, S=4.0), production(P=math.nextafter(130.0, 0), E=0.0, X1=10.0, S=4.0),
    production(P=5.0, E=0.0, X1=20.0 / math.log(2), S=1.0), production(S=1e-12, P=0.0, E=40.0, X1=1.0),
    production(step=HOUR), production(S=340.0, P=0.0, E=1.0, step=HOUR),
]
# R = X3 makes F = X2 exactly, so that the sums below are exactly 0.
STORE_EDGES = [
    store(R=1.0, X2=4.0, X3=0.5), store(R=0.4, Q9=300.0, X3=0.5), store(R=0.5, Q9=3.6, X3=0.5, X2=0.0),
    store(R=0.0), store(R=0.0, Q9=0.0, Q1=0.0), store(R=90.0), store(R=130.0, X2=4.0), store(X2=0.0),
    store(R=8.0, X3=8.0, Q9=2.0, X2=-10.0, Q1=1.0), store(R=8.0, X3=8.0, Q9=2.0, X2=-10.5, Q1=1.0),
    store(R=8.0, X3=8.0, Q9=2.0, X2=-9.5, Q1=9.5), store(R=8.0, X3=8.0, Q9=2.0, X2=-9.5, Q1=9.0),
    store(R=8.0, X3=8.0, Q9=0.0, X2=-8.0, Q1=8.0), store(R=1e-9, Q9=0.0, Q1=0.0, X2=5.0), store(R=0.0, X2=-10.0),
]
SNOW_EDGES = [
    snow(T=-1.0), snow(T=3.0), snow(T=0.0), snow(T=-8.0), snow(T=9.0), snow(T=math.nextafter(3.0, 0)),
    snow(eTG=0.0, T=1.0), snow(eTG=0.0, T=0.0), snow(eTG=-1.0, T=1.0, CTG=0.5), snow(eTG=-0.5, T=2.0, CTG=0.8),
    snow(eTG=0.0, T=5.0, G=90.0, P=0.0), snow(eTG=0.0, T=5.0, G=120.0), snow(eTG=0.0, T=5.0, G=0.0, P=0.0),
    snow(eTG=0.0, T=5.0, G=20.0, P=0.0), snow(eTG=0.0, T=5.0, G=3.0), snow(eTG=0.0, T=5.0, threshold=0.0),
    snow(G=0.0, eTG=0.0, P=0.0, T=5.0, threshold=0.0), snow(CTG=0.0), snow(CTG=1.0, eTG=0.0, T=2.0),
]
HYSTERESIS_EDGES = [
    *({"peak": peak, "cover": cover, "Ga": 30.0} | edge
      for edge in SNOW_EDGES for peak, cover in ((80.0, 0.6), (80.0, 1.0), (0.0, 1.0), (50.0, 0.5), (40.0, 1.0))),
    hysteresis(eTG=0.0, T=5.0, G=50.0, P=0.0, cover=1.0), hysteresis(T=-5.0, P=12.0, cover=0.6),
    hysteresis(T=-5.0, P=15.0, cover=0.5), hysteresis(T=-5.0, P=0.0), hysteresis(T=-5.0, P=60.0, cover=1.0),
    hysteresis(G=0.0, P=0.0, T=-5.0, cover=0.0, peak=0.0), hysteresis(eTG=0.0, T=0.5, P=40.0, Kf=1.0, cover=0.99),
    hysteresis(eTG=0.0, T=0.5, P=40.0, Kf=1.0, cover=1.0, peak=40.0),
]
REACH_EDGES = [
    reach(K=0.0), reach(K=0.0, x=0.5), reach(K=1e-300), reach(K=3.6e-3), reach(K=3.6e9), reach(K=3.6e9, x=0.0),
    reach(K=2250.0, x=0.2), reach(K=math.nextafter(2250.0, 1e9), x=0.2),  # 2 K (1 - x) = step
    reach(K=9000.0, x=0.2), reach(K=math.nextafter(9000.0, 0), x=0.2),  # 2 K x = step
    reach(K=1800.0, x=0.0), reach(K=3600.0, x=0.5), reach(K=3600.0, x=0.499), reach(K=7200.0, x=0.5), reach(x=0.0),
]
CURVE_EDGES = [
    curve(k=0.0), curve(k=1.0, X4=1.0), curve(k=2.0, X4=1.0), curve(k=1.0, X4=0.5), curve(k=1.0, X4=0.3),
    curve(k=1.0, X4=0.51), curve(k=3.0, X4=3.0), curve(k=6.0, X4=3.0), curve(k=100.0, X4=100.0, step=HOUR),
    curve(k=200.0, X4=100.0, step=HOUR), curve(k=199.0, X4=100.0, step=HOUR), curve(k=37.0, X4=100.0, step=HOUR),
]
PAIRS = {
    "production_step": Pair(
        gr4j.production_step, gr4j.production_step_adjoint, ("S", "P", "E", "X1"), (0, 5),
        ("S", "P", "E", "X1", "percolation_scale"), draw_production, PRODUCTION_EDGES, 1e-5,
    ),
    "queue_step": Pair(
        queues.queue_step, queues.queue_step_adjoint, ("ordinate", "inflow"), (0,), ("ordinate", "inflow"),
        draw_names("following", "ordinate", "inflow"), [{"following": 0.0, "ordinate": 1.0, "inflow": 0.0}],
    ),
    "routing_store_step": Pair(
        gr4j.routing_store_step, gr4j.routing_store_step_adjoint, ("R", "Q9", "Q1", "X2", "X3"), (0, 1),
        ("R", "Q9", "Q1", "X2", "X3"), draw_store, STORE_EDGES,
    ),
    "s_curve_1": Pair(
        gr4j.s_curve_1, gr4j.s_curve_1_adjoint, ("X4",), (0,), ("k", "X4", "exponent"), draw_curve, CURVE_EDGES,
    ),
    "s_curve_2": Pair(
        gr4j.s_curve_2, gr4j.s_curve_2_adjoint, ("X4",), (0,), ("k", "X4", "exponent"), draw_curve, CURVE_EDGES,
    ),
    "solid_fraction": Pair(
        cemaneige.solid_fraction, cemaneige.solid_fraction_adjoint, ("T",), (0,), ("T",),
        lambda rng: {"T": rng.uniform(-3, 5)}, [{"T": T} for T in (-1.0, 3.0, 0.0, -1.0 + 1e-15, 3.0 - 1e-15)],
    ),
    "thermal_state_step": Pair(
        cemaneige.thermal_state_step, cemaneige.thermal_state_step_adjoint, ("eTG", "T", "CTG"), (0,),
        ("eTG", "T", "CTG"), lambda rng: {"eTG": -rng.exponential(3.0), "T": rng.normal(0, 4), "CTG": rng.random()},
        [{"eTG": -1.0, "T": 1.0, "CTG": 0.5}, {"eTG": 0.0, "T": -2.0, "CTG": 1.0}, {"eTG": 0.0, "T": -2.0, "CTG": 0.0}],
    ),
    "potential_melt": Pair(
        cemaneige.potential_melt, cemaneige.potential_melt_adjoint, ("G", "T", "Kf"), (0,), ("G", "eTG", "T", "Kf"),
        lambda rng: {"G": rng.uniform(0, 60), "eTG": rng.choice([0.0, -1.0], p=[0.8, 0.2]), "T": rng.uniform(-2, 10),
                     "Kf": rng.uniform(0.1, 10)},
        [{"G": 8.0, "eTG": 0.0, "T": 2.0, "Kf": 4.0}, {"G": 0.0, "eTG": 0.0, "T": 2.0, "Kf": 4.0},
         {"G": 8.0, "eTG": 0.0, "T": 0.0, "Kf": 4.0}, {"G": 8.0, "eTG": -1e-300, "T": 2.0, "Kf": 4.0}],
    ),
    "cover_on_depletion": Pair(
        cemaneige.cover_on_depletion, cemaneige.cover_on_depletion_adjoint, ("G", "peak"), (0,), ("G", "peak"),
        lambda rng: {"G": rng.uniform(0, 100), "peak": rng.uniform(0, 100)},
        [{"G": 0.0, "peak": 0.0}, {"G": 5.0, "peak": 5.0}, {"G": 0.0, "peak": 5.0}, {"G": 5.0, "peak": 0.0}],
    ),
    "snow_step": Pair(  # the threshold is a static attribute: no adjoint
        cemaneige.snow_step, cemaneige.snow_step_adjoint, ("G", "eTG", "P", "T", "CTG", "Kf"), (0, 1, 2),
        ("G", "eTG", "P", "T", "CTG", "Kf", "threshold"), draw_snow, SNOW_EDGES,
    ),
    "snow_hysteresis_step": Pair(
        cemaneige.snow_hysteresis_step, cemaneige.snow_hysteresis_step_adjoint, tuple(hysteresis()), (0, 1, 2, 3, 4),
        tuple(hysteresis()), draw_hysteresis, HYSTERESIS_EDGES,
    ),
    "link_flow": Pair(
        links.link_flow, links.link_flow_adjoint, ("runoff",), (0,), ("area",), draw_names("runoff", "area"),
        [{"runoff": 0.0, "area": 2.0}, {"runoff": 3.0, "area": 0.0}],
    ),
    "same_flow": Pair(
        outside.same_flow, outside.same_flow_adjoint, ("runoff",), (0,), ("area",), draw_names("runoff", "area"),
        [{"runoff": 0.0, "area": 2.0}, {"runoff": 3.0, "area": 0.0}],
    ),
    "muskingum_coefficients": Pair(
        muskingum.muskingum_coefficients, muskingum.muskingum_coefficients_adjoint, ("K", "x"), (0, 1, 2),
        ("K", "x", "seconds"), draw_reach, REACH_EDGES,
    ),
    "muskingum_step": Pair(
        muskingum.muskingum_step, muskingum.muskingum_step_adjoint, ("y", "inflow", "direct", "gain", "keep"), (0, 1),
        ("y", "inflow", "direct", "gain", "keep"), draw_names("y", "inflow", "direct", "gain", "keep"),
        [dict.fromkeys(("y", "inflow", "direct", "gain", "keep"), 0.0)],
    ),
}


def cotangents(pair: Pair, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Each output alone, and all at random."""
    yield from np.eye(len(pair.outputs))
    yield rng.normal(size=len(pair.outputs))


def dot_error(pair: Pair, arguments: Arguments, rng: np.random.Generator) -> float:
    """Largest difference of <J u, v> and <u, J^T v> over inputs u taken singly, relative to the sum of their terms.

    Each input moves by its own size (by 1 where it is 0).
    """
    derivatives = jacobian(pair.forward, arguments, pair.active)[list(pair.outputs)]
    u = np.array([abs(arguments[name]) or 1.0 for name in pair.active])
    worst = 0.0
    for v in cotangents(pair, rng):
        returned = pair.adjoint(*(arguments[name] for name in pair.keeps), *v)
        found = np.array(returned if isinstance(returned, tuple) else (returned,)) * u
        terms = v[:, None] * derivatives * u
        assert np.isfinite(terms).all() and np.isfinite(found).all(), arguments
        scale = max(np.abs(terms).sum(), np.abs(found).sum(), pair.floor * u.max() * np.abs(v).max())
        if scale > 0.0:
            worst = max(worst, float(np.abs(terms.sum(axis=0) - found).max() / scale))
    return worst


@pytest.mark.parametrize("name", PAIRS)
def test_dot_at_random(name, record_property):
    rng = np.random.default_rng(len(name))
    worst = max(dot_error(PAIRS[name], PAIRS[name].draw(rng), rng) for _ in range(N_RANDOM))
    record_property("dot_error", float(worst))
    assert worst <= TOLERANCE


@pytest.mark.parametrize(("name", "edge"), [(n, e) for n, p in PAIRS.items() for e in range(len(p.edges))])
def test_dot_at_edges(name, edge, record_property):
    worst = dot_error(PAIRS[name], PAIRS[name].edges[edge], np.random.default_rng(edge))
    record_property("dot_error", float(worst))
    assert worst <= TOLERANCE, PAIRS[name].edges[edge]


RULES = {
    "tanh_ratio", "percolated_fraction", "store_outflow_fraction", "exp", "log", "tanh", "power", "limited_sigmoid",
    "root_of_flow", "relative_travel_time",
}
"""Functions below the steps: their adjoints are rules, tested with what is derived by them."""


def test_every_adjoint_is_tested():
    """Those that stand in modules here; what is derived from declarations, and stands beside it, in
    processes/test_declared.py.
    """
    in_files = {f.__name__ for f in SCALARS if f.__name__.endswith("_adjoint") and " of " not in label(f)}
    # What takes 1 / X1 or 1 / X3 is tested by the step that takes X1 or X3, which does nothing else but call it.
    in_files -= {"production_step_inverse_adjoint", "routing_store_step_inverse_adjoint"}
    # Those of stages that others build on these are tested there, too, and with them the store that they share.
    in_files -= {f"{name}_adjoint" for name in ("production_below_step", "gr4_step", "gr5_step", "gr6_step")}
    in_files -= {"store_and_direct_branch_adjoint"}
    assert in_files == {f"{name}_adjoint" for name in {*PAIRS, *RULES}}
    for name, pair in PAIRS.items():
        assert pair.forward is getattr(inspect.getmodule(pair.forward), name)
        assert pair.adjoint in SCALARS and pair.forward in SCALARS, "not what the runtime compiles"
    for name in RULES:
        assert any(hasattr(m, name) for m in (elementary, transcendental, pet_network, muskingum_cunge))


@pytest.mark.parametrize("function", SCALARS, ids=label)
def test_tangents_come_from_the_code_that_is_compiled(function):
    plain = dual(function).__code__
    compiled = callee(function)
    code = getattr(compiled, "py_func", compiled).__code__
    assert (plain.co_code, plain.co_names, plain.co_consts) == (code.co_code, code.co_names, code.co_consts)


@pytest.mark.parametrize("name", PAIRS)
def test_a_slightly_wrong_adjoint_is_seen(name):
    """One part in a million of one of its results is enough."""
    pair, rng = PAIRS[name], np.random.default_rng(1)
    for place in range(len(pair.active)):
        def wrong(*arguments, place=place):
            returned = pair.adjoint(*arguments)
            returned = list(returned) if isinstance(returned, tuple) else [returned]
            returned[place] *= 1.000001
            return tuple(returned)

        worst = max(dot_error(pair._replace(adjoint=wrong), pair.draw(rng), rng) for _ in range(100))
        assert worst > 1e-8, pair.active[place]


@pytest.mark.parametrize("name", PAIRS)
def test_tangents_are_what_central_differences_come_to(name):
    """Of dual numbers themselves: away from kinks, on the steps and the elementary functions below them."""
    pair, rng = PAIRS[name], np.random.default_rng(3)
    errors = []
    for _ in range(40):
        arguments = pair.draw(rng)
        exact = jacobian(pair.forward, arguments, pair.active)
        for i, argument in enumerate(pair.active):
            h = 1e-6 * (abs(arguments[argument]) or 1.0)
            above, below = (
                np.atleast_1d(pair.forward(**arguments | {argument: arguments[argument] + d})) for d in (h, -h)
            )
            slope = (above - below) / (2 * h)
            errors.append(np.abs(slope - exact[:, i]).max() / max(np.abs(exact[:, i]).max(), 1e-3))
    assert np.median(errors) < 1e-6
    assert np.quantile(errors, 0.8) < 1e-4  # the rest may straddle a kink
