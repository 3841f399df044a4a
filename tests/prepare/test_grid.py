"""Grids: places, true areas, coarser grids."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")

import pyproj

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.network.grid import Grid

ARC = Grid(-81.0, 44.0, 1 / 240, 1 / 240, 12, 9, "EPSG:4326")
LAEA = Grid(4_000_000.0, 3_000_000.0, 1000.0, 1000.0, 12, 9, "EPSG:3035")
UTM = Grid(700_000.0, 5_000_000.0, 500.0, 250.0, 12, 9, "EPSG:32631")
LAMBERT = Grid(750_000.0, 6_300_000.0, 1000.0, 1000.0, 12, 9, "EPSG:2154")
FEET = Grid(600_000.0, 900_000.0, 3000.0, 3000.0, 12, 9, "EPSG:2263")
ALL = [ARC, LAEA, UTM, LAMBERT, FEET]


def geodesic_area(grid: Grid, row: int, col: int, n: int = 24) -> float:
    """Area [km2] of the polygon around a pixel, its sides followed in `n` steps, by pyproj's geodesics."""
    step = np.arange(n) / n
    x = np.r_[step, np.ones(n), 1 - step, np.zeros(n)] * grid.dx + grid.left + col * grid.dx
    y = np.r_[np.zeros(n), step, np.ones(n), 1 - step] * -grid.dy + grid.top - row * grid.dy
    crs = pyproj.CRS(grid.crs)
    lon, lat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    return abs(crs.get_geod().polygon_area_perimeter(lon, lat)[0]) / 1e6


@pytest.mark.parametrize("grid", ALL, ids=lambda g: g.crs)
def test_areas_are_true(grid):
    areas = grid.pixel_areas()
    assert areas.shape == grid.shape
    for row, col in ((0, 0), (5, 8), (11, 3)):
        assert areas[row, col] == pytest.approx(geodesic_area(grid, row, col), rel=2e-7)
    np.testing.assert_allclose(grid.row_areas(), areas.mean(axis=1), rtol=1e-12)


def test_areas_of_a_country():
    """The scale of a projection is known at few places; areas are right in between."""
    wide = Grid(0.0, 7_200_000.0, 5000.0, 5000.0, 250, 260, "EPSG:2154")
    areas = wide.pixel_areas()
    for row, col in ((0, 0), (17, 131), (249, 259), (120, 3)):
        assert areas[row, col] == pytest.approx(geodesic_area(wide, row, col), rel=1e-6)


def test_map_areas():
    assert (LAMBERT.map_areas() == 1.0).all()
    assert (LAMBERT.row_areas() != 1.0).all()
    assert (LAEA.row_areas() == 1.0).all()
    assert (UTM.map_areas() == 0.125).all()
    np.testing.assert_array_equal(ARC.map_areas(), ARC.row_areas())


def test_the_globe():
    globe = Grid(-180.0, 90.0, 1.0, 1.0, 180, 360, "EPSG:4326")
    assert globe.pixel_areas().sum() == pytest.approx(510_065_621.7, rel=1e-9)  # WGS 84


@pytest.mark.parametrize("grid", ALL, ids=lambda g: g.crs)
def test_places_and_back(grid):
    row, col = np.array([0, 5, 11]), np.array([8, 0, 3])
    found = grid.find(*grid.lonlat(row, col))
    np.testing.assert_array_equal(found, (row, col))
    lon, lat = grid.corners(row, col)
    assert lon.shape == lat.shape == (3, 4)
    np.testing.assert_array_equal(grid.find(lon.mean(axis=1), lat.mean(axis=1)), (row, col))
    assert (lat[:, :2].max(axis=1) < lat[:, 2:].min(axis=1)).all()  # south, south, north, north
    assert (lon[:, [0, 3]].max(axis=1) < lon[:, [1, 2]].min(axis=1)).all()


def test_off_the_grid():
    row, col = ARC.find(np.array([-90.0, -80.999]), np.array([43.99, 80.0]))
    assert col[0] < 0 and row[1] < 0


def test_coarser_grid_covers_the_finer():
    coarse = ARC.coarsen(5)
    assert (coarse.n_rows, coarse.n_cols) == (3, 2)
    assert (coarse.left, coarse.top) == (ARC.left, ARC.top)
    assert coarse.row_areas()[0] == pytest.approx(5 * ARC.row_areas()[:5].sum(), rel=1e-12)


@pytest.mark.parametrize("way", [(0, 1), (1, 0), (1, 1), (-1, 1), (1, -1)])
def test_step_lengths(way):
    row, col = np.array([5]), np.array([5])
    (lon, lat), (lon2, lat2) = ARC.lonlat(row, col), ARC.lonlat(row + way[0], col + way[1])
    _, _, length = pyproj.Geod(ellps="WGS84").inv(lon, lat, lon2, lat2)
    assert ARC.step_lengths(*way)[5] == pytest.approx(length[0], rel=1e-7)
    assert UTM.step_lengths(*way)[5] == pytest.approx(np.hypot(250.0 * way[0], 500.0 * way[1]))


def test_feet_are_metres():
    assert FEET.step_lengths(0, 1)[0] == pytest.approx(3000.0 * 12 / 39.37)


def test_ids():
    assert ARC.ids(np.array([3, 11]), np.array([0, 8])).tolist() == ["0003_0000", "0011_0008"]
    assert ARC._replace(n_cols=12_000).ids(np.array([3]), np.array([11_999])).tolist() == ["00003_11999"]


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("EPSG:999999", "cannot be understood"), ("EPSG:4978", "neither geographic nor projected"),
        ("EPSG:4807", "counts in grad, expected degrees"),
    ],
)
def test_systems_that_cannot_be_used(crs, message):
    with pytest.raises(DomainError, match=message):
        Grid(0.0, 0.0, 1.0, 1.0, 2, 2, crs).row_areas()


def test_pixels_off_the_projection():
    with pytest.raises(DomainError, match="not defined"):
        LAEA._replace(left=5e7).row_areas()
