"""Weather for the forcing of a few cells: fields, basins, series, and what a preparation makes of them."""

from __future__ import annotations

import netCDF4
import numpy as np
from make_drainage import make_drainage, write_grid

from bmi_cdlm.prepare.weather.forcing_blocks import ForcingBlocks
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig

LON, LAT = np.arange(9.0, 11.01, 0.1), np.arange(50.8, 48.99, -0.1)
SHAPE = (LAT.size, LON.size)
HOUR, DAY = 3600, 86400
START = np.datetime64("2020-01-01", "s")
BASINS = {name: {"source": "basins.nc"} for name in ("precipitation", "potential_evapotranspiration")}


def steps(n=3, step=DAY, start=START):
    return Steps(start + np.arange(n) * np.timedelta64(step, "s"), step)


def make(tmp_path, forcing, pet=None, *, when=None, drainage=None, gauges=(), name="forcing.nc", run=()):
    drainage = drainage or make_drainage()
    target = Target(drainage, [g for g, _ in gauges], np.array([r for _, r in gauges], np.int64),
                    np.full(drainage.cells.area.size, 100.0))
    weather = Weather(ForcingConfig(**forcing), PetConfig(**(pet or {"method": "given"})), *run)
    out = tmp_path / "made" / name
    write_forcing(out, weather, target, when or steps(), tmp_path, {"title": "a test"})
    return read(out)


def read(path):
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {name: variable[:] for name, variable in dataset.variables.items()} | {"missing": dataset.missing_steps}


def constant(tmp_path, name, value, *, file="weather.nc", n=3, **options):
    """A field the same everywhere, one value per interval."""
    values = np.broadcast_to(np.asarray(value, float), (n,))[:, None, None] * np.ones((1, *SHAPE))
    options = {"times": np.arange(n) * 24.0, **options}
    return write_grid(tmp_path / file, name, values, LON, LAT, **options)


def write_basins(path, ids, values, lon=None, lat=None):
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.createDimension("time", values.shape[0])
        dataset.createDimension("basin", len(ids))
        time = dataset.createVariable("time", "i4", ("time",))
        time.units = "days since 2020-01-01"
        time[:] = np.arange(values.shape[0])
        dataset.createVariable("basin_id", str, ("basin",))[:] = np.array(ids, object)
        for name in ("precipitation", "pet"):
            variable = dataset.createVariable(name, "f4", ("time", "basin"))
            variable.units = "mm d-1"
            variable[:] = values
        if lon is not None:
            for name, axis in (("lon", lon), ("lat", lat)):
                dataset.createVariable(name, "f8", ("basin",))[:] = axis


def long_series(tmp_path, n=40):
    rng = np.random.default_rng(6)
    for name in ("precipitation", "pet", "t2m"):
        write_grid(tmp_path / "long.nc", name, rng.random((n, *SHAPE)), LON, LAT, times=np.arange(n) * 24.0,
                   units="degC" if name == "t2m" else "mm d-1")
    return {name: {"source": "long.nc"} for name in (*BASINS, "air_temperature")}


def daily_weather(tmp_path):
    """Rain, demand and warmth of three days in one file, and the sources that name it."""
    constant(tmp_path, "precipitation", [1.0, 2.0, 3.0], units="mm d-1")
    constant(tmp_path, "pet", [4.0, 5.0, 6.0], units="mm/day")
    constant(tmp_path, "t2m", [273.15, 283.15, 263.15], units="K")
    return {"precipitation": {"source": "weather.nc"}, "potential_evapotranspiration": {"source": "weather.nc"},
            "air_temperature": {"source": "weather.nc"}}


def killed_after(monkeypatch, count):
    """Let preparations be killed when they have made so many blocks; returns the first steps of those made.

    None: let them be, and go on to write down what they make.
    """
    begun, make_block = [], ForcingBlocks.make

    def counted(self, first, stop):
        if len(begun) == count:
            raise KeyboardInterrupt
        begun.append(first)
        return make_block(self, first, stop)

    monkeypatch.setattr(ForcingBlocks, "make", counted)
    return begun
