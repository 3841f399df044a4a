"""The adjoint of eight reaches at once, of a linear process whose adjoint is arithmetic alone; it mirrors the lanes."""

from __future__ import annotations

from bmi_cdlm.kernels.loops.reach_plan import SECONDS, ReachPlan, adjoint_call

EIGHT_BACK = '''        if network.in_step[place] == 8 and (n_sub == 1 or n_sub % 8 == 0):
            for one in range(place, place - 8, -1):
                i = network.sequence[one]
                receive(downstream, i, discharge_adj, hydrographs_adj[network.slot[i]], n_sub)
            reverse_eight(
                network, place - 7, p, p_adj, state_adj, inflow, hydrographs_adj, lateral_adj, seconds, n_sub
            )
            for one in range(place, place - 8, -1):
                i = network.sequence[one]
                hand_up(network, i, hydrographs_adj[network.slot[i]], hydrographs_adj)
            place -= 8
            continue
'''


def retrace_eight_text(plan: ReachPlan) -> str:
    """`retrace_eight`, `retrace_eight_parts`."""
    values = {plan.process.symbol: "state_", SECONDS: "sub_step"}
    call = f"{plan.process.step.__name__}({', '.join(values.get(a, a) for a in plan.takes)})"
    taking = "\n".join(f"    {c} = take(p.{c}, network.sequence, place)" for c in plan.coefficients)
    outflows = ", ".join(f"outflow_{k}" for k in range(8))
    heads, cells = (", ".join(f"feeds[{k}]" for k in range(first, first + 8)) for first in (0, 8))
    fed = ", ".join(f"above[{k}] + link_flow(beside[{k}], areas[0, {k}])" for k in range(8))

    def steps(indent: int, inflow: str, t: str, count: int = 8) -> str:
        """Steps whose inflow, and the state before it, are kept."""
        lines = [
            line for k in range(count) for line in (
                f"inflow = {inflow.format(k)}", f"give_turned(tape, place, {t} + {k}, inflow)",
                f"give_turned(tape, states, {t} + {k}, state_)", f"outflow_{k}, state_ = {call}",
            )
        ]
        return "\n".join(" " * indent + line for line in lines)

    return f'''
def retrace_eight(network, place, p, state, turned, feeds, areas, hydrographs, tape, seconds, first, last):
    """`route_eight` once more, of nothing but the hydrographs and the tape.

    What flows in is kept in eight rows from row `place` of the tape on, step after step of all eight reaches, and the
    states before each step in the second half of its rows.
    """
    flows, states = eight(network.slot, network.sequence, place), tape.shape[0] // 2 + place
    heads, cells, area_ = ({heads}), ({cells}), take_turned(areas, 0, 0)
    state_ = take(state, network.sequence, place)
{taking}
    sub_step = spread(seconds)
    whole = first + (last - first) // 8 * 8
    for t in range(first, whole, 8):
        above, beside = steps_if(hydrographs, heads, t), steps_of(turned, cells, t - first)
        rows = turned_lanes(({fed}))
{steps(8, "rows[{}]", "t")}
        along(hydrographs, flows, t, ({outflows}))
    for t in range(whole, last):
        rows = take_column(hydrographs, flows, t) + link_flow(take_column(turned, cells, t - first), area_)
{steps(8, "rows", "t", 1)}
        give_column(hydrographs, flows, t, outflow_0)


def retrace_eight_parts(network, place, p, state, lateral_inflow, hydrographs, tape, seconds, n_sub, first, last):
    """`retrace_eight` with a multiple of eight sub-steps, as `route_eight_means`."""
    flows, states = eight(network.slot, network.sequence, place), tape.shape[0] // 2 + place
    laterals = eight(lateral_inflow.row, network.sequence, place)
    state_ = take(state, network.sequence, place)
{taking}
    sub_step = spread(seconds)
    for t in range(first, last):
        lateral = take_column(lateral_inflow.values, laterals, t)
        for k in range(t * n_sub, (t + 1) * n_sub, 8):
            rows = across(hydrographs, flows, k)
{steps(12, "rows[{}] + lateral", "k")}
            along(hydrographs, flows, k, ({outflows}))
'''


