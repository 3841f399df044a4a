"""Stepping from outside: inputs held for the next step, calls shorter or longer than the model step."""

from __future__ import annotations

import math

import numpy as np

from bmi_cdlm.errors import ClockError, ForcingError
from bmi_cdlm.model import Forcing
from bmi_cdlm.simulation import Simulation
from bmi_cdlm.variables import Alias, Variable, variable

SMALLEST = {"precipitation": 0.0, "potential_evapotranspiration": 0.0, "air_temperature": -273.15}


class Stepper:
    """Drives a simulation by the clock of its caller.

    A call shorter than the model step adds value x duration of each input to an accumulator; when the step is
    complete it runs on the means. A longer call is split at step boundaries. Outputs hold the last completed
    step.

    Attributes
    ----------
    inputs : dict of float64[cell]
        What the next step will use, in published units: NaN until the caller sets it, then held; with a
        forcing file, the file's values for the running step, which a write replaces for that step only.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.step = simulation.config.time_step
        n_cells = simulation.model.domain.n_cells
        self.variables = [variable(name) for name in simulation.config.inputs]
        self.inputs = {v.short: np.full(n_cells, np.nan) for v in self.variables}
        self._loaded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._load()

    def published(self, v: Variable) -> Alias:
        """Name and units under which an input is published, and the way back to registry units."""
        if self.simulation.config.name_profile == "ngen" and v.ngen is not None:
            return v.ngen
        return Alias(v.name, v.units, 1.0, 0.0)

    def bounds(self, v: Variable) -> tuple[float, float]:
        """Least and greatest value of an input, in published units; no value may be infinite."""
        alias = self.published(v)
        return (SMALLEST[v.short] - alias.offset) / alias.factor, math.inf

    @property
    def now(self) -> int:
        """Seconds since the start, a running step included."""
        return self.simulation.elapsed + self.simulation.pending_seconds

    @property
    def end(self) -> int:
        """Seconds from start to end."""
        return self.simulation.config.n_steps * self.step

    def advance_until(self, seconds: float) -> None:
        """Advance the clock to `seconds` since the start.

        Raises
        ------
        ClockError
            A time in the past, after the end, not on a whole second, or (policy `refuse`) within a step.
        ForcingError
            An input that the caller never set, or a value without meaning.
        """
        target = self._target(seconds)
        called_at = self.now
        while self.now < target:
            if self.now == self.simulation.elapsed and target - self.now >= self.step:
                self._whole_steps((target - self.now) // self.step)
            else:
                self._part_of_step(min(target, self.simulation.elapsed + self.step) - self.now)
        self.simulation.model.set_runoff_depth(target - called_at)

    def _target(self, seconds: float) -> int:
        if not math.isfinite(seconds) or round(seconds) != seconds:
            raise ClockError(f"asked for {seconds} s, expected a whole second.")
        target = round(seconds)
        if target < self.now:
            raise ClockError(f"cannot go back: asked for {target} s, the model is at {self.now} s. Restore a state.")
        if target > self.end:
            raise ClockError(
                f"asked for {target} s, but the run ends at {self.end} s. Set a later 'end' in the configuration."
            )
        if self.simulation.config.sub_step_policy == "refuse" and target % self.step:
            raise ClockError(
                f"asked for {target} s, which is within a step of {self.step} s, and sub_step_policy is 'refuse'. "
                "Ask for a multiple of the step, or set sub_step_policy: accumulate."
            )
        return target

    def _whole_steps(self, count: int) -> None:
        """Run whole steps: the first on the inputs as they stand, the rest as a block where a file has them."""
        self._run({name: value[None] for name, value in self._checked().items()})
        rest = count - 1
        while rest and self.simulation.forcing is not None:
            block = min(rest, self.simulation.block_length())
            self.simulation.advance(self.simulation.read_forcing(self.simulation.n_done, block))
            rest -= block
        for _ in range(rest):
            self._run({name: value[None] for name, value in self._checked().items()})
        self._load()

    def _part_of_step(self, duration: int) -> None:
        simulation = self.simulation
        for name, value in self._checked().items():
            total = simulation.pending.setdefault(name, np.zeros(value.size))
            total += value * duration
        simulation.pending_seconds += duration
        if simulation.pending_seconds == self.step:
            means = {name: (total / self.step)[None] for name, total in simulation.pending.items()}
            simulation.pending.clear()
            simulation.pending_seconds = 0
            self._run(means)
            self._load()

    def _run(self, values: dict[str, np.ndarray]) -> None:
        self.simulation.advance(Forcing(**values))

    def _checked(self) -> dict[str, np.ndarray]:
        """Inputs in registry units; refuses what was never set or has no meaning."""
        values = {}
        for v in self.variables:
            alias = self.published(v)
            held = self.inputs[v.short]
            value = held if _same_units(alias) else held * alias.factor + alias.offset
            if v.short in self._loaded:
                shown, original = self._loaded[v.short]
                value = np.where(held == shown, original, value)
            if not (value.min() >= SMALLEST[v.short] and value.max() < np.inf):
                self._refuse(v, alias, value)
            values[v.short] = value
        return values

    def _refuse(self, v: Variable, alias: Alias, value: np.ndarray) -> None:
        bad = np.flatnonzero(~((value >= SMALLEST[v.short]) & (value < np.inf)))
        cell = self.simulation.model.domain.cells.id[int(bad[0])]
        got = self.inputs[v.short][bad[0]]
        hint = f"Call set_value('{alias.name}', ...) before update" if np.isnan(got) else "Correct the value"
        raise ForcingError(
            f"input '{alias.name}' is {got} {alias.units} at cell {cell} ({bad.size} of {value.size} cells), expected "
            f"a finite number of at least {SMALLEST[v.short]:g} {v.units}. {hint}."
        )

    def _load(self) -> None:
        """Show the file's values for the step that comes next; at the end, those of the last."""
        simulation = self.simulation
        if simulation.forcing is None:
            return
        values = simulation.forcing.read(min(simulation.n_done, simulation.config.n_steps - 1), 1)
        for v in self.variables:
            alias = self.published(v)
            np.subtract(values[v.short][0], alias.offset, out=self.inputs[v.short])
            self.inputs[v.short] /= alias.factor
            if not _same_units(alias):  # there and back again would not give the file's bits
                self._loaded[v.short] = (self.inputs[v.short].copy(), values[v.short][0])


def _same_units(alias: Alias) -> bool:
    return alias.factor == 1.0 and alias.offset == 0.0
