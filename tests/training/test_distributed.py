"""Several processes: the gradient and the weights of one, and one that writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import ALONE, change_training, train, weights_of, write_training_case

from cdlm_training.distributed import Team
from cdlm_training.loop import Trainer

TESTS = Path(__file__).resolve().parents[1]
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
LOOSER = {"newton": 1e3}
"""A line search carries rounding on."""
KINDS = {
    "many": {"windows_per_update": 3, "updates": 2}, "one": {"gauges": ["g3"], "updates": 2},
    "newton": {"optimizer": "lbfgs", "learning_rate": 1.0, "updates": 1, "windows_per_update": 2},
}
N_ITEMS = {"many": 6, "one": 1, "newton": 4}
SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import numpy as np
from cdlm_training.cli import end_process
from cdlm_training.distributed import team
from cdlm_training.loop import Trainer

def ignore(*words):
    pass

with team() as here:
    assert here.size == 2 and here.leads == (here.rank == 0)
    for config in sys.argv[1:]:
        trainer = Trainer(Path(config), here)
        windows = trainer.data.windows(np.random.default_rng(5), trainer.config.windows_per_update)
        objective, done = trainer.objective.__call__, []
        type(trainer.objective).__call__ = lambda self, window, part, share, *more: done.append(
            (int(window.target[0]), int(part.gauges[0]), part.work)
        ) or objective(window, part, share, *more)
        loss = trainer.gradient(windows)
        type(trainer.objective).__call__ = objective.__func__
        gradients = {{n: w.grad.numpy() for n, w in trainer.generator.named_parameters()}}
        items = len(windows) * len(trainer.parts)
        done = np.array(done).reshape(-1, 3)
        np.savez(f"{{config}}.{{here.rank}}.npz", loss=loss, items=items, done=done, **gradients)
        trainer.train(resume=False, report=ignore, progress=ignore)
        np.savez(f"{{config}}.{{here.rank}}.weights.npz", **trainer.generator.tensors())
end_process(0)
"""


def torchrun(size: int, *words: object, fails: bool = False) -> subprocess.CompletedProcess:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    found = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=240, env=environment)
    assert (found.returncode != 0) == fails, found.stdout + found.stderr
    return found


def test_alone_nothing_is_shared():
    parameter = torch.ones(2, requires_grad=True)
    ALONE.add_gradients([parameter])
    assert parameter.grad is None
    assert ALONE.leads and ALONE.total(3.0) == ALONE.from_leader(3.0) == 3.0
    assert ALONE.share([1, 2, 3], [5, 7, 6]) == [1, 2, 3]


@pytest.mark.parametrize(("items", "size"), [(5, 2), (1, 3), (0, 2), (4, 4)])
def test_every_item_falls_to_one_process(items, size):
    dealt = [Team(rank, size).share(list(range(items)), [1.0] * items) for rank in range(size)]
    assert sorted(i for share in dealt for i in share) == list(range(items))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_items_are_dealt_by_their_work():
    """A large basin and many small ones: round after round, one process would have nearly everything."""
    work = [100, 1, 40, 1, 30, 1, 20, 1]
    dealt = [Team(rank, 2).share(work, work) for rank in range(2)]
    assert dealt == [[100], [1, 40, 1, 30, 1, 20, 1]]


def assert_dealt(done, n_items):
    """Every window of every sub-network by one process, work in balance; rows: window, gauge, work."""
    rows = np.concatenate(done)
    assert len({tuple(row[:2]) for row in rows}) == len(rows) == n_items
    loads = [part[:, 2].sum() for part in done]
    assert abs(loads[0] - loads[1]) <= rows[:, 2].max()


@pytest.mark.slow
def test_gradients_and_weights_are_those_of_one_process(tmp_path):
    """At both precisions: three windows on two parts, one item for two processes, and LBFGS."""
    loss = {"nse": 1.0, "rmse_log": 0.5, "pet_factor": 0.3}
    case = write_training_case(tmp_path, snow="cemaneige", epochs=1, loss=loss)
    configs = [
        change_training(case, f"{kind}_{precision}.yaml", precision=precision, output=f"{kind}_{precision}.safetensors",
                        **keys)
        for kind, keys in KINDS.items() for precision in TOLERANCE if (kind, precision) != ("newton", "float32")
    ]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(TESTS)))
    torchrun(2, script, *configs)
    for config in configs:
        kind, precision = config.stem.split("_")
        tolerance = TOLERANCE[precision]
        trainer = Trainer(config, ALONE)
        windows = trainer.data.windows(np.random.default_rng(5), trainer.config.windows_per_update)
        loss = trainer.gradient(windows)
        ranks = [np.load(f"{config}.{rank}.npz") for rank in (0, 1)]
        assert int(ranks[0]["items"]) == N_ITEMS[kind]
        assert_dealt([rank["done"] for rank in ranks], N_ITEMS[kind])
        assert float(ranks[0]["loss"]) == float(ranks[1]["loss"]) == pytest.approx(loss, rel=tolerance)
        scale = max(float(w.grad.abs().max()) for w in trainer.generator.parameters())
        weights = [np.load(f"{config}.{rank}.weights.npz") for rank in (0, 1)]
        after = train(change_training(config, output="alone.safetensors"))[0].generator.tensors()
        for name, weight in trainer.generator.named_parameters():
            np.testing.assert_array_equal(ranks[0][name], ranks[1][name], err_msg=name)
            np.testing.assert_allclose(ranks[0][name], weight.grad.numpy(), rtol=0, atol=tolerance * scale,
                                       err_msg=f"{config.stem} {name}")
            np.testing.assert_array_equal(weights[0][name], weights[1][name], err_msg=name)
            np.testing.assert_allclose(weights[0][name], after[name], rtol=0, atol=tolerance * LOOSER.get(kind, 1),
                                       err_msg=f"{config.stem} {name}")


