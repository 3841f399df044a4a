"""Train the regional model around Lake Erie that `examples/erie.safetensors` is.

    python examples/train_erie.py cfg/erie.yaml --to cfg/erie/region

trains a member for each of two seeds as the configuration says, but with rivers routed by the day, which takes two
thirds of the time; goes on from it in a second fit whose steps are smaller and whose loss weighs squared errors more;
and ends with a few epochs in the routing step of the configuration. The members become one file, `region.safetensors`.
A checkpoint that is there is not trained again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import yaml

from bmi_cdlm.commands.common import console
from bmi_cdlm.generator.checkpoint import load_members, save_checkpoint, save_ensemble
from bmi_cdlm.run.config import load_config
from cdlm_training.distributed import Team
from cdlm_training.loop import Trainer

SECOND = {"loss": {"nse": 1, "kge": 0.1}, "learning_rate": 0.007, "epochs": 20}
"""Keys of the second fit; windows are drawn anew."""
THIRD = {"loss": {"nse": 1, "kge": 0.1}, "learning_rate": 0.004, "epochs": 8}
"""Keys of the third fit, in the steps of the rivers that the configuration has; the first two take a day."""
DAY_STEPS = {"routing_step": "1 d"}
FILES = ("domain", "forcing", "observations")


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True)
def main(config: Path, folder: Path) -> None:
    """Train the members of CONFIG and join them."""
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    keys = {k: v for k, v in content.items() if k not in ("prepare", "experiment")}
    keys |= {name: str((config.parent / keys[name]).resolve()) for name in FILES}
    last = []
    for seed in (1, 2):
        first = train(folder / f"first{seed}.yaml", keys | DAY_STEPS, {"seed": seed})
        more = {**SECOND, "seed": 10 + seed, "start_from": first.name}
        second = train(folder / f"second{seed}.yaml", keys | DAY_STEPS, more)
        finer = at_step(second, load_config(config).routing_step)
        more = {**THIRD, "seed": 20 + seed, "start_from": finer.name}
        last.append(train(folder / f"member{seed}.yaml", keys, more))
    output = folder / "region.safetensors"
    save_ensemble(output, [one for path in last for one in load_members(path)])
    console.print(f"wrote {output}, an ensemble of {len(last)} members")


def train(path: Path, keys: dict, changes: dict) -> Path:
    """Train with changed keys unless the checkpoint is there; returns it."""
    output = path.with_suffix(".safetensors")
    training = {**keys["training"], **changes, "output": output.name}
    path.write_text(yaml.safe_dump({**keys, "training": training}, sort_keys=False), encoding="utf-8")
    if not output.exists():
        console.print(f"training {path.stem}")
        Trainer(path, Team(0, 1)).train(resume=False, report=console.print, progress=lambda loss: None)
    return output


def at_step(path: Path, routing_step: int) -> Path:
    """The same weights for another routing step [s]: what they give of rivers, celerity and weighting, has no step."""
    (one,) = load_members(path)
    output = path.with_stem(f"{path.stem}_finer")
    save_checkpoint(output, replace(one.spec, routing_step=routing_step), one.tensors, one.record)
    return output


if __name__ == "__main__":
    main()
