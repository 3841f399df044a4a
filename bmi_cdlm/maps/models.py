"""Regressions from attributes of basins to signatures, of scikit-learn, and the settings that a search tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.maps.config import ModelName, Target
from bmi_cdlm.prepare.packages import load

SEARCH_TREES, TREES = 50, 300
"""Trees of a forest while settings are searched, and after. More trees are never worse [Probst and Boulesteix 2018], so
their number is none of the settings."""


class Model(NamedTuple):
    """A regression: module and class of scikit-learn, typical settings, those that a search draws (a list, or a
    distribution of scipy.stats with its arguments), whether predictors are standardised for it."""

    module: str
    kind: str
    typical: Mapping[str, Any]
    drawn: Mapping[str, Any]
    scaled: bool


MODELS: dict[ModelName, Model] = {
    "random_forest": Model(
        "sklearn.ensemble", "RandomForestRegressor", {"n_estimators": TREES, "max_features": 0.5},
        {"max_depth": [3, 5, 8, None], "min_samples_leaf": ("randint", 1, 11),
         "max_features": ["sqrt", 0.33, 0.5, 0.67, 1.0]}, False,
    ),
    "gradient_boosting": Model(
        "sklearn.ensemble", "GradientBoostingRegressor",
        {"n_estimators": 200, "learning_rate": 0.05, "max_depth": 3, "subsample": 0.7},
        {"n_estimators": [100, 200, 400], "learning_rate": ("loguniform", 0.01, 0.2), "max_depth": ("randint", 2, 7),
         "subsample": [0.5, 0.7, 1.0]}, False,
    ),
    "support_vectors": Model(
        "sklearn.svm", "SVR", {"C": 10.0, "gamma": 0.05, "epsilon": 0.1},
        {"C": ("loguniform", 0.1, 1000.0), "gamma": ("loguniform", 1e-3, 1.0), "epsilon": ("uniform", 0.01, 0.19)},
        True,
    ),
    "k_nearest": Model(
        "sklearn.neighbors", "KNeighborsRegressor", {"n_neighbors": 4, "weights": "distance"},
        {"n_neighbors": ("randint", 2, 21), "weights": ["uniform", "distance"]}, True,
    ),
}
Transform = Callable[[np.ndarray], np.ndarray]


def root(values: np.ndarray) -> np.ndarray:
    """The root of a depth, which makes its errors alike over wet and dry basins."""
    return np.sqrt(values)


def square(values: np.ndarray) -> np.ndarray:
    """The depth of a root; no depth is below 0."""
    return np.square(np.maximum(values, 0.0))


def same(values: np.ndarray) -> np.ndarray:
    """The values themselves."""
    return values


def bounded(values: np.ndarray) -> np.ndarray:
    """An index, which lies from 0 to 1, also where a regression goes beyond what it saw."""
    return np.clip(values, 0.0, 1.0)


TRANSFORMS: dict[Target, tuple[Transform, Transform]] = {
    "mean_runoff": (root, square), "baseflow_index": (same, bounded),
}


def make_model(name: ModelName, target: Target, settings: Mapping[str, Any], seed: int) -> Any:
    """An unfitted regression of a target; settings : those that differ from the typical ones.

    The target is transformed and standardised by the gauges that the regression is fitted to.
    """
    model = MODELS[name]
    pipeline, processing, compose = (load(f"sklearn.{one}") for one in ("pipeline", "preprocessing", "compose"))
    forward, back = TRANSFORMS[target]
    given = {**model.typical, **settings}
    if "random_state" in (estimator := getattr(load(model.module), model.kind))().get_params():
        given["random_state"] = seed
    scale = processing.StandardScaler() if model.scaled else "passthrough"
    of_target = pipeline.make_pipeline(
        processing.FunctionTransformer(forward, back, check_inverse=False), processing.StandardScaler()
    )
    return compose.TransformedTargetRegressor(
        pipeline.Pipeline([("scale", scale), ("model", estimator(**given))]), transformer=of_target
    )


def search(
    name: ModelName, target: Target, x: np.ndarray, y: np.ndarray, groups: np.ndarray, n: int, folds: int, seed: int
) -> dict[str, Any]:
    """The settings of the least squared error over folds, of n drawn at random, in the units of the target.

    x : float64[gauge, predictor]; y : float64[gauge]; groups : int64[gauge], which share a fold.
    """
    selection, stats = load("sklearn.model_selection"), load("scipy.stats")
    few = int(y.size * (1 - 1 / folds)) // 2
    space = {
        f"regressor__model__{key}": getattr(stats, values[0])(*values[1:]) if isinstance(values, tuple) else values
        for key, values in MODELS[name].drawn.items()
    }
    if name == "k_nearest":
        space["regressor__model__n_neighbors"] = stats.randint(2, max(3, min(21, few + 1)))
    trees = {"n_estimators": SEARCH_TREES} if name == "random_forest" else {}
    found = selection.RandomizedSearchCV(
        make_model(name, target, trees, seed), space, n_iter=n, scoring="neg_mean_squared_error", refit=False,
        cv=selection.GroupKFold(min(folds, np.unique(groups).size)), random_state=seed,
    )
    found.fit(x, y, groups=groups)
    return {key.rsplit("__", 1)[1]: _plain(value) for key, value in found.best_params_.items()}


def _plain(value: Any) -> Any:
    """A setting as JSON holds it."""
    return value.item() if isinstance(value, np.generic) else value
