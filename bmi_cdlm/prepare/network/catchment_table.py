"""A river network from a list of catchments: a table, or polygons or lines of a vector file. A catchment is a cell."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.network import accumulate_downstream, order_reaches, renumbered
from bmi_cdlm.names.errors import ConfigError, DomainError, nearest
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.record_sources import id_text
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.prepare.network.attributes import Attribute, Table
from bmi_cdlm.prepare.network.catchment_files import SHOWN, open_hydrofabric, open_table
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.network.network_layouts import LAYOUTS
from bmi_cdlm.prepare.network.reaches import strahler_order
from bmi_cdlm.prepare.packages import load, resolve
from bmi_cdlm.prepare.text_tables import find_column, numbers_of, rows_of
from bmi_cdlm.prepare.weather.conversion import conversion
from bmi_cdlm.prepare.weather.weather_config import TextKeys

OWN = {"area": "km2", "lon": "degrees", "lat": "degrees", "length": "m", "slope": "1"}
"""Columns that the network itself is made of, beside id, name, downstream and gauge; others are attributes."""
TEXTS = ("id", "name", "downstream", "gauge")
NOWHERE = ("", "0", "-1", "nan", "NaN", "None", "NA")
"""What stands below an outlet."""
NO_GRID = Grid(0.0, 0.0, 1.0, 1.0, 0, 0, "EPSG:4326")
EQUAL_AREA = "EPSG:6933"
LARGEST = 1e7
"""No river basin has so much [km2]: such an area is in another unit."""
SHORTEST, WIDEST = 20.0, 2e5
"""Where nothing states units: what the middle of lengths is not below [m], as km would be, and what the middle of areas
is not above [km2], as m2 would be."""
FRACTION = re.compile(r"(-?\d+)\.0+")
"""A whole number as it comes out of a column of numbers with gaps."""


class TableNetwork(NamedTuple):
    """What a list of catchments makes: network and cells, attributes, gauges, and what is to be said."""

    drainage: Drainage
    table: Table
    gauges: SnappedGauges
    notes: list[str]


class Columns(NamedTuple):
    """Columns by our names: text as list of str, numbers as float64[row] with their units; polygons or None; names of
    numbers whose units nobody states.
    """

    text: dict[str, list[str]]
    numbers: dict[str, tuple[np.ndarray, str]]
    polygons: Any
    unstated: Collection[str] = ()


def read_network(config: NetworkConfig, folder: Path) -> TableNetwork:
    """Build reaches, cells and gauges from `network.table`.

    Returns
    -------
    TableNetwork
        A reach and a cell per catchment, in routing order.

    Raises
    ------
    ConfigError, DomainError
        A table that cannot be read, columns that are not there, ids twice, areas without a meaning, a cycle.
    """
    assert config.table is not None
    where = resolve(config.table, folder)
    columns = _read(config, folder)
    ids = columns.text["id"]
    twice = sorted({one for one in ids if ids.count(one) > 1}) if len(set(ids)) < len(ids) else []
    if twice or "" in ids:
        raise DomainError(
            f"{where}: the id '{twice[0] if twice else ''}' is empty or stands twice. Expected unique ids."
        )
    kept = chosen_rows(config, columns, where)
    columns = Columns(
        {name: [values[i] for i in kept] for name, values in columns.text.items()},
        {name: (values[kept], units) for name, (values, units) in columns.numbers.items()},
        None if columns.polygons is None else columns.polygons[kept],
        columns.unstated,
    )
    return _build(config, columns, where)


# ---- reading -------------------------------------------------------------------------------------------------


def _read(config: NetworkConfig, folder: Path) -> Columns:
    """The columns of the table, and of the reaches beside it, row by row of the table."""
    layout = LAYOUTS.get(config.layout or "", {"columns": {}, "units": {}})
    names = {**layout["columns"], **config.columns}
    units = {**layout["units"], **config.units}
    assert config.table is not None
    path = resolve(config.table, folder)
    if config.layout == "nextgen":
        frame, own_units, polygons = open_hydrofabric(path, config.crs)
    else:
        frame, own_units, polygons = open_table(path, config.layer, config.delimiter, config.crs)
    if config.only is not None and config.upstream_of is None:  # the others may lack what is asked for below
        found = [id_text(one).strip() for one in find_column(frame, names.get("id", "id"), path, DomainError).tolist()]
        if set(config.only) <= set(found):
            kept = np.flatnonzero(np.isin(found, config.only))
            frame, polygons = frame.iloc[kept].reset_index(drop=True), None if polygons is None else polygons[kept]
    if config.reaches is not None:
        frame = _joined(frame, names, path, config, folder)
    text: dict[str, list[str]] = {}
    numbers: dict[str, tuple[np.ndarray, str]] = {}
    unstated = []
    for name in dict.fromkeys(("id", "name", "downstream", "gauge", *OWN, *names)):
        asked = names.get(name, name)
        headings = [asked] if isinstance(asked, str | int) else list(asked)
        there = next((h for h in headings if h in frame.columns), None)
        if there is None:
            if name in config.columns or name == "id" or isinstance(asked, int):
                there = find_column(frame, asked, path, DomainError).name  # raises, with what there is
            else:
                continue
        column = frame[there]
        if name in TEXTS:
            text[name] = [id_text(one).strip() for one in column.tolist()]
            continue
        told = units.get(name) or own_units.get(str(there))
        if not told and name not in layout["columns"]:
            unstated.append(name)
        stated = told or OWN.get(name)
        if stated is None:
            raise DomainError(
                f"{path}: column '{there}' has no units, expected some for the attribute '{name}'. Set units: "
                f"{{{name}: ...}}, '1' for a ratio."
            )
        values = numbers_of(column.astype(str), TextKeys(), path, DomainError)
        if name in OWN and OWN[name] != "degrees":
            values, stated = conversion(stated, OWN[name], f"{path}, '{name}'", DomainError)(values), OWN[name]
        numbers[name] = values, stated
    check_units(config.units, numbers, path)
    if "downstream" in text:
        text["downstream"] = as_written(text["downstream"], text["id"])
    if "gauge" in text and all(FRACTION.fullmatch(one) or one in NOWHERE for one in text["gauge"]):
        text["gauge"] = [FRACTION.sub(r"\1", one) for one in text["gauge"]]
    return _with_shapes(Columns(text, numbers, polygons, unstated), path)


def check_units(units: Collection[str], numbers: Collection[str], path: Path) -> None:
    """Refuse units of what the table has no column of: they would be passed over."""
    idle = next((name for name in units if name not in numbers), None)
    if idle is not None:
        raise DomainError(
            f"{path}: network.units names '{idle}', and the network has no such column of numbers, expected one of "
            f"{', '.join(numbers) or 'none'}.{nearest(idle, numbers)} Name its heading with network.columns: "
            f"{{{idle}: HEADING}}, or leave the units out."
        )


def as_written(names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return names as the ids they mean are written: of a column of whole numbers with gaps, 12 comes as 12.0."""
    known = set(ids)
    plain: dict[str, list[str]] = {}
    for one in known:
        plain.setdefault(FRACTION.sub(r"\1", one), []).append(one)
    found = []
    for one in names:
        meant = plain.get(FRACTION.sub(r"\1", one), ())
        bare = FRACTION.sub(r"\1", one)
        found.append(one if one in known else meant[0] if len(meant) == 1 else bare if bare in NOWHERE else one)
    return found


