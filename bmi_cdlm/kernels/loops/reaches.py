"""The loops around a process of reaches, written from its declaration: depth-first over the network, blocks of time.

Arrays of discharge are [reach, time]: a reach is routed over a whole block of sub-steps before the next one, and its
hydrograph is handed on in a buffer (`slot`) that stays in cache. Children are pulled in their stored order, then the
lateral inflow is added, in every layout, cut and thread count: the bits never change.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any

from bmi_cdlm.kernels import lanes, space, streaming
from bmi_cdlm.kernels.groups import Network
from bmi_cdlm.kernels.loops import routing, rows
from bmi_cdlm.kernels.loops.link_texts import LINKS, TURNED_SPACE
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan, call
from bmi_cdlm.kernels.loops.reaches_adjoint import linear_texts, nonlinear_texts
from bmi_cdlm.kernels.loops.reaches_chunks import chunks_text
from bmi_cdlm.kernels.loops.reaches_lanes import eight_branch, eight_text
from bmi_cdlm.kernels.loops.source import make_functions
from bmi_cdlm.kernels.marks import free_sums, uncounted
from bmi_cdlm.names.declaration import LinkProcess

KNOWN: dict[str, Any] = {
    f.__name__: f for f in (
        rows.add_row, rows.copy_row, rows.fill_row, rows.give_row, routing.gather_upstream,
        routing.keep_inflow, routing.receive, routing.hand_up, routing.sum_sub_steps, routing.sweep_states,
        *lanes.COMPILED, *space.COMPILED, *streaming.COMPILED,
    )
} | {"real": routing.real, "np": routing.np, "Network": Network}


@cache
def reach_loops(plan: ReachPlan, links: LinkProcess) -> types.SimpleNamespace:
    """Return the loops of a reach process: `route`, `reverse`, both in chunks, and those of the links, `collect` and
    `spread`.

    `narrow`, `narrow_reverse` and `narrow_chunks` are these for a small network, with the same bits: reaches two at a
    time, from columns of runoff. Half of what is compiled for a large one would go to what makes it faster there.
    """
    process, name = plan.process, plan.process.name
    backward = linear_texts(plan) if process.linear else nonlinear_texts(plan)
    both_ways = [chunks_text(plan), chunks_text(plan, narrow=True)]
    text = "\n\n".join([LINKS, *forward_texts(plan), narrow_text(plan), *backward, *both_ways])
    known = KNOWN | {
        process.step.__name__: process.step, plan.adjoint.__name__: plan.adjoint,
        "link_flow": links.flow, "link_flow_adjoint": links.adjoint,
    }
    made = make_functions(text, f"loops of {name}", known)
    for one in (
        f"route_narrow_{name}", "route_range", "prepare_group", "keep_rows", "feed_eight", "take_again", "route_eight",
        "route_eight_means",
    ):
        if one in made:
            uncounted(made[one])
    if "reverse_reach" in made:
        free_sums(made["reverse_reach"])
    return types.SimpleNamespace(
        **made, route=made[f"route_{name}"], narrow=made[f"route_narrow_{name}"], reverse=made[f"reverse_{name}"],
        narrow_reverse=made.get(f"reverse_narrow_{name}", made[f"reverse_{name}"]),
        chunks=made[f"chunks_{name}"], narrow_chunks=made[f"chunks_narrow_{name}"],
        collect=made["collect_runoff"], spread=made["spread_runoff"],
    )


def forward_texts(plan: ReachPlan) -> list[str]:
    """`route_reach`, `route_two`, `route_eight` where the step can be taken in lanes, and the loop over reaches."""
    name, coefficients = plan.process.name, list(plan.coefficients)
    one = "".join(f"{c}, " for c in coefficients)
    pair = "".join(f"{c}_1, {c}_2, " for c in coefficients)
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
    network, links, place, together, runoff, turned, held, lateral_inflow, hydrographs, begin, end, first, last,
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


def keep_rows(network, place, together, lateral_inflow, hydrographs, begin, end, first, last, n_sub, inflow):
    """Keep what flows into the reaches sequence[place : place + together], each along its row.

    It stands in their hydrographs and in `lateral_inflow`.
    """
    for one in range(place, place + together):
        i = network.sequence[one]
        flow, row = hydrographs[network.slot[i], begin:end], inflow[one, begin:end]
        keep_inflow(flow, lateral_inflow.values[lateral_inflow.row[i], first:last], n_sub, row)


def feed_eight(network, links, place, runoff, turned, held, feeds, areas, lateral_inflow, hydrographs, first, last):
    """What flows into the reaches sequence[place : place + 8], with one sub-step.

    That from above stands in the hydrograph feeds[k] of each, -1 where nothing comes. Where a cell feeds a reach by
    its only link, and nobody reads the lateral inflow, its runoff is the row feeds[8 + k] of `turned`, to be taken over
    the area areas[k]. Any other is in the hydrograph already, and the row is the last, of zeros: of the time that is
    left every pass over a row is a tenth.
    """
    shared = 0 if lateral_inflow.values.shape[0] == lateral_inflow.row.size else hydrographs.shape[0]
    every = shared == lateral_inflow.values.shape[0]  # of which nobody reads any
    n_steps, nothing, count = last - first, turned.shape[0] - 1, held.size - 4
    whole = first + n_steps // 8 * 8
    before = held[count] if count > 0 else 0
    for k in range(8):
        i = network.sequence[place + k]
        slot, above, stop = network.slot[i], network.first_child[i], network.first_child[i + 1]
        for c in range(above + 1, stop):
            add_row(hydrographs[slot, first:last], hydrographs[network.slot[network.child[c]], first:last])
        link, n_links = links.first[i], links.first[i + 1] - links.first[i]
        unread = every or lateral_inflow.row[i] < shared
        row = nothing
        if unread and n_links == 1 and count > 0:
            row = turned_row(links.cell[link], runoff, turned, held)
        feeds[k], feeds[8 + k], areas[0, k] = slot, nothing, 0.0
        if row >= 0 and row != nothing:
            feeds[8 + k], areas[0, k] = row, links.area[link]
            lateral_inflow.last[i] = link_flow(turned[row, n_steps - 1], links.area[link])
        elif unread and n_links == 0:
            lateral_inflow.last[i] = 0.0
        else:
            lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
            if count > 0:
                collect_turned(links, i, runoff, turned, held, lateral)
            else:
                collect_row(links, i, runoff, lateral)
            lateral_inflow.last[i] = lateral[n_steps - 1]
            if above == stop:
                fill_row(hydrographs[slot, first:last], 0.0)
            add_row(hydrographs[slot, first:last], lateral)
            continue
        if above == stop:
            feeds[k] = -1
            for t in range(whole, last):
                hydrographs[slot, t] = 0.0
    if count > 0:
        if held[count] != before:
            take_again(network, links, place, runoff, turned, held, feeds, areas, hydrographs, first, last)


def take_again(network, links, place, runoff, turned, held, feeds, areas, hydrographs, first, last):
    """Where another cell of the eight has taken the place of one, its runoff from its column."""
    nothing = turned.shape[0] - 1
    for k in range(8):
        i = network.sequence[place + k]
        if feeds[8 + k] != nothing:
            cell = links.cell[links.first[i]]
            if held[feeds[8 + k] // 128] != cell // 128:
                flow = hydrographs[network.slot[i], first:last]
                if feeds[k] < 0:
                    fill_row(flow, 0.0)
                more_column(flow, runoff, cell, areas[0, k])
                feeds[k], feeds[8 + k], areas[0, k] = network.slot[i], nothing, 0.0


''', f'''
def route_{name}(
    network, links, p, state, runoff, lateral_inflow, hydrographs, discharge, inflow, outflow_total, seconds, n_sub,
    step_seconds, lo, hi, first, last,
):
    """Route the reaches sequence[lo:hi] over the model steps first to last, n_sub sub-steps each.

    state: float[reach], in place; runoff: float[time, cell] [mm d-1]; lateral_inflow, discharge (mean of the
    sub-steps): `ReachSeries`, filled; hydrographs: float[slot, time * n_sub], working space; inflow: float[place,
    time * n_sub], filled for the adjoint in the order of the sequence, eight rows together where eight reaches go at
    once (`give_turned`), or float[reach, 0], or None where there never is one; outflow_total: float[reach] [m3], in
    place; seconds: length of a sub-step. A reach collects its lateral inflow just before it is routed: a country's
    would go to memory and come back.
    """
{TURNED_SPACE}    route_range(
        network, links, p, state, runoff[first:last], lateral_inflow, hydrographs, discharge, inflow, outflow_total,
        seconds, n_sub, step_seconds, lo, hi, first, last, turned, held, feeds, areas,
    )


def route_range(
    network, links, p, state, runoff, lateral_inflow, hydrographs, discharge, inflow, outflow_total, seconds, n_sub,
    step_seconds, lo, hi, first, last, turned, held, feeds, areas,
):
    """`route_{name}` with working space for runoff along rows."""
    place, begin, end = lo, first * n_sub, last * n_sub
    while place < hi:
        together = int(network.in_step[place])
{eight_branch(plan)}
        prepare_group(
            network, links, place, together, runoff, turned, held, lateral_inflow, hydrographs, begin, end, first, last
        )
        if inflow is not None:
            if inflow.shape[1] > 0:
                keep_rows(network, place, together, lateral_inflow, hydrographs, begin, end, first, last, n_sub, inflow)
{group_text(plan)}
        place += together
    settle()
''']


def group_text(plan: ReachPlan) -> str:
    """The call of `route_two` or `route_reach` for the reaches sequence[place : place + together]."""
    own = "".join(f"p.{c}[i], " for c in plan.coefficients)
    both = "".join(f"p.{c}[i], p.{c}[j], " for c in plan.coefficients)
    return f'''        i, j = network.sequence[place], network.sequence[place + together - 1]
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
        discharge.last[i] = mean[mean.size - 1]'''


def narrow_text(plan: ReachPlan) -> str:
    """The loop over reaches of a small network."""
    name = plan.process.name
    return f'''
def route_narrow_{name}(
    network, links, p, state, runoff, lateral_inflow, hydrographs, discharge, inflow, outflow_total, seconds, n_sub,
    step_seconds, lo, hi, first, last,
):
    """`route_{name}` of a small network: two reaches at a time at most, runoff read down its columns."""
    place, begin, end = lo, first * n_sub, last * n_sub
    runoff = runoff[first:last]
    while place < hi:
        together = 2 if network.in_step[place] > 1 else 1
        for one in range(place, place + together):
            i = network.sequence[one]
            flow = hydrographs[network.slot[i], begin:end]
            gather_upstream(network, i, hydrographs, begin, flow)
            lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
            collect_row(links, i, runoff, lateral)
            lateral_inflow.last[i] = lateral[lateral.size - 1]
            if inflow is not None:
                if inflow.shape[1] > 0:
                    keep_inflow(flow, lateral, n_sub, inflow[one, begin:end])
{group_text(plan)}
        place += together
'''
