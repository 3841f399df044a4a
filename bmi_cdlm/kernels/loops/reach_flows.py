"""The loop over reaches into which others put water, or take it out: written for any process of reaches.

A reach without such a flow goes through the functions of `reaches`, with the same bits as without this loop.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache

from bmi_cdlm.kernels.loops.link_texts import LINKS
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan, call
from bmi_cdlm.kernels.loops.reaches import KNOWN, forward_texts
from bmi_cdlm.kernels.loops.source import arguments_of, make_functions
from bmi_cdlm.kernels.marks import uncounted
from bmi_cdlm.names.declaration import LinkProcess

SECONDS = "seconds"


@cache
def flow_loops(plan: ReachPlan, links: LinkProcess) -> types.SimpleNamespace:
    """Return the loop `route` of a reach process whose reaches may be given flows."""
    process = plan.process
    text = "\n\n".join([LINKS, *forward_texts(plan), *given_texts(plan)])
    scalars = (process.step, process.volume, process.from_volume, links.flow)
    known = KNOWN | {f.__name__: f for f in scalars} | {
        "link_flow": links.flow, "link_flow_adjoint": links.adjoint,
    }
    made = make_functions(text, f"loops of {process.name}, flows given", known)
    uncounted(made[f"route_given_{process.name}"])
    return types.SimpleNamespace(**made, route=made[f"route_given_{process.name}"])


def scalar_call(plan: ReachPlan, function: Callable, volume: str) -> str:
    """A function of the process, of the state or of a volume."""
    values = {plan.process.symbol: "state", "volume": volume}
    arguments = ", ".join(values.get(a, a) for a in arguments_of(function))
    return f"{function.__name__}({arguments})"


def given_texts(plan: ReachPlan) -> list[str]:
    """`route_given` of one reach, and the loop over reaches."""
    process, coefficients = plan.process, list(plan.coefficients)
    taken = dict.fromkeys(coefficients)
    for function in (process.volume, process.from_volume):
        taken |= dict.fromkeys(a for a in arguments_of(function) if a in plan.fixed)
    symbols = "".join(f"{c}, " for c in taken)
    given = "".join(f"p.{c}[i], " for c in taken)
    own = "".join(f"p.{c}[i], " for c in coefficients)
    both = "".join(f"p.{c}[i], p.{c}[j], " for c in coefficients)
    return [f'''
def route_given(
    flow, lateral_inflow, asked_, moved_, state, {symbols}seconds, n_sub, discharge, volume, added_, step_seconds
):
    """`route_reach` of a reach into whose head a flow `asked_` of every model step is put, or taken out below 0.

    A sub-step takes first of what flows in, then of what stands in the reach, and no more than both. `moved_` is filled
    with what came of it [m3 s-1]; `added_` [m3] is its sum. Returns the state, the volume that has left, and the sum.
    """
    k = 0
    for t in range(lateral_inflow.size):
        total = 0.0
        sum_ = 0.0
        for _ in range(n_sub):
            inflow_ = flow[k] + lateral_inflow[t]
            came_ = inflow_ + asked_[t]
            here_ = asked_[t]
            if came_ < 0.0:
                held_ = {scalar_call(plan, process.volume, "")}
                left_ = max(held_ + came_ * seconds, 0.0)
                here_ = (left_ - held_) / seconds - inflow_
                state = {scalar_call(plan, process.from_volume, "left_")}
                came_ = 0.0
            outflow, state = {call(plan, "came_")}
            flow[k] = outflow
            total += outflow
            sum_ += here_
            k += 1
        mean = total / real(n_sub)
        discharge[t] = mean
        volume += mean * step_seconds
        mean = sum_ / real(n_sub)
        moved_[t] = mean
        added_ += mean * step_seconds
    return state, volume, added_
''', f'''
def route_given_{process.name}(
    network, links, p, state, runoff, lateral_inflow, hydrographs, discharge, given, outflow_total, seconds, n_sub,
    step_seconds, lo, hi, first, last,
):
    """`route_{process.name}` with flows given at some reaches (`GivenFlows`); it keeps nothing for an adjoint."""
    place, begin, end = lo, first * n_sub, last * n_sub
    runoff = runoff[first:last]
    while place < hi:
        pair = network.in_step[place] > 1
        if pair and given.row[network.sequence[place]] < 0 and given.row[network.sequence[place + 1]] < 0:
            i, j = network.sequence[place], network.sequence[place + 1]
            flow, other = hydrographs[network.slot[i], begin:end], hydrographs[network.slot[j], begin:end]
            gather_upstream(network, i, hydrographs, begin, flow)
            gather_upstream(network, j, hydrographs, begin, other)
            lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
            lateral_2 = lateral_inflow.values[lateral_inflow.row[j], first:last]
            mean = discharge.values[discharge.row[i], first:last]
            mean_2 = discharge.values[discharge.row[j], first:last]
            collect_row(links, i, runoff, lateral)
            collect_row(links, j, runoff, lateral_2)
            state[i], state[j], outflow_total[i], outflow_total[j] = route_two(
                flow, other, lateral, lateral_2, state[i], state[j], {both}seconds, n_sub, mean, mean_2,
                outflow_total[i], outflow_total[j], step_seconds,
            )
            lateral_inflow.last[i], lateral_inflow.last[j] = lateral[lateral.size - 1], lateral_2[lateral.size - 1]
            discharge.last[i], discharge.last[j] = mean[mean.size - 1], mean_2[mean.size - 1]
            if given.kept_row[i] >= 0:
                copy_row(flow, given.kept[given.kept_row[i], begin:end])
            if given.kept_row[j] >= 0:
                copy_row(other, given.kept[given.kept_row[j], begin:end])
            place += 2
            continue
        for one in range(place, place + (2 if pair else 1)):
            i = network.sequence[one]
            flow = hydrographs[network.slot[i], begin:end]
            gather_upstream(network, i, hydrographs, begin, flow)
            lateral = lateral_inflow.values[lateral_inflow.row[i], first:last]
            mean = discharge.values[discharge.row[i], first:last]
            collect_row(links, i, runoff, lateral)
            row = given.row[i]
            if row < 0:
                state[i], outflow_total[i] = route_reach(
                    flow, lateral, state[i], {own}seconds, n_sub, mean, outflow_total[i], step_seconds
                )
            else:
                state[i], outflow_total[i], given.added[i] = route_given(
                    flow, lateral, given.asked[row, first:last], given.moved[row, first:last], state[i], {given}seconds,
                    n_sub, mean, outflow_total[i], given.added[i], step_seconds,
                )
            lateral_inflow.last[i] = lateral[lateral.size - 1]
            discharge.last[i] = mean[mean.size - 1]
            if given.kept_row[i] >= 0:
                copy_row(flow, given.kept[given.kept_row[i], begin:end])
        place += 2 if pair else 1
''']
