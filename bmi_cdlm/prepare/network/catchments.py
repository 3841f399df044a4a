"""What the river network hands to everything that comes after it: catchments, reaches, cells and links."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.prepare.network.grid import Grid


class Catchments(NamedTuple):
    """The fine D8 grid, every pixel told which reach's catchment and which cell holds it.

    reach, cell : int32[row, col], -1 outside; area : float64[row], of a pixel [km2]; others : of gauges without an
    area, by id, the upstream area [km2] and distance [m] of the river that they were not put on.
    """

    grid: Grid
    reach: np.ndarray
    cell: np.ndarray
    area: np.ndarray
    others: Mapping[str, tuple[float, float]] = MappingProxyType({})


class Reaches(NamedTuple):
    """River reaches in depth-first post-order.

    id : str[reach]; downstream : int64[reach], -1 at an outlet; length : float64[reach] [m]; slope : float64[reach],
    dimensionless, NaN where no elevation was given; area : float64[reach], sum of the links [km2]; upstream_area :
    float64[reach], all that drains through the reach, with or without a cell [km2]; lon, lat : float64[reach], of the
    end of the reach [degrees]; strahler : int64[reach]; uncovered_area : float64[reach], without a cell [km2].
    """

    id: np.ndarray
    downstream: np.ndarray
    length: np.ndarray
    slope: np.ndarray
    area: np.ndarray
    upstream_area: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    strahler: np.ndarray
    uncovered_area: np.ndarray


class Cells(NamedTuple):
    """Runoff cells that drain to a reach, in raster order.

    id : str[cell]; lon, lat : float64[cell]; area : float64[cell], geometric [km2]; corner_lon, corner_lat :
    float64[cell, 4], SW, SE, NE, NW [degrees]; grid : of all cells, also those left out; row, col : int64[cell] on it;
    polygons : of cells that are no pixels of a grid, shapely geometries [degrees], or None.
    """

    id: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    area: np.ndarray
    corner_lon: np.ndarray
    corner_lat: np.ndarray
    grid: Grid
    row: np.ndarray
    col: np.ndarray
    polygons: Any = None


class Links(NamedTuple):
    """Overlaps of cells with catchments, sorted by reach: cell, reach : int64[link]; area : float64[link] [km2]."""

    cell: np.ndarray
    reach: np.ndarray
    area: np.ndarray


class Drainage(NamedTuple):
    """A river network with its catchments and the cells that feed it."""

    catchments: Catchments
    reaches: Reaches
    cells: Cells
    links: Links

    @property
    def is_listed(self) -> bool:
        """Whether it comes from a list of catchments, each a cell: there are no pixels then."""
        return self.catchments.grid.n_rows == 0
