"""Evaporative demand from weather: published examples, airGR, pyet, and what must not happen."""

from __future__ import annotations

import json
import math

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.pet import HOUR_SHARES, Demand, make_place, required, takes_elevation
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes import pet as plain
from bmi_cdlm.processes.catalogue import FORMULAS, find_formula
from bmi_cdlm.processes.hargreaves import HARGREAVES
from bmi_cdlm.processes.oudin import OUDIN
from bmi_cdlm.processes.penman_monteith import PENMAN_MONTEITH, net_radiation


def column(values):
    return np.array(values, float).reshape(-1, 1)


def pressure_of(elevation):
    """FAO-56, eq. 7 [Pa]."""
    return 101300.0 * ((293.0 - 0.0065 * elevation) / 293.0) ** 5.26


def saturation(temperature):
    return 0.6108 * np.exp(17.27 * temperature / (temperature + 237.3))


def weather_of(lowest, highest, vapour, solar, wind_2m, pressure):
    """Weather of FAO-56's own quantities: vapour [kPa], solar [MJ m-2 d-1], wind at 2 m."""
    kpa = pressure / 1000.0
    wind = column(wind_2m) / (4.87 / math.log(672.58))
    return {
        "air_temperature": 0.5 * (column(lowest) + column(highest)), "minimum_air_temperature": column(lowest),
        "maximum_air_temperature": column(highest),
        "specific_humidity": 0.622 * column(vapour) / (kpa - 0.378 * column(vapour)),
        "air_pressure": np.full_like(column(lowest), pressure), "shortwave_radiation": column(solar) / 0.0864,
        "wind_x": 0.6 * wind, "wind_y": -0.8 * wind,
    }


def place_of(latitude, longitude=0.0, elevation=0.0):
    return make_place(np.array([float(latitude)]), np.array([float(longitude)]), np.array([float(elevation)]))


def evaluate(formula, step, place, weather, date, threads=1):
    workers = Workers(threads)
    try:
        return Demand(find_formula(formula), step, place).evaluate(weather, seconds(date), workers)
    finally:
        workers.close()


def seconds(date):
    return int(np.datetime64(date, "s").astype(np.int64))


def above_air(place, step, date, count=1, cell=0):
    """Radiation above the air [MJ m-2 d-1] in steps from a date."""
    sky = Demand(find_formula("penman_monteith"), step, place).sky(seconds(date), count)
    angles = place.sin_latitude[cell], place.cos_latitude[cell], place.tan_latitude[cell]
    if step == DAY:
        return np.array([plain.daily_radiation(*angles, *row[:4]) for row in sky])
    return np.array([plain.hourly_radiation(*angles, *row[:4], row[4] + place.longitude[cell] / 15.0) for row in sky])


@pytest.mark.parametrize(("temperature", "date", "expected"), [
    (-10, "2001-01-15", 0.0), (0, "2001-03-21", 0.546787646838), (10, "2001-05-30", 2.55382123318),
    (20, "2001-07-19", 4.19084131165), (30, "2001-10-27", 2.48350807651),
])
def test_oudin_golden(temperature, date, expected):
    """airGR in double precision, at 45 degrees north."""
    found = evaluate("oudin", DAY, place_of(45), {"air_temperature": column([temperature])}, date)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-11)


@pytest.mark.shared_data
def test_oudin_is_that_of_airgr(shared_path):
    with netCDF4.Dataset(shared_path("ref_pet_oudin_airgr.nc")) as dataset:
        temperature, expected = np.array(dataset["T"][:]), np.array(dataset["PE"][:])
    weather = {"air_temperature": column(temperature)}
    found = evaluate("oudin", DAY, place_of(math.degrees(0.8)), weather, "1984-01-01")[:, 0]
    np.testing.assert_allclose(found, expected, atol=4.5e-7)  # airGR's literals are single precision


