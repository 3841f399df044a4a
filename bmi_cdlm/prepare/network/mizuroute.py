"""Network topology of mizuRoute: river segments, and the hydrologic response units (HRU) that drain to them.

A segment is a reach, an HRU a cell, and its drainage a link: of several HRUs on a segment each stays a cell of its own,
and a segment may have none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.network import accumulate_downstream, order_reaches, renumbered
from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings
from bmi_cdlm.names.errors import DomainError, nearest
from bmi_cdlm.prepare.gauges.record_sources import id_text
from bmi_cdlm.prepare.network.attributes import Attribute, Table, check_name, over_links, without_catchment
from bmi_cdlm.prepare.network.catchment_files import open_vector
from bmi_cdlm.prepare.network.catchment_table import (
    LARGEST,
    NO_GRID,
    Columns,
    TableNetwork,
    box_corners,
    check_units,
    chosen_rows,
    find_downstream,
    find_lengths,
    gauges_at_ends,
    read_network,
)
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.network.network_layouts import LAYOUTS
from bmi_cdlm.prepare.network.reaches import strahler_order
from bmi_cdlm.prepare.packages import load, resolve
from bmi_cdlm.prepare.text_tables import find_column, rows_of
from bmi_cdlm.prepare.weather.conversion import conversion

OF_SEGMENTS = ("id", "downstream", "length", "slope", "gauge", "name")
OF_HRUS = ("hru", "hru_reach", "area", "lon", "lat")
UNITS = {"length": "m", "slope": "1", "area": "km2", "lon": "degrees", "lat": "degrees"}
NEEDED = ("id", "downstream", "length", "hru", "hru_reach", "area")
UNSTATED = {"length": "m", "slope": "1", "area": "m2", "lon": "degrees", "lat": "degrees"}
"""What mizuRoute takes the numbers in."""
SMALLEST = {"length": 20.0, "area": 1000.0}
"""What the middle of values in these units is not below: such numbers are in km, where nothing states another."""
LAYOUT = "mizuroute"


class _Hrus(NamedTuple):
    """HRUs by row: ids, ids of their segments; numbers float64[hru] with units by our names; polygons or None."""

    id: list[str]
    segment: list[str]
    numbers: dict[str, tuple[np.ndarray, str]]
    polygons: Any


def read_listed(config: NetworkConfig, folder: Path) -> TableNetwork:
    """Build what `network.table` lists: HRUs and segments of mizuRoute, else catchments."""
    return read_mizuroute(config, folder) if config.layout == LAYOUT else read_network(config, folder)


def read_mizuroute(config: NetworkConfig, folder: Path) -> TableNetwork:
    """Build reaches, cells and links from a topology file.

    Places of HRUs come of variables `lon` and `lat` (or those that `network.columns` names), or of polygons
    (`network.polygons`).

    Raises
    ------
    DomainError
        Variables that are not there, ids twice, areas without a meaning, HRUs without a place, a cycle.
    """
    assert config.table is not None
    where = resolve(config.table, folder)
    segments, hrus = _read(config, where, folder)
    ids = segments.text["id"]
    for what, names in (("segment", ids), ("HRU", hrus.id)):
        twice = next((one for one in names if names.count(one) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise DomainError(f"{where}: the {what} '{twice}' stands twice, expected unique ids. Correct the file.")
    kept = chosen_rows(config, segments, where)
    segments = Columns(
        {name: [values[i] for i in kept] for name, values in segments.text.items()},
        {name: (values[kept], units) for name, (values, units) in segments.numbers.items()}, None,
    )
    return _build(config, segments, set(ids), hrus, where)


class _File:
    """The variables of an open topology file by our names."""

    def __init__(self, dataset: Any, config: NetworkConfig, where: Path) -> None:
        layout = LAYOUTS[LAYOUT]
        self._dataset, self._where, self._asked = dataset, where, config.columns
        self.names, self._units = {**layout["columns"], **config.columns}, {**layout["units"], **config.units}
        found = {one: self._find(one) for one in (*OF_SEGMENTS, *OF_HRUS)}
        dims = {True: self._dim(found["id"]), False: self._dim(found["hru"])}
        self.place = {
            one: name for one, name in found.items() if name is not None and self._lies_on(one, name, dims)
        }

    def _find(self, name: str) -> str | None:
        """The variable of one of our names; None where there is none and none is needed."""
        asked, known = self.names.get(name, name), list(self._dataset.variables)
        choices = [str(asked)] if isinstance(asked, str | int) else list(asked)
        found = next((one for one in choices if one in known), None)
        if found is None and (name in NEEDED or name in self._asked):
            raise DomainError(
                f"{self._where}: there is no variable '{choices[0]}' ('{name}' of the network)."
                f"{nearest(choices[0], known)} The file has: {', '.join(known)}. Name its own with network.columns: "
                f"{{{name}: VARIABLE}}."
            )
        return found

    def _dim(self, name: str | None) -> str:
        return str(self._dataset[name].dimensions[0])

    def _lies_on(self, one: str, name: str, dims: dict[bool, str]) -> bool:
        """Whether a variable lies on its dimension; one that nobody asked for may be of something else."""
        found = self._dataset[name].dimensions
        if found[:1] == (dims[one in OF_SEGMENTS],):
            return True
        if one in NEEDED or one in self._asked:
            raise DomainError(
                f"{self._where}: '{name}' lies on ({', '.join(found)}), expected ({dims[one in OF_SEGMENTS]})."
            )
        return False

    def texts(self, *names: str) -> dict[str, list[str]]:
        """Those of some variables that are there, as text."""
        found = {}
        for one in names:
            name = self.place.get(one)
            if name is None:
                continue
            is_number = getattr(self._dataset[name].dtype, "kind", "O") in "iuf"
            values = np.ma.filled(self._dataset[name][:], -1).ravel().tolist() if is_number else read_strings(
                self._dataset, name, str(self._where), DomainError
            )
            found[one] = [id_text(value).strip() for value in values]
        return found

    def numbers(self, *names: str) -> dict[str, tuple[np.ndarray, str]]:
        """Those of some variables that are there, with their units."""
        return {one: self._number(one, self.place[one]) for one in names if one in self.place}

    def attributes(self) -> dict[str, tuple[np.ndarray, str]]:
        """Whatever else `network.columns` names, of HRUs."""
        found = {}
        for one in self.names:
            if one not in (*OF_SEGMENTS, *OF_HRUS):
                check_name(one)
                found[one] = self._number(one, str(self._find(one)))
        return found

    def _number(self, name: str, variable: str) -> tuple[np.ndarray, str]:
        told = self._units.get(name) or getattr(self._dataset[variable], "units", None)
        stated = told or UNSTATED.get(name)
        if stated is None:
            raise DomainError(
                f"{self._where}: '{variable}' has no units, expected some for '{name}'. Set network.units: "
                f"{{{name}: ...}}, '1' for a ratio."
            )
        values = filled(self._dataset[variable], slice(None))
        typical = float(np.nanmedian(values)) if values.size and np.isfinite(values).any() else np.inf
        if told is None and typical < SMALLEST.get(name, -np.inf):
            raise DomainError(
                f"{self._where}: '{variable}' has no units and is {typical:g} in the middle of its values, expected "
                f"{stated}. Is it in another unit, such as km? Set network.units: {{{name}: ...}}."
            )
        if UNITS.get(name, "degrees") != "degrees":
            where = f"{self._where}, '{variable}'"
            return conversion(str(stated), UNITS[name], where, DomainError)(values), UNITS[name]
        return values, str(stated)


@one_at_a_time
def _read(config: NetworkConfig, where: Path, folder: Path) -> tuple[Columns, _Hrus]:
    with open_input(where, DomainError) as dataset:
        file = _File(dataset, config, where)
        segments = Columns(file.texts("id", "downstream", "gauge", "name"), file.numbers("length", "slope"), None)
        names = file.texts("hru", "hru_reach")
        numbers = {**file.numbers("area", "lon", "lat"), **file.attributes()}
        check_units(config.units, {**segments.numbers, **numbers}, where)
    hrus = _Hrus(names["hru"], names["hru_reach"], numbers, None)
    return segments, hrus if config.polygons is None else _with_polygons(config, hrus, folder)


def _with_polygons(config: NetworkConfig, hrus: _Hrus, folder: Path) -> _Hrus:
    """HRUs with their shapes, and places within them where the file has none."""
    path = resolve(str(config.polygons), folder)
    frame, _, shapes = open_vector(path, config.layer, config.crs)
    ids = [id_text(one).strip() for one in find_column(frame, config.polygon_ids, path, DomainError).tolist()]
    rows = rows_of(ids, f"{path}: {config.polygon_ids}", DomainError)
    absent = [one for one in hrus.id if one not in rows]
    if absent:
        raise DomainError(
            f"{path}: has no polygon of {len(absent)} HRUs, the first {absent[0]}.{nearest(absent[0], ids[:10_000])} "
            "Expected one for each. Set network.polygon_ids to the column of their ids."
        )
    shapely, numbers = load("shapely"), dict(hrus.numbers)
    polygons = shapes[[rows[one] for one in hrus.id]]
    points = shapely.point_on_surface(polygons)
    numbers["lon"], numbers["lat"] = (shapely.get_x(points), "degrees"), (shapely.get_y(points), "degrees")
    return hrus._replace(numbers=numbers, polygons=polygons)


def _build(config: NetworkConfig, segments: Columns, every: set[str], hrus: _Hrus, where: Path) -> TableNetwork:
    ids, n = segments.text["id"], len(segments.text["id"])
    downstream, notes = find_downstream(segments, where)
    order = order_reaches(downstream, ids, str(where))
    below = renumbered(downstream, order)
    length, slope, more = find_lengths(segments, downstream, where, ids)
    names = np.array([ids[i] for i in order])
    rows, reach, told = _drained(hrus, {one: k for k, one in enumerate(names.tolist())}, every, where)
    cells = _cells(hrus, rows, where)
    by_reach = np.argsort(reach, kind="stable")
    links = Links(by_reach, reach[by_reach], cells.area[by_reach])
    area, nothing = np.bincount(reach, cells.area, n), np.full(n, np.nan)
    reaches = Reaches(
        names, below, length[order], slope[order], area, accumulate_downstream(below, area), nothing, nothing,
        strahler_order(below), np.zeros(n),
    )
    largest = np.full(n, -1)
    for k in np.argsort(cells.area, kind="stable").tolist():
        largest[reach[k]] = k
    lon, lat = (
        without_catchment(np.where(largest >= 0, at[largest], np.nan), reaches) for at in (cells.lon, cells.lat)
    )
    reaches = reaches._replace(lon=lon, lat=lat)
    empty = np.zeros((0, 0), np.int32)
    drainage = Drainage(Catchments(NO_GRID, empty, empty, np.zeros(0)), reaches, cells, links)
    table = _attributes(hrus, rows, drainage, where)
    return TableNetwork(drainage, table, gauges_at_ends(config, segments, order, reaches), [*notes, *more, *told])


def _drained(
    hrus: _Hrus, place: dict[str, int], every: set[str], where: Path
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows of HRUs that drain to a segment, int64[cell], and its index, int64[cell]; and what is to be said."""
    to = np.array([place.get(one, -1) for one in hrus.segment], np.int64)
    lost = [i for i, one in enumerate(hrus.segment) if one not in every]
    rows = np.flatnonzero(to >= 0)
    if not rows.size:
        raise DomainError(f"{where}: no HRU drains to any segment, expected some. Check 'hruToSegId' and the ids.")
    notes = []
    if lost:
        area = hrus.numbers["area"][0][lost].sum()
        notes.append(
            f"network: {len(lost)} HRUs ({area:.6g} km2) drain to no segment of the file and are left out, the first "
            f"{hrus.id[lost[0]]}."
        )
    return rows, to[rows], notes


