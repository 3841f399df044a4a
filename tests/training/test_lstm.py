"""Parameters that an LSTM gives anew at every step: the runtime's kernel, torch's twin, states, checkpoints."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import torch
from cases import change_config, opened, simulated, step_all
from click.testing import CliRunner
from make_domain import random_domain, random_forcing
from training_cases import ALONE, N_CELLS, change_training, drawn_trainer, train, write_training_case

from bmi_cdlm.cli import main
from bmi_cdlm.doctor import examine
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.kernels.groups import LstmNetwork
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.lstm import Lstm
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import CheckpointError, ConfigError, ParameterError, StateError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable
from bmi_cdlm.processes.lstm import fill_lstm
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.parameters import read_any_parameters, read_lstm
from bmi_cdlm.run.partition import make_part, partition, read_part, write_part
from cdlm_training.batches import draw_pairs, make_batch
from cdlm_training.config import load_train_config
from cdlm_training.dataset import Dataset
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.loop import Trainer

VARYING = ("recharge_shape", "evaporation_shape", "quickflow_rate")
N = 2
KEYS = {"varying": list(VARYING), "lstm_hidden": 6, "hidden": [4], "pet_factor": False}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A checkpoint with drawn weights beside the case that it was made for."""
    case = write_training_case(
        tmp_path_factory.mktemp("case"), runoff="hbv", routing="muskingum_cunge", components=N, spin_up=6, **KEYS
    )
    trainer = drawn_trainer(case)
    write_checkpoint(case.parent / "drawn.safetensors", trainer, None)
    trainer.workers.close()
    return change_config(case, "run.yaml", parameters="drawn.safetensors")


@pytest.fixture(scope="module")
def made(case):
    """The trainer's weights and the runtime's network, over the forcing of the case."""
    config = load_config(case)
    checkpoint, domain = load_checkpoint(config.parameters), read_domain(config.domain)
    trainer = drawn_trainer(case.with_name("case.yaml"))
    return trainer, checkpoint.lstm(config.domain, domain)


def run_network(network, forcing, n_steps=None, *, lo=0, hi=N_CELLS, state=None, first=0):
    names = ("precipitation", "potential_evapotranspiration", "air_temperature")
    weather = [forcing[n][first : first + (n_steps or 10_000)] for n in names]
    units = network.static.shape[0]
    hidden, memory = state or (np.zeros((units, N_CELLS)), np.zeros((units, N_CELLS)))
    series = np.empty((network.last_bias.size, *weather[0].shape))
    compiled(fill_lstm)(*weather, network, hidden, memory, series, lo, hi)
    return series, (hidden, memory)


def test_the_kernel_gives_what_torch_gives(made):
    trainer, network = made
    forcing = trainer.data.forcing
    with torch.no_grad():
        expected = trainer.generator.varying(
            {n: torch.from_numpy(v) for n, v in forcing.items()}, trainer.chain.of_lstm
        )
    series, _ = run_network(network, forcing)
    for k, name in enumerate(order_of(trainer.spec)):
        assert expected[name].shape == (N, 70, N_CELLS)
        np.testing.assert_allclose(series[N * k : N * k + N], expected[name].numpy(), rtol=1e-12)
        assert np.ptp(series[N * k], axis=0).min() > 1e-3


def order_of(spec: GeneratorSpec) -> list[str]:
    return [target.name for target in spec.lstm.targets]


def test_steps_tiles_and_a_state_in_between_give_the_same_bits(made):
    trainer, network = made
    forcing = trainer.data.forcing
    whole, end = run_network(network, forcing)
    state = None
    for first in range(70):
        row, state = run_network(network, forcing, 1, first=first, state=state)
        np.testing.assert_array_equal(row[:, 0], whole[:, first])
    for a, b in zip(state, end, strict=True):
        np.testing.assert_array_equal(a, b)
    for lo, hi in ((0, 1), (1, 6), (6, N_CELLS)):
        part, _ = run_network(network, forcing, lo=lo, hi=hi)
        np.testing.assert_array_equal(part[:, :, lo:hi], whole[:, :, lo:hi])