@pytest.mark.parametrize("latitude", [-90, -70, -66.5, 0, 66.5, 70, 89, 90])
def test_no_latitude_gives_nan(latitude):
    weather = weather_of(np.full(366, 1.0), np.full(366, 11.0), np.full(366, 0.7), np.full(366, 5.0), np.full(366, 2.0),
                         101300.0)
    place = place_of(latitude, 10.0, 100.0)
    for formula in ("oudin", "hargreaves", "penman_monteith"):
        for step in (DAY, HOUR):
            if (formula, step) != ("hargreaves", HOUR):
                found = evaluate(formula, step, place, weather, "2001-01-01")
                assert np.isfinite(found).all() and (found >= 0).all()


def test_brussels_in_july():
    """FAO-56, example 18."""
    lowest, highest = 12.3, 21.5
    vapour = 0.5 * (saturation(lowest) * 0.84 + saturation(highest) * 0.63)
    place = place_of(50.80, elevation=100.0)
    above = above_air(place, DAY, "2001-07-06")[0]
    assert above == pytest.approx(41.088, abs=5e-4)
    solar = (0.25 + 0.5 * 9.25 / 16.1042) * above
    assert solar == pytest.approx(22.07, abs=0.02)
    assert net_radiation(22.072, lowest, highest, vapour, above, 100.0) == pytest.approx(13.283, abs=2e-3)
    weather = weather_of([lowest], [highest], [vapour], [22.072], [2.0776], pressure_of(100.0))
    found = evaluate("penman_monteith", DAY, place, weather, "2001-07-06")
    assert found[0, 0] == pytest.approx(3.8803, abs=1e-3)
    assert found[0, 0] == pytest.approx(3.9, abs=0.05)
    assert evaluate("hargreaves", DAY, place, weather, "2001-07-06")[0, 0] == pytest.approx(4.058, abs=1e-3)


def test_n_diaye_by_the_hour():
    """FAO-56, example 19: 1 October in Senegal, 14 to 15 h and 2 to 3 h of a zone one hour behind UTC."""
    place = place_of(16 + 13 / 60, -(16 + 15 / 60), 8.0)
    for date, warmth, moist, wind, solar, above, expected in (
        ("2001-10-01T15:00", 38.0, 0.52, 3.3, 2.450, 3.543, 0.63), ("2001-10-01T03:00", 28.0, 0.90, 1.9, 0.0, 0.0, 0.0),
    ):
        assert above_air(place, HOUR, date)[0] / 24.0 == pytest.approx(above, abs=5e-3)
        vapour = saturation(warmth) * moist
        weather = weather_of([warmth], [warmth], [vapour], [solar * 24.0], [wind], pressure_of(8.0))
        hourly = evaluate("penman_monteith", HOUR, place, weather, date)[0, 0] / 24.0
        assert hourly == pytest.approx(expected, abs=8e-3)  # at night FAO takes the ratio before sunset, 0.8


def test_hourly_radiation_adds_up_to_the_day():
    for latitude in (-35.0, 10.0, 50.0, 80.0):
        for date in ("2001-01-10", "2001-06-21", "2001-09-20"):
            place = place_of(latitude, 100.0)
            # The hours in which the sun rises and sets count half-angles of their own.
            np.testing.assert_allclose(
                above_air(place, HOUR, date, 24).mean(), above_air(place, DAY, date)[0], rtol=2e-2, atol=1e-9
            )


def test_oudin_by_the_hour_is_the_day_in_shares():
    place = place_of(45.0, -30.0)
    hourly = evaluate("oudin", HOUR, place, {"air_temperature": np.full((24, 1), 18.0)}, "2001-07-01")[:, 0]
    day = evaluate("oudin", DAY, place, {"air_temperature": np.full((1, 1), 18.0)}, "2001-07-01")[0, 0]
    assert HOUR_SHARES.sum() == pytest.approx(1.0)
    assert hourly.mean() == pytest.approx(day)
    assert hourly[:8].max() == 0.0 and hourly[13:15].min() == hourly.max()  # noon is at 14 h UTC


