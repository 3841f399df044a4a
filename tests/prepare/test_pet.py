"""Potential evapotranspiration: the worked examples of FAO-56, the reference series, and the shares of the day."""

from __future__ import annotations

import json
import math
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.weather.pet import HOURLY_SHARES, Site, compute, day_shares, inputs, oudin, spread_over_day

pytest.importorskip("pyet", reason="pyet is not installed")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def at(latitude, elevation=None, wind_height=2.0):
    return Site(np.array([latitude]), None if elevation is None else np.array([elevation]), wind_height)


def columns(**values):
    return {name: np.atleast_1d(np.asarray(value, float))[:, None] for name, value in values.items()}


def days(*dates):
    return np.array(dates, "datetime64[D]")


def vapour(low, high, rh_min, rh_max):
    """FAO-56 equation 17."""
    def saturated(T):
        return 0.6108 * np.exp(17.27 * T / (T + 237.3))

    return 0.5 * (saturated(low) * rh_max + saturated(high) * rh_min) / 100.0


UCCLE = columns(
    minimum_temperature=12.3, maximum_temperature=21.5, shortwave_radiation=22.07, wind_speed=2.078,
    vapour_pressure=1.409, air_temperature=16.9,
)


def test_fao56_example_18():
    found = compute("fao56", days("2015-07-06"), UCCLE, at(50.8, 100.0))
    assert found.item() == pytest.approx(3.88, abs=0.005)


def test_wind_at_ten_metres_is_reduced():
    weather = UCCLE | columns(wind_speed=10.0 / 3.6)  # 10 km/h at 10 m
    assert compute("fao56", days("2015-07-06"), weather, at(50.8, 100.0, 10.0)).item() == pytest.approx(3.88, abs=0.005)
    parts = {name: value for name, value in weather.items() if name != "wind_speed"}
    parts |= columns(eastward_wind=6.0 / 3.6, northward_wind=-8.0 / 3.6)
    assert compute("fao56", days("2015-07-06"), parts, at(50.8, 100.0, 10.0)).item() == pytest.approx(3.88, abs=0.005)


def test_humidity_in_each_form_is_the_same():
    pressure = 101.3 * ((293 - 0.65) / 293) ** 5.26
    q = 0.622 * 1.409 / (pressure - 0.378 * 1.409)
    dew = 237.3 * math.log(1.409 / 0.6108) / (17.27 - math.log(1.409 / 0.6108))
    site, day = at(50.8, 100.0), days("2015-07-06")
    plain = compute("fao56", day, UCCLE, site)
    rest = {name: value for name, value in UCCLE.items() if name != "vapour_pressure"}
    np.testing.assert_allclose(compute("fao56", day, rest | columns(dewpoint_temperature=dew), site), plain, rtol=1e-6)
    np.testing.assert_allclose(compute("fao56", day, rest | columns(specific_humidity=q), site), plain, rtol=1e-6)
    es = 0.5 * (vapour(12.3, 12.3, 100, 100) + vapour(21.5, 21.5, 100, 100))
    np.testing.assert_allclose(
        compute("fao56", day, rest | columns(relative_humidity=140.9 / es), site), plain, rtol=1e-6
    )


def test_priestley_taylor_and_hargreaves_of_the_same_day():
    day = days("2015-07-06")
    assert compute("priestley_taylor", day, UCCLE, at(50.8, 100.0)).item() == pytest.approx(4.419, abs=0.003)
    assert compute("hargreaves", day, UCCLE, at(50.8)).item() == pytest.approx(4.058, abs=0.001)


def test_hargreaves_fao56_example_20():
    weather = columns(minimum_temperature=14.8, maximum_temperature=26.6)
    assert compute("hargreaves", days("2015-07-15"), weather, at(45.72)).item() == pytest.approx(5.0, abs=0.05)


def test_oudin_golden_values():
    """Values of airGR built with constants in double precision, at 45 degrees north."""
    J, T = np.array([15, 80, 150, 200, 300]), np.array([-10.0, 0.0, 10.0, 20.0, 30.0])
    expected = [0.0, 0.546787646838, 2.55382123318, 4.19084131165, 2.48350807651]
    np.testing.assert_allclose(oudin(J, np.array([45.0]), T[:, None])[:, 0], expected, rtol=1e-11)


