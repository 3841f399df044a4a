"""Flow directions in every encoding, from elevation, and refused where they cannot be right."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")
pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

from drainage_cases import VALLEY, config, flow_of, grid_of, raster, terrain_flow, walk

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.network.directions import decode, decode_next, directions_from_elevation, make_flow, read_flow

SEA = np.array([[True, True, True], [True, True, False], [True, True, True]])
BELOW = [3, 4, 1, 4, 7, -1, 7, 7, 7]


@pytest.mark.parametrize(
    ("encoding", "codes"),
    [
        ("esri", [[4, 4, 16], [1, 4, 0], [1, 0, 16]]),
        ("clockwise", [[5, 5, 7], [3, 5, 0], [3, 0, 7]]),
        ("ldd", [[2, 2, 4], [6, 2, 5], [6, 5, 4]]),
        ("taudem", [[7, 7, 5], [1, 7, 0], [1, 0, 5]]),
        ("whitebox", [[8, 8, 32], [2, 8, 0], [2, 0, 32]]),
        ("grass", [[6, 6, 4], [8, -6, 0], [8, 0, 4]]),
        ("saga", [[4, 4, 6], [2, 4, -1], [2, -1, 6]]),
    ],
)
def test_encodings_agree(encoding, codes):
    decoded = decode(raster(np.array(codes, np.int16), SEA), encoding)
    assert decoded.tolist() == [[4, 4, 16], [1, 4, 247], [1, 0, 16]]
    assert make_flow(grid_of(decoded), decoded, config()).downstream.tolist() == BELOW


@pytest.mark.parametrize(
    ("encoding", "turn"),  # from the north, by eighths of a turn with the clock
    [("taudem", [3, 2, 1, 8, 7, 6, 5, 4]), ("whitebox", [128, 1, 2, 4, 8, 16, 32, 64]),
     ("grass", [2, 1, 8, 7, 6, 5, 4, 3]), ("saga", [0, 1, 2, 3, 4, 5, 6, 7]), ("clockwise", [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_all_eight_ways_of_other_programs(encoding, turn):
    ways = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    for code, (down, right) in zip(turn, ways, strict=True):
        decoded = decode(raster(np.array([[code]], np.int16)), encoding)
        esri = {(0, 1): 1, (1, 1): 2, (1, 0): 4, (1, -1): 8, (0, -1): 16, (-1, -1): 32, (-1, 0): 64, (-1, 1): 128}
        assert decoded[0, 0] == esri[down, right]


def test_next_pixels_agree():
    row = np.array([[2, 2, 1], [2, 3, -9999], [3, -9, 3]], np.int32)
    col = np.array([[1, 2, 2], [2, 2, -9999], [2, -9, 2]], np.int32)
    below = decode_next(raster(np.stack([col, row])))
    assert below.tolist() == BELOW
    assert make_flow(grid_of(row), below, config()).downstream.tolist() == BELOW


def test_next_pixels_may_lie_far_away():
    col, row = np.array([[3, -9, -9]]), np.array([[1, -9, -9]])
    flow = make_flow(grid_of(row), decode_next(raster(np.stack([col, row]))), config())
    assert flow.downstream.tolist() == [2, 1, 2]
    assert flow.step[0] == pytest.approx(2000.0, rel=0.05)  # on the ground, where the map shrinks or stretches
    assert flow.upstream_area.tolist() == [1.0, 1.0, 2.0]


def test_next_pixel_off_the_raster():
    col, row = np.array([[2, 9, -9]]), np.array([[1, 1, -9]])
    with pytest.raises(DomainError, match=r"row 0, column 1 drains to column 9, row 1 .1 such pixels.*expected 1 to 3"):
        decode_next(raster(np.stack([col, row])))


def test_every_code_is_an_eighth_of_a_turn():
    for i, (code, below) in enumerate(zip((1, 2, 4, 8, 16, 32, 64, 128), (5, 8, 7, 6, 3, 0, 1, 2), strict=True)):
        codes = np.zeros((3, 3), np.uint8)
        codes[1, 1] = code
        assert flow_of(codes).downstream[4] == below
        assert flow_of(codes).step[4] == 1000.0 * (np.sqrt(2.0) if i % 2 else 1.0)


def test_signed_bytes():
    decoded = decode(raster(np.array([[-128, -1, 64, -9]], np.int8)), "esri")
    assert decoded.tolist() == [[128, 0, 64, 247]]


def test_sea_pit_and_edge_are_ends():
    flow = flow_of(np.array([[0, 1, 247], [64, 16, 1]], np.uint8))
    assert flow.downstream.tolist() == [0, 1, -1, 0, 3, 5]
    assert flow.ends.tolist() == [0, 1, 5]
    assert flow.step[flow.ends].tolist() == [0.0, 0.0, 0.0]


def test_unknown_codes_are_counted_and_their_encoding_guessed():
    codes = np.array([[1, 2, 3], [5, 5, 7], [9, 8, 6]], np.uint8)
    with pytest.raises(DomainError, match=r"5 codes that .esri. does not have"):
        decode(raster(codes), "esri")
    with pytest.raises(DomainError, match=r"3 \(1 pixels\), 5 \(2 pixels\).*those of: ldd\. Set `encoding`"):
        decode(raster(codes), "esri")
    with pytest.raises(DomainError, match=r"1 codes that 'clockwise' does not have: 9 \(1 pixels\)"):
        decode(raster(codes), "clockwise")


def test_codes_outside_the_data_do_not_matter():
    codes = np.array([[4, 99], [0, 99]], np.uint8)
    assert decode(raster(codes, codes != 99), "esri").tolist() == [[4, 247], [0, 247]]


@pytest.mark.parametrize(("codes", "pixels"), [([[1, 16, 16]], 3), ([[1, 4, 0], [64, 16, 16]], 5)])
def test_a_cycle_is_named_with_its_place(codes, pixels):
    found = rf"cycle of [24] pixels near .* E, .* N, .*\(0, 0\).*; {pixels} pixels drain"
    with pytest.raises(DomainError, match=found):
        flow_of(np.array(codes, np.uint8))


def test_no_direction_anywhere():
    with pytest.raises(DomainError, match=r"no pixel has one"):
        flow_of(np.full((2, 2), 247, np.uint8))


def test_upstream_area_is_that_of_walking_down():
    flow = terrain_flow((40, 50))
    np.testing.assert_allclose(flow.upstream_area, walk(flow), rtol=1e-12)
    np.testing.assert_array_equal(np.sort(flow.sequence), np.flatnonzero(flow.inside))
    place = np.empty(flow.downstream.size, np.int64)
    place[flow.sequence] = np.arange(flow.sequence.size)
    moving = flow.sequence[flow.downstream[flow.sequence] != flow.sequence]
    assert (place[flow.downstream[moving]] < place[moving]).all()


def test_water_in_a_hollow_leaves_over_its_rim():
    heights = np.array([[9, 9, 9, 9, 9], [9, 1, 2, 5, 3], [9, 9, 9, 9, 9]], np.float32)
    codes = directions_from_elevation(raster(heights))
    flow = flow_of(codes)
    assert flow.downstream[[6, 7, 8]].tolist() == [7, 8, 9]
    assert flow.downstream[9] == 9


def test_lake_without_data_is_a_sink():
    heights = np.add.outer(np.abs(np.arange(9.0) - 4), np.abs(np.arange(9.0) - 4)).astype(np.float32)
    heights[4, 4] = np.nan
    heights[0], heights[-1], heights[:, 0], heights[:, -1] = 99, 99, 99, 99
    flow = flow_of(directions_from_elevation(raster(heights, np.isfinite(heights))))
    inner = flow.upstream_area.reshape(9, 9)[3:6, 3:6]
    assert np.nansum(inner[flow.downstream.reshape(9, 9)[3:6, 3:6] == np.arange(81).reshape(9, 9)[3:6, 3:6]]) >= 49.0


def test_one_outlet():
    assert terrain_flow((40, 50), one_basin=True).ends.size == 1
    assert terrain_flow((40, 50)).ends.size > 10


def test_elevation_without_a_number():
    with pytest.raises(DomainError, match=r"made\.tif: no pixel has an elevation"):
        directions_from_elevation(raster(np.full((3, 3), np.nan), np.zeros((3, 3), bool)))


def test_missing_elevation_is_told(caplog):
    heights = np.arange(9, dtype=np.float32).reshape(3, 3)
    heights[0, 0] = np.nan
    flow_of(VALLEY, heights=heights)
    assert "1 of 8 pixels of the network have no elevation" in caplog.text
    heights[:] = np.nan
    with pytest.raises(DomainError, match="none of 8 pixels of the network has an elevation"):
        flow_of(VALLEY, heights=heights)


def test_elevation_in_another_system_and_on_finer_pixels(tmp_path, write_raster):
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    write_raster(tmp_path / "d.tif", VALLEY, nodata=247)
    # A plane that falls to the east, in degrees of about 100 m; the valley lies at 4.22 E, 45.6 N.
    lon = 4.0 + (np.arange(500) + 0.5) * 1e-3
    heights = np.broadcast_to(1000.0 * (5.0 - lon), (500, 500)).astype(np.float32)
    write_raster(tmp_path / "z.tif", heights, left=4.0, top=45.9, size=1e-3, crs="EPSG:4326")
    flow = read_flow(config(directions="d.tif", elevation="z.tif"), tmp_path)
    expected = 1000.0 * (5.0 - flow.grid.lonlat(*np.indices((3, 3)).reshape(2, -1))[0])
    np.testing.assert_allclose(flow.elevation, expected, atol=1.0)
    write_raster(tmp_path / "far.tif", heights, left=14.0, top=45.9, size=1e-3, crs="EPSG:4326")
    with pytest.raises(DomainError, match=r"far\.tif: does not overlap .* EPSG:4326, the domain .* EPSG:2154"):
        read_flow(config(directions="d.tif", elevation="far.tif"), tmp_path)


def test_files(tmp_path, write_raster):
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    write_raster(tmp_path / "d.tif", VALLEY, nodata=247)
    write_raster(tmp_path / "z.tif", np.arange(9, 0, -1, dtype=np.float32).reshape(3, 3), nodata=None)
    flow = read_flow(config(directions="d.tif", elevation="z.tif"), tmp_path)
    assert flow.downstream.tolist() == BELOW
    assert flow.elevation is not None and flow.elevation[0] == 9.0
    assert flow.grid.crs == "EPSG:2154"
    assert flow.upstream_area[7] != 8.0 and flow.upstream_area[7] == pytest.approx(8.0, rel=5e-3)
    on_map = read_flow(config(directions="d.tif", areas="map"), tmp_path)
    assert on_map.upstream_area[7] == 8.0
    derived = read_flow(config(directions=None, elevation="z.tif"), tmp_path)
    assert derived.inside.all()