@pytest.mark.shared_data
def test_the_examples_that_pyet_asserts(shared_path):
    found = json.loads(shared_path("ref_pet_fao56_examples.json").read_text())
    example = found["hargreaves_example20"]
    weather = weather_of([example["tmin"]], [example["tmax"]], [1.0], [10.0], [2.0], 1e5)
    daily = evaluate("hargreaves", DAY, place_of(example["lat_deg"]), weather, "2001-07-15")[0, 0]
    assert daily == pytest.approx(example["ET0"], abs=0.05)
    above = above_air(place_of(-20.0), DAY, "2001-09-03")[0]
    assert above == pytest.approx(found["Ra_lat_minus20deg_sep3_MJ"], abs=0.05)
    town = found["kent_town"]
    lowest, highest = np.array(town["tmin"]), np.array(town["tmax"])
    vapour = 0.5 * (saturation(lowest) * np.array(town["rhmax"]) + saturation(highest) * np.array(town["rhmin"])) / 100
    wind = np.array(town["u10"]) * 4.87 / math.log(67.8 * 10 - 5.42)
    weather = weather_of(lowest, highest, vapour, town["Rs_MJ"], wind, pressure_of(48.0))
    place = place_of(math.degrees(town["lat_rad"]), elevation=48.0)
    daily = evaluate("penman_monteith", DAY, place, weather, "2001-03-01")[:, 0]
    np.testing.assert_allclose(daily, town["ET0_fao56_pyet"], atol=5e-3)
    np.testing.assert_allclose(daily, town["ET0_fao56_rounded"], atol=0.06)


@pytest.mark.shared_data
def test_a_year_in_colorado_and_forty_in_holland(shared_path):
    """FAO-56 by pyet 1.5.0, which takes the given mean temperature in the slope, not the middle of the day's range."""
    with netCDF4.Dataset(shared_path("ref_pet_holyoke_coagmet.nc")) as d:
        lowest, highest = np.array(d["tmin"][:]), np.array(d["tmax"][:])
        vapour = 0.5 * (saturation(lowest) * d["rhmax"][:] + saturation(highest) * d["rhmin"][:]) / 100.0
        weather = weather_of(lowest, highest, vapour, d["shortwave"][:] * 0.0864, d["wind_2m"][:], pressure_of(1138.0))
        expected, mean = np.array(d["et_fao56_pyet"][:]), np.array(d["tmean"][:])
    found = evaluate("penman_monteith", DAY, place_of(40.49, elevation=1138.0), weather, "2020-01-01")[:, 0]
    middle = np.abs(0.5 * (lowest + highest) - mean) < 0.3
    assert middle.sum() > 50
    np.testing.assert_allclose(found[middle], expected[middle], atol=0.05)
    assert abs(found.mean() - expected.mean()) < 0.05 * expected.mean()
    with netCDF4.Dataset(shared_path("ref_pet_debilt_knmi.nc")) as d:
        lowest, highest = np.array(d["tmin"][:]), np.array(d["tmax"][:])
        vapour = 0.5 * (saturation(lowest) + saturation(highest)) * d["rhmean"][:] / 100.0
        weather = weather_of(lowest, highest, vapour, d["shortwave"][:], d["wind_2m"][:], pressure_of(1.9))
        expected, mean = np.array(d["et_fao56_pyet"][:]), np.array(d["tmean"][:])
    found = evaluate("penman_monteith", DAY, place_of(52.1, elevation=1.9), weather, "1980-01-01")[:, 0]
    middle = np.abs(0.5 * (lowest + highest) - mean) < 0.3
    assert middle.sum() > 1000
    np.testing.assert_allclose(found[middle], expected[middle], atol=0.05)
    assert abs(found.mean() - expected.mean()) < 0.05 * expected.mean()


