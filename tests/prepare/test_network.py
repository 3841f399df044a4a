"""Topology from D8 rasters small enough to draw."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.errors import DomainError
from bmi_cdlm.prepare.network import (
    accumulate,
    delineate,
    downstream_pixels,
    flow_lengths,
    invert,
    upstream_of,
)

NAN = np.nan
# Clockwise from north: 1 N, 2 NE, 3 E, 4 SE, 5 S, 6 SW, 7 W, 8 NW.
#   0 v   1 v   2 <
#   3 >   4 v   5 (sea)
#   6 >   7 v   8 <
VALLEY = np.array([[5, 5, 7], [3, 5, NAN], [3, 5, 7]], float)


def test_downstream_follows_the_codes():
    assert downstream_pixels(VALLEY).tolist() == [3, 4, 1, 4, 7, -1, 7, -1, 7]


@pytest.mark.parametrize(("code", "below"), [(1, 1), (2, 2), (3, 5), (4, 8), (5, 7), (6, 6), (7, 3), (8, 0)])
def test_each_code_is_one_eighth_of_a_turn_clockwise(code, below):
    directions = np.zeros((3, 3))
    directions[1, 1] = code
    assert downstream_pixels(directions)[4] == below


def test_pit_sea_and_edge_are_outlets():
    directions = np.array([[0, 3, NAN], [1, 7, 3]], float)
    assert downstream_pixels(directions).tolist() == [-1, -1, -1, 0, 3, -1]


def test_unknown_code_is_named():
    directions = VALLEY.copy()
    directions[2, 1] = 64
    with pytest.raises(DomainError, match=r"code 64 at row 2, column 1 .1 such pixels.*Name its encoding"):
        downstream_pixels(directions)


def test_lengths_are_one_side_or_a_diagonal():
    lengths = flow_lengths(np.array([[3, 4], [0, NAN]], float), 1000.0)
    assert lengths.tolist() == [[1000.0, 1000.0 * np.sqrt(2.0)], [0.0, 0.0]]


def test_inverse_of_a_network_lists_every_neighbour_above():
    upstream = invert(downstream_pixels(VALLEY))
    above = [upstream.pixel[upstream.first[i]:upstream.first[i + 1]].tolist() for i in range(9)]
    assert above == [[], [2], [], [0], [1, 3], [], [], [4, 6, 8], []]


def test_upstream_comes_after_what_lies_below():
    downstream = downstream_pixels(VALLEY)
    found = upstream_of(invert(downstream), 7).tolist()
    assert found[0] == 7
    assert sorted(found) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert all(found.index(downstream[i]) < found.index(i) for i in found[1:])


def test_nested_ends_are_cut_out_once():
    downstream = downstream_pixels(VALLEY)
    network = delineate(downstream, invert(downstream), np.array([4, 1]))
    assert network.pixel.tolist() == [0, 1, 2, 3, 4]
    assert network.downstream.tolist() == [3, 4, 1, 4, -1]
    assert network.outlet.tolist() == [4]
    assert accumulate(network, np.full(5, 2.0)).tolist() == [2.0, 4.0, 2.0, 4.0, 10.0]


def test_separate_ends_give_separate_trees():
    downstream = downstream_pixels(VALLEY)
    network = delineate(downstream, invert(downstream), np.array([3, 1]))
    assert network.pixel.tolist() == [0, 1, 2, 3]
    assert network.downstream.tolist() == [3, -1, 1, -1]
    assert accumulate(network, np.ones(4)).tolist() == [1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize("directions", [[[3, 7, 7]], [[3, 5], [1, 7]]])
def test_a_cycle_is_refused(directions):
    upstream = invert(downstream_pixels(np.array(directions, float)))
    with pytest.raises(DomainError, match=r"index 0 drains back into itself.*Break the cycle"):
        upstream_of(upstream, 0)


def test_random_forest_agrees_with_walking_down():
    rng = np.random.default_rng(3)
    n = 300
    downstream = np.array([-1, *(rng.integers(-1, i) for i in range(1, n))])
    shuffle = rng.permutation(n)
    mixed = np.empty(n, np.int64)
    mixed[shuffle] = np.where(downstream >= 0, shuffle[downstream], -1)
    area = rng.random(n)
    expected = np.zeros(n)
    for i in range(n):
        j = i
        while j >= 0:
            expected[j] += area[i]
            j = mixed[j]
    network = delineate(mixed, invert(mixed), np.flatnonzero(mixed < 0))
    np.testing.assert_allclose(accumulate(network, area), expected, rtol=1e-13)
