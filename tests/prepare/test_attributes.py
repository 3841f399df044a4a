"""Attributes: area-weighted means of any raster on cells and catchments."""

from __future__ import annotations

import numpy as np
import pytest
from make_drainage import make_drainage, write_grid

from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.network.attributes import add_climate, cell_and_reach_attributes, upstream_mean
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig

pytest.importorskip("rasterio", reason="rasterio is not installed")

LEFT, TOP, SIZE = 10.0, 50.0, 0.01  # of the made-up drainage: 12 by 12 pixels, cells of 3 by 3


@pytest.fixture
def write_degrees(write_raster):
    def write(path, values, *, size=SIZE, left=LEFT, top=TOP, crs="EPSG:4326", nodata=-99.0):
        return write_raster(path, values, left=left, top=top, size=size, crs=crs, nodata=nodata)

    return write


def attributes(tmp_path, drainage=None, **config):
    keys, drainage = AttributesConfig(**config), drainage or make_drainage()
    table = cell_and_reach_attributes(keys, drainage, tmp_path)
    add_climate(table, keys, drainage, None)
    return table


def one(tmp_path, name="clay", drainage=None, **raster):
    table = attributes(tmp_path, drainage, rasters={name: {"source": "clay.tif", "units": "1", **raster}})
    return table.cell[name].values, table.reach[name].values


def test_mean_on_the_same_pixels_is_weighted_by_area(tmp_path, write_degrees):
    values = np.arange(144.0).reshape(12, 12)
    write_degrees(tmp_path / "clay.tif", values)
    drainage = make_drainage(shift=1)
    cell, reach = one(tmp_path, drainage=drainage)
    area = drainage.catchments.area
    expected = (values[3:6, 6:9] * area[3:6, None]).sum() / (3 * area[3:6].sum())
    assert cell[1 * 4 + 2] == pytest.approx(expected, rel=1e-14)
    inside = drainage.catchments.reach == 2 * 4 + 1
    expected = (values * inside * area[:, None]).sum() / (inside * area[:, None]).sum()
    assert reach[2 * 4 + 1] == pytest.approx(expected, rel=1e-14)


def test_finer_raster_is_averaged(tmp_path, write_degrees):
    rng = np.random.default_rng(1)
    values = rng.random((60, 60))
    write_degrees(tmp_path / "clay.tif", values, size=SIZE / 5)
    cell, _ = one(tmp_path)
    expected = values.reshape(4, 15, 4, 15).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(cell, expected, rtol=2e-5)  # rows differ in area by 2e-4


def test_coarser_raster_is_interpolated(tmp_path, write_degrees):
    x = LEFT - 0.1 + (np.arange(8) + 0.5) * 0.05
    y = TOP + 0.1 - (np.arange(8) + 0.5) * 0.05
    write_degrees(tmp_path / "clay.tif", 3.0 * x + 2.0 * y[:, None], size=0.05, left=LEFT - 0.1, top=TOP + 0.1)
    drainage = make_drainage()
    cell, _ = one(tmp_path)
    np.testing.assert_allclose(cell, 3.0 * drainage.cells.lon + 2.0 * drainage.cells.lat, rtol=1e-6)
    nearest, _ = one(tmp_path, resampling="nearest")
    assert np.unique(np.round(nearest, 9)).size < np.unique(np.round(cell, 9)).size


def test_raster_in_another_system(tmp_path, write_raster):
    pyproj = pytest.importorskip("pyproj")
    to_map = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)
    drainage = make_drainage()
    x, y = to_map.transform(drainage.cells.lon, drainage.cells.lat)
    left, top, size = np.floor(x.min()) - 20_000, np.ceil(y.max()) + 20_000, 250.0
    n = int((x.max() - x.min() + 40_000) / size)
    across = left + (np.arange(n) + 0.5) * size
    down = top - (np.arange(n) + 0.5) * size
    plane = across + 2.0 * down[:, None] - 1e6
    write_raster(tmp_path / "clay.tif", plane, left=left, top=top, size=size, crs="EPSG:3035")
    cell, _ = one(tmp_path)
    np.testing.assert_allclose(cell, x + 2.0 * y - 1e6, atol=100.0)  # metres: less than half a pixel


