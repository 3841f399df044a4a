"""The river network of a preparation: directions, upscaling, reaches, cells and links, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.snapping import Rivers, snap_pixels
from bmi_cdlm.prepare.network.catchments import Catchments, Drainage, Reaches
from bmi_cdlm.prepare.network.cells import cells_on, check_sizes, make_cells
from bmi_cdlm.prepare.network.directions import Flow, read_flow
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import read_raster
from bmi_cdlm.prepare.network.links import keep_cells, make_links
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.network.reaches import Tree, connect_blocks, grow_tree, order_tree
from bmi_cdlm.prepare.network.upscale import drain_to, iterative_outlets, keep, largest_pixels

logger = logging.getLogger(__name__)
RADIUS = 2000.0
WithoutArea = Literal["own", "largest"]


class _Sites(NamedTuple):
    """Gauges, how far their rivers may be [m], and which river those without an area go to."""

    gauges: Sequence[GaugeSite]
    radius: float
    without_area: WithoutArea



def build_drainage(
    config: NetworkConfig, gauges: Sequence[GaugeSite] | None, folder: Path, radius: float = RADIUS,
    without_area: WithoutArea = "own",
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
    without_area : 'own' or 'largest'
        Which river a gauge without an area goes to.

    Raises
    ------
    ConfigError
        Sizes that are no integer multiples; `extent` 'gauges' without gauges.
    DomainError
        Rasters that cannot be used, unknown codes, cycles, nothing to keep.
    """
    drainage = drain(config, read_flow(config, folder), gauges, radius, without_area)
    if config.cell_mask is None:
        return drainage
    mask = read_raster(config.cell_mask, folder, DomainError, config.crs)
    return keep_cells(drainage, cells_on(mask, drainage.cells))


def drain(
    config: NetworkConfig, flow: Flow, gauges: Sequence[GaugeSite] | None = None, radius: float = RADIUS,
    without_area: WithoutArea = "own",
) -> Drainage:
    """Build what `build_drainage` does from flow directions that are in memory."""
    grid = flow.grid
    factor, cell_factor = check_sizes(config, grid)
    flow, at, others = _cut(config, flow, _Sites(gauges or (), radius, without_area))
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
    return Drainage(Catchments(grid, reach, cell, flow.area.mean(axis=1), others), reaches, cells, links)


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
    config: NetworkConfig, flow: Flow, sites: _Sites
) -> tuple[Flow, np.ndarray, dict[str, tuple[float, float]]]:
    """Keep what drains to gauges and to basins that are large enough; also the pixels of the gauges, int64[], and the
    other candidates of gauges without an area.
    """
    gauges, radius, _ = sites
    at, others = _gauge_pixels(config, flow, sites)
    if config.extent == "gauges":
        if at.size == 0:
            raise ConfigError(
                f"network: none of {len(gauges)} gauges has a river within {radius:g} m, but `extent` is 'gauges'. "
                f"Expected one. {_places_of(flow.grid, gauges)}Check their coordinates, widen gauges.radius, give "
                "gauges, or set extent: all."
            )
        stop = np.zeros(flow.downstream.size, bool)
        stop[at] = True
        first = drain_to(flow.downstream, stop)
        return keep(flow, (first >= 0) & stop[first]), at, others
    if config.min_basin_area > 0.0:
        outlet = drain_to(flow.downstream, np.zeros(flow.downstream.size, bool))
        large = (outlet >= 0) & (flow.upstream_area[outlet] >= config.min_basin_area)
        if not large.any():
            raise DomainError(
                f"network: no basin has {config.min_basin_area:g} km2, the largest {flow.upstream_area.max():.4g} km2. "
                "Expected one; lower `min_basin_area`."
            )
        return keep(flow, large), at[large[at]], others
    return flow, at, others


def _places_of(grid: Grid, gauges: Sequence[GaugeSite]) -> str:
    """Where the raster and the gauges lie, as a sentence; nothing without gauges."""
    if not gauges:
        return ""
    row, col = np.array([0, 0, grid.n_rows - 1, grid.n_rows - 1]), np.array([0, grid.n_cols - 1] * 2)
    lon, lat = grid.corners(row, col)
    first = gauges[0]
    return (
        f"The raster covers {np.nanmin(lon):.5g} to {np.nanmax(lon):.5g} E, {np.nanmin(lat):.5g} to "
        f"{np.nanmax(lat):.5g} N in {grid.crs if len(grid.crs) < 40 else 'a system of its own'}; gauge {first.id} lies "
        f"at {first.lon:.5g} E, {first.lat:.5g} N. "
    )


def _gauge_pixels(
    config: NetworkConfig, flow: Flow, sites: _Sites
) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    rivers = Rivers(flow.downstream, config.channel_area, sites.without_area)
    found = snap_pixels(sites.gauges, flow.grid, flow.upstream_area.reshape(flow.grid.shape), sites.radius, rivers)
    on = found.row >= 0
    others = {
        site.id: (area, away) for site, area, away in
        zip(sites.gauges, found.other_area.tolist(), found.other_distance.tolist(), strict=True) if not np.isnan(area)
    }
    return np.unique(found.row[on] * flow.grid.n_cols + found.col[on]), others
