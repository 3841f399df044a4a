"""Potential evapotranspiration of a preparation: the run's own formulas, held against pyet and FAO-56's examples."""

from __future__ import annotations

import json
import math
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.pet import HOUR_SHARES, Demand, make_place
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.prepare.weather.pet import (
    METHODS,
    Site,
    compute,
    pressure_at,
    reads,
    saturation,
    spread_over_day,
    wind_factor,
)
from bmi_cdlm.prepare.weather.quantities import check_given, keys_of
from bmi_cdlm.processes.catalogue import find_formula
from bmi_cdlm.processes.oudin import OUDIN

pytest.importorskip("pyet", reason="pyet is not installed")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LOW, HIGH, MEAN = "minimum_air_temperature", "maximum_air_temperature", "air_temperature"


def at(latitude, elevation=None, longitude=0.0):
    return Site(np.array([latitude]), np.array([longitude]), None if elevation is None else np.array([elevation]))


def seconds(date):
    return int(np.datetime64(date, "s").astype(np.int64))


def column(values):
    return np.atleast_1d(np.asarray(values, float))[:, None]


def weather_of(low, high, vapour, solar, wind_2m, elevation):
    """From FAO-56's own quantities: vapour [kPa], solar [MJ m-2 d-1], wind at 2 m."""
    return {
        LOW: column(low), HIGH: column(high), MEAN: 0.5 * (column(low) + column(high)),
        "vapour_pressure": 1000.0 * column(vapour), "shortwave_radiation": column(solar) / 0.0864,
        "wind_speed": column(wind_2m) * wind_factor(2.0),
        "air_pressure": np.full(column(low).shape, pressure_at(elevation)),
    }


def vapour_of(low, high, rh_min, rh_max):
    """FAO-56 equation 17 [kPa]."""
    return 0.5 * (saturation(low) * rh_max + saturation(high) * rh_min) / 100_000.0


UCCLE = weather_of(12.3, 21.5, 1.409, 22.07, 2.078, 100.0)


def test_fao56_example_18():
    for method in ("fao56", "penman_monteith"):
        found = compute(method, seconds("2015-07-06"), UCCLE, at(50.8, 100.0))
        assert found.item() == pytest.approx(3.88, abs=0.005)


def test_heights_of_wind():
    assert wind_factor(10.0) == 1.0
    assert 10.0 / 3.6 / wind_factor(2.0) == pytest.approx(2.078, abs=5e-4)  # 10 km/h at 10 m, example 18
    assert wind_factor(2.0) * 2.0 == pytest.approx(wind_factor(2.1) * 2.0, rel=0.02)


def test_priestley_taylor_and_hargreaves_of_the_same_day():
    day = seconds("2015-07-06")
    assert compute("priestley_taylor", day, UCCLE, at(50.8, 100.0)).item() == pytest.approx(4.419, abs=0.003)
    assert compute("hargreaves", day, UCCLE, at(50.8)).item() == pytest.approx(4.058, abs=0.001)


def test_hargreaves_fao56_example_20():
    weather = {LOW: column(14.8), HIGH: column(26.6)}
    assert compute("hargreaves", seconds("2015-07-15"), weather, at(45.72)).item() == pytest.approx(5.0, abs=0.05)


def random_weather(n=365, m=4, seed=0):
    rng = np.random.default_rng(seed)
    site = Site(rng.uniform(-60, 60, m), rng.uniform(-180, 180, m), rng.uniform(0, 2500, m))
    low = rng.normal(8, 8, (n, m))
    return site, {
        LOW: low, HIGH: low + rng.uniform(1, 15, (n, m)), "vapour_pressure": rng.uniform(200, 1500, (n, m)),
        "shortwave_radiation": rng.uniform(20, 300, (n, m)), "wind_speed": rng.uniform(0, 9, (n, m)),
        "air_pressure": np.tile(pressure_at(site.elevation), (n, 1)), MEAN: low + 4.0,
    }


