"""Weights of the parameter sets of a cell: runoff, stores and totals are weighted means, and no water is lost."""

from __future__ import annotations

import component_cases
import netCDF4
import numpy as np
import pytest
from cases import change_config, opened, write_case
from component_cases import KEEP, N_STEPS, OWN, SEED, N, check_bits, make
from make_domain import part_of, random_domain, random_forcing

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ParameterError
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.names.variables import select, variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation


@pytest.fixture
def domain():
    return random_domain(SEED, 40, 25)


def drawn_weights(n_cells, components=N, seed=5):
    weights = np.random.default_rng(seed).dirichlet(np.ones(components), n_cells).T
    weights[:, 0] = np.eye(components)[0]  # one set alone
    return np.ascontiguousarray(weights)


def drawn(domain, components=N):
    """Parameters of GR4J as [component, cell], others as of the first, and weights."""
    values, sets = component_cases.drawn(domain, range(1, components + 1))
    return values | {WEIGHT: drawn_weights(domain.n_cells, components)}, sets


def test_a_cell_is_the_weighted_mean_of_its_components(domain):
    values, sets = drawn(domain)
    forcing = random_forcing(SEED, N_STEPS, domain.n_cells)
    model = make(domain, values)
    got = {n: v.copy() for n, v in model.advance(forcing, KEEP).items()}
    alone, series = [], []
    for one in sets:
        own = Model(domain, {n: one[n] if n in OWN else v for n, v in values.items() if n != WEIGHT}, snow="cemaneige")
        series.append({n: v.copy() for n, v in own.advance(forcing, KEEP).items()})
        alone.append(own)
    weights = model.parameters[WEIGHT]
    np.testing.assert_allclose(weights, values[WEIGHT], rtol=1e-15)
    for name in ("runoff", "evapotranspiration", "groundwater_exchange"):
        mean = sum(w * one[name] for w, one in zip(weights, series, strict=True))
        np.testing.assert_allclose(got[name], mean, rtol=1e-12, atol=1e-13, err_msg=name)
        assert np.abs(got[name] - np.mean([one[name] for one in series], axis=0)).max() > 1e-3
        np.testing.assert_allclose(got[name][:, 0], series[0][name][:, 0], rtol=1e-12, atol=1e-13)
    short = [v.short for v in select(role="total", grid="cell", ledger=False)]
    for name in (*short, "cell_water_stored", "production_store", "routing_store", "queued_routed_flow"):
        mean = sum(w * m.live[name] for w, m in zip(weights, alone, strict=True))
        np.testing.assert_allclose(model.live[name], mean, rtol=1e-12, atol=1e-12, err_msg=name)


def test_equal_weights_are_the_plain_mean_to_rounding(domain):
    values, _ = drawn(domain)
    forcing = random_forcing(SEED, N_STEPS, domain.n_cells)
    plain = make(domain, {n: v for n, v in values.items() if n != WEIGHT})
    equal = make(domain, values | {WEIGHT: np.full((N, domain.n_cells), 1 / N)})
    theirs, ours = plain.advance(forcing, KEEP), equal.advance(forcing, KEEP)
    for name in KEEP:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-13)
    for name, value in plain.live.items():
        if variable(name).part != "ledger":
            np.testing.assert_allclose(equal.live[name], value, rtol=1e-11, atol=1e-9, err_msg=name)


def test_water_closes_in_cells_reaches_and_the_domain(domain):
    values, _ = drawn(domain)
    model = make(domain, values)
    model.fill_rivers(random_forcing(3, 5, domain.n_cells))
    forcing = random_forcing(SEED, N_STEPS, domain.n_cells)
    for t in range(N_STEPS):
        model.advance(part_of(forcing, t, t + 1))
        model.ledger.check(1e-12, model.state, model.live, t)
    np.testing.assert_allclose(model.live["precipitation_total"], forcing.precipitation.sum(axis=0), rtol=1e-12)
    assert model.live["water_out"][0] > 0


@pytest.mark.parametrize("components", [2, 9])
def test_blocks_steps_threads_and_restored_states_give_the_same_bits(domain, components):
    check_bits(domain, drawn(domain, components)[0], components)


def test_gradients_of_weights_are_slopes(domain):
    values, _ = drawn(domain)
    forcing = random_forcing(SEED, 12, domain.n_cells)
    model = make(domain, values)
    pull = np.random.default_rng(1).normal(size=(12, domain.n_reaches))
    model.record(forcing)
    found = model.adjoint(pull).parameters
    assert found[WEIGHT].shape == (N, domain.n_cells) and found["routing_capacity"].shape == (N, domain.n_cells)

    def total(weights):
        return (make(domain, values | {WEIGHT: weights}).record(forcing) * pull).sum()

    step = 1e-6 * np.random.default_rng(2).normal(size=found[WEIGHT].shape)
    step -= step.mean(axis=0)  # weights that sum to one go on doing so
    step[:, 0] = 0.0
    slope = total(values[WEIGHT] + step) - total(values[WEIGHT] - step)
    assert slope == pytest.approx(2.0 * (found[WEIGHT] * step).sum(), rel=1e-6)


