"""A run: a model with its files and its clock. What `cdlm run` and BMI drive."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.packing import average
from bmi_cdlm.files.restart import Restart, read_restart, restart_to_bytes, write_restart
from bmi_cdlm.files.shared import share, version
from bmi_cdlm.files.streaming import Take, read_ahead
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.model.exchange import Exchange
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.totals import Outstanding
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.batch import Progress, nothing, run_batch
from bmi_cdlm.run.beginning import begin
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.continuing import can_resume, check_boundary
from bmi_cdlm.run.coupled import Coupled
from bmi_cdlm.run.fingerprints import fingerprints
from bmi_cdlm.run.inputs import Inputs
from bmi_cdlm.run.not_finite import find_not_finite, keep_state
from bmi_cdlm.run.parameters import (
    check_pet_outputs,
    make_demand,
    make_forcing,
    parameters_key,
    read_any_parameters,
    read_elevation,
    read_lstm,
)
from bmi_cdlm.run.partition import Part
from bmi_cdlm.run.rehearsal import rehearse
from bmi_cdlm.run.release import Release
from bmi_cdlm.run.saved_state import restore, snapshot, take_over
from bmi_cdlm.run.waves import wave_fit

logger = logging.getLogger(__name__)


class Simulation:
    """A model with its forcing, clock and files.

    Parameters
    ----------
    config : Config
    part, exchange : Part and Exchange, optional
        Run this part of the domain, and the flow across its boundary, in place of the whole.
    resume : bool
        Go on from the restart file, if there is one.
    ready : bool
        Load or compile every kernel now, for the first step not to wait.

    Attributes
    ----------
    config : Config
    model : Model
    inputs : Inputs
        What the caller holds and the running step has accumulated.
    coupled : Coupled
        What other models give.
    release : Release
        Runoff on its way to the caller.
    elapsed : int
        Seconds from the start of the configuration to the end of the last completed step: below 0 where a state from
        within a step goes on and its step began before the start.
    origin : int
        Seconds from the start to the first begin of a step that the clock counts from: 0, or below where the state of
        another run goes on whose steps begin elsewhere.
    carried : float64[cell] or None
        Precipitation that a state held unused when it was taken as a hot start [mm d-1 s]: falls in the first step.
    resumed : bool
        Whether it goes on from the restart file of a run that did not finish (`resume`, and there is one).

    Raises
    ------
    CdlmError
        Whatever is wrong with any file or key, before anything is written.
    """

    def __init__(
        self, config: Config, part: Part | None = None, exchange: Exchange | None = None, *, resume: bool = False,
        ready: bool = False,
    ) -> None:
        self.config, self._exchange, self._ready = config, exchange, ready
        self.resumed = resume and can_resume(config)
        self._fingerprints: str | None = None
        if part is None:
            self._domain = share(("domain", *version(config.domain)), lambda: read_domain(config.domain))
            domain = self._domain.value
            self._parameters = share(parameters_key(config), lambda: read_any_parameters(config, domain))
            parameters, pet = self._parameters.value
            self._network = read_lstm(config, domain)
        else:
            domain, parameters, pet, self._network = part.domain, part.parameters, part.pet, part.lstm
        self.forcing: ForcingFile | None = None
        if config.forcing != "caller":
            self.forcing = ForcingFile(
                Path(config.forcing), config.inputs, domain.cells.id, *config.forcing_period, config.time_step,
                config.forcing_fill, cache=config.memory // 2, bridges=config.bridges,
                places=None if part is None else (part.cells, part.n_cells),
            )
        try:
            elevation = read_elevation(config, domain) if part is None else part.elevation
            self._demand = make_demand(config, domain.cells, elevation)
            self._epoch = int(config.start.astype("datetime64[s]").astype(np.int64))
            self._start(domain, parameters, pet)
        except BaseException:
            if self.forcing is not None:
                self.forcing.close()
            raise

    def _start(self, domain: Domain, parameters: Mapping[str, np.ndarray], pet: PetNetwork | None) -> None:
        config = self.config
        check_pet_outputs(config, parameters, pet)
        check_boundary(config, domain)
        self.model = Model(
            domain, parameters, step=config.time_step, routing_step=config.routing_step, **config.processes,
            components={config.runoff: config.components}, threads=config.threads,
            pet=pet, ledger=config.ledger_tolerance is not None,
            exchange=self._exchange, coupled=config.coupled_inputs, sub_steps=config.sub_step_outputs,
            lstm=self._network,
        )
        fit = wave_fit(self.model)
        if fit is not None and not fit.fits(config.routing_step):
            logger.warning("%s", fit.told(config.routing_step))
        self.inputs = Inputs(config, domain.cells.id)
        self.coupled = Coupled(config.coupled_inputs, domain, config.time_step, self.model.n_sub)
        self.release = Release(self.model)
        self._held: Forcing | None = None
        self._begin_clock()
        self.carried: np.ndarray | None = None
        if self._ready:
            rehearse(self)
        begin(self)

    def _begin_clock(self) -> None:
        """Start the clock: at the begin of a step, or within one where the day begins elsewhere."""
        before = self.config.before_start
        self.elapsed = self.origin = -before
        self.inputs.begin_within(before)

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
        return (self.elapsed - self.origin) // self.config.time_step

    @property
    def now(self) -> int:
        """Seconds since the start, a running step included."""
        return self.elapsed + self.inputs.pending_seconds

    def advance(
        self, forcing: Forcing, keep: Sequence[str] = (), reaches: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Advance model and clock over the steps of the forcing; see `Model.advance`."""
        count, model = forcing.precipitation.shape[0], self.model
        if self.carried is not None:
            forcing = self._with_carried(forcing)
        if self.coupled.names:
            forcing = forcing._replace(coupled=self.coupled.take(count))
        if model.pet is not None:
            forcing = self.dated(forcing, self.n_done, count)
        before = keep_state(model, self.config.memory // 8) if count > 1 else None
        series = model.advance(forcing, keep, reaches)
        if not model.is_finite:
            raise find_not_finite(model, forcing, before, self.step_starts(self.n_done, count))
        self.elapsed += count * self.config.time_step
        return series

    def _with_carried(self, forcing: Forcing) -> Forcing:
        """Forcing with the precipitation that a state held unused when it was taken as a hot start, in its first step.
        """
        assert self.carried is not None
        name = self.config.chain.enters
        fallen = forcing.series()[name].copy()
        fallen[0] += self.carried / self.config.time_step
        self.carried = None
        if name == "precipitation":
            return forcing._replace(precipitation=fallen)
        return forcing._replace(others={**(forcing.others or {}), name: fallen})

    def check_ledger(self) -> None:
        """Refuse a residual above the configured tolerance, if there is one; to be called after every step."""
        if self.model.ledger is not None and self.config.ledger_tolerance is not None:
            self.model.ledger.check(self.config.ledger_tolerance, self.model.state, self.model.live, self.time)

    def advance_inputs(self, values: Mapping[str, np.ndarray]) -> None:
        """Advance by one step on inputs by short name, float64[1, cell] in registry units."""
        if values is not self.inputs.rows or self._demand is not None or self.model.pet is not None:
            self.advance(self.make_forcing(values, self.n_done, 1))
            return
        if self._held is None:  # the same arrays at every step
            self._held = self.make_forcing(values, self.n_done, 1)
        self.advance(self._held)

    def rehearse(self, values: Mapping[str, np.ndarray], coupled: float) -> None:
        """Advance the model, but not the clock, by a step on inputs and such coupled inputs; see `rehearsal`."""
        given = {name: np.full((1, held.size), coupled) for name, held in self.coupled.held.items()}
        self.model.advance(self.make_forcing(values, 0, 1)._replace(coupled=given or None))

    def show_inputs(self) -> None:
        """Show the file's values for the step that comes next; at the end, those of the last."""
        if self.forcing is not None:
            self.inputs.load(self.forcing, min(self.n_done, self.forcing.n_steps - 1))

    def end_call(self) -> None:
        """Bring what depends on the caller's clock up to date: runoff depth of the call, masses."""
        release, at_start = self.release, self.release.at_start
        unused = self.inputs.pending.get(self.config.chain.enters) if self.inputs.pending_seconds else None
        waiting = self.model.state.unreleased if release.seconds else None
        if at_start is not None:
            waiting = self.model.state.unreleased - at_start.discharge
            unused = (0.0 if unused is None else unused) - at_start.precipitation
            if self.carried is not None:
                unused += self.carried
        self.model.end_call(release.depth, Outstanding(unused, release.own_runoff(), waiting))

    def read_forcing(self, first: int, count: int) -> Forcing:
        """Forcing of `count` steps, counted from the start, from the file."""
        if self.forcing is None:
            raise ForcingError("forcing is 'caller': there is no file to read. Set the inputs, or name a forcing file.")
        return self.make_forcing(self.forcing.read(first, count), first, count)

    def make_forcing(self, values: Mapping[str, np.ndarray], first: int, count: int) -> Forcing:
        """Forcing of steps from their inputs, float64[time, cell] in registry units: demand by the formula.

        first : the first of the steps, counted from the begin of the first.
        """
        start = self._epoch + self.origin + first * self.config.time_step
        shape = count, self.model.domain.n_cells
        made = make_forcing(self.config, self._demand, values, start, self.model.workers, shape)
        return self.dated(made, first, count)

    def step_starts(self, first: int, count: int) -> np.ndarray:
        """Begins of `count` steps from this on, datetime64[s]."""
        seconds = self.origin + (first + np.arange(count)) * self.config.time_step
        return self.config.start + seconds.astype("timedelta64[s]")

    def dated(self, forcing: Forcing, first: int, count: int) -> Forcing:
        """Forcing with the day of the year, where the model reads it."""
        if self.model.pet is None or forcing.day_of_year is not None:
            return forcing
        return forcing._replace(day_of_year=day_of_year(self.step_starts(first, count)))

    def run(self, progress: Progress = nothing) -> None:
        """Run to the end in blocks; output streams to its file.

        The restart file is written at every `restart_every` and at the end, behind the output up to there: a run
        that is killed goes on from it (`resume`), and its output is that of an unbroken run. progress is called
        after each block with the number of its steps.
        """
        run_batch(self, progress)

    def made_of(self) -> str | None:
        """Fingerprints of what this run is made of; None where it writes no restart file. Files are read once."""
        if self.config.restart is not None and self._fingerprints is None:
            self._fingerprints = fingerprints(self.config)
        return self._fingerprints

    def run_blocks(
        self, names: Sequence[str], take: Take, progress: Progress = nothing, *, places: np.ndarray | None = None,
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
                series = self._advance_checked(forcing, fluxes, places)
                held = {n: self.model.live[n][None] for n in names if n not in series}
                take(starts, {
                    **{n: average(v, mean_over) for n, v in series.items()},
                    **{n: v if places is None else v[:, places] for n, v in held.items()},
                })
                progress(count)

    def _advance_checked(
        self, forcing: Forcing, fluxes: Sequence[str], places: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """As `advance`; with a ledger step by step, since it is checked at every one."""
        if self.model.ledger is None:
            return self.advance(forcing, fluxes, places)
        rows = []
        for t in range(forcing.precipitation.shape[0]):
            one = self.advance(forcing.part(slice(t, t + 1)), fluxes, places)
            rows.append({name: row.copy() for name, row in one.items()})
            self.check_ledger()
        return {name: np.concatenate([row[name] for row in rows]) for name in fluxes}

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
        if model.ledger is not None:
            return 1  # it is checked at every step
        sizes = [model.size_of(variable(name).grid) if places is None else places.size for name in fluxes]
        forcing = 2 * len(config.inputs) * model.domain.n_cells  # the block in use and the next
        return model.block_length(config.memory // 2, fluxes, places, more=8 * (forcing + 2 * sum(sizes)))

    @property
    def inputs_from(self) -> str:
        """Where forcing comes from, as a state tells it."""
        return "caller" if self.forcing is None else "file"

    def snapshot(self) -> Restart:
        """Everything that the future and the outputs depend on, with the clock."""
        return snapshot(self)

    def save(self, path: Path) -> None:
        """Write a restart file."""
        write_restart(path, self.snapshot())

    def to_bytes(self) -> bytes:
        """Return what `save` would write."""
        return restart_to_bytes(self.snapshot())

    def take_over(self, content: bytes) -> None:
        """Take over the state that a host gives back, in the configured mode, if its date fits the host's clock.

        A host that begins with it would count from the configuration's start: with ngen's names a state of another time
        is refused then, since ngen reads its forcing at its own start plus the model's clock. Others are told where
        the clock goes on.

        Raises
        ------
        StateError
            The state does not fit.
        """
        take_over(self, content)

    def restore_from(self, source: Path | bytes, *, hot_start: bool = False) -> None:
        """Take over the state of a restart file, or of the bytes of one; see `restore`."""
        domain = self.model.domain
        self.restore(read_restart(source, domain.cells.id, domain.reaches.id), hot_start=hot_start)

    def restore(self, restart: Restart, *, hot_start: bool = False) -> None:
        """Take over a saved state; with its clock, or (hot start) at the configured start.

        Raises
        ------
        StateError
            Another time step or other processes, or a clock outside the configured period.
        """
        restore(self, restart, hot_start=hot_start)

    def close(self) -> None:
        """Close files and threads."""
        if self.forcing is not None:
            self.forcing.close()
        self.model.close()
