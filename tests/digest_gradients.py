"""Gradients of runs and of trainings, which are kept as numbers."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import digest_inputs as inputs
import numpy as np
from digest_bits import Digests, digest
from digest_cases import Case, case_content
from digest_inputs import DAY, HOUR, SMALL, START, write_config
from digest_internals import TRAINING_STATE, every_job_on_threads, simulation_of, state_format
from digest_runs import command, started

Arrays = dict[str, np.ndarray]
GRADIENT_STEPS = 20
GRADIENTS: dict[str, Case] = {
    "daily none": Case(), "daily cemaneige": Case(snow="cemaneige"),
    "daily hysteresis, network": Case(snow="cemaneige_hysteresis", hidden=(5,)),
    "hourly hysteresis": Case(HOUR, "cemaneige_hysteresis", 30.0),
    "hourly long": Case(HOUR, longest=110.0),
}
TRAININGS = {"float64": ("cemaneige_hysteresis", 1e-12), "float32": ("cemaneige", 2e-5)}
"""Snow model and tolerance of a training in each precision."""


def gradients(folder: Path, name: str, threads: int) -> tuple[Arrays, Digests]:
    """Gradients of a weighted sum of all discharge, by forcing, parameters and initial state; discharge as digest."""
    folder.mkdir(parents=True, exist_ok=True)
    case = GRADIENTS[name]
    inputs.write_domain(folder / "domain.nc", SMALL, 3)
    inputs.write_forcing(folder / f"forcing_{case.step}.nc", SMALL, case.step, GRADIENT_STEPS)
    content = case_content(folder, case, SMALL, GRADIENT_STEPS, "gradient")
    component = started(write_config(folder / "gradient.yaml", content, threads=threads))
    with every_job_on_threads():
        simulation = simulation_of(component)
        discharge = simulation.model.record(simulation.read_forcing(0, GRADIENT_STEPS))
        weights = inputs.dyadic(300, -1, 1, 64, *discharge.shape)
        found = simulation.model.adjoint(weights)
    arrays = {f"{kind} {n}": np.array(a) for kind in ("forcing", "parameters", "state")
              for n, a in getattr(found, kind).items()}
    bits = {"discharge": digest(discharge)}
    component.finalize()
    return arrays, bits


def training_gradients(folder: Path, precision: str) -> Arrays:
    """Gradients of one training step with drawn weights.

    Through files alone: `cdlm-train` makes a state, its weights are replaced, and after one update of `--resume`
    AdamW's first mean is a tenth of the gradient.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    snow, n_steps = TRAININGS[precision][0], 50
    inputs.write_domain(folder / "domain.nc", SMALL, 3)
    inputs.write_forcing(folder / "forcing.nc", SMALL, DAY, n_steps)
    inputs.write_observations(folder / "observations.nc", DAY, n_steps)
    end = str(START + np.timedelta64(n_steps, "D"))
    config = write_config(folder / "train.yaml", {
        "domain": "domain.nc", "forcing": "forcing.nc", "observations": "observations.nc", "start": str(START),
        "end": end, "time_step": "1 d", "routing_step": "3 h", "snow": snow, "training": {
            "output": "out/trained.safetensors", "train": [str(START), end], "cell_attributes": ["forest", "elevation"],
            "reach_attributes": ["steepness"], "hidden": [4], "pet_hidden": [3], "window": n_steps, "warm_up": 20,
            "updates": 1, "epochs": 1, "precision": precision, "clip": 1e30, "learn_weighting": True,
            "loss": {"nse": 1.0, "rmse_log": 0.5, "pet_factor": 0.01, "pet_roughness": 0.1},
        },
    })
    command("cdlm-train", config)
    path = next(p for t in TRAINING_STATE if (p := folder / "out" / t.format(stem="trained")).is_file())
    state = _training_state(path)
    for k, (name, value) in enumerate(state["generator"].items()):
        drawn = inputs.dyadic(400 + k, -1, 1, 64, *value.shape)
        state["generator"][name] = torch.from_numpy(np.asarray(drawn)).to(value.dtype).reshape(value.shape)
    state["optimizer"]["state"] = {}
    state |= {"epoch": 0, "best_epoch": 0, "best": -math.inf}
    if "fits" in state:  # not yet in older states
        state["fits"] = [{"epochs": 0, "best_epoch": 0, "score": -math.inf, "loss": math.nan, "parameters": {}}]
    _training_state(path, state)
    command("cdlm-train", config, "--resume")
    state = _training_state(path)
    shapes = {name: value.ndim for name, value in state["generator"].items()}
    ordered = [n for n, ndim in shapes.items() if ndim > 1] + [n for n, ndim in shapes.items() if ndim <= 1]
    places = [p for group in state["optimizer"]["param_groups"] for p in group["params"]]
    first_means = [state["optimizer"]["state"][p]["exp_avg"] for p in places]
    shutil.rmtree(folder / "out")
    return {
        name: 10.0 * mean.numpy().astype(np.float64) for name, mean in zip(ordered, first_means, strict=True)
    }


def _training_state(path: Path, changed: dict | None = None) -> dict:
    """Read a training's state, or write a changed one: in a container, or before there was one as torch writes it."""
    import torch

    content = path.read_bytes()
    if bare := content.startswith(b"PK"):
        payload: Any = content
    else:
        from bmi_cdlm.names.container import seal, unseal
        from bmi_cdlm.names.errors import StateError

        payload = bytes(unseal(content, state_format(), str(path), StateError, ""))
    if changed is None:
        return torch.load(io.BytesIO(payload), weights_only=True)
    written = io.BytesIO()
    torch.save(changed, written)
    path.write_bytes(written.getvalue() if bare else b"".join(seal(state_format(), [written.getvalue()])))
    return changed


def largest_differences(found: Arrays, kept: Arrays, tolerance: float) -> Iterator[str]:
    """What differs by more than the tolerance times the largest of its array, in words."""
    for name in sorted({*found, *kept}):
        if name not in found or name not in kept:
            yield f"{name}: {'not kept' if name in found else 'gone'}"
        elif found[name].shape != kept[name].shape:
            yield f"{name}: shape {found[name].shape}, was {kept[name].shape}"
        else:
            most = np.abs(kept[name]).max(initial=0.0)
            error = np.abs(found[name] - kept[name]).max(initial=0.0)
            if not error <= tolerance * most:
                yield f"{name}: off by {error:.2e}, {error / most if most else np.inf:.1e} of the largest"
