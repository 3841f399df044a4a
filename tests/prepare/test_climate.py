"""Climate attributes: the definitions of CAMELS, on series of which they are known."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from make_drainage import make_drainage

from bmi_cdlm.files.netcdf import create_time, write_time
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.network.attributes import Table, add_climate
from bmi_cdlm.prepare.weather.climate import NAMES, climate_of_cells
from bmi_cdlm.prepare.weather.interception import CAPACITIES, interception_capacity_of_cells
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig

N = 4 * 365 + 1
YEAR = 365.25
START = np.datetime64("2001-01-01", "s")


def forcing(path, rain, demand, warmth=None, step=86400, ids=("a", "b")):
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.createDimension("cell", len(ids))
        dataset.createVariable("cell_id", str, ("cell",))[:] = np.array(ids, object)
        create_time(dataset)
        write_time(dataset, 0, START + np.arange(rain.shape[0]) * np.timedelta64(step, "s"), step)
        series = {"precipitation": rain, "potential_evapotranspiration": demand, "air_temperature": warmth}
        for name, values in series.items():
            if values is not None:
                dataset.createVariable(name, "f8", ("time", "cell"), fill_value=np.nan)[:] = values
    return path


def days(n=N):
    """Day of the year, of four years of which the last one is a leap year."""
    dates = (START + np.arange(n) * np.timedelta64(86400, "s")).astype("datetime64[D]")
    return (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1.0


def both(series):
    return np.stack([series, series], axis=1)


def test_means_and_frequencies(tmp_path):
    rain = np.full(N, 1.5)
    rain[::100] = 100.0  # 15 days, above five times the mean
    rain[1::10] = 0.5  # 146 days below 1 mm
    warmth = np.where(np.arange(N) % 4 == 0, -5.0, 10.0)
    path = forcing(tmp_path / "f.nc", both(rain), both(np.full(N, 3.0)), both(warmth))
    found = {name: one.values[0] for name, one in climate_of_cells(path, ["a", "b"]).items()}
    assert found["p_mean"] == pytest.approx(rain.mean())
    assert found["pet_mean"] == pytest.approx(3.0)
    assert found["aridity"] == pytest.approx(3.0 / rain.mean())
    assert found["t_mean"] == pytest.approx(warmth.mean())
    assert found["high_prec_freq"] == pytest.approx(15 / N * YEAR)
    assert found["low_prec_freq"] == pytest.approx(146 / N * YEAR)
    snow = rain[warmth < 0].sum()
    assert found["frac_snow"] == pytest.approx(snow / rain.sum())
    assert found["mean_annual_snowfall"] == pytest.approx(snow / N * YEAR)


def test_snowfall_is_that_of_the_snow_model(tmp_path):
    """At 1 degC half of the precipitation is solid, none by the threshold of CAMELS."""
    path = forcing(tmp_path / "f.nc", both(np.full(N, 2.0)), both(np.full(N, 3.0)), both(np.full(N, 1.0)))
    found = climate_of_cells(path, ["a"])
    assert found["mean_annual_snowfall"].values[0] == pytest.approx(YEAR)
    assert found["frac_snow"].values[0] == 0.0


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.6), (0.5, -0.6), (0.25, 0.0)])
def test_seasonality(tmp_path, shift, expected):
    """P = 3 (1 + 0.6 sin(...)) and T peak at the same time, half a year or a quarter apart."""
    angle = 2.0 * np.pi * days() / YEAR
    rain = 3.0 * (1.0 + 0.6 * np.sin(angle - 1.0))
    warmth = 8.0 + 9.0 * np.sin(angle - 1.0 - 2.0 * np.pi * shift)
    path = forcing(tmp_path / "f.nc", both(rain), both(np.full(N, 3.0)), both(warmth))
    found = climate_of_cells(path, ["a"])["p_seasonality"].values[0]
    assert found == pytest.approx(expected, abs=2e-3)


def test_hours_blocks_and_order_make_no_difference(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    rain, demand, warmth = rng.gamma(0.3, 8.0, (370, 2)), rng.random((370, 2)), rng.normal(2.0, 6.0, (370, 2))
    daily = forcing(tmp_path / "d.nc", rain, demand, warmth)
    expected = climate_of_cells(daily, ["a", "b"])
    hourly = forcing(tmp_path / "h.nc", *(np.repeat(one, 24, axis=0) for one in (rain, demand, warmth)), step=3600)
    monkeypatch.setattr("bmi_cdlm.prepare.weather.climate.BLOCK_BYTES", 30_000)
    found = climate_of_cells(hourly, ["b", "a"])
    for name, one in expected.items():
        np.testing.assert_allclose(found[name].values[::-1], one.values, rtol=1e-9)


def test_missing_values_are_left_out(tmp_path):
    rain, demand = np.full((N, 2), 2.0), np.full((N, 2), 3.0)
    rain[:10] = np.nan
    found = climate_of_cells(forcing(tmp_path / "f.nc", rain, demand), ["a"])
    assert found["p_mean"].values[0] == pytest.approx(2.0)
    assert found["low_prec_freq"].values[0] == 0.0
    assert "t_mean" not in found


def test_too_short_or_dry(tmp_path):
    with pytest.raises(ForcingError, match="holds 100 whole days, expected a year or more"):
        climate_of_cells(forcing(tmp_path / "s.nc", np.ones((100, 2)), np.ones((100, 2))), ["a"])
    with pytest.raises(ForcingError, match="no precipitation in 1 cells, the first b"):
        rain = np.ones((N, 2)) * [1.0, 0.0]
        climate_of_cells(forcing(tmp_path / "d.nc", rain, np.ones((N, 2))), ["a", "b"])


def test_cells_and_reaches(tmp_path):
    drainage = make_drainage(shift=1)
    rain = np.ones((N, 1)) * np.arange(1.0, 17.0)
    path = forcing(tmp_path / "f.nc", rain, np.ones((N, 16)), rain * 0 - 5.0, ids=drainage.cells.id.tolist())
    table = Table({}, {})
    add_climate(table, AttributesConfig(climate=True, upstream=["p_mean"]), drainage, path)
    assert {*table.cell} - {"mean_annual_snowfall"} <= {*NAMES}
    np.testing.assert_allclose(table.cell["p_mean"].values, np.arange(1.0, 17.0))
    np.testing.assert_allclose(table.cell["mean_annual_snowfall"].values, np.arange(1.0, 17.0) * YEAR)
    assert "mean_annual_snowfall" not in table.reach
    assert table.reach["p_mean"].values[0] == pytest.approx((1 * 2 + 2 * 1) / 3)  # a pixel further east
    assert table.reach["upstream_p_mean"].values[1] == pytest.approx((4 / 3 + 16 / 3) / 2, rel=1e-3)


# ---- capacity of interception ------------------------------------------------------------------------------


def showers(n_days=30):
    """An hour of 20 mm d-1 in the night of every third day; all demand, of 3 d-1, at noon [mm d-1]."""
    rain, demand = np.zeros((2, n_days * 24, 2))
    rain[2::72, 0] = 24 * 1.7
    rain[2::72, 1] = 24 * 9.0
    demand[12::24] = 24 * 2.3
    return rain, demand


def test_it_is_known_where_a_night_rains_and_the_noon_evaporates(tmp_path):
    """1.7 mm fall before a demand of 2.3: all of it evaporates by day, so leaves hold it; of 9 mm, as much as 2.3."""
    path = forcing(tmp_path / "f.nc", *showers(), step=3600)
    assert interception_capacity_of_cells(path, ["b", "a"]).tolist() == [2.3, 1.7]


def test_it_is_that_of_a_program_of_its_own(tmp_path, monkeypatch):
    """Steps of three hours from 21:00; a gap; read in blocks. A day is one of the calendar."""
    rng = np.random.default_rng(7)
    rain = np.where(rng.random((83, 2)) < 0.3, rng.gamma(0.5, 40.0, (83, 2)), 0.0)
    demand = np.maximum(0, 9 * np.sin(2 * np.pi * (np.arange(83)[:, None] + [1.5, 0.5]) / 8))
    rain[20, 1] = np.nan
    path = forcing(tmp_path / "f.nc", rain, demand, step=10800)
    with netCDF4.Dataset(path, "a") as file:
        for name in ("time", "time_bnds"):
            file[name][:] = file[name][:] - 10800  # seconds
    monkeypatch.setattr("bmi_cdlm.prepare.weather.interception.BLOCK_BYTES", 16 * 2 * 8 * 3)
    found = interception_capacity_of_cells(path, ["a", "b"])
    for i in range(2):
        P, E = (np.where(np.isnan(rain[1:81, i]), 0, x[1:81, i]) / 8 for x in (rain, demand))
        target, off = np.minimum(P.reshape(10, 8).sum(1), E.reshape(10, 8).sum(1)).sum(), []
        for ci in CAPACITIES:
            store = total = 0.0
            for p, e in zip(P, E, strict=True):
                ei = min(e, p + store)
                store, total = min(ci, store + p - ei), total + ei
            off.append(abs(total - target))
        assert found[i] == CAPACITIES[int(np.argmin(off))]


def test_days_have_none(tmp_path):
    rain = np.ones((5, 2))
    with pytest.raises(ForcingError, match="5 whole days in steps of 86400 s, expected one or more in steps shorter"):
        interception_capacity_of_cells(forcing(tmp_path / "d.nc", rain, rain), ["a"])
    with pytest.raises(ForcingError, match="holds 0 whole days in steps of 3600 s"):
        interception_capacity_of_cells(forcing(tmp_path / "h.nc", rain, rain, step=3600), ["a"])
