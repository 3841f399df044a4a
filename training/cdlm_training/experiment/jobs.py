"""The trainings of an experiment: each in its own folder and process, done once, and gone on with after a kill."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.files.output import OutputFile, read_output
from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.generator.checkpoint import fingerprint
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError, ConfigError
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.screening import read_records
from bmi_cdlm.version import __version__
from cdlm_training.config import TrainConfig, load_train_config
from cdlm_training.experiment.config import Experiment, plain, told
from cdlm_training.experiment.maps import unseen_map
from cdlm_training.experiment.splits import Split
from cdlm_training.terms import OF_MAPS

RUNS, CONFIG, DISCHARGE, DONE = "runs", "config.yaml", "discharge.nc", "done.json"
CHECKPOINT, FIELD = "trained.safetensors", "trained.nc"
SAME = ("domain", "observations", "calendar", "start", "end", "time_step")
"""Keys that all variants share: gauges and steps are those of one table."""


class Job(NamedTuple):
    """One training: its variant, split and seed, and its folder."""

    variant: str
    split: Split
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """The job in words."""
        return f"{self.variant}, {self.split.design} {self.split.name}, seed {self.seed}"


def make_jobs(experiment: Experiment, splits: Sequence[Split]) -> list[Job]:
    """Every training of an experiment, and its configuration in its folder.

    Raises
    ------
    ConfigError
        A variant that is no training, has another domain or other steps, or sees the test period.
    """
    config = experiment.config
    names = [*config.variants, *(["lumped"] if "lumped" in config.baselines else [])]
    jobs = [
        Job(name, split, seed, config.output / RUNS / name / split.design / split.name / f"seed{seed}")
        for name in names for split in splits for seed in config.seeds
    ]
    for name in names:  # all are looked at before anything is trained
        one = next(job for job in jobs if job.variant == name)
        _write_config(experiment, one)
        _check_variant(experiment, name, one.folder / CONFIG)
    for job in jobs:
        _write_config(experiment, job)
    return jobs


def _write_config(experiment: Experiment, job: Job) -> None:
    content = experiment.variant(job.variant)
    is_field = content["training"].get("mapping") in ("distributed", "resnet")
    content["training"] = {
        **content["training"], "output": FIELD if is_field else CHECKPOINT, "gauges": list(job.split.fitted),
        "held_out_fold": None, "seed": job.seed,
    }
    for key in (f"{term}_attribute" for term in OF_MAPS):
        name = content["training"].get(key)
        if isinstance(name, str):
            content["training"][key] = unseen_map(experiment.run.domain, name, job.split.held_out, key)
    job.folder.mkdir(parents=True, exist_ok=True)
    with replacing(job.folder / CONFIG) as temporary:
        temporary.write_text(dump_yaml(plain(content)), encoding="utf-8")


def _check_variant(experiment: Experiment, name: str, path: Path) -> None:
    try:
        run, training = load_train_config(path)
    except ConfigError as cause:
        raise ConfigError(f"variant {name}: {cause}") from cause
    for key in SAME:
        own, expected = (_resolved(getattr(one, key)) for one in (run, experiment.run))
        if own != expected:
            own, expected = (date_text(v) if isinstance(v, np.datetime64) else v for v in (own, expected))
            raise ConfigError(
                f"variant {name}: {key} is {own}, expected that of the experiment, {expected}. Make another experiment "
                "of it."
            )
    first, last = experiment.config.test
    for key, period in (("train", training.train), ("validate_on", training.validate_on)):
        if period is not None and first < period[1] and period[0] < last:
            raise ConfigError(
                f"variant {name}: training.{key} is {told(period)}, which overlaps with experiment.test, "
                f"{told((first, last))}. Cut one of them."
            )


def _resolved(value: Any) -> Any:
    return value.resolve() if isinstance(value, Path) else value


# ---- one job ---------------------------------------------------------------------------------------------------------


def run_job(folder: Path, identity: str) -> float:
    """Train in a folder, run the whole record with the best checkpoint, keep the discharge; returns the NSE.

    A training that was killed goes on from its last epoch.
    """
    from cdlm_training.distributed import Team
    from cdlm_training.loop import STATE, Trainer
    from cdlm_training.scores import simulate_gauges

    trainer = Trainer(folder / CONFIG, Team(0, 1))
    begun = folder / "begun.json"
    resume = begun.is_file() and begun.read_text() == identity and (trainer.config.log_folder / STATE).is_file()
    if not resume:
        shutil.rmtree(trainer.config.log_folder, ignore_errors=True)
        begun.write_text(identity)
    scores = trainer.train(resume=resume, report=lambda epoch: None, progress=lambda loss: None)
    ids, discharge = simulate_gauges(trainer.run, trainer.config.output)
    write_discharge(folder / DISCHARGE, trainer.run, ids, discharge)
    (folder / DONE).write_text(identity)
    return scores.nse


def write_discharge(path: Path, run: Config, ids: Sequence[str], discharge: np.ndarray) -> None:
    """Write discharge at gauges over a run, float64[time, gauge] [m3 s-1], as an output of the runtime."""
    starts = run.start + np.arange(discharge.shape[0]) * np.timedelta64(run.time_step, "s")
    with OutputFile(path, "gauge", list(ids), ["discharge"], run.time_step, {}, calendar=run.calendar) as file:
        file.append(starts, {"discharge": discharge})


def read_discharge(job: Job) -> np.ndarray:
    """The discharge that a job has come to, float64[time, gauge] [m3 s-1]."""
    return read_output(job.folder / DISCHARGE, "discharge")[2]


class Identities:
    """What each job depends on: its configuration, the content of its files, the version of the code."""

    def __init__(self) -> None:
        self._files: dict[Path, str] = {}

    def of(self, job: Job) -> str:
        """As one line of text."""
        run, training = load_train_config(job.folder / CONFIG)
        files = {key: self._of_file(getattr(run, key)) for key in ("domain", "forcing", "observations")}
        own = training.model_dump(mode="json", exclude={"output", "threads"})
        keys = run.model_dump(mode="json", exclude={
            "domain", "forcing", "observations", "training", "signatures", "map_fit", "prepare", "output", "restart",
            "memory", "threads",
        })
        return json.dumps([__version__, files, keys, own])

    def _of_file(self, path: Any) -> str:
        if path not in self._files:
            self._files[path] = fingerprint(Path(path))
        return self._files[path]


def run_jobs(jobs: Sequence[Job], processes: int, tell: Callable[[str], None]) -> None:
    """Do what is not done yet, so many at a time.

    Raises
    ------
    CdlmError
        Of the first job that fails; those that run are waited for, and kept.
    """
    identities = Identities()
    todo = []
    for job in jobs:
        identity, done = identities.of(job), job.folder / DONE
        if done.is_file() and done.read_text() == identity and (job.folder / DISCHARGE).is_file():
            continue
        done.unlink(missing_ok=True)
        todo.append((job, identity))
    if len(todo) < len(jobs):
        tell(f"{len(jobs) - len(todo)} of {len(jobs)} trainings were done before")
    if processes == 1:
        for k, (job, identity) in enumerate(todo, 1):
            tell(f"{k} of {len(todo)}: {job.name}: NSE {run_job(job.folder, identity):.3f}")
        return
    # Fresh processes: each has threads, devices and the memory of one training of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run_job, job.folder, identity): job for job, identity in todo}
        for k, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            try:
                tell(f"{k} of {len(todo)}: {job.name}: NSE {future.result():.3f}")
            except CdlmError as cause:
                pool.shutdown(cancel_futures=True)
                raise type(cause)(f"{job.name}: {cause}") from cause


def usable_gauges(run: Config, training: TrainConfig, ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Gauges that a training can fit, by id, and all observations of the run, float64[time, gauge] [m3 s-1].

    Those of `training.gauges`, or all, whose discharge varies in the training period.
    """
    _, observed = read_records(run, ids, run.start, run.end)
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in training.train)
    varies = [np.unique(s[np.isfinite(s)]).size > 1 for s in observed[first:last].T]
    asked = ids if training.gauges == "all" else training.gauges
    return [g for g, moves in zip(ids, varies, strict=True) if moves and g in asked], observed
