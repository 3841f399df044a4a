"""The runoff and the routing kernel alone, on cells and on a river network made up for the purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from timing import Case

from bmi_cdlm.domain.domain import Cells, Domain, Gauges, Links, Reaches
from bmi_cdlm.domain.network import NetworkPlan, accumulate_downstream, order_reaches, plan_network
from bmi_cdlm.kernels.groups import ReachSeries
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import on_lines, whole_series
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.elementwise import Elementwise
from bmi_cdlm.model.memory import HostMemory
from bmi_cdlm.model.preparation import Preparation
from bmi_cdlm.names.declaration import CellProcess, ReachProcess
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.catalogue import choose
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM


class Weather(NamedTuple):
    """Rain and potential evapotranspiration, float[time, cell] [mm d-1]."""

    precipitation: np.ndarray
    potential_evapotranspiration: np.ndarray


def random_weather(seed: int, n_steps: int, n_cells: int) -> Weather:
    """Daily weather of a temperate basin in float32: rain on two days of five, evapotranspiration with the seasons."""
    rng = np.random.default_rng(seed)
    wet = rng.random((n_steps, 1)) < 0.4
    rain = rng.exponential(6.0, (n_steps, 1)) * rng.uniform(0.5, 1.5, (n_steps, n_cells))
    season = 2.0 - 1.5 * np.cos(2 * np.pi * np.arange(n_steps) / 365.25)[:, None]
    return Weather(
        np.where(wet, rain, 0.0).astype(np.float32),
        (season * rng.uniform(0.8, 1.2, n_cells)).astype(np.float32),
    )


def runoff_case(
    name: str, dtype: type, threads: int, longest: float, weather: Weather, ledger: bool = True
) -> Case:
    """GR4J of all cells over all days, runoff kept; `longest` is the largest X4 [d].

    ledger: with the four totals of every cell, as a run keeps them and a training does not.
    """
    n_steps, n_cells = weather.precipitation.shape
    rng = np.random.default_rng(1)
    x4 = rng.uniform(0.5, longest, n_cells).astype(dtype)
    x4[0] = longest
    names = ("production_capacity", "exchange_coefficient", "routing_capacity")
    values = {
        name: rng.uniform(*bounds, n_cells).astype(dtype)
        for name, bounds in zip(names, ((100, 900), (-2, 1), (20, 300)), strict=True)
    }
    operator = CellOperator(GR4J, separate_cells(n_cells), DAY, dtype, Workers(threads))
    parameters = operator.prepare({**values, "unit_hydrograph_base": x4})
    state, plan = operator.start(parameters), operator.plan
    totals = plan.total_group(*(np.zeros(n_cells, dtype) for _ in plan.total_group._fields)) if ledger else None
    fluxes = plan.flux_group(*(np.empty((1, n_cells), dtype) for _ in plan.flux_group._fields))
    rain, demand = (a.astype(dtype) for a in weather)
    series = {"precipitation": rain, "potential_evapotranspiration": demand}
    runoff = np.empty((n_steps, n_cells), dtype)
    return Case(
        name, np.dtype(dtype).name, threads, n_steps * n_cells,
        lambda: operator.advance(series, parameters, state, runoff, totals, fluxes),
    )


def learned_values(process: CellProcess | ReachProcess, n: int, dtype: type, seed: int = 1) -> dict[str, np.ndarray]:
    """Daily parameters at random, as a generator gives them; those that it leaves at their default have that."""
    rng, found = np.random.default_rng(seed), {}
    for p in process.parameters:
        if not p.optional:
            values = rng.uniform(p.daily.low, p.daily.high, n)
            found[p.name] = (np.full(n, p.daily.default) if p.name in process.left_at_default else values).astype(dtype)
    return found


def with_temperature(weather: Weather, dtype: type) -> dict[str, np.ndarray]:
    """Weather by registry name, with the temperature of a winter that has snow [degC]."""
    n_steps, n_cells = weather.precipitation.shape
    rng = np.random.default_rng(3)
    season = 8.0 - 12.0 * np.cos(2 * np.pi * np.arange(n_steps) / 365.25)[:, None]
    found = {name: values.astype(dtype) for name, values in weather._asdict().items()}
    return found | {"air_temperature": (season + rng.normal(0, 3, (n_steps, n_cells))).astype(dtype)}


def process_case(name: str, process: str, dtype: type, threads: int, weather: Weather, ledger: bool = False) -> Case:
    """A process of cells by its name, all cells over all days, runoff kept; see `runoff_case`."""
    n_steps, n_cells = weather.precipitation.shape
    chosen = choose(runoff=process).cells[0]
    operator = CellOperator(chosen, separate_cells(n_cells), DAY, dtype, Workers(threads))
    parameters = operator.prepare(learned_values(chosen, n_cells, dtype))
    state, plan, series = operator.start(parameters), operator.plan, with_temperature(weather, dtype)
    totals = plan.total_group(*(np.zeros(n_cells, dtype) for _ in plan.total_group._fields)) if ledger else None
    runoff = np.empty((n_steps, n_cells), dtype)
    return Case(
        name, np.dtype(dtype).name, threads, n_steps * n_cells,
        lambda: operator.advance(series, parameters, state, runoff, totals),
    )


def separate_cells(n: int) -> Domain:
    """Cells and reaches that have nothing to do with each other, 1 km2 each."""
    names, zero, one = [str(i) for i in range(n)], np.zeros(n), np.ones(n)
    return Domain(
        Cells(names, zero, zero, one, one, np.zeros((n, 4)), np.zeros((n, 4)), np.full(n, 100.0),
              np.full(n, 500.0), one),
        Reaches(names, np.full(n, -1), zero, zero, one, one, zero, zero),
        Links(np.arange(n + 1), np.arange(n), one), Gauges([], [], np.zeros(0, np.int64), np.zeros(0)), np.arange(n),
    )


def random_river(seed: int, n_sources: int) -> np.ndarray:
    """Downstream reach of one river with that many sources, all its shapes equally likely [Shreve 1966].

    Returns int64[2 n_sources - 1], -1 at the outlet: two reaches join in every third one, and the mean number of
    reaches from a source to the outlet is near sqrt(pi n_sources), as in real rivers.
    """
    rng = np.random.default_rng(seed)
    is_source = rng.permutation(np.arange(2 * n_sources - 1) < n_sources)
    # Of all rotations of the sequence just one is a tree written from its sources down: it starts after the lowest
    # point of the running sum [cycle lemma].
    running = np.cumsum(np.where(is_source, 1, -1))
    is_source = np.roll(is_source, -1 - (running.size - 1 - int(np.argmin(running[::-1]))))
    return join_pairs(is_source)


@njit
def join_pairs(is_source: np.ndarray) -> np.ndarray:
    """Downstream reach, -1 at outlets: every reach that is no source takes in the two before it that are still open."""
    downstream = np.full(is_source.size, -1, np.int64)
    open_ends = np.empty(is_source.size, np.int64)
    n_open = 0
    for i in range(is_source.size):
        if not is_source[i]:
            downstream[open_ends[n_open - 1]] = i
            downstream[open_ends[n_open - 2]] = i
            n_open -= 2
        open_ends[n_open] = i
        n_open += 1
    return downstream


def in_routing_order(downstream: np.ndarray) -> np.ndarray:
    """The same network with its reaches in routing order."""
    order = order_reaches(downstream, [f"{i:08d}" for i in range(downstream.size)])
    position = np.empty_like(order)
    position[order] = np.arange(order.size)
    below = downstream[order]
    return np.where(below >= 0, position[below], -1)


def routing_case(
    name: str, dtype: type, threads: int, downstream: np.ndarray, n_steps: int, n_sub: int, linked: bool,
    kept: bool = True, process: ReachProcess = MUSKINGUM,
) -> Case:
    """Routing of all reaches over a block of days, n_sub sub-steps each; their daily means are kept, or of none.

    Unless linked, cells feed the headwaters only: the same work but for most links. Without any water the states would
    fall into denormal numbers, which are slow.
    """
    plan, workers, work = plan_network(downstream, threads), Workers(threads), downstream.size * n_steps * n_sub
    kernel, arguments = routing_arguments(dtype, plan, downstream, n_steps, n_sub, linked, kept, process)
    return Case(
        name, np.dtype(dtype).name, threads, work, lambda: plan.route(workers, kernel, arguments, n_steps, n_sub)
    )


def routing_arguments(
    dtype: type, plan: NetworkPlan, downstream: np.ndarray, n_steps: int, n_sub: int, linked: bool, kept: bool = True,
    process: ReachProcess = MUSKINGUM,
) -> tuple[Callable, tuple]:
    """The kernel `route` and its arguments but for the range of reaches and steps."""
    n = downstream.size
    rng = np.random.default_rng(2)
    reaches = ReachPlan(process)
    constants = reaches.constant_group(dtype(DAY / n_sub))
    if process is MUSKINGUM:
        values = {
            "travel_time": rng.lognormal(np.log(3600.0), 1.0, n).astype(dtype), "weighting": np.full(n, 0.2, dtype),
        }
        attributes, start = {}, rng.uniform(0, 1, n).astype(dtype)
    else:
        values, attributes = learned_values(process, n, dtype), made_channels(n, dtype)
    symbols = Preparation(process, constants, attributes, HostMemory(dtype)).fill(values)
    if process is not MUSKINGUM:
        flow = (0.05 * accumulate_downstream(downstream, np.ones(n))).astype(dtype)
        start = Elementwise(process.steady, constants, dtype)(symbols, {"flow": flow})
    parameters = reaches.parameter_group(*(symbols[name] for name in reaches.parameter_group._fields))
    # Cells of 3 km hold nine reaches of 1 km.
    fed = linked | (np.bincount(downstream[downstream >= 0], minlength=n) == 0)
    links = Links(np.r_[0, np.cumsum(fed)], np.flatnonzero(fed) // 9, np.ones(int(fed.sum()), dtype))
    runoff = rng.uniform(0.01, 10.0, (n_steps, n // 9 + 1)).astype(dtype)
    lateral_inflow, passing = (
        ReachSeries(np.empty((plan.n_slots, n_steps), dtype), plan.network.slot, np.empty(n, dtype)) for _ in range(2)
    )
    discharge = whole_series(on_lines(n, n_steps, dtype)) if kept else passing
    return compiled(reach_loops(reaches, LINKS).route, dtype), (
        plan.network, links, parameters, start, runoff, lateral_inflow,
        np.empty((plan.n_slots, n_steps * n_sub), dtype), discharge,
        np.empty((n, 0), dtype), np.zeros(n, dtype), constants.seconds, n_sub, dtype(DAY),
    )


def made_channels(n: int, dtype: type) -> dict[str, np.ndarray]:
    """Lengths [m] and slopes of made-up reaches of about 3 km, by the symbols of a process."""
    rng = np.random.default_rng(5)
    return {
        "length": rng.lognormal(np.log(3000.0), 0.5, n).astype(dtype),
        "slope": rng.lognormal(np.log(2e-3), 1.0, n).astype(dtype),
    }
