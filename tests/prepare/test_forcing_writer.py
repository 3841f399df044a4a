"""Forcing files from grids, rasters, stations and basins."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from make_drainage import make_drainage, write_grid

from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.weather import forcing_writer
from bmi_cdlm.prepare.weather.forcing_writer import Steps, Weather, write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.pet import Site, compute
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")

LON, LAT = np.arange(9.0, 11.01, 0.1), np.arange(50.8, 48.99, -0.1)
SHAPE = (LAT.size, LON.size)
HOUR, DAY = 3600, 86400
START = np.datetime64("2020-01-01", "s")


def steps(n=3, step=DAY, start=START):
    return Steps(start + np.arange(n) * np.timedelta64(step, "s"), step)


def make(tmp_path, forcing, pet=None, *, when=None, drainage=None, gauges=(), name="forcing.nc", run=()):
    drainage = drainage or make_drainage()
    target = Target(drainage, [g for g, _ in gauges], np.array([r for _, r in gauges], np.int64),
                    np.full(drainage.cells.area.size, 100.0))
    weather = Weather(ForcingConfig(**forcing), PetConfig(**(pet or {"method": "given"})), *run)
    out = tmp_path / "made" / name
    write_forcing(out, weather, target, when or steps(), tmp_path, {"title": "a test"})
    return read(out)


def read(path):
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {name: variable[:] for name, variable in dataset.variables.items()} | {"missing": dataset.missing_steps}


def constant(tmp_path, name, value, *, file="weather.nc", n=3, **options):
    """A field the same everywhere, one value per interval."""
    values = np.broadcast_to(np.asarray(value, float), (n,))[:, None, None] * np.ones((1, *SHAPE))
    options = {"times": np.arange(n) * 24.0, **options}
    return write_grid(tmp_path / file, name, values, LON, LAT, **options)


@pytest.fixture
def daily(tmp_path):
    constant(tmp_path, "precipitation", [1.0, 2.0, 3.0], units="mm d-1")
    constant(tmp_path, "pet", [4.0, 5.0, 6.0], units="mm/day")
    constant(tmp_path, "t2m", [273.15, 283.15, 263.15], units="K")
    return {"precipitation": {"source": "weather.nc"}, "potential_evapotranspiration": {"source": "weather.nc"},
            "air_temperature": {"source": "weather.nc"}}


def test_plain_days(tmp_path, daily):
    made = make(tmp_path, daily)
    assert made["cell_id"].tolist() == make_drainage().cells.id.tolist()
    np.testing.assert_allclose(made["precipitation"], np.array([1, 2, 3])[:, None] * np.ones(16), rtol=1e-6)
    np.testing.assert_allclose(made["potential_evapotranspiration"][:, 0], [4, 5, 6], rtol=1e-6)
    np.testing.assert_allclose(made["air_temperature"][:, 0], [0.0, 10.0, -10.0], atol=2e-5)
    assert made["missing"] == "none"
    assert not (tmp_path / "made" / "forcing.nc.partial").exists()


def test_the_model_reads_the_file(tmp_path, daily):
    make(tmp_path, daily)
    names = ["precipitation", "potential_evapotranspiration", "air_temperature"]
    ids = make_drainage().cells.id.tolist()
    with ForcingFile(tmp_path / "made" / "forcing.nc", names, ids, START, START + 3 * DAY, DAY, {}) as file:
        assert file.read(1, 1)["precipitation"].tolist() == [[2.0] * 16]


def test_fields_go_to_their_cells(tmp_path):
    drainage = make_drainage()
    plane = 0.01 * LON + 0.1 * LAT[:, None]
    for name in ("precipitation", "pet"):
        write_grid(tmp_path / "w.nc", name, np.stack([plane, 2 * plane]), LON, LAT, units="mm d-1", times=[0, 24])
    forcing = {name: {"source": "w.nc", "method": "bilinear"} for name in BASINS}
    made = make(tmp_path, forcing, when=steps(2), drainage=drainage)
    expected = 0.01 * drainage.cells.lon + 0.1 * drainage.cells.lat
    np.testing.assert_allclose(made["precipitation"], [expected, 2 * expected], rtol=1e-6)


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


def test_accumulation_that_begins_in_its_middle_needs_the_value_before(tmp_path):
    constant(tmp_path, "tp", np.tile(np.arange(1.0, 25.0), 2), file="a.nc", n=48, times=np.arange(1, 49.0), units="mm")
    constant(tmp_path, "pet", 1.0, file="a.nc", n=48, units="mm d-1")
    forcing = {"precipitation": {"source": "a.nc", "kind": "accumulated"},
               "potential_evapotranspiration": {"source": "a.nc", "stamp": "end"}}
    noon = START + 12 * HOUR
    made = make(tmp_path, forcing, when=steps(1, DAY, noon))
    assert made["precipitation"][0, 0] == pytest.approx(24.0)
    for name in ("tp", "pet"):
        constant(tmp_path, name, np.tile(np.arange(1.0, 25.0), 2)[12:36], file="b.nc", n=24, times=np.arange(13, 37.0),
                 units="mm" if name == "tp" else "mm d-1")
    forcing["precipitation"]["source"] = forcing["potential_evapotranspiration"]["source"] = "b.nc"
    with pytest.raises(ForcingError, match=r"no interval of 3600 s from 2020-01-01T11:00:00 UTC"):
        make(tmp_path, forcing, when=steps(1, DAY, noon))


@pytest.mark.parametrize(
    ("units", "kind", "value", "expected"),
    [
        ("m", "total", 0.002, 2.0), ("mm", "total", 2.0, 2.0), ("kg m-2", "total", 2.0, 2.0),
        ("0.1 mm", "total", 20.0, 2.0), ("kg m-2 s-1", None, 2.0 / 86400, 2.0),
        ("kg m**-2 s**-1", "mean", 2.0 / 86400, 2.0), ("mm h-1", None, 1.0, 24.0),
        ("m of water equivalent", "total", 0.002, 2.0),
    ],
)
def test_units_of_rain(tmp_path, units, kind, value, expected):
    constant(tmp_path, "tp", value, units=units)
    constant(tmp_path, "pet", -value, units=units)
    forcing = {"precipitation": {"source": "weather.nc", "kind": kind},
               "potential_evapotranspiration": {"source": "weather.nc", "kind": kind, "scale": -1}}
    made = make(tmp_path, forcing)
    np.testing.assert_allclose(made["precipitation"], expected, rtol=1e-6)
    np.testing.assert_allclose(made["potential_evapotranspiration"], expected, rtol=1e-6)


def test_cell_methods_say_what_an_amount_is(tmp_path, daily):
    constant(tmp_path, "pr", 3.0, file="sums.nc", units="mm", cell_methods="area: mean time: sum")
    made = make(tmp_path, {**daily, "precipitation": {"source": "sums.nc"}})
    np.testing.assert_allclose(made["precipitation"], 3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("units", "match"),
    [("mm", r"an amount; of each interval.*Set `kind`"), ("K", "do not convert to 'mm d-1'"), ("", "has no units"),
     ("blobs", "not known to UDUNITS")],
)
def test_units_that_do_not_do(tmp_path, daily, units, match):
    constant(tmp_path, "pr", 3.0, file="odd.nc", units=units)
    kind = None if units == "mm" else "mean"
    with pytest.raises(ForcingError, match=match):
        make(tmp_path, {**daily, "precipitation": {"source": "odd.nc", "kind": kind}})


@pytest.mark.parametrize(
    ("stamp", "hours"), [("start", 0.0), ("middle", 12.0), ("end", 24.0)]
)
def test_stamps(tmp_path, daily, stamp, hours):
    constant(tmp_path, "pr", [1.0, 2.0, 3.0], file="s.nc", units="mm d-1", times=np.arange(3) * 24.0 + hours)
    made = make(tmp_path, {**daily, "precipitation": {"source": "s.nc", "stamp": stamp}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [1, 2, 3])


def test_bounds_decide_and_local_time_is_shifted(tmp_path, daily):
    times = np.arange(3) * 24.0 + 12.0
    bounds = np.stack([times - 12.0, times + 12.0], axis=1)
    constant(tmp_path, "pr", [1.0, 2.0, 3.0], file="b.nc", units="mm d-1", times=times, bounds=bounds)
    made = make(tmp_path, {**daily, "precipitation": {"source": "b.nc"}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [1, 2, 3])
    constant(tmp_path, "pr", [1.0, 2.0, 3.0], file="c.nc", units="mm d-1", times=np.arange(3) * 24.0 + 8.0)
    made = make(tmp_path, {**daily, "precipitation": {"source": "c.nc", "utc_offset": 8}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [1, 2, 3])
    with pytest.raises(ForcingError, match=r"no interval of 86400 s from 2020-01-01T00:00:00 UTC.*utc_offset"):
        make(tmp_path, {**daily, "precipitation": {"source": "c.nc"}})


def test_gap_is_named_or_declared(tmp_path, daily):
    constant(tmp_path, "pr", [1.0, 3.0], file="g.nc", n=2, units="mm d-1", times=[0.0, 48.0])
    source = {"source": "g.nc", "step": "1 d"}
    with pytest.raises(ForcingError, match=r"from 2020-01-02T00:00:00 UTC \(1 of 3 are absent\)"):
        make(tmp_path, {**daily, "precipitation": source})
    made = make(tmp_path, {**daily, "precipitation": {**source, "missing": ["2020-01-02"]}})
    assert np.isnan(made["precipitation"][1]).all()
    np.testing.assert_allclose(made["precipitation"][[0, 2], 0], [1, 3])
    assert made["missing"] == "2020-01-02T00:00:00"


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars_that_are_no_dates(tmp_path, daily, calendar):
    constant(tmp_path, "pr", 1.0, file="m_1.nc", units="mm d-1", n=1, times=[0.0])
    constant(tmp_path, "pr", 1.0, file="m_2.nc", units="mm d-1", n=2, times=[24.0, 48.0], calendar=calendar)
    with pytest.raises(ForcingError, match=rf"m_2\.nc: has dates of the calendar {calendar}, .* of standard"):
        make(tmp_path, {**daily, "precipitation": {"source": "m_*.nc"}})


def test_files_that_overlap_in_time(tmp_path, daily):
    for k in (1, 2):
        constant(tmp_path, "pr", 1.0, file=f"o_{k}.nc", units="mm d-1")
    with pytest.raises(ForcingError, match=r"o_1\.nc: the interval from 2020-01-01.*is there twice, also in .*o_2"):
        make(tmp_path, {**daily, "precipitation": {"source": "o_*.nc"}})


def test_negative_rain_and_rounding(tmp_path, daily):
    constant(tmp_path, "pr", [1.0, -1e-4, 3.0], file="n.nc", units="mm d-1")
    assert make(tmp_path, {**daily, "precipitation": {"source": "n.nc"}})["precipitation"][1, 0] == 0.0
    constant(tmp_path, "pr", [1.0, -0.5, 3.0], file="m.nc", units="mm d-1")
    with pytest.raises(ForcingError, match=r"m\.nc: 'precipitation' is -0\.5 mm d-1 at 2020-01-02.* cell 0000_0000"):
        make(tmp_path, {**daily, "precipitation": {"source": "m.nc"}})
    assert not (tmp_path / "made" / "forcing.nc.partial").exists()


def test_kelvin_called_degrees_is_found_out(tmp_path, daily):
    constant(tmp_path, "t2m", 280.0, file="k.nc", units="degC")
    with pytest.raises(ForcingError, match=r"'air_temperature' is 280 degC.*expected -100 to 70"):
        make(tmp_path, {**daily, "air_temperature": {"source": "k.nc"}})


def test_sea_is_filled_from_the_nearest_land_and_later_gaps_are_named(tmp_path, daily):
    values = np.broadcast_to(LON * 1.0, (3, *SHAPE)).copy()
    values[:, :, LON > 10.03] = np.nan  # the eastern cells
    write_grid(tmp_path / "sea.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    made = make(tmp_path, {**daily, "precipitation": {"source": "sea.nc"}})
    np.testing.assert_allclose(made["precipitation"], 10.0, rtol=1e-6)
    values[1, 8, 10] = np.nan
    write_grid(tmp_path / "hole.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    with pytest.raises(ForcingError, match=r"hole\.nc: 'precipitation' is missing at 2020-01-02"):
        make(tmp_path, {**daily, "precipitation": {"source": "hole.nc"}})


def test_weather_of_another_region(tmp_path, daily):
    write_grid(tmp_path / "far.nc", "pr", np.ones((3, *SHAPE)), LON + 40, LAT, units="mm d-1", times=[0, 24, 48])
    with pytest.raises(ForcingError, match=r"far\.nc: does not reach 16 of 16 cells"):
        make(tmp_path, {**daily, "precipitation": {"source": "far.nc"}})


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


def test_no_pet_at_all(tmp_path, daily):
    del daily["potential_evapotranspiration"]
    with pytest.raises(ForcingError, match=r"no source of 'potential_evapotranspiration'.*pet\.method"):
        make(tmp_path, daily)


def test_oudin_from_temperature(tmp_path, daily):
    drainage = make_drainage()
    del daily["potential_evapotranspiration"]
    made = make(tmp_path, daily, {"method": "oudin"}, drainage=drainage)
    T = np.array([0.0, 10.0, -10.0])[:, None] * np.ones(16)
    start = int(START.astype(np.int64))
    expected = compute("oudin", start, {"air_temperature": T}, Site(drainage.cells.lat, drainage.cells.lon))
    np.testing.assert_allclose(made["potential_evapotranspiration"], expected, rtol=1e-4)


def test_mean_temperature_from_the_extremes(tmp_path, daily):
    constant(tmp_path, "tasmin", [1.0, 2.0, 3.0], units="degC")
    constant(tmp_path, "tasmax", [5.0, 8.0, 7.0], units="degC")
    plain = {"source": "weather.nc"}
    forcing = {"precipitation": plain, "minimum_temperature": plain, "maximum_temperature": plain}
    made = make(tmp_path, forcing, {"method": "oudin"})
    np.testing.assert_allclose(made["air_temperature"][:, 0], [3.0, 5.0, 5.0], rtol=1e-6)
    forcing["air_temperature"] = plain
    assert make(tmp_path, forcing, {"method": "oudin"})["air_temperature"][0, 0] == pytest.approx(0.0, abs=2e-5)


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


def write_basins(path, ids, values, lon=None, lat=None):
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.createDimension("time", values.shape[0])
        dataset.createDimension("basin", len(ids))
        time = dataset.createVariable("time", "i4", ("time",))
        time.units = "days since 2020-01-01"
        time[:] = np.arange(values.shape[0])
        dataset.createVariable("basin_id", str, ("basin",))[:] = np.array(ids, object)
        for name in ("precipitation", "pet"):
            variable = dataset.createVariable(name, "f4", ("time", "basin"))
            variable.units = "mm d-1"
            variable[:] = values
        if lon is not None:
            for name, axis in (("lon", lon), ("lat", lat)):
                dataset.createVariable(name, "f8", ("basin",))[:] = axis


BASINS = {name: {"source": "basins.nc"} for name in ("precipitation", "potential_evapotranspiration")}


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


def long_series(tmp_path, n=40):
    rng = np.random.default_rng(6)
    for name in ("precipitation", "pet", "t2m"):
        write_grid(tmp_path / "long.nc", name, rng.random((n, *SHAPE)), LON, LAT, times=np.arange(n) * 24.0,
                   units="degC" if name == "t2m" else "mm d-1")
    return {name: {"source": "long.nc"} for name in (*BASINS, "air_temperature")}


def test_blocks_of_time_make_no_difference(tmp_path):
    forcing = long_series(tmp_path)
    whole = make(tmp_path, forcing, when=steps(40))
    cut = make(tmp_path, {**forcing, "memory": 1e-5}, when=steps(40), name="cut.nc")
    for name in ("precipitation", "potential_evapotranspiration", "air_temperature", "time"):
        np.testing.assert_array_equal(cut[name], whole[name])


def test_too_little_memory_is_said(tmp_path):
    with pytest.raises(ForcingError, match=r"forcing\.memory is 1e-09 GB, expected at least"):
        make(tmp_path, {**long_series(tmp_path), "memory": 1e-9}, when=steps(40))


def test_killed_preparation_goes_on_at_the_last_whole_block(tmp_path, monkeypatch):
    forcing = {**long_series(tmp_path), "memory": 1e-5}
    whole = make(tmp_path, forcing, when=steps(40), name="whole.nc")
    kept, made = [], forcing_writer._Plan.make

    def counted(self, first, stop):
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(first)
        return made(self, first, stop)

    monkeypatch.setattr(forcing_writer._Plan, "make", counted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, forcing, when=steps(40))
    partial = tmp_path / "made" / "forcing.nc.partial"
    assert len(list(partial.glob("*.npy"))) == 3
    assert not (tmp_path / "made" / "forcing.nc").exists()
    first, kept[:] = list(kept), []
    monkeypatch.setattr(forcing_writer._Plan, "make", lambda self, a, b: kept.append(a) or made(self, a, b))
    again = make(tmp_path, forcing, when=steps(40))
    assert kept[0] == first[-1] + first[1] - first[0]
    assert not set(kept) & set(first)
    np.testing.assert_array_equal(again["precipitation"], whole["precipitation"])
    assert not partial.exists()


def test_blocks_of_another_configuration_are_not_taken_up(tmp_path, monkeypatch):
    forcing = {**long_series(tmp_path), "memory": 1e-5}
    made = forcing_writer._Plan.make
    calls = []

    def once(self, first, stop):
        if calls:
            raise KeyboardInterrupt
        calls.append(first)
        return made(self, first, stop)

    monkeypatch.setattr(forcing_writer._Plan, "make", once)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, forcing, when=steps(40))
    monkeypatch.setattr(forcing_writer._Plan, "make", made)
    doubled = {**forcing, "precipitation": {"source": "long.nc", "scale": 2}}
    plain = make(tmp_path, forcing, when=steps(40), name="plain.nc")
    np.testing.assert_allclose(
        make(tmp_path, doubled, when=steps(40))["precipitation"], 2.0 * plain["precipitation"], rtol=1e-6
    )


def test_two_runs_write_the_same_bytes(tmp_path, daily):
    make(tmp_path, daily, name="a.nc")
    make(tmp_path, daily, name="b.nc")
    a, b = ((tmp_path / "made" / name).read_bytes() for name in ("a.nc", "b.nc"))
    assert a == b
    assert str(tmp_path).encode() not in a


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
