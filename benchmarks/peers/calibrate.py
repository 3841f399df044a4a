"""Calibrations beside hydro-smash's own, on the basins that it carries: the Lez (daily) and the Cance (hourly).

    python benchmarks/peers/calibrate.py FOLDER [--basin cance] [--who smash] [--gauges outlet] [--seeds 5]

prepares both cases in FOLDER, calibrates one parameter set and one per cell with either model on all gauges and on the
outlet alone, and prints NSE at every gauge in the fitted period, and after it where there is a record, with the
processor time of the calibration (without reading its inputs, or compiling; one core). One per cell, hydro-smash goes
on from its one parameter set, as ours does in `free`. Others of ours go from a generator of attributes (`network`) to
a field that nothing holds (`free_network`), or a prior (`distributed`), once with the weight that the L-curve finds
(`lcurve`, its picture in the folder of that training). Every seed is a row of the file `results.json`, the table has
their means and ranges. A row that is there is not made again: so a run can be broken off, or done in parts. `--speed`
calibrates every cell of the Cance from defaults without a prior in both, 100 iterations.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import Config
from cdlm_training.config import load_train_config
from cdlm_training.distributed import Team
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.loop import Trainer
from cdlm_training.scores import score, simulate_gauges

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 100
THEIRS = ["cp", "ct", "kexc", "llr", "hp", "ht"]
"""What hydro-smash calibrates of gr4-lr: capacities, exchange, the lag of reaches, how full both stores begin."""
console = Console(width=150)


class Basin(NamedTuple):
    """A case: the name of its data in hydro-smash, the fitted period and the end of what is scored after it, keys of
    our run, and of our trainings by the name of the row, each from another where `start_from` says so.
    """

    data: str
    fitted: tuple[str, str]
    end: str | None
    outlet: str
    run: dict[str, Any]
    trainings: dict[str, dict[str, Any]]


UNIFORM: dict[str, Any] = {
    "mapping": "uniform", "optimizer": "lbfgs", "precision": "float64", "updates": 20, "epochs": 1, "restarts": 3,
}
OUTLET_WEIGHT = 0.1
"""Of the prior where the outlet alone is fitted: with little of it, fields fail at gauges that they have not seen."""
FIELD: dict[str, Any] = {"mapping": "distributed", "updates": ITERATIONS // 5, "epochs": 1, "start_from": "network"}
FREE: dict[str, Any] = {**FIELD, "start_from": "uniform"}
"""As hydro-smash does it: from one parameter set, nothing holds the fields."""
YEAR = {"warm_up": 365, "window": 365}
BEGUN: dict[str, Any] = {"learn_start": True, "pet_factor": False, "ranges": {"exchange_coefficient": [-20, 20]}}
"""The year without a warm-up: run through once before, it would begin with the stores of the next summer."""
SHORT = {"learn_start": True, "window": 1440, "pet_factor": False}
WIDE = {"ranges": {"exchange_coefficient": [-10, 10]}}
"""Hydro-smash's exchange ends at 50 mm per hour; of that a routing store that is a fifth full exchanges a 280th."""
BASINS = {
    "lez": Basin(
        "Lez", ("2012-08-01", "2013-08-01"), None, "Y3204040", {},
        {
            "uniform": {**UNIFORM, **BEGUN, "window": 365},
            "network": {
                "mapping": "mlp", "hidden": [16, 16], "warm_up": 365, "updates": 20, "epochs": 12, "pet_factor": False,
                "cell_attributes": ["drainage_density", "karst", "terrain_slope", "soil_water_storage", "urban",
                                    "woodland"],
                "reach_attributes": ["upstream_area", "terrain_slope"],
            },
            "free": {**FREE, **BEGUN, "window": 365},
            "free_network": {**FIELD, **BEGUN, "window": 365},
            "distributed": {**FIELD, **YEAR, "regularisation": {"prior": 1, "weight": 0.001}},
            "lcurve": {**FIELD, **YEAR, "regularisation": {"prior": 1, "weight": "lcurve"}},
        },
    ),
    "cance": Basin(
        "Cance", ("2014-09-15", "2014-11-14"), "2015-01-15", "V3524010", {"runoff": "gr4", "routing_step": "1 h"},
        {
            "uniform": {**UNIFORM, **SHORT, **WIDE},
            "network": {
                **SHORT, "mapping": "mlp", "hidden": [8, 8], "updates": 10, "epochs": 20, "patience": 30,
                "learning_rate": 0.02, "cell_attributes": ["terrain_slope", "drainage_density"],
                "reach_attributes": ["length", "upstream_area"],
            },
            "free": {**FREE, **SHORT, **WIDE},
            "free_network": {**FIELD, **SHORT, **WIDE},
            "distributed": {**FIELD, **SHORT, "regularisation": {"prior": 1, "weight": 0.001}},
            "lcurve": {**FIELD, **SHORT, "regularisation": {"prior": 1, "weight": "lcurve"}},
        },
    ),
}
Result = dict[str, Any]
"""fitted, after : NSE of every gauge, outlet first; seconds : of the processor."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--basin", "basins", multiple=True, type=click.Choice(list(BASINS)), help="Only these.")
@click.option("--who", multiple=True, type=click.Choice(["smash", "ours"]), help="Only theirs, or ours.")
@click.option("--gauges", "fits", multiple=True, type=click.Choice(["all", "outlet"]), help="Only fits to these.")
@click.option("--mapping", "mappings", multiple=True, help="Only these, such as uniform, network.")
@click.option("--seeds", default=5, show_default=True, help="Of our networks and the fields that start from them.")
@click.option("--speed", is_flag=True, help="The same distributed calibration of the Cance by both, and its memory.")
def main(
    folder: Path, basins: tuple[str, ...], who: tuple[str, ...], fits: tuple[str, ...], mappings: tuple[str, ...],
    seeds: int, speed: bool,
) -> None:
    """Calibrate what FOLDER has not, and print what it has."""
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "results.json")
    for name in basins or BASINS:
        for fit in fits or ("all", "outlet"):
            if "smash" in who or not who:
                run_smash(name, fit, results, mappings)
            if "ours" in who or not who:
                run_ours(folder, name, fit, results, mappings, seeds)
    if speed:
        run_speed(folder, results)
    console.print(make_table(results.rows))


class Results:
    """What was calibrated so far, by row, kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Result] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def add(self, key: str, make: Callable[[], Result]) -> None:
        """Make a row that is not there."""
        if key in self.rows:
            return
        self.rows[key] = found = make()
        self.path.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        console.print(key, {k: np.round(v, 4).tolist() for k, v in found.items()})


