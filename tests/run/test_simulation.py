"""A run from files: what is refused before anything is written, and what is written where."""

from __future__ import annotations

import os

import netCDF4
import numpy as np
import pytest
import yaml
from cases import (
    N_CELLS,
    N_REACHES,
    N_STEPS,
    SEED,
    START,
    assert_same,
    case_forcing,
    change_config,
    opened,
    simulated,
    write_case,
    write_forcing,
)
from make_domain import random_fields, write_domain

from bmi_cdlm.files.output import partial_path, read_output
from bmi_cdlm.names.errors import (
    CdlmError,
    ConfigError,
    DomainError,
    ForcingError,
    NotFiniteError,
    OutputError,
    ParameterError,
    StateError,
)
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

OLD = b"the output of another day"


def run(config):
    simulation = Simulation(load_config(config))
    try:
        simulation.run()
    finally:
        simulation.close()


def assert_refused(config, error, *patterns):
    """Raised with its message, and neither a new file nor a change in an old one."""
    folder = config.parent
    names = {k: v for k, v in yaml.safe_load(config.read_text()).items() if k in ("output", "restart")}
    for name in names.values():
        if not (folder / name).exists() and (folder / name).parent == folder:
            (folder / name).write_bytes(OLD)
    before = {p: p.stat() for p in folder.rglob("*")}
    content = {p: p.read_bytes() for p in before if p.is_file()}
    with pytest.raises(error) as caught:
        run(config)
    assert isinstance(caught.value, CdlmError)
    for pattern in patterns:
        assert pattern in str(caught.value), str(caught.value)
    assert set(folder.rglob("*")) == set(before)
    assert {p: p.read_bytes() for p in content} == content


@pytest.fixture
def config(tmp_path):
    return write_case(tmp_path, snow="cemaneige", output="run.nc", restart="end.nc")


def change_domain(config, **values):
    """Write the domain again with other values of some variables; a function gets the old ones, None leaves out."""
    fields = random_fields(SEED, N_REACHES, N_CELLS)
    for name, change in values.items():
        if change is None:
            del fields[name]
        else:
            fields[name] = fields[name]._replace(values=change(fields[name].values.copy()))
    write_domain(config.parent / "domain.nc", fields)


def edit(path, change):
    with netCDF4.Dataset(path, "a") as dataset:
        change(dataset)


