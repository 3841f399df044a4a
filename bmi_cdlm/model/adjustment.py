"""Change a running model from outside: states and parameters by name, within bounds, with all water accounted.

What ensembles and data assimilation do. Water that a caller puts into a store is booked as added; a change of a
parameter neither makes nor loses water.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.model.model import Model
from bmi_cdlm.model.sums import mean_of_components
from bmi_cdlm.names.entry import Variable, plural
from bmi_cdlm.names.errors import CdlmError, ParameterError, StateError
from bmi_cdlm.names.parameters import LONGEST_TRAVEL_TIME, TRAVEL_TIME, WEIGHT, Parameter, parameter
from bmi_cdlm.names.time_steps import DAY


class Bounds(NamedTuple):
    """Closed interval of every value of a variable: float64[n] each, in its units."""

    low: np.ndarray
    high: np.ndarray


def adjustable_parameters(model: Model) -> list[Variable]:
    """Return the parameters that this model reads, as variables under their registry names.

    With `travel_time` given, the celerity is not among them; nor is what has a value per component.
    """
    timed = TRAVEL_TIME in model.parameters
    found = []
    fixed = model.chain.cells[-1].closed if "given_exchange" in model.coupled else {}
    for name, values in model.parameters.items():
        if name in fixed:
            continue
        if name == TRAVEL_TIME:
            found.append(Variable(name, name, "s", "reach", "parameter", "Travel time of water through the reach"))
        elif values.ndim == 1 and not (timed and name == "celerity") and name not in model.varying:
            found.append(_as_variable(parameter(name), model.step))
    return found


def _as_variable(p: Parameter, step: int) -> Variable:
    """Units spelt for UDUNITS: a step of this run is a day or an hour."""
    step_unit = "d" if step == DAY else "h"
    units = p.units.replace("per step", f"{step_unit}-1").replace("steps", step_unit)
    return Variable(p.name, p.name, units, p.grid, "parameter", p.meaning)


def is_adjustable(v: Variable) -> bool:
    """Whether a caller may set the variable, besides inputs."""
    return v.role == "parameter" or v.bounds is not None


def bounds(model: Model, v: Variable) -> Bounds:
    """Return what a caller may set a state or a parameter to, now.

    A production store ends at its capacity, and a capacity begins at what its store holds. A unit hydrograph that
    delays nothing holds nothing.
    """
    n = model.size_of(v.grid)
    low, high = (np.full(n, limit) for limit in _legal(v))
    if v.short == "reach_storage":  # a process whose reaches hold nothing holds nothing of a litre either
        every = np.arange(n)
        operator, p = model.operators.reach, model.reach_parameters
        high[operator.volume(p, model.reach_state(np.full(n, 1e-3), every)) == 0.0] = 0.0
    for process in model.chain.cells:
        for name, store in process.stores.items():
            if name == v.short and store.at_most is not None:
                high = model.parameters[store.at_most].copy()
            elif store.at_most == v.short:
                low = np.maximum(low, model.live[name])
        for name, queue in process.queues.items():
            if queue.held == v.short:
                delayed = model.ordinates(name)[1:].any(axis=0).reshape(-1, n).any(axis=0)
                high[~delayed & (model.live[v.short] == 0.0)] = 0.0
    return Bounds(low, high)


def _legal(v: Variable) -> tuple[float, float]:
    if v.role != "parameter":
        assert v.bounds is not None
        return v.bounds
    return (0.0, LONGEST_TRAVEL_TIME) if v.short == TRAVEL_TIME else parameter(v.short).legal


def adjust(model: Model, v: Variable, places: np.ndarray, values: np.ndarray) -> None:
    """Set a state or a parameter, float64[place], at some places; the last of several values for a place counts.

    Raises
    ------
    StateError, ParameterError
        A value that is not finite or out of bounds; nothing is changed then.
    """
    _check(model, v, places, values)
    places, last = np.unique(places[::-1], return_index=True)
    values = values[::-1][last]
    if v.role == "parameter":
        model.change_parameter(v.short, places, values)
    else:
        _set_state(model, v.short, places, values)
        model.refresh()
        model.live[v.short][places] = values  # what is derived from the state may differ by rounding


def _check(model: Model, v: Variable, places: np.ndarray, values: np.ndarray) -> None:
    low, high = (limit[places] for limit in bounds(model, v))
    bad = np.flatnonzero(~((values >= low) & (values <= high) & np.isfinite(values)))
    if not bad.size:
        return
    i = int(bad[0])
    place = int(places[i])
    ids = model.domain.cells.id if v.grid == "cell" else model.domain.reaches.id
    error: type[CdlmError] = ParameterError if v.role == "parameter" else StateError
    limits = {s.at_most for process in model.chain.cells for s in process.stores.values()}
    hint = " A capacity must hold the water in its store." if v.short in limits else ""
    raise error(
        f"'{v.name}' is {values[i]} {v.units} at index {place}, at {v.grid} {ids[place]} ({bad.size} of {places.size} "
        f"{plural(v.grid)}), expected {low[i]:.10g} to {high[i]:.10g}.{hint} Correct the value."
    )


def _set_state(model: Model, short: str, places: np.ndarray, values: np.ndarray) -> None:
    state = model.state
    if short == "reach_storage":
        before = model.live[short][places].copy()
        state.reach[places] = model.reach_state(values, places)
        state.reach_added_total[places] += model.reach_volume[places] - before
        model.live[short][places] = values
        return
    before = model.live[short][places].copy()
    queues = {q.held: name for process in model.chain.cells for name, q in process.queues.items()}
    stores = {name: s for process in model.chain.cells for name, s in process.stores.items()}
    if short in queues:
        values = _fill_queue(model, queues[short], places, values)
    else:
        _set_store(model, short, places, values, before)
    if short in queues or stores[short].holds_water:
        state.added_total[places] += values - before


def _set_store(model: Model, short: str, places: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
    """Set a store; with several components, scale what they hold, and fill empty ones alike."""
    held = model.state.on_cells()[short]
    if held.ndim == 1:
        held[places] = values
        return
    share = np.where(before != 0.0, values / np.where(before != 0.0, before, 1.0), 1.0)
    held[:, places] = np.where(before != 0.0, held[:, places] * share, values)


def _fill_queue(model: Model, name: str, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Scale a queue to these sums [mm]; returns the sums as they came out.

    An empty one fills as the inflow of a step would leave it.
    """
    queue = model.state.queues()[name]
    ordinates = model.ordinates(name).reshape(queue.shape)
    held = queue[..., places]
    empty = held.sum(axis=0) == 0.0
    held[:-1] = np.where(empty, ordinates[1:][..., places], held[:-1])
    total = held.sum(axis=0)
    queue[..., places] = held * (values / np.where(total > 0.0, total, 1.0))
    sums = queue.sum(axis=0)[..., places]
    if sums.ndim == 1:
        return sums
    weights = model.parameters.get(WEIGHT)
    return mean_of_components(sums, None if weights is None else weights[:, places])


def replace_states(model: Model, stores: Mapping[str, np.ndarray], reach: np.ndarray | None) -> None:
    """Set whole stores, float64[cell] or [component, cell], and the state of all reaches; water put in counts as added.

    For who has kept within `bounds` already; a store that keeps its value keeps the account as it is.
    """
    state, weights = model.state, model.parameters.get(WEIGHT)
    declared = {name: s for process in model.chain.cells for name, s in process.stores.items()}
    for name, values in stores.items():
        held = state.on_cells()[name]
        added = values - held
        held[...] = values
        if declared[name].holds_water:
            state.added_total[:] += added if added.ndim == 1 else mean_of_components(added, weights)
    if reach is not None:
        before = model.reach_volume
        state.reach[:] = reach
        state.reach_added_total[:] += model.reach_volume - before
    model.refresh()
