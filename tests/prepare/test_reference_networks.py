"""Real networks: GRIP-E and the Grand River against reference files, Lez and Cance against what was made before."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")
pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

from conftest import SHARED
from drainage_cases import gauge_at

from bmi_cdlm.prepare.directions import read_flow
from bmi_cdlm.prepare.network import drain
from bmi_cdlm.prepare.network_config import NetworkConfig

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


@pytest.mark.smash
@pytest.mark.parametrize("name", ["lez", "cance"])
def test_every_pixel_a_reach_and_a_cell(prepared, name):
    from bmi_cdlm.domain import read_domain
    from bmi_cdlm.prepare.gauge_table import GaugeSite

    before = read_domain(prepared(name)["domain"])
    sites = [
        GaugeSite(one, one, float(before.reaches.lon[reach]), float(before.reaches.lat[reach]), area, {})
        for one, reach, area in zip(
            before.gauges.id, before.gauges.reach, before.gauges.area.tolist(), strict=True)
    ]
    config = NetworkConfig(
        directions="package:smash/factory/dataset/France_flwdir.tif", encoding="clockwise", areas="map"
    )
    drainage = drain(config, read_flow(config, SHARED), sites, radius=1.0)
    assert drainage.reaches.id.tolist() == before.reaches.id
    assert drainage.cells.id.tolist() == before.cells.id
    for group in ("reaches", "cells"):
        names = {"reaches": ("downstream", "length", "area", "upstream_area", "lon", "lat"),
                 "cells": ("lon", "lat", "area", "corner_lon", "corner_lat")}[group]
        for field in names:
            mine, theirs = (getattr(getattr(domain, group), field) for domain in (drainage, before))
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(drainage.links.cell, before.links.cell)
    np.testing.assert_array_equal(drainage.links.area, before.links.area)
    assert drainage.catchments.area.tolist() == [1.0] * drainage.catchments.grid.n_rows
