"""From the height of a weather grid to the elevation of cells: temperature by a lapse, precipitation by a factor."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import locate, open_layer
from bmi_cdlm.prepare.weather.conversion import conversion
from bmi_cdlm.prepare.weather.curved import CurvedGrid
from bmi_cdlm.prepare.weather.gridded import choose_variable, open_dataset, open_weather
from bmi_cdlm.prepare.weather.weather_config import ForcingSource

LAPSE = -6.5  # degC km-1, of the standard atmosphere
GRAVITY = 9.80665  # m s-2, by which geopotential becomes height
WARM = ("air_temperature", "minimum_temperature", "maximum_temperature")
RAIN = "precipitation"
SAME = 1e-3  # of a pixel


class Change(NamedTuple):
    """What is done to values of cells: times factor, then plus offset; float64[cell] each."""

    factor: np.ndarray
    offset: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Change float64[time, cell]."""
        return values * self.factor + self.offset

    def told(self, name: str) -> str:
        """A sentence on how much."""
        if name == RAIN:
            how = f"multiplied by {self.factor.min():.3g} to {self.factor.max():.3g}"
        else:
            how = f"changed by {self.offset.min():+.3g} to {self.offset.max():+.3g} degC"
        return f"{name}: {how} for the height of the cells."


def read_heights(name: str, grid: Grid | CurvedGrid, folder: Path) -> np.ndarray:
    """Return the heights of all pixels of a grid in row order [m], float64[pixel], NaN where missing.

    Raises
    ------
    ForcingError
        They lie on other pixels, or are in units of neither a length nor a geopotential.
    """
    if isinstance(grid, CurvedGrid):
        return _read_curved(name, grid, folder)
    with open_layer(name, folder, grid.crs, ForcingError) as layer:
        own = layer.grid
        turned = own.left + (360.0 * round((grid.left - own.left) / 360.0) if grid.is_geographic else 0.0)
        off = max(abs(turned - grid.left) / grid.dx, abs(own.top - grid.top) / grid.dy)
        if own.shape != grid.shape or off > 0.05 or abs(own.dx / grid.dx - 1.0) > SAME:
            raise ForcingError(
                f"{layer.where}: has {own.n_rows} by {own.n_cols} pixels from ({own.left:g}, {own.top:g}), expected "
                f"the {grid.n_rows} by {grid.n_cols} pixels of the weather from ({grid.left:g}, {grid.top:g}). Use the "
                "heights of the same grid."
            )
        values = layer.read((slice(0, own.n_rows), slice(0, own.n_cols))).ravel()
        return _in_metres(values, layer.units or "m", layer.where)


def _read_curved(name: str, grid: CurvedGrid, folder: Path) -> np.ndarray:
    """Heights on the rows and columns of a curvilinear grid, at the first time where they have several."""
    path, variable = locate(name, folder)
    with open_dataset(path, ForcingError) as dataset:
        chosen = choose_variable(dataset, variable, ("hgt", "orog", "zs"), str(path), ForcingError)
        where = f"{path}:{chosen}"
        field = open_weather(dataset, chosen, None, where, ForcingError)
        same = field.grid.shape == grid.shape and isinstance(field.grid, CurvedGrid)
        if not same or not np.allclose(field.grid[:2], grid[:2], atol=1e-4):
            raise ForcingError(
                f"{where}: lies on {field.grid.n_rows} by {field.grid.n_cols} pixels, expected the {grid.n_rows} by "
                f"{grid.n_cols} of the weather, at the same longitudes and latitudes. Use the heights of the same grid."
            )
        first = {str(d): 0 for d in field.array.dims if str(d) not in (field.y, field.x)}
        values = field.read((slice(0, grid.n_rows), slice(0, grid.n_cols)), first).ravel()
        return _in_metres(values, str(field.array.attrs.get("units", "m")), where)


def _in_metres(values: np.ndarray, units: str, where: str) -> np.ndarray:
    """Heights of a length, or of a geopotential."""
    try:
        return conversion(units, "m", where, ForcingError)(values)
    except ForcingError:
        return conversion(units, "m2 s-2", where, ForcingError)(values) / GRAVITY


def change_of(
    name: str, source: ForcingSource, height: np.ndarray, elevation: np.ndarray | None, where: str
) -> Change:
    """Return the change of an input from the height of its source at the cells to their elevation [m], float64[cell].

    Raises
    ------
    ForcingError
        An input that is neither temperature nor precipitation, no gradient of precipitation, no elevation of cells.
    """
    if name not in (*WARM, RAIN):
        known = ", ".join((*WARM, RAIN))
        raise ForcingError(f"{where}: '{name}' has `height`, expected it of {known} only. Leave it out.")
    if name == RAIN and source.gradient is None:
        raise ForcingError(f"{where}: '{name}' has `height` and no `gradient`, expected a share per km. Set it.")
    if elevation is None:
        raise ForcingError(
            f"{where}: '{name}' has `height`, but the cells have no elevation. Expected the attribute `elevation`. "
            "Name a raster under attributes.elevation, or a column of network.table."
        )
    missing = np.isnan(height)
    if missing.any():
        raise ForcingError(
            f"{where}: the height of its grid is missing at {np.count_nonzero(missing)} of {height.size} cells. "
            f"Complete {source.height}."
        )
    above = (elevation - height) / 1000.0
    one, none = np.ones(above.size), np.zeros(above.size)
    if name == RAIN:
        return Change(np.maximum(one + (source.gradient or 0.0) * above, 0.0), none)
    return Change(one, (LAPSE if source.gradient is None else source.gradient) * above)
