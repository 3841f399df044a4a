"""A formula of potential evapotranspiration of another package: declared, and then everywhere by its name."""

from __future__ import annotations

from dataclasses import replace

import netCDF4
import numpy as np
import pytest
from cases import DEPTH, START, change_config, opened, write_case
from click.testing import CliRunner
from process_cases import installed
from training_cases import write_training_case

from bmi_cdlm.cli import main
from bmi_cdlm.doctor import examine
from bmi_cdlm.kernels.loops.demand import arrays_of, demand_loop, plan_of
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.pet import HOUR_SHARES, Demand, make_place, required
from bmi_cdlm.names.declaration import PetFormula, Reading
from bmi_cdlm.names.errors import ConfigError, DeclarationError, DomainError, ForcingError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.prepare.weather.pet import Site, compute, reads
from bmi_cdlm.prepare.weather.weather_config import PetConfig
from bmi_cdlm.processes.pet import FORMATIONS, daily_radiation, fao_sun
from bmi_cdlm.reference import describe_processes
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.fingerprints import fingerprints
from bmi_cdlm.run.simulation import Simulation

WEATHER = {"air_temperature": 14.0, "wind_x": 3.0, "wind_y": -4.0, "specific_humidity": 0.006, "air_pressure": 9e4}
ELEVATION = 400.0


def mcguinness(
    T, wind, vapour, elevation, per, sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination,
    tan_declination, distance,
):
    """McGuinness and Bordne (1972), with a drying power of wind that nobody has measured."""
    above = daily_radiation(
        sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance
    )
    return 0.408 * above * max(0.0, T + 5.0) / per * (1.0 + wind / (10.0 + vapour)) + 1e-4 * elevation


def by_the_hour(
    T, per, hour_share, solar_hour, sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination,
    tan_declination, distance,
):
    """An hour's share of the day, and a trace by which the hour is seen."""
    above = daily_radiation(
        sin_latitude, cos_latitude, tan_latitude, sin_declination, cos_declination, tan_declination, distance
    )
    return 24.0 * hour_share * above * (T + 5.0) / per + 1e-3 * solar_hour


FORMULA = PetFormula(
    name="mcguinness",
    title="Potential evapotranspiration for the tests",
    source="McGuinness and Bordne 1972",
    steps={DAY: mcguinness, HOUR: by_the_hour},
    inputs={
        "air_temperature": Reading("T"), "wind_speed": Reading("wind"), "vapour_pressure": Reading("vapour", 1000.0),
    },
    constants={"per": {DAY: 68.0, HOUR: 136.0}},
    sun=fao_sun,
)


def case_of(folder, step=DAY, **keys):
    """A case whose forcing has the weather, and whose domain has elevations."""
    case = write_case(folder, step=step, n_steps=31, **{"pet": "mcguinness", "parameters": "default", **keys})
    with netCDF4.Dataset(folder / "domain.nc", "a") as dataset:
        cells = dataset.dimensions["cell"].size
        dataset.createVariable("cell_elevation", "f8", ("cell",))[:] = ELEVATION
        dataset["cell_elevation"].units = "m"
    rng = np.random.default_rng(3)
    with netCDF4.Dataset(folder / "forcing.nc", "a") as dataset:
        for name, value in WEATHER.items():
            if name not in dataset.variables:
                dataset.createVariable(name, "f8", ("time", "cell")).units = variable(name).units
            dataset[name][:] = value * rng.uniform(0.8, 1.2, (31, cells))
    return case


def expected_of(weather, latitude, longitude, start, step):
    """The demand of cells [mm d-1], written with numpy."""
    t = np.arange(weather["air_temperature"].shape[0])
    seconds = (start - np.datetime64("1970-01-01", "s")).astype(np.int64) + t * step
    dates = seconds.astype("datetime64[s]").astype("datetime64[D]")
    j = (dates - dates.astype("datetime64[Y]")).astype(int) + 1.0
    declination, distance, ahead = np.array([fao_sun(one) for one in j]).T[:, :, None]
    angle = np.radians(latitude)
    sunset = np.arccos(-np.tan(angle) * np.tan(declination))
    above = 37.586031360582005 * distance * (
        sunset * np.sin(angle) * np.sin(declination) + np.cos(angle) * np.cos(declination) * np.sin(sunset))
    T = weather["air_temperature"]
    if step == DAY:
        q, p = weather["specific_humidity"], weather["air_pressure"] / 1000.0
        wind = np.hypot(weather["wind_x"], weather["wind_y"])
        drying = 1.0 + wind / (10.0 + q * p / (0.622 + 0.378 * q))
        return 0.408 * above * np.maximum(T + 5.0, 0.0) / 68.0 * drying + 1e-4 * ELEVATION
    hour = (seconds % DAY)[:, None] / HOUR + 0.5 + ahead + longitude / 15.0
    return 24.0 * HOUR_SHARES[np.floor(hour % 24.0).astype(int)] * above * (T + 5.0) / 136.0 + 1e-3 * hour


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_a_run_from_a_file_and_by_a_caller(tmp_path, step):
    with installed(FORMULA):
        case = case_of(tmp_path, step)
        config = load_config(case)
        read = {"wind_x", "wind_y", "specific_humidity", "air_pressure"} if step == DAY else set()
        assert {*config.inputs} == {"precipitation", "air_temperature", *read}
        simulation = Simulation(config)
        demand = simulation.read_forcing(0, 31).potential_evapotranspiration
        cells = simulation.model.domain.cells
        with netCDF4.Dataset(tmp_path / "forcing.nc") as dataset:
            weather = {name: dataset[name][:].data for name in (*WEATHER, "precipitation")}
        np.testing.assert_allclose(
            demand, expected_of(weather, cells.lat, cells.lon, START, step), rtol=1e-12, atol=1e-12
        )
        assert demand.std() > 0.1
        with opened(case) as by_file, opened(change_config(case, forcing="caller")) as called:
            for t in range(31):
                for name in config.inputs:
                    called.set_value(variable(name).name, weather[name][t])
                by_file.update()
                called.update()
                for name in (DEPTH, variable("evapotranspiration").name):
                    assert called.get_value_ptr(name).tobytes() == by_file.get_value_ptr(name).tobytes()
            assert by_file.get_value_ptr(variable("evapotranspiration").name).max() > 0.1


