"""Can training recover a truth? A known generator makes discharge; another is trained on a few gauges of it.

    python examples/twin_experiment.py cfg/grand.yaml --to cfg/grand_twin

The truth is a linear generator: every parameter, on the scale between its bounds, is its default plus a weighted sum
of the standardised attributes, with random weights wide enough for the parameters to cover much of their ranges. It
runs the case; its discharge at the gauges, alone, is what a fresh generator is trained on, which starts from the
defaults and knows neither the weights nor, with `--mapping mlp`, that the truth is linear. Then the discharge of every
reach, nearly all of which were never shown, is compared in the years after the training period.

Three things decide whether that works, and the student is set up by them:

- Truth and student must begin alike. GR4J remembers its initial production store for years where X1 is large; a truth
  that was spun up longer than the training warms up leaves an error that no parameters explain, and wrong ones try to.
  So neither is spun up, and the warm-up goes back to the start of the record.
- The thermal weighting of the snowpack (CTG) acts through a hard switch (melt begins when the thermal state is 0
  degC), so that the slope of the discharge to it is 0: no gradient finds it. The truth keeps it at its default, and
  leaves the hysteresis of snow cover, which has more such switches, aside.
- The squared error at five nested gauges is a hundred million times as steep in some directions of the weights as in
  others. First-order steps stall with gauges that fit to 0.9996. LBFGS in float64 on the whole record goes further, and
  so do Gauss-Newton steps, damped as Levenberg and Marquardt do; each may end in a valley of its own. A linear student
  is found by both, and the one that fits the gauges better is kept; an `mlp` has too many weights for the second.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np
import torch
import yaml
from rich.table import Table
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bmi_cdlm.checkpoint import load_checkpoint, save_checkpoint
from bmi_cdlm.cli import console
from bmi_cdlm.config import Config
from bmi_cdlm.domain import read_domain
from bmi_cdlm.files import create_time, replacing, write_time
from bmi_cdlm.generator import make_spec, read_inputs, static_parameters
from bmi_cdlm.metrics import nse
from bmi_cdlm.simulation import Simulation
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.generator import Generator
from cdlm_training.loop import Trainer

SPREAD = 0.5
"""Standard deviation of z of the true parameters: they cover much of their ranges."""
WITHOUT_SLOPE = ("thermal_weighting",)
FIRST_DAMPING, DIFFERENCE, TRIES = 1e-2, 1e-4, 8
STUDENT = {
    "pet_factor": False, "optimizer": "lbfgs", "learning_rate": 1.0, "precision": "float64", "window": 100_000,
    "updates": 5, "patience": 1000, "loss": {"nse": 1.0}, "hidden": [8],
}


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--mapping", type=click.Choice(["linear", "mlp"]), default="linear", show_default=True,
              help="Of the student; the truth is linear.")
@click.option("--epochs", default=6, show_default=True, help="Of 25 iterations of LBFGS.")
@click.option("--steps", default=9, show_default=True, help="Of Gauss-Newton beside them, for the linear student.")
@click.option("--seed", default=7, show_default=True, help="Of the true weights.")
def main(config: Path, folder: Path, mapping: str, epochs: int, steps: int, seed: int) -> None:
    """Run the experiment on the case of CONFIG."""
    folder.mkdir(parents=True, exist_ok=True)
    case, truth, student = folder / "truth.yaml", folder / "truth.safetensors", folder / "student.yaml"
    write_case(config, case, {})
    run, training = load_train_config(case)
    write_truth(case, truth, seed)
    starts, ids, gauges, true = simulate(run, truth)
    write_observations(folder / "observations.nc", starts, ids, true[:, gauges], run.time_step)
    warm_up = int((training.train[0] - run.start).astype(int)) // run.time_step
    write_case(case, student, {**STUDENT, "mapping": mapping, "epochs": epochs, "warm_up": warm_up})

    trainer = Trainer(student, Team(0, 1))
    weights = [w for w in trainer.generator.parameters() if w.requires_grad]
    start = parameters_to_vector(weights).detach().numpy().copy()
    trainer.train(
        resume=False, progress=lambda loss: None,
        report=lambda e: console.print(f"epoch {e.number}: loss {e.loss:.2e}, NSE {e.scores.nse:.6f}"),
    )
    if mapping == "linear":
        ends = parameters_to_vector(weights).detach().numpy().copy(), find_weights(trainer, weights, start, steps)
        losses = [float(np.sum(residuals(trainer, weights, end) ** 2)) for end in ends]
        console.print(f"loss by LBFGS {losses[0]:.2e}, by Gauss-Newton {losses[1]:.2e}: the lower is kept")
        vector_to_parameters(torch.from_numpy(ends[int(np.argmin(losses))]), weights)
        write_checkpoint(trainer.config.output, trainer, None)
    found = simulate(run, trainer.config.output)[3]
    test = starts >= training.train[1]
    hidden = np.setdiff1d(np.arange(true.shape[1]), gauges)
    values = np.array([nse(found[test, i], true[test, i]) for i in hidden])
    low, median, high = np.nanpercentile(values, [5, 50, 95])
    console.print(f"{hidden.size} reaches never shown, from {starts[test][0]}, {mapping} student, truth {seed}: "
                  f"NSE median {median:.4f}, 5 % {low:.4f}, 95 % {high:.4f}")
    console.print(recovery(run, truth, trainer.config.output))


def write_case(config: Path, path: Path, training: dict[str, object]) -> None:
    """Write a copy of a case without spin-up and hysteresis, that trains on the twin's observations."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for key in ("domain", "forcing"):
        content[key] = str((config.parent / content[key]).resolve())
    content |= {"observations": "observations.nc", "output": "run.nc", "spin_up": 0}
    if content.get("snow", "none") != "none":
        content["snow"] = "cemaneige"
    content["training"] |= {"output": "student.safetensors", "validate_on": None, **training}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def write_truth(config: Path, path: Path, seed: int) -> None:
    """Draw the weights of a linear generator, and write it as a checkpoint."""
    run, training = load_train_config(config)
    spec = make_spec(
        run.domain, cell_attributes=training.cell_attributes, reach_attributes=training.reach_attributes,
        mapping="linear", snow=run.snow, step=run.time_step, routing_step=run.routing_step,
    )
    tensors = Generator(spec, seed).tensors()
    draw = np.random.default_rng(seed)
    for part, network in (("cell", spec.cell), ("reach", spec.reach)):
        weight = tensors[f"{part}.0.weight"]
        weight[:] = draw.normal(0, SPREAD / np.sqrt(weight.shape[1]), weight.shape)
        weight[[target.name in WITHOUT_SLOPE for target in network.targets]] = 0.0
    save_checkpoint(path, spec, tensors, {
        "gauges": [], "periods": {}, "scores": {}, "fingerprints": {}, "licence": "MIT",
        "command": "twin_experiment.py",
    })


