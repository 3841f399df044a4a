"""Batches of pairs: gauges drawn at random, each with a window of its own, as trainers of many basins do.

Pairs whose sub-networks share no cell run together, each cell in the steps of its own window, if windows are of one
length: where the start is learned, all begin there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.kernels.workers import Workers
from cdlm_training.dataset import Dataset, Window
from cdlm_training.simulate import Part, make_part

COVERAGE = 0.99
"""Chance with which an epoch of `updates: cover` draws a given step of a given gauge."""


class Pair(NamedTuple):
    """A training gauge, by its place among them, and its window."""

    gauge: int
    window: Window


def draw_pairs(dataset: Dataset, random: np.random.Generator, count: int) -> list[Pair]:
    """Draw pairs of a gauge and a window, with replacement."""
    gauges = random.integers(0, dataset.gauges.size, count)
    return [Pair(int(g), w) for g, w in zip(gauges, dataset.windows(random, count), strict=True)]


def make_batch(dataset: Dataset, pairs: list[Pair], workers: Workers) -> list[tuple[Window, Part]]:
    """Put pairs together in few independent runs, as their cells, reaches and lengths of windows allow."""
    downstream, links = dataset.domain.reaches.downstream, dataset.domain.links
    groups: list[list[tuple[Pair, np.ndarray, np.ndarray]]] = []
    taken: list[tuple[int, np.ndarray, np.ndarray]] = []
    for pair in pairs:
        lo, hi = upstream_of(downstream, int(dataset.domain.gauges.reach[dataset.gauges[pair.gauge]]))
        cells = np.unique(links.cell[links.first[lo] : links.first[hi]])
        own = pair.window.steps.size
        free = (k for k, (n, r, c) in enumerate(taken) if n == own and not r[lo:hi].any() and not c[cells].any())
        at = next(free, len(groups))
        if at == len(groups):
            groups.append([])
            taken.append((own, np.zeros(downstream.size, bool), np.zeros(dataset.domain.n_cells, bool)))
        _, of_reach, of_cell = taken[at]
        of_reach[lo:hi] = of_cell[cells] = True
        groups[at].append((pair, np.arange(lo, hi), cells))
    stands_for = dataset.gauges.size / len(pairs)
    return [_run_together(dataset, group, workers, stands_for) for group in groups]


def _run_together(
    dataset: Dataset, group: list[tuple[Pair, np.ndarray, np.ndarray]], workers: Workers, stands_for: float
) -> tuple[Window, Part]:
    """One run of pairs that share no cell: steps [time, cell], targets [time, gauge]."""
    gauges = np.array([pair.gauge for pair, _, _ in group])
    order = np.argsort(gauges)
    part = make_part(
        dataset, np.sort(np.concatenate([reaches for _, reaches, _ in group])), gauges[order], workers, stands_for
    )
    window = group[0][0].window
    steps = np.zeros((window.steps.size, part.cells.size), np.int64)
    for pair, _, cells in group:
        steps[:, np.searchsorted(part.cells, cells)] = pair.window.steps[:, None]
    at_gauges = np.stack([group[k][0].window.steps for k in order], axis=1)
    return Window(steps, window.counted, at_gauges), part


def updates_to_cover(pairs: int, window: int, gauges: int, steps: int) -> int:
    """Updates after which a step of a gauge has been drawn with a chance of 99 % [Feng et al. 2022].

    pairs : per update, of `window` counted steps each; steps : of the training period, less the warm-up.
    """
    share = pairs * window / (gauges * steps)
    return 1 if share >= 1.0 else max(1, math.ceil(math.log(1.0 - COVERAGE) / math.log1p(-share)))
