"""Generators: specification, evaluation with numpy, and the PET network within the model."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from generator_cases import (
    CELL_ATTRIBUTES,
    attribute_fields,
    drawn_tensors,
    forcing_values,
    specify,
    write_attribute_domain,
)
from make_domain import part_of, write_domain

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.generator import describe_forcing, make_spec, pet_network, read_inputs, static_parameters
from bmi_cdlm.generator.specification import GeneratorSpec, standardise
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.pet import factor_loop
from bmi_cdlm.names.errors import ConfigError, DomainError, ForcingError
from bmi_cdlm.names.parameters import BY_NAME
from bmi_cdlm.names.season import day_of_year, season
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.pet_network import fill_factor, fill_factor_shallow, limited_sigmoid
from bmi_cdlm.processes.pet_network_adjoint import fill_factor_adjoint

N_STEPS = 40


@pytest.fixture
def path(tmp_path):
    return write_attribute_domain(tmp_path / "domain.nc")


def zero_tensors(spec):
    """Weights of 0, biases at the start."""
    tensors = {name: np.zeros(shape) for name, shape in spec.shapes().items()}
    for part, network in (("cell", spec.cell), ("reach", spec.reach)):
        tensors[f"{part}.{len(network.hidden)}.bias"][:] = [t.start for t in network.targets]
    if spec.pet:
        tensors[f"pet.{len(spec.pet.hidden)}.bias"][:] = spec.pet.start
    return tensors


def forcing(n_steps, n_cells, *, warm=True, start="2001-12-20"):
    starts = np.datetime64(start, "s") + np.arange(n_steps) * np.timedelta64(1, "D")
    values = forcing_values(5, n_steps, n_cells, warm=warm)
    return Forcing(**values, day_of_year=day_of_year(starts))


@pytest.mark.parametrize("mapping", ["uniform", "linear", "power", "mlp"])
@pytest.mark.parametrize(("step", "snow"), [(DAY, "none"), (DAY, "cemaneige_hysteresis"), (HOUR, "cemaneige")])
def test_without_weights_every_parameter_has_its_default(path, mapping, step, snow):
    spec = specify(path, mapping=mapping, step=step, snow=snow, learn_weighting=True)
    domain = read_domain(path)
    values = static_parameters(spec, zero_tensors(spec), read_inputs(spec, path, domain))
    parts = {"none": 5, "cemaneige": 7, "cemaneige_hysteresis": 9}
    assert len(values) == parts[snow] + 1
    for name, value in values.items():
        assert value.shape == (domain.n_cells if BY_NAME[name].grid == "cell" else domain.n_reaches,)
        np.testing.assert_allclose(value, BY_NAME[name].range_at(step).default, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mapping", ["uniform", "linear", "power", "mlp"])
def test_parameters_stay_within_their_bounds_and_follow_the_attributes(path, mapping):
    spec = specify(path, mapping=mapping)
    tensors = {name: 20 * v for name, v in drawn_tensors(spec).items()}
    values = static_parameters(spec, tensors, read_inputs(spec, path, read_domain(path)))
    for network in (spec.cell, spec.reach):
        for target in network.targets:
            v = values[target.name]
            slack = 1e-12 * target.high
            assert (v >= target.low - slack).all() and (v <= target.high + slack).all()
            assert (np.ptp(v) == 0) == (mapping == "uniform")


def test_a_linear_mapping_is_affine_in_standardised_attributes(path):
    spec = specify(path, mapping="linear", snow="none")
    tensors, inputs = drawn_tensors(spec), read_inputs(spec, path, read_domain(path))
    x = standardise(spec.cell.attributes, inputs.cell)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-12)
    z = x @ tensors["cell.0.weight"].T + tensors["cell.0.bias"]
    got = static_parameters(spec, tensors, inputs)
    sigma = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(got["exchange_coefficient"], -10 + 15 * sigma[:, 1], rtol=1e-11)
    np.testing.assert_allclose(got["production_capacity"], 10 * 300 ** sigma[:, 0], rtol=1e-12)


def test_powers_take_attributes_between_a_hundredth_and_one(path):
    spec = specify(path, mapping="power")
    shares = standardise(spec.cell.attributes, read_inputs(spec, path, read_domain(path)).cell, to_shares=True)
    np.testing.assert_allclose(shares.min(axis=0), 0.01, rtol=1e-12)
    np.testing.assert_allclose(shares.max(axis=0), 1, rtol=1e-12)
    beyond = standardise(spec.cell.attributes, np.full((1, 3), -1e9), to_shares=True)
    assert (beyond[0, :2] == 0.01).all()


def test_lengths_and_slopes_of_zero_are_legal(path):
    spec = specify(path)
    domain = read_domain(path)
    assert (domain.reaches.length == 0).any()
    transforms = {a.name: a.transform for a in spec.reach.attributes}
    assert transforms == {"length": "log", "slope": "log", "upstream_area": "log"}
    assert np.isfinite(standardise(spec.reach.attributes, read_inputs(spec, path, domain).reach)).all()
    assert {a.name: a.transform for a in specify(path, cell_attributes={"forest": "log1p", "slope": "none"}).cell
            .attributes} == {"forest": "log1p", "slope": "none"}


def test_the_specification_survives_json_to_the_bit(path):
    spec = specify(path)
    assert GeneratorSpec.from_json(spec.to_json()) == spec
    assert hash(spec) == hash(GeneratorSpec.from_json(spec.to_json()))


@pytest.mark.parametrize(("changes", "message"), [
    ({"cell_attributes": ("forest", "elevatoin")}, "Did you mean 'elevation'"),
    ({"pet_limits": (1.0, 2.0)}, "limits of the factor are 1.0, 2.0"),
    ({"hidden": ()}, "mapping mlp with hidden sizes"),
    ({"pet_hidden": ()}, "expected at least one layer"),
    ({"starts": {"melt_facter": 4.0}}, "'melt_facter' is not generated. Did you mean 'melt_factor'"),
    ({"starts": {"weighting": 0.1}}, "'weighting' is not generated"),
    ({"runoff": "hbv", "snow": "none", "starts": {"regional_exchange_area": 2600.0}},
     "'regional_exchange_area' is 2600.0, expected a value from 0 to 2500"),
    ({"starts": {"melt_factor": 40.0}}, "'melt_factor' is 40.0, expected a value from 0.5 to 15"),
    ({"snow": "none", "features": describe_forcing({"air_temperature": np.arange(6.0).reshape(3, 2)})},
     "runs without snow lack"),
])
def test_contradictions_are_refused(path, changes, message):
    with pytest.raises((ConfigError, DomainError), match=message):
        specify(path, **changes)


def test_parameters_start_where_they_are_told(path):
    starts = {"thermal_weighting": 0.6, "celerity": 0.5, "exchange_coefficient": -2.0}
    spec = specify(path, mapping="linear", starts=starts)
    values = static_parameters(spec, zero_tensors(spec), read_inputs(spec, path, read_domain(path)))
    for name, value in values.items():
        np.testing.assert_allclose(value, starts.get(name, BY_NAME[name].daily.default), rtol=1e-12, atol=1e-12)


def test_what_is_left_at_its_default_is_generated_where_its_start_is_told(path):
    def generated(**starts):
        spec = specify(path, runoff="hbv", snow="none", starts=starts)
        return {target.name: target.default for target in spec.cell.targets}

    assert not {"regional_exchange_capacity", "regional_exchange_area"} & set(generated())
    assert {"field_capacity", "evaporation_shape", "capillary_rate"} <= set(generated())
    assert generated(regional_exchange_capacity=0.4)["regional_exchange_capacity"] == 0.4


def test_a_network_without_attributes_is_uniform(path):
    assert specify(path, reach_attributes=()).reach.mapping == "uniform"
    assert make_spec(path, cell_attributes=CELL_ATTRIBUTES, reach_attributes=()).pet is None


def test_bounds_outside_the_legal_range_are_refused(path):
    target = specify(path).cell.targets[0]
    with pytest.raises(ValueError, match=r"expected them within 0\.01 to inf"):
        dataclasses.replace(target, low=0.001)
    with pytest.raises(ValueError, match="Did you mean 'celerity'"):
        dataclasses.replace(target, name="celerty")


def test_the_season_is_a_circle():
    starts = np.array(["2000-01-01", "2000-12-31", "2001-07-01T12"], "datetime64[s]")
    np.testing.assert_array_equal(day_of_year(starts), [1, 366, 182.5])
    np.testing.assert_allclose(season(np.array([365.25 / 4])), [[1, 0]], atol=1e-15)
    assert season(np.zeros(0)).shape == (0, 2)


@pytest.mark.parametrize("hidden", [(3,), (8,), (7, 5), (4, 9, 6)])
@pytest.mark.parametrize("snow", ["none", "cemaneige"])
def test_the_compiled_network_is_the_formula(path, hidden, snow):
    spec = specify(path, pet_hidden=hidden, snow=snow)
    tensors, domain = drawn_tensors(spec, 3), read_domain(path)
    inputs = read_inputs(spec, path, domain)
    f = forcing(N_STEPS, domain.n_cells, warm=snow != "none")
    got = np.empty((N_STEPS, domain.n_cells))
    demand = f.potential_evapotranspiration
    temperature = demand if f.air_temperature is None else f.air_temperature
    compiled(fill_factor)(f.precipitation, demand, temperature, season(f.day_of_year),
                          pet_network(spec, tensors, inputs), got, 0, domain.n_cells)
    pet = spec.pet
    columns = []
    for feature in pet.features:
        v = getattr(f, feature.name)
        v = v / (v + feature.half) if feature.half else v
        columns.append((v - feature.mean) / feature.std)
    angle = 2 * math.pi * f.day_of_year / 365.25
    columns += [np.broadcast_to(g(angle)[:, None], demand.shape) for g in (np.sin, np.cos)]
    columns += [np.broadcast_to(c, demand.shape) for c in standardise(pet.attributes, inputs.pet).T]
    x = np.stack(columns, -1)
    for k in range(len(hidden) + 1):
        x = x @ tensors[f"pet.{k}.weight"].T + tensors[f"pet.{k}.bias"]
        x = np.maximum(x, 0) if k < len(hidden) else x
    expected = 0.3 + 1.7 / (1 + np.exp(-x[..., 0]))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert np.ptp(got) > 0.1


def drawn_network(widths, n, n_steps):
    """A network with drawn weights, its inputs [input, time, cell] and the season."""
    rng, widest = np.random.default_rng(7), max(widths)
    network = PetNetwork(
        rng.normal(size=(widths[0], n)), rng.normal(size=(widths[0], 3)), rng.normal(size=(widths[0], 2)), 5.0,
        np.array(widths), rng.normal(0, 0.3, (len(widths) - 1, widest, widest)),
        rng.normal(size=(len(widths) - 1, widest)), rng.normal(0, 0.3, widths[-1]), 0.2, 0.3, 2.0,
    )
    return network, rng.gamma(1, 3, (3, n_steps, n)), rng.normal(size=(n_steps, 2))


@pytest.mark.parametrize("widths", [(4,), (4, 4), (12, 8), (32, 4), (4, 12, 8)])
def test_tiles_of_cells_are_the_formula_and_the_same_bits_wherever_they_are_cut(widths):
    n, n_steps = 340, 2
    network, (P, E, T), angle = drawn_network(widths, n, n_steps)

    def factors(ranges):
        factor = np.empty((n_steps, n))
        for lo, hi in ranges:
            compiled(fill_factor)(P, E, T, angle, network, factor, lo, hi)
        return factor

    x = np.stack([P / (P + 5), E, T], 1)
    x = network.static + network.forcing_weight @ x + (angle @ network.season_weight.T)[..., None]
    for k, (before, after) in enumerate(pairwise(widths)):
        x = network.weight[k, :after, :before] @ np.maximum(x, 0) + network.bias[k, :after, None]
    z = network.last_weight @ np.maximum(x, 0) + network.last_bias
    whole = factors([(0, n)])
    np.testing.assert_allclose(whole, 0.3 + 1.7 / (1 + np.exp(-z)), rtol=1e-12)
    np.testing.assert_array_equal(whole, factors([(0, 1), (1, 330), (330, n)]))
    chosen = np.empty_like(whole)
    compiled(factor_loop(network))(P, E, T, angle, network, chosen, 0, n)
    np.testing.assert_array_equal(whole, chosen)
    assert factor_loop(network) is (fill_factor_shallow if len(widths) == 1 else fill_factor)


@pytest.mark.parametrize("widths", [(4,), (12, 8), (4, 12, 8)])
def test_the_adjoint_of_the_network_is_its_slope_wherever_cells_are_cut(widths):
    """Central differences of every input at once, in a random direction per cell and step; it is added to."""
    n, n_steps, h = 340, 3, 1e-6
    network, (P, E, T), angle = drawn_network(widths, n, n_steps)
    rng = np.random.default_rng(3)
    way, pull = rng.normal(size=(3, n_steps, n)), rng.normal(size=(n_steps, n))

    def factor_at(P, E, T):
        factor = np.empty((n_steps, n))
        compiled(fill_factor)(P, E, T, angle, network, factor, 0, n)
        return factor

    def adjoints(ranges):
        before = rng.normal(size=(3, n_steps, n)) if len(ranges) == 1 else np.zeros((3, n_steps, n))
        found = before.copy()
        for lo, hi in ranges:
            compiled(fill_factor_adjoint)(P, E, T, angle, network, factor_at(P, E, T), pull, *found, lo, hi)
        return found - before

    whole = adjoints([(0, n)])
    above, below = (factor_at(P + s * h * way[0], E + s * h * way[1], T + s * h * way[2]) for s in (1, -1))
    slope = pull * (above - below) / (2 * h)
    # A unit of relu that switches within h has another slope: few do.
    off = np.abs((whole * way).sum(axis=0) - slope) > 1e-5 * (1 + np.abs(slope))
    assert off.mean() < 0.01 and np.abs(slope).max() > 0.1
    np.testing.assert_allclose(adjoints([(0, 1), (1, 330), (330, n)]), whole, rtol=1e-9, atol=1e-12)


def test_the_factor_is_level_beyond_any_z():
    sigmoid = compiled(limited_sigmoid)
    z = np.array([-1e300, -26.0, -1.0, 0.0, 1.0, 26.0, 1e300])
    got = np.array([sigmoid(v, 0.3, 2.0) for v in z])
    np.testing.assert_allclose(got, 0.3 + 1.7 / (1 + np.exp(-np.clip(z, -26, 26))), rtol=1e-14)
    assert got[0] == got[1] and got[-1] == got[-2]


def corrected_model(path, threads=1, **options):
    spec = specify(path, **options)
    domain = read_domain(path)
    inputs, tensors = read_inputs(spec, path, domain), drawn_tensors(spec, 4)
    return Model(domain, static_parameters(spec, tensors, inputs), snow=spec.snow, threads=threads,
                 pet=pet_network(spec, tensors, inputs))


def test_a_block_single_steps_and_threads_give_the_same_bits(path, monkeypatch):
    monkeypatch.setattr("bmi_cdlm.kernels.workers.WORTH_A_THREAD", 0)
    keep = ("pet_factor", "corrected_evapotranspiration", "discharge", "evapotranspiration")
    f = forcing(N_STEPS, 25)
    whole, steps, several = (corrected_model(path, threads) for threads in (1, 1, 3))
    block = {n: v.copy() for n, v in whole.advance(f, keep).items()}
    threaded = {n: v.copy() for n, v in several.advance(f, keep).items()}
    rows = [{n: v.copy() for n, v in steps.advance(part_of(f, t, t + 1), keep).items()} for t in range(N_STEPS)]
    for name in keep:
        np.testing.assert_array_equal(block[name], np.concatenate([r[name] for r in rows]))
        np.testing.assert_array_equal(block[name], threaded[name])
    for model in (steps, several):
        for name, value in whole.live.items():
            np.testing.assert_array_equal(value, model.live[name])
    np.testing.assert_array_equal(block["corrected_evapotranspiration"], block["pet_factor"]
                                  * f.potential_evapotranspiration)
    several.close()


def test_the_model_evaporates_the_corrected_demand(path):
    corrected = corrected_model(path)
    f = forcing(N_STEPS, 25)
    demand = corrected.advance(f, ["corrected_evapotranspiration"])["corrected_evapotranspiration"].copy()
    plain = Model(corrected.domain, corrected.parameters, snow=corrected.snow)
    plain.advance(f._replace(potential_evapotranspiration=demand))
    np.testing.assert_array_equal(plain.live["discharge"], corrected.live["discharge"])
    assert "pet_factor" not in plain.live and "pet_factor" in corrected.live


def test_the_season_must_be_given(path):
    with pytest.raises(ForcingError, match="day_of_year"):
        corrected_model(path).advance(forcing(2, 25)._replace(day_of_year=None))


def test_a_constant_attribute_is_refused(tmp_path):
    """But where the scales are those of a checkpoint, which has learned from it elsewhere."""
    fields = attribute_fields(7, 40, 25)
    fields["cell_forest"] = fields["cell_forest"]._replace(values=np.full(25, 0.25))
    path = write_domain(tmp_path / "domain.nc", fields)
    with pytest.raises(DomainError, match=r"cell attribute 'forest' is 0\.25 everywhere, expected one that differs"):
        specify(path)
    specify(path, adopts=True)
