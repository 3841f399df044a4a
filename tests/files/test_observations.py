"""Observations: gauges by id, the period of the run, and nothing that is not a discharge."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.errors import ObservationError

DAY = 86400
START = np.datetime64("2001-01-01", "s")


def day(number):
    return START + np.timedelta64(int(number * DAY), "s")


@pytest.fixture
def write(tmp_path):
    def make(values, ids=("x", "y"), units="m3 s-1", dims=("time", "gauge"), times=None, name="discharge"):
        path = tmp_path / "observations.nc"
        with netCDF4.Dataset(path, "w") as dataset:
            dataset.createDimension("time", np.shape(values)[dims.index("time")])
            dataset.createDimension("gauge", len(ids))
            time = dataset.createVariable("time", "f8", ("time",))
            time.units = "days since 2001-01-01"
            time[:] = np.arange(np.shape(values)[dims.index("time")]) if times is None else times
            label = dataset.createVariable("gauge_id", str, ("gauge",))
            label[:] = np.array(ids, object)
            target = dataset.createVariable(name, "f4", dims, fill_value=-99)
            target.units = units
            target[:] = values
        return path
    return make


VALUES = np.array([[1.0, 10], [2, 20], [np.nan, 30], [4, -99]])


def test_gauges_in_the_order_asked_for_and_others_ignored(write):
    path = write(np.c_[VALUES, [7, 7, 7, 7]], ids=("x", "y", "unused"))
    starts, discharge = read_observations(path, ["y", "x"], day(0), day(4), DAY)
    assert starts.dtype == np.dtype("datetime64[s]")
    assert np.array_equal(starts, [day(k) for k in range(4)])
    assert np.array_equal(discharge, [[10, 1], [20, 2], [30, np.nan], [np.nan, 4]], equal_nan=True)
    assert discharge.dtype == np.float64


@pytest.mark.parametrize("first, last, expected", [
    (1, 3, [2, np.nan]),
    (-2, 2, [np.nan, np.nan, 1, 2]),
    (3, 6, [4, np.nan, np.nan]),
    (-1, 5, [np.nan, 1, 2, np.nan, 4, np.nan]),
])
def test_outside_the_file_is_missing(write, first, last, expected):
    starts, discharge = read_observations(write(VALUES), ["x"], day(first), day(last), DAY)
    assert np.array_equal(discharge[:, 0], expected, equal_nan=True)
    assert starts[0] == day(first) and starts[-1] == day(last - 1)


@pytest.mark.parametrize("first, last", [(4, 6), (-3, 0)])
def test_no_overlap_is_an_error(write, first, last):
    with pytest.raises(ObservationError, match="covers 2001-01-01T00:00:00 to 2001-01-05T00:00:00, nothing"):
        read_observations(write(VALUES), ["x"], day(first), day(last), DAY)


@pytest.mark.parametrize("change, gauges, period, message", [
    ({}, ["x", "yy"], (0, 4, DAY), r"'gauge_id' has no yy \(1 of 2 are missing\). Did you mean 'y'"),
    ({"ids": ("x", "x")}, ["x"], (0, 4, DAY), "'gauge_id' holds x more than once"),
    ({"units": "mm d-1"}, ["x"], (0, 4, DAY), "'discharge' has units 'mm d-1', expected 'm3 s-1'"),
    ({"name": "flow"}, ["x"], (0, 4, DAY), "variable 'discharge' is missing"),
    ({}, ["x"], (0, 4, 3600), "a step of 86400 s, expected steps of 3600 s"),
    ({}, ["x"], (0.25, 4.25, DAY), "is 21600 s after the begin of one"),
    ({"times": [0, 1, 2, 5]}, ["x"], (0, 4, DAY), "from 2001-01-03T00:00:00 to 2001-01-06T00:00:00"),
])
def test_what_is_refused(write, change, gauges, period, message):
    first, last, step = period
    with pytest.raises(ObservationError, match=message) as caught:
        read_observations(write(VALUES, **change), gauges, day(first), day(last), step)
    assert "observations.nc" in str(caught.value)


def test_dimensions_the_wrong_way_round(write):
    path = write(np.ones((2, 5)), dims=("gauge", "time"))
    with pytest.raises(ObservationError, match=r"dimensions \(gauge, time\), expected \(time, gauge\)"):
        read_observations(path, ["x"], day(0), day(4), DAY)


@pytest.mark.parametrize("value", [-9999.0, np.inf])
def test_impossible_discharge_names_gauge_and_time(write, value):
    values = VALUES.copy()
    values[1, 1] = value
    message = f"'discharge' is {value:g} at 2001-01-02T00:00:00 at gauge y, the first of 1 .*_FillValue"
    with pytest.raises(ObservationError, match=message):
        read_observations(write(values), ["x", "y"], day(0), day(4), DAY)
    read_observations(write(values), ["x"], day(0), day(4), DAY)  # the other gauge may be broken


def test_no_file(tmp_path):
    with pytest.raises(ObservationError, match="there is no such file"):
        read_observations(tmp_path / "none.nc", ["x"], day(0), day(1), DAY)
