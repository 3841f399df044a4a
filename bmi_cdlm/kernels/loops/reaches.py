"""The loops around a process of reaches, written from its declaration: depth-first over the network, blocks of time.

Arrays of discharge are [reach, time]: a reach is routed over a whole block of sub-steps before the next one, and its
hydrograph is handed on in a buffer (`slot`) that stays in cache. Children are pulled in their stored order, then the
lateral inflow is added, in every layout, cut and thread count: the bits never change.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

from bmi_cdlm.kernels import lanes, streaming
from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.dialect import is_arithmetic
from bmi_cdlm.kernels.loops import routing, rows
from bmi_cdlm.kernels.loops.groups import group
from bmi_cdlm.kernels.loops.plan import returned_count
from bmi_cdlm.kernels.loops.source import arguments_of, make_functions
from bmi_cdlm.kernels.marks import free_sums, uncounted
from bmi_cdlm.names.declaration import LinkProcess, ReachProcess
from bmi_cdlm.names.errors import DeclarationError

RESERVED = {
    "adjoints", "back", "discharge", "flow", "flow_adj", "i", "k", "lateral_inflow", "mean", "n", "n_sub", "outflow",
    "outflow_adj", "p", "p_adj", "real", "state", "state_adj", "step_seconds", "t", "total", "volume", "y", "y_adj",
}
"""Names of the loops' own, which can be no symbols."""
SECONDS = "seconds"
"""Symbol of the length of a routing step [s]."""
KNOWN: dict[str, Any] = {
    f.__name__: f for f in (
        rows.add_row, rows.copy_row, rows.fill_row, rows.give_row, rows.loose_rows, routing.gather_upstream,
        routing.keep_inflow, routing.receive, routing.hand_up, routing.sum_sub_steps, routing.sweep_states,
        *lanes.COMPILED, *streaming.COMPILED,
    )
} | {"real": routing.real, "np": routing.np}


class ReachPlan:
    """A reach process as the templates see it.

    Raises
    ------
    DeclarationError
        The declaration does not fit its steps.
    """

    def __init__(self, process: ReachProcess) -> None:
        self.process = process
        self.parameters = {p.name: p for p in process.parameters}
        self._check()

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """Symbols that the step takes, in its order."""
        return arguments_of(self.process.step)

    @cached_property
    def coefficients(self) -> tuple[str, ...]:
        """Symbols of parameters and prepared values that the step takes."""
        return tuple(a for a in self.takes if a not in (self.process.symbol, "inflow", SECONDS))

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """Symbols of parameters and prepared values, one per reach."""
        prepared = [symbol for one in self.process.prepared for symbol in one.returns]
        return tuple(dict.fromkeys([*(p.symbol for p in self.process.parameters), *prepared]))

    @cached_property
    def constant_group(self) -> type[Any]:
        """Numbers of a routing step: its length [s]."""
        return group("RoutingStep", (SECONDS,))

    @cached_property
    def learned(self) -> tuple[str, ...]:
        """Symbols whose adjoints the step's adjoint returns."""
        return self.coefficients

    @cached_property
    def read(self) -> tuple[str, ...]:
        """Symbols that the step, the volume, its inverse or a steady flow take."""
        process = self.process
        taken = dict.fromkeys(self.coefficients)
        for function in (process.volume, process.from_volume, process.steady):
            taken |= dict.fromkeys(arguments_of(function))
        return tuple(a for a in taken if a in self.fixed)

    @cached_property
    def parameter_group(self) -> type[Any]:
        """float[reach]: what the process reads, by symbol."""
        return group("ReachParameters", self.read)

    @cached_property
    def adjoint_group(self) -> type[Any]:
        """float[reach]: adjoints of what the step takes."""
        return group("ReachAdjoints", self.coefficients)

    @cached_property
    def adjoint(self) -> Callable:
        """The adjoint of the step: takes the step's arguments and the adjoints of outflow and state; returns those of
        state, inflow and coefficients."""
        process = self.process
        if process.adjoint is not None:
            return process.adjoint
        active = (process.symbol, "inflow", *self.coefficients)
        return derive(
            process.step, active, {0: "outflow_adj", 1: f"{process.symbol}_adj"},
            name=f"{process.step.__name__}_adjoint",
        )

    @cached_property
    def in_lanes(self) -> bool:
        """Whether the step can be taken by eight reaches at once: it is arithmetic alone."""
        return is_arithmetic(self.process.step)

    @cached_property
    def adjoint_takes(self) -> tuple[str, ...]:
        """Arguments of the adjoint."""
        return arguments_of(self.adjoint)

    def _check(self) -> None:
        process = self.process
        if process.symbol not in self.takes or "inflow" not in self.takes:
            self._refuse(
                f"step '{process.step.__name__}' takes {', '.join(self.takes)}, expected '{process.symbol}' and "
                "'inflow' among them. Rename its arguments, or the symbol of the state"
            )
        for a in self.coefficients:
            if a not in self.fixed:
                self._refuse(
                    f"step '{process.step.__name__}' takes '{a}', which is no parameter or prepared value. Known: "
                    f"{', '.join(self.fixed)}"
                )
            if a in RESERVED:
                self._refuse(f"'{a}' cannot be a symbol: the loops use that name. Choose another")
        if returned_count(process.step) != 2:
            self._refuse(
                f"step '{process.step.__name__}' returns {returned_count(process.step)} values, expected two: the "
                "outflow and the state"
            )
        own = {process.symbol, "volume", "flow", SECONDS, *self.fixed}
        for function in (process.volume, process.from_volume, process.steady, *(process.waves or ())):
            for a in arguments_of(function):
                if a not in own:
                    self._refuse(f"'{function.__name__}' takes '{a}', expected some of {', '.join(sorted(own))}")

    def _refuse(self, message: str) -> None:
        raise DeclarationError(f"process '{self.process.name}': {message}.")


