"""Weather of basins, stations and polygons goes to the cells that it is for."""

from __future__ import annotations

import numpy as np
import pytest
from forcing_cases import BASINS, make, steps, write_basins
from make_drainage import make_drainage

from bmi_cdlm.names.errors import ForcingError

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def test_smallest_basin_that_holds_the_cell(tmp_path):
    """Column 0: a nested pair; the others have one gauge each; a gauge without forcing counts not."""
    gauges = [("down", 3), ("up", 1), ("other", 7), ("third", 11), ("fourth", 15), ("unmet", 0)]
    ids = ["other", "down", "up", "third", "fourth"]
    write_basins(tmp_path / "basins.nc", ids, np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    made = make(tmp_path, BASINS, when=steps(1), gauges=gauges)
    expected = np.array([[3, 1, 4, 5], [3, 1, 4, 5], [2, 1, 4, 5], [2, 1, 4, 5]])
    assert made["precipitation"][0].reshape(4, 4).tolist() == expected.tolist()


def test_cell_between_two_basins_takes_both_by_area(tmp_path):
    drainage = make_drainage(shift=1)
    gauges = [("a", 3), ("b", 7), ("c", 11), ("d", 15)]
    write_basins(tmp_path / "basins.nc", ["a", "b", "c", "d"], np.array([[3.0, 6.0, 9.0, 12.0]]))
    made = make(tmp_path, BASINS, when=steps(1), gauges=gauges, drainage=drainage)
    np.testing.assert_allclose(made["precipitation"][0, :4], [3.0, 5.0, 8.0, 11.0], rtol=1e-5)


def test_no_basin_is_called_like_a_gauge(tmp_path):
    write_basins(tmp_path / "basins.nc", ["G-1"], np.array([[1.0]]))
    with pytest.raises(ForcingError, match=r"none of its 1 basins is called like one of the 1 gauges.*'G-1'"):
        make(tmp_path, BASINS, when=steps(1), gauges=[("G1", 3)])


def test_stations(tmp_path):
    drainage = make_drainage()
    write_basins(tmp_path / "basins.nc", ["w", "e"], np.array([[1.0, 2.0]]), [10.0, 10.12], [49.94, 49.94])
    forcing = {name: {"source": "basins.nc", "method": "nearest"} for name in BASINS}
    made = make(tmp_path, forcing, when=steps(1), drainage=drainage)
    assert made["precipitation"][0].tolist() == np.where(drainage.cells.lon < 10.06, 1.0, 2.0).tolist()
    with pytest.raises(ForcingError, match=r"holds stations or basins; method is bilinear"):
        make(tmp_path, {name: {"source": "basins.nc", "method": "bilinear"} for name in BASINS}, when=steps(1))


def test_polygons_smallest_first(tmp_path):
    geopandas, shapely = pytest.importorskip("geopandas"), pytest.importorskip("shapely")
    frame = geopandas.GeoDataFrame(
        {"code": ["small", "large"]}, crs="EPSG:4326",
        geometry=[shapely.box(10.0, 49.94, 10.06, 50.0), shapely.box(9.9, 49.8, 10.2, 50.1)],
    )
    frame.to_file(tmp_path / "basins.gpkg")
    write_basins(tmp_path / "basins.nc", ["large", "small"], np.array([[1.0, 2.0]]))
    options = {"method": "polygon", "polygons": "basins.gpkg", "polygon_ids": "code"}
    made = make(tmp_path, {name: {"source": "basins.nc", **options} for name in BASINS}, when=steps(1))
    expected = np.ones((4, 4))
    expected[:2, :2] = 2.0
    assert made["precipitation"][0].reshape(4, 4).tolist() == expected.tolist()
