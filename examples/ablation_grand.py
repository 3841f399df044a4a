"""What is each learned part worth? Train a case with and without it, and score the years after the training.

    python examples/ablation_grand.py cfg/grand.yaml --to cfg/grand_ablation --seeds 3

A variant is the configuration with a few keys of `training` replaced (VARIANTS). Every variant is trained once per
seed; a training that is finished is not repeated. The table gives the median NSE over the gauges, and the mean and
the range of that over the seeds.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import yaml
from rich.table import Table

from bmi_cdlm.commands.common import console
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.loop import Trainer
from cdlm_training.scores import score, simulate_gauges

VARIANTS: dict[str, dict[str, object]] = {
    "full": {},
    "without PET factor": {"pet_factor": False},
    "fixed K": {"learn_routing": False},
    "uniform parameters": {"mapping": "uniform"},
}


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--seeds", default=3, show_default=True, help="Trainings per variant.")
@click.option("--variant", "names", multiple=True, type=click.Choice(list(VARIANTS)), help="Only these.")
def main(config: Path, folder: Path, seeds: int, names: tuple[str, ...]) -> None:
    """Train and score the variants of the case of CONFIG."""
    folder.mkdir(parents=True, exist_ok=True)
    run, training = load_train_config(config)
    first, last = (str(t)[:10] for t in (training.train[1], run.end))
    table = Table("variant", "train", "test", "test, lowest", "test, highest", "worth in test",
                  title=f"median NSE over gauges, {seeds} seeds, test {first} to {last}")
    reference: float | None = None
    for name in names or VARIANTS:
        scores = np.array([medians(train(config, folder, name, seed)) for seed in range(1, seeds + 1)])
        mean = scores.mean(axis=0)
        reference = float(mean[1]) if reference is None else reference
        table.add_row(name, *(f"{v:.3f}" for v in (*mean, scores[:, 1].min(), scores[:, 1].max(), reference - mean[1])))
    console.print(table)


def train(config: Path, folder: Path, name: str, seed: int) -> Path:
    """Train one variant with one seed; returns its configuration, beside which the checkpoint stands."""
    path = folder / f"{name.replace(' ', '_')}_{seed}.yaml"
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for key in ("domain", "forcing", "observations"):
        content[key] = str((config.parent / content[key]).resolve())
    content["training"] |= {"output": f"{path.stem}.safetensors", "seed": seed, **VARIANTS[name]}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = path.with_suffix(".done")
    if not done.exists():
        Trainer(path, Team(0, 1)).train(
            resume=False, progress=lambda loss: None,
            report=lambda e: console.print(f"{path.stem} {e.number}: loss {e.loss:.3f}, NSE {e.scores.nse:.3f}"),
        )
        done.touch()
    return path


def medians(path: Path) -> tuple[float, float]:
    """Median NSE over the gauges in the training period and after it."""
    run, training = load_train_config(path)
    ids, simulated = simulate_gauges(run, training.output)

    def median(period: tuple[np.datetime64, np.datetime64]) -> float:
        return float(np.median([nse for nse, _ in score(run, ids, ids, simulated, period).gauges.values()]))

    return median(training.train), median((training.train[1], run.end))


if __name__ == "__main__":
    main()
