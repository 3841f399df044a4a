"""The domain: cells, reaches, the links between them, and gauges, checked and in routing order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import netCDF4
import numpy as np

from bmi_cdlm.domain.network import NONE, accumulate_downstream, order_reaches, places_in, renumbered, upstream_of
from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_strings, read_values, same_units
from bmi_cdlm.kernels.groups import Links
from bmi_cdlm.names.errors import DomainError, shown

LINK_TOLERANCE = 1e-5
UNCOVERED_LIMIT = 0.02
M3_PER_MM_KM2 = 1000.0


class Cells(NamedTuple):
    """Runoff cells.

    id : str[cell]; lon, lat : float64[cell], degrees; area : float64[cell], geometric [km2]; drained_area :
    float64[cell], sum of the links [km2]; corner_lon, corner_lat : float64[cell, 4]; mean_annual_snowfall :
    float64[cell] [mm yr-1], elevation : float64[cell] [m], NaN where unknown; upstream_area : float64[cell] [km2], of
    the reaches that it drains into, mean by the area of the links.
    """

    id: list[str]
    lon: np.ndarray
    lat: np.ndarray
    area: np.ndarray
    drained_area: np.ndarray
    corner_lon: np.ndarray
    corner_lat: np.ndarray
    mean_annual_snowfall: np.ndarray
    elevation: np.ndarray
    upstream_area: np.ndarray


class Reaches(NamedTuple):
    """River reaches in depth-first post-order: every reach stands after all that drain into it.

    id : str[reach]; downstream : int64[reach], -1 at an outlet; length : float64[reach] [m]; slope :
    float64[reach], dimensionless; area, upstream_area : float64[reach] [km2]; lon, lat : float64[reach].
    """

    id: list[str]
    downstream: np.ndarray
    length: np.ndarray
    slope: np.ndarray
    area: np.ndarray
    upstream_area: np.ndarray
    lon: np.ndarray
    lat: np.ndarray


class Gauges(NamedTuple):
    """Gauges: id, name : str[gauge]; reach : int64[gauge]; area : float64[gauge], official [km2]."""

    id: list[str]
    name: list[str]
    reach: np.ndarray
    area: np.ndarray


Group = TypeVar("Group", Cells, Reaches, Gauges)


class Domain(NamedTuple):
    """A checked domain.

    file_order : int64[reach], position in the file of each reach of ours; boundary : int64[], reaches that stand for
    what was cut off above: they are not routed, their discharge is an input.
    """

    cells: Cells
    reaches: Reaches
    links: Links
    gauges: Gauges
    file_order: np.ndarray
    boundary: np.ndarray = NONE

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.cells.area.size

    @property
    def n_reaches(self) -> int:
        """Number of reaches."""
        return self.reaches.downstream.size

    @property
    def outlets(self) -> np.ndarray:
        """Indices of the reaches that drain out of the domain, int64."""
        return np.flatnonzero(self.reaches.downstream < 0)


@one_at_a_time
def read_domain(path: Path) -> Domain:
    """Read and check `domain.nc`; reaches come out in depth-first post-order.

    Raises
    ------
    DomainError
        Missing variables, wrong units, cycles, links that do not add up to reach areas, gauges off the
        network, more than 2 % of a gauge's area without a cell.
    """
    where = str(path)
    with open_input(path, DomainError) as dataset:
        for dim in ("cell", "reach", "link"):
            if dim not in dataset.dimensions or not dataset.dimensions[dim].size:
                raise DomainError(f"{where}: dimension '{dim}' is missing or empty. Make the file with `cdlm prepare`.")
        reach_id = _read_ids(dataset, "reach", where)
        downstream = _read_index(dataset, "downstream", ("reach",), where)
        _check_downstream(downstream, reach_id, where)
        stands_for = _read_boundary(dataset, downstream, reach_id, where)
        order = order_reaches(
            downstream, reach_id, where, None if stands_for is None else np.maximum(stands_for, 1)
        )
        reaches = _read_reaches(dataset, reach_id, downstream, order, where)
        links = _read_links(dataset, order, where)
        cells = _read_cells(dataset, links, reaches, where)
        gauges = _read_gauges(dataset, order, where)
        uncovered = _optional(dataset, "reach_uncovered_area", "reach", "km2", where, 0.0)[order]
    _check_areas(reaches, links, gauges, uncovered, where)
    boundary = NONE if stands_for is None else np.flatnonzero(stands_for[order] > 0)
    return Domain(cells, reaches, links, gauges, order, boundary)


def cut(domain: Domain, reach: int) -> tuple[Domain, np.ndarray, np.ndarray]:
    """Cut out what drains through a reach.

    Returns
    -------
    domain : Domain
        Reaches keep their order, so that results in it are those of the whole, bit for bit; a cell that only
        partly drains there keeps the links that do.
    cells, reaches : int64[]
        Their places in the whole domain.
    """
    reaches = np.arange(*upstream_of(domain.reaches.downstream, reach))
    part, cells = take_reaches(domain, reaches)
    return part, cells, reaches


def take_reaches(
    domain: Domain, reaches: np.ndarray, boundary: np.ndarray = NONE, more_cells: np.ndarray = NONE
) -> tuple[Domain, np.ndarray]:
    """Take some reaches with their cells, links and gauges; what drains to other reaches leaves the new domain.

    Parameters
    ----------
    reaches : int64[], rising
    boundary : int64[]
        Those of them that stand for what drains through them, and come without length, cells and gauges.
    more_cells : int64[]
        Cells to take whether they are linked or not.

    Returns
    -------
    domain : Domain
        Reaches and links in the order of the whole.
    cells : int64[]
        Places of its cells in the whole domain, rising.
    """
    at_boundary, below = np.searchsorted(reaches, boundary), domain.reaches.downstream[reaches]
    count = domain.links.first[reaches + 1] - domain.links.first[reaches]
    count[at_boundary] = 0
    first = np.r_[0, np.cumsum(count)].astype(np.int64)
    link = np.repeat(domain.links.first[reaches] - first[:-1], count) + np.arange(first[-1])
    linked = domain.links.cell[link]
    cells = np.unique(np.r_[linked, more_cells])
    links = Links(first, np.searchsorted(cells, linked).astype(np.int64), domain.links.area[link])
    inside = np.flatnonzero((places(reaches, domain.gauges.reach) >= 0) & ~np.isin(domain.gauges.reach, boundary))
    part = Domain(
        _take(domain.cells, cells)._replace(
            drained_area=np.bincount(links.cell, weights=links.area, minlength=cells.size)
        ),
        _take(domain.reaches, reaches)._replace(downstream=places(reaches, below)),
        links,
        _take(domain.gauges, inside)._replace(reach=places(reaches, domain.gauges.reach[inside])),
        domain.file_order[reaches], np.flatnonzero(np.isin(reaches, domain.boundary)),
    )
    part.reaches.length[at_boundary] = 0.0
    return part, cells


def places(rising: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted number among rising ones, -1 where it is not among them."""
    if not rising.size:
        return np.full(np.shape(wanted), -1)
    found = np.minimum(np.searchsorted(rising, wanted), rising.size - 1)
    return np.where(rising[found] == wanted, found, -1)


