"""A raster per step: which is whose by its name."""

from __future__ import annotations

import numpy as np
import pytest
from forcing_cases import HOUR, make, steps
from make_drainage import make_drainage

from bmi_cdlm.names.errors import ForcingError

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def write_hours(tmp_path, write_raster, missing=()):
    """Rasters stamped 23, 00 (absent), 01, 02 of December; tenths of a millimetre, from 1 up in the western column."""
    for i, stamp in enumerate(("201412182300", "201412190000", "201412190100", "201412190200")):
        if i != 1:
            write_raster(tmp_path / f"{stamp}.tif", np.array([[0, 10], [0, 10]], np.int32) + i + 1, crs=None)
    for day in ("1218", "1219"):
        write_raster(tmp_path / f"pet{day}.tif", np.full((2, 2), float(day[-1])))
    return {
        "precipitation": {"source": "%Y%m%d%H%M.tif", "units": "0.1 mm", "kind": "total", "stamp": "end",
                          "missing": list(missing), "crs": "EPSG:2154"},
        "potential_evapotranspiration": {"source": "pet%m%d.tif", "units": "mm d-1", "interannual": True},
    }


def lambert():
    return make_drainage(left=800_000.0, top=6_500_000.0, size=1000.0, n=2, factor=1, crs="EPSG:2154")


def test_rasters_named_by_their_stamp(tmp_path, write_raster):
    forcing = write_hours(tmp_path, write_raster, ["2014-12-19T00:00"])
    when = steps(4, HOUR, np.datetime64("2014-12-18T22:00", "s"))
    made = make(tmp_path, forcing, when=when, drainage=lambert())
    rain = made["precipitation"]
    assert rain.dtype == np.float32
    np.testing.assert_allclose(rain[[0, 2, 3]][:, :2], np.array([[1, 11], [3, 13], [4, 14]]) * 2.4, rtol=1e-7)
    assert np.isnan(rain[1]).all()
    assert made["missing"] == "2014-12-18T23:00:00"
    np.testing.assert_array_equal(made["potential_evapotranspiration"], 0.0)  # night


def test_interannual_rasters_serve_the_day_of_the_start(tmp_path, write_raster):
    forcing = write_hours(tmp_path, write_raster)
    for hour in range(24):
        write_raster(tmp_path / f"20141218{hour:02d}30.tif", np.zeros((2, 2)))
    forcing["precipitation"] |= {"source": "%Y%m%d%H30.tif", "stamp": "start"}
    made = make(tmp_path, forcing, when=steps(24, HOUR, np.datetime64("2014-12-18", "s")), drainage=lambert())
    assert made["potential_evapotranspiration"][12, 0] == pytest.approx(8.0 * 0.117 * 24, rel=1e-6)
    assert made["potential_evapotranspiration"].mean() == pytest.approx(8.0, rel=1e-6)


def test_absent_raster_is_named(tmp_path, write_raster):
    forcing = write_hours(tmp_path, write_raster)
    when = steps(4, HOUR, np.datetime64("2014-12-18T22:00", "s"))
    with pytest.raises(ForcingError, match=r"201412190000\.tif: there is no .*1 of 4.*declare its"):
        make(tmp_path, forcing, when=when, drainage=lambert())
    assert list((tmp_path / "made").iterdir()) == []
