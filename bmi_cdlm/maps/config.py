"""The configuration of signature maps: the keys below `signatures` in the configuration of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.paths import expand
from bmi_cdlm.prepare.config import explain_block
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.values import Date

Target = Literal["mean_runoff", "baseflow_index"]
ModelName = Literal["random_forest", "gradient_boosting", "support_vectors", "k_nearest"]
Design = Literal["site", "fold"]


class SignaturesConfig(BaseModel):
    """What `cdlm signatures` maps, from what, and how. Paths are relative to the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    output: Path = Field(
        description="Maps to write (NetCDF); the report (.md), predictions at gauges (.csv) and what was learned so "
        "far (.jsonl) stand beside them."
    )
    predictors: tuple[str, ...] = Field(
        min_length=1, description="Attributes of cells, whose means over basins predict signatures."
    )
    targets: tuple[Target, ...] = Field(
        default=("mean_runoff", "baseflow_index"), min_length=1, description="Signatures to map: mean runoff [mm yr-1] "
        "and the baseflow index by HYSEP's sliding interval [1]."
    )
    period: tuple[Date, Date] | None = Field(
        default=None, description="Start and end of the records that signatures are read from; none: the run."
    )
    largest_area: float = Field(
        default=15000.0, gt=0, description="Basins that are larger are left out: one mean tells little of them [km2]."
    )
    models: tuple[ModelName, ...] = Field(
        default=("random_forest", "gradient_boosting", "support_vectors", "k_nearest"), min_length=1,
        description="Regressions to compare; the one of the best R2 makes the map."
    )
    search: int = Field(
        default=30, ge=0, description="Random settings that each regression tries within the gauges that it is fitted "
        "to; 0: typical settings [1]."
    )
    inner_folds: int = Field(default=5, ge=2, description="Folds of that search; nested gauges share one [1].")
    leave: Design = Field(
        default="site", description="What is left out to score, and to choose the regression: one gauge at a time "
        "with all gauges that `nested` says, or one of `folds` folds."
    )
    nested: Literal["upstream", "both"] = Field(
        default="upstream", description="Which gauges are left out with a gauge: those upstream, or also those "
        "downstream, which have its water."
    )
    folds: int = Field(
        default=5, ge=2, description="Folds of independent basins, as of `cdlm-train experiment`. The file has a map "
        "of each, which no gauge of the fold was shown to [1]."
    )
    regions: int = Field(
        default=5, ge=0, description="Regions by place (clusters of the centres of basins) that are left out in a "
        "further table; 0: none [1]."
    )
    seed: int = Field(default=1, ge=0, description="Seed of regressions and search [1].")
    processes: int = Field(default=1, ge=1, description="Regressions fitted at a time [1].")

    @model_validator(mode="after")
    def _check(self) -> SignaturesConfig:
        for key in ("predictors", "targets", "models"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names one twice")
        if self.output.suffix != ".nc":
            raise ValueError(f"output is {self.output.name}; expected a name that ends in .nc")
        if self.period is not None and self.period[1] <= self.period[0]:
            raise ValueError("period ends before it starts")
        return self


class Signatures(NamedTuple):
    """A configuration file as read: the run, and its maps."""

    path: Path
    run: Config
    config: SignaturesConfig


def load_signatures(path: Path) -> Signatures:
    """Read the run and the block `signatures` of a configuration file.

    Raises
    ------
    ConfigError
        No such block, unknown keys or bad values; no observations.
    """
    run = load_config(path)
    if run.signatures is None:
        raise ConfigError(f"{path}: key 'signatures' is missing. Add it; cfg/README.md lists its keys.")
    if run.observations is None:
        raise ConfigError(f"{path}: key 'observations' is missing; expected the records that signatures are read from.")
    content = dict(run.signatures)
    if isinstance(content.get("output"), str):
        content["output"] = path.parent / expand(content["output"], ConfigError)
    try:
        config = SignaturesConfig.model_validate(content, context={"calendar": run.calendar})
    except ValidationError as cause:
        raise ConfigError(f"{path}: signatures: {explain_block(cause, SignaturesConfig)} See cfg/README.md.") from cause
    run.check_target(config.output, "signatures.output")
    if config.period is not None and not (run.start <= config.period[0] and config.period[1] <= run.end):
        raise ConfigError(f"{path}: signatures.period lies outside of the run. Choose a part of it.")
    return Signatures(path, run, config)