@pytest.mark.parametrize("method", ["oudin", "hargreaves", "fao56"])
def test_a_preparation_has_the_bits_of_a_run(method):
    site, weather = random_weather()
    formula = "penman_monteith" if method == "fao56" else method
    given = {name: weather[name] for name in reads(method)}
    run = {**given, MEAN: given.get(MEAN, 0.5 * (weather[LOW] + weather[HIGH]))}
    place = make_place(site.latitude, site.longitude, site.elevation if method == "fao56" else np.zeros(4))
    expected = Demand(find_formula(formula), DAY, place).evaluate(run, seconds("2001-03-01"), Workers(1))
    np.testing.assert_array_equal(compute(method, seconds("2001-03-01"), given, site), expected)


def test_fao56_is_that_of_pyet():
    pyet, pandas = pytest.importorskip("pyet"), pytest.importorskip("pandas")
    _, weather = random_weather(m=1)
    site = at(47.0, 350.0)
    weather["air_pressure"][:] = pressure_at(350.0)
    found = compute("fao56", seconds("2001-01-01"), weather, site)[:, 0]
    index = pandas.date_range("2001-01-01", periods=365)
    series = {
        "tmean": 0.5 * (weather[LOW] + weather[HIGH]), "tmin": weather[LOW], "tmax": weather[HIGH],
        "wind": weather["wind_speed"] / wind_factor(2.0), "rs": weather["shortwave_radiation"] * 0.0864,
        "ea": weather["vapour_pressure"] / 1000.0,
    }
    expected = pyet.pm_fao56(
        **{k: pandas.Series(v[:, 0], index) for k, v in series.items()}, elevation=350.0, lat=math.radians(47.0),
    )
    np.testing.assert_allclose(found, np.maximum(expected, 0.0), atol=5e-3)


