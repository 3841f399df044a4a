"""Means of days and months, baseflow, slope of the flow duration curve: worked by hand, and beside reference values."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.evaluate.catalogue import METRICS, Pair, metric, scores
from bmi_cdlm.evaluate.metrics import fms, kge_parts
from bmi_cdlm.evaluate.signatures import baseflow, baseflow_index, duration_slope, hysep_window, means_over
from bmi_cdlm.names.errors import UnknownNameError

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "refs" / "ref_signatures_gripe.csv"


@pytest.mark.parametrize(("area", "days"), [(50, 3), (2200, 7), (1e6, 11), (0.5, 3), (543.76, 5), (983.664, 7)])
def test_the_sliding_interval_of_an_area(area, days):
    assert hysep_window(area) == days


def test_baseflow_by_hand():
    flow = np.array([4.0, 2, 6, 8, 3, 5])  # three days about each, two at the ends
    np.testing.assert_array_equal(baseflow(flow, 50), [2, 2, 2, 3, 3, 3])
    assert baseflow_index(flow, 50) == 15 / 28
    gap = np.array([4.0, np.nan, 6, 8, np.nan, np.nan, np.nan, 1])
    np.testing.assert_array_equal(baseflow(gap, 50), [4, 4, 6, 6, np.nan, np.nan, np.nan, 1])
    assert baseflow_index(gap, 50) == (4 + 6 + 6 + 1) / (4 + 6 + 8 + 1)
    assert math.isnan(baseflow_index(np.zeros(9), 50))


def test_slope_of_the_flow_duration_curve():
    flow = np.arange(1.0, 12.0)[::-1]  # 9 is exceeded at 20 % of the times, 4 at 70 %
    assert duration_slope(flow) == pytest.approx(math.log(9 / 4), rel=1e-14)
    assert fms(flow**2, flow) == pytest.approx(100, rel=1e-12)
    assert fms(np.sqrt(flow), flow) == pytest.approx(-50, rel=1e-12)
    assert math.isnan(fms(np.where(flow < 5, 0, flow), flow)), "no logarithm of a dry river"


def test_gamma_is_the_ratio_of_the_coefficients_of_variation():
    parts = kge_parts(np.array([1.0, 3, 3, 5]), np.array([1.0, 2, 3, 4]))
    assert parts.gamma == pytest.approx(math.sqrt(8 / 5) / 1.2, rel=1e-14)


def test_months_need_nine_tenths_of_their_days():
    starts = np.arange(np.datetime64("2001-01-01"), np.datetime64("2001-03-01"))
    s, o = np.arange(59.0), np.arange(59.0) + 1
    o[31 + 3 : 31 + 6] = np.nan  # 25 of 28 days in February
    by_month = means_over(s, o, starts, "month")
    np.testing.assert_array_equal(by_month[0], [15, np.nan])
    np.testing.assert_array_equal(by_month[1], [16, np.nan])
    s[31 + 3], o[31 + 3] = 0, 100.0  # 26 days
    left = np.r_[31:34, 37:59]
    _, o_mean, months = means_over(s, o, starts, "month")
    assert o_mean[1] == pytest.approx((left.sum() + left.size + 100) / 26, rel=1e-14)
    assert (months == np.array(["2001-01-01", "2001-02-01"], "datetime64[s]")).all()


def test_days_of_hours():
    starts = np.arange(np.datetime64("2001-01-01T12", "h"), np.datetime64("2001-01-03T00", "h"))
    s, o, days = means_over(np.arange(36.0), np.ones(36), starts, "day")
    np.testing.assert_array_equal(s, [np.nan, 23.5])
    np.testing.assert_array_equal(o, [np.nan, 1])
    assert days[0] == np.datetime64("2001-01-01")


def test_an_hourly_record_has_the_baseflow_of_its_days():
    rng = np.random.default_rng(2)
    days, dates = rng.random(40), np.arange(np.datetime64("2001-01-01"), np.datetime64("2001-02-10"))
    hours = np.arange(np.datetime64("2001-01-01T00", "h"), np.datetime64("2001-02-10T00", "h"))
    daily = scores(days, days[::-1], dates, 2200)
    hourly = scores(np.repeat(days, 24), np.repeat(days[::-1], 24), hours, 2200)
    for name in ("bfi_simulated", "bfi_observed", "bfi_error"):
        assert hourly[name] == pytest.approx(daily[name], rel=1e-12)
    assert daily["bfi_observed"] == pytest.approx(baseflow_index(days[::-1], 2200), rel=1e-14)
    assert hourly["years"] == pytest.approx(40 / 365.25) == daily["years"]


def test_the_catalogue_states_every_score_once():
    assert len({one.name for one in METRICS}) == len(METRICS)
    flow = np.random.default_rng(1).random(400) + 0.1
    pair = Pair(flow, flow, np.datetime64("2001-01-01") + np.arange(400), 300.0, np.stack([flow, flow]))
    for one in METRICS:
        assert math.isnan(one.best) or one.of(pair) == pytest.approx(one.best, abs=1e-12), one.name
    assert metric("pbias").error(-7.0) == 7.0
    with pytest.raises(UnknownNameError, match=r"there is no score 'nze'. Did you mean 'nse'"):
        metric("nze")


@pytest.mark.shared_data
def test_baseflow_indices_of_real_gauges(shared_path):
    """Lake Erie, 46 gauges, by an independent program."""
    if not REFERENCE.is_file():
        pytest.skip("the reference values are not there")
    with netCDF4.Dataset(shared_path("basins_gripe.nc")) as dataset:
        ids, flow = list(dataset["basin_id"][:]), np.ma.filled(dataset["runoff_obs"][:].astype(float), np.nan)
    text = [line for line in REFERENCE.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(text))
    assert len(rows) > 40
    for row in rows:
        area, series = float(row["area_km2"]), flow[:, ids.index(row["basin_id"])]
        assert hysep_window(area) == int(row["hysep_window_days"])
        assert baseflow_index(series, area) == pytest.approx(float(row["bfi"]), abs=5.1e-7), row["basin_id"]
