"""Training several parameter sets per cell, and processes of other packages; what is trained runs."""

from __future__ import annotations

import dataclasses
import json

import netCDF4
import numpy as np
import pytest
import torch
from cases import change_config, simulated
from click.testing import CliRunner
from process_cases import HBV, RESERVOIRS, installed
from safetensors import safe_open
from training_cases import (
    N_CELLS,
    N_REACHES,
    change_training,
    drawn_trainer,
    train,
    weights_of,
    write_training_case,
)

from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.generator.generator import _shares as shares
from bmi_cdlm.names.errors import CheckpointError, ConfigError
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.processes.catalogue import choose
from bmi_cdlm.run.config import load_config
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.generator import Generator
from cdlm_training.objective import TrainingError

GR4J = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")
N = 3


@pytest.fixture
def case(tmp_path):
    return write_training_case(tmp_path, snow="cemaneige", components=N, updates=4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("mapping", ["uniform", "linear", "power", "mlp"])
def test_targets_have_a_row_per_component_in_torch_and_in_the_runtime(tmp_path, mapping, dtype, tolerance):
    config = write_training_case(
        tmp_path, snow="cemaneige", components=N, mapping=mapping, precision=str(dtype).removeprefix("torch.")
    )
    trainer = drawn_trainer(config)
    write_checkpoint(tmp_path / "drawn.safetensors", trainer, None)
    loaded = load_checkpoint(tmp_path / "drawn.safetensors")
    assert loaded.spec == trainer.spec and loaded.spec.components == N
    assert {t.name: t.components for t in loaded.spec.cell.targets} == {
        **dict.fromkeys(GR4J, N), "thermal_weighting": 1, "melt_factor": 1,
    }
    expected, _ = loaded.evaluate(trainer.run.domain, read_domain(trainer.run.domain))
    attributes = trainer.chain.attributes
    again = Generator(loaded.spec, 9, dtype)
    again.load(loaded.tensors)
    for generator in (trainer.generator, again):
        got = generator.cell_parameters(attributes.cell) | generator.reach_parameters(attributes.reach)
        assert got.keys() == expected.keys()
        for name, value in got.items():
            shape = {"celerity": (N_REACHES,)}.get(name, (N, N_CELLS) if name in GR4J else (N_CELLS,))
            assert value.shape == shape == expected[name].shape, name
            assert value.dtype == dtype
            off = np.abs(value.detach().numpy() - expected[name])
            assert (off <= tolerance * np.maximum(np.abs(expected[name]), 1)).all(), name
    assert all(np.ptp(expected[name], axis=0).min() > 0 for name in GR4J)


def test_components_start_apart(case):
    """Those that start alike would stay alike."""
    spec = drawn_trainer(case).spec
    values = Generator(spec, 3, torch.float64).cell_parameters(np.zeros((N_CELLS, 2)))
    for name in GR4J:
        rows = values[name].detach().numpy()
        assert (np.diff(rows.mean(axis=1)) > 0).all(), name


def test_a_training_learns_every_component_and_its_checkpoint_runs(case):
    trainer, scores, epochs = train(case)
    assert len(epochs) == 2 and np.isfinite(scores.nse)
    before, after = Generator(trainer.spec, 1, torch.float64).tensors(), weights_of(trainer.config.output)
    last = f"cell.{len(trainer.spec.cell.hidden)}.bias"
    assert before[last].shape == (4 * N + 2,)
    rows = [k for t, r in zip(trainer.spec.cell.targets, trainer.spec.cell.rows, strict=True) if t.components == N
            for k in range(r.start, r.stop)]
    assert (before[last] != after[last])[rows].all()
    run = change_config(case, parameters=str(trainer.config.output), output="run.nc", output_at="reaches")
    found = CliRunner().invoke(main, ["run", "--quiet", str(run)])
    assert found.exit_code == 0, found.output
    with netCDF4.Dataset(case.parent / "run.nc") as dataset:
        flow = np.asarray(dataset["discharge"][...])
    assert np.isfinite(flow).all() and flow.min() >= 0 and flow.max() > 0
    with simulated(run) as simulation:
        assert simulation.model.parameters["production_capacity"].shape == (N, N_CELLS)
        for step in range(simulation.config.n_steps):
            simulation.advance(simulation.read_forcing(step, 1))
        np.testing.assert_array_equal(simulation.model.live["discharge"].astype(flow.dtype), flow[-1])
    for components in (1, 2):
        other = change_config(run, "other.yaml", components=components)
        message = f"was trained with components: 3, the run has components: {components}. Set components: 3"
        with pytest.raises(CheckpointError, match=message), simulated(other):
            pass


@pytest.fixture
def weighted(tmp_path):
    case = write_training_case(tmp_path, snow="cemaneige", components=N, updates=4, learn_component_weights=True)
    return change_config(case, case.name, ledger_tolerance=1e-9)


def test_weights_sum_to_one_in_torch_and_in_the_runtime(weighted):
    trainer = drawn_trainer(weighted)
    path = weighted.parent / "drawn.safetensors"
    write_checkpoint(path, trainer, None)
    loaded = load_checkpoint(path)
    assert loaded.spec == trainer.spec and loaded.spec.components == N
    target = next(t for t in loaded.spec.cell.targets if t.name == WEIGHT)
    assert (target.scale, target.components, target.default) == ("share", N, 1 / N)
    expected, _ = loaded.evaluate(trainer.run.domain, read_domain(trainer.run.domain))
    got = trainer.generator.cell_parameters(trainer.chain.attributes.cell)[WEIGHT].detach().numpy()
    assert got.shape == expected[WEIGHT].shape == (N, N_CELLS)
    np.testing.assert_allclose(got, expected[WEIGHT], rtol=1e-6)
    np.testing.assert_allclose(expected[WEIGHT].sum(axis=0), 1.0, rtol=1e-14)
    assert np.ptp(expected[WEIGHT], axis=0).min() > 1e-3
    for n in (1, 4):  # the bits of a cell do not depend on how many there are
        few = shares([z[:n] for z in np.random.default_rng(3).normal(size=(9, 25))])
        all_of_them = shares(list(np.random.default_rng(3).normal(size=(9, 25))))
        assert all(a.tobytes() == b[:n].tobytes() for a, b in zip(few, all_of_them, strict=True))


def test_weights_start_alike(weighted):
    spec = drawn_trainer(weighted).spec
    first = Generator(spec, 3, torch.float64).cell_parameters(np.zeros((N_CELLS, 2)))[WEIGHT].detach().numpy()
    np.testing.assert_allclose(first, 1 / N, atol=0.05)


def test_the_gradient_of_weights_is_a_slope(weighted):
    """Through softmax, the operators and the rivers, against differences of what the chain simulates."""
    trainer = drawn_trainer(change_training(weighted, precision="float64"))
    part, window = trainer.parts[0], trainer.data.windows(trainer.random, 1)[0]
    last = trainer.generator.cell.each[-1].bias
    rows = next(r for t, r in zip(trainer.spec.cell.targets, trainer.spec.cell.rows, strict=True) if t.name == WEIGHT)
    pull = torch.from_numpy(np.random.default_rng(1).normal(size=trainer.chain(part, window).discharge.shape))

    def total():
        return (trainer.chain(part, window).discharge * pull).sum()

    (found,) = torch.autograd.grad(total(), last)
    assert found[rows].abs().min() > 0
    for k in range(rows.start, rows.stop):
        values = []
        for d in (1e-5, -1e-5):
            with torch.no_grad():
                last[k] += d
                values.append(total().item())
                last[k] -= d
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(found[k].item(), rel=1e-5)


def test_weights_are_learned_and_run(weighted):
    trainer, scores, _ = train(weighted)
    assert np.isfinite(scores.nse)
    before, after = Generator(trainer.spec, 1, torch.float64).tensors(), weights_of(trainer.config.output)
    last = f"cell.{len(trainer.spec.cell.hidden)}.bias"
    assert before[last].shape == (5 * N + 2,)
    rows = next(r for t, r in zip(trainer.spec.cell.targets, trainer.spec.cell.rows, strict=True) if t.name == WEIGHT)
    assert (before[last] != after[last])[rows].all()
    with simulated(change_config(weighted, parameters=str(trainer.config.output))) as simulation:
        assert simulation.model.parameters[WEIGHT].shape == (N, N_CELLS)
        simulation.run()  # with a ledger
        assert (simulation.model.live["discharge"] > 0).any()


def test_weights_of_one_set_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="learn_component_weights is on and components is 1"):
        train(write_training_case(tmp_path, learn_component_weights=True))


