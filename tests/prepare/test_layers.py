"""Rasters from GeoTIFF, NetCDF and packages, on the grid that they say."""

from __future__ import annotations

import sys

import netCDF4
import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")
pytest.importorskip("rasterio", reason="rasterio is not installed")

from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.network.layers import locate, read_raster

VALUES = np.arange(12, dtype=np.int16).reshape(3, 4)


def write_netcdf(
    path, values=VALUES, *, lat=(50.5, 50.0, 49.5), lon=(7.0, 7.5, 8.0, 8.5), units=True, fill=None, dims=("lat", "lon")
):
    with netCDF4.Dataset(path, "w") as file:
        for name, centres, word in ((dims[0], lat, "degrees_north"), (dims[1], lon, "degrees_east")):
            file.createDimension(name, len(centres))
            variable = file.createVariable(name, "f4", (name,))
            variable[:] = centres
            if units:
                variable.units = word
        file.createVariable("codes", values.dtype, dims, fill_value=fill)[:] = values
    return path


def test_geotiff(tmp_path, write_raster):
    write_raster(tmp_path / "a.tif", VALUES, nodata=5)
    raster = read_raster("a.tif", tmp_path, DomainError)
    assert raster.grid == (800_000.0, 6_500_000.0, 1000.0, 1000.0, 3, 4, "EPSG:2154")
    np.testing.assert_array_equal(raster.values[raster.valid], VALUES[VALUES != 5])
    assert np.argwhere(~raster.valid).tolist() == [[1, 1]]


def test_float_nodata_is_rounded_as_the_file_rounds(tmp_path, write_raster):
    values = VALUES.astype(np.float32)
    values[0, 0], values[0, 1] = -3.4e38, np.nan
    write_raster(tmp_path / "a.tif", values, nodata=-3.4e38)
    assert np.argwhere(~read_raster("a.tif", tmp_path, DomainError).valid).tolist() == [[0, 0], [0, 1]]


def test_netcdf_variable(tmp_path):
    write_netcdf(tmp_path / "a.nc", fill=7)
    raster = read_raster("a.nc:codes", tmp_path, DomainError)
    assert raster.grid == (6.75, 50.75, 0.5, 0.5, 3, 4, "EPSG:4326")
    np.testing.assert_array_equal(raster.values[raster.valid], VALUES[VALUES != 7])
    assert np.argwhere(~raster.valid).tolist() == [[1, 3]]


def test_netcdf_from_south_to_north(tmp_path):
    write_netcdf(tmp_path / "a.nc", lat=(49.5, 50.0, 50.5))
    raster = read_raster("a.nc:codes", tmp_path, DomainError)
    assert raster.grid.top == 50.75
    np.testing.assert_array_equal(raster.values, VALUES[::-1])


def test_netcdf_with_a_grid_mapping(tmp_path):
    path = write_netcdf(tmp_path / "a.nc", units=False, dims=("y", "x"))
    with pytest.raises(DomainError, match=r"has no reference system.*Set `crs`"):
        read_raster("a.nc:codes", tmp_path, DomainError)
    assert read_raster("a.nc:codes", tmp_path, DomainError, crs="EPSG:3035").grid.crs == "EPSG:3035"
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("system", "i4", ()).epsg_code = "EPSG:2154"
        file["codes"].grid_mapping = "system"
    assert read_raster("a.nc:codes", tmp_path, DomainError, crs="EPSG:3035").grid.crs == "EPSG:2154"


def test_bands_in_variables_of_their_own(tmp_path):
    path = write_netcdf(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("other", "i4", ("lat", "lon"))[:] = VALUES + 100
    raster = read_raster("a.nc:codes,other", tmp_path, DomainError, bands=2)
    np.testing.assert_array_equal(raster.values, np.stack([VALUES, VALUES + 100]))
    assert raster.valid.shape == (3, 4)


def test_scaled_netcdf(tmp_path):
    path = write_netcdf(tmp_path / "a.nc", fill=7)
    with netCDF4.Dataset(path, "a") as file:
        file["codes"].setncatts({"scale_factor": 0.1, "add_offset": 5.0})
    raster = read_raster("a.nc:codes", tmp_path, DomainError)
    assert np.argwhere(~raster.valid).tolist() == [[1, 3]]
    np.testing.assert_allclose(raster.values[raster.valid], VALUES[VALUES != 7] * 0.1 + 5.0, rtol=1e-6)


def test_scaled_geotiff(tmp_path, write_raster):
    rasterio = pytest.importorskip("rasterio")
    path = write_raster(tmp_path / "a.tif", VALUES, nodata=7)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.1,), (5.0,)
    raster = read_raster("a.tif", tmp_path, DomainError)
    np.testing.assert_allclose(raster.values[raster.valid], VALUES[VALUES != 7] * 0.1 + 5.0, rtol=1e-6)


