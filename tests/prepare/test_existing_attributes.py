"""Attributes for a domain that is there: rasters over its cells, tables by id, climate of its forcing."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import yaml
from make_domain import random_fields, write_domain
from make_drainage import read_all

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.prepare.subset import subset

for package in ("rasterio", "pyproj", "pyflwdir", "shapely", "geopandas"):
    pytest.importorskip(package, reason=f"{package} is not installed")

SIZE, ROWS, COLS = 0.05, 4, 6


def configure(path, attributes, **keys):
    content = {"domain": "domain.nc", "forcing": "caller", "start": "2000-01-01", "end": "2000-01-03", **keys}
    content["prepare"] = {"network": {"existing": True}, "attributes": attributes}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def made(tmp_path, write_raster):
    """A basin of rasters with elevation and clay, 4 by 6 cells; the same attributes are to come out again."""
    def raster(name, values, size=SIZE, nodata=-9999.0):
        write_raster(tmp_path / name, values, left=10.0, top=50.0, size=size, crs="EPSG:4326", nodata=nodata)

    codes = np.full((ROWS, COLS), 1, np.uint8)
    codes[:, -1], codes[-1, -1] = 4, 0
    raster("flow.tif", codes, nodata=247)
    fine = np.random.default_rng(1).uniform(0, 500, (ROWS * 4, COLS * 4)).astype(np.float32)
    raster("dem.tif", fine, SIZE / 4)
    raster("clay.tif", fine / 500, SIZE / 4)
    (tmp_path / "gauges.csv").write_text("id,lon,lat\nlow,10.275,49.825\nup,10.275,49.925\n")
    attributes = {"elevation": {"source": "dem.tif"}, "rasters": {"clay": {"source": "clay.tif", "units": "1"}},
                  "upstream": ["clay"]}
    content = {"domain": "domain.nc", "forcing": "caller", "start": "2000-01-01", "end": "2000-01-03", "prepare": {
        "network": {"directions": "flow.tif"}, "gauges": {"table": "gauges.csv"}, "attributes": attributes}}
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(content))
    prepare(tmp_path / "case.yaml")
    return tmp_path, attributes, fine


def test_rasters_over_cells_are_those_of_the_network(made):
    folder, attributes, fine = made
    whole = read_all(folder / "domain.nc")
    expected = fine.reshape(ROWS, 4, COLS, 4).mean(axis=(1, 3)).ravel()
    subset(folder / "case.yaml", "up", folder / "part")
    for name in ("clay.tif", "dem.tif"):
        (folder / "part" / name).symlink_to(folder / name)
    cut = read_all(folder / "part" / "domain.nc")
    notes = prepare(configure(folder / "part" / "case.yaml", attributes)).notes
    assert any("replaced cell_" in note for note in notes)
    again = read_all(folder / "part" / "domain.nc")
    assert list(again) == list(cut)
    place = [whole["cell_id"].tolist().index(one) for one in again["cell_id"].tolist()]
    np.testing.assert_allclose(again["cell_elevation"], expected[place], rtol=1e-4)  # rows differ in area
    np.testing.assert_allclose(again["cell_clay"], cut["cell_clay"], rtol=1e-4)
    for name in ("reach_clay", "reach_upstream_clay", "reach_elevation"):
        np.testing.assert_allclose(again[name], cut[name], rtol=1e-4, err_msg=name)
    for name in ("reach_length", "cell_area", "link_area", "downstream"):
        np.testing.assert_array_equal(again[name], cut[name])
    read_domain(folder / "part" / "domain.nc")


def test_a_hand_made_domain_from_a_table(tmp_path):
    fields = random_fields(3, 12, 8)
    write_domain(tmp_path / "domain.nc", fields)
    cells, reaches = (fields[f"{kind}_id"].values.tolist() for kind in ("cell", "reach"))
    rows = [f"{one},{k},{k * 100}" for k, one in enumerate(cells)][::-1]
    (tmp_path / "a.csv").write_text("\n".join(["divide,clay %,z", *rows, "other,9,9"]))
    table = {"source": "a.csv", "id": "divide", "columns": {"clay": "clay %", "elevation": "z"},
             "units": {"clay": "%", "elevation": "cm"}}
    config = configure(tmp_path / "case.yaml", {"table": table, "upstream": ["clay"]})
    prepare(config)
    found, domain = read_all(tmp_path / "domain.nc"), read_domain(tmp_path / "domain.nc")
    clay = dict(zip(found["cell_id"].tolist(), found["cell_clay"].tolist(), strict=True))
    assert clay == {one: float(k) for k, one in enumerate(cells)}
    np.testing.assert_allclose(found["cell_elevation"], found["cell_clay"])  # 100 cm a step
    links, reach = domain.links, 5
    own = slice(links.first[reach], links.first[reach + 1])
    at = found["reach_id"].tolist().index(domain.reaches.id[reach])
    values = np.array([clay[domain.cells.id[c]] for c in links.cell[own]])
    if values.size:
        mean = (values * links.area[own]).sum() / links.area[own].sum()
        assert found["reach_clay"][at] == pytest.approx(mean, rel=1e-12)
    lines = "\n".join(["id;depth", *(f"{one};{k}" for k, one in enumerate(reaches))])
    (tmp_path / "r.csv").write_text(lines)
    table = {"source": "r.csv", "of": "reach", "columns": {"depth": "depth"}, "units": {"depth": "m"}}
    prepare(configure(tmp_path / "case.yaml", {"table": table}))
    found = read_all(tmp_path / "domain.nc")
    assert found["reach_depth"].tolist() == list(range(12)) and "cell_depth" not in found
    assert "cell_clay" in found
    before = (tmp_path / "domain.nc").read_bytes()
    (tmp_path / "r.csv").write_text("\n".join(lines.split("\n")[:-2]))
    with pytest.raises(DomainError, match="2 of 12 are missing"):
        prepare(config)
    assert (tmp_path / "domain.nc").read_bytes() == before


def test_polygons_of_cells_without_shapes(tmp_path, write_raster):
    """Two triangles of a square: a raster that rises eastward has its mean at a third and two thirds."""
    import geopandas
    import shapely

    (tmp_path / "b.csv").write_text("id,area,lat,lon\na,50,49.9,10.1\nb,50,49.95,10.15\n")
    keys = {"domain": "domain.nc", "forcing": "caller", "start": "2000-01-01", "end": "2000-01-03"}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({**keys, "prepare": {"network": {"table": "b.csv"}}}))
    prepare(tmp_path / "t.yaml")
    write_raster(tmp_path / "x.tif", np.tile(np.arange(100) + 0.5, (100, 1)).astype(np.float32), left=10.0, top=50.1,
                 size=0.002, crs="EPSG:4326", nodata=-1.0)
    rasters = {"rasters": {"x": {"source": "x.tif", "units": "1"}}}
    with pytest.raises(DomainError, match=r"cells have no shapes .*attributes\.polygons"):
        prepare(configure(tmp_path / "case.yaml", rasters))
    corners = [(10, 49.9), (10.2, 50.1)]
    shapes = [shapely.Polygon([(10.2, 49.9), (10, 50.1), corner]) for corner in corners]
    geopandas.GeoDataFrame({"divide_id": ["b", "a"]}, geometry=shapes[::-1], crs="EPSG:4326").iloc[::-1].to_file(
        tmp_path / "p.gpkg")
    prepare(configure(tmp_path / "case.yaml", {**rasters, "polygons": "p.gpkg", "polygon_ids": "divide_id"}))
    found = read_all(tmp_path / "domain.nc")
    values = dict(zip(found["cell_id"].tolist(), found["cell_x"].tolist(), strict=True))
    assert values["a"] == pytest.approx(100 / 3, abs=1.5) and values["b"] == pytest.approx(200 / 3, abs=1.5)
    with pytest.raises(ConfigError, match=r"attributes\.table or polygons without network\.existing"):
        content = yaml.safe_load((tmp_path / "t.yaml").read_text())
        content["prepare"]["attributes"] = {"polygons": "p.gpkg"}
        (tmp_path / "t.yaml").write_text(yaml.safe_dump(content))
        prepare(tmp_path / "t.yaml")


def test_climate_of_a_forcing_that_is_there(tmp_path):
    """A year with rain 2 mm/d at -5 degC on every second day, else dry at 10 degC."""
    fields = random_fields(3, 12, 8)
    write_domain(tmp_path / "domain.nc", fields)
    wet = (np.arange(366) % 2 == 0)[:, None] * np.ones((1, 8))
    with netCDF4.Dataset(tmp_path / "f.nc", "w") as out:
        out.createDimension("time", 366)
        out.createDimension("cell", 8)
        time = out.createVariable("time", "i4", ("time",))
        time.units, time[:] = "days since 2000-01-01", np.arange(366)
        out.createVariable("cell_id", str, ("cell",))[:] = np.array(fields["cell_id"].values[::-1], object)
        for name, values, units in (("precipitation", 2 * wet, "mm d-1"),
                                    ("potential_evapotranspiration", wet, "mm d-1"),
                                    ("air_temperature", 10 - 15 * wet, "degC")):
            variable = out.createVariable(name, "f8", ("time", "cell"))
            variable.units, variable[:] = units, values
    prepare(configure(tmp_path / "case.yaml", {"climate": True}, forcing="f.nc", end="2001-01-01"))
    found = read_all(tmp_path / "domain.nc")
    np.testing.assert_allclose(found["cell_p_mean"], 1.0)
    np.testing.assert_allclose(found["reach_frac_snow"], 1.0)
    np.testing.assert_allclose(found["mean_annual_snowfall"], 365.25)
