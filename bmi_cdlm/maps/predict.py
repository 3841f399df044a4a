"""From fitted regressions to maps, and what tells whether to trust them: importance, aggregation, range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.basins import basin_means
from bmi_cdlm.evaluate.summary import CLOSE
from bmi_cdlm.maps.basins import Basins
from bmi_cdlm.maps.config import ModelName, SignaturesConfig, Target
from bmi_cdlm.maps.learn import ALL, FOLD, SITE, Results, Split, fit, r2, task_of
from bmi_cdlm.prepare.packages import load

BLOCK = 100_000
"""Cells that are predicted at once."""
PERMUTATIONS = 20


class TargetMap(NamedTuple):
    """Maps of one signature.

    model : the regression; scores : R2 by design and regression; whole : float32[cell], learned from all usable gauges;
    folds : float32[fold, cell], each learned from gauges of the other folds; at_gauges : float64[gauge], predicted by
    the regression that did not see the gauge (NaN where not usable); impurity, permutation : float64[predictor], NaN
    where the regression has none; aggregated, aggregated_unseen : float64[gauge], the map, or that of the gauge's fold,
    averaged above each gauge.
    """

    model: ModelName
    scores: dict[str, dict[ModelName, float]]
    whole: np.ndarray
    folds: np.ndarray
    at_gauges: np.ndarray
    impurity: np.ndarray
    permutation: np.ndarray
    aggregated: np.ndarray
    aggregated_unseen: np.ndarray


class Aggregation(NamedTuple):
    """How means of a map above gauges compare with records: R2, share of basins with a bias within CLOSE, rank
    correlation of bias and area with its p-value."""

    r2: float
    close: float
    trend: float
    p: float


def predicted_at(
    basins: Basins, splits: Sequence[Split], results: Results, target: Target, model: ModelName, design: str
) -> np.ndarray:
    """What a regression predicts for the gauges that a design holds out, float64[gauge]."""
    found = np.full(len(basins.ids), np.nan)
    for split in (one for one in splits if one.design == design):
        for gauge, value in results[target, model, design, split.name].predicted.items():
            found[basins.ids.index(gauge)] = value
    return found


def score_models(
    basins: Basins, splits: Sequence[Split], results: Results, target: Target, models: Sequence[ModelName]
) -> dict[str, dict[ModelName, float]]:
    """R2 by design and regression."""
    usable, observed = basins.usable, basins.targets[target][basins.usable]
    return {
        design: {
            model: r2(predicted_at(basins, splits, results, target, model, design)[usable], observed)
            for model in models
        }
        for design in dict.fromkeys(split.design for split in splits) if design != ALL
    }


def make_map(
    basins: Basins, config: SignaturesConfig, splits: Sequence[Split], results: Results, target: Target,
    tell: Callable[[str], None],
) -> TargetMap:
    """Choose the best regression of a target, fit it to all gauges and to those outside each fold, and map it."""
    scored = score_models(basins, splits, results, target, config.models)
    design = SITE if config.leave == "site" else FOLD
    model = max(config.models, key=lambda name: scored[design][name])

    def fitted(split: Split) -> Any:
        return fit(
            task_of(basins, config, split, target, model), results[target, model, split.design, split.name].settings
        )

    whole = fitted(next(split for split in splits if split.design == ALL))
    of_folds = [fitted(split) for split in splits if split.design == FOLD]
    tell(f"mapping {target} by {model} (R2 {scored[design][model]:.3f} at gauges that it never saw)")
    cells = _predict(whole, basins.cells)
    folds = np.stack([_predict(one, basins.cells) for one in of_folds])
    averaged, unseen = (
        basin_means(basins.domain, np.atleast_2d(one).T.astype(np.float64)) for one in (cells, folds)
    )
    held_out = [split.held_out for split in splits if split.design == FOLD]
    return TargetMap(
        model, scored, cells, folds, predicted_at(basins, splits, results, target, model, design),
        _impurity(whole, len(basins.names)), _permutation(basins, config, target, of_folds, held_out),
        averaged[:, 0], unseen[np.arange(basins.fold.size), basins.fold],
    )


def _predict(model: Any, cells: np.ndarray) -> np.ndarray:
    blocks = [model.predict(cells[a : a + BLOCK]) for a in range(0, cells.shape[0], BLOCK)]
    return np.concatenate(blocks).astype(np.float32)


def _impurity(model: Any, n: int) -> np.ndarray:
    """Share of each predictor in what the splits of trees explain; NaN where there are no trees."""
    last = model.regressor_.named_steps["model"]
    return np.asarray(getattr(last, "feature_importances_", np.full(n, np.nan)), np.float64)


def _permutation(
    basins: Basins, config: SignaturesConfig, target: Target, models: Sequence[Any], held_out: Sequence[np.ndarray]
) -> np.ndarray:
    """Loss of R2 at gauges that the regressions of the folds never saw, where a predictor is dealt out anew."""
    draw, observed = np.random.default_rng(config.seed), basins.targets[target]
    parts = [(m, out) for m, out in zip(models, held_out, strict=True) if out.any()]

    def score(means: np.ndarray) -> float:
        found = np.concatenate([m.predict(means[out]) for m, out in parts])
        return r2(found, np.concatenate([observed[out] for _, out in parts]))

    best, losses = score(basins.means), np.zeros(len(basins.names))
    places = np.flatnonzero(basins.usable)
    for k in range(losses.size):
        for _ in range(PERMUTATIONS):
            means = basins.means.copy()
            means[places, k] = means[draw.permutation(places), k]
            losses[k] += (best - score(means)) / PERMUTATIONS
    return losses


def out_of_range(basins: Basins) -> np.ndarray:
    """Predictors of each cell that lie outside the range of the basins learned from, int8[cell]."""
    own = basins.means[basins.usable]
    outside = (basins.cells < own.min(axis=0)) | (basins.cells > own.max(axis=0))
    return outside.sum(axis=1).astype(np.int8)


def bias(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Relative error [%]."""
    return 100 * (predicted - observed) / observed


def aggregate(averaged: np.ndarray, observed: np.ndarray, area: np.ndarray) -> Aggregation:
    """Compare means of a map above gauges with their records, float64[gauge] each."""
    errors = bias(averaged, observed)
    found = load("scipy.stats").spearmanr(errors, area)
    return Aggregation(
        r2(averaged, observed), float((np.abs(errors) <= CLOSE).mean()), float(found.statistic), float(found.pvalue)
    )
