"""Pixels of cells that are there: what rasters are brought to, for the attributes of a domain that exists."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from bmi_cdlm.names.errors import DomainError, nearest
from bmi_cdlm.prepare.gauges.record_sources import id_text
from bmi_cdlm.prepare.network.catchment_files import open_vector
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.packages import load, resolve
from bmi_cdlm.prepare.text_tables import find_column, rows_of
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig

PER_SIDE = 20
"""Pixels along the side of an ordinary cell: at most so much of its border belongs to a neighbour."""
MOST_PIXELS = 2**28
logger = logging.getLogger(__name__)


def with_pixels(drainage: Drainage, config: AttributesConfig, folder: Path, where: Path) -> Drainage:
    """Return a drainage whose catchments are pixels of its cells, on a grid of degrees as fine as the cells ask for.

    A pixel belongs to the cell that holds its centre; the edges of cells on a regular grid are edges of pixels. Reaches
    have none: what they are follows from the cells that drain to them.

    Raises
    ------
    DomainError
        Cells without shapes, and no `attributes.polygons` of them.
    """
    cells = drainage.cells
    polygons = cells.polygons if config.polygons is None else _polygons_of(config, cells, folder)
    if polygons is None:
        raise DomainError(
            f"{where}: its cells have no shapes (they are points or boxes about a catchment), which rasters need. "
            "Expected corners of cells. Name their polygons with attributes.polygons, or give attributes.table."
        )
    polygons = _side_by_side(polygons, cells.lon)
    grid = _grid_about(polygons)
    features, affine = load("rasterio.features"), load("rasterio.transform")
    index = features.rasterize(
        ((shape, i) for i, shape in enumerate(polygons)), out_shape=grid.shape, fill=-1, dtype="int32",
        transform=affine.from_origin(grid.left, grid.top, grid.dx, grid.dy),
    )
    _give_small_ones(index, polygons, grid)
    none = np.broadcast_to(np.int32(-1), grid.shape)
    return drainage._replace(catchments=Catchments(grid, none, index, grid.row_areas()))


def _polygons_of(config: AttributesConfig, cells: Cells, folder: Path) -> Any:
    """Polygons of a vector file, in the order of the cells."""
    assert config.polygons is not None
    path = resolve(config.polygons, folder)
    frame, _, shapes = open_vector(path, config.polygons_layer, None)
    ids = [id_text(one).strip() for one in find_column(frame, config.polygon_ids, path, DomainError).tolist()]
    place = rows_of(ids, f"{path}: {config.polygon_ids}", DomainError)
    absent = [one for one in cells.id.tolist() if one not in place]
    if absent:
        raise DomainError(
            f"{path}: has no polygon of {len(absent)} of {len(cells.id)} cells, the first {absent[0]}."
            f"{nearest(absent[0], ids[:10_000])} Expected one for each. Set attributes.polygon_ids to the column of "
            "the cells' ids."
        )
    return shapes[[place[one] for one in cells.id.tolist()]]


def _side_by_side(polygons: Any, lon: np.ndarray) -> Any:
    """Polygons in the turn of longitudes about the middle of the cells, also across 180 degrees."""
    angle = np.radians(lon)
    middle = np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean()))
    shapely = load("shapely")
    west, _, east, _ = shapely.bounds(polygons).T
    turns = np.round((0.5 * (west + east) - middle) / 360.0)
    if not turns.any():
        return polygons
    moved = [
        shapely.transform(one, lambda at, by=turn: at - np.array([360.0 * by, 0.0])) if turn else one
        for one, turn in zip(polygons, turns.tolist(), strict=True)
    ]
    return np.array(moved, object)


def _grid_about(polygons: Any) -> Grid:
    """The grid of pixels about all cells: of boxes on a grid whole parts of a box."""
    shapely = load("shapely")
    west, south, east, north = shapely.bounds(polygons).T
    fill = float(np.median(shapely.area(polygons) / ((east - west) * (north - south))))
    dx, dy = (float(np.median(side)) * np.sqrt(fill) / PER_SIDE for side in (east - west, north - south))
    left, top = float(west.min()), float(north.max())
    width, height = float(east.max()) - left, top - float(south.min())
    coarser = max(1.0, np.sqrt(width / dx * height / dy / MOST_PIXELS))
    dx, dy = dx * coarser, dy * coarser
    return Grid(left, top, dx, dy, int(np.ceil(height / dy - 1e-6)), int(np.ceil(width / dx - 1e-6)), "EPSG:4326")


def _give_small_ones(index: np.ndarray, polygons: Any, grid: Grid) -> None:
    """Give a cell that holds no centre of a pixel the pixel in its midst."""
    without = np.flatnonzero(np.bincount(index[index >= 0], minlength=len(polygons)) == 0)
    if not without.size:
        return
    shapely = load("shapely")
    points = shapely.point_on_surface(polygons[without])
    row = ((grid.top - shapely.get_y(points)) / grid.dy).astype(int).clip(0, grid.n_rows - 1)
    col = ((shapely.get_x(points) - grid.left) / grid.dx).astype(int).clip(0, grid.n_cols - 1)
    index[row, col] = without
    logger.info("attributes: %d cells smaller than a pixel of %g degrees have one each", without.size, grid.dx)
