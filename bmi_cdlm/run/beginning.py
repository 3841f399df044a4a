"""What a run begins with: a state of another run, learned fills, an equilibrium, or a spin-up."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.files.fingerprints import FINGERPRINTS, check_fingerprints
from bmi_cdlm.files.restart import read_restart
from bmi_cdlm.files.streaming import read_ahead
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.names.calendars import year_length
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.not_finite import find_not_finite
from bmi_cdlm.run.saved_state import tell_where_the_clock_is

if TYPE_CHECKING:
    from bmi_cdlm.run.simulation import Simulation

STEADY_DAYS = 10
"""Days of forcing whose mean runoff fills the rivers, where nothing else says what they hold."""
logger = logging.getLogger(__name__)


def begin(simulation: Simulation) -> None:
    """Give the model the state that the configuration asks for.

    Raises
    ------
    StateError
        A state that does not fit.
    """
    config, model = simulation.config, simulation.model
    if simulation.resumed:
        path = config.restart
        assert path is not None
        restart = read_restart(path, model.domain.cells.id, model.domain.reaches.id)
        own = simulation.made_of()
        assert own is not None
        check_fingerprints(restart.attributes.get(FINGERPRINTS), own, str(path), StateError)
        simulation.restore(restart)
        return
    if isinstance(config.initial_state, Path):
        simulation.restore_from(config.initial_state, hot_start=config.restart_mode == "hot_start")
        if simulation.now and config.name_profile == "ngen":
            tell_where_the_clock_is(simulation)
        return
    simulation.show_inputs()
    if model.has_start:  # as the training assumed: cells as learned, rivers empty, nothing on its way
        if config.spin_up:
            logger.warning("spin_up is not run: the parameters say how full stores are when the run starts")
        model.begin(np.zeros(model.domain.n_reaches))
    elif config.initial_state == "equilibrium":
        model.settle(config.initial_rain, config.initial_runoff)
        _spin_up(simulation)
    elif simulation.forcing is None:
        dry = np.zeros((1, model.domain.n_cells))
        others = dict.fromkeys(config.chain.inputs, dry)
        model.fill_rivers(simulation.dated(Forcing(dry, dry, dry, others=others), 0, 1))
    else:
        steps = min(STEADY_DAYS * DAY // config.time_step, config.n_steps)
        model.fill_rivers(simulation.read_forcing(0, steps))
        _spin_up(simulation)


def _spin_up(simulation: Simulation) -> None:
    config, model = simulation.config, simulation.model
    steps = min(year_length(config.start) * DAY // config.time_step, config.n_steps)
    length = simulation.block_length()
    spans = [(first, min(length, steps - first)) for first in range(0, steps, length)]
    for _ in range(config.spin_up):
        first = 0
        for forcing in read_ahead(simulation.read_forcing, spans):
            model.advance(forcing)
            count = forcing.precipitation.shape[0]
            if not model.is_finite:
                raise find_not_finite(model, forcing, None, simulation.step_starts(first, count))
            first += count
    if config.spin_up:
        model.begin(model.live["discharge"].copy())