@pytest.mark.parametrize("latitude", [-90.0, -75.0, 75.0, 90.0])
def test_polar_night_and_day_are_finite(latitude):
    weather = {name: np.broadcast_to(value, (365, 1)) for name, value in UCCLE.items()}
    dark = {**weather, "shortwave_radiation": np.zeros((365, 1))}
    for method in METHODS:
        found = compute(method, seconds("2015-01-01"), dark, at(latitude, 0.0))
        assert np.isfinite(found).all() and (found >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_missing_stays_missing(method):
    """The limits at zero in the formulas would turn it into no demand."""
    site, weather = random_weather(n=5)
    for name in reads(method):
        holed = {**weather, name: weather[name].copy()}
        holed[name][2, 1] = np.nan
        found = compute(method, seconds("2001-06-01"), {n: holed[n] for n in reads(method)}, site)
        assert np.argwhere(np.isnan(found)).tolist() == [[2, 1]]


def test_a_range_upside_down_is_refused():
    with pytest.raises(ForcingError, match=r"'minimum_air_temperature' is 30 on 2015-07-06.*at most the maximum"):
        compute("fao56", seconds("2015-07-06"), UCCLE | {LOW: column(30.0)}, at(50.8, 100.0))


def test_no_elevation():
    for method in ("fao56", "priestley_taylor"):
        with pytest.raises(ForcingError, match=r"needs the elevation .*attributes\.elevation"):
            compute(method, seconds("2015-07-06"), UCCLE, at(50.8))


def test_cells_and_days_do_not_mix():
    site, weather = random_weather(n=3, m=2)
    start = seconds("2016-02-28")
    for method in METHODS:
        both = compute(method, start, weather, site)
        for i in range(3):
            for j in range(2):
                one = {name: value[i : i + 1, j : j + 1] for name, value in weather.items()}
                alone = compute(method, start + i * DAY, one, Site(*(a[j : j + 1] for a in site)))
                assert both[i, j] == pytest.approx(alone.item(), rel=1e-13)


# ---- which sources ---------------------------------------------------------------------------------------


def test_sources_of_each_method():
    assert reads("oudin") == (MEAN,)
    assert reads("hargreaves") == (LOW, HIGH)
    assert set(reads("fao56")) == {
        LOW, HIGH, "vapour_pressure", "air_pressure", "shortwave_radiation", "wind_speed"}
    assert keys_of("wind_speed", {"eastward_wind", "northward_wind"}, DAY) == ("eastward_wind", "northward_wind")
    assert keys_of("wind_speed", {"eastward_wind", "northward_wind", "wind_speed"}, DAY) == ("wind_speed",)
    assert keys_of("air_pressure", {}, DAY) == ()
    humid = {"relative_humidity", "specific_humidity", "surface_pressure"}
    assert keys_of("vapour_pressure", humid, DAY) == ("specific_humidity", "surface_pressure")
    assert keys_of("vapour_pressure", {"relative_humidity", "air_temperature"}, HOUR)[1:] == ("air_temperature",)
    assert keys_of(MEAN, {"minimum_temperature", "maximum_temperature"}, DAY) == (
        "minimum_temperature", "maximum_temperature")
    assert keys_of(MEAN, {"minimum_temperature", "maximum_temperature"}, HOUR) == (MEAN,)


def test_absent_sources_are_named():
    with pytest.raises(ForcingError, match="hargreaves needs minimum_temperature, maximum_temperature"):
        check_given(reads("hargreaves"), {"air_temperature": 1}, DAY, "pet: method hargreaves")
    with pytest.raises(ForcingError, match="needs northward_wind, the forcing has"):
        check_given(("wind_speed",), {"eastward_wind": 1}, DAY, "pet")


# ---- hours of a day --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1800, 5 * 3600, 172_800])
def test_step_that_does_not_divide_a_day_is_refused(step):
    with pytest.raises(ForcingError, match="cannot be spread"):
        spread_over_day(np.ones((1, 1)), np.array(["2020-01-01"], "datetime64[s]"), step, np.zeros(1))


@pytest.mark.parametrize("hours", [1, 2, 3, 6, 12, 24])
@pytest.mark.parametrize("noon", [None, 3])
def test_spreading_keeps_the_day(hours, noon):
    n = 24 // hours
    starts = np.datetime64("2020-06-01", "s") + np.arange(2 * n) * np.timedelta64(3600 * hours, "s")
    daily = np.repeat([[2.0, 5.0], [4.0, 0.0]], n, axis=0)
    rates = spread_over_day(daily, starts, 3600 * hours, np.array([-170.0, 33.3]), noon)
    np.testing.assert_allclose(rates.reshape(2, n, 2).mean(axis=1), [[2.0, 5.0], [4.0, 0.0]], rtol=1e-14)


@pytest.mark.parametrize("longitude", [-179.0, -120.0, -7.4, 0.0, 10.0, 140.0, 179.0])
def test_hours_are_those_of_a_run(longitude):
    """A run's Oudin by the hour at a steady temperature is a day's demand in its solar hours."""
    place = make_place(np.array([40.0]), np.array([longitude]), np.zeros(1))
    start, warmth = "2000-07-01", {MEAN: np.full((24, 1), 18.0)}
    expected = Demand(OUDIN, HOUR, place).evaluate(warmth, seconds(start), Workers(1))
    daily = compute("oudin", seconds(start), {MEAN: np.full((1, 1), 18.0)}, at(40.0, longitude=longitude))
    starts = np.datetime64(start, "s") + np.arange(24) * np.timedelta64(HOUR, "s")
    found = spread_over_day(np.repeat(daily, 24, axis=0), starts, HOUR, np.array([longitude]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    solar = (np.arange(24) + 0.5 + longitude / 15.0) % 24
    assert found[(solar < 5.5) | (solar > 18.5)].sum() == 0.0


def test_a_noon_of_utc_holds_everywhere():
    starts = np.datetime64("2020-06-01", "s") + np.arange(24) * np.timedelta64(3600, "s")
    found = spread_over_day(np.ones((24, 2)), starts, HOUR, np.array([0.0, 100.0]), 4)
    expected = np.roll(HOUR_SHARES, -8) * 24
    np.testing.assert_allclose(found, expected[:, None] * np.ones(2), rtol=1e-12)


# ---- reference data --------------------------------------------------------------------------------------


@pytest.mark.shared_data
def test_kent_town(shared_json):
    case = shared_json["kent_town"]
    low, high = np.array(case["tmin"]), np.array(case["tmax"])
    vapour = vapour_of(low, high, np.array(case["rhmin"]), np.array(case["rhmax"]))
    weather = weather_of(low, high, vapour, case["Rs_MJ"], np.array(case["u10"]) / wind_factor(2.0),
                         case["elevation_m"])
    found = compute("fao56", seconds("2001-03-01"), weather, at(np.degrees(case["lat_rad"]), case["elevation_m"]))
    np.testing.assert_allclose(found[:, 0], case["ET0_fao56_pyet"], atol=5e-3)
    np.testing.assert_allclose(found[:, 0], case["ET0_fao56_rounded"], atol=0.055)


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "factor"), [("ref_pet_holyoke_coagmet.nc", 0.0864), ("ref_pet_debilt_knmi.nc", 1.0)])
def test_stations_against_pyet(name, factor):
    """pyet as the oracle, given the middle of the day's range as FAO-56 says, not the station's own mean."""
    pyet, pandas = pytest.importorskip("pyet"), pytest.importorskip("pandas")
    if not (SHARED / name).is_file():
        pytest.skip(f"reference file {name} is not there")
    with netCDF4.Dataset(SHARED / name) as dataset:
        d = {key: np.ma.filled(variable[:].astype(float), np.nan) for key, variable in dataset.variables.items()}
        start = str(dataset["time"].units).split()[2]
        latitude, elevation = float(dataset.latitude), float(dataset.elevation_m)
    if "rhmax" in d:
        vapour = vapour_of(d["tmin"], d["tmax"], d["rhmin"], d["rhmax"])
    else:
        vapour = d["rhmean"] * 0.5 * (saturation(d["tmin"]) + saturation(d["tmax"])) / 100_000.0
    weather = weather_of(d["tmin"], d["tmax"], vapour, d["shortwave"] * factor, d["wind_2m"], elevation)
    first = np.datetime64(start) + int(d["time"][0])
    found = compute("fao56", seconds(first), weather, at(latitude, elevation))[:, 0]
    index = pandas.date_range(str(first), periods=found.size)
    series = {
        "tmean": 0.5 * (d["tmin"] + d["tmax"]), "tmin": d["tmin"], "tmax": d["tmax"], "wind": d["wind_2m"],
        "rs": d["shortwave"] * factor, "ea": vapour,
    }
    expected = np.maximum(pyet.pm_fao56(
        **{k: pandas.Series(v, index) for k, v in series.items()}, elevation=elevation, lat=math.radians(latitude),
    ).to_numpy(), 0.0)
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.sum() > 300
    np.testing.assert_allclose(found[both], expected[both], atol=0.03)
    assert found[both].mean() == pytest.approx(expected[both].mean(), rel=2e-3)


@pytest.mark.shared_data
def test_oudin_of_airgr():
    """airGR's constants are in single precision: up to 4.5e-7 mm/d from exact ones."""
    if not (SHARED / "ref_pet_oudin_airgr.nc").is_file():
        pytest.skip("reference file is not there")
    with netCDF4.Dataset(SHARED / "ref_pet_oudin_airgr.nc") as dataset:
        T, expected = dataset["T"][:].filled(np.nan), dataset["PE"][:].filled(np.nan)
        first = np.datetime64("1984-01-01") + int(dataset["time"][0])
    found = compute("oudin", seconds(first), {MEAN: T[:, None].astype(float)}, at(np.degrees(0.8)))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture
def shared_json():
    path = SHARED / "ref_pet_fao56_examples.json"
    if not path.is_file():
        pytest.skip(f"reference file {path.name} is not there")
    return json.loads(path.read_text())