@pytest.mark.parametrize("latitude", [-90.0, -75.0, 75.0, 90.0])
def test_polar_night_and_day_are_finite(latitude):
    J = np.arange(1, 366)
    found = oudin(J, np.array([latitude]), np.full((365, 1), 5.0))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found.min() == pytest.approx(0.0, abs=0.02)  # cosines are kept at 0.001 and above
    polar = np.datetime64("2015-01-01") + J - 1
    weather = {name: np.broadcast_to(value, (365, 1)) for name, value in UCCLE.items()}
    dark = {**weather, "shortwave_radiation": np.zeros((365, 1))}
    assert np.isfinite(compute("fao56", polar, dark, at(latitude, 0.0))).all()


def test_inputs_name_what_is_absent():
    assert inputs("given", {}) == ()
    assert inputs("oudin", {"air_temperature": 1}) == ("air_temperature",)
    given = dict.fromkeys((
        "minimum_temperature", "maximum_temperature", "shortwave_radiation", "eastward_wind", "northward_wind",
        "dewpoint_temperature", "surface_pressure",
    ))
    assert set(inputs("fao56", given)) == set(given)
    with pytest.raises(ForcingError, match="needs minimum_temperature, maximum_temperature"):
        inputs("hargreaves", {"air_temperature": 1})
    with pytest.raises(ForcingError, match="needs vapour_pressure"):
        inputs("priestley_taylor", {name: 1 for name in given if name != "dewpoint_temperature"})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"minimum_temperature": 30.0}, "'minimum_temperature' is 30 on 2015-07-06.*at most the maximum"),
        ({"shortwave_radiation": 2207.0}, "'shortwave_radiation' is 2207 .*0 to 60 MJ"),
        ({"vapour_pressure": 1409.0}, "'vapour_pressure' is 1409 .*kPa"),
    ],
)
def test_weather_that_cannot_be_is_refused(change, match):
    with pytest.raises(ForcingError, match=match):
        compute("fao56", days("2015-07-06"), UCCLE | columns(**change), at(50.8, 100.0))


def test_no_elevation():
    with pytest.raises(ForcingError, match=r"needs the elevation .*attributes\.elevation"):
        compute("fao56", days("2015-07-06"), UCCLE, at(50.8))


def test_cells_and_days_do_not_mix():
    latitude, elevation = np.array([50.8, -20.0]), np.array([100.0, 500.0])
    dates = days("2015-07-06", "2015-12-01", "2016-02-29")
    weather = {name: np.repeat(value, 3, axis=0).repeat(2, axis=1) for name, value in UCCLE.items()}
    weather["air_temperature"] = weather["air_temperature"] + np.arange(6.0).reshape(3, 2)
    for method in ("oudin", "hargreaves", "priestley_taylor", "fao56"):
        both = compute(method, dates, weather, Site(latitude, elevation, 2.0))
        for i in range(3):
            for j in range(2):
                one = {name: value[i : i + 1, j : j + 1] for name, value in weather.items()}
                alone = compute(method, dates[i : i + 1], one, Site(latitude[j : j + 1], elevation[j : j + 1], 2.0))
                assert both[i, j] == pytest.approx(alone.item(), rel=1e-13)


def test_hourly_shares():
    assert len(HOURLY_SHARES) == 24
    assert HOURLY_SHARES[:12] == HOURLY_SHARES[:11:-1]
    assert HOURLY_SHARES[5:13] == (0.0, 0.035, 0.062, 0.079, 0.097, 0.110, 0.117, 0.117)


@pytest.mark.parametrize("hours", [1, 2, 3, 6, 12, 24])
def test_shares_sum_to_one(hours):
    shares = day_shares(hours * 3600)
    assert shares.size == 24 // hours
    assert abs(shares.sum() - 1.0) < 1e-15


@pytest.mark.parametrize("step", [1800, 5 * 3600, 172_800])
def test_step_that_does_not_divide_a_day_is_refused(step):
    with pytest.raises(ForcingError, match="cannot be spread"):
        day_shares(step)


def test_noon_moves_the_shares():
    assert day_shares(3600, 4).tolist() == np.roll(day_shares(3600), -8).tolist()


def test_spreading_keeps_the_day():
    starts = np.datetime64("2020-06-01", "s") + np.arange(48) * np.timedelta64(3600, "s")
    daily = np.repeat([[2.0, 5.0], [4.0, 0.0]], 24, axis=0)
    rates = spread_over_day(daily, starts, 3600)
    np.testing.assert_allclose(rates.reshape(2, 24, 2).mean(axis=1), [[2.0, 5.0], [4.0, 0.0]], rtol=1e-15)
    assert rates[12, 0] == pytest.approx(2.0 * 0.117 * 24)


