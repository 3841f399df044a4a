"""The network of a domain file that is there: for forcing and observations of another period or source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmi_cdlm.domain.attributes import read_attribute
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.netcdf import one_at_a_time, open_input
from bmi_cdlm.names.errors import CdlmError, DomainError
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.prepare.network.attributes import Attribute, Table
from bmi_cdlm.prepare.network.catchment_table import NO_GRID, TableNetwork
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.domain_file import SQUARES
from bmi_cdlm.prepare.network.reaches import strahler_order
from bmi_cdlm.prepare.packages import load


def read_existing(path: Path) -> TableNetwork:
    """Return the network of a domain file, its elevation where it has one, and its gauges.

    Cells have the shape of their corners, where the file has those of pixels.

    Raises
    ------
    DomainError
        As `read_domain`.
    """
    domain = read_domain(path)
    cells, reaches, links, gauges = domain.cells, domain.reaches, domain.links, domain.gauges
    n = domain.n_cells
    polygons = None
    if _has_shapes(path) and np.isfinite(cells.corner_lon).all() and np.isfinite(cells.corner_lat).all():
        lon = cells.corner_lon - 360.0 * np.round((cells.corner_lon - cells.corner_lon[:, :1]) / 360.0)
        polygons = load("shapely").polygons(np.stack([lon, cells.corner_lat], axis=-1))
    drainage = Drainage(
        Catchments(NO_GRID, np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int32), np.zeros(0)),
        Reaches(
            np.array(reaches.id), reaches.downstream, reaches.length, reaches.slope, reaches.area,
            reaches.upstream_area, reaches.lon, reaches.lat, strahler_order(reaches.downstream),
            np.zeros(domain.n_reaches),
        ),
        Cells(np.array(cells.id), cells.lon, cells.lat, cells.area, cells.corner_lon, cells.corner_lat, NO_GRID,
              np.arange(n), np.zeros(n, np.int64), polygons),
        Links(links.cell, np.repeat(np.arange(domain.n_reaches), np.diff(links.first)), links.area),
    )
    table = Table({}, {})
    try:
        elevation = read_attribute(path, domain, "elevation", "cell", "m")
        table.cell["elevation"] = Attribute(elevation, "m", "elevation above sea level")
    except CdlmError:
        pass  # whoever needs it says so
    sites = [
        GaugeSite(one, gauges.name[i] or one, float(reaches.lon[r]), float(reaches.lat[r]), float(gauges.area[i]), {})
        for i, (one, r) in enumerate(zip(gauges.id, gauges.reach.tolist(), strict=True))
    ]
    area = reaches.upstream_area[gauges.reach]
    nan, zero = np.full(len(sites), np.nan), np.zeros(len(sites))
    snapped = SnappedGauges(
        sites, gauges.reach, area, area / gauges.area - 1, zero, zero.astype(bool), {}, nan, nan, zero
    )
    return TableNetwork(drainage, table, snapped, [])


@one_at_a_time
def _has_shapes(path: Path) -> bool:
    """Whether the corners of the cells are their shape, and no squares about a point."""
    with open_input(path, DomainError) as dataset:
        corners = dataset.variables.get("cell_corner_lon")
        return corners is not None and getattr(corners, "comment", "") != SQUARES
