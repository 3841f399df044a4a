"""Operators of every declared process on small cases, by the names of their processes: for host and CUDA device alike.

Each pair takes an operator and values by name, and returns results by name: what it gives, states, adjoints.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from make_domain import random_domain
from process_cases import CELLS, HBV, REACHES, VARYING

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.declaration import CellProcess, ReachProcess
from bmi_cdlm.names.parameters import WEIGHT, Parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import Chain, choose
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM

Arrays = dict[str, Any]
N_CELLS, N_REACHES = 5, 12
SINGLE = "single precision"
IN_BOTH = ("gr4j", "cemaneige_hysteresis", "hbv_2_0", "beside_a_queue", "muskingum", "muskingum_cunge")
"""Processes that are compared in single precision too: every kind of loop, adjoints by hand and derived."""


class Case(NamedTuple):
    """A chain of processes, and what must not change the results: tile and waves of a block of the routing.

    compared : names of the processes that are compared; varying, components : see `CellOperator`.
    """

    chain: Chain
    compared: tuple[str, ...]
    dtype: type = np.float64
    step: int = DAY
    n_steps: int = 12
    varying: tuple[str, ...] = ()
    components: int = 1
    weighted: bool = False
    tile: int | None = None
    waves: int | None = 5

    @property
    def options(self) -> dict[str, Any]:
        """What operators of host and device take alike."""
        return {"varying": self.varying, "components": {p.name: self.components for p in self.chain.cells}}


def cases() -> dict[str, Case]:
    """Every process in turn, with all parameters fixed and with some varying, daily and hourly."""
    found: dict[str, Case] = {}
    for process in CELLS:
        alone, own = Chain((process,), LINKS, MUSKINGUM), (process.name,)
        found[process.name] = Case(alone, own)
        if process.name in VARYING:
            found[f"{process.name}, varying"] = Case(alone, own, varying=VARYING[process.name], n_steps=9)
        found[f"{process.name}, hourly"] = Case(alone, own, step=HOUR, n_steps=10)
        if process.name in IN_BOTH:
            found[f"{process.name}, {SINGLE}"] = Case(alone, own, np.float32)
    for process in REACHES:
        alone, own = Chain(CELLS[-1:], LINKS, process), (process.name,)
        found[process.name] = Case(alone, own, n_steps=12)
        found[f"{process.name}, blocks of the shipped length"] = Case(alone, own, tile=10, waves=None)
        found[f"{process.name}, a launch per sub-step"] = Case(alone, own, tile=1, n_steps=5)
        found[f"{process.name}, hourly"] = Case(alone, own, step=HOUR, n_steps=7, tile=3)
        if process.name in IN_BOTH:
            found[f"{process.name}, {SINGLE}"] = Case(alone, own, np.float32, tile=6, n_steps=8)
    found["three components"] = Case(
        Chain((HBV,), LINKS, MUSKINGUM), (HBV.name,), varying=VARYING[HBV.name], components=3
    )
    for dtype in (np.float64, np.float32):
        found["three components with weights" + (f", {SINGLE}" if dtype is np.float32 else "")] = Case(
            Chain((HBV,), LINKS, MUSKINGUM), (HBV.name,), dtype, components=3, weighted=True
        )
    shipped = choose("cemaneige_hysteresis")
    found["the chain that is shipped"] = Case(shipped, shipped.names, tile=3)
    return found


def domain_of(seed: int) -> Domain:
    """A small forest."""
    return random_domain(seed, N_REACHES, N_CELLS, 20)


def host_operators(case: Case, domain: Domain) -> Operators:
    """The operators of the host."""
    return Operators(case.chain, domain, case.step, case.step // 4, case.dtype, **case.options)


def drawn(rng: np.random.Generator, p: Parameter, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter within its range."""
    low, high, _ = p.range_at(step)
    return rng.uniform(low, high, shape)


def parameters_of(process: CellProcess | ReachProcess, case: Case, n: int, seed: int) -> Arrays:
    """Parameters of a process, one per unit or reach."""
    rng = np.random.default_rng(seed)
    fixed = [p for p in process.parameters if p.name not in case.varying and not p.optional]
    found = {p.name: drawn(rng, p, case.step, (n,)).astype(case.dtype) for p in fixed}
    if case.weighted and n == N_CELLS * case.components:
        weights = rng.dirichlet(np.ones(case.components), N_CELLS).T
        found[WEIGHT] = np.ascontiguousarray(weights).reshape(-1).astype(case.dtype)
    return found


