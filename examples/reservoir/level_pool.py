"""A level-pool reservoir as a BMI component: storage, release through a gate, spill over a weir.

    dV/dt = inflow - release - spill,   h = V / area,   spill = weir max(h - crest, 0)^(3/2)

The release is the target, as long as there is water for it. Each step is implicit in V and found by bisection; the
outflow is then what the change of V leaves over, so that water is closed to rounding for steps of any length.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from bmipy import Bmi

INFLOW = "reservoir_water~incoming__volume_rate"
TARGET = "reservoir_water~outgoing__target_volume_rate"
OUTFLOW = "reservoir_water~outgoing__volume_rate"
RELEASE = "reservoir_water~outgoing~released__volume_rate"
SPILL = "reservoir_water~outgoing~spilled__volume_rate"
STORAGE = "reservoir_water__volume"
LEVEL = "reservoir_water_surface__height"
UNITS = {
    INFLOW: "m3 s-1", TARGET: "m3 s-1", OUTFLOW: "m3 s-1", RELEASE: "m3 s-1", SPILL: "m3 s-1", STORAGE: "m3",
    LEVEL: "m",
}
INPUTS = (INFLOW, TARGET)


class Settings(NamedTuple):
    """What a configuration (YAML) may state.

    area : of the water surface [m2]; crest : height of the weir's crest above the bottom [m]; weir : coefficient times
    width of the weir [m1.5 s-1]; target : release [m3 s-1]; level : at the start [m]; step : [s].
    """

    area: float = 1.5e5
    crest: float = 4.0
    weir: float = 1.5
    target: float = 0.12
    level: float = 3.0
    step: float = 86400.0


POSITIVE = ("area", "step")
"""Settings that must be more than 0; the others may be 0."""


def read_settings(config_file: str) -> Settings:
    """Settings of a YAML, the defaults for an empty path.

    YAML takes 1.5e5 for a text, since it lacks a sign in its exponent; it is a number here.
    """
    content = yaml.safe_load(Path(config_file).read_text(encoding="utf-8")) if config_file else None
    known = ", ".join(Settings._fields)
    if not isinstance(content or {}, dict):
        raise ValueError(f"{config_file}: expected `key: number` lines. Known: {known}.")
    found = {}
    for key, value in (content or {}).items():
        if key not in Settings._fields:
            raise ValueError(f"{config_file}: unknown key {key!r}. Known: {known}.")
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (0.0 <= number < math.inf) or (key in POSITIVE and number == 0.0):
            least = "more than 0" if key in POSITIVE else "0 or more"
            raise ValueError(f"{config_file}: {key} is {value!r}, expected a finite number, {least}.")
        found[key] = number
    return Settings(**found)


def outflows(s: Settings, volume: float, inflow: float, target: float, seconds: float) -> tuple[float, float, float]:
    """Volume at the end of a step [m3], and release and spill over it [m3 s-1]."""
    most, release = volume + inflow * seconds, target
    if most <= target * seconds:
        return 0.0, most / seconds, 0.0

    def too_much(after: float) -> bool:
        spill = s.weir * max(after / s.area - s.crest, 0.0) ** 1.5
        return after - most + (release + spill) * seconds > 0.0

    low, high = 0.0, most - release * seconds
    for _ in range(200 if too_much(high) else 0):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if too_much(middle) else (middle, high)
    return high, release, max((most - high) / seconds - release, 0.0)


class LevelPool(Bmi):
    """One reservoir on one point."""

    METADATA = "level_pool_meta"

    def __init__(self) -> None:
        self._settings, self._time = Settings(), 0.0
        self._values = {name: np.zeros(1) for name in UNITS}

    def initialize(self, config_file: str) -> None:
        """Read a YAML of `Settings`; an empty path takes the defaults."""
        self._settings, self._time = read_settings(config_file), 0.0
        s, values = self._settings, self._values
        for value in values.values():
            value[:] = 0.0
        values[TARGET][:], values[LEVEL][:], values[STORAGE][:] = s.target, s.level, s.level * s.area

    def update(self) -> None:
        """Advance by a step."""
        self.update_until(self._time + self._settings.step)

    def update_until(self, time: float) -> None:
        """Advance to a time [s] on the inflow that was set."""
        seconds, values = time - self._time, self._values
        if seconds < 0.0:
            raise ValueError(f"cannot go back: asked for {time} s, the reservoir is at {self._time} s.")
        if seconds == 0.0:
            return
        inflow, target = float(values[INFLOW][0]), float(values[TARGET][0])
        if not (0.0 <= inflow < np.inf and 0.0 <= target < np.inf):
            raise ValueError(f"inflow is {inflow} and target {target} m3 s-1, expected finite flows of 0 or more.")
        before = float(values[STORAGE][0])
        after, release, spill = outflows(self._settings, before, inflow, target, seconds)
        values[STORAGE][:], values[LEVEL][:] = after, after / self._settings.area
        values[RELEASE][:], values[SPILL][:] = release, spill
        values[OUTFLOW][:] = max(inflow - (after - before) / seconds, 0.0)
        self._time = time

    def finalize(self) -> None:
        """Nothing to close."""

    def get_component_name(self) -> str:
        """Name."""
        return "LevelPool"

    def get_input_item_count(self) -> int:
        """Number of inputs."""
        return len(INPUTS)

    def get_output_item_count(self) -> int:
        """Number of outputs."""
        return len(UNITS) - len(INPUTS)

    def get_input_var_names(self) -> tuple[str, ...]:
        """Inflow and target."""
        return INPUTS

    def get_output_var_names(self) -> tuple[str, ...]:
        """Outflow, its parts, storage and level."""
        return tuple(name for name in UNITS if name not in INPUTS)

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
        """Seconds."""
        return self._settings.step

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
        """Set an input."""
        self._values[name][:] = src

    def set_value_at_indices(self, name: str, inds: np.ndarray, src: np.ndarray) -> None:
        """Set an input."""
        self._values[name][inds] = src

    def get_grid_rank(self, grid: int) -> int:
        """A point in the plane."""
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
        x[:] = 0.0
        return x

    def get_grid_y(self, grid: int, y: np.ndarray) -> np.ndarray:
        """Latitude."""
        y[:] = 0.0
        return y

    def get_grid_z(self, grid: int, z: np.ndarray) -> np.ndarray:
        """Height."""
        z[:] = 0.0
        return z

    def _none(self, *_: object) -> np.ndarray:
        raise NotImplementedError("the reservoir is one point")

    get_grid_shape = get_grid_spacing = get_grid_origin = _none
    get_grid_edge_nodes = get_grid_face_edges = get_grid_face_nodes = get_grid_nodes_per_face = _none
