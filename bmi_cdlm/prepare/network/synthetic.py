"""Terrain made by the code itself: for tests, for measurements, and to try things without any download."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.prepare.network.directions import directions_from_elevation
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import Raster

ROUGHNESS = 2.2  # spectral exponent of heights, near that of real mountains
RELIEF = 1000.0  # [m]
TILT = 3.0  # fall of the whole terrain to its outlet, in standard deviations of the noise


class Terrain(NamedTuple):
    """elevation : float32[row, col] [m], NaN at sea; directions : uint8[row, col], ESRI codes, 247 at sea."""

    grid: Grid
    elevation: np.ndarray
    directions: np.ndarray


def make_terrain(
    shape: tuple[int, int], seed: int, *, one_basin: bool = False, sea: float = 0.0, size: float = 1.0 / 240.0,
    crs: str = "EPSG:4326", corner: tuple[float, float] = (100.0, 40.0),
) -> Terrain:
    """Make fractal mountains that fall to the south-east, and the rivers on them.

    Parameters
    ----------
    shape : rows, columns
    seed : int
        The same seed gives the same terrain.
    one_basin : bool
        Everything drains to one outlet; otherwise rivers end all around.
    sea : float
        Share of the pixels that lie below the sea.
    size : float
        Side of a pixel, in the units of `crs`.
    corner : left, top
    """
    n_rows, n_cols = shape
    grid = Grid(corner[0], corner[1], size, size, n_rows, n_cols, crs)
    noise = _noise(n_rows, n_cols, seed)
    fall = np.linspace(1.0, 0.0, n_rows)[:, None] + np.linspace(1.0, 0.0, n_cols)
    heights = (noise + TILT * fall.astype(np.float32)) * np.float32(RELIEF)
    coast = float(np.quantile(heights, sea)) if sea > 0.0 else float(heights.min())
    heights -= np.float32(coast)
    if sea > 0.0:
        heights[heights < 0.0] = np.nan
    dem = Raster(grid, heights, np.isfinite(heights), "synthetic terrain")
    return Terrain(grid, heights, directions_from_elevation(dem, "lowest" if one_basin else "edge"))


def _noise(n_rows: int, n_cols: int, seed: int) -> np.ndarray:
    """Random heights with a power-law spectrum, mean 0 and standard deviation 1, float32[row, col]."""
    rng = np.random.default_rng(seed)
    waves = np.fft.rfft2(rng.standard_normal((n_rows, n_cols), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(n_rows)[:, None], np.fft.rfftfreq(n_cols))
    frequency[0, 0] = np.inf
    heights = np.fft.irfft2(waves * frequency ** (-ROUGHNESS / 2.0), s=(n_rows, n_cols))
    return ((heights - heights.mean()) / heights.std()).astype(np.float32)
