"""Weights of dHBV's networks become a checkpoint: equal to the same architecture in torch, to 1e-6."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cases import change_config, simulated
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn
from training_cases import change_training, write_training_case

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.lstm import Lstm
from cdlm_training.cli import main

N, HIDDEN, UNITS, LAYERS = 2, 12, 5, 7
ATTRIBUTES = ["elevation", "forest"]
FIXED = {
    "field_capacity": (50, 1000), "interflow_rate": (0.01, 0.5), "baseflow_rate": (0.001, 0.2),
    "evaporation_threshold": (0.2, 1), "percolation_capacity": (0, 10), "quickflow_threshold": (0, 100),
    "snow_threshold_temperature": (-2.5, 2.5), "degree_day_factor": (0.5, 10), "refreezing_factor": (0, 0.1),
    "snow_water_capacity": (0, 0.2), "capillary_rate": (0, 1), "regional_exchange_capacity": (0, 20),
    "regional_exchange_area": (0, 2500),
}
VARYING = {"recharge_shape": (1, 6), "quickflow_rate": (0.05, 0.9), "evaporation_shape": (0.3, 5)}
"""Parameters of dHBV 2.0 in its order, with its bounds."""
STATISTICS = {
    "elevation": [120.0, 800.0, 400.0, 150.0], "forest": [0.1, 0.9, 0.4, 0.3], "precipitation": [3.0, 6.0],
    "air_temperature": [5.0, 8.0], "potential_evapotranspiration": [2.0, 1.5],
}


class Static(nn.Module):
    """Seven hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.i2h = nn.Linear(len(ATTRIBUTES), HIDDEN)
        self.h2h = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(LAYERS - 1))
        self.h2o = nn.Linear(HIDDEN, 13 * N + 2)

    def forward(self, x):
        x = torch.relu(self.i2h(x))
        for layer in self.h2h:
            x = torch.relu(layer(x))
        return torch.sigmoid(self.h2o(x))


class Dynamic(nn.Module):
    """A layer, an LSTM, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linearIn = nn.Linear(3 + len(ATTRIBUTES), UNITS)
        self.lstm = nn.LSTM(UNITS, UNITS)
        self.linearOut = nn.Linear(UNITS, 3 * N)

    def forward(self, x):
        return torch.sigmoid(self.linearOut(self.lstm(torch.relu(self.linearIn(x)))[0]))


class Original(nn.Module):
    """Both networks, in the precision that dHBV has."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.lstminv, self.Ann = Dynamic(), Static()
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(2.0)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """An unit hydrograph, RT and AC among the parameters: the process of dHBV 2.0."""
    folder = tmp_path_factory.mktemp("case")
    case = write_training_case(
        folder, runoff="hbv_2_0", components=N, pet_factor=False, cell_attributes=ATTRIBUTES, varying=list(VARYING),
        licence="of whoever trained them",
    )
    (folder / "statistics.json").write_text(json.dumps(STATISTICS))
    model = Original()
    save_file(model.state_dict(), folder / "weights.safetensors")
    torch.save({"model_state_dict": model.state_dict()}, folder / "weights.pt")
    return case


def imported(case, weights, config=None):
    statistics = case.parent / "statistics.json"
    return CliRunner().invoke(main, [str(config or case), "--weights", str(weights), "--statistics", str(statistics)])