def test_many_cells_in_tiles_have_the_bits_of_each_alone(monkeypatch):
    monkeypatch.setattr("bmi_cdlm.kernels.workers.WORTH_A_THREAD", 0)
    rng = np.random.default_rng(1)
    size, n, n_steps = 8, 131, 7
    network = LstmNetwork(
        rng.normal(size=(size, n)), rng.normal(size=(size, 3)), 3.0, rng.normal(size=(4 * size, size)),
        rng.normal(size=(4 * size, size)), rng.normal(size=4 * size), rng.normal(size=(2, size)), rng.normal(size=2),
        np.array([0.5, np.log(0.1)]), np.array([2.0, 1.0]), np.array([False, True]),
    )
    weather = [rng.uniform(0, 9, (n_steps, n)) for _ in range(3)]
    lstm = Lstm(network, {"a": 1, "b": 1})
    series = dict(zip(("precipitation", "potential_evapotranspiration", "air_temperature"), weather, strict=True))

    def run(one, inputs, threads=1):
        workers, m = Workers(threads), one.network.static.shape[1]
        found = one.advance(inputs, np.zeros((size, m)), np.zeros((size, m)), workers, workers.tasks(m))
        workers.close()
        return {name: v.copy() for name, v in found.items()}

    whole = run(lstm, series)
    np.testing.assert_array_equal(run(lstm, series, 3)["b"], whole["b"])
    assert 0.1 <= whole["b"].min() and whole["b"].max() <= 0.1 * np.e
    for k in (0, 63, 64, 130):
        alone = run(lstm.of_cells(np.array([k])), {name: np.ascontiguousarray(v[:, k : k + 1]) for name, v in
                                                   series.items()})
        for name, values in alone.items():
            np.testing.assert_array_equal(values[:, 0], whole[name][:, k])


@pytest.mark.slow
def test_run_bmi_and_evaluation_of_the_trainer_are_equal(case):
    """HBV with components and Muskingum-Cunge; the chain that training differentiates, in float64."""
    run = change_config(case, "told.yaml", output="run.nc", output_at="gauges", training=None)
    found = CliRunner().invoke(main, ["run", "--quiet", str(run)])
    assert found.exit_code == 0, found.output
    with netCDF4.Dataset(case.parent / "run.nc") as dataset:
        by_run = np.asarray(dataset["discharge"][...])
    with opened(run) as component:
        by_bmi = step_all(component, (variable("gauge_discharge").name,))[variable("gauge_discharge").name]
    np.testing.assert_array_equal(by_bmi, by_run)
    trainer = drawn_trainer(change_training(case, "chain.yaml", warm_up=6 * 70, **KEYS))
    for part in trainer.parts:
        with torch.no_grad():
            expected = trainer.chain(part, trainer.data.window(0, 70)).discharge.numpy()
        got = by_run[:, trainer.data.gauges[part.gauges]]
        np.testing.assert_allclose(got, expected, rtol=1e-9)
        assert np.ptp(expected, axis=0).min() > 0
    trainer.workers.close()


@pytest.mark.slow
def test_restarts_at_random_steps_have_the_bits_of_an_unbroken_run(case):
    with simulated(case) as whole:
        whole.advance(whole.read_forcing(0, 70))
        expected = {n: a.copy() for n, a in whole.model.state.arrays().items()}
        shown = {n: a.copy() for n, a in whole.model.live.items()}
    assert expected["lstm_hidden"].shape == expected["lstm_memory"].shape == (8, N_CELLS)
    assert expected["lstm_memory"][:6].any() and not expected["lstm_memory"][6:].any()
    for step in np.random.default_rng(3).choice(np.arange(1, 69), 3, replace=False):
        with simulated(case) as first:
            first.advance(first.read_forcing(0, int(step)))
            content = first.to_bytes()
        with simulated(change_config(case, "rest.yaml", threads=2, spin_up=0)) as rest:
            rest.restore_from(content)
            rest.advance(rest.read_forcing(int(step), 70 - int(step)))
            for name, value in expected.items():
                np.testing.assert_array_equal(rest.model.state.arrays()[name], value, err_msg=name)
            for name, value in shown.items():
                np.testing.assert_array_equal(rest.model.live[name], value, err_msg=name)


