"""Small cases for the operators over a period, and the operators as pairs of a forward and its adjoint.

Inputs, outputs and their adjoints are dictionaries by name, so that a test can move one input at a time. torch
has no part in this: whatever wraps the operators is compared with `chain_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from make_domain import lumped_domain, random_domain
from process_cases import BESIDE, HBV, RESERVOIRS, VARYING, WINDY

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.kernels.loops.plan import places_of
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.declaration import LIQUID_WATER, RUNOFF, CellProcess
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import Chain
from bmi_cdlm.processes.cemaneige import CEMANEIGE, CEMANEIGE_HYSTERESIS
from bmi_cdlm.processes.cemaneige_gradual import CEMANEIGE_GRADUAL
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.gr_structures import GR4, GR5, GR6
from bmi_cdlm.processes.hbv import HBV as ROUTED_HBV
from bmi_cdlm.processes.hbv import HBV_1_0, HBV_1_1P, HBV_2_0
from bmi_cdlm.processes.impervious import GR4J_IMPERVIOUS, HBV_IMPERVIOUS
from bmi_cdlm.processes.kinematic import KINEMATIC
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.processes.muskingum_cunge import MUSKINGUM_CUNGE, MUSKINGUM_CUNGE_SHAPED
from bmi_cdlm.processes.outside import CALLER, ROUTING_NONE
from bmi_cdlm.processes.undercatch import HBV_UNDERCATCH, UNDERCATCH

Arrays = dict[str, np.ndarray]
FLAT = ("unit_hydrograph_length",)
"""Parameters that nothing has a slope in."""
FORCING = ("precipitation", "potential_evapotranspiration", "air_temperature", "given_runoff")


def chain_of(*cells: CellProcess, reach: Any = MUSKINGUM) -> Chain:
    return Chain(cells, LINKS, reach)


class Case(NamedTuple):
    """A domain, its processes and steps, and the inputs of all operators by name.

    at: reaches whose discharge counts, one of them twice.
    """

    domain: Domain
    chain: Chain
    step: int
    routing_step: int
    varying: tuple[str, ...]
    components: Mapping[str, int]
    at: np.ndarray
    inputs: Arrays

    def operators(self, dtype: type = np.float64, threads: int = 1) -> Operators:
        """The operators of this case."""
        return Operators(
            self.chain, self.domain, self.step, self.routing_step, dtype, threads, varying=self.varying,
            components=self.components,
        )

    def series(self, process: CellProcess) -> tuple[str, ...]:
        """What a process of cells takes of each step, by registry name; what passes the snow is precipitation."""
        own = {p.name for p in process.parameters}
        names = [*process.inputs, *(name for name in self.varying if name in own)]
        return tuple(self.series_name(name) for name in names)

    def series_name(self, name: str) -> str:
        """The series that an input is: without snow, rain plus melt is precipitation."""
        melts = any(p.gives[0] == LIQUID_WATER for p in self.chain.cells)
        return "precipitation" if name == LIQUID_WATER and not melts else name

    def parameters(self, process: Any) -> tuple[str, ...]:
        """Parameters of a process with one value per unit or reach, by registry name."""
        if not isinstance(process, CellProcess):
            given = [one.given for one in process.prepared if one.given is not None]
            replaced = {"celerity"} if given else set()  # travel time is given in its place
            return (*given, *(p.name for p in process.parameters if p.name not in replaced))
        own = tuple(p.name for p in process.parameters if p.name not in self.varying and not p.optional)
        return (*own, WEIGHT) if WEIGHT in self.inputs and process is self.chain.cells[-1] else own

    def states(self, process: Any) -> tuple[str, ...]:
        """States of a process by registry name."""
        if isinstance(process, CellProcess):
            return (*process.stores, *process.queues)
        return (process.state,)


def make_case(
    seed: int, domain: Domain, n_steps: int, *, chain: Chain | None = None, step: int = DAY, n_sub: int = 4,
    x4: tuple[float, float] = (0.3, 4.0), varying: tuple[str, ...] = (), components: Mapping[str, int] | None = None,
    warmth: float = 2.0, weighted: bool = False,
) -> Case:
    """Random inputs: wet and dry, warm and cold, ties P = E = 0, reaches of every Muskingum branch and of K = 0."""
    chain = chain_of(CEMANEIGE_HYSTERESIS, GR4J) if chain is None else chain
    rng, components = np.random.default_rng(seed), dict(components or {})
    n, m, shape = domain.n_cells, domain.n_reaches, (n_steps, domain.n_cells)
    routing_step = step // n_sub
    branch = np.resize([0.0, 0.02, 0.3, 0.9, 1.1, 4.0, 60.0], m) * rng.uniform(0.8, 1.2, m)
    inputs: Arrays = {
        "precipitation": np.where(rng.random(shape) < 0.6, rng.exponential(15.0, shape), 0.0),
        "potential_evapotranspiration": np.where(rng.random(shape) < 0.1, 0.0, rng.uniform(0, 6, shape)),
        "air_temperature": warmth - 6.0 * np.cos(0.7 * np.arange(n_steps))[:, None] + rng.normal(0, 2, shape),
        "travel_time": rng.permutation(branch) * routing_step,
        "weighting": rng.uniform(0, 0.5, m),
        "celerity": rng.uniform(0.2, 3.0, m),
        "test_exponent": rng.uniform(1.0, 2.0, m),
        "reach_flow": rng.exponential(0.5, m),
        "test_water": rng.exponential(3e4, m) * (rng.random(m) < 0.9),
        "given_runoff": np.random.default_rng(seed).exponential(4.0, shape),
    }
    for p in chain.reach.parameters:
        low, high, _ = p.range_at(step)
        inputs.setdefault(p.name, rng.uniform(low, high, m))
    inputs.setdefault(chain.reach.state, rng.exponential(3e4, m) * (rng.random(m) < 0.9))
    for process in chain.cells:
        count = components.get(process.name, 1) * n
        inputs |= drawn(process, rng, shape, count, step, x4, varying)
    at = np.r_[rng.permutation(m)[:5], domain.outlets[:1], domain.outlets[:1]]
    if weighted:
        weights = rng.dirichlet(np.ones(components[chain.cells[-1].name]), n).T
        inputs[WEIGHT] = np.ascontiguousarray(weights).reshape(-1)
    return Case(domain, chain, step, routing_step, tuple(varying), components, at, inputs)


def drawn(
    process: CellProcess, rng: np.random.Generator, shape: tuple[int, int], count: int, step: int,
    x4: tuple[float, float], varying: tuple[str, ...],
) -> Arrays:
    """Parameters and states of a process, `count` values each, or [time, cell] of those that vary."""
    share = step / DAY
    base = rng.uniform(*x4, count)
    base[0] = x4[1]
    bases = {queue.base: base for queue in process.queues.values()}
    values = {
        "production_capacity": rng.uniform(50, 500, count), "exchange_coefficient": rng.uniform(-5, 3, count) * share,
        "routing_capacity": rng.uniform(15, 120, count), "thermal_weighting": rng.uniform(0.1, 0.9, count),
        "melt_factor": rng.uniform(1, 8, count) * share, "accumulation_threshold": rng.uniform(30, 200, count) * share,
        "cover_ratio_threshold": rng.uniform(0.1, 0.9, count),
        "snowpack": np.where(rng.random(count) < 0.3, 0.0, rng.uniform(0, 60, count)),
        "thermal_state": np.where(rng.random(count) < 0.3, 0.0, -rng.exponential(2.0, count)),
        "snow_peak": rng.uniform(20, 80, count),
        "snow_cover": np.where(rng.random(count) < 0.5, 1.0, rng.uniform(0, 0.5, count)),
        "production_store": rng.uniform(0, 50, count), "routing_store": rng.uniform(0, 15, count), **bases,
        "field_capacity": rng.uniform(30, 150, count), "quickflow_threshold": rng.uniform(0, 15, count),
        "interception_store": np.linspace(0.0, 0.4, count), "exponential_store": np.linspace(-12.0, 9.0, count),
        "interception_capacity": np.linspace(0.5, 3.0, count) * share,
        "percolation_capacity": rng.uniform(0, 3, count), "regional_exchange_capacity": rng.uniform(0, 2, count),
    }
    found: Arrays = {}
    for p in process.parameters:
        low, high, _ = p.range_at(step)
        if p.name in varying:
            found[p.name] = rng.uniform(low, high, shape)
        elif not p.optional:
            found[p.name] = values.get(p.name, rng.uniform(low, high, count))
    for name in process.stores:
        found[name] = values.get(name, rng.uniform(0, 40, count))
    for name, queue in process.queues.items():
        found[name] = rng.exponential(2.0, (places_of(queue, float(base.max())), count)) * share
    return found


VARYING_HBV = ("pet_factor", "test_evaporation_shape", "test_recharge_shape")
VARYING_BESIDE = ("pet_factor", "test_beside", "test_capacity")
CASES: dict[str, Callable[[], Case]] = {
    "forest, hysteresis": lambda: make_case(1, random_domain(11, 60, 7, 110), 17),
    "forest, plain snow": lambda: make_case(2, random_domain(12, 60, 7, 110), 17, chain=chain_of(CEMANEIGE, GR4J)),
    "hourly": lambda: make_case(3, random_domain(13, 9, 4, 15), 25, step=HOUR, x4=(5.0, 30.0)),
    "hourly, X4 of 100": lambda: make_case(4, lumped_domain(2), 16, step=HOUR, x4=(99.9, 100.0)),
    "hydrographs of length one": lambda: make_case(5, lumped_domain(4), 16, n_sub=1, x4=(0.1, 0.5)),
    "X4 of whole and half steps": lambda: make_case(6, lumped_domain(3), 16, n_sub=24, x4=(2.5, 2.5)),
    "one cell, one cold step": lambda: make_case(7, lumped_domain(1), 1),
    "one cold step": lambda: make_case(7, lumped_domain(6), 1),
    "cold steps, plain snow": lambda: make_case(7, lumped_domain(5), 3, chain=chain_of(CEMANEIGE, GR4J), warmth=-3.0),
    "one cell, one warm step": lambda: make_case(8, lumped_domain(1), 1, warmth=12.0),
    "one block and one step": lambda: make_case(9, random_domain(14, 6, 3, 9), 8),
    "a factor that varies": lambda: make_case(
        10, random_domain(15, 12, 5, 20), 17, chain=chain_of(GR4J, reach=RESERVOIRS), varying=("pet_factor",)),
    "three stages": lambda: make_case(11, random_domain(16, 20, 6, 40), 17, chain=chain_of(HBV)),
    "three stages, varying": lambda: make_case(
        12, random_domain(17, 20, 6, 40), 17, chain=chain_of(HBV, reach=RESERVOIRS), varying=VARYING_HBV),
    "three stages, hourly": lambda: make_case(
        13, lumped_domain(3), 15, chain=chain_of(HBV), step=HOUR, varying=VARYING_HBV),
    "beside a queue": lambda: make_case(
        14, random_domain(18, 20, 6, 40), 17, chain=chain_of(CEMANEIGE, BESIDE, reach=RESERVOIRS)),
    "beside a queue, varying": lambda: make_case(
        15, random_domain(19, 9, 5, 20), 18, chain=chain_of(BESIDE), varying=VARYING_BESIDE, x4=(1.0, 6.0)),
    "beside a queue, hourly": lambda: make_case(
        16, lumped_domain(3), 14, chain=chain_of(CEMANEIGE_HYSTERESIS, BESIDE), step=HOUR, x4=(2.0, 9.0)),
    "components": lambda: make_case(
        17, random_domain(20, 9, 4, 15), 17, chain=chain_of(CEMANEIGE, GR4J), components={"gr4j": 3},
        varying=("pet_factor",)),
    "components of all": lambda: make_case(
        18, random_domain(21, 9, 4, 15), 10, chain=chain_of(CEMANEIGE_HYSTERESIS, BESIDE),
        components={"cemaneige_hysteresis": 2, "beside_a_queue": 3}, varying=VARYING_BESIDE),
    "hbv": lambda: make_case(20, random_domain(23, 20, 6, 40), 17, chain=chain_of(ROUTED_HBV), warmth=4.0),
    "hbv 1.0": lambda: make_case(21, random_domain(24, 9, 6, 15), 17, chain=chain_of(HBV_1_0), x4=(1.0, 15.0)),
    "hbv 1.1p, hourly": lambda: make_case(
        22, random_domain(25, 9, 6, 15), 13, chain=chain_of(HBV_1_1P), step=HOUR, x4=(10.0, 30.0)),
    "hbv 2.0, varying": lambda: make_case(
        23, random_domain(26, 9, 8, 15), 18, chain=chain_of(HBV_2_0, reach=RESERVOIRS), x4=(1.0, 15.0),
        varying=VARYING["hbv_2_0"]),
    "runoff from outside": lambda: make_case(27, random_domain(30, 9, 6, 15), 10, chain=chain_of(CALLER)),
    "runoff that is added up": lambda: make_case(
        28, random_domain(31, 9, 6, 15), 10, chain=chain_of(GR4J, reach=ROUTING_NONE)),
    "hbv, muskingum_cunge": lambda: make_case(
        25, random_domain(28, 25, 6, 40), 17, chain=chain_of(ROUTED_HBV, reach=MUSKINGUM_CUNGE)),
    "gr4j, muskingum_cunge_shaped": lambda: make_case(
        26, random_domain(29, 25, 6, 40), 9, chain=chain_of(GR4J, reach=MUSKINGUM_CUNGE_SHAPED), n_sub=2),
    "gr4, kinematic": lambda: make_case(
        29, random_domain(32, 15, 6, 25), 13, chain=chain_of(GR4, reach=KINEMATIC), n_sub=2),
    "gr5": lambda: make_case(30, lumped_domain(5), 13, chain=chain_of(GR5)),
    "gr6, hourly": lambda: make_case(31, random_domain(33, 9, 6, 15), 13, chain=chain_of(GR6), step=HOUR),
    "sealed, gr4j": lambda: make_case(
        32, random_domain(34, 9, 6, 15), 13, chain=chain_of(CEMANEIGE, GR4J_IMPERVIOUS)),
    "gradual snow": lambda: make_case(
        34, random_domain(36, 9, 6, 15), 17, chain=chain_of(CEMANEIGE_GRADUAL, GR4J)),
    "gradual snow, one cold step": lambda: make_case(7, lumped_domain(6), 1, chain=chain_of(CEMANEIGE_GRADUAL, GR4J)),
    "undercatch": lambda: make_case(35, random_domain(37, 9, 6, 15), 13, chain=chain_of(HBV_UNDERCATCH)),
    "a ledger of snow": lambda: make_case(38, random_domain(40, 9, 6, 15), 13, chain=chain_of(WINDY, GR4J)),
    "undercatch before snow": lambda: make_case(
        36, random_domain(38, 9, 6, 15), 13, chain=chain_of(UNDERCATCH, CEMANEIGE_HYSTERESIS, GR4J)),
    "undercatch before components": lambda: make_case(
        37, random_domain(39, 9, 6, 15), 9, chain=chain_of(UNDERCATCH, GR4J), components={"gr4j": 3, "undercatch": 2}),
    "sealed, hbv": lambda: make_case(33, random_domain(35, 9, 6, 15), 13, chain=chain_of(HBV_IMPERVIOUS)),
    "components of hbv": lambda: make_case(
        24, random_domain(27, 9, 4, 15), 9, chain=chain_of(ROUTED_HBV), components={"hbv": 4},
        varying=("evaporation_shape", "quickflow_rate", "recharge_shape")),
    "components of three stages": lambda: make_case(
        19, random_domain(22, 9, 4, 15), 10, chain=chain_of(HBV, reach=RESERVOIRS), components={"three_stages": 3}),
    "components with weights": lambda: make_case(
        20, random_domain(23, 9, 4, 15), 17, chain=chain_of(CEMANEIGE, GR4J), components={"gr4j": 3},
        varying=("pet_factor",), weighted=True),
    "one cell, components of all with weights": lambda: make_case(
        21, lumped_domain(1), 10, chain=chain_of(CEMANEIGE_HYSTERESIS, BESIDE),
        components={"cemaneige_hysteresis": 2, "beside_a_queue": 2}, weighted=True),
}


class Pair(NamedTuple):
    """An operator; the adjoint takes the forward's record and the adjoints of its outputs."""

    forward: Callable[[Operators, Case, Arrays], tuple[Arrays, object]]
    adjoint: Callable[[Operators, Case, object, Arrays], Arrays]
    active: tuple[str, ...]


