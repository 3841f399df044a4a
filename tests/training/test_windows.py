"""The mapping `resnet`: windows on the grid of the cells, what depends on what, its files; and `residual_mlp`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
from cases import change_config
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.numpy import save_file
from training_cases import ALONE, change_training, train, write_training_case

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.checkpoint import HEADER
from bmi_cdlm.generator.generator import Inputs, static_parameters
from bmi_cdlm.generator.specification import Attribute, NetworkSpec, Target
from bmi_cdlm.names.errors import CheckpointError, ConfigError
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.parameter_file import read_parameters
from cdlm_training.cli import main
from cdlm_training.config import load_train_config
from cdlm_training.fields import parameters_of
from cdlm_training.loop import Trainer
from cdlm_training.scores import simulate_gauges
from cdlm_training.seen import what_it_saw
from cdlm_training.terms import WindowShape
from cdlm_training.window_file import load_windowed, network_file, save_windowed
from cdlm_training.windows import WindowNetwork, grid_places, window_index

RESNET = {
    "mapping": "resnet", "output": "out/windows.nc", "resnet": {"window": 3, "blocks": 1, "width": 8},
    "pet_factor": None, "pet_hidden": None, "epochs": 1,
}
SPEC = NetworkSpec(
    "mlp", (Attribute("forest", "1", "none", 1.0, 0.5, 0.25, 0.0, 1.0),), (4,), "tanh",
    (Target("production_capacity", 10.0, 2000.0, 350.0, "log"), Target("routing_capacity", 1.0, 500.0, 90.0, "log")),
)


def cells_on(rows, columns, side=0.5, turn=0.0, lon=10.0):
    """Cells of a grid, turned by some degrees."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))

    def at(column, row):
        x, y = side * np.asarray(column, float), side * np.asarray(row, float)
        return lon + c * x - s * y, 45 + s * x + c * y

    offsets = ((0, 0), (1, 0), (1, 1), (0, 1))
    corner = [at(np.add(columns, dx), np.add(rows, dy)) for dx, dy in offsets]
    centre = at(np.add(columns, 0.5), np.add(rows, 0.5))

    class Cells:
        id = [f"c{k}" for k in range(len(rows))]  # noqa: RUF012
        lon, lat = centre
        corner_lon, corner_lat = (np.stack([c[k] for c in corner], 1) for k in (0, 1))

    return Cells


@pytest.mark.parametrize("turn", [0.0, 30.0])
def test_cells_find_their_places(turn):
    rows, columns = [3, 0, 1, 1, 7], [2, 4, 0, 1, 3]
    found = grid_places(cells_on(rows, columns, turn=turn))
    steps = found - found[0]
    expected = np.abs(np.subtract(rows, 3)) + np.abs(np.subtract(columns, 2))
    np.testing.assert_array_equal(np.abs(steps).sum(axis=1), expected)
    index = window_index(found, 3)
    assert (index[:, 1, 1] == np.arange(5)).all()
    beside = {k: {int(i) for i in index[k].ravel()} - {k, 5} for k in range(5)}
    assert beside == {0: set(), 1: set(), 2: {3}, 3: {2}, 4: set()}


def test_what_is_no_grid_is_refused():
    with pytest.raises(ConfigError, match=r"cell c2 0\.40 of a side off its place"):
        grid_places(cells_on([0, 0, 0, 1, 1], [0, 1, 2.4, 0, 1]))
    with pytest.raises(ConfigError, match="two cells on one place"):
        grid_places(cells_on([0, 0, 0], [0, 1, 1]))


def test_a_cell_sees_its_window_and_nothing_beyond():
    cells = cells_on(*np.divmod(np.arange(30), 6))
    shape = WindowShape(window=3, blocks=2, width=8)
    network = WindowNetwork(SPEC, shape, torch.Generator().manual_seed(1), 1).double()
    raw = np.random.default_rng(1).random((30, 1))
    network.look_at(cells, raw)
    places = np.arange(30.0)[:, None]
    with torch.no_grad():
        before = network.free(places)
        assert torch.equal(network.free(places[[7, 29]]), before[[7, 29]]), "whoever is asked for beside it"
        network.look_at(cells, raw + (np.arange(30) == 14)[:, None] * 0.3)
        moved = np.flatnonzero((network.free(places) != before).any(dim=1))
    near = {14 + 6 * r + c for r in (-1, 0, 1) for c in (-1, 0, 1)}
    assert set(moved.tolist()) == near
    with torch.no_grad():
        network.look_at(cells, raw + 0.5)
        assert not torch.allclose(network.free(places)[14], before[14]), "levels are not lost to the normalisation"
        network.look_at(cells, np.full((30, 1), 0.5))
        even = network.free(places)
    assert torch.allclose(even[7], even[16]) and not torch.allclose(even[0], even[7]), "an edge is not a cell of zeros"


