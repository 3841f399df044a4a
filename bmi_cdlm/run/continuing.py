"""What a run goes on from: whether a state, a restart file or a part of a domain fits its configuration."""

from __future__ import annotations

import logging

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.restart import Restart
from bmi_cdlm.names.calendars import date_text, differs
from bmi_cdlm.names.errors import ConfigError, StateError
from bmi_cdlm.processes.catalogue import GIVEN, OF_CHAIN
from bmi_cdlm.run.config import Config

OPTIONS = ("time_step", *OF_CHAIN, "components")
"""Keys of a configuration that a state was made with, and that are those of whoever goes on from it."""
WORDS = (*OPTIONS, "inputs_from", "name_profile", "pending_seconds")
"""What a state says beside its arrays."""
UNSAID = {"precipitation": GIVEN}
"""What a state is made with where it does not say: those of earlier versions never do."""
logger = logging.getLogger(__name__)


def check_options(config: Config, restart: Restart, *, hot_start: bool) -> None:
    """Refuse a state of another time step or of other processes."""
    said = UNSAID | dict(restart.attributes)
    missing = [key for key in WORDS if key not in said]
    if missing:
        raise StateError(f"restart: lacks '{missing[0]}', expected {', '.join(WORDS)}. Take the state again.")
    holding = config.chain.holds_water
    keys: tuple[str, ...] = ("time_step", "routing")
    if holding or not hot_start:  # cells that hold nothing begin with any, but lose water where a run goes on
        keys = OPTIONS
    for key in keys:
        got, expected = said.get(key), str(getattr(config, key))
        if got != expected:
            hint = "" if holding else ", or restart_mode: hot_start, which takes the rivers alone"
            raise StateError(
                f"restart: {key} is '{got}', expected '{expected}'. Use the options of that run{hint}."
            )


def elapsed_at(config: Config, restart: Restart, pending: int, *, at_steps: bool) -> int:
    """Seconds from the start to the end of a state's last completed step.

    pending : those into its running step; at_steps : forcing comes from a file, by the steps of the configuration.
    """
    other = differs(restart.time, config.start)
    if other:
        raise StateError(f"restart: its date {other}")
    elapsed = int((restart.time - config.start).astype(int))
    length = config.n_steps * config.time_step
    first = -config.before_start
    elsewhere = at_steps and (elapsed < first or (elapsed - first) % config.time_step)
    if not 0 <= elapsed + pending <= length or elsewhere:
        at = restart.time + np.timedelta64(pending, "s")
        raise StateError(
            f"restart: valid at {date_text(at)}, expected {'a step' if at_steps else 'a time'} between start "
            f"{date_text(config.start)} and end {date_text(config.end)}. Change start or end, or set restart_mode: "
            "hot_start."
        )
    if pending and config.sub_step_policy == "refuse":
        raise StateError(
            f"restart: saved {pending} s into a step, and sub_step_policy is 'refuse'. Use a state at the end of a "
            "step, or set sub_step_policy: accumulate."
        )
    return elapsed


def check_boundary(config: Config, domain: Domain) -> None:
    """Refuse a domain whose rivers come from elsewhere without an input for them, and such an input without them."""
    name, given = "boundary_inflow", "boundary_inflow" in config.coupled_inputs
    if domain.boundary.size and not given:
        first = domain.reaches.id[int(domain.boundary[0])]
        raise ConfigError(
            f"{config.domain}: what drains to reach {first} was cut off ({domain.boundary.size} such reaches), and its "
            f"discharge is no input. Set coupled_inputs: [{name}], and give it through BMI."
        )
    if given and not domain.boundary.size:
        raise ConfigError(
            f"coupled_inputs names '{name}', and no reach of {config.domain} was cut off, expected one or more. Cut "
            "with `cdlm subset --below`, or take it out."
        )
    if domain.boundary.size and config.spin_up:
        raise ConfigError(
            f"spin_up is {config.spin_up}, expected 0: nobody gives the discharge of what was cut off before the "
            "start. Begin with a state of the whole (initial_state)."
        )


def can_resume(config: Config) -> bool:
    """Whether there is a restart file to go on from."""
    if config.restart is None:
        raise ConfigError("resume: the configuration has no 'restart', expected the file to go on from.")
    if not config.restart.exists():
        logger.warning("%s: not written yet, running from the start", config.restart)
        return False
    return True