def _take(group: Group, places: np.ndarray) -> Group:
    """Every field of a group at some places."""
    fields: list[Any] = [a[places] if isinstance(a, np.ndarray) else [a[i] for i in places] for a in group]
    return type(group)(*fields)


def _check_downstream(downstream: np.ndarray, reach_id: list[str], where: str) -> None:
    n = downstream.size
    own = np.flatnonzero(downstream == np.arange(n))
    if own.size:
        raise DomainError(
            f"{where}: reach {reach_id[int(own[0])]} drains into itself ({own.size} such reaches). "
            "Expected -1 at an outlet."
        )
    bad = np.flatnonzero((downstream < -1) | (downstream >= n))
    if bad.size:
        i = int(bad[0])
        raise DomainError(
            f"{where}: 'downstream' of reach {reach_id[i]} is {downstream[i]}, expected an index from 0 to {n - 1}, "
            "or -1 at an outlet."
        )


def _read_boundary(
    dataset: netCDF4.Dataset, downstream: np.ndarray, reach_id: list[str], where: str
) -> np.ndarray | None:
    """Number of reaches that a boundary stands for, int64[reach], 0 of others; None where none was cut off."""
    if "reach_stands_for" not in dataset.variables:
        return None
    stands_for = _read_index(dataset, "reach_stands_for", ("reach",), where)
    bad = np.flatnonzero((stands_for < 0) | ((stands_for > 0) & np.isin(np.arange(stands_for.size), downstream)))
    if bad.size:
        i = int(bad[0])
        raise DomainError(
            f"{where}: 'reach_stands_for' of reach {reach_id[i]} is {stands_for[i]}, expected 0, or more at a reach "
            "into which none drains: what was cut off is above it. Cut with `cdlm subset --below`."
        )
    return stands_for


