"""Forcing files: everything wrong is found at the start, and a gap is filled the same whatever the block."""

from __future__ import annotations

import logging

import netCDF4
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmi_cdlm.files import forcing, series
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.names.errors import ForcingError, UnknownNameError

DAY = 86400
START = np.datetime64("2001-01-01", "s")
CELLS = ["a", "b", "c"]
UNITS = {"precipitation": "mm d-1", "potential_evapotranspiration": "mm d-1", "air_temperature": "degC"}


def day(number):
    return START + np.timedelta64(int(number * DAY), "s")


def ramp(n_steps, n_cells=3):
    return np.arange(n_steps * n_cells, dtype=float).reshape(n_steps, n_cells)


def write(path, variables, *, ids=CELLS, times=None, calendar="standard", dims=("time", "cell"), dtype="f8",
          units=UNITS, attributes=None, file_format="NETCDF4", chunksizes=None, **options):
    first = next(iter(variables.values()))
    n_time, n_cell = first.shape[:: 1 if dims[0] == "time" else -1]
    with netCDF4.Dataset(path, "w", format=file_format) as dataset:
        dataset.createDimension("time", n_time)
        dataset.createDimension("cell", n_cell)
        time = dataset.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 2001-01-01", calendar
        time[:] = np.arange(n_time) if times is None else times
        if ids is not None:
            label = dataset.createVariable("cell_id", str, ("cell",))
            label[:] = np.array(ids, object)
        for name, values in variables.items():
            target = dataset.createVariable(name, dtype, dims, chunksizes=chunksizes, **options)
            if units.get(name):
                target.units = units[name]
            target.setncatts(attributes or {})
            target[:] = values
    return path


def opened(path, names=("precipitation",), *, cells=CELLS, first=0, last=6, step=DAY, fill=None, bridges=None):
    return ForcingFile(path, list(names), cells, day(first), day(last), step, fill or {}, bridges=bridges)


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "forcing.nc", {"precipitation": ramp(6), "air_temperature": ramp(6) - 9})


@pytest.fixture(params=[True, False], ids=["cached", "streamed"])
def cached(request, monkeypatch):
    """Run a test with the forcing in memory and with blocks of two steps."""
    if not request.param:
        monkeypatch.setattr(forcing, "CACHE_BYTES", 0)
        monkeypatch.setattr(series, "BLOCK_BYTES", 2 * 3 * 8)
    return request.param


def test_reads_blocks_of_any_size_in_any_order(good, cached):
    with opened(good, ["precipitation", "air_temperature"], first=1) as source:
        assert source.n_steps == 5
        for first, count in ((0, 5), (3, 2), (0, 1), (1, 3), (4, 1), (2, 0)):
            found = source.read(first, count)
            assert list(found) == ["precipitation", "air_temperature"]
            assert np.array_equal(found["precipitation"], ramp(6)[1 + first : 1 + first + count])
            assert np.array_equal(found["air_temperature"], ramp(6)[1 + first : 1 + first + count] - 9)
            assert all(v.dtype == np.float64 and v.flags.c_contiguous for v in found.values())


def test_what_was_read_belongs_to_the_caller(good, cached):
    with opened(good) as source:
        source.read(0, 6)["precipitation"][:] = -1
        assert np.array_equal(source.read(0, 6)["precipitation"], ramp(6))


@pytest.mark.parametrize("first, count", [(-1, 2), (0, 7), (6, 1), (2, -1)])
def test_read_outside_the_period_is_refused(good, first, count):
    message = r"forcing\.nc: asked for steps .* expected 0 to 6"
    with opened(good) as source, pytest.raises(ForcingError, match=message):
        source.read(first, count)


def test_cached_forcing_outlives_close_and_streamed_says_so(good, cached):
    source = opened(good)
    source.close()
    source.close()
    if cached:
        assert source.read(5, 1)["precipitation"].shape == (1, 3)
    else:
        source._held.clear()
        message = r"'precipitation' cannot be read from 2001-01-01.* to 2001-01-02"
        with pytest.raises(ForcingError, match=message):
            source.read(0, 1)


