"""The adjoint loops of a process of reaches, up the rivers; they mirror `reaches`."""

from __future__ import annotations

from bmi_cdlm.kernels.loops.reach_plan import ReachPlan, call


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
