"""Weights from weather grids to cells."""

from __future__ import annotations

import numpy as np
import pytest
from make_drainage import make_drainage

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.weather.nearest import nearest_of
from bmi_cdlm.prepare.weather.remap import bilinear, centres, complete, conservative, nearest_pixel

for package in ("scipy", "sklearn", "shapely", "pyproj"):
    pytest.importorskip(package, reason=f"{package} is not installed")

WEATHER = Grid(9.0, 51.0, 0.07, 0.07, 30, 30, "EPSG:4326")


def finish(pairs, grid, cells, valid=None, distance=20.0, **options):
    valid = np.ones(grid.n_rows * grid.n_cols, bool) if valid is None else valid
    return complete(pairs, valid, centres(grid), cells, distance, "file.nc", **options)


def dense(remap, grid):
    full = np.zeros((remap.matrix.shape[0], grid.n_rows * grid.n_cols))
    full[:, remap.sources] = remap.matrix.toarray()
    return full


def brute(grid, cells, n=200):
    """Shares by counting points of equal area."""
    shares = np.zeros((cells.row.size, grid.n_rows * grid.n_cols))
    own = cells.grid
    u = (np.arange(n) + 0.5) / n
    for k in range(cells.row.size):
        lon = own.left + (cells.col[k] + u) * own.dx
        lat = own.top - (cells.row[k] + u) * own.dy
        col = np.floor((lon - grid.left) / grid.dx).astype(int)
        row = np.floor((grid.top - lat) / grid.dy).astype(int)
        np.add.at(shares[k], (row[:, None] * grid.n_cols + col).ravel(), 1 / n**2)
    return shares


def test_overlaps_are_those_of_areas():
    cells = make_drainage().cells
    found = dense(finish(conservative(WEATHER, cells), WEATHER, cells), WEATHER)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(found, brute(WEATHER, cells), atol=0.006)


def test_same_pixels_are_taken_as_they_are():
    cells = make_drainage(left=800_000.0, top=6_500_000.0, size=1000.0, crs="EPSG:2154", factor=1).cells
    for left, top in ((800_000.0, 6_500_000.0), (790_000.0, 6_503_000.0)):
        grid = Grid(left, top, 1000.0, 1000.0, 30, 30, "EPSG:2154")
        remap = finish(conservative(grid, cells), grid, cells)
        assert remap.matrix.data.tolist() == [1.0] * 16
        values = np.random.default_rng(1).random((3, remap.sources.size))
        assert sorted(remap(values).ravel().tolist()) == sorted(values.ravel().tolist())


def test_polygons_and_rectangles_agree():
    """Cells on a grid whose system is spelled otherwise, so that they are clipped as quadrangles."""
    cells = make_drainage().cells
    spelled = WEATHER._replace(crs="OGC:CRS84")
    a = dense(finish(conservative(WEATHER, cells), WEATHER, cells), WEATHER)
    b = dense(finish(conservative(spelled, cells), spelled, cells), spelled)
    np.testing.assert_allclose(a, b, atol=2e-4)  # the sine of latitude against degrees


def test_cells_on_a_map_under_weather_in_degrees():
    cells = make_drainage(left=4_300_000.0, top=3_000_000.0, size=2000.0, crs="EPSG:3035").cells
    grid = Grid(9.0, 51.0, 0.03, 0.03, 100, 100, "EPSG:4326")
    remap = finish(conservative(grid, cells), grid, cells)
    lon, lat = (axis[remap.sources] for axis in centres(grid))
    np.testing.assert_allclose(remap(lon[None])[0], cells.lon, atol=0.003)
    np.testing.assert_allclose(remap(lat[None])[0], cells.lat, atol=0.003)
    assert remap.n_filled == 0


