"""Routing order, cycles, sums downstream, and the cut for threads: against brute force on random forests."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_domain import random_downstream

from bmi_cdlm.domain.network import IN_STEP, accumulate_downstream, order_reaches, plan_network, upstream_of
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.topology import arrange_in_step
from bmi_cdlm.names.errors import DomainError


@st.composite
def forests(draw, most=40):
    """A forest in any order with text ids, as (downstream, ids)."""
    n = draw(st.integers(1, most))
    reach = draw(st.sampled_from([1, 3, n]))  # long rivers to wide trees
    parents = [draw(st.integers(max(-1, i - reach), i - 1)) for i in range(n)]
    place = np.array(draw(st.permutations(range(n))))
    downstream = np.empty(n, np.int64)
    downstream[place] = [place[b] if b >= 0 else -1 for b in parents]
    ids = draw(st.permutations([f"r{i}" for i in range(n)]))
    return downstream, list(ids)


def ordered(downstream, ids):
    """The network in routing order: downstream and ids."""
    order = order_reaches(downstream, ids)
    position = np.empty(order.size, np.int64)
    position[order] = np.arange(order.size)
    below = downstream[order]
    return np.where(below >= 0, position[below], -1), [ids[i] for i in order]


def above(downstream, i) -> set[int]:
    found, waiting = {i}, [i]
    while waiting:
        children = np.flatnonzero(downstream == waiting.pop()).tolist()
        found.update(children)
        waiting += children
    return found


@given(forests())
def test_order_is_depth_first_with_the_largest_tributary_first(forest):
    downstream, ids = ordered(*forest)
    n = len(ids)
    assert sorted(ids) == sorted(forest[1])
    size = [len(above(downstream, i)) for i in range(n)]
    for i in range(n):
        assert downstream[i] == -1 or downstream[i] > i
        assert above(downstream, i) == set(range(i + 1 - size[i], i + 1)), "a sub-tree is not contiguous"
        assert upstream_of(downstream, i) == (i + 1 - size[i], i + 1)
    for parent in range(-1, n):
        children = np.flatnonzero(downstream == parent).tolist()
        assert children == sorted(children, key=lambda c: (-size[c], ids[c]))


@given(forests(), st.randoms(use_true_random=False))
def test_order_does_not_depend_on_the_order_of_the_input(forest, random):
    downstream, ids = forest
    n = len(ids)
    shuffle = list(range(n))
    random.shuffle(shuffle)
    position = np.argsort(shuffle)
    other = np.array([position[downstream[i]] if downstream[i] >= 0 else -1 for i in shuffle])
    assert ordered(other, [ids[i] for i in shuffle])[1] == ordered(downstream, ids)[1]


@given(forests(), st.data())
def test_a_basin_cut_out_keeps_its_order(forest, data):
    downstream, ids = ordered(*forest)
    lo, hi = upstream_of(downstream, data.draw(st.integers(0, len(ids) - 1)))
    basin = np.where(downstream[lo:hi] < hi, downstream[lo:hi] - lo, -1)
    basin[-1] = -1
    assert ordered(basin, ids[lo:hi])[1] == ids[lo:hi]


def test_a_long_river_and_a_comb_are_ordered_without_recursion():
    n = 30_000
    river = np.r_[np.arange(1, n), -1]
    assert (order_reaches(river, [f"{i:06d}" for i in range(n)]) == np.arange(n)).all()
    comb = np.full(n, n - 1)
    comb[-1] = -1
    assert (order_reaches(comb, [f"{i:06d}" for i in range(n)]) == np.arange(n)).all()


def test_a_cycle_is_an_error_that_names_its_reaches():
    downstream = np.array([1, 2, 3, 1, -1, 1])  # b -> c -> d -> b, fed by a and f; e is an outlet
    with pytest.raises(DomainError) as found:
        order_reaches(downstream, list("abcdef"), "lez.nc")
    message = str(found.value)
    assert message.startswith("lez.nc: 'downstream' has a cycle of 3 reaches: ")
    assert "b -> c -> d -> b" in message or "c -> d -> b -> c" in message or "d -> b -> c -> d" in message
    assert "Expected a tree that ends in -1" in message and "Break the cycle" in message


def test_a_long_cycle_is_shown_in_part():
    with pytest.raises(DomainError, match=r"cycle of 50 reaches: (r\d+ -> ){8}r\d+\. Expected"):
        order_reaches(np.roll(np.arange(50), -1), [f"r{i}" for i in range(50)])


@given(forests())
def test_sums_downstream(forest):
    downstream, ids = ordered(*forest)
    values = np.arange(1.0, len(ids) + 1)
    expected = [sum(values[j] for j in above(downstream, i)) for i in range(len(ids))]
    assert accumulate_downstream(downstream, values).tolist() == expected
    assert values.tolist() == list(range(1, len(ids) + 1)), "the input was changed"


def check_plan(downstream, plan, rng):
    """Run the plan with its tasks interleaved at random: a child's buffer is whole when it is read."""
    network, n = plan.network, downstream.size
    assert sorted(network.sequence.tolist()) == list(range(n))
    ranges = [*plan.pieces, *plan.trunk]
    assert [lo for lo, _ in ranges] == [0, *(hi for _, hi in ranges[:-1])] and ranges[-1][1] == n
    for i in range(n):
        children = network.child[network.first_child[i]:network.first_child[i + 1]]
        assert children.tolist() == np.flatnonzero(downstream == i).tolist()
    size = accumulate_downstream(downstream, np.ones(n)).astype(int)
    place = 0
    while place < n:
        together = int(network.in_step[place])
        group = network.sequence[place : place + together]
        assert together in (1, 2, IN_STEP) and (network.in_step[place : place + together] == together).all()
        for i in group:
            beside = group[group != i]
            assert ((beside < i + 1 - size[i]) | (beside > i)).all(), f"one drains into {i}, beside which it is routed"
        assert np.unique(network.slot[group]).size == together
        place += together

    n_steps = int(rng.integers(1, 6))
    owner = np.full((plan.n_slots, n_steps), -1)
    done = np.zeros(n, int)

    def process(i, first, last):
        assert done[i] == first, f"the steps of {i} are out of order"
        for child in network.child[network.first_child[i]:network.first_child[i + 1]]:
            assert done[child] >= last and (owner[network.slot[child], first:last] == child).all(), (
                f"the buffer of {child} was overwritten"
            )
        owner[network.slot[i], first:last] = i
        done[i] = last

    tasks = plan.tasks(n_steps)
    left = [[(place, first, last) for place in range(lo, hi)] for (lo, hi, first, last), _ in tasks]
    while any(left):
        open_to = [k for k, (_, needs) in enumerate(tasks) if left[k] and not any(left[j] for j in needs)]
        k = open_to[int(rng.integers(len(open_to)))]
        for _ in range(int(rng.integers(1, 40))):
            if left[k]:
                place, first, last = left[k].pop(0)
                process(network.sequence[place], first, last)
    assert (done == n_steps).all()
    check_reverse(downstream, plan, rng)


