"""The torch twin: equal to the evaluation with numpy, its start, its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from generator_cases import drawn_tensors, forcing_values, specify, write_attribute_domain

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.generator import pet_network, read_inputs, static_parameters
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.names.parameters import BY_NAME
from bmi_cdlm.names.season import season
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.pet_network import fill_factor
from bmi_cdlm.processes.pet_network_adjoint import fill_factor_adjoint
from cdlm_training.generator import Generator

N_STEPS = 30
DAYS = np.linspace(1, 366, N_STEPS)
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-6)]


@pytest.fixture
def path(tmp_path):
    return write_attribute_domain(tmp_path / "domain.nc")


def factor_of(generator, values, attributes):
    f = {name: torch.from_numpy(v) for name, v in values.items()}
    return generator.pet_factor(
        f["precipitation"], f["potential_evapotranspiration"], f.get("air_temperature"), torch.from_numpy(DAYS),
        attributes,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("mapping", ["uniform", "linear", "power", "mlp"])
def test_parameters_equal_those_of_the_runtime(path, mapping, dtype, tolerance):
    spec = specify(path, mapping=mapping)
    generator = Generator(spec, 1, dtype)
    generator.load(drawn_tensors(spec, 2))
    inputs = read_inputs(spec, path, read_domain(path))
    expected = static_parameters(spec, generator.tensors(), inputs)
    got = generator.cell_parameters(torch.from_numpy(inputs.cell)) | generator.reach_parameters(inputs.reach)
    assert list(got) == list(expected)
    for name, value in got.items():
        assert value.dtype == dtype
        span = np.abs(expected[name])
        np.testing.assert_array_less(np.abs(value.detach().numpy() - expected[name]), tolerance * np.maximum(span, 1))


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("snow", ["none", "cemaneige"])
def test_the_pet_factor_equals_that_of_the_runtime(path, snow, dtype, tolerance, monkeypatch):
    spec = specify(path, snow=snow)
    generator = Generator(spec, 1, dtype)
    generator.load(drawn_tensors(spec, 2))
    domain = read_domain(path)
    inputs = read_inputs(spec, path, domain)
    values = forcing_values(9, N_STEPS, domain.n_cells, warm=snow != "none")
    expected = np.empty((N_STEPS, domain.n_cells))
    demand = values["potential_evapotranspiration"]
    compiled(fill_factor)(
        values["precipitation"], demand, values.get("air_temperature", demand), season(DAYS),
        pet_network(spec, generator.tensors(), inputs), expected, 0, domain.n_cells,
    )
    got = factor_of(generator, values, inputs.pet)
    assert got.dtype == dtype and got.shape == expected.shape
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=tolerance)
    monkeypatch.setattr("cdlm_training.pet.BLOCK_VALUES", 4 * domain.n_cells * 7)
    torch.testing.assert_close(factor_of(generator, values, inputs.pet), got, rtol=tolerance, atol=0)


@pytest.mark.parametrize("hidden", [(3,), (8,), (7, 5), (4, 9, 6)])
@pytest.mark.parametrize("snow", ["none", "cemaneige"])
def test_the_adjoint_of_the_pet_network_is_the_gradient_of_torch(path, snow, hidden):
    spec = specify(path, snow=snow, pet_hidden=hidden)
    generator = Generator(spec, 1, torch.float64)
    generator.load(drawn_tensors(spec, 2))
    domain = read_domain(path)
    inputs = read_inputs(spec, path, domain)
    values = forcing_values(9, N_STEPS, domain.n_cells, warm=snow != "none")
    tensors = {name: torch.from_numpy(v).requires_grad_() for name, v in values.items()}
    factor = generator.pet_factor(
        tensors["precipitation"], tensors["potential_evapotranspiration"], tensors.get("air_temperature"),
        torch.from_numpy(DAYS), inputs.pet,
    )
    pull = np.random.default_rng(1).normal(size=factor.shape)
    (factor * torch.from_numpy(pull)).sum().backward()
    demand = values["potential_evapotranspiration"]
    found = np.zeros((3, *demand.shape))
    compiled(fill_factor_adjoint)(
        values["precipitation"], demand, values.get("air_temperature", demand), season(DAYS),
        pet_network(spec, generator.tensors(), inputs), factor.detach().numpy(), pull, *found, 0, domain.n_cells,
    )
    for name, got in zip(("precipitation", "potential_evapotranspiration", "air_temperature"), found, strict=True):
        if name in tensors:
            expected = tensors[name].grad.numpy()
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13, err_msg=name)
        else:
            assert not got.any()  # the network has no weight on it


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("hidden", "snow"), [((3,), "none"), ((7, 5), "cemaneige"), ((4, 9, 6), "cemaneige")])
def test_gradients_of_the_kernels_to_the_weights_of_the_pet_network_are_those_of_torch(
    path, snow, hidden, dtype, tolerance, monkeypatch
):
    monkeypatch.setattr("cdlm_training.pet.CELLS_OF_A_SUM", 10)  # three tiles of the 25 cells
    spec = specify(path, snow=snow, pet_hidden=hidden)
    generator = Generator(spec, 1, dtype)
    generator.load(drawn_tensors(spec, 2))
    domain = read_domain(path)
    attributes = read_inputs(spec, path, domain).pet
    values = {k: torch.from_numpy(v).to(dtype) for k, v in
              forcing_values(9, N_STEPS, domain.n_cells, warm=snow != "none").items()}
    pull = torch.from_numpy(np.random.default_rng(1).normal(size=(N_STEPS, domain.n_cells))).to(dtype)
    found = []
    for way in (generator.pet, generator.pet.by_torch):
        generator.zero_grad()
        (way(values, torch.from_numpy(DAYS), attributes) * pull).sum().backward()
        found.append({name: w.grad.numpy() for name, w in generator.pet.named_parameters()})
    assert found[0].keys() == found[1].keys()
    for name, got in found[0].items():
        scale = np.abs(found[1][name]).max()
        assert scale > 1e-3
        np.testing.assert_allclose(got / scale, found[1][name] / scale, atol=30 * tolerance, err_msg=name)


@pytest.mark.parametrize("mapping", ["uniform", "linear", "power", "mlp"])
def test_training_starts_near_the_defaults_and_with_a_factor_of_one(path, mapping):
    spec = specify(path, mapping=mapping)
    inputs = read_inputs(spec, path, read_domain(path))
    generator = Generator(spec, 3, torch.float64)
    values = generator.cell_parameters(inputs.cell) | generator.reach_parameters(inputs.reach)
    for target in (*spec.cell.targets, *spec.reach.targets):
        default = BY_NAME[target.name].range_at(DAY).default
        scale = target.high - target.low if target.scale == "linear" else default
        assert float((values[target.name] - default).detach().abs().max()) < 0.15 * scale
    factor = factor_of(generator, forcing_values(9, N_STEPS, 25, warm=True), inputs.pet)
    np.testing.assert_allclose(factor.detach().numpy(), 1.0, rtol=1e-14)


def test_the_seed_decides_the_start_at_both_precisions(path):
    spec = specify(path)
    double, single, other = Generator(spec, 3, torch.float64), Generator(spec, 3), Generator(spec, 4)
    assert {name: v.shape for name, v in double.tensors().items()} == spec.shapes()
    for name, value in double.tensors().items():
        np.testing.assert_array_equal(value.astype(np.float32), single.tensors()[name])
    assert (other.tensors()["cell.0.weight"] != single.tensors()["cell.0.weight"]).all()


def test_tensors_are_copies_and_come_back(path):
    spec = specify(path)
    generator, other = Generator(spec, 1), Generator(spec, 2)
    tensors = generator.tensors()
    other.load(tensors)
    tensors["cell.0.bias"][:] = 7
    assert (generator.tensors()["cell.0.bias"] != 7).all()
    for name, value in generator.tensors().items():
        np.testing.assert_array_equal(value, other.tensors()[name])


@pytest.mark.parametrize("mapping", ["uniform", "linear", "power", "mlp"])
def test_gradients_reach_every_weight_and_are_right(path, mapping):
    spec = specify(path, mapping=mapping, hidden=(3,), pet_hidden=(3,))
    inputs = read_inputs(spec, path, read_domain(path))
    generator = Generator(spec, 1, torch.float64)
    generator.load({n: 0.5 * v for n, v in drawn_tensors(spec, 5).items()})
    values = forcing_values(9, 6, 25, warm=True)
    f = [torch.from_numpy(values[n]) for n in ("precipitation", "potential_evapotranspiration", "air_temperature")]
    rng = np.random.default_rng(0)
    pull = torch.from_numpy(rng.normal(size=(6, 25)))

    def total():
        p = generator.cell_parameters(inputs.cell) | generator.reach_parameters(inputs.reach)
        factor = generator.pet_factor(*f, torch.from_numpy(DAYS[:6]), inputs.pet)
        return sum(torch.log(v + 20).sum() for v in p.values()) + (pull * factor).sum()

    total().backward()
    for name, weight in generator.named_parameters():
        assert weight.grad is not None and bool((weight.grad != 0).any()), name
        i = int(weight.grad.abs().argmax())
        flat, h = weight.data.view(-1), 1e-6
        kept = float(flat[i])
        flat[i] = kept + h
        above = float(total().detach())
        flat[i] = kept - h
        below = float(total().detach())
        flat[i] = kept
        assert (above - below) / (2 * h) == pytest.approx(float(weight.grad.view(-1)[i]), rel=1e-5), name


def test_without_a_network_the_factor_is_one(path):
    spec = specify(path, pet=False)
    generator = Generator(spec, 1)
    factor = factor_of(generator, forcing_values(9, N_STEPS, 25, warm=True), np.empty((25, 0)))
    assert bool((factor == 1).all())
