"""What an experiment was, in its folder: all that its report needs beside scores, discharge and trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.fingerprints import code_digest
from bmi_cdlm.version import __version__
from cdlm_training.experiment.config import Experiment
from cdlm_training.experiment.jobs import Job
from cdlm_training.experiment.splits import Split

MANIFEST = "experiment.json"
FORMAT = "bmi_cdlm experiment 1"
FILES = ("domain", "forcing", "observations")


class Manifest(NamedTuple):
    """An experiment that was done.

    variants : what was trained, in order; seeds; splits; periods : begin and end as texts, by name; files : path and
    sha256 by key of the configuration; code : version and digest of what computes; ensembles : the variants of each.
    """

    name: str
    notes: list[str]
    variants: list[str]
    seeds: list[int]
    splits: list[Split]
    periods: dict[str, list[str]]
    files: dict[str, list[str]]
    code: dict[str, str]
    ensembles: dict[str, list[str]] = {}  # noqa: RUF012 (of a tuple: never changed)

    @property
    def forecast(self) -> str:
        """The model that stands for the experiment: its first ensemble of variants, else its first variant."""
        return next(iter(self.ensembles), self.variants[0])


def write_manifest(experiment: Experiment, jobs: list[Job], splits: list[Split], notes: list[str]) -> None:
    """Write it beside the scores."""
    run, training, config = experiment.run, experiment.training, experiment.config
    periods = {"train": training.train, "choice of epochs": training.validation, "test": config.test}
    files = [(key, Path(getattr(run, key))) for key in FILES] + list(config.against.items())
    content = {
        "format": FORMAT, "name": experiment.path.stem, "notes": notes,
        "variants": list(dict.fromkeys(job.variant for job in jobs)), "seeds": list(config.seeds),
        "splits": [split._asdict() for split in splits],
        "periods": {name: [date_text(t) for t in period] for name, period in periods.items()},
        "files": {key: [str(path), content_digest(path)] for key, path in files},
        "code": {"version": __version__, "processes, kernels and model (sha256)": code_digest()},
        "ensembles": {name: list(of) for name, of in config.ensembles.items()},
    }
    with replacing(config.output / MANIFEST) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read it.

    Raises
    ------
    ConfigError
        The folder is not that of an experiment that was finished by this version.
    """
    path = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        splits = [Split(s["design"], s["name"], tuple(s["fitted"]), tuple(s["held_out"])) for s in content["splits"]]
        return Manifest(**{**content, "splits": splits})
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise ConfigError(
            f"{path}: cannot be read ({getattr(cause, 'strerror', None) or cause}). Expected the folder of a finished "
            f"experiment, with {MANIFEST}; run `cdlm-train experiment CONFIG`, which does not train again what was "
            "trained."
        ) from cause
