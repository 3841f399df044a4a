"""The trainings of an experiment: each in its own folder and process, done once, and gone on with after a kill."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.basins import upstream_gauges
from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.files.output import OutputFile, read_output
from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError, ConfigError, nearest
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.screening import read_records
from bmi_cdlm.version import __version__
from cdlm_training.config import TrainConfig, load_train_config
from cdlm_training.experiment.alone import alone_in
from cdlm_training.experiment.config import Experiment, plain, told
from cdlm_training.experiment.maps import unseen_map
from cdlm_training.experiment.splits import Split
from cdlm_training.identity import Identity, identify, keys_of
from cdlm_training.labels.store import read_labels
from cdlm_training.labels.teach import check_folds
from cdlm_training.seen import Seen, what_it_saw
from cdlm_training.terms import OF_MAPS, Pretraining

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


def make_jobs(experiment: Experiment, domain: Domain, splits: Sequence[Split]) -> list[Job]:
    """Every training of an experiment, and its configuration in its folder.

    Raises
    ------
    ConfigError, DomainError, CheckpointError, LabelError
        A variant that is no training, has another domain, other steps or an attribute that is not there, or sees the
        test period or a gauge that is held out.
    """
    config = experiment.config
    names = [*config.variants, *(["lumped"] if "lumped" in config.baselines else [])]
    jobs = [
        Job(name, split, seed, config.output / RUNS / name / split.design / split.name / f"seed{seed}")
        for name in names for split in splits for seed in config.seeds
    ]
    for name in names:  # all are looked at before anything is trained
        own = [job for job in jobs if job.variant == name]
        with _named(f"variant {name}"):
            _write_config(experiment, own[0], domain)
            run = _check_variant(experiment, own[0].folder / CONFIG, domain)
            _check_start(experiment, experiment.variant(name)["training"], run, domain, splits)
    for job in jobs:
        _write_config(experiment, job, domain)
    return jobs


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Let errors begin with what they are of."""
    try:
        yield
    except CdlmError as cause:
        raise type(cause)(f"{what}: {cause}") from cause


def _write_config(experiment: Experiment, job: Job, domain: Domain) -> None:
    content = experiment.variant(job.variant)
    is_field = content["training"].get("mapping") in ("distributed", "resnet")
    content["training"] = {
        **content["training"], "output": FIELD if is_field else CHECKPOINT, "gauges": list(job.split.fitted),
        "held_out_fold": None, "seed": job.seed,
    }
    start = content["training"].get("start_from")
    if start is not None:
        content["training"]["start_from"] = start_of(start, job.split)
    for key in (f"{term}_attribute" for term in OF_MAPS):
        name = content["training"].get(key)
        if isinstance(name, str):
            content["training"][key] = unseen_map(experiment.run.domain, name, job.split.held_out, key)
    pretrain = content["training"].get("pretrain")
    if isinstance(pretrain, dict):
        left_out = dict.fromkeys([*pretrain.get("leave_out", []), *saw(domain, job.split.held_out)])
        content["training"]["pretrain"] = {**pretrain, "leave_out": list(left_out)}
    job.folder.mkdir(parents=True, exist_ok=True)
    with replacing(job.folder / CONFIG) as temporary:
        temporary.write_text(dump_yaml(plain(content)), encoding="utf-8")


def saw(domain: Domain, held_out: Sequence[str]) -> list[str]:
    """Gauges whose labels saw a record that is held out: those gauges, and all below them, whose own areas are what
    these leave; in the order of the domain."""
    ids = domain.gauges.id
    out = [ids.index(gauge) for gauge in held_out]
    return [gauge for gauge, above in zip(ids, upstream_gauges(domain), strict=True) if above[out].any()]


def start_of(start: Path | str, split: Split) -> Path:
    """The checkpoint from which the trainings of a split start, whose design and name may stand in its path."""
    return Path(str(start).replace("{design}", split.design).replace("{split}", split.name))


def _check_variant(experiment: Experiment, path: Path, domain: Domain) -> Config:
    """Refuse a variant that is no training of this experiment; returns its run."""
    run, training = load_train_config(path)
    for key in SAME:
        own, expected = (_resolved(getattr(one, key)) for one in (run, experiment.run))
        if own != expected:
            own, expected = (date_text(v) if isinstance(v, np.datetime64) else v for v in (own, expected))
            raise ConfigError(
                f"{key} is {own}, expected that of the experiment, {expected}. Make another experiment "
                "of it."
            )
    first, last = experiment.config.test
    for key, period in (("train", training.train), ("validate_on", training.validate_on)):
        if period is not None and first < period[1] and period[0] < last:
            raise ConfigError(
                f"training.{key} is {told(period)}, which overlaps with experiment.test, "
                f"{told((first, last))}. Cut one of them."
            )
    read_attributes(run.domain, domain, "cell", training.cell_attributes)
    read_attributes(run.domain, domain, "reach", training.reach_attributes)
    return run