def test_a_damaged_block_names_file_and_time(tmp_path, cached):
    n = 600
    values = np.random.default_rng(0).random((n, 3))
    path = write(tmp_path / "forcing.nc", {"precipitation": values}, zlib=True, chunksizes=(100, 3))
    whole = path.read_bytes()
    start = len(whole) // 2
    path.write_bytes(whole[:start] + b"\xff" * 3000 + whole[start + 3000 :])
    with pytest.raises(ForcingError, match=r"forcing\.nc: 'precipitation' cannot be read from 200\S+ to 20"):
        opened(path, last=n)


@pytest.mark.parametrize("file_format", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_packed_values_and_every_kind_of_missing_mark(tmp_path, file_format, cached):
    path = tmp_path / "packed.nc"
    raw = np.array([[10, 20, 30], [-7, 5, 5], [5, -9, 5], [5, 5, 5], [5, 5, 5], [5, 5, 5]], "i2")
    with netCDF4.Dataset(path, "w", format=file_format) as dataset:
        dataset.createDimension("time", 6)
        dataset.createDimension("cell", 3)
        time = dataset.createVariable("time", "i4", ("time",))
        time.units = "days since 2001-01-01"
        time[:] = np.arange(6)
        target = dataset.createVariable("precipitation", "i2", ("time", "cell"), fill_value=-7)
        target.set_auto_maskandscale(False)
        target.setncatts({"units": "mm/day", "scale_factor": np.float32(0.1), "add_offset": 2.0,
                          "missing_value": np.int16(-9)})
        target[:] = raw
    with opened(path, fill={"precipitation": "zero"}) as source:
        expected = raw * np.float64(np.float32(0.1)) + 2.0
        expected[1, 0] = expected[2, 1] = 0.0
        assert np.array_equal(source.read(0, 6)["precipitation"], expected)


def test_parts_never_written_are_missing(tmp_path):
    path = write(tmp_path / "forcing.nc", {"precipitation": ramp(6)}, dtype="f4")
    with netCDF4.Dataset(path, "a") as dataset:
        dataset.variables["precipitation"][4, 1] = netCDF4.default_fillvals["f4"]
    with pytest.raises(ForcingError, match="missing at 2001-01-05T00:00:00 in cell b"):
        opened(path)


def test_a_double_missing_value_on_float_data_is_found(tmp_path):
    values = ramp(6)
    values[2, 2] = 1e20
    attributes = {"missing_value": 1e20}
    path = write(tmp_path / "forcing.nc", {"precipitation": values}, dtype="f4", attributes=attributes)
    with pytest.raises(ForcingError, match="missing at 2001-01-03T00:00:00 in cell c, the first of 1"):
        opened(path)


def test_cells_of_another_order_and_of_a_larger_file(tmp_path, cached):
    path = write(tmp_path / "forcing.nc", {"precipitation": ramp(6, 5)}, ids=["z", "c", "a", "y", "b"])
    with opened(path) as source:
        assert np.array_equal(source.read(0, 6)["precipitation"], ramp(6, 5)[:, [2, 4, 1]])
        assert source.read(1, 4)["precipitation"].flags.c_contiguous


def test_a_file_without_ids_is_in_the_order_of_the_domain(tmp_path):
    path = write(tmp_path / "forcing.nc", {"precipitation": ramp(6)}, ids=None)
    with opened(path) as source:
        assert np.array_equal(source.read(0, 6)["precipitation"], ramp(6))


@pytest.mark.parametrize("change, names, period, message", [
    ({"units": {"precipitation": "kg m-2 s-1"}}, ["precipitation"], {},
     r"forcing\.nc: 'precipitation' has units 'kg m-2 s-1', expected 'mm d-1'. Convert it and set"),
    ({"units": {}}, ["precipitation"], {}, "'precipitation' has no units, expected 'mm d-1'"),
    ({}, ["potential_evapotranspiration"], {}, "'potential_evapotranspiration' is missing.*The file has:"),
    ({"dims": ("cell", "time"), "ids": None}, ["precipitation"], {"cells": ["a"] * 6, "last": 3},
     r"dimensions \(cell, time\), expected \(time, cell\)"),
    ({"ids": ["a", "b", "d"]}, ["precipitation"], {}, r"'cell_id' has no c \(1 of 3 are missing\)"),
    ({"ids": ["a", "b", "b"]}, ["precipitation"], {"cells": ["a", "b"]}, "'cell_id' holds b more than once"),
    ({"ids": None}, ["precipitation"], {"cells": ["a"]}, "has 3 cells and no 'cell_id', expected the 1"),
    ({"calendar": "360_day"}, ["precipitation"], {}, "is in the calendar 360_day, expected standard, in"),
    ({"times": [0, 1, 2, 4, 5, 6]}, ["precipitation"], {}, "from 2001-01-03T00:00:00 to 2001-01-05T00:00:00"),
    ({}, ["precipitation"], {"step": 3600}, "'time' has a step of 86400 s, expected steps of 3600 s"),
    ({}, ["precipitation"], {"last": 7}, "covers 2001-01-01T00:00:00 to 2001-01-07T00:00:00, expected"),
    ({}, ["precipitation"], {"first": -1}, "covers 2001-01-01T00:00:00 .* expected all of 2000-12-31"),
    ({}, ["precipitation"], {"first": 0.5, "last": 3.5}, "is 43200 s after the begin of one"),
    ({}, ["precipitation"], {"last": 1.5}, "129600 s, expected one or more whole steps"),
    ({}, ["precipitation"], {"first": 3, "last": 3}, "0 s, expected one or more whole steps"),
    ({}, ["precipitation"], {"fill": {"precipitation": "holds"}}, "is 'holds', expected .*mean 'hold'"),
    ({}, ["precipitation"], {"fill": {"rain": "hold"}}, "forcing_fill names 'rain', expected one of precip"),
])
def test_what_is_refused_before_the_run(tmp_path, change, names, period, message):
    path = write(tmp_path / "forcing.nc", {"precipitation": ramp(6)}, **change)
    with pytest.raises(ForcingError, match=message):
        opened(path, names, **period)


def test_a_single_time_without_bounds_has_no_step(tmp_path):
    path = write(tmp_path / "forcing.nc", {"precipitation": ramp(1)})
    with pytest.raises(ForcingError, match=r"a single time without bounds.*add time_bnds"):
        opened(path, last=1)


def test_no_file_no_netcdf_no_numbers_no_cells(tmp_path):
    with pytest.raises(ForcingError, match=r"forcing\.nc: there is no such file"):
        opened(tmp_path / "forcing.nc")
    (tmp_path / "text.nc").write_text("P,E\n1,2\n")
    with pytest.raises(ForcingError, match=r"text\.nc: cannot be read as NetCDF"):
        opened(tmp_path / "text.nc")
    path = write(tmp_path / "words.nc", {"precipitation": np.full((6, 3), "dry", object)}, dtype=str)
    with pytest.raises(ForcingError, match="'precipitation' holds text or objects, expected numbers"):
        opened(path)
    with netCDF4.Dataset(write(tmp_path / "point.nc", {"precipitation": ramp(6)}), "a") as dataset:
        dataset.renameDimension("cell", "point")
    with pytest.raises(ForcingError, match="dimension 'cell' is missing"):
        opened(tmp_path / "point.nc")


def test_a_name_outside_the_registry_is_refused(tmp_path):
    path = write(tmp_path / "forcing.nc", {"rain": ramp(6)})
    with pytest.raises(UnknownNameError, match="no variable 'rain'"):
        opened(path, ["rain"])


@pytest.mark.parametrize("name, value, message", [
    ("precipitation", np.nan, "missing at 2001-01-04T00:00:00 in cell b, the first of 2.*forcing_fill.prec"),
    ("precipitation", -9999.0, "is -9999 at 2001-01-04T00:00:00 in cell b, the first of 2.*0 to 2000 mm d-1.*_F"),
    ("precipitation", np.inf, "is inf at 2001-01-04T00:00:00 in cell b, the first of 2 .*finite"),
    ("potential_evapotranspiration", -0.1, "is -0.1 at 2001-01-04T00:00:00 in cell b, the first of 2"),
    ("air_temperature", 285.2, r"is 285.2 at 2001-01-04T00:00:00 in cell b.*-100 to 70.*in K .285.2 K = 12.05 degC"),
    ("air_temperature", -101.0, "is -101 at 2001-01-04T00:00:00 in cell b"),
    ("air_temperature", -np.inf, "is -inf at 2001-01-04T00:00:00 in cell b"),
])
def test_values_without_a_meaning_are_counted_and_named(tmp_path, cached, name, value, message):
    values = ramp(6)
    values[3, 1] = values[5, 0] = value
    path = write(tmp_path / "forcing.nc", {name: values})
    with pytest.raises(ForcingError, match=message):
        opened(path, [name])
    with opened(path, [name], last=3) as source:  # before the first of them nothing is wrong
        assert source.n_steps == 3


def test_missing_values_are_reported_before_those_they_may_cause(tmp_path):
    values = ramp(6)
    values[0, 0], values[4, 0] = -1, np.nan
    with pytest.raises(ForcingError, match="missing at 2001-01-05"):
        opened(write(tmp_path / "forcing.nc", {"precipitation": values}))


def test_legal_extremes_pass(tmp_path):
    values = ramp(6) * 0
    values[0, 0], values[1, 1] = -100, 70
    path = write(tmp_path / "forcing.nc", {"air_temperature": values, "precipitation": ramp(6) * 0})
    opened(path, ["air_temperature", "precipitation"]).close()


NAN = np.nan
GAPPY = np.array([[4.0, 1, 7], [NAN, NAN, 7], [NAN, 3, 7], [NAN, NAN, 7], [8, NAN, 7], [1, 9, 7]])


@pytest.mark.parametrize("mode, expected", [
    ("zero", [[4, 1], [0, 0], [0, 3], [0, 0], [8, 0], [1, 9]]),
    ("hold", [[4, 1], [4, 1], [4, 3], [4, 3], [8, 3], [1, 9]]),
    ("interpolate", [[4, 1], [5, 2], [6, 3], [7, 5], [8, 7], [1, 9]]),
])
def test_fills(tmp_path, cached, caplog, mode, expected):
    path = write(tmp_path / "forcing.nc", {"precipitation": GAPPY})
    with caplog.at_level(logging.INFO, "bmi_cdlm.files.forcing"):
        source = opened(path, fill={"precipitation": mode, "air_temperature": "hold"})
    with source:
        assert np.array_equal(source.read(0, 6)["precipitation"][:, :2], expected)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"{path}: filled 6 of 18 values of 'precipitation' ({mode}), the longest gap 3 steps"]
    assert source.filled["precipitation"][1:4] == (6, 18, 3)
    with caplog.at_level(logging.INFO, "bmi_cdlm.files.forcing"):
        opened(path, fill={"precipitation": mode, "air_temperature": "hold"}).close()
    assert len(caplog.records) == 1, "told once of the same file"
    write(path, {"precipitation": np.where(GAPPY == 3, NAN, GAPPY)})
    with caplog.at_level(logging.INFO, "bmi_cdlm.files.forcing"):
        opened(path, fill={"precipitation": mode, "air_temperature": "hold"}).close()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("mode", ["hold", "interpolate"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_gap_longer_than_its_limit_is_refused(tmp_path, cached, mode, at):
    """Wherever a block or the period begins."""
    path = write(tmp_path / "forcing.nc", {"precipitation": GAPPY})
    with opened(path, first=at, last=5, fill={"precipitation": mode}, bridges={"precipitation": 3 * DAY}) as source:
        assert source.filled["precipitation"].longest == 3
    with pytest.raises(ForcingError, match=r"in a gap of 3 steps or more; forcing_fill '.*' bridges 2 at most.*_limit"):
        opened(path, first=at, last=5, fill={"precipitation": mode}, bridges={"precipitation": 2 * DAY})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_longest_gap_of_zeros_does_not_depend_on_blocks(tmp_path, monkeypatch, steps):
    monkeypatch.setattr(series, "BLOCK_BYTES", steps * 24)
    with opened(write(tmp_path / "forcing.nc", {"precipitation": GAPPY}), fill={"precipitation": "zero"}) as source:
        assert source.filled["precipitation"][1:] == (6, 18, 3, "zero")


def test_neighbours_are_taken_from_outside_the_period(tmp_path, cached):
    path = write(tmp_path / "forcing.nc", {"precipitation": GAPPY})
    with opened(path, first=1, last=4, fill={"precipitation": "interpolate"}) as source:
        assert np.array_equal(source.read(0, 3)["precipitation"][:, :2], [[5, 2], [6, 3], [7, 5]])


@pytest.mark.parametrize("mode, row, message", [
    ("hold", 0, r"missing at 2001-01-01T00:00:00 in cell b \(1 such cells\), with no valid value before"),
    ("interpolate", 0, "no valid value before it in the file. forcing_fill 'interpolate' needs one"),
    ("interpolate", 5, r"missing at 2001-01-06T00:00:00 in cell b \(1 such cells\), with no valid value a"),
])
def test_a_gap_without_a_neighbour_is_refused(tmp_path, cached, mode, row, message):
    values = ramp(6)
    values[row, 1] = np.nan
    with pytest.raises(ForcingError, match=message):
        opened(write(tmp_path / "forcing.nc", {"precipitation": values}), fill={"precipitation": mode})


def reference_fill(values, mode):
    """One cell and one value at a time, from the whole file."""
    out = values.copy()
    for t, c in np.argwhere(np.isnan(values)):
        valid = np.flatnonzero(~np.isnan(values[:, c]))
        left = valid[valid < t].max()
        if mode == "hold":
            out[t, c] = values[left, c]
        else:
            right = valid[valid > t].min()
            out[t, c] = values[left, c] + (values[right, c] - values[left, c]) * ((t - left) / (right - left))
    return out


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_filling_does_not_depend_on_blocks(tmp_path_factory, data):
    n = data.draw(st.integers(3, 14))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = rng.random((n, 3)) * 20
    values[1:-1][rng.random((n - 2, 3)) < data.draw(st.sampled_from([0.2, 0.6, 0.95]))] = np.nan
    mode = data.draw(st.sampled_from(["hold", "interpolate"]))
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first + 1, n))
    path = write(tmp_path_factory.mktemp("fill") / "forcing.nc", {"precipitation": values},
                 chunksizes=(data.draw(st.integers(1, n)), 3))
    expected = reference_fill(values, mode)[first:last]
    for cache, steps in ((2**20, 5), (0, 1), (0, data.draw(st.integers(1, n)))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forcing, "CACHE_BYTES", cache)
            patch.setattr(series, "BLOCK_BYTES", steps * 24)
            with opened(path, first=first, last=last, fill={"precipitation": mode}) as source:
                size = data.draw(st.integers(1, last - first))
                parts = [source.read(k, min(size, last - first - k)) for k in range(0, last - first, size)]
        got = np.concatenate([part["precipitation"] for part in parts])
        assert np.array_equal(got, expected)  # to the bit


def test_chunks_longer_than_a_block_are_told_about(tmp_path, caplog):
    path = write(tmp_path / "forcing.nc", {"precipitation": ramp(6)}, chunksizes=(4, 3))
    with caplog.at_level(logging.WARNING):
        for cache, steps in ((2 * 2 * 8 * 3, 2), (2 * 5 * 8 * 3, 4), (2**20, 21844)):
            with ForcingFile(path, ["precipitation"], CELLS, day(0), day(6), DAY, {}, cache=cache) as source:
                assert source._series["precipitation"].block_steps == steps
                assert np.array_equal(source.read(0, 6)["precipitation"], ramp(6))
    (record,) = caplog.records
    assert "a chunk of 'precipitation' holds 4 steps" in record.getMessage()
    assert "decompressed some 2 times" in record.getMessage() and "time/2" in record.getMessage()
