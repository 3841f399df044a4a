"""Stacks of maps and time series tables of PCRaster, whose steps are counted from 1."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import yaml

from bmi_cdlm.names.errors import CdlmError, ForcingError
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.prepare.weather.raster_series import stack_name

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
for package in ("pandas", "cf_units", "pyproj"):
    pytest.importorskip(package, reason=f"{package} is not installed")
with rasterio.Env() as environment:
    if "PCRaster" not in environment.drivers():
        pytest.skip("GDAL has no driver for PCRaster", allow_module_level=True)

TSS = """timeseries rain
3
timestep
a
b
{}
"""
ROWS = ["    1      1.5    2.5", "    2      1e31   3.5", "    3      2.5    4.5"]


def write(folder, **sources):
    """Two basins, three days from 1 January 2000, the second of which is step 1."""
    from rasterio.shutil import copy

    for k in range(1, 4):
        values = np.full((4, 4), float(k), np.float32)
        values[0, 0] = np.nan
        transform = rasterio.Affine(0.25, 0, 10.0, 0, -0.25, 50.0)
        plain = folder / "plain.tif"
        with rasterio.open(plain, "w", driver="GTiff", height=4, width=4, count=1, dtype="float32",
                           transform=transform, nodata=np.nan) as out:
            out.write(values, 1)
        copy(plain, folder / f"rain0000.{k:03d}", driver="PCRaster", PCRASTER_VALUESCALE="VS_SCALAR")
    (folder / "basins.csv").write_text("id,gauge,area,lat,lon\na,a,100,49.6,10.4\nb,b,50,49.3,10.8\n")
    (folder / "pet.tss").write_text("".join(f"{k} {k / 2} {k / 4}\n" for k in (1, 2, 3)))
    (folder / "q.tss").write_text(TSS.format("\n".join(ROWS)))
    stack = {"source": "rain", "units": "mm d-1", "method": "nearest", "crs": "EPSG:4326", "first_step": "2000-01-01"}
    pet = {"source": "pet.tss", "layout": "wide", "units": "mm d-1", "first_step": "2000-01-01", "step": "1 d"}
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "observations": "q.nc", "start": "2000-01-02",
        "end": "2000-01-04", "prepare": {
            "network": {"table": "basins.csv"},
            "forcing": {"precipitation": stack | sources.get("rain", {}),
                        "potential_evapotranspiration": pet | sources.get("pet", {})},
            "observations": {"source": "q.tss", "layout": "wide", "units": "m3 s-1", "first_step": "2000-01-01",
                             "step": "1 d"},
        },
    }
    (folder / "case.yaml").write_text(yaml.safe_dump(content))
    return folder / "case.yaml"


def read(path, name):
    with netCDF4.Dataset(path) as dataset:
        return np.asarray(dataset[name][:].filled(np.nan)).tolist()


def test_maps_and_tables_by_their_steps(tmp_path):
    config = write(tmp_path)
    (tmp_path / "pet.tss").write_text(TSS.format("1 0.5 0.25\n2 1 0.5\n3 1.5 0.75"))
    prepare(config)
    assert read(tmp_path / "forcing.nc", "precipitation") == [[2, 2], [3, 3]]
    assert read(tmp_path / "forcing.nc", "potential_evapotranspiration") == [[1, 0.5], [1.5, 0.75]]
    flow = read(tmp_path / "q.nc", "discharge")
    assert np.isnan(flow[0][0]) and flow[0][1] == 3.5 and flow[1] == [2.5, 4.5]


def test_a_table_without_headings_counts_its_columns(tmp_path):
    config = write(tmp_path)
    with pytest.raises(CdlmError, match="none of its 2 basins or stations, such as 1, 2"):
        prepare(config)


@pytest.mark.parametrize(("sources", "message"), [
    ({"rain": {"first_step": "2000-01-03"}}, "begins at first_step, 2000-01-03T00:00:00, expected an interval from"),
    ({"rain": {"first_step": "1999-12-20"}}, r"rain0000\.014: there is no such raster"),
    ({"rain": {"first_step": "2000-01-01T06:00"}}, "do not begin at 2000-01-02T00:00:00"),
    ({"rain": {"crs": None}}, "has no reference system"),
    ({"pet": {"step": None}}, "their length is not known. Set step"),
    ({"pet": {"first_step": None}}, "'1' is no date .*first_step where steps are counted"),
])
def test_steps_that_mean_nothing(tmp_path, sources, message):
    with pytest.raises(CdlmError, match=message):
        prepare(write(tmp_path, **sources))
    assert not (tmp_path / "forcing.nc").exists()


def test_names_of_maps():
    assert [stack_name("m/rain", n) for n in (1, 999, 1000, 1234567)] == [
        "m/rain0000.001", "m/rain0000.999", "m/rain0001.000", "m/rain1234.567"]
    with pytest.raises(ForcingError, match="no name of 8 and 3 places"):
        stack_name("rain", 12345678)
