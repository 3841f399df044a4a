"""Assimilation: twins recovered, gradients, nothing after its end, bits of the restart, members, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import GAUGE_Q, START, change_config, opened, simulated, step_all, write_case, write_series
from click.testing import CliRunner, Result

from bmi_cdlm.assimilate import assimilation
from bmi_cdlm.assimilate.assimilation import PROVENANCE, Analysis, assimilate
from bmi_cdlm.assimilate.choice import Choice, Errors
from bmi_cdlm.assimilate.correlation import Correlated, make_fields
from bmi_cdlm.assimilate.cost import Cost, Observed, deviations
from bmi_cdlm.assimilate.parts import make_parts
from bmi_cdlm.assimilate.transform import Within
from bmi_cdlm.cli import main
from bmi_cdlm.files.restart import read_restart
from bmi_cdlm.model.adjustment import replace_states
from bmi_cdlm.names.errors import ConfigError, StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.config import load_config

N, BEGIN, END = 60, 25, 45
"""Steps of a run, and those between which its window lies."""
WIDE = Errors(store=0.3, distance=100.0, time=DAY)


def at(step: int, length: int = DAY) -> np.datetime64:
    return START + np.timedelta64(step * length, "s")


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def forecast(config: Path, setting: tuple | None = None) -> np.ndarray:
    """Discharge at the gauges, float64[time, gauge], of a run whose stores and reaches are set at BEGIN."""
    rows = []
    with simulated(config) as simulation:
        for step in range(simulation.config.n_steps):
            if step == BEGIN and setting is not None:
                replace_states(simulation.model, *setting)
            row = simulation.advance(simulation.read_forcing(step, 1), ["gauge_discharge"])["gauge_discharge"]
            rows.append(row.copy())
    return np.concatenate(rows)


def observe(config: Path, discharge: np.ndarray) -> None:
    """Make this the observations of a case."""
    gauges = [f"g{i}" for i in range(4)]
    write_series(config.parent / "observations.nc", "gauge", gauges, {"discharge": (discharge, "m3 s-1")}, START, DAY)


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A case that is observed in a truth with other stores at BEGIN, with gaps; discharge of the truth, and its own."""
    config = write_case(tmp_path_factory.mktemp("twin"), n_steps=N, parameters="default")
    with simulated(config) as simulation:
        simulation.advance(simulation.read_forcing(0, BEGIN))
        held = simulation.model.state.on_cells()
        other = {"production_store": 0.3 * held["production_store"], "routing_store": 1.6 * held["routing_store"]}
    truth = forecast(config, (other, None))
    observed = truth.copy()
    observed[:, 2] = np.nan
    observed[BEGIN + 3 : BEGIN + 6, 0] = np.nan
    observe(config, observed)
    return config, truth, forecast(config)


@pytest.fixture(scope="module")
def fitted(twin, tmp_path_factory) -> tuple[Analysis, Path]:
    path = tmp_path_factory.mktemp("fitted") / "start.restart"
    choice = Choice((END - BEGIN) * DAY, at(END), errors=WIDE)
    return assimilate(load_config(twin[0]), choice, path)[0], path


def test_a_known_truth_is_forecast_after_its_window(twin, fitted) -> None:
    """Where the run alone is far off."""
    config, truth, alone = twin
    found, path = fitted
    own = step_from(config, path)
    used = [0, 1, 3]
    without = np.sqrt(((alone[END:] - truth[END:])[:, used] ** 2).mean(axis=0))
    left = np.sqrt(((own - truth[END:])[:, used] ** 2).mean(axis=0))
    assert (without > 0.05 * truth[END:, used].mean(axis=0)).all()
    assert (left < 0.1 * without).all()
    assert found.after.terms.sum() < 0.01 * found.before.terms.sum()
    assert found.fit.slope < 1e-3


def step_from(config: Path, restart: Path) -> np.ndarray:
    """Step on from a restart file through BMI, float64[time, gauge]."""
    changed = change_config(config, "stepped.yaml", initial_state=str(restart))
    with opened(changed) as component:
        assert component.get_current_time() == END * DAY
        return step_all(component, (GAUGE_Q,))[GAUGE_Q]


