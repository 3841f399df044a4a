"""Small trainings with a known truth: the observations are a run of the model with drawn weights."""

from __future__ import annotations

import csv
from pathlib import Path

import netCDF4
import numpy as np
import yaml
from cases import START, case_forcing, change_config, write_config, write_forcing, write_series
from generator_cases import RECORD, attribute_fields, drawn_tensors
from make_domain import Field, write_domain

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.generator.checkpoint import load_checkpoint, save_checkpoint
from bmi_cdlm.generator.generator import describe_forcing, make_spec
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.config import load_config
from cdlm_training.distributed import Team
from cdlm_training.loop import Trainer
from cdlm_training.scores import Scores, simulate_gauges

SEED, N_REACHES, N_CELLS = 4, 14, 8
ALONE = Team(0, 1)
TRAINING = {
    "output": "out/trained.safetensors", "cell_attributes": ["forest", "elevation"], "reach_attributes": ["length"],
    "hidden": [4], "pet_hidden": [3], "window": 25, "warm_up": 20, "windows_per_update": 1, "updates": 3, "epochs": 2,
    "precision": "float64", "learning_rate": 0.02,
}


def at(step: int, k: int) -> str:
    """The begin of step k."""
    return str(START + np.timedelta64(k * step, "s"))


def write_training_case(
    folder: Path, *, step: int = DAY, n_steps: int = 70, snow: str = "none", missing: float = 0.1, spin_up: int = 0,
    truth: float = 0.5, components: int = 1, runoff: str = "gr4j", routing: str = "muskingum",
    precipitation: str = "given", **training: object,
) -> Path:
    """Write all files of a training on the first 5/7 of a record; `training` replaces keys, None leaves one out.

    Gauges g0 (outlet of the larger basin), g1 and g2 (nested above it) and g3 (the other basin); a share `missing`
    of their discharge is NaN. truth: spread of the weights behind it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    domain = folder / "domain.nc"
    _write_domain(domain)
    forcing = case_forcing(n_steps, N_CELLS)
    write_forcing(folder / "forcing.nc", forcing, step, np.array([f"c{i}" for i in range(N_CELLS)], object))
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "observations": "observations.nc", "start": at(step, 0),
        "end": at(step, n_steps), "time_step": "1 d" if step == DAY else "1 h",
        "routing_step": "4 h" if step == DAY else "15 min", "snow": snow, "spin_up": spin_up,
        "runoff": runoff, "routing": routing, "components": components, "precipitation": precipitation,
    }
    spec = make_spec(
        domain, cell_attributes=["forest"], reach_attributes=["length"], mapping="linear", snow=snow, step=step,
        routing_step=4 * HOUR if step == DAY else 900, pet=True, pet_hidden=(3,), pet_kind="drawn",
        features=describe_forcing({n: getattr(forcing, n) for n in forcing._fields[: 2 if snow == "none" else 3]}),
        runoff=runoff, routing=routing, components=components, precipitation=precipitation,
    )
    drawn = {n: v * truth for n, v in drawn_tensors(spec, 3).items()}
    save_checkpoint(folder / "truth.safetensors", spec, drawn, RECORD)
    run = load_config(write_config(folder / "truth.yaml", content, observations=None))
    ids, discharge = simulate_gauges(run, folder / "truth.safetensors")
    rng = np.random.default_rng(SEED)
    discharge = np.where(rng.random(discharge.shape) < missing, np.nan, discharge)
    write_series(folder / "observations.nc", "gauge", np.array(ids, object), {"discharge": (discharge, "m3 s-1")},
                 START, step)
    keys = {**TRAINING, "train": [at(step, 0), at(step, 5 * n_steps // 7)], **training}
    return write_config(folder / "case.yaml", content, training={k: v for k, v in keys.items() if v is not None})


def change_training(config: Path, name: str = "changed.yaml", **training: object) -> Path:
    """Write a changed copy beside a training's configuration; None leaves a key out."""
    old = yaml.safe_load(config.read_text())["training"]
    return change_config(config, name, training={k: v for k, v in {**old, **training}.items() if v is not None})


def drawn_trainer(config: Path, scale: float = 0.6) -> Trainer:
    """A trainer with weights far from the start."""
    trainer = Trainer(config, ALONE)
    trainer.generator.load({n: scale * v for n, v in drawn_tensors(trainer.spec, 8).items()})
    return trainer


def train(config: Path, *, resume: bool = False, progress=lambda loss: None) -> tuple[Trainer, Scores, list]:
    """Train in this process; the trainer, the scores of the best checkpoint, and what was reported per epoch."""
    trainer, epochs = Trainer(config, ALONE), []
    scores = trainer.train(resume=resume, report=epochs.append, progress=progress)
    return trainer, scores, epochs


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Weights of a checkpoint by name."""
    return dict(load_checkpoint(path).tensors)


def _write_domain(path: Path) -> None:
    fields = attribute_fields(SEED, N_REACHES, N_CELLS)
    fields["cell_mean_runoff"] = Field(("cell",), "mm yr-1", np.linspace(100.0, 1500.0, N_CELLS))
    fields["cell_baseflow_index"] = Field(("cell",), "1", np.linspace(0.2, 0.9, N_CELLS))
    write_domain(path, fields)
    domain = read_domain(path)
    size = [int(np.subtract(*upstream_of(domain.reaches.downstream, i)[::-1])) for i in range(N_REACHES)]
    first, second = sorted(domain.outlets, key=lambda i: -size[i])
    lo, _ = upstream_of(domain.reaches.downstream, int(first))
    inner = sorted((i for i in range(lo, first) if domain.reaches.upstream_area[i] > 0), key=lambda i: -size[i])
    chosen = [first, inner[0], inner[-1], second]
    fields["gauge_reach"] = fields["gauge_reach"]._replace(values=domain.file_order[chosen])
    write_domain(path, fields)
    with netCDF4.Dataset(path, "a") as data:
        data["cell_baseflow_index"].hysep_window = 5


def here(case: Path, folder: Path, **training) -> Path:
    """The case, writing below another folder."""
    return change_training(case, f"{folder.name}.yaml", output=str(folder / "out" / "trained.safetensors"), **training)


def log_of(config: Path) -> list[list[str]]:
    """Rows of a log, without the seconds."""
    output = Path(yaml.safe_load(config.read_text())["training"]["output"])
    text = (output.with_name("trained_training") / "log.csv").read_text()
    return [row[:-1] for row in csv.reader(text.splitlines())]


def assert_same_weights(a: Path, b: Path, *, same: bool = True) -> None:
    one, other = weights_of(a), weights_of(b)
    assert one.keys() == other.keys()
    equal = [np.array_equal(one[name], other[name]) for name in one]
    assert all(equal) if same else not any(equal)
