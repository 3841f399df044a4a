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
  others. First-order steps stall with gauges that fit to 0.9996, and even LBFGS in float64 on the whole record, with
  which the training begins, stops among them. Gauss-Newton steps, damped as Levenberg and Marquardt do, go on from
  where it ends.
- What stops those are valleys of the squared error in which the truth does not lie. The truth, free of noise, has no
  error by any measure, and another measure has its valleys elsewhere; so the steps go by the discharge until one gains
  less than a tenth, then by its logarithm, and so on in turn, until the gauges fit to 1e-7 of their variance or ten
  steps have not brought a tenth. The weights that fit the discharge at the gauges best are kept. The hidden reaches
  decide nothing.
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

from bmi_cdlm.commands.common import console
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.files.netcdf import create_time, write_time
from bmi_cdlm.generator.checkpoint import load_checkpoint, save_checkpoint
from bmi_cdlm.generator.generator import make_spec, read_inputs, static_parameters
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.simulation import Simulation
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.generator import Generator
from cdlm_training.loop import Trainer

SPREAD = 0.5
"""Standard deviation of z of the true parameters: they cover much of their ranges."""
WITHOUT_SLOPE = ("thermal_weighting",)
FIRST_DAMPING, DIFFERENCE, TRIES = 1e-2, 1e-7, 8
DONE, GAIN = 1e-7, 0.1
"""Share of variance not explained at the gauges that ends the steps; gain of a step below which the measure changes."""
LEAST_DAMPING, PROBE, BENT, PATIENCE = 1e-6, 0.1, 0.75, 10
MEASURES = ("discharge", "its logarithm")
STUDENT = {
    "pet_factor": False, "optimizer": "lbfgs", "learning_rate": 1.0, "precision": "float64", "window": 100_000,
    "updates": 5, "patience": 1000, "loss": {"nse": 1.0}, "hidden": [8],
}


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--mapping", type=click.Choice(["linear", "mlp"]), default="linear", show_default=True,
              help="Of the student; the truth is linear.")
@click.option("--epochs", default=3, show_default=True, type=click.IntRange(1), help="Of 25 iterations of LBFGS.")
@click.option("--steps", default=60, show_default=True, help="Of Gauss-Newton after them, at most.")
@click.option("--seed", default=7, show_default=True, help="Of the true weights.")
@click.option("--routing-step", help="Of truth and student, such as '1 d', in place of the case's.")
def main(
    config: Path, folder: Path, mapping: str, epochs: int, steps: int, seed: int, routing_step: str | None
) -> None:
    """Run the experiment on the case of CONFIG."""
    folder.mkdir(parents=True, exist_ok=True)
    case, truth, student = folder / "truth.yaml", folder / "truth.safetensors", folder / "student.yaml"
    write_case(config, case, {}, routing_step)
    run, training = load_train_config(case)
    write_truth(case, truth, seed)
    starts, ids, gauges, true = simulate(run, truth)
    write_observations(folder / "observations.nc", starts, ids, true[:, gauges], run.time_step)
    warm_up = int((training.train[0] - run.start).astype(int)) // run.time_step
    write_case(case, student, {**STUDENT, "mapping": mapping, "epochs": epochs, "warm_up": warm_up})

    trainer = Trainer(student, Team(0, 1))
    trainer.train(
        resume=False, progress=lambda loss: None,
        report=lambda e: console.print(f"epoch {e.number}: loss {e.loss:.2e}, NSE {e.scores.nse:.6f}"),
    )
    refine(trainer, steps)
    write_checkpoint(trainer.config.output, trainer, None)
    found = simulate(run, trainer.config.output)[3]
    test = starts >= training.train[1]
    hidden = np.setdiff1d(np.arange(true.shape[1]), gauges)
    values = np.array([nse(found[test, i], true[test, i]) for i in hidden])
    low, median, high = np.nanpercentile(values, [5, 50, 95])
    console.print(f"{hidden.size} reaches never shown, from {starts[test][0]}, {mapping} student, truth {seed}: "
                  f"NSE median {median:.4f}, 5 % {low:.4f}, 95 % {high:.4f}")
    console.print(recovery(run, truth, trainer.config.output))