def _read_ids(dataset: netCDF4.Dataset, dim: str, where: str) -> list[str]:
    """Ids of cells, reaches or gauges: one each, and none twice."""
    name, n = f"{dim}_id", dataset.dimensions[dim].size
    ids = read_strings(dataset, name, where, DomainError)
    if len(ids) != n:
        raise DomainError(f"{where}: '{name}' has {len(ids)} values, the dimension '{dim}' has {n}. Expected one each.")
    if len(set(ids)) != n:
        found, counts = np.unique(np.array(ids), return_counts=True)
        twice = found[counts > 1][0]
        raise DomainError(f"{where}: '{name}' {shown(twice)} occurs more than once. Expected unique ids.")
    empty = next((i for i, one in enumerate(ids) if not one.strip()), None)
    if empty is not None:
        raise DomainError(f"{where}: '{name}' is empty at index {empty}. Expected an id for each.")
    return ids


def _read_index(dataset: netCDF4.Dataset, name: str, dims: tuple[str, ...], where: str) -> np.ndarray:
    values = read_values(dataset, name, dims, None, where, DomainError)
    if (values != np.round(values)).any():
        raise DomainError(f"{where}: '{name}' holds fractions. Expected whole numbers, indices from 0.")
    return values.astype(np.int64)


def _positive(values: np.ndarray, name: str, where: str, *, zero_ok: bool) -> np.ndarray:
    bad = np.flatnonzero(values < 0 if zero_ok else values <= 0)
    if bad.size:
        least = ">= 0" if zero_ok else "> 0"
        raise DomainError(
            f"{where}: '{name}' is {values[bad[0]]} at index {bad[0]} ({bad.size} such values), expected {least}."
        )
    return values


def _optional(dataset: netCDF4.Dataset, name: str, dim: str, units: str, where: str, missing: float) -> np.ndarray:
    if name not in dataset.variables:
        return np.full(dataset.dimensions[dim].size, missing)
    return read_values(dataset, name, (dim,), units, where, DomainError)


def _on_earth(values: np.ndarray, name: str, where: str) -> np.ndarray:
    """Longitudes, counted on or back once round the Earth as rasters may, or latitudes [degrees]; metres are none."""
    low, high = (-720.0, 720.0) if name.endswith("lon") else (-90.0, 90.0)
    bad = np.flatnonzero((values < low) | (values > high))
    if bad.size:
        raise DomainError(
            f"{where}: '{name}' is {values[bad[0]]} at index {bad[0]} ({bad.size} such values), expected {low:g} to "
            f"{high:g} degrees."
        )
    return values