def _cells(hrus: _Hrus, rows: np.ndarray, where: Path) -> Cells:
    """Cells of HRUs."""
    names = np.array([hrus.id[i] for i in rows])
    if "lon" not in hrus.numbers or "lat" not in hrus.numbers:
        raise DomainError(
            f"{where}: tells not where its HRUs are, expected variables of longitude and latitude on them. Name their "
            "polygons with network.polygons, or the variables with network.columns: {lon: ..., lat: ...}."
        )
    area, lon, lat = (hrus.numbers[one][0][rows] for one in ("area", "lon", "lat"))
    lon = np.where((lon > 180) & (lon <= 360), lon - 360, lon)
    for name, values, bad in (
        ("area", area, ~((area > 0) & (area < LARGEST))), ("lon", lon, ~(np.abs(lon) <= 180)),
        ("lat", lat, ~(np.abs(lat) <= 90)),
    ):
        if bad.any():
            i = int(bad.argmax())
            raise DomainError(
                f"{where}: '{name}' of HRU {names[i]} is {values[i]:g} {UNITS[name]} ({np.count_nonzero(bad)} such). "
                "Expected an area above 0 and below that of any river basin, and degrees. Correct the file, or its "
                "units with network.units."
            )
    polygons = None if hrus.polygons is None else hrus.polygons[rows]
    return Cells(names, lon, lat, area, *box_corners(lon, lat, area, polygons), NO_GRID, np.arange(rows.size),
                 np.zeros(rows.size, np.int64), polygons)


def _attributes(hrus: _Hrus, rows: np.ndarray, drainage: Drainage, where: Path) -> Table:
    """Further variables of HRUs as attributes of cells, and their means over what drains to a reach."""
    table = Table({}, {})
    for name, (values, units) in hrus.numbers.items():
        if name in OF_HRUS:
            continue
        values = values[rows]
        if not np.isfinite(values).all():
            i = int((~np.isfinite(values)).argmax())
            raise DomainError(
                f"{where}: '{name}' of HRU {hrus.id[rows[i]]} is missing ({np.count_nonzero(~np.isfinite(values))} "
                "such), expected a number for each. Complete the file, or leave the variable out."
            )
        if name == "elevation":
            values, units = conversion(units, "m", f"{where}, '{name}'", DomainError)(values), "m"
        table.cell[name] = Attribute(values, units, name.replace("_", " "))
        table.reach[name] = table.cell[name]._replace(values=over_links(values, drainage))
    return table
