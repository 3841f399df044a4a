"""The configuration of a training: the keys below `training` in the configuration of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bmi_cdlm.generator.specification import MappingName
from bmi_cdlm.names.errors import ConfigError, nearest, shown
from bmi_cdlm.names.paths import expand
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.parameters import UNKNOWN, same_kind
from bmi_cdlm.run.problems import explain
from bmi_cdlm.run.values import Date, parse_places
from cdlm_training.contradictions import NETWORK, check
from cdlm_training.terms import LossWeights, Pretraining, Regularisation, WindowShape

Period = tuple[Date, Date]
DeviceName = Literal["cpu", "cuda"]
WHOLE_STEPS = {"lbfgs": 1.0, "adadelta": 1.0}
"""Learning rate of optimizers that find the size of a step themselves, where none is given."""
OF_FIELDS = {"optimizer": "lbfgs", "precision": "float64", "pet_factor": False}
"""What mapping: distributed takes where nothing else is given."""
LARGEST_SEED = 2**53
"""What all generators of random numbers take, and those that are made of it."""
MANY_STARTS = 5
"""Of a fit so small that it ends where it happens to begin."""
QUARTILES = {"lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75}
"""Quantile over the costs of gauges."""
GaugeWeights = (
    Literal["equal", "incremental_area", "lower_quartile", "median", "upper_quartile"]
    | dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
)
Width = Annotated[int, Field(ge=1)]
Gauges = Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(parse_places)]


class TrainConfig(BaseModel):
    """A training of the run beside it. Paths are relative to the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    output: Path = Field(
        description="Checkpoint to write (.safetensors), or the parameter file of mapping: distributed (.nc); the log "
        "folder stands beside it."
    )
    train: Period = Field(description="Start and end of the training period.")
    validate_on: Period | None = Field(
        default=None, description="Start and end of the validation period; none: the training period."
    )
    gauges: Gauges = Field(default="all", description="Gauges to train on.")
    folds: int = Field(default=5, ge=2, description="Folds of independent basins, for `held_out_fold` [1].")
    held_out_fold: int | None = Field(
        default=None, ge=0, description="Fold to leave out, from 0, as in the report of `cdlm prepare`: nested gauges "
        "share a fold. none: train on all gauges [1]."
    )
    cell_attributes: tuple[str, ...] = Field(default=(), description="Attributes of cells for X1 to X4 and snow.")
    reach_attributes: tuple[str, ...] = Field(
        default=(), description="Attributes of reaches for their parameters, such as the celerity."
    )
    mapping: Literal["uniform", "linear", "power", "mlp", "residual_mlp", "resnet", "distributed"] = Field(
        default="mlp", description="From attributes to parameters; `resnet`: of the cells around each too, on a grid; "
        "what it gives becomes a parameter file. `distributed`: none, every cell and reach has "
        "values of its own, which become a parameter file and hold in this domain alone."
    )
    resnet: WindowShape = Field(default=WindowShape(), description="Of mapping: resnet: window and network.")
    hidden: tuple[Width, ...] = Field(default=(32, 32), description="Units of the hidden "
                                   "layers of the mapping (of reaches, with resnet) [1].")
    starts: dict[str, float] = Field(
        default={}, description="Where learned parameters start, by registry name [units of each]; others start at "
        "their default. Some are learned only where they stand here (`cdlm processes NAME`). The switch of melt has no "
        "slope: thermal_weighting stays where it starts."
    )
    varying: tuple[str, ...] = Field(
        default=(), description="Parameters of the runoff process that an LSTM gives anew at every step, from forcing "
        "and cell_attributes, by registry name; the others come from attributes alone (`mapping`)."
    )
    lstm_hidden: int = Field(
        default=64, ge=1, le=4096, description="Units of the LSTM, and of the layer before it [1]."
    )
    start_from: Path | None = Field(
        default=None, description="Checkpoint whose weights and scales of attributes the fit starts from; the "
        "generator is to be described as it was there; of an ensemble `member` of the run says which. A weight in "
        "`loss.prior` pulls the fit towards it. With mapping: distributed any generator's parameters are the start. In "
        "an experiment `{design}` and `{split}` in its path stand for those of each training, such as "
        "`lab/runs/base/{design}/{split}/seed1/trained.safetensors`."
    )
    frozen: tuple[str, ...] = Field(
        default=(), description="Weights that stay as they are: `cell`, `reach`, `pet`, or a layer such as `cell.0`."
    )
    ranges: dict[str, tuple[float, float]] = Field(
        default={}, description="Between which bounds parameters are learned, by registry name [units of each], such "
        "as `unit_hydrograph_base: [0.5, 20]`; others within the range of the registry."
    )
    learn_start: bool = Field(
        default=False, description="Learn how full the stores of cells are at `start`, for records too short for a "
        "warm-up: every window is run from there, and a run with the checkpoint starts so too."
    )
    learn_routing: bool = Field(
        default=True, description="Learn the parameters of reaches (celerity; roughness and width), else keep their "
        "defaults."
    )
    learn_weighting: bool = Field(default=False, description="Learn the Muskingum weighting too.")
    learn_component_weights: bool = Field(
        default=False, description="Learn how much each of the parameter sets of a cell (`components`) weighs in its "
        "runoff; without, each weighs the same."
    )
    pet_factor: bool = Field(
        default=True, description="Learn a factor on PET from forcing and season; without where mapping is distributed."
    )
    pet_hidden: tuple[Width, ...] = Field(default=(8,), description="Units of the hidden layers of the PET factor [1].")
    pet_limits: tuple[float, float] = Field(default=(0.3, 2.0), description="Limits of the PET factor [1].")
    pet_kind: str = Field(
        default="unknown", description="The formula behind the PET of the forcing, such as Oudin; that of the run "
        "where its `pet` is a formula, or its `pet_kind` says."
    )
    window: int = Field(default=365, ge=1, description="Length of a training window [steps].")
    warm_up: int = Field(default=365, ge=0, description="Steps run before each window, uncounted [steps].")
    windows_per_update: int = Field(default=1, ge=1, description="Windows whose gradients are summed per update [1].")
    gauges_per_update: int | None = Field(
        default=None, ge=1, description="Gauges drawn per update, run with all that drains to them; none: all [1]."
    )
    pairs_per_update: int | None = Field(
        default=None, ge=1, description="Pairs drawn per update of a gauge and a window of its own, with all that "
        "drains to it; none: the same windows at all gauges [1]."
    )
    updates: Annotated[int, Field(ge=1)] | Literal["cover"] = Field(
        default=20, description="Updates per epoch, or `cover`: as many as draw a step of a gauge with a chance of "
        "99 %, as in dHBV; needs pairs_per_update [1]."
    )
    epochs: int = Field(default=20, ge=1, description="Epochs; validation and a saved state follow each [1].")
    restarts: int | None = Field(
        default=None, ge=1, description="How often the fit begins anew: first from `starts`, then from drawn places; "
        "the best is kept, the spread is told. none: 5 for LBFGS on a uniform mapping, else 1 [1]."
    )
    optimizer: Literal["adamw", "adadelta", "lbfgs"] = Field(
        default="adamw", description="AdamW, Adadelta (as in dHBV), or LBFGS for small mappings and for distributed, "
        "which takes it unless another is given."
    )
    learning_rate: float = Field(
        default=0.01, gt=0, description="Learning rate at the start; 1 where LBFGS or Adadelta is not given one [1]."
    )
    final_learning_rate: float = Field(default=0.1, gt=0, le=1, description="Its share at the end (cosine) [1].")
    weight_decay: float = Field(default=1e-4, ge=0, description="Weight decay of AdamW and Adadelta; of "
                                "distributed nothing decays [1].")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the units of every hidden layer of the mapping, and of the "
        "weights of the LSTM's gates, that an update leaves out, drawn anew for each; 0.5 in dHBV 2.0 [1]."
    )
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient [1].")
    loss: LossWeights = Field(default=LossWeights(), description="Weights of the terms of the loss.")
    regularisation: Regularisation | None = Field(
        default=None, description="Of mapping: distributed: prior, smoothing, and what they weigh; none: only the loss."
    )
    pretrain: Pretraining | None = Field(
        default=None, description="Learn from labels of `cdlm-train labels` first; none: from discharge alone. The "
        "training then goes on from there, and a weight in `loss.prior` pulls it back."
    )
    gauge_weights: GaugeWeights = Field(
        default="equal", description="How the costs of gauges come together: all equal; by the area that a gauge adds "
        "to those above; a number for each by id, `{V3524010: 2, V3515010: 1}`, whose share in the sum counts; "
        "or a quartile or the median of the costs, which one odd gauge does not rule."
    )
    mean_runoff_attribute: str | None = Field(
        default=None, description="Cell attribute with the map of mean runoff [mm yr-1], for loss.mean_runoff."
    )
    baseflow_index_attribute: str | None = Field(
        default=None, description="Cell attribute with the map of the baseflow index [1], for loss.baseflow_index."
    )
    patience: int = Field(default=10, ge=1, description="Epochs without a better validation score before stopping [1].")
    device: DeviceName = Field(
        default="cpu", description="Where forcing is kept, networks and kernels run: the processors, or a CUDA device."
    )
    precision: Literal["float32", "float64"] = Field(default="float32", description="Of the training; "
                                                       "float64 for distributed where none is given.")
    threads: int = Field(default=1, ge=1, description="Threads for the kernels of each process [1].")
    select_by: Literal["nse", "kge", "median_nse", "median_kge"] = Field(
        default="nse", description="Validation score that chooses the best epoch: its mean over the training gauges, "
        "or its median, which a few gauges on dry rivers do not rule."
    )
    posterior: Literal["none", "laplace"] = Field(
        default="none", description="`laplace`: after the fit, standard deviations and correlations of its parameters "
        "by the second derivatives of its likelihood, in `NAME_posterior.csv` beside the output. Of mapping: uniform, "
        "loss: {gaussian: 1} and at most 50 parameters."
    )
    posterior_prior: Annotated[float, Field(gt=0)] | Literal["flat", "uniform"] = Field(
        default="flat", description="What was known of parameters before: nothing (`flat` before bounds, or `uniform` "
        "within their ranges), or a standard deviation before bounds about where they start [1]."
    )
    seed: int = Field(default=1, ge=0, le=LARGEST_SEED, description="Seed of weights and windows [1].")
    licence: str = Field(default="not stated", description="Licence of the weights, written into the checkpoint.")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """The line searches of LBFGS begin with a whole step, not with a hundredth of one; so does Adadelta.

        What is learned of the start has no steps before it.
        """
        if not isinstance(given, dict):
            return given
        if given.get("mapping") == "distributed":
            given = {**OF_FIELDS, **given}
        if given.get("mapping") == "resnet":
            given = {"pet_factor": False, **given}
        optimizer = given.get("optimizer") if isinstance(given.get("optimizer"), str) else None
        anew = given.get("start_from") is None and given.get("pretrain") is None
        small = given.get("mapping") == "uniform" and anew
        return {
            **({"learning_rate": WHOLE_STEPS[optimizer]} if optimizer in WHOLE_STEPS else {}),
            **({"restarts": MANY_STARTS} if optimizer == "lbfgs" and small else {}),
            **({"warm_up": 0} if given.get("learn_start") is True else {}),
            **{key: value for key, value in given.items() if key != "restarts" or value is not None},
        }

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        check(self)
        return self

    @property
    def is_field(self) -> bool:
        """Whether every place has parameters of its own."""
        return self.mapping == "distributed"

    @property
    def quartile(self) -> float | None:
        """Which quantile of the costs of gauges is the loss; None where it is a weighted mean."""
        return QUARTILES.get(self.gauge_weights) if isinstance(self.gauge_weights, str) else None

    @property
    def gives_file(self) -> bool:
        """Whether the result is a parameter file."""
        return self.mapping in ("distributed", "resnet")

    @property
    def in_specification(self) -> MappingName:
        """What a specification says of the mapping: of those that no checkpoint has, that of the reaches."""
        if self.mapping == "distributed":
            return "uniform"
        return "mlp" if self.mapping == "resnet" else self.mapping

    @property
    def searches_weight(self) -> bool:
        """Whether several fits find what the regularisation weighs."""
        return self.regularisation is not None and isinstance(self.regularisation.weight, str)

    @property
    def draws_parts(self) -> bool:
        """Whether every update runs parts of its own."""
        return self.gauges_per_update is not None or self.pairs_per_update is not None

    @property
    def validation(self) -> Period:
        """The period that chooses the best epoch."""
        return self.train if self.validate_on is None else self.validate_on

    @property
    def n_starts(self) -> int:
        """How often the fit begins."""
        return 1 if self.restarts is None else self.restarts

    @property
    def dtype(self) -> type[np.floating]:
        """Precision of the training as a numpy type."""
        return np.float32 if self.precision == "float32" else np.float64

    @property
    def log_folder(self) -> Path:
        """Folder of the log, the last state and the copy of the configuration."""
        return self.output.with_name(f"{self.output.stem}_training")


