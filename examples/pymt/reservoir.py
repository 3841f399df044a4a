"""A reservoir with a weir, as a BMI component: the second half of the pymt example.

    dV/dt = Q_in - Q_out,   Q_out = C b max(h - h_crest, 0)^(3/2),   V = A h

solved implicitly over each step (bisection), so that it is stable and conserves water for any step.
"""

from __future__ import annotations

import numpy as np
from bmipy import Bmi

INFLOW = "reservoir_water~incoming__volume_rate"
OUTFLOW = "reservoir_water~outgoing__volume_rate"
LEVEL = "reservoir_water_surface__height"
UNITS = {INFLOW: "m3 s-1", OUTFLOW: "m3 s-1", LEVEL: "m"}
STEP = 86400.0
AREA, WEIR, CREST = 4e5, 12.0, 3.0
"""Area of the water surface [m2], weir coefficient times width [m1.5 s-1], height of the crest [m]."""


class Reservoir(Bmi):
    """One reservoir on one point."""

    METADATA = "reservoir_meta"

    def __init__(self) -> None:
        self._time = 0.0
        self._values = {name: np.zeros(1) for name in UNITS}

    def initialize(self, config_file: str) -> None:
        """Full to the crest; there is nothing to configure."""
        self._time = 0.0
        self._values[LEVEL][0] = CREST

    def update(self) -> None:
        """Advance by a day."""
        self.update_until(self._time + STEP)

    def update_until(self, time: float) -> None:
        """Advance to a time [s]."""
        seconds = time - self._time
        if seconds <= 0:
            return
        inflow, level = self._values[INFLOW][0], self._values[LEVEL][0]
        low, high = 0.0, level + seconds * inflow / AREA
        for _ in range(200):
            middle = 0.5 * (low + high)
            out = WEIR * max(middle - CREST, 0.0) ** 1.5
            if middle - level - seconds * (inflow - out) / AREA > 0.0:
                high = middle
            else:
                low = middle
        self._values[LEVEL][0] = 0.5 * (low + high)
        self._values[OUTFLOW][0] = inflow - (self._values[LEVEL][0] - level) * AREA / seconds
        self._time = time

    def finalize(self) -> None:
        """Nothing to close."""

    def get_component_name(self) -> str:
        """Name."""
        return "Reservoir"

    def get_input_item_count(self) -> int:
        """One."""
        return 1

    def get_output_item_count(self) -> int:
        """Two."""
        return 2

    def get_input_var_names(self) -> tuple[str, ...]:
        """The inflow."""
        return (INFLOW,)

    def get_output_var_names(self) -> tuple[str, ...]:
        """Outflow and level."""
        return (OUTFLOW, LEVEL)

    def get_var_grid(self, name: str) -> int:
        """The only grid."""
        return 0

    def get_var_type(self, name: str) -> str:
        """Type."""
        return "float64"

    def get_var_units(self, name: str) -> str:
        """Units."""
        return UNITS[name]

    def get_var_itemsize(self, name: str) -> int:
        """Bytes."""
        return 8

    def get_var_nbytes(self, name: str) -> int:
        """Bytes."""
        return 8

    def get_var_location(self, name: str) -> str:
        """At the point."""
        return "node"

    def get_current_time(self) -> float:
        """Seconds."""
        return self._time

    def get_start_time(self) -> float:
        """Seconds."""
        return 0.0

    def get_end_time(self) -> float:
        """Seconds; later than anybody asks for."""
        return 1e12

    def get_time_units(self) -> str:
        """Seconds."""
        return "s"

    def get_time_step(self) -> float:
        """A day."""
        return STEP

    def get_value(self, name: str, dest: np.ndarray) -> np.ndarray:
        """Copy a value."""
        dest[:] = self._values[name]
        return dest

    def get_value_ptr(self, name: str) -> np.ndarray:
        """The live value."""
        return self._values[name]

    def get_value_at_indices(self, name: str, dest: np.ndarray, inds: np.ndarray) -> np.ndarray:
        """Copy a value."""
        dest[:] = self._values[name][inds]
        return dest

    def set_value(self, name: str, src: np.ndarray) -> None:
        """Set the inflow."""
        self._values[name][:] = src

    def set_value_at_indices(self, name: str, inds: np.ndarray, src: np.ndarray) -> None:
        """Set the inflow."""
        self._values[name][inds] = src

    def get_grid_rank(self, grid: int) -> int:
        """Points in the plane."""
        return 2

    def get_grid_size(self, grid: int) -> int:
        """One."""
        return 1

    def get_grid_type(self, grid: int) -> str:
        """Points."""
        return "points"

    def get_grid_node_count(self, grid: int) -> int:
        """One."""
        return 1

    def get_grid_edge_count(self, grid: int) -> int:
        """None."""
        return 0

    def get_grid_face_count(self, grid: int) -> int:
        """None."""
        return 0

    def get_grid_x(self, grid: int, x: np.ndarray) -> np.ndarray:
        """Longitude."""
        x[:] = 4.02
        return x

    def get_grid_y(self, grid: int, y: np.ndarray) -> np.ndarray:
        """Latitude."""
        y[:] = 44.0
        return y

    def get_grid_z(self, grid: int, z: np.ndarray) -> np.ndarray:
        """Height."""
        z[:] = 0.0
        return z

    def _none(self, *_: object) -> np.ndarray:
        raise NotImplementedError("the reservoir is one point")

    get_grid_shape = get_grid_spacing = get_grid_origin = _none
    get_grid_edge_nodes = get_grid_face_edges = get_grid_face_nodes = get_grid_nodes_per_face = _none
