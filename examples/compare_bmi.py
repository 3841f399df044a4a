"""Is the model that couples the model that was trained? A checkpoint, three ways through the same physics.

    python examples/compare_bmi.py cfg/grand.yaml --parameters cfg/grand/grand.safetensors

The case is stepped through the Basic Model Interface, and its discharge at the gauges compared, step by step, with

- the evaluation of `cdlm-train`, by which it chose the checkpoint: the runtime in float64, in blocks;
- the chain that training differentiates: torch, in float64, warmed up as long as the run is spun up.

Of an ensemble it is the mean that `cdlm run` writes, beside the mean of its members by each of these two ways.
The largest relative difference of each is printed; above the tolerance the script fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
import yaml

from bmi_cdlm import BmiCdlm
from bmi_cdlm.commands.common import console
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.output import read_output
from bmi_cdlm.generator.checkpoint import load_checkpoint, load_members, save_checkpoint
from bmi_cdlm.generator.generator import read_inputs
from bmi_cdlm.generator.lstm import read_lstm_attributes
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.ensemble import run_ensemble
from cdlm_training.config import load_train_config
from cdlm_training.dataset import Dataset
from cdlm_training.generator import Generator
from cdlm_training.scores import simulate_gauges
from cdlm_training.simulate import Chain, make_parts

TOLERANCE = 1e-9
STEPPED = "gauge_discharge"


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parameters", type=click.Path(path_type=Path, exists=True), required=True, help="Checkpoint.")
def main(config: Path, parameters: Path) -> None:
    """Compare BMI, or the run of an ensemble, with evaluation and training on the case of CONFIG."""
    run, _ = load_train_config(config)
    members = load_members(parameters)
    with TemporaryDirectory() as folder:
        paths = [parameters] if len(members) == 1 else [Path(folder) / f"{k}.safetensors" for k in range(len(members))]
        if len(members) > 1:
            for path, one in zip(paths, members, strict=True):
                save_checkpoint(path, one.spec, one.tensors, one.record)
        each = [simulate_gauges(run, path) for path in paths]
        ids, evaluated = each[0][0], np.mean([discharge for _, discharge in each], axis=0)
        trained = np.mean([differentiable(config, path) for path in paths], axis=0)
        if len(members) == 1:
            stepped = step(config, parameters)
        else:
            stepped = mean_of_run(config, parameters, Path(folder) / "run.nc")
    way = "through BMI" if len(members) == 1 else f"of the mean that a run of {len(members)} members writes"
    console.print(f"{stepped.shape[0]} steps {way} at {', '.join(ids)}")
    differences = {
        "the evaluation of cdlm-train": largest_difference(stepped, evaluated),
        "the chain that training differentiates": largest_difference(stepped, trained),
    }
    for name, value in differences.items():
        console.print(f"largest relative difference from {name}: {value:.2e}")
    if max(differences.values()) > TOLERANCE:
        console.print(f"more than {TOLERANCE}")
        sys.exit(1)


def step(config: Path, parameters: Path) -> np.ndarray:
    """Discharge at the gauges [m3 s-1] after every BMI update, float64[time, gauge]."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["parameters"] = str(parameters.resolve())
    copy = config.with_name(f"{config.stem}.compared.yaml")
    copy.write_text(yaml.safe_dump(content), encoding="utf-8")
    model = BmiCdlm()
    try:
        model.initialize(str(copy))
    finally:
        copy.unlink()
    discharge = model.get_value_ptr(variable(STEPPED).name)
    rows = []
    while model.get_current_time() < model.get_end_time():
        model.update()
        rows.append(discharge.copy())
    model.finalize()
    return np.array(rows)


def mean_of_run(config: Path, parameters: Path, output: Path) -> np.ndarray:
    """Discharge at the gauges [m3 s-1] as `cdlm run` writes it of an ensemble, float64[time, gauge]."""
    settings = load_config(config, {"parameters": parameters, "output": output, "output_at": "gauges"})
    run_ensemble(settings, lambda steps: None)
    return read_output(output, "discharge")[2]


def differentiable(config: Path, parameters: Path) -> np.ndarray:
    """Discharge at the gauges [m3 s-1] by the operators of training, float64[time, gauge]; NaN where untrained."""
    torch.set_num_threads(1)
    run, training = load_train_config(config)
    year = min(365 * DAY // run.time_step, run.n_steps)
    domain, checkpoint = read_domain(run.domain), load_checkpoint(parameters)
    training = training.model_copy(update={
        "precision": "float64", "warm_up": run.spin_up * year, "pet_factor": checkpoint.spec.pet is not None,
    })
    dataset = Dataset(run, training, domain)
    generator = Generator(checkpoint.spec, dtype=torch.float64)
    generator.load(checkpoint.tensors)
    of_lstm = read_lstm_attributes(checkpoint.spec, run.domain, domain)
    chain = Chain(dataset, generator, read_inputs(checkpoint.spec, run.domain, domain), of_lstm)
    discharge = np.full((run.n_steps, len(domain.gauges.id)), np.nan)
    for part in make_parts(dataset):
        with torch.no_grad():
            simulated = chain(part, dataset.window(0, run.n_steps))
        discharge[:, dataset.gauges[part.gauges]] = simulated.discharge.numpy()
    return discharge


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b| relative to |b|, over the gauges where both are defined."""
    both = np.isfinite(a) & np.isfinite(b) & (a != b)  # so that two that are dry do not differ
    return float(np.max(np.abs(a - b)[both] / np.abs(b)[both], initial=0.0))


if __name__ == "__main__":
    main()