@cache
def reach_plan(process: ReachProcess) -> ReachPlan:
    """Return the plan of a process; the same object at every call, as every making of its loops is compiled anew."""
    return ReachPlan(process)


@cache
def reach_loops(plan: ReachPlan, links: LinkProcess) -> types.SimpleNamespace:
    """Return the loops of a reach process: `route`, `reverse`, and those of the links, `collect` and `spread`."""
    process, name = plan.process, plan.process.name
    backward = linear_texts(plan) if process.linear else nonlinear_texts(plan)
    text = "\n\n".join([LINKS, *forward_texts(plan), *backward])
    known = KNOWN | {
        process.step.__name__: process.step, plan.adjoint.__name__: plan.adjoint,
        "link_flow": links.flow, "link_flow_adjoint": links.adjoint,
    }
    made = make_functions(text, f"loops of {name}", known)
    for one in ("route_range", "prepare_group", "gather_eight", "route_eight", "route_eight_means"):
        if one in made:
            uncounted(made[one])
    free_sums(made["reverse_reach"])
    return types.SimpleNamespace(
        **made, route=made[f"route_{name}"], reverse=made[f"reverse_{name}"], collect=made["collect_runoff"],
        spread=made["spread_runoff"],
    )


LINKS = '''
def collect_row(links, i, runoff, row):
    """Lateral inflow of a reach in its row: the first cell sets, the others add."""
    first, last = links.first[i], links.first[i + 1]
    if first == last:
        for t in range(row.size):
            row[t] = 0.0
    else:
        cell, area = links.cell[first], links.area[first]
        for t in range(row.size):
            row[t] = link_flow(runoff[t, cell], area)
        for link in range(first + 1, last):
            cell, area = links.cell[link], links.area[link]
            for t in range(row.size):
                row[t] += link_flow(runoff[t, cell], area)


def turn_cells(runoff, first, turned, row):
    """Put runoff of the cells first to first + 31 along rows of `turned`, whole lines of the cache at a time."""
    n_steps, stop = runoff.shape[0], min(first + 32, runoff.shape[1])
    whole, right = n_steps // 8 * 8, first + (stop - first) // 8 * 8
    for t in range(0, whole, 8):
        for cell in range(first, right, 8):
            turn_block(runoff, t, cell, turned, row + cell - first, t)
    for cell in range(first, stop):
        for t in range(whole if cell < right else 0, n_steps):
            turned[row + cell - first, t] = runoff[t, cell]


def turned_row(cell, runoff, turned, held):
    """The row of `turned` in which the runoff of a cell stands, or -1 where its column is to be read as it is.

    turned: float[32 * place, >= time]; held: int64[place + 2], which 32 cells stand there, -1 for none, then how many
    cells were turned and how many links asked. Where cells lie so that few are found again, no more than three are
    turned for two links.
    """
    n_places = held.size - 2
    place, within = cell // 32 % n_places, cell % 32
    held[n_places + 1] += 1
    if held[place] != cell // 32:
        if 2 * (held[n_places] - 64 * n_places) > 3 * held[n_places + 1]:
            return -1
        turn_cells(runoff, cell - within, turned, 32 * place)
        held[place] = cell // 32
        held[n_places] += 32
    return 32 * place + within


def collect_turned(links, i, runoff, turned, held, row):
    """`collect_row` from cells along rows: a column of runoff has a line of the cache, and a page, for each step."""
    first, last = links.first[i], links.first[i + 1]
    if first == last:
        fill_row(row, 0.0)
    for link in range(first, last):
        cell, area = links.cell[link], links.area[link]
        k = turned_row(cell, runoff, turned, held)
        if k >= 0 and link == first:
            set_link(row, turned[k, : row.size], area)
        elif k >= 0:
            more_link(row, turned[k, : row.size], area)
        elif link == first:
            set_column(row, runoff, cell, area)
        else:
            more_column(row, runoff, cell, area)


def set_column(row, runoff, cell, area):
    """`set_link` from a column of runoff."""
    for t in range(row.size):
        row[t] = link_flow(runoff[t, cell], area)


def more_column(row, runoff, cell, area):
    """`more_link` from a column of runoff."""
    for t in range(row.size):
        row[t] += link_flow(runoff[t, cell], area)


def set_link(row, column, area):
    """Lateral inflow of a reach through its first link."""
    for t in range(row.size):
        row[t] = link_flow(column[t], area)


def more_link(row, column, area):
    """Lateral inflow of a reach through a further link."""
    for t in range(row.size):
        row[t] += link_flow(column[t], area)


def collect_runoff(links, runoff, lateral_inflow, lo, hi):
    """Lateral inflow (`ReachSeries`) of the reaches lo to hi from runoff [time, cell]."""
    for i in range(lo, hi):
        row = lateral_inflow.values[lateral_inflow.row[i]]
        collect_row(links, i, runoff, row)
        lateral_inflow.last[i] = row[row.size - 1]


def add_link(runoff_adj, lateral_adj, area):
    """Adjoint of a link, one term of `collect_row`."""
    for t in range(runoff_adj.size):
        runoff_adj[t] += link_flow_adjoint(area, lateral_adj[t])


def spread_runoff(first_link, link_row, link_area, lateral_adj, runoff_adj, lo, hi):
    """Adjoint of `collect_runoff`: runoff_adj [time, cell] of the cells lo to hi from lateral_adj [row, time].

    first_link, link_row, link_area: the links sorted by cell. Cells are summed along time, then put across it.
    """
    n_steps, width = runoff_adj.shape[0], 128
    tile, across_time = loose_rows(width, n_steps, runoff_adj), loose_rows(8, width, runoff_adj)
    for left in range(lo, hi, width):
        right = left + width if left + width < hi else hi
        for cell in range(left, right):
            row = tile[cell - left, :n_steps]
            fill_row(row, 0.0)
            for link in range(first_link[cell], first_link[cell + 1]):
                add_link(row, lateral_adj[link_row[link]], link_area[link])
        for t in range(0, n_steps // 8 * 8, 8):
            for k in range(0, right - left, 8):
                turn_block(tile, k, t, across_time, 0, k)
            for k in range(8):
                copy_row(across_time[k, : right - left], runoff_adj[t + k, left:right])
        for t in range(n_steps // 8 * 8, n_steps):
            for cell in range(left, right):
                runoff_adj[t, cell] = tile[cell - left, t]
'''


