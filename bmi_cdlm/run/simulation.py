"""A run: a model with its files and its clock. What `cdlm run` and BMI drive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.files.fingerprints import FINGERPRINTS, check_fingerprints
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.output import OutputFile, partial_path
from bmi_cdlm.files.packing import average
from bmi_cdlm.files.restart import Restart, read_restart, restart_to_bytes, write_restart
from bmi_cdlm.files.shared import share, version
from bmi_cdlm.files.streaming import Take, WriteBehind, read_ahead
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.model.exchange import Exchange
from bmi_cdlm.model.model import Forcing, Model
from bmi_cdlm.names.errors import ConfigError, ForcingError, StateError
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.fingerprints import fingerprints
from bmi_cdlm.run.inputs import HELD, Inputs
from bmi_cdlm.run.not_finite import find_not_finite, keep_state
from bmi_cdlm.run.output import check_finished, check_outputs, output_attributes, output_places, set_aside
from bmi_cdlm.run.parameters import check_pet_outputs, make_demand, parameters_key, read_any_parameters, read_elevation
from bmi_cdlm.run.partition import Part

STEADY_DAYS = 10
YEAR_DAYS = 365
WORDS = ("time_step", "snow", "inputs_from", "name_profile", "pending_seconds", "call_seconds")
"""What a state says beside its arrays."""
Progress = Callable[[int], None]
logger = logging.getLogger(__name__)


def _nothing(*_: object) -> None:
    """Take what is not wanted."""


class Simulation:
    """A model with its forcing, clock and files.

    Parameters
    ----------
    config : Config
    part, exchange : Part and Exchange, optional
        Run this part of the domain, and the flow across its boundary, in place of the whole.
    resume : bool
        Go on from the restart file, if there is one.

    Attributes
    ----------
    config : Config
    model : Model
    inputs : Inputs
        What the caller holds and the running step has accumulated.
    elapsed : int
        Seconds of completed steps since the start of the configuration.
    call_seconds : int
        Length of the last call, which the reported runoff depth is for.
    resumed : bool
        Whether it goes on from the restart file of a run that did not finish (`resume`, and there is one).

    Raises
    ------
    CdlmError
        Whatever is wrong with any file or key, before anything is written.
    """

    def __init__(
        self, config: Config, part: Part | None = None, exchange: Exchange | None = None, *, resume: bool = False
    ) -> None:
        self.config, self._exchange = config, exchange
        self.resumed = resume and _can_resume(config)
        self._made_of: str | None = None
        if part is None:
            self._domain = share(("domain", *version(config.domain)), lambda: read_domain(config.domain))
            domain = self._domain.value
            self._parameters = share(parameters_key(config), lambda: read_any_parameters(config, domain))
            parameters, pet = self._parameters.value
        else:
            domain, parameters, pet = part.domain, part.parameters, part.pet
        self.forcing: ForcingFile | None = None
        if config.forcing != "caller":
            self.forcing = ForcingFile(
                Path(config.forcing), config.inputs, domain.cells.id, config.start, config.end, config.time_step,
                config.forcing_fill, cache=config.memory // 2,
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
        check_pet_outputs(config, pet)
        self.model = Model(
            domain, parameters, step=config.time_step, routing_step=config.routing_step, snow=config.snow,
            threads=config.threads, pet=pet, ledger=config.ledger_tolerance is not None,
            exchange=self._exchange,
        )
        self.inputs = Inputs(config, domain.cells.id)
        self.elapsed, self.call_seconds = 0, config.time_step
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
        dated = self._dated(forcing, self.n_done, count)
        before = keep_state(self.model, self.config.memory // 8) if count > 1 else None
        series = self.model.advance(dated, keep, reaches)
        if not self.model.is_finite:
            raise find_not_finite(self.model, dated, before, self._starts(self.n_done, count))
        self.elapsed += count * self.config.time_step
        return series

    def check_ledger(self) -> None:
        """Refuse a residual above the configured tolerance, if there is one; to be called after every step."""
        if self.model.ledger is not None and self.config.ledger_tolerance is not None:
            self.model.ledger.check(self.config.ledger_tolerance, self.model.state, self.model.live, self.time)

    def advance_inputs(self, values: Mapping[str, np.ndarray]) -> None:
        """Advance by one step on inputs by short name, float64[1, cell] in registry units."""
        self.advance(self._forcing(values, self.n_done, 1))

    def show_inputs(self) -> None:
        """Show the file's values for the step that comes next; at the end, those of the last."""
        if self.forcing is not None:
            self.inputs.load(self.forcing, min(self.n_done, self.forcing.n_steps - 1))

    def release(self, seconds: int, *, completed: bool) -> None:
        """Hand out the last completed step's discharge over a part of a step, at whose end a step was completed or not.

        So the water of a step that was accumulated leaves over the calls from the one that completes it.
        """
        waiting, flow = self.model.state.unreleased, self.model.live["discharge"]
        if completed:
            waiting += flow * self.config.time_step
        if self.elapsed:
            waiting -= flow * seconds

    def end_call(self, seconds: int) -> None:
        """Bring what depends on the caller's clock up to date: runoff depth of the call, masses."""
        self.call_seconds = seconds
        fallen = self.inputs.pending["precipitation"] if self.inputs.pending_seconds else None
        self.model.end_call(seconds, fallen)

    def read_forcing(self, first: int, count: int) -> Forcing:
        """Forcing of `count` steps, counted from the start, from the file."""
        if self.forcing is None:
            raise ForcingError("forcing is 'caller': there is no file to read. Set the inputs, or name a forcing file.")
        return self._forcing(self.forcing.read(first, count), first, count)

    def _forcing(self, values: Mapping[str, np.ndarray], first: int, count: int) -> Forcing:
        """Forcing of steps from inputs in registry units, with potential evapotranspiration by the formula."""
        config = self.config
        if config.pet == "given":
            demand = values["potential_evapotranspiration"]
        else:
            assert self._demand is not None
            demand = self._demand.evaluate(values, self._epoch + first * config.time_step, self.model.workers)
        warmth = values["air_temperature"] if config.snow != "none" else None
        return self._dated(Forcing(values["precipitation"], demand, warmth), first, count)

    def _starts(self, first: int, count: int) -> np.ndarray:
        return self.config.start + (first + np.arange(count)) * np.timedelta64(self.config.time_step, "s")

    def _dated(self, forcing: Forcing, first: int, count: int) -> Forcing:
        """Forcing with the day of the year, where the model reads it."""
        if self.model.pet is None or forcing.day_of_year is not None:
            return forcing
        return forcing._replace(day_of_year=day_of_year(self._starts(first, count)))

    def run(self, progress: Progress = _nothing) -> None:
        """Run to the end in blocks; output streams to its file.

        The restart file is written at every `restart_every` and at the end, behind the output up to there: a run
        that is killed goes on from it (`resume`), and its output is that of an unbroken run. progress is called
        after each block with the number of its steps.
        """
        config = self.config
        if self.forcing is None:
            raise ForcingError("forcing is 'caller', expected a forcing file. Name one, or step through BMI.")
        if self.inputs.pending_seconds:
            raise StateError(
                f"restart: saved {self.inputs.pending_seconds} s into a step, expected the end of a step. Step on "
                "through BMI."
            )
        if self.n_done == config.n_steps and not self._only_to_finish():
            if not self.resumed:
                raise StateError(f"restart: valid at {self.time}, the end of the run. Set a later end.")
            check_finished(config, self._fingerprints())
            return
        if self.n_done % config.steps_per_output:
            raise StateError(f"restart: valid at {self.time}, within an output_step. Use one at its end.")
        check_outputs(config)
        with self._open_output() as output, WriteBehind(output.append if output else _nothing) as write:
            if not self.resumed:
                set_aside(config)

            def take(starts: np.ndarray, values: dict[str, np.ndarray]) -> None:
                write(starts[:: config.steps_per_output], values)
                if self._restart_is_due():
                    write.wait()
                    self._save_behind(output)

            names = config.output_variables if output else ()
            places = output_places(config, self.model.domain)[2]
            self.run_blocks(names, take, progress, places=places, mean_over=config.steps_per_output)

    def _open_output(self) -> AbstractContextManager[OutputFile | None]:
        config = self.config
        if config.output is None:
            return nullcontext()
        dimension, ids, _ = output_places(config, self.model.domain)
        return OutputFile(
            config.output, dimension, ids, config.output_variables, config.time_step * config.steps_per_output,
            output_attributes(config, self._fingerprints()), precision=config.output_precision,
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
        restart = self.snapshot()
        write_restart(
            self.config.restart,
            restart._replace(attributes={**restart.attributes, FINGERPRINTS: self._fingerprints() or ""}),
        )

    def _fingerprints(self) -> str | None:
        """What this run is made of; None where nothing of it can be gone on with. Files are read once."""
        if self.config.restart is not None and self._made_of is None:
            self._made_of = fingerprints(self.config)
        return self._made_of

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
            one = Forcing._make(None if values is None else values[t : t + 1] for values in forcing)
            rows.append({name: row.copy() for name, row in self.advance(one, fluxes, places).items()})
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

    def _only_to_finish(self) -> bool:
        """Whether a run was killed after its last step, before its output was complete."""
        output = self.config.output
        return self.resumed and output is not None and partial_path(output).exists()

    def _initialise(self) -> None:
        if self.resumed:
            path, domain = self.config.restart, self.model.domain
            assert path is not None
            restart = read_restart(path, domain.cells.id, domain.reaches.id)
            own = self._fingerprints()
            assert own is not None
            check_fingerprints(restart.attributes.get(FINGERPRINTS), own, str(path), StateError)
            self.restore(restart)
            return
        if self.config.initial_state != "steady":
            self.restore_from(Path(self.config.initial_state), hot_start=self.config.restart_mode == "hot_start")
            return
        self.show_inputs()
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
            first = 0
            for forcing in read_ahead(self.read_forcing, spans):
                self.model.advance(forcing)
                count = forcing.precipitation.shape[0]
                if not self.model.is_finite:
                    raise find_not_finite(self.model, forcing, None, self._starts(first, count))
                first += count
        if self.config.spin_up:
            self.model.begin(self.model.live["discharge"].copy())

    def snapshot(self) -> Restart:
        """Everything that the future and the outputs depend on, with the clock."""
        model, domain = self.model, self.model.domain
        fluxes = {v.short: v.grid for v in model.outputs if v.role == "flux"}
        cell = {**model.state.on_cells(), **{n: model.live[n] for n, g in fluxes.items() if g == "cell"}}
        cell |= self.inputs.snapshot()
        reach = {**model.state.on_reaches(), **{n: model.live[n] for n, g in fluxes.items() if g == "reach"}}
        reach["reach_storage_time"] = model.storage_time
        config = self.config
        attributes = {
            "time_step": str(config.time_step), "snow": config.snow, "inputs_from": self._inputs_from,
            "name_profile": config.name_profile, "pending_seconds": str(self.inputs.pending_seconds),
            "call_seconds": str(self.call_seconds),
        }
        return Restart(cell, reach, domain.cells.id, domain.reaches.id, attributes, self.time)

    @property
    def _inputs_from(self) -> str:
        return "caller" if self.forcing is None else "file"

    def save(self, path: Path) -> None:
        """Write a restart file."""
        write_restart(path, self.snapshot())

    def to_bytes(self) -> bytes:
        """Return what `save` would write."""
        return restart_to_bytes(self.snapshot())

    def restore_from(self, source: Path | bytes, *, hot_start: bool = False) -> None:
        """Take over the state of a restart file, or of the bytes of one; see `restore`."""
        domain = self.model.domain
        self.restore(read_restart(source, domain.cells.id, domain.reaches.id), hot_start=hot_start)

    def restore(self, restart: Restart, *, hot_start: bool = False) -> None:
        """Take over a saved state; with its clock, or (hot start) at the configured start.

        Raises
        ------
        StateError
            Another time step or snow model, or a clock outside the configured period.
        """
        missing = [key for key in WORDS if key not in restart.attributes]
        if missing:
            raise StateError(f"restart: lacks '{missing[0]}', expected {', '.join(WORDS)}. Take the state again.")
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
        pending = 0 if hot_start else int(restart.attributes["pending_seconds"])
        if pending and self.config.sub_step_policy == "refuse":
            raise StateError(
                f"restart: saved {pending} s into a step, and sub_step_policy is 'refuse'. Use a state at the end of a "
                "step, or set sub_step_policy: accumulate."
            )
        self.inputs.check(restart.cell, pending)
        self.model.restore(restart.cell, restart.reach)
        self.elapsed = elapsed
        self.show_inputs()
        kept = restart.attributes["inputs_from"] == self._inputs_from and not hot_start
        cell = {n: v for n, v in restart.cell.items() if kept or not n.startswith(HELD)}
        self.inputs.restore(cell, pending, restart.attributes["name_profile"])
        if hot_start:
            self.model.begin(self.model.live["discharge"].copy())
        self.end_call(self.config.time_step if hot_start else int(restart.attributes["call_seconds"]))

    def close(self) -> None:
        """Close files and threads."""
        if self.forcing is not None:
            self.forcing.close()
        self.model.close()


def _can_resume(config: Config) -> bool:
    if config.restart is None:
        raise ConfigError("resume: the configuration has no 'restart', expected the file to go on from.")
    if not config.restart.exists():
        logger.warning("%s: not written yet, running from the start", config.restart)
        return False
    return True
