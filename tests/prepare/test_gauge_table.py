"""Tables of gauges: headings, units, coordinates, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.config import GaugesConfig
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite, read_gauge_table

CSV = "id,name,lon,lat,area\n0012,Brook,3.5,44.25,30\nB2,,4,45,\n"


def read(folder: Path, text: str, **keys: object) -> list[GaugeSite]:
    (folder / "gauges.csv").write_text(text, encoding="utf-8")
    return read_gauge_table(GaugesConfig(table="gauges.csv", **keys), folder)


def test_plain_table_keeps_leading_zeros_and_knows_no_area(tmp_path: Path) -> None:
    first, second = read(tmp_path, CSV)
    assert first == GaugeSite("0012", "Brook", 3.5, 44.25, 30.0, {})
    assert (second.id, second.name) == ("B2", "B2")
    assert np.isnan(second.area)


@pytest.mark.parametrize("separator", [";", "\t", "  "])
def test_headings_units_and_further_columns(tmp_path: Path, separator: str) -> None:
    text = "# a comment\ncode,x0,y0,ha,dor,basin\nA,3.5,44.25,3000,4.5,Lez\n".replace(",", separator)
    columns = {"id": "code", "lon": "x0", "lat": "y0", "area": "ha", "degree_of_regulation": "dor", "river": "basin"}
    (site,) = read(tmp_path, text, columns=columns, units={"area": "hectare", "degree_of_regulation": "%"})
    assert site.area == pytest.approx(30.0)
    assert site.columns == {"degree_of_regulation": pytest.approx(0.045), "river": "Lez"}


def test_projected_coordinates(tmp_path: Path) -> None:
    pytest.importorskip("pyproj", reason="pyproj is not installed")
    (site,) = read(tmp_path, "id,x,y,area\nA,772330,6274127,169\n", crs="EPSG:2154")
    assert site.lon == pytest.approx(3.888, abs=0.01)
    assert site.lat == pytest.approx(43.56, abs=0.01)
    with pytest.raises(DomainError, match="'EPSG:99999' cannot be understood"):
        read(tmp_path, "id,x,y,area\nA,772330,6274127,169\n", crs="EPSG:99999")
    with pytest.raises(DomainError, match=r"x and y, but their reference system is not named. Set gauges.crs"):
        read(tmp_path, "id,x,y,area\nA,772330,6274127,169\n")


def test_netcdf(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "basins.nc", "w") as dataset:
        dataset.createDimension("basin", 2)
        dataset.createVariable("code", str, ("basin",))[:] = np.array(["A", "B"], object)
        for name, units, values in (
            ("lon", "degrees_east", [3.0, 358.0]), ("lat", "degrees_north", [44.0, 45.0]), ("area", "m2", [3e7, 4e7]),
        ):
            variable = dataset.createVariable(name, "f8", ("basin",))
            variable.units = units
            variable[:] = values
        dataset.createVariable("flag", "i4", ("basin",))[:] = [0, 1]
    config = GaugesConfig(table="basins.nc", columns={"id": "code", "flag": "flag"}, only=["B"])
    assert read_gauge_table(config, tmp_path) == [GaugeSite("B", "B", -2.0, 45.0, 40.0, {"flag": "1"})]
    with pytest.raises(DomainError, match=r"has no variable 'Code' for 'id'. Did you mean 'code'"):
        read_gauge_table(GaugesConfig(table="basins.nc", columns={"id": "Code"}), tmp_path)


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("code,lon,lat\nA,3,44\n", {}, r"no column 'id' for 'id'.*columns: \{id: HEADING\}"),
        (CSV, {"columns": {"id": "code"}}, r"no column 'code' for 'id'.*It has: id, name, lon, lat, area"),
        (CSV, {"units": {"aera": "km2"}}, r"unknown column 'aera'. Did you mean 'area'"),
        (CSV, {"units": {"area": "kg"}}, r"column 'area': units 'kg' cannot be converted to 'km2'"),
        (CSV, {"only": ["B3"]}, r"no gauge 'B3', which gauges.only names. Did you mean 'B2'"),
        ("id,lon,lat\nA,3,44\nA,3,45\n", {}, r"id 'A' is empty or stands twice"),
        ("id,lon,lat\nA,east,44\n", {}, r"column 'lon': 'east' in row 1 is no number"),
        ("id,lon,lat\nA,772330,6274127\n", {}, r"gauge A lies at longitude 772330.*Map projected coordinates"),
        ("id,lon,lat,area\nA,3,44,-1\n", {}, r"area of gauge A is -1 km2"),
        ("id,name\nA,b\n", {}, r"neither columns lon and lat nor x and y"),
        ("id,lon,lat\n", {}, "has no rows"),
        ("", {}, "cannot be read as a table"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, keys: dict, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        read(tmp_path, text, **keys)


def test_absent_table_and_absent_package(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=r"gauges.csv: cannot be read as a table .No such file"):
        read_gauge_table(GaugesConfig(table="gauges.csv"), tmp_path)
    with pytest.raises(ConfigError, match=r"package with the module 'no_such', which is not installed"):
        read_gauge_table(GaugesConfig(table="package:no_such/gauges.csv"), tmp_path)


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson"])
def test_gauges_of_a_vector_file(tmp_path: Path, suffix: str) -> None:
    geopandas = pytest.importorskip("geopandas", reason="geopandas is not installed")
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")

    frame = geopandas.GeoDataFrame(
        {"code": ["0012", "B2"], "ha": [3000.0, np.nan], "number": [7.0, 8.0]},
        geometry=[shapely.Point(3.5, 44.25), shapely.Point(4, 45)], crs="EPSG:4326",
    )
    (frame if suffix == "geojson" else frame.to_crs("EPSG:2154")).to_file(tmp_path / f"g.{suffix}")
    config = GaugesConfig(table=f"g.{suffix}", columns={"id": "code", "area": "ha", "no": "number"},
                          units={"area": "hectare"})
    first, second = read_gauge_table(config, tmp_path)
    assert (first.id, second.id) == ("0012", "B2")
    assert (first.lon, first.lat) == pytest.approx((3.5, 44.25), abs=1e-7)
    assert first.area == pytest.approx(30.0)
    assert np.isnan(second.area)
    assert first.columns == {"no": "7"}
    with pytest.raises(DomainError, match=r"no column 'kode' for 'id'.*Did you mean 'code'.*It has: code, ha, number"):
        read_gauge_table(GaugesConfig(table=f"g.{suffix}", columns={"id": "kode"}), tmp_path)
    areas = frame.set_geometry(shapely.buffer(frame.geometry.values, 0.1), crs="EPSG:4326")
    areas.to_file(tmp_path / f"areas.{suffix}")
    with pytest.raises(DomainError, match="shapes of type Polygon, expected points"):
        read_gauge_table(GaugesConfig(table=f"areas.{suffix}", columns={"id": "code"}), tmp_path)
