"""What a model of a part of a river network asks of whoever runs the other parts."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Exchange(Protocol):
    """Flow across the boundary of a part; `bmi_cdlm.run.partition` exchanges it through files.

    boundary, outlets : int64[], reaches whose hydrograph is given, and those that others need.
    """

    boundary: np.ndarray
    outlets: np.ndarray

    def draw(self, n: int) -> np.ndarray:
        """Hydrographs of the boundary reaches over the next n sub-steps, float64[boundary, n] [m3 s-1]."""
        ...

    def hand_on(self, hydrographs: np.ndarray) -> None:
        """Take the hydrographs of the outlets, float64[outlet, sub-step] [m3 s-1]."""
        ...

    def draw_steady(self) -> np.ndarray:
        """Steady discharge of the boundary reaches, float64[boundary] [m3 s-1]."""
        ...

    def hand_on_steady(self, flow: np.ndarray) -> None:
        """Take the steady discharge of the outlets, float64[outlet] [m3 s-1]."""
        ...
