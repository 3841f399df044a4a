"""Compilation before the first step: a host that is about to step waits for no compiler."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
from numba.core import event

from bmi_cdlm.kernels.ahead import compile_beside, listed
from bmi_cdlm.kernels.cache import cache_folder
from bmi_cdlm.model.blocks import is_narrow
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.names.variables import variable

if TYPE_CHECKING:
    from bmi_cdlm.run.simulation import Simulation

USUAL_SECONDS = 15
"""Seconds that compilation takes where no kernel is kept on disk, on one core of the day."""
logger = logging.getLogger(__name__)
_rehearsed: set[tuple] = set()
_announced: list[bool] = []


def rehearse(simulation: Simulation) -> None:
    """Run a step of typical weather and take it back, so that every kernel of a step is loaded or compiled.

    Once per process and kind of run. To be called before the run has a state of its own.
    """
    config, model = simulation.config, simulation.model
    network = model.pet is not None and tuple(a.shape for a in model.pet if isinstance(a, np.ndarray))
    kind = (
        config.time_step, config.chain.names, config.components, WEIGHT in model.parameters, model.varying, config.pet,
        tuple(config.inputs), network, config.ledger_tolerance is not None, config.coupled_inputs,
        config.sub_step_outputs, None if model.lstm is None else model.lstm.network.gate_weight.shape,
        is_narrow(model.domain.n_reaches), is_narrow(model.domain.n_cells),
    )
    if kind in _rehearsed:
        return
    kept = model.state.copy()
    shape = (1, model.domain.n_cells)
    typical = {name: np.full(shape, variable(name).known.typical) for name in config.inputs}

    def step() -> None:
        try:
            for given in (1.0, 0.0) if config.coupled_inputs else (0.0,):
                simulation.rehearse(typical, given)
        finally:
            model.state.assign(kept.arrays())

    complete = False
    # What is listed gives nothing, which may lead anywhere.
    with listed() as missing, suppress(Exception), np.errstate(all="ignore"):
        step()
        complete = not missing
    if not complete:
        compile_beside(missing)
        step()
    nowhere = np.zeros(0, np.int64)
    model.reach_state(model.reach_volume[nowhere], nowhere)  # as callers who set states or parameters do
    model.begin(np.zeros(model.domain.n_reaches))
    _rehearsed.add(kind)


class _Announcer(event.Listener):
    """Says once that something is compiled."""

    def on_start(self, event: event.Event) -> None:
        """Compilation of a function begins."""
        if not _announced:
            _announced.append(True)
            logger.warning(
                "compiling the kernels for this machine: usually %d s, once; they are kept in %s", USUAL_SECONDS,
                cache_folder() or "memory only",
            )

    def on_end(self, event: event.Event) -> None:
        """It ended."""


@contextmanager
def announced() -> Iterator[None]:
    """Say in the log, once per process, that kernels are compiled, where they are."""
    if _announced:
        yield
        return
    with event.install_listener("numba:compile", _Announcer()):
        yield
