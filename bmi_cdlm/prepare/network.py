"""The river network of a preparation: directions, upscaling, reaches, cells and links, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.errors import ConfigError, DomainError
from bmi_cdlm.network import accumulate_downstream
from bmi_cdlm.prepare.catchments import Catchments, Drainage, Reaches
from bmi_cdlm.prepare.cells import block_factor, make_cells
from bmi_cdlm.prepare.directions import Flow, read_flow
from bmi_cdlm.prepare.gauge_table import GaugeSite
from bmi_cdlm.prepare.links import make_links
from bmi_cdlm.prepare.network_config import NetworkConfig
from bmi_cdlm.prepare.reaches import Tree, connect_blocks, grow_tree, order_tree
from bmi_cdlm.prepare.snapping import snap_pixels
from bmi_cdlm.prepare.upscale import drain_to, iterative_outlets, keep, largest_pixels

logger = logging.getLogger(__name__)
RADIUS = 2000.0


def build_drainage(
    config: NetworkConfig, gauges: Sequence[GaugeSite] | None, folder: Path, radius: float = RADIUS
) -> Drainage:
    """Build reaches, their catchments, cells and links as a configuration says.

    Parameters
    ----------
    config : NetworkConfig
    gauges : sequence of GaugeSite
        Each lies at the end of a reach, so that its drainage area is that of the fine raster. Where `extent` is
        'gauges', only what drains to them is kept.
    folder : Path
        Where relative paths start.
    radius : float
        How far from a gauge its river is looked for [m].

    Raises
    ------
    ConfigError
        Sizes that are no integer multiples; `extent` 'gauges' without gauges.
    DomainError
        Rasters that cannot be used, unknown codes, cycles, nothing to keep.
    """
    return drain(config, read_flow(config, folder), gauges, radius)


def drain(
    config: NetworkConfig, flow: Flow, gauges: Sequence[GaugeSite] | None = None, radius: float = RADIUS
) -> Drainage:
    """Build what `build_drainage` does from flow directions that are in memory."""
    grid = flow.grid
    factor = block_factor(config.resolution, grid, "resolution", "a pixel")
    cell_factor = factor * block_factor(config.cell_size, grid.coarsen(factor), "cell_size", "a block")
    flow, at = _cut(config, flow, gauges or (), radius)
    tree = _grow(config, flow, factor, at)
    tree, ids, strahler = order_tree(tree, flow)
    reach = tree.catchment.reshape(grid.shape)
    cells, cell = make_cells(grid, reach >= 0, cell_factor, config.areas)
    links = make_links(reach, cell, flow.area, cells.area.size)
    area = np.bincount(links.reach, weights=links.area, minlength=ids.size)
    lon, lat = grid.lonlat(*np.divmod(tree.end, grid.n_cols))
    reaches = Reaches(
        ids, tree.downstream, tree.length, tree.slope, area, accumulate_downstream(tree.downstream, area), lon, lat,
        strahler, uncovered_area=np.zeros(ids.size),
    )
    logger.info("network: %d pixels, %d reaches, %d cells, %d links", np.count_nonzero(reach >= 0), ids.size,
                cells.area.size, links.area.size)
    return Drainage(Catchments(grid, reach, cell, flow.area.mean(axis=1)), reaches, cells, links)


def _grow(config: NetworkConfig, flow: Flow, factor: int, at: np.ndarray) -> Tree:
    if factor == 1:
        return grow_tree(flow, np.flatnonzero(flow.inside), at, 1, config.channel_area, config.max_reach_length)
    rows, cols = np.divmod(np.arange(flow.downstream.size), flow.grid.n_cols)
    below = np.maximum(flow.downstream, 0)
    far = flow.inside & (np.maximum(abs(rows - rows[below]), abs(cols - cols[below])) > 1)
    if far.any():
        raise ConfigError(
            f"network: {np.count_nonzero(far)} pixels drain to others that are no neighbours, which upscaling does not "
            "take. Leave `resolution` out: a NEXTXY raster of that kind is upscaled already."
        )
    if config.upscaling == "max_accumulation":
        return connect_blocks(flow, *largest_pixels(flow, factor), config.max_reach_length)
    ends = iterative_outlets(flow, factor)
    return grow_tree(flow, ends, at, factor, config.channel_area, config.max_reach_length)


def _cut(
    config: NetworkConfig, flow: Flow, gauges: Sequence[GaugeSite], radius: float
) -> tuple[Flow, np.ndarray]:
    """Keep what drains to gauges and to basins that are large enough; also the pixels of the gauges, int64[]."""
    at = _gauge_pixels(flow, gauges, radius)
    if config.extent == "gauges":
        if at.size == 0:
            raise ConfigError(
                f"network: none of {len(gauges)} gauges has a river within {radius:g} m, but `extent` is 'gauges'. "
                "Expected one. Check their coordinates, give gauges, or set extent: all."
            )
        stop = np.zeros(flow.downstream.size, bool)
        stop[at] = True
        first = drain_to(flow.downstream, stop)
        return keep(flow, (first >= 0) & stop[first]), at
    if config.min_basin_area > 0.0:
        outlet = drain_to(flow.downstream, np.zeros(flow.downstream.size, bool))
        large = (outlet >= 0) & (flow.upstream_area[outlet] >= config.min_basin_area)
        if not large.any():
            raise DomainError(
                f"network: no basin has {config.min_basin_area:g} km2, the largest {flow.upstream_area.max():.4g} km2. "
                "Expected one; lower `min_basin_area`."
            )
        return keep(flow, large), at[large[at]]
    return flow, at


def _gauge_pixels(flow: Flow, gauges: Sequence[GaugeSite], radius: float) -> np.ndarray:
    found = snap_pixels(gauges, flow.grid, flow.upstream_area.reshape(flow.grid.shape), radius)
    on = found.row >= 0
    return np.unique(found.row[on] * flow.grid.n_cols + found.col[on])


# What the two example cases use until they are configurations of the above.

# Flow direction codes 1 to 8, clockwise from north: (rows down, columns right) to the next pixel.
CLOCKWISE_FROM_NORTH: Mapping[int, tuple[int, int]] = {
    1: (-1, 0), 2: (-1, 1), 3: (0, 1), 4: (1, 1), 5: (1, 0), 6: (1, -1), 7: (0, -1), 8: (-1, -1),
}
PIT = 0


class Upstream(NamedTuple):
    """A network seen from below: what drains into i is `pixel[first[i]:first[i + 1]]`, rising."""

    first: np.ndarray
    pixel: np.ndarray


class Network(NamedTuple):
    """The part of a network that drains to chosen pixels, each pixel being a reach.

    pixel : int64[reach], index in the flattened raster, rising; downstream : int64[reach], index of the
    reach below, -1 at an outlet; outlet : int64[outlet], the reaches without one below.
    """

    pixel: np.ndarray
    downstream: np.ndarray
    outlet: np.ndarray


def downstream_pixels(
    directions: np.ndarray, moves: Mapping[int, tuple[int, int]] = CLOCKWISE_FROM_NORTH
) -> np.ndarray:
    """Return the pixel below each pixel of a flow direction raster.

    Parameters
    ----------
    directions : float64[row, col]
        Codes, 0 in a pit, NaN off the land.
    moves : code -> (rows down, columns right)

    Returns
    -------
    int64[row * col]
        Index in the flattened raster; -1 in a pit, off the land, and where the flow leaves the land or
        the raster.

    Raises
    ------
    DomainError
        A code that `moves` does not have.
    """
    n_rows, n_cols = directions.shape
    land = np.isfinite(directions)
    unknown = np.argwhere(land & ~np.isin(directions, [PIT, *moves]))
    if unknown.size:
        row, col = unknown[0].tolist()
        raise DomainError(
            f"flow directions: code {directions[row, col]:g} at row {row}, column {col} ({len(unknown)} such "
            f"pixels), expected {PIT} or one of {', '.join(map(str, moves))}. Name its encoding."
        )
    below = np.full(directions.size, -1, np.int64)
    for code, (down, right) in moves.items():
        row, col = np.nonzero(directions == code)
        to_row, to_col = row + down, col + right
        inside = (to_row >= 0) & (to_row < n_rows) & (to_col >= 0) & (to_col < n_cols)
        row, col, to_row, to_col = row[inside], col[inside], to_row[inside], to_col[inside]
        below[row * n_cols + col] = np.where(land[to_row, to_col], to_row * n_cols + to_col, -1)
    return below


def flow_lengths(
    directions: np.ndarray, size: float, moves: Mapping[int, tuple[int, int]] = CLOCKWISE_FROM_NORTH
) -> np.ndarray:
    """Return the distance from each pixel's centre to the next one's [m], float64[row, col].

    `size` is the side of a pixel [m]: a straight move is one side long, a diagonal one sqrt(2). A pit has
    no way to go and length 0.
    """
    lengths = np.zeros(directions.shape)
    for code, (down, right) in moves.items():
        lengths[directions == code] = size * np.hypot(down, right)
    return lengths


def invert(downstream: np.ndarray) -> Upstream:
    """Return who drains into each pixel, from where each drains (int64[pixel], -1 for none)."""
    pixel = np.argsort(downstream, kind="stable")
    first = np.searchsorted(downstream, np.arange(downstream.size + 1), sorter=pixel)
    return Upstream(first.astype(np.int64), pixel)


def upstream_of(upstream: Upstream, outlet: int) -> np.ndarray:
    """Return the pixels that drain through `outlet`, int64: itself first, each after the one below it.

    Raises
    ------
    DomainError
        The outlet lies on a cycle: its own flow comes back to it.
    """
    level = np.array([outlet], np.int64)
    levels = []
    while level.size:
        levels.append(level)
        count = upstream.first[level + 1] - upstream.first[level]
        start = np.repeat(upstream.first[level] - (np.cumsum(count) - count), count)
        level = upstream.pixel[start + np.arange(start.size)]
        # One pixel below each: the walk can meet no pixel twice before it meets the outlet again.
        if (level == outlet).any():
            raise DomainError(
                f"flow directions: the pixel with index {outlet} drains back into itself after {len(levels)} "
                "pixels. Expected flow that ends in a pit or leaves the raster. Break the cycle there."
            )
    return np.concatenate(levels)


def delineate(downstream: np.ndarray, upstream: Upstream, ends: np.ndarray) -> Network:
    """Cut out all pixels that drain through the pixels `ends`; ends may lie upstream of each other."""
    pixel = np.unique(np.concatenate([upstream_of(upstream, end) for end in np.unique(ends).tolist()]))
    position = np.full(downstream.size, -1, np.int64)
    position[pixel] = np.arange(pixel.size)
    below = downstream[pixel]
    below = np.where(below >= 0, position[below], -1)
    return Network(pixel, below, np.flatnonzero(below < 0))


def accumulate(network: Network, area: np.ndarray) -> np.ndarray:
    """Return the sum of `area` over each reach and all that drains through it, float64[reach]."""
    total = np.array(area, np.float64)
    upstream = invert(network.downstream)
    for outlet in network.outlet.tolist():
        for i in upstream_of(upstream, outlet)[:0:-1].tolist():
            total[network.downstream[i]] += total[i]
    return total