def numbered(items: list[str], k: int | str) -> str:
    """Names of the same things of reach k."""
    return ", ".join(f"{item}_{k}" for item in items)


def call(plan: ReachPlan, inflow: str, k: str = "") -> str:
    """The step of one reach."""
    values = {plan.process.symbol: f"state{k}", "inflow": inflow, SECONDS: SECONDS}
    return f"{plan.process.step.__name__}({', '.join(values.get(a, a + k) for a in plan.takes)})"


def forward_texts(plan: ReachPlan) -> list[str]:
    """`route_reach`, `route_two`, `route_eight` where the step can be taken in lanes, and the loop over reaches."""
    name, coefficients = plan.process.name, list(plan.coefficients)
    one = "".join(f"{c}, " for c in coefficients)
    own = "".join(f"p.{c}[i], " for c in coefficients)
    pair = "".join(f"{c}_1, {c}_2, " for c in coefficients)
    both = "".join(f"p.{c}[i], p.{c}[j], " for c in coefficients)
    return [f'''
def route_reach(flow, lateral_inflow, state, {one}seconds, n_sub, discharge, volume, step_seconds):
    """Route a block of sub-steps through a reach: `flow` comes in and goes out in place.

    Returns the state and the volume [m3] that has left the reach, added to step by step.
    """
    if n_sub == 1:
        for t in range(lateral_inflow.size):
            outflow, state = {call(plan, "flow[t] + lateral_inflow[t]")}
            flow[t] = outflow
            discharge[t] = outflow
            volume += outflow * step_seconds
        return state, volume
    k = 0
    for t in range(lateral_inflow.size):
        total = 0.0
        for _ in range(n_sub):
            outflow, state = {call(plan, "flow[k] + lateral_inflow[t]")}
            flow[k] = outflow
            total += outflow
            k += 1
        mean = total / real(n_sub)
        discharge[t] = mean
        volume += mean * step_seconds
    return state, volume
''', f'''
def route_two(
    flow_1, flow_2, lateral_1, lateral_2, state_1, state_2, {pair}seconds, n_sub, discharge_1, discharge_2, volume_1,
    volume_2, step_seconds,
):
    """`route_reach` of two reaches at once, neither upstream of the other.

    A sub-step waits for the one before it, so that one reach alone leaves the processor idle most of the time.
    """
    if n_sub == 1:
        for t in range(lateral_1.size):
            outflow_1, state_1 = {call(plan, "flow_1[t] + lateral_1[t]", "_1")}
            outflow_2, state_2 = {call(plan, "flow_2[t] + lateral_2[t]", "_2")}
            flow_1[t] = outflow_1
            flow_2[t] = outflow_2
            discharge_1[t] = outflow_1
            discharge_2[t] = outflow_2
            volume_1 += outflow_1 * step_seconds
            volume_2 += outflow_2 * step_seconds
        return state_1, state_2, volume_1, volume_2
    k = 0
    for t in range(lateral_1.size):
        total_1 = 0.0
        total_2 = 0.0
        for _ in range(n_sub):
            outflow_1, state_1 = {call(plan, "flow_1[k] + lateral_1[t]", "_1")}
            outflow_2, state_2 = {call(plan, "flow_2[k] + lateral_2[t]", "_2")}
            flow_1[k] = outflow_1
            flow_2[k] = outflow_2
            total_1 += outflow_1
            total_2 += outflow_2
            k += 1
        mean_1 = total_1 / real(n_sub)
        mean_2 = total_2 / real(n_sub)
        discharge_1[t] = mean_1
        discharge_2[t] = mean_2
        volume_1 += mean_1 * step_seconds
        volume_2 += mean_2 * step_seconds
    return state_1, state_2, volume_1, volume_2
''', eight_text(plan) if plan.in_lanes else "", '''
def prepare_group(
    network, links, place, together, runoff, turned, held, lateral_inflow, hydrographs, begin, end, first, last, n_sub,
    inflow,
):
    """Sum what flows into the reaches sequence[place : place + together].

    That of the reaches above in the hydrograph of its own, that of cells in `lateral_inflow`.
    """
    for one in range(place, place + together):
        i = network.sequence[one]
        flow = hydrographs[network.slot[i], begin:end]
        above, stop = network.first_child[i], network.first_child[i + 1]
        if above == stop:
            fill_row(flow, 0.0)
        for c in range(above + 1, stop):
            add_row(flow, hydrographs[network.slot[network.child[c]], begin:end])
        lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
        if held.size > 0:
            collect_turned(links, i, runoff, turned, held, lateral)
        else:
            collect_row(links, i, runoff, lateral)
        lateral_inflow.last[i] = lateral[lateral.size - 1]
        if inflow.shape[1] > 0:
            keep_inflow(flow, lateral, n_sub, inflow[one, begin:end])

def gather_eight(network, links, place, runoff, turned, held, lateral_inflow, hydrographs, first, last, inflow):
    """All that flows into the reaches sequence[place : place + 8], in the hydrograph of each; with one sub-step.

    A lateral inflow that nobody reads gets no row: of the time that is left every pass over a row is a tenth.
    """
    shared = 0 if lateral_inflow.values.shape[0] == lateral_inflow.row.size else hydrographs.shape[0]
    for one in range(place, place + 8):
        i = network.sequence[one]
        flow = hydrographs[network.slot[i], first:last]
        above, stop = network.first_child[i], network.first_child[i + 1]
        for c in range(above + 1, stop):
            add_row(flow, hydrographs[network.slot[network.child[c]], first:last])
        link, n_links, row = links.first[i], links.first[i + 1] - links.first[i], -1
        unread = lateral_inflow.row[i] < shared
        if unread and n_links == 1 and held.size > 0:
            row = turned_row(links.cell[link], runoff, turned, held)
        if row >= 0:
            column, area = turned[row, : flow.size], links.area[link]
            if above == stop:
                set_link(flow, column, area)
            else:
                more_link(flow, column, area)
            lateral_inflow.last[i] = link_flow(column[flow.size - 1], area)
        elif unread and n_links == 0:
            if above == stop:
                fill_row(flow, 0.0)
            lateral_inflow.last[i] = 0.0
        else:
            lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
            if held.size > 0:
                collect_turned(links, i, runoff, turned, held, lateral)
            else:
                collect_row(links, i, runoff, lateral)
            lateral_inflow.last[i] = lateral[lateral.size - 1]
            if above == stop:
                copy_row(lateral, flow)
            else:
                add_row(flow, lateral)
        if inflow.shape[1] > 0:
            copy_row(flow, inflow[one, first:last])
''', f'''
def route_{name}(
    network, links, p, state, runoff, lateral_inflow, hydrographs, discharge, inflow, outflow_total, seconds, n_sub,
    step_seconds, lo, hi, first, last,
):
    """Route the reaches sequence[lo:hi] over the model steps first to last, n_sub sub-steps each.

    state: float[reach], in place; runoff: float[time, cell] [mm d-1]; lateral_inflow, discharge (mean of the
    sub-steps): `ReachSeries`, filled; hydrographs: float[slot, time * n_sub], working space; inflow: float[place,
    time * n_sub], filled for the adjoint in the order of the sequence, or float[reach, 0]; outflow_total: float[reach]
    [m3], in place; seconds: length of a sub-step. A reach collects its lateral inflow just before it is routed: a
    country's would go to memory and come back.
    """
    n_steps = last - first
    most = 1 + 786432 // (32 * n_steps * state.itemsize)  # of 32 cells each: they stay in the second cache
    places = 0 if n_steps < 8 else min(64, most, (runoff.shape[1] + 31) // 32)
    turned, held = loose_rows(32 * places, n_steps, state), np.full(places + 2 if places > 0 else 0, -1)
    held[places:] = 0
    route_range(
        network, links, p, state, runoff[first:last], lateral_inflow, hydrographs, discharge, inflow, outflow_total,
        seconds, n_sub, step_seconds, lo, hi, first, last, turned, held,
    )


def route_range(
    network, links, p, state, runoff, lateral_inflow, hydrographs, discharge, inflow, outflow_total, seconds, n_sub,
    step_seconds, lo, hi, first, last, turned, held,
):
    """`route_{name}` with working space for runoff along rows."""
    place, begin, end = lo, first * n_sub, last * n_sub
    while place < hi:
        together = int(network.in_step[place])
{EIGHT if plan.in_lanes else PAIRS}
        prepare_group(
            network, links, place, together, runoff, turned, held, lateral_inflow, hydrographs, begin, end, first, last,
            n_sub, inflow,
        )
        i, j = network.sequence[place], network.sequence[place + together - 1]
        flow, other = hydrographs[network.slot[i], begin:end], hydrographs[network.slot[j], begin:end]
        lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
        lateral_2 = lateral_inflow.values[lateral_inflow.row[j], first:last]
        mean = discharge.values[discharge.row[i], first:last]
        mean_2 = discharge.values[discharge.row[j], first:last]
        if together == 2:
            state[i], state[j], outflow_total[i], outflow_total[j] = route_two(
                flow, other, lateral, lateral_2, state[i], state[j], {both}seconds, n_sub, mean, mean_2,
                outflow_total[i], outflow_total[j], step_seconds,
            )
            discharge.last[j] = mean_2[mean_2.size - 1]
        else:
            state[i], outflow_total[i] = route_reach(
                flow, lateral, state[i], {own}seconds, n_sub, mean, outflow_total[i], step_seconds
            )
        discharge.last[i] = mean[mean.size - 1]
        place += together
    settle()
''']


