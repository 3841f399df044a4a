"""Eight reaches at once, one in each lane of a vector, of a process whose step is arithmetic alone."""

from __future__ import annotations

from bmi_cdlm.kernels.loops.reach_plan import SECONDS, ReachPlan
from bmi_cdlm.kernels.loops.reaches_lanes_adjoint import retrace_eight_text

PAIRS = "        together = 2 if together > 2 else together"
KEEP_ROWS = '''                if inflow is not None:
                    if inflow.shape[1] > 0:
                        keep_rows(
                            network, place, 8, lateral_inflow, hydrographs, begin, end, first, last, n_sub, inflow
                        )
'''


def eight_branch(plan: ReachPlan) -> str:
    """Of the loop over reaches, eight at once where a step has one sub-step or a multiple of eight.

    An adjoint in lanes takes what flowed in as `route_eight` keeps it, any other along rows.
    """
    if not plan.in_lanes:
        return PAIRS
    parts = "" if plan.adjoint_in_lanes else KEEP_ROWS
    return f'''        if together == 8:
            if n_sub == 1:
                feed_eight(
                    network, links, place, runoff, turned, held, feeds, areas, lateral_inflow, hydrographs, first, last
                )
                route_eight(
                    network, place, p, state, runoff, held, turned, feeds, areas, hydrographs, discharge, inflow,
                    outflow_total, seconds, step_seconds, first, last,
                )
            elif n_sub % 8 == 0:
                prepare_group(
                    network, links, place, 8, runoff, turned, held, lateral_inflow, hydrographs, begin, end, first, last
                )
{parts}                route_eight_means(
                    network, place, p, state, lateral_inflow, hydrographs, discharge, inflow, outflow_total, seconds,
                    n_sub, step_seconds, first, last,
                )
            if n_sub == 1 or n_sub % 8 == 0:
                place += 8
                continue
            together = 2'''


