"""The LSTM of a generator as the compiled loops take it: standardisation folded in, what attributes add summed once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.generator import LANES, dense, padded
from bmi_cdlm.generator.specification import FORCING_FEATURES, GeneratorSpec, LstmSpec, standardise
from bmi_cdlm.kernels.groups import LstmNetwork


def read_lstm_attributes(spec: GeneratorSpec, path: Path, domain: Domain) -> np.ndarray:
    """Raw cell attributes of the LSTM, float64[cell, attribute]; without an LSTM there are none."""
    attributes = spec.lstm.attributes if spec.lstm is not None else ()
    names, units = [a.name for a in attributes], [a.units for a in attributes]
    return read_attributes(path, domain, "cell", names, units).values


def lstm_network(spec: GeneratorSpec, tensors: Mapping[str, np.ndarray], attributes: np.ndarray) -> LstmNetwork | None:
    """Return the LSTM as the compiled loops take it, or None; attributes : of `read_lstm_attributes`."""
    lstm = spec.lstm
    if lstm is None:
        return None
    own = {name: np.asarray(tensors[f"lstm.{name}"], np.float64) for name in lstm.shapes()}
    n, size = len(lstm.features), -(-lstm.hidden // LANES) * LANES
    first = own["input.weight"]
    static = dense(first[:, n:], own["input.bias"], standardise(lstm.attributes, attributes).T)
    forcing_weight = np.zeros((size, len(FORCING_FEATURES)))
    for k, feature in enumerate(lstm.features):
        scaled = first[:, k] / feature.std
        static -= (scaled * feature.mean)[:, None]
        forcing_weight[: lstm.hidden, FORCING_FEATURES.index(feature.name)] = scaled
    bounds = [_bounds(lstm, k) for k in range(len(lstm.targets)) for _ in range(lstm.targets[k].components)]
    low, high, logarithmic = (np.array(values) for values in zip(*bounds, strict=True))
    return LstmNetwork(
        static=padded(static, size), forcing_weight=forcing_weight,
        half_rain=next((f.half for f in lstm.features if f.half), 0.0),
        gate_weight=_gates(own["gates.weight"], size), recurrent_weight=_gates(own["recurrent.weight"], size),
        gate_bias=_gates(own["gates.bias"], size), last_weight=_wide(own["last.weight"], size),
        last_bias=own["last.bias"].copy(), low=low, span=high - low, logarithmic=logarithmic,
    )


def _bounds(lstm: LstmSpec, k: int) -> tuple[float, float, bool]:
    target = lstm.targets[k]
    if target.scale == "log":
        return math.log(target.low), math.log(target.high), True
    return target.low, target.high, False


def _gates(values: np.ndarray, size: int) -> np.ndarray:
    """Rows of four gates, each padded to `size` units; columns too, where there are any."""
    parts = [padded(part, size) for part in np.split(values, 4)]
    return _wide(np.concatenate(parts), size) if values.ndim > 1 else np.concatenate(parts)


def _wide(values: np.ndarray, size: int) -> np.ndarray:
    return np.ascontiguousarray(padded(values.T, size).T)
