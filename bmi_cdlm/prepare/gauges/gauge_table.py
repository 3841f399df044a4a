"""The table of gauges: where they are, what they are said to drain, and what is known of their regulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import DomainError, nearest
from bmi_cdlm.prepare.gauges.tables import Wanted, read_table
from bmi_cdlm.prepare.network.grid import check_system
from bmi_cdlm.prepare.packages import load, resolve

if TYPE_CHECKING:
    from bmi_cdlm.prepare.config import GaugesConfig

WANTED = {
    "id": Wanted(text=True, required=True), "name": Wanted(text=True),
    "lon": Wanted(units="degrees"), "lat": Wanted(units="degrees"), "x": Wanted(units="m"), "y": Wanted(units="m"),
    "area": Wanted(units="km2"), "delineated_area": Wanted(units="km2"),
    "degree_of_regulation": Wanted(), "withdrawal": Wanted(),
}
GEOGRAPHIC = "EPSG:4326"


class GaugeSite(NamedTuple):
    """A gauge of the table.

    lon, lat [degrees, WGS 84]; area, official [km2], NaN where unknown; columns : the other columns of the table,
    among them delineated_area [km2], degree_of_regulation and withdrawal (shares of the mean annual flow [1]).
    """

    id: str
    name: str
    lon: float
    lat: float
    area: float
    columns: dict[str, float | str]

    @property
    def sought_area(self) -> float:
        """Area by which the river is found [km2]: that of an earlier delineation, else the official one."""
        delineated = self.columns.get("delineated_area", np.nan)
        return self.area if isinstance(delineated, str) or np.isnan(delineated) else delineated


def read_gauge_table(config: GaugesConfig, folder: Path) -> list[GaugeSite]:
    """Read the gauges that the configuration asks for.

    Parameters
    ----------
    config : GaugesConfig
    folder : Path
        Where relative paths begin.

    Raises
    ------
    DomainError
        Unreadable table, missing columns, an id twice or absent, coordinates or areas without a meaning.
    """
    path = resolve(config.table, folder)
    table = read_table(path, config.columns, WANTED, config.units, DomainError)
    ids = table["id"].tolist()
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice or "" in ids:
        first = twice[0] if twice else ""
        raise DomainError(f"{path}: the id '{first}' is empty or stands twice. Expected unique ids.")
    lon, lat = _positions(table, config.crs, path)
    area = table.get("area", np.full(len(ids), np.nan))
    bad = np.flatnonzero(~(area > 0) & ~np.isnan(area))
    if bad.size:
        raise DomainError(
            f"{path}: the area of gauge {ids[bad[0]]} is {area[bad[0]]:g} km2, expected above 0, or nothing where it "
            "is unknown. Correct the table."
        )
    others = [name for name in table if name not in ("id", "name", "lon", "lat", "x", "y", "area")]
    names = table.get("name", table["id"])
    sites = [
        GaugeSite(
            ids[i], str(names[i]) or ids[i], float(lon[i]), float(lat[i]), float(area[i]),
            {name: table[name][i].item() for name in others},
        )
        for i in range(len(ids))
    ]
    return sites if config.only is None else _choose(sites, config.only, path)


def _positions(table: dict[str, np.ndarray], crs: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude [degrees] of every row."""
    if "lon" in table and "lat" in table:
        lon, lat = table["lon"], table["lat"]
    elif "x" in table and "y" in table:
        if crs == GEOGRAPHIC:
            raise DomainError(
                f"{path}: has x and y, but their reference system is not named. Set gauges.crs, such as EPSG:2154, or "
                "give lon and lat."
            )
        to_degrees = load("pyproj").Transformer.from_crs(check_system(crs), GEOGRAPHIC, always_xy=True)
        lon, lat = to_degrees.transform(table["x"], table["y"])
    else:
        raise DomainError(
            f"{path}: has neither columns lon and lat nor x and y, expected one of the pairs. Name the table's own "
            "with gauges.columns: {lon: HEADING, lat: HEADING}."
        )
    lon = np.where((lon > 180) & (lon <= 360), lon - 360, lon)
    bad = np.flatnonzero(~((np.abs(lon) <= 180) & (np.abs(lat) <= 90)))
    if bad.size:
        i = int(bad[0])
        raise DomainError(
            f"{path}: gauge {table['id'][i]} lies at longitude {lon[i]:g}, latitude {lat[i]:g} ({bad.size} such "
            "gauges), expected degrees. Map projected coordinates to x and y and set gauges.crs, or correct the table."
        )
    return lon, lat


def _choose(sites: list[GaugeSite], only: tuple[str, ...], path: Path) -> list[GaugeSite]:
    known = {site.id: site for site in sites}
    for one in only:
        if one not in known:
            raise DomainError(f"{path}: there is no gauge '{one}', which gauges.only names.{nearest(one, known)}")
    return [known[one] for one in only]
