"""Validation by the runtime itself: a checkpoint is written, loaded and run in float64."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.generator.checkpoint import STARTS_AT, save_checkpoint
from bmi_cdlm.names.calendars import date_text
from cdlm_training.scores import Scores

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer


def _or_none(value: float) -> float | None:
    """The score of a gauge, None where it is undefined: JSON has no NaN."""
    return None if np.isnan(value) else value


def write_checkpoint(path: Path, trainer: Trainer, scores: Scores | None) -> None:
    """Write the generator as it is, with the record of its training."""
    config, ids = trainer.config, trainer.data.domain.gauges.id
    save_checkpoint(path, trainer.spec, trainer.generator.tensors(), {
        "gauges": [ids[i] for i in trainer.data.gauges],
        "periods": {name: [date_text(t) for t in period] for name, period in (
            ("train", config.train), ("validation", config.validation),
        )},
        "scores": {} if scores is None else {
            g: {"nse": _or_none(n), "kge": _or_none(k)} for g, (n, k) in scores.gauges.items()
        },
        "fingerprints": trainer.fingerprints,
        "licence": config.licence,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "epoch": trainer.epoch,
        "training": config.model_dump(mode="json", exclude={"output"}),
        **({STARTS_AT: date_text(trainer.run.start)} if trainer.spec.has_start else {}),
    })
