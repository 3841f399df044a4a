"""Small networks for the tests of the river network."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.network.directions import Flow, make_flow
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import Raster
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.network.synthetic import make_terrain

# Codes of ESRI: 1 E, 2 SE, 4 S, 8 SW, 16 W, 32 NW, 64 N, 128 NE.
#   0 v   1 v   2 <
#   3 >   4 v   5 (sea)
#   6 >   7 v   8 <
VALLEY = np.array([[4, 4, 16], [1, 4, 247], [1, 4, 16]], np.uint8)
METRIC = Grid(0.0, 0.0, 1000.0, 1000.0, 3, 3, "EPSG:3035")


def grid_of(values: np.ndarray, size: float = 1000.0) -> Grid:
    """A grid on the map of Europe, which keeps areas."""
    return Grid(4_000_000.0, 3_000_000.0, size, size, *values.shape[-2:], "EPSG:3035")


def raster(values: np.ndarray, valid: np.ndarray | None = None) -> Raster:
    """A raster in memory."""
    return Raster(grid_of(values), values, np.ones(values.shape[-2:], bool) if valid is None else valid, "made.tif")


def config(**keys: object) -> NetworkConfig:
    """A configuration that keeps all, unless told otherwise."""
    return NetworkConfig.model_validate({"directions": "made.tif", "extent": "all", **keys})


def flow_of(codes: np.ndarray, size: float = 1000.0, heights: np.ndarray | None = None) -> Flow:
    """Flow directions in memory."""
    grid = grid_of(codes, size)
    dem = None if heights is None else Raster(grid, heights, np.isfinite(heights), "dem.tif")
    return make_flow(grid, codes, config(), dem)


def terrain_flow(shape: tuple[int, int] = (90, 105), seed: int = 3, **keys: object) -> Flow:
    """Rivers on synthetic mountains, with their elevation."""
    terrain = make_terrain(shape, seed, **keys)  # type: ignore[arg-type]
    dem = Raster(terrain.grid, terrain.elevation, np.isfinite(terrain.elevation), "dem.tif")
    return make_flow(terrain.grid, terrain.directions, config(), dem)


def gauge_at(flow: Flow, pixel: int, name: str = "G1") -> GaugeSite:
    """A gauge in the centre of a pixel, with exactly its area."""
    lon, lat = flow.grid.lonlat(*(np.array([i]) for i in divmod(pixel, flow.grid.n_cols)))
    return GaugeSite(name, name, float(lon[0]), float(lat[0]), float(flow.upstream_area[pixel]), {})


def walk(flow: Flow) -> np.ndarray:
    """Upstream area of every pixel by walking down from each, float64[pixel]."""
    total = np.zeros(flow.downstream.size)
    area = flow.area.ravel()
    for start in np.flatnonzero(flow.inside):
        pixel, before = int(start), -1
        while pixel != before:
            total[pixel] += area[start]
            pixel, before = int(flow.downstream[pixel]), pixel
    return total