PAIRS = "        together = 2 if together > 2 else together"
EIGHT = '''        if together == 8:
            if n_sub == 1:
                gather_eight(
                    network, links, place, runoff, turned, held, lateral_inflow, hydrographs, first, last, inflow
                )
                route_eight(
                    network, place, p, state, hydrographs, discharge, outflow_total, seconds, step_seconds, first, last
                )
            elif n_sub % 8 == 0:
                prepare_group(
                    network, links, place, 8, runoff, turned, held, lateral_inflow, hydrographs, begin, end, first,
                    last, n_sub, inflow,
                )
                route_eight_means(
                    network, place, p, state, lateral_inflow, hydrographs, discharge, outflow_total, seconds, n_sub,
                    step_seconds, first, last,
                )
            if n_sub == 1 or n_sub % 8 == 0:
                place += 8
                continue
            together = 2'''


def eight_text(plan: ReachPlan) -> str:
    """`route_eight`."""
    coefficients = list(plan.coefficients)
    taking = "\n".join(f"    {c} = take(p.{c}, network.sequence, place)" for c in coefficients)
    outflows = ", ".join(f"outflow_{k}" for k in range(8))

    def lane_call(inflow: str) -> str:
        values = {plan.process.symbol: "state_", "inflow": inflow, SECONDS: "sub_step"}
        return f"{plan.process.step.__name__}({', '.join(values.get(a, a) for a in plan.takes)})"

    def eight_steps(indent: str, inflow: str, after: str) -> str:
        lines = [
            line for k in range(8)
            for line in (f"outflow_{k}, state_ = {lane_call(inflow.format(k))}", after.format(k))
        ]
        return "\n".join(indent + line for line in lines)

    return f'''
def route_eight(
    network, place, p, state, hydrographs, discharge, outflow_total, seconds, step_seconds, first, last,
):
    """`route_reach` with one sub-step of the reaches sequence[place : place + 8], none upstream of another.

    One in each lane; all that flows in stands in their hydrographs.
    """
    flows = eight(network.slot, network.sequence, place)
    state_, volume = take(state, network.sequence, place), take(outflow_total, network.sequence, place)
{taking}
    sub_step, step_length = spread(seconds), spread(step_seconds)
    whole = first + (last - first) // 8 * 8
    for t in range(first, whole, 8):
        inflow = across(hydrographs, flows, t)
{eight_steps("        ", "inflow[{}]", "volume = volume + outflow_{} * step_length")}
        along(hydrographs, flows, t, ({outflows}))
    for t in range(whole, last):
        inflow = take_column(hydrographs, flows, t)
        outflow_0, state_ = {lane_call("inflow")}
        volume = volume + outflow_0 * step_length
        give_column(hydrographs, flows, t, outflow_0)
    give(state, network.sequence, place, state_)
    give(outflow_total, network.sequence, place, volume)
    give(discharge.last, network.sequence, place, take_column(hydrographs, flows, last - 1))
    shared = 0 if discharge.values.shape[0] == discharge.row.size else hydrographs.shape[0]
    far = discharge.values.size > 1048576  # what is kept of every reach is no good in the caches
    for one in range(place, place + 8):
        i = network.sequence[one]
        if discharge.row[i] >= shared:
            outflow, mean = hydrographs[network.slot[i], first:last], discharge.values[discharge.row[i], first:last]
            give_row(outflow, mean, far)


def route_eight_means(
    network, place, p, state, lateral_inflow, hydrographs, discharge, outflow_total, seconds, n_sub, step_seconds,
    first, last,
):
    """`route_reach` of the reaches sequence[place : place + 8], none upstream of another, one in each lane.

    What flows in stands in their hydrographs and `lateral_inflow`. n_sub is a multiple of 8.
    """
    flows = eight(network.slot, network.sequence, place)
    laterals = eight(lateral_inflow.row, network.sequence, place)
    means = eight(discharge.row, network.sequence, place)
    state_, volume = take(state, network.sequence, place), take(outflow_total, network.sequence, place)
{taking}
    sub_step, step_length, count = spread(seconds), spread(step_seconds), spread(real(n_sub))
    nothing = spread(real(0))
    mean = nothing
    for t in range(first, last):
        lateral, total = take_column(lateral_inflow.values, laterals, t), nothing
        for k in range(t * n_sub, (t + 1) * n_sub, 8):
            inflow = across(hydrographs, flows, k)
{eight_steps("            ", "inflow[{}] + lateral", "total = total + outflow_{}")}
            along(hydrographs, flows, k, ({outflows}))
        mean = total / count
        volume = volume + mean * step_length
        give_column(discharge.values, means, t, mean)
    give(state, network.sequence, place, state_)
    give(outflow_total, network.sequence, place, volume)
    give(discharge.last, network.sequence, place, mean)
'''