def _read_reaches(
    dataset: netCDF4.Dataset, reach_id: list[str], downstream: np.ndarray, order: np.ndarray, where: str
) -> Reaches:
    def read(name: str, units: str) -> np.ndarray:
        return read_values(dataset, name, ("reach",), units, where, DomainError)[order]

    below = renumbered(downstream, order)
    area = _positive(read("reach_area", "km2"), "reach_area", where, zero_ok=True)
    return Reaches(
        id=[reach_id[i] for i in order],
        downstream=below,
        length=_positive(read("reach_length", "m"), "reach_length", where, zero_ok=True),
        slope=_positive(
            _optional(dataset, "reach_slope", "reach", "1", where, 0.0)[order], "reach_slope", where, zero_ok=True
        ),
        area=area,
        upstream_area=accumulate_downstream(below, area),
        lon=_on_earth(_optional(dataset, "reach_lon", "reach", "degrees_east", where, 0.0), "reach_lon", where)[order],
        lat=_on_earth(_optional(dataset, "reach_lat", "reach", "degrees_north", where, 0.0), "reach_lat", where)[order],
    )


def _read_links(dataset: netCDF4.Dataset, order: np.ndarray, where: str) -> Links:
    cell = _read_index(dataset, "link_cell", ("link",), where)
    reach = _read_index(dataset, "link_reach", ("link",), where)
    area = _positive(read_values(dataset, "link_area", ("link",), "km2", where, DomainError), "link_area", where,
                     zero_ok=False)
    for name, index, n in (
        ("link_cell", cell, dataset.dimensions["cell"].size), ("link_reach", reach, order.size),
    ):
        bad = np.flatnonzero((index < 0) | (index >= n))
        if bad.size:
            raise DomainError(f"{where}: '{name}' is {index[bad[0]]} at link {bad[0]}, expected 0 to {n - 1}.")
    reach = places_in(order)[reach]
    sort = np.lexsort((cell, reach))
    first = np.r_[0, np.cumsum(np.bincount(reach, minlength=order.size))].astype(np.int64)
    return Links(first, cell[sort], area[sort])


def _read_cells(dataset: netCDF4.Dataset, links: Links, reaches: Reaches, where: str) -> Cells:
    def read(name: str, units: str) -> np.ndarray:
        return read_values(dataset, name, ("cell",), units, where, DomainError)

    area = _positive(read("cell_area", "km2"), "cell_area", where, zero_ok=False)
    lon = _on_earth(read("cell_lon", "degrees_east"), "cell_lon", where)
    lat = _on_earth(read("cell_lat", "degrees_north"), "cell_lat", where)
    corner_lon, corner_lat = _corners(dataset, lon, lat, area, where)
    return Cells(
        id=_read_ids(dataset, "cell", where),
        lon=lon, lat=lat, area=area,
        drained_area=np.bincount(links.cell, weights=links.area, minlength=area.size),
        corner_lon=corner_lon, corner_lat=corner_lat,
        mean_annual_snowfall=_optional(dataset, "mean_annual_snowfall", "cell", "mm yr-1", where, np.nan),
        elevation=_elevation(dataset, where),
        upstream_area=area_of_rivers(links, reaches.upstream_area, area.size),
    )


def _elevation(dataset: netCDF4.Dataset, where: str) -> np.ndarray:
    """Elevation of the cells [m] where the file has such an attribute, NaN elsewhere: few processes take it."""
    name, n = "cell_elevation", dataset.dimensions["cell"].size
    variable = dataset.variables.get(name)
    if variable is None or variable.dimensions != ("cell",) or not same_units(getattr(variable, "units", ""), "m"):
        return np.full(n, np.nan)
    return read_values(dataset, name, ("cell",), "m", where, DomainError, nan_ok=True)


def area_of_rivers(links: Links, upstream_area: np.ndarray, n_cells: int) -> np.ndarray:
    """Area above the reaches that each cell drains into [km2], mean by the area of the links; 0 without a link."""
    above = np.repeat(upstream_area, np.diff(links.first))
    drained = np.bincount(links.cell, weights=links.area, minlength=n_cells)
    total = np.bincount(links.cell, weights=links.area * above, minlength=n_cells)
    return total / np.where(drained > 0, drained, 1.0)


