"""Longitudes counted from -180, from 0 or on across 180: any input in any way gives the same domain and forcing."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from make_drainage import write_grid

from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.run import prepare

for package in ("rasterio", "pyproj", "pyflwdir", "sklearn", "geopandas"):
    pytest.importorskip(package, reason=f"{package} is not installed")

SIZE, ROWS, COLS = 0.05, 4, 6
PLACES = {"across 180": 179.85, "west": -100.0, "east": 100.0, "across 0": -0.15}


def write_case(folder, write_raster, left, turns, *, holes=1):
    """A basin that drains east, then south, from `left` [degrees]; `turns` of 360 by which each input is shifted."""
    def raster(name, values, nodata=None):
        shift = left + 360.0 * turns.get(name, 0)
        write_raster(folder / f"{name}.tif", values, left=shift, top=50.0, size=SIZE, crs="EPSG:4326", nodata=nodata)

    codes = np.full((ROWS, COLS), 1, np.uint8)
    codes[:, -1], codes[-1, -1] = 4, 0
    raster("flow", codes, 247)
    raster("height", (400 - np.arange(ROWS * COLS).reshape(ROWS, COLS)).astype(np.float32), -9999.0)
    mask = np.ones((ROWS, COLS), np.uint8)
    mask[0, 0] = holes
    raster("mask", mask, 255)
    lon = left + (COLS - 0.5) * SIZE + 360.0 * turns.get("gauge", 0)
    (folder / "gauges.csv").write_text(f"id,lon,lat,area\nG1,{lon:.6f},49.825,\n")
    network = {"directions": "flow.tif", "elevation": "height.tif"}
    if "mask" in turns:
        network["cell_mask"] = "mask.tif"
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "start": "2020-01-01", "end": "2020-01-03",
        "prepare": {
            "network": network, "gauges": {"table": "gauges.csv"},
            "attributes": {"elevation": {"source": "height.tif", "units": "m"}},
            "forcing": {"precipitation": {"source": "p.nc"}, "air_temperature": {"source": "t.nc"}},
            "pet": {"method": "oudin"},
        },
    }
    (folder / "case.yaml").write_text(yaml.safe_dump(content))
    return folder / "case.yaml"


def write_weather(folder, left, turn, way):
    """Rain that grows eastward and 10 degC, on a grid counted like the raster or around the globe."""
    lat = np.arange(50.5, 49.4, -0.25)
    if way == "cut":
        lon = np.arange(np.floor(left) - 1, np.floor(left) + 2.1, 0.25) + 360.0 * turn
    else:
        lon = np.arange(-180.0, 180.0, 0.25) + (180.0 if way == "from 0" else 0.0)
    east = np.mod(lon - left + 10.0, 360.0)
    rain = np.broadcast_to(east, (2, lat.size, lon.size))
    write_grid(folder / "p.nc", "precipitation", rain, lon, lat, units="mm d-1", times=[0, 24])
    write_grid(folder / "t.nc", "air_temperature", np.full(rain.shape, 10.0), lon, lat, units="degC", times=[0, 24])


def read(path):
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {name: v[:] for name, v in dataset.variables.items()}


def assert_same(folder, config, control):
    made = prepare(config).files
    for key, others in (("domain", control[0]), ("forcing", control[1])):
        found = read(made[key])
        assert set(found) == set(others)
        for name, values in found.items():
            if values.dtype == object:
                assert values.tolist() == others[name].tolist()
                continue
            if "lon" in name:
                values = values - 360.0 * np.round((values - others[name]) / 360.0)
            np.testing.assert_allclose(values, others[name], rtol=2e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "turns", [{"flow": 1}, {"flow": -1}, {"gauge": 1}, {"gauge": -1, "flow": 1}, {"height": 1}, {"mask": -1},
              {"mask": 1, "flow": 1}], ids=json.dumps,
)
@pytest.mark.parametrize("way", ["cut", "from -180", "from 0"])
def test_any_count_in_any_input(tmp_path, write_raster, place, turns, way):
    left, folder = PLACES[place], tmp_path / "control"
    folder.mkdir()
    write_weather(folder, left, 0, "cut")
    control = prepare(write_case(folder, write_raster, left, {})).files
    folder = tmp_path / "other"
    folder.mkdir()
    if not -180 <= left + 360.0 * turns.get("gauge", 0) <= 359:
        turns = {**turns, "gauge": 0}  # no table counts so
    write_weather(folder, left, turns.get("flow", 0), way)
    wanted = [read(control[key]) for key in ("domain", "forcing")]
    assert_same(folder, write_case(folder, write_raster, left, turns), wanted)


@pytest.mark.parametrize("turn", [-1, 0, 1])
def test_a_hole_of_a_mask_in_another_count_is_found(tmp_path, write_raster, turn):
    write_weather(tmp_path, 100.0, 0, "cut")
    with pytest.raises(DomainError, match=r"no cell covers 4\.1.% above gauge G1"):  # one pixel of 24
        prepare(write_case(tmp_path, write_raster, 100.0, {"mask": turn}, holes=0))


def test_what_lies_elsewhere_is_refused_with_both_places(tmp_path, write_raster):
    write_weather(tmp_path, 100.0, 0, "cut")
    config = write_case(tmp_path, write_raster, 100.0, {})
    (tmp_path / "gauges.csv").write_text("id,lon,lat,area\nG1,10,49.825,\n")
    with pytest.raises(ConfigError, match=r"covers 100 to 100\.3 E, 49\.8 to 50 N .* G1 lies at 10 E, 49\.825 N"):
        prepare(config)


def test_a_grid_around_the_globe_has_no_seam():
    grid = Grid(-180.0, 90.0, 1.0, 1.0, 180, 360, "EPSG:4326")
    lon = np.array([-180.0, 180.0, 179.5, 359.5, -0.5, -179.5, 180.5, 540.5])
    _, col = grid.find(lon, np.zeros(lon.size))
    assert col.tolist() == [0, 0, 359, 179, 179, 0, 0, 0]


def test_polygons_in_another_count(tmp_path):
    import geopandas
    import shapely
    from make_drainage import make_drainage

    from bmi_cdlm.prepare.gauges.basins import polygon_pairs
    from bmi_cdlm.prepare.weather.weather_config import ForcingSource

    found = []
    for left, shift in ((179.94, 0), (179.94, -360), (-180.06, 0), (-180.06, 360), (10.0, 360)):
        west = 179.94 if left == 179.94 else left
        boxes = [shapely.box(west + shift, 49.88, west + shift + 0.06, 50.0),
                 shapely.box(west + shift + 0.06, 49.88, west + shift + 0.12, 50.0)]
        geopandas.GeoDataFrame({"id": ["a", "b"]}, geometry=boxes, crs="EPSG:4326").to_file(tmp_path / "p.gpkg")
        source = ForcingSource(source="x.nc", method="polygon", polygons="p.gpkg")
        found.append(polygon_pairs(["a", "b"], source, make_drainage(left=left), Path(tmp_path), "x.nc"))
    for pairs in found:
        assert pairs.source.tolist() == [0, 0, 1, 1] * 4
        np.testing.assert_allclose(pairs.share, 1.0)