# ---- hydro-smash -------------------------------------------------------------------------------------------------


def smash_model(basin: Basin, end: str | None = None) -> Any:
    """A model of gr4-lr over the fitted period, or to another end."""
    import smash

    setup, mesh = smash.factory.load_dataset(basin.data)
    setup |= {"hydrological_module": "gr4", "routing_module": "lr"}
    setup["end_time"] = setup["end_time"] if end is None else f"{end} 00:00"
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return smash.Model(setup, mesh)


def smash_fit(model: Any, mapping: str, fit: str, iterations: int = ITERATIONS) -> tuple[Any, float]:
    """A calibrated model and the seconds that took; the outlet alone is the gauge furthest downstream."""
    import smash

    options: dict[str, Any] = {"parameters": THEIRS}
    if mapping == "distributed":
        options["termination_crit"] = {"maxiter": iterations}
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        made = smash.optimize(
            model, mapping=mapping, optimize_options=options,
            cost_options={"gauge": "all" if fit == "all" else "dws"}, common_options={"ncpu": 1, "verbose": False},
        )
    return made, time.process_time() - began


def smash_scores(model: Any, first: int = 0) -> list[float]:
    """NSE at every gauge from a step on."""
    observed, simulated = model.response_data.q[:, first:], model.response.q[:, first:]
    return [nse(s, np.where(o < 0, np.nan, o)) for s, o in zip(simulated, observed, strict=True)]


def run_smash(name: str, fit: str, results: Results, mappings: tuple[str, ...]) -> None:
    """Calibrate one parameter set, and one per cell from there, which needs the first."""
    basin, models = BASINS[name], dict[str, Any]()

    def calibrated(mapping: str) -> tuple[Any, float]:
        if mapping not in models:
            begin = smash_model(basin) if mapping == "uniform" else calibrated("uniform")[0]
            models[mapping] = smash_fit(begin, mapping, fit)
        return models[mapping]

    def calibrate(mapping: str) -> Result:
        made, seconds = calibrated(mapping)
        found: Result = {"fitted": smash_scores(made), "seconds": seconds}
        if basin.end:
            found["after"] = smash_scores(smash_run(made, smash_model(basin, basin.end)), made.setup.ntime_step)
        return found

    for mapping in ("uniform", "distributed"):
        if not mappings or mapping in mappings:
            results.add(f"{name}, smash, {mapping}, {fit}", lambda mapping=mapping: calibrate(mapping))


def smash_run(made: Any, whole: Any) -> Any:
    """A run of another period with what was calibrated."""
    import smash

    whole.rr_parameters.values = made.rr_parameters.values
    whole.rr_initial_states.values = made.rr_initial_states.values
    with contextlib.redirect_stdout(io.StringIO()):
        return smash.forward_run(whole, common_options={"verbose": False})


# ---- ours --------------------------------------------------------------------------------------------------------


def write_case(folder: Path, name: str, row: str, training: dict[str, Any]) -> Path:
    """The configuration of one of our calibrations, of a case that is prepared where it is not there."""
    basin = BASINS[name]
    content = yaml.safe_load((ROOT / "cfg" / f"{name}.yaml").read_text(encoding="utf-8"))
    if basin.run.get("runoff") == "gr4":  # as hydro-smash, which finds it by itself
        content["prepare"]["attributes"]["interception_capacity"] = True
    source = folder / f"{name}.yaml"
    if not source.exists():
        source.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    if not (folder / content["domain"]).exists():
        console.print(f"preparing {name}")
        prepare(source)
    suffix = ".nc" if training["mapping"] == "distributed" else ".safetensors"
    keys = {"train": list(basin.fitted), "output": f"{row}{suffix}", "threads": 1, **training}
    run = {k: v for k, v in content.items() if k != "prepare"} | basin.run | {"threads": 1}
    path = folder / f"{row}.yaml"
    path.write_text(yaml.safe_dump({**run, "training": keys}, sort_keys=False), encoding="utf-8")
    return path


