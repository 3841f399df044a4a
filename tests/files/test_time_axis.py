"""The time of a file: starts of steps and their bounds, as they are read and when they are refused."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.files import netcdf
from bmi_cdlm.files.netcdf import (
    LARGE,
    UnreadableError,
    align_steps,
    check_memory,
    read_raw,
    read_strings,
    read_time,
    select_ids,
)
from bmi_cdlm.names.errors import ForcingError

DAY = 86400


def written(path, time, bounds=None, *, units="days since 2001-01-01", kind="f8"):
    """A file with a time axis, read again."""
    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("time", len(time))
        data.createDimension("bnds", 2)
        variable = data.createVariable("time", kind, ("time",), fill_value=-9)
        variable.units = units
        variable[:] = time
        if bounds is not None:
            data.createVariable("time_bnds", "f8", ("time", "bnds"))[:] = bounds
    with netCDF4.Dataset(path) as data:
        return read_time(data, "a.nc", ForcingError)


def test_bounds_give_the_length_of_a_single_step(tmp_path):
    starts, step = written(tmp_path / "a.nc", [3.0], [[3.0, 3.25]])
    assert (str(starts[0]), step) == ("2001-01-04T00:00:00", DAY // 4)
    assert written(tmp_path / "b.nc", [3.0])[1] == 0


@pytest.mark.parametrize(("time", "bounds", "message"), [
    ([0, 1, 2], [[0, 1], [1, 2], [2, 4]], "steps in 'time_bnds' differ in length. Expected one length throughout"),
    ([0, 1, 2], [[0, 1], [0.5, 1.5], [2, 3]],
     "'time' is 2001-01-02T00:00:00 but its bounds start at 2001-01-01T12:00:00. Expected `time` to be the start"),
    ([0, 1, np.nan], None, "'time' has missing values. Expected every one; fill them"),
    ([0, 1, np.inf], None, "'time' has missing values"),
    ([0, 1], [[0, 1], [1, np.nan]], "'time' has missing values"),
    ([0, 0, 1], None, "'time' does not rise after 2001-01-01T00:00:00"),
    ([2, 1, 0], None, "'time' does not rise"),
    ([0, 1, 3, 4, 6], None, "goes from 2001-01-02T00:00:00 to 2001-01-04T00:00:00, expected a step of 86400 s (2 such"),
    ([], None, "'time' is empty. Expected at least one step"),
    ([0, 1e9], None, "and dates of four digits"),
])
def test_what_is_no_axis_of_steps(tmp_path, time, bounds, message):
    with pytest.raises(ForcingError) as error:
        written(tmp_path / "a.nc", time, bounds)
    assert str(error.value).startswith("a.nc: ") and message in str(error.value)


@pytest.mark.parametrize("units", ["", "days", "mm d-1", "days since yesterday", "fortnights since 2001-01-01"])
def test_units_that_are_no_dates(tmp_path, units):
    with pytest.raises(ForcingError, match=f"'time' has units '{units}', expected '<unit> since <date>'"):
        written(tmp_path / "a.nc", [0, 1], units=units)


def test_bounds_of_another_shape(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("time", 2)
        variable = data.createVariable("time", "f8", ("time",))
        variable.setncatts({"units": "days since 2001-01-01", "bounds": "limits"})
        variable[:] = [0, 1]
        data.createVariable("limits", "f8", ("time",))[:] = [0, 1]
    with netCDF4.Dataset(tmp_path / "a.nc") as data, pytest.raises(
        ForcingError, match=r"'time_bnds' has shape \(2,\), expected \(2, 2\)"
    ):
        read_time(data, "a.nc", ForcingError)


# ---- reading -----------------------------------------------------------------------------------------------


def test_what_memory_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(netcdf, "available_memory", lambda: 2**30)
    check_memory(LARGE)  # what is small is not asked for
    check_memory(2**30)
    size = max(LARGE, 2**30) + 2**30
    with pytest.raises(UnreadableError, match=r"it holds \d+\.\d GiB, 1\.0 GiB of memory are free"):
        check_memory(size)
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("x", size // 8)
        data.createVariable("a", "f8", ("x",), chunksizes=(1000,))
    with netCDF4.Dataset(tmp_path / "a.nc") as data:
        with pytest.raises(UnreadableError, match="GiB of memory are free"):
            read_raw(data["a"], slice(None))
        assert read_raw(data["a"], slice(3)).shape == (3,)


class Broken:
    """A variable whose filter the library does not have."""

    name, dtype, shape = "rain", np.dtype("f8"), (2,)

    def set_auto_maskandscale(self, wanted: bool) -> None:
        """Nothing."""

    def __getitem__(self, index: object) -> np.ndarray:
        raise RuntimeError("" if index == 0 else "NetCDF: Filter error: undefined filter encountered")


def test_what_the_library_says_is_told_with_the_name():
    with pytest.raises(UnreadableError, match="'rain': NetCDF: Filter error: undefined filter"):
        read_raw(Broken(), slice(None))
    with pytest.raises(UnreadableError, match="'rain': RuntimeError"):
        read_raw(Broken(), 0)


@pytest.mark.parametrize(("kind", "shape", "got"), [
    ("f8", (2, 3), r"holds float64 on \(x, y\)"), ("S1", (2, 3, 4), r"holds \|S1 on \(x, y, z\)"),
])
def test_ids_that_are_no_list(tmp_path, kind, shape, got):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        for name, size in zip("xyz", shape, strict=False):
            data.createDimension(name, size)
        data.createVariable("gauge_id", kind, tuple("xyz"[: len(shape)]))[:] = np.zeros(shape, kind)
    with netCDF4.Dataset(tmp_path / "a.nc") as data, pytest.raises(
        ForcingError, match=rf"a\.nc: 'gauge_id' {got}, expected texts or whole numbers on one dimension"
    ):
        read_strings(data, "gauge_id", "a.nc", ForcingError)


def test_ids_of_letters_and_of_numbers(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("x", 2)
        data.createDimension("width", 3)
        data.createVariable("letters", "S1", ("x", "width"))[:] = [[b"a", b"b", b""], [b"\xc3", b"\xa9", b"c"]]
        data.createVariable("numbers", "i4", ("x",))[:] = [3204040, 7]
    with netCDF4.Dataset(tmp_path / "a.nc") as data:
        assert read_strings(data, "letters", "a.nc", ForcingError) == ["ab", "éc"]
        assert read_strings(data, "numbers", "a.nc", ForcingError) == ["3204040", "7"]


# ---- a period among the steps, and ids among others ------------------------------------------------------------


STARTS = np.datetime64("2001-01-01", "s") + np.arange(10) * np.timedelta64(DAY, "s")


def aligned(first, last, step=DAY, file_step=DAY):
    period = np.datetime64(first, "s"), np.datetime64(last, "s")
    return align_steps(STARTS, file_step, *period, step, "a.nc", ForcingError)


def test_the_place_of_a_period():
    assert aligned("2001-01-01", "2001-01-11") == 0
    assert aligned("2001-01-04", "2001-01-05") == 3
    assert aligned("2000-12-25", "2001-01-05") == -7, "it begins before the file"
    assert aligned("2001-02-01", "2001-02-02") == 31, "and after it"


@pytest.mark.parametrize(("first", "last", "step", "file_step", "message"), [
    ("2001-01-01", "2001-01-02", 3600, DAY, "'time' has a step of 86400 s, expected steps of 3600 s. Resample"),
    ("2001-01-01", "2001-01-02", DAY, 0, "'time' has a single time without bounds, expected steps of 86400 s"),
    ("2001-01-01", "2001-01-01", DAY, DAY, "0 s, expected one or more whole steps of 86400 s. Change start or end."),
    ("2001-01-02", "2001-01-01", DAY, DAY, "-86400 s, expected one or more whole steps"),
    ("2001-01-01", "2001-01-02T12:00", DAY, DAY, "129600 s, expected one or more whole steps"),
    ("2001-01-02T06:00", "2001-01-03T06:00", DAY, DAY,
     "steps of 86400 s begin at 2001-01-01T00:00:00, so 2001-01-02T06:00:00 is 21600 s after the begin of one."),
])
def test_a_period_that_is_not_of_its_steps(first, last, step, file_step, message):
    with pytest.raises(ForcingError) as error:
        aligned(first, last, step, file_step)
    assert str(error.value).startswith("a.nc: ") and message in str(error.value)


def test_places_of_ids():
    have = ["a", "b", "c", "b"]
    assert select_ids(["a", "b"], ["a", "b"], "cell_id", "a.nc", ForcingError).tolist() == [0, 1]
    assert select_ids(have, ["c", "a"], "cell_id", "a.nc", ForcingError).tolist() == [2, 0], "b is nobody's"
    with pytest.raises(ForcingError, match=r"a\.nc: 'cell_id' holds b more than once\. Expected unique ids"):
        select_ids(have, ["c", "b"], "cell_id", "a.nc", ForcingError)
    with pytest.raises(ForcingError, match=r"'cell_id' has no cat-3 \(2 of 3 are missing\)\. Did you mean 'cat-33'\?"):
        select_ids(["cat-33", "x"], ["x", "cat-3", "y"], "cell_id", "a.nc", ForcingError)
    with pytest.raises(ForcingError, match="holds a more than once"):  # though both are the same list
        select_ids(["a", "a"], ["a", "a"], "cell_id", "a.nc", ForcingError)
