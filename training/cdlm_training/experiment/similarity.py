"""Parameters of every cell and reach from fits to similar gauges, and discharge from the same donors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.generator.checkpoint import STARTS_AT
from bmi_cdlm.maps.files import LEARNED_FROM
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.writing import check_writable
from bmi_cdlm.run.parameter_file import save_parameters
from bmi_cdlm.version import __version__
from cdlm_training.experiment.baselines import (
    LocalFits,
    Weights,
    choose_donors,
    distances,
    donor_weights,
    standardised,
)
from cdlm_training.experiment.config import Experiment, load_experiment
from cdlm_training.experiment.jobs import usable_gauges, write_discharge
from cdlm_training.generator import within

Mean = Literal["parameters", "simulations"]
BLOCK = 2**22
"""Distances that are held at once."""


def run_similarity(path: Path, output: Path, mean: Mean, weights: Weights, tell: Callable[[str], None]) -> str:
    """Fit every gauge by itself, and carry what was found to places that are similar; returns what was written.

    mean : `parameters` makes a parameter file, every cell the mean of those of its donors; `simulations` the discharge
    of every gauge as the mean of those that the parameters of its donors give there, none of them nested with it.

    Raises
    ------
    CdlmError
        What is wrong with the configuration or its files, before anything is fitted.
    """
    experiment = load_experiment(path)
    names = experiment.config.similarity or experiment.training.cell_attributes
    if not names:
        raise ConfigError(f"{path}: there are no attributes to compare. Name some in experiment.similarity.")
    domain = read_domain(experiment.run.domain)
    values = read_attributes(experiment.run.domain, domain, "cell", list(names)).values
    chosen, _ = usable_gauges(experiment.run, experiment.training, domain.gauges.id)
    if len(chosen) < 2:
        raise ConfigError(f"{path}: {len(chosen)} gauges can be fitted, expected two or more donors.")
    experiment.run.check_target(output, "--to", replaces=("parameters",))
    check_writable(output)
    with closing(LocalFits(experiment, chosen, tell)) as fits:
        if mean == "simulations":
            series = _simulate(experiment, domain, fits, list(names), weights)
            write_discharge(output, experiment.run, domain.gauges.id, series)
            return f"discharge of {np.isfinite(series).any(axis=0).sum()} gauges by their donors"
        found = _parameters(experiment, domain, fits, values, weights)
    save_parameters(output, domain, experiment.run.time_step, found, {
        "title": f"parameters of the {experiment.config.donors} most similar of {len(chosen)} gauges, their mean",
        "source": f"bmi_cdlm {__version__}", "similarity": ", ".join(names),
        LEARNED_FROM: json.dumps(chosen), "weights": weights,
        "periods": json.dumps({"train": [date_text(t) for t in experiment.training.train]}),
        **({STARTS_AT: date_text(experiment.run.start)} if experiment.training.learn_start else {}),
    })
    return f"{len(found)} parameters of {domain.n_cells} cells and {domain.n_reaches} reaches"


def _simulate(
    experiment: Experiment, domain: Domain, fits: LocalFits, names: list[str], weights: Weights
) -> np.ndarray:
    """Discharge at fitted gauges as their donors have it, float64[time, gauge]; NaN where there is no donor."""
    ids, far = domain.gauges.id, distances(domain, experiment.run.domain, names)
    series = np.full((experiment.run.n_steps, len(ids)), np.nan)
    for target in fits.gauges:
        donors = choose_donors(domain, far, target, fits.gauges, experiment.config.donors)
        if donors:
            place = ids.index(target)
            own = donor_weights(far[place, [ids.index(g) for g in donors]], weights)
            series[:, place] = own @ fits.simulate(target, fits.found[[fits.gauges.index(g) for g in donors]])
    return series


def _parameters(
    experiment: Experiment, domain: Domain, fits: LocalFits, values: np.ndarray, weights: Weights
) -> dict[str, np.ndarray]:
    """Parameters by registry name, float64[cell | reach]: means before bounds, of a reach those of its cells."""
    generator = fits.trainer.generator
    n_cell = sum(t.components for t in generator.spec.cell.targets)
    z = _cells(domain, fits, values, experiment.config.donors, weights)
    links = domain.links
    reach = np.repeat(np.arange(domain.n_reaches), np.diff(links.first))
    area = np.maximum(links.area, 1e-12)
    total = np.bincount(reach, weights=area, minlength=domain.n_reaches)
    of_reach = np.stack([
        np.bincount(reach, weights=area * z[links.cell, k], minlength=domain.n_reaches) / np.where(total > 0, total, 1)
        for k in range(n_cell, z.shape[1])
    ], axis=1) if z.shape[1] > n_cell else np.empty((domain.n_reaches, 0))
    of_reach[total == 0] = fits.found[:, n_cell:].mean(axis=0)  # of a reach without a catchment
    found: dict[str, np.ndarray] = {}
    for spec, own in ((generator.spec.cell, z[:, :n_cell]), (generator.spec.reach, of_reach)):
        for target, rows in zip(spec.targets, spec.rows, strict=True):
            one = torch.from_numpy(own[:, rows].T.copy())
            value = torch.softmax(one, 0) if target.scale == "share" else within(target, one)
            found[target.name] = (value[0] if target.components == 1 else value).numpy()
    return found | _left(experiment, domain, found)


def _left(experiment: Experiment, domain: Domain, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters that are not fitted, at their defaults, which are those of this fit in later versions too."""
    size = {"cell": domain.n_cells, "reach": domain.n_reaches}
    return {
        p.name: np.full(size[p.grid], p.range_at(experiment.run.time_step).default)
        for process in experiment.run.chain.processes for p in process.parameters
        if p.name not in found and not p.optional
    }


def _cells(
    domain: Domain, fits: LocalFits, values: np.ndarray, count: int, weights: Weights
) -> np.ndarray:
    """Parameters of every cell before bounds, float64[cell, parameter], from the gauges whose basins are most alike."""
    places = [domain.gauges.id.index(g) for g in fits.gauges]
    basins, cells = standardised(domain, values, places)
    count, found = min(count, len(places)), np.empty((cells.shape[0], fits.found.shape[1]))
    size = max(1, BLOCK // (len(places) * values.shape[1]))
    for first in range(0, cells.shape[0], size):
        block = cells[first : first + size]
        far = np.sqrt(((block[:, None] - basins[None]) ** 2).sum(axis=2))
        near = np.argsort(far, axis=1, kind="stable")[:, :count]
        own = donor_weights(np.take_along_axis(far, near, axis=1), weights)
        found[first : first + size] = (own[:, :, None] * fits.found[near]).sum(axis=1)
    return found
