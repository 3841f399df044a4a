"""Gauges find their pixel and their reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.config import GaugesConfig
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.snapping import Rivers, snap_gauges, snap_pixels
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.grid import Grid

GRID = Grid(700_000.0, 6_503_000.0, 1000.0, 1000.0, 3, 4, "EPSG:2154")
# A river along the middle row; its last pixel is off the land.
AREA = np.array([[1, 1, 1, np.nan], [3, 6, 9, np.nan], [1, 1, 1, np.nan]], float)


def site(x: float, y: float, area: float, name: str = "A1") -> GaugeSite:
    from pyproj import Transformer

    lon, lat = Transformer.from_crs("EPSG:2154", "EPSG:4326", always_xy=True).transform(700_000.0 + x, 6_500_000.0 + y)
    return GaugeSite(name, name, lon, lat, area, {})


def place(x: float, y: float, area: float, radius: float = 1100.0) -> tuple[int, int]:
    found = snap_pixels([site(x, y, area)], GRID, AREA, radius)
    return int(found.row[0]), int(found.col[0])


def test_gauge_beside_the_river_moves_onto_it() -> None:
    assert place(1500, 2400, 6.0) == (1, 1)
    found = snap_pixels([site(1500, 2400, 5.0)], GRID, AREA, 1000.0)
    assert found.area.tolist() == [6.0]
    assert found.area_error[0] == pytest.approx(0.2)
    assert found.distance[0] == pytest.approx(900.0, rel=2e-3)


def test_equal_fit_takes_the_nearer_pixel() -> None:
    assert place(1900, 2500, 1.0) == (0, 1)
    assert place(2100, 2500, 1.0) == (0, 2)


def test_a_little_better_fit_far_away_does_not_beat_the_pixel_itself() -> None:
    area = AREA.copy()
    area[1, 2] = 6.05
    found = snap_pixels([site(1500, 1500, 6.05)], GRID, area, 1100.0)
    assert (found.row[0], found.col[0]) == (1, 1)


def test_off_the_land_still_finds_the_mouth_and_beyond_the_radius_nothing() -> None:
    assert place(3200, 1500, 9.0) == (1, 2)
    assert place(9500, 1500, 9.0) == (-1, -1)
    assert place(3900, 1500, 9.0, radius=100.0) == (-1, -1)


def test_unknown_area_takes_the_pixel_itself_and_tells_of_the_largest_river() -> None:
    found = snap_pixels([site(1500, 2400, math.nan)], GRID, AREA, 1500.0)
    assert (found.row[0], found.col[0], found.area[0]) == (0, 1, 1.0)
    assert found.other_area.tolist() == [9.0]
    assert found.other_distance[0] == pytest.approx(math.hypot(1000, 900), rel=2e-3)
    assert math.isnan(found.area_error[0])


def test_unknown_area_takes_the_largest_river_where_a_key_says_so_and_tells_of_the_own() -> None:
    found = snap_pixels([site(1500, 2400, math.nan)], GRID, AREA, 1500.0, Rivers(without_area="largest"))
    assert (found.row[0], found.col[0], found.area[0]) == (1, 2, 9.0)
    assert found.other_area.tolist() == [1.0]


def test_unknown_area_off_the_land_takes_the_nearest_pixel() -> None:
    assert place(3200, 1500, math.nan) == (1, 2)
    assert place(3200, 2600, math.nan) == (0, 2)


def test_unknown_area_beside_the_river_follows_the_water_to_the_first_river() -> None:
    below = np.array([5, 5, 6, 3, 5, 6, 6, 7, 5, 5, 6, 11])  # to the middle row, then east
    near = site(500, 2400, math.nan)  # pixel 0, one of 1 km2
    def of(radius: float, channel: float) -> tuple[int, int, float]:
        found = snap_pixels([near], GRID, AREA, radius, Rivers(below, channel))
        return int(found.row[0]), int(found.col[0]), float(found.area[0])

    assert of(3000.0, 0.0) == (0, 0, 1.0)
    assert of(3000.0, 1.5) == (1, 1, 6.0)
    assert of(3000.0, 7.0) == (1, 2, 9.0)
    assert of(1400.0, 7.0) == (0, 0, 1.0), "the river is beyond the radius"
    assert of(3000.0, 99.0) == (0, 0, 1.0), "there is no such river"


def test_a_known_area_has_no_other_candidate() -> None:
    found = snap_pixels([site(1500, 2400, 6.0)], GRID, AREA, 1500.0)
    assert np.isnan([found.other_area[0], found.other_distance[0]]).all()


def test_an_earlier_delineation_says_which_river() -> None:
    gauge = site(1500, 2400, math.nan)._replace(columns={"delineated_area": 9.0})
    found = snap_pixels([gauge], GRID, AREA, 1500.0)
    assert (found.row[0], found.col[0]) == (1, 2)
    assert np.isnan(found.other_area[0])


def test_degrees_are_measured_in_metres() -> None:
    grid = Grid(3.0, 60.03, 0.01, 0.01, 6, 6, "EPSG:4326")  # pixels of 557 by 1,114 m
    area = np.ones((6, 6))
    area[3, 4] = area[5, 3] = 50.0  # 557 m east, 2,228 m south of the gauge's pixel
    gauge = GaugeSite("B", "B", 3.035, 59.995, 50.0, {})
    found = snap_pixels([gauge], grid, area, 600.0)
    assert (found.row[0], found.col[0]) == (3, 4)
    area[3, 4] = 1.0
    assert snap_pixels([gauge], grid, area, 2200.0).area[0] == 1.0
    assert snap_pixels([gauge], grid, area, 2300.0).area[0] == 50.0


# ---- reaches: a tributary (0) and a main stem (1) join in reach 2 --------------------------------------------


@pytest.fixture
def drainage() -> Drainage:
    reach = np.array([[0, 0, 2, -1], [1, 1, 2, -1], [1, 1, 2, -1]], np.int32)
    row, col = np.array([0, 1, 1]), np.array([1, 1, 2])
    lon, lat = GRID.lonlat(row, col)
    ids = np.array(["r0", "r1", "r2"])
    reaches = Reaches(
        ids, np.array([2, 2, -1]), np.full(3, 1000.0), np.zeros(3), np.array([2.0, 4.0, 3.0]),
        np.array([2.0, 4.0, 9.0]), lon, lat, np.array([1, 1, 2]), np.zeros(3),
    )
    zero = np.zeros(1)
    cells = Cells(np.array(["c"]), zero, zero, zero, np.zeros((1, 4)), np.zeros((1, 4)), GRID, zero, zero)
    return Drainage(
        Catchments(GRID, reach, reach, np.ones(3)), reaches, cells,
        Links(np.zeros(3), np.arange(3), reaches.area),
    )


def test_gauge_below_a_confluence_finds_the_tributary_that_it_measures(drainage: Drainage) -> None:
    config = GaugesConfig(table="t", radius=600.0)
    found = snap_gauges([site(2400, 1500, 4.1, "main"), site(2400, 1500, 9.0, "all")], drainage, config)
    assert found.reach.tolist() == [1, 2]
    assert found.area.tolist() == [4.0, 9.0]
    np.testing.assert_allclose(found.area_error, [4 / 4.1 - 1, 0.0])
    assert found.distance[1] == pytest.approx(100.0, rel=1e-2)
    assert not found.rejected.any()


def test_rejected_gauges_are_refused_dropped_or_kept(drainage: Drainage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sites = [site(2400, 1500, 9.0, "good"), site(2400, 1500, 30.0, "bad"), site(9900, 1500, 9.0, "far")]
    with pytest.raises(DomainError, match=r"2 find no.*bad drains 9 km2, officially 30 km2 .70 % off.*; far no reach"):
        snap_gauges(sites, drainage, GaugesConfig(table="t", radius=600.0))
    dropped = snap_gauges(sites, drainage, GaugesConfig(table="t", radius=600.0, rejected="drop"))
    assert [s.id for s in dropped.sites] == ["good"]
    assert set(dropped.dropped) == {"bad", "far"}
    kept = snap_gauges(sites[:2], drainage, GaugesConfig(table="t", radius=600.0, rejected="keep"))
    assert [s.id for s in kept.sites] == ["good", "bad"]
    assert kept.rejected.tolist() == [False, True]
    with pytest.raises(DomainError, match=r"1 find no reach.*: far no reach within the radius"):
        snap_gauges(sites, drainage, GaugesConfig(table="t", radius=600.0, rejected="keep"))
    assert "gauge bad kept though it" in caplog.text


def test_no_gauges(drainage: Drainage) -> None:
    assert snap_gauges([], drainage, GaugesConfig(table="t")).reach.size == 0
    assert snap_pixels([], GRID, AREA, 1.0).row.size == 0


@pytest.mark.parametrize("keys", [{}, {"resolution": "30 arcsec"}, {"resolution": "30 arcsec", "channel_area": 2.0},
                                  {"channel_area": 2.0}], ids=str)
@pytest.mark.parametrize("extent", ["gauges", "all"])
def test_a_gauge_without_area_drains_what_its_own_pixel_does(keys: dict, extent: str) -> None:
    """On made mountains, wherever it stands: never the larger river nearby."""
    pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")
    from drainage_cases import config, terrain_flow

    from bmi_cdlm.prepare.network.network import drain

    flow = terrain_flow((60, 70), 5)
    rng = np.random.default_rng(2)
    for pixel in rng.choice(np.flatnonzero(flow.inside), 12, replace=False).tolist():
        row, col = divmod(pixel, flow.grid.n_cols)
        lon, lat = flow.grid.lonlat(np.array([row]), np.array([col]))
        gauge = GaugeSite("G", "G", float(lon[0]) + 1e-4, float(lat[0]) - 1e-4, math.nan, {})
        own, steps = pixel, 0
        while flow.upstream_area[own] < keys.get("channel_area", 0.0) and flow.downstream[own] != own:
            own, steps = int(flow.downstream[own]), steps + 1
        if steps > 3 or flow.upstream_area[own] < keys.get("channel_area", 0.0):
            continue  # the river may lie beyond the radius
        drainage = drain(config(extent=extent, **keys), flow, [gauge], 2000.0)
        found = snap_gauges([gauge], drainage, GaugesConfig(table="t", radius=2000.0))
        assert found.area[0] == pytest.approx(flow.upstream_area[own], rel=1e-9)
