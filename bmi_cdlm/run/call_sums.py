"""Sums and means of fluxes over the last call, for hosts whose calls are longer than a step."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.entry import Variable, over_call
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable


class CallSums:
    """Sums and means over the steps that a call completed.

    A call that completes none has sums of 0, and leaves the means as they were. So sums of calls of any length add up
    to what flowed.

    Attributes
    ----------
    published : list of (Variable, float64[place])
    """

    def __init__(self, model: Model, names: tuple[str, ...]) -> None:
        self._live, self._step, self._seconds = model.live, model.step, 0
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, float]] = []
        self.published: list[tuple[Variable, np.ndarray]] = []
        for name in names:
            total, mean = over_call(variable(name))
            arrays = np.zeros_like(model.live[name]), np.zeros_like(model.live[name])
            self._rows.append((model.live[name], *arrays, DAY if "d-1" in mean.units else 1.0))
            self.published += [(total, arrays[0]), (mean, arrays[1])]

    def begin(self) -> None:
        """A call begins."""
        self._seconds = 0
        for _, total, _, _ in self._rows:
            total[:] = 0.0

    def add_step(self) -> None:
        """A step has run."""
        self._seconds += self._step
        for live, total, _, unit in self._rows:
            total += live * (self._step / unit)

    def end(self) -> None:
        """The call ends."""
        if self._seconds:
            for _, total, mean, unit in self._rows:
                np.multiply(total, unit / self._seconds, out=mean)
