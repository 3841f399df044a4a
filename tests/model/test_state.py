"""State and restart files: nothing is lost, nothing is taken that does not fit."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from make_domain import random_domain, random_forcing, random_parameters
from operator_cases import chain_of

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.files.restart import FORMAT, READ, Restart, read_restart, write_restart
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.parameter_set import ParameterSet
from bmi_cdlm.model.state import State, new_state
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.cemaneige import CEMANEIGE_HYSTERESIS
from bmi_cdlm.processes.gr4j import GR4J

TIME = np.datetime64("2012-08-01T06:00:00", "s")
QUEUES = ("unit_hydrograph_1", "unit_hydrograph_2")
RUNOFF = 1
"""Its place in the chain."""
COMPONENTS = pytest.mark.parametrize("components", [{}, {"cemaneige_hysteresis": 2, "gr4j": 3}], ids=["one", "several"])


def cold_start(n_cells=3, n_reaches=4, components=None) -> tuple[State, dict[str, np.ndarray], Domain]:
    """A state of snow with hysteresis and GR4J; the parameters and the domain that it starts from."""
    domain = random_domain(0, n_reaches, n_cells, n_links=n_reaches)
    operators = Operators(chain_of(CEMANEIGE_HYSTERESIS, GR4J), domain, DAY, HOUR, components=components)
    parameters = ParameterSet(operators, random_parameters(0, domain))
    return new_state(operators, parameters.cells), parameters.values, domain


def filled_state(n_cells=3, n_reaches=4, places=(2, 3), seed=0, components=None) -> State:
    state, rng = cold_start(n_cells, n_reaches, components)[0], np.random.default_rng(seed)
    state = state.with_places(dict(zip(QUEUES, places, strict=True)))
    for values in state.arrays().values():
        values[...] = rng.exponential(1.0, values.shape)
    assert tuple(state.queues()) == QUEUES
    for queue, n in zip(state.queues().values(), places, strict=True):
        assert queue.shape[0] == n
        queue[-1] = 0.0  # after a step the last place is empty
    return state


def restart_of(state: State, **attributes: str) -> Restart:
    cells, reaches = state.added_total.size, state.reach.size
    return Restart(
        state.on_cells(), state.on_reaches(), [f"c{i}" for i in range(cells)], [f"r{i}" for i in range(reaches)],
        attributes, TIME,
    )


@COMPONENTS
def test_a_new_state_is_empty_but_for_the_stores_that_start_filled(components):
    state, values, domain = cold_start(components=components)
    arrays = state.arrays()
    expected = {
        "production_store": 0.3 * values["production_capacity"], "routing_store": 0.5 * values["routing_capacity"],
        "snow_peak": values["cover_ratio_threshold"] * domain.cells.mean_annual_snowfall,
    }
    for name, filled in expected.items():
        assert np.array_equal(arrays.pop(name), filled) and filled.any(), name
    assert not any(values.any() for values in arrays.values())


@COMPONENTS
def test_arrays_are_views_and_named_once(components):
    state = filled_state(components=components)
    groups = (*state.cells, state.totals)
    assert [len(g) for g in groups] == [4, 4, 4]
    assert len(state.arrays()) == sum(len(g) for g in groups) + 7
    for name, values in state.arrays().items():
        values[...] = 7.0
        owner = next((g for g in groups if hasattr(g, name)), state)
        assert (getattr(owner, "reach" if name == "reach_flow" else name) == 7.0).all(), name


@COMPONENTS
def test_a_copy_is_independent(components):
    state = filled_state(components=components)
    copy = state.copy()
    for ours, theirs in zip(state.arrays().values(), copy.arrays().values(), strict=True):
        assert np.array_equal(ours, theirs)
        ours += 1
        assert not np.shares_memory(ours, theirs) and not np.array_equal(ours, theirs)


@COMPONENTS
def test_assign_takes_over_in_place(components):
    state, other = (filled_state(seed=seed, components=components) for seed in (0, 1))
    addresses = [values.ctypes.data for values in state.arrays().values()]
    state.assign(other.arrays())
    assert addresses == [values.ctypes.data for values in state.arrays().values()]
    for ours, theirs in zip(state.arrays().values(), other.arrays().values(), strict=True):
        assert np.array_equal(ours, theirs) and not np.shares_memory(ours, theirs)


def test_a_state_that_does_not_fit_changes_nothing():
    state = filled_state()
    before = state.copy()
    wrong = filled_state(seed=1).arrays() | {"outflow_total": np.ones(9)}
    with pytest.raises(StateError, match=r"'outflow_total' has shape \(9,\), expected \(4,\)\. Use a state of this"):
        state.assign(wrong)
    del wrong["outflow_total"]
    with pytest.raises(StateError, match="state lacks 'outflow_total'"):
        state.assign(wrong)
    for ours, theirs in zip(state.arrays().values(), before.arrays().values(), strict=True):
        assert np.array_equal(ours, theirs)


def test_clearing_the_ledger_leaves_the_water():
    state = filled_state()
    before = state.copy()
    state.clear_totals()
    for name, values in state.arrays().items():
        if name.endswith("_total") or name == "unreleased":
            assert not values.any(), name
        else:
            assert np.array_equal(values, before.arrays()[name]), name


@COMPONENTS
def test_a_longer_queue_keeps_its_water(components):
    short, long = (filled_state(places=places, components=components) for places in ((2, 3), (5, 9)))
    long.assign(short.arrays())
    for name in QUEUES:
        ours, theirs = getattr(long.cells[RUNOFF], name), getattr(short.cells[RUNOFF], name)
        assert np.array_equal(ours[: len(theirs)], theirs) and not ours[len(theirs):].any()


@COMPONENTS
def test_a_shorter_queue_takes_what_fits_and_refuses_to_lose_water(components):
    long, short = (filled_state(places=places, components=components) for places in ((5, 9), (2, 3)))
    with pytest.raises(StateError, match=r"'unit_hydrograph_1' holds water up to 4 steps ahead.* reach 1\. Take"):
        short.assign(long.arrays())
    long.cells[RUNOFF].unit_hydrograph_1[1:] = 0
    long.cells[RUNOFF].unit_hydrograph_2[3:] = 0
    with pytest.raises(StateError, match=r"'unit_hydrograph_2' holds water up to 3 steps ahead.* reach 2\. Take"):
        short.assign(long.arrays())  # the next step would overwrite the last place
    long.cells[RUNOFF].unit_hydrograph_2[2:] = 0
    short.assign(long.arrays())
    assert np.array_equal(short.cells[RUNOFF].unit_hydrograph_2, long.cells[RUNOFF].unit_hydrograph_2[:3])


@pytest.mark.parametrize(("old", "new"), [(1.7, 4.0), (4.0, 1.7), (4.0, 3.5), (0.4, 2.0)])
def test_another_unit_hydrograph_releases_the_old_water_on_its_old_schedule(old, new):
    """X4 changes at a restart: without rain, what stood in the queue comes out unchanged, or the state is refused."""
    domain = random_domain(3, 5, 4, n_links=10)
    before = Model(domain, random_parameters(0, domain) | {"unit_hydrograph_base": np.array(old)})
    before.advance(random_forcing(1, 20, 4))
    after = Model(domain, before.parameters | {"unit_hydrograph_base": np.array(new)})
    if np.ceil(new) < np.ceil(old) or np.ceil(2 * new) < np.ceil(2 * old):
        with pytest.raises(StateError, match="holds water up to"):
            after.state.assign(before.state.arrays())
        for name, queue in before.state.queues().items():  # as after enough dry steps
            queue[len(after.state.queues()[name]) - 1:] = 0.0
    after.state.assign(before.state.arrays())
    for model in (before, after):
        model.state.cells[-1].production_store[:] = 0
    dry = random_forcing(1, 12, 4)._replace(precipitation=np.zeros((12, 4)))
    one, two = (m.advance(dry, keep=("routed_flow", "direct_flow")) for m in (before, after))
    for name in one:
        assert np.array_equal(one[name], two[name])
    assert old < 0.5 or one["direct_flow"].any()


@COMPONENTS
def test_a_restart_file_holds_every_bit(tmp_path, components):
    state = filled_state(components=components)
    state.cells[RUNOFF].production_store[:3] = [1 / 3, 5e-324, -0.0]
    state.reach[:] = [9.969209968386869e36, 1e-300, 0.1, 2.0]  # the first is the library's own fill value
    write_restart(tmp_path / "restart.nc", restart_of(state, domain="abc"))
    found = read_restart(tmp_path / "restart.nc", ["c0", "c1", "c2"], ["r0", "r1", "r2", "r3"])
    assert found.cell.keys() == state.on_cells().keys() and found.reach.keys() == state.on_reaches().keys()
    for name, values in state.arrays().items():
        assert (found.cell | found.reach)[name].tobytes() == values.tobytes(), name
    assert found.time == TIME and found.attributes["domain"] == "abc" and found.attributes["format"] == FORMAT
    assert [p.name for p in tmp_path.iterdir()] == ["restart.nc"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "restart.nc"
    write_restart(path, restart_of(filled_state(seed=0)))
    content = path.read_bytes()
    broken = restart_of(filled_state(seed=1))
    broken.reach["outflow_total"] = np.zeros((2, 2, 2))
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        write_restart(path, broken)
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == ["restart.nc"]


def test_ids_bring_a_file_into_the_order_of_the_domain(tmp_path):
    state = filled_state()
    write_restart(tmp_path / "restart.nc", restart_of(state))
    found = read_restart(tmp_path / "restart.nc", ["c2", "c0"], ["r3", "r1"])
    assert np.array_equal(found.cell["production_store"], state.cells[RUNOFF].production_store[[2, 0]])
    assert np.array_equal(found.cell["unit_hydrograph_2"], state.cells[RUNOFF].unit_hydrograph_2[:, [2, 0]])
    assert np.array_equal(found.reach["reach_flow"], state.reach[[3, 1]])


def test_a_sub_basin_starts_from_the_file_of_the_whole_domain(tmp_path):
    """A basin cut out at a gauge, with the whole domain's state by ids, discharges what it did in the whole."""
    whole = random_domain(8, 60, 20)
    # The gauge with the most above it; the cells that drain there.
    reach = int(max(whole.gauges.reach, key=lambda i: upstream_of(whole.reaches.downstream, i)[1] - upstream_of(
        whole.reaches.downstream, i)[0]))
    lo, hi = upstream_of(whole.reaches.downstream, reach)
    below = whole.reaches.downstream[lo:hi] - lo
    below[-1] = -1
    part = whole._replace(
        reaches=whole.reaches._replace(
            id=whole.reaches.id[lo:hi], downstream=below,
            **{f: getattr(whole.reaches, f)[lo:hi] for f in ("length", "slope", "area", "upstream_area", "lon", "lat")},
        ),
        links=whole.links._replace(
            first=whole.links.first[lo:hi + 1] - whole.links.first[lo],
            cell=whole.links.cell[whole.links.first[lo]:whole.links.first[hi]],
            area=whole.links.area[whole.links.first[lo]:whole.links.first[hi]],
        ),
        gauges=whole.gauges._replace(id=[], name=[], reach=np.zeros(0, np.int64), area=np.zeros(0)),
    )
    assert hi - lo > 5
    parameters = random_parameters(1, whole)
    cut = {k: v[lo:hi] if k in ("celerity", "weighting") else v for k, v in parameters.items()}
    first, second, forcing = Model(whole, parameters), Model(part, cut), random_forcing(2, 12, 20)
    first.advance(forcing)
    reach_arrays = {**first.state.on_reaches(), "reach_storage": first.live["reach_storage"]}
    write_restart(tmp_path / "r.nc", Restart(
        first.state.on_cells(), reach_arrays, whole.cells.id, whole.reaches.id, {}, TIME
    ))
    found = read_restart(tmp_path / "r.nc", part.cells.id, part.reaches.id)
    second.restore(found.cell, found.reach)
    ours, theirs = (m.advance(forcing, keep=("discharge",))["discharge"].copy() for m in (second, first))
    assert ours.tobytes() == np.ascontiguousarray(theirs[:, lo:hi]).tobytes()


