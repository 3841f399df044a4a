"""Chunks of a network: whole groups in the order of the sequence, and who drains from one to another."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.domain.chunks import cut_in_chunks
from bmi_cdlm.domain.network import order_reaches, plan_network, renumbered


def forest(n: int, reach: int) -> np.ndarray:
    """A forest in routing order, each of whose reaches drains into one of the next few."""
    rng = np.random.default_rng(n)
    below = np.array([min(n, i + 1 + int(rng.integers(reach))) for i in range(n)], np.int64)
    below[below >= n] = -1
    return renumbered(below, order_reaches(below, [f"{i:04d}" for i in range(n)]))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("most", [1, 8, 50, 10_000])
@pytest.mark.parametrize("n", [0, 1, 7, 400])
def test_chunks_are_what_they_say(n, most, threads):
    downstream = forest(n, 5)
    plan = plan_network(downstream, threads, 40)
    chunks = cut_in_chunks(plan, downstream, most)
    sequence, place = plan.network.sequence, chunks.place
    assert place[0] == 0 and place[-1] == n and (np.diff(place) > 0).all()
    assert (np.diff(place) <= most + 7).all()
    bounds = {edge for one in (*plan.pieces, *plan.trunk) for edge in one}
    assert bounds <= set(place.tolist()), "a chunk is in one task"
    if most >= 10_000 and n:
        assert set(place.tolist()) == bounds
    at, chunk_of = 0, np.empty(n, np.int64)
    while at < n:  # who goes in step stays together
        together = int(plan.network.in_step[at])
        within = np.searchsorted(place, [at, at + together - 1], side="right") - 1
        assert within[0] == within[1]
        chunk_of[sequence[at : at + together]] = within[0]
        at += together
    for k in range(place.size - 1):
        own = sequence[place[k] : place[k + 1]]
        leaving = [i for i in own if downstream[i] >= 0 and chunk_of[downstream[i]] != k]
        assert chunks.leaving[chunks.first_leaving[k] : chunks.first_leaving[k + 1]].tolist() == leaving
        first, last = chunks.first_arriving[k : k + 2]
        arriving = chunks.arriving[first:last]
        assert sorted(arriving) == [i for i in range(n) if downstream[i] in own and chunk_of[i] != k]
        assert (chunks.leaving[chunks.row[first:last]] == arriving).all()
    assert chunks.first_leaving[-1] == chunks.first_arriving[-1] == chunks.leaving.size
