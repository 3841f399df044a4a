"""Rasters are read where the grid says, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.errors import DomainError, ForcingError
from bmi_cdlm.prepare.rasters import Grid, Pixels, centres, corners, read_grid, read_pixels

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pyproj", reason="pyproj is not installed")

GRID = Grid(800_000.0, 6_500_000.0, 1000.0, 4, 5, "EPSG:2154")
PIXELS = Pixels(GRID, np.array([1, 2, 2]), np.array([3, 1, 2]))
VALUES = np.arange(20, dtype=np.float32).reshape(4, 5)


def test_grid_and_nodata(tmp_path, write_raster):
    values = VALUES.copy()
    values[0, 0] = -99.0
    grid, read = read_grid(write_raster(tmp_path / "a.tif", values))
    assert grid == GRID
    assert grid.pixel_area == 1.0
    assert np.isnan(read[0, 0])
    np.testing.assert_array_equal(read.ravel()[1:], values.ravel()[1:])


@pytest.mark.parametrize(("dtype", "nodata"), [("int32", 65535), ("float32", -3.4e38), ("float64", -99.0)])
def test_nodata_of_every_type(tmp_path, write_raster, dtype, nodata):
    values = VALUES.astype(dtype)
    values[1, 3] = nodata
    read = read_pixels(write_raster(tmp_path / "a.tif", values, nodata=nodata), PIXELS, ForcingError)
    np.testing.assert_array_equal(read, [np.nan, 11.0, 12.0])


def test_raster_with_another_corner(tmp_path, write_raster):
    larger = np.pad(VALUES, ((2, 0), (1, 3)))
    path = write_raster(tmp_path / "a.tif", larger, left=799_000.0, top=6_502_000.0)
    assert read_pixels(path, PIXELS, ForcingError).tolist() == [8.0, 11.0, 12.0]
    smaller = write_raster(tmp_path / "b.tif", VALUES[1:3, 1:4], left=801_000.0, top=6_499_000.0)
    assert read_pixels(smaller, PIXELS, ForcingError).tolist() == [8.0, 11.0, 12.0]


def test_raster_without_a_system_is_taken_as_the_grids(tmp_path, write_raster):
    path = write_raster(tmp_path / "a.tif", VALUES, crs=None)
    assert read_pixels(path, PIXELS, ForcingError).tolist() == [8.0, 11.0, 12.0]
    with pytest.raises(DomainError, match="reference system None, expected square"):
        read_grid(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"left": 800_300.0}, r"corner at .800300, 6500000., expected 1000 m aligned.*Resample"),
        ({"size": 500.0}, "pixels of 500 by 500 m"),
        ({"crs": "EPSG:32631"}, r"reference system EPSG:32631, expected EPSG:2154. Reproject"),
        ({"left": 802_000.0}, r"expected rows 1 to 2 and columns -1 to 1"),
        ({"top": 6_502_000.0}, r"expected rows 3 to 4 and columns 1 to 3"),
    ],
)
def test_raster_off_the_grid_is_refused(tmp_path, write_raster, changes, message):
    path = write_raster(tmp_path / "a.tif", VALUES, **changes)
    with pytest.raises(ForcingError, match=message):
        read_pixels(path, PIXELS, ForcingError)


def test_what_is_no_raster_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("not a raster")
    with pytest.raises(ForcingError, match=r"a\.tif: cannot be read as a raster"):
        read_pixels(path, PIXELS, ForcingError)


def test_ids_and_places():
    assert PIXELS.ids == ["0001_0003", "0002_0001", "0002_0002"]
    lon, lat = centres(PIXELS)
    corner_lon, corner_lat = corners(PIXELS)
    assert corner_lon.shape == corner_lat.shape == (3, 4)
    # Near the central meridian of Lambert-93, 3 E, pixels stand almost straight on the graticule.
    assert (corner_lon[:, [0, 3]] < lon[:, None]).all() and (corner_lon[:, [1, 2]] > lon[:, None]).all()
    assert (corner_lat[:, [0, 1]] < lat[:, None]).all() and (corner_lat[:, [2, 3]] > lat[:, None]).all()
    np.testing.assert_allclose(corner_lon.mean(axis=1), lon, atol=1e-6)
    np.testing.assert_allclose(corner_lat.mean(axis=1), lat, atol=1e-6)
    # The pixel right of another starts where that one ends.
    np.testing.assert_array_equal(corner_lon[1, [1, 2]], corner_lon[2, [0, 3]])
