"""The way down the rivers for an adjoint, and the way back up: chunk by chunk, so that a tape stays in the caches."""

from __future__ import annotations

from bmi_cdlm.kernels.loops.link_texts import TURNED_SPACE
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan


def chunks_text(plan: ReachPlan, narrow: bool = False) -> str:
    """The loop over chunks, in either direction; of a small network with its loops."""
    name, word = plan.process.name, "narrow_" if narrow else ""
    space, route, given = ("", f"route_narrow_{name}", "") if narrow else (
        TURNED_SPACE, "route_range", ", turned, held, feeds, areas"
    )
    runoff = "runoff" if narrow else "runoff[first:last]"
    reverse = f"reverse_{word if plan.process.linear else ''}{name}"
    return f'''
def chunks_{word}{name}(
    network, links, downstream, p, start, state, runoff, lateral_inflow, hydrographs, discharge, outflow_total, seconds,
    n_sub, step_seconds, chunks, kept, tape, discharge_adj, state_adj, p_adj, hydrographs_adj, lateral_adj, lo, hi,
    first, last,
):
    """`route_{word}{name}` of the reaches sequence[lo:hi], whole chunks, or where there is a tape its adjoint.

    chunks: `Chunks`; kept: float[row, time * n_sub], the hydrographs that go from chunk to chunk, filled on the way
    down and read on the way up; tape: float[row, time * n_sub], with a row for as many places as a chunk has, twice as
    many where the adjoint goes in lanes, or float[row, 0] on the way down. On the way up a chunk is routed again from
    what arrives in it, and at once reversed: its tape is in the caches still. What else that takes and fills is that of
    `{reverse}`; `state` is then that at the block's start, and spent.
    """
    back = tape.shape[1] > 0
{space}    chunk = 0
    while chunks.place[chunk] < lo:
        chunk += 1
    after = chunk
    while chunks.place[after] < hi:
        after += 1
    for k in range(after - chunk):
        one = after - 1 - k if back else chunk + k
        begin, end = chunks.place[one], chunks.place[one + 1]
        here = Network(
            network.sequence[begin:end], network.in_step[begin:end], network.first_child, network.child, network.slot
        )
        if back:
            for a in range(chunks.first_arriving[one], chunks.first_arriving[one + 1]):
                copy_row(kept[chunks.row[a]], hydrographs[network.slot[chunks.arriving[a]]])
        {route}(
            here, links, p, state, {runoff}, lateral_inflow, hydrographs, discharge, tape, outflow_total, seconds,
            n_sub, step_seconds, 0, end - begin, first, last{given},
        )
        if back:
            {reverse}(
                here, downstream, p, start, tape, discharge_adj, state_adj, p_adj, hydrographs_adj,
                lateral_adj[begin:end], seconds, n_sub, 0, end - begin,
            )
        else:
            for row in range(chunks.first_leaving[one], chunks.first_leaving[one + 1]):
                flow = hydrographs[network.slot[chunks.leaving[row]], first * n_sub : last * n_sub]
                copy_row(flow, kept[row, first * n_sub : last * n_sub])
'''
