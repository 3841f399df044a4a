"""Compare the variants of an experiment on years before its test: each is trained on one year, and scored in another.

    python examples/choose_grand.py cfg/grand_ensemble.yaml --to cfg/grand_choice --seeds 1

Two trainings of every variant, A on 2012 and B from May 2010 to 2011, with mean NSE over the gauges in 2011 and 2012;
the mean of both is what variants of cfg/grand_ensemble.yaml were chosen by (training/RESULTS.md). No discharge of the
test years is read. A training that is there is not done again; several seeds are a mean of discharge, as the ensembles
of the configuration are.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from rich.table import Table

from bmi_cdlm.commands.common import console
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.yaml_dumper import dump_yaml
from cdlm_training.distributed import Team
from cdlm_training.experiment.config import Experiment, load_experiment, merged, plain
from cdlm_training.loop import Trainer
from cdlm_training.scores import simulate_gauges

YEARS = {"A": (("2012-01-01", "2013-01-01"), 2011), "B": (("2010-05-01", "2012-01-01"), 2012)}
"""By name, the period of a training and the year that it is scored in."""


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder for the trainings.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True)
def main(config: Path, folder: Path, seeds: int) -> None:
    """Print NSE of all variants and ensembles of CONFIG in the year that each training has not seen."""
    experiment = load_experiment(config)
    run = experiment.run
    assert run.observations is not None
    folder.mkdir(parents=True, exist_ok=True)
    ids = read_domain(run.domain).gauges.id
    end = min(run.end, experiment.config.test[0])
    starts, observed = read_observations(run.observations, ids, run.start, end, run.time_step)
    year = starts.astype("datetime64[Y]").astype(int) + 1970
    table = Table("variant", *(f"{n}: mean of gauges" for n in YEARS), *(f"{n}: median" for n in YEARS), "mean of both")
    flows: dict[str, dict[str, list[np.ndarray]]] = {}
    for variant in experiment.config.variants:
        flows[variant] = {name: [trained(experiment, variant, name, seed, folder) for seed in range(1, seeds + 1)]
                          for name in YEARS}
    named = {**{v: (v,) for v in flows}, **experiment.config.ensembles}
    for label, variants in named.items():
        found = []
        for name, (_, scored) in YEARS.items():
            flow = np.mean([one for v in variants for one in flows[v][name]], axis=0)[:starts.size]
            inside = year == scored
            pairs = zip(flow[inside].T, observed[inside].T, strict=True)
            found.append(np.array([nse(s, o) for s, o in pairs]))
        means, medians = [np.nanmean(one) for one in found], [np.nanmedian(one) for one in found]
        table.add_row(label, *(f"{v:.3f}" for v in (*means, *medians, np.mean(means))))
    console.print(table)


def trained(experiment: Experiment, variant: str, name: str, seed: int, folder: Path) -> np.ndarray:
    """Discharge of a training over the record, float64[time, gauge] [m3 s-1]."""
    stem = f"{variant}_{name}_{seed}"
    checkpoint, path = folder / f"{stem}.safetensors", folder / f"{stem}.yaml"
    changes = {"training": {"train": list(YEARS[name][0]), "seed": seed, "output": checkpoint.name}}
    path.write_text(dump_yaml(plain(merged(experiment.variant(variant), changes))), encoding="utf-8")
    trainer = Trainer(path, Team(0, 1))
    if not checkpoint.exists():
        console.print(f"training {stem}")
        trainer.train(resume=False, report=lambda epoch: None, progress=lambda loss: None)
    trainer.workers.close()
    return simulate_gauges(trainer.run, checkpoint)[1]


if __name__ == "__main__":
    main()
