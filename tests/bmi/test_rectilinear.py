"""Cells on a regular grid as rows and columns, as eWaterCycle wants them: NaN where there is no cell."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import xarray as xr
from cases import (
    COLUMNS,
    N_CELLS,
    ROWS,
    SOUTH,
    SPACING,
    WEST,
    E,
    P,
    Q,
    T,
    change_config,
    opened,
    regular_case,
)

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.bmi.component import BmiValueError
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable

STORE, RUNOFF = variable("production_store").name, variable("runoff").name


@pytest.fixture
def pair(tmp_path):
    """A rectilinear component, its twin of faces, and where the cells lie."""
    config, places = regular_case(tmp_path, snow="cemaneige")
    with opened(config) as grid, opened(change_config(config, grid_profile="unstructured")) as faces:
        yield grid, faces, places


def spread(values, places):
    full = np.full(ROWS * COLUMNS, np.nan)
    full[places] = values
    return full


def test_the_grid(pair):
    grid, _, places = pair
    assert grid.get_grid_type(0) == "rectilinear" and grid.get_grid_rank(0) == 2
    for dtype in (np.int32, np.int64):
        shape = np.zeros(2, dtype)
        assert grid.get_grid_shape(0, shape) is shape
        assert shape.tolist() == [ROWS, COLUMNS]
    np.testing.assert_allclose(grid.get_grid_x(0, np.zeros(COLUMNS)), WEST + SPACING * np.arange(COLUMNS))
    np.testing.assert_allclose(grid.get_grid_y(0, np.zeros(ROWS)), SOUTH + SPACING * np.arange(ROWS))
    assert grid.get_grid_size(0) == grid.get_grid_node_count(0) == ROWS * COLUMNS
    assert grid.get_grid_face_count(0) == grid.get_grid_edge_count(0) == 0
    for call in (grid.get_grid_spacing, grid.get_grid_origin):
        with pytest.raises(NotImplementedError, match="rectilinear"):
            call(0, np.zeros(2))
    for name in (RUNOFF, STORE, P, "production_capacity"):
        assert grid.get_var_nbytes(name) == 8 * ROWS * COLUMNS and grid.get_var_location(name) == "node"
    assert grid.get_grid_type(1) == grid.get_grid_type(2) == "unstructured"
    assert grid.get_var_nbytes(Q) == 8 * 40
    assert places.size == N_CELLS


def test_values_are_those_of_the_cells(pair):
    grid, faces, places = pair
    live = grid.get_value_ptr(RUNOFF)
    names = [n for n in (*grid.get_input_var_names(), *grid.get_output_var_names(), "production_capacity")
             if grid.get_var_grid(n) == 0]
    assert len(names) > 25
    for step in (DAY, 3600, 3 * DAY):
        for component in (grid, faces):
            component.update_until(component.get_current_time() + step)
        np.testing.assert_array_equal(live, spread(faces.get_value_ptr(RUNOFF), places))
        assert grid.get_value_ptr(RUNOFF) is live and not live.flags.writeable
        for name in names:
            expected = spread(faces.get_value_ptr(name), places)
            np.testing.assert_array_equal(grid.get_value(name, np.zeros(ROWS * COLUMNS)), expected)
            dest = grid.get_value_at_indices(name, np.zeros(3), np.array([places[4], 1, places[0]]))
            np.testing.assert_array_equal(dest, expected[[places[4], 1, places[0]]])
        np.testing.assert_array_equal(grid.get_value_ptr(Q), faces.get_value_ptr(Q))


def test_setting_reaches_the_cells(pair):
    grid, faces, places = pair
    rain = np.random.default_rng(3).uniform(0, 20, N_CELLS)
    grid.set_value(P, spread(rain, places))
    faces.set_value(P, rain)
    grid.set_value_at_indices(T, places[[3, 1]], np.array([-5.0, 12.0]))
    faces.set_value_at_indices(T, np.array([3, 1]), np.array([-5.0, 12.0]))
    shown = grid.get_value_ptr(STORE)
    for name in (STORE, "unit_hydrograph_base"):
        half = faces.get_value_ptr(name) * 0.5
        grid.set_value(name, spread(half, places))
        faces.set_value(name, half)
        grid.set_value_at_indices(name, places[:1], half[:1] * 0.5)
        faces.set_value_at_indices(name, np.array([0]), half[:1] * 0.5)
    np.testing.assert_array_equal(shown, spread(faces.get_value_ptr(STORE), places))  # live without an update
    for low_or_high, expected in zip(grid.get_value_bounds(STORE), faces.get_value_bounds(STORE), strict=True):
        np.testing.assert_array_equal(low_or_high, spread(expected, places))
    grid.update()
    faces.update()
    for name in grid.get_output_var_names():
        got, expected = grid.get_value_ptr(name), faces.get_value_ptr(name)
        if grid.get_var_grid(name) == 0:
            expected = spread(expected, places)
        np.testing.assert_array_equal(got, expected, err_msg=name)


def test_a_place_without_a_cell_is_refused(pair):
    grid, _, places = pair
    empty = np.setdiff1d(np.arange(ROWS * COLUMNS), places)[0]
    east = WEST + SPACING * (empty % COLUMNS)
    for name in (P, STORE):
        with pytest.raises(BmiValueError, match=rf"no cell at index {empty}, {east:.6g} degrees"):
            grid.set_value_at_indices(name, np.array([empty]), np.array([1.0]))
    with pytest.raises(BmiValueError, match="holds 25 values, expected 30"):
        grid.set_value(P, np.ones(N_CELLS))
    with pytest.raises(ValueError, match="read-only"):
        grid.get_value_ptr(RUNOFF)[:] = 0.0


def test_a_state_goes_from_grid_to_faces(pair):
    grid, faces, places = pair
    grid.update_until(2 * DAY + 3600)
    live = grid.get_value_ptr(STORE)
    grid.set_value("ngen::serialization_create", [1])
    content = grid.get_value_ptr("ngen::serialization_state").copy()
    faces.set_value("ngen::serialization_state", content)
    np.testing.assert_array_equal(live, spread(faces.get_value_ptr(STORE), places))
    grid.update()
    grid.set_value("ngen::serialization_state", content)
    np.testing.assert_array_equal(live, spread(faces.get_value_ptr(STORE), places))


def test_finalize_and_another_profile(tmp_path):
    config, _ = regular_case(tmp_path)
    component = BmiCdlm()
    component.initialize(str(config))
    component.get_value_ptr(RUNOFF)
    component.initialize(str(change_config(config, grid_profile="points")))
    component.update()
    assert component.get_value_ptr(RUNOFF).size == N_CELLS
    component.finalize()


@pytest.mark.parametrize(("lon", "lat", "message"), [
    (None, None, "rectilinear"), ({0: 3.1101}, {}, "no common lines|spac"),
    ({2: None}, {2: None}, "have one centre"),
])
def test_cells_on_no_grid_are_refused(tmp_path, lon, lat, message):
    config, places = regular_case(tmp_path)
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        if lon is None:
            rng = np.random.default_rng(4)
            dataset["cell_lon"][:], dataset["cell_lat"][:] = rng.uniform(3, 4, N_CELLS), rng.uniform(44, 45, N_CELLS)
        for name, changes in (("cell_lon", lon or {}), ("cell_lat", lat or {})):
            for cell, value in changes.items():
                dataset[name][cell] = dataset[name][cell + 1] if value is None else value
    with pytest.raises(DomainError, match=message), opened(config):
        pass
    assert places.size == N_CELLS


# ---- the calls of eWaterCycle 2.5 (`LocalModel`, and a container over grpc4bmi) -------------------------------------


class Watercycle:
    """What its model class asks of a component: coordinates and shape of the grid, then values in that shape."""

    def __init__(self, config):
        optional = pytest.importorskip("grpc4bmi.bmi_optionaldest", reason="grpc4bmi is not installed")
        self.bmi = optional.OptionalDestBmi(BmiCdlm())
        self.bmi.initialize(str(config))

    def latlon_grid(self, name):
        grid = self.bmi.get_var_grid(name)
        return self.bmi.get_grid_y(grid), self.bmi.get_grid_x(grid), self.bmi.get_grid_shape(grid)

    def as_xarray(self, name):
        import cftime

        lat, lon, shape = self.latlon_grid(name)
        now = cftime.num2pydate(self.bmi.get_current_time(), self.bmi.get_time_units())
        return xr.DataArray(
            self.bmi.get_value(name).reshape(1, *shape), {"time": [now], "latitude": lat, "longitude": lon},
            ["time", "latitude", "longitude"],
        )

    def indices(self, name, lat, lon):
        rows, columns, shape = self.latlon_grid(name)
        nearest = [(np.abs(rows - a).argmin(), np.abs(columns - o).argmin()) for a, o in zip(lat, lon, strict=True)]
        return np.array([np.ravel_multi_index(place, shape) for place in nearest])


def test_ewatercycle(tmp_path):
    config, places = regular_case(tmp_path)
    model = Watercycle(config)
    with opened(change_config(config, grid_profile="points")) as points:
        x, y = points.get_grid_x(0, np.zeros(N_CELLS)), points.get_grid_y(0, np.zeros(N_CELLS))
        lat, lon, shape = model.latlon_grid(RUNOFF)
        assert (len(lat), len(lon)) == tuple(shape) == (ROWS, COLUMNS)
        at = model.indices(E, y[[5, 9]] + 0.004, x[[5, 9]] - 0.004)
        np.testing.assert_array_equal(at, places[[5, 9]])
        model.bmi.set_value_at_indices(E, at, np.array([0.25, 4.5]))
        points.set_value_at_indices(E, np.array([5, 9]), np.array([0.25, 4.5]))
        for component in (model.bmi, points):
            component.update()
        np.testing.assert_array_equal(model.bmi.get_value_at_indices(RUNOFF, at), points.get_value_ptr(RUNOFF)[[5, 9]])
        found = model.as_xarray(RUNOFF)
        assert str(found.time.values[0])[:10] == "2001-03-02" and int(found.isnull().sum()) == ROWS * COLUMNS - N_CELLS
        for cell in range(N_CELLS):
            value = found.isel(time=0).sel(latitude=y[cell], longitude=x[cell], method="nearest")
            assert value == points.get_value_ptr(RUNOFF)[cell]
    model.bmi.finalize()