def standardised(name, values):
    mean, std = STATISTICS[name][-2:]
    return torch.from_numpy((values - mean) / std).float()


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pt"])
def test_parameters_are_those_of_the_original(case, file):
    found = imported(case, case.parent / file)
    assert found.exit_code == 0, found.output
    assert "reaches keep the defaults" in found.output
    checkpoint = load_checkpoint(case.parent / "out" / "trained.safetensors")
    assert checkpoint.record["licence"] == "of whoever trained them"
    domain, original = read_domain(case.parent / "domain.nc"), Original()
    raw = read_attributes(case.parent / "domain.nc", domain, "cell", ATTRIBUTES).values
    attributes = torch.stack([standardised(n, v) for n, v in zip(ATTRIBUTES, raw.T, strict=True)], 1)
    with torch.no_grad():
        share = original.Ann(attributes).double().numpy()
    got, pet = checkpoint.evaluate(case.parent / "domain.nc", domain)
    assert pet is None
    for k, (name, (low, high)) in enumerate(FIXED.items()):
        expected = low + share[:, k * N : k * N + N].T * (high - low)
        np.testing.assert_allclose(got[name], expected, atol=1e-6 * (high - low), err_msg=name)
        assert np.ptp(got[name]) > 1e-4 * (high - low)
    for k, (name, high) in enumerate((("unit_hydrograph_shape", 2.9), ("unit_hydrograph_scale", 6.5))):
        expected = np.repeat(share[None, :, 13 * N + k] * high, N, 0)
        np.testing.assert_allclose(got[name], expected, atol=1e-6 * high)

    rng, n = np.random.default_rng(1), domain.n_cells
    weather = {"precipitation": rng.exponential(3.0, (40, n)), "air_temperature": rng.normal(5, 8, (40, n)),
               "potential_evapotranspiration": rng.uniform(0, 5, (40, n))}
    x = torch.cat([torch.stack([standardised(m, v) for m, v in weather.items()], -1), attributes.expand(40, -1, -1)], 2)
    with torch.no_grad():
        share = original.lstminv(x).double().numpy()
    lstm, workers = Lstm(checkpoint.lstm(case.parent / "domain.nc", domain), dict.fromkeys(VARYING, N)), Workers(1)
    series = lstm.advance(weather, np.zeros((8, n)), np.zeros((8, n)), workers, workers.tasks(n))
    for k, (name, (low, high)) in enumerate(VARYING.items()):
        expected = low + np.moveaxis(share[..., k * N : k * N + N], -1, 0) * (high - low)
        np.testing.assert_allclose(series[name], expected, atol=1e-6 * (high - low), err_msg=name)
        assert np.ptp(series[name]) > 1e-3 * (high - low)


def test_the_checkpoint_runs(case):
    imported(case, case.parent / "weights.safetensors")
    run = change_config(case, "run.yaml", parameters="out/trained.safetensors", training=None)
    with simulated(run) as simulation:
        simulation.advance(simulation.read_forcing(0, 20))
        assert simulation.model.is_finite and simulation.model.live["evapotranspiration"].any()


class Code:
    """What a pickle would run."""

    def __reduce__(self):
        return print, ("code was run",)


def test_what_is_refused_is_named(case, capsys):
    folder = case.parent
    torch.save({"weight": Code()}, folder / "code.pt")
    torch.save({"weight": [1, 2]}, folder / "lists.pt")
    (folder / "short.safetensors").write_bytes(b"12345678901")
    weights = folder / "weights.safetensors"
    for file, keys, message in (
        (folder / "code.pt", {}, "cannot be read as weights alone"),
        (folder / "lists.pt", {}, "expected tensors by name"),
        (folder / "short.safetensors", {}, "cannot be read as weights alone"),
        (folder / "none.pt", {}, "cannot be read as weights alone"),
        (weights, {"varying": []}, "gives 28 values, expected 34"),
        (weights, {"cell_attributes": ["forest"]}, "expected one that takes the 1 of cell_attributes"),
        (weights, {"varying": ["recharge_shape"]}, "gives 28 values, expected 32"),
    ):
        output = folder / "out" / "bad.safetensors"
        config = change_training(case, "bad.yaml", output="out/bad.safetensors", **keys)
        found = imported(case, file, config)
        assert found.exit_code != 0 and message in found.output.replace("\n", " "), (message, found.output)
        assert not output.exists()
    assert "code was run" not in capsys.readouterr().out
    plain = change_config(case, "gr4j.yaml", runoff="gr4j")
    assert "expected an HBV" in imported(case, weights, change_training(plain, "g.yaml", varying=[])).output
    (folder / "statistics.json").write_text(json.dumps({n: v for n, v in STATISTICS.items() if n != "forest"}))
    assert "'forest' is None, expected [mean, std]" in imported(case, weights).output.replace("\n", " ")
    (folder / "statistics.json").write_text(json.dumps(STATISTICS))
    alone = CliRunner().invoke(main, [str(case), "--weights", str(weights)])
    assert alone.exit_code == 2 and "--weights goes with --statistics" in alone.output


def without(state, *ends):
    """A state without the weights of these ends of names."""
    return {name: a for name, a in state.items() if not name.endswith(ends)}


