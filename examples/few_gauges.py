"""What is a start from elsewhere worth where few gauges measure? Trainings on 5, 10, 20, 40 gauges, from nothing and
from a checkpoint that learned from labels of another region, scored at all other gauges in years that none has seen.

    cdlm-train labels mopex.yaml --model gr4j --to mopex_labels.nc     # another region, calibrated gauge by gauge
    cdlm-train mopex.yaml                                              # its training.pretrain names the labels
    python examples/few_gauges.py gripe.yaml --from mopex_training/pretrained.safetensors --to few --seeds 3

CONFIG's `training` is that of all runs; a seed draws the gauges too, the same with and without the checkpoint. Those
that stand above or below a gauge of the training count as others: both trainings have them alike. A training that is
done is not done again, one that was killed goes on.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import yaml
from rich.table import Table

from bmi_cdlm.commands.common import console
from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.evaluate.summary import bootstrap
from bmi_cdlm.files.observations import read_observations
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.loop import STATE, Trainer
from cdlm_training.scores import simulate_gauges


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--from", "origin", type=click.Path(path_type=Path, exists=True), required=True, help="Checkpoint.")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True)
@click.option("--count", "counts", type=int, multiple=True, default=(5, 10, 20, 40), show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--until", default="2013-01-01", show_default=True, help="End of the record that trainings read.")
@click.option("--pull", default=0.0, show_default=True, help="Weight of loss.prior towards the checkpoint.")
def main(
    config: Path, origin: Path, folder: Path, counts: tuple[int, ...], seeds: int, until: str, pull: float
) -> None:
    """Train, score, and print medians over the other gauges with intervals."""
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for key in ("domain", "forcing", "observations"):
        content[key] = str((config.parent / content[key]).resolve())
    named = f"pre-trained, pull {pull:g}" if pull else "pre-trained"
    start = {"start_from": str(origin.resolve()), "loss": {**content["training"].get("loss", {}), "prior": pull}}
    heads = ("gauges", "from nothing", named, "gain, paired")
    table = Table(*heads, title="median NSE of the other gauges after the training")
    for count in counts:
        scores = []
        for seed in range(1, seeds + 1):
            gauges = np.random.default_rng(seed).permutation(content["training"]["gauges"])[:count].tolist()
            both = [
                score(train(content, folder, f"{count}_{seed}_{name}", {**keys, "gauges": gauges, "seed": seed}, until),
                      content, gauges)
                for name, keys in (("plain", {}), (f"taught{pull:g}", start))
            ]
            scores.append(both)
        pooled = [np.concatenate([both[k] for both in scores]) for k in range(2)]
        cells = [told(pooled[0]), told(pooled[1]), told(pooled[1] - pooled[0])]
        table.add_row(str(count), *cells)
        console.print(f"{count} gauges: " + "; ".join(
            f"seed {k}: {np.median(a):.3f}, {np.median(b):.3f}" for k, (a, b) in enumerate(scores, 1)))
    console.print(table)


def told(values: np.ndarray) -> str:
    """Median with a 95 % bootstrap interval over gauges and seeds."""
    found = bootstrap(values)
    return f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


def train(content: dict, folder: Path, name: str, changes: dict, until: str) -> Path:
    """Train one; returns its configuration."""
    path = folder / f"{name}.yaml"
    training = {**content["training"], **changes, "output": f"{name}.safetensors"}
    path.write_text(yaml.safe_dump({**content, "end": until, "training": training}), encoding="utf-8")
    if not path.with_suffix(".done").exists():
        trainer = Trainer(path, Team(0, 1))
        begun = (trainer.config.log_folder / STATE).is_file()
        trainer.train(resume=begun, report=lambda epoch: None, progress=lambda loss: None)
        path.with_suffix(".done").touch()
    return path


def score(path: Path, content: dict, fitted: list[str]) -> np.ndarray:
    """NSE after the training period at the gauges that were not fitted, float64[gauge]."""
    held = path.with_suffix(".npy")
    if held.exists():
        return np.load(held)
    run, training = load_train_config(path)
    run = run.model_copy(update={"end": np.datetime64(str(content["end"]), "s")})
    ids, simulated = simulate_gauges(run, training.output)
    assert run.observations is not None
    starts, observed = read_observations(run.observations, ids, run.start, run.end, run.time_step)
    after = starts >= training.train[1]
    own = [k for k, g in enumerate(ids) if g in content["training"]["gauges"] and g not in fitted]
    found = np.array([nse(simulated[after, k], observed[after, k]) for k in own])
    np.save(held, found[np.isfinite(found)])
    return np.load(held)


if __name__ == "__main__":
    main()