def _check_start(
    experiment: Experiment, training: Mapping[str, Any], run: Config, domain: Domain, splits: Sequence[Split]
) -> None:
    """Refuse a start that saw what is tested, of a checkpoint its gauges and years, of labels their years; and labels
    of which too few are left for a split."""
    test, every = experiment.config.test, {g for split in splits for g in (*split.fitted, *split.held_out)}
    if training.get("start_from") is not None:
        key = "training.start_from"
        for split in splits:
            seen = what_it_saw(start_of(training["start_from"], split), run.member)
            seen.check_gauges(
                key, split.held_out, f"the split {split.design} {split.name}",
                "Train one for every split without its gauges, and name them with {design} and {split} in the path; or "
                "leave start_from out."
            )
            seen.check_period(key, every, test, "Train one that ends before, or leave start_from out.")
    if training.get("pretrain") is not None:
        given = Pretraining.model_validate(training["pretrain"])
        labels = read_labels(given.labels, run.runoff)
        if labels.sites.per == "gauge":
            periods = (labels.period,) if labels.period else ()
            Seen(labels.where, frozenset(labels.sites.id), periods).check_period(
                "training.pretrain", every, test, "Make labels of earlier years, with this training."
            )
        for split in splits:
            with _named(f"the split {split.design} {split.name}"):
                check_folds(given, run, domain, saw(domain, split.held_out))


def _resolved(value: Any) -> Any:
    return value.resolve() if isinstance(value, Path) else value


# ---- one job ---------------------------------------------------------------------------------------------------------


def run_job(folder: Path, identity: Identity) -> float:
    """Train in a folder, run the whole record with the best checkpoint, keep the discharge; returns the NSE.

    A training that was killed goes on from its last epoch. One whose experiment was killed, but not its own process, is
    still at work: its folder is held by itself.

    Raises
    ------
    OutputError
        Such a process holds the folder.
    """
    with alone_in(folder):
        return _train(folder, identity)


def _train(folder: Path, identity: Identity) -> float:
    from cdlm_training.distributed import Team
    from cdlm_training.loop import STATE, Trainer
    from cdlm_training.scores import simulate_gauges

    trainer = Trainer(folder / CONFIG, Team(0, 1))
    begun = folder / "begun.json"
    resume = _is_of(begun, identity) and (trainer.config.log_folder / STATE).is_file()
    if not resume:
        shutil.rmtree(trainer.config.log_folder, ignore_errors=True)
        begun.write_text(identity.text())
    scores = trainer.train(resume=resume, report=lambda epoch: None, progress=lambda loss: None)
    ids, discharge = simulate_gauges(trainer.run, trainer.config.output)
    write_discharge(folder / DISCHARGE, trainer.run, ids, discharge)
    (folder / DONE).write_text(identity.text())
    return scores.nse


def _is_of(path: Path, identity: Identity) -> bool:
    """Whether what a file tells of was done with what counts as it is now."""
    return path.is_file() and not identity.unlike(path.read_text())


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

    def of(self, job: Job) -> Identity:
        """What a job depends on now."""
        run, training = load_train_config(job.folder / CONFIG)
        paths = [
            *(getattr(run, key) for key in ("domain", "forcing", "observations", "initial_state")),
            None if run.screening is None else run.screening.table, training.start_from,
            None if training.pretrain is None else training.pretrain.labels,
        ]
        files = [self._of_file(path) for path in paths if isinstance(path, Path)]
        keys = keys_of(run, exclude={
            "domain", "forcing", "observations", "training", "signatures", "map_fit", "prepare", "output", "restart",
            "memory", "threads",
        })
        own = keys_of(training, exclude={"output", "threads"})
        return identify(version=__version__, files=files, run=keys, training=own)

    def _of_file(self, path: Path) -> str:
        if path not in self._files:
            self._files[path] = content_digest(path)
        return self._files[path]


