"""The slope of a terrain model."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.prepare.network.grid import Grid


def slope(elevation: np.ndarray, grid: Grid) -> np.ndarray:
    """Rise over run of the terrain, by third-order differences over 3 by 3 pixels [Horn 1981].

    Parameters
    ----------
    elevation : float64[row, col]
        [m], NaN where missing: a missing neighbour counts as level with the pixel in the middle.
    grid : Grid
        Of these pixels.

    Returns
    -------
    float64[row, col]
        Dimensionless; NaN where the elevation is missing. Borders are taken to go on level.
    """
    padded = np.pad(elevation, 1, constant_values=np.nan)
    n_rows, n_cols = elevation.shape

    def near(down: int, right: int) -> np.ndarray:
        values = padded[1 + down : 1 + down + n_rows, 1 + right : 1 + right + n_cols]
        return np.where(np.isnan(values), elevation, values)

    east = near(-1, 1) + 2.0 * near(0, 1) + near(1, 1) - near(-1, -1) - 2.0 * near(0, -1) - near(1, -1)
    south = near(1, -1) + 2.0 * near(1, 0) + near(1, 1) - near(-1, -1) - 2.0 * near(-1, 0) - near(-1, 1)
    across, down = grid.step_lengths(0, 1)[:, None], grid.step_lengths(1, 0)[:, None]
    return np.hypot(east / (8.0 * across), south / (8.0 * down))
