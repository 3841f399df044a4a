"""Curvilinear weather grids against grids whose overlaps are known: rotated and skewed, WRF's names, corners, seams."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from make_drainage import make_drainage

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig

for package in ("rasterio", "scipy", "shapely", "pyproj"):
    pytest.importorskip(package, reason=f"{package} is not installed")

DAY = 86400
RUN = ("precipitation",)


def write(
    path, lon, lat, values, *, names=("lon", "lat"), dims=("time", "y", "x"), repeated=False, corners=None, **time
):
    """Daily values on (time, row, column), with longitudes and latitudes on rows and columns."""
    with netCDF4.Dataset(path, "w") as out:
        for dim, size in zip(dims, values.shape, strict=True):
            out.createDimension(dim, size)
        stamps = out.createVariable(time.get("name", "time"), "f8", dims[:1])
        stamps.units = time.get("units", "days since 2020-01-01")
        stamps[:] = np.arange(values.shape[0]) * time.get("by", 1)
        for name, values_, standard in zip(names, (lon, lat), ("longitude", "latitude"), strict=True):
            variable = out.createVariable(name, "f8", dims if repeated else dims[1:])
            variable[:] = values_[None] if repeated else values_
            if names[0] == "lon":
                variable.standard_name = standard
        if corners is not None:
            out.createDimension("vertex", 4)
            for name, values_ in zip(names, corners, strict=True):
                out[name].bounds = f"{name}_vertices"
                out.createVariable(f"{name}_vertices", "f8", (*dims[1:], "vertex"))[:] = values_
        rain = out.createVariable("pr", "f8", dims)
        rain.setncatts({"units": "mm d-1", "coordinates": " ".join(names)})
        rain[:] = values
    return path


def make(folder, source=None, *, drainage=None, n=2):
    drainage = drainage or make_drainage()
    target = Target(drainage, [], np.zeros(0, np.int64))
    forcing = ForcingConfig(precipitation={"source": "w.nc", **(source or {})})
    steps = Steps(np.datetime64("2020-01-01", "s") + np.arange(n) * np.timedelta64(DAY, "s"), DAY)
    write_forcing(folder / "f.nc", Weather(forcing, PetConfig(), RUN), target, steps, folder, {})
    with netCDF4.Dataset(folder / "f.nc") as dataset:
        return dataset["precipitation"][:].filled(np.nan)


def plain(cells, step=0.013):
    """Centres of a grid of degrees about the cells, as rows and columns."""
    return np.meshgrid(np.arange(cells.lon.min() - 0.2, cells.lon.max() + 0.2, step),
                       np.arange(cells.lat.min() - 0.2, cells.lat.max() + 0.2, step))


def test_a_grid_of_degrees_written_as_a_curvilinear_one(tmp_path):
    """The same fields, on two axes and on rows and columns, give the same cells."""
    cells = make_drainage().cells
    lon, lat = plain(cells)
    values = np.random.default_rng(3).uniform(0, 9, (2, *lon.shape))
    write(tmp_path / "w.nc", lon, lat, values)
    curved = make(tmp_path)
    with netCDF4.Dataset(tmp_path / "w.nc", "w") as out:
        for dim, axis in (("time", [0, 1]), ("lat", lat[:, 0]), ("lon", lon[0])):
            out.createDimension(dim, len(axis))
            out.createVariable(dim, "f8", (dim,))[:] = axis
        out["time"].units = "days since 2020-01-01"
        rain = out.createVariable("pr", "f8", ("time", "lat", "lon"))
        rain.units, rain[:] = "mm d-1", values
    np.testing.assert_allclose(curved, make(tmp_path), rtol=2e-4)


@pytest.mark.parametrize("turn", [0.0, 30.0, 137.0])
def test_turned_and_skewed_grids_share_out_all_of_a_cell(tmp_path, turn):
    """A field that is linear in place: the mean over a cell is its value in the midst, up to the size of a pixel."""
    cells = make_drainage().cells
    i, j = np.meshgrid(np.arange(80) - 40, np.arange(90) - 45, indexing="ij")
    angle, size = np.radians(turn), 0.006
    x, y = (j + 0.2 * i) * size * 1.4, i * size
    lon = cells.lon.mean() + x * np.cos(angle) - y * np.sin(angle)
    lat = cells.lat.mean() + x * np.sin(angle) + y * np.cos(angle)
    values = np.stack([np.full(lon.shape, 4.0), 5 + 10 * (lon - cells.lon.mean()) + 20 * (lat - cells.lat.mean())])
    write(tmp_path / "w.nc", lon, lat, values)
    found = make(tmp_path)
    np.testing.assert_allclose(found[0], 4.0, rtol=1e-6)
    expected = 5 + 10 * (cells.lon - cells.lon.mean()) + 20 * (cells.lat - cells.lat.mean())
    np.testing.assert_allclose(found[1], expected, atol=0.01)
    near = make(tmp_path, {"method": "nearest"})
    assert np.abs(near[1] - expected).max() < 0.2  # half a pixel
    assert np.abs(near[1] - values[1].reshape(-1, 1)).min(axis=0).max() < 1e-5  # as it is in one of them


def test_wrf_calls_it_xlat_and_repeats_it(tmp_path):
    cells = make_drainage().cells
    lon, lat = plain(cells)
    values = np.stack([np.full(lon.shape, 2.0), np.full(lon.shape, 3.0)])
    write(tmp_path / "w.nc", lon, lat, values, names=("XLONG", "XLAT"), dims=("Time", "south_north", "west_east"),
          repeated=True, name="XTIME", units="minutes since 2020-01-01 00:00:00", by=1440)
    np.testing.assert_allclose(make(tmp_path), [[2.0] * 16, [3.0] * 16], rtol=1e-6)


def test_corners_that_the_file_states(tmp_path):
    """Two columns of pixels that meet, by their corners, at a quarter of the way between their centres."""
    cells = make_drainage().cells
    west, east = cells.corner_lon.min() - 0.1, cells.corner_lon.max() + 0.1
    south, north = cells.corner_lat.min() - 0.1, cells.corner_lat.max() + 0.1
    edge = cells.corner_lon.min() + 0.3 * (cells.corner_lon.max() - cells.corner_lon.min())
    lon, lat = np.meshgrid([(west + edge) / 2, (edge + east) / 2], [south + 0.05, north - 0.05])
    sides = ((west, edge), (edge, east))
    middle = (south + north) / 2
    corner_lon = np.array([[[a, b, b, a] for a, b in sides]] * 2)
    corner_lat = np.array([[[c, c, d, d]] * 2 for c, d in ((south, middle), (middle, north))])
    values = np.zeros((1, 2, 2))
    values[..., 1] = 1.0
    write(tmp_path / "w.nc", lon, lat, values, corners=(corner_lon, corner_lat))
    share = np.clip((cells.corner_lon.max(1) - edge) / np.ptp(cells.corner_lon, axis=1), 0, 1)
    np.testing.assert_allclose(make(tmp_path, n=1)[0], share, atol=2e-5)


@pytest.mark.parametrize("turns", [-360.0, 0.0, 360.0])
def test_longitudes_of_any_turn_and_across_180(tmp_path, turns):
    drainage = make_drainage()
    shift = 180.0 - drainage.cells.lon.mean()
    moved = [np.where(a + shift > 180, a + shift - 360, a + shift) for a in
             (drainage.cells.lon, drainage.cells.corner_lon)]
    cells = drainage.cells._replace(lon=moved[0], corner_lon=moved[1])
    lon, lat = plain(drainage.cells)
    values = np.stack([lon - drainage.cells.lon.mean() + 5] * 2)
    write(tmp_path / "w.nc", lon + shift + (turns if turns < 0 else 0), lat, values)
    found = make(tmp_path, drainage=drainage._replace(cells=cells))
    np.testing.assert_allclose(found[0], drainage.cells.lon - drainage.cells.lon.mean() + 5, atol=1e-3)


def test_heights_of_the_grid_bring_rain_to_the_cells(tmp_path):
    """Cells at 500 m over a grid of 1000 m, repeated in time as WRF has it: half a km, 10 % a km less."""
    drainage = make_drainage()
    lon, lat = plain(drainage.cells)
    write(tmp_path / "w.nc", lon, lat, np.full((2, *lon.shape), 4.0))
    write(tmp_path / "h.nc", lon, lat, np.full((2, *lon.shape), 1000.0 * 9.80665))
    with netCDF4.Dataset(tmp_path / "h.nc", "a") as dataset:
        dataset["pr"].units = "m2 s-2"
    target = Target(drainage, [], np.zeros(0, np.int64), np.full(16, 500.0))
    forcing = ForcingConfig(precipitation={"source": "w.nc", "height": "h.nc:pr", "gradient": 0.1})
    steps = Steps(np.datetime64("2020-01-01", "s") + np.arange(2) * np.timedelta64(DAY, "s"), DAY)
    write_forcing(tmp_path / "f.nc", Weather(forcing, PetConfig(), RUN), target, steps, tmp_path, {})
    with netCDF4.Dataset(tmp_path / "f.nc") as dataset:
        np.testing.assert_allclose(dataset["precipitation"][:], 3.8, rtol=1e-6)
    write(tmp_path / "h.nc", lon + 0.01, lat, np.full((2, *lon.shape), 1000.0))
    with pytest.raises(ForcingError, match="at the same longitudes and latitudes"):
        write_forcing(tmp_path / "f.nc", Weather(forcing, PetConfig(), RUN), target, steps, tmp_path, {})


def test_what_is_refused(tmp_path):
    cells = make_drainage().cells
    lon, lat = plain(cells)
    values = np.ones((2, *lon.shape))
    write(tmp_path / "w.nc", lon, lat, values)
    with pytest.raises(ForcingError, match=r"is a curvilinear grid; method is bilinear, expected one of conservative"):
        make(tmp_path, {"method": "bilinear"})
    write(tmp_path / "w.nc", lon + 5.0, lat, values)
    with pytest.raises(ForcingError, match=r"does not reach 16 of 16 cells"):
        make(tmp_path)
    lat[3, 3] = np.nan
    write(tmp_path / "w.nc", lon, lat, values)
    with pytest.raises(ForcingError, match="'lon' or 'lat' is missing somewhere"):
        make(tmp_path)
