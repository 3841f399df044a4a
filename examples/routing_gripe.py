"""What routing is worth around Lake Erie: GR4J and HBV, each with a constant celerity, with Muskingum-Cunge, with none.

    python examples/routing_gripe.py cfg/gripe.yaml FOLDER_OF_SOURCES --to cfg/routing_gripe

prepares the domain of cfg/gripe.yaml in reaches of some 4 km, trains four models for the same few epochs on 2011 and
2012, and scores them in these years and in 2013 and 2014. `none` is the model of the constant celerity with the runoff
above each gauge in place of routed water, not trained anew: what is left of a score without routing, not the best that
a model without routing could learn. A checkpoint that is there is not trained again.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import yaml
from rich.table import Table

from bmi_cdlm.commands.common import console
from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import Config
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.loop import Trainer
from cdlm_training.scores import simulate_gauges

RUNOFF = {"gr4j": {}, "hbv": {"runoff": "hbv", "snow": "none", "components": 4}}
ROUTING = ("muskingum", "muskingum_cunge")
COARSE = {"resolution": "120 arcsec", "cell_size": "240 arcsec", "extent": "gauges"}
TRAINING = {
    "gauges_per_update": 12, "updates": 16, "epochs": 4, "patience": 4, "pet_factor": False, "threads": 1,
    "validate_on": ["2011-01-01", "2013-01-01"],
}
"""Twelve gauges an update, with all that drains to them; the best epoch is chosen on the years of training."""


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("cfg/routing_gripe"), show_default=True)
def main(config: Path, source: Path, folder: Path) -> None:
    """Prepare, train and score."""
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["prepare"]["network"] |= COARSE
    write(folder / "gripe.yaml", content)
    if not (folder / content["domain"]).exists():
        prepare(folder / "gripe.yaml", source, None, console.print)
    heads = ("runoff", "routing", "train NSE", "train KGE", "test NSE", "test KGE")
    table = Table(*heads, title="medians over the gauges")
    for runoff, options in RUNOFF.items():
        for routing in ROUTING:
            path = folder / f"{runoff}_{routing}.yaml"
            write(path, configuration(content, path.stem, options, routing))
            run, training = load_train_config(path)
            if not training.output.exists():
                console.print(f"training {path.stem}")
                Trainer(path, Team(0, 1)).train(resume=False, report=console.print, progress=lambda loss: None)
            whole = run.model_copy(update={"end": np.datetime64(str(content["end"]), "s")})
            if routing == ROUTING[0]:
                table.add_row(runoff, "none", *scores(whole.model_copy(update={"routing": "none"}), path))
            table.add_row(runoff, routing, *scores(whole, path))
    console.print(table)


def write(path: Path, content: dict) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def configuration(content: dict, name: str, options: dict, routing: str) -> dict:
    """The keys of one model; a training need not see the years of the test."""
    keys = {k: v for k, v in content.items() if k != "prepare"}
    training = {**content["training"], **TRAINING, "output": f"{name}.safetensors"}
    own = {"routing": routing, "routing_step": "6 h", "threads": 1, "end": "2013-01-01", "output": f"{name}.nc"}
    return {**keys, **own, **options, "training": training}


def scores(run: Config, path: Path) -> list[str]:
    """Median NSE and KGE over the gauges of the training, in its years and in those after it."""
    _, training = load_train_config(path)
    ids, simulated = simulate_gauges(run, training.output)
    assert run.observations is not None and training.gauges != "all"
    starts, observed = read_observations(run.observations, ids, run.start, run.end, run.time_step)
    chosen, found = [ids.index(gauge) for gauge in training.gauges], []
    for inside in ((starts >= training.train[0]) & (starts < training.train[1]), starts >= training.train[1]):
        for of in (nse, kge):
            pairs = zip(simulated[inside][:, chosen].T, observed[inside][:, chosen].T, strict=True)
            found.append(f"{np.nanmedian([of(s, o) for s, o in pairs]):.3f}")
    return found


if __name__ == "__main__":
    main()