def test_cut_out_across_the_meridian_of_a_count_from_0_to_360(tmp_path):
    write_netcdf(tmp_path / "a.nc", lon=(359.0, 359.5, 0.0, 0.5))
    raster = read_raster("a.nc:codes", tmp_path, DomainError)
    assert raster.grid[:4] == (358.75, 50.75, 0.5, 0.5)


def test_axes_known_by_their_units(tmp_path):
    write_netcdf(tmp_path / "a.nc", dims=("rows", "columns"))
    assert read_raster("a.nc:codes", tmp_path, DomainError).grid.crs == "EPSG:4326"


def test_unknown_reference_system(tmp_path, write_raster):
    write_raster(tmp_path / "a.tif", VALUES, crs=None)
    write_netcdf(tmp_path / "a.nc", units=False)
    for name in ("a.tif", "a.nc:codes"):
        with pytest.raises(DomainError, match=r"'EPSG:99999' cannot be understood.*correct the key `crs`"):
            read_raster(name, tmp_path, DomainError, crs="EPSG:99999")


def test_raster_without_a_system(tmp_path, write_raster):
    write_raster(tmp_path / "a.tif", VALUES, crs=None)
    with pytest.raises(DomainError, match=r"a\.tif: has no reference system"):
        read_raster("a.tif", tmp_path, DomainError)
    assert read_raster("a.tif", tmp_path, DomainError, crs="EPSG:2154").grid.crs == "EPSG:2154"


def test_uneven_coordinates(tmp_path):
    write_netcdf(tmp_path / "a.nc", lat=(50.5, 50.0, 49.0))
    with pytest.raises(DomainError, match=r"'lat' is not regular"):
        read_raster("a.nc:codes", tmp_path, DomainError)


def test_too_few_bands(tmp_path, write_raster):
    write_raster(tmp_path / "a.tif", VALUES)
    with pytest.raises(DomainError, match=r"has 1 bands, expected 2"):
        read_raster("a.tif", tmp_path, DomainError, bands=2)
    write_netcdf(tmp_path / "a.nc")
    with pytest.raises(DomainError, match=r"has shape \(3, 4\), expected 2 bands of rows and columns"):
        read_raster("a.nc:codes", tmp_path, DomainError, bands=2)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("b.tif", DomainError, r"b\.tif: there is no such raster"),
        ("b.nc:codes", DomainError, r"b\.nc: there is no such file"),
        ("a.nc:code", DomainError, r"there is no variable 'code'.* mean 'codes'"),
        ("a.nc", ConfigError, r"which variable\? Expected 'file\.nc:variable'"),
        ("package:not_there/a.tif", ConfigError, r"with the module 'not_there', which is not installed"),
    ],
)
def test_what_is_not_there(tmp_path, name, error, message):
    write_netcdf(tmp_path / "a.nc")
    with pytest.raises(error, match=message):
        read_raster(name, tmp_path, DomainError)


def test_raster_inside_a_package(tmp_path, monkeypatch):
    (tmp_path / "carrier" / "maps").mkdir(parents=True)
    (tmp_path / "carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("package:carrier/maps/a.tif", tmp_path)[0] == tmp_path / "carrier" / "maps" / "a.tif"
    write_netcdf(tmp_path / "carrier" / "maps" / "a.nc")
    assert read_raster("package:carrier/maps/a.nc:codes", tmp_path / "other", DomainError).values.shape == (3, 4)
    assert "carrier" not in sys.modules