@pytest.mark.slow
def test_a_state_of_a_run_without_the_network_is_refused_and_the_balance_closes(case):
    with simulated(change_config(case, "plain.yaml", parameters="default")) as plain:
        content = plain.to_bytes()
    with simulated(change_config(case, "closed.yaml", ledger_tolerance=1e-11)) as simulation:
        with pytest.raises(StateError, match="state lacks 'lstm_hidden'"):
            simulation.restore_from(content)
        for step in range(20):
            simulation.advance(simulation.read_forcing(step, 1))
            simulation.check_ledger()
        with pytest.raises(StateError, match="parameters vary by an LSTM"):
            simulation.model.record(simulation.read_forcing(0, 3))


def test_a_run_that_takes_no_demand_is_refused(case):
    run = change_config(case, "given.yaml", coupled_inputs=["given_evapotranspiration"], spin_up=0)
    with pytest.raises(CheckpointError, match="in this run evapotranspiration is given"), simulated(run):
        pass
    half = change_config(case, "half.yaml", runoff="caller", coupled_inputs=["given_lateral_inflow"], spin_up=0,
                         forcing="caller", pet="given", observations=None)
    with simulated(half) as simulation:
        assert simulation.model.lstm is None


def test_several_sets_on_a_device_are_refused(case):
    run, config = load_train_config(change_training(case, "device.yaml", device="cuda", **KEYS))
    with pytest.raises(ConfigError, match=r"with components: 2 on device: cuda"):
        Dataset(run, config, read_domain(run.domain))


def test_the_doctor_finds_nothing_wrong_with_the_checkpoint(case):
    found = [f for f in examine(case) if f.subject in ("parameters", "attributes")]
    assert found and all(f.level != "fail" for f in found), found
    one = change_config(case, "one.yaml", components=1)
    (wrong,) = [f.text for f in examine(one) if f.subject == "parameters" and f.level == "fail"]
    assert "was trained with components: 2, the run has components: 1" in wrong


def test_an_equilibrium_starts_a_network_that_remembers_nothing(case):
    keys = {"spin_up": 0, "initial_state": "equilibrium", "initial_runoff": 1.0}
    with simulated(change_config(case, "equilibrium.yaml", **keys)) as simulation:
        assert not simulation.model.state.lstm_memory.any()
        simulation.advance(simulation.read_forcing(0, 2))
        assert simulation.model.state.lstm_memory.any() and simulation.model.is_finite


@pytest.mark.slow
def test_a_partition_takes_its_part_of_the_network(case, tmp_path):
    config = load_config(case)
    domain = read_domain(config.domain)
    parameters, pet = read_any_parameters(config, domain)
    lstm, cuts = read_lstm(config, domain), partition(domain.reaches.downstream, 2)
    part = make_part(domain, parameters, pet, np.zeros(N_CELLS), cuts, 0, np.zeros(0, np.int64), lstm)
    write_part(tmp_path / "part.npz", part)
    again = read_part(tmp_path / "part.npz").lstm
    assert again.components == dict.fromkeys(order_of(load_checkpoint(config.parameters).spec), N)
    np.testing.assert_array_equal(again.network.static, lstm.network.static[:, part.cells])
    np.testing.assert_array_equal(again.network.logarithmic, lstm.network.logarithmic)