def our_fit(path: Path) -> tuple[Config, Result]:
    """Train as a configuration says; seconds and scores."""
    trainer = Trainer(path, Team(0, 1))
    trainer.gradient(trainer.all_windows())  # compiles
    beside = trainer.config.output.with_stem(f"{trainer.config.output.stem}_at_first")
    write_checkpoint(beside, trainer, None)
    simulate_gauges(trainer.run, beside)  # compiles what validates
    began, ended = time.process_time(), [0.0]
    trainer.train(resume=False, report=lambda epoch: ended.append(time.process_time()), progress=lambda loss: None)
    seconds = ended[-1] - began  # with validations, before what is drawn and told
    run, config = load_train_config(path)
    ids, simulated = simulate_gauges(run, config.output)

    def scores(period: tuple[np.datetime64, np.datetime64]) -> list[float]:
        found = score(run, ids, ids, simulated, period).gauges
        order = np.argsort(-trainer.data.domain.gauges.area)
        return [found[ids[k]][0] for k in order]

    found: Result = {"fitted": scores(config.train), "seconds": seconds}
    if run.end > config.train[1]:
        found["after"] = scores((config.train[1], run.end))
    return run, found


def run_ours(folder: Path, name: str, fit: str, results: Results, mappings: tuple[str, ...], seeds: int) -> None:
    """One parameter set, networks, and the fields that start from them, of every seed."""
    basin = BASINS[name]
    for mapping, keys in basin.trainings.items():
        for seed in range(1, 2 if mapping in ("uniform", "free") else seeds + 1):  # these begin where they are told
            if mappings and mapping not in mappings:
                continue
            row = f"{name}_{mapping}_{fit}_{seed}"
            own = {**keys, "seed": seed, **({} if fit == "all" else {"gauges": [basin.outlet]})}
            held = own.get("regularisation", {})
            if fit == "outlet" and isinstance(held.get("weight"), float):
                own["regularisation"] = {**held, "weight": OUTLET_WEIGHT}
            if "start_from" in own:
                own["start_from"] = f"{name}_{own['start_from']}_{fit}_{seed}.safetensors"
            results.add(
                f"{name}, ours, {mapping}, {fit}, seed {seed}",
                lambda row=row, own=own: our_fit(write_case(folder, name, row, own))[1],
            )


def run_speed(folder: Path, results: Results) -> None:
    """The same calibration by both: every cell of the Cance, three gauges, 100 iterations, no regularisation."""
    keys = {k: v for k, v in {**FIELD, **SHORT}.items() if k != "start_from"}
    path = write_case(folder, "cance", "cance_speed", keys)
    results.add("speed, ours", lambda: {**our_fit(path)[1], "bytes per cell-step": memory(path)})

    def theirs() -> Result:
        made, seconds = smash_fit(smash_model(BASINS["cance"]), "distributed", "all")
        return {"fitted": smash_scores(made), "seconds": seconds}

    results.add("speed, smash", theirs)
    ratio = results.rows["speed, smash"]["seconds"] / results.rows["speed, ours"]["seconds"]
    console.print(f"{ITERATIONS} iterations, 383 cells x 1,440 h: ours {ratio:.1f} times as fast")


def memory(path: Path) -> float:
    """What a loss with its gradient takes at most above what is there before, bytes per cell-step."""
    trainer = Trainer(path, Team(0, 1))
    windows = trainer.all_windows()
    trainer.gradient(windows)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    trainer.gradient(windows)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak / (trainer.data.domain.n_cells * sum(window.counted for window in windows))


# ---- the table ---------------------------------------------------------------------------------------------------


def make_table(rows: dict[str, Result]) -> Table:
    """A line for every row, those of several seeds together: mean [lowest, highest]."""
    groups: dict[str, list[Result]] = {}
    for key, found in rows.items():
        groups.setdefault(key.partition(", seed")[0], []).append(found)
    table = Table("calibration", "seeds", "fitted", "after", "seconds", title="NSE, outlet first")
    for key in sorted(groups):
        found = groups[key]
        table.add_row(key, str(len(found)), *(spread([one.get(k) for one in found]) for k in ("fitted", "after")),
                      f"{np.mean([one['seconds'] for one in found]):.1f}")
    return table


def spread(values: list[list[float] | None]) -> str:
    """Means of every gauge, and their range where there are several."""
    if values[0] is None:
        return ""
    found = np.array(values)
    mean, low, high = found.mean(axis=0), found.min(axis=0), found.max(axis=0)
    if len(values) == 1:
        return "  ".join(f"{m:.3f}" for m in mean)
    return "  ".join(f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in zip(mean, low, high, strict=True))


if __name__ == "__main__":
    main()
