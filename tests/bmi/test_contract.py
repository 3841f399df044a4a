"""Every function of BMI 2.0, in every profile: names, sizes, live values, setters, grids, life cycle."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from bmipy import Bmi
from cases import DEPTH, GAUGE_Q, N_CELLS, N_GAUGES, N_REACHES, N_STEPS, P, Q, opened, write_case

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.bmi.component import BmiValueError
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.netcdf import same_units
from bmi_cdlm.names.errors import ClockError, ConfigError, DomainError, LifecycleError, StateError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import VARIABLES, variable
from bmi_cdlm.run.config import load_config

SIZES = {"cell": N_CELLS, "reach": N_REACHES, "gauge": N_GAUGES, "domain": 1}
PROFILES = [
    {"step": DAY}, {"step": HOUR, "snow": "cemaneige"}, {"step": DAY, "grid_profile": "points", "name_profile": "ngen"},
    {"step": HOUR, "snow": "cemaneige_hysteresis", "grid_profile": "points", "name_profile": "ngen"},
    {"step": DAY, "forcing": "caller", "snow": "cemaneige", "name_profile": "ngen"},
]


@pytest.fixture(params=PROFILES, ids=lambda p: "-".join(str(v) for v in p.values()))
def profile(request, tmp_path):
    """Configuration keys and the component."""
    config = write_case(tmp_path, **request.param)
    with opened(config) as component:
        yield load_config(config), component


@pytest.fixture(params=["unstructured", "points"])
def component(request, tmp_path):
    with opened(write_case(tmp_path, snow="cemaneige", grid_profile=request.param)) as found:
        yield found


@pytest.fixture
def meshed(tmp_path):
    """Cells as faces, reaches with edges."""
    with opened(write_case(tmp_path, snow="cemaneige")) as found:
        yield found


def offered(config):
    """Registry entries that a run without a checkpoint has."""
    processes = {"gr4j", config.snow}
    inputs = {"precipitation", "potential_evapotranspiration", "air_temperature"}
    inputs -= {"air_temperature"} if config.snow == "none" else set()
    return [
        v for v in VARIABLES
        if (v.short in inputs if v.role == "input" else v.part == "core" or bool(processes & set(v.of)))
    ]


def entries(config):
    """Registry entry and published name and unit of every variable that must be there."""
    found = {}
    for v in offered(config):
        alias = v.ngen if config.name_profile == "ngen" and v.role == "input" and v.ngen else v
        found[alias.name] = (v, alias.units)
    return found


def test_names_and_units_answer_before_the_first_update(profile):
    config, component = profile
    expected = entries(config)
    inputs, outputs = component.get_input_var_names(), component.get_output_var_names()
    assert isinstance(inputs, tuple) and isinstance(outputs, tuple)
    assert set(inputs) == {n for n, (v, _) in expected.items() if v.role == "input"}
    assert set(outputs) == {n for n, (v, _) in expected.items() if v.role != "input"}
    assert component.get_input_item_count() == len(inputs)
    assert component.get_output_item_count() == len(outputs)
    assert component.get_component_name()
    for name, (v, units) in expected.items():
        assert component.get_var_units(name) == units
        assert same_units(units, units + " ")  # UDUNITS reads it
        assert component.get_var_type(name) == "float64"
        assert component.get_var_itemsize(name) == 8
        assert component.get_var_nbytes(name) == 8 * SIZES[v.grid]
        assert component.get_var_grid(name) == list(SIZES).index(v.grid)
        kind = "face" if v.grid == "cell" else "node"
        expected_place = "node" if kind == "face" and config.grid_profile == "points" else kind
        assert component.get_var_location(name) == expected_place


def test_values_are_live_and_their_own(profile):
    config, component = profile
    names = (*component.get_input_var_names(), *component.get_output_var_names())
    pointers = {n: component.get_value_ptr(n) for n in names}
    for name, values in pointers.items():
        assert values.dtype == np.float64 and values.ndim == 1 and values.flags.writeable
        assert values.size == component.get_var_nbytes(name) // 8
        assert values.flags.owndata, name
        assert values.flags.c_contiguous
    for a in names:
        for b in names:
            assert a == b or not np.shares_memory(pointers[a], pointers[b])
    for name in component.get_input_var_names():
        component.set_value(name, np.full(N_CELLS, 280.0 if component.get_var_units(name) == "K" else 1e-4))
    component.update()
    component.update_until(3 * component.get_time_step())
    for name in component.get_input_var_names():
        component.set_value(name, pointers[name] + 0.0)
    component.update_until(4 * component.get_time_step())
    for name, values in pointers.items():
        assert component.get_value_ptr(name) is values
        dest = np.full(values.size, -7.0)
        assert component.get_value(name, dest) is dest
        np.testing.assert_array_equal(dest, values)
    assert (pointers[Q] > 0).any()
    del config


def test_get_value_fills_what_it_is_given(component):
    component.update()
    live = component.get_value_ptr(Q)
    for dest in (np.empty(N_REACHES, np.float32), np.empty((N_REACHES, 1)), np.empty(2 * N_REACHES)[::2]):
        assert component.get_value(Q, dest) is dest
        np.testing.assert_array_equal(dest.ravel(), live.astype(dest.dtype))
    places = np.array([5, 0, 5], np.int32)
    dest = np.zeros(3)
    assert component.get_value_at_indices(Q, dest, places) is dest
    np.testing.assert_array_equal(dest, live[[5, 0, 5]])
    copy = component.get_value(Q, np.empty(N_REACHES))
    copy += 1.0
    assert not (component.get_value_ptr(Q) == copy).any()


@pytest.mark.parametrize(
    "dest",
    [np.empty(N_REACHES - 1), np.empty(1), np.empty(N_REACHES, int), [0.0] * N_REACHES, np.empty(N_REACHES, bool)],
    ids=["short", "one", "integers", "list", "bool"],
)
def test_a_buffer_that_cannot_hold_the_values_is_refused(component, dest):
    with pytest.raises(BmiValueError, match="dest"):
        component.get_value(Q, dest)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([-1], "index -1 .* 0 to 39"), ([0, N_REACHES], "index 40"), ([0.0], "float64"), ([True], "bool"),
        ([1.5], "integers"),
    ],
)
def test_indices_are_checked(component, places, message):
    before = component.get_value_ptr(P).copy()
    with pytest.raises(BmiValueError, match=message):
        component.get_value_at_indices(Q, np.empty(len(places)), np.array(places))
    with pytest.raises(BmiValueError):
        component.set_value_at_indices(P, np.array(places), np.ones(len(places)))
    np.testing.assert_array_equal(component.get_value_ptr(P), before)


def test_indices_and_values_must_be_as_many(component):
    with pytest.raises(BmiValueError, match="holds 1 values, expected 2"):
        component.get_value_at_indices(Q, np.empty(1), np.array([0, 1]))
    with pytest.raises(BmiValueError, match="holds 3 values, expected 2"):
        component.set_value_at_indices(P, np.array([0, 1]), np.ones(3))
    assert component.get_value_at_indices(Q, np.empty(0), np.array([])).size == 0


def test_setters_copy_cast_and_check(component):
    live = component.get_value_ptr(P)
    source = np.arange(N_CELLS, dtype=np.float64)
    component.set_value(P, source)
    source += 100
    np.testing.assert_array_equal(live, np.arange(N_CELLS))
    for dtype in (np.int32, np.int64, np.float32, np.uint8):
        component.set_value(P, np.full(N_CELLS, 3, dtype))
        assert (live == 3.0).all()
        live[:] = 0
    component.set_value(P, np.ones((N_CELLS, 1)))
    assert (live == 1.0).all()
    component.set_value_at_indices(P, np.array([2, 4], np.int32), np.array([7, 8]))
    np.testing.assert_array_equal(live[:5], [1, 1, 7, 1, 8])
    kept = live.copy()
    for wrong in (np.ones(N_CELLS + 1), np.ones(1), 3.0, np.ones(0)):
        with pytest.raises(BmiValueError, match="expected 25"):
            component.set_value(P, wrong)
    np.testing.assert_array_equal(live, kept)
    component.set_value(P, live)
    np.testing.assert_array_equal(live, kept)


def test_a_store_can_be_set_and_a_flux_cannot(component):
    store = variable("production_store").name
    component.set_value(store, np.full(N_CELLS, 1.0))  # X1 is 1 or more
    component.set_value(variable("snowpack").name, np.zeros(N_CELLS))
    assert (component.get_value_ptr(store) == 1.0).all()
    with opened_twin(component) as twin:
        component.update()
        twin.update()
        assert (component.get_value_ptr(variable("runoff").name) != twin.get_value_ptr(variable("runoff").name)).any()
    for short in ("discharge", "runoff", "water_in", "cell_water_stored", "gauge_discharge"):
        name = variable(short).name
        with pytest.raises(BmiValueError, match="derives"):
            component.set_value(name, component.get_value_ptr(name).copy())
        with pytest.raises(BmiValueError, match="derives"):
            component.set_value_at_indices(name, np.array([0]), np.array([1.0]))


@pytest.mark.parametrize(("short", "value"), [
    ("production_store", -1e-9), ("production_store", np.nan), ("production_store", 1e6), ("routing_store", np.inf),
    ("routing_store", -1.0), ("snowpack", np.nan),
])
def test_a_store_cannot_be_set_to_what_it_cannot_hold(component, short, value):
    name = variable(short).name
    before = component.get_value_ptr(name).copy()
    wrong = before.copy()
    wrong[3] = value
    with pytest.raises(StateError, match=r"at cell c3 \(1 of 25 cells\), expected 0 to"):
        component.set_value(name, wrong)
    with pytest.raises(StateError, match=r"at cell c3 \(1 of 1 cells\)"):
        component.set_value_at_indices(name, np.array([3]), np.array([value]))
    np.testing.assert_array_equal(component.get_value_ptr(name), before)
    component.set_value_at_indices(name, np.array([3]), np.array([0.0]))
    component.update()


def opened_twin(component):
    return opened(component._stepper.simulation.config.domain.parent / "case.yaml")


def test_an_unknown_name_is_a_key_error_that_names_the_nearest(component):
    buffer = np.empty(N_REACHES)
    calls = [
        lambda n: component.get_value(n, buffer), component.get_value_ptr, component.get_var_units,
        component.get_var_grid, component.get_var_type, component.get_var_itemsize, component.get_var_nbytes,
        component.get_var_location, lambda n: component.set_value(n, buffer),
        lambda n: component.get_value_at_indices(n, buffer, np.arange(40)),
        lambda n: component.set_value_at_indices(n, np.arange(40), buffer),
    ]
    for call in calls:
        with pytest.raises(UnknownNameError, match=f"Did you mean '{Q}'"):
            call(Q.replace("volume", "volme"))
        with pytest.raises(KeyError, match="no variable"):
            call("")
        with pytest.raises(KeyError, match="no variable"):
            call(None)


def test_one_name_per_input(tmp_path):
    with opened(write_case(tmp_path, name_profile="ngen")) as component:
        with pytest.raises(UnknownNameError):
            component.get_value_ptr(P)
        component.get_value_ptr("atmosphere_water__liquid_equivalent_precipitation_rate")
        assert "land_surface_air__temperature" not in component.get_input_var_names()  # no snow, no temperature


def test_an_unknown_grid_is_refused(component):
    for grid in (-1, 4, 99):
        for call in (component.get_grid_rank, component.get_grid_size, component.get_grid_type,
                     component.get_grid_node_count, component.get_grid_edge_count, component.get_grid_face_count):
            with pytest.raises(UnknownNameError, match=f"no grid {grid}"):
                call(grid)


def test_times_are_floats_in_seconds(profile):
    config, component = profile
    for call in (component.get_start_time, component.get_current_time, component.get_end_time, component.get_time_step):
        assert type(call()) is float
    assert component.get_start_time() == component.get_current_time() == 0.0
    assert component.get_time_step() == config.time_step
    assert component.get_end_time() == N_STEPS[config.time_step] * config.time_step < 1e15
    assert component.get_time_units() == "s"


# ---- grids -----------------------------------------------------------------------------------------------


def buffers(component, grid):
    """x, y, edge_nodes, nodes_per_face, face_nodes, face_edges: each through its function, which returns its buffer."""
    n, edges, faces = (f(grid) for f in (
        component.get_grid_node_count, component.get_grid_edge_count, component.get_grid_face_count))
    x, y, z = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    assert component.get_grid_x(grid, x) is x
    assert component.get_grid_y(grid, y) is y
    assert component.get_grid_z(grid, z) is z
    assert (z == 0).all()
    ends = np.full(2 * edges, -1, np.int32)
    assert component.get_grid_edge_nodes(grid, ends) is ends
    counts = np.full(faces, -1, np.int32)
    assert component.get_grid_nodes_per_face(grid, counts) is counts
    nodes, sides = np.full(counts.sum(), -1, np.int32), np.full(counts.sum(), -1, np.int32)
    assert component.get_grid_face_nodes(grid, nodes) is nodes
    assert component.get_grid_face_edges(grid, sides) is sides
    return x, y, ends.reshape(-1, 2), counts, nodes, sides


def test_cells_are_faces(meshed):
    assert meshed.get_grid_type(0) == "unstructured"
    assert meshed.get_grid_rank(0) == 2
    x, y, ends, counts, nodes, sides = buffers(meshed, 0)
    assert meshed.get_grid_size(0) == meshed.get_grid_node_count(0) == x.size
    assert meshed.get_grid_face_count(0) == N_CELLS
    assert (counts == 4).all()
    for found in (nodes, ends):
        assert found.min() >= 0 and found.max() < x.size
    assert np.unique(nodes).size == x.size
    assert sides.min() >= 0 and sides.max() < len(ends)
    assert (ends[:, 0] != ends[:, 1]).all()
    assert len(np.unique(np.sort(ends, axis=1), axis=0)) == len(ends)
    corners, around = nodes.reshape(-1, 4), sides.reshape(-1, 4)
    for face in range(N_CELLS):
        for k in range(4):  # side k joins corner k and the next
            assert set(ends[around[face, k]]) == {corners[face, k], corners[face, (k + 1) % 4]}
    area = 0.5 * (x[corners] * np.roll(y[corners], -1, 1) - np.roll(x[corners], -1, 1) * y[corners]).sum(axis=1)
    assert (area > 0).all()  # counter-clockwise
    cells = read_domain(meshed._stepper.simulation.config.domain).cells
    np.testing.assert_allclose(x[corners].mean(axis=1), cells.lon, atol=1e-6)
    np.testing.assert_allclose(y[corners].mean(axis=1), cells.lat, atol=1e-6)
    km2 = area * (6371.0072 * np.pi / 180) ** 2 * np.cos(np.radians(cells.lat))
    np.testing.assert_allclose(km2, cells.area, rtol=1e-4)


def test_reaches_are_nodes_with_edges(meshed):
    domain = meshed._stepper.simulation.model.domain
    assert meshed.get_grid_type(1) == "unstructured"
    assert meshed.get_grid_rank(1) == 2
    x, y, ends, counts, _, _ = buffers(meshed, 1)
    assert meshed.get_grid_size(1) == N_REACHES and counts.size == 0
    np.testing.assert_array_equal(x, domain.reaches.lon)
    np.testing.assert_array_equal(y, domain.reaches.lat)
    assert len(ends) == N_REACHES - domain.outlets.size
    for above, below in ends:
        assert domain.reaches.downstream[above] == below > above


def test_gauges_lie_on_their_reaches(meshed):
    domain = meshed._stepper.simulation.model.domain
    x, y, ends, counts, _, _ = buffers(meshed, 2)
    assert meshed.get_grid_type(2) == "unstructured"
    assert x.size == meshed.get_grid_size(2) == N_GAUGES
    assert len(ends) == counts.size == 0
    np.testing.assert_array_equal(x, domain.reaches.lon[domain.gauges.reach])
    np.testing.assert_array_equal(y, domain.reaches.lat[domain.gauges.reach])
    meshed.update()
    np.testing.assert_array_equal(
        meshed.get_value_ptr(GAUGE_Q), meshed.get_value_ptr(Q)[domain.gauges.reach]
    )


def test_the_domain_is_a_scalar(component):
    assert component.get_grid_type(3) == "scalar"
    assert component.get_grid_rank(3) == 0
    assert component.get_grid_size(3) == component.get_grid_node_count(3) == 1
    assert component.get_grid_edge_count(3) == component.get_grid_face_count(3) == 0


def test_points_profile(tmp_path):
    with opened(write_case(tmp_path, grid_profile="points")) as component:
        domain = component._stepper.simulation.model.domain
        places = {0: (domain.cells.lon, domain.cells.lat), 1: (domain.reaches.lon, domain.reaches.lat)}
        for grid, size in enumerate((N_CELLS, N_REACHES, N_GAUGES)):
            assert component.get_grid_type(grid) == "points"
            assert component.get_grid_size(grid) == component.get_grid_node_count(grid) == size
            assert component.get_grid_edge_count(grid) == component.get_grid_face_count(grid) == 0
            x, y, *_ = buffers(component, grid)
            if grid in places:
                np.testing.assert_array_equal((x, y), places[grid])
        assert component.get_grid_type(3) == "scalar"


def test_structured_functions_and_wrong_buffers_are_refused(component):
    for grid in range(4):
        for call in (component.get_grid_shape, component.get_grid_spacing, component.get_grid_origin):
            with pytest.raises(NotImplementedError, match="grid"):
                call(grid, np.zeros(2))
    with pytest.raises(BmiValueError, match="expected 40"):
        component.get_grid_x(1, np.zeros(39))


def test_every_name_has_its_size_on_its_grid(component):
    for name in (*component.get_input_var_names(), *component.get_output_var_names()):
        grid = component.get_var_grid(name)
        count = {"face": component.get_grid_face_count, "node": component.get_grid_node_count}
        assert component.get_value_ptr(name).size == count[component.get_var_location(name)](grid)


# ---- life cycle ------------------------------------------------------------------------------------------


def calls_of(component):
    """Every function of BMI except initialize, finalize and those that answer always."""
    always = {"initialize", "finalize", "get_component_name", "get_time_units", "get_input_item_count",
              "get_output_item_count", "get_input_var_names", "get_output_var_names"}
    values = {"name": Q, "grid": 1, "time": 86400.0, "inds": np.array([0])}
    for name, function in inspect.getmembers(Bmi, inspect.isfunction):
        if name not in always and not name.startswith("_"):
            keys = [p for p in inspect.signature(function).parameters if p != "self"]
            yield name, [values.get(key, np.zeros(1)) for key in keys]


def assert_unusable(component):
    seen = 0
    for name, arguments in calls_of(component):
        with pytest.raises(LifecycleError, match="initialize"):
            getattr(component, name)(*arguments)
        seen += 1
    assert seen > 30


def test_use_before_and_after(tmp_path):
    config = write_case(tmp_path)
    component = BmiCdlm()
    assert_unusable(component)
    assert component.get_component_name() == "CDLM"
    assert component.get_time_units() == "s"
    assert set(component.get_input_var_names()) == {v.name for v in VARIABLES if v.role == "input"}
    assert component.get_output_item_count() == sum(v.role != "input" for v in VARIABLES)
    component.finalize()
    component.initialize(str(config))
    component.update()
    first = component.get_value_ptr(Q)
    kept = first.copy()
    component.finalize()
    component.finalize()
    assert_unusable(component)
    np.testing.assert_array_equal(first, kept)
    component.initialize(config)
    assert component.get_current_time() == 0.0
    assert component.get_value_ptr(Q) is not first
    component.update()
    np.testing.assert_array_equal(component.get_value_ptr(Q), kept)
    component.initialize(str(config))  # twice without finalize
    assert component.get_current_time() == 0.0
    component.finalize()


def test_a_failing_initialize_changes_nothing(tmp_path):
    good = write_case(tmp_path / "good")
    broken = write_case(tmp_path / "broken", snow="cemaneige")
    (tmp_path / "broken" / "domain.nc").unlink()
    component = BmiCdlm()
    for bad, error in ((broken, DomainError), (tmp_path / "none.yaml", ConfigError)):
        with pytest.raises(error):
            component.initialize(str(bad))
        assert_unusable(component)
    component.initialize(str(good))
    component.update()
    live, kept = component.get_value_ptr(Q), component.get_value_ptr(Q).copy()
    for bad, error in ((broken, DomainError), (tmp_path / "none.yaml", ConfigError)):
        with pytest.raises(error):
            component.initialize(str(bad))
        assert component.get_value_ptr(Q) is live
        np.testing.assert_array_equal(live, kept)
        assert component.get_current_time() == DAY
    component.update()
    assert component.get_current_time() == 2 * DAY
    component.finalize()


def test_before_the_first_update_the_river_flows_and_nothing_else_has(profile):
    config, component = profile
    assert (component.get_value_ptr(Q) >= 0).all()
    assert (component.get_value_ptr(Q) > 0).any()
    domain = component._stepper.simulation.model.domain
    np.testing.assert_array_equal(component.get_value_ptr(GAUGE_Q), component.get_value_ptr(Q)[domain.gauges.reach])
    for v in offered(config):
        if v.role in ("flux", "total") and not v.short.endswith("discharge"):
            assert (component.get_value_ptr(v.name) == 0).all(), v.short
    assert component.get_value_ptr(DEPTH) == 0
    below = domain.reaches.downstream
    flow = component.get_value_ptr(Q)
    for i in np.flatnonzero(below >= 0):
        assert flow[below[i]] >= flow[i] * (1 - 1e-12)  # steady: what comes in goes out, runoff is added


def test_updates_stop_at_the_end(tmp_path):
    with opened(write_case(tmp_path, n_steps=2)) as component:
        component.update()
        component.update()
        after = component.get_value_ptr(Q).copy()
        with pytest.raises(ClockError, match="'end'"):
            component.update()
        np.testing.assert_array_equal(component.get_value_ptr(Q), after)
        assert component.get_current_time() == component.get_end_time() == 2 * DAY
        component.update_until(2 * DAY)
