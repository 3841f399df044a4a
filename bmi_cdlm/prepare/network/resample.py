"""A raster brought to the fine pixels of the network, block of rows by block of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import Layer, Raster, heights_in, open_layer
from bmi_cdlm.prepare.packages import load

Resampling = Literal["average", "bilinear", "nearest"]
BLOCK_PIXELS = 2_000_000  # of the network's grid
SOURCE_PIXELS = 20_000_000  # of the raster, per block
MARGIN = 3  # pixels of the raster around a block, for bilinear
SAME_SIZE = 0.01
EDGE_POINTS = 21


class Extent(NamedTuple):
    """Rows and columns of the fine grid that matter."""

    rows: slice
    cols: slice


def extent_of(inside: np.ndarray) -> Extent:
    """Smallest rows and columns that hold all pixels that are `inside`, bool[row, col]."""
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        raise DomainError("attributes: no pixel lies in a cell or catchment. Expected some; check the network.")
    return Extent(slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1))


def part(grid: Grid, extent: Extent) -> Grid:
    """Return the cut-out of a grid."""
    rows, cols = extent
    return grid._replace(
        left=grid.left + cols.start * grid.dx, top=grid.top - rows.start * grid.dy,
        n_rows=rows.stop - rows.start, n_cols=cols.stop - cols.start,
    )


def pixel_ratio(layer: Layer, grid: Grid) -> float:
    """Side of the raster's pixels over that of the grid's, in the middle of the grid."""
    x, y = _source_points(layer.grid, grid, np.array([0.5, 1.5, 0.5]), np.array([0.5, 0.5, 1.5]), centre=True)
    across, down = np.hypot(np.diff(x), np.diff(y))[0], np.hypot(x[2] - x[0], y[2] - y[0])
    return float(np.sqrt(layer.grid.dx * layer.grid.dy / (across * down)))


def choose(layer: Layer, grid: Grid, wanted: str, *, classes: bool, per_cell: int = 1) -> Resampling:
    """Return the resampling: average where the raster is finer, else bilinear (classes: nearest).

    per_cell : pixels of the grid along the side of a cell that they are to stand for: what is coarser than they, but
    finer than the cell, is taken as it is, so that a cell has the mean of what lies in it.
    """
    if wanted != "auto":
        if classes and wanted == "bilinear":
            raise DomainError(
                f"{layer.where}: resampling bilinear for classes, expected average or nearest. Change it."
            )
        return wanted  # type: ignore[return-value]
    ratio = pixel_ratio(layer, grid)
    if ratio < 1.0 - SAME_SIZE:
        return "average"
    if ratio < per_cell or _aligned(layer.grid, grid) or classes:
        return "nearest"
    return "bilinear"


def blocks(layer: Layer, grid: Grid, extent: Extent) -> Iterator[Extent]:
    """Cut an extent into blocks of rows that keep both rasters within memory."""
    ratio = min(pixel_ratio(layer, part(grid, extent)), 1.0)
    width = extent.cols.stop - extent.cols.start
    count = int(max(1, min(BLOCK_PIXELS / width, SOURCE_PIXELS * ratio**2 / width)))
    for row in range(extent.rows.start, extent.rows.stop, count):
        yield Extent(slice(row, min(row + count, extent.rows.stop)), extent.cols)


def read_block(layer: Layer, block: Grid) -> tuple[np.ndarray, Grid] | None:
    """Read what a raster has around a block: float64[row, col] and its grid; None where they do not overlap.

    A geographic raster may count its longitudes from -180 or from 0; the grid that comes back counts as the block
    does. One around the globe has no edges in the east and west.
    """
    source = layer.grid
    along = np.linspace(0.0, 1.0, EDGE_POINTS)
    u, v = (axis.ravel() for axis in np.meshgrid(along * block.n_cols, along * block.n_rows))
    x, y = _source_points(source, block, u, v)
    if not np.isfinite(x).any():
        return None
    turns = 0
    if source.is_geographic:
        turns = round(float(np.nanmean(x) - source.left - 0.5 * source.n_cols * source.dx) / 360.0)
        source = source._replace(left=source.left + 360.0 * turns)
    cols = (np.array([np.nanmin(x), np.nanmax(x)]) - source.left) / source.dx
    rows = (source.top - np.array([np.nanmax(y), np.nanmin(y)])) / source.dy
    r0, r1 = max(0, int(np.floor(rows[0])) - MARGIN), min(source.n_rows, int(np.ceil(rows[1])) + MARGIN)
    c0, c1 = int(np.floor(cols[0])) - MARGIN, int(np.ceil(cols[1])) + MARGIN
    if not source.is_around:
        c0, c1 = max(0, c0), min(source.n_cols, c1)
    if r0 >= r1 or c0 >= c1:
        return None
    pieces = [
        layer.read((slice(r0, r1), slice(max(c0, k) - k, min(c1, k + source.n_cols) - k)))
        for k in range(-source.n_cols, 2 * source.n_cols, source.n_cols) if max(c0, k) < min(c1, k + source.n_cols)
    ]
    return np.concatenate(pieces, axis=1), part(source, Extent(slice(r0, r1), slice(c0, c1)))


def read_onto(name: str, grid: Grid, folder: Path, crs: str | None = None) -> Raster:
    """Read a raster in any system on the pixels of a grid.

    Raises
    ------
    DomainError
        As `open_layer`; the raster has nothing there.
    """
    values = np.full(grid.shape, np.nan, np.float32)
    with open_layer(name, folder, crs) as layer:
        how, found = choose(layer, grid, "auto", classes=False), False
        for block in blocks(layer, grid, Extent(slice(0, grid.n_rows), slice(0, grid.n_cols))):
            window = read_block(layer, part(grid, block))
            if window is not None:
                found = True
                values[block] = warp(*window, part(grid, block), how)
        if not found:
            raise no_overlap(layer, grid)
        return Raster(grid, values, ~np.isnan(values), layer.where, heights_in(layer))


def no_overlap(layer: Layer, grid: Grid) -> DomainError:
    """Say where a raster and the domain lie, which do not meet."""
    return DomainError(
        f"{layer.where}: does not overlap with the domain. It covers {_box(layer.grid)} in {_short(layer.grid.crs)}, "
        f"the domain {_box(grid)} in {_short(grid.crs)}. Check both reference systems, or use a raster of this region."
    )


def _box(grid: Grid) -> str:
    right, bottom = grid.left + grid.n_cols * grid.dx, grid.top - grid.n_rows * grid.dy
    return f"{grid.left:g} to {right:g}, {bottom:g} to {grid.top:g}"


def _short(crs: str) -> str:
    return crs if len(crs) < 40 else "a system of its own"


def warp(values: np.ndarray, source: Grid, target: Grid, how: Resampling) -> np.ndarray:
    """Resample float64[row, col] onto another grid; NaN where the source has nothing.

    Bilinear leaves NaN beside missing values; they take the nearest pixel there.
    """
    rasterio, warping = load("rasterio"), load("rasterio.warp")

    def run(method: str) -> np.ndarray:
        out = np.full(target.shape, np.nan)
        warping.reproject(
            values, out, src_transform=_transform(source), src_crs=source.crs, src_nodata=np.nan,
            dst_transform=_transform(target), dst_crs=target.crs, dst_nodata=np.nan,
            resampling=getattr(rasterio.enums.Resampling, method), num_threads=1,
        )
        return out

    out = run(how)
    if how == "bilinear" and np.isnan(out).any():
        out = np.where(np.isnan(out), run("nearest"), out)
    return out


def _transform(grid: Grid) -> Any:
    return load("rasterio").Affine(grid.dx, 0.0, grid.left, 0.0, -grid.dy, grid.top)


def _aligned(a: Grid, b: Grid) -> bool:
    """Whether two grids have the same pixels, each as far as it reaches."""
    if a.crs != b.crs or abs(a.dx / b.dx - 1.0) > 1e-3 or abs(a.dy / b.dy - 1.0) > 1e-3:
        return False
    col, row = (b.left - a.left) / a.dx, (a.top - b.top) / a.dy
    return max(abs(col - round(col)), abs(row - round(row))) < SAME_SIZE


def _source_points(
    source: Grid, target: Grid, u: np.ndarray, v: np.ndarray, *, centre: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in the source's system of places u columns and v rows from the target's corner (or its centre)."""
    if centre:
        u, v = u + target.n_cols // 2, v + target.n_rows // 2
    x, y = target.left + u * target.dx, target.top - v * target.dy
    if source.crs != target.crs:
        x, y = load("pyproj").Transformer.from_crs(target.crs, source.crs, always_xy=True).transform(x, y)
        if source.is_geographic and np.isfinite(x).any():  # a block across 180 degrees stays together
            x = x - 360.0 * np.round((x - x[np.isfinite(x)][0]) / 360.0)
    return np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