def test_a_training_with_other_components_is_not_resumed(case):
    train(case)
    with pytest.raises(TrainingError, match="belongs to another training"):
        train(change_config(case, components=2), resume=True)


@pytest.mark.slow
def test_processes_of_another_package_are_trained_named_and_run(tmp_path):
    with installed(HBV, RESERVOIRS):
        config = write_training_case(tmp_path, runoff=HBV.name, routing=RESERVOIRS.name, components=2, pet_factor=False)
        trainer, scores, _ = train(config)
        assert np.isfinite(scores.nse)
        path = trainer.config.output
        with safe_open(path, framework="np") as file:
            specification = json.loads(file.metadata()["bmi_cdlm"])["specification"]
        assert (specification["snow"], specification["runoff"]) == ("none", HBV.name)
        assert specification["routing"] == RESERVOIRS.name
        assert specification["versions"] == {HBV.name: HBV.version, RESERVOIRS.name: RESERVOIRS.version}
        generated = {t.name for t in (*trainer.spec.cell.targets, *trainer.spec.reach.targets)}
        own = {p.name for process in (HBV, RESERVOIRS) for p in process.parameters if not p.optional}
        assert generated == own
        run = load_config(change_config(config, parameters=str(path)))
        with simulated(change_config(config, parameters=str(path))) as simulation:
            simulation.run()
            assert (simulation.model.live["discharge"] > 0).any() and run.components == 2
    load_checkpoint.__globals__["_load"].cache_clear()
    with pytest.raises(CheckpointError, match=f"runoff: there is no process '{HBV.name}'"):
        load_checkpoint(path)


