"""Classes of hostile calls of the BMI: states as bytes, and sequences with odd arguments."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import P
from damage import damaged
from harness import Fault, Outcome

from bmi_cdlm import BmiCdlm
from bmi_cdlm.bmi.serialization import SIZE, STATE
from bmi_cdlm.names.errors import CdlmError, StateError


def states_as_bytes(folder: Path, rng: random.Random) -> Outcome:
    content = (folder / "state.bytes").read_bytes()
    hostile = damaged(content, rng) if rng.random() < 0.9 else rng.randbytes(rng.choice([0, 1, 8, 80, 5000]))
    component = BmiCdlm()
    component.initialize(str(folder / "save.yaml"))
    component.update()
    before = _everything(component)
    try:
        if rng.random() < 0.5:
            component.set_value(SIZE, np.array([len(hostile)], np.int64))
        component.set_value(STATE, np.frombuffer(hostile, np.uint8))
    except StateError as error:
        if _everything(component) != before:
            raise Fault("changed", str(error)) from error
        component.update()
        return Outcome("refused", str(error))
    if hostile != content:
        raise Fault("wrong", "a damaged state was taken")
    return Outcome("right", "")


def _everything(component: BmiCdlm) -> dict[str, bytes]:
    names = (*component.get_input_var_names(), *component.get_output_var_names())
    return {n: component.get_value_ptr(n).tobytes() for n in names} | {
        "t": np.array(component.get_current_time()).tobytes()
    }


def bmi_calls(folder: Path, rng: random.Random) -> Outcome:
    """Sequences of calls with odd arguments: errors of ours, and none of them changes anything."""
    component = BmiCdlm()
    component.initialize(str(folder / "save.yaml"))
    names = [
        *component.get_input_var_names(), *component.get_output_var_names(), *component.get_parameter_names(), SIZE,
        STATE, "", "x" * 500, None, 3,
    ]
    for _ in range(40):
        name = rng.choice(names)
        odd = rng.choice([np.nan, np.inf, -1.0, 0.0, 1e300, 5.0, 1e-300])
        array = rng.choice(
            [
                np.full(rng.choice([0, 1, 4, 25, 40]), odd), odd, None, "x", [odd], np.full((2, 2), odd),
                np.array(["a"]), np.zeros(25, complex), np.zeros(25, object), np.zeros(40, bool),
                np.full(25, odd, np.float32)[::-1],
            ]
        )
        places = rng.choice(
            [np.array([0]), np.array([-1]), np.array([10**9]), np.array([0.5]), [], None, np.array([1, 1])]
        )
        actions: list[Callable[[], object]] = [
            lambda: component.set_value(name, array), lambda: component.set_value_at_indices(name, places, array),
            lambda: component.get_value(name, array), lambda: component.get_value_at_indices(name, array, places),
            lambda: component.get_value_ptr(name), lambda: component.get_var_grid(name),
            lambda: component.update_until(rng.choice([odd, 86400.0, 3600.0, -1, "x", None, 10**12])),
            component.update, lambda: component.get_grid_x(rng.choice([0, 1, 2, 3, 9, -1, None]), array),
            lambda: component.initialize(rng.choice(["nowhere", "", None, 3, str(folder)])),
            lambda: component.get_value_bounds(name), lambda: component.get_grid_type(rng.choice([0, 5, "a"])),
        ]
        before = _everything(component)
        reads_only = (2, 3, 4, 5, 8, 10, 11)
        which = rng.randrange(len(actions))
        try:
            actions[which]()
            done = True
        except (CdlmError, NotImplementedError) as error:
            done = False
            if not 15 <= len(str(error)) <= 5000:
                raise Fault("bad message", str(error)[:500]) from error
            if which not in (6, 7) and _everything(component) != before:
                raise Fault("changed", f"call {which}: {error}") from error
        if done and which in reads_only and _everything(component) != before and not _aliased(component, array):
            raise Fault("changed", f"reading call {which} of {name}")
    component.finalize()
    return Outcome("right", "")


def _aliased(component: BmiCdlm, array: object) -> bool:
    return isinstance(array, np.ndarray) and np.shares_memory(array, component.get_value_ptr(P))