OTHERS = {
    "lstm alone": lambda s: {n: a for n, a in s.items() if n.startswith("lstminv")},
    "no bias": lambda s: without(s, "Ann.h2h.2.bias"),
    "no chain": lambda s: s | {  # one is narrower, and the next as wide as it was
        "Ann.h2h.2.weight": torch.zeros(HIDDEN - 1, HIDDEN), "Ann.h2h.2.bias": torch.zeros(HIDDEN - 1),
        "Ann.h2h.4.weight": torch.zeros(HIDDEN, HIDDEN - 1),
    },
    "no gates": lambda s: without(s, "lstm.bias_hh_l0"),
    "no output": lambda s: without(s, "linearOut.weight", "linearOut.bias"),
    "wide input": lambda s: s | {"lstminv.linearIn.weight": torch.zeros(UNITS, 9)},
    "more static": lambda s: s | {"Ann.h2o.weight": torch.zeros(16 * N + 2, HIDDEN), "Ann.h2o.bias": torch.zeros(
        16 * N + 2)},
}
"""Weights that are not quite those of dHBV 2.0, by what is wrong with them."""


@pytest.mark.parametrize(("wrong", "keys", "message"), [
    ("lstm alone", {}, "has an LSTM, and no static network beside it under another name."),
    ("no bias", {}, "layer 'Ann.h2h.2' has no fitting bias, expected one per row of its weight."),
    ("no chain", {}, "do not fit each other, expected a chain."),
    ("no gates", {}, "its LSTM has b_ih, w_hh, w_ih, expected one layer with w_ih, w_hh, b_ih, b_hh"),
    ("no output", {}, "one to 6 values (3 parameters of 2 sets); has [5, 5]. Check cell_attributes"),
    ("wide input", {}, "expected about the LSTM of 5 units a layer from 5 inputs (3 of forcing, 2 attributes)"),
    ("more static", {"varying": []}, "has an LSTM, and training.varying is empty. Name what it gives"),
])
def test_weights_that_are_not_those_of_dhbv(case, wrong, keys, message):
    file, output = case.parent / "other.safetensors", case.parent / "out" / "other.safetensors"
    save_file({n: a.contiguous() for n, a in OTHERS[wrong](Original().state_dict()).items()}, file)
    found = imported(case, file, change_training(case, "other.yaml", output="out/other.safetensors", **keys))
    said = " ".join(found.output.split())
    assert found.exit_code == 1 and said.startswith(f"Error: {file}: ") and message in said, said
    assert not output.exists()


@pytest.mark.parametrize(("content", "message"), [
    ({**STATISTICS, "forest": [0.4, 0.0]}, "'forest' has mean 0.4 and std 0.0, expected numbers, std above 0."),
    ({**STATISTICS, "precipitation": [float("nan"), 6.0]}, "'precipitation' has mean nan and std 6.0"),
    ({**STATISTICS, "elevation": [400.0]}, "'elevation' is [400.0], expected [mean, std] or [p10, p90, mean, std]."),
    ({n.replace("forest", "forests"): v for n, v in STATISTICS.items()}, "Did you mean 'forests'? Rename or add it"),
    (list(STATISTICS), "'elevation' is None, expected [mean, std]"), ("{", "cannot be read as JSON"),
])
def test_statistics_that_say_nothing(case, tmp_path, content, message):
    file = tmp_path / "statistics.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    config = change_training(case, "said.yaml", output="out/said.safetensors")
    words = [str(config), "--weights", str(case.parent / "weights.safetensors"), "--statistics", str(file)]
    found = CliRunner().invoke(main, words)
    said = " ".join(found.output.split())
    assert found.exit_code == 1 and said.startswith(f"Error: {file}: ") and message in said, said
    assert not (case.parent / "out" / "said.safetensors").exists()


def test_weights_make_no_field(case):
    keys = {"mapping": "distributed", "cell_attributes": None, "reach_attributes": None, "varying": None}
    config = change_training(case, "field.yaml", output="out/field.nc", **keys)
    found = imported(case, case.parent / "weights.safetensors", config)
    assert found.exit_code == 1 and "--weights makes a checkpoint, and training.mapping is distributed" in found.output
