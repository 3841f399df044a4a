"""A run: a model with its files and its clock. What `cdlm run` and BMI drive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import numpy as np

from bmi_cdlm.checkpoint import load_checkpoint
from bmi_cdlm.config import Config
from bmi_cdlm.domain import Domain, read_domain
from bmi_cdlm.errors import ConfigError, ForcingError, StateError
from bmi_cdlm.files import check_writable
from bmi_cdlm.forcing import ForcingFile
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.model import Forcing, Model
from bmi_cdlm.output import Dimension, OutputFile, partial_path
from bmi_cdlm.packing import average
from bmi_cdlm.parameter_file import read_parameters
from bmi_cdlm.parameters import DAY
from bmi_cdlm.season import day_of_year
from bmi_cdlm.state import Restart, read_restart, write_restart
from bmi_cdlm.streaming import Take, WriteBehind, read_ahead
from bmi_cdlm.variables import variable

STEADY_DAYS = 10
YEAR_DAYS = 365
Progress = Callable[[int], None]
logger = logging.getLogger(__name__)
PENDING = "pending_"
"""Prefix under which a restart file keeps inputs that were accumulated within a step."""


def _nothing(*_: object) -> None:
    """Take what is not wanted."""


class Simulation:
    """A model with its forcing, clock and files.

    Attributes
    ----------
    config : Config
    model : Model
    elapsed : int
        Seconds of completed steps since the start of the configuration.
    pending : dict of float64[cell]
        Inputs accumulated within the running step [value x s]; empty at a step boundary.
    pending_seconds : int
        How much of the running step has passed.
    resumed : bool
        Whether it goes on from the restart file of a run that did not finish (`resume`, and there is one).

    Raises
    ------
    CdlmError
        Whatever is wrong with any file or key, before anything is written.
    """

    def __init__(self, config: Config, *, resume: bool = False) -> None:
        self.config = config
        self.resumed = resume and _can_resume(config)
        domain = read_domain(config.domain)
        parameters, pet = read_any_parameters(config, domain)
        self.forcing: ForcingFile | None = None
        if config.forcing != "caller":
            self.forcing = ForcingFile(
                Path(config.forcing), config.inputs, domain.cells.id, config.start, config.end, config.time_step,
                config.forcing_fill, cache=config.memory // 2,
            )
        try:
            self._start(domain, parameters, pet)
        except BaseException:
            if self.forcing is not None:
                self.forcing.close()
            raise

    def _start(self, domain: Domain, parameters: Mapping[str, np.ndarray], pet: PetNetwork | None) -> None:
        config = self.config
        _check_pet_outputs(config, pet)
        self.model = Model(
            domain, parameters, step=config.time_step, routing_step=config.routing_step, snow=config.snow,
            threads=config.threads, pet=pet,
        )
        self.elapsed = 0
        self.pending: dict[str, np.ndarray] = {}
        self.pending_seconds = 0
        self._initialise()

    def reset(self, parameters: Mapping[str, np.ndarray], pet: PetNetwork | None = None) -> None:
        """Start again with these parameters and this PET network or none: initial state, spin-up and clock."""
        self.model.close()
        self._start(self.model.domain, parameters, pet)

    @property
    def time(self) -> np.datetime64:
        """End of the last completed step."""
        return self.config.start + np.timedelta64(self.elapsed, "s")

    @property
    def n_done(self) -> int:
        """Number of completed steps."""
        return self.elapsed // self.config.time_step

    def advance(
        self, forcing: Forcing, keep: Sequence[str] = (), reaches: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Advance model and clock over the steps of the forcing; see `Model.advance`."""
        count = forcing.precipitation.shape[0]
        series = self.model.advance(self._dated(forcing, self.n_done, count), keep, reaches)
        self.elapsed += count * self.config.time_step
        return series

    def read_forcing(self, first: int, count: int) -> Forcing:
        """Forcing of `count` steps, counted from the start, from the file."""
        if self.forcing is None:
            raise ForcingError("forcing is 'caller': there is no file to read. Set the inputs, or name a forcing file.")
        return self._dated(Forcing(**self.forcing.read(first, count)), first, count)

    def _dated(self, forcing: Forcing, first: int, count: int) -> Forcing:
        """Forcing with the day of the year, where the model reads it."""
        if self.model.pet is None or forcing.day_of_year is not None:
            return forcing
        starts = self.config.start + (first + np.arange(count)) * np.timedelta64(self.config.time_step, "s")
        return forcing._replace(day_of_year=day_of_year(starts))

    def run(self, progress: Progress = _nothing) -> None:
        """Run to the end in blocks; output streams to its file.

        The restart file is written at every `restart_every` and at the end, behind the output up to there: a run
        that is killed goes on from it (`resume`), and its output is that of an unbroken run. progress is called
        after each block with the number of its steps.
        """
        config = self.config
        if self.forcing is None:
            raise ForcingError("forcing is 'caller', expected a forcing file. Name one, or step through BMI.")
        if self.pending_seconds:
            raise StateError(
                f"restart: saved {self.pending_seconds} s into a step, expected the end of a step. Step on through BMI."
            )
        if self.n_done == config.n_steps and not self._only_to_finish():
            raise StateError(f"restart: valid at {self.time}, the end of the run. Set a later end.")
        if self.n_done % config.steps_per_output:
            raise StateError(f"restart: valid at {self.time}, within an output_step. Use one at its end.")
        self.check_outputs()
        with self._open_output() as output, WriteBehind(output.append if output else _nothing) as write:

            def take(starts: np.ndarray, values: dict[str, np.ndarray]) -> None:
                write(starts[:: config.steps_per_output], values)
                if self._restart_is_due():
                    write.wait()
                    self._save_behind(output)

            names = config.output_variables if output else ()
            self.run_blocks(names, take, progress, places=self._output_places()[2], mean_over=config.steps_per_output)

    def _open_output(self) -> AbstractContextManager[OutputFile | None]:
        config = self.config
        if config.output is None:
            return nullcontext()
        dimension, ids, _ = self._output_places()
        return OutputFile(
            config.output, dimension, ids, config.output_variables, config.time_step * config.steps_per_output,
            self._attributes(), precision=config.output_precision,
            keep=self.n_done // config.steps_per_output if self.resumed else 0,
        )

    def _restart_is_due(self) -> bool:
        if self.config.restart is None:
            return False
        return self.n_done == self.config.n_steps or not self.n_done % self.config.steps_per_restart

    def _save_behind(self, output: OutputFile | None) -> None:
        """Write the restart file when all output before it is on disk: a resumed run finds both."""
        assert self.config.restart is not None
        if output is not None:
            output.flush()
        self.save(self.config.restart)

    def check_outputs(self) -> None:
        """Refuse output and restart paths that cannot be written."""
        for path in (self.config.output, self.config.restart):
            if path is not None:
                check_writable(path)

    def run_blocks(
        self, names: Sequence[str], take: Take, progress: Progress = _nothing, *, places: np.ndarray | None = None,
        mean_over: int = 1,
    ) -> None:
        """Run to the end; hand each block's step starts and the variables `names`, [time, n], to `take`.

        places : int64[], of which reaches (or cells, for a state) they are wanted; all where not given.
        mean_over : number of steps of which fluxes are averaged; blocks are cut accordingly.
        """
        fluxes = [name for name in names if variable(name).role == "flux"]
        length = self.block_length(fluxes, places) if len(fluxes) == len(names) else 1
        spans = self._spans(max(mean_over, length - length % mean_over))
        with closing(read_ahead(self.read_forcing, spans)) as blocks:
            for forcing in blocks:
                count = forcing.precipitation.shape[0]
                starts = self.time + np.arange(count) * np.timedelta64(self.config.time_step, "s")
                series = self.advance(forcing, fluxes, places)
                held = {n: self.model.live[n][None] for n in names if n not in series}
                take(starts, {
                    **{n: average(v, mean_over) for n, v in series.items()},
                    **{n: v if places is None else v[:, places] for n, v in held.items()},
                })
                progress(count)

    def _spans(self, length: int) -> Iterator[tuple[int, int]]:
        """First step and number of steps of each block from now on; none goes beyond a restart file."""
        first, every = self.n_done, self.config.steps_per_restart
        while first < self.config.n_steps:
            count = min(length, self.config.n_steps - first, every - first % every)
            yield first, count
            first += count

    def block_length(self, fluxes: Sequence[str] = (), places: np.ndarray | None = None) -> int:
        """Steps per block: as many as half of the configured memory holds; the other half is the forcing file's."""
        model, config = self.model, self.config
        sizes = [model.size_of(variable(name).grid) if places is None else places.size for name in fluxes]
        forcing = 2 * len(config.inputs) * model.domain.n_cells  # the block in use and the next
        return model.block_length(config.memory // 2, fluxes, places, more=8 * (forcing + 2 * sum(sizes)))

    def _output_places(self) -> tuple[Dimension, list[str], np.ndarray | None]:
        """Dimension of the output file, its ids, and their places among reaches; None for all reaches or cells."""
        domain, at = self.model.domain, self.config.output_at
        if at == "cells":
            return "cell", domain.cells.id, None
        if at == "reaches":
            return "reach", domain.reaches.id, None
        if at == "gauges":
            if self.config.output is not None and not domain.gauges.id:
                raise ConfigError("output_at: gauges, but the domain has none. Use reaches, cells, or reach ids.")
            return "gauge", domain.gauges.id, domain.gauges.reach
        wanted = set(at)
        place = {reach_id: i for i, reach_id in enumerate(domain.reaches.id) if reach_id in wanted}
        unknown = [i for i in at if i not in place]
        if unknown:
            raise ConfigError(f"output_at: the domain has no reach '{unknown[0]}'. Use ids of 'reach_id'.")
        return "reach", list(at), np.array([place[i] for i in at], np.int64)

    def _only_to_finish(self) -> bool:
        """Whether a run was killed after its last step, before its output was complete."""
        output = self.config.output
        return self.resumed and output is not None and partial_path(output).exists()

    def _attributes(self) -> dict[str, str]:
        keys = ("start", "end", "time_step", "routing_step", "snow", "spin_up")
        return {f"configuration_{key}": str(getattr(self.config, key)) for key in keys}

    def _initialise(self) -> None:
        if self.resumed:
            assert self.config.restart is not None
            domain = self.model.domain
            self.restore(read_restart(self.config.restart, domain.cells.id, domain.reaches.id))
            return
        if self.config.initial_state != "steady":
            self.restore(read_restart(
                Path(self.config.initial_state), self.model.domain.cells.id, self.model.domain.reaches.id
            ), hot_start=self.config.restart_mode == "hot_start")
            return
        if self.forcing is None:
            dry = np.zeros((1, self.model.domain.n_cells))
            self.model.fill_rivers(self._dated(Forcing(dry, dry, dry), 0, 1))
        else:
            steps = min(STEADY_DAYS * DAY // self.config.time_step, self.config.n_steps)
            self.model.fill_rivers(self.read_forcing(0, steps))
            self._spin_up()

    def _spin_up(self) -> None:
        steps = min(YEAR_DAYS * DAY // self.config.time_step, self.config.n_steps)
        length = self.block_length()
        spans = [(first, min(length, steps - first)) for first in range(0, steps, length)]
        for _ in range(self.config.spin_up):
            for forcing in read_ahead(self.read_forcing, spans):
                self.model.advance(forcing)
        if self.config.spin_up:
            self.model.begin(self.model.live["discharge"].copy())

    def snapshot(self) -> Restart:
        """Everything that the future and the outputs depend on, with the clock."""
        model, domain = self.model, self.model.domain
        fluxes = {v.short: v.grid for v in model.outputs if v.role == "flux"}
        cell = {**model.state.on_cells(), **{n: model.live[n] for n, g in fluxes.items() if g == "cell"}}
        cell |= {PENDING + name: values for name, values in self.pending.items()}
        reach = {**model.state.on_reaches(), **{n: model.live[n] for n, g in fluxes.items() if g == "reach"}}
        reach["reach_storage_time"] = model.storage_time
        attributes = {
            "time_step": str(self.config.time_step), "snow": self.config.snow,
            "pending_seconds": str(self.pending_seconds),
        }
        return Restart(cell, reach, domain.cells.id, domain.reaches.id, attributes, self.time)

    def save(self, path: Path) -> None:
        """Write a restart file."""
        write_restart(path, self.snapshot())

    def restore(self, restart: Restart, *, hot_start: bool = False) -> None:
        """Take over a saved state; with its clock, or (hot start) at the configured start.

        Raises
        ------
        StateError
            Another time step or snow model, or a clock outside the configured period.
        """
        for key in ("time_step", "snow"):
            got, expected = restart.attributes.get(key), str(getattr(self.config, key))
            if got != expected:
                raise StateError(f"restart: {key} is '{got}', expected '{expected}'. Use the options of that run.")
        elapsed = 0 if hot_start else int((restart.time - self.config.start).astype(int))
        if not 0 <= elapsed <= self.config.n_steps * self.config.time_step or elapsed % self.config.time_step:
            raise StateError(
                f"restart: valid at {restart.time}, expected a step between start {self.config.start} and end "
                f"{self.config.end}. Change start or end, or set restart_mode: hot_start."
            )
        self.model.restore(restart.cell, restart.reach)
        self.elapsed = elapsed
        self.pending_seconds = 0 if hot_start else int(restart.attributes["pending_seconds"])
        names = [n for n in restart.cell if n.startswith(PENDING)]
        self.pending = {} if hot_start else {n.removeprefix(PENDING): restart.cell[n].copy() for n in names}
        if hot_start:
            self.model.begin(self.model.live["discharge"].copy())

    def close(self) -> None:
        """Close files and threads."""
        if self.forcing is not None:
            self.forcing.close()
        self.model.close()


def read_any_parameters(config: Config, domain: Domain) -> tuple[dict[str, np.ndarray], PetNetwork | None]:
    """Parameters by registry name and the PET network, from whatever the configuration names.

    Raises
    ------
    CheckpointError, DomainError, ParameterError
        A file that is refused, or that does not fit the run or the domain.
    """
    if config.parameters == "default":
        return {}, None
    path = Path(config.parameters)
    if path.suffix != ".safetensors":
        return read_parameters(path, domain, config.time_step), None
    checkpoint = load_checkpoint(path)
    checkpoint.check_run(time_step=config.time_step, routing_step=config.routing_step, snow=config.snow)
    return checkpoint.evaluate(config.domain, domain)


def _can_resume(config: Config) -> bool:
    if config.restart is None:
        raise ConfigError("resume: the configuration has no 'restart', expected the file to go on from.")
    if not config.restart.exists():
        logger.warning("%s: not written yet, running from the start", config.restart)
        return False
    return True


def _check_pet_outputs(config: Config, pet: PetNetwork | None) -> None:
    for name in config.output_variables:
        if variable(name).part == "pet" and pet is None:
            raise ConfigError(
                f"output_variables: '{name}' needs a checkpoint with a PET network in 'parameters', and there is none. "
                "Leave it out, or name such a checkpoint."
            )
