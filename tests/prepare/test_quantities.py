"""Inputs that a run's formula reads, made by a preparation: formed in every interval, then averaged."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import change_config, opened, write_case
from make_drainage import make_drainage, write_grid

from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.series import Axes, Series
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.pet import Demand, choose, form, make_place
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select, variable
from bmi_cdlm.prepare.weather.forcing_file import chunk_shape
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.pet import pressure_at, saturation
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig
from bmi_cdlm.processes.penman_monteith import PENMAN_MONTEITH
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")

LON, LAT = np.arange(9.0, 11.01, 0.1), np.arange(50.8, 48.99, -0.1)
START = np.datetime64("2020-07-01", "s")
N = 48
CLOCK = np.arange(N) % 24
TURN = 2 * np.pi * CLOCK / 24
T = 18.0 + 8.0 * np.cos((CLOCK - 14) / 24 * 2 * np.pi)
FIELDS = {  # the hours of two days, by the usual name: values and units
    "pr": (2.0 + np.sin(TURN), "mm d-1"), "t2m": (T + 273.15, "K"), "d2m": (283.15 + 3.0 * np.sin(TURN), "K"),
    "q": (0.008 + 0.003 * np.sin(TURN), "kg kg-1"), "sp": (950.0 + 20.0 * np.sin(TURN), "hPa"),
    "rh": (70.0 + 25.0 * np.cos(TURN), "%"),
    "ssrd": (np.maximum(0.0, np.sin((CLOCK - 6) / 12 * np.pi)) * 2.4e6, "J m-2"),
    "u10": (5.0 * np.cos(TURN), "m s-1"), "v10": (5.0 * np.sin(TURN), "m s-1"), "si10": (5.0 + 0.0 * TURN, "m s-1"),
}
PLAIN = {"source": "w.nc"}
BASE = {
    "precipitation": PLAIN, "air_temperature": PLAIN, "minimum_temperature": {**PLAIN, "variable": "t2m"},
    "maximum_temperature": {**PLAIN, "variable": "t2m"}, "shortwave_radiation": {**PLAIN, "kind": "total"},
}
WIND = {"eastward_wind": PLAIN, "northward_wind": PLAIN}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weather")
    for name, (values, units) in FIELDS.items():
        field = values[:, None, None] * np.ones((1, LAT.size, LON.size))
        write_grid(folder / "w.nc", name, field, LON, LAT, units=units, times=np.arange(N) * 1.0,
                   time_units="hours since 2020-07-01")
    return folder


def make(folder, forcing, method="given", *, step=DAY, run=("precipitation",), drainage=None, **pet):
    drainage = drainage or make_drainage()
    n = N * HOUR // step
    target = Target(drainage, [], np.zeros(0, np.int64), np.full(drainage.cells.area.size, 100.0))
    weather = Weather(ForcingConfig(**forcing), PetConfig(method=method, **pet), run)
    steps = Steps(START + np.arange(n) * np.timedelta64(step, "s"), step)
    write_forcing(folder / "forcing.nc", weather, target, steps, folder, {})
    with netCDF4.Dataset(folder / "forcing.nc") as dataset:
        dataset.set_auto_mask(False)
        return {name: variable[:] for name, variable in dataset.variables.items()}


def days(values):
    return values.reshape(-1, 24)


def test_turning_wind_is_as_strong_as_its_speed(folder):
    dew = {"dewpoint_temperature": PLAIN}
    as_speed = make(folder, {**BASE, **dew, "wind_speed": PLAIN}, "fao56")["potential_evapotranspiration"]
    as_parts = make(folder, {**BASE, **dew, **WIND}, "fao56")["potential_evapotranspiration"]
    np.testing.assert_allclose(as_parts, as_speed, rtol=1e-5)


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize(("humidity", "hourly"), [
    (("dewpoint_temperature",), saturation(FIELDS["d2m"][0] - 273.15)),
    (("specific_humidity", "surface_pressure"),
     FIELDS["q"][0] * FIELDS["sp"][0] * 100 / (0.622 + 0.378 * FIELDS["q"][0])),
    (("specific_humidity",), FIELDS["q"][0] * pressure_at(100.0) / (0.622 + 0.378 * FIELDS["q"][0])),
    (("relative_humidity",), FIELDS["rh"][0] / 100.0 * saturation(T)),
])
def test_a_run_gets_all_that_its_formula_reads(folder, humidity, hourly, step):
    """Means of the hourly vapour pressure and wind speed, by hand; extremes of the hours."""
    run = tuple(v.short for v in select(role="input") if v.short in {
        "precipitation", "air_temperature", "minimum_air_temperature", "maximum_air_temperature", "vapour_pressure",
        "air_pressure", "shortwave_radiation", "wind_speed"} and (step == DAY or v.known.within == "mean"))
    made = make(folder, {**BASE, **WIND, **dict.fromkeys(humidity, PLAIN)}, run=run, step=step)
    assert set(run) <= set(made) and "potential_evapotranspiration" not in made
    pressure = FIELDS["sp"][0] * 100.0 if "surface_pressure" in humidity else np.full(N, pressure_at(100.0))
    by_hand = {
        "vapour_pressure": hourly, "air_pressure": pressure, "wind_speed": np.full(N, 5.0), "air_temperature": T,
        "shortwave_radiation": FIELDS["ssrd"][0] / 3600.0, "precipitation": FIELDS["pr"][0],
    }
    for name, values in by_hand.items():
        means = days(values).mean(axis=1) if step == DAY else values
        np.testing.assert_allclose(made[name], means[:, None] * np.ones(16), rtol=2e-5, atol=1e-4, err_msg=name)
    if step == DAY:
        np.testing.assert_allclose(made["minimum_air_temperature"][:, 0], days(T).min(axis=1), atol=1e-4)
        np.testing.assert_allclose(made["maximum_air_temperature"][:, 0], days(T).max(axis=1), atol=1e-4)
    with netCDF4.Dataset(folder / "forcing.nc") as dataset:
        for name in run:
            assert dataset[name].units == variable(name).units
        if step == DAY:
            assert dataset["minimum_air_temperature"].cell_methods == "time: minimum"


def test_components_on_other_pixels_are_formed_on_the_cells(folder):
    """u hourly on one grid, v on a shifted one, and three-hourly."""
    v = np.repeat(FIELDS["v10"][0][::3], 3)
    shifted = (v[::3])[:, None, None] * np.ones((1, LAT.size, LON.size))
    (folder / "v.nc").unlink(missing_ok=True)
    write_grid(folder / "v.nc", "v10", shifted, LON + 0.03, LAT, units="m s-1", times=np.arange(0, N, 3.0),
               time_units="hours since 2020-07-01")
    made = make(folder, {**BASE, "eastward_wind": PLAIN, "northward_wind": {"source": "v.nc"}},
                run=("precipitation", "wind_speed"))
    speed = np.hypot(FIELDS["u10"][0], v)
    np.testing.assert_allclose(made["wind_speed"], days(speed).mean(axis=1)[:, None] * np.ones(16), rtol=1e-5)


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_humidity_as_a_fraction_is_refused_as_per_cent_and_read_as_what_it_is(folder, tmp_path, step):
    for name in ("pr", "t2m", "ssrd", "si10", "rh"):
        values, units = FIELDS[name]
        field = values[:, None, None] * np.ones((1, LAT.size, LON.size)) / (100.0 if name == "rh" else 1.0)
        write_grid(tmp_path / "w.nc", name, field, LON, LAT, units=units, times=np.arange(N) * 1.0,
                   time_units="hours since 2020-07-01")
    run = ("precipitation", "vapour_pressure")
    given = {**BASE, "wind_speed": PLAIN}
    with pytest.raises(ForcingError, match=r"'relative_humidity' is at most 0\.95 %.*relative_humidity\.units: '1'"):
        make(tmp_path, {**given, "relative_humidity": PLAIN}, "fao56", step=step, run=run)
    asked = {**PLAIN, "units": "1"}
    mine = make(tmp_path, {**given, "relative_humidity": asked}, "fao56", step=step, run=run)["vapour_pressure"]
    right = make(folder, {**given, "relative_humidity": PLAIN}, "fao56", step=step, run=run)["vapour_pressure"]
    np.testing.assert_allclose(mine, right, rtol=1e-6)


def test_wind_at_another_height(folder):
    made = make(folder, {**BASE, "wind_speed": PLAIN}, run=("precipitation", "wind_speed"), wind_height=2.0)
    np.testing.assert_allclose(made["wind_speed"], 5.0 / 0.7479510751679441, rtol=1e-6)


def test_what_the_run_lacks_is_named(folder):
    with pytest.raises(ForcingError, match="its formula of pet, needs wind_speed, the forcing has"):
        make(folder, BASE, run=("precipitation", "wind_speed"))


def test_demand_and_the_runs_inputs_in_one_file(folder):
    """A source or a method of demand is written as well, by the same weather."""
    run = ("precipitation", "air_temperature")
    made = make(folder, BASE, "hargreaves", run=run)
    assert {"precipitation", "air_temperature", "potential_evapotranspiration"} <= set(made)
    assert "potential_evapotranspiration" not in make(folder, BASE, run=run)


# ---- the run ---------------------------------------------------------------------------------------------


def add_weather(path: Path, names, n_steps, n_cells, rng):
    with netCDF4.Dataset(path, "a") as dataset:
        for name in names:
            entry = variable(name)
            out = dataset.createVariable(name, "f8", ("time", "cell"))
            out.units = entry.units
            out[:] = entry.known.typical * rng.uniform(0.9, 1.1, (n_steps, n_cells))


def test_a_file_may_state_speed_and_vapour_pressure(tmp_path):
    """The same run from components and humidity, from what they make, and a mixture; a caller may ask for either."""
    config = write_case(tmp_path, pet="penman_monteith")
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        dataset.createVariable("cell_elevation", "f8", ("cell",))[:] = 200.0
        dataset["cell_elevation"].units = "m"
    rest = ("minimum_air_temperature", "maximum_air_temperature", "air_pressure", "shortwave_radiation")
    raw = ("specific_humidity", "wind_x", "wind_y")
    add_weather(tmp_path / "forcing.nc", (*rest, *raw), 9, 25, np.random.default_rng(1))
    assert "wind_x" in load_config(config).inputs and "wind_speed" not in load_config(config).inputs
    plain = Simulation(load_config(config))
    expected = plain.read_forcing(0, 9).potential_evapotranspiration
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        given = {name: dataset[name][:].data for name in (*raw, "air_pressure")}
        made = form(given)
        for name in ("wind_speed", "vapour_pressure"):
            dataset.createVariable(name, "f8", ("time", "cell"))[:] = made[name]
            dataset[name].units = variable(name).units
    changed = load_config(change_config(config, "formed.yaml"))
    assert "wind_speed" in changed.inputs and not {"wind_x", "specific_humidity"} & {*changed.inputs}
    # The formula makes vapour pressure in kPa, a file has it in Pa: the last digits differ.
    got = Simulation(changed).read_forcing(0, 9).potential_evapotranspiration
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)
    asked = load_config(change_config(config, "asked.yaml", published_inputs=["wind_x", "wind_y"]))
    assert "wind_x" in asked.inputs and "vapour_pressure" in asked.inputs
    caller = {"forcing": "caller", "published_inputs": [
        "precipitation", "air_temperature", "vapour_pressure", "air_pressure", "shortwave_radiation", "wind_speed"]}
    assert "wind_speed" in load_config(change_config(config, "caller.yaml", **caller)).inputs


def test_choices():
    quantities = ("air_temperature", "wind_speed", "vapour_pressure", "air_pressure")
    assert choose(quantities, ()) == ["air_temperature", "wind_x", "wind_y", "specific_humidity", "air_pressure"]
    assert choose(quantities, (), {"wind_speed"})[1] == "wind_speed"
    assert choose(quantities, {"wind_x", "wind_y"}, {"wind_speed"})[1:3] == ["wind_x", "wind_y"]
    assert choose(quantities, {"wind_speed"}, {"wind_x", "wind_y"})[1] == "wind_speed"


def test_a_caller_by_the_hour_gives_speed_and_vapour_of_every_hour(tmp_path):
    """Turning wind of 5 m/s and humidity that follows the day, accumulated to a day: the formula on their means."""
    config = write_case(tmp_path, pet="penman_monteith", forcing="caller", snow="cemaneige")
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        dataset.createVariable("cell_elevation", "f8", ("cell",))[:] = 100.0
        dataset["cell_elevation"].units = "m"
    q, p = FIELDS["q"][0], FIELDS["sp"][0] * 100.0
    solar = FIELDS["ssrd"][0] / 3600.0
    hours = {
        "precipitation": np.zeros(N), "air_temperature": T, "specific_humidity": q, "air_pressure": p,
        "shortwave_radiation": solar, "wind_x": FIELDS["u10"][0], "wind_y": FIELDS["v10"][0],
    }
    with opened(config) as component:
        for hour in range(24):
            for name, values in hours.items():
                component.set_value(variable(name).name, np.full(25, values[hour]))
            component.update_until(float((hour + 1) * HOUR))
        simulation = component._stepper.simulation
        cells, start = simulation.model.domain.cells, int(simulation.config.start.astype(np.int64))
        first = {name: values[:24] for name, values in hours.items()}
        vapour = first["specific_humidity"] * first["air_pressure"] / (0.622 + 0.378 * first["specific_humidity"])
        day = {
            "air_temperature": T[:24].mean(), "minimum_air_temperature": T[:24].min(), "wind_speed": 5.0,
            "maximum_air_temperature": T[:24].max(), "vapour_pressure": vapour.mean(), "air_pressure": p[:24].mean(),
            "shortwave_radiation": solar[:24].mean(),
        }
        demand = Demand(PENMAN_MONTEITH, DAY, make_place(cells.lat, cells.lon, np.full(25, 100.0))).evaluate(
            {name: np.full((1, 25), value) for name, value in day.items()}, start, Workers(1))
        dry = np.full((1, 25), demand)
        from bmi_cdlm.model.forcing import Forcing
        from bmi_cdlm.model.model import Model

        model = Model(simulation.model.domain, simulation.model.parameters, step=DAY, routing_step=HOUR,
                      snow="cemaneige")
        model.advance(Forcing(np.zeros((1, 25)), dry, np.full((1, 25), day["air_temperature"])))
        np.testing.assert_allclose(
            component.get_value_ptr(variable("evapotranspiration").name), model.live["evapotranspiration"], rtol=1e-9)


# ---- chunks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_cells", [1, 100, 30_000, 100_000, 1_000_000, 5_000_000])
@pytest.mark.parametrize("n_names", [2, 3, 8])
def test_a_run_with_the_default_memory_holds_whole_chunks(tmp_path, caplog, n_cells, n_names):
    length, width = chunk_shape(3650, n_cells, n_names)
    assert 1 <= length <= 512 and 1 <= width <= n_cells and length * width <= 2**21
    with netCDF4.Dataset(tmp_path / "c.nc", "w") as dataset:
        dataset.createDimension("time", 3650)
        dataset.createDimension("cell", n_cells)
        out = dataset.createVariable("precipitation", "f4", ("time", "cell"), chunksizes=(length, width), zlib=True)
        memory = Config.model_fields["memory"].default
        axes = Axes(np.zeros(3650, "datetime64[s]"), [""] * n_cells, np.arange(n_cells), "c.nc")
        for block in (memory // 2 // (2 * n_names), None):  # of a run; of doctor and training
            Series(out, "precipitation", "refuse", axes, block)
    assert "decompressed" not in caplog.text


def test_the_file_of_a_preparation_is_read_without_a_warning(folder, caplog):
    make(folder, BASE, "hargreaves")
    ids = make_drainage().cells.id.tolist()
    with ForcingFile(folder / "forcing.nc", ["precipitation"], ids, START, START + N * HOUR, DAY, {}):
        assert caplog.text == ""