def test_a_component_goes_on_from_the_restart_to_the_bits_of_the_assimilation(twin, fitted) -> None:
    """The run that has the fitted stores at the begin of the window and then goes on without a break."""
    found, path = fitted
    expected = forecast(twin[0], (found.setting.stores, None))
    np.testing.assert_array_equal(step_from(twin[0], path), expected[END:])


def test_it_says_what_was_fitted_and_keeps_it_in_the_file(twin, fitted) -> None:
    found, path = fitted
    n = {"g0": END - BEGIN - 3, "g1": END - BEGIN, "g2": 0, "g3": END - BEGIN}
    with simulated(twin[0]) as simulation:
        domain = simulation.model.domain
    kept = json.loads(read_restart(path, domain.cells.id, domain.reaches.id).attributes[PROVENANCE])
    assert kept["gauges"] == n
    assert kept["to"] == "2001-04-15T00:00:00"
    assert kept["cost"]["after"]["observations"] == found.after.terms.sum()
    assert {one.name: one.total for one in found.moved} == {"production_store": 25, "routing_store": 25}


def test_nothing_after_its_end_matters_and_what_is_before_does(twin, tmp_path) -> None:
    config, choice = twin[0], Choice((END - BEGIN) * DAY, at(END), errors=WIDE, iterations=3)
    with netCDF4.Dataset(config.parent / "observations.nc") as file:
        observed = np.ma.filled(file["discharge"][:], np.nan)
    contents = []
    for name, last in (("as_it_is", N), ("later", END), ("within", END - 1)):
        changed = observed.copy()
        changed[last:] = 77.0
        folder = tmp_path / name
        folder.mkdir()
        other = folder / "observations.nc"
        write_series(other, "gauge", [f"g{i}" for i in range(4)], {"discharge": (changed, "m3 s-1")}, START, DAY)
        if name == "later":  # nor does the weather after it
            with netCDF4.Dataset(config.parent / "forcing.nc") as file:
                columns = {
                    n: (np.where(np.arange(N)[:, None] < END, file[n][:], 1.0), file[n].units)
                    for n in ("precipitation", "potential_evapotranspiration", "air_temperature")
                }
                write_series(folder / "forcing.nc", "cell", file["cell_id"][:], columns, START, DAY)
        own = change_config(
            config, f"{name}.yaml", observations=str(other),
            **({"forcing": str(folder / "forcing.nc")} if name == "later" else {}),
        )
        contents.append(assimilate(load_config(own), choice, folder / "r")[0])
    same, later, within = (one.setting.stores for one in contents)
    with simulated(config) as simulation:
        ids = simulation.model.domain.cells.id, simulation.model.domain.reaches.id
    one, other = (read_restart(found.path, *ids) for found in contents[:2])
    for grid in ("cell", "reach"):
        for key, values in getattr(one, grid).items():
            np.testing.assert_array_equal(getattr(other, grid)[key], values)
    assert all((same[key] == later[key]).all() for key in same)
    assert any((same[key] != within[key]).any() for key in same)


@pytest.mark.parametrize(("step", "keys"), [
    (DAY, {}),
    (HOUR, {}),
    (DAY, {"runoff": "hbv", "components": 2, "parameters": "default"}),
])
def test_the_gradient_of_the_cost_is_that_of_differences(tmp_path, step: int, keys: dict) -> None:
    with simulated(write_case(tmp_path, step=step, n_steps=30, **keys)) as simulation:
        simulation.advance(simulation.read_forcing(0, 14))
        model, forcing = simulation.model, simulation.read_forcing(14, 16)
        y = np.random.default_rng(1).uniform(0.5, 5.0, (16, 4))
        y[3:6, 1] = np.nan
        reach = model.domain.gauges.reach
        choice = Choice(16 * step, fit=("stores", "rivers", "rain"), errors=Errors(distance=60.0))
        sd = deviations(y, model.domain.reaches.upstream_area[reach], choice.errors, step)
        cost = Cost(model, forcing, make_parts(model, choice), Observed(np.arange(16), list("abcd"), reach, y, sd))
        rng = np.random.default_rng(2)
        w = 0.3 * rng.standard_normal(cost.centre.size)
        gradient = cost(w)[1]
        for _ in range(4):
            d = rng.standard_normal(w.size)
            d /= np.linalg.norm(d)
            found = (cost.score(w + 1e-5 * d).cost - cost.score(w - 1e-5 * d).cost) / 2e-5
            assert found == pytest.approx(gradient @ d, rel=2e-5, abs=1e-6 * np.linalg.norm(gradient))


