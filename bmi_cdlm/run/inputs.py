"""Inputs as a caller sees them: held in published units, shown from a file, accumulated within a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.model.pet import MEAN, RANGE, form, formed_names
from bmi_cdlm.names.entry import Alias, Variable, alias
from bmi_cdlm.names.errors import ForcingError, StateError
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import Config

HELD, PENDING = "held_", "pending_"
"""Prefixes under which a state keeps inputs that the caller holds, and what has accumulated within a step."""
WATER = "mm d-1"
"""Units of inputs whose sum over a step counts."""
EXTREMES = {"lowest": np.minimum, "highest": np.maximum}
"""How inputs accumulate that are not means, by `InputFacts.within`."""


class Checked(NamedTuple):
    """An input that is given: its name, what is held, float64[cell], the same in registry units, their alias where they
    are others, and its least and greatest value."""

    name: str
    held: np.ndarray
    row: np.ndarray
    unit: Alias | None
    low: float
    high: float


class Inputs:
    """The inputs of a run.

    Attributes
    ----------
    held : dict of float64[cell]
        Every published input in its published units, allocated once: NaN until the caller sets it, then held; with a
        forcing file, the file's values for the running step, which a write replaces for that step only.
    pending : dict of float64[cell]
        What the running step has accumulated, in registry units: value x seconds, or the extreme; of wind and
        humidity the speed and the vapour pressure, which a mean of them would lose.
    pending_seconds : int
        How much of the running step has passed.
    before : int
        How much of that was before the start, without inputs: no water fell for this run then.
    """

    def __init__(self, config: Config, cell_id: list[str]) -> None:
        self._config, self._cell_id = config, cell_id
        n = len(cell_id)
        self.published: dict[str, Alias] = {
            name: alias(variable(name), config.name_profile) for name in config.published
        }
        self.held = {name: np.full(n, np.nan) for name in self.published}
        self.pending: dict[str, np.ndarray] = {name: np.zeros(n) for name in formed_names(config.inputs)}
        self.pending_seconds = self.before = 0
        self._shown: dict[str, np.ndarray] = {}
        self._values = {name: self._row(name) for name in config.inputs}
        self._original: dict[str, np.ndarray] = {}
        self._given = [name for name in config.inputs if name in self.held]
        self._limits: dict[int, list[Checked]] = {}
        self._is_one = n == 1
        self._within = {name: variable(name).known.within for name in self.pending}
        # What neither caller nor file gives is the mean temperature: a step in one call has no range.
        self._derived = [] if config.forcing != "caller" else [n for n in config.inputs if n not in self.held]
        formula = config.pet_formula
        self._wants_range = bool(self._derived) and formula is not None and formula.needs_range

    @property
    def rows(self) -> Mapping[str, np.ndarray]:
        """What `values` returns: the same arrays at every call, float64[1, cell]."""
        return self._values

    @property
    def variables(self) -> list[Variable]:
        """Registry entries of the published inputs."""
        return [variable(name) for name in self.published]

    def bounds(self, name: str) -> tuple[float, float]:
        """Least and greatest value over a step, in published units; over a part of one the greatest may be higher."""
        unit = self.published[name]
        low, high = variable(name).known.limits(self._config.time_step)
        return (low - unit.offset) / unit.factor, (high - unit.offset) / unit.factor

    def _row(self, name: str) -> np.ndarray:
        """Array of the values in registry units, float64[1, cell]: what is held itself where units agree."""
        if name in self.held and _same_units(self.published[name]):
            return self.held[name].reshape(1, -1)
        return np.empty((1, len(self._cell_id)))

    def load(self, file: ForcingFile | None, step: int) -> None:
        """Show the file's values for a step, counted from the start."""
        if file is None:
            return
        for name, values in file.read(step, 1).items():
            self._original[name] = values[0]
            if name in self.held:
                unit, held = self.published[name], self.held[name]
                np.subtract(values[0], unit.offset, out=held)
                held /= unit.factor
                self._shown[name] = held.copy()
            else:
                self._values[name][0] = values[0]

    def values(self, seconds: int | None = None) -> dict[str, np.ndarray]:
        """Inputs of the next step, or of a part of it [s], in registry units, float64[1, cell]; until the next call.

        Raises
        ------
        ForcingError
            What was never set, or has no meaning.
        """
        length = self._config.time_step if seconds is None else seconds
        found = self._limits.get(length)
        for name, held, row, unit, low, high in self._limits_over(length) if found is None else found:
            if unit is not None:
                np.multiply(held, unit.factor, out=row)
                row += unit.offset
                if name in self._shown:  # there and back again would not give the file's bits
                    np.copyto(row, self._original[name], where=held == self._shown[name])
            # NaN is neither. Of one cell, a catchment of NextGen, a plain number takes a tenth of the time.
            if self._is_one:
                fits = low <= row.item() <= high
            else:
                fits = np.minimum.reduce(row) >= low and np.maximum.reduce(row) <= high
            if not fits:
                self._refuse(name, row, length)
        for name in self._derived:
            self._values[name][:] = self._values[MEAN]
        return self._values

    def _limits_over(self, seconds: int) -> list[Checked]:
        """What is given over a step, or over a part of it [s]: arrays, units where they are others, and limits."""
        length = min(seconds, self._config.time_step)
        self._limits[seconds] = found = [
            Checked(
                name, self.held[name], self._values[name][0],
                None if _same_units(self.published[name]) else self.published[name],
                *variable(name).known.limits(length),
            ) for name in self._given
        ]
        return found

    def whole_step(self) -> dict[str, np.ndarray]:
        """As `values`, for a step that is not accumulated: a formula that lives on the day's range must be given it."""
        if self._wants_range:
            raise ForcingError(
                f"pet is '{self._config.pet}' and a whole step is asked for at once, without {' and '.join(RANGE)}. "
                "Step in parts of a day, which accumulate them, or add both to published_inputs."
            )
        return self.values()

    def accumulate(self, seconds: int) -> None:
        """Add the inputs over a part of the step."""
        for name, row in form(self.values(seconds)).items():
            total, within = self.pending[name], self._within[name]
            if within == "mean":
                total += row[0] * seconds
            elif self.pending_seconds > self.before:
                EXTREMES[within](total, row[0], out=total)
            else:
                total[:] = row[0]
        self.pending_seconds += seconds

    def take_means(self) -> dict[str, np.ndarray]:
        """End the step: means and extremes of what has accumulated, float64[1, cell]; accumulation begins anew.

        Of water the mean is over the whole step, also where some of it was before the start.
        """
        means = {}
        for name, total in self.pending.items():
            entry = variable(name)
            length = self.pending_seconds - (0 if entry.units == WATER else self.before)
            means[name] = (total / length if entry.known.within == "mean" else total.copy())[None]
        self.clear()
        return means

    def clear(self) -> None:
        """Forget what has accumulated."""
        self.pending_seconds = self.before = 0
        for total in self.pending.values():
            total[:] = 0.0

    def begin_within(self, seconds: int) -> None:
        """Begin so many seconds into a step."""
        self.clear()
        self.pending_seconds = self.before = seconds

    def snapshot(self) -> dict[str, np.ndarray]:
        """Arrays that a state keeps: what has accumulated, and what the caller holds or has put in the file's place."""
        arrays = {}
        if self.pending_seconds > self.before:
            arrays = {PENDING + name: total.copy() for name, total in self.pending.items()}
        for name, held in self.held.items():
            kept = np.where(held == self._shown[name], np.nan, held) if name in self._shown else held.copy()
            if not np.isnan(kept).all():
                arrays[HELD + name] = kept
        return arrays

    def check(self, arrays: Mapping[str, np.ndarray], pending_seconds: int) -> None:
        """Refuse a state that lacks what has accumulated."""
        missing = [name for name in self.pending if PENDING + name not in arrays]
        if pending_seconds and missing:
            raise StateError(
                f"restart: saved {pending_seconds} s into a step without '{missing[0]}', which this run accumulates. "
                "Use the inputs of that run, or a state at the end of a step."
            )

    def restore(self, arrays: Mapping[str, np.ndarray], pending_seconds: int, profile: str, before: int = 0) -> None:
        """Take over what `snapshot` gave under a name profile; file values must be loaded before."""
        self.clear()
        self.pending_seconds, self.before = pending_seconds, before
        if pending_seconds > before:
            for name, total in self.pending.items():
                total[:] = arrays[PENDING + name]
        for name, held in self.held.items():
            if name not in self._shown:
                held[:] = np.nan
            if HELD + name in arrays:
                saved, own = alias(variable(name), profile), self.published[name]
                values = arrays[HELD + name]
                if saved[1:] != own[1:]:
                    values = (values * saved.factor + saved.offset - own.offset) / own.factor
                np.copyto(held, values, where=~np.isnan(values))

    def _refuse(self, name: str, row: np.ndarray, seconds: int) -> None:
        entry, unit = variable(name), self.published[name]
        low, high = entry.known.limits(seconds)
        bad = np.flatnonzero(~((row >= low) & (row <= high)))
        got = self.held[name][bad[0]]
        if np.isnan(got):
            hint = f" Call set_value('{unit.name}', ...) before update; a masked value is missing too."
        else:
            hint = entry.known.guess(float(got), entry.units, unit.units, seconds) or " Correct the value."
        raise ForcingError(
            f"input '{unit.name}' is {got} {unit.units} at cell {self._cell_id[int(bad[0])]} ({bad.size} of {row.size} "
            f"cells), expected a finite number, {low:g} to {high:g} {entry.units}.{hint}"
        )


def _same_units(unit: Alias) -> bool:
    return unit.factor == 1.0 and unit.offset == 0.0