def check_reverse(downstream, plan, rng):
    """Run the tasks of the adjoint in any order: what a reach is handed from below is whole when it is read."""
    network, noted = plan.network, []
    plan.reverse(SimpleNamespace(run_tasks=lambda kernel, arguments, tasks, work: noted.extend(tasks)), None, (), 1, 1)
    owner, left = np.full(plan.n_slots, -1), []
    for (lo, hi), _ in noted:
        groups, place = [], hi
        while place > lo:
            size = int(network.in_step[place - 1])
            groups.append(network.sequence[place - size : place][::-1].tolist())
            place -= size
        left.append(groups)

    def process(group):
        for i in group:
            if downstream[i] < 0:
                owner[network.slot[i]] = i
        for i in group:
            assert owner[network.slot[i]] == i, f"the buffer of {i} was overwritten, or not yet filled"
        for i in group:
            children = network.child[network.first_child[i]:network.first_child[i + 1]]
            owner[network.slot[children]] = children

    while any(left):
        open_to = [k for k, (_, needs) in enumerate(noted) if left[k] and not any(left[j] for j in needs)]
        k = open_to[int(rng.integers(len(open_to)))]
        for _ in range(int(rng.integers(1, 20))):
            if left[k]:
                process(left[k].pop(0))


@given(forests(most=60), st.integers(1, 4), st.integers(1, 8), st.integers(0, 2**32))
def test_plan_takes_every_reach_once_and_buffers_never_collide(forest, threads, smallest, seed):
    downstream, _ = ordered(*forest)
    check_plan(downstream, plan_network(downstream, threads, smallest), np.random.default_rng(seed))