@pytest.mark.parametrize("turn", [0.0, 360.0])
@pytest.mark.parametrize("ascending", [False, True])
def test_variable_of_a_netcdf(tmp_path, turn, ascending):
    lon, lat = LEFT + turn + (np.arange(12) + 0.5) * SIZE, TOP - (np.arange(12) + 0.5) * SIZE
    values = np.arange(144.0).reshape(12, 12)
    order = slice(None, None, -1) if ascending else slice(None)
    write_grid(tmp_path / "soil.nc", "clay", values[order], lon, lat[order], units="percent")
    table = attributes(tmp_path, rasters={"clay": {"source": "soil.nc:clay"}})
    assert table.cell["clay"].units == "percent"
    assert table.cell["clay"].values[0] == pytest.approx(values[:3, :3].mean(), rel=1e-3)
    assert table.cell["clay"].values[-1] == pytest.approx(values[9:, 9:].mean(), rel=1e-3)


def test_globe_from_0_to_360_across_greenwich(tmp_path):
    drainage = make_drainage(left=-0.06)
    lon, lat = np.arange(0.5, 360.0), np.arange(30.5, 60.0)
    values = np.broadcast_to(np.where(lon < 180.0, lon, lon - 360.0), (lat.size, lon.size))
    write_grid(tmp_path / "soil.nc", "clay", values, lon, lat)
    table = attributes(tmp_path, drainage, rasters={"clay": {"source": "soil.nc:clay"}})
    np.testing.assert_allclose(table.cell["clay"].values, drainage.cells.lon, atol=1e-6)


def test_classes_become_fractions(tmp_path, write_degrees):
    values = np.zeros((24, 24), np.uint8)
    values[:, ::2] = 4
    values[0:6, 0:6] = 5
    write_degrees(tmp_path / "cover.tif", values, size=SIZE / 2, nodata=255)
    table = attributes(tmp_path, rasters={"cover": {"source": "cover.tif", "classes": {"forest": [4, 5], "crop": [0]}}})
    assert table.cell["forest"].units == "1"
    assert table.cell["forest"].values[0] == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(table.cell["forest"].values[1:], 0.5, atol=1e-6)
    np.testing.assert_allclose(table.cell["forest"].values + table.cell["crop"].values, 1.0, atol=1e-9)


def test_classes_that_no_pixel_has(tmp_path, write_degrees, caplog):
    write_degrees(tmp_path / "cover.tif", np.full((12, 12), 4, np.uint8), nodata=255)
    source = {"source": "cover.tif"}
    with pytest.raises(DomainError, match=r"cover\.tif: no pixel of the domain has any of the classes 7, 9"):
        attributes(tmp_path, rasters={"cover": {**source, "classes": {"forest": [9], "crop": [7]}}})
    table = attributes(tmp_path, rasters={"cover": {**source, "classes": {"forest": [4], "crop": [7]}}})
    assert not table.cell["crop"].values.any()
    assert "no pixel of the domain is of crop" in caplog.text


def test_nodata_is_left_out_of_the_mean_and_named_where_nothing_is_left(tmp_path, write_degrees):
    values = np.full((12, 12), 2.0)
    values[:3, :3] = -99.0
    values[4, 4] = -99.0
    write_degrees(tmp_path / "clay.tif", values)
    with pytest.raises(DomainError, match=r"no value of 'clay' in 1 of 16 cells, the first cell 0000_0000 at 10\.01"):
        one(tmp_path)
    cell, reach = one(tmp_path, fill=7.0)
    assert cell[0] == reach[0] == 7.0
    assert cell[5] == pytest.approx(2.0, rel=1e-15)
    values[0:3, 3:6], values[3:6, 0:3] = 3.0, 3.0
    write_degrees(tmp_path / "clay.tif", values)
    assert one(tmp_path, fill="nearest")[0][0] == pytest.approx(3.0, rel=1e-15)


def test_values_out_of_range_are_nodata(tmp_path, write_degrees):
    values = np.full((12, 12), 2.0)
    values[0, 0] = 9999.0
    write_degrees(tmp_path / "clay.tif", values)
    assert one(tmp_path, valid_range=(0, 100))[0][0] == pytest.approx(2.0, rel=1e-15)


def test_raster_elsewhere_is_refused(tmp_path, write_degrees):
    write_degrees(tmp_path / "clay.tif", np.ones((12, 12)), left=100.0)
    with pytest.raises(DomainError, match=r"clay\.tif: does not overlap with the domain\. It covers 100 to 100\.12"):
        one(tmp_path)