def load_train_config(path: Path) -> tuple[Config, TrainConfig]:
    """Read the run and the training of a configuration file, whose key `training` holds the latter.

    Raises
    ------
    ConfigError
        Missing or unreadable file, no `training`, unknown key (with the nearest valid one), bad value.
    """
    run = load_config(path)
    content = run.training
    if content is None:
        raise ConfigError(f"{path}: key 'training' is missing. Add it; training/README.md lists its keys.")
    _check_keys(content, TrainConfig, f"{path}: unknown key 'training.")
    if isinstance(content.get("loss"), dict):
        _check_keys(content["loss"], LossWeights, f"{path}: unknown key 'training.loss.")
    if isinstance(content.get("regularisation"), dict):
        _check_keys(content["regularisation"], Regularisation, f"{path}: unknown key 'training.regularisation.")
    if isinstance(content.get("resnet"), dict):
        _check_keys(content["resnet"], WindowShape, f"{path}: unknown key 'training.resnet.")
    if isinstance(content.get("pretrain"), dict):
        _check_keys(content["pretrain"], Pretraining, f"{path}: unknown key 'training.pretrain.")
    content = with_paths(content, path.parent)
    try:
        found = _with_pet_kind(run, TrainConfig.model_validate(content, context={"calendar": run.calendar}), path)
    except ValidationError as cause:
        raise ConfigError(f"{path}: training: {explain(cause)} See training/README.md.") from cause
    labels = None if found.pretrain is None else found.pretrain.labels
    read = {"training.start_from": found.start_from, "training.pretrain.labels": labels}
    for output in (found.output, *((found.output.with_suffix(NETWORK),) if found.mapping == "resnet" else ())):
        run.check_target(output, f"{path}: training.output", replaces=("parameters",), others=read)
    return run, found


