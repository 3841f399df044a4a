"""The configuration of a run: every key with its unit, default and meaning. The reference is generated from here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from bmi_cdlm.files.packing import MOST_DIGITS
from bmi_cdlm.files.yaml_loader import load_yaml
from bmi_cdlm.model.pet import RANGE, Formula, required
from bmi_cdlm.names.errors import ConfigError, UnknownNameError, nearest, shown
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select, variable
from bmi_cdlm.names.writing import check_path
from bmi_cdlm.run.values import Date, Memory, Seconds, parse_places

MOST_SPIN_UPS = 1000
GRIDS = {"gauges": "reach", "reaches": "reach", "cells": "cell"}
Fill = Literal["refuse", "zero", "hold", "interpolate"]


def parse_fill(value: object) -> object:
    """Let one word stand for every input."""
    return {v.short: value for v in select(role="input")} if isinstance(value, str) else value


def parse_output_places(value: object) -> object:
    """Let ids of reaches be whole numbers, or lines of a file."""
    if isinstance(value, str | Path) and str(value) not in GRIDS:
        try:
            if not Path(value).is_file():
                raise FileNotFoundError("there is no such file")
            lines = Path(value).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as cause:
            raise ValueError(
                f"'{value}' cannot be read ({cause}); expected gauges, reaches, cells, a list of reach ids, or a text "
                "file with one reach id a line"
            ) from cause
        return [line.strip() for line in lines if line.strip()]
    return parse_places(value)


Places = Annotated[Literal["gauges", "reaches", "cells"] | tuple[str, ...], BeforeValidator(parse_output_places)]


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
    parameters: Path | Literal["default"] = Field(
        default="default", description="Checkpoint of a trained generator (`.safetensors`), parameter file (NetCDF) on "
        "cells and reaches, or `default`."
    )
    start: Date = Field(description="Start of the run (ISO date or time).")
    end: Date = Field(description="End of the run, exclusive (ISO date or time).")
    time_step: Seconds = Field(default=DAY, description="Model step: `1 d` or `1 h`.", examples=["1 d"])
    routing_step: Seconds = Field(
        default=HOUR, description="Routing sub-step, an integer divisor of the model step.", examples=["1 h"]
    )
    snow: Literal["none", "cemaneige", "cemaneige_hysteresis"] = Field(
        default="none", description="Snow model; needs air temperature and the domain's mean annual snowfall."
    )
    pet: Literal["given"] | Formula = Field(
        default="given", description="Potential evapotranspiration: `given` as an input, or from other inputs by "
        "`oudin` (air temperature), `hargreaves` (its daily range; not hourly) or `penman_monteith` (FAO-56: humidity, "
        "pressure, shortwave radiation, wind; needs `cell_elevation` [m] in the domain)."
    )
    pet_kind: str | None = Field(
        default=None, description="Formula behind a given PET, such as `oudin`; must be the one that a checkpoint was "
        "trained with."
    )
    initial_state: Path | Literal["steady"] = Field(
        default="steady", description="`steady` (customary stores, rivers in steady state) or a restart file."
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
    training: dict[str, Any] | None = Field(
        default=None, description="Keys of `cdlm-train`, which runs ignore; see training/README.md."
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
    grid_profile: Literal["unstructured", "points"] = Field(
        default="unstructured", description="BMI type of the grids of cells, reaches and gauges."
    )

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.time_step not in (DAY, HOUR):
            raise ValueError(
                f"time_step is {self.time_step} s; expected `1 d` or `1 h`: GR4J has constants for these two only"
            )
        if self.time_step % self.routing_step:
            raise ValueError(
                f"routing_step is {self.routing_step} s; expected a divisor of the time step of {self.time_step} s"
            )
        if self.end <= self.start:
            raise ValueError(f"end is {self.end}; expected a time after start, {self.start}")
        if (self.end - self.start).astype(int) % self.time_step:
            raise ValueError(f"start to end is no whole number of time steps of {self.time_step} s")
        for name in self.forcing_fill:
            if name not in [v.short for v in select(role="input")]:
                raise ValueError(f"forcing_fill: there is no input '{name}'")
        if self.spin_up and (self.forcing == "caller" or self.initial_state != "steady"):
            raise ValueError(
                f"spin_up is {self.spin_up}; expected 0 with forcing: caller or a restart file, since it repeats the "
                "first year of the forcing file from a steady state"
            )
        self._check_inputs()
        self._check_paths()
        self._check_output()
        self._check_streams()
        return self

    def _check_inputs(self) -> None:
        if self.pet == "hargreaves" and self.time_step == HOUR:
            raise ValueError(
                "pet is hargreaves, which has no hourly form; expected oudin or penman_monteith, or time_step: 1 d"
            )
        if self.pet != "given" and self.pet_kind not in (None, self.pet):
            raise ValueError(f"pet_kind is {self.pet_kind} while pet is {self.pet}; expected none, or pet: given")
        if len(set(self.published)) < len(self.published):
            raise ValueError(f"published_inputs names one input twice: {', '.join(self.published)}")
        known = [v.short for v in select(role="input")]
        for name in self.published:
            if name not in known:
                raise ValueError(f"published_inputs: there is no input '{name}'.{nearest(name, known)}")
        unheard = [name for name in self.inputs if name not in self.published and name not in RANGE]
        if self.forcing == "caller" and unheard:
            raise ValueError(
                f"published_inputs lacks '{unheard[0]}', which this run needs and nobody else gives; expected it "
                "there, or a forcing file"
            )

    def _check_streams(self) -> None:
        """Refuse steps of output and restart files that do not fit together."""
        length = int((self.end - self.start).astype(int))
        if self.output_step is not None:
            if self.output_step % self.time_step or length % self.output_step:
                raise ValueError(
                    f"output_step is {self.output_step} s; expected a multiple of time_step, {self.time_step} s, of "
                    "which start to end is a whole number"
                )
            states = [name for name in self.output_variables if variable(name).role != "flux"]
            if states and self.steps_per_output > 1:
                raise ValueError(f"output_step: '{states[0]}' is a state; expected fluxes only, which have means")
        if self.restart_every is not None:
            if self.restart is None:
                raise ValueError("restart_every without restart; expected the path of the file to write")
            if self.restart_every % (self.output_step or self.time_step):
                raise ValueError(
                    f"restart_every is {self.restart_every} s; expected a multiple of "
                    f"{self.output_step or self.time_step} s, the step of the output"
                )

    def _check_paths(self) -> None:
        taken = [self.domain, self.forcing, self.parameters, self.observations]
        for key in ("output", "restart"):
            path = getattr(self, key)
            if path is not None and path in taken:
                raise ValueError(f"{key} is {path}, the file of another key; expected a path of its own")
            taken.append(path)

    def _check_output(self) -> None:
        wanted = GRIDS.get(self.output_at, "reach") if isinstance(self.output_at, str) else "reach"
        if not self.output_variables:
            raise ValueError("output_variables is empty; expected at least one name, such as discharge")
        if len(set(self.output_variables)) < len(self.output_variables):
            raise ValueError(f"output_variables names one variable twice: {', '.join(self.output_variables)}")
        if isinstance(self.output_at, tuple) and len(set(self.output_at)) < max(1, len(self.output_at)):
            raise ValueError("output_at holds no id or one twice; expected different ids")
        for name in self.output_variables:
            try:
                found = variable(name)
            except UnknownNameError as cause:
                raise ValueError(f"output_variables: {cause}") from cause
            if found.part == "snow" and self.snow == "none":
                raise ValueError(f"output_variables: '{name}' needs a snow model; expected snow other than none")
            if found.part == "hysteresis" and self.snow != "cemaneige_hysteresis":
                raise ValueError(f"output_variables: '{name}' needs snow: cemaneige_hysteresis")
            if found.part == "ledger" and self.ledger_tolerance is None:
                raise ValueError(f"output_variables: '{name}' is kept with a ledger_tolerance only; set one")
            if found.role == "input" or found.grid != wanted:
                raise ValueError(
                    f"output_variables: '{name}' is {found.role} on {found.grid}; expected an output on {wanted}, "
                    f"which is where output_at: {self.output_at} writes"
                )

    @property
    def n_steps(self) -> int:
        """Number of model steps from start to end."""
        return int((self.end - self.start).astype(int)) // self.time_step

    @property
    def steps_per_output(self) -> int:
        """Number of model steps of which the output holds the mean."""
        return (self.output_step or self.time_step) // self.time_step

    @property
    def steps_per_restart(self) -> int:
        """Number of model steps from one restart file to the next."""
        return (self.restart_every or self.n_steps * self.time_step) // self.time_step

    @property
    def inputs(self) -> list[str]:
        """Short names of the inputs that this run needs."""
        needed = {"precipitation"}
        needed |= {"potential_evapotranspiration"} if self.pet == "given" else {*required(self.pet, self.time_step)}
        needed |= set() if self.snow == "none" else {"air_temperature"}
        return [v.short for v in select(role="input") if v.short in needed]

    @property
    def published(self) -> tuple[str, ...]:
        """Short names of the inputs that BMI shows; a caller's daily range is accumulated unless it is asked for."""
        if self.published_inputs is not None:
            return self.published_inputs
        return tuple(n for n in self.inputs if self.forcing != "caller" or n not in RANGE)


