"""The configuration of an experiment: the keys below `experiment` in the configuration of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bmi_cdlm.files.yaml_loader import load_yaml
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, nearest, shown
from bmi_cdlm.names.paths import expand
from bmi_cdlm.run.config import KEYWORDS, PATH_KEYS, Config
from bmi_cdlm.run.problems import explain
from cdlm_training.config import Period, TrainConfig, load_train_config, with_paths
from cdlm_training.dataset import check_whole_steps
from cdlm_training.uniform import UNIFORM

Design = Literal["temporal", "folds", "regions", "upstream", "downstream"]
Baseline = Literal["lumped", "climatology", "nearest", "similar"]
LUMPED: dict[str, Any] = {
    "training": {**UNIFORM, "optimizer": "adamw", "learning_rate": 0.05, "loss": {"prior": 0.0}},
}
"""One set of parameters for the whole domain. So few weights take larger steps than those of networks, or a training of
their length ends on the way."""
OF_SPLITS = ("output", "gauges", "seed", "held_out_fold")
"""Keys of a training that an experiment sets, by split and seed."""
OTHER_KEYS = ("experiment", "signatures", "map_fit", "prepare", "output", "restart")
"""Keys of the file that a training of an experiment has not."""


class ExperimentConfig(BaseModel):
    """An experiment with the run and the training beside it. Paths are relative to the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    output: Path = Field(description="Folder for trainings, discharge and tables.")
    test: Period = Field(
        description="Start and end of the test period, which no training and no choice of an epoch sees."
    )
    designs: tuple[Design, ...] = Field(
        default=("temporal",), min_length=1, description="Which gauges are held out: `temporal` none; `folds` one of "
        "`folds` folds at a time, nested gauges together; `regions` one region at a time; `upstream` those with "
        "another gauge below, `downstream` those with another above."
    )
    folds: int = Field(default=5, ge=2, description="Folds of independent basins [1].")
    regions: Path | None = Field(default=None, description="CSV with the columns gauge and region.")
    variants: dict[str, dict[str, Any]] = Field(
        default={"base": {}}, min_length=1, description="By name, keys of the configuration that differ, such as "
        "`{snow: cemaneige, training: {mapping: linear, loss: {kge: 0.1}}}`."
    )
    seeds: tuple[int, ...] = Field(
        default=(1,), min_length=1, description="Seeds; of several the ensemble is scored too [1]."
    )
    ensembles: dict[str, tuple[str, ...]] = Field(
        default={}, description="By name, variants whose trainings of all seeds are one ensemble, such as "
        "`{all: [gr4j, hbv]}`: its mean discharge is scored, and written, beside those of each variant."
    )
    baselines: tuple[Baseline, ...] = Field(
        default=(), description="`lumped`: one parameter set for the domain; `climatology`: mean of the calendar day "
        "in the training period (at gauges that were fitted); `nearest`, `similar`: parameters fitted to each gauge by "
        "itself, of the donors nearest in place or attributes: their mean simulation, and that of mean parameters."
    )
    donors: int = Field(
        default=10, ge=1, description="Donors of `nearest` and `similar`, never nested with the target [1]."
    )
    similarity: tuple[str, ...] = Field(
        default=(), description="Cell attributes, as means over basins, that `similar` compares; none: those of "
        "`training`."
    )
    against: dict[str, Path] = Field(
        default={}, description="Discharge of other models by name (NetCDF, as observations)."
    )
    processes: int = Field(
        default=1, ge=1, description="Trainings at a time; each has the `threads` of `training` [1]."
    )

    @model_validator(mode="after")
    def _check(self) -> ExperimentConfig:
        if self.test[1] <= self.test[0]:
            raise ValueError(f"test is {told(self.test)}; expected an end after its start")
        if "regions" in self.designs and self.regions is None:
            raise ValueError("designs names regions; expected a table of them in 'regions'")
        for key in ("designs", "seeds", "baselines"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names one twice")
        names = [*self.variants, *self.ensembles, *self.baselines, *self.against]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(
                f"'{twice[0]}' names two of variants, ensembles, baselines and against; expected different names"
            )
        _check_names("variants", self.variants)
        if "lumped" in self.variants:
            raise ValueError(
                "variants: 'lumped' is the name of a baseline, with keys of its own; expected another name"
            )
        _check_ensembles(self.ensembles, self.variants)
        for name in self.variants:
            training = self.variants[name].get("training", {})
            if not isinstance(training, dict):
                raise ValueError(f"variants.{name}.training is {shown(training)}; expected keys of a training")
            own = [key for key in OTHER_KEYS if key in self.variants[name]]
            own += [f"training.{key}" for key in OF_SPLITS if key in training]
            if own:
                raise ValueError(
                    f"variants.{name} has {own[0]}, which is the same for all of an experiment (gauges come from its "
                    "splits, seeds from 'seeds'); expected keys of the run and of its training that differ"
                )
        return self


class PartOf(NamedTuple):
    """What of an experiment is asked for; empty: all that its file names."""

    designs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    variants: tuple[str, ...] = ()


WHOLE = PartOf()


class Experiment(NamedTuple):
    """An experiment as read: its file, the run and training beside it, the keys of the file with absolute paths; part :
    in words, what of the file's experiment it is, where it is not all."""

    path: Path
    run: Config
    training: TrainConfig
    config: ExperimentConfig
    content: dict[str, Any]
    part: str = ""

    def variant(self, name: str) -> dict[str, Any]:
        """The keys of a variant, or of the baseline `lumped`."""
        changes = LUMPED if name == "lumped" else self.config.variants[name]
        found = merged(self.content, changes)
        return {**found, "training": _with_files(found["training"], self.path.parent)}


def load_experiment(path: Path) -> Experiment:
    """Read an experiment from a configuration file.

    Raises
    ------
    ConfigError
        What `load_train_config` refuses; no `experiment`, an unknown key or bad value of it; a test period that a
        training sees, or outside the run.
    """
    run, training = load_train_config(path)
    content = run.experiment
    if content is None:
        raise ConfigError(f"{path}: key 'experiment' is missing. Add it; training/README.md lists its keys.")
    known = ExperimentConfig.model_fields
    for key in content:
        if key not in known:
            raise ConfigError(
                f"{path}: unknown key 'experiment.{shown(key)}'.{nearest(str(key), known)} Known: {', '.join(known)}."
            )
    content = {**content}
    for key in ("output", "regions"):
        if isinstance(content.get(key), str):
            content[key] = path.parent / expand(content[key], ConfigError)
    if isinstance(content.get("against"), dict):
        content["against"] = {n: path.parent / expand(str(p), ConfigError) for n, p in content["against"].items()}
    try:
        config = ExperimentConfig.model_validate(content, context={"calendar": run.calendar})
    except ValidationError as cause:
        raise ConfigError(f"{path}: experiment: {explain(cause)} See training/README.md.") from cause
    _check_test(path, run, training, config)
    return Experiment(path, run, training, config, content_of(path))


def narrowed(experiment: Experiment, part: PartOf) -> Experiment:
    """A part of an experiment, in the order of its file; an ensemble that lacks a variant there is left out.

    Raises
    ------
    ConfigError
        The experiment has not what is asked for.
    """
    config, changes, words = experiment.config, dict[str, Any](), []
    for key, asked in part._asdict().items():
        known = list(getattr(config, key))
        unknown = [one for one in asked if one not in known]
        if unknown:
            raise ConfigError(
                f"{experiment.path}: experiment.{key} has no '{shown(unknown[0])}'."
                f"{nearest(str(unknown[0]), map(str, known))} Expected one of: {', '.join(map(str, known))}."
            )
        kept = [one for one in known if one in asked or not asked]
        if len(kept) < len(known):
            changes[key] = {one: config.variants[one] for one in kept} if key == "variants" else tuple(kept)
            words.append(f"{key} {', '.join(map(str, kept))} of {', '.join(map(str, known))}")
    if "variants" in changes:
        left = {n: of for n, of in config.ensembles.items() if all(one in changes["variants"] for one in of)}
        if len(left) < len(config.ensembles):
            words.append(f"not the ensembles {', '.join(n for n in config.ensembles if n not in left)}")
        changes["ensembles"] = left
    told_of = f"A part of the experiment of the file: {'; '.join(words)}." if words else ""
    return experiment._replace(config=config.model_copy(update=changes), part=told_of)


def _check_test(path: Path, run: Config, training: TrainConfig, config: ExperimentConfig) -> None:
    first, last = config.test
    for name, period in (("train", training.train), ("validate_on", training.validate_on)):
        if period is not None and first < period[1] and period[0] < last:
            raise ConfigError(
                f"{path}: experiment.test is {told(config.test)}, and training.{name} is {told(period)}: expected "
                "periods that do not overlap, so that nothing of the test is seen. Cut one of them."
            )
    if not (run.start <= first and last <= run.end):
        raise ConfigError(
            f"{path}: experiment.test is {told(config.test)}, expected within {told((run.start, run.end))}."
        )
    check_whole_steps(run, f"{path}: experiment.test", config.test)


def _check_names(key: str, names: Iterable[str]) -> None:
    for name in names:
        if not name.strip(".") or not all(c.isalnum() or c in "-_." for c in name):
            raise ValueError(
                f"{key}: '{name}' is to name a file or folder; expected letters, digits, '-', '_' and '.', not dots "
                "alone"
            )


def _check_ensembles(ensembles: Mapping[str, Sequence[str]], variants: Collection[str]) -> None:
    _check_names("ensembles", ensembles)
    for name, of in ensembles.items():
        unknown = [one for one in of if one not in variants]
        if unknown:
            raise ValueError(
                f"ensembles.{name} names '{shown(unknown[0])}', which is no variant.{nearest(unknown[0], variants)} "
                f"Known: {', '.join(variants)}"
            )
        if len(set(of)) < len(of):
            raise ValueError(f"ensembles.{name} names a variant twice; expected each once")
        if len(of) < 2:
            raise ValueError(
                f"ensembles.{name} has {len(of)} of the variants, expected two or more; the seeds of one are an "
                "ensemble without it"
            )


def told(period: Period) -> str:
    """A period in words."""
    first, last = (date_text(t).removesuffix("T00:00:00") for t in period)
    return f"{first} to {last}"


def merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Keys with changes laid over them, blocks within blocks."""
    found = dict(content)
    for key, value in changes.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


def content_of(path: Path) -> dict[str, Any]:
    """The keys of a file for a copy of it elsewhere: paths made absolute, without those that a training has not."""
    content, folder = load_yaml(path, ConfigError), path.parent
    found = {key: value for key, value in content.items() if key not in OTHER_KEYS}
    for key in PATH_KEYS:
        if isinstance(found.get(key), str) and found[key] not in KEYWORDS:
            found[key] = str((folder / expand(found[key], ConfigError)).resolve())
    if isinstance(found.get("screening"), dict) and isinstance(found["screening"].get("table"), str):
        table = (folder / expand(found["screening"]["table"], ConfigError)).resolve()
        found["screening"] = {**found["screening"], "table": str(table)}
    return plain({**found, "training": _with_files(found["training"], folder)})


def _with_files(training: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The keys of a training with absolute paths of what it reads; where it writes is up to the copy."""
    found = with_paths({key: value for key, value in training.items() if key != "output"}, folder.resolve())
    return {**({"output": training["output"]} if "output" in training else {}), **found}


def plain(value: Any) -> Any:
    """Keys as YAML has them: dates and paths by their text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