def group(kind: type, values: Arrays):
    """A group of copies, from values by name."""
    return kind(*(values[name].copy() for name in kind._fields))


def cell_pair(case: Case, k: int) -> Pair:
    """A process of cells: series, parameters and initial state to what it gives and its final state."""
    process = case.chain.cells[k]

    def forward(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
        operator = ops.cells[k]
        places = {name: values[name].shape[0] for name in process.queues}
        p = operator.prepare({name: values[name] for name in case.parameters(process)}, places)
        state = group(operator.plan.state_group, values)
        series = {name: values[name] for name in (*case.series(process), "precipitation")}
        given, record = operator.run(series, p, state)
        return {operator.gives: given, **{f"end {n}": a for n, a in state._asdict().items()}}, record

    def adjoint(ops: Operators, case: Case, record: Any, adj: Arrays) -> Arrays:
        operator = ops.cells[k]
        state_adj = group(operator.plan.state_group, {n: adj[f"end {n}"] for n in case.states(process)})
        found, p_adj = operator.reverse(record, adj[operator.gives], state_adj)
        own = operator.prepare_adjoint(record.parameters, p_adj)
        return {**{case.series_name(name): a for name, a in found.items()}, **own, **state_adj._asdict()}

    moving = [name for name in case.parameters(process) if name not in FLAT]
    return Pair(forward, adjoint, (*case.series(process), *moving, *case.states(process)))


def reach_pair(case: Case) -> Pair:
    """A process of reaches: runoff, parameters and initial state to discharge and the final state."""
    process = case.chain.reach

    def forward(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
        p = ops.reach.prepare({name: values[name] for name in case.parameters(process)})
        state = values[process.state].copy()
        discharge, record = ops.reach.run(values[RUNOFF], p, state, case.at)
        return {"discharge": discharge, f"end {process.state}": state}, record

    def adjoint(ops: Operators, case: Case, record: Any, adj: Arrays) -> Arrays:
        state_adj = adj[f"end {process.state}"].copy()
        runoff_adj, p_adj = ops.reach.reverse(record, adj["discharge"], state_adj)
        own = ops.reach.prepare_adjoint(record.parameters, p_adj)
        return {RUNOFF: runoff_adj, process.state: state_adj, **own}

    return Pair(forward, adjoint, (RUNOFF, *case.parameters(process), process.state))


def parts(case: Case) -> dict[str, Pair]:
    """The operators of a case, in the order of the water."""
    cells = {process.name: cell_pair(case, k) for k, process in enumerate(case.chain.cells)}
    return cells | {case.chain.reach.name: reach_pair(case)}


def chain_pair(case: Case) -> Pair:
    """Forcing, parameters and initial state to discharge and final state."""
    own = parts(case)
    gives = {process.name: process.gives[0] for process in case.chain.cells}

    def forward(ops: Operators, case: Case, values: Arrays) -> tuple[Arrays, object]:
        known, records, outputs = dict(values), [], {}
        for pair in own.values():
            found, record = pair.forward(ops, case, known)
            known |= found
            outputs |= {name: a for name, a in found.items() if name not in gives.values()}
            records.append(record)
        return outputs, records

    def adjoint(ops: Operators, case: Case, record: Any, adj: Arrays) -> Arrays:
        known = dict(adj)
        for (name, pair), one in zip(reversed(own.items()), reversed(record), strict=True):
            found = pair.adjoint(ops, case, one, known)
            known.pop(gives.get(name), None)  # what comes to it is in what it takes from now on
            for taken, a in found.items():
                known[taken] = known[taken] + a if taken in known else a
        return {name: a for name, a in known.items() if name not in adj}

    active, made = {}, set()
    for name, pair in own.items():
        active |= dict.fromkeys(a for a in pair.active if a not in made)
        made.add(gives.get(name))
    return Pair(forward, adjoint, tuple(active))


def pairs(case: Case) -> dict[str, Pair]:
    """Every operator of a case by the name of its process, and the whole chain."""
    return {**parts(case), "chain": chain_pair(case)}


NAMES = [(name, pair) for name, make in CASES.items() for pair in pairs(make())]
"""Every case with each of its operators."""


def of_every_operator() -> list[str]:
    """Cases that have an operator, or a kind of it (varying, with components, with weights), that none before them has.

    Enough where what is compared is the same code for all: without the compiler, where a case takes half a second.
    """
    found, seen = [], set()
    for name, make in CASES.items():
        case = make()
        kinds = bool(case.varying), bool(case.components), WEIGHT in case.inputs
        own = {(p.name, *kinds) for p in case.chain.cells} | {(case.chain.reach.name,)}
        if own - seen:
            found.append(name)
        seen |= own
    return found


def all_values(case: Case) -> Arrays:
    """The inputs of a case and everything that the chain computes on the way to the discharge."""
    ops, values = case.operators(), dict(case.inputs)
    for pair in parts(case).values():
        outputs, _record = pair.forward(ops, case, values)
        values |= outputs
    ops.close()
    return values


def chain_gradients(case: Case, adj: Arrays, dtype: type = np.float64, threads: int = 1) -> tuple[Arrays, Arrays]:
    """Outputs of the chain and gradients of sum(adj * outputs) to its inputs, for outputs missing in adj: 0.

    The reference of whatever wraps the operators.
    """
    ops, pair = case.operators(dtype, threads), chain_pair(case)
    outputs, record = pair.forward(ops, case, {name: a.astype(dtype) for name, a in case.inputs.items()})
    full = {n: np.asarray(adj[n], dtype) if n in adj else np.zeros_like(a) for n, a in outputs.items()}
    gradients = pair.adjoint(ops, case, record, full)
    ops.close()
    return outputs, {name: gradients[name] for name in pair.active}
