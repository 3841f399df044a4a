"""Routing over a whole period and its adjoint: block by block of time, chunk by chunk of the network.

Down the rivers the states at the starts of blocks are kept, and the hydrographs that go from one chunk to another. Up
again a chunk is routed once more from these, and reversed while its tape is in the caches. A chunk takes in so much of
the network that few hydrographs go from one to another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bmi_cdlm.domain.chunks import cut_in_chunks
from bmi_cdlm.domain.network import NetworkPlan
from bmi_cdlm.kernels.groups import Chunks, ReachSeries
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.model.blocks import add_to, blocks_of
from bmi_cdlm.model.preparation import Group, Parameters

if TYPE_CHECKING:
    from bmi_cdlm.model.reach_operator import Cut, ReachOperator

CHUNK, SMALLEST_CHUNK, TAPE_BYTES = 512, 64, 6 * 2**20
"""Reaches of a chunk, so many that of a chunk few hydrographs leave, some 27; fewer where the tape of a chunk would not
stay in the third cache, but no fewer than the second number."""
BLOCK_BYTES = 64 * 2**20
"""Of the adjoint of lateral inflow, of which there is a block at a time."""
SHORTEST_BLOCK, LONGEST_BLOCK = 16, 64
"""Model steps of a block: a reach costs half a step of 24 sub-steps by itself."""
SUB_STEPS, MOST_ROW_BYTES = 192, 9216
"""Sub-steps of a block that make little of what a reach costs by itself; bytes of them that leave a chunk large."""

class RouteRecord(NamedTuple):
    """What the adjoint of routing needs.

    starts, handed_on : of every block, float[reach], and the hydrographs that go from chunk to chunk.
    """

    runoff: np.ndarray
    parameters: Parameters
    reaches: np.ndarray
    cut: Cut
    starts: list[np.ndarray]
    handed_on: list[np.ndarray]


class WayUp(NamedTuple):
    """What the loop over chunks takes and fills on the way up; see it for the shapes."""

    discharge_adj: ReachSeries
    state_adj: np.ndarray
    p_adj: Group
    lateral_adj: np.ndarray


class Tapes:
    """A tape for each thread that is at work, for blocks of so many sub-steps at most."""

    def __init__(self, chunks: Chunks, halves: int, width: int, dtype: type[np.floating]) -> None:
        self._places, self._width, self._dtype = halves * int(np.diff(chunks.place).max(initial=1)), width, dtype
        self._free: list[np.ndarray] = []

    @contextmanager
    def taken(self, width: int) -> Iterator[np.ndarray]:
        """A tape, float[row, width], that nobody else has."""
        try:
            tape = self._free.pop()
        except IndexError:
            tape = np.empty(self._places * self._width, self._dtype)
        yield tape[: self._places * width].reshape(-1, width)
        self._free.append(tape)


def block_steps(n_reaches: int, n_sub: int, dtype: type[np.floating]) -> int:
    """Model steps of a block."""
    itemsize = np.dtype(dtype).itemsize
    longest = max(SUB_STEPS // n_sub, min(LONGEST_BLOCK, MOST_ROW_BYTES // (n_sub * itemsize)))
    fitting = BLOCK_BYTES // max(1, n_reaches * itemsize)
    return max(SHORTEST_BLOCK, min(longest, fitting))


def routing_blocks(operator: ReachOperator, n_steps: int) -> list[slice]:
    """Blocks of model steps."""
    return blocks_of(n_steps, block_steps(operator.domain.n_reaches, operator.n_sub, operator.dtype))


def halves_of(operator: ReachOperator) -> int:
    """Rows of a tape for each reach: in lanes it holds states beside inflows."""
    return 2 if operator.plan.adjoint_in_lanes else 1


def chunks_of(operator: ReachOperator, cut: Cut) -> Chunks:
    """The chunks of a network for an operator."""
    width = block_steps(operator.domain.n_reaches, operator.n_sub, operator.dtype) * operator.n_sub
    fitting = TAPE_BYTES // (halves_of(operator) * width * np.dtype(operator.dtype).itemsize)
    most = max(SMALLEST_CHUNK, min(CHUNK, fitting))
    if most not in cut.chunked:
        cut.chunked[most] = cut_in_chunks(cut.network, operator.domain.reaches.downstream, most)
    return cut.chunked[most]


def record_route(
    operator: ReachOperator, runoff: np.ndarray, p: Parameters, state: np.ndarray, reaches: np.ndarray
) -> tuple[np.ndarray, RouteRecord]:
    """See `ReachOperator.run`."""
    dtype, cut = operator.dtype, operator.cut_here()
    discharge, record = np.empty((runoff.shape[0], reaches.size), dtype), RouteRecord(runoff, p, reaches, cut, [], [])
    plan, (kept, at) = cut.network, np.unique(reaches, return_inverse=True)
    row = plan.network.slot.copy()
    row[kept] = plan.n_slots + np.arange(kept.size)
    for block in routing_blocks(operator, runoff.shape[0]):
        n_steps = block.stop - block.start
        record.starts.append(state.copy())
        record.handed_on.append(np.empty((chunks_of(operator, cut).leaving.size, n_steps * operator.n_sub), dtype))
        series = _series(plan, n_steps, row, plan.n_slots + kept.size, dtype)
        _through_chunks(operator, record, len(record.starts) - 1, block, state, series)
        discharge[block] = series[1].values[plan.n_slots + at].T
    return discharge, record


def reverse_route(
    operator: ReachOperator, record: RouteRecord, discharge_adj: np.ndarray, state_adj: np.ndarray, in_place: bool
) -> tuple[np.ndarray, Group]:
    """See `ReachOperator.reverse`."""
    n_steps, n, dtype, cut = discharge_adj.shape[0], operator.domain.n_reaches, operator.dtype, record.cut
    runoff_adj = record.runoff if in_place else np.empty((n_steps, operator.domain.n_cells), dtype)
    group = operator.plan.adjoint_group
    total = group(*(np.zeros(n) for _ in group._fields))
    blocks = routing_blocks(operator, n_steps)
    # Fresh memory costs as much as the routing: every block has the same.
    longest = max((block.stop - block.start for block in blocks), default=0)
    space, tapes = np.empty(longest * n, dtype), Tapes(
        chunks_of(operator, cut), halves_of(operator), longest * operator.n_sub, dtype
    )
    kept, at = np.unique(record.reaches, return_inverse=True)
    for k in reversed(range(len(blocks))):
        count = blocks[k].stop - blocks[k].start
        series = _series(cut.network, count, cut.network.network.slot, cut.network.n_slots, dtype)
        # All reaches whose discharge nobody asked for share the first row.
        asked = ReachSeries(np.zeros((1 + kept.size, count), dtype), np.zeros(n, np.int64), series[0].last)
        asked.row[kept] = 1 + np.arange(kept.size)
        np.add.at(asked.values, 1 + at, discharge_adj[blocks[k]].T)
        up = WayUp(asked, state_adj, group(*(np.zeros(n, dtype) for _ in group._fields)),
                   space[: n * count].reshape(n, count))
        _through_chunks(operator, record, k, blocks[k], record.starts[k].copy(), series, up, tapes)
        add_to(total, up.p_adj)
        arguments = (*cut.links_by_cell, up.lateral_adj, runoff_adj[blocks[k]])
        operator.workers.run(
            compiled(operator.loops.spread, dtype), arguments, operator.workers.tasks(operator.domain.n_cells),
            up.lateral_adj.size,
        )
    return runoff_adj, total


def _series(
    plan: NetworkPlan, n_steps: int, row: np.ndarray, n_rows: int, dtype: type[np.floating]
) -> tuple[ReachSeries, ReachSeries]:
    """Lateral inflow and discharge of a block; all that nobody keeps goes to the rows of hydrographs."""
    last = np.empty(row.size, dtype)
    return (
        ReachSeries(np.empty((plan.n_slots, n_steps), dtype), plan.network.slot, last),
        ReachSeries(np.empty((n_rows, n_steps), dtype), row, last),
    )


def _through_chunks(
    operator: ReachOperator, record: RouteRecord, k: int, block: slice, state: np.ndarray,
    series: tuple[ReachSeries, ReachSeries], up: WayUp | None = None, tapes: Tapes | None = None,
) -> None:
    """Block k down the rivers, from a state, in place; with tapes up again."""
    plan, dtype, n_steps, n_sub = record.cut.network, operator.dtype, block.stop - block.start, operator.n_sub
    lateral, discharge = series
    hydrographs = np.empty((plan.n_slots, n_steps * n_sub), dtype)
    down = (
        plan.network, operator.links, operator.domain.reaches.downstream, record.parameters.group, record.starts[k],
        state, record.runoff[block], lateral, hydrographs, discharge, np.zeros(state.size, dtype), *operator.seconds,
        chunks_of(operator, record.cut), record.handed_on[k],
    )
    kernel = compiled(operator.through_chunks, dtype)
    if up is None or tapes is None:
        none = np.empty(0, dtype)
        group = operator.plan.adjoint_group
        no_adjoint = (discharge, none, group(*(none for _ in group._fields)), hydrographs, none.reshape(0, 0))
        plan.route(operator.workers, kernel, (*down, none.reshape(0, 0), *no_adjoint), n_steps, n_sub)
        return
    adjoint = (up.discharge_adj, up.state_adj, up.p_adj, np.empty_like(hydrographs), up.lateral_adj)

    def take_back(lo: int, hi: int) -> None:
        with tapes.taken(n_steps * n_sub) as tape:
            kernel(*down, tape, *adjoint, lo, hi, 0, n_steps)

    plan.reverse(operator.workers, take_back, (), n_steps, n_sub)
