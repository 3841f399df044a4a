"""Which gauge lies upstream of which, what each adds, and folds that never split nested gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ConfigError

if TYPE_CHECKING:
    from bmi_cdlm.domain.domain import Domain


class Hierarchy(NamedTuple):
    """The nesting of gauges.

    below : int64[gauge], the first gauge met downstream, -1 where there is none; n_above : int64[gauge], how many
    lie upstream; incremental_area : float64[gauge], what drains to a gauge through no other [km2]; tree :
    int64[gauge], number of the group of nested gauges, from 0.
    """

    below: np.ndarray
    n_above: np.ndarray
    incremental_area: np.ndarray
    tree: np.ndarray


def nest(downstream: np.ndarray, upstream_area: np.ndarray, gauge_reach: np.ndarray) -> Hierarchy:
    """Find the nesting of gauges on a river network.

    Parameters
    ----------
    downstream : int64[reach]
        Reach below, -1 at an outlet; larger than the own index.
    upstream_area : float64[reach]
        Area that drains through each reach [km2].
    gauge_reach : int64[gauge]
        Gauges on one reach follow each other in their order, the last one lowest.
    """
    n = gauge_reach.size
    on: dict[int, list[int]] = {}
    for gauge, reach in enumerate(gauge_reach.tolist()):
        on.setdefault(reach, []).append(gauge)
    below = np.full(n, -1, np.int64)
    for reach, gauges in on.items():
        down = int(downstream[reach])
        while down >= 0 and down not in on:
            down = int(downstream[down])
        below[gauges] = [*gauges[1:], on[down][0] if down >= 0 else -1]
    area = np.asarray(upstream_area, np.float64)[gauge_reach]
    increment, n_above, tree = area.copy(), np.zeros(n, np.int64), np.full(n, -1, np.int64)
    order = sorted(range(n), key=lambda g: (int(gauge_reach[g]), g))
    for gauge in order:
        if below[gauge] >= 0:
            increment[below[gauge]] -= area[gauge]
            n_above[below[gauge]] += 1 + n_above[gauge]
    roots = [gauge for gauge in range(n) if below[gauge] < 0]
    tree[roots] = np.arange(len(roots))
    for gauge in reversed(order):
        if below[gauge] >= 0:
            tree[gauge] = tree[below[gauge]]
    return Hierarchy(below, n_above, increment, tree)


def folds(
    tree: np.ndarray, area: np.ndarray, n_folds: int, balance: Literal["number", "area"] = "number"
) -> np.ndarray:
    """Deal gauges out to folds; nested gauges stay together, so that no fold is upstream of another.

    Parameters
    ----------
    tree : int64[gauge]
        Groups that must not be split: `Hierarchy.tree`.
    area : float64[gauge]
        Incremental areas [km2].
    n_folds : int
    balance : 'number' or 'area'
        What is to be about equal in the folds: gauges, or the area they drain.

    Returns
    -------
    int64[gauge]
        Fold of each gauge, from 0. The largest tree goes to the emptiest fold first, ties in the order given: the
        same gauges, the same folds.

    Raises
    ------
    ConfigError
        Fewer independent trees than folds.
    """
    trees, member = np.unique(tree, return_inverse=True)
    if not 1 <= n_folds <= trees.size:
        raise ConfigError(
            f"folds: {n_folds} asked for, expected 1 to {trees.size}: the gauges form {trees.size} independent trees, "
            "and nested gauges must stay in one fold. Ask for fewer folds."
        )
    number = np.bincount(member).astype(np.float64)
    drained = np.bincount(member, weights=area)
    # The other measure breaks ties, too small to outweigh one gauge or one tree.
    first, second = (number, drained) if balance == "number" else (drained, number)
    load, spare = np.zeros(n_folds), np.zeros(n_folds)
    fold = np.empty(trees.size, np.int64)
    for one in np.lexsort((np.arange(trees.size), -second, -first)).tolist():
        place = int(np.lexsort((np.arange(n_folds), spare, load))[0])
        fold[one] = place
        load[place] += first[one]
        spare[place] += second[one]
    return fold[member]


def fold_gauges(domain: Domain, n_folds: int) -> np.ndarray:
    """Fold of every gauge, int64[gauge]; ConfigError where there are fewer independent basins than folds."""
    hierarchy = nest(domain.reaches.downstream, domain.reaches.upstream_area, domain.gauges.reach)
    return folds(hierarchy.tree, hierarchy.incremental_area, n_folds)
