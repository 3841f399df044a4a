"""The network of a domain file that is there: for forcing and observations of another period, further attributes."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np

from bmi_cdlm.domain.attributes import read_attribute
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_strings, select_ids
from bmi_cdlm.names.errors import CdlmError, DomainError
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.record_sources import id_text
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.prepare.network.attributes import (
    Attribute,
    Table,
    cell_and_reach_attributes,
    check_name,
    check_names,
    over_links,
)
from bmi_cdlm.prepare.network.catchment_files import open_table
from bmi_cdlm.prepare.network.catchment_table import NO_GRID, TableNetwork
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.cell_pixels import PER_SIDE, with_pixels
from bmi_cdlm.prepare.network.domain_file import OWN_NAMES, SQUARES, put
from bmi_cdlm.prepare.network.reaches import strahler_order
from bmi_cdlm.prepare.packages import load, resolve
from bmi_cdlm.prepare.text_tables import find_column, numbers_of
from bmi_cdlm.prepare.weather.conversion import conversion
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig, AttributeTable, TextKeys


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


def attributes_of_existing(config: AttributesConfig, drainage: Drainage, folder: Path, where: Path) -> Table:
    """Return further attributes of a domain that is there, but those of its climate: of rasters, of a table by id.

    Raises
    ------
    ConfigError, DomainError
        As `cell_and_reach_attributes`; cells without shapes for rasters, ids that the table lacks.
    """
    table = Table({}, {})
    if config.rasters or config.elevation is not None:
        table = cell_and_reach_attributes(config, with_pixels(drainage, config, folder, where), folder, PER_SIDE)
    else:
        check_names(config)
    if config.table is not None:
        _add_columns(table, config.table, drainage, folder)
    return table


def _add_columns(table: Table, config: AttributeTable, drainage: Drainage, folder: Path) -> None:
    """Add the columns of a table with a row for every cell or reach."""
    path = resolve(config.source, folder)
    frame, stated, _ = open_table(path, config.layer, config.delimiter)
    ids = [id_text(one).strip() for one in find_column(frame, config.id, path, DomainError).tolist()]
    wanted = (drainage.cells if config.of == "cell" else drainage.reaches).id.tolist()
    rows = select_ids(ids, wanted, str(config.id), str(path), DomainError)
    for name, heading in config.columns.items():
        check_name(name)
        column = find_column(frame, heading, path, DomainError)
        units = config.units.get(name) or stated.get(str(column.name))
        if units is None:
            raise DomainError(
                f"{path}: column '{column.name}' has no units, expected some for the attribute '{name}'. Set "
                f"attributes.table.units: {{{name}: ...}}, '1' for a ratio."
            )
        values = numbers_of(column.astype(str), TextKeys(), path, DomainError)[rows]
        if name == "elevation":
            values, units = conversion(units, "m", f"{path}, '{name}'", DomainError)(values), "m"
        gaps = np.flatnonzero(~np.isfinite(values))
        if gaps.size:
            raise DomainError(
                f"{path}: '{column.name}' of {config.of} {wanted[gaps[0]]} is missing ({gaps.size} of {values.size} "
                "are). Expected a number for each. Complete the table, or leave the column out."
            )
        one = Attribute(values, units, name.replace("_", " "), f"column {column.name} of {path.name}")
        if config.of == "cell":
            table.cell[name] = one
            one = one._replace(values=over_links(values, drainage))
        table.reach[name] = one


@one_at_a_time
def add_to_domain(path: Path, table: Table, drainage: Drainage) -> list[str]:
    """Write attributes into a domain file, whose cells and reaches may come in another order; names of replaced ones.

    Raises
    ------
    DomainError
        A variable of that name on other dimensions.
    """
    replaced = []
    with netCDF4.Dataset(path, "a") as dataset:
        for kind, attributes, ids in (
            ("cell", table.cell, drainage.cells.id), ("reach", table.reach, drainage.reaches.id)
        ):
            if not attributes:
                continue
            known = ids.tolist()
            held = read_strings(dataset, f"{kind}_id", str(path), DomainError)
            order = select_ids(known, held, f"{kind}_id", str(path), DomainError)
            for name, one in attributes.items():
                full = name if name in OWN_NAMES else f"{kind}_{name}"
                if full in dataset.variables:
                    if dataset[full].dimensions != (kind,):
                        raise DomainError(f"{path}: '{full}' lies on {dataset[full].dimensions}, expected ({kind},).")
                    replaced.append(full)
                    dataset[full][:] = one.values[order]
                    words = {"units": one.units, "long_name": one.long_name, "comment": one.comment}
                    dataset[full].setncatts(words)
                else:
                    put(dataset, full, (kind,), one.values[order], one.long_name, one.units, comment=one.comment)
    return replaced