@pytest.mark.parametrize(("sources", "cuts"), [(0, 2), (1, 2), (3, 1)])
def test_a_long_river_is_shared_by_threads(sources, cuts):
    """A main stem with as many sources at every reach: its parts follow each other, their tributaries go beside."""
    stem = 3000
    below = [np.r_[np.arange(1, stem), -1], np.repeat(np.arange(stem), sources)]
    n = stem * (1 + sources)
    downstream, _ = ordered(np.concatenate(below), [f"{i:05d}" for i in range(n)])
    plan = plan_network(downstream, 2, 50)
    check_plan(downstream, plan, np.random.default_rng(0))
    assert plan.n_cuts == cuts and len(plan.trunk) == 16
    in_trunk = plan.network.sequence[plan.trunk[0][0]:]
    alone = np.count_nonzero(plan.network.in_step[plan.trunk[0][0]:] == 1)
    assert alone <= (0.1 * in_trunk.size if sources else in_trunk.size)


@given(forests(most=60), st.integers(2, 4))
def test_reaches_in_step_leave_few_alone(forest, together):
    """A reach is alone only where less than the others is left to begin: none of them could have come earlier."""
    downstream, _ = ordered(*forest)
    n = downstream.size
    sequence, in_step = np.empty(n, np.int64), np.empty(n, np.int8)
    missing = np.full(n, -1, np.int64)
    compiled(arrange_in_step)(
        np.arange(n), downstream, together, missing, np.empty(n, np.int64), sequence, in_step
    )
    assert sorted(sequence.tolist()) == list(range(n)) and (missing == -1).all()
    place, done = 0, set()
    sources = set(range(n)) - set(downstream.tolist())
    while place < n:
        size = in_step[place]
        group = sequence[place : place + size].tolist()
        assert (in_step[place : place + size] == size).all()
        for i in group:
            assert set(np.flatnonzero(downstream == i).tolist()) <= done, "a tributary comes later, or at once"
        if size < together:
            assert sources <= done | set(sequence[place : place + together].tolist())
        done.update(group)
        place += size


def most_buffers(downstream, n: int) -> float:
    """S(n) for a tree of n reaches, the largest tributary first.

    While tributary j is routed, j - 1 hydrographs wait, and it has at most n / j reaches:
    S(n) <= max over j of (j - 1 + S(n / j)) <= 1 + (d - 1) / log d * log n, with d the most tributaries of a reach.
    """
    most = max(2, np.bincount(downstream[downstream >= 0], minlength=1).max())
    return 1 + (most - 1) / math.log(most) * math.log(n) + 1e-9


@given(forests(most=60))
def test_one_thread_needs_few_buffers(forest):
    """Reaches in step begin a little of the next sub-tree each."""
    downstream, _ = ordered(*forest)
    plan = plan_network(downstream, 1)
    assert plan.n_slots <= IN_STEP * most_buffers(downstream, downstream.size) + IN_STEP
    assert plan.pieces == [(0, downstream.size)] and not plan.trunk


@pytest.mark.parametrize("bushiness", [5, 40, 5000])
def test_a_large_network_is_cut_into_independent_pieces(bushiness):
    rng = np.random.default_rng(bushiness)
    n = 5000
    downstream, _ = ordered(random_downstream(rng, n, bushiness=bushiness), [f"{i:05d}" for i in range(n)])
    plan = plan_network(downstream, 2, 50)
    check_plan(downstream, plan, rng)
    limit = max(50, n // 16)
    assert max(hi - lo for lo, hi in plan.pieces) <= limit and len(plan.pieces) > 2
    in_trunk = np.zeros(n, bool)
    in_trunk[plan.network.sequence[plan.trunk[0][0]:]] = True
    waiting = np.count_nonzero(~in_trunk & (downstream >= 0) & in_trunk[downstream])
    assert plan.n_slots <= waiting + len(plan.pieces) * most_buffers(downstream, limit)