def test_against_pyet_with_the_same_mean_temperature():
    pyet = pytest.importorskip("pyet")
    pandas = pytest.importorskip("pandas")
    rng, n = np.random.default_rng(0), 365
    lowest = 8.0 + 10.0 * np.sin(np.arange(n) / 58.0 - 1.5) + rng.normal(0, 2, n)
    highest = lowest + rng.uniform(2, 15, n)
    vapour, wind = saturation(lowest) * rng.uniform(0.6, 1.0, n), rng.uniform(0.5, 6, n)
    starts = np.datetime64("2001-01-01", "s") + np.arange(n) * np.timedelta64(1, "D")
    place = place_of(47.0, elevation=350.0)
    solar = rng.uniform(0.2, 0.8, n) * above_air(place, DAY, "2001-01-01", n)
    weather = weather_of(lowest, highest, vapour, solar, wind, pressure_of(350.0))
    index = pandas.DatetimeIndex(starts)
    series = {k: pandas.Series(v, index) for k, v in {
        "tmean": 0.5 * (lowest + highest), "wind": wind, "rs": solar, "tmax": highest, "tmin": lowest, "ea": vapour,
    }.items()}
    expected = pyet.pm_fao56(**series, elevation=350.0, lat=math.radians(47.0))
    found = evaluate("penman_monteith", DAY, place, weather, "2001-01-01")[:, 0]
    np.testing.assert_allclose(found, np.maximum(expected, 0.0), atol=2e-3)
    expected = pyet.hargreaves(series["tmean"], series["tmax"], series["tmin"], lat=math.radians(47.0))
    found = evaluate("hargreaves", DAY, place, weather, "2001-01-01")[:, 0]
    np.testing.assert_allclose(found, expected, rtol=0.03)  # pyet lets the heat of vaporisation fall with temperature


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_blocks_and_steps_give_the_same_bits(step):
    rng, n, m = np.random.default_rng(1), 50, 23
    lowest = rng.normal(5, 9, (n, m))
    weather = {
        "air_temperature": lowest + 4.0, "minimum_air_temperature": lowest, "maximum_air_temperature": lowest + 9.0,
        "specific_humidity": rng.uniform(0.001, 0.01, (n, m)), "air_pressure": rng.uniform(7e4, 1e5, (n, m)),
        "shortwave_radiation": rng.uniform(0, 400, (n, m)), "wind_x": rng.normal(0, 4, (n, m)),
        "wind_y": rng.normal(0, 4, (n, m)),
    }
    place = make_place(rng.uniform(-70, 70, m), rng.uniform(-180, 180, m), rng.uniform(0, 3000, m))
    start = np.datetime64("2000-02-25", "s")
    for formula in ("oudin", "penman_monteith", "hargreaves")[: 3 if step == DAY else 2]:
        block = evaluate(formula, step, place, weather, start)
        assert evaluate(formula, step, place, weather, start, threads=3).tobytes() == block.tobytes()
        for t in range(n):
            one = {name: values[t : t + 1].copy() for name, values in weather.items()}
            date = start + t * np.timedelta64(step, "s")
            assert evaluate(formula, step, place, one, date).tobytes() == block[t].tobytes()
        for c in (0, 7, 22):
            here = type(place)(*(a[c : c + 1].copy() for a in place))
            one = {name: values[:, c : c + 1].copy() for name, values in weather.items()}
            np.testing.assert_array_equal(evaluate(formula, step, here, one, start)[:, 0], block[:, c])


def test_what_each_formula_reads():
    others = ("vapour_pressure", "air_pressure", "shortwave_radiation", "wind_speed")
    spread = ("minimum_air_temperature", "maximum_air_temperature")
    assert required(OUDIN, DAY) == required(OUDIN, HOUR) == ("air_temperature",)
    assert required(HARGREAVES, DAY) == ("air_temperature", *spread)
    assert required(PENMAN_MONTEITH, DAY) == ("air_temperature", *spread, *others)
    assert required(PENMAN_MONTEITH, HOUR) == ("air_temperature", *others)
    assert [one for one in FORMULAS if takes_elevation(one, DAY)] == [PENMAN_MONTEITH]
