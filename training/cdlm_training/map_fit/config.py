"""The configuration of a fit to maps: the keys below `map_fit` in the configuration of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bmi_cdlm.generator.specification import Target
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.parameters import parameter
from bmi_cdlm.names.paths import expand
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.config import explain_block
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.values import Date
from cdlm_training.dataset import check_whole_steps


class MapFitConfig(BaseModel):
    """A fit of cells to maps. Paths are relative to the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    maps: Path = Field(description="Maps of mean runoff and baseflow index, of `cdlm signatures` (.nc).")
    output: Path = Field(
        description="Parameter file to write (.nc); beside it what each cell came to (NAME_cells.nc), and of the maps "
        "of fold K, NAME_foldK.nc and NAME_foldK_cells.nc."
    )
    period: tuple[Date, Date] | None = Field(
        default=None, description="Start and end of the period whose mean runoff and baseflow index are to be those of "
        "the maps; five years or more; none: the run."
    )
    warm_up: int = Field(default=365, ge=0, description="Steps at the begin of the period that do not count [steps].")
    volume: str = Field(
        default=FACTOR, description="Parameter that changes how much runs off: a factor on PET, or GR4J's "
        "exchange_coefficient (the production capacity hardly does)."
    )
    storage: str = Field(
        default="routing_capacity", description="Parameter that changes how evenly it runs off, by registry name."
    )
    weight: float = Field(default=1.0, ge=0, description="Weight of the error of the baseflow index beside that of "
        "the relative error of runoff [1].")
    prior: float = Field(default=1e-6, gt=0, description="Weight of the squared distance to the prior, before bounds; "
        "it decides where the maps do not [1].")
    prior_of_folds: str | None = Field(
        default=None, description="Checkpoint or parameter file of every fold, `{fold}` standing for its number: what "
        "is not fitted, and where the fit begins; none: `parameters` of the run, which must not have seen the gauges "
        "of a fold either."
    )
    iterations: int = Field(default=30, ge=1, description="Steps of Levenberg and Marquardt at most [1].")
    left_out: dict[str, float] = Field(
        default={}, description="Attributes of cells, and above which value of one a cell keeps the prior, such as "
        "`frac_water: 0.5`: lakes and glaciers are no hillslopes [units of each]."
    )
    rivers: bool = Field(
        default=False, description="After the cells fit the celerity of the rivers by itself, gauge by gauge from "
        "upstream to downstream, to the correlation of discharge, at the gauges that the maps were learned from."
    )
    folds: bool = Field(
        default=False, description="Fit to the maps of every fold too, run each, and keep the discharge of every gauge "
        "by the fold that never saw it (NAME_unseen.nc), for `against` of an experiment."
    )

    @model_validator(mode="after")
    def _check(self) -> MapFitConfig:
        if self.output.suffix != ".nc":
            raise ValueError(f"output is {self.output.name}; expected a name that ends in .nc")
        if self.prior_of_folds is not None and "{fold}" not in self.prior_of_folds:
            raise ValueError("prior_of_folds has no {fold} in it, expected a path of every fold")
        if self.volume == self.storage:
            raise ValueError("volume and storage name one parameter; expected two")
        return self


class MapFit(NamedTuple):
    """A configuration file as read: the run, the fit, what is free (volume, storage), and its steps (first, last)."""

    path: Path
    run: Config
    config: MapFitConfig
    free: tuple[Target, Target]
    steps: tuple[int, int]


def load_map_fit(path: Path) -> MapFit:
    """Read the run and the block `map_fit` of a configuration file.

    Raises
    ------
    ConfigError
        No such block, unknown keys or bad values; parameters that the processes of cells have not.
    """
    run = load_config(path)
    if run.map_fit is None:
        raise ConfigError(f"{path}: key 'map_fit' is missing. Add it; training/README.md tells of it.")
    content = dict(run.map_fit)
    for key in ("maps", "output"):
        if isinstance(content.get(key), str):
            content[key] = path.parent / expand(content[key], ConfigError)
    if isinstance(content.get("prior_of_folds"), str):
        content["prior_of_folds"] = str(path.parent / expand(content["prior_of_folds"], ConfigError))
    try:
        config = MapFitConfig.model_validate(content, context={"calendar": run.calendar})
    except ValidationError as cause:
        raise ConfigError(f"{path}: map_fit: {explain_block(cause, MapFitConfig)}") from cause
    if run.forcing == "caller" or run.components > 1 or not run.chain.cells:
        raise ConfigError(
            f"{path}: map_fit runs the cells by themselves: expected a forcing file, a runoff process, and one "
            "parameter set per cell (components: 1)."
        )
    run.check_target(config.output, f"{path}: map_fit.output", others={"map_fit.maps": config.maps})
    free = _target(path, run, config.volume), _target(path, run, config.storage)
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in config.period or (run.start, run.end))
    if not 0 <= first + config.warm_up < last <= run.n_steps:
        raise ConfigError(
            f"{path}: map_fit.period has steps {first} to {last} of {run.n_steps}, of which the first {config.warm_up} "
            "(warm_up) do not count. Expected more, within the run."
        )
    if config.period is not None:
        check_whole_steps(run, f"{path}: map_fit.period", config.period)
    per_day = DAY // run.time_step
    if (last - first - config.warm_up) % per_day:
        raise ConfigError(f"{path}: map_fit.period less its warm_up is no number of whole days. Expected whole days.")
    return MapFit(path, run, config, free, (first, last))


def _target(path: Path, run: Config, name: str) -> Target:
    own = {p.name: p for process in run.chain.cells for p in process.parameters}
    if name == FACTOR and run.takes_demand:
        own[FACTOR] = parameter(FACTOR)
    if name not in own:
        raise ConfigError(
            f"{path}: map_fit frees '{name}', which the processes of its cells have not. Known: {', '.join(own)}."
        )
    bounds = own[name].range_at(run.time_step)
    return Target(name, *bounds, own[name].scale)
