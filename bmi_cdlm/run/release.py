"""Water that has run off and waits for its caller's clock: every drop is handed out once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.time_steps import DAY

WAITING, AT_START = "waiting_runoff", "_at_start"
"""Names under which a state keeps runoff that waits, and what waited when the run began."""


class AtStart(NamedTuple):
    """What a run took over from the one before and is no water of its own.

    Runoff [mm] and discharge [m3] that waited, precipitation that no step had used [mm d-1 s].
    """

    runoff: np.ndarray
    discharge: np.ndarray
    precipitation: np.ndarray


class Release:
    """Hands the runoff of a model out over the calls of its caller.

    A whole step's runoff is that of the call that runs it. A step accumulated from shorter calls is complete only in
    the last of them: its runoff leaves evenly over a model step, from the begin of that call on. What still waits when
    another step is complete leaves with that one's.

    Attributes
    ----------
    depth : float
        Runoff handed out by the call, over the drained area [m].
    seconds : int
        How long until nothing waits.
    runoff : float64[cell]
        Runoff that waits [mm]; discharge that waits is `unreleased` of the model's state.
    at_start : AtStart or None
        What waited when the run began, where it is a hot start.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._step = model, model.step
        self.depth, self.seconds = 0.0, 0
        self.runoff = np.zeros(model.domain.n_cells)
        self.at_start: AtStart | None = None

    def whole_step(self) -> None:
        """Hand out the runoff of the step that has just run, and all that waits."""
        self.depth += self._model.step_depth
        if self.seconds:
            self._empty()

    def whole_steps(self, runoff: np.ndarray) -> None:
        """Hand out the runoff of several steps, float64[cell] [mm]; nothing waits."""
        self.depth += self._model.mean_depth(runoff)

    def part_of_step(self, seconds: int, *, completed: bool) -> None:
        """Hand out what leaves over a part of a step [s], with which a step was completed or not."""
        discharge = self._model.state.unreleased
        if completed:
            self.runoff += self._model.live["runoff"] * (self._step / DAY)
            discharge += self._model.live["discharge"] * self._step
            self.seconds = self._step
        if seconds >= self.seconds:
            if self.seconds:
                self._empty()
            return
        share = seconds / self.seconds
        self.depth += self._model.mean_depth(self.runoff) * share
        self.runoff *= 1.0 - share
        discharge *= 1.0 - share
        self.seconds -= seconds

    def _empty(self) -> None:
        self.depth += self._model.mean_depth(self.runoff)
        self.runoff[:] = 0.0
        self._model.state.unreleased[:] = 0.0
        self.seconds = 0

    def own_runoff(self) -> np.ndarray | None:
        """Runoff that waits, less what waited at the start, float64[cell] [mm]; None where there is none."""
        if self.at_start is None:
            return self.runoff if self.seconds else None
        return self.runoff - self.at_start.runoff

    def snapshot(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Arrays on cells and on reaches that a state keeps, besides those of the model's state."""
        cell, reach = {}, {}
        if self.seconds:
            cell[WAITING] = self.runoff.copy()
        if self.at_start is not None:
            cell[WAITING + AT_START] = self.at_start.runoff
            cell["unused_precipitation" + AT_START] = self.at_start.precipitation
            reach["unreleased" + AT_START] = self.at_start.discharge
        return cell, reach

    def restore(self, cell: Mapping[str, np.ndarray], reach: Mapping[str, np.ndarray], seconds: int | None) -> None:
        """Take over what `snapshot` gave, after the model's state; seconds : None where the state does not say."""
        self.seconds = self._seconds_of_old() if seconds is None else seconds
        if not self.seconds:
            self._model.state.unreleased[:] = 0.0  # rounding, of old states
        self.runoff[:] = cell.get(WAITING, self._model.live["runoff"] * (self.seconds / DAY))
        self.at_start = None
        if WAITING + AT_START in cell:
            self.at_start = AtStart(
                cell[WAITING + AT_START], reach["unreleased" + AT_START], cell["unused_precipitation" + AT_START]
            )

    def _seconds_of_old(self) -> int:
        """How long until nothing waits, from the discharge that does: states of format 2 say no more."""
        flow, waiting = self._model.live["discharge"], self._model.state.unreleased
        most = int(flow.argmax()) if flow.size else 0
        if not flow.size or flow[most] <= 0.0:
            return 0
        return int(np.clip(round(float(waiting[most] / flow[most])), 0, self._step))
