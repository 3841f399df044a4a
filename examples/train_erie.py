"""Train the regional model around Lake Erie that `examples/erie.safetensors` is.

    python examples/train_erie.py cfg/erie.yaml --to cfg/erie/region

trains a member for each of two seeds as the configuration says, and goes on from it in a second fit whose steps are
smaller and whose loss weighs squared errors more; a third, wider one is trained once. They become one file,
`region.safetensors`. A checkpoint that is there is not trained again.
"""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from bmi_cdlm.commands.common import console
from bmi_cdlm.generator.checkpoint import load_members, save_ensemble
from cdlm_training.distributed import Team
from cdlm_training.loop import Trainer

SECOND = {"loss": {"nse": 1, "kge": 0.1}, "learning_rate": 0.007, "epochs": 20}
"""Keys of the second fit; windows are drawn anew."""
WIDER = {
    "hidden": [128, 128],
    "ranges": {
        "recharge_shape": [1, 12], "interflow_rate": [0.003, 0.9], "baseflow_rate": [0.0003, 0.3],
        "snow_water_capacity": [0, 0.5], "quickflow_rate": [0.02, 1], "percolation_capacity": [0, 20],
        "field_capacity": [30, 1500],
    },
}
"""Keys of the third member, which is unlike the others: that is worth more in a mean than another seed."""
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
        first = train(folder / f"first{seed}.yaml", keys, {"seed": seed})
        more = {**SECOND, "seed": 10 + seed, "start_from": first.name}
        last.append(train(folder / f"member{seed}.yaml", keys, more))
    last.append(train(folder / "member3.yaml", keys, {"seed": 1, **WIDER}))
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


if __name__ == "__main__":
    main()