def _joined(frame: Any, names: Mapping[str, Any], path: Path, config: NetworkConfig, folder: Path) -> Any:
    """The table with the columns of the reaches of the same ids; one without a reach is an error."""
    assert config.reaches is not None
    other = resolve(config.reaches, folder)
    reaches, _, _ = open_table(other, config.reaches_layer, config.delimiter, config.crs)
    ids = [
        [id_text(one).strip() for one in find_column(table, names.get("id", "id"), where, DomainError).tolist()]
        for table, where in ((frame, path), (reaches, other))
    ]
    place = rows_of(ids[1], str(other), DomainError)
    absent = [one for one in ids[0] if one not in place]
    if absent:
        raise DomainError(
            f"{other}: has no reach of {len(absent)} catchments of {path}, the first '{absent[0]}'."
            f"{nearest(absent[0], ids[1][:10_000])} Expected one for each. Use files of one network."
        )
    rows = reaches.iloc[[place[one] for one in ids[0]]].reset_index(drop=True)
    more = [name for name in rows.columns if name not in frame.columns]
    return load("pandas").concat([frame.reset_index(drop=True), rows[more]], axis=1)


def _with_shapes(columns: Columns, path: Path) -> Columns:
    """Areas and centres from the shapes, where the table states none; lines are no polygons."""
    shapes = columns.polygons
    if shapes is None:
        return columns
    shapely, numbers = load("shapely"), dict(columns.numbers)
    if "lon" not in numbers or "lat" not in numbers:
        points = shapely.point_on_surface(shapes)
        numbers["lon"], numbers["lat"] = (shapely.get_x(points), "degrees"), (shapely.get_y(points), "degrees")
    are_polygons = np.isin(shapely.get_type_id(shapes), (3, 6)).all()
    if not are_polygons:
        return columns._replace(numbers=numbers, polygons=None)
    if "area" not in numbers:
        series = load("geopandas").GeoSeries(shapes, crs="EPSG:4326").to_crs(EQUAL_AREA)
        numbers["area"] = np.asarray(series.area) / 1e6, "km2"
    return columns._replace(numbers=numbers)


