"""Regular grids of pixels, geographic or projected: where pixels are, and their true areas."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import CdlmError, DomainError, shown
from bmi_cdlm.prepare.packages import load

SCALE_NODES = 33  # along each side, for the areal scale of a projection, which is smooth
METRES_PER_DEGREE = 111_195.0
SMALLEST_PIXEL, LARGEST_PIXEL = 0.1, 2e6
"""Sides of pixels that anybody maps rivers or weather by [m]."""
EQUAL_AREA = 1e-6  # a scale this near to one is that of an equal-area projection, up to rounding


class Grid(NamedTuple):
    """A regular grid, row 0 in the north.

    left, top : outer corner in the north-west; dx, dy : sides of a pixel, both positive; all in the units of
    crs : its coordinate reference system, as 'EPSG:4326' or WKT.
    """

    left: float
    top: float
    dx: float
    dy: float
    n_rows: int
    n_cols: int
    crs: str

    @property
    def is_geographic(self) -> bool:
        """Whether coordinates are degrees of longitude and latitude."""
        return is_geographic(self.crs)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, self.n_cols

    @property
    def metres(self) -> float:
        """Length of the unit of a projected system [m]."""
        return metres_of(self.crs)

    def map_areas(self) -> np.ndarray:
        """Area of a pixel of each row as the map shows it [km2], float64[row]; the true one where geographic."""
        if self.is_geographic:
            return self._zone_areas()
        return np.full(self.n_rows, (self.dx * self.metres / 1000.0) * (self.dy * self.metres / 1000.0))

    def row_areas(self) -> np.ndarray:
        """True area of a pixel, mean over each row [km2], float64[row]; all of a row are equal where geographic."""
        if self.is_geographic:
            return self._zone_areas()
        return self.pixel_areas().mean(axis=1)

    def pixel_areas(self) -> np.ndarray:
        """True area of every pixel [km2], float64[row, col]: on the ellipsoid, or corrected for the areal scale.

        A read-only view that repeats one value along a row or over the grid where areas are equal there.
        """
        areas = self.map_areas()
        if not self.is_geographic:
            scale = self._areal_scale()
            if scale is not None:
                return areas[:, None] / scale
        return np.broadcast_to(areas[:, None], self.shape)

    def coarsen(self, factor: int) -> Grid:
        """Return the grid of blocks of `factor` by `factor` pixels from the same corner; the last may overhang."""
        return self._replace(
            dx=self.dx * factor, dy=self.dy * factor, n_rows=-(-self.n_rows // factor), n_cols=-(-self.n_cols // factor)
        )

    def find(self, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of places [degrees], int64 each; outside 0 to n_rows or n_cols where off the grid.

        Longitudes may be counted from -180, from 0 or on across 180, here and there alike.
        """
        x, y = _transformer("EPSG:4326", self.crs).transform(np.asarray(lon, float), np.asarray(lat, float))
        row, col = np.floor((self.top - y) / self.dy), np.floor((self.turn(x) - self.left) / self.dx)
        if self.is_around:
            col = col % self.n_cols
        off = ~(np.isfinite(row) & np.isfinite(col))
        return np.where(off, -1, row).astype(np.int64), np.where(off, -1, col).astype(np.int64)

    def turn(self, x: np.ndarray, ahead: float = 0.0) -> np.ndarray:
        """Coordinates as this grid counts them: longitudes in the turn whose middle is the grid's.

        Where a place lies is judged `ahead` [degrees] further east; coordinates of a projection stay.
        """
        if not self.is_geographic:
            return x
        middle = self.left + 0.5 * self.n_cols * self.dx
        return np.asarray(x - 360.0 * np.round((x + ahead - middle) / 360.0))

    @property
    def is_around(self) -> bool:
        """Whether the grid goes all around the globe."""
        return self.is_geographic and abs(self.n_cols * self.dx - 360.0) < 0.5 * self.dx

    def lonlat(self, row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of pixel centres [degrees], float64[pixel] each."""
        return self._degrees(self.left + (col + 0.5) * self.dx, self.top - (row + 0.5) * self.dy)

    def corners(self, row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of the corners [degrees], float64[pixel, 4] each: SW, SE, NE, NW."""
        x = self.left + (col[:, None] + np.array([0, 1, 1, 0])) * self.dx
        y = self.top - (row[:, None] + np.array([1, 1, 0, 0])) * self.dy
        return self._degrees(x, y)

    def ids(self, row: np.ndarray, col: np.ndarray) -> np.ndarray:
        """Stable ids 'row_column', str[pixel]."""
        width = max(4, len(str(max(self.n_rows, self.n_cols) - 1)))
        rows, cols = (np.char.zfill(np.asarray(i).astype(f"U{width}"), width) for i in (row, col))
        return np.char.add(np.char.add(rows, "_"), cols)

    def step_lengths(self, down: int, right: int) -> np.ndarray:
        """Distance to the centre of the pixel some rows down and columns to the right [m], float64[row].

        On the ellipsoid at the middle of the step where geographic, on the map elsewhere.
        """
        if not self.is_geographic:
            return np.full(self.n_rows, np.hypot(down * self.dy, right * self.dx) * self.metres)
        lat = np.radians(self.top - (np.arange(self.n_rows) + 0.5 + 0.5 * down) * self.dy)
        north, east = _degree_lengths(self.crs, lat)
        return np.hypot(down * self.dy * north, right * self.dx * east)

    def _degrees(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lon, lat = _transformer(self.crs, "EPSG:4326").transform(x, y)
        return lon, lat

    def _zone_areas(self) -> np.ndarray:
        """Area between two parallels and two meridians on the ellipsoid, as an authalic latitude gives it."""
        a, b = _ellipsoid(self.crs)
        edge = np.radians(np.clip(self.top - np.arange(self.n_rows + 1) * self.dy, -90.0, 90.0))
        e2 = 1.0 - (b / a) ** 2
        e, s = np.sqrt(e2), np.sin(edge)
        ring = s / (1.0 - e2 * s * s) + (np.arctanh(e * s) / e if e > 0.0 else s)
        return -np.diff(ring) * b * b / 2.0 * np.radians(self.dx) / 1e6

    def _areal_scale(self) -> np.ndarray | None:
        """Map area per true area, float64[row, col]; None where it is one everywhere."""
        x = self.left + np.linspace(0.0, self.n_cols * self.dx, SCALE_NODES)
        y = self.top - np.linspace(0.0, self.n_rows * self.dy, SCALE_NODES)
        lon, lat = _transformer(self.crs, _system(self.crs).geodetic_crs).transform(*np.meshgrid(x, y))
        nodes = load("pyproj").Proj(self.crs).get_factors(lon, lat).areal_scale
        if not np.isfinite(nodes).all() or (nodes <= 0.0).any():
            raise DomainError(
                f"grid: its corner ({self.left:g}, {self.top:g}) or another part lies where {self.crs} is not defined. "
                "Expected pixels inside the projection. Cut the raster, or correct its reference system."
            )
        if np.abs(nodes - 1.0).max() < EQUAL_AREA:
            return None
        spline = load("scipy.interpolate").RectBivariateSpline(
            np.linspace(0.0, self.n_rows, SCALE_NODES), np.linspace(0.0, self.n_cols, SCALE_NODES), nodes
        )
        return np.asarray(spline(np.arange(self.n_rows) + 0.5, np.arange(self.n_cols) + 0.5))


def check_grid(grid: Grid, where: str, error: type[CdlmError]) -> Grid:
    """Return a grid that is one; a reference system that does not go with its numbers is the usual fault.

    Raises
    ------
    error
        Coordinates that are no numbers, no degrees where they should be, pixels of no or an absurd size.
    """
    right, bottom = grid.left + grid.n_cols * grid.dx, grid.top - grid.n_rows * grid.dy
    if not np.isfinite([grid.left, grid.top, grid.dx, grid.dy, right, bottom]).all() or grid.n_rows * grid.n_cols < 1:
        raise error(
            f"{where}: has {grid.n_rows} by {grid.n_cols} pixels of {grid.dx:g} by {grid.dy:g} at ({grid.left:g}, "
            f"{grid.top:g}), expected numbers and at least one pixel. Make the raster anew."
        )
    degrees = grid.is_geographic
    slack = max(grid.dx, grid.dy)
    if degrees and (grid.top > 90 + slack or bottom < -90 - slack or grid.left < -540 or right > 900):
        raise error(
            f"{where}: reaches from ({grid.left:g}, {bottom:g}) to ({right:g}, {grid.top:g}), expected degrees of "
            "longitude and latitude, as its reference system says. Correct the reference system of the raster."
        )
    metres = METRES_PER_DEGREE if degrees else grid.metres
    least, most = min(grid.dx, grid.dy) * metres, max(grid.dx, grid.dy) * metres
    if least < SMALLEST_PIXEL or most > LARGEST_PIXEL:
        raise error(
            f"{where}: has pixels of {grid.dx:g} by {grid.dy:g} ({least:g} to {most:g} m), expected {SMALLEST_PIXEL:g} "
            f"m to {LARGEST_PIXEL / 1000:g} km. Correct the transform of the raster, or its reference system."
        )
    return grid


def metres_of(crs: str) -> float:
    """Return the length of the unit of a projected system [m]."""
    return float(_system(crs).axis_info[0].unit_conversion_factor)


def is_geographic(crs: str) -> bool:
    """Return whether a reference system counts in degrees of longitude and latitude."""
    return bool(_system(crs).is_geographic)


def vertical_units(crs: str) -> str | None:
    """Return the unit of heights in a reference system that has some, such as 'US_survey_foot'; else None."""
    axes = _system(crs).axis_info
    return str(axes[2].unit_name).replace("metre", "m").replace(" ", "_") if len(axes) > 2 else None


def check_system(crs: str) -> str:
    """Return a reference system that a configuration names; DomainError where there is no such."""
    _system(crs)
    return crs


@lru_cache(maxsize=64)
def _system(crs: str) -> Any:
    """The reference system, after checking that the model can use its units."""
    pyproj = load("pyproj")
    try:
        system = pyproj.CRS.from_user_input(crs)
    except (pyproj.exceptions.CRSError, ValueError) as cause:
        raise DomainError(
            f"grid: reference system '{shown(crs)}' cannot be understood ({shown(str(cause))}). Expected for example "
            "'EPSG:4326' or WKT; "
            "correct the key `crs`."
        ) from cause
    if not (system.is_geographic or system.is_projected):
        raise DomainError(
            f"grid: reference system '{crs}' is neither geographic nor projected. Expected one of both; reproject."
        )
    if system.is_geographic and abs(system.axis_info[0].unit_conversion_factor - np.pi / 180.0) > 1e-9:
        raise DomainError(
            f"grid: reference system '{crs}' counts in {system.axis_info[0].unit_name}, expected degrees. Reproject."
        )
    return system


@lru_cache(maxsize=64)
def _transformer(source: Any, target: Any) -> Any:
    return load("pyproj").Transformer.from_crs(source, target, always_xy=True)


def _ellipsoid(crs: str) -> tuple[float, float]:
    ellipsoid = _system(crs).ellipsoid
    return ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre


def _degree_lengths(crs: str, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length of a degree of latitude and of longitude at a latitude [radians] on the ellipsoid [m]."""
    a, b = _ellipsoid(crs)
    e2 = 1.0 - (b / a) ** 2
    w2 = 1.0 - e2 * np.sin(lat) ** 2
    degree = np.pi / 180.0
    return degree * a * (1.0 - e2) / w2**1.5, degree * a * np.cos(lat) / np.sqrt(w2)