@pytest.mark.shared_data
def test_kent_town(shared_json):
    case = shared_json["kent_town"]
    low, high = np.array(case["tmin"]), np.array(case["tmax"])
    weather = columns(
        minimum_temperature=low, maximum_temperature=high, shortwave_radiation=case["Rs_MJ"], wind_speed=case["u10"],
        vapour_pressure=vapour(low, high, np.array(case["rhmin"]), np.array(case["rhmax"])),
    )
    dates = np.datetime64("2001-03-01") + np.arange(10)
    site = at(np.degrees(case["lat_rad"]), case["elevation_m"], 10.0)
    found = compute("fao56", dates, weather, site)[:, 0]
    np.testing.assert_allclose(found, case["ET0_fao56_pyet"], atol=5e-4)  # six digits there, radiation rounded
    np.testing.assert_allclose(found, case["ET0_fao56_rounded"], atol=0.0501)


@pytest.mark.shared_data
def test_fao56_examples_of_the_reference(shared_json):
    one, two = shared_json["example18_brussels"], shared_json["hargreaves_example20"]
    weather = columns(
        minimum_temperature=one["tmin"], maximum_temperature=one["tmax"], shortwave_radiation=one["Rs_MJ"],
        wind_speed=one["u2"], vapour_pressure=vapour(one["tmin"], one["tmax"], one["rhmin"], one["rhmax"]),
    )
    found = compute("fao56", days("2015-" + one["date"]), weather, at(one["lat_deg"], one["elevation_m"]))
    assert found.item() == pytest.approx(one["ET0"], abs=0.05)
    weather = columns(minimum_temperature=two["tmin"], maximum_temperature=two["tmax"])
    found = compute("hargreaves", days("2015-" + two["date"]), weather, at(two["lat_deg"]))
    assert found.item() == pytest.approx(two["ET0"], abs=0.05)


@pytest.mark.shared_data
def test_holyoke():
    d, site = station("ref_pet_holyoke_coagmet.nc")
    weather = columns(
        minimum_temperature=d["tmin"], maximum_temperature=d["tmax"], shortwave_radiation=d["shortwave"] * 0.0864,
        wind_speed=d["wind_2m"], vapour_pressure=vapour(d["tmin"], d["tmax"], d["rhmin"], d["rhmax"]),
        air_temperature=d["tmean"],  # the reference takes the station's own mean
    )
    found = compute("fao56", d["days"], weather, site)[:, 0]
    np.testing.assert_allclose(found, d["et_fao56_pyet"], atol=1e-9)


@pytest.mark.shared_data
def test_de_bilt():
    d, site = station("ref_pet_debilt_knmi.nc")
    es = 0.5 * (vapour(d["tmin"], d["tmin"], 100, 100) + vapour(d["tmax"], d["tmax"], 100, 100))
    weather = columns(
        minimum_temperature=d["tmin"], maximum_temperature=d["tmax"], shortwave_radiation=d["shortwave"],
        wind_speed=d["wind_2m"], vapour_pressure=d["rhmean"] / 100.0 * es, air_temperature=d["tmean"],
    )
    found = compute("fao56", d["days"], weather, site)[:, 0]
    both = np.isfinite(found) & np.isfinite(d["et_fao56_pyet"])
    assert both.sum() > 14_000
    np.testing.assert_allclose(found[both], d["et_fao56_pyet"][both], atol=1e-5)


@pytest.mark.shared_data
def test_oudin_of_airgr():
    """airGR's constants are in single precision: up to 4.5e-7 mm/d from exact ones."""
    if not (SHARED / "ref_pet_oudin_airgr.nc").is_file():
        pytest.skip("reference file is not there")
    with netCDF4.Dataset(SHARED / "ref_pet_oudin_airgr.nc") as dataset:
        T, expected = dataset["T"][:].filled(np.nan), dataset["PE"][:].filled(np.nan)
        dates = np.datetime64("1984-01-01") + dataset["time"][:].astype("timedelta64[D]")
    weather = {"air_temperature": T[:, None]}
    found = compute("oudin", dates, weather, at(np.degrees(0.8)))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def station(name):
    if not (SHARED / name).is_file():
        pytest.skip(f"reference file {name} is not there")
    with netCDF4.Dataset(SHARED / name) as dataset:
        d = {key: np.ma.filled(variable[:].astype(float), np.nan) for key, variable in dataset.variables.items()}
        origin = np.datetime64(str(dataset["time"].units).split()[2])
        site = at(float(dataset.latitude), float(dataset.elevation_m))
    return d | {"days": origin + d["time"].astype("timedelta64[D]")}, site


@pytest.fixture
def shared_json():
    path = SHARED / "ref_pet_fao56_examples.json"
    if not path.is_file():
        pytest.skip(f"reference file {path.name} is not there")
    return json.loads(path.read_text())
