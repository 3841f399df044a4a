"""Scores over many gauges: medians by group with bootstrap intervals, and the paired difference of two models."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.files.csv_table import read_csv, rows_by
from bmi_cdlm.names.errors import ObservationError, nearest, shown
from bmi_cdlm.names.writing import replacing

DRAWS, LEVEL, SEED = 2000, 0.95, 0
"""Of the bootstrap."""
AREA_CLASSES = (500.0, 1000.0, 5000.0, 10000.0)
"""Limits of the classes of area [km2]."""
ALL = "all"
CLOSE = 25.0
"""Of a score in per cent, what still counts as close to 0."""
Scores = Mapping[str, Mapping[str, float]]
"""Scores by gauge and name."""


class Interval(NamedTuple):
    """A median over gauges and the bounds of its bootstrap interval (LEVEL); n : gauges where it is defined."""

    median: float
    low: float
    high: float
    n: int


class Row(NamedTuple):
    """One score in one group of gauges: median with its interval, quartiles, shares of gauges below 0, above 0.5, and
    within CLOSE of 0.
    """

    group: str
    score: str
    middle: Interval
    quartiles: tuple[float, float]
    below_zero: float
    above_half: float
    close: float


def bootstrap(values: np.ndarray, draws: int = DRAWS, seed: int = SEED) -> Interval:
    """Median over gauges with the percentile interval of medians of gauges drawn with replacement.

    values : float64[gauge], NaN where not defined: left out. It tells what another sample of gauges would give; nested
    gauges are not independent, and make it too narrow. NaN without any gauge. Efron and Tibshirani 1993.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return Interval(np.nan, np.nan, np.nan, 0)
    drawn = np.random.default_rng(seed).choice(known, (draws, known.size))
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.median(known)), float(low), float(high), int(known.size))


def column(scores: Scores, name: str, gauges: Sequence[str]) -> np.ndarray:
    """One score of some gauges, float64[gauge]; NaN where there is none."""
    return np.array([scores[g].get(name, np.nan) for g in gauges], np.float64)


def summarise(scores: Scores, names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[Row]:
    """Summarise scores in every group that has a gauge with one."""
    rows = []
    for group, gauges in groups.items():
        for name in names:
            values = column(scores, name, gauges)
            known = values[~np.isnan(values)]
            if known.size:
                low, high = (float(q) for q in np.quantile(known, [0.25, 0.75]))
                rows.append(Row(
                    group, name, bootstrap(values), (low, high), float((known < 0).mean()), float((known > 0.5).mean()),
                    float((np.abs(known) <= CLOSE).mean()),
                ))
    return rows


def compare(ours: Scores, others: Scores, names: Sequence[str], gauges: Sequence[str]) -> dict[str, Interval]:
    """Median over gauges of the paired difference, ours less the other's, by score, where both are defined."""
    return {name: bootstrap(column(ours, name, gauges) - column(others, name, gauges)) for name in names}


def area_class(area: float) -> str:
    """The class of a drainage area [km2]: below 500, to 1,000, to 5,000, to 10,000, above; 'unknown' for NaN."""
    if not area > 0:
        return "area unknown"
    bounds = [f"{limit:g}" for limit in AREA_CLASSES]
    place = int(np.searchsorted(AREA_CLASSES, area, side="right"))
    if place == 0:
        return f"< {bounds[0]} km2"
    return f">= {bounds[-1]} km2" if place == len(bounds) else f"{bounds[place - 1]} to {bounds[place]} km2"


def make_groups(
    areas: Mapping[str, float], regions: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Gauges by group: all; by class of area, smallest first, where there are several; by region, in their order."""
    groups: dict[str, list[str]] = {ALL: list(areas)}
    by_class: dict[str, list[str]] = {}
    for gauge in sorted(areas, key=lambda g: areas[g] if areas[g] > 0 else np.inf):
        by_class.setdefault(area_class(areas[gauge]), []).append(gauge)
    by_region: dict[str, list[str]] = {}
    for gauge in areas if regions is not None else ():
        by_region.setdefault((regions or {})[gauge], []).append(gauge)
    for found in (by_class, dict(sorted(by_region.items()))):
        groups |= found if len(found) > 1 else {}
    return groups


def read_regions(path: Path, gauges: Sequence[str]) -> dict[str, str]:
    """Region of every gauge, from a CSV with the columns `gauge` and `region`; more gauges may be there.

    Raises
    ------
    ObservationError
        No such file, other columns, a gauge that is not there, or stands in two lines.
    """
    table = read_csv(path, ObservationError, "a table of regions in CSV")
    missing = [name for name in ("gauge", "region") if name not in table.headings]
    if missing:
        raise ObservationError(
            f"{path}: has no column '{missing[0]}', expected gauge and region, with commas between them. Found: "
            f"{shown(', '.join(table.headings))}."
        )
    found = {gauge: row["region"] for gauge, row in rows_by(table, "gauge", path, ObservationError).items()}
    for gauge in gauges:
        if not found.get(gauge):
            raise ObservationError(f"{path}: has no region of gauge '{gauge}'.{nearest(gauge, found)} Add a row.")
    return {gauge: found[gauge] for gauge in gauges}


def write_scores(path: Path, scores: Scores, more: Mapping[str, Callable[[str], object]] | None = None) -> None:
    """Write scores as CSV, a row per gauge; more : further columns by heading, functions of the gauge."""
    names = list(next(iter(scores.values()), {}))
    extra = more or {}
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["gauge", *extra, *names])
        for gauge, own in scores.items():
            table.writerow([gauge, *(f(gauge) for f in extra.values()), *(number(own[name]) for name in names)])


def number(value: float) -> str:
    """A number as a table of ours holds it; empty where there is none."""
    return "" if np.isnan(value) else f"{value:.9g}"


class Running(NamedTuple):
    """Median and quartiles of a score over gauges about a value of something else, such as their area."""

    at: float
    median: float
    low: float
    high: float


def running(along: np.ndarray, values: np.ndarray, windows: int = 5) -> list[Running]:
    """Running median and quartiles of values along something, over half-overlapping windows of as many gauges each.

    along, values : float64[gauge]; gauges without a value of either are left out. windows : how many, at least 1.
    """
    known = ~(np.isnan(along) | np.isnan(values))
    order = np.argsort(along[known], kind="stable")
    along, values = along[known][order], values[known][order]
    length = max(1, 2 * along.size // (windows + 1))
    found = []
    for first in np.unique(np.linspace(0, along.size - length, windows).round().astype(int)) if along.size else ():
        own = values[first : first + length]
        low, middle, high = (float(q) for q in np.quantile(own, [0.25, 0.5, 0.75]))
        found.append(Running(float(np.median(along[first : first + length])), middle, low, high))
    return found
