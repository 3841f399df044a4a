"""Files of weather as services give them: axes, projections, packed values, variables by their usual names."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from forcing_cases import HOUR, LAT, LON, SHAPE, constant, make, steps
from make_drainage import make_drainage, write_grid

from bmi_cdlm.names.errors import ForcingError

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def test_era5_land(tmp_path):
    """Hourly files, amounts since midnight stamped at the end, metres of water, kelvin, joules; a file per two days."""
    rng = np.random.default_rng(5)
    rain = rng.random((4, 24)) * 0.001  # m per hour
    light = np.broadcast_to(np.maximum(0.0, np.sin((np.arange(24) - 6) / 12 * np.pi)), (4, 24)) * 2e6  # J m-2 per hour
    warm = 280.0 + 5.0 * np.sin((np.arange(96) - 9) / 24 * 2 * np.pi).reshape(4, 24)
    stamps = np.arange(1, 97.0)  # ends of the hours
    for k, hours in enumerate((slice(0, 48), slice(48, 96))):
        file = f"era5_{k}.nc"
        for name, values, units in (
            ("tp", np.cumsum(rain, axis=1), "m"), ("ssrd", np.cumsum(light, axis=1), "J m**-2"),
        ):
            constant(tmp_path, name, values.ravel()[hours], file=file, n=48, times=stamps[hours], units=units)
    # instantaneous fields at 00, 01, ...: one file
    for name, values, units in (("t2m", warm, "K"), ("d2m", warm - 5.0, "K"), ("u10", warm * 0 + 3.0, "m s**-1"),
                                ("v10", warm * 0 + 4.0, "m s**-1"), ("sp", warm * 0 + 100_000.0, "Pa")):
        constant(tmp_path, name, values.ravel(), file="instants.nc", n=96, times=np.arange(96.0), units=units)
    instants = {"source": "instants.nc"}
    forcing = {
        "precipitation": {"source": "era5_*.nc", "kind": "accumulated"},
        "shortwave_radiation": {"source": "era5_*.nc", "kind": "accumulated"},
        "air_temperature": instants, "minimum_temperature": {**instants, "variable": "t2m"},
        "maximum_temperature": {**instants, "variable": "t2m"}, "dewpoint_temperature": instants,
        "eastward_wind": instants, "northward_wind": instants, "surface_pressure": instants,
    }
    made = make(tmp_path, forcing, {"method": "fao56"}, when=steps(4))
    np.testing.assert_allclose(made["precipitation"][:, 3], rain.sum(axis=1) * 1000.0, rtol=1e-4)
    np.testing.assert_allclose(made["air_temperature"][:, 3], warm.mean(axis=1) - 273.15, atol=1e-4)
    demand = made["potential_evapotranspiration"]
    assert np.isfinite(demand).all()
    assert 1.0 < demand[0, 0] < 4.0
    hourly = make(tmp_path, forcing, {"method": "fao56"}, when=steps(96, HOUR), name="hourly.nc")
    np.testing.assert_allclose(hourly["precipitation"][:, 0], rain.ravel() * 24_000.0, rtol=2e-3, atol=1e-3)
    by_hour = hourly["potential_evapotranspiration"]
    np.testing.assert_allclose(by_hour.reshape(4, 24, 16).mean(axis=1), demand, rtol=1e-5)
    assert by_hour[:5].max() == 0.0 and by_hour[5].min() > 0.0  # 10 degrees east


def test_zarr(tmp_path, daily):
    xarray, _ = pytest.importorskip("xarray"), pytest.importorskip("zarr", reason="zarr is not installed")
    made = make(tmp_path, daily)
    with xarray.open_dataset(tmp_path / "weather.nc") as dataset:
        dataset.to_zarr(tmp_path / "weather.zarr", zarr_format=2, consolidated=True)
    again = make(tmp_path, {name: {"source": "weather.zarr"} for name in daily}, name="z.nc")
    np.testing.assert_array_equal(again["precipitation"], made["precipitation"])


def test_rotated_pole(tmp_path, daily):
    import pyproj

    mapping = {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25,
               "grid_north_pole_longitude": -162.0}
    system = pyproj.CRS.from_cf(mapping)
    drainage = make_drainage()
    to_pole = pyproj.Transformer.from_crs("EPSG:4326", system, always_xy=True)
    x, y = to_pole.transform(drainage.cells.lon, drainage.cells.lat)
    rlon, rlat = np.arange(x.min() - 0.5, x.max() + 0.5, 0.01), np.arange(y.min() - 0.5, y.max() + 0.5, 0.01)
    field = np.broadcast_to(rlon + 20.0 + 2.0 * rlat[:, None], (3, rlat.size, rlon.size))
    write_grid(tmp_path / "r.nc", "pr", field, rlon, rlat, units="mm d-1", times=[0, 24, 48], dims=("rlat", "rlon"),
               grid_mapping="rotated_pole")
    with netCDF4.Dataset(tmp_path / "r.nc", "a") as dataset:
        dataset.createVariable("rotated_pole", "i4").setncatts(mapping)
    made = make(tmp_path, {**daily, "precipitation": {"source": "r.nc"}}, drainage=drainage)
    np.testing.assert_allclose(made["precipitation"][0], x + 20.0 + 2.0 * y, atol=0.002)


def test_no_reference_system(tmp_path, daily):
    ones = np.ones((3, *SHAPE))
    write_grid(tmp_path / "map.nc", "pr", ones, LON, LAT, units="mm d-1", times=[0, 24, 48], dims=("y", "x"))
    with pytest.raises(ForcingError, match=r"no reference system.*Set `crs`"):
        make(tmp_path, {**daily, "precipitation": {"source": "map.nc"}})
    with netCDF4.Dataset(tmp_path / "map.nc", "a") as dataset:
        dataset["pr"].grid_mapping = "lost"
    with pytest.raises(ForcingError, match=r"no reference system \(its grid_mapping 'lost' is not in the file"):
        make(tmp_path, {**daily, "precipitation": {"source": "map.nc"}})
    made = make(tmp_path, {**daily, "precipitation": {"source": "map.nc", "crs": "EPSG:4326"}})
    np.testing.assert_allclose(made["precipitation"], 1.0)


def test_which_variable(tmp_path, daily):
    constant(tmp_path, "rain_of_mine", 1.0, file="v.nc", units="mm d-1")
    with pytest.raises(ForcingError, match=r"no variable fits of rain_of_mine, expected .*Set `variable`"):
        make(tmp_path, {**daily, "precipitation": {"source": "v.nc"}})
    with pytest.raises(ForcingError, match=r"no variable 'rain_of_min'.*'rain_of_mine'"):
        make(tmp_path, {**daily, "precipitation": {"source": "v.nc", "variable": "rain_of_min"}})


def test_forecasts_on_two_axes_of_time(tmp_path, daily):
    """As cfgrib gives ERA5-Land: (time, step), valid_time on both; amounts since the start of each forecast."""
    rain = np.random.default_rng(7).random((4, 24)) * 0.001
    with netCDF4.Dataset(tmp_path / "grib.nc", "w") as dataset:
        for name, values, units in (
            ("time", (np.arange(4) - 1) * 24.0 + 24.0, "hours since 2020-01-01"), ("step", np.arange(1, 25.0), "hours"),
            ("latitude", LAT, "degrees_north"), ("longitude", LON, "degrees_east"),
        ):
            dataset.createDimension(name, values.size)
            axis = dataset.createVariable(name, "f8", (name,))
            axis.units = units
            axis[:] = values
        dataset.createDimension("number", 1)
        valid = dataset.createVariable("valid_time", "f8", ("time", "step"))
        valid.setncatts({"units": "hours since 2020-01-01", "standard_name": "time"})
        valid[:] = np.arange(4)[:, None] * 24.0 + np.arange(1, 25.0)
        tp = dataset.createVariable("tp", "f4", ("number", "time", "step", "latitude", "longitude"))
        tp.setncatts({"units": "m", "coordinates": "valid_time"})
        tp[:] = np.cumsum(rain, axis=1)[None, :, :, None, None] * np.ones(SHAPE)
    made = make(tmp_path, {**daily, "precipitation": {"source": "grib.nc", "kind": "accumulated"}})
    np.testing.assert_allclose(made["precipitation"][:, 0], rain[:3].sum(axis=1) * 1000.0, rtol=1e-4)


def test_time_called_valid_time(tmp_path, daily):
    """As the Climate Data Store gives ERA5-Land since 2024."""
    with netCDF4.Dataset(tmp_path / "cds.nc", "w") as dataset:
        for name, values, units in (
            ("valid_time", np.arange(3) * 86400, "seconds since 2020-01-01"), ("latitude", LAT, "degrees_north"),
            ("longitude", LON, "degrees_east"),
        ):
            dataset.createDimension(name, values.size)
            axis = dataset.createVariable(name, values.dtype, (name,))
            axis.units = units
            axis[:] = values
        dataset.createVariable("expver", str, ("valid_time",))[:] = np.array(["0001"] * 3, object)
        tp = dataset.createVariable("tp", "f4", ("valid_time", "latitude", "longitude"))
        tp.setncatts({"units": "m", "GRIB_stepType": "accum"})
        tp[:] = np.array([1.0, 2.0, 3.0])[:, None, None] * 0.001 * np.ones(SHAPE)
    made = make(tmp_path, {**daily, "precipitation": {"source": "cds.nc", "kind": "total"}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [1, 2, 3], rtol=1e-6)


def test_packed_values(tmp_path, daily):
    constant(tmp_path, "pr", 1.0, file="packed.nc", units="mm d-1")
    with netCDF4.Dataset(tmp_path / "packed.nc", "a") as dataset:
        packed = dataset.createVariable("rain", "i2", ("time", "latitude", "longitude"), fill_value=np.int16(-32768))
        packed.setncatts({"units": "mm d-1", "scale_factor": 0.01, "add_offset": 100.0})
        packed[:] = np.array([[[100.0]], [[112.34]], [[250.0]]]) * np.ones((1, *SHAPE))
    made = make(tmp_path, {**daily, "precipitation": {"source": "packed.nc", "variable": "rain"}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [100.0, 112.34, 250.0], rtol=1e-6)


@pytest.mark.parametrize("turned", ["ascending", "0 to 360"])
def test_axes_of_other_kinds_make_no_difference(tmp_path, turned):
    rng = np.random.default_rng(4)
    values = rng.random((3, *SHAPE))
    lon, lat, flipped = LON, LAT, values
    if turned == "ascending":
        lat, flipped = LAT[::-1], values[:, ::-1]
    else:
        lon = LON + 360.0
    for name, (x, y, field) in {"a": (LON, LAT, values), "b": (lon, lat, flipped)}.items():
        for variable in ("precipitation", "pet"):
            write_grid(tmp_path / f"{name}.nc", variable, field, x, y, units="mm d-1", times=[0, 24, 48])
    a, b = (
        make(tmp_path, {v: {"source": f"{n}.nc"} for v in ("precipitation", "potential_evapotranspiration")}, name=n)
        for n in ("a", "b")
    )
    np.testing.assert_allclose(a["precipitation"], b["precipitation"], rtol=1e-6)
    assert np.ptp(a["precipitation"]) > 0.01