MOST_PROBLEMS, LONGEST_REASON = 10, 500
"""How many problems a message names, and how long each may be."""
PATH_KEYS = ("domain", "forcing", "parameters", "initial_state", "output", "restart", "observations")
KEYWORDS = ("caller", "default", "steady")


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
    for key in (*PATH_KEYS, "output_at"):
        value = content.get(key)
        if isinstance(value, str) and value not in (GRIDS if key == "output_at" else KEYWORDS):
            content[key] = path.parent / value
            check_path(content[key], ConfigError)
    try:
        return Config(**{**content, **(overrides or {})})
    except ValidationError as cause:
        raise ConfigError(f"{path}: {explain(cause)} See cfg/README.md.") from cause


def explain(cause: ValidationError) -> str:
    """One sentence per problem: key path, got, expected."""
    sentences = []
    for problem in cause.errors():
        path = problem["loc"][: 2 if problem["loc"][:1] == ("forcing_fill",) else 1]
        key = shown(".".join(str(part) for part in path)) or "configuration"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            sentences.append(f"key '{key}' is missing.")
        elif problem["type"] == "value_error":
            sentences.append(f"{key}: {shown(message, LONGEST_REASON)}.")
        else:
            sentences.append(f"{key} is {shown(repr(problem['input']))}: {shown(message, LONGEST_REASON)}.")
    different = list(dict.fromkeys(sentences))
    more = len(different) - MOST_PROBLEMS
    return " ".join(different[:MOST_PROBLEMS]) + (f" And {more} more." if more > 0 else "")