def series_of(process: CellProcess, case: Case, seed: int) -> Arrays:
    """Wet and dry, warm and cold, ties P = E = 0; parameters that vary."""
    rng, shape = np.random.default_rng(seed), (case.n_steps, N_CELLS)
    found = {
        "precipitation": np.where(rng.random(shape) < 0.6, rng.exponential(15.0, shape), 0.0),
        "potential_evapotranspiration": np.where(rng.random(shape) < 0.1, 0.0, rng.uniform(0, 6, shape)),
        "air_temperature": 2.0 - 6.0 * np.cos(0.7 * np.arange(case.n_steps))[:, None] + rng.normal(0, 2, shape),
        "liquid_water": np.where(rng.random(shape) < 0.6, rng.exponential(12.0, shape), 0.0),
        "given_runoff": np.random.default_rng(seed).exponential(4.0, shape),
    }
    for p in process.parameters:
        if p.name in case.varying:
            found[p.name] = drawn(rng, p, case.step, shape)
    return {name: values.astype(case.dtype) for name, values in found.items()}


def flows_of(case: Case, seed: int) -> Arrays:
    """Runoff, and the state of the reaches."""
    rng = np.random.default_rng(seed)
    found = {"runoff": rng.exponential(2.0, (case.n_steps, N_CELLS)), "state": rng.exponential(0.5, N_REACHES)}
    return {name: values.astype(case.dtype) for name, values in found.items()}


def outlets_and_more(domain: Domain) -> np.ndarray:
    """Reaches whose discharge counts, one of them twice."""
    return np.r_[np.random.default_rng(7).permutation(domain.n_reaches)[:5], domain.outlets[:1], domain.outlets[:1]]


def state_of(operator: Any, p: Any, seed: int) -> Arrays:
    """A state somewhat above that of a cold start, water on its way."""
    rng, state, process = np.random.default_rng(seed), operator.start(p), operator.process
    found = {}
    for name, values in state._asdict().items():
        if name in process.queues:
            found[name] = rng.exponential(2.0, values.shape)
        else:
            free = process.stores[name].bounds == (0.0, np.inf) and process.stores[name].at_most is None
            found[name] = values + (rng.uniform(0, 5, values.shape) if free else 0.0)
    return {name: values.astype(operator.dtype) for name, values in found.items()}


def forward_cells(operator: Any, send: Any, parameters: Arrays, series: Arrays, state: Arrays) -> tuple[Arrays, Any]:
    """What a process of cells gives, and the state at the end."""
    p = operator.prepare(send(parameters))
    now = operator.plan.state_group(**send(state))
    out, record = operator.run(send(series), p, now)
    return {"out": out, **now._asdict()}, record


def backward_cells(operator: Any, send: Any, record: Any, adj: Arrays) -> Arrays:
    """Adjoints of inputs, of the state, of what steps take, of parameters."""
    sent = send(adj)
    state_adj = operator.plan.state_group(*(sent[name] for name in operator.plan.state_group._fields))
    inputs_adj, p_adj = operator.reverse(record, sent["out"], state_adj)
    found = operator.prepare_adjoint(record.parameters, p_adj, state_adj)
    return {
        **{f"input {n}": a for n, a in inputs_adj.items()}, **{f"state {n}": a for n, a in state_adj._asdict().items()},
        **{f"symbol {n}": a for n, a in p_adj._asdict().items()}, **{f"parameter {n}": a for n, a in found.items()},
    }


def forward_reaches(operator: Any, send: Any, parameters: Arrays, values: Arrays, at: np.ndarray) -> tuple[Arrays, Any]:
    """Discharge, and the state at the end."""
    p, sent = operator.prepare(send(parameters)), send(values)
    discharge, record = operator.run(sent["runoff"], p, sent["state"], at)
    return {"discharge": discharge, "state": sent["state"]}, record


def backward_reaches(operator: Any, send: Any, record: Any, adj: Arrays) -> Arrays:
    """Adjoints of runoff, of the state, of what the step takes, of parameters."""
    sent = send(adj)
    runoff_adj, p_adj = operator.reverse(record, sent["discharge"], sent["state"])
    found = operator.prepare_adjoint(record.parameters, p_adj)
    return {
        "runoff": runoff_adj, "state": sent["state"], **{f"symbol {n}": a for n, a in p_adj._asdict().items()},
        **{f"parameter {n}": a for n, a in found.items()},
    }
