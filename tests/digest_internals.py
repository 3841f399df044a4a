"""All that the digest test takes from inside the package: the rest is configurations, commands, files and BMI.

Whoever moves these things adds the new place here and leaves the old one, so that one test runs on both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def simulation_of(component: Any) -> Any:
    """The simulation behind a BMI component: it has `model` (record, adjoint) and `read_forcing(first, count)`."""
    for holder in (component, *vars(component).values()):
        for name in ("simulation", "_simulation"):
            found = getattr(holder, name, None)
            if hasattr(found, "read_forcing") and hasattr(found, "model"):
                return found
    raise AssertionError("nothing in the component has model and read_forcing: tell tests/digest_internals.py")


@contextmanager
def every_job_on_threads() -> Iterator[None]:
    """Small jobs too are handed to the threads, wherever the limit stands."""
    name = "WORTH_A_THREAD"
    loaded = [m for key, m in sys.modules.items() if key.startswith("bmi_cdlm") and hasattr(m, name)]
    before = [getattr(m, name) for m in loaded]
    for module in loaded:
        setattr(module, name, 0)
    try:
        yield
    finally:
        for module, value in zip(loaded, before, strict=True):
            setattr(module, name, value)


TRAINING_STATE = ("{stem}_training/state.pt",)
"""Where `cdlm-train` keeps the state of weights and optimiser, beside its output."""


def state_format() -> str:
    """What the container of a training's state is called."""
    try:
        from cdlm_training.saved_state import STATE_FORMAT
    except ImportError:
        from cdlm_training.loop import STATE_FORMAT
    return STATE_FORMAT
