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
from types import SimpleNamespace

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernels.cuda_cases import Case, domain_of, drawn, outlets_and_more, series_of
from process_cases import HBV, RESERVOIRS, VARYING
from simulated_threads import in_turn
from training_cases import ALONE, change_training, train, weights_of, write_training_case

from bmi_cdlm.kernels.device.launch import SIMULATED, as_device_array
from bmi_cdlm.kernels.loops.plan import places_of
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model import cell_operator, memory_cuda, operators_cuda
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.processes.catalogue import Chain, choose
from bmi_cdlm.processes.links import LINKS
from cdlm_training.config import DeviceName
from cdlm_training.device import choose_device, make_operators
from cdlm_training.loop import Trainer
from cdlm_training.operators import Advance, Route

LOSS = {"nse": 1.0, "kge": 0.5, "rmse_log": 0.3, "mean_runoff": 0.2, "pet_factor": 0.4}
FORCING = ("precipitation", "potential_evapotranspiration", "air_temperature")


def operators_on(name: DeviceName, case: Case):
    """Operators as a training makes them."""
    run = SimpleNamespace(
        chain=case.chain, time_step=case.step, routing_step=case.step // 4, runoff=case.chain.cells[-1].name,
        components=case.components,
    )
    return make_operators(run, domain_of(21), case.dtype, name, Workers(1), case.varying)


def values_of(case: Case) -> dict[str, np.ndarray]:
    """Everything that a chain takes by name; parameters of the last process have the components."""
    rng, domain = np.random.default_rng(3), domain_of(21)
    found = {n: a for n, a in series_of(case.chain.cells[-1], case, 2).items() if n in (*FORCING, *case.varying)}
    if "air_temperature" not in case.chain.inputs:
        del found["air_temperature"]
    for process in case.chain.cells:
        shape = (domain.n_cells,)
        if process is case.chain.cells[-1] and case.components > 1:
            shape = (case.components, domain.n_cells)
        for p in process.parameters:
            if p.name not in case.varying and not p.optional:
                found[p.name] = drawn(rng, p, case.step, shape).astype(case.dtype)
        if case.components > 1:  # those also start as somebody says
            for p in process.starts.values():
                found[p.name] = rng.uniform(0.1, 0.9, shape).astype(case.dtype)
    for p in case.chain.reach.parameters:
        if not p.optional:
            found[p.name] = drawn(rng, p, case.step, (domain.n_reaches,)).astype(case.dtype)
    return found


def run_chain(case: Case, ops, values: dict[str, torch.Tensor]) -> torch.Tensor:
    values = dict(values)
    for operator in ops.cells:
        process = operator.process
        highest = {p.name: p.range_at(case.step).high for p in process.parameters}
        places = {name: places_of(q, highest[q.base]) for name, q in process.queues.items()}
        series = tuple(name for name in operator.taken if name in values)
        own = (*process.parameters, *process.starts.values())
        names = tuple(p.name for p in own if p.name in values and p.name not in series)
        given = (values[n] for n in (*series, *names))
        values[operator.gives] = Advance.apply(operator, places, series, names, *given)
    names = tuple(p.name for p in case.chain.reach.parameters if p.name in values)
    river = (values[n] for n in names)
    return Route.apply(ops.reach, outlets_and_more(ops.domain), 0, False, names, values["runoff"], *river)


def tensors_of(case: Case, device: torch.device) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(a.copy()).to(device).requires_grad_() for n, a in values_of(case).items()}


def on(name: DeviceName, case: Case) -> dict[str, np.ndarray]:
    """Discharge and the gradients of a weighted sum of it, from operators of the host or of the device."""
    device, ops = choose_device(name), operators_on(name, case)
    assert ops.on_device == (name == "cuda")
    inputs = tensors_of(case, device)
    discharge = run_chain(case, ops, inputs)
    assert discharge.device == device
    pull = np.random.default_rng(4).normal(size=tuple(discharge.shape)).astype(case.dtype)
    active = list(inputs.values())
    total = (discharge * torch.from_numpy(pull).to(device)).sum()
    first = torch.autograd.grad(total, active, retain_graph=True)
    second = torch.autograd.grad(total, active)
    assert all(torch.equal(a, b) and a.device == device and a.dtype == discharge.dtype
               for a, b in zip(first, second, strict=True))
    for name_, expected in tensors_of(case, device).items():
        assert torch.equal(inputs[name_].detach(), expected.detach()), f"{name_} was changed in place"
    found = {"discharge": discharge.detach()} | dict(zip(inputs, first, strict=True))
    return {n: t.cpu().numpy() for n, t in found.items()}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert np.isfinite(a).all() and np.isfinite(b).all()
    return 0.0 if np.array_equal(a, b) else float(np.abs(a - b).max() / np.abs(a).max())


def chains() -> dict[str, Case]:
    hysteresis, plain, none = (choose(snow) for snow in ("cemaneige_hysteresis", "cemaneige", "none"))
    other = Chain((HBV,), LINKS, RESERVOIRS)
    return {
        "daily, hysteresis": Case(hysteresis, (), n_steps=17, varying=("pet_factor",)),
        "daily, plain snow": Case(plain, (), n_steps=13),
        "hourly, no snow": Case(none, (), step=HOUR, n_steps=11, components=2),
        "other processes, three components": Case(other, (), n_steps=9, varying=VARYING[HBV.name], components=3),
        "daily, single precision": Case(hysteresis, (), np.float32, n_steps=17),
    }


def compare_operators() -> dict[str, dict[str, float]]:
    found = {}
    for name, case in chains().items():
        host, device = (on(device, case) for device in ("cpu", "cuda"))
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

    case, device = chains()["daily, hysteresis"], choose_device("cuda")
    ops, inputs = operators_on("cuda", case), tensors_of(case, device)
    memory_cuda.as_device_array = spy
    try:
        discharge = run_chain(case, ops, inputs)
        adjoint = torch.ones_like(discharge)
        discharge.backward(adjoint)
    finally:
        memory_cuda.as_device_array = as_device_array
    tensors = inputs | {"discharge": discharge, "adjoint": adjoint}
    return [n for n, t in tensors.items() if t.data_ptr() not in views]


if __name__ == "__main__":
    cell_operator.BLOCK_STEPS = operators_cuda.BLOCK_STEPS = 8
    if SIMULATED:
        in_turn()
        operators_cuda.CudaOperators.__init__.__kwdefaults__["threads"] = 4  # most of a block has nothing to do
    elif "--side-stream" in sys.argv:
        torch.cuda.set_stream(torch.cuda.Stream())
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "simulated": SIMULATED, "copied": copied(), "operators": compare_operators(),
            "trainings": compare_trainings(Path(folder)),
        }
    sys.stdout.write(json.dumps(results))
