"""The adjoint loops of a process of reaches, up the rivers; they mirror `reaches`."""

from __future__ import annotations

from bmi_cdlm.kernels.loops.reach_plan import ReachPlan, adjoint_call, call
from bmi_cdlm.kernels.loops.reaches_lanes_adjoint import EIGHT_BACK, reverse_eight_text


def reverse_text(plan: ReachPlan, body: str, narrow: bool = False) -> str:
    """The loop over reaches, up the rivers."""
    return f'''
def reverse_{"narrow_" if narrow else ""}{plan.process.name}(
    network, downstream, p, start, inflow, discharge_adj, state_adj, p_adj, hydrographs_adj, lateral_adj, seconds,
    n_sub, lo, hi,
):
    """Adjoint of `route_{"narrow_" if narrow else ""}{plan.process.name}` in the discharge, for one block of steps and
    the reaches sequence[lo:hi].

    start: float[reach], state at the block's start; inflow: float[place, time * n_sub], the tape, as the forward loop
    filled it, with as many rows again where it goes in lanes;
    discharge_adj: `ReachSeries`, its first row for all whose discharge nobody asked for; state_adj: adjoint of the
    state at the block's end, becomes that at its start; p_adj: added to; hydrographs_adj: float[slot, time * n_sub],
    working space; lateral_adj: float[place, time], filled.
    """
    place = hi - 1
{body}'''


