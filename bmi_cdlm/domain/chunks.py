"""A network's sequence in chunks, each of which is routed and reversed while its tape is in the caches."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.domain.network import NetworkPlan, places_in
from bmi_cdlm.kernels.groups import Chunks


def cut_in_chunks(plan: NetworkPlan, downstream: np.ndarray, most: int) -> Chunks:
    """Cut the pieces and the trunk of a network into chunks of about `most` reaches at most.

    downstream : int64[reach], reach below, -1 at an outlet. Reaches that go in step stay together, so that a chunk may
    have up to seven more; results do not depend on where it is cut.
    """
    sequence, in_step = plan.network.sequence, plan.network.in_step
    n, at = sequence.size, np.arange(sequence.size)
    changes = np.flatnonzero(np.diff(in_step, prepend=0))
    run = changes[np.searchsorted(changes, at, side="right") - 1] if n else at
    begins = np.append(np.flatnonzero((at - run) % in_step == 0), n)  # of what goes in step
    place = [plan.pieces[0][0] if plan.pieces else plan.trunk[0][0] if plan.trunk else n]
    for lo, hi in (*plan.pieces, *plan.trunk):
        count = -(-(hi - lo) // most)
        wanted = lo + (hi - lo) * np.arange(1, count) // max(count, 1)
        ends = np.unique(begins[np.searchsorted(begins, wanted)])
        place += [*ends[(ends > lo) & (ends < hi)].tolist(), hi]
    chunk_of = np.searchsorted(np.array(place), places_in(sequence), side="right") - 1  # by reach
    below = np.where(downstream >= 0, chunk_of[downstream], chunk_of)
    leaves = (below != chunk_of)[sequence]
    leaving = sequence[leaves]
    into, chunks = below[leaving], np.arange(len(place))
    order = np.argsort(into, kind="stable")
    return Chunks(
        np.array(place), np.searchsorted(chunk_of[leaving], chunks), leaving,
        np.searchsorted(into[order], chunks), leaving[order], order,
    )