def run_jobs(jobs: Sequence[Job], processes: int, tell: Callable[[str], None]) -> None:
    """Do what is not done yet, so many at a time.

    Raises
    ------
    CdlmError
        Of the first job that fails; those that run are waited for, and kept.
    """
    identities = Identities()
    todo, others = [], Counter[str]()
    for job in jobs:
        identity, done = identities.of(job), job.folder / DONE
        if _is_of(done, identity) and (job.folder / DISCHARGE).is_file():
            continue
        if done.is_file():
            unlike = ", ".join(identity.unlike(done.read_text()))
            others[f"{unlike} was other" if unlike else f"{DISCHARGE} is gone"] += 1
        done.unlink(missing_ok=True)
        todo.append((job, identity))
    if len(todo) < len(jobs):
        tell(f"{len(jobs) - len(todo)} of {len(jobs)} trainings were done before")
    for what, count in others.items():
        tell(f"{count} of {len(jobs)} trainings are done anew: {what}")
    _try_variants([job for job, _ in todo])
    if processes == 1:
        for k, (job, identity) in enumerate(todo, 1):
            with _named(job.name):
                tell(f"{k} of {len(todo)}: {job.name}: NSE {run_job(job.folder, identity):.3f}")
        return
    # Fresh processes: each has threads, devices and the memory of one training of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run_job, job.folder, identity): job for job, identity in todo}
        for k, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            try:
                with _named(job.name):
                    tell(f"{k} of {len(todo)}: {job.name}: NSE {future.result():.3f}")
            except BrokenProcessPool as cause:
                raise ConfigError(
                    f"{job.name}: a process of the experiment ended without a word, as one does that the system kills "
                    f"for memory, or a user. experiment.processes is {processes}, each with the memory of a training; "
                    "ask for fewer, and run again: what was trained is kept."
                ) from cause
            except CdlmError:
                pool.shutdown(cancel_futures=True)
                raise


def check_splits(experiment: Experiment, ids: Sequence[str], splits: Sequence[Split], observed: np.ndarray) -> None:
    """Refuse a split whose training would fail once it is its turn: no epoch to choose, a gauge without its weight.

    ids, observed : of all gauges, float64[time, gauge].

    Raises
    ------
    ConfigError
        Naming the split.
    """
    run, training = experiment.run, experiment.training
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in training.validation)
    varies = {g: np.unique(s[np.isfinite(s)]).size > 1 for g, s in zip(ids, observed[first:last].T, strict=True)}
    for split in splits:
        where = f"the split {split.design} {split.name}"
        if not any(varies[gauge] for gauge in split.fitted):
            raise ConfigError(
                f"training.validate_on: none of the {len(split.fitted)} gauges that {where} fits has varying discharge "
                f"in {told(training.validation)}, expected one: they choose the best epoch. Choose another period."
            )
        without = [g for g in split.fitted if isinstance(training.gauge_weights, dict) and
                   g not in training.gauge_weights]
        if without:
            raise ConfigError(
                f"training.gauge_weights: gauge {without[0]}, which {where} fits, has none, expected one for every "
                "gauge that can be fitted. Add it, or leave the gauge out with training.gauges."
            )


def _try_variants(todo: Sequence[Job]) -> None:
    """Make a trainer of every variant but the first, which is trained at once: what only it finds wrong is said before
    hours of training."""
    from cdlm_training.distributed import Team
    from cdlm_training.loop import Trainer

    firsts = {job.variant: job for job in reversed(todo)}
    for name in list(dict.fromkeys(job.variant for job in todo))[1:]:
        with _named(f"variant {name}"):
            Trainer(firsts[name].folder / CONFIG, Team(0, 1)).workers.close()


def usable_gauges(run: Config, training: TrainConfig, ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Gauges that a training can fit, by id, and all observations of the run, float64[time, gauge] [m3 s-1].

    Those of `training.gauges`, or all, whose discharge varies in the training period.
    """
    unknown = [] if training.gauges == "all" else [g for g in training.gauges if g not in ids]
    if unknown:
        raise ConfigError(f"training.gauges: the domain has no gauge '{unknown[0]}'.{nearest(unknown[0], ids)} Known: "
                          f"{', '.join(ids)}.")
    _, observed = read_records(run, ids, run.start, run.end)
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in training.train)
    varies = [np.unique(s[np.isfinite(s)]).size > 1 for s in observed[first:last].T]
    asked = ids if training.gauges == "all" else training.gauges
    return [g for g, moves in zip(ids, varies, strict=True) if moves and g in asked], observed
