"""What a training writes, which the runtime itself validates in float64: a checkpoint, or a parameter file."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmi_cdlm.generator.checkpoint import STARTS_AT, load_checkpoint, save_checkpoint
from bmi_cdlm.generator.generator import static_parameters
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.parameter_file import read_attribute_of
from bmi_cdlm.version import __version__
from cdlm_training.fields import Fields, parameters_of, read_fields, write_fields
from cdlm_training.scores import Scores
from cdlm_training.window_file import load_windowed, network_file, save_windowed
from cdlm_training.windows import Windowed

ERRORS = "errors"
"""In the record: what loss.gaussian learned of the errors."""

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer


def _or_none(value: float) -> float | None:
    """The score of a gauge, None where it is undefined: JSON has no NaN."""
    return None if np.isnan(value) else value


def write_checkpoint(path: Path, trainer: Trainer, scores: Scores | None) -> None:
    """Write the generator as it is, or the parameters of a field, with the record of its training."""
    record = _record(trainer, scores)
    if trainer.config.gives_file:
        values = parameters_of(trainer.generator, trainer.chain.attributes)
        write_fields(path, values, trainer.run, trainer.data.domain, trainer.config.mapping, {
            "code_version": __version__, **record,
        })
        if isinstance(trainer.generator, Windowed):
            save_windowed(network_file(path), trainer.generator, {"code_version": __version__, **record})
    else:
        save_checkpoint(path, trainer.spec, trainer.generator.tensors(), record)


def _errors(trainer: Trainer) -> dict[str, list[float]]:
    """s0 [m3 s-1] and s1 [1] of every training gauge by id."""
    ids, errors = trainer.data.domain.gauges.id, trainer.generator.errors
    assert errors is not None
    return {ids[g]: values for g, values in zip(trainer.data.gauges, errors.values().T.tolist(), strict=True)}


def copy_written(source: Path, target: Path) -> None:
    """Copy what `write_checkpoint` wrote: a file, or two."""
    for old, new in {source: target, network_file(source): network_file(target)}.items():
        if old.is_file():
            with replacing(new) as temporary:
                shutil.copyfile(old, temporary)


def load_best(trainer: Trainer) -> dict[str, np.ndarray]:
    """Let the trainer have what it wrote to its output; returns the parameters by registry name."""
    output, errors = trainer.config.output, trainer.generator.errors
    if isinstance(trainer.generator, Fields):
        if errors is not None:
            errors.take(np.array([*json.loads(read_attribute_of(output, ERRORS) or "{}").values()]).T)
        return read_fields(output, trainer.generator, trainer.run, trainer.data.domain)
    if isinstance(trainer.generator, Windowed):
        trainer.generator.load(load_windowed(network_file(output)).tensors)
        return parameters_of(trainer.generator, trainer.chain.attributes)
    best = load_checkpoint(output)
    trainer.generator.load(best.tensors)
    if errors is not None:
        errors.take(np.array([*best.record[ERRORS].values()]).T)
    return static_parameters(best.spec, best.tensors, trainer.chain.attributes)


def _record(trainer: Trainer, scores: Scores | None) -> dict[str, Any]:
    config, ids = trainer.config, trainer.data.domain.gauges.id
    return {
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
        **({ERRORS: _errors(trainer)} if trainer.generator.errors is not None else {}),
        **({} if trainer.learned is None else {"pretrained": trainer.learned._asdict()}),
        **({STARTS_AT: date_text(trainer.run.start)} if trainer.spec.has_start else {}),
    }
