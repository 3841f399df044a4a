"""What of the keys of a run contradicts another: refused before a file is read, with what is expected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bmi_cdlm.model.outside import serving
from bmi_cdlm.model.pet import RANGE
from bmi_cdlm.names.calendars import STANDARD, date_text
from bmi_cdlm.names.coupling import COUPLED, COUPLING
from bmi_cdlm.names.entry import SUMMED
from bmi_cdlm.names.errors import ConfigError, UnknownNameError, nearest
from bmi_cdlm.names.paths import taken_by
from bmi_cdlm.names.registry import process as find_declared
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select, variable
from bmi_cdlm.processes.catalogue import FORMULAS, kind_of
from bmi_cdlm.processes.catalogue import choose as choose_processes
from bmi_cdlm.run.values import GRIDS, duration_text

if TYPE_CHECKING:
    from bmi_cdlm.run.config import Config

FORMS = {DAY: "daily", HOUR: "hourly"}


def check(config: Config) -> None:
    """Refuse what contradicts itself; ValueError says what, and what is expected."""
    try:
        choose_processes(**config.processes)
    except ConfigError as cause:
        raise ValueError(str(cause).removesuffix(".")) from cause
    if config.time_step not in (DAY, HOUR):
        raise ValueError(
            f"time_step is {config.time_step} s; expected `1 d` or `1 h`: GR4J has constants for these two only"
        )
    if config.time_step % config.routing_step:
        raise ValueError(
            f"routing_step is {config.routing_step} s; expected a divisor of the time step of {config.time_step} s"
        )
    if config.day_begins is not None and config.time_step != DAY:
        raise ValueError("day_begins is for a daily model; expected time_step: 1 d, or no day_begins")
    if config.before_start and config.sub_step_policy == "refuse":
        raise ValueError(
            f"start is {date_text(config.start)}, {config.before_start} s into a day, and sub_step_policy is refuse; "
            "expected a start at day_begins, or sub_step_policy: accumulate"
        )
    if config.end <= config.start:
        raise ValueError(f"end is {date_text(config.end)}; expected a time after start, {date_text(config.start)}")
    if config.time_units == "since" and config.calendar != STANDARD:
        raise ValueError(
            f"time_units is since, and BMI has no word for the calendar {config.calendar}: a host would make real "
            "dates of it; expected time_units: s"
        )
    if config.name_profile == "ngen" and config.calendar != STANDARD:
        raise ValueError(
            f"calendar is {config.calendar}, and NextGen, whose names name_profile asks for, has real dates; "
            "expected calendar: standard, or name_profile: csdms"
        )
    if (config.end - config.start).astype(int) % config.time_step:
        raise ValueError(f"start to end is no whole number of time steps of {config.time_step} s")
    for key in ("forcing_fill", "forcing_fill_limit"):
        for name in getattr(config, key):
            if name not in [v.short for v in select(role="input")]:
                raise ValueError(f"{key}: there is no input '{name}'")
    checkpoint = isinstance(config.parameters, Path) and config.parameters.suffix == ".safetensors"
    if config.member is not None and not checkpoint and config.training is None:  # which may start from an ensemble
        raise ValueError(
            f"member is {config.member}, and parameters is {config.parameters}; expected a checkpoint that holds an "
            "ensemble. Name one, or leave member out"
        )
    if config.initial_rain is not None and config.initial_runoff is not None:
        raise ValueError("initial_rain and initial_runoff are both given; expected one of them, or none")
    if config.initial_state != "equilibrium" and (config.initial_rain, config.initial_runoff) != (None, None):
        raise ValueError("initial_rain or initial_runoff without initial_state: equilibrium, which they describe")
    if config.spin_up and (config.forcing == "caller" or isinstance(config.initial_state, Path)):
        raise ValueError(
            f"spin_up is {config.spin_up}; expected 0 with forcing: caller or a restart file, since it repeats the "
            "first year of the forcing file from a start of its own"
        )
    _check_coupled(config)
    _check_inputs(config)
    known = [v.short for v in (*select(role="flux"), *COUPLING) if v.role == "flux" and v.units in SUMMED]
    for name in config.call_sums:
        if name not in known:
            raise ValueError(f"call_sums: '{name}' is no flux that has a sum.{nearest(name, known)}")
    _check_paths(config)
    _check_output(config)
    _check_streams(config)


def _check_inputs(config: Config) -> None:
    formula = config.pet_formula
    if formula is not None and config.time_step not in formula.steps:
        others = " or ".join(one.name for one in FORMULAS if config.time_step in one.steps)
        raise ValueError(
            f"pet is {config.pet}, which has no {FORMS[config.time_step]} form; expected {others}, or time_step: "
            f"{' or '.join(duration_text(step) for step in formula.steps)}"
        )
    if formula is not None and config.pet_kind not in (None, config.pet):
        raise ValueError(f"pet_kind is {config.pet_kind} while pet is {config.pet}; expected none, or pet: given")
    if len(set(config.published)) < len(config.published):
        raise ValueError(f"published_inputs names one input twice: {', '.join(config.published)}")
    known = [v.short for v in select(role="input")]
    for name in config.published:
        if name in COUPLED:
            raise ValueError(f"published_inputs names '{name}'; expected it under coupled_inputs")
        if name not in known:
            raise ValueError(f"published_inputs: there is no input '{name}'.{nearest(name, known)}")
    unheard = [name for name in config.inputs if name not in config.published and name not in RANGE]
    if config.forcing == "caller" and unheard:
        raise ValueError(
            f"published_inputs lacks '{unheard[0]}', which this run needs and nobody else gives; expected it "
            "there, or a forcing file"
        )


def _check_coupled(config: Config) -> None:
    if len(set(config.sub_step_outputs)) < len(config.sub_step_outputs):
        raise ValueError(f"sub_step_outputs names one flux twice: {', '.join(config.sub_step_outputs)}")
    if len(set(config.coupled_inputs)) < len(config.coupled_inputs):
        raise ValueError(f"coupled_inputs names one input twice: {', '.join(config.coupled_inputs)}")
    for name in config.coupled_inputs:
        if name not in COUPLED:
            raise ValueError(
                f"coupled_inputs: there is no input '{name}'.{nearest(name, COUPLED)} Known: {', '.join(COUPLED)}"
            )
        for other in variable(name).of:
            if other not in config.chain.inputs:
                raise ValueError(
                    f"coupled_inputs: '{name}' stands in place of '{other}', which no process of this run takes "
                    f"({', '.join(config.chain.names)}); expected a process that does, or no '{name}'"
                )
            if other in (config.published_inputs or ()):
                raise ValueError(
                    f"coupled_inputs: '{name}' and its complement '{other}' are both given; expected one of them"
                )
            if config.forcing != "caller" and not config.inputs:
                raise ValueError(
                    f"coupled_inputs: '{name}' stands in place of all that forcing, {config.forcing}, could give; "
                    "expected forcing: caller"
                )
    for name in config.coupled_inputs:
        if variable(name).grid == "cell":
            try:
                serving(config.chain.cells[-1], name)
            except ConfigError as cause:
                raise ValueError(str(cause).removesuffix(".")) from cause


def _check_streams(config: Config) -> None:
    """Refuse steps of output and restart files that do not fit together."""
    length = int((config.end - config.start).astype(int))
    if config.output_step is not None:
        if config.output_step % config.time_step or length % config.output_step:
            raise ValueError(
                f"output_step is {config.output_step} s; expected a multiple of time_step, {config.time_step} s, of "
                "which start to end is a whole number"
            )
        states = [name for name in config.output_variables if variable(name).role != "flux"]
        if states and config.steps_per_output > 1:
            raise ValueError(f"output_step: '{states[0]}' is a state; expected fluxes only, which have means")
    if config.restart_every is not None:
        if config.restart is None:
            raise ValueError("restart_every without restart; expected the path of the file to write")
        if config.restart_every % (config.output_step or config.time_step):
            raise ValueError(
                f"restart_every is {config.restart_every} s; expected a multiple of "
                f"{config.output_step or config.time_step} s, the step of the output"
            )


def _check_paths(config: Config) -> None:
    for key in ("output", "restart"):
        path = getattr(config, key)
        others = config.files if key == "output" else {k: p for k, p in config.files.items() if k != "initial_state"}
        if key == "restart" and config.output is not None:
            others |= {"output": config.output}
        taken = None if path is None else taken_by(path, others)
        if taken is not None:
            raise ValueError(f"{key} is {path}, the file of {taken}; expected a path of its own")


def _check_output(config: Config) -> None:
    wanted = GRIDS.get(config.output_at, "reach") if isinstance(config.output_at, str) else "reach"
    if not config.output_variables:
        raise ValueError("output_variables is empty; expected at least one name, such as discharge")
    if len(set(config.output_variables)) < len(config.output_variables):
        raise ValueError(f"output_variables names one variable twice: {', '.join(config.output_variables)}")
    if isinstance(config.output_at, tuple) and len(set(config.output_at)) < max(1, len(config.output_at)):
        raise ValueError("output_at holds no id or one twice; expected different ids")
    for name in config.output_variables:
        try:
            found = variable(name)
        except UnknownNameError as cause:
            raise ValueError(f"output_variables: {cause}") from cause
        if found.part == "process" and not set(found.of) & set(config.chain.names):
            kind = kind_of(find_declared(found.of[0]))
            raise ValueError(
                f"output_variables: '{name}' is of {kind} {' or '.join(found.of)}; expected {kind}: {found.of[0]}"
            )
        if found.part == "coupling":
            raise ValueError(
                f"output_variables: '{name}' is of coupled_inputs, which other models give through BMI; expected "
                "a variable that a run alone has"
            )
        if found.part == "ledger" and config.ledger_tolerance is None:
            raise ValueError(f"output_variables: '{name}' is kept with a ledger_tolerance only; set one")
        if found.role == "input" or found.grid != wanted:
            raise ValueError(
                f"output_variables: '{name}' is {found.role} on {found.grid}; expected an output on {wanted}, "
                f"which is where output_at: {config.output_at} writes"
            )