def find_weights(trainer: Trainer, weights: list[torch.nn.Parameter], x: np.ndarray, steps: int) -> np.ndarray:
    """Weights of least squared error from x on, by damped Gauss-Newton steps [Levenberg 1944; Marquardt 1963]."""
    r, damping = residuals(trainer, weights, x), FIRST_DAMPING
    for k in range(1, steps + 1):
        slopes = np.empty((r.size, x.size))
        for i, e in enumerate(np.eye(x.size)):
            slopes[:, i] = (residuals(trainer, weights, x + DIFFERENCE * e) - r) / DIFFERENCE
        squared, down = slopes.T @ slopes, -slopes.T @ r
        for _ in range(TRIES):
            tried = x + np.linalg.solve(squared + damping * np.eye(x.size), down)
            error = residuals(trainer, weights, tried)
            if error @ error < r @ r:
                x, r, damping = tried, error, damping / 10
                break
            damping *= 6
        console.print(f"step {k}: loss {r @ r:.2e}, damping {damping:.0e}")
    return x


def residuals(trainer: Trainer, weights: list[torch.nn.Parameter], x: np.ndarray) -> np.ndarray:
    """Errors at the gauges in the training period, whose squares add up to the loss; float64[time x gauge]."""
    data = trainer.data
    train = data.steps_of(trainer.config.train)
    window = data.window(train.start, train.stop - train.start)
    scale = np.sqrt(data.weights / window.counted) / data.spread
    found = np.empty((window.counted, data.gauges.size))
    with torch.no_grad():
        vector_to_parameters(torch.from_numpy(x), weights)
        for part in trainer.parts:
            found[:, part.gauges] = trainer.chain(part, window).discharge.numpy()
    return ((found - data.observed[window.target]) * scale).ravel()


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
    """Write discharge [m3 s-1], float64[time, gauge], as the observations of the student."""
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.createDimension("gauge", len(ids))
        out.createVariable("gauge_id", str, ("gauge",))[:] = np.array(ids, object)
        create_time(out)
        write_time(out, 0, starts, step)
        variable = out.createVariable("discharge", "f8", ("time", "gauge"))
        variable.units = "m3 s-1"
        variable[:] = discharge


def recovery(run: Config, truth: Path, student: Path) -> Table:
    """Compare the parameters of the student with the true ones, cell by cell and reach by reach."""
    domain = read_domain(run.domain)
    true, found = (
        static_parameters(c.spec, c.tensors, read_inputs(c.spec, run.domain, domain))
        for c in (load_checkpoint(truth), load_checkpoint(student))
    )
    table = Table("parameter", "truth, 5 to 95 %", "correlation", "median error / spread", title="recovery")
    for name, t in true.items():
        low, high = np.percentile(t, [5, 95])
        if high > low:
            r = np.corrcoef(t, found[name])[0, 1]
            error = np.median(np.abs(found[name] - t)) / t.std()
            table.add_row(name, f"{low:.3g} to {high:.3g}", f"{r:.3f}", f"{error:.3f}")
        else:
            table.add_row(name, f"{low:.3g}", "held", "held")
    return table


if __name__ == "__main__":
    main()
