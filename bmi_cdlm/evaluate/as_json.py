"""Scores as JSON, for other programs: what is not defined is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bmi_cdlm.evaluate.evaluation import GaugeResult
from bmi_cdlm.evaluate.summary import compare, summarise
from bmi_cdlm.evaluate.tables import COMPARED, OF_ENSEMBLES, PER_GROUP


def scores_as_json(results: Sequence[GaugeResult], groups: Mapping[str, Sequence[str]]) -> str:
    """Scores by gauge, medians with their bootstrap interval by group, and, beside another model, its scores and the
    median of the difference.
    """
    own = {one.gauge_id: one.scores for one in results}
    found: dict[str, Any] = {
        "gauges": {one.gauge_id: {"name": one.name, "area_km2": one.area, **one.scores} for one in results},
        "groups": {},
    }
    for row in summarise(own, (*PER_GROUP, *OF_ENSEMBLES), groups):
        found["groups"].setdefault(row.group, {})[row.score] = row.middle._asdict()
    others = {one.gauge_id: one.against[1] for one in results if one.against is not None}
    if others:
        found["against"] = others
        shared = [gauge for gauge in own if gauge in others]
        differences = compare(own, others, COMPARED, shared)
        found["difference"] = {name: one._asdict() for name, one in differences.items()}
    return json.dumps(_defined(found), indent=1, allow_nan=False)


def _defined(value: Any) -> Any:
    """The same with null for what is not finite, and plain numbers."""
    if isinstance(value, Mapping):
        return {str(key): _defined(one) for key, one in value.items()}
    if isinstance(value, str | bool) or value is None:
        return value
    if math.isfinite(value):
        return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)
    return None