def eight_text(plan: ReachPlan) -> str:
    """`route_eight`, `route_eight_means`, and what fills a tape."""
    coefficients = list(plan.coefficients)
    taking = "\n".join(f"    {c} = take(p.{c}, network.sequence, place)" for c in coefficients)
    outflows = ", ".join(f"outflow_{k}" for k in range(8))
    heads, cells = (", ".join(f"feeds[{k}]" for k in range(first, first + 8)) for first in (0, 8))
    each_area = ", ".join(f"areas[0, {k}]" for k in range(8))
    rows = ", ".join(f"place + {k}" for k in range(8))
    areas = ", ".join(f"area_{k}" for k in range(8))
    fed = ", ".join(f"above[{k}] + link_flow(beside[{k}], area_{k})" for k in range(8))

    def lane_call(inflow: str) -> str:
        values = {plan.process.symbol: "state_", "inflow": inflow, SECONDS: "sub_step"}
        return f"{plan.process.step.__name__}({', '.join(values.get(a, a) for a in plan.takes)})"

    def eight_steps(indent: str, inflow: str, after: str) -> str:
        lines = [
            line for k in range(8)
            for line in (f"outflow_{k}, state_ = {lane_call(inflow.format(k))}", after.format(k))
        ]
        return "\n".join(indent + line for line in lines)

    def retraced(rest: str) -> str:
        """Lines that leave it to the adjoint's own loop: whether one may come is known when this is compiled (None)."""
        if not plan.adjoint_in_lanes:
            return ""
        lines = ["if tape is not None:", "    if tape.shape[1] > 0:", f"        retrace_{rest}", "        return"]
        return "\n".join("    " + line for line in lines)

    def keep_rows(indent: str, line: str) -> str:
        """Lines that do so along rows, for any other adjoint."""
        if plan.adjoint_in_lanes:
            return ""
        lines = ("if tape is not None:", "    if tape.shape[1] > 0:", f"        {line}")
        return "\n".join(indent + one for one in lines)

    return f'''
def route_eight(
    network, place, p, state, runoff, held, turned, feeds, areas, hydrographs, discharge, tape, outflow_total, seconds,
    step_seconds, first, last,
):
    """`route_reach` with one sub-step of the reaches sequence[place : place + 8], none upstream of another.

    One in each lane; what flows in stands in their hydrographs and in rows of runoff (`feed_eight`). Runoff of the next
    cells (`turned_row`) is asked for by halves of a row meanwhile. With a tape only that is filled, as by
    `retrace_eight`.
    """
{retraced("eight(network, place, p, state, turned, feeds, areas, hydrographs, tape, seconds, first, last)")}
    flows = eight(network.slot, network.sequence, place)
    heads, cells, rows = ({heads}), ({cells}), ({rows})
    {areas} = {each_area}
    area_ = take_turned(areas, 0, 0)
    shared = 0 if discharge.values.shape[0] == discharge.row.size else hydrographs.shape[0]
    far = discharge.values.size > 1048576  # what is kept of every reach is no good in the caches
    at_once = far and shared == 0 and is_lined(discharge.values, first)
    means = eight(discharge.row, network.sequence, place) if at_once else flows
    state_, volume = take(state, network.sequence, place), take(outflow_total, network.sequence, place)
{taking}
    sub_step, step_length = spread(seconds), spread(step_seconds)
    whole = first + (last - first) // 8 * 8
    ask, half, halves = 0, 0, 0
    if held.size > 0:
        ask, half = held[held.size - 2], held[held.size - 1]
        if ask < runoff.shape[1]:
            halves = 2 * (last - first)
            held[held.size - 1] = min(halves, half + (whole - first) // 8)
    for t in range(first, whole, 8):
        if half < halves:
            ask_along(runoff, half // 2, ask + 64 * (half % 2))
            half += 1
        above, beside = steps_if(hydrographs, heads, t), steps_of(turned, cells, t - first)
        fed = ({fed})
{keep_rows("        ", "put_steps(tape, rows, t, fed)")}
        inflow = turned_lanes(fed)
{eight_steps("        ", "inflow[{}]", "volume = volume + outflow_{} * step_length")}
        outflow = turned_lanes(({outflows}))
        put_steps(hydrographs, flows, t, outflow)
        if at_once:
            stream_steps(discharge.values, means, t, outflow)
    for t in range(whole, last):
        inflow = take_column(hydrographs, flows, t) + link_flow(take_column(turned, cells, t - first), area_)
{keep_rows("        ", "give_column(tape, rows, t, inflow)")}
        outflow_0, state_ = {lane_call("inflow")}
        volume = volume + outflow_0 * step_length
        give_column(hydrographs, flows, t, outflow_0)
    give(state, network.sequence, place, state_)
    give(outflow_total, network.sequence, place, volume)
    give(discharge.last, network.sequence, place, take_column(hydrographs, flows, last - 1))
    done = whole if at_once else first
    if shared == discharge.values.shape[0]:  # nobody keeps any
        done = last
    for one in range(place, place + 8 if done < last else place):
        i = network.sequence[one]
        if discharge.row[i] >= shared:
            outflow, mean = hydrographs[network.slot[i], done:last], discharge.values[discharge.row[i], done:last]
            give_row(outflow, mean, far)


def route_eight_means(
    network, place, p, state, lateral_inflow, hydrographs, discharge, tape, outflow_total, seconds, n_sub, step_seconds,
    first, last,
):
    """`route_reach` of the reaches sequence[place : place + 8], none upstream of another, one in each lane.

    What flows in stands in their hydrographs and `lateral_inflow`; n_sub is a multiple of 8. With a tape only that is
    filled, as by `retrace_eight`.
    """
{retraced("eight_parts(network, place, p, state, lateral_inflow, hydrographs, tape, seconds, n_sub, first, last)")}
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
''' + (retrace_eight_text(plan) if plan.adjoint_in_lanes else "")
