"""Run as a program, prints how far a training on `device: cuda` is from one on the host, as JSON.

Under numba's simulator (NUMBA_ENABLE_CUDASIM=1) tensors stay on the host and the CUDA kernels run on them. A process
of its own: numba decides at its import whether it simulates a device. Differences are relative to the largest value,
0 where every bit is equal.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from make_domain import random_domain
from operator_cases import CELL, FORCING, Case, make_case
from training_cases import ALONE, change_training, train, weights_of, write_training_case

from bmi_cdlm.kernels.device.launch import SIMULATED, as_device_array
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model import operators, operators_cuda
from bmi_cdlm.names.time_steps import DAY, HOUR
from cdlm_training.config import DeviceName
from cdlm_training.device import choose_device, make_operators
from cdlm_training.loop import Trainer
from cdlm_training.operators import Melt, Route, Runoff

SNOW = ("thermal_weighting", "melt_factor", "accumulation_threshold", "full_cover")
RUNOFF = (*CELL, "unit_hydrograph_base", "production_store", "routing_store")
NAMES = (*FORCING, *SNOW, *RUNOFF, "travel_time", "weighting")
LOSS = {"nse": 1.0, "kge": 0.5, "rmse_log": 0.3, "mean_runoff": 0.2, "pet_factor": 0.4}


def run_chain(case: Case, ops, P, E, T, *p):
    liquid = Melt.apply(ops, case.hysteresis, P, T, *p[:4])
    runoff = Runoff.apply(ops, case.n_places, liquid, E, *p[4:10])
    return Route.apply(ops, case.at, runoff, *p[10:])


def tensors_of(case: Case, dtype: type, device: torch.device) -> list[torch.Tensor]:
    inputs = {name: torch.from_numpy(case.inputs[name].astype(dtype)).to(device) for name in NAMES}
    return [t.requires_grad_(name != "full_cover" or case.hysteresis) for name, t in inputs.items()]


def on(name: DeviceName, case: Case, dtype: type) -> dict[str, np.ndarray]:
    """Discharge and the gradients of a weighted sum of it, from operators of the host or of the device."""
    device, found = choose_device(name), {}
    ops = make_operators(case.domain, case.step, case.routing_step, dtype, name, Workers(1))
    assert ops.on_device == (name == "cuda")
    inputs = tensors_of(case, dtype, device)
    discharge = run_chain(case, ops, *inputs)
    assert discharge.device == device
    pull = np.random.default_rng(4).normal(size=tuple(discharge.shape)).astype(dtype)
    active = [t for t in inputs if t.requires_grad]
    total = (discharge * torch.from_numpy(pull).to(device)).sum()
    first = torch.autograd.grad(total, active, retain_graph=True)
    second = torch.autograd.grad(total, active)
    assert all(torch.equal(a, b) and a.device == device and a.dtype == discharge.dtype
               for a, b in zip(first, second, strict=True))
    for name_, tensor, expected in zip(NAMES, inputs, tensors_of(case, dtype, device), strict=True):
        assert torch.equal(tensor.detach(), expected.detach()), f"{name_} was changed in place"
    names = [n for n, t in zip(NAMES, inputs, strict=True) if t.requires_grad]
    found = {"discharge": discharge.detach()} | dict(zip(names, first, strict=True))
    return {n: t.cpu().numpy() for n, t in found.items()}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert np.isfinite(a).all() and np.isfinite(b).all()
    return 0.0 if np.array_equal(a, b) else float(np.abs(a - b).max() / np.abs(a).max())


def compare_operators() -> dict[str, dict[str, float]]:
    forest = random_domain(21, 12, 5, 20)
    cases = {
        "daily, hysteresis": (make_case(31, forest, 17), np.float64),
        "daily, plain snow": (make_case(32, forest, 9, hysteresis=False), np.float64),
        "hourly": (make_case(33, forest, 17, step=HOUR, x4=(5.0, 30.0)), np.float64),
        "daily, single precision": (make_case(31, forest, 17), np.float32),
    }
    found = {}
    for name, (case, dtype) in cases.items():
        host, device = (on(device, case, dtype) for device in ("cpu", "cuda"))
        assert float(np.ptp(host["discharge"])) > 0
        found[name] = {n: difference(host[n], device[n]) for n in host}
    return found


def compare_trainings(folder: Path) -> dict[str, dict[str, float]]:
    """Loss and gradients of windows, one with a warm-up before the record; then weights after a training."""
    config = write_training_case(
        folder, snow="cemaneige", n_steps=35, window=10, warm_up=12, updates=1, epochs=2, loss=LOSS,
        mean_runoff_attribute="mean_runoff",
    )
    configs = {name: change_training(config, f"{name}.yaml", device=name, output=f"{name}/trained.safetensors")
               for name in ("cpu", "cuda")}
    gradients, weights = {}, {}
    for name, path in configs.items():
        trainer = Trainer(path, ALONE)
        assert {part.operators.on_device for part in trainer.parts} == {name == "cuda"}
        assert {w.device for w in trainer.generator.parameters()} == {choose_device(name)}
        loss = trainer.gradient([trainer.data.window(3, 10), trainer.data.window(12, 10)])
        gradients[name] = {"loss": np.array(loss)} | {
            n: w.grad.cpu().numpy() for n, w in trainer.generator.named_parameters() if w.grad is not None
        }
        train(path)
        assert train(path, resume=True)[2] == []
        weights[name] = weights_of(folder / name / "trained.safetensors")
    return {
        title: {n: difference(of["cpu"][n], of["cuda"][n]) for n in of["cpu"]}
        for title, of in (("gradient", gradients), ("weights", weights))
    }


def copied() -> list[str]:
    """Inputs of the kernels that are not the tensors' own memory."""
    views: list[int] = []

    def spy(array: object) -> object:
        view = as_device_array(array)
        views.append(view.ctypes.data if SIMULATED else view.device_ctypes_pointer.value)
        return view

    case, device = make_case(31, random_domain(21, 12, 5, 20), 5), choose_device("cuda")
    ops = make_operators(case.domain, DAY, case.routing_step, np.float64, "cuda", Workers(1))
    inputs, real = tensors_of(case, np.float64, device), operators_cuda._view
    operators_cuda._view = spy
    try:
        discharge = run_chain(case, ops, *inputs)
        adjoint = torch.ones_like(discharge)
        discharge.backward(adjoint)
    finally:
        operators_cuda._view = real
    changed = {"production_store", "routing_store"}  # the kernels advance these in place
    tensors = {n: t for n, t in zip(NAMES, inputs, strict=True) if n not in changed}
    tensors |= {"discharge": discharge, "adjoint": adjoint}
    return [n for n, t in tensors.items() if t.data_ptr() not in views]


if __name__ == "__main__":
    operators.BLOCK_STEPS = operators_cuda.BLOCK_STEPS = 8
    if SIMULATED:
        operators_cuda.CudaOperators.__init__.__kwdefaults__["threads"] = 4  # each is a thread of the interpreter
    elif "--side-stream" in sys.argv:
        torch.cuda.set_stream(torch.cuda.Stream())
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "simulated": SIMULATED, "copied": copied(), "operators": compare_operators(),
            "trainings": compare_trainings(Path(folder)),
        }
    sys.stdout.write(json.dumps(results))
