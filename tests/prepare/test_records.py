"""Observations from tables and NetCDF."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from pydantic import ValidationError

from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.prepare.gauges.records import read_records, write_observations
from bmi_cdlm.prepare.weather.weather_config import ObservationsConfig

DAYS = np.datetime64("2020-01-01", "s") + np.arange(4) * np.timedelta64(86400, "s")
GAUGES = {"A1": 864.0, "B2": 10.0}


def read(tmp_path, *, gauges=GAUGES, starts=DAYS, **config):
    return read_records(ObservationsConfig(**{"units": "m3 s-1", **config}), gauges, starts, 86400, tmp_path)


def wide(tmp_path, text="time,A1,B2,C3\n2020-01-01,1.5,2,9\n2020-01-02,,3,9\n2020-01-04,4,-999,9\n", **config):
    (tmp_path / "q.csv").write_text(text)
    return read(tmp_path, **{"source": "q.csv", "layout": "wide", "missing_values": [-999], **config})


EXPECTED = [[1.5, 2.0], [np.nan, 3.0], [np.nan, np.nan], [4.0, np.nan]]


def test_wide_table(tmp_path):
    discharge, flags = wide(tmp_path)
    np.testing.assert_array_equal(discharge, EXPECTED)
    assert flags.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_long_table_with_flags(tmp_path):
    (tmp_path / "q.csv").write_text(
        "# a comment\nstation; date; flow; quality\nA1; 01.01.2020; 1.5; good\nB2; 01.01.2020; 2; good\n"
        "B2; 02.01.2020; 3; ice\nA1; 04.01.2020; 4; estimated\nX; 01.01.2020; 7; good\n"
    )
    options = {
        "source": "q.csv", "layout": "long", "delimiter": ";", "id_column": "station", "time_column": "date",
        "time_format": "%d.%m.%Y", "value_column": "flow", "flag_column": "quality",
    }
    discharge, flags = read(tmp_path, **options, rejected_flags=["ice"])
    np.testing.assert_array_equal(discharge, [[1.5, 2.0], [np.nan] * 2, [np.nan] * 2, [4.0, np.nan]])
    assert flags.tolist() == [[0, 0], [1, 2], [1, 1], [0, 1]]
    discharge, flags = read(tmp_path, **options, accepted_flags=["good"])
    assert flags[:, 0].tolist() == [0, 1, 1, 2]
    assert np.isnan(discharge[3, 0])


def test_table_per_gauge(tmp_path):
    (tmp_path / "A1.csv").write_text("time,discharge\n2020-01-02T00:00:00+00:00,5\n")
    (tmp_path / "B2.csv").write_text("time,discharge\n2020-01-03T08:00:00+08:00,6\n")
    discharge, _ = read(tmp_path, source="{id}.csv", layout="single")
    assert discharge[1, 0] == 5.0
    assert discharge[2, 1] == 6.0  # 00:00 UTC


def test_values_after_a_stamp(tmp_path):
    (tmp_path / "A1.csv").write_text("201912310000\n0.5\n-99\n1.5\n2.5\n")
    discharge, _ = read(
        tmp_path, source="{id}.csv", layout="values", missing_values=[-99], gauges={"A1": 1.0}
    )
    np.testing.assert_array_equal(discharge[:, 0], [np.nan, 1.5, 2.5, np.nan])
    with pytest.raises(ObservationError, match=r"discharge -99 at 2020-01-01.*missing_values"):
        read(tmp_path, source="{id}.csv", layout="values", gauges={"A1": 1.0})


def netcdf(tmp_path, **attributes):
    with netCDF4.Dataset(tmp_path / "q.nc", "w") as dataset:
        dataset.createDimension("basin", 2)
        dataset.createDimension("time", 4)
        dataset.createVariable("basin_id", str, ("basin",))[:] = np.array(["B2", "A1"], object)
        time = dataset.createVariable("time", "i4", ("time",))
        time.units = "days since 2020-01-01"
        time[:] = np.arange(4)
        flow = dataset.createVariable("q", "f4", ("basin", "time"), fill_value=np.float32(-1.0))
        flow.setncatts(attributes)
        flow[:] = np.array([[1, 2, -1, 4], [5, 6, 7, 8]], np.float32)
        flag = dataset.createVariable("f", "i1", ("basin", "time"))
        flag[:] = np.array([[0, 0, 0, 3], [0, 0, 0, 0]])


def test_netcdf_of_other_order_and_units(tmp_path):
    netcdf(tmp_path, units="ft3 s-1")
    options = {"source": "q.nc", "layout": "netcdf", "variable": "q", "id_variable": "basin_id", "units": None}
    discharge, _ = read(tmp_path, **options)
    foot = 0.3048**3
    np.testing.assert_allclose(discharge[:, 0], np.array([5, 6, 7, 8]) * foot, rtol=1e-12)
    np.testing.assert_allclose(discharge[:, 1], np.array([1, 2, np.nan, 4]) * foot, rtol=1e-12)
    _, flags = read(tmp_path, **options, flag_variable="f", rejected_flags=["3"])
    assert flags[:, 1].tolist() == [0, 0, 1, 2]
    netcdf(tmp_path)
    with pytest.raises(ObservationError, match="has no units"):
        read(tmp_path, **options)


def test_depths_become_flows_over_the_official_area(tmp_path):
    discharge, _ = wide(tmp_path, units="mm d-1")
    assert discharge[0, 0] == pytest.approx(15.0)
    with pytest.raises(ObservationError, match="gauge A1: is in 'mm d-1', but its official area is unknown"):
        wide(tmp_path, units="mm d-1", gauges={"A1": np.nan})


def test_hours_to_days_and_their_cover(tmp_path):
    hours = np.datetime64("2020-01-01T00", "h") + np.arange(96)
    lines = [f"{hour},{i % 24},1" for i, hour in enumerate(hours) if i not in (30, 31) and i < 72]
    text = "time,A1,B2\n" + "\n".join(lines) + "\n"
    discharge, _ = wide(tmp_path, text, step="1 h")
    np.testing.assert_allclose(discharge[:, 0], [11.5, np.nan, 11.5, np.nan])
    discharge, _ = wide(tmp_path, text, step="1 h", min_coverage=0.9)
    assert discharge[1, 0] == pytest.approx((276 - 13) / 22)
    discharge, _ = wide(tmp_path, text, step="1 h", stamp="end", min_coverage=0.95)
    np.testing.assert_allclose(discharge[0, 0], np.arange(1, 24).sum() / 24, rtol=1e-12)


def test_local_days(tmp_path):
    starts = DAYS - np.timedelta64(8 * 3600, "s")
    discharge, _ = wide(tmp_path, starts=starts, utc_offset=8)
    assert discharge[0, 0] == 1.5
    with pytest.raises(ObservationError, match=r"an interval begins at 2019-12-31T16:00:00 UTC .*utc_offset"):
        wide(tmp_path, utc_offset=8)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("time,A1,B2\n2020-01-01,1,x\n", "column 'B2'.*Expected numbers"),
        ("time,A1,B2\n2020-01-01,1,-3\n", "gauge B2: discharge -3 at 2020-01-01.*missing_values"),
        ("time,A1,B2\n1/1/2020,1,3\n", "Expected ISO 8601; set time_format"),
        ("day,A1,B2\n2020-01-01,1,3\n", "has no column 'time'"),
        ("time,A1,b2\n2020-01-01,1,3\n", "gauge B2: has no record"),
        ("time,A1,B2\n2021-01-01,1,3\n", "gauge A1: covers 2021-01-01"),
        ("time,A1,B2\n2020-01-01,1,3\n2020-01-01,2,3\n", "there twice"),
    ],
)
def test_bad_tables(tmp_path, text, match):
    with pytest.raises(ObservationError, match=match):
        wide(tmp_path, text)


def test_lines_of_unlike_length_without_headings(tmp_path):
    (tmp_path / "A1.csv").write_text("2020-01-01,1\n2020-01-02,,M\n2020-01-03,3\n")
    keys = {"source": "{id}.csv", "layout": "single", "headings": False, "time_column": 1, "value_column": 2}
    with pytest.raises(ObservationError, match=r"in line 2, saw 3\)\. Expected as many fields in every line"):
        read(tmp_path, gauges={"A1": 1.0}, **keys)


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        ("m3/s", 1.0), ("m³/s", 1.0), ("m³ s⁻¹", 1.0), ("m³·s⁻¹", 1.0), ("cumecs", 1.0), ("m**3 s**-1", 1.0),
        ("l s⁻¹", 1e-3), ("ML/d", 1000.0 / 86400.0), ("cfs", 0.3048**3), ("mm d⁻¹", 864.0 * 1000.0 / 86400.0),
        ("mm d^-1", 864.0 * 1000.0 / 86400.0),
    ],
)
def test_units_as_people_spell_them(tmp_path, units, factor):
    discharge, _ = wide(tmp_path, "time,A1\n2020-01-01,2\n", units=units, gauges={"A1": 864.0})
    assert discharge[0, 0] == pytest.approx(2.0 * factor, rel=1e-12)


@pytest.mark.parametrize("units", ["barrels per moon", "m3s-1"])
def test_the_remedy_names_units_of_discharge(tmp_path, units):
    with pytest.raises(ObservationError, match=r"not known to UDUNITS .*Set `units`, such as 'm3 s-1'"):
        wide(tmp_path, "time,A1\n2020-01-01,2\n", units=units, gauges={"A1": 864.0})


def test_a_file_of_one_gauge_read_as_one_of_many_is_told_of_its_id(tmp_path):
    with netCDF4.Dataset(tmp_path / "A1.nc", "w") as dataset:
        dataset.createDimension("time", 4)
        dataset.createDimension("station", 1)
        time = dataset.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2020-01-01", np.arange(4)
        dataset.createVariable("gauge_id", str, ("station",))[:] = np.array(["A1"], object)
        dataset.createVariable("discharge", "f8", ("time",))[:] = [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(ObservationError, match=r"lies on \(time\), expected times and gauges.*write its id as \{id\}"):
        read(tmp_path, source="A1.nc", layout="netcdf", gauges={"A1": 1.0})
    discharge, _ = read(tmp_path, source="{id}.nc", layout="netcdf", gauges={"A1": 1.0})
    assert discharge[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_absent_gauge_may_be_missing(tmp_path):
    discharge, _ = wide(tmp_path, gauges={"A1": 1.0, "Z": 1.0}, allow_absent=True)
    assert np.isnan(discharge[:, 1]).all()


def test_keys_that_do_not_fit_together():
    with pytest.raises(ValidationError, match=r"expected a path with \{id\}"):
        ObservationsConfig(source="q.csv", layout="single")
    with pytest.raises(ValidationError, match="without flag_column"):
        ObservationsConfig(source="q.csv", layout="wide", rejected_flags=["x"])


def test_the_model_reads_the_file(tmp_path):
    (tmp_path / "q.csv").write_text("time,A1,B2\n2020-01-01,1.5,2\n2020-01-02,,3\n2020-01-04,4,\n")
    config = ObservationsConfig(source="q.csv", layout="wide", units="m3 s-1")
    write_observations(tmp_path / "o.nc", config, GAUGES, DAYS, 86400, tmp_path, {"title": "a test"})
    starts, discharge = read_observations(tmp_path / "o.nc", ["B2", "A1"], DAYS[0], DAYS[3], 86400)
    np.testing.assert_array_equal(starts, DAYS[:3])
    np.testing.assert_array_equal(discharge[:, ::-1], EXPECTED[:3])
    with netCDF4.Dataset(tmp_path / "o.nc") as dataset:
        assert dataset.title == "a test"
        assert dataset.day_boundary == "00:00 UTC"
        assert dataset["discharge_flag"].flag_meanings.split()[2] == "rejected_by_the_source"
