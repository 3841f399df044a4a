"""The configuration of a run: every key with its unit, default and meaning. The reference is generated from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bmi_cdlm.files.netcdf import names_in
from bmi_cdlm.files.packing import MOST_DIGITS
from bmi_cdlm.files.yaml_loader import load_yaml
from bmi_cdlm.model.equilibrium import DEFAULT_RAIN
from bmi_cdlm.model.pet import RANGE, choose, required
from bmi_cdlm.names.coupling import COUPLED, coupled_outputs
from bmi_cdlm.names.declaration import PetFormula
from bmi_cdlm.names.errors import ConfigError, nearest, shown
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.names.paths import expand, taken_by
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select, variable
from bmi_cdlm.names.writing import check_path
from bmi_cdlm.processes.catalogue import FORMULAS, NOTHING, OF_CHAIN, Chain, Kind, Names, find, find_formula
from bmi_cdlm.processes.catalogue import choose as choose_processes
from bmi_cdlm.processes.pet import FORMATIONS
from bmi_cdlm.run import contradictions
from bmi_cdlm.run.problems import MOST_PROBLEMS, explain
from bmi_cdlm.run.screening import ScreeningConfig
from bmi_cdlm.run.values import (
    GRIDS,
    Calendar,
    Date,
    Fill,
    Memory,
    Places,
    Seconds,
    TimeOfDay,
    duration_text,
    parse_call_sums,
    parse_duration,
    parse_fill,
)

MOST_SPIN_UPS = 1000
BRIDGES = {v.short: v.known.bridge for v in select(role="input")}
NUMBERS = (
    "member", "components", "initial_rain", "initial_runoff", "spin_up", "output_precision", "threads",
    "ledger_tolerance",
)


class Config(BaseModel):
    """A run of the model. Paths are relative to the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    domain: Path = Field(description="Domain file: cells, reaches, links and gauges (NetCDF).")
    forcing: Path | Literal["caller"] = Field(
        description="Forcing file (NetCDF) or Zarr store, or `caller`: inputs come through set_value."
    )
    forcing_fill: Annotated[dict[str, Fill], BeforeValidator(parse_fill)] = Field(
        default={}, description="What to do where forcing is missing, for all inputs or per input: refuse, zero, hold "
        "(the last value before) or interpolate (in time)."
    )
    forcing_fill_limit: Annotated[dict[str, Seconds], BeforeValidator(parse_fill)] = Field(
        default={}, description="The longest gap that hold and interpolate bridge, for all inputs or per input, such "
        f"as `3 d`; else {', '.join(f'{short} {duration_text(s)}' for short, s in BRIDGES.items())}."
    )
    parameters: Path | Literal["default"] = Field(
        default="default", description="Checkpoint of a trained generator (`.safetensors`), parameter file (NetCDF) on "
        "cells and reaches, or `default`."
    )
    calendar: Calendar = Field(
        default="standard", description="In which the run counts: `standard`, or that of a climate model, `noleap` "
        "(also `365_day`: no 29 February) or `360_day` (twelve months of 30 days). Dates of this file, forcing and "
        "output are in it. No day is made up or left out; the sun goes round in a year of that calendar. Observations "
        "with real dates are met on days of the same date, and how many are not is told."
    )
    member: int | None = Field(
        default=None, ge=1, description="Member of a checkpoint that holds an ensemble, from 1; without it `cdlm run` "
        "runs all of them and writes the mean, and each member beside it [1]."
    )
    start: Date = Field(description="Start of the run (ISO date or time).")
    end: Date = Field(description="End of the run, exclusive (ISO date or time).")
    time_step: Seconds = Field(default=DAY, description="Model step: `1 d` or `1 h`.", examples=["1 d"])
    day_begins: TimeOfDay | None = Field(
        default=None, description="Time of day (UTC) at which the steps of a daily model begin, such as `06:00`, that "
        "of its forcing; without it that of `start`. A host may start at any hour: the first step then has begun "
        "before, and is complete at the boundary."
    )
    routing_step: Seconds = Field(
        default=HOUR, description="Routing sub-step, an integer divisor of the model step.", examples=["1 h"]
    )
    precipitation: str = Field(
        default="given", description="What corrects precipitation before snow and runoff: `given`, nothing; "
        "`undercatch`, factors on rain and on snow, which takes air temperature; or another process that `cdlm "
        "processes` lists."
    )
    snow: str = Field(
        default="none", description="Snow process: `none`, `cemaneige`, or another that `cdlm processes` lists, ours "
        "or of another package; CemaNeige needs air temperature and the domain's mean annual snowfall."
    )
    runoff: str = Field(
        default="gr4j", description="Runoff process of cells: `gr4j`, or another that `cdlm processes` lists, ours or "
        "of another package; `caller`: routing alone, runoff is an input (`given_runoff`, or `coupled_inputs: "
        "[given_lateral_inflow]`)."
    )
    routing: str = Field(
        default="muskingum", description="Process of reaches: `muskingum`, or another that `cdlm processes` lists, "
        "ours or of another package; `none`: runoff alone, discharge is the sum of the runoff above."
    )
    components: int = Field(
        default=1, ge=1, le=4096, description="Parameter sets per cell of the runoff process, whose mean is its "
        f"runoff, by `{WEIGHT}` where the parameters have it [1]."
    )
    pet: str = Field(
        default="given", description="Potential evapotranspiration: `given` as an input, or from other inputs by a "
        f"formula: {', '.join(f'`{one.name}`' for one in FORMULAS)}, or one of another package (`cdlm "
        "processes NAME` tells what it reads)."
    )
    pet_kind: str | None = Field(
        default=None, description=f"Formula behind a given PET, such as `{FORMULAS[0].name}`; must be the one that a "
        "checkpoint was trained with."
    )
    initial_state: Path | Literal["steady", "equilibrium"] = Field(
        default="steady", description="`steady` (customary stores, rivers in steady state), `equilibrium` (stores and "
        "rivers that `initial_rain` or `initial_runoff` would leave as they are) or a restart file, of a run or "
        "of `cdlm assimilate`; of an ensemble the file that the run before named in `restart`, or `cdlm assimilate` "
        "wrote to: each member goes on from its own. An hourly run without spin-up starts in `equilibrium` where "
        "nothing is stated."
    )
    initial_rain: float | None = Field(
        default=None, ge=0, le=1000, description="Net rain of an equilibrium: rain less evapotranspiration "
        f"[mm d-1]; {DEFAULT_RAIN:g} where neither this nor `initial_runoff` is given."
    )
    initial_runoff: float | None = Field(
        default=None, ge=0, le=1000, description="Mean runoff of an equilibrium, of every cell [mm d-1], such as the "
        "mean flow over the area."
    )
    restart_mode: Literal["resume", "hot_start"] = Field(
        default="resume", description="With a restart file: resume (state and clock) or hot_start (state only)."
    )
    spin_up: int = Field(
        default=0, ge=0, le=MOST_SPIN_UPS,
        description="How many times the first year (or the record) is run before `start` [1]."
    )
    output: Path | None = Field(
        default=None, description="Output file (NetCDF), or Zarr store where it ends in `.zarr`; without it nothing is "
        "written."
    )
    output_variables: tuple[str, ...] = Field(
        default=("discharge",), description="Short names of the variables to write, all on the grid of `output_at`."
    )
    output_at: Places = Field(
        default="gauges", description="Where to write: gauges, reaches, cells, a list of reach ids, or a text file "
        "with one reach id a line."
    )
    output_step: Seconds | None = Field(
        default=None, description="Write means of fluxes over this time, a multiple of `time_step`, such as `1 d` of "
        "an hourly run; every step where not given."
    )
    output_precision: int | None = Field(
        default=None, ge=1, le=MOST_DIGITS, description="Write 32-bit numbers rounded to so many significant "
        "digits [1]; 64 bits where not given. The file states the largest error."
    )
    restart: Path | None = Field(
        default=None, description="Restart file, written at the end of the run and at every `restart_every`."
    )
    restart_every: Seconds | None = Field(
        default=None, description="Time between restart files, such as `30 d`: a run that was killed goes on from the "
        "last (`cdlm run --resume`)."
    )
    memory: Memory = Field(
        default=256 * 2**20, description="Memory for the blocks of forcing, fluxes and output that a run works on, "
        "such as `512 MiB`; what the model itself and the output file hold (32 MiB) comes on top. "
        "With `--scheduler` every partition has so much."
    )
    observations: Path | None = Field(
        default=None, description="Observed discharge (NetCDF), for evaluate and training."
    )
    screening: ScreeningConfig | None = Field(
        default=None, description="A table of gauges, and which of them count, in evaluation, training, experiments "
        "and maps; see below. none: all."
    )
    training: dict[str, Any] | None = Field(
        default=None, description="Keys of `cdlm-train`, which runs ignore; see training/README.md."
    )
    experiment: dict[str, Any] | None = Field(
        default=None, description="Keys of `cdlm-train experiment`, which runs ignore; see training/README.md."
    )
    signatures: dict[str, Any] | None = Field(
        default=None, description="How `cdlm signatures` maps signatures of flow to regions without gauges; runs "
        "ignore it. See below."
    )
    map_fit: dict[str, Any] | None = Field(
        default=None, description="How `cdlm-train fit-maps` fits cells to maps of signatures; runs ignore it. See "
        "training/README.md."
    )
    prepare: dict[str, Any] | None = Field(
        default=None, description="How `cdlm prepare` makes domain, forcing and observations; runs ignore it. See "
            "below."
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Threads for the kernels [1].")
    sub_step_policy: Literal["accumulate", "refuse"] = Field(
        default="accumulate", description="A BMI call shorter than the model step: accumulate its inputs, or refuse it."
    )
    ledger_tolerance: float | None = Field(
        default=None, gt=0, description="Check the water balance of every cell and reach at every step, and stop where "
        "more of the water that went through is unexplained than this share, such as 1e-9; `.inf` shows the residuals "
        "and never stops [1]."
    )
    time_units: Literal["s", "since"] = Field(
        default="s", description="BMI time units: `s`, or `since`: seconds since the date of `start`, for hosts that "
        "turn times into dates."
    )
    name_profile: Literal["csdms", "ngen"] = Field(
        default="csdms", description="Names and units under which BMI publishes inputs."
    )
    published_inputs: tuple[str, ...] | None = Field(
        default=None, description="Short names of the inputs that BMI shows and a caller may set; without it all that "
        "the run needs. The others come from the forcing file. An input that is not needed may be published too."
    )
    coupled_inputs: tuple[str, ...] = Field(
        default=(), description="Short names of inputs by which other models couple, published beside those of the run "
        f"and 0 until set: {', '.join(COUPLED)}. What came of them is published too."
    )
    sub_step_outputs: tuple[Literal["discharge", "gauge_discharge"], ...] = Field(
        default=(), description="Fluxes of which BMI shows every routing sub-step of the last model step too, as a "
        "vector [sub-step, place]: `discharge` at reaches, `gauge_discharge`."
    )
    call_sums: Annotated[tuple[str, ...], BeforeValidator(parse_call_sums)] = Field(
        default=(), description="Short names of fluxes whose sums and means over the last call BMI publishes too, "
        "such as `[discharge]`, or `all` [mm, m3]; for hosts with calls longer than a step."
    )
    grid_profile: Literal["unstructured", "points", "rectilinear"] = Field(
        default="unstructured", description="BMI type of the grids of cells, reaches and gauges; `rectilinear` for "
        "cells that lie on a regular grid of longitudes and latitudes: their values come row by row, NaN where there "
        "is no cell, reaches and gauges are unstructured."
    )

    @model_validator(mode="before")
    @classmethod
    def _choose_start(cls, content: Any) -> Any:
        """Let an hourly run without spin-up start in equilibrium: half-full stores would give 9 mm on a dry day."""
        if not isinstance(content, Mapping) or "initial_state" in content or content.get("spin_up"):
            return content
        stated = any(content.get(key) is not None for key in ("initial_rain", "initial_runoff"))
        return {**content, "initial_state": "equilibrium"} if stated or _is_hourly(content) else content

    @field_validator(*NUMBERS, mode="before")
    @classmethod
    def _check_number(cls, value: object) -> object:
        """Refuse a word of YAML (yes, on, true) where a number is meant: it would count as 1."""
        if isinstance(value, bool):
            raise ValueError(f"is {str(value).lower()}, as which YAML takes yes, no, on and off; expected a number")
        return value

    @field_validator(*OF_CHAIN, "pet")
    @classmethod
    def _check_process(cls, name: str, info: ValidationInfo) -> str:
        """Refuse a process that is not there, or is one of another kind."""
        kind: Kind = info.field_name  # type: ignore[assignment]
        if name not in NOTHING.get(kind, ()):
            try:
                find(kind, name)
            except ConfigError as cause:
                raise ValueError(str(cause).removeprefix(f"{kind}: ").removesuffix(".")) from cause
        return name

    @model_validator(mode="after")
    def _check(self) -> Config:
        contradictions.check(self)
        return self

    @property
    def summed(self) -> tuple[str, ...]:
        """Short names of the fluxes with sums and means over a call, as far as this run has them."""
        own = (*select(role="flux", processes=self.chain.names, pet=False), *coupled_outputs(self.coupled_inputs))
        fluxes = [v.short for v in own]
        return tuple(name for name in self.call_sums if name in fluxes or variable(name).part == "pet")

    @property
    def files(self) -> dict[str, Path]:
        """What the run reads, by key; the restart file that it goes on from too, which `restart` may replace."""
        named = {key: getattr(self, key) for key in PATH_KEYS if key not in ("output", "restart")}
        if self.screening is not None:
            named["screening.table"] = self.screening.table
        return {key: path for key, path in named.items() if isinstance(path, Path)}

    def check_target(
        self, path: Path, what: str, *, replaces: Sequence[str] = (), others: Mapping[str, Path | None] | None = None
    ) -> None:
        """Refuse to write where a file of this run is, its output and restart file among them.

        what : what names the path, for the message; replaces : keys whose files it may replace; others : more files
        that are read, by what names them.

        Raises
        ------
        ConfigError
            The path is one of them, however it is written.
        """
        own = self.files | {key: getattr(self, key) for key in ("output", "restart")} | dict(others or {})
        taken = taken_by(path, {key: file for key, file in own.items() if file is not None and key not in replaces})
        if taken is not None:
            raise ConfigError(
                f"{what}: {path} is the file of {taken}, which would be lost; expected a path of its own."
            )

    @property
    def takes_demand(self) -> bool:
        """Whether a process takes potential evapotranspiration, and nothing stands in its place."""
        name = "potential_evapotranspiration"
        return name in self.chain.inputs and name not in self._replaced

    @property
    def _replaced(self) -> set[str]:
        """Inputs in place of which a coupled input stands."""
        return {other for name in self.coupled_inputs for other in variable(name).of}

    @property
    def processes(self) -> Names:
        """Names of the processes that water passes, by key: what a model, a checkpoint and a state are made with."""
        return Names(precipitation=self.precipitation, snow=self.snow, runoff=self.runoff, routing=self.routing)

    @property
    def chain(self) -> Chain:
        """The processes of the run."""
        return choose_processes(**self.processes)

    @property
    def pet_formula(self) -> PetFormula | None:
        """The formula of potential evapotranspiration; None where it is given."""
        return None if self.pet in NOTHING["pet"] else find_formula(self.pet)

    @property
    def n_steps(self) -> int:
        """Number of model steps from start to end."""
        return int((self.end - self.start).astype(int)) // self.time_step

    @property
    def before_start(self) -> int:
        """Seconds of the first step that have passed at the start."""
        if self.day_begins is None:
            return 0
        return int(self.start.astype("datetime64[s]").astype(np.int64) - self.day_begins) % DAY

    @property
    def forcing_period(self) -> tuple[np.datetime64, np.datetime64]:
        """Whole steps that start to end lie in."""
        before = np.timedelta64(self.before_start, "s")
        return self.start - before, self.end + (np.timedelta64(self.time_step, "s") - before if before else before)

    @property
    def steps_per_output(self) -> int:
        """Number of model steps of which the output holds the mean."""
        return (self.output_step or self.time_step) // self.time_step

    @property
    def steps_per_restart(self) -> int:
        """Number of model steps from one restart file to the next."""
        return (self.restart_every or self.n_steps * self.time_step) // self.time_step

    @property
    def bridges(self) -> dict[str, int]:
        """The longest gap of every input that is held or interpolated over [s]."""
        return BRIDGES | self.forcing_fill_limit

    def needed(self) -> tuple[str, ...]:
        """Short names of what this run needs, as its formula reads it: the speed of wind, the vapour pressure."""
        needed = self._taken()
        if self.takes_demand:
            formula = self.pet_formula
            needed |= {"potential_evapotranspiration"} if formula is None else {*required(formula, self.time_step)}
        return tuple(v.short for v in select(role="input") if v.short in needed)

    def _taken(self) -> set[str]:
        """Inputs that the processes take as they are, and that no coupled input stands in place of."""
        return {name for name in self.chain.inputs if name != "potential_evapotranspiration"} - self._replaced

    @property
    def inputs(self) -> list[str]:
        """Short names of the inputs that this run takes."""
        needed = self._taken()
        if self.takes_demand:
            formula = self.pet_formula
            needed |= {"potential_evapotranspiration"} if formula is None else {*self._read_by(formula)}
        return [v.short for v in select(role="input") if v.short in needed]

    def _read_by(self, formula: PetFormula) -> list[str]:
        """Inputs of the formula: speed and vapour pressure where the caller or the file has them, or their makings."""
        quantities = required(formula, self.time_step)
        optional = any(name in FORMATIONS for name in quantities) and isinstance(self.forcing, Path)
        return choose(quantities, self.published_inputs or (), names_in(Path(self.forcing)) if optional else ())

    @property
    def published(self) -> tuple[str, ...]:
        """Short names of the inputs that BMI shows; a caller's daily range is accumulated unless it is asked for."""
        if self.published_inputs is not None:
            return self.published_inputs
        return tuple(n for n in self.inputs if self.forcing != "caller" or n not in RANGE)


def _is_hourly(content: Mapping[str, Any]) -> bool:
    try:
        return parse_duration(content.get("time_step")) == HOUR
    except ValueError:
        return False


PATH_KEYS = ("domain", "forcing", "parameters", "initial_state", "output", "restart", "observations")
KEYWORDS = ("caller", "default", "steady", "equilibrium")


def load_config(path: Path | str, overrides: Mapping[str, object] | None = None) -> Config:
    """Read a YAML configuration; `overrides` replace keys before validation.

    Raises
    ------
    ConfigError
        Missing or unreadable file, unknown key (with the nearest valid one), bad value.
    """
    path = Path(path)
    content = load_yaml(path, ConfigError)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds {type(content).__name__}, expected keys and values. See cfg/README.md.")
    unknown = [f"unknown key '{shown(key)}'.{nearest(str(key), Config.model_fields)}" for key in content
               if key not in Config.model_fields]
    if unknown:
        raise ConfigError(f"{path}: {' '.join(unknown[:MOST_PROBLEMS])} Known: {', '.join(Config.model_fields)}.")
    own = {"the configuration itself": path}
    for key in (*PATH_KEYS, "output_at"):
        value = content.get(key)
        if isinstance(value, str) and value not in (GRIDS if key == "output_at" else KEYWORDS):
            content[key] = path.parent / expand(value, ConfigError)
            check_path(content[key], ConfigError)
            if key == "output_at":
                own[key] = content[key]
    screening = content.get("screening")
    if isinstance(screening, dict) and isinstance(screening.get("table"), str):
        content["screening"] = {**screening, "table": path.parent / expand(screening["table"], ConfigError)}
    try:
        config = Config(**{**content, **(overrides or {})})
    except ValidationError as cause:
        raise ConfigError(f"{path}: {explain(cause)} See cfg/README.md.") from cause
    for key, target in (("output", config.output), ("restart", config.restart)):
        taken = None if target is None else taken_by(target, own)
        if taken is not None:
            raise ConfigError(f"{path}: {key} is {target}, the file of {taken}; expected a path of its own.")
    return config
