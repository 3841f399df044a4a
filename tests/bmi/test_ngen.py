"""The calls of ngen's Python BMI adapter, in its order: an hourly host and one catchment per instance."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from cases import DEPTH, E, Q, T, change_config, opened, write_case
from ngen_host import AORC, EXAMPLE, MASSES, RAIN, Ngen, weather

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.pet import Demand, make_place
from bmi_cdlm.names.entry import alias
from bmi_cdlm.names.errors import ClockError, ForcingError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.prepare.nextgen import Options, write_catchments
from bmi_cdlm.processes.catalogue import find_formula
from bmi_cdlm.run.config import load_config


@pytest.fixture
def config(tmp_path):
    return write_case(
        tmp_path, lumped=True, n_steps=4, forcing="caller", name_profile="ngen", snow="cemaneige", observations=None
    )


def test_an_hourly_host_of_the_daily_model(config):
    host = Ngen(config)
    assert host.model.get_time_step() == DAY
    days, hours = list(weather(72)), []
    for forcing in days:
        hours.append(host.step(forcing))
        residual, came = host.residual()
        assert residual <= 1e-9 * came
    assert all(h[DEPTH] == 0.0 for h in hours[:23])
    depths = np.array([h[DEPTH] for h in hours])
    with opened(config) as daily:
        for day in range(3):
            for name in daily.get_input_var_names():
                mean = np.mean([d[name][0] for d in days[24 * day : 24 * day + 24]])
                daily.set_value(name, np.array([mean]))
            daily.update()
            np.testing.assert_allclose(hours[24 * day + 23][Q], daily.get_value_ptr(Q)[0], rtol=1e-10)
            # A day's runoff leaves in the 24 calls from the one that completes it.
            released = depths[24 * day + 23 : 24 * day + 47].sum()
            if day < 2:
                np.testing.assert_allclose(released, daily.get_value_ptr(DEPTH)[0], rtol=1e-10)
    host.model.finalize()


def test_an_hourly_host_of_the_hourly_model(tmp_path):
    config = write_case(
        tmp_path, step=HOUR, lumped=True, n_steps=30, forcing="caller", name_profile="ngen", snow="cemaneige"
    )
    host = Ngen(config)
    assert host.model.get_time_step() == 3600
    area = host.model._stepper.simulation.model.domain.cells.drained_area[0]
    for forcing in weather(30):
        first = host.step(forcing)
        runoff = first[variable("runoff").name]
        np.testing.assert_allclose(first[DEPTH], runoff / 24 / 1000, rtol=1e-14)
        # The nexus gets depth x area / 3600.
        lateral = first[variable("lateral_inflow").name]
        np.testing.assert_allclose(first[DEPTH] * area * 1e6 / 3600, lateral, rtol=1e-12)
    host.model.finalize()


def test_many_catchments_one_after_the_other(config):
    """One instance per catchment, all alive at once, stepped in turn."""
    other = change_config(config, sub_step_policy="accumulate", threads=2)
    hosts = [Ngen(config) for _ in range(5)] + [Ngen(other)]
    for forcing in weather(30):
        reports = [host.step(forcing) for host in hosts]
        assert all(r == reports[0] for r in reports)
    for host in hosts:
        host.model.finalize()


def made_catchments(folder, time_step, **options):
    """The example's three catchments, two months long."""
    start = np.datetime64("2015-12-01", "s")
    write_catchments(
        EXAMPLE / "catchments.csv", folder,
        Options(start, start + np.timedelta64(62, "D"), time_step, **{"snow": "cemaneige", **options}),
    )
    formulation = json.loads((folder / "realization.json").read_text())["global"]["formulations"][0]["params"]
    ids = [line.split(",")[0] for line in (EXAMPLE / "catchments.csv").read_text().splitlines()[1:]]
    return [folder / formulation["init_config"].replace("{{id}}", one) for one in ids], formulation


def mean_weather(forcings, config):
    """Registry values of what a model step reads, as a caller that knows the rules accumulates them."""
    def rows_of(name):
        unit = alias(variable("air_temperature" if name.startswith("m") else name), "ngen")
        return np.array([forcing[unit.name][0] * unit.factor + unit.offset for forcing in forcings])

    values, weather = {}, {name: rows_of(name) for name in config.inputs}
    if "wind_x" in weather and len(forcings) > 1:  # the speed of every hour, and the vapour pressure
        x, y, q = (weather.pop(name) for name in ("wind_x", "wind_y", "specific_humidity"))
        weather["wind_speed"] = np.sqrt(x * x + y * y)
        weather["vapour_pressure"] = q * weather["air_pressure"] / (0.622 + 0.378 * q)
    for name, rows in weather.items():
        if name.startswith("minimum"):
            values[name] = min(rows)
        elif name.startswith("maximum"):
            values[name] = max(rows)
        elif len(rows) == 1:
            values[name] = rows[0]
        else:
            total = 0.0
            for row in rows:
                total += row * 3600
            values[name] = total / DAY
    return {n: np.array([[v]]) for n, v in values.items()}


GR4J = {"snow": "cemaneige"}
HBV = {"snow": "none", "runoff": "hbv", "components": 3}


