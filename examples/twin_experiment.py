"""Can training recover a truth? A known generator makes discharge; another is trained on a few gauges of it.

    python examples/twin_experiment.py cfg/grand.yaml --to cfg/grand_twin

The truth is a linear generator with random weights, wide enough for its parameters to cover much of their ranges. It
runs the case; its discharge at the gauges, alone, is what a fresh generator with another seed is trained on. Then
the discharge of every reach, nearly all of which were never shown, is compared in the test years.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np
import yaml

from bmi_cdlm.checkpoint import save_checkpoint
from bmi_cdlm.cli import console
from bmi_cdlm.config import Config, load_config
from bmi_cdlm.files import create_time, replacing, write_time
from bmi_cdlm.generator import make_spec
from bmi_cdlm.metrics import nse
from bmi_cdlm.simulation import Simulation
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.generator import Generator
from cdlm_training.loop import Trainer

TRUTH_SEED = 7
SPREAD = 0.5
"""Standard deviation of z of the true parameters: they cover much of their ranges."""
STUDENT = {
    "mapping": "linear", "pet_factor": False, "weight_decay": 0.0, "learning_rate": 0.05, "final_learning_rate": 0.01,
    "loss": {"nse": 1.0, "rmse_log": 0.5}, "patience": 1000, "seed": 1,
}


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--epochs", default=90, show_default=True)
def main(config: Path, folder: Path, epochs: int) -> None:
    """Run the experiment on the case of CONFIG."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = folder / "truth.safetensors"
    write_truth(config, truth)
    run = load_config(config)
    starts, ids, gauges, true = simulate(run, truth)
    write_observations(folder / "observations.nc", starts, ids, true[:, gauges], run.time_step)
    student = folder / "twin.yaml"
    write_student(config, student, folder, epochs)
    trainer = Trainer(student, Team(0, 1))
    scores = trainer.train(
        resume=False, report=lambda e: console.print(f"epoch {e.number}: loss {e.loss:.5f}, NSE {e.scores.nse:.4f}"),
        progress=lambda loss: None,
    )
    console.print(f"gauges shown: mean NSE {scores.nse:.4f}")
    found = simulate(run, trainer.config.output)[3]
    test = starts >= trainer.config.train[1]
    hidden = np.setdiff1d(np.arange(true.shape[1]), gauges)
    values = np.array([nse(found[test, i], true[test, i]) for i in hidden])
    low, median, high = np.nanpercentile(values, [5, 50, 95])
    console.print(f"{hidden.size} reaches never shown, from {starts[test][0]}: NSE median {median:.4f}, "
                  f"5 % {low:.4f}, 95 % {high:.4f}")


def write_truth(config: Path, path: Path) -> None:
    run, training = load_train_config(config)
    spec = make_spec(
        run.domain, cell_attributes=training.cell_attributes, reach_attributes=training.reach_attributes,
        mapping="linear", snow=run.snow, step=run.time_step, routing_step=run.routing_step,
    )
    tensors = Generator(spec, TRUTH_SEED).tensors()
    draw = np.random.default_rng(TRUTH_SEED)
    for name, values in tensors.items():
        if name.endswith("weight"):
            values[:] = draw.normal(0, SPREAD / np.sqrt(values.shape[1]), values.shape)
    save_checkpoint(path, spec, tensors, {
        "gauges": [], "periods": {}, "scores": {}, "fingerprints": {}, "licence": "MIT",
        "command": "twin_experiment.py",
    })


def simulate(run: Config, checkpoint: Path) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Step starts, gauge ids, reaches of the gauges, and discharge of every reach, float64[time, reach]."""
    simulation = Simulation(run.model_copy(update={"parameters": checkpoint}))
    starts: list[np.ndarray] = []
    parts: list[np.ndarray] = []

    def take(times: np.ndarray, values: dict[str, np.ndarray]) -> None:
        starts.append(times)
        parts.append(values["discharge"].copy())

    simulation.run_blocks(["discharge"], take)
    simulation.close()
    gauges = simulation.model.domain.gauges
    return np.concatenate(starts), gauges.id, gauges.reach, np.concatenate(parts)


def write_observations(path: Path, starts: np.ndarray, ids: list[str], discharge: np.ndarray, step: int) -> None:
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.createDimension("gauge", len(ids))
        out.createVariable("gauge_id", str, ("gauge",))[:] = np.array(ids, object)
        create_time(out)
        write_time(out, 0, starts, step)
        variable = out.createVariable("discharge", "f8", ("time", "gauge"))
        variable.units = "m3 s-1"
        variable[:] = discharge


def write_student(config: Path, path: Path, folder: Path, epochs: int) -> None:
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for key in ("domain", "forcing"):
        content[key] = str((config.parent / content[key]).resolve())
    content |= {"observations": "observations.nc", "output": "run.nc"}
    content["training"] |= {"output": "twin.safetensors", **STUDENT, "epochs": epochs}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


if __name__ == "__main__":
    main()
