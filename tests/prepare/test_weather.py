"""Series of rasters become rates, at the right time."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.errors import ForcingError
from bmi_cdlm.prepare.rasters import Grid, Pixels
from bmi_cdlm.prepare.weather import (
    HOURLY_SHARES,
    RasterSeries,
    day_shares,
    read_series,
    spread_over_day,
    stamps_of,
)

PIXELS = Pixels(Grid(800_000.0, 6_500_000.0, 1000.0, 2, 2, "EPSG:2154"), np.array([0, 1]), np.array([1, 0]))
HOURS = np.datetime64("2014-12-18T22:00", "s") + np.arange(4) * np.timedelta64(3600, "s")


def test_hourly_shares():
    assert len(HOURLY_SHARES) == 24
    assert HOURLY_SHARES[:12] == HOURLY_SHARES[:11:-1]
    assert HOURLY_SHARES[5:13] == (0.0, 0.035, 0.062, 0.079, 0.097, 0.110, 0.117, 0.117)
    assert HOURLY_SHARES[17:] == (0.035, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("hours", [1, 2, 3, 6, 12, 24])
def test_shares_sum_to_one(hours):
    shares = day_shares(hours * 3600)
    assert shares.size == 24 // hours
    assert abs(shares.sum() - 1.0) < 1e-15


@pytest.mark.parametrize("step", [1800, 5 * 3600, 172_800])
def test_step_that_does_not_divide_a_day_is_refused(step):
    with pytest.raises(ForcingError, match="cannot be spread"):
        day_shares(step)


def test_spreading_keeps_the_day():
    starts = np.datetime64("2020-06-01", "s") + np.arange(48) * np.timedelta64(3600, "s")
    daily = np.repeat([[2.0, 5.0], [4.0, 0.0]], 24, axis=0)
    rates = spread_over_day(daily, starts, 3600)
    np.testing.assert_allclose(rates.reshape(2, 24, 2).mean(axis=1), [[2.0, 5.0], [4.0, 0.0]], rtol=1e-15)
    assert rates[12, 0] == pytest.approx(2.0 * 0.117 * 24)


def test_spreading_a_day_over_a_day_changes_nothing():
    starts = np.arange("2020-06-01", "2020-06-03", dtype="datetime64[D]").astype("datetime64[s]")
    assert spread_over_day(np.array([[2.0], [3.0]]), starts, 86400).tolist() == [[2.0], [3.0]]


def test_stamps():
    start = np.array(["2014-12-18T23:00"], "datetime64[s]")
    assert stamps_of(start, 3600, "end").tolist() == np.array(["2014-12-19T00:00"], "datetime64[s]").tolist()
    assert stamps_of(start, 3600, "start").tolist() == start.tolist()


def hourly(root, write_raster, missing=()):
    """Rasters stamped 23, 00 (absent), 01, 02; tenths of a millimetre, from 1 up in the western column."""
    for i, stamp in enumerate(("201412182300", "201412190000", "201412190100", "201412190200")):
        if i != 1:
            write_raster(root / f"{stamp}.tif", np.array([[0, 10], [0, 10]], np.int32) + i + 1)
    return RasterSeries("%Y%m%d%H%M.tif", factor=2.4, stamp="end", missing=missing)


def test_end_stamps_shift_to_the_start_and_gaps_stay(tmp_path, write_raster):
    source = hourly(tmp_path, write_raster, ("2014-12-19T00:00",))
    series = read_series(tmp_path, source, HOURS, 3600, PIXELS)
    assert series.values.dtype == np.float32
    np.testing.assert_allclose(
        series.values, np.array([[11, 1], [np.nan, np.nan], [13, 3], [14, 4]]) * 2.4, rtol=1e-7
    )
    assert series.missing.tolist() == [HOURS[1].item()]


def test_absent_raster_is_named(tmp_path, write_raster):
    series = hourly(tmp_path, write_raster)
    with pytest.raises(ForcingError, match=r"201412190000\.tif: there is no .*1 of 4.*declare its"):
        read_series(tmp_path, series, HOURS, 3600, PIXELS)


@pytest.mark.parametrize(("value", "shown"), [(-99, "nodata"), (-1, "-2.4 mm d-1")])
def test_values_that_are_no_rain_are_refused(tmp_path, write_raster, value, shown):
    write_raster(tmp_path / "201412182300.tif", np.array([[0, value], [0, 0]], np.int32))
    series = RasterSeries("%Y%m%d%H%M.tif", factor=2.4, stamp="end")
    with pytest.raises(ForcingError, match=f"{shown} at pixel 0000_0001 .1 such pixels"):
        read_series(tmp_path, series, HOURS[:1], 3600, PIXELS)


def test_interannual_rasters_serve_the_day_of_the_start(tmp_path, write_raster):
    write_raster(tmp_path / "1218.tif", np.full((2, 2), 1.0))
    write_raster(tmp_path / "1219.tif", np.full((2, 2), 2.0))
    series = RasterSeries("%m%d.tif", interannual=True)
    starts = np.array(["2014-12-18T12:00", "2014-12-18T23:00", "2014-12-19T12:00"], "datetime64[s]")
    values = read_series(tmp_path, series, starts, 3600, PIXELS).values
    np.testing.assert_allclose(values[:, 0], np.array([1.0, 0.0, 2.0]) * 0.117 * 24, rtol=1e-6)