def adjoint_call(plan: ReachPlan, values: dict[str, str]) -> str:
    """The adjoint of the step."""
    return f"{plan.adjoint.__name__}({', '.join(values.get(a, a) for a in plan.adjoint_takes)})"


def reverse_text(plan: ReachPlan, body: str) -> str:
    """The loop over reaches, up the rivers."""
    return f'''
def reverse_{plan.process.name}(
    network, downstream, p, start, inflow, discharge_adj, state_adj, p_adj, hydrographs_adj, lateral_adj, seconds,
    n_sub, lo, hi,
):
    """Adjoint of `route_{plan.process.name}` in the discharge, for one block of steps and the reaches sequence[lo:hi].

    start: float[reach], state at the block's start; inflow: float[place, time * n_sub], as the forward loop filled it;
    discharge_adj: `ReachSeries`, its first row for all whose discharge nobody asked for; state_adj: adjoint of the
    state at the block's end, becomes that at its start; p_adj: added to; hydrographs_adj: float[slot, time * n_sub],
    working space; lateral_adj: float[place, time], filled; with one sub-step it may be `inflow` itself.
    """
    place = hi - 1
{body}'''


def linear_texts(plan: ReachPlan) -> list[str]:
    """The adjoint of a linear process: state forward and its adjoint backward in one loop, all else in vectors."""
    process, coefficients = plan.process, list(plan.coefficients)
    symbol = process.symbol
    one = "".join(f"{c}, " for c in coefficients)
    pair = "".join(f"{c}_1, {c}_2, " for c in coefficients)
    own = "".join(f"p.{c}[i], " for c in coefficients)
    both = "".join(f"p.{c}[i], p.{c}[j], " for c in coefficients)

    def back(k: str) -> str:
        values = {symbol: f"state{k}", "inflow": f"state{k}", "outflow_adj": f"outflow{k}_adj[back]",
                  f"{symbol}_adj": f"state{k}_adj"} | {c: f"{c}{k}" for c in coefficients}
        return adjoint_call(plan, values)

    assigned = ", ".join(f"d_{c}" for c in coefficients)
    sums = "\n".join(f"    {c}_adj = real(0)" for c in coefficients)
    adding = "\n".join(f"        {c}_adj += d_{c}" for c in coefficients)
    giving = "\n".join(f"    p_adj.{c}[i] += {c}_adj" for c in coefficients)
    taking = "\n".join(f"    {c} = p.{c}[i]" for c in coefficients)
    values = {symbol: "y[k]", "inflow": "inflow[k]", "outflow_adj": "flow_adj[k]", f"{symbol}_adj": "y_adj[k]"}
    reverse = f'''    n_sub_steps = inflow.shape[1]
    space = np.empty((4, n_sub_steps), state_adj.dtype)
    y_1, y_2, y_1_adj, y_2_adj = space[0], space[1], space[2], space[3]
    while place >= lo:
        i = network.sequence[place]
        flow_adj = hydrographs_adj[network.slot[i]]
        receive(downstream, i, discharge_adj, flow_adj, n_sub)
        if network.in_step[place] > 1:
            j = network.sequence[place - 1]
            flow_2_adj = hydrographs_adj[network.slot[j]]
            receive(downstream, j, discharge_adj, flow_2_adj, n_sub)
            state_adj[i], state_adj[j] = sweep_two(
                inflow[place], inflow[place - 1], flow_adj, flow_2_adj, start[i], start[j], state_adj[i], state_adj[j],
                {both}seconds, y_1, y_2, y_1_adj, y_2_adj,
            )
            reverse_reach(p, p_adj, i, inflow[place], y_1, flow_adj, y_1_adj, seconds)
            reverse_reach(p, p_adj, j, inflow[place - 1], y_2, flow_2_adj, y_2_adj, seconds)
            sum_sub_steps(flow_adj, n_sub, lateral_adj[place])
            sum_sub_steps(flow_2_adj, n_sub, lateral_adj[place - 1])
            hand_up(network, i, flow_adj, hydrographs_adj)
            hand_up(network, j, flow_2_adj, hydrographs_adj)
            place -= 2
        else:
            state_adj[i] = sweep_reach(
                inflow[place], flow_adj, start[i], state_adj[i], {own}seconds, y_1, y_1_adj
            )
            reverse_reach(p, p_adj, i, inflow[place], y_1, flow_adj, y_1_adj, seconds)
            sum_sub_steps(flow_adj, n_sub, lateral_adj[place])
            hand_up(network, i, flow_adj, hydrographs_adj)
            place -= 1
'''
    return [f'''
def sweep_reach(inflow, outflow_adj, state, state_adj, {one}seconds, y, y_adj):
    """What waits from sub-step to sub-step, `y` before each, forward, and `y_adj` after each, backward.

    Returns the adjoint of the state at the block's start. The two do not wait for each other. All else of the adjoint
    step is left to `reverse_reach`, which waits for nothing.
    """
    n = inflow.size
    for k in range(n):
        y[k] = state
        _waste, state = {call(plan, "inflow[k]")}
        back = np.uint64(n - 1 - k)
        y_adj[back] = state_adj
        state_adj = {back("")}[0]
    return state_adj
''', f'''
def sweep_two(
    inflow_1, inflow_2, outflow_1_adj, outflow_2_adj, state_1, state_2, state_1_adj, state_2_adj, {pair}seconds, y_1,
    y_2, y_1_adj, y_2_adj,
):
    """`sweep_reach` of two reaches at once, neither upstream of the other."""
    n = inflow_1.size
    for k in range(n):
        y_1[k] = state_1
        y_2[k] = state_2
        _waste, state_1 = {call(plan, "inflow_1[k]", "_1")}
        _waste, state_2 = {call(plan, "inflow_2[k]", "_2")}
        back = np.uint64(n - 1 - k)
        y_1_adj[back] = state_1_adj
        y_2_adj[back] = state_2_adj
        adjoints = {back("_1")}
        state_1_adj = adjoints[0]
        adjoints = {back("_2")}
        state_2_adj = adjoints[0]
    return state_1_adj, state_2_adj
''', f'''
def reverse_reach(p, p_adj, i, inflow, y, flow_adj, y_adj, seconds):
    """Adjoint of `route_reach` but for the state: `flow_adj` comes in for the outflow and goes out for the inflow.

    Adds to the adjoints of the coefficients. The sums are in no stated order.
    """
{taking}
{sums}
    for k in range(inflow.size):
        _waste, flow_adj[k], {assigned} = {adjoint_call(plan, values)}
{adding}
{giving}
''', reverse_text(plan, reverse)]


