"""Attributes of cells and of the catchments of reaches: area-weighted means of rasters."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.names.errors import ConfigError, DomainError, nearest
from bmi_cdlm.prepare.network.catchments import Catchments, Drainage, Reaches
from bmi_cdlm.prepare.network.directions import check_heights
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import Layer, open_layer
from bmi_cdlm.prepare.network.resample import Extent, blocks, choose, extent_of, no_overlap, part, read_block, warp
from bmi_cdlm.prepare.network.terrain import slope
from bmi_cdlm.prepare.weather.climate import NAMES, climate_of_cells
from bmi_cdlm.prepare.weather.conversion import conversion
from bmi_cdlm.prepare.weather.interception import CAPACITY_COMMENT, interception_capacity_of_cells
from bmi_cdlm.prepare.weather.nearest import nearest_of
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig, Fill, RasterConfig

logger = logging.getLogger(__name__)
# What the domain file means by cell_... and reach_... of these names is no attribute from a raster.
RESERVED = frozenset((
    "id", "lon", "lat", "area", "corner_lon", "corner_lat", "length", "slope", "uncovered_area", "upstream_area",
    "drained_area", "mean_annual_snowfall",
))


class Attribute(NamedTuple):
    """Values on cells or reaches, float64[cell | reach], with what the domain file says about them."""

    values: np.ndarray
    units: str
    long_name: str
    comment: str = ""


class Table(NamedTuple):
    """Attributes by name, on cells and on reaches."""

    cell: dict[str, Attribute]
    reach: dict[str, Attribute]


class Sums(NamedTuple):
    """Area-weighted sums of one attribute and the area with a value: float64[cell], float64[reach] each."""

    cell: np.ndarray
    cell_area: np.ndarray
    reach: np.ndarray
    reach_area: np.ndarray


def cell_and_reach_attributes(
    config: AttributesConfig, drainage: Drainage, folder: Path, per_cell: int = 1
) -> Table:
    """Attributes of all cells and reaches from rasters, in the order of `drainage`; `add_climate` completes them.

    Parameters
    ----------
    config : AttributesConfig
    drainage : Drainage
    folder : Path
        What the paths of the sources are relative to.
    per_cell : int
        Pixels along the side of a cell, where they were made for the cells (`cell_pixels`).

    Returns
    -------
    Table

    Raises
    ------
    DomainError
        A raster that cannot be read or does not overlap, without reference system, with units that do not convert, or
        without a value in some cell or catchment (unless `fill` says how to fill).
    """
    check_names(config)
    table = Table({}, {})
    for name, raster in config.rasters.items():
        _add_raster(table, name, raster, drainage, folder, per_cell)
    if config.elevation is not None:
        _add_terrain(table, config.elevation, drainage, folder, per_cell)
    return table


def add_climate(table: Table, config: AttributesConfig, drainage: Drainage, forcing: Path | None) -> None:
    """Add climate attributes from a made forcing file, where there is one, and the means over all that lies upstream.

    `cell['mean_annual_snowfall']` belongs into the domain file under that very name, the rest with `cell_`.

    Raises
    ------
    ForcingError
        Less than a year of forcing for the climate, no whole day for the interception, a cell without precipitation.
    ConfigError
        `upstream` names an attribute that there is not.
    """
    if config.climate and forcing is not None:
        _add_climate(table, forcing, drainage)
    if config.interception_capacity and forcing is not None:
        values = interception_capacity_of_cells(forcing, drainage.cells.id.tolist())
        table.cell["interception_capacity"] = Attribute(values, "mm", "depth that leaves hold", CAPACITY_COMMENT)
    for name in config.upstream:
        _add_upstream(table, name, drainage.reaches)


def named_rasters(config: AttributesConfig) -> dict[str, RasterConfig]:
    """Return all rasters by name, the terrain as `elevation`."""
    terrain = {} if config.elevation is None else {"elevation": config.elevation}
    return {**config.rasters, **terrain}


def check_header(name: str, config: RasterConfig, folder: Path) -> None:
    """Raise DomainError where the header of a raster tells that it cannot be used."""
    with open_layer(config.source, folder, config.crs) as layer:
        units = _units(name, config, layer)
        if name == "elevation":
            conversion(units, "m", layer.where, DomainError)


def _units(name: str, config: RasterConfig, layer: Layer) -> str:
    units = "1" if config.classes else (config.units or layer.units)
    if units is None and name == "elevation":
        units = layer.height_units or "m"  # as of network.elevation
    if units is None:
        raise DomainError(f"{layer.where}: has no units, expected some for '{name}'. Set `units`, '1' for a ratio.")
    return units


def upstream_mean(values: np.ndarray, reaches: Reaches) -> np.ndarray:
    """Mean over all catchments that drain through each reach, weighted by area: float64[reach]."""
    area = accumulate_downstream(reaches.downstream, reaches.area)
    total = accumulate_downstream(reaches.downstream, values * reaches.area)
    return np.where(area > 0.0, total / np.where(area > 0.0, area, 1.0), values)


def check_names(config: AttributesConfig) -> None:
    """Raise ConfigError for names that mean something else, or stand twice."""
    names = [one for name, raster in config.rasters.items() for one in (raster.classes or (name,))]
    names += ["elevation", "terrain_slope"] if config.elevation is not None else []
    names += [] if config.table is None else [*config.table.columns]
    names += ["interception_capacity"] if config.interception_capacity else []
    for name in names:
        check_name(name)
        if names.count(name) > 1:
            raise ConfigError(f"attributes: '{name}' is named twice, expected names of their own. Rename one.")
    for name in config.upstream:
        _check_upstream(name, [*names, *(NAMES if config.climate else ())])


def check_name(name: str) -> None:
    """Raise ConfigError for the name of an attribute that means something else in a domain file, or is no word."""
    if name in RESERVED or not name.isidentifier():
        raise ConfigError(
            f"attributes: '{name}' has another meaning in a domain file or is no plain word, expected letters, "
            f"digits and underscores, and none of {', '.join(sorted(RESERVED))}. Rename it."
        )


def _check_upstream(name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ConfigError(
            f"attributes.upstream: there is no attribute '{name}' of reaches.{nearest(name, known)} Expected one of "
            f"{', '.join(known) or 'none'}. Name its raster too."
        )


def _add_raster(
    table: Table, name: str, config: RasterConfig, drainage: Drainage, folder: Path, per_cell: int
) -> None:
    with open_layer(config.source, folder, config.crs) as layer:
        units = _units(name, config, layer)
        groups = config.classes or {name: ()}
        sums = [_no_sums(drainage) for _ in groups]
        grid, classes = drainage.catchments.grid, bool(config.classes)
        how = choose(layer, grid, config.resampling, classes=classes, per_cell=per_cell)
        for block, window in _windows(layer, drainage.catchments):
            raw, source = window
            _drop_invalid(raw, config)
            for sum_, codes in zip(sums, groups.values(), strict=True):
                values = _members(raw, codes) if config.classes else raw
                _add(sum_, warp(values, source, part(drainage.catchments.grid, block), how), block, drainage)
        if config.classes:
            _check_classes(config.classes, sums, layer.where)
        for one, sum_ in zip(groups, sums, strict=True):
            words = (units, config.long_name or one.replace("_", " "), config.comment)
            _finish(table, one, sum_, words, config.fill, layer.where, drainage)


def _add_terrain(table: Table, config: RasterConfig, drainage: Drainage, folder: Path, per_cell: int) -> None:
    grid = drainage.catchments.grid
    heights, slopes = _no_sums(drainage), _no_sums(drainage)
    with open_layer(config.source, folder, config.crs) as layer:
        to_metres = conversion(_units("elevation", config, layer), "m", layer.where, DomainError)
        how = choose(layer, grid, config.resampling, classes=False, per_cell=per_cell)
        smooth = choose(layer, grid, config.resampling, classes=False)  # steps of a coarse raster are no slopes
        for block, (raw, source) in _windows(layer, drainage.catchments, wide=True):
            _drop_invalid(raw, config)
            wide = _widen(block, grid)
            values = to_metres(warp(raw, source, part(grid, wide), how))
            inner = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(block, wide, strict=True))
            held = (drainage.catchments.cell[block] >= 0) | (drainage.catchments.reach[block] >= 0)
            check_heights(np.where(held, values[inner], np.nan), layer.where, "attributes.elevation.units")
            _add(heights, values[inner], block, drainage)
            if smooth != how:
                values = to_metres(warp(raw, source, part(grid, wide), smooth))
            _add(slopes, slope(values, part(grid, wide))[inner], block, drainage)
        words = ("m", config.long_name or "elevation above sea level", config.comment)
        _finish(table, "elevation", heights, words, config.fill, layer.where, drainage)
        words = ("1", "slope of the terrain, rise over run", f"between pixels of {grid.dx:g} by {grid.dy:g}")
        _finish(table, "terrain_slope", slopes, words, config.fill, layer.where, drainage)


def _add_climate(table: Table, forcing: Path, drainage: Drainage) -> None:
    for name, found in climate_of_cells(forcing, drainage.cells.id.tolist()).items():
        table.cell[name] = Attribute(found.values, found.units, found.long_name, found.comment)
        if name != "mean_annual_snowfall":
            table.reach[name] = table.cell[name]._replace(values=over_links(found.values, drainage))


def over_links(values: np.ndarray, drainage: Drainage) -> np.ndarray:
    """Means over what drains to each reach of values on cells, weighted by area: float64[reach]."""
    links, n = drainage.links, drainage.reaches.area.size
    mean = _mean(np.bincount(links.reach, links.area * values[links.cell], n), np.bincount(links.reach, links.area, n))
    return without_catchment(mean, drainage.reaches)


def _add_upstream(table: Table, name: str, reaches: Reaches) -> None:
    _check_upstream(name, [*table.reach])
    one = table.reach[name]
    table.reach[f"upstream_{name}"] = one._replace(
        values=upstream_mean(one.values, reaches), long_name=f"{one.long_name}, mean over all that drains through"
    )


def _windows(
    layer: Layer, catchments: Catchments, *, wide: bool = False
) -> Iterator[tuple[Extent, tuple[np.ndarray, Grid]]]:
    """Blocks of the fine grid, with what the raster has there; DomainError where it has nothing at all."""
    inside = (catchments.cell >= 0) | (catchments.reach >= 0)
    extent = extent_of(inside)
    found = False
    for block in blocks(layer, catchments.grid, extent):
        around = _widen(block, catchments.grid) if wide else block
        window = read_block(layer, part(catchments.grid, around))
        if window is not None:
            found = True
            yield block, window
    if not found:
        raise no_overlap(layer, part(catchments.grid, extent))


def _widen(block: Extent, grid: Grid) -> Extent:
    """Add a pixel all around, as far as the grid goes."""
    sides = (slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(block, grid.shape, strict=True))
    return Extent(*sides)


def _check_classes(classes: Mapping[str, Sequence[int]], sums: Sequence[Sums], where: str) -> None:
    """Refuse classes of which the raster has none at all; tell of single ones."""
    absent = [one for one, sum_ in zip(classes, sums, strict=True) if not sum_.cell.any()]
    if len(absent) == len(classes):
        codes = sorted({code for group in classes.values() for code in group})
        raise DomainError(
            f"{where}: no pixel of the domain has any of the classes {', '.join(map(str, codes))}, expected some. "
            "Correct `classes`, or check that the raster is one of classes."
        )
    if absent:
        logger.warning("%s: no pixel of the domain is of %s; 0 everywhere", where, ", ".join(absent))


def _drop_invalid(values: np.ndarray, config: RasterConfig) -> None:
    if config.valid_range is not None:
        low, high = config.valid_range
        values[(values < low) | (values > high)] = np.nan


def _members(raw: np.ndarray, codes: Sequence[int]) -> np.ndarray:
    """1 where a pixel has one of the classes, 0 where it has another, NaN where none."""
    return np.where(np.isnan(raw), np.nan, np.isin(raw, codes).astype(np.float64))


def _no_sums(drainage: Drainage) -> Sums:
    n_cells, n_reaches = drainage.cells.area.size, drainage.reaches.area.size
    return Sums(np.zeros(n_cells), np.zeros(n_cells), np.zeros(n_reaches), np.zeros(n_reaches))


def _add(sums: Sums, values: np.ndarray, block: Extent, drainage: Drainage) -> None:
    """Add the pixels of a block, float64[row, col], to the sums of their cell and their reach."""
    catchments = drainage.catchments
    area = np.broadcast_to(catchments.area[block.rows][:, None], values.shape)
    valid = ~np.isnan(values)
    for index, total, weight in (
        (catchments.cell[block], sums.cell, sums.cell_area), (catchments.reach[block], sums.reach, sums.reach_area)
    ):
        chosen = valid & (index >= 0)
        where, areas = index[chosen], area[chosen]
        total += np.bincount(where, areas * values[chosen], total.size)
        weight += np.bincount(where, areas, weight.size)


def _finish(
    table: Table, name: str, sums: Sums, words: tuple[str, str, str], fill: Fill, where: str, drainage: Drainage
) -> None:
    """Turn sums into means, fill what has none, and enter them."""
    cells, reaches = drainage.cells, drainage.reaches
    mean = _mean(sums.cell, sums.cell_area)
    _fill(mean, fill, name, "cell", where, (cells.id, cells.lon, cells.lat))
    table.cell[name] = Attribute(mean, *words)
    if (drainage.catchments.reach >= 0).any():
        mean = without_catchment(_mean(sums.reach, sums.reach_area), reaches)
    else:  # cells of a domain that is there: pixels of reaches are not known
        mean = over_links(mean, drainage)
    _fill(mean, fill, name, "reach", where, (reaches.id, reaches.lon, reaches.lat))
    table.reach[name] = Attribute(mean, *words)


def _mean(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.where(weight > 0.0, total / np.where(weight > 0.0, weight, 1.0), np.nan)


def without_catchment(values: np.ndarray, reaches: Reaches) -> np.ndarray:
    """Give reaches of no area the value of the reach below, or at an outlet of one above."""
    bad = np.isnan(values) & (reaches.area <= 0.0)
    values = values.copy()
    for i in np.flatnonzero(bad)[::-1]:  # the reach below comes later in routing order
        below = reaches.downstream[i]
        if below >= 0:
            values[i] = values[below]
    for i in np.flatnonzero(bad & np.isnan(values)):
        above = np.flatnonzero((reaches.downstream == i) & ~np.isnan(values))
        if above.size:
            values[i] = values[above[0]]
    return values


def _fill(
    values: np.ndarray, fill: Fill, name: str, kind: str, where: str, place: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    holes = np.flatnonzero(np.isnan(values))
    if not holes.size:
        return
    ids, lon, lat = place
    if fill == "refuse" or (fill == "nearest" and holes.size == values.size):
        i = holes[0]
        raise DomainError(
            f"{where}: no value of '{name}' in {holes.size} of {values.size} {kind}s, the first {kind} {ids[i]} at "
            f"{lon[i]:.4f} E, {lat[i]:.4f} N. Expected one everywhere. Complete the raster, or set `fill` to nearest "
            "or a number."
        )
    if fill == "nearest":
        good = np.flatnonzero(~np.isnan(values))
        found, _ = nearest_of((lon[good], lat[good]), (lon[holes], lat[holes]))
        values[holes] = values[good[found]]
    else:
        values[holes] = float(fill)
