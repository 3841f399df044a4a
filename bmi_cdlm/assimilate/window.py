"""The window of an assimilation: the run up to its begin, its forcing, and its observations, none after its end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bmi_cdlm.assimilate.choice import Choice
from bmi_cdlm.assimilate.cost import Observed, deviations, scaled
from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.names.calendars import date_text, differs
from bmi_cdlm.names.errors import ConfigError, ObservationError, StateError, nearest
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.saved_state import CARRIED
from bmi_cdlm.run.screening import read_records
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.run.values import duration_text

Progress = Callable[[int], None]


def window_config(config: Config, choice: Choice) -> Config:
    """The run of a configuration that ends with the window: nothing after it is read; it writes no files.

    Raises
    ------
    ConfigError
        A window that does not fit the run, a run that steps from a caller or has no observations.
    """
    step, end = config.time_step, config.end if choice.at is None else choice.at
    if config.forcing == "caller":
        raise ConfigError("forcing is 'caller', expected a forcing file: the window is run many times. Name one.")
    if config.observations is None:
        raise ConfigError("assimilate needs 'observations', the file of observed discharge. Add it.")
    if config.coupled_inputs:
        raise ConfigError(
            f"coupled_inputs names {', '.join(config.coupled_inputs)}, expected none: there is no adjoint of what "
            "other models give. Take it out."
        )
    if config.before_start:
        raise ConfigError(
            f"start is {date_text(config.start)}, {config.before_start} s into a day: a run in steps begins with one. "
            "Start at day_begins."
        )
    other = differs(end, config.start)
    if other:
        raise ConfigError(f"at: {date_text(end)} {other}")
    if not config.start < end <= config.end or (end - config.start).astype(int) % step:
        raise ConfigError(
            f"at: is {date_text(end)}, expected the end of a step of {duration_text(step)} after start "
            f"{date_text(config.start)} and not after end {date_text(config.end)}. Choose another, or change the run."
        )
    if choice.window % step:
        raise ConfigError(
            f"window: is {duration_text(choice.window)}, expected a multiple of the time step, {duration_text(step)}."
        )
    if end - np.timedelta64(choice.window, "s") < config.start:
        length = duration_text(int((end - config.start).astype(int)))
        raise ConfigError(
            f"window: is {duration_text(choice.window)}, and from start {date_text(config.start)} to {date_text(end)} "
            f"are {length}, expected at most that. Use a shorter window, or an earlier start."
        )
    return config.model_copy(update={
        "end": end, "output": None, "output_step": None, "restart": None, "restart_every": None,
    })


def read_window(config: Config, choice: Choice, domain: Domain) -> Observed:
    """Observations of the window, of the gauges that are chosen and that `screening` leaves in.

    Raises
    ------
    ConfigError, ObservationError
        A gauge that there is not; no observation in the window.
    """
    begin, gauges = config.end - np.timedelta64(choice.window, "s"), domain.gauges
    for name in choice.gauges or ():
        if name not in gauges.id:
            raise ConfigError(f"gauge: the domain has no '{name}'.{nearest(name, gauges.id)} Use an id of 'gauge_id'.")
    places = [i for i, name in enumerate(gauges.id) if choice.gauges is None or name in choice.gauges]
    if not places:
        raise ConfigError(f"{config.domain}: has no gauge, expected one or more. Add gauges to the domain.")
    ids, reach = [gauges.id[i] for i in places], gauges.reach[places]
    assert config.observations is not None
    starts, discharge = read_records(config, ids, begin, config.end)
    if np.isnan(discharge).all():
        raise ObservationError(
            f"{config.observations}: no observation of {', '.join(ids)} from {date_text(begin)} to "
            f"{date_text(config.end)}, expected one or more. Use a longer window, another time, or other gauges."
        )
    area = domain.reaches.upstream_area[reach]
    return Observed(starts, ids, reach, discharge, deviations(discharge, area, choice.errors, config.time_step))


def run_to_window(simulation: Simulation, choice: Choice, progress: Progress) -> None:
    """Run up to the begin of the window.

    Raises
    ------
    StateError
        The state that it goes on from is of a time within the window, or within a step.
    """
    config = simulation.config
    first = config.n_steps - choice.window // config.time_step
    if simulation.inputs.pending_seconds:
        raise StateError(
            f"restart: saved {simulation.inputs.pending_seconds} s into a step, expected the end of a step. Step on "
            "through BMI."
        )
    if simulation.n_done > first:
        begin = config.end - np.timedelta64(choice.window, "s")
        raise StateError(
            f"restart: valid at {date_text(simulation.time)}, expected a state of the begin of the window, "
            f"{date_text(begin)}, or before. Use an earlier state, or a shorter window."
        )
    advance_to(simulation, first, progress)


def advance_to(simulation: Simulation, last: int, progress: Progress, rain: np.ndarray | None = None) -> None:
    """Advance to the end of a step, with a factor on rain, float64[cell], where one is given."""
    length = simulation.block_length()
    while simulation.n_done < last:
        count = min(length, last - simulation.n_done)
        simulation.advance(scaled(simulation.read_forcing(simulation.n_done, count), rain))
        simulation.check_ledger()
        progress(count)


def check_model(simulation: Simulation) -> None:
    """Refuse a model without an adjoint, and a state with water that is in neither stores nor forcing."""
    model = simulation.model
    if model.lstm is not None:
        raise ConfigError(
            f"parameters: {simulation.config.parameters} varies {', '.join(model.lstm.components)} by an LSTM, which "
            "has no adjoint at run time. Use a checkpoint without `varying`."
        )
    if model.domain.boundary.size:
        raise ConfigError(
            f"{simulation.config.domain}: reaches above were cut off, and nobody gives their discharge here. "
            "Assimilate the whole."
        )
    if CARRIED in simulation.snapshot().cell:
        raise StateError(
            "restart_mode is hot_start, and the state holds rain that has not been used, which falls in the first step "
            "after it. Expected a state of the end of a step."
        )


