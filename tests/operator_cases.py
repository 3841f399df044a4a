"""Small cases for the operators over a period, and the operators as pairs of a forward and its adjoint.

Inputs, outputs and their adjoints are dictionaries by name, so that a test can move one input at a time. torch
has no part in this: whatever wraps the operators is compared with `chain_gradients`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from make_domain import lumped_domain, random_domain

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.kernels.groups import ReachParameters, RunoffParameters, RunoffState, SnowParameters, SnowState
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.time_steps import DAY, HOUR

Arrays = dict[str, np.ndarray]
FORCING = ("precipitation", "potential_evapotranspiration", "air_temperature")
CELL = ("production_capacity", "exchange_coefficient", "routing_capacity")
COEFFICIENTS = ("direct", "gain", "keep")


class Case(NamedTuple):
    """A domain, its steps, and the inputs of all operators by name.

    n_places: lengths of the unit hydrographs; at: reaches whose discharge counts, one of them twice.
    """

    domain: Domain
    step: int
    routing_step: int
    n_places: tuple[int, int]
    hysteresis: bool
    at: np.ndarray
    inputs: Arrays

    def operators(self, dtype: type = np.float64, threads: int = 1) -> Operators:
        """The operators of this case."""
        return Operators(self.domain, self.step, self.routing_step, dtype, threads)


def make_case(
    seed: int, domain: Domain, n_steps: int, *, step: int = DAY, n_sub: int = 4, x4: tuple[float, float] = (0.3, 4.0),
    hysteresis: bool = True, warmth: float = 2.0,
) -> Case:
    """Random inputs: wet and dry, warm and cold, ties P = E = 0, reaches of every Muskingum branch and of K = 0."""
    rng = np.random.default_rng(seed)
    n, m, shape = domain.n_cells, domain.n_reaches, (n_steps, domain.n_cells)
    share, routing_step = step / DAY, step // n_sub
    base = rng.uniform(*x4, n)
    base[0] = x4[1]
    n_places = math.ceil(x4[1]), math.ceil(2 * x4[1])
    queues = (rng.exponential(2.0, (places, n)) * share for places in n_places)
    branch = np.resize([0.0, 0.02, 0.3, 0.9, 1.1, 4.0, 60.0], m) * rng.uniform(0.8, 1.2, m)
    inputs = {
        "precipitation": np.where(rng.random(shape) < 0.6, rng.exponential(15.0, shape), 0.0),
        "potential_evapotranspiration": np.where(rng.random(shape) < 0.1, 0.0, rng.uniform(0, 6, shape)),
        "air_temperature": warmth - 6.0 * np.cos(0.7 * np.arange(n_steps))[:, None] + rng.normal(0, 2, shape),
        "production_capacity": rng.uniform(50, 500, n),
        "exchange_coefficient": rng.uniform(-5, 3, n) * share,
        "routing_capacity": rng.uniform(15, 120, n),
        "unit_hydrograph_base": base,
        "thermal_weighting": rng.uniform(0.1, 0.9, n),
        "melt_factor": rng.uniform(1, 8, n) * share,
        "accumulation_threshold": rng.uniform(30, 200, n) * share,
        "full_cover": rng.uniform(10, 80, n),
        "snowpack": np.where(rng.random(n) < 0.3, 0.0, rng.uniform(0, 60, n)),
        "thermal_state": np.where(rng.random(n) < 0.3, 0.0, -rng.exponential(2.0, n)),
        "snow_peak": rng.uniform(20, 80, n),
        "snow_cover": np.where(rng.random(n) < 0.5, 1.0, rng.uniform(0, 0.5, n)),
        "production_store": rng.uniform(0, 50, n),
        "routing_store": rng.uniform(0, 15, n),
        "unit_hydrograph_1": next(queues), "unit_hydrograph_2": next(queues),
        "travel_time": rng.permutation(branch) * routing_step,
        "weighting": rng.uniform(0, 0.5, m),
        "reach_state": rng.exponential(0.5, m),
    }
    at = np.r_[rng.permutation(m)[:5], domain.outlets[:1], domain.outlets[:1]]
    return Case(domain, step, routing_step, n_places, hysteresis, at, inputs)


CASES: dict[str, Callable[[], Case]] = {
    "forest, hysteresis": lambda: make_case(1, random_domain(11, 60, 7, 110), 17),
    "forest, plain snow": lambda: make_case(2, random_domain(12, 60, 7, 110), 17, hysteresis=False),
    "hourly": lambda: make_case(3, random_domain(13, 9, 4, 15), 25, step=HOUR, x4=(5.0, 30.0)),
    "hourly, X4 of 100": lambda: make_case(4, lumped_domain(2), 16, step=HOUR, x4=(99.9, 100.0)),
    "hydrographs of length one": lambda: make_case(5, lumped_domain(4), 16, n_sub=1, x4=(0.1, 0.5)),
    "X4 of whole and half steps": lambda: make_case(6, lumped_domain(3), 16, n_sub=24, x4=(2.5, 2.5)),
    "one cell, one cold step": lambda: make_case(7, lumped_domain(1), 1),
    "one cell, one warm step": lambda: make_case(8, lumped_domain(1), 1, warmth=12.0),
    "one block and one step": lambda: make_case(9, random_domain(14, 6, 3, 9), 8),
}


class Pair(NamedTuple):
    """An operator; the adjoint takes the forward's record and the adjoints of its outputs."""

    forward: Callable[[Operators, Case, Arrays], tuple[Arrays, object]]
    adjoint: Callable[[Operators, Case, object, Arrays], Arrays]
    active: tuple[str, ...]