def _corners(
    dataset: netCDF4.Dataset, lon: np.ndarray, lat: np.ndarray, area: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Corners from the file, or those of a square of the cell's area around its centre."""
    if "cell_corner_lon" in dataset.variables:
        dims = ("cell", "corner")
        return (
            read_values(dataset, "cell_corner_lon", dims, "degrees_east", where, DomainError),
            read_values(dataset, "cell_corner_lat", dims, "degrees_north", where, DomainError),
        )
    km_per_degree = 6371.0072 * np.pi / 180
    half_lat = np.sqrt(area) / 2 / km_per_degree
    half_lon = half_lat / np.maximum(np.cos(np.radians(lat)), 1e-6)
    return (
        lon[:, None] + half_lon[:, None] * np.array([-1, 1, 1, -1]),
        lat[:, None] + half_lat[:, None] * np.array([-1, -1, 1, 1]),
    )


def _read_gauges(dataset: netCDF4.Dataset, order: np.ndarray, where: str) -> Gauges:
    if "gauge" not in dataset.dimensions:
        return Gauges([], [], np.zeros(0, np.int64), np.zeros(0))
    gauge_id = _read_ids(dataset, "gauge", where)
    names = read_strings(dataset, "gauge_name", where, DomainError) if "gauge_name" in dataset.variables else gauge_id
    reach = _read_index(dataset, "gauge_reach", ("gauge",), where)
    bad = np.flatnonzero((reach < 0) | (reach >= order.size))
    if bad.size:
        raise DomainError(
            f"{where}: 'gauge_reach' of gauge {gauge_id[bad[0]]} is {reach[bad[0]]}, expected 0 to {order.size - 1}."
        )
    area = read_values(dataset, "gauge_area", ("gauge",), "km2", where, DomainError, nan_ok=True)
    bad = np.flatnonzero((area <= 0) | np.isinf(area))
    if bad.size:
        raise DomainError(
            f"{where}: 'gauge_area' of gauge {gauge_id[bad[0]]} is {area[bad[0]]}, expected an official area > 0, or "
            "a missing value where it is unknown."
        )
    return Gauges(gauge_id, names, places_in(order)[reach], area)


def _check_areas(reaches: Reaches, links: Links, gauges: Gauges, uncovered: np.ndarray, where: str) -> None:
    """Links must add up to reach areas; the declared area without cells is limited per gauge and outlet."""
    n = reaches.downstream.size
    covered = np.bincount(np.repeat(np.arange(n), np.diff(links.first)), weights=links.area, minlength=n)
    off = np.flatnonzero(np.abs(covered - reaches.area) > LINK_TOLERANCE * np.maximum(covered, reaches.area))
    if off.size:
        i = int(off[0])
        raise DomainError(
            f"{where}: the links of reach {reaches.id[i]} add up to {covered[i]:.9g} km2, its 'reach_area' is "
            f"{reaches.area[i]:.9g} km2 ({off.size} such reaches). Expected equality within {LINK_TOLERANCE:g}; "
            "declare area without a cell as 'reach_uncovered_area'."
        )
    check_uncovered(reaches, gauges, uncovered, where)


def check_uncovered(reaches: Reaches, gauges: Gauges, uncovered: np.ndarray, where: str) -> None:
    """Refuse a gauge or an outlet above which too much area, float64[reach] [km2], lies in no cell."""
    missing = accumulate_downstream(reaches.downstream, uncovered)
    watched = [(f"gauge {g}", int(r)) for g, r in zip(gauges.id, gauges.reach, strict=True)]
    watched += [(f"outlet {reaches.id[i]}", int(i)) for i in np.flatnonzero(reaches.downstream < 0)]
    for name, i in watched:
        share = missing[i] / max(reaches.upstream_area[i] + missing[i], 1e-12)
        if share > UNCOVERED_LIMIT:
            raise DomainError(
                f"{where}: no cell covers {share:.2%} of the area above {name} ('reach_uncovered_area'), expected at "
                f"most {UNCOVERED_LIMIT:.0%}. Extend the cells, or cut the network."
            )
