"""What a model refuses before it is made: steps, varying parameters and components that its processes do not offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bmi_cdlm.names.errors import ConfigError, ParameterError, nearest
from bmi_cdlm.names.time_steps import STEP_NAMES
from bmi_cdlm.processes.catalogue import Chain


def check_varying(chain: Chain, varying: Sequence[str]) -> None:
    """Refuse parameters that cannot come as [time, cell]."""
    may = [p.name for process in chain.cells for p in process.parameters if p.may_vary]
    for name in varying:
        if name not in may:
            raise ParameterError(
                f"parameter '{name}' cannot vary in time here.{nearest(name, may)} Of {', '.join(chain.names)}, these "
                f"can: {', '.join(may) or 'none'}. Give one value per cell or reach."
            )


def check_components(chain: Chain, components: Mapping[str, int]) -> None:
    """Refuse numbers of components of a process that is not there, or that are no numbers of sets."""
    names = [process.name for process in chain.cells]
    for name, count in components.items():
        if name not in names:
            raise ConfigError(
                f"components: there is no process '{name}' of cells here.{nearest(name, names)} There are: "
                f"{', '.join(names)}."
            )
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ConfigError(
                f"components: '{name}' has {count!r}, expected a whole number of parameter sets, 1 or more."
            )


def check_steps(chain: Chain, step: int, routing_step: int) -> None:
    """Refuse steps that the processes do not offer."""
    for process in chain.cells:
        if step not in process.model_steps:
            offered = " or ".join(f"{s} s ({STEP_NAMES.get(s, f'{s} s')})" for s in process.model_steps)
            raise ConfigError(
                f"time_step is {step} s, expected {offered}: {process.name.upper()} has constants for these only."
            )
    if routing_step <= 0 or step % routing_step:
        raise ConfigError(
            f"routing_step is {routing_step} s, expected a divisor of the time step of {step} s, such as 3600 s."
        )