def nonlinear_texts(plan: ReachPlan) -> list[str]:
    """The adjoint of any process: only states, and their adjoints, wait from sub-step to sub-step.

    The states of a block forward; in vectors, how each follows from the one before; their adjoints backward, which are
    linear in each other; all else in vectors.
    """
    process, coefficients = plan.process, list(plan.coefficients)
    symbol = process.symbol
    assigned = "".join(f", d_{c}" for c in coefficients)
    sums = "\n".join(f"    {c}_adj = real(0)" for c in coefficients)
    adding = "\n".join(f"        {c}_adj += d_{c}" for c in coefficients)
    giving = "\n".join(f"    p_adj.{c}[i] += {c}_adj" for c in coefficients)
    taking = "\n".join(f"    {c} = p.{c}[i]" for c in coefficients)
    pair = "".join(f"{c}_1, {c}_2, " for c in coefficients)
    both = "".join(f"p.{c}[i], p.{c}[j], " for c in coefficients)

    def back(outflow_adj: str, state_adj: str) -> str:
        values = {symbol: "y[k]", "inflow": "inflow[k]", "outflow_adj": outflow_adj, f"{symbol}_adj": state_adj}
        return adjoint_call(plan, values)

    reverse = f'''    space = np.empty((5, inflow.shape[1]), state_adj.dtype)
    y, y_2, outflow_slope, state_slope, y_adj = space[0], space[1], space[2], space[3], space[4]
    while place >= lo:
        i, single = network.sequence[place], network.in_step[place] == 1
        flow_adj = hydrographs_adj[network.slot[i]]
        receive(downstream, i, discharge_adj, flow_adj, n_sub)
        if single:
            retrace_reach(p, i, inflow[place], start[i], seconds, y)
        else:
            j = network.sequence[place - 1]
            flow_2_adj = hydrographs_adj[network.slot[j]]
            receive(downstream, j, discharge_adj, flow_2_adj, n_sub)
            retrace_two(
                inflow[place], inflow[place - 1], start[i], start[j], {both}seconds, y, y_2
            )
        slopes_of_reach(p, i, inflow[place], y, outflow_slope, state_slope, seconds)
        state_adj[i] = sweep_states(flow_adj, outflow_slope, state_slope, state_adj[i], y_adj)
        reverse_reach(p, p_adj, i, inflow[place], y, flow_adj, y_adj, seconds)
        sum_sub_steps(flow_adj, n_sub, lateral_adj[place])
        hand_up(network, i, flow_adj, hydrographs_adj)
        if not single:  # the first to be routed is the last here: its children's buffers may be those of the other
            slopes_of_reach(p, j, inflow[place - 1], y_2, outflow_slope, state_slope, seconds)
            state_adj[j] = sweep_states(flow_2_adj, outflow_slope, state_slope, state_adj[j], y_adj)
            reverse_reach(p, p_adj, j, inflow[place - 1], y_2, flow_2_adj, y_adj, seconds)
            sum_sub_steps(flow_2_adj, n_sub, lateral_adj[place - 1])
            hand_up(network, j, flow_2_adj, hydrographs_adj)
        place -= 1 if single else 2
'''
    return [f'''
def retrace_reach(p, i, inflow, state, seconds, y):
    """The state of a reach before each sub-step."""
{taking}
    for k in range(inflow.size):
        y[k] = state
        _waste, state = {call(plan, "inflow[k]")}
''', f'''
def retrace_two(inflow_1, inflow_2, state_1, state_2, {pair}seconds, y_1, y_2):
    """`retrace_reach` of two reaches at once, neither upstream of the other."""
    for k in range(inflow_1.size):
        y_1[k] = state_1
        y_2[k] = state_2
        _waste, state_1 = {call(plan, "inflow_1[k]", "_1")}
        _waste, state_2 = {call(plan, "inflow_2[k]", "_2")}
''', f'''
def slopes_of_reach(p, i, inflow, y, outflow_slope, state_slope, seconds):
    """How outflow and state of each sub-step follow from the state `y` before it."""
{taking}
    for k in range(inflow.size):
        outflow_slope[k] = {back("1.0", "0.0")}[0]
        state_slope[k] = {back("0.0", "1.0")}[0]
''', f'''
def reverse_reach(p, p_adj, i, inflow, y, flow_adj, y_adj, seconds):
    """Adjoint of `route_reach` but for the state: `flow_adj` comes in for the outflow and goes out for the inflow.

    Adds to the adjoints of the coefficients. The sums are in no stated order.
    """
{taking}
{sums}
    for k in range(inflow.size):
        _waste, flow_adj[k]{assigned} = {back("flow_adj[k]", "y_adj[k]")}
{adding}
{giving}
''', reverse_text(plan, reverse)]