def linear_texts(plan: ReachPlan) -> list[str]:
    """The adjoint of a linear process: the states of a block forward, then all else backward, step by step.

    Sums are those of every model step, last sub-step first, of up to eight of them, which end where the number of the
    step is one of eights, and of these: a reach has the same bits alone, beside another and in a lane, and in float32
    no long sum, for of adjoints of coefficients, which nearly cancel in that of a parameter, every bit counts.
    """
    process, coefficients = plan.process, list(plan.coefficients)
    symbol = process.symbol
    one = "".join(f"{c}, " for c in coefficients)
    pair = "".join(f"{c}_1, {c}_2, " for c in coefficients)
    own = "".join(f"p.{c}[i], " for c in coefficients)
    both = "".join(f"p.{c}[i], p.{c}[j], " for c in coefficients)

    def lines(text: str, indent: int, ks: tuple[str, ...]) -> str:
        """A line for each coefficient of each reach."""
        return "\n".join(" " * indent + text.format(c=c, k=k) for k in ks for c in coefficients)

    def closing(ks: tuple[str, ...]) -> str:
        """The end of up to eight steps."""
        if not coefficients:
            return ""
        return "        if (n_steps - 1 - t) % 8 == 0:\n" + "\n".join(
            (lines("{c}{k}_adj += few_{c}{k}", 12, ks), lines("few_{c}{k} = real(0)", 12, ks))
        )

    def back(k: str) -> str:
        values = {symbol: f"y{k}[back]", "inflow": f"inflow{k}[back]", "outflow_adj": f"flow{k}_adj[back]",
                  f"{symbol}_adj": f"state{k}_adj"} | {c: f"{c}{k}" for c in coefficients}
        found = "".join(f", d_{c}{k}" for c in coefficients)
        return f"state{k}_adj, inflow{k}_adj{found} = {adjoint_call(plan, values)}"

    def given(k: str) -> str:
        return "".join(f", {c}{k}_adj" for c in coefficients)

    single, two = ("",), ("_1", "_2")
    of_one = f'''        i = network.sequence[place]
        flow_adj = hydrographs_adj[network.slot[i]]
        receive(downstream, i, discharge_adj, flow_adj, n_sub)
        if network.in_step[place] > 1:
            j = network.sequence[place - 1]
            flow_2_adj = hydrographs_adj[network.slot[j]]
            receive(downstream, j, discharge_adj, flow_2_adj, n_sub)
            state_adj[i], state_adj[j]{"".join(f", {c}_1_adj, {c}_2_adj" for c in coefficients)} = reverse_two(
                inflow[place], inflow[place - 1], flow_adj, flow_2_adj, lateral_adj[place], lateral_adj[place - 1], y_1,
                y_2, start[i], start[j], state_adj[i], state_adj[j], {both}seconds, n_sub,
            )
{lines("p_adj.{c}[i] += {c}_1_adj", 12, single)}
{lines("p_adj.{c}[j] += {c}_2_adj", 12, single)}
            hand_up(network, i, flow_adj, hydrographs_adj)
            hand_up(network, j, flow_2_adj, hydrographs_adj)
            place -= 2
        else:
            state_adj[i]{given("")} = reverse_one(
                inflow[place], flow_adj, lateral_adj[place], y_1, start[i], state_adj[i], {own}seconds, n_sub
            )
{lines("p_adj.{c}[i] += {c}_adj", 12, single)}
            hand_up(network, i, flow_adj, hydrographs_adj)
            place -= 1
'''
    space = '''    space = np.empty((2, inflow.shape[1]), state_adj.dtype)
    y_1, y_2 = space[0], space[1]
    while place >= lo:
'''
    texts = [f'''
def reverse_one(inflow, flow_adj, lateral_adj, y, state, state_adj, {one}seconds, n_sub):
    """Adjoint of `route_reach`: `flow_adj` comes in for the outflow and goes out for the inflow.

    y: working space, for the state before each sub-step. Returns the adjoints of the state at the block's start and of
    the coefficients.
    """
    for k in range(inflow.size):
        y[k] = state
        _waste, state = {call(plan, "inflow[k]")}
{lines("{c}{k}_adj = few_{c}{k} = real(0)", 4, single)}
    n, n_steps = inflow.size, lateral_adj.size
    k = 0
    for t in range(n_steps):
        total = real(0)
{lines("day_{c}{k} = real(0)", 8, single)}
        for _ in range(n_sub):
            back = np.uint64(n - 1 - k)
            {back("")}
            flow_adj[back] = inflow_adj
            total += inflow_adj
{lines("day_{c}{k} += d_{c}{k}", 12, single)}
            k += 1
        lateral_adj[np.uint64(n_steps - 1 - t)] = total
{lines("few_{c}{k} += day_{c}{k}", 8, single)}
{closing(single)}
    return state_adj{given("")}
''', f'''
def reverse_two(
    inflow_1, inflow_2, flow_1_adj, flow_2_adj, lateral_1_adj, lateral_2_adj, y_1, y_2, state_1, state_2, state_1_adj,
    state_2_adj, {pair}seconds, n_sub,
):
    """`reverse_one` of two reaches at once, neither upstream of the other."""
    for k in range(inflow_1.size):
        y_1[k] = state_1
        y_2[k] = state_2
        _waste, state_1 = {call(plan, "inflow_1[k]", "_1")}
        _waste, state_2 = {call(plan, "inflow_2[k]", "_2")}
{lines("{c}{k}_adj = few_{c}{k} = real(0)", 4, two)}
    n, n_steps = inflow_1.size, lateral_1_adj.size
    k = 0
    for t in range(n_steps):
        total_1 = real(0)
        total_2 = real(0)
{lines("day_{c}{k} = real(0)", 8, two)}
        for _ in range(n_sub):
            back = np.uint64(n - 1 - k)
            {back("_1")}
            {back("_2")}
            flow_1_adj[back] = inflow_1_adj
            flow_2_adj[back] = inflow_2_adj
            total_1 += inflow_1_adj
            total_2 += inflow_2_adj
{lines("day_{c}{k} += d_{c}{k}", 12, two)}
            k += 1
        lateral_1_adj[np.uint64(n_steps - 1 - t)] = total_1
        lateral_2_adj[np.uint64(n_steps - 1 - t)] = total_2
{lines("few_{c}{k} += day_{c}{k}", 8, two)}
{closing(two)}
    return state_1_adj, state_2_adj{"".join(f", {c}_1_adj, {c}_2_adj" for c in coefficients)}
''', reverse_text(plan, space + of_one, narrow=True)]
    if not plan.adjoint_in_lanes:
        return [*texts, reverse_text(plan, space + of_one)]
    return [*texts, reverse_eight_text(plan), reverse_text(plan, space + EIGHT_BACK + of_one)]


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