def group(kind: type, values: Arrays):
    """A group of copies, from values by name."""
    return kind(*(values[name].copy() for name in kind._fields))


def melt(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
    state = group(SnowState, values)
    liquid, record = ops.melt(
        values["precipitation"], values["air_temperature"], group(SnowParameters, values), state, case.hysteresis
    )
    return {"liquid": liquid, **state._asdict()}, record


def melt_adjoint(ops: Operators, case: Case, record: object, adj: Arrays) -> Arrays:
    state_adj = group(SnowState, adj)
    P_adj, T_adj, p_adj = ops.melt_adjoint(record, adj["liquid"], state_adj)
    return {"precipitation": P_adj, "air_temperature": T_adj, **p_adj._asdict(), **state_adj._asdict()}


def ordinates(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
    x4 = values["unit_hydrograph_base"]
    return dict(zip(("ordinates_1", "ordinates_2"), ops.ordinates(x4, case.n_places), strict=True)), x4


def ordinates_adjoint(ops: Operators, case: Case, record: object, adj: Arrays) -> Arrays:
    return {"unit_hydrograph_base": ops.ordinates_adjoint(record, adj["ordinates_1"], adj["ordinates_2"])}


def generate_runoff(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
    state = group(RunoffState, values)
    runoff, record = ops.generate_runoff(
        values["liquid"], values["potential_evapotranspiration"], group(RunoffParameters, values), state
    )
    return {"runoff": runoff, **state._asdict()}, record


def generate_runoff_adjoint(ops: Operators, case: Case, record: object, adj: Arrays) -> Arrays:
    state_adj = group(RunoffState, adj)
    liquid_adj, p_adj = ops.generate_runoff_adjoint(record, adj["runoff"], state_adj)
    return {"liquid": liquid_adj, "potential_evapotranspiration": -liquid_adj, **p_adj._asdict(), **state_adj._asdict()}


def coefficients(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
    K, x = values["travel_time"], values["weighting"]
    p = ops.coefficients(K, x)._asdict()
    return {name: p[name] for name in COEFFICIENTS}, (K, x)


def coefficients_adjoint(ops: Operators, case: Case, record: object, adj: Arrays) -> Arrays:
    p_adj = ReachParameters(*(adj[name] for name in COEFFICIENTS), np.zeros(case.domain.n_reaches))
    return dict(zip(("travel_time", "weighting"), ops.coefficients_adjoint(*record, p_adj), strict=True))


def route(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
    y = values["reach_state"].copy()
    p = ReachParameters(*(values[name] for name in COEFFICIENTS), np.zeros_like(values["direct"]))
    discharge, record = ops.route(values["runoff"], p, y, case.at)
    return {"discharge": discharge, "reach_state": y}, record


def route_adjoint(ops: Operators, case: Case, record: object, adj: Arrays) -> Arrays:
    y_adj = adj["reach_state"].copy()
    runoff_adj, p_adj = ops.route_adjoint(record, adj["discharge"], y_adj)
    return {"runoff": runoff_adj, "reach_state": y_adj, **{name: getattr(p_adj, name) for name in COEFFICIENTS}}


CHAIN = (
    (melt, melt_adjoint), (ordinates, ordinates_adjoint), (generate_runoff, generate_runoff_adjoint),
    (coefficients, coefficients_adjoint), (route, route_adjoint),
)
CHAIN_OUTPUTS = ("discharge", "reach_state", *SnowState._fields, *RunoffState._fields)


def chain(ops: Operators, case: Case, inputs: Arrays) -> tuple[Arrays, object]:
    """Forcing, parameters and initial state to discharge and final state."""
    values, records = dict(inputs), []
    for forward, _ in CHAIN:
        outputs, record = forward(ops, case, values)
        values |= outputs
        records.append(record)
    return {name: values[name] for name in CHAIN_OUTPUTS}, records


def chain_adjoint(ops: Operators, case: Case, record: object, adj: Arrays) -> Arrays:
    """Gradients of every input: each result of the chain is used once, so that adjoints need no adding."""
    gradients = dict(adj)
    for (_, adjoint), own in zip(reversed(CHAIN), reversed(record), strict=True):
        gradients |= adjoint(ops, case, own, gradients)
    return gradients


PAIRS = {
    "melt": Pair(melt, melt_adjoint, (*FORCING[::2], *SnowParameters._fields, *SnowState._fields)),
    "ordinates": Pair(ordinates, ordinates_adjoint, ("unit_hydrograph_base",)),
    "generate_runoff": Pair(
        generate_runoff, generate_runoff_adjoint,
        ("liquid", FORCING[1], *RunoffParameters._fields, *RunoffState._fields),
    ),
    "coefficients": Pair(coefficients, coefficients_adjoint, ("travel_time", "weighting")),
    "route": Pair(route, route_adjoint, ("runoff", "reach_state", *COEFFICIENTS)),
    "chain": Pair(chain, chain_adjoint, (
        *FORCING, *CELL, "unit_hydrograph_base", *SnowParameters._fields, "travel_time", "weighting",
        *SnowState._fields, *RunoffState._fields, "reach_state",
    )),
}


def all_values(case: Case) -> Arrays:
    """The inputs of a case and everything that the chain computes on the way to the discharge."""
    ops, values = case.operators(), dict(case.inputs)
    for forward, _ in CHAIN:
        outputs, _record = forward(ops, case, values)
        values |= {name: a for name, a in outputs.items() if name not in case.inputs}
    return values


def chain_gradients(case: Case, adj: Arrays, dtype: type = np.float64, threads: int = 1) -> tuple[Arrays, Arrays]:
    """Outputs of the chain and gradients of sum(adj * outputs) to its inputs, for outputs missing in adj: 0.

    The reference of whatever wraps the operators.
    """
    ops = case.operators(dtype, threads)
    outputs, record = chain(ops, case, {name: a.astype(dtype) for name, a in case.inputs.items()})
    full = {n: np.asarray(adj[n], dtype) if n in adj else np.zeros_like(a) for n, a in outputs.items()}
    gradients = chain_adjoint(ops, case, record, full)
    ops.close()
    return outputs, {name: gradients[name] for name in PAIRS["chain"].active}