@pytest.mark.parametrize(("cells", "reaches", "message"), [
    (["c0", "c9"], ["r0"], r"restart\.nc: .*c9.*\(1 of 2 are missing\)"),
    (["c0"], ["r8", "r9"], r"restart\.nc: .*r8.*\(2 of 2 are missing\)"),
])
def test_missing_ids(tmp_path, cells, reaches, message):
    write_restart(tmp_path / "restart.nc", restart_of(filled_state()))
    with pytest.raises(StateError, match=message):
        read_restart(tmp_path / "restart.nc", cells, reaches)


def test_format_2_is_read(tmp_path, monkeypatch):
    """Files that an older version itself wrote are read in test_old_files."""
    assert READ == ("bmi_cdlm restart 2", FORMAT) and FORMAT == "bmi_cdlm restart 3"
    path, state = tmp_path / "restart.nc", filled_state()
    old = restart_of(state, domain="abc")
    old.reach["reach_storage_time"] = np.array([0.0, 3600.0, 1e5, 7.0])
    with monkeypatch.context() as patch:
        patch.setattr("bmi_cdlm.files.restart.FORMAT", READ[0])
        write_restart(path, old)
    found = read_restart(path, ["c2", "c0"], ["r3", "r1"])
    assert found.cell.keys() == state.on_cells().keys()
    assert found.reach.keys() == {*state.on_reaches(), "reach_storage"}
    for name, values in found.cell.items():
        assert values.tobytes() == state.on_cells()[name][..., [2, 0]].tobytes(), name
    for name, values in state.on_reaches().items():
        assert found.reach[name].tobytes() == values[[3, 1]].tobytes(), name
    assert np.array_equal(found.reach["reach_storage"], state.reach[[3, 1]] * [7.0, 3600.0])
    assert found.time == TIME and found.attributes.items() >= {
        "format": READ[0], "domain": "abc", "runoff": "gr4j", "routing": "muskingum", "components": "1",
    }.items()