def test_blocks_threads_and_what_is_given_instead(tmp_path):
    rng, shape = np.random.default_rng(2), (9, 70)
    weather = {name: value * rng.uniform(0.8, 1.2, shape) for name, value in WEATHER.items()}
    place = make_place(rng.uniform(-60, 60, 70), rng.uniform(-180, 180, 70), np.full(70, ELEVATION))
    demand = Demand(FORMULA, DAY, place)
    start = 11 * 365 * DAY
    block = demand.evaluate(weather, start, Workers(1))
    workers = Workers(3)
    try:
        assert demand.evaluate(weather, start, workers).tobytes() == block.tobytes()
    finally:
        workers.close()
    for t in range(9):
        one = {name: values[t : t + 1] for name, values in weather.items()}
        assert demand.evaluate(one, start + t * DAY, Workers(1)).tobytes() == block[t].tobytes()
    speed = FORMATIONS["wind_speed"].make(weather["wind_x"], weather["wind_y"])
    rest = {name: values for name, values in weather.items() if not name.startswith("wind")}
    assert demand.evaluate({**rest, "wind_speed": speed}, start, Workers(1)).tobytes() == block.tobytes()
    pressure = FORMATIONS["vapour_pressure"].make(weather["specific_humidity"], weather["air_pressure"])
    np.testing.assert_allclose(
        demand.evaluate({**weather, "vapour_pressure": pressure}, start, Workers(1)), block, rtol=1e-13
    )


def test_a_loop_reads_what_it_needs_only():
    plan = plan_of(FORMULA, DAY)
    assert arrays_of(plan, {}) == ("air_temperature", "wind_speed", "vapour_pressure")
    assert arrays_of(plan, FORMATIONS) == ("air_temperature", "wind_x", "wind_y", "specific_humidity", "air_pressure")
    loop = demand_loop(plan, tuple(FORMATIONS.items()))
    assert loop.__name__ == "fill_mcguinness" and demand_loop(plan, tuple(FORMATIONS.items())) is loop
    assert required(FORMULA, HOUR) == ("air_temperature",)


def test_it_is_listed_examined_and_trained(tmp_path):
    with installed(FORMULA):
        assert "pet mcguinness" in [" ".join(line.split()[:2]) for line in describe_processes()]
        text = "\n".join(describe_processes("mcguinness"))
        assert "chosen as pet: mcguinness" in text and "McGuinness and Bordne 1972" in text
        assert text.index("step of 1 d") < text.index("wind_speed [m s-1]") < text.index("elevation [m]")
        assert text.index("elevation [m]") < text.index("step of 1 h") and text.count("air_temperature") == 2
        case = case_of(tmp_path)
        assert not [f for f in examine(case) if f.level == "fail"]
        config = load_config(case)
        other = replace(FORMULA, constants={"per": {DAY: 70.0, HOUR: 140.0}})
        told = fingerprints(config)
        training = write_training_case(tmp_path / "training")
        from cdlm_training.config import load_train_config

        run, learned = load_train_config(change_config(training, pet="mcguinness"))
        assert (run.pet, learned.pet_kind) == ("mcguinness", "mcguinness")
    with installed(other):
        assert fingerprints(load_config(case)) != told, "another formula of that name gives other results"
    with pytest.raises(ConfigError, match=r"pet: there is no process 'mcguinness'.*oudin.*given"):
        load_config(case)