def with_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The keys of a training with the files that they name, relative to a folder, as paths."""
    found = dict(content)
    for key in ("output", "start_from"):
        if isinstance(found.get(key), str):
            found[key] = folder / expand(found[key], ConfigError)
    pretrain = found.get("pretrain")
    if isinstance(pretrain, dict) and isinstance(pretrain.get("labels"), str):
        found["pretrain"] = {**pretrain, "labels": folder / expand(pretrain["labels"], ConfigError)}
    return found


def _with_pet_kind(run: Config, config: TrainConfig, path: Path) -> TrainConfig:
    """Let the run say which demand it is that the checkpoint corrects."""
    of_run = run.pet_kind if run.pet == "given" else run.pet
    if of_run is None:
        return config
    if config.pet_kind != UNKNOWN and not same_kind(config.pet_kind, of_run):
        raise ConfigError(
            f"{path}: training.pet_kind is '{config.pet_kind}', and the run has "
            f"{'pet_kind' if run.pet == 'given' else 'pet'}: {of_run}. Expected the same. Leave training.pet_kind out."
        )
    return config.model_copy(update={"pet_kind": of_run})


def _check_keys(content: dict, model: type[BaseModel], where: str) -> None:
    known = model.model_fields
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}{shown(key)}'.{nearest(str(key), known)} Known: {', '.join(known)}.")
