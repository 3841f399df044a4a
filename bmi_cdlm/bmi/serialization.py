"""A state through variables, as NextGen wants it: trigger, size, bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.host_variables import SERIALIZATION

NAMES = {v.name: v for v in SERIALIZATION}
SIZE, STATE = SERIALIZATION[2].name, SERIALIZATION[3].name


class Serialization:
    """Takes and gives back a state as bytes.

    A host sets `create`, reads `size` and `state`, and sets `free`. To restore it sets `size` (it may leave that out)
    and then `state`. In the other protocol it reads `serialization_create`, which takes the state and gives its length,
    and announces no size.

    Parameters
    ----------
    take : callable
        Returns the state as bytes.
    give : callable
        Takes bytes over as the state, or raises and changes nothing.
    """

    def __init__(self, take: Callable[[], bytes], give: Callable[[bytes], None]) -> None:
        self._take, self._give = take, give
        self._announced = False
        self._values: dict[str, np.ndarray] = {
            "create": np.zeros(1, np.int32), "free": np.zeros(1, np.int32), "size": np.zeros(1, np.int64),
            "state": np.zeros(0, np.uint8), "taken": np.zeros(1, np.uint64),
        }

    def value(self, name: str) -> np.ndarray:
        """Array of one of the variables; that of the state is another after each change of its size."""
        return self._values[NAMES[name].short]

    def read(self, name: str) -> np.ndarray:
        """Array of one of the variables to be read from: `serialization_create` takes the state."""
        if NAMES[name].short == "taken":
            self._hold(np.frombuffer(self._take(), np.uint8).copy())
        return self.value(name)

    def set(self, name: str, source: np.ndarray) -> None:
        """Set one of the variables, and do what that asks for."""
        short, values = NAMES[name].short, np.asarray(source).ravel()
        if short in ("create", "taken"):
            self._hold(np.frombuffer(self._take(), np.uint8).copy())
        elif short == "free":
            self._hold(np.zeros(0, np.uint8))
        elif short == "size":
            self._hold(np.zeros(_length(values), np.uint8))
            self._announced = True
        else:
            self._restore(values)

    def _restore(self, values: np.ndarray) -> None:
        expected = int(self._values["size"][0])
        if values.dtype.itemsize != 1 or (self._announced and values.size != expected):
            raise StateError(
                f"'{STATE}': got {values.size} values of {values.dtype}, expected "
                f"{f'{expected} bytes, as announced' if self._announced else 'bytes (uint8)'}. Give the state whole."
            )
        self._give(values.tobytes())
        self._hold(np.zeros(0, np.uint8))

    def _hold(self, content: np.ndarray) -> None:
        self._values["state"] = content
        self._values["size"][0] = self._values["taken"][0] = content.size
        self._announced = False


def _length(values: np.ndarray) -> int:
    if values.size != 1 or values.dtype.kind not in "iu" or values[0] < 0:
        raise StateError(
            f"'{SIZE}' was given {values.tolist()[:3]}, expected one whole number of bytes."
        )
    return int(values[0])
