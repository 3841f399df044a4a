"""Cells on a regular grid, for hosts that want arrays in rows and columns: `grid_profile: rectilinear`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Cells
from bmi_cdlm.names.errors import DomainError

TOLERANCE = 1e-3
"""How far from a line of the grid a cell's centre may lie, as a share of the spacing."""
SAME = 1e-6
"""Coordinates that agree to this are one [degrees]: 10 cm."""
LEAST, MOST_PLACES = 10_000, 100
"""A grid may have so many places, and so many per cell; more is no grid."""
REMEDY = "Use grid_profile: points or unstructured, whose values come with the coordinates of each cell."


class Lattice(NamedTuple):
    """A regular grid and the cells on it.

    x, y : float64[column], float64[row], degrees east and north, ascending; place : int64[cell], row by row; cell :
    int64[place], -1 where there is none.
    """

    x: np.ndarray
    y: np.ndarray
    place: np.ndarray
    cell: np.ndarray

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values of cells, one or several each, at all places: NaN, -1 or no text where there is no cell."""
        rows = values.reshape(self.place.size, -1)
        nothing = {"f": np.nan, "i": -1}.get(values.dtype.kind, 0)
        full = np.full((self.cell.size, rows.shape[1]), nothing, values.dtype)
        full[self.place] = rows
        found = full.ravel()
        found.flags.writeable = False
        return found


class Spread:
    """A variable of cells spread over the grid: NaN where there is no cell.

    Attributes
    ----------
    values : float64[place]
        Not to be written to: that would not reach the model.
    """

    def __init__(self, source: np.ndarray, lattice: Lattice) -> None:
        self._source, self._place = source, lattice.place
        self._own = np.full(lattice.cell.size, np.nan)
        self.values = self._own.view()
        self.values.flags.writeable = False

    def refresh(self) -> np.ndarray:
        """Bring the values up to date; returns them."""
        self._own[self._place] = self._source
        return self.values


def make_lattice(cells: Cells) -> Lattice:
    """Return the regular grid that cells lie on.

    Raises
    ------
    DomainError
        They do not, or two lie in one place.
    """
    x, column = _axis(cells.lon, "longitudes", cells.lon.size)
    y, row = _axis(cells.lat, "latitudes", cells.lon.size)
    if x.size * y.size > max(LEAST, MOST_PLACES * cells.lon.size):
        raise DomainError(
            f"grid_profile is 'rectilinear', and {cells.lon.size} cells would lie on a grid of {y.size} by {x.size}: "
            f"their centres are on no common lines. {REMEDY}"
        )
    place = row * x.size + column
    cell = np.full(x.size * y.size, -1, np.int64)
    cell[place] = np.arange(place.size)
    lost = np.flatnonzero(cell[place] != np.arange(place.size))
    if lost.size:
        i = int(lost[0])
        raise DomainError(
            f"grid_profile is 'rectilinear', and cells {cells.id[i]} and {cells.id[int(cell[place[i]])]} have one "
            f"centre. {REMEDY}"
        )
    return Lattice(x, y, place, cell)


def _axis(values: np.ndarray, what: str, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced coordinates and the index among them of each value."""
    ordered = np.sort(values)
    gaps = np.diff(ordered)
    gaps = gaps[gaps > SAME]
    if not gaps.size:
        return ordered[:1].copy(), np.zeros(values.size, np.int64)
    steps = np.maximum(1.0, np.rint(gaps / gaps.min()))
    spacing = float(gaps.sum() / steps.sum())
    count = (ordered[-1] - ordered[0]) / spacing
    if count > max(LEAST, MOST_PLACES * n_cells):
        raise DomainError(f"grid_profile is 'rectilinear', and the {what} of the cells have no spacing. {REMEDY}")
    index = np.rint((values - ordered[0]) / spacing).astype(np.int64)
    axis = ordered[0] + spacing * np.arange(int(index.max()) + 1)
    off = np.abs(values - axis[index]) / spacing
    if off.max() > TOLERANCE:
        raise DomainError(
            f"grid_profile is 'rectilinear', and the {what} of the cells are not evenly spaced: "
            f"{values[off.argmax()]:.6f} lies {off.max():.2g} of the spacing of {spacing:.6g} degrees off. {REMEDY}"
        )
    return axis, index
