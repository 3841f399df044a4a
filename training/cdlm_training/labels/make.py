"""From a configuration to a label file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.generator.generator import make_spec
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, nearest
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.writing import check_writable
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameters import parameters_of_domain
from cdlm_training.config import TrainConfig, load_train_config
from cdlm_training.dataset import Dataset, read_forcing
from cdlm_training.distributed import Team
from cdlm_training.experiment.config import content_of
from cdlm_training.labels.areas import Areas, means, own_areas
from cdlm_training.labels.cells import CellFits, Weather
from cdlm_training.labels.fitted import GaugeFits
from cdlm_training.labels.monthly import MODELS
from cdlm_training.labels.months import Months, own_runoff, read_product, whole_months
from cdlm_training.labels.offline import calibrate
from cdlm_training.labels.store import LabelSet, Per, Sites, save_labels
from cdlm_training.loop import Trainer
from cdlm_training.uniform import loss_of_one_gauge, training_of_one_gauge

RAIN, DEMAND = "precipitation", "potential_evapotranspiration"
Tell = Callable[[str], None]


def make_labels(
    path: Path, output: Path, *, per: Per, models: Sequence[str], runoff: str | None, restarts: int, tell: Tell
) -> None:
    """Calibrate models at every gauge or cell of a training, and write the labels.

    Parameters
    ----------
    path : Path
        Configuration of a run and a training: its period, gauges, loss, ranges.
    output : Path
        Label file to write; fits of the model are kept beside it in `NAME_fits`, and not done again.
    per : 'gauge' or 'cell'
    models : names
        Monthly models, or the runoff process of the run.
    runoff : 'FILE:VARIABLE', for cells
        The gridded runoff product.
    restarts : int
    tell : takes a line of progress

    Raises
    ------
    CdlmError
        A model that is none, a configuration that does not fit, files that cannot be read.
    """
    run, training = load_train_config(path)
    _check(run, models, per, runoff, output)
    product = None if runoff is None else Path(runoff.rpartition(":")[0])
    run.check_target(output, "--to", replaces=("parameters",), others={"--runoff": product})
    check_writable(output)
    domain = read_domain(run.domain)
    if per == "gauge":
        sites, sets = _per_gauge(path, run, training, domain, output, models, restarts, tell)
    else:
        sites, sets = _per_cell(run, training, domain, str(runoff), models, restarts, tell)
    save_labels(output, sites, sets, _record(run, training, runoff, restarts))
    tell(f"wrote {output}: {len(sites.id)} {per}s, {', '.join(models)}")


def _check(run: Config, models: Sequence[str], per: Per, runoff: str | None, output: Path) -> None:
    known = [*MODELS, run.runoff]
    for name in models:
        if name not in known:
            raise ConfigError(
                f"--model: there is no '{name}' here.{nearest(name, known)} Known: {', '.join(MODELS)}, and "
                f"{run.runoff}, the runoff process of the run."
            )
    if len(set(models)) < len(models):
        raise ConfigError("--model names one twice, expected different ones.")
    if run.runoff in models and run.components > 1:
        raise ConfigError(
            f"components is {run.components}, expected 1: labels are one parameter set per site. Set components: 1."
        )
    if (per == "cell") != (runoff is not None):
        raise ConfigError(
            "--per cell needs --runoff FILE:VARIABLE, the gridded runoff product, and --per gauge takes none."
        )
    if runoff is not None and not runoff.rpartition(":")[0]:
        raise ConfigError(f"--runoff is '{runoff}', expected FILE:VARIABLE, such as GRUN.nc:Runoff.")
    if output.suffix != ".nc":
        raise ConfigError(f"{output}: expected a name that ends in .nc.")


def _per_gauge(
    path: Path, run: Config, training: TrainConfig, domain: Domain, output: Path, models: Sequence[str],
    restarts: int, tell: Tell,
) -> tuple[Sites, list[LabelSet]]:
    data = Dataset(run, training.model_copy(update={"precision": "float64"}), domain)
    areas = own_areas(domain, data.gauges.tolist())
    place = means(domain, areas, np.stack([domain.cells.lon, domain.cells.lat]))
    sites = Sites("gauge", [domain.gauges.id[g] for g in data.gauges], place[0], place[1], areas.area)
    sets, series = [], None
    for name in models:
        if name == run.runoff:
            sets.append(_fit_gauges(path, output, areas, restarts, tell))
            continue
        series = _gauge_series(data, areas) if series is None else series
        tell(f"{name}: {len(sites.id)} gauges")
        sets.append(calibrate(MODELS[name], *series, restarts, training.seed))
    return sites, sets


def _gauge_series(data: Dataset, areas: Areas) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rain, demand and runoff of own areas [mm per month], float64[month, gauge]."""
    rows = data.steps_of(data.config.train)
    months = whole_months(_starts(data.run)[rows], data.run.time_step)
    rain, demand = (means(data.domain, areas, months.sums(data.forcing[name][rows])) for name in (RAIN, DEMAND))
    return rain, demand, months.sums(own_runoff(data.observed[rows], areas))