OTHERS = {
    "median": {"gauge_weights": "median", "loss": {"nse": 1.0, "nse_log": 0.5}, "windows_per_update": 2},
    "pairs": {"pairs_per_update": 3, "loss": {"nse": 0, "rmse_comb": 1.0}, "dropout": 0.3, "optimizer": "adadelta"},
    "normal": {"mapping": "uniform", "cell_attributes": [], "reach_attributes": [], "pet_factor": False,
               "loss": {"nse": 0, "gaussian": 1.0}, "optimizer": "lbfgs", "learning_rate": 1.0, "restarts": 2,
               "posterior": "laplace", "posterior_prior": 1.0, "window": 50},
    "curve": {"mapping": "distributed", "cell_attributes": [], "reach_attributes": [], "learning_rate": 1.0,
              "regularisation": {"prior": 1.0, "weight": "lcurve"}, "window": 50},
}
"""Of what processes have to agree on: ranks of gauges, sums over samples, drawn units, errors, weights of fits."""
TRAIN_ALL = """
import json
import sys
from pathlib import Path
from cdlm_training.cli import end_process
from cdlm_training.distributed import team
from cdlm_training.loop import Trainer

def ignore(*words):
    pass

with team() as here:
    for config in sys.argv[1:]:
        trainer = Trainer(Path(config), here)
        trainer.train(resume=False, report=ignore, progress=ignore)
        told = [[fit._asdict() for fit in trainer.fits], trainer.epoch, trainer.best]
        Path(f"{config}.{here.rank}.json").write_text(json.dumps(told))
end_process(0)
"""


@pytest.mark.slow
def test_whatever_processes_have_to_agree_on_is_that_of_one(tmp_path):
    """Fits, their scores and weights, on both processes and alone; the result of each, with what was found."""
    case = write_training_case(tmp_path, updates=1, epochs=1)
    suffix = {"curve": ".nc"}
    configs = {
        kind: change_training(case, f"{kind}.yaml", output=f"two/{kind}{suffix.get(kind, '.safetensors')}", **keys)
        for kind, keys in OTHERS.items()
    }
    script = tmp_path / "script.py"
    script.write_text(TRAIN_ALL)
    torchrun(2, script, *configs.values())
    for kind, config in configs.items():
        told = [json.loads(Path(f"{config}.{rank}.json").read_text()) for rank in (0, 1)]
        output = f"one/{kind}{suffix.get(kind, '.safetensors')}"
        trainer = train(change_training(config, f"{kind}_alone.yaml", output=output))[0]
        assert told[0][:2] == told[1][:2] and told[0][1] == trainer.epoch, kind
        assert told[0][2] == pytest.approx(trainer.best, rel=1e-6), "of the result, which the leader chooses"
        assert len(told[0][0]) == {"curve": 6, "normal": 2}.get(kind, 1)
        for fit, alone in zip(told[0][0], trainer.fits, strict=True):
            for name in ("epochs", "best_epoch", "score", "loss", "weight", "cost", "penalty"):
                assert fit[name] == pytest.approx(getattr(alone, name), rel=1e-6, abs=1e-9), (kind, name)
        found = [(tmp_path / where / f"{kind}_training" / "findings.txt").read_text() for where in ("two", "one")]
        assert [line[:40] for line in found[0].splitlines()] == [line[:40] for line in found[1].splitlines()], kind


@pytest.mark.slow
def test_the_command_on_two_processes_writes_what_one_writes(tmp_path):
    case = write_training_case(tmp_path, windows_per_update=2)
    train(change_training(case, output="alone/trained.safetensors"))
    found = torchrun(2, "-m", "cdlm_training", case)
    assert found.stdout.count("wrote ") == 1
    folder = tmp_path / "out"
    assert sorted(p.name for p in folder.iterdir()) == ["trained.safetensors", "trained_training"]
    rows = [[r.split(",")[:-1] for r in (tmp_path / k / "trained_training/log.csv").read_text().splitlines()]
            for k in ("out", "alone")]
    assert rows[0] == rows[1] and len(rows[0]) == 3
    assert len(list((folder / "trained_training").glob("events.*"))) == 1
    for name in ("trained.safetensors", "trained_training/last.safetensors"):
        one, two = weights_of(tmp_path / "alone" / name), weights_of(folder / name)
        for key, value in one.items():
            np.testing.assert_allclose(two[key], value, rtol=0, atol=TOLERANCE["float64"], err_msg=f"{name} {key}")


@pytest.mark.slow
def test_an_error_on_every_process_ends_them_all(tmp_path):
    case = change_training(write_training_case(tmp_path), gauges=["g9"])
    found = torchrun(2, "-m", "cdlm_training", case, fails=True)
    assert "the domain has no gauge 'g9'" in found.stderr + found.stdout
    assert not (tmp_path / "out").exists()
