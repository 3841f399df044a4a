"""Parameter files: uniform values and arrays, ids in any order, and everything that is refused."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cases import N_CELLS, N_REACHES, SEED, change_config, opened, simulated, write_case, write_parameters
from make_domain import random_domain, random_parameters

from bmi_cdlm.files.netcdf import LIBRARY
from bmi_cdlm.names.errors import ParameterError
from bmi_cdlm.names.parameters import BY_NAME
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.parameter_file import read_parameters


@pytest.fixture(scope="module")
def domain():
    return random_domain(SEED, N_REACHES, N_CELLS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "parameters.nc"


def write(path, name, values, units, dims, **sizes):
    with netCDF4.Dataset(path, "w") as dataset:
        for dim, size in sizes.items():
            dataset.createDimension(dim, size)
        target = dataset.createVariable(name, "f8", dims)
        if units is not None:
            target.units = units
        target[...] = values
    return path


def refused(path, domain, *patterns):
    with pytest.raises(ParameterError) as caught:
        read_parameters(path, domain)
    for pattern in ("parameters.nc", *patterns):
        assert pattern in str(caught.value), str(caught.value)


def test_uniform_values(path, domain):
    values = {"production_capacity": 412.0, "exchange_coefficient": -0.5, "celerity": 0.75}
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.time_step = "1 d"
        for name, value in values.items():
            dataset.createVariable(name, "f8", ())[...] = value
            dataset.variables[name].units = BY_NAME[name].units
    read = read_parameters(path, domain, DAY)
    assert set(read) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(read[name], np.full(N_REACHES if name == "celerity" else N_CELLS, value))
    with pytest.raises(ParameterError, match=r"time_step of '1 d', expected '1 h'"):
        read_parameters(path, domain, HOUR)


def test_arrays_with_ids_come_in_any_order(path, domain):
    values = random_parameters(3, domain)
    cells, reaches = np.random.default_rng(1).permutation(N_CELLS), np.random.default_rng(2).permutation(N_REACHES)
    order = {"cell": cells, "reach": reaches}
    write_parameters(
        path, {n: v[order[BY_NAME[n].grid]] for n, v in values.items()},
        {"cell": [domain.cells.id[i] for i in cells], "reach": [domain.reaches.id[i] for i in reaches]},
    )
    read = read_parameters(path, domain)
    assert set(read) == set(values)
    for name in values:
        np.testing.assert_array_equal(read[name], values[name], err_msg=name)


def test_arrays_without_ids_are_in_the_order_of_the_domain_file(path, domain):
    """Reaches are put in routing order on load: the parameters must follow them."""
    values = random_parameters(3, domain)
    in_file_order = np.empty(N_REACHES)
    in_file_order[domain.file_order] = values["celerity"]
    assert (in_file_order != values["celerity"]).any()
    write_parameters(path, {**values, "celerity": in_file_order, "weighting": np.full(N_REACHES, 0.1)})
    read = read_parameters(path, domain)
    np.testing.assert_array_equal(read["celerity"], values["celerity"])
    np.testing.assert_array_equal(read["melt_factor"], values["melt_factor"])


def test_a_file_of_a_larger_domain_is_cut_by_ids(path, domain):
    capacity = np.arange(N_CELLS + 5.0) + 10
    write_parameters(
        path, {"production_capacity": capacity}, {"cell": [f"x{i}" for i in range(5)] + domain.cells.id}
    )
    np.testing.assert_array_equal(read_parameters(path, domain)["production_capacity"], capacity[5:])


def test_travel_time(path, domain):
    write(path, "travel_time", np.arange(N_REACHES), "s", ("reach",), reach=N_REACHES)
    np.testing.assert_array_equal(read_parameters(path, domain)["travel_time"], domain.file_order)


def test_an_empty_file_leaves_the_defaults(path, domain):
    with netCDF4.Dataset(path, "w"):
        pass
    assert read_parameters(path, domain) == {}


def test_a_missing_or_unreadable_file(path, domain):
    refused(path, domain, "no such file")
    path.write_text("not NetCDF")
    refused(path, domain, "cannot be read as NetCDF")


def test_an_unknown_name(path, domain):
    write(path, "production_capacty", 3.0, "mm", ())
    refused(path, domain, "unknown parameter 'production_capacty'", "Did you mean 'production_capacity'?")


@pytest.mark.parametrize("dims", [(), ("cell",)])
@pytest.mark.parametrize("units", ["m", "mm d-1", "", None, "1"])
def test_other_units(path, domain, dims, units):
    write(path, "production_capacity", 3.0, units, dims, cell=N_CELLS)
    refused(path, domain, "'production_capacity' has", "expected 'mm'")


@pytest.mark.parametrize(
    ("name", "units", "dims"),
    [
        ("exchange_coefficient", "mm d-1", ("cell",)), ("melt_factor", "mm degC-1 d-1", ()),
        ("unit_hydrograph_base", "d", ()),
    ],
)
def test_a_parameter_per_step_has_the_units_of_the_registry(path, domain, name, units, dims):
    write(path, name, 1.0, units, dims, cell=N_CELLS)
    refused(path, domain, f"'{name}' has units '{units}'", BY_NAME[name].units)
    write(path, name, 1.0, BY_NAME[name].units, dims, cell=N_CELLS)
    np.testing.assert_array_equal(read_parameters(path, domain)[name], np.ones(N_CELLS))


def test_the_same_units_in_other_words(path, domain):
    write(path, "celerity", 1.5, "m/s", ("reach",), reach=N_REACHES)
    assert (read_parameters(path, domain)["celerity"] == 1.5).all()


@pytest.mark.parametrize("count", [N_CELLS - 1, N_CELLS + 1])
def test_another_number_of_cells(path, domain, count):
    write(path, "production_capacity", np.full(count, 300.0), "mm", ("cell",), cell=count)
    refused(path, domain, f"'production_capacity' has {count} values, expected {N_CELLS}, one per cell")


@pytest.mark.parametrize("count", [N_REACHES - 1, N_REACHES + 1])
def test_another_number_of_reaches(path, domain, count):
    write(path, "celerity", np.full(count, 1.0), "m s-1", ("reach",), reach=count)
    refused(path, domain, f"'celerity' has {count} values, expected {N_REACHES}, one per reach")


def test_ids_that_are_missing(path, domain):
    write_parameters(path, {"production_capacity": np.full(N_CELLS - 1, 3.0)}, {"cell": domain.cells.id[1:]})
    refused(path, domain, domain.cells.id[0], f"1 of {N_CELLS} are missing")


def test_ids_that_are_double(path, domain):
    ids = [*domain.cells.id, domain.cells.id[3]]
    write_parameters(path, {"production_capacity": np.arange(N_CELLS + 1.0)}, {"cell": ids})
    refused(path, domain, domain.cells.id[3], "more than once")


@pytest.mark.parametrize("dims", [("reach",), ("time",), ("cell", "time"), ("time", "cell")])
def test_another_grid(path, domain, dims):
    write(path, "production_capacity", 3.0, "mm", dims, cell=N_CELLS, reach=N_REACHES, time=2)
    refused(path, domain, "'production_capacity' has dimensions", "expected (cell)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_missing_value(path, domain, value):
    values = np.full(N_CELLS, 300.0)
    values[4] = value
    write(path, "production_capacity", values, "mm", ("cell",), cell=N_CELLS)
    refused(path, domain, "'production_capacity' has 1 missing values", "[4]")


@pytest.mark.parametrize(
    ("name", "value"),
    [("production_capacity", 0.0), ("routing_capacity", -5.0), ("unit_hydrograph_base", -0.1), ("weighting", 0.51),
     ("weighting", -0.01), ("celerity", 0.0), ("production_capacity", np.nan)],
)
@pytest.mark.parametrize("uniform", [True, False])
def test_out_of_range_is_refused_when_the_model_is_made(tmp_path, name, value, uniform):
    config = write_case(tmp_path)
    grid, n = BY_NAME[name].grid, {"cell": N_CELLS, "reach": N_REACHES}[BY_NAME[name].grid]
    values = value if uniform else np.where(np.arange(n) == 3, value, 0.3)
    write(tmp_path / "parameters.nc", name, values, BY_NAME[name].units, () if uniform else (grid,), **{grid: n})
    with pytest.raises(ParameterError, match=f"'{name}'"), simulated(config):
        pass


def test_parameters_reach_the_model(tmp_path):
    config = write_case(tmp_path)
    with simulated(config) as simulation:
        expected = random_parameters(SEED, random_domain(SEED, N_REACHES, N_CELLS), DAY)
        of_snow = {"thermal_weighting", "melt_factor", "accumulation_threshold", "cover_ratio_threshold"}
        assert expected.keys() - simulation.model.parameters.keys() == of_snow  # there, and nobody reads them
        for name, values in expected.items():
            if name not in of_snow:
                np.testing.assert_array_equal(simulation.model.parameters[name], values)
    with simulated(change_config(config, snow="cemaneige_hysteresis")) as simulation:
        for name, values in expected.items():
            np.testing.assert_array_equal(simulation.model.parameters[name], values)
    with simulated(change_config(config, parameters="default")) as simulation:
        assert (simulation.model.parameters["production_capacity"] == 350.0).all()


@pytest.mark.parametrize(("snow", "components"), [("none", 1), ("cemaneige", 1), ("none", 3)])
def test_a_factor_on_evapotranspiration_per_cell_is_used(tmp_path, snow, components):
    """As if the demand were its multiple, step by step and in blocks, through files and BMI."""
    config = write_case(
        tmp_path, snow=snow, components=components, output="run.nc", output_at="cells",
        output_variables=["corrected_evapotranspiration", "pet_factor"],
    )
    factor = np.random.default_rng(4).uniform(0.5, 1.6, N_CELLS)
    with netCDF4.Dataset(tmp_path / "parameters.nc", "a") as dataset:
        dataset.createVariable("pet_factor", "f8", ("cell",)).units = "1"
        dataset["pet_factor"][:] = factor
    with simulated(config) as simulation:
        forcing = simulation.read_forcing(0, simulation.config.n_steps)
        simulation.run()
        flow, held = simulation.model.live["discharge"].copy(), simulation.model.live["pet_factor"].copy()
    np.testing.assert_array_equal(held, factor)
    with netCDF4.Dataset(tmp_path / "run.nc") as dataset:
        product = factor * forcing.potential_evapotranspiration
        rounding = 0.0 if components == 1 else 1e-15  # a mean of what is the same
        np.testing.assert_allclose(dataset["corrected_evapotranspiration"][...], product, rtol=rounding)
        np.testing.assert_array_equal(dataset["pet_factor"][...], np.broadcast_to(factor, product.shape))
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        assert dataset["potential_evapotranspiration"].dtype == np.float64
        dataset["potential_evapotranspiration"][:] = product
    with netCDF4.Dataset(tmp_path / "parameters.nc", "a") as dataset:
        dataset["pet_factor"][:] = 1.0
    with simulated(config) as simulation:
        for step in range(simulation.config.n_steps):
            simulation.advance(simulation.read_forcing(step, 1))
        np.testing.assert_array_equal(simulation.model.live["discharge"], flow)
    with opened(config) as component:
        component.update_until(simulation.config.n_steps * DAY)
        np.testing.assert_array_equal(component.get_value_ptr(variable("discharge").name), flow)
        assert (component.get_value_ptr(variable("pet_factor").name) == 1.0).all()


def test_a_factor_below_nothing_is_refused(tmp_path):
    config = write_case(tmp_path)
    with netCDF4.Dataset(tmp_path / "parameters.nc", "a") as dataset:
        dataset.createVariable("pet_factor", "f8", ()).units = "1"
        dataset["pet_factor"][...] = -0.1
    with pytest.raises(ParameterError, match=r"'pet_factor' is -0\.1 at index 0"), simulated(config):
        pass


def test_files_are_left_unlocked_after_an_error(path, domain):
    with pytest.raises(ParameterError):
        read_parameters(path, domain)
    assert LIBRARY.acquire(blocking=False)
    LIBRARY.release()


def test_a_uniform_value_that_was_never_written(tmp_path):
    config = write_case(tmp_path)
    with netCDF4.Dataset(tmp_path / "parameters.nc", "w") as dataset:
        dataset.createVariable("production_capacity", "f8", ()).units = "mm"
    with pytest.raises(ParameterError, match="'production_capacity' is nan"), simulated(config):
        pass
    with netCDF4.Dataset(tmp_path / "parameters.nc", "w") as dataset:
        dataset.createVariable("production_capacity", str, ()).units = "mm"
    with pytest.raises(ParameterError, match="expected numbers"), simulated(config):
        pass