def test_fields_have_the_correlation_that_is_stated_and_an_exact_adjoint() -> None:
    rng = np.random.default_rng(3)
    lon, lat = 179.9 + rng.uniform(0, 1.0, 40), rng.uniform(44.0, 44.8, 40)
    lon = np.where(lon > 180.0, lon - 360.0, lon)
    fields = Correlated(lon, lat, 15.0)
    root = np.stack([fields.adjoint(one) for one in np.eye(40)])
    np.testing.assert_allclose((root**2).sum(axis=1), 1.0, rtol=1e-12)
    x, y = 111.195 * np.cos(np.radians(lat.mean())) * (lon % 360.0), 111.195 * lat
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    np.testing.assert_allclose(root @ root.T, np.exp(-(distance**2) / (2 * 15.0**2)), atol=0.01)
    w = rng.standard_normal(fields.size)
    np.testing.assert_allclose(fields.field(w), root @ w, rtol=1e-12, atol=1e-12)
    assert make_fields(lon, lat, 0.0).size == 40
    with pytest.raises(ConfigError, match="far below the distance"):
        make_fields(lon, lat, 0.1)


def test_a_store_stays_within_its_bounds_and_is_itself_where_nothing_moves() -> None:
    background = np.array([0.0, 1e-9, 3.0, 99.0, 100.0, 5.0, -4.0, 7.0])
    low = np.array([0.0] * 6 + [-np.inf, 0.0])
    high = np.array([100.0] * 5 + [np.inf, np.inf, 7.0])
    deviation = np.array([10.0] * 7 + [0.0])
    store = Within(background, deviation, low, high)
    np.testing.assert_array_equal(store.values(np.zeros(8)), background)
    for d in (-1e4, -30.0, -3.0, 3.0, 30.0, 1e4):
        moved = store.values(np.full(8, d))
        assert (moved >= low).all() and (moved <= high).all()
        ahead, behind = (store.values(np.full(8, d) + h) for h in (1e-5, -1e-5))
        np.testing.assert_allclose(store.slope(np.full(8, d)), (ahead - behind) / 2e-5, atol=1e-6)
    assert store.values(np.full(8, 1.0))[5:7] == pytest.approx([6.0, -3.0], rel=0.05)
    assert store.values(np.full(8, 10.0))[0] > 5.0  # an empty store can fill
    assert store.values(np.full(8, 50.0))[7] == 7.0  # one without a deviation stays
    np.testing.assert_array_equal(store.at_bound(background), [True, True, False, False, True, False, False, False])


def test_a_member_each_has_a_restart_and_a_run_goes_on_with_all(twin, tmp_path) -> None:
    config = change_config(twin[0], "members.yaml", output=str(tmp_path / "run.nc"), ledger_tolerance=1e-9)
    words = ("--window", f"{END - BEGIN} d", "--at", at(END), "--to", tmp_path / "m.restart", "--quiet")
    result = call("assimilate", config, *words, "--members", 2, "--fit", "stores,rivers,rain", "--iterations", 4)
    assert result.exit_code == 0, result.output
    assert "g2: has 0 of 20 observations in the window, and takes no part" in result.output.replace("\n", " ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.member1.restart", "m.member2.restart"]
    assert call("run", config, "--from", tmp_path / "m.restart", "--quiet").exit_code == 0
    with netCDF4.Dataset(tmp_path / "run.nc") as mean:
        assert mean["time"].size == N - END
        rows = []
        for k in (1, 2):
            with netCDF4.Dataset(tmp_path / f"run.member{k}.nc") as member:
                rows.append(member["discharge"][:])
        np.testing.assert_allclose(mean["discharge"][:], (rows[0] + rows[1]) / 2, rtol=1e-12)
    assert (rows[0] != rows[1]).any()
    (tmp_path / "m.member4.restart").touch()
    larger = call("assimilate", config, *words, "--members", 3, "--force", "--iterations", 1)
    assert larger.exit_code == 1 and "is there, of a larger ensemble" in larger.output.replace("\n", " ")


