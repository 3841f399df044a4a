"""Runoff cells: blocks of network pixels that drain to a reach."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.network.catchments import Cells
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import Raster
from bmi_cdlm.prepare.network.network_config import DEGREES, METRES, NetworkConfig

MULTIPLE = 1e-3  # of a pixel per pixel: 30 arcsec is 0.0083333


def block_factor(size: str | None, grid: Grid, key: str, of: str) -> int:
    """Return how many pixels of a grid a size such as '30 arcsec' or '1 km' spans; 1 for None.

    Raises
    ------
    ConfigError
        A length on a geographic grid or the reverse, or no integer multiple of a pixel.
    """
    if size is None:
        return 1
    number, unit = size.split()
    if (unit in DEGREES) != grid.is_geographic:
        raise ConfigError(
            f"network: {key} is '{size}', but the grid is in {'degrees' if grid.is_geographic else 'metres'} "
            f"({grid.crs}). Expected one of {', '.join(DEGREES if grid.is_geographic else METRES)}."
        )
    wanted = float(number) * (DEGREES[unit] if grid.is_geographic else METRES[unit] / grid.metres)
    factors = wanted / grid.dx, wanted / grid.dy
    factor = round(factors[0])
    if factor < 1 or max(abs(f - factor) for f in factors) > MULTIPLE * factor:
        side = f"{grid.dx:g}" if abs(grid.dx - grid.dy) < 1e-9 * grid.dx else f"{grid.dx:g} by {grid.dy:g}"
        raise ConfigError(
            f"network: {key} is '{size}', {factors[0]:.4g} by {factors[1]:.4g} times {of} of {side} in {grid.crs}. "
            "Expected an integer multiple. Choose one, or resample the raster."
        )
    return factor


def check_sizes(config: NetworkConfig, grid: Grid) -> tuple[int, int]:
    """Return how many pixels of a grid the sides of a reach's block and of a cell span; ConfigError as above."""
    factor = block_factor(config.resolution, grid, "resolution", "a pixel")
    return factor, factor * block_factor(config.cell_size, grid.coarsen(factor), "cell_size", "a block")


def cells_on(mask: Raster, cells: Cells) -> np.ndarray:
    """Return which cells have their centre where a mask is neither 0 nor without data, bool[cell].

    Raises
    ------
    DomainError
        None has.
    """
    row, col = mask.grid.find(cells.lon, cells.lat)
    on = (row >= 0) & (row < mask.grid.n_rows) & (col >= 0) & (col < mask.grid.n_cols)
    on[on] = mask.valid[row[on], col[on]] & (mask.values[row[on], col[on]] != 0)
    if not on.any():
        raise DomainError(
            f"{mask.where}: leaves none of {on.size} cells, expected values other than 0 at some. Its own pixels lie "
            f"from ({mask.grid.left:g}, {mask.grid.top:g}) on in {mask.grid.crs[:40]}, the cells from "
            f"{cells.lon.min():.5g} to {cells.lon.max():.5g} E, {cells.lat.min():.5g} to {cells.lat.max():.5g} N. "
            "Check that it overlaps with them, and its reference system."
        )
    return on


def make_cells(grid: Grid, inside: np.ndarray, factor: int, areas: str) -> tuple[Cells, np.ndarray]:
    """Make the cells that hold at least one pixel of the network, in raster order.

    Parameters
    ----------
    grid : Grid
        Of the fine pixels.
    inside : bool[row, col]
    factor : int
        Fine pixels along a side of a cell.
    areas : 'true' or 'map'

    Returns
    -------
    cells : Cells
    cell : int32[row, col]
        Cell of every pixel, -1 outside.
    """
    blocks = grid.coarsen(factor)
    index = (np.arange(grid.n_rows) // factor)[:, None] * blocks.n_cols + np.arange(grid.n_cols) // factor
    used = np.bincount(index[inside], minlength=blocks.n_rows * blocks.n_cols) > 0
    place = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
    row, col = np.divmod(np.flatnonzero(used), blocks.n_cols)
    area = blocks.map_areas()[row] if areas == "map" else blocks.pixel_areas()[row, col]
    lon, lat = blocks.lonlat(row, col)
    corner_lon, corner_lat = blocks.corners(row, col)
    cells = Cells(blocks.ids(row, col), lon, lat, area, corner_lon, corner_lat, blocks, row, col)
    return cells, np.where(inside, place[index], -1)