@pytest.mark.parametrize(("change", "components", "message"), [
    (lambda w: w * 0.99, N, r"adds up to 0\.99 at cell .* \(25 of 25 cells\), expected 1 over the 3 components"),
    (lambda w: np.where(np.arange(25) == 4, 1.1 * w, w), N, r"adds up to 1\.1 at cell .* \(1 of 25 cells\)"),
    (lambda w: np.concatenate([w[:1] - 1.5, w[1:2] + 1.5, w[2:]]), N, r"'component_weight' is -.* expected .* 0 to 1"),
    (lambda w: np.where(np.arange(25) == 3, np.nan, w), N, r"'component_weight' is nan at index 3"),
    (lambda w: w[:2], N, r"has shape \(2, 25\), expected one value per cell: 25, or \(3, 25\) by component"),
    (lambda w: w, 1, "'component_weight' is given, and runoff 'gr4j' has one parameter set per cell here"),
])
def test_weights_that_are_refused(domain, change, components, message):
    values, _ = drawn(domain)
    if components == 1:
        values = {n: v[0] if n in OWN else v for n, v in values.items()}
    with pytest.raises(ParameterError, match=message):
        make(domain, values | {WEIGHT: change(values[WEIGHT])}, components)


def test_what_differs_by_rounding_is_divided_by_its_sum(domain):
    values, _ = drawn(domain)
    single = values[WEIGHT].astype(np.float32).astype(np.float64)
    assert np.abs(single.sum(axis=0) - 1.0).max() > 1e-9
    model = make(domain, values | {WEIGHT: single})
    np.testing.assert_allclose(model.parameters[WEIGHT].sum(axis=0), 1.0, rtol=1e-15)


def test_they_hold_for_a_run(domain):
    model = make(domain, drawn(domain)[0])
    with pytest.raises(ParameterError, match="'component_weight' cannot be changed in a run"):
        model.change_parameter(WEIGHT, np.array([0]), np.array([0.5]))


def write_components(folder, components=N):
    """A case with three parameter sets per cell, and their weights, in its parameter file."""
    case = write_case(folder, components=components, ledger_tolerance=1e-12)
    with netCDF4.Dataset(folder / "parameters.nc", "a") as dataset:
        n = dataset.dimensions["cell"].size
        dataset.createDimension("component", N)
        rng = np.random.default_rng(3)
        values = np.asarray(dataset["routing_capacity"][:]) * rng.uniform(0.5, 2.0, (N, n))
        dataset.renameVariable("routing_capacity", "former")
        for name, array, units in (("routing_capacity", values, "mm"), (WEIGHT, drawn_weights(n), "1")):
            dataset.createVariable(name, "f8", ("component", "cell"))[:] = array
            dataset[name].units = units
    with netCDF4.Dataset(folder / "parameters.nc") as old, netCDF4.Dataset(folder / "sets.nc", "w") as new:
        for name, dimension in old.dimensions.items():
            new.createDimension(name, dimension.size)
        for name, array in old.variables.items():
            if name != "former":
                out = new.createVariable(name, array.dtype, array.dimensions)
                out[:] = array[:]
                out.setncatts({k: array.getncattr(k) for k in array.ncattrs() if k != "_FillValue"})
    return change_config(case, parameters="sets.nc")


def test_a_parameter_file_has_a_row_per_component(tmp_path):
    case = write_components(tmp_path)
    simulation = Simulation(load_config(case))
    found = simulation.model.parameters
    assert found[WEIGHT].shape == found["routing_capacity"].shape == found["production_capacity"].shape == (N, 25)
    assert np.ptp(found["routing_capacity"], axis=0).min() > 0
    assert np.ptp(found["production_capacity"], axis=0).max() == 0
    np.testing.assert_allclose(found[WEIGHT], drawn_weights(25), rtol=1e-15)
    with pytest.raises(ParameterError, match=r"'routing_capacity' has shape \(3, 25\), expected one value per"):
        Simulation(load_config(change_config(case, components=1)))
    with netCDF4.Dataset(tmp_path / "sets.nc", "a") as dataset:
        dataset.renameDimension("component", "member")
    with pytest.raises(ParameterError, match=r"'routing_capacity' has dimensions"):
        Simulation(load_config(case))


def test_a_caller_sees_and_sets_the_weighted_mean(tmp_path):
    """What is put into a store or a hydrograph is what is there then, and the ledger knows of it."""
    case = write_components(tmp_path)
    with opened(case) as component:
        for _ in range(3):
            component.update()
        model = component._stepper.simulation.model
        weights = model.parameters[WEIGHT]
        for name in ("routing_store", "queued_routed_flow"):
            v = variable(name)
            held = component.get_value_ptr(v.name).copy()
            if name == "routing_store":
                np.testing.assert_allclose(held, (weights * model.state.on_cells()[name]).sum(axis=0), rtol=1e-13)
            component.set_value(v.name, 1.5 * held)
            np.testing.assert_array_equal(component.get_value_ptr(v.name), 1.5 * held)
        assert WEIGHT not in component.get_output_var_names()
        for _ in range(3):  # the ledger is checked at every step
            component.update()
        assert component.get_value_ptr(variable("water_added").name)[0] > 0


def test_a_state_goes_on_to_the_bit(tmp_path):
    case = write_components(tmp_path)
    with opened(change_config(case, "whole.yaml", output="whole.nc")) as whole:
        whole.update_until(9 * 86400.0)
        expected = whole.get_value_ptr(variable("discharge").name).copy()
    with opened(case) as first:
        first.update_until(4 * 86400.0)
        first._stepper.simulation.save(tmp_path / "state.nc")
    with opened(change_config(case, "second.yaml", start="2001-03-05", initial_state="state.nc")) as second:
        second.update_until(5 * 86400.0)
        assert second.get_value_ptr(variable("discharge").name).tobytes() == expected.tobytes()