@pytest.mark.slow
def test_hbv_and_muskingum_cunge_are_trained_and_run_as_they_were_scored(tmp_path):
    """Exchange stays off, for no generator gives it; the checkpoint runs to the discharge of the training."""
    config = write_training_case(
        tmp_path, runoff="hbv", routing="muskingum_cunge", components=2, precision="float64", updates=6,
    )
    trainer, scores, _ = train(config)
    assert np.isfinite(scores.nse)
    targets = {t.name: t.components for t in trainer.spec.cell.targets}
    own = {p.name for p in choose(runoff="hbv").cells[0].parameters if not p.optional}
    assert targets == dict.fromkeys(own - {"regional_exchange_capacity", "regional_exchange_area"}, 2)
    assert [t.name for t in trainer.spec.reach.targets] == ["manning_roughness", "channel_width"]
    run = change_config(config, parameters=str(trainer.config.output))
    with simulated(run) as simulation:
        simulation.run()
        model = simulation.model
        assert (model.live["discharge"] > 0).any() and not model.live["exchange_total"].any()
        assert not model.parameters["regional_exchange_capacity"].any()
    # Every learned number has moved, those of the channels too.
    before, after = Generator(trainer.spec, trainer.config.seed, torch.float64).tensors(), weights_of(
        trainer.config.output)
    assert (before["reach.0.bias"] != after["reach.0.bias"]).all()


def test_a_factor_that_no_process_takes_is_refused(tmp_path):
    inputs = {name: one._replace(factor=None, corrected=None) for name, one in HBV.inputs.items()}
    parameters = tuple(p for p in HBV.parameters if p.name != "pet_factor")
    bare = dataclasses.replace(HBV, name="bare", inputs=inputs, parameters=parameters)
    with installed(bare):
        config = change_config(write_training_case(tmp_path), runoff="bare")
        with pytest.raises(ConfigError, match=r"no process of bare, muskingum takes a factor .*pet_factor: false"):
            train(config)