@pytest.mark.parametrize(("time_step", "pet", "chain"), [
    (HOUR, "given", GR4J), (DAY, "given", GR4J), (HOUR, "penman_monteith", GR4J), (DAY, "penman_monteith", GR4J),
    (DAY, "hargreaves", GR4J), (HOUR, "oudin", GR4J), (HOUR, "oudin", HBV), (DAY, "oudin", HBV),
], ids=lambda one: one.get("runoff", "gr4j") if isinstance(one, dict) else str(one))
@pytest.mark.slow
def test_three_catchments_and_720_hours_are_a_direct_drive(tmp_path, time_step, pet, chain):
    """The model below BMI, driven with the means of each of its steps: every output to the bit, and no water lost."""
    configs, formulation = made_catchments(tmp_path, time_step, pet=pet, **chain)
    hosts = [Ngen(path) for path in configs]
    assert formulation["main_output_variable"] == DEPTH
    hours = [list(weather(720, seed)) for seed in range(3)]
    reports = []
    for hour in range(720):
        reports.append([host.step(forcings[hour]) for host, forcings in zip(hosts, hours, strict=True)])
        for host in hosts:
            residual, came = host.residual()
            assert residual <= 1e-9 * came + 1e-15  # before the first rain nothing but rounding
        assert set(formulation["output_variables"]) <= set(reports[-1][0])
    per_step = time_step // HOUR
    for i, path in enumerate(configs):
        config = load_config(path)
        domain = read_domain(config.domain)
        components = {"components": {chain["runoff"]: chain["components"]}} if "components" in chain else {}
        model = Model(domain, {}, step=time_step, routing_step=HOUR, **{**chain, **components})
        dry = Forcing(*np.zeros((3, 1, 1)))
        place = make_place(domain.cells.lat, domain.cells.lon, np.array([120.0, 310.0, 540.0])[i : i + 1])
        start = int(config.start.astype(np.int64))
        if time_step == HOUR:
            model.settle()
        else:
            model.fill_rivers(dry if pet == "given" else dry._replace(potential_evapotranspiration=np.zeros((1, 1))))
        for step in range(720 // per_step):
            values = mean_weather(hours[i][step * per_step : (step + 1) * per_step], config)
            demand = values["potential_evapotranspiration"] if pet == "given" else Demand(
                find_formula(pet), time_step, place).evaluate(values, start + step * time_step, model.workers)
            model.advance(Forcing(values["precipitation"], demand, values["air_temperature"]))
            shown = reports[(step + 1) * per_step - 1][i]
            for v in model.outputs:
                if not v.short.startswith("runoff_depth") and model.live[v.short].size:
                    assert shown[v.name] == model.live[v.short][0], (v.short, step)
            np.testing.assert_allclose(
                shown[DEPTH], model.live["runoff"][0] / 1000.0 / 24.0, rtol=1e-12, atol=1e-300
            )
        came = hosts[i].masses["ngen::mass_in"][0]
        rained = sum(f[RAIN][0] * 3600 for f in hours[i]) / 1000.0
        np.testing.assert_allclose(came, rained, rtol=1e-12)
        assert hosts[i].masses["ngen::mass_out"][0] > 0
        hosts[i].model.finalize()


@pytest.mark.parametrize("time_step", [HOUR, DAY])
def test_mass_out_is_evaporation_and_the_depths_that_ngen_got(tmp_path, time_step):
    configs, _ = made_catchments(tmp_path, time_step, pet="given")
    host = Ngen(configs[0])
    evaporated = depth = 0.0
    for hour, forcing in enumerate(weather(96), 1):
        depth += host.step(forcing)[DEPTH]
        if hour * HOUR % time_step == 0:
            evaporated += host.model.get_value_ptr(variable("evapotranspiration").name)[0] / 1000.0 * time_step / DAY
        np.testing.assert_allclose(host.masses["ngen::mass_out"][0], evaporated + depth, rtol=1e-10, atol=1e-15)
    assert depth > 0
    host.model.finalize()


@pytest.mark.parametrize("seed", range(3))
def test_masses_close_over_calls_of_any_length(tmp_path, seed):
    config = write_case(tmp_path, snow="cemaneige", forcing="caller", name_profile="ngen")
    rng = np.random.default_rng(seed)
    with opened(config) as component:
        area = component._stepper.simulation.model.domain.cells.drained_area
        rained, time = 0.0, 0
        for target in [*np.sort(rng.choice(np.arange(60, 8 * DAY, 60), 40, replace=False)), 9 * DAY]:
            rain = rng.exponential(1e-4, 25)
            component.set_value(RAIN, rain)
            component.set_value(E, rng.uniform(0, 5, 25))
            component.set_value(T, rng.uniform(260, 290, 25))
            component.update_until(float(target))
            rained += (rain * area).sum() / area.sum() * (target - time) / 1000.0
            time = target
            came, gone, stored, leaked = (component.get_value_ptr(n)[0] for n in MASSES)
            np.testing.assert_allclose(came, rained, rtol=1e-12)  # what has only accumulated is in it
            assert abs(came - gone - stored - leaked) <= 1e-12 * (came + 1.0)
        assert leaked != 0 and gone > 0


def test_masses_are_in_no_list(config):
    host = Ngen(config)
    assert not any(n.startswith("ngen::") for n in host.model.get_output_var_names())
    with pytest.raises(ValueError, match="derives"):
        host.model.set_value(MASSES[0], np.zeros(1))
    host.model.finalize()


def test_every_aorc_input_may_be_published(tmp_path):
    names = ("precipitation", "air_temperature", "specific_humidity", "air_pressure", "shortwave_radiation",
             "longwave_radiation", "wind_x", "wind_y")
    configs, _ = made_catchments(tmp_path, HOUR, pet="penman_monteith")
    config = change_config(configs[0], published_inputs=list(names))
    with opened(config) as component:
        assert {n: component.get_var_units(n) for n in component.get_input_var_names()} == AORC
        forcing = next(weather(1))
        for name in AORC:
            if "longwave" not in name:  # that nobody reads it is no reason to ask for it
                component.set_value(name, np.array([forcing[name][0]]))
        component.update()
    host = Ngen(config)
    first = [host.step(f)[Q] for f in weather(12)]
    host.model.finalize()
    host = Ngen(configs[0])
    assert first == [host.step(f)[Q] for f in weather(12)]
    host.model.finalize()


def test_published_inputs_of_a_file_run(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    with opened(change_config(config, published_inputs=["precipitation"])) as few, opened(config) as all_of_them:
        assert len(few.get_input_var_names()) == 1
        with pytest.raises(UnknownNameError):
            few.get_value_ptr(T)
        few.update_until(5 * DAY)
        all_of_them.update_until(5 * DAY)
        np.testing.assert_array_equal(few.get_value_ptr(Q), all_of_them.get_value_ptr(Q))
    with opened(change_config(config, published_inputs=[])) as none:
        assert none.get_input_item_count() == 0
        none.update()


def test_hargreaves_wants_the_days_range(tmp_path):
    configs, _ = made_catchments(tmp_path, DAY, pet="hargreaves")
    with opened(configs[0]) as component:
        component.set_value(RAIN, np.array([1e-5]))
        component.set_value(T, np.array([280.0]))
        with pytest.raises(ForcingError, match=r"hargreaves.*published_inputs"):
            component.update()
        assert component.get_current_time() == 0.0
        component.update_until(3600.0)
    given = ["precipitation", "air_temperature", "minimum_air_temperature", "maximum_air_temperature"]
    with opened(change_config(configs[0], published_inputs=given)) as component:
        for name, value in zip(component.get_input_var_names(), (1e-5, 280.0, 275.0, 287.0), strict=True):
            component.set_value(name, np.array([value]))
        component.update()
        assert component.get_value_ptr(variable("evapotranspiration").name)[0] > 0


def test_a_fraction_of_a_step_is_refused_where_the_policy_says_so(config):
    with opened(change_config(config, sub_step_policy="refuse")) as component:
        with pytest.raises(ClockError, match=r"3600 s, which is within a step of 86400 s.*sub_step_policy: accumulate"):
            component.update_until(3600.0)
        assert component.get_current_time() == 0.0


def test_the_end_is_finite_and_beyond_the_run(tmp_path):
    configs, _ = made_catchments(tmp_path, HOUR)
    with opened(configs[0]) as component:
        assert component.get_end_time() == 63 * DAY


@pytest.mark.parametrize(("folder", "options"), [
    (EXAMPLE, {"snow": "cemaneige", "pet": "penman_monteith"}),
    (EXAMPLE / "hbv", {"pet": "oudin", "runoff": "hbv", "components": 4}),
])
def test_the_examples_are_what_init_writes(tmp_path, folder, options):
    start = np.datetime64("2015-12-01", "s")
    written = write_catchments(
        EXAMPLE / "catchments.csv", tmp_path, Options(start, start + np.timedelta64(30, "D"), HOUR, **options)
    )
    texts = [p for p in written if p.suffix in (".yaml", ".json")]
    assert len(texts) == 4
    for path in texts:
        assert path.read_text() == (folder / path.name).read_text(), path.name
    assert yaml.safe_load(texts[0].read_text())["domain"] == "cat-27.nc"


@pytest.mark.parametrize("pet", ["given", "oudin", "penman_monteith"])
def test_the_ready_checkpoint_runs_every_hourly_model(tmp_path, pet):
    checkpoint = EXAMPLE / "cance_hourly.safetensors"
    configs, _ = made_catchments(tmp_path, HOUR, pet=pet, snow="none", parameters=checkpoint)
    host = Ngen(configs[0])
    domain = load_config(configs[0]).domain
    learned, _ = load_checkpoint(checkpoint).evaluate(domain, read_domain(domain))
    shown = np.empty(1)
    for name, value in learned.items():
        if name in host.model.get_parameter_names():
            assert host.model.get_value(name, shown)[0] == np.ravel(value)[0], name
    for forcing in weather(48):
        host.step(forcing)
        residual, came = host.residual()
        assert residual <= 1e-9 * came + 1e-15
    host.model.finalize()