def test_missing_reference_system_and_units(tmp_path, write_degrees):
    write_degrees(tmp_path / "clay.tif", np.ones((12, 12)), crs=None)
    with pytest.raises(DomainError, match=r"has no reference system.*Set `crs`"):
        one(tmp_path)
    assert one(tmp_path, crs="EPSG:4326")[0][0] == 1.0
    write_degrees(tmp_path / "clay.tif", np.ones((12, 12)))
    with pytest.raises(DomainError, match="has no units"):
        one(tmp_path, units=None)


@pytest.mark.parametrize(("name", "match"), [("slope", "another meaning"), ("clay content", "plain word")])
def test_names(tmp_path, write_degrees, name, match):
    write_degrees(tmp_path / "clay.tif", np.ones((12, 12)))
    with pytest.raises(ConfigError, match=match):
        one(tmp_path, name)


def test_terrain_of_a_plane(tmp_path, write_degrees):
    drainage = make_drainage()
    grid = drainage.catchments.grid
    # 30 m per pixel to the east and 40 m to the south, going on beyond the domain
    j, i = np.meshgrid(np.arange(-2, 14), np.arange(-2, 14))
    write_degrees(tmp_path / "dem.tif", 500.0 + 30.0 * j + 40.0 * i, left=LEFT - 2 * SIZE, top=TOP + 2 * SIZE)
    table = attributes(tmp_path, drainage, elevation={"source": "dem.tif", "units": "m"})
    assert table.cell["elevation"].values[0] == pytest.approx(570.0, rel=1e-4)
    inner = [5, 6, 9, 10]  # cells that do not touch the edge of the grid
    across, down = grid.step_lengths(0, 1).mean(), grid.step_lengths(1, 0).mean()
    np.testing.assert_allclose(table.cell["terrain_slope"].values[inner], np.hypot(30 / across, 40 / down), rtol=1e-3)


def test_upstream_means(tmp_path, write_degrees):
    values = np.repeat(np.arange(4.0), 3)[:, None] * np.ones(12)
    write_degrees(tmp_path / "clay.tif", values)
    drainage = make_drainage()
    table = attributes(tmp_path, drainage, rasters={"clay": {"source": "clay.tif", "units": "1"}}, upstream=["clay"])
    area = drainage.reaches.area[:4]
    expected = np.cumsum(area * np.arange(4.0)) / np.cumsum(area)
    np.testing.assert_allclose(table.reach["upstream_clay"].values[:4], expected, rtol=1e-12)
    with pytest.raises(ConfigError, match=r"no attribute 'clax' of reaches.*'clay'"):
        attributes(tmp_path, rasters={"clay": {"source": "clay.tif", "units": "1"}}, upstream=["clax"])


def test_reach_without_catchment_takes_the_value_below(tmp_path, write_degrees):
    write_degrees(tmp_path / "clay.tif", np.repeat(np.arange(4.0), 3)[:, None] * np.ones(12))
    drainage = make_drainage()
    area = drainage.reaches.area.copy()
    area[1] = area[3] = 0.0
    gone = np.isin(drainage.catchments.reach, (1, 3))
    catchments = drainage.catchments._replace(reach=np.where(gone, -1, drainage.catchments.reach))
    drainage = drainage._replace(catchments=catchments, reaches=drainage.reaches._replace(area=area))
    _, reach = one(tmp_path, drainage=drainage)
    np.testing.assert_allclose(reach[:4], [0.0, 2.0, 2.0, 2.0], rtol=1e-14)  # 3 is an outlet: from above
    assert upstream_mean(reach, drainage.reaches)[1] == 0.0


def test_blocks_of_rows_make_no_difference(tmp_path, write_degrees, monkeypatch):
    rng = np.random.default_rng(2)
    write_degrees(tmp_path / "clay.tif", rng.random((30, 30)), size=0.0042, left=LEFT - 0.001, top=TOP + 0.001)
    whole = attributes(tmp_path, rasters={"clay": {"source": "clay.tif", "units": "1"}},
                       elevation={"source": "clay.tif", "units": "m"})
    monkeypatch.setattr("bmi_cdlm.prepare.network.resample.BLOCK_PIXELS", 30)
    cut = attributes(tmp_path, rasters={"clay": {"source": "clay.tif", "units": "1"}},
                     elevation={"source": "clay.tif", "units": "m"})
    for name, found in whole.cell.items():
        np.testing.assert_allclose(cut.cell[name].values, found.values, rtol=1e-9)
        np.testing.assert_allclose(cut.reach[name].values, whole.reach[name].values, rtol=1e-9)
