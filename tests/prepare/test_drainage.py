"""From flow directions to reaches, catchments, cells and links: areas add up exactly, at every size."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")
pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

from drainage_cases import VALLEY, config, flow_of, gauge_at, terrain_flow

from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.network.catchments import Drainage
from bmi_cdlm.prepare.network.directions import Flow, decode, make_flow
from bmi_cdlm.prepare.network.layers import Raster
from bmi_cdlm.prepare.network.links import check_covered, keep_cells, uncovered_shares
from bmi_cdlm.prepare.network.network import build_drainage, drain
from bmi_cdlm.prepare.network.reaches import strahler_order
from bmi_cdlm.prepare.network.synthetic import make_terrain
from bmi_cdlm.prepare.network.upscale import drain_to

UPSCALED = {"resolution": "30 arcsec", "cell_size": "90 arcsec"}


@pytest.fixture(scope="module")
def flow() -> Flow:
    """Rivers that end at a coast all around and at a sea in one corner."""
    return terrain_flow(sea=0.1)


@pytest.fixture(scope="module")
def upscaled(flow) -> Drainage:
    return drain(config(**UPSCALED), flow)


def ends_of(drainage: Drainage, flow: Flow) -> np.ndarray:
    """Pixel at the end of every reach, by its id."""
    return np.array([int(i.split("_")[0]) * flow.grid.n_cols + int(i.split("_")[1]) for i in drainage.reaches.id])


def check_sums(drainage: Drainage, flow: Flow) -> None:
    """Every pixel is in one catchment and one cell, and all areas are those of pixels."""
    catchments, reaches, cells, links = drainage
    inside = flow.inside.reshape(flow.grid.shape)
    np.testing.assert_array_equal(catchments.reach >= 0, inside)
    np.testing.assert_array_equal(catchments.cell >= 0, inside)
    n, area = reaches.id.size, flow.area[inside]
    np.testing.assert_allclose(np.bincount(catchments.reach[inside], area, n), reaches.area, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.bincount(links.reach, links.area, n), reaches.area, rtol=1e-14)
    drained = np.bincount(links.cell, links.area, cells.area.size)
    np.testing.assert_allclose(np.bincount(catchments.cell[inside], area, cells.area.size), drained, rtol=1e-12)
    assert (drained <= cells.area * (1 + 1e-9)).all() and (drained > 0).all()
    assert links.area.sum() == pytest.approx(area.sum(), rel=1e-13)
    below = reaches.downstream
    assert ((below == -1) | (below > np.arange(n))).all()
    assert len(set(reaches.id.tolist())) == n
    assert (np.diff(links.reach) >= 0).all()
    pairs = links.reach * cells.area.size + links.cell
    assert np.unique(pairs).size == pairs.size


@pytest.mark.parametrize(
    "keys",
    [
        {}, UPSCALED, {"resolution": "45 arcsec"}, {**UPSCALED, "channel_area": 2.0}, {"channel_area": 2.0},
        {**UPSCALED, "max_reach_length": 700.0}, {**UPSCALED, "upscaling": "max_accumulation"},
        {"max_reach_length": 300.0},
    ],
    ids=str,
)
def test_areas_add_up(flow, keys):
    check_sums(drain(config(**keys), flow), flow)


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:2154"])
def test_areas_add_up_where_the_map_is_not_true_to_area(crs):
    flow = terrain_flow((60, 66), size=500.0, crs=crs, corner=(900_000.0, 6_600_000.0))
    drainage = drain(config(resolution="1 km", cell_size="3 km"), flow)
    check_sums(drainage, flow)
    assert np.ptp(drainage.cells.area) > 1e-4
    assert drainage.links.area.sum() != pytest.approx(60 * 66 * 0.25, rel=1e-5)


def test_every_pixel_a_reach():
    flow = flow_of(VALLEY)
    drainage = drain(config(), flow)
    reaches = drainage.reaches
    assert reaches.id.tolist() == [
        "0000_0002", "0000_0001", "0000_0000", "0001_0000", "0001_0001", "0002_0000", "0002_0002", "0002_0001",
    ]
    assert reaches.downstream.tolist() == [1, 4, 3, 4, 7, 7, 7, -1]
    assert reaches.upstream_area.tolist() == [1, 2, 1, 2, 5, 1, 1, 8]
    assert reaches.length.tolist() == [1000.0] * 7 + [0.0]
    assert reaches.strahler.tolist() == [1, 1, 1, 1, 2, 1, 1, 2]
    assert np.isnan(reaches.slope).all()
    assert drainage.cells.id.tolist() == sorted(reaches.id.tolist())
    assert drainage.links.area.tolist() == [1.0] * 8


def test_upstream_areas_are_those_of_the_fine_raster(upscaled, flow):
    reaches = upscaled.reaches
    fine = flow.upstream_area[ends_of(upscaled, flow)]
    inner = np.flatnonzero(reaches.downstream >= 0)
    np.testing.assert_allclose(reaches.upstream_area[inner], fine[inner], rtol=1e-12)
    outlets = reaches.downstream < 0  # of several small basins that end in a block, one reach is made
    assert (reaches.upstream_area[outlets] >= fine[outlets] * (1 - 1e-12)).all()
    assert reaches.upstream_area[outlets].sum() == pytest.approx(flow.upstream_area[flow.ends].sum(), rel=1e-12)
    row, col = np.divmod(ends_of(upscaled, flow)[outlets], flow.grid.n_cols)
    blocks = row // 2 * flow.grid.n_cols + col // 2
    assert np.unique(blocks).size == blocks.size


def test_reaches_lie_where_they_end(upscaled, flow):
    lon, lat = flow.grid.lonlat(*np.divmod(ends_of(upscaled, flow), flow.grid.n_cols))
    np.testing.assert_array_equal(upscaled.reaches.lon, lon)
    np.testing.assert_array_equal(upscaled.reaches.lat, lat)


def test_length_is_the_way_up_to_the_next_end(flow):
    drainage = drain(config(**UPSCALED, max_reach_length=1e9), flow)
    ends = ends_of(drainage, flow)
    is_end = np.zeros(flow.downstream.size, bool)
    is_end[ends] = True
    above: dict[int, list[int]] = {}
    for pixel in np.flatnonzero(flow.inside).tolist():
        if flow.downstream[pixel] != pixel:
            above.setdefault(int(flow.downstream[pixel]), []).append(pixel)
    for i, end in enumerate(ends.tolist()):
        length, pixel, top = 0.0, end, end
        while above.get(pixel):
            pixel = max(above[pixel], key=lambda p: flow.upstream_area[p])
            length, top = length + flow.step[pixel], pixel
            if is_end[pixel]:
                break
        assert drainage.reaches.length[i] == pytest.approx(length, rel=1e-12)
        fall = float(flow.elevation[top]) - float(flow.elevation[end])
        slope = max(fall, 0.0) / length if length else 0.0
        assert drainage.reaches.slope[i] == pytest.approx(slope, rel=1e-5, abs=1e-12)
    assert (drainage.reaches.length == 0.0).any()  # a single pixel at the divide


@pytest.mark.parametrize("longest", [500.0, 900.0, 2000.0])
def test_long_reaches_are_cut_into_equal_parts(flow, longest):
    whole = drain(config(**UPSCALED, max_reach_length=1e9), flow).reaches
    cut = drain(config(**UPSCALED, max_reach_length=longest), flow).reaches
    parts = np.maximum(np.ceil(whole.length / longest), 1)
    assert cut.length.max() <= longest
    assert cut.id.size == parts.sum()
    assert cut.length.sum() == pytest.approx(whole.length.sum(), rel=1e-12)
    place = {one: i for i, one in enumerate(cut.id.tolist())}
    kept = np.array([place[one] for one in whole.id.tolist()])
    np.testing.assert_allclose(cut.length[kept], whole.length / parts, rtol=1e-12)
    assert cut.area.sum() == pytest.approx(whole.area.sum(), rel=1e-13)
    # What leaves by the last part is what left the whole reach.
    leaving = kept.copy()
    for _ in range(int(parts.max())):
        nxt = cut.downstream[leaving]
        empty = (nxt >= 0) & np.array([cut.id[n].count("_") == 2 for n in nxt])
        leaving = np.where(empty, nxt, leaving)
    np.testing.assert_allclose(cut.upstream_area[leaving], whole.upstream_area, rtol=1e-12)


def test_pixels_longer_than_a_reach_may_be():
    flow = flow_of(VALLEY, size=3000.0)
    reaches = drain(config(max_reach_length=2000.0), flow).reaches
    chain = [i for i, one in enumerate(reaches.id.tolist()) if one.startswith("0001_0001")]
    assert [reaches.id[i] for i in chain] == ["0001_0001", "0001_0001_1"]
    assert reaches.length[chain].tolist() == [1500.0, 1500.0]
    assert reaches.area[chain].tolist() == [9.0, 0.0]  # the water enters above, and takes the whole time
    assert reaches.downstream[chain[0]] == chain[1]
    assert reaches.upstream_area[-1] == 72.0


def test_channels_begin_at_an_upstream_area(flow):
    reaches = drain(config(**UPSCALED, channel_area=3.0), flow).reaches
    inner = reaches.downstream >= 0
    assert reaches.upstream_area[inner].min() >= 3.0
    dense = drain(config(**UPSCALED), flow).reaches
    assert reaches.id.size < 0.6 * dense.id.size
    assert reaches.area.sum() == pytest.approx(dense.area.sum(), rel=1e-13)


def test_small_basins_are_left_out(flow):
    drainage = drain(config(**UPSCALED, min_basin_area=20.0), flow)
    basins = flow.upstream_area[flow.ends]
    large = basins[basins >= 20.0]
    assert 0 < large.size < basins.size
    assert drainage.reaches.upstream_area[drainage.reaches.downstream < 0].sum() == pytest.approx(large.sum())
    assert drainage.cells.id.size < drain(config(**UPSCALED), flow).cells.id.size
    with pytest.raises(DomainError, match=r"no basin has 1e\+09 km2, the largest"):
        drain(config(min_basin_area=1e9), flow)


def test_gauges_are_ends_of_reaches_and_cut_the_network(flow):
    order = np.argsort(flow.upstream_area)
    outer = int(order[-1])
    nested = int(order[(flow.upstream_area[order] < 0.3 * flow.upstream_area[outer])][-1])
    sites = [gauge_at(flow, outer, "outer"), gauge_at(flow, nested, "nested")]
    drainage = drain(config(**UPSCALED, extent="gauges"), flow, sites, radius=1.0)
    reaches = drainage.reaches
    at = drainage.catchments.reach.ravel()[[outer, nested]]
    np.testing.assert_allclose(reaches.upstream_area[at], flow.upstream_area[[outer, nested]], rtol=1e-12)
    stop = np.zeros(flow.downstream.size, bool)
    stop[[outer, nested]] = True
    first = drain_to(flow.downstream, stop)
    np.testing.assert_array_equal(drainage.catchments.reach.ravel() >= 0, (first == outer) | (first == nested))
    whole = drain(config(**UPSCALED), flow, sites, radius=1.0)
    at = whole.catchments.reach.ravel()[[outer, nested]]
    np.testing.assert_allclose(whole.reaches.upstream_area[at], flow.upstream_area[[outer, nested]], rtol=1e-12)


def test_extent_of_gauges_without_gauges(flow):
    with pytest.raises(ConfigError, match=r"none of 0 gauges .*set extent: all"):
        drain(config(extent="gauges"), flow)


def test_plain_maximum_accumulation_is_worse_and_still_a_tree(flow, upscaled):
    plain = drain(config(**UPSCALED, upscaling="max_accumulation"), flow)
    error = np.abs(plain.reaches.upstream_area / flow.upstream_area[ends_of(plain, flow)] - 1)
    assert plain.reaches.id.size <= upscaled.reaches.id.size
    assert (error > 0.05).mean() > 0.1
    blocks = np.unique(np.divmod(np.flatnonzero(flow.inside), flow.grid.n_cols) // np.array([[2], [2]]), axis=1)
    assert plain.reaches.id.size == blocks.shape[1]


def test_whole_cells_have_their_geometric_area():
    drainage = drain(config(**UPSCALED), terrain_flow((60, 66), one_basin=True))
    cells = drainage.cells
    drained = np.bincount(drainage.links.cell, drainage.links.area)
    np.testing.assert_allclose(drained, cells.area, rtol=1e-12)
    assert (drainage.cells.grid.n_rows, drainage.cells.grid.n_cols) == (10, 11)
    assert drainage.reaches.upstream_area[-1] == pytest.approx(cells.area.sum(), rel=1e-12)


def test_cells_left_out_become_uncovered_area(upscaled):
    total = upscaled.reaches.upstream_area
    largest = int(np.argmax(total))
    mine = np.unique(upscaled.links.cell[upscaled.links.reach == largest])
    kept = np.ones(upscaled.cells.id.size, bool)
    kept[mine] = False
    less = keep_cells(upscaled, kept)
    lost = upscaled.links.area[np.isin(upscaled.links.cell, mine)].sum()
    assert less.reaches.uncovered_area.sum() == pytest.approx(lost, rel=1e-12)
    np.testing.assert_allclose(less.reaches.area + less.reaches.uncovered_area, upscaled.reaches.area, atol=1e-12)
    np.testing.assert_array_equal(less.reaches.upstream_area, total)
    assert less.cells.id.tolist() == upscaled.cells.id[kept].tolist()
    assert less.links.cell.max() == less.cells.id.size - 1
    np.testing.assert_array_equal(less.cells.id[less.links.cell], upscaled.cells.id[upscaled.links.cell][np.isin(
        upscaled.links.cell, mine, invert=True)])
    places = np.unique(less.catchments.cell)
    assert places[0] == -1 and places[-1] == less.cells.id.size - 1
    share = uncovered_shares(less, np.array([largest]))[0]
    assert 0 < share < 1
    assert check_covered(upscaled, ["G"], np.array([largest])).tolist() == [0.0]
    shares = uncovered_shares(less, np.arange(total.size))
    dry, wet = int(np.argmax(shares)), int(np.argmin(shares))
    with pytest.raises(DomainError, match=r"no cell covers 100\.00% above gauge G2 .1 such gauges.*at most 2%"):
        check_covered(less, ["G1", "G2"], np.array([wet, dry]))


def test_mask_of_cells_from_files(tmp_path, write_raster):
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    codes = np.full((6, 6), 1, np.uint8)
    write_raster(tmp_path / "d.tif", codes, nodata=None)
    mask = np.array([[0, 7, 255], [1, 7, 255]], np.uint8)  # of 3.5 km: no pixel of it is one of ours
    write_raster(tmp_path / "mask.tif", mask, size=3500.0, nodata=255)
    keys = {"directions": "d.tif", "cell_size": "3 km", "areas": "map"}
    whole = build_drainage(config(**keys), None, tmp_path)
    assert whole.cells.id.tolist() == ["0000_0000", "0000_0001", "0001_0000", "0001_0001"]
    less = build_drainage(config(**keys, cell_mask="mask.tif"), None, tmp_path)
    assert less.cells.id.tolist() == ["0000_0001", "0001_0000", "0001_0001"]
    assert less.reaches.uncovered_area.sum() == 9.0
    write_raster(tmp_path / "none.tif", np.zeros((6, 6), np.uint8), nodata=None)
    with pytest.raises(DomainError, match=r"none\.tif: leaves none of 4 cells"):
        build_drainage(config(**keys, cell_mask="none.tif"), None, tmp_path)


def test_a_sink_inside_the_land_ends_a_river():
    open_flow = terrain_flow((60, 66), one_basin=True)
    codes = make_terrain((60, 66), 3, one_basin=True).directions.copy()
    area = open_flow.upstream_area
    sink = int(np.argmin(np.abs(area - 0.3 * area.max())))
    codes.ravel()[sink] = 255
    closed = make_flow(open_flow.grid, decode(Raster(open_flow.grid, codes, codes != 247, "made"), "esri"), config())
    drainage = drain(config(**UPSCALED), closed)
    check_sums(drainage, closed)
    at = drainage.catchments.reach.ravel()[sink]
    assert drainage.reaches.downstream[at] == -1
    assert drainage.reaches.upstream_area[at] == pytest.approx(area[sink], rel=1e-12)
    outlets = drainage.reaches.upstream_area[drainage.reaches.downstream < 0]
    assert sorted(outlets) == pytest.approx(sorted([area[sink], area.max() - area[sink]]), rel=1e-12)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"resolution": "40 arcsec"}, r"resolution is '40 arcsec', 2\.667 by 2\.667 times a pixel"),
        ({"resolution": "30 arcsec", "cell_size": "80 arcsec"}, r"cell_size is '80 arcsec', 2\.667 .* times a block"),
        ({"resolution": "1 km"}, r"but the grid is in degrees .*Expected one of deg, arcmin, arcsec"),
        ({"resolution": "5 arcsec"}, r"0\.3333 by 0\.3333 times a pixel"),
    ],
)
def test_sizes_that_do_not_fit(flow, keys, message):
    with pytest.raises(ConfigError, match=message):
        drain(config(**keys), flow)


def test_degrees_do_not_fit_a_map():
    with pytest.raises(ConfigError, match=r"grid is in metres .*Expected one of m, km"):
        drain(config(resolution="30 arcsec"), flow_of(VALLEY))
    assert drain(config(cell_size="3 km"), flow_of(VALLEY)).cells.area.tolist() == [9.0]


@pytest.mark.parametrize("size", ["3", "3 miles", "-1 km", "0 m", "e km"])
def test_what_is_no_size(size):
    with pytest.raises(ValueError, match="is not a size"):
        config(resolution=size)


def test_neither_directions_nor_elevation():
    with pytest.raises(ValueError, match="neither `directions` nor `elevation`"):
        config(directions=None)


def test_plain_upscaling_has_no_channel_area():
    with pytest.raises(ValueError, match="`channel_area` is for upscaling: ihu"):
        config(upscaling="max_accumulation", channel_area=1.0)


def test_one_block_for_all():
    keys = {"resolution": "9 km", "cell_size": "9 km"}
    drainage = drain(config(**keys, upscaling="max_accumulation"), flow_of(VALLEY))
    assert drainage.reaches.area.tolist() == [8.0]
    assert drainage.cells.area.tolist() == [81.0]
    assert drain(config(**keys), flow_of(VALLEY)).reaches.upstream_area[-1] == 8.0


def test_one_pixel():
    drainage = drain(config(), flow_of(np.zeros((1, 1), np.uint8)))
    assert drainage.reaches.area.tolist() == drainage.cells.area.tolist() == [1.0]
    assert drainage.reaches.length.tolist() == [0.0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(7, 5), (23, 31)])
def test_any_small_terrain(shape, seed):
    """Islands of a few pixels, blocks that hang over the edge, factors that do not divide the raster."""
    small = terrain_flow(shape, seed, sea=0.3)
    for resolution in ("30 arcsec", "1 arcmin", "2 arcmin"):
        for channel in (0.0, 3.0):
            keys = {"resolution": resolution, "channel_area": channel, "max_reach_length": 900.0}
            check_sums(drain(config(**keys), small), small)


def test_next_pixels_far_away_are_not_upscaled():
    flow = flow_of(VALLEY)
    far = flow._replace(downstream=np.array([8, 4, 1, 4, 7, -1, 7, 7, 7], np.int32))
    with pytest.raises(ConfigError, match=r"1 pixels drain to others that are no neighbours"):
        drain(config(resolution="2 km"), far)


def test_strahler_order():
    # Two of order 1 make 2; a 1 joining it leaves 2; another 2 makes 3.
    downstream = np.array([2, 2, 4, 4, 8, 7, 7, 8, 9, -1])
    assert strahler_order(downstream).tolist() == [1, 1, 2, 1, 2, 1, 1, 2, 3, 3]


def test_drain_to_finds_the_first_stop():
    downstream = np.array([1, 2, 3, 4, 4, -1, 4], np.int32)
    stop = np.zeros(7, bool)
    stop[2] = True
    assert drain_to(downstream, stop).tolist() == [2, 2, 2, 4, 4, -1, 4]
    assert drain_to(downstream, np.zeros(7, bool)).tolist() == [4, 4, 4, 4, 4, -1, 4]


def test_same_terrain_same_drainage():
    first, second = (drain(config(**UPSCALED), terrain_flow()) for _ in range(2))
    for one, other in zip(first.reaches, second.reaches, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first.links.area, second.links.area)


def test_other_seed_other_terrain():
    assert not np.array_equal(terrain_flow(seed=1).downstream, terrain_flow(seed=2).downstream)