# ---- building ------------------------------------------------------------------------------------------------


def chosen_rows(config: NetworkConfig, columns: Columns, where: Path) -> np.ndarray:
    """Rows to take: those named, and all that drains to those named."""
    ids = columns.text["id"]
    if config.only is None and config.upstream_of is None:
        return np.arange(len(ids))
    known = {one: i for i, one in enumerate(ids)}
    for key, names in (("only", config.only), ("upstream_of", config.upstream_of)):
        for one in names or ():
            if one not in known:
                hint = nearest(one, ids[:10_000])
                raise DomainError(f"{where}: there is no catchment '{one}', which network.{key} names.{hint}")
    chosen = {known[one] for one in config.only or ()}
    if config.upstream_of is not None:
        above: dict[str, list[int]] = {}
        for i, below in enumerate(columns.text.get("downstream", [""] * len(ids))):
            above.setdefault(below, []).append(i)
        waiting, met = [known[one] for one in config.upstream_of], set()
        while waiting:
            i = waiting.pop()
            if i not in met:
                met.add(i)
                waiting += above.get(ids[i], [])
        chosen |= met
    return np.array(sorted(chosen), np.int64)


def _build(config: NetworkConfig, columns: Columns, where: Path) -> TableNetwork:
    ids, n = columns.text["id"], len(columns.text["id"])
    area = _needed(columns, "area", where, ids)
    lon, lat = (_needed(columns, name, where, ids) for name in ("lon", "lat"))
    lon = np.where((lon > 180) & (lon <= 360), lon - 360, lon)
    for name, bad in (
        ("area", ~((area > 0) & (area < LARGEST))), ("lon", ~(np.abs(lon) <= 180)), ("lat", ~(np.abs(lat) <= 90)),
    ):
        if bad.any():
            i = int(bad.argmax())
            value = {"area": area, "lon": lon, "lat": lat}[name][i]
            raise DomainError(
                f"{where}: '{name}' of catchment {ids[i]} is {value:g} {OWN[name]} ({np.count_nonzero(bad)} such). "
                "Expected an area above 0 and below that of any river basin, and degrees. Correct the table, or its "
                "columns and units."
            )
    if "area" in columns.unstated and np.median(area) > WIDEST:
        raise _in_another_unit(where, "area", float(np.median(area)), "km2", "m2")
    downstream, notes = find_downstream(columns, where)
    order = order_reaches(downstream, ids, str(where))
    below = renumbered(downstream, order)
    length, slope, more = find_lengths(columns, downstream, where, ids)
    notes += more
    area, lon, lat = area[order], lon[order], lat[order]
    names = np.array([ids[i] for i in order])
    upstream = accumulate_downstream(below, area)
    reaches = Reaches(
        names, below, length[order], slope[order], area, upstream, lon, lat, strahler_order(below), np.zeros(n)
    )
    polygons = None if columns.polygons is None else columns.polygons[order]
    cells = Cells(
        names, lon, lat, area, *box_corners(lon, lat, area, polygons), NO_GRID, np.arange(n), np.zeros(n, int), polygons
    )
    links = Links(np.arange(n), np.arange(n), area.copy())
    catchments = Catchments(NO_GRID, np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int32), np.zeros(0))
    gauges = gauges_at_ends(config, columns, order, reaches)
    drainage = Drainage(catchments, reaches, cells, links)
    return TableNetwork(drainage, _attributes(columns, order, where, ids), gauges, notes)


