"""Where and when the first value became NaN or infinite, and from which inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.state import State
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import NotFiniteError

REMEDY = "Correct these inputs, or the parameters there; what was written before stays."


def keep_state(model: Model, memory: int) -> State | None:
    """A copy of the state before a block, to find the step in it; None where that takes more than `memory` bytes."""
    if model.exchange is not None or sum(a.nbytes for a in model.state.arrays().values()) > memory:
        return None
    return model.state.copy()


def find_not_finite(model: Model, forcing: Forcing, before: State | None, starts: np.ndarray) -> NotFiniteError:
    """The error of a block that ended in values that are none, after going through it again step by step.

    before : the state at its begin; starts : datetime64[s][time].
    """
    when = f"in the steps from {date_text(starts[0])} to {date_text(starts[-1])}"
    given = forcing.series()
    if before is not None:
        model.state.assign(before.arrays())
        for t in range(starts.size):
            one = forcing.part(slice(t, t + 1))
            model.advance(one)
            if not model.is_finite:
                when, given = f"in the step from {date_text(starts[t])}", one.series()
                break
    elif starts.size == 1:
        when = f"in the step from {date_text(starts[0])}"
    grid, name, place = _first(model)
    ids = model.domain.cells.id if grid == "cell" else model.domain.reaches.id
    cells = np.array([place]) if grid == "cell" else _cells_of(model, place)
    return NotFiniteError(
        f"'{name}' of {grid} {ids[place]} is NaN or infinite {when}, expected finite numbers. The inputs there: "
        f"{_inputs(given, cells)}. {REMEDY}"
    )


def _first(model: Model) -> tuple[str, str, int]:
    """Grid, name and place of the first value in the state that is no number."""
    for grid, arrays in (("cell", model.state.on_cells()), ("reach", model.state.on_reaches())):
        rows = {name: ~np.isfinite(values).reshape(-1, values.shape[-1]) for name, values in arrays.items()}
        places = {name: int(wrong.any(axis=0).argmax()) for name, wrong in rows.items() if wrong.any()}
        if places:
            name = min(places, key=lambda n: places[n])
            return grid, name, places[name]
    return "reach", "discharge", int((~np.isfinite(model.live["discharge"])).argmax())


def _cells_of(model: Model, reach: int) -> np.ndarray:
    links = model.domain.links
    found = links.cell[links.first[reach] : links.first[reach + 1]]
    return found if found.size else np.arange(model.domain.n_cells)


def _inputs(given: Mapping[str, np.ndarray], cells: np.ndarray) -> str:
    """Least and greatest value of each input."""
    texts = []
    for name, values in given.items():
        if values.ndim == 2:
            some = values[:, cells]
            low, high = some.min(), some.max()
            texts.append(f"{name} {low:g}" + (f" to {high:g}" if low != high else ""))
    return ", ".join(texts)
