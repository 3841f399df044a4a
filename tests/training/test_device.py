"""Training on a CUDA device: under numba's simulator everywhere, on a device where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from training_cases import ALONE, change_training, write_training_case

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.errors import ConfigError
from cdlm_training import device as module
from cdlm_training import distributed
from cdlm_training.cli import main
from cdlm_training.device import choose_device, current_stream, make_operators
from cdlm_training.loop import Trainer

PROGRAM = Path(__file__).with_name("compare_device.py")


def compare(*, simulated: bool, words: tuple[str, ...] = ()) -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"}
    environment["NUMBA_ENABLE_CUDASIM"] = "1" if simulated else "0"
    run = subprocess.run(
        [sys.executable, "-W", "error", PROGRAM, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def simulated() -> dict:
    pytest.importorskip("numba.cuda")
    return compare(simulated=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["daily, hysteresis", "daily, plain snow", "hourly, no snow", "other processes, three components"]
)
def test_simulated_discharge_has_the_bits_of_the_host(simulated, case):
    """Gradients are close: the adjoint of routing sums sub-steps and tiles in another order than on the host."""
    assert simulated["simulated"] is True
    found = simulated["operators"][case]
    varying = {"daily, hysteresis": {"pet_factor"}, "other processes, three components": {"test_recharge_shape"}}
    assert found.keys() > {"precipitation", "potential_evapotranspiration", "celerity"} | varying.get(case, set())
    assert found.pop("discharge") == 0.0
    assert {n: d for n, d in found.items() if d > 1e-12} == {}


@pytest.mark.slow
def test_simulated_single_precision_is_close(simulated):
    found = simulated["operators"]["daily, single precision"]
    assert max(found.values()) <= 1e-4


@pytest.mark.slow
def test_kernels_work_in_the_memory_of_the_tensors(simulated):
    assert simulated["copied"] == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["gradient", "weights"])
def test_a_simulated_training_is_that_of_the_host(simulated, what):
    found = simulated["trainings"][what]
    assert {name.split(".")[0] for name in found} >= {"cell", "reach", "pet"}
    assert {n: d for n, d in found.items() if d > (1e-12 if n.startswith("reach") else 1e-13)} == {}


@pytest.mark.gpu
@pytest.mark.parametrize("words", [(), ("--side-stream",)], ids=["default stream", "side stream"])
def test_training_on_a_device_is_that_of_the_host(words):
    cuda = pytest.importorskip("numba.cuda")
    if not (torch.cuda.is_available() and cuda.is_available()):
        pytest.skip("no CUDA device for both torch and numba")
    found = compare(simulated=False, words=words)
    assert found["simulated"] is False and found["copied"] == []
    for case, results in found["operators"].items():
        assert max(results.values()) <= (1e-3 if "single" in case else 1e-10), case
    assert max(found["trainings"]["gradient"].values()) <= 1e-9
    assert max(found["trainings"]["weights"].values()) <= 1e-6


# ---- one place that chooses --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"))


@pytest.fixture
def a_device(monkeypatch):
    """torch and numba say that they have two CUDA devices."""
    cuda = pytest.importorskip("numba.cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    selected: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    monkeypatch.setattr(cuda, "select_device", selected.append)
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    return selected


def test_without_a_device_it_is_refused_before_anything_is_written(case, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = change_training(case, device="cuda")
    before = sorted(case.parent.rglob("*"))
    message = r"training\.device is cuda, but torch \S+, built (without|for) CUDA.*, finds no CUDA device here\. Set "
    with pytest.raises(ConfigError, match=message):
        Trainer(config, ALONE)
    result = CliRunner().invoke(main, [str(config)])
    assert result.exit_code == 1 and result.output.startswith("Error: ")
    assert "finds no CUDA device here. Set training.device: cpu" in " ".join(result.output.split())
    assert sorted(case.parent.rglob("*")) == before


def test_a_device_that_numba_cannot_use_is_refused(a_device, monkeypatch):
    from numba import cuda

    monkeypatch.setattr(cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="which torch can use here, but numba cannot"):
        choose_device("cuda")
    monkeypatch.setitem(sys.modules, "bmi_cdlm.kernels.device.launch", None)
    with pytest.raises(ConfigError, match=r"numba\.cuda cannot be imported .*bmi-cdlm\[gpu\]"):
        choose_device("cuda")


def test_every_process_of_a_machine_has_a_device_of_its_own(a_device, monkeypatch):
    assert choose_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == torch.device("cuda", 1)
    assert a_device == [0, 0, 1, 1]
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"this is process 3 on a machine with 2 of them.*--nproc-per-node 2"):
        choose_device("cuda")


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "cpu:gloo,cuda:nccl")])
def test_gradients_on_devices_travel_by_nccl(device, backend, monkeypatch):
    joined: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "choose_device", torch.device)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: joined.append(backend))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: joined.append("left"))
    with distributed.team(device) as here:
        assert (here.rank, here.size) == (1, 2)
    assert joined == [backend, "left"]


def test_kernels_run_on_the_current_stream_of_torch(monkeypatch):
    from numba import cuda

    module._as_numba_stream.cache_clear()
    monkeypatch.setattr(cuda, "external_stream", lambda pointer: SimpleNamespace(pointer=pointer))
    current = SimpleNamespace(cuda_stream=0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    first = current_stream()
    current.cuda_stream = 7
    second = current_stream()
    assert (first.pointer, second.pointer) == (0, 7)
    assert current_stream() is second
    module._as_numba_stream.cache_clear()


def test_parts_share_the_threads_and_a_training_ends_them(case):
    trainer = Trainer(change_training(case, threads=2, output="threads.safetensors"), ALONE)
    assert len(trainer.parts) == 2
    assert {id(part.operators.workers) for part in trainer.parts} == {id(trainer.workers)}
    trainer.gradient([trainer.data.window(0, 20)])
    assert trainer.workers._pool is not None
    trainer.train(resume=False, report=lambda epoch: None, progress=lambda loss: None)
    assert trainer.workers._pool is None


def test_operators_of_the_host_keep_their_workers(case):
    trainer, workers = Trainer(case, ALONE), Workers(1)
    ops = make_operators(trainer.data.run, trainer.data.domain, float, "cpu", workers)
    assert ops.workers is workers and not ops.on_device
