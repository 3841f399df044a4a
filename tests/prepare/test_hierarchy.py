"""Nesting of gauges, and folds that keep nested gauges together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.prepare.gauges.hierarchy import folds, nest

# Two rivers: 0 -> 2 <- 1, 2 -> 3 (outlet); 4 -> 5 (outlet).
DOWNSTREAM = np.array([2, 2, 3, -1, 5, -1])
AREA = np.array([10.0, 20.0, 35.0, 40.0, 7.0, 9.0])


def test_nesting_areas_and_trees() -> None:
    found = nest(DOWNSTREAM, AREA, np.array([3, 0, 1, 4]))
    assert found.below.tolist() == [-1, 0, 0, -1]
    assert found.n_above.tolist() == [2, 0, 0, 0]
    assert found.incremental_area.tolist() == [10.0, 10.0, 20.0, 7.0]
    assert found.tree.tolist() == [0, 0, 0, 1]


def test_gauges_side_by_side_above_an_ungauged_outlet_are_independent() -> None:
    found = nest(DOWNSTREAM, AREA, np.array([0, 1]))
    assert found.below.tolist() == [-1, -1]
    assert found.tree.tolist() == [0, 1]


def test_gauges_on_one_reach_follow_each_other() -> None:
    found = nest(DOWNSTREAM, AREA, np.array([2, 2, 0]))
    assert found.below.tolist() == [1, -1, 0]
    assert found.n_above.tolist() == [1, 2, 0]
    assert found.incremental_area.tolist() == [25.0, 0.0, 10.0]


@st.composite
def gauged_forests(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 30))
    downstream = np.array([draw(st.sampled_from([-1, *range(i + 1, min(i + 6, n))])) for i in range(n)])
    area = np.array(draw(st.lists(st.floats(0.1, 9), min_size=n, max_size=n)))
    for i, below in enumerate(downstream):
        if below >= 0:
            area[below] += area[i]
    return downstream, area, np.array(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=12)))


@given(gauged_forests(), st.integers(1, 4), st.sampled_from(["number", "area"]))
def test_no_fold_holds_a_gauge_that_is_nested_with_one_of_another(forest, n_folds, balance) -> None:
    downstream, area, reach = forest
    found = nest(downstream, area, reach)
    n_folds = min(n_folds, found.tree.max() + 1)
    fold = folds(found.tree, found.incremental_area, n_folds, balance)
    assert set(fold.tolist()) == set(range(n_folds))
    for gauge, start in enumerate(reach.tolist()):
        path, i = {start}, start
        while downstream[i] >= 0:
            i = int(downstream[i])
            path.add(i)
        for other, place in enumerate(reach.tolist()):
            if place in path:
                assert fold[other] == fold[gauge]
    roots = found.below < 0
    shared = np.array([np.sum(reach[roots] == r) for r in reach[roots]])
    assert (shared == 1).all()
    np.testing.assert_allclose(found.incremental_area.sum(), area[reach[roots]].sum())


def test_folds_are_balanced_by_number_or_by_area() -> None:
    tree, area = np.array([0, 0, 0, 1, 2, 3]), np.array([1.0, 1.0, 1.0, 50.0, 20.0, 20.0])
    by_number = folds(tree, area, 2)
    assert by_number.tolist() == [0, 0, 0, 1, 1, 1]
    by_area = folds(tree, area, 2, "area")
    assert [area[by_area == k].sum() for k in (0, 1)] == [50.0, 43.0]


def test_more_folds_than_trees_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"3 asked for, expected 1 to 2: .*nested gauges must stay.*Ask for fewer"):
        folds(np.array([0, 0, 1]), np.ones(3), 3)


def test_ties_in_number_go_by_the_larger_area_first() -> None:
    """Single gauges: the largest area is dealt first, to the first fold; a flipped sign would deal it last."""
    area = np.array([1.0, 2.0, 9.0])
    assert folds(np.arange(3), area, 3).tolist() == [2, 1, 0]
    assert folds(np.array([0, 1, 1, 2]), np.ones(4), 3, "area").tolist() == [1, 0, 0, 2]
    # Equal areas, more gauges first: trees of one, three and two gauges that drain 6 each.
    tree, equal = np.array([0, 1, 1, 1, 2, 2]), np.array([6.0, 2.0, 2.0, 2.0, 3.0, 3.0])
    assert folds(tree, equal, 3, "area").tolist() == [2, 0, 0, 0, 1, 1]


def test_folds_with_as_many_gauges_are_told_apart_by_what_they_drain() -> None:
    """After 9 and 8 both folds hold one gauge; 7 goes to the fold that drains less, then 1 to the other."""
    fold = folds(np.arange(4), np.array([9.0, 8.0, 7.0, 1.0]), 2)
    assert fold.tolist() == [0, 1, 1, 0]
    area = np.array([9.0, 8.0, 7.0, 1.0, 0.5, 0.4])
    fold = folds(np.arange(6), area, 2)
    assert fold.tolist() == [0, 1, 1, 0, 0, 1]
