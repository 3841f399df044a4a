"""GRIB through its library, which is an extra: fields at the time when they hold, one kind of message at a time."""

from __future__ import annotations

import sys

import netCDF4
import numpy as np
import pytest
from make_drainage import make_drainage

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.weather import gridded
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig

for package in ("rasterio", "scipy", "pyproj"):
    pytest.importorskip(package, reason=f"{package} is not installed")

LON, LAT = np.arange(9.0, 11.01, 0.25), np.arange(51.0, 48.9, -0.25)
SIZE = LON.size * LAT.size


def make(folder, n=2, **source):
    drainage = make_drainage()
    target = Target(drainage, [], np.zeros(0, np.int64))
    forcing = ForcingConfig(precipitation={"source": "w.grib2", "units": "mm d-1", **source})
    steps = Steps(np.datetime64("2020-01-02", "s") + np.arange(n) * np.timedelta64(86400, "s"), 86400)
    write_forcing(folder / "f.nc", Weather(forcing, PetConfig(), ("precipitation",)), target, steps, folder, {})
    with netCDF4.Dataset(folder / "f.nc") as dataset:
        return dataset["precipitation"][:, 0].tolist()


def test_without_its_library(tmp_path, monkeypatch):
    (tmp_path / "w.grib2").write_bytes(b"GRIB")
    monkeypatch.setitem(sys.modules, "cfgrib", None)
    with pytest.raises(ForcingError, match=r"w\.grib2: is GRIB, and .*cfgrib.* Install bmi_cdlm\[grib\]"):
        gridded.open_dataset(tmp_path / "w.grib2", ForcingError)


@pytest.fixture
def write():
    """Write messages of constant fields: value, short name, date of the run, hours from there (begin, end)."""
    try:
        import cfgrib  # noqa: F401
        import eccodes as codes
    except (ImportError, RuntimeError) as cause:  # the latter where its C library is absent
        pytest.skip(f"cfgrib is not installed ({cause})")

    def write(path, messages):
        with path.open("wb") as out:
            for value, short, date, hours in messages:
                one = codes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                for key, number in (
                    ("Ni", LON.size), ("Nj", LAT.size), ("latitudeOfFirstGridPointInDegrees", LAT[0]),
                    ("latitudeOfLastGridPointInDegrees", LAT[-1]), ("longitudeOfFirstGridPointInDegrees", LON[0]),
                    ("longitudeOfLastGridPointInDegrees", LON[-1]), ("iDirectionIncrementInDegrees", 0.25),
                    ("jDirectionIncrementInDegrees", 0.25), ("dataDate", date), ("dataTime", 0), ("shortName", short),
                ):
                    codes.codes_set(one, key, number)
                if hours is not None:
                    codes.codes_set(one, "stepRange", hours)
                codes.codes_set_values(one, np.full(SIZE, float(value)))
                codes.codes_write(one, out)
                codes.codes_release(one)
        return path

    return write


def test_values_hold_when_they_are_valid_not_when_their_forecast_began(tmp_path, write):
    """Forecasts of the days before, 24 hours ahead: those of 1 January are of the 2nd."""
    write(tmp_path / "w.grib2", [(day, "2t", 20200100 + day, "24") for day in (1, 2, 3)])
    before = sorted(tmp_path.iterdir())
    assert make(tmp_path, variable="t2m") == [1.0, 2.0]
    assert [one for one in tmp_path.iterdir() if one not in before] == [tmp_path / "f.nc"]  # no index beside it


def test_amounts_are_of_the_time_before_their_stamp(tmp_path, write):
    """24 hours that end at 0 h of the day after."""
    write(tmp_path / "w.grib2", [(day, "tp", 20200100 + day, "0-24") for day in (2, 3, 4)])
    assert make(tmp_path, variable="tp", kind="total", units="mm", step="1 d") == [2.0, 3.0]


def test_messages_of_several_kinds_are_chosen(tmp_path, write):
    write(tmp_path / "w.grib2", [
        (day, short, 20200100 + day, hours) for day in (2, 3)
        for short, hours in (("2t", "0"), ("2t", "6"), ("tp", "0-24"))
    ])
    with pytest.raises(ForcingError, match=r"cannot be opened as one set of fields.*key messages"):
        make(tmp_path, variable="t2m")
    assert make(tmp_path, variable="t2m", messages={"shortName": "2t", "step": 0}, step="1 d") == [2.0, 3.0]
    with pytest.raises(ForcingError, match=r"has no message with|cannot be opened"):
        make(tmp_path, variable="t2m", messages={"shortName": "sp"})
    (tmp_path / "w.grib2").write_bytes(b"GRIB and nothing more")
    with pytest.raises(ForcingError, match="cannot be opened"):
        make(tmp_path)