def _in_another_unit(where: Path, name: str, typical: float, units: str, other: str) -> DomainError:
    return DomainError(
        f"{where}: '{name}' has no units and is {typical:g} in the middle of its values, expected {units}. Is it in "
        f"{other}? Set network.units: {{{name}: {other}}}, or {{{name}: {units}}} where it is right."
    )


def _needed(columns: Columns, name: str, where: Path, ids: list[str]) -> np.ndarray:
    if name not in columns.numbers:
        raise DomainError(
            f"{where}: has no column '{name}', expected one of {OWN[name]}. Name the table's own with network.columns: "
            f"{{{name}: HEADING}}."
        )
    return columns.numbers[name][0]


def find_downstream(columns: Columns, where: Path) -> tuple[np.ndarray, list[str]]:
    """Index of the catchment below, int64[row], -1 at outlets; and what is to be said of them."""
    ids = columns.text["id"]
    place = {one: i for i, one in enumerate(ids)}
    given = columns.text.get("downstream", [""] * len(ids))
    found = np.array([place.get(one, -1) for one in given], np.int64)
    own = [ids[i] for i in range(len(ids)) if found[i] == i]
    found[found == np.arange(len(ids))] = -1  # what drains into itself, ends
    lost = [f"{ids[i]} -> {one}" for i, one in enumerate(given) if one not in place and one not in NOWHERE]
    notes = []
    if lost:
        notes.append(
            f"network: {len(lost)} catchments drain to ids that the table does not have and are outlets: "
            f"{', '.join(lost[:SHOWN])}{' ...' if len(lost) > SHOWN else ''}."
        )
    if own:
        notes.append(f"network: {len(own)} catchments drain into themselves and are outlets: {', '.join(own[:SHOWN])}.")
    return found, notes