def test_a_window_of_one_cell_is_refused_where_it_is_even():
    with pytest.raises(ValueError, match="window is 4; expected an odd number"):
        WindowShape(window=4)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    config = write_training_case(tmp_path_factory.mktemp("windows"), spin_up=1)
    with netCDF4.Dataset(config.parent / "domain.nc", "a") as file:
        cells = cells_on([0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3], lon=0.0)
        file.createDimension("corner", 4)
        for name, units in (("lon", "degrees_east"), ("lat", "degrees_north")):
            corner = file.createVariable(f"cell_corner_{name}", "f8", ("cell", "corner"))
            corner[:], corner.units = getattr(cells, f"corner_{name}"), units
            file[f"cell_{name}"][:] = getattr(cells, name)
    return change_training(config, "resnet.yaml", **RESNET)


def test_a_training_exports_what_the_runtime_takes(case):
    trainer, scores, _ = train(case)
    made = read_parameters(trainer.config.output, trainer.data.domain)
    for name, values in parameters_of(trainer.generator, trainer.chain.attributes).items():
        np.testing.assert_allclose(values, made[name], rtol=1e-12, err_msg=name)
    assert np.unique(made["production_capacity"]).size == 8 and scores.nse == trainer.best
    _, simulated = simulate_gauges(load_config(case), trainer.config.output)
    assert np.isfinite(simulated).all()
    with netCDF4.Dataset(trainer.config.output) as file:
        assert file.mapping == "resnet" and "fingerprints" in file.ncattrs()


def test_apply_gives_the_same_on_the_same_domain_and_refuses_others(case, tmp_path):
    network = case.parent / "out" / "windows.safetensors"
    if not network.exists():
        train(case)
    call = CliRunner().invoke
    result = call(main, ["apply", str(network), str(case), "--to", str(tmp_path / "p.nc")])
    assert result.exit_code == 0, result.output
    domain = read_domain(load_config(case).domain)
    again, before = (read_parameters(p, domain) for p in (tmp_path / "p.nc", case.parent / "out" / "windows.nc"))
    for name, values in before.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-6, err_msg=name)
    other = change_config(case, "snow.yaml", routing_step="1 h")
    result = call(main, ["apply", str(network), str(other), "--to", str(tmp_path / "q.nc")])
    assert result.exit_code == 1 and "was trained with routing_step: 240 min" in " ".join(result.output.split())
    plain = case.parent / "truth.safetensors"
    result = call(main, ["apply", str(plain), str(case), "--to", str(tmp_path / "q.nc")])
    assert result.exit_code == 1 and "An ordinary checkpoint needs no apply" in " ".join(result.output.split())
    tuned = Trainer(change_training(case, "tuned.yaml", start_from="out/windows.safetensors", output="out/t.nc"), ALONE)
    for name, values in parameters_of(tuned.generator, tuned.chain.attributes).items():
        np.testing.assert_allclose(values, before[name], rtol=1e-6, err_msg=name)
    with pytest.raises(ConfigError, match=r"has resnet: .*'blocks': 1.*, expected that of"):
        Trainer(change_training(case, "tuned.yaml", start_from="out/windows.safetensors", output="out/t.nc",
                                resnet={"window": 3, "blocks": 2, "width": 8}), ALONE)
    with pytest.raises(CheckpointError, match="there is no such file"):
        Trainer(change_training(case, "tuned.yaml", start_from="none.safetensors", output="out/t.nc"), ALONE)


@pytest.mark.parametrize(("keys", "said"), [
    ({"pet_factor": True}, "pet_factor is on, and mapping is resnet"),
    ({"varying": ["recharge_shape"]}, "varying is recharge_shape, and mapping is resnet"),
    ({"output": "out/a.safetensors"}, r"output is a\.safetensors; expected a name that ends in \.nc"),
    ({"resnet": {"depth": 3}}, r"unknown key 'training\.resnet\.depth'"),
])
def test_what_is_refused(case, keys, said):
    with pytest.raises(ConfigError, match=said):
        load_train_config(change_training(case, "bad.yaml", **keys))