def _fit_gauges(path: Path, output: Path, areas: Areas, restarts: int, tell: Tell) -> LabelSet:
    folder = output.with_name(f"{output.stem}_fits")
    folder.mkdir(parents=True, exist_ok=True)
    content = content_of(path)
    content["training"] = {
        **training_of_one_gauge(content["training"]), "output": "uniform.safetensors", "learn_start": False,
    }
    config = folder / "config.yaml"
    config.write_text(dump_yaml(content), encoding="utf-8")
    trainer = Trainer(config, Team(0, 1))
    try:
        return GaugeFits(trainer, areas, folder, restarts).run(tell)
    finally:
        trainer.workers.close()


def _per_cell(
    run: Config, training: TrainConfig, domain: Domain, runoff: str, models: Sequence[str], restarts: int, tell: Tell
) -> tuple[Sites, list[LabelSet]]:
    file, _, name = runoff.rpartition(":")
    cells = domain.cells
    starts = _starts(run)
    rows = slice(*(int((t - run.start).astype(int)) // run.time_step for t in training.train))
    months = whole_months(starts[rows], run.time_step)
    product = read_product(Path(file), name, cells, months)
    forcing = read_forcing(run, domain, np.float64, training.threads)
    sites, sets = Sites("cell", cells.id, cells.lon, cells.lat, cells.area), []
    for model in models:
        if model == run.runoff:
            sets.append(_fit_cells(run, training, domain, months, product, forcing, rows, restarts, tell))
            continue
        rain, demand = (months.sums(forcing[name][rows]) for name in (RAIN, DEMAND))
        sets.append(calibrate(
            MODELS[model], rain, demand, product, restarts, training.seed,
            lambda done, model=model: tell(f"{model}: {done} cells"),  # type: ignore[misc]
        ))
    return sites, sets


def _fit_cells(
    run: Config, training: TrainConfig, domain: Domain, months: Months, product: np.ndarray,
    forcing: dict[str, np.ndarray], rows: slice, restarts: int, tell: Tell,
) -> LabelSet:
    spec = make_spec(
        run.domain, cell_attributes=(), reach_attributes=(), mapping="uniform", step=run.time_step,
        routing_step=run.routing_step, starts=training.starts, ranges=training.ranges, **run.processes,
    )
    config = training.model_copy(update={"precision": "float64", "pet_factor": False, "varying": (), "device": "cpu",
                                         "gauges_per_update": None, "pairs_per_update": None})
    of_run = months._replace(first=months.first + rows.start, stop=months.stop + rows.start)
    weather = Weather(run, config, forcing, day_of_year(_starts(run)), parameters_of_domain(run, domain))
    return CellFits(spec, weather, domain, of_run, product).run(restarts, tell)


def _starts(run: Config) -> np.ndarray:
    """Begins of the steps of a run, datetime64[s][time]."""
    starts: np.ndarray = run.start + np.arange(run.n_steps) * np.timedelta64(run.time_step, "s")
    return starts


def _record(run: Config, training: TrainConfig, runoff: str | None, restarts: int) -> dict[str, Any]:
    """What labels were made of."""
    files = {"domain": run.domain, "forcing": Path(run.forcing)}
    if runoff is not None:
        files["runoff"] = Path(runoff.rpartition(":")[0])
    elif run.observations is not None:
        files["observations"] = run.observations
    return {
        "period": [date_text(t) for t in training.train], "time_step": str(run.time_step), **run.processes,
        "restarts": str(restarts),
        "fingerprints": {name: content_digest(file) for name, file in files.items()}, "licence": training.licence,
        **({"loss": loss_of_one_gauge(training.loss.model_dump(mode="json"))} if runoff is None else {}),
    }
