"""Temperature and precipitation from the height of a weather grid to the elevation of cells, by hand."""

from __future__ import annotations

import re

import netCDF4
import numpy as np
import pytest
from make_drainage import make_drainage, write_grid
from pydantic import ValidationError

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, ForcingSource, PetConfig

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj"):
    pytest.importorskip(package, reason=f"{package} is not installed")

DAY = 86400
START = np.datetime64("2020-01-01", "s")
LON, LAT = 9.955 + 0.03 * np.arange(8), 50.045 - 0.03 * np.arange(8)  # pixels are the cells, and some around
ELEVATION = 100.0 * np.arange(16)


def heights():
    return 300.0 + 50.0 * np.arange(8)[:, None] + 20.0 * np.arange(8)[None]


def at_cells(field):
    """The pixels under the 4 by 4 cells from 10 E, 50 N."""
    return field[2:6, 2:6].ravel()


def make(folder, forcing, elevation=ELEVATION):
    steps = Steps(START + np.arange(2) * np.timedelta64(DAY, "s"), DAY)
    weather = Weather(ForcingConfig(**forcing), PetConfig(), ("precipitation", "air_temperature"))
    target = Target(make_drainage(), [], np.zeros(0, np.int64), elevation)
    notes = write_forcing(folder / "forcing.nc", weather, target, steps, folder, {})
    with netCDF4.Dataset(folder / "forcing.nc") as dataset:
        dataset.set_auto_mask(False)
        return {name: v[:] for name, v in dataset.variables.items()}, notes


@pytest.fixture
def forcing(tmp_path):
    values = np.stack([np.full((8, 8), 10.0), np.arange(64.0).reshape(8, 8)])
    write_grid(tmp_path / "w.nc", "tas", values, LON, LAT, units="degC", times=[0, 24])
    write_grid(tmp_path / "w.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24])
    write_grid(tmp_path / "z.nc", "z", heights(), LON, LAT, units="m")
    write_grid(tmp_path / "g.nc", "z", heights() * 9.80665, LON + 360.0, LAT, units="m2 s-2")
    return {"precipitation": {"source": "w.nc"}, "air_temperature": {"source": "w.nc", "height": "z.nc:z"}}, values


@pytest.mark.parametrize(("height", "gradient"), [("z.nc:z", None), ("g.nc:z", None), ("z.nc:z", -4.0)])
def test_temperature(tmp_path, forcing, height, gradient):
    keys, values = forcing
    keys["air_temperature"] |= {"height": height} | ({} if gradient is None else {"gradient": gradient})
    found, notes = make(tmp_path, keys)
    lapse = (-6.5 if gradient is None else gradient) / 1000.0
    change = lapse * (ELEVATION - at_cells(heights()))
    for day in (0, 1):
        np.testing.assert_allclose(found["air_temperature"][day], at_cells(values[day]) + change, atol=2e-4)
    np.testing.assert_allclose(found["precipitation"][1], at_cells(values[1]), rtol=1e-5)
    low, high = re.search(r"air_temperature: changed by (\S+) to (\S+) degC", notes[0]).groups()
    assert (float(low), float(high)) == pytest.approx((change.min(), change.max()), abs=0.011)


def test_precipitation_by_a_factor_that_is_never_negative(tmp_path, forcing):
    keys, values = forcing
    keys["precipitation"] |= {"height": "z.nc:z", "gradient": 2.0}
    found, notes = make(tmp_path, keys)
    factor = np.maximum(1.0 + 2.0 * (ELEVATION - at_cells(heights())) / 1000.0, 0.0)
    assert factor.min() < 0.2 and factor.max() > 2.0
    np.testing.assert_allclose(found["precipitation"][1], at_cells(values[1]) * factor, rtol=1e-4)
    assert any("precipitation: multiplied by" in note for note in notes)


def test_what_is_refused(tmp_path, forcing):
    keys, _ = forcing
    with pytest.raises(ForcingError, match="the cells have no elevation"):
        make(tmp_path, keys, elevation=None)
    with pytest.raises(ForcingError, match="has `height` and no `gradient`"):
        make(tmp_path, {**keys, "precipitation": {"source": "w.nc", "height": "z.nc:z"}})
    write_grid(tmp_path / "other.nc", "z", heights(), LON + 0.03, LAT, units="m")
    write_grid(tmp_path / "kelvin.nc", "z", heights(), LON, LAT, units="K")
    wrong = (("other.nc:z", "expected the 8 by 8 pixels of the weather"), ("kelvin.nc:z", "do not convert"))
    for height, said in wrong:
        with pytest.raises(ForcingError, match=said):
            make(tmp_path, {**keys, "air_temperature": {"source": "w.nc", "height": height}})
    with pytest.raises(ValidationError, match="gradient without height"):
        ForcingSource(source="w.nc", gradient=-6.5)