def test_a_residual_mlp_is_the_same_in_torch_and_numpy():
    """And against the equations by hand; layers of different sizes are refused."""
    from cdlm_training.generator import StaticNetwork

    spec = NetworkSpec("residual_mlp", SPEC.attributes, (4, 4, 4), "tanh", SPEC.targets)
    network = StaticNetwork(spec, torch.Generator().manual_seed(2)).double()
    raw = np.random.default_rng(1).random((5, 1))
    w = {f"cell.{n}": v.detach().numpy() for n, v in network.named_parameters()}
    x = np.tanh((raw - 0.5) / 0.25 @ w["cell.0.weight"].T + w["cell.0.bias"])
    for k in (1, 2):
        x = x + np.tanh(x @ w[f"cell.{k}.weight"].T + w[f"cell.{k}.bias"])
    z = x @ w["cell.3.weight"].T + w["cell.3.bias"]
    torch.testing.assert_close(network.free(raw).detach(), torch.from_numpy(z), rtol=1e-12, atol=1e-12)
    log = np.log([[10.0, 2000.0], [1.0, 500.0]])
    exact = np.exp(log[:, 0] + (log[:, 1] - log[:, 0]) / (1 + np.exp(-z)))
    made = static_parameters(of_cells(spec), w, Inputs(raw, np.empty((0, 0)), np.empty((5, 0))))
    for k, target in enumerate(spec.targets):
        np.testing.assert_allclose(made[target.name], exact[:, k], rtol=1e-12)
        np.testing.assert_allclose(network(raw)[target.name].detach(), exact[:, k], rtol=1e-12)
    with pytest.raises(ValueError, match="expected layers of one size"):
        NetworkSpec("residual_mlp", SPEC.attributes, (4, 5), "tanh", SPEC.targets)


def of_cells(spec):
    class Spec:
        cell, reach = spec, NetworkSpec("uniform", (), (), "tanh", (Target("celerity", 0.1, 5.0, 1.0, "log"),))

    return Spec


# ---- files of networks ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(case):
    """A network as it begins, in a file."""
    trainer = Trainer(change_training(case, "begin.yaml", output="out/begin.nc"), ALONE)
    path = case.parent / "begin.safetensors"
    save_windowed(path, trainer.generator, {"gauges": ["g0", "g1"], "periods": {"train": ["2001-01-01", "2002-01-01"]}})
    return path, trainer


def test_a_network_survives_its_file(network):
    path, trainer = network
    found = load_windowed(path)
    assert (found.spec, found.shape, found.where) == (trainer.spec, trainer.config.resnet, str(path))
    own = trainer.generator.tensors()
    assert found.tensors.keys() == own.keys() and all(np.array_equal(found.tensors[n], own[n]) for n in own)
    seen = what_it_saw(path)
    assert seen.gauges == {"g0", "g1"} and seen.periods == (("2001-01-01", "2002-01-01"),)
    before = path.read_bytes()
    save_windowed(path, trainer.generator, {"gauges": ["g0", "g1"], "periods": {"train": ["2001-01-01", "2002-01-01"]}})
    assert path.read_bytes() == before, "the same network is the same file"
    assert network_file(Path("a/b.nc")) == Path("a/b.safetensors")


def damaged(name: str, tensors: dict, header: dict) -> None:
    """Change what a file holds, in place."""
    first = next(n for n in sorted(tensors) if n.startswith("cell"))
    if name == "lost":
        tensors.pop(first)
    elif name == "more":
        tensors["cell.9.weight"] = np.zeros(2, np.float32)
    elif name == "shape":
        tensors[first] = np.zeros((1, *tensors[first].shape), tensors[first].dtype)
    elif name == "infinite":
        tensors[first] = np.full_like(tensors[first], np.inf)
    elif name == "even":
        header["shape"]["window"] = 4
    elif name == "other":
        header["shape"]["width"] = 16
    elif name == "format":
        header["format"] = "bmi_cdlm resnet 9"
    else:
        header.pop(name)


@pytest.mark.parametrize(("name", "said"), [
    ("lost", "weights 'cell.*' are missing, none of such a network, of another shape or not finite; expected finite"),
    ("more", r"weights 'cell\.9\.weight' .* of shape None"), ("shape", "weights 'cell.*' are missing"),
    ("infinite", "weights 'cell.*' .* not finite"), ("even", "cannot be read as a network of windows"),
    ("other", "are missing, none of such a network"), ("format", "has format 'bmi_cdlm resnet 9', expected"),
    ("record", "cannot be read as a network of windows"), ("specification", "cannot be read as a network of windows"),
])
def test_a_damaged_network_is_refused(network, tmp_path, name, said):
    path, _ = network
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()[HEADER])
        tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    damaged(name, tensors, header)
    save_file(tensors, tmp_path / "x.safetensors", {HEADER: json.dumps(header)})
    with pytest.raises(CheckpointError, match=said):
        load_windowed(tmp_path / "x.safetensors")


def test_half_a_network_is_refused(network, tmp_path):
    path, _ = network
    for share in (0.0, 0.5, 0.99):
        content = path.read_bytes()
        (tmp_path / "x.safetensors").write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError, match="cannot be read as a network of windows"):
            load_windowed(tmp_path / "x.safetensors")
