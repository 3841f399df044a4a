"""Trainings of one parameter set, made of the keys of another training: for all its gauges, or for each by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdlm_training.terms import OF_GAUGES, OF_SAMPLES

UNIFORM: dict[str, Any] = {
    "mapping": "uniform", "cell_attributes": [], "reach_attributes": [], "varying": [], "pet_factor": False,
    "dropout": 0.0, "frozen": [], "start_from": None, "pretrain": None, "regularisation": None, "restarts": 1,
    "posterior": "none",
}
"""What one parameter set has not: a network, its weights, and what holds those of a generator or a field."""
OF_ONE_GAUGE: dict[str, Any] = {
    **UNIFORM, "optimizer": "lbfgs", "learning_rate": 1.0, "precision": "float64", "device": "cpu", "updates": 1,
    "gauges_per_update": None, "pairs_per_update": None, "gauge_weights": "equal",
}
"""What a fit to one gauge changes beside."""
WITHOUT_EFFECT = (
    "hidden", "lstm_hidden", "resnet", "pet_hidden", "pet_limits", "pet_kind", "epochs", "patience", "select_by",
    "windows_per_update", "final_learning_rate", "weight_decay", "clip",
)
"""Keys of networks, updates and epochs, of which a fit to one gauge has none."""
AS_ONE = {"nse_batch": "nse", "rmse_comb": "rmse_log"}
"""Terms over all samples of an update, and what each is where these are of one gauge."""


def loss_of_one_gauge(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The loss of a training at a single gauge, as keys of `loss`.

    Terms over all samples are those of the gauge. Left out are errors that are learned beside parameters (`gaussian`),
    and what is no discharge of that gauge: maps, which may have seen others, and the pull towards a checkpoint. Where
    nothing is left it is NSE.
    """
    loss = {"nse": 1.0, **(given or {})}
    kept = {name: loss[name] for name in OF_GAUGES if loss.get(name) and name != "gaussian"}
    for name in OF_SAMPLES:
        if loss.get(name):
            kept[AS_ONE[name]] = kept.get(AS_ONE[name], 0.0) + loss[name]
    if "events" in kept and "flood_quantile" in loss:
        kept["flood_quantile"] = loss["flood_quantile"]
    return {"nse": 0.0, **(kept or {"nse": 1.0})}


def training_of_one_gauge(training: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a training for fits to single gauges: its period, ranges and starts, the loss at one gauge."""
    found = {**training, **OF_ONE_GAUGE, "loss": loss_of_one_gauge(training.get("loss"))}
    return {key: value for key, value in found.items() if value is not None and key not in WITHOUT_EFFECT}