def test_files_are_prepared_for_it(tmp_path):
    with installed(FORMULA):
        assert PetConfig(method="mcguinness").method == "mcguinness"
        assert reads("mcguinness") == ("vapour_pressure", "wind_speed")
        rng = np.random.default_rng(5)
        days = {"air_temperature": rng.uniform(0, 20, (40, 3)), "vapour_pressure": rng.uniform(500, 900, (40, 3)),
                "wind_speed": rng.uniform(1, 9, (40, 3))}
        site = Site(np.array([10.0, 44.0, -30.0]), np.zeros(3), np.full(3, ELEVATION))
        place = make_place(site.latitude, site.longitude, site.elevation)
        np.testing.assert_array_equal(
            compute("mcguinness", DAY, days, site), Demand(FORMULA, DAY, place).evaluate(days, DAY, Workers(1))
        )
        with pytest.raises(ForcingError, match="pet: method mcguinness needs the elevation"):
            compute("mcguinness", DAY, days, site._replace(elevation=None))
        table = tmp_path / "table.csv"
        table.write_text("id,area,lat,lon\na,1,2,3\n")
        words = ["nextgen", "init", str(table), "--to", str(tmp_path / "made"), "--start", "2016-01-01", "--end",
                 "2016-02-01", "--pet", "mcguinness"]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        assert load_config(tmp_path / "made" / "a.yaml").pet == "mcguinness"
        daily = CliRunner().invoke(main, [*words, "--time-step", "1 d"])
        assert daily.exit_code == 1 and "'elevation [m]' is missing, which pet: mcguinness needs" in daily.output
    unknown = CliRunner().invoke(main, words)
    assert unknown.exit_code == 1 and "there is no process 'mcguinness'" in unknown.output
    with pytest.raises(ValueError, match=r"there is no process 'mcguines'. Did you mean"), installed(FORMULA):
        PetConfig(method="mcguines")


def test_a_step_that_a_formula_has_not(tmp_path):
    hourly = replace(FORMULA, name="by_the_hour", steps={HOUR: by_the_hour}, inputs={"air_temperature": Reading("T")})
    with installed(hourly):
        with pytest.raises(ConfigError, match=r"pet is by_the_hour, which has no daily form; expected oudin or "):
            load_config(case_of(tmp_path, pet="by_the_hour"))
        with pytest.raises(ValueError, match="method by_the_hour has no daily form"):
            PetConfig(method="by_the_hour")


def test_a_range_that_nobody_gives(tmp_path):
    """Of two formulas that read the day's range, one does with the mean in its place."""
    def spread(lowest, highest):
        return 1.0 + highest - lowest

    of_range = {"minimum_air_temperature": Reading("lowest"), "maximum_air_temperature": Reading("highest")}
    tolerant = PetFormula("tolerant", "", "", {DAY: spread}, of_range, fao_sun)
    strict = replace(tolerant, name="strict", needs_range=True)
    with installed(tolerant, strict):
        for name, refused in (("tolerant", False), ("strict", True)):
            case = write_case(tmp_path / name, pet=name, forcing="caller")
            with opened(case) as component:
                assert [*load_config(case).published] == ["precipitation", "air_temperature"]
                component.set_value(variable("precipitation").name, np.zeros(25))
                component.set_value(variable("air_temperature").name, np.full(25, 4.0))
                if refused:
                    with pytest.raises(ForcingError, match="pet is 'strict' and a whole step is asked for at once"):
                        component.update()
                else:
                    component.update()


def takes_too_much(T, depth):
    return T * depth


@pytest.mark.parametrize(("change", "message"), [
    ({"steps": {DAY: takes_too_much}}, r"takes_too_much takes 'depth', which is no input and no constant .*cos_lat"),
    ({"inputs": {**FORMULA.inputs, "rain": Reading("P")}}, "there is no input 'rain'"),
    ({"inputs": {**FORMULA.inputs, "runoff": Reading("P")}}, "there is no input 'runoff'"),
    ({"inputs": {**FORMULA.inputs, "precipitation": Reading("T")}}, "the symbol 'T' means two things"),
    ({"inputs": {**FORMULA.inputs, "precipitation": Reading("distance")}}, "the symbol 'distance' means two things"),
    ({"inputs": {**FORMULA.inputs, "precipitation": Reading("P")}}, r"reads 'precipitation' \('P'\), which no step"),
    ({"constants": {"per": {HOUR: 1.0}}}, "the constant 'per' has no value for a step of 1 d"),
    ({"steps": {HOUR: by_the_hour}}, "has no function for a step of 1 d, expected one of 1 h"),
])
def test_a_declaration_that_does_not_fit(change, message):
    with pytest.raises(DeclarationError, match=message):
        plan_of(replace(FORMULA, **change), DAY)


def test_names_and_kinds():
    with installed(replace(FORMULA, name="oudin")), pytest.raises(DeclarationError, match="two processes are called"):
        describe_processes()
    with installed(FORMULA), pytest.raises(ConfigError, match=r"'mcguinness' is a process of kind pet\. Choose it as"):
        from bmi_cdlm.processes.catalogue import choose

        choose(runoff="mcguinness")


def test_an_elevation_that_is_not_there(tmp_path):
    with installed(FORMULA):
        case = case_of(tmp_path)
        with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
            dataset.renameVariable("cell_elevation", "cell_height")
        with pytest.raises(DomainError, match="elevation"):
            Simulation(load_config(case))