@pytest.mark.parametrize("found", ["bmi_cdlm restart 1", "bmi_cdlm restart 9", None])
def test_an_unknown_format(tmp_path, found):
    path = tmp_path / "restart.nc"
    write_restart(path, restart_of(filled_state()))
    with netCDF4.Dataset(path, "a") as dataset:
        if found:
            dataset.format = found
        else:
            dataset.delncattr("format")
    with pytest.raises(StateError, match=rf"format is '{found or 'none'}', expected 'bmi_cdlm restart 3'\. Use a"):
        read_restart(path, ["c0"], ["r0"])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off(tmp_path, share):
    path = tmp_path / "restart.nc"
    write_restart(path, restart_of(filled_state(n_cells=200)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for source in (path, path.read_bytes()):
        with pytest.raises(StateError, match=r"sha256|cannot be read|are no state|no such"):
            read_restart(source, ["c0"], ["r0"])


def test_ids_of_any_script(tmp_path):
    state = filled_state()
    ids = ["größte", "河", "c 3"]
    write_restart(tmp_path / "restart.nc", restart_of(state)._replace(cell_id=ids))
    found = read_restart(tmp_path / "restart.nc", ids[::-1], ["r0"])
    assert np.array_equal(found.cell["production_store"], state.cells[RUNOFF].production_store[::-1])


def test_no_file(tmp_path):
    with pytest.raises(StateError, match=r"nowhere\.nc: there is no such file"):
        read_restart(tmp_path / "nowhere.nc", [], [])
