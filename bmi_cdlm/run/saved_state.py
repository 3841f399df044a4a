"""The state of a run: all that its future and its outputs depend on, with its clock, and how a run goes on from it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.files.restart import Restart, read_restart
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.run.continuing import UNSAID, check_options, elapsed_at
from bmi_cdlm.run.inputs import HELD, PENDING
from bmi_cdlm.run.release import AtStart

if TYPE_CHECKING:
    from bmi_cdlm.run.simulation import Simulation

CARRIED = "carried_precipitation"
"""Name under which a state keeps precipitation that falls in the first step of a hot start [mm d-1 s]."""
logger = logging.getLogger(__name__)


def snapshot(simulation: Simulation) -> Restart:
    """Everything that the future and the outputs depend on, with the clock."""
    model, domain = simulation.model, simulation.model.domain
    fluxes = {v.short: v.grid for v in model.outputs if v.role == "flux"}
    cell = {**model.state.on_cells(), **{n: model.live[n] for n, g in fluxes.items() if g == "cell"}}
    cell |= simulation.inputs.snapshot()
    reach = {**model.state.on_reaches(), **{n: model.live[n] for n, g in fluxes.items() if g == "reach"}}
    for v in model.outputs:
        if v.sub_steps:
            reach[v.short] = _sub_steps_on_reaches(simulation, model.live[v.short], v.grid)
    reach["reach_storage"] = model.live["reach_storage"]
    config, release = simulation.config, simulation.release
    waiting = release.snapshot()
    cell |= waiting[0]
    reach |= waiting[1]
    if simulation.carried is not None:
        cell[CARRIED] = simulation.carried
    coupled = simulation.coupled.snapshot()
    cell |= coupled[0]
    reach |= coupled[1]
    processes = {key: str(name) for key, name in config.processes.items() if name != UNSAID.get(key)}
    attributes = {
        "time_step": str(config.time_step), **processes, "components": str(config.components),
        "inputs_from": simulation.inputs_from, "name_profile": config.name_profile,
        "pending_seconds": str(simulation.inputs.pending_seconds),
        "release_seconds": str(release.seconds),
    }
    if simulation.inputs.before:
        attributes["before_start"] = str(simulation.inputs.before)
    depth = float(model.live["runoff_depth"][0])
    if depth != model.step_depth:  # the last call was no step
        attributes |= {"call_depth": repr(depth), "cells": str(domain.n_cells)}
    return Restart(cell, reach, domain.cells.id, domain.reaches.id, attributes, simulation.time)


def _sub_steps_on_reaches(simulation: Simulation, values: np.ndarray, grid: str) -> np.ndarray:
    """Values of sub-steps as a state keeps them, float64[sub-step, reach]: of gauges at their reaches."""
    rows = values.reshape(simulation.model.n_sub, -1)
    if grid == "reach":
        return rows
    kept = np.zeros((simulation.model.n_sub, simulation.model.domain.n_reaches))
    kept[:, simulation.model.domain.gauges.reach] = rows
    return kept


def take_over(simulation: Simulation, content: bytes) -> None:
    """Take over the state that a host gives back; see `Simulation.take_over`."""
    config, domain = simulation.config, simulation.model.domain
    restart = read_restart(content, domain.cells.id, domain.reaches.id)
    hot_start = config.restart_mode == "hot_start"
    at = restart.time + np.timedelta64(int(restart.attributes["pending_seconds"]), "s")
    beginning = not simulation.now and not hot_start and at != config.start
    if beginning and config.name_profile == "ngen":
        raise StateError(
            f"restart: the state is of {date_text(at)}, the configuration starts at {date_text(config.start)}: "
            f"ngen would give the model forcing of another time. Set start: {date_text(at)} in the configuration and "
            f"the same start_time in the realization (`cdlm nextgen init ... --restart {date_text(at)}` writes "
            "both), or restart_mode: hot_start to begin anew with the state alone."
        )
    restore(simulation, restart, hot_start=hot_start)
    if beginning:
        tell_where_the_clock_is(simulation)


def tell_where_the_clock_is(simulation: Simulation) -> None:
    """Say that a host and this run may count from different times."""
    at = simulation.config.start + np.timedelta64(simulation.now, "s")
    logger.warning(
        "the state is of %s: the clock goes on at %d s after start, %s. A host that counts from its own start must "
        "begin there, or the configuration must start at the state's time",
        date_text(at), simulation.now, date_text(simulation.config.start),
    )


def restore(simulation: Simulation, restart: Restart, *, hot_start: bool = False) -> None:
    """Take over a saved state; see `Simulation.restore`."""
    check_options(simulation.config, restart, hot_start=hot_start)
    if hot_start and not simulation.config.chain.holds_water:
        empty = {name: np.zeros_like(a) for name, a in simulation.model.state.on_cells().items()}
        restart = restart._replace(cell=restart.cell | empty)
    pending = 0 if hot_start else int(restart.attributes["pending_seconds"])
    elapsed = -simulation.config.before_start if hot_start else elapsed_at(
        simulation.config, restart, pending, at_steps=simulation.forcing is not None
    )
    before = int(restart.attributes.get("before_start", 0))
    simulation.inputs.check(restart.cell, 0 if pending == before else pending)
    simulation.model.restore(restart.cell, restart.reach)
    simulation.elapsed = elapsed
    simulation.origin = -(-elapsed % simulation.config.time_step)
    simulation.show_inputs()
    kept = restart.attributes["inputs_from"] == simulation.inputs_from and not hot_start
    cell = {n: v for n, v in restart.cell.items() if kept or not n.startswith(HELD)}
    if hot_start:
        pending = before = simulation.config.before_start
        cell = {n: v for n, v in cell.items() if not n.startswith(PENDING)}
    simulation.inputs.restore(cell, pending, restart.attributes["name_profile"], before)
    simulation.coupled.restore(restart.cell, restart.reach, hot_start=hot_start)
    simulation.carried = restart.cell.get(CARRIED)
    seconds = restart.attributes.get("release_seconds")
    simulation.release.restore(restart.cell, restart.reach, None if seconds is None else int(seconds))
    if hot_start:
        _begin_hot(simulation, restart)
    simulation.release.depth = 0.0 if hot_start else _depth_of_call(simulation, restart)
    simulation.end_call()


def _begin_hot(simulation: Simulation, restart: Restart) -> None:
    """Start the clock with a state: what it has not used falls in the first step, what waits leaves as it would."""
    state, release = simulation.model.state, simulation.release
    waiting, unused = state.unreleased.copy(), np.zeros(simulation.model.domain.n_cells)
    unused += restart.cell.get(PENDING + simulation.config.chain.enters, 0.0)
    if simulation.carried is not None:
        unused += simulation.carried
    simulation.model.begin(simulation.model.live["discharge"].copy())
    state.unreleased[:] = waiting
    simulation.carried = unused if unused.any() else None
    release.at_start = None
    if release.seconds or simulation.carried is not None:
        release.at_start = AtStart(release.runoff.copy(), waiting, unused)


def _depth_of_call(simulation: Simulation, restart: Restart) -> float:
    """Runoff of the last call [m]: the last step's, where it was one or where not all saved cells are here."""
    same = restart.attributes.get("cells") == str(simulation.model.domain.n_cells)
    if not same or "call_depth" not in restart.attributes:
        return simulation.model.step_depth
    return float(restart.attributes["call_depth"])
