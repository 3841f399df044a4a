"""An experiment that was done, read back from its folder for a report: domain, discharge, trainings."""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.pictures.fields import MapField, parameter_fields
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.values import parse_date
from cdlm_training.config import TrainConfig, load_train_config
from cdlm_training.experiment.jobs import CONFIG, DISCHARGE, RUNS
from cdlm_training.experiment.manifest import Manifest, read_manifest
from cdlm_training.experiment.splits import Split
from cdlm_training.experiment.table import Scored, read_scores
from cdlm_training.log import LOG

SCORES = "scores.csv"


class Record:
    """What an experiment has left in its folder.

    Raises
    ------
    ConfigError, ObservationError
        It is not that of a finished experiment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.scores: list[Scored] = read_scores(folder / SCORES)

    def job(self, variant: str, split: Split, seed: int) -> Path:
        """Folder of a training."""
        return self.folder / RUNS / variant / split.design / split.name / f"seed{seed}"

    def settings(self, variant: str, split: Split | None = None, seed: int | None = None) -> tuple[Config, TrainConfig]:
        """The run, with what was trained, and the training of a variant: its first, where none is named."""
        manifest = self.manifest
        folder = self.job(variant, split or manifest.splits[0], manifest.seeds[0] if seed is None else seed)
        run, training = load_train_config(folder / CONFIG)
        return run.model_copy(update={"parameters": training.output, "member": None}), training

    @cached_property
    def run(self) -> Config:
        """The run of the first training."""
        return self.settings(self.manifest.variants[0])[0]

    @cached_property
    def domain(self) -> Domain:
        """The domain of all trainings."""
        return read_domain(self.run.domain)

    @cached_property
    def starts(self) -> np.ndarray:
        """Begins of the steps of the record, datetime64[time]."""
        return self.run.start + np.arange(self.run.n_steps) * np.timedelta64(self.run.time_step, "s")

    @cached_property
    def observed(self) -> np.ndarray:
        """Observed discharge of all gauges, float64[time, gauge] [m3 s-1]."""
        run = self.run
        assert run.observations is not None
        return read_observations(run.observations, self.domain.gauges.id, run.start, run.end, run.time_step)[1]

    def steps(self, period: str) -> slice:
        """Steps of a period, by its name."""
        first, last = (parse_date(text, self.run.calendar) for text in self.manifest.periods[period])
        return slice(*(int((t - self.run.start).astype(int)) // self.run.time_step for t in (first, last)))

    def discharge(self, model: str, design: str, gauge: str) -> np.ndarray:
        """Discharge at a gauge of every seed of a variant, or of the variants of an ensemble, float64[member, time]; of
        the split that holds it out, if one does."""
        own = [split for split in self.manifest.splits if split.design == design]
        split = next((one for one in own if gauge in one.held_out), own[0])
        place = self.domain.gauges.id.index(gauge)
        return np.stack([
            read_output(self.job(variant, split, seed) / DISCHARGE, "discharge")[2][:, place]
            for variant in self.manifest.ensembles.get(model, [model]) for seed in self.manifest.seeds
        ])

    def parameters(self, variant: str) -> tuple[list[MapField], list[str]]:
        """Parameters of a variant, mean over seeds, of the first split; those that vary in time by name."""
        found: list[list[MapField]] = []
        varying: list[str] = []
        for seed in self.manifest.seeds:
            fields, varying = parameter_fields(self.settings(variant, seed=seed)[0], self.domain)
            found.append(fields)
        means = [
            several[0]._replace(values=np.mean([one.values for one in several], axis=0))
            for several in zip(*found, strict=True)
        ]
        return means, varying

    def logs(self, variant: str) -> list[dict[str, np.ndarray]]:
        """What every training of a variant has logged, epoch by epoch: float64[epoch] by column."""
        found = []
        for split in self.manifest.splits:
            for seed in self.manifest.seeds:
                training = self.settings(variant, split, seed)[1]
                path = training.log_folder / LOG
                if path.is_file():
                    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
                    found.append({
                        name: np.array([float(row[name]) for row in rows], np.float64)
                        for name in ("epoch", "loss", "nse", "kge")
                    })
        return found