def test_conservative_keeps_the_volume():
    """Cells that tile a block of weather pixels hold the water of these pixels."""
    cells = make_drainage(left=9.7, top=50.3, size=0.07 / 3, n=6, factor=2).cells
    remap = finish(conservative(WEATHER, cells), WEATHER, cells)
    rain = np.random.default_rng(3).random((1, remap.sources.size))
    area = WEATHER.row_areas()[remap.sources // WEATHER.n_cols]
    assert (remap(rain)[0] * cells.area).sum() == pytest.approx((rain[0] * area).sum(), rel=1e-5)


def test_bilinear_is_exact_on_a_plane():
    cells = make_drainage().cells
    remap = finish(bilinear(WEATHER, cells), WEATHER, cells, whole=True)
    lon, lat = (axis[remap.sources] for axis in centres(WEATHER))
    np.testing.assert_allclose(remap((2.0 * lon - 3.0 * lat)[None])[0], 2.0 * cells.lon - 3.0 * cells.lat, rtol=1e-12)


def test_bilinear_beside_the_sea_takes_the_nearest():
    cells = make_drainage().cells
    pairs = bilinear(WEATHER, cells)
    valid = np.ones(900, bool)
    valid[pairs.source[pairs.cell == 0][0]] = False
    remap = finish(pairs, WEATHER, cells, valid, whole=True)
    assert remap.n_filled > 0
    assert np.count_nonzero(dense(remap, WEATHER)[0]) == 1


def test_longitudes_from_0_to_360_and_across_the_seam():
    cells = make_drainage(left=-0.06, top=50.0).cells
    globe = Grid(0.0, 90.0, 0.25, 0.25, 720, 1440, "EPSG:4326")
    other = Grid(-180.0, 90.0, 0.25, 0.25, 720, 1440, "EPSG:4326")
    for make in (conservative, bilinear, nearest_pixel):
        a, b = make(globe, cells), make(other, cells)
        turned = (a.source // 1440) * 1440 + (a.source % 1440 + 720) % 1440
        order, same = np.lexsort((turned, a.cell)), np.lexsort((b.source, b.cell))
        np.testing.assert_array_equal(turned[order], b.source[same])
        np.testing.assert_allclose(a.share[order], b.share[same], atol=1e-9)
    assert conservative(globe, cells).source.max() % 1440 > 1000
    regional = Grid(359.0, 51.0, 0.25, 0.25, 8, 8, "EPSG:4326")
    found = (conservative(regional, cells), conservative(other, cells))
    shares = [np.bincount(pairs.cell, pairs.share) for pairs in found]
    np.testing.assert_allclose(*shares, atol=1e-12)


def test_cells_without_valid_values_take_the_nearest_within_reach():
    cells = make_drainage().cells
    valid = np.ones(900, bool)
    hidden = np.unique(conservative(WEATHER, cells).source)
    valid[hidden] = False
    remap = finish(conservative(WEATHER, cells), WEATHER, cells, valid)
    assert remap.n_filled == 16
    assert not np.isin(hidden, remap.sources).any()
    with pytest.raises(ForcingError, match=r"file\.nc: does not reach 16 of 16 cells.*expected at most 1 km"):
        finish(conservative(WEATHER, cells), WEATHER, cells, valid, distance=1.0)


def test_weather_of_another_region_is_refused():
    cells = make_drainage().cells
    far = WEATHER._replace(left=30.0)
    with pytest.raises(ForcingError, match="does not reach 16 of 16 cells"):
        finish(conservative(far, cells), far, cells)


def test_partly_valid_cells_share_out_among_valid_pixels():
    cells = make_drainage().cells
    pairs = conservative(WEATHER, cells)
    mixed = int(np.argmax(np.bincount(pairs.cell)))
    mine = pairs.source[pairs.cell == mixed]
    valid = np.ones(900, bool)
    valid[mine[0]] = False
    shares = dense(finish(pairs, WEATHER, cells, valid), WEATHER)[mixed]
    assert shares[mine[0]] == 0.0
    assert shares.sum() == pytest.approx(1.0, rel=1e-14)


def test_nearest_on_the_globe():
    index, away = nearest_of((np.array([179.9, 0.0]), np.array([0.0, 0.0])), (np.array([-179.9]), np.array([0.0])))
    assert index.tolist() == [0]
    assert away[0] == pytest.approx(0.2 * np.pi / 180 * 6371.0072, rel=1e-9)
