"""A run from files to its end: blocks of steps, output that streams to its file, restart files behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.files.fingerprints import FINGERPRINTS
from bmi_cdlm.files.output import OutputFile, partial_path
from bmi_cdlm.files.restart import write_restart
from bmi_cdlm.files.streaming import WriteBehind
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, ForcingError, StateError
from bmi_cdlm.run.output import check_finished, check_outputs, output_attributes, output_places, set_aside

if TYPE_CHECKING:
    from bmi_cdlm.run.simulation import Simulation

Progress = Callable[[int], None]


def nothing(*_: object) -> None:
    """Take what is not wanted."""


def run_batch(simulation: Simulation, progress: Progress) -> None:
    """Run to the end in blocks; see `Simulation.run`."""
    config = simulation.config
    if simulation.forcing is None:
        raise ForcingError("forcing is 'caller', expected a forcing file. Name one, or step through BMI.")
    if config.before_start:
        raise ConfigError(
            f"start is {date_text(config.start)}, {config.before_start} s into a day: a run in steps begins with "
            "one. Start at day_begins, or step through BMI."
        )
    if simulation.model.domain.boundary.size:
        raise ConfigError(
            "coupled_inputs names 'boundary_inflow', which nobody gives to a run from files. Step through BMI."
        )
    if simulation.inputs.pending_seconds:
        raise StateError(
            f"restart: saved {simulation.inputs.pending_seconds} s into a step, expected the end of a step. Step on "
            "through BMI."
        )
    if simulation.n_done == config.n_steps and not _only_to_finish(simulation):
        if not simulation.resumed:
            raise StateError(f"restart: valid at {date_text(simulation.time)}, the end of the run. Set a later end.")
        check_finished(config, simulation.made_of())
        return
    if simulation.n_done % config.steps_per_output:
        raise StateError(f"restart: valid at {date_text(simulation.time)}, within an output_step. Use one at its end.")
    check_outputs(config)
    with _open_output(simulation) as output, WriteBehind(output.append if output else nothing) as write:
        if not simulation.resumed:
            set_aside(config)

        def take(starts: np.ndarray, values: dict[str, np.ndarray]) -> None:
            write(starts[:: config.steps_per_output], values)
            if _restart_is_due(simulation):
                write.wait()
                _save_behind(simulation, output)

        names = config.output_variables if output else ()
        places = output_places(config, simulation.model.domain)[2]
        simulation.run_blocks(names, take, progress, places=places, mean_over=config.steps_per_output)


def _open_output(simulation: Simulation) -> AbstractContextManager[OutputFile | None]:
    config = simulation.config
    if config.output is None:
        return nullcontext()
    dimension, ids, _ = output_places(config, simulation.model.domain)
    return OutputFile(
        config.output, dimension, ids, config.output_variables, config.time_step * config.steps_per_output,
        output_attributes(config, simulation.made_of()), precision=config.output_precision,
        keep=simulation.n_done // config.steps_per_output if simulation.resumed else 0, calendar=config.calendar,
    )


def _restart_is_due(simulation: Simulation) -> bool:
    config, done = simulation.config, simulation.n_done
    return config.restart is not None and (done == config.n_steps or not done % config.steps_per_restart)


def _save_behind(simulation: Simulation, output: OutputFile | None) -> None:
    """Write the restart file when all output before it is on disk: a resumed run finds both."""
    assert simulation.config.restart is not None
    if output is not None:
        output.flush()
    restart = simulation.snapshot()
    write_restart(
        simulation.config.restart,
        restart._replace(attributes={**restart.attributes, FINGERPRINTS: simulation.made_of() or ""}),
    )


def _only_to_finish(simulation: Simulation) -> bool:
    """Whether a run was killed after its last step, before its output was complete."""
    output = simulation.config.output
    return simulation.resumed and output is not None and partial_path(output).exists()
