"""A preparation for a run whose demand is a formula makes what that reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from make_drainage import read_all, write_grid

from bmi_cdlm.doctor import examine
from bmi_cdlm.prepare.config import load_prepare_config
from bmi_cdlm.prepare.needs import weather_of
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("rasterio", "pyproj", "pyflwdir", "sklearn"):
    pytest.importorskip(package, reason=f"{package} is not installed")

HOURLY = {  # of two days: mean, swing and units, by the usual name
    "tp": (0.1, 0.0, "mm"), "t2m": (288.0, 6.0, "K"), "d2m": (281.0, 1.0, "K"), "ssrd": (6e5, 6e5, "J m-2"),
    "u10": (0.0, 4.0, "m s-1"), "v10": (2.0, 1.0, "m s-1"),
}
LON, LAT = np.arange(3.5, 5.2, 0.25), np.arange(46.5, 44.7, -0.25)


def for_formula(toy: Path, write_raster: Callable[..., Path], pet: str, step: str, **attributes: object) -> Path:
    """The toy with hourly weather on a grid, and a run whose demand is a formula."""
    source = toy.parent / "source"
    write_raster(source / "dem.tif", 200.0 + 10.0 * np.arange(9, dtype=np.float32).reshape(3, 3))
    clock = np.arange(48)
    for name, (mean, swing, units) in HOURLY.items():
        values = mean + swing * np.cos((clock - 14) / 24 * 2 * np.pi)
        write_grid(source / "hours.nc", name, values[:, None, None] * np.ones((1, LAT.size, LON.size)), LON, LAT,
                   units=units, times=clock * 1.0)
    plain, total = {"source": "source/hours.nc"}, {"source": "source/hours.nc", "kind": "total"}
    extreme = {**plain, "variable": "t2m"}
    content = yaml.safe_load(toy.read_text())
    content |= {"pet": pet, "time_step": step, "forcing_fill": {}}
    content["prepare"] |= {
        "attributes": {"elevation": {"source": "source/dem.tif", "units": "m"}, **attributes},
        "forcing": {
            "precipitation": total, "air_temperature": plain, "minimum_temperature": extreme,
            "maximum_temperature": extreme, "dewpoint_temperature": plain, "shortwave_radiation": total,
            "eastward_wind": plain, "northward_wind": plain,
        },
    }
    del content["prepare"]["observations"], content["observations"]
    toy.write_text(yaml.safe_dump(content))
    return toy


@pytest.mark.parametrize(("pet", "step"), [
    ("oudin", "1 d"), ("hargreaves", "1 d"), ("penman_monteith", "1 d"), ("oudin", "1 h"), ("penman_monteith", "1 h"),
])
def test_a_preparation_writes_what_the_formula_of_the_run_reads(
    toy: Path, write_raster: Callable[..., Path], pet: str, step: str
) -> None:
    path = for_formula(toy, write_raster, pet, step)
    before = "\n".join(f.text for f in examine(path) if f.subject == "prepare" and f.level == "fail")
    assert before == ""
    forcing = read_all(prepare(path).files["forcing"])
    run = load_config(path)
    assert {*run.needed()} == {*run.inputs} <= {*forcing}
    assert "potential_evapotranspiration" not in forcing
    assert "fail" not in {f.level for f in examine(path)}
    simulation = Simulation(run)
    simulation.run()
    assert simulation.model.live["evapotranspiration_total"].min() > 0.0
    simulation.close()


def test_demand_of_a_preparation_is_that_of_the_run(toy: Path, write_raster: Callable[..., Path]) -> None:
    """The same weather, once by the run's formula and once by the preparation's method of that name."""
    path = for_formula(toy, write_raster, "penman_monteith", "1 d")
    prepare(path)
    run = load_config(path)
    simulation = Simulation(run)
    expected = simulation.read_forcing(0, 2).potential_evapotranspiration
    simulation.close()
    content = yaml.safe_load(path.read_text())
    content["prepare"]["pet"] = {"method": "fao56"}
    path.write_text(yaml.safe_dump({**content, "pet": "given"}))
    made = read_all(prepare(path).files["forcing"])["potential_evapotranspiration"]
    np.testing.assert_allclose(made, expected, rtol=2e-5)  # inputs went through float32


def test_climate_attributes_want_demand_too(toy: Path, write_raster: Callable[..., Path]) -> None:
    run, config = load_prepare_config(for_formula(toy, write_raster, "hargreaves", "1 d"))
    assert weather_of(run, config).method is None
    attributes = config.attributes.model_copy(update={"climate": True})
    assert weather_of(run, config.model_copy(update={"attributes": attributes})).method == "hargreaves"