def find_lengths(
    columns: Columns, downstream: np.ndarray, where: Path, ids: list[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Length [m] and slope of reaches; a single basin needs none, its flow leaves as it is. And what is to be said."""
    n, notes = downstream.size, []
    slope = columns.numbers["slope"][0] if "slope" in columns.numbers else np.full(n, np.nan)
    bad = ~(slope >= 0)
    if "slope" in columns.numbers and bad.any():
        i = int(bad.argmax())
        notes.append(
            f"network: 'slope' is missing or negative at {np.count_nonzero(bad)} of {n} reaches, the first {ids[i]} "
            f"({slope[i]:g}): the domain has no slopes. Complete the column where they matter."
        )
        slope = np.full(n, np.nan)
    if "length" not in columns.numbers:
        if (downstream >= 0).any():
            raise DomainError(
                f"{where}: catchments drain into each other, but there is no column 'length'. Expected the length of "
                "each reach [m], 0 where flow passes at once. Name it with network.columns: {length: HEADING}."
            )
        return np.zeros(n), slope, notes
    length = columns.numbers["length"][0]
    bad = ~((length >= 0) & np.isfinite(length))
    if bad.any():
        i = int(bad.argmax())
        raise DomainError(f"{where}: 'length' of reach {ids[i]} is {length[i]:g} m, expected 0 or more. Correct it.")
    if "length" in columns.unstated and (length > 0).any() and np.median(length[length > 0]) < SHORTEST:
        raise _in_another_unit(where, "length", float(np.median(length[length > 0])), "m", "km")
    return length, slope, notes


def box_corners(
    lon: np.ndarray, lat: np.ndarray, area: np.ndarray, polygons: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the cells [degrees], float64[cell, 4]: of the box around a polygon, or of a square of its area."""
    if polygons is not None:
        west, south, east, north = load("shapely").bounds(polygons).T
    else:
        half = 0.5 * np.sqrt(area)
        up, across = half / 111.2, half / (111.3 * np.maximum(np.cos(np.radians(lat)), 0.01))
        west, south, east, north = lon - across, lat - up, lon + across, lat + up
    return np.stack([west, east, east, west], axis=1), np.stack([south, south, north, north], axis=1)


def _attributes(columns: Columns, order: np.ndarray, where: Path, ids: list[str]) -> Table:
    table = Table({}, {})
    for name, (values, units) in columns.numbers.items():
        if name in OWN:
            continue
        if not name.isidentifier():
            raise ConfigError(f"network.columns: '{name}' is no plain word, expected letters, digits, underscores.")
        if np.isnan(values).any():
            i = int(np.isnan(values).argmax())
            raise DomainError(
                f"{where}: '{name}' of catchment {ids[i]} is missing ({np.count_nonzero(np.isnan(values))} such), "
                "expected a number for each. Complete the table, or leave the column out."
            )
        if name == "elevation":
            values, units = conversion(units, "m", f"{where}, '{name}'", DomainError)(values), "m"
        one = Attribute(values[order], units, name.replace("_", " "))
        table.cell[name] = table.reach[name] = one
    return table


def gauges_at_ends(config: NetworkConfig, columns: Columns, order: np.ndarray, reaches: Reaches) -> SnappedGauges:
    """Gauges at the ends of reaches: those of the column, else all basins where none drains on, else the outlets."""
    linked = bool((reaches.downstream >= 0).any())
    if "gauge" in columns.text:
        codes = [columns.text["gauge"][i] for i in order]
        codes = ["" if one in NOWHERE else one for one in codes]
    else:
        codes = [one if not linked or below < 0 else "" for one, below in
                 zip(reaches.id.tolist(), reaches.downstream.tolist(), strict=True)]
    at = np.array([i for i, code in enumerate(codes) if code], np.int64)
    twice = sorted({code for code in codes if code and codes.count(code) > 1}) if len(set(codes)) < len(codes) else []
    if twice:
        raise DomainError(f"{config.table}: the gauge '{twice[0]}' stands at several catchments, expected at one.")
    names = [columns.text["name"][i] for i in order] if "name" in columns.text else codes
    sites = [
        GaugeSite(codes[i], names[i] or codes[i], float(reaches.lon[i]), float(reaches.lat[i]),
                  float(reaches.upstream_area[i]), {}) for i in at.tolist()
    ]
    nan, zero = np.full(at.size, np.nan), np.zeros(at.size)
    return SnappedGauges(sites, at, reaches.upstream_area[at], zero, zero, zero.astype(bool), {}, nan, nan, zero)