def test_series_by_component_are_those_of_each_component_alone():
    domain, rng = random_domain(5, 12, 6), np.random.default_rng(2)
    forcing, n = random_forcing(3, 30, domain.n_cells), domain.n_cells
    series = {name: rng.uniform(0.4, 0.9, (3, 30, n)) for name in VARYING}
    options = {"runoff": "hbv", "varying": VARYING, "routing_step": DAY}
    whole = Model(domain, components={"hbv": 3}, threads=2, **options)
    bad = {**series, "recharge_shape": series["recharge_shape"] - 0.5}
    with pytest.raises(ParameterError, match=r"'recharge_shape' of component \d \(from 0\) is -0\.\d+ in step"):
        whole.advance(forcing._replace(varying=bad))
    given = forcing._replace(varying=series)
    runoff = np.concatenate([
        whole.advance(given.part(steps), ("runoff",))["runoff"].copy() for steps in (slice(0, 11), slice(11, 30))
    ])
    each = []
    for c in range(3):
        alone = Model(domain, **options)
        own = forcing._replace(varying={name: values[c] for name, values in series.items()})
        each.append(alone.advance(own, ("runoff",))["runoff"].copy())
        alone_state = alone.state.cells[-1].soil_moisture
        np.testing.assert_array_equal(whole.state.cells[-1].soil_moisture.reshape(3, n)[c], alone_state)
    np.testing.assert_allclose(runoff, np.mean(each, axis=0), rtol=1e-13)
    whole.close()


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_differences(case, weighted):
    """Of all weights together, those of the LSTM and of the network of attributes among them."""
    trainer = drawn_trainer(change_training(
        case, f"{weighted}.yaml", learn_component_weights=weighted, pairs_per_update=3, **KEYS
    ))
    batch = make_batch(trainer.data, draw_pairs(trainer.data, np.random.default_rng(1), 3), trainer.workers)
    trainer.gradient_of(batch, 1)
    found = {n: w.grad.numpy().copy() for n, w in trainer.generator.named_parameters() if w.grad is not None}
    rng = np.random.default_rng(4)
    kept = trainer.generator.tensors()
    for chosen in ("lstm.recurrent", "lstm.input", ""):
        direction = {n: rng.normal(size=g.shape) if n.startswith(chosen) else 0.0 * g for n, g in found.items()}
        values = []
        for sign in (1, -1):
            trainer.generator.load({n: v + sign * 1e-6 * direction.get(n, 0.0) for n, v in kept.items()})
            values.append(trainer.gradient_of(batch, 1))
        slope = sum(float((g * direction[n]).sum()) for n, g in found.items())
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=2e-5), chosen
        assert slope != 0
    trainer.workers.close()


@pytest.mark.slow
def test_it_learns_with_dropout_and_the_best_checkpoint_scores_as_told(case):
    config = change_training(
        case, "learn.yaml", output=str(case.parent / "learnt.safetensors"), dropout=0.3, updates=3, epochs=2,
        **KEYS
    )
    before = Trainer(config, ALONE).generator.tensors()
    trainer, scores, epochs = train(config)
    assert len(epochs) == 2 and np.isfinite(scores.nse)
    after = load_checkpoint(trainer.config.output).tensors
    for name in ("lstm.recurrent.weight", "lstm.gates.weight", "lstm.last.bias"):
        assert not np.array_equal(before[name], after[name]), name
    lstm = trainer.generator.lstm
    trainer.generator.draw_dropout(np.random.default_rng(1))
    assert lstm.dropped is not None
    trainer.generator.draw_dropout(None)
    assert lstm.dropped is None


@pytest.mark.parametrize(("keys", "match"), [
    ({"varying": ["field_capacity"]}, "'field_capacity' is no parameter of hbv that a generator may vary in time"),
    ({"varying": ["recharge_shap"]}, "Did you mean 'recharge_shape'"),
    ({"varying": ["recharge_shape", "recharge_shape"]}, "varying names 'recharge_shape' twice"),
])
def test_what_may_not_vary_is_refused(case, keys, match):
    with pytest.raises(ConfigError, match=match):
        Trainer(change_training(case, "bad.yaml", **{**KEYS, **keys}), ALONE)
