"""What other models give a run beside its inputs: 0 until they set it, held afterwards, accumulated within a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.names.entry import Variable, plural
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.variables import variable

HELD, PENDING = "held_", "pending_"
"""Prefixes under which a state keeps what is held, and what has accumulated within a step."""


class Coupled:
    """The coupled inputs of a run.

    Parameters
    ----------
    names : short names, of `coupling.COUPLED`
    domain : Domain
    step : int
        The model step [s].
    n_sub : int
        Routing sub-steps of it.

    Attributes
    ----------
    held : dict of float64[place]
        By short name, allocated once.
    pending : dict of float64[place]
        What has accumulated in the running step: value x seconds.
    """

    def __init__(self, names: tuple[str, ...], domain: Domain, step: int, n_sub: int = 1) -> None:
        self.names, self._domain, self._step = names, domain, step
        sizes = {"cell": domain.n_cells, "reach": domain.n_reaches, "boundary": n_sub * domain.boundary.size}
        # A flow beside others is 0 until somebody gives it; without what comes from above there is no river.
        self._at_first = {name: np.nan if variable(name).grid == "boundary" else 0.0 for name in names}
        self.held = {name: np.full(sizes[variable(name).grid], self._at_first[name]) for name in names}
        self.pending = {name: np.zeros_like(held) for name, held in self.held.items()}
        self._accumulated = False

    @property
    def variables(self) -> list[Variable]:
        """Registry entries."""
        return [variable(name) for name in self.names]

    def check(self) -> None:
        """Refuse what is held and has no meaning, before a step begins.

        Raises
        ------
        ForcingError
            A value that is not finite, or out of bounds.
        """
        for name, held in self.held.items():
            check_values(self._domain, name, np.arange(held.size), held)

    def accumulate(self, seconds: int) -> None:
        """Add what is held over a part of the step; `check` comes before."""
        self._accumulated = True
        for name, held in self.held.items():
            self.pending[name] += held * seconds

    def take(self, count: int) -> dict[str, np.ndarray] | None:
        """What goes into the next steps, float64[time, place]: means of what has accumulated, or what is held."""
        if not self.names:
            return None
        rows = self.held
        if self._accumulated:  # of a step that began before the start, the mean is over the whole: it is water
            rows = {name: total / self._step for name, total in self.pending.items()}
            self.clear()
        return {name: np.repeat(row[None], count, axis=0) for name, row in rows.items()}

    def clear(self) -> None:
        """Forget what has accumulated."""
        self._accumulated = False
        for total in self.pending.values():
            total[:] = 0.0

    def snapshot(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Arrays on cells and on reaches that a state keeps."""
        arrays: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}
        for name, held in self.held.items():
            group = arrays[0 if variable(name).grid == "cell" else 1]
            if held.any() and not np.isnan(held).all():
                group[HELD + name] = self._on_grid(name, held)
            if self._accumulated:
                group[PENDING + name] = self._on_grid(name, self.pending[name])
        return arrays

    def _on_grid(self, name: str, values: np.ndarray) -> np.ndarray:
        """A copy as a state keeps it: of a boundary [sub-step, reach]."""
        boundary = self._domain.boundary
        if variable(name).grid != "boundary" or not boundary.size:
            return values.copy()
        kept = np.zeros((values.size // boundary.size, self._domain.n_reaches))
        kept[:, boundary] = values.reshape(-1, boundary.size)
        return kept

    def _off_grid(self, name: str, kept: np.ndarray) -> np.ndarray:
        return kept[:, self._domain.boundary].ravel() if variable(name).grid == "boundary" else kept

    def restore(
        self, cell: Mapping[str, np.ndarray], reach: Mapping[str, np.ndarray], *, hot_start: bool = False
    ) -> None:
        """Take over what `snapshot` gave; at a hot start, nothing: what was asked for was asked of another run."""
        self.clear()
        for name, held in self.held.items():
            arrays = {} if hot_start else (cell if variable(name).grid == "cell" else reach)
            held[:] = self._at_first[name]
            if HELD + name in arrays:
                held[:] = self._off_grid(name, arrays[HELD + name])
            if PENDING + name in arrays:
                self._accumulated = True
                self.pending[name][:] = self._off_grid(name, arrays[PENDING + name])


def check_values(domain: Domain, name: str, places: np.ndarray, values: np.ndarray) -> None:
    """Refuse values, float64[place], of a coupled input at some places that are not finite, or out of bounds."""
    v = variable(name)
    assert v.bounds is not None
    low, high = v.bounds
    if not values.size or (np.minimum.reduce(values) >= low and np.maximum.reduce(values) <= high):  # NaN is neither
        return
    bad = np.flatnonzero(~((values >= low) & (values <= high)))
    ids = domain.cells.id if v.grid == "cell" else domain.reaches.id
    place = int(places[bad[0]])
    where = int(domain.boundary[place % domain.boundary.size]) if v.grid == "boundary" else place
    grid = "reach" if v.grid == "boundary" else v.grid
    hint = "Correct the value; 0 is none."
    if np.isnan(values[bad[0]]):
        hint = f"Call set_value('{v.name}', ...) before update; 0 is none."
    raise ForcingError(
        f"'{v.name}' is {values[bad[0]]} {v.units} at index {place}, at {grid} {ids[where]} ({bad.size} of "
        f"{values.size} {'values' if v.sub_steps else plural(v.grid)}), expected a finite number, {low:g} to {high:g}. "
        f"{hint}"
    )