def write_case(config: Path, path: Path, training: dict[str, object], routing_step: str | None = None) -> None:
    """Write a copy of a case without spin-up and hysteresis, that trains on the twin's observations."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for key in ("domain", "forcing"):
        content[key] = str((config.parent / content[key]).resolve())
    content |= {"observations": "observations.nc", "output": "run.nc", "spin_up": 0}
    if content.get("snow", "none") != "none":
        content["snow"] = "cemaneige"
    if routing_step is not None:
        content["routing_step"] = routing_step
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


def refine(trainer: Trainer, steps: int) -> None:
    """Give the generator the weights that fit the gauges best, by Gauss-Newton steps on two measures in turn."""
    fit = Fit(trainer)
    x, best, damping, measure = fit.x, fit.x, FIRST_DAMPING, 0
    fallen, least, last_fall = np.inf, np.inf, 0
    for k in range(1, steps + 1):
        r = fit.errors(x, measure)
        x, damping, gain = step(fit, x, r, measure, damping)
        unexplained = float(np.sum(fit.errors(x, 0) ** 2))
        console.print(f"step {k}, by {MEASURES[measure]}: 1 - NSE {unexplained:.2e}, damping {damping:.0e}")
        if unexplained < least:
            least, best = unexplained, x
        if least < (1 - GAIN) * fallen:
            fallen, last_fall = least, k
        if least < DONE or k - last_fall == PATIENCE:
            break
        if gain < GAIN:
            measure, damping = (measure + 1) % len(MEASURES), max(damping, LEAST_DAMPING)
    fit.take(best)
    console.print(f"kept: 1 - NSE {least:.2e} at the gauges")


def step(
    fit: Fit, x: np.ndarray, r: np.ndarray, measure: int, damping: float
) -> tuple[np.ndarray, float, float]:
    """Make one damped Gauss-Newton step [Levenberg 1944; Marquardt 1963], bent along the valley [1].

    Returns the weights, the damping of the next step, and the share by which the squared error fell.

    .. [1] Transtrum and Sethna (2012), arXiv:1201.5885: geodesic acceleration.
    """
    slopes = np.empty((r.size, x.size))
    for i, e in enumerate(np.eye(x.size)):
        slopes[:, i] = (fit.errors(x + DIFFERENCE * e, measure) - r) / DIFFERENCE
    squared, down = slopes.T @ slopes, -slopes.T @ r
    for _ in range(TRIES):
        damped = squared + damping * np.eye(x.size)
        v = np.linalg.solve(damped, down)
        bend = 2 / PROBE * ((fit.errors(x + PROBE * v, measure) - r) / PROBE - slopes @ v)
        a = -np.linalg.solve(damped, slopes.T @ bend)
        if 2 * np.linalg.norm(a) <= BENT * np.linalg.norm(v):
            error = fit.errors(x + v + a / 2, measure)
            if error @ error < r @ r:
                return x + v + a / 2, damping / 10, 1 - float(error @ error / (r @ r))
        damping *= 4
    return x, damping, 0.0


class Fit:
    """Errors at the gauges in the training period, as a function of the weights that have a slope.

    Attributes
    ----------
    x : float64[weight]
        Those weights, as the trainer has them.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.weights = [w for w in trainer.generator.parameters() if w.requires_grad]
        data = trainer.data
        train = data.steps_of(trainer.config.train)
        self.window = data.window(train.start, train.stop - train.start)
        trainer.gradient([self.window])
        self.free = np.concatenate([(w.grad != 0).numpy().ravel() for w in self.weights if w.grad is not None])
        self.all = parameters_to_vector(self.weights).detach().numpy().copy()
        self.x = self.all[self.free]
        self.observed = data.observed[self.window.target]
        # A hundredth of the mean keeps the logarithm finite [Pushpalatha et al. 2012].
        self.least = self.observed.mean(axis=0) / 100

    def take(self, x: np.ndarray) -> None:
        """Give the generator these weights."""
        self.all[self.free] = x
        vector_to_parameters(torch.from_numpy(self.all.copy()), self.weights)

    def errors(self, x: np.ndarray, measure: int) -> np.ndarray:
        """Errors of the discharge (measure 0) or its logarithm (1), whose squares add up to 1 - mean NSE of that."""
        found = np.empty_like(self.observed)
        with torch.no_grad():
            self.take(x)
            for part in self.trainer.parts:
                found[:, part.gauges] = self.trainer.chain(part, self.window).discharge.numpy()
        found, true = (np.log(q + self.least) if measure else q for q in (found, self.observed))
        return ((found - true) / (true.std(axis=0) * np.sqrt(true.size))).ravel()


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
