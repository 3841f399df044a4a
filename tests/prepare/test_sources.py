"""Sources of weather as they come: further dimensions, axes of other names, valid ranges, and what a message names."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from make_drainage import make_drainage, write_grid

from bmi_cdlm.names.errors import DomainError, ForcingError
from bmi_cdlm.prepare.network.directions import make_flow
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyflwdir"):
    pytest.importorskip(package, reason=f"{package} is not installed")

DAY = 86400
START = np.datetime64("2020-01-01", "s")
LON, LAT = 9.95 + 0.05 * np.arange(7), 50.05 - 0.05 * np.arange(7)
SHAPE = (LAT.size, LON.size)


def make(folder, forcing, pet=None, *, n=3, step=DAY, run=("precipitation",), drainage=None):
    """Forcing on the cells by name, and what the preparation says."""
    steps = Steps(START + np.arange(n) * np.timedelta64(step, "s"), step)
    weather = Weather(ForcingConfig(**forcing), PetConfig(**(pet or {})), run)
    target = Target(drainage or make_drainage(), [], np.zeros(0, np.int64))
    notes = write_forcing(folder / "forcing.nc", weather, target, steps, folder, {})
    with netCDF4.Dataset(folder / "forcing.nc") as dataset:
        dataset.set_auto_mask(False)
        return {name: v[:] for name, v in dataset.variables.items()}, notes


def write_expver(path, first, second, versions=(1, 5)):
    """Rain [m] on (time, expver, y, x): final data, then the preliminary ones that complete them."""
    with netCDF4.Dataset(path, "w") as dataset:
        for name, values, units in (
            ("time", [0, 24, 48], "hours since 2020-01-01"), ("expver", versions, None),
            ("latitude", LAT, "degrees_north"), ("longitude", LON, "degrees_east"),
        ):
            dataset.createDimension(name, len(values))
            axis = dataset.createVariable(name, "f8" if units else "i4", (name,))
            axis[:] = values
            if units:
                axis.units = units
        rain = dataset.createVariable("tp", "f4", ("time", "expver", "latitude", "longitude"), fill_value=-999.0)
        rain.units = "m"
        for k, days in enumerate((first, second)):
            for day, value in enumerate(days):
                rain[day, k] = np.ma.masked_all(SHAPE) if value is None else np.full(SHAPE, value)


def test_a_further_dimension_is_named_with_its_values_and_its_key(tmp_path):
    write_expver(tmp_path / "p.nc", (0.001, 0.002, None), (None, None, 0.003))
    source = {"source": "p.nc", "kind": "total"}
    said = r"further dimension beside time and place: expver \(1, 5\).*select: \{expver: VALUE\}, or \{expver: first\}"
    with pytest.raises(ForcingError, match=said):
        make(tmp_path, {"precipitation": source})
    found, _ = make(tmp_path, {"precipitation": {**source, "select": {"expver": "first"}}})
    np.testing.assert_allclose(found["precipitation"], np.array([1, 2, 3])[:, None] * np.ones(16), rtol=1e-6)
    with pytest.raises(ForcingError, match="is missing at 2020-01-03"):
        make(tmp_path, {"precipitation": {**source, "select": {"expver": 1}}})
    with pytest.raises(ForcingError, match=r"select\.expver is 2, expected one of 1, 5, or first"):
        make(tmp_path, {"precipitation": {**source, "select": {"expver": 2}}})
    with pytest.raises(ForcingError, match="select names 'number', which is no dimension"):
        make(tmp_path, {"precipitation": {**source, "select": {"number": 2}}})


def test_the_first_that_is_there_counts_not_the_last(tmp_path):
    write_expver(tmp_path / "p.nc", (0.001, 0.002, None), (0.009, None, 0.003))
    found, _ = make(tmp_path, {"precipitation": {"source": "p.nc", "kind": "total", "select": {"expver": "first"}}})
    np.testing.assert_allclose(found["precipitation"][:, 0], [1, 2, 3], rtol=1e-6)
    found, _ = make(tmp_path, {"precipitation": {"source": "p.nc", "kind": "total", "select": {"expver": 5},
                                                 "missing": []}}, n=1)
    np.testing.assert_allclose(found["precipitation"][:, 0], [9], rtol=1e-6)


def test_the_member_of_an_ensemble_of_stations(tmp_path):
    with netCDF4.Dataset(tmp_path / "p.nc", "w") as dataset:
        for name, size in (("time", 3), ("member", 2), ("station", 1)):
            dataset.createDimension(name, size)
        time = dataset.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2020-01-01", range(3)
        dataset.createVariable("station_id", str, ("station",))[:] = np.array(["s"], object)
        for name, value in (("lon", 10.0), ("lat", 50.0)):
            dataset.createVariable(name, "f8", ("station",))[:] = value
        rain = dataset.createVariable("precipitation", "f8", ("time", "member", "station"))
        rain.units, rain[:] = "mm d-1", np.arange(6.0).reshape(3, 2, 1)
    source = {"source": "p.nc", "method": "nearest", "select": {"member": 1}}
    found, _ = make(tmp_path, {"precipitation": source})
    assert found["precipitation"][:, 0].tolist() == [1, 3, 5]


PLACE = {"left": 4_000_000.0, "top": 3_000_000.0, "size": 1000.0, "crs": "EPSG:3035"}


@pytest.mark.parametrize(
    ("names", "axes"), [(("ym", "xm"), {}), (("row", "col"), {"x": "col", "y": "row"}), (("nav_b", "nav_a"), {
        "x": "nav_a", "y": "nav_b"})],
)
@pytest.mark.parametrize(("unit", "factor"), [("m", 1.0), ("km", 0.001), ("", 1.0)])
def test_axes_of_a_projection_by_other_names_and_in_other_lengths(tmp_path, names, axes, unit, factor):
    drainage = make_drainage(**PLACE)
    x, y = (4_000_000.0 + 3000.0 * (np.arange(4) + 0.5)), (3_000_000.0 - 3000.0 * (np.arange(4) + 0.5))
    values = np.broadcast_to(np.arange(16.0).reshape(4, 4), (3, 4, 4))
    write_grid(tmp_path / "p.nc", "pr", values, x * factor, y * factor, units="mm d-1", times=[0, 24, 48], dims=names)
    with netCDF4.Dataset(tmp_path / "p.nc", "a") as dataset:
        for name in names:
            dataset[name].units = unit
    source = {"source": "p.nc", "crs": "EPSG:3035", "axes": axes}
    found, _ = make(tmp_path, {"precipitation": source}, drainage=drainage)
    np.testing.assert_allclose(found["precipitation"][0], np.arange(16.0), atol=1e-5)


def test_axes_that_cannot_be_found_are_asked_for_by_key(tmp_path):
    values = np.ones((3, *SHAPE))
    write_grid(tmp_path / "p.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48], dims=("a", "b"))
    with pytest.raises(ForcingError, match=r"has no x axis.*Name it with the key axes: \{x: b\}"):
        make(tmp_path, {"precipitation": {"source": "p.nc"}})
    with pytest.raises(ForcingError, match=r"axes\.x is 'c', expected .*\(time, a, b\): a, b have some"):
        make(tmp_path, {"precipitation": {"source": "p.nc", "axes": {"x": "c", "y": "a"}}})


def test_dimensions_without_coordinates_are_not_offered(tmp_path):
    """Only those that are variables too can be named: whoever follows the advice is not refused again."""
    with netCDF4.Dataset(tmp_path / "p.nc", "w") as dataset:
        for name, size in (("time", 3), ("a", 4), ("b", 5)):
            dataset.createDimension(name, size)
        time = dataset.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2020-01-01", range(3)
        rain = dataset.createVariable("pr", "f8", ("time", "a", "b"))
        rain.units, rain[:] = "mm d-1", 1.0
    with pytest.raises(ForcingError, match=r"no x axis, .* in space none has any\. Add a variable of that name"):
        make(tmp_path, {"precipitation": {"source": "p.nc"}})
    with pytest.raises(ForcingError, match=r"axes\.x is 'b', .*\(time, a, b\): none has any"):
        make(tmp_path, {"precipitation": {"source": "p.nc", "axes": {"x": "b", "y": "a"}}})
    with netCDF4.Dataset(tmp_path / "p.nc", "a") as dataset:
        dataset.createVariable("a", "f8", ("a",))[:] = range(4)
    with pytest.raises(ForcingError, match=r"in space a has some\. Name it with the key axes: \{x: a\}"):
        make(tmp_path, {"precipitation": {"source": "p.nc"}})
    with pytest.raises(ForcingError, match=r"no variable 'rain'\. The file has: pr\."):
        make(tmp_path, {"precipitation": {"source": "p.nc", "variable": "rain"}})


def test_a_series_without_a_place_is_called_that(tmp_path):
    with netCDF4.Dataset(tmp_path / "p.nc", "w") as dataset:
        dataset.createDimension("time", 3)
        time = dataset.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2020-01-01", range(3)
        rain = dataset.createVariable("precipitation", "f8", ("time",))
        rain.units, rain[:] = "mm d-1", 1.0
    with pytest.raises(ForcingError, match=r"one series without a place.*series/\{id\}\.nc"):
        make(tmp_path, {"precipitation": {"source": "p.nc"}})


@pytest.mark.parametrize(
    "limits", [{"valid_max": 100.0}, {"valid_min": 0.0, "valid_max": 100.0}, {"valid_range": [0.0, 100.0]}], ids=str
)
def test_values_beyond_the_valid_range_are_missing(tmp_path, limits):
    values = np.ones((3, *SHAPE))
    values[1, 2, 3] = 999.0
    write_grid(tmp_path / "p.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48], **limits)
    with pytest.raises(ForcingError, match="'precipitation' is missing at 2020-01-02"):
        make(tmp_path, {"precipitation": {"source": "p.nc"}})
    found, _ = make(tmp_path, {"precipitation": {"source": "p.nc", "gaps": "nearest"}})
    assert (found["precipitation"] == 1.0).all()


def test_a_packed_valid_range_is_packed_too(tmp_path):
    values = np.ones((3, *SHAPE))
    write_grid(tmp_path / "p.nc", "other", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    with netCDF4.Dataset(tmp_path / "p.nc", "a") as dataset:
        rain = dataset.createVariable("pr", "i2", ("time", "latitude", "longitude"))
        rain.setncatts({"units": "mm d-1", "scale_factor": 0.01, "add_offset": 5.0, "valid_max": np.int16(100)})
        rain.set_auto_maskandscale(False)
        packed = np.full((3, *SHAPE), -400, np.int16)  # 1 mm; 6 mm at most
        packed[1, 2, 3] = 200
        rain[:] = packed
    with pytest.raises(ForcingError, match="is missing at 2020-01-02"):
        make(tmp_path, {"precipitation": {"source": "p.nc"}})
    found, _ = make(tmp_path, {"precipitation": {"source": "p.nc", "gaps": "nearest"}})
    np.testing.assert_allclose(found["precipitation"], 1.0, rtol=1e-6)


def test_the_mean_temperature_beside_its_extremes(tmp_path):
    for name, value, way in (("tas", 10, "mean"), ("tasmax", 15, "maximum"), ("tasmin", 5, "minimum")):
        write_grid(tmp_path / "t.nc", name, np.full((3, *SHAPE), value), LON, LAT, units="degC", times=[0, 24, 48],
                   standard_name="air_temperature", cell_methods=f"time: {way}")
    write_grid(tmp_path / "p.nc", "pr", np.ones((3, *SHAPE)), LON, LAT, units="mm d-1", times=[0, 24, 48])
    both = {"precipitation": {"source": "p.nc"}, "air_temperature": {"source": "t.nc"}}
    found, _ = make(tmp_path, both, run=("precipitation", "air_temperature"))
    assert (found["air_temperature"] == 10.0).all()


def test_a_maximum_is_no_mean_though_its_standard_name_is_the_same(tmp_path):
    write_grid(tmp_path / "t.nc", "tasmax", np.full((3, *SHAPE), 15), LON, LAT, units="degC", times=[0, 24, 48],
               standard_name="air_temperature")
    write_grid(tmp_path / "p.nc", "pr", np.ones((3, *SHAPE)), LON, LAT, units="mm d-1", times=[0, 24, 48])
    both = {"precipitation": {"source": "p.nc"}, "air_temperature": {"source": "t.nc"}}
    with pytest.raises(ForcingError, match="no variable fits of tasmax"):
        make(tmp_path, both, run=("precipitation", "air_temperature"))


PET = "potential_evapotranspiration"


@pytest.mark.parametrize("tolerance", [0.001, 10.0])
def test_the_sign_of_era5s_evaporation_is_named_and_no_tolerance_makes_it_zero(tmp_path, tolerance):
    write_grid(tmp_path / "p.nc", "tp", np.full((3, *SHAPE), 0.004), LON, LAT, units="m", times=[0, 24, 48])
    write_grid(tmp_path / "e.nc", "pev", np.full((3, *SHAPE), -0.002), LON, LAT, units="m", times=[0, 24, 48])
    demand = {"source": "e.nc", "kind": "total"}
    forcing = {"precipitation": {"source": "p.nc", "kind": "total"}, PET: demand, "negative_tolerance": tolerance}
    with pytest.raises(ForcingError, match=rf"is -2 mm d-1 in the mean .* Set forcing\.{PET}\.scale: -1"):
        make(tmp_path, forcing, run=("precipitation", PET))
    found, notes = make(tmp_path, {**forcing, PET: {**demand, "scale": -1}}, run=("precipitation", PET))
    np.testing.assert_allclose(found[PET], 2.0, rtol=1e-6)
    assert notes[-1].startswith("means at this rate: precipitation 1461 mm a year (cells 1461 to 1461); potential_evap")


@pytest.mark.parametrize(("n", "said"), [(366, ", less than 10: check units and `kind`"), (100, "")])
def test_metres_taken_for_millimetres_are_told(tmp_path, n, said):
    hours = [24 * k for k in range(n)]
    write_grid(tmp_path / "p.nc", "tp", np.full((n, *SHAPE), 0.004), LON, LAT, units="m", times=hours)
    source = {"source": "p.nc", "kind": "total", "units": "mm"}
    _, notes = make(tmp_path, {"precipitation": source}, n=n)
    told = "means at this rate: precipitation 1.461 mm a year (cells 1.461 to 1.461)"
    assert notes[-1].startswith(told + said) and (said or notes[-1] == told + ".")


@pytest.mark.parametrize(
    ("given", "told"), [({"kind": "total"}, True), ({"kind": "total", "stamp": "end"}, False),
                        ({"kind": "total", "stamp": "start"}, False), ({"kind": "accumulated"}, False)],
)
def test_stamps_of_grib_in_netcdf_are_told(tmp_path, given, told):
    """As the CDS hands out ERA5: totals of the hour before the stamp."""
    hours = np.arange(1.0, 49.0)
    values = (hours if "stamp" in given else np.ones(48))[:, None, None] * np.ones((1, *SHAPE)) / 1000.0
    if given["kind"] == "accumulated":
        values = ((hours - 1) % 24 + 1)[:, None, None] * np.ones((1, *SHAPE)) / 1000.0
    times = hours - (1.0 if told or given.get("stamp") == "start" else 0.0)
    write_grid(tmp_path / "p.nc", "tp", values, LON, LAT, units="m", times=times)
    with netCDF4.Dataset(tmp_path / "p.nc", "a") as dataset:
        dataset["tp"].GRIB_stepType = "accum"
    found, notes = make(tmp_path, {"precipitation": {"source": "p.nc", **given}}, n=2)
    assert any("Set stamp: end unless the file has them moved" in note for note in notes) == told
    right = [hours[:24].sum(), hours[24:].sum()] if "stamp" in given else [24.0, 24.0]
    for got, expected in zip(found["precipitation"], right, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_rounding_below_zero_is_still_zero(tmp_path):
    values = np.full((3, *SHAPE), 1.0)
    values[1] = -0.0005
    write_grid(tmp_path / "p.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    found, _ = make(tmp_path, {"precipitation": {"source": "p.nc"}})
    assert found["precipitation"][:, 0].tolist() == [1.0, 0.0, 1.0]


def test_accumulated_amounts_taken_as_totals_stand_out(tmp_path):
    hours = np.cumsum(np.full((3, 24), 0.0001), axis=1).ravel()  # 2.4 mm a day, accumulated since midnight
    write_grid(tmp_path / "p.nc", "tp", hours[:, None, None] * np.ones(SHAPE), LON, LAT, units="m",
               times=np.arange(1, 73.0))
    right, notes = make(tmp_path, {"precipitation": {"source": "p.nc", "kind": "accumulated"}})
    np.testing.assert_allclose(right["precipitation"], 2.4, rtol=1e-4)
    assert "precipitation 876.6 mm a year" in notes[-1] and "check" not in notes[-1]
    _, notes = make(tmp_path, {"precipitation": {"source": "p.nc", "kind": "total", "stamp": "end"}})
    assert "precipitation 1.096e+04 mm a year" in notes[-1]
    assert "check units and `kind` (ERA5-Land's amounts are accumulated" in notes[-1]


@pytest.mark.parametrize(("n_lost", "said"), [(2, "Break it there with a pit"), (40, "check `encoding`")])
def test_many_pixels_in_cycles_are_a_matter_of_the_encoding(n_lost, said):
    from drainage_cases import grid_of

    codes = np.zeros((10, 20), np.uint8)
    for k in range(n_lost // 2):  # pairs that drain into each other
        row, col = divmod(2 * k, 20)
        codes[row, col], codes[row, col + 1] = 1, 16
    config = NetworkConfig(directions="made.tif", extent="all")
    share = "1%" if n_lost == 2 else "20%"
    with pytest.raises(DomainError, match=rf"{n_lost} pixels drain into such .{share} of the network.*{said}"):
        make_flow(grid_of(codes), codes, config)


def test_an_id_that_stands_twice_is_refused_not_the_last_one_taken(tmp_path):
    """Of stations in their table, and of basins along a dimension."""
    days = [f"2020-01-0{day}" for day in (1, 2, 3)]
    (tmp_path / "p.csv").write_text("time,a,b\n" + "\n".join(f"{day},1,2" for day in days))
    (tmp_path / "s.csv").write_text("id,lon,lat\na,10.1,49.95\nb,10.2,49.9\na,12,49\n")
    stations = {"source": "p.csv", "layout": "wide", "units": "mm d-1", "stations": "s.csv", "method": "nearest"}
    with pytest.raises(ForcingError, match=r"s\.csv: the id 'a' stands twice"):
        make(tmp_path, {"precipitation": stations})
    with netCDF4.Dataset(tmp_path / "b.nc", "w") as dataset:
        dataset.createDimension("time", 3)
        dataset.createDimension("basin", 2)
        time = dataset.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2020-01-01", range(3)
        dataset.createVariable("basin_id", str, ("basin",))[:] = np.array(["g", "g"], object)
        rain = dataset.createVariable("pr", "f8", ("time", "basin"))
        rain.units, rain[:] = "mm d-1", 1.0
    with pytest.raises(ForcingError, match=r"b\.nc: the id 'g' stands twice"):
        make(tmp_path, {"precipitation": {"source": "b.nc"}})


def test_a_number_for_missing_is_called_that_and_not_a_sign(tmp_path):
    values = np.ones((3, *SHAPE))
    values[1] = -9999.0
    values[1, 0] = 5.0
    write_grid(tmp_path / "p.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    with netCDF4.Dataset(tmp_path / "p.nc", "a") as dataset:
        dataset["pr"].set_auto_mask(False)
        dataset.renameVariable("pr", "masked")
        rain = dataset.createVariable("pr", "f4", dataset["masked"].dimensions)
        rain.units, rain[:] = "mm d-1", values
    with pytest.raises(ForcingError, match=r"is -9999 mm d-1 at 2020-01-02.* It looks like a number for missing"):
        make(tmp_path, {"precipitation": {"source": "p.nc"}})