# ---- refused: files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"), [("domain.nc", DomainError), ("forcing.nc", ForcingError), ("parameters.nc", ParameterError)]
)
@pytest.mark.parametrize("what", ["missing", "text", "cut", "folder"])
def test_a_file_that_cannot_be_read(config, name, error, what):
    path = config.parent / name
    content = path.read_bytes()
    path.unlink()
    if what == "text":
        path.write_text("once upon a time")
    if what == "cut":
        path.write_bytes(content[: len(content) // 2])
    if what == "folder":
        path.mkdir()
    said = {"missing": "no such file", "folder": "is a folder and no Zarr store"}
    assert_refused(config, error, name, said.get(what, "cannot be read"))


def test_a_configuration_that_is_missing_or_unknown(config):
    with pytest.raises(ConfigError, match="cannot be read"):
        run(config.parent / "none.yaml")
    assert_refused(change_config(config, treads=2), ConfigError, "unknown key 'treads'", "'threads'")
    assert_refused(change_config(config, time_step="6 h"), ConfigError, "time_step is 21600 s")
    assert_refused(change_config(config, end="2001-02-01"), ConfigError, "after start")


@pytest.mark.parametrize("state", ["missing", "text", "output"])
def test_a_restart_file_that_is_none(config, state):
    path = config.parent / "state.nc"
    if state == "text":
        path.write_text("no")
    if state == "output":
        write_forcing(path, case_forcing(3, N_CELLS), DAY, np.array(["c"] * N_CELLS))
    pattern = {"missing": "no such file", "text": "holds no state", "output": "holds no state"}[state]
    assert_refused(change_config(config, initial_state="state.nc"), StateError, "state.nc", pattern)


# ---- refused: forcing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["precipitation", "potential_evapotranspiration", "air_temperature"])
def test_forcing_in_wrong_units(config, name):
    edit(config.parent / "forcing.nc", lambda d: d.variables[name].setncattr("units", "kg m-2 s-1"))
    assert_refused(config, ForcingError, "forcing.nc", f"'{name}' has units 'kg m-2 s-1', expected", "Convert")


@pytest.mark.parametrize("name", ["precipitation", "potential_evapotranspiration", "air_temperature", "time"])
def test_a_missing_variable(config, name):
    edit(config.parent / "forcing.nc", lambda d: d.renameVariable(name, f"{name}s"))
    assert_refused(config, ForcingError, "forcing.nc", f"variable '{name}' is missing", f"Did you mean '{name}s'")


def test_temperature_is_needed_for_snow_only(config):
    edit(config.parent / "forcing.nc", lambda d: d.renameVariable("air_temperature", "t2m"))
    run(change_config(config, snow="none"))


@pytest.mark.parametrize(
    ("value", "pattern"), [(np.nan, "is missing at"), (-0.1, "is -0.1 at"), (np.inf, "is inf at"), (-np.inf, "is -inf")]
)
def test_rain_without_meaning(config, value, pattern):
    def spoil(dataset):
        dataset.variables["precipitation"][5, 7] = value

    edit(config.parent / "forcing.nc", spoil)
    assert_refused(config, ForcingError, "forcing.nc", "'precipitation'", pattern, "2001-03-06", "cell c7")


def test_a_fill_must_be_declared(config):
    def spoil(dataset):
        dataset.variables["precipitation"][5, 7] = np.nan

    edit(config.parent / "forcing.nc", spoil)
    run(change_config(config, forcing_fill={"precipitation": "zero"}))
    assert_refused(change_config(config, forcing_fill={"air_temperature": "hold"}), ForcingError, "'precipitation'")


def test_a_gap_in_time(config):
    def shift(dataset):
        dataset.variables["time"][4:] = dataset.variables["time"][4:] + DAY

    edit(config.parent / "forcing.nc", shift)
    assert_refused(config, ForcingError, "from 2001-03-04T00:00:00 to 2001-03-06T00:00:00", "86400 s")


def test_a_time_that_is_there_twice(config):
    edit(config.parent / "forcing.nc", lambda d: d.variables["time"].__setitem__(5, d.variables["time"][4]))
    assert_refused(config, ForcingError, "to 2001-03-05T00:00:00", "Leave out what is there twice")


def test_times_that_fall(config):
    edit(config.parent / "forcing.nc", lambda d: d.variables["time"].__setitem__(slice(None), np.arange(9)[::-1] * DAY))
    assert_refused(config, ForcingError, "does not rise")


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian"])
def test_another_calendar(config, calendar):
    edit(config.parent / "forcing.nc", lambda d: d.variables["time"].setncattr("calendar", calendar))
    assert_refused(config, ForcingError, "calendar", calendar)


def test_another_step_or_day_boundary(config):
    forcing, cells = case_forcing(9, N_CELLS), np.array([f"c{i}" for i in range(N_CELLS)])
    write_forcing(config.parent / "forcing.nc", forcing, HOUR, cells)
    assert_refused(config, ForcingError, "3600 s", "86400 s")
    write_forcing(config.parent / "forcing.nc", forcing, DAY, cells, START - np.timedelta64(6 * HOUR, "s"))
    assert_refused(config, ForcingError, "21600 s after the begin")


@pytest.mark.parametrize("shift", [-1, 1, 400])
def test_a_period_that_the_forcing_does_not_cover(config, shift):
    cells = np.array([f"c{i}" for i in range(N_CELLS)])
    start = START + np.timedelta64(shift * DAY, "s")
    write_forcing(config.parent / "forcing.nc", case_forcing(9, N_CELLS), DAY, cells, start)
    assert_refused(config, ForcingError, "covers", "expected all of 2001-03-01T00:00:00 to 2001-03-10T00:00:00")


@pytest.mark.parametrize("ids", [True, False])
def test_forcing_of_other_cells(config, ids):
    path = config.parent / "forcing.nc"
    write_forcing(path, case_forcing(9, N_CELLS - 1), DAY, np.array([f"c{i}" for i in range(1, N_CELLS)]))
    if ids:
        assert_refused(config, ForcingError, "'cell_id' has no c0", "1 of 25 are missing")
    else:
        edit(path, lambda d: d.renameVariable("cell_id", "label"))
        assert_refused(config, ForcingError, "has 24 cells and no 'cell_id', expected the 25 cells")


def test_forcing_that_only_the_caller_has(config):
    assert_refused(change_config(config, forcing="caller"), ForcingError, "forcing is 'caller'", "step through BMI")


# ---- refused: parameters, domain, output -----------------------------------------------------------------


@pytest.mark.parametrize(("grid", "name"), [("cell", "production_capacity"), ("reach", "celerity")])
def test_parameters_of_another_domain(config, grid, name):
    def spoil(dataset):
        dataset.renameVariable(f"{grid}_id", "label")

    edit(config.parent / "parameters.nc", spoil)
    with pytest.raises(ParameterError, match="unknown parameter 'label'"):
        run(config)
    with netCDF4.Dataset(config.parent / "parameters.nc", "w") as dataset:
        dataset.createDimension(grid, 7)
        dataset.createVariable(name, "f8", (grid,))[:] = 1.0
        dataset.variables[name].units = "mm" if grid == "cell" else "m s-1"
    assert_refused(config, ParameterError, f"'{name}' has 7 values, expected", f"one per {grid}")


def test_a_cycle(config):
    def close(downstream):
        outlet = int(np.flatnonzero(downstream < 0)[0])
        downstream[outlet] = int(np.flatnonzero(downstream == outlet)[0])
        return downstream

    change_domain(config, downstream=close)
    assert_refused(config, DomainError, "domain.nc", "cycle")


def test_a_reach_that_drains_into_itself(config):
    change_domain(config, downstream=lambda d: np.where(np.arange(d.size) == 3, 3, d))
    assert_refused(config, DomainError, "reach r3 drains into itself")


def test_a_reach_below_that_does_not_exist(config):
    change_domain(config, downstream=lambda d: np.where(np.arange(d.size) == 3, N_REACHES, d))
    assert_refused(config, DomainError, "'downstream' of reach r3 is 40")


def test_links_that_do_not_add_up(config):
    change_domain(config, reach_area=lambda a: a * np.where(np.arange(a.size) == a.argmax(), 1.001, 1.0))
    assert_refused(config, DomainError, "links of reach", "add up to", "'reach_area'")


@pytest.mark.parametrize("name", ["reach_length", "link_area", "cell_area", "gauge_reach"])
def test_a_domain_that_lacks_a_variable(config, name):
    change_domain(config, **{name: None})
    assert_refused(config, DomainError, "domain.nc", f"'{name}' is missing")


def test_a_domain_in_wrong_units(config):
    edit(config.parent / "domain.nc", lambda d: d.variables["reach_length"].setncattr("units", "km"))
    assert_refused(config, DomainError, "'reach_length' has units 'km', expected 'm'")


def test_snow_without_snowfall(config):
    change_domain(config, mean_annual_snowfall=None)
    assert_refused(config, DomainError, "'mean_annual_snowfall'", "or choose another snow")


@pytest.mark.parametrize("key", ["output", "restart"])
@pytest.mark.parametrize(("path", "pattern"), [("taken", "is a folder"), ("case.yaml/below.nc", "cannot be written")])
def test_an_output_that_cannot_be_written(config, key, path, pattern):
    (config.parent / "taken").mkdir()
    assert_refused(change_config(config, **{key: path}), OutputError, path, pattern)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("key", ["output", "restart"])
def test_a_folder_that_may_not_be_written(config, key):
    locked = config.parent / "locked"
    locked.mkdir(mode=0o555)
    assert_refused(change_config(config, **{key: "locked/run.nc"}), OutputError, "cannot be written")


def test_places_that_the_domain_does_not_have(config):
    assert_refused(change_config(config, output_at=["r1", "r99"]), ConfigError, "output_at", "'r99'")


def test_gauges_that_the_domain_does_not_have(config):
    change_domain(config, gauge_id=None, gauge_name=None, gauge_reach=None, gauge_area=None)
    assert_refused(config, ConfigError, "output_at: gauges", "none")
    run(change_config(config, output_at="reaches"))


def test_a_file_whose_steady_start_is_refused_is_let_go(config):
    """Whatever fails while starting, forcing file and threads are closed: the file can be replaced and used."""
    with pytest.raises(StateError), simulated(change_config(config, initial_state="none.nc")):
        pass
    (config.parent / "forcing.nc").unlink()
    write_forcing(
        config.parent / "forcing.nc", case_forcing(9, N_CELLS), DAY, np.array([f"c{i}" for i in range(N_CELLS)])
    )
    run(config)


# ---- what is written -------------------------------------------------------------------------------------

FLUXES = ("runoff", "evapotranspiration", "snowmelt", "routed_flow")
STORES = ("production_store", "snowpack", "routing_store")


def stepped(config, names):
    """The variables step by step through BMI, float64[time, n]."""
    rows = {n: [] for n in names}
    with opened(config) as component:
        while component.get_current_time() < component.get_end_time():
            component.update()
            for n in names:
                rows[n].append(component.get_value_ptr(variable(n).name).copy())
    return {n: np.array(v) for n, v in rows.items()}


@pytest.mark.slow
@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("names", [FLUXES, STORES, FLUXES + STORES], ids=["fluxes", "stores", "both"])
def test_cells(tmp_path, step, names):
    config = write_case(
        tmp_path, step=step, snow="cemaneige", output="run.nc", output_at="cells", output_variables=list(names)
    )
    run(config)
    expected = stepped(config, names)
    for name in names:
        starts, ids, values = read_output(tmp_path / "run.nc", name)
        assert ids == [f"c{i}" for i in range(N_CELLS)]
        assert starts[0] == START and len(starts) == N_STEPS[step]
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
        with netCDF4.Dataset(tmp_path / "run.nc") as dataset:
            assert dataset.variables[name].units == variable(name).units
    assert (expected[names[0]] > 0).any()
    assert not partial_path(tmp_path / "run.nc").exists()


@pytest.mark.parametrize("names", [("discharge",), ("discharge", "lateral_inflow"), ("reach_storage", "discharge")])
@pytest.mark.parametrize("at", ["gauges", "reaches", ["r7", "r0", "r33"]], ids=["gauges", "reaches", "ids"])
def test_reaches(tmp_path, names, at):
    config = write_case(tmp_path, output="deep/er/run.nc", output_at=at, output_variables=list(names))
    run(config)
    expected = stepped(config, names)
    with simulated(config) as simulation:
        domain = simulation.model.domain
        place = {reach: i for i, reach in enumerate(domain.reaches.id)}
    wanted = {"gauges": domain.gauges.id, "reaches": domain.reaches.id}.get(at) if isinstance(at, str) else at
    index = {"gauges": domain.gauges.reach, "reaches": np.arange(N_REACHES)}.get(at) if isinstance(at, str) else [
        place[i] for i in at
    ]
    for name in names:
        starts, ids, values = read_output(tmp_path / "deep" / "er" / "run.nc", name)
        assert ids == wanted
        assert len(starts) == N_STEPS[DAY]
        np.testing.assert_array_equal(values, expected[name][:, index])


def test_output_says_what_it_was_made_with(tmp_path):
    run(write_case(tmp_path, output="run.nc", spin_up=1))
    with netCDF4.Dataset(tmp_path / "run.nc") as dataset:
        assert dataset.configuration_spin_up == "1"
        assert dataset.configuration_start == str(START)
        assert "bmi_cdlm" in dataset.source


def test_an_old_output_is_replaced_at_the_end_only(tmp_path):
    config = write_case(tmp_path, output="run.nc")
    (tmp_path / "run.nc").write_bytes(OLD)
    with simulated(config) as simulation:
        def stop(steps):
            assert (tmp_path / "run.nc").read_bytes() == OLD
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            simulation.run(stop)
    assert (tmp_path / "run.nc").read_bytes() == OLD
    assert partial_path(tmp_path / "run.nc").exists()
    run(config)
    assert len(read_output(tmp_path / "run.nc", "discharge")[0]) == N_STEPS[DAY]
    assert not partial_path(tmp_path / "run.nc").exists()


def test_progress_counts_every_step(tmp_path):
    seen = []
    with simulated(write_case(tmp_path, step=HOUR)) as simulation:
        simulation.block_length = lambda *_: 7
        simulation.run(seen.append)
    assert seen == [7, 7, 7, 7, 3]


def test_a_run_without_output_writes_nothing(tmp_path):
    config = write_case(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    run(config)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_restart_is_written_at_the_end_and_used(tmp_path):
    config = write_case(tmp_path, output="run.nc", restart="states/end.nc")
    run(config)
    with simulated(config) as simulation:
        simulation.run()
        expected = simulation.snapshot()
    resumed = change_config(config, initial_state="states/end.nc", restart_mode="hot_start", restart=None)
    with simulated(resumed) as simulation:
        found = simulation.model.state.arrays()
        totals = {n for n in found if n.endswith(("_total", "_at_start"))}
        saved = {**expected.cell, **expected.reach}
        assert_same({n: found[n] for n in found if n not in totals}, {n: saved[n] for n in found if n not in totals})


def test_spin_up_goes_through_the_first_year(tmp_path):
    """As often as asked, then the clock and the ledger start anew; the state is that of the runs one after another."""
    config = write_case(tmp_path)
    with simulated(change_config(config, spin_up=2)) as spun, simulated(config) as plain:
        for _ in range(2):
            plain.model.advance(plain.read_forcing(0, N_STEPS[DAY]))
        assert spun.elapsed == 0
        found, expected = spun.model.state.arrays(), plain.model.state.arrays()
        for name in found:
            if name.endswith("_total"):
                assert (found[name] == 0).all() and (expected[name].any() or "added" in name)
            elif not name.endswith("_at_start"):
                np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_reset_starts_again(tmp_path):
    config = write_case(tmp_path, spin_up=1)
    with simulated(config) as simulation, simulated(config) as fresh:
        parameters = dict(simulation.model.parameters)
        simulation.run()
        simulation.reset({**parameters, "production_capacity": parameters["production_capacity"] * 2})
        assert simulation.elapsed == 0
        simulation.run()
        assert (simulation.model.live["discharge"] != fresh.model.live["discharge"]).any()
        simulation.reset(parameters)
        assert_same(simulation.model.live, fresh.model.live)


def test_the_steady_start_is_steady(tmp_path):
    """Every reach gives what its sub-tree gets, so a run under that runoff would not change it."""
    with simulated(write_case(tmp_path)) as simulation:
        model = simulation.model
        below, flow = model.domain.reaches.downstream, model.live["discharge"]
        runoff = np.zeros(N_REACHES)
        with simulated(tmp_path / "case.yaml") as other:
            series = other.model.advance(other.read_forcing(0, N_STEPS[DAY]), ["lateral_inflow"])["lateral_inflow"]
        runoff += series.mean(axis=0)
        expected = runoff.copy()
        for i in range(N_REACHES):
            if below[i] >= 0:
                expected[below[i]] += expected[i]
        np.testing.assert_allclose(flow, expected, rtol=1e-12)


# ---- no number -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "when"), [
    ("256 MiB", "in the step from 2001-03-07T00:00:00"), ("1 MB", "in the steps? from 2001-03-0"),
])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy says so too in the interpreted mode
def test_the_first_value_that_is_none_stops_the_run(tmp_path, monkeypatch, memory, when):
    """Place, step and inputs are named; what was written before is there."""
    config = write_case(tmp_path, output="run.nc", memory=memory)
    read = Simulation.read_forcing

    def flood(self, first, count):
        forcing = read(self, first, count)
        if 0 < first <= 6 < first + count:  # not what the steady start reads
            forcing.precipitation[6 - first, 3] = 1e308
        return forcing

    monkeypatch.setattr(Simulation, "block_length", lambda *_: 4)
    monkeypatch.setattr(Simulation, "read_forcing", flood)
    with pytest.raises(NotFiniteError, match=rf"of cell c3 is NaN or infinite {when}.*precipitation .*1e\+308"):
        run(config)
    assert not (tmp_path / "run.nc").exists()
    starts, _, values = read_output(tmp_path / "run.nc", "discharge")
    assert starts.size == 4 and np.isfinite(values).all()


def test_a_caller_gets_it_too(tmp_path):
    with opened(write_case(tmp_path)) as component:
        component.update()
        component._stepper.simulation.model.state.reach[5] = np.nan
        with pytest.raises(NotFiniteError, match=r"of reach .* in the step from 2001-03-02.*precipitation"):
            component.update()
