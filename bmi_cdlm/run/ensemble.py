"""Runs of an ensemble: every member of a checkpoint by itself, and the mean of their outputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.netcdf import LIBRARY, open_input
from bmi_cdlm.files.output import OutputFile, read_output
from bmi_cdlm.generator.checkpoint import load_members
from bmi_cdlm.names.errors import OutputError
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.output import check_outputs, output_attributes, output_places
from bmi_cdlm.run.parameters import fitting_checkpoint, read_lstm
from bmi_cdlm.run.simulation import Simulation

MEMBERS = "members"
"""Attribute of an output that is the mean of so many members, which lie beside it."""


def count_members(config: Config) -> int:
    """Members that a run of this configuration has: 1 but for an ensemble of parameters, or of states to go on from.

    Of parameters, unless one of them is chosen; of states, where `initial_state` is not there and its members are.
    """
    n = _count_checkpoints(config)
    return n if n > 1 else max(1, _count_states(config))


def _count_states(config: Config) -> int:
    state, n = config.initial_state, 0
    if isinstance(state, Path) and not state.exists():
        while member_path(state, n + 1).exists():
            n += 1
    return n


def _count_checkpoints(config: Config) -> int:
    path = config.parameters
    if config.member is not None or not isinstance(path, Path) or path.suffix != ".safetensors":
        return 1
    return len(load_members(path))


def member_path(path: Path, member: int) -> Path:
    """Where a member of an ensemble, from 1, has what the ensemble has at `path`."""
    return path.with_name(f"{path.stem}.member{member}{path.suffix}")


def member_config(config: Config, member: int) -> Config:
    """The run of one member, with output and restart file of its own.

    It goes on from the restart file that a run of the ensemble has left of it; from `initial_state` itself, if it is
    there, all members do.
    """
    own: dict[str, object] = {
        key: member_path(p, member) for key in ("output", "restart") if (p := getattr(config, key)) is not None
    }
    state = config.initial_state
    if isinstance(state, Path) and not state.exists() and member_path(state, member).exists():
        own["initial_state"] = member_path(state, member)
    if _count_checkpoints(config) > 1:
        own["member"] = member
    return config.model_copy(update=own)


def member_configs(config: Config) -> list[Config]:
    """The runs of all members; that of the configuration itself where it names no ensemble, or one member of it."""
    n = count_members(config)
    return [config] if n == 1 else [member_config(config, member) for member in range(1, n + 1)]


def run_ensemble(config: Config, progress: Callable[[int], None], *, resume: bool = False) -> None:
    """Run every member one after the other, and write the mean of their outputs, step by step, to `output`.

    progress : called with numbers of completed steps, of any member. resume : go on with each member from its restart
    file; the mean is made anew.

    Raises
    ------
    CdlmError
        As `Simulation`; nothing is written where a path cannot be, or a member does not fit the run.
    """
    members = member_configs(config)
    check_outputs(config)
    domain = read_domain(config.domain)
    for own in members if _count_checkpoints(config) > 1 else ():  # before any of them runs
        fitting_checkpoint(own).evaluate(own.domain, domain)
        read_lstm(own, domain)
    for own in members:
        with closing(Simulation(own, resume=resume)) as simulation:
            progress(simulation.n_done)
            simulation.run(progress)
    if config.output is not None:
        _write_mean(config, len(members))


def _write_mean(config: Config, n: int) -> None:
    output = config.output
    assert output is not None
    dimension, ids, _ = output_places(config, read_domain(config.domain))
    attributes = {**output_attributes(config), MEMBERS: str(n)}
    n_rows = config.n_steps // config.steps_per_output
    row_bytes = 8 * len(ids) * (len(config.output_variables) + 2)
    length = max(1, config.memory // (2 * row_bytes))
    with OutputFile(
        output, dimension, ids, config.output_variables, config.time_step * config.steps_per_output, attributes,
        precision=config.output_precision, calendar=config.calendar,
    ) as file:
        for first in range(0, n_rows, length):
            rows = slice(first, min(first + length, n_rows))
            starts, means = np.empty(0), {}
            for name in config.output_variables:
                total: np.ndarray | float = 0.0
                for member in range(1, n + 1):
                    starts, _, values = read_output(member_path(output, member), name, rows)
                    total = total + values
                means[name] = total / n
            file.append(starts, means)  # type: ignore[arg-type]


def read_members(output: Path, name: str) -> np.ndarray | None:
    """One variable of every member of an output, float64[member, time, point]; None where it is that of one run."""
    with LIBRARY, open_input(output, OutputError) as dataset:
        n = int(dataset.getncattr(MEMBERS)) if MEMBERS in dataset.ncattrs() else 0
    if not n:
        return None
    return np.stack([read_output(member_path(output, k), name)[2] for k in range(1, n + 1)])