def reverse_eight_text(plan: ReachPlan) -> str:
    """`reverse_eight`."""
    process, coefficients = plan.process, list(plan.coefficients)
    symbol = process.symbol

    def lines(text: str, indent: int) -> str:
        return "\n".join(" " * indent + text.format(c=c) for c in coefficients)

    def back(k: int) -> str:
        values = {symbol: "y_", "inflow": "inflow_", "outflow_adj": f"flow_{k}", f"{symbol}_adj": "after",
                  SECONDS: "sub_step"}
        found = "".join(f", d_{c}" for c in coefficients)
        return f"after, inflow_{k}_adj{found} = {adjoint_call(plan, values)}"

    def eight_back(indent: int, first: str, whole: bool) -> str:
        """Eight steps from the last to the first; of a model step each, or parts of one."""
        found: list[str] = []
        for k in reversed(range(8)):
            found += [f"y_ = take_turned(tape, states, {first} + {k})",
                      f"inflow_ = take_turned(tape, place, {first} + {k})", back(k)]
            if not whole:
                found += [f"total = total + inflow_{k}_adj", *(f"day_{c} = day_{c} + d_{c}" for c in coefficients)]
            else:
                found += [f"few_{c} = few_{c} + d_{c}" for c in coefficients]
        return "\n".join(" " * indent + line for line in found)

    closing = "" if not coefficients else "            if t % 8 == 0:\n" + "\n".join(
        (lines("{c}_adj = {c}_adj + few_{c}", 16), lines("few_{c} = nothing", 16))
    )
    flows = ", ".join(f"flow_{k}" for k in range(8))
    adjoints = ", ".join(f"inflow_{k}_adj" for k in range(8))
    return f'''
def reverse_eight(
    network, place, p, p_adj, state_adj, tape, hydrographs_adj, lateral_adj, seconds, n_sub
):
    """`reverse_one` of the reaches sequence[place : place + 8], none upstream of another, one in each lane.

    tape: as `retrace_eight` filled it.
    """
    flows = eight(network.slot, network.sequence, place)
    rows = (place, place + 1, place + 2, place + 3, place + 4, place + 5, place + 6, place + 7)
    states, after = tape.shape[0] // 2 + place, take(state_adj, network.sequence, place)
{lines("{c} = take(p.{c}, network.sequence, place)", 4)}
    sub_step, nothing = spread(seconds), spread(real(0))
{lines("{c}_adj = nothing", 4)}
{lines("few_{c} = nothing", 4)}
    n, n_steps = tape.shape[1], lateral_adj.shape[1]
    if n_sub == 1:
        whole = n // 8 * 8
        for k in range(n - whole):
            t = n - 1 - k
            y_, inflow_ = take_turned(tape, states, t), take_turned(tape, place, t)
            flow_0 = take_column(hydrographs_adj, flows, t)
            {back(0)}
            give_column(hydrographs_adj, flows, t, inflow_0_adj)
            give_column(lateral_adj, rows, t, inflow_0_adj)
{lines("few_{c} = few_{c} + d_{c}", 12)}
{lines("{c}_adj = {c}_adj + few_{c}", 8)}
        for block in range(whole // 8):
            t = whole - 8 - 8 * block
            {flows} = across(hydrographs_adj, flows, t)
{lines("few_{c} = nothing", 12)}
{eight_back(12, "t", whole=True)}
{lines("{c}_adj = {c}_adj + few_{c}", 12)}
            along(hydrographs_adj, flows, t, ({adjoints}))
            along(lateral_adj, rows, t, ({adjoints}))
    else:
        for step in range(n_steps):
            t = n_steps - 1 - step
            total = nothing
{lines("day_{c} = nothing", 12)}
            for block in range(n_sub // 8):
                k = (t + 1) * n_sub - 8 - 8 * block
                {flows} = across(hydrographs_adj, flows, k)
{eight_back(16, "k", whole=False)}
                along(hydrographs_adj, flows, k, ({adjoints}))
            give_column(lateral_adj, rows, t, total)
{lines("few_{c} = few_{c} + day_{c}", 12)}
{closing}
    give(state_adj, network.sequence, place, after)
{lines("give(p_adj.{c}, network.sequence, place, take(p_adj.{c}, network.sequence, place) + {c}_adj)", 4)}
'''