def test_some_of_an_ensemble_is_never_written(twin, tmp_path, monkeypatch) -> None:
    """It would pass for a smaller one."""
    real, fits = assimilation._analyse, []

    def breaks(*arguments):
        fits.append(arguments)
        if len(fits) == 2:
            raise StateError("broken")
        return real(*arguments)

    monkeypatch.setattr(assimilation, "_analyse", breaks)
    choice = Choice((END - BEGIN) * DAY, at=at(END), members=3, iterations=1)
    with pytest.raises(StateError, match="broken"):
        assimilate(load_config(twin[0]), choice, tmp_path / "m.restart")
    assert len(fits) == 2 and not [*tmp_path.iterdir()]


def test_a_gauge_that_is_screened_out_takes_no_part(twin, tmp_path) -> None:
    (tmp_path / "gauges.csv").write_text("id,regulated\ng0,no\ng1,yes\ng2,no\ng3,yes\n")
    config = change_config(twin[0], "screened.yaml", screening={"table": str(tmp_path / "gauges.csv")})
    choice = Choice((END - BEGIN) * DAY, at=at(END), iterations=1)
    [found] = assimilate(load_config(config), choice, tmp_path / "one.restart")
    assert np.isfinite(found.observed.discharge).any(axis=0).tolist() == [True, False, False, False]


@pytest.mark.parametrize(("words", "told"), [
    (("--window", "61 d"), "2001-04-30T00:00:00 are 60 d, expected at most that"),
    (("--window", "36 h"), "window: is 36 h, expected a multiple of the time step, 1 d"),
    (("--window", "5"), "--window: '5' is not a duration"),
    (("--window", "5 d", "--at", "2001-03-09T06:00"), "expected the end of a step"),
    (("--window", "5 d", "--at", "2001-07-01"), "not after end 2001-04-30"),
    (("--window", "5 d", "--gauge", "g2"), "no observation of g2 from 2001-04-25"),
    (("--window", "5 d", "--gauge", "g9"), "the domain has no 'g9'"),
    (("--window", "5 d", "--fit", "store"), "'store' cannot be fitted; expected some of stores, rivers, rain"),
    (("--window", "5 d", "--store", "rooting_store"), "Did you mean 'routing_store'?"),
    (("--window", "5 d", "--error-of", "routing_store"), "expected a store and a number above 0"),
    (("--window", "5 d", "--to", "{folder}/case.yaml"), "is there already"),
    (("--window", "5 d", "--from", "{folder}/observations.nc"), "holds no state"),
])
def test_what_does_not_go_is_said_and_nothing_is_written(twin, tmp_path, words: tuple, told: str) -> None:
    own = [word.replace("{folder}", str(twin[0].parent)) for word in words]
    target = () if "--to" in own else ("--to", tmp_path / "r")
    before = (twin[0].parent / "case.yaml").read_bytes()
    result = call("assimilate", twin[0], *own, *target, "--quiet")
    assert result.exit_code == 1
    assert told in result.output.replace("\n", " ")
    assert not (tmp_path / "r").exists()
    assert (twin[0].parent / "case.yaml").read_bytes() == before


def test_a_state_of_a_time_within_the_window_is_refused_and_one_before_it_gone_on_with(twin, fitted, tmp_path) -> None:
    config = load_config(twin[0], {"initial_state": fitted[1]})
    with pytest.raises(StateError, match="expected a state of the begin of the window, 2001-04-10"):
        assimilate(config, Choice(10 * DAY, at(END + 5)), tmp_path / "r")
    found = assimilate(config, Choice(5 * DAY, at(END + 10), errors=WIDE), tmp_path / "r")[0]
    assert found.after.cost <= found.before.cost
