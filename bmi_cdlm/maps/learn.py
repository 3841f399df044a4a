"""Regressions fitted and scored on gauges that they never saw; what was learned once is not learned again."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.maps.basins import Basins
from bmi_cdlm.maps.config import ModelName, SignaturesConfig, Target
from bmi_cdlm.maps.models import make_model, search
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.version import __version__

ALL = "all"
SITE, FOLD, REGION, NAIVE = "leave-one-site-out", "leave-fold-out", "leave-region-out", "random split (leaks)"


class Split(NamedTuple):
    """Gauges to fit, and those to predict, bool[gauge] each; design and name of it."""

    design: str
    name: str
    fitted: np.ndarray
    held_out: np.ndarray


class Learned(NamedTuple):
    """What a regression came to in a split: its settings, and what it predicts for those held out, by gauge id."""

    settings: dict[str, Any]
    predicted: dict[str, float]


class Task(NamedTuple):
    """A regression to search, fit and ask; all arrays are those of its split."""

    model: ModelName
    target: Target
    x: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    asked: np.ndarray
    n_search: int
    inner_folds: int
    seed: int

    @property
    def key(self) -> str:
        """Whatever the result depends on."""
        digest = hashlib.sha256()
        for array in (self.x, self.y, self.groups, self.asked):
            digest.update(f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
        own = [__version__, load("sklearn").__version__, self.model, self.target, self.n_search, self.inner_folds]
        return hashlib.sha256(json.dumps([*own, self.seed, digest.hexdigest()]).encode()).hexdigest()

    def settings(self) -> dict[str, Any]:
        """Those that the search finds best; none but the typical ones without a search."""
        if not self.n_search:
            return {}
        return search(
            self.model, self.target, self.x, self.y, self.groups, self.n_search, self.inner_folds, self.seed
        )


def make_splits(basins: Basins, config: SignaturesConfig) -> list[Split]:
    """All splits: single gauges, folds of independent basins, regions, at random, and one that holds nothing out.

    Of folds and regions nothing that is nested with a gauge held out is fitted; of the random split that may be.
    """
    usable = basins.usable
    nothing = np.zeros(usable.size, bool)
    splits = [Split(ALL, ALL, usable, nothing)]
    gone = basins.above if config.nested == "upstream" else basins.nested
    if config.leave == "site":
        for k in np.flatnonzero(usable):
            out = nothing.copy()
            out[k] = True
            splits.append(Split(SITE, basins.ids[k], usable & ~gone[k] & ~out, out))
    groups = {FOLD: basins.fold, NAIVE: _random(usable, config)}
    if config.regions:
        groups[REGION] = _regions(basins, config)
    for design, group in groups.items():
        for one in range(config.folds) if design == FOLD else np.unique(group[usable]):
            out = usable & (group == one)
            fitted = usable & ~out
            if design != NAIVE:
                fitted &= ~basins.nested[group == one].any(axis=0)
            splits.append(Split(design, f"{one}", fitted, out))
    for split in splits:
        if split.fitted.sum() < max(2, config.inner_folds if config.search else 2):
            raise ConfigError(
                f"signatures: {split.design} {split.name} leaves {split.fitted.sum()} gauges to fit. Ask for fewer "
                "folds or regions, or give more gauges."
            )
    return splits


def _random(usable: np.ndarray, config: SignaturesConfig) -> np.ndarray:
    group = np.full(usable.size, -1)
    group[usable] = np.random.default_rng(config.seed).permutation(np.arange(usable.sum()) % config.folds)
    return group


def _regions(basins: Basins, config: SignaturesConfig) -> np.ndarray:
    """Clusters of the centres of basins, int64[gauge]."""
    clusters = load("sklearn.cluster").KMeans(config.regions, n_init=10, random_state=config.seed)
    group = np.full(basins.usable.size, -1)
    group[basins.usable] = clusters.fit_predict(basins.place[basins.usable])
    return group


def task_of(basins: Basins, config: SignaturesConfig, split: Split, target: Target, model: ModelName) -> Task:
    """The task of a regression in a split."""
    fitted = split.fitted
    return Task(
        model, target, basins.means[fitted], basins.targets[target][fitted], basins.tree[fitted],
        basins.means[split.held_out], config.search, config.inner_folds, config.seed,
    )


def fit(task: Task, settings: dict[str, Any]) -> Any:
    """The regression with some settings, fitted."""
    return make_model(task.model, task.target, settings, task.seed).fit(task.x, task.y)


def _do(task: Task) -> tuple[dict[str, Any], list[float]]:
    settings = task.settings()
    asked = fit(task, settings).predict(task.asked).tolist() if task.asked.size else []
    return settings, asked


Results = dict[tuple[Target, ModelName, str, str], Learned]
"""By target, regression, design and name of the split."""


def learn(
    basins: Basins, config: SignaturesConfig, splits: Sequence[Split], tell: Callable[[str], None]
) -> Results:
    """Search and fit every regression in every split; results are kept beside the maps as they come."""
    jobs = {
        (target, model, split.design, split.name): (task_of(basins, config, split, target, model), split)
        for target in config.targets for model in config.models for split in splits
    }
    path = config.output.with_suffix(".jsonl")
    held = _held(path)
    keys = {job: task.key for job, (task, _) in jobs.items()}
    todo = {job: task for job, (task, _) in jobs.items() if keys[job] not in held}
    if len(todo) < len(jobs):
        tell(f"{len(jobs) - len(todo)} of {len(jobs)} regressions were learned before")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" if path.stat().st_size else "")  # a kill may have cut the last line
        for n, (job, (settings, asked)) in enumerate(_done(todo, config.processes), 1):
            held[keys[job]] = settings, asked
            file.write(json.dumps([keys[job], settings, asked]) + "\n")
            file.flush()
            if n % 50 == 0 or n == len(todo):
                tell(f"{n} of {len(todo)} regressions")
    found, ids = {}, np.array(basins.ids)
    for job, (_, split) in jobs.items():
        settings, asked = held[keys[job]]
        found[job] = Learned(settings, dict(zip(ids[split.held_out].tolist(), asked, strict=True)))
    return found


def _held(path: Path) -> dict[str, tuple[dict[str, Any], list[float]]]:
    """Results by key that a file holds; a line that a kill has cut is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            key, settings, asked = json.loads(line)
            found[str(key)] = dict(settings), [float(one) for one in asked]
        except (ValueError, TypeError):
            continue
    return found


def _done(todo: dict[Any, Task], processes: int) -> Iterator[tuple[Any, tuple[dict[str, Any], list[float]]]]:
    if processes == 1:
        yield from ((job, _do(task)) for job, task in todo.items())
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_do, task): job for job, task in todo.items()}
        yield from ((futures[future], future.result()) for future in as_completed(futures))


def r2(predicted: np.ndarray, observed: np.ndarray) -> float:
    """1 - sum (p - o)^2 / sum (o - mean o)^2, of both in their own units."""
    return 1 - float(((predicted - observed) ** 2).sum() / ((observed - observed.mean()) ** 2).sum())
