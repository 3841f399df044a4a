"""Real networks: GRIP-E and the Grand River against reference files, Lez and Cance of hydro-smash."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")
pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

from conftest import SHARED
from drainage_cases import gauge_at

from bmi_cdlm.prepare.network.directions import read_flow
from bmi_cdlm.prepare.network.network import drain
from bmi_cdlm.prepare.network.network_config import NetworkConfig

GRIPE = {
    "directions": "grid_gripe_15s.nc:flow_direction", "elevation": "grid_gripe_15s.nc:elevation",
    "resolution": "30 arcsec", "cell_size": "90 arcsec",
}


@pytest.fixture(scope="module")
def gripe():
    """Flow directions of the region around Lake Erie."""
    if not (SHARED / "grid_gripe_15s.nc").is_file():
        pytest.skip("reference file grid_gripe_15s.nc is not there")
    return read_flow(NetworkConfig(**GRIPE), SHARED)


@pytest.mark.shared_data
@pytest.mark.slow
def test_whole_domain(gripe, shared):
    reference, basins = shared("grid_gripe_15s.nc"), shared("basins_gripe.nc")
    assert np.count_nonzero(gripe.inside) == 652_648
    np.testing.assert_allclose(
        gripe.upstream_area[gripe.inside], reference["upstream_area"].ravel()[gripe.inside], rtol=4e-3, atol=0.01
    )
    pixels = basins["gauge_row"].astype(np.int64) * gripe.grid.n_cols + basins["gauge_col"]
    sites = [gauge_at(gripe, int(pixel), str(i)) for i, pixel in enumerate(pixels)]
    drainage = drain(NetworkConfig(**GRIPE, extent="all"), gripe, sites, radius=1.0)
    at = drainage.catchments.reach.ravel()[pixels]
    np.testing.assert_allclose(drainage.reaches.upstream_area[at], basins["area_d8"], rtol=5e-3)
    assert drainage.links.area.sum() == pytest.approx(gripe.upstream_area[gripe.ends].sum(), rel=1e-12)
    assert drainage.reaches.length.max() <= 2000.0


@pytest.mark.shared_data
@pytest.mark.slow
def test_grand_river(gripe, shared):
    reference, basins = shared("example_grand.nc"), shared("basins_gripe.nc")
    outlet = basins["basin_id"].tolist().index("02GB001")
    pixel = int(basins["gauge_row"][outlet]) * gripe.grid.n_cols + int(basins["gauge_col"][outlet])
    drainage = drain(NetworkConfig(**GRIPE, max_reach_length=1e9), gripe, [gauge_at(gripe, pixel)], radius=1.0)
    reaches = drainage.reaches
    assert (reaches.id.size, drainage.cells.id.size, drainage.links.area.size) == (8408, 1000, 11_582)
    row, col = np.array([one.split("_") for one in reaches.id.tolist()]).astype(int).T
    top = round((gripe.grid.top - reference["lat1"][0]) * 120 - 0.5)
    left = round((reference["lon1"][0] - gripe.grid.left) * 120 - 0.5)
    of_block = np.full(reference["flow_direction_1km"].shape, -1)
    of_block[reference["reach_row"], reference["reach_col"]] = np.arange(8408)
    mine = of_block[row // 2 - top, col // 2 - left]
    assert np.unique(mine).size == 8408 and mine.min() == 0
    np.testing.assert_allclose(
        reaches.upstream_area, reference["upstream_area_1km"][row // 2 - top, col // 2 - left], rtol=0.01
    )
    # Its own sums go wrong where a neighbour stands for the way of the fine raster: 54 of its reaches.
    off = np.abs(reaches.upstream_area / reference["area_total"][mine] - 1) > 0.01
    fine = reference["upstream_area_1km"][reference["reach_row"], reference["reach_col"]]
    assert np.count_nonzero(off) == np.count_nonzero(np.abs(fine / reference["area_total"] - 1) > 0.01) == 54
    assert np.corrcoef(reaches.length, reference["length"][mine])[0, 1] > 0.97


# Row and column of the outlet's pixel, pixels above it: as the source ships them.
SMASH = {"lez": (849, 698, 172), "cance": (667, 765, 383)}


@pytest.mark.smash
@pytest.mark.slow
@pytest.mark.parametrize("name", SMASH)
def test_every_pixel_a_reach_and_a_cell(name):
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    if importlib.util.find_spec("smash") is None:
        pytest.skip("the package hydro-smash is not installed")
    row, col, n = SMASH[name]
    config = NetworkConfig(
        directions="package:smash/factory/dataset/France_flwdir.tif", encoding="clockwise", areas="map"
    )
    flow = read_flow(config, SHARED)
    outlet = row * flow.grid.n_cols + col
    drainage = drain(config, flow, [gauge_at(flow, outlet)], radius=1.0)
    reaches = drainage.reaches
    assert (flow.grid.dx, flow.grid.crs) == (1000.0, "EPSG:2154")
    assert reaches.id.size == drainage.cells.id.size == drainage.links.area.size == n
    assert sorted(reaches.id.tolist()) == drainage.cells.id.tolist()
    assert set(reaches.length.tolist()) == {1000.0, 1000.0 * np.sqrt(2.0)}
    assert set(drainage.links.area.tolist()) == set(drainage.cells.area.tolist()) == {1.0}
    assert reaches.upstream_area[-1] == n
    pixel = [int(r) * flow.grid.n_cols + int(c) for r, c in (one.split("_") for one in reaches.id.tolist())]
    assert reaches.upstream_area.tolist() == flow.upstream_area[pixel].tolist()
    below = np.array(pixel)[reaches.downstream[:-1]]
    assert below.tolist() == flow.downstream[pixel[:-1]].tolist()
