"""What a training needs: the block `training` of a configuration."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from bmi_cdlm.doctor.findings import Case, Finding, day_text, listed, size_text
from bmi_cdlm.doctor.run import why_not_writable
from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError, nearest
from bmi_cdlm.prepare.gauges.hierarchy import folds, nest
from bmi_cdlm.run.screening import screened_out

BYTES_PER_CELL_STEP = 16
"""What a training keeps of a window, per cell and step, and per reach and step [bytes]; tests hold it to that."""


def check_training(case: Case) -> Iterator[Finding]:
    """Periods, gauges, attributes and files of a training."""
    if case.config.training is None:
        return
    # By name: the runtime does not depend on the training, it only knows that both are in one wheel.
    _, training = importlib.import_module("cdlm_training.config").load_train_config(case.path)
    config = case.config
    for key in ("forcing", "observations"):
        if getattr(config, key) in (None, "caller"):
            yield Finding("fail", "training", f"needs a file in '{key}'. Name one in the configuration.")
    if config.coupled_inputs:
        yield Finding("fail", "training", "coupled_inputs is given, which has no adjoint. Train without it.")
    for name, period in (("train", training.train), ("validate_on", training.validate_on)):
        if period is not None and not (config.start <= period[0] and period[1] <= config.end):
            yield Finding(
                "fail", "training", f"{name} is {date_text(period[0])} to {date_text(period[1])}, expected within the "
                f"run, {date_text(config.start)} to {date_text(config.end)}.",
            )
    problem = why_not_writable(training.output)
    if problem:
        yield Finding("fail", "training", f"{training.output}: cannot be written ({problem}). Choose another path.")
    if case.domain is not None:
        yield from _check_attributes(case, training)
        yield from _check_gauges(case, case.domain, training)
        yield Finding("ok", "training", _describe(case, case.domain, training))


def _check_attributes(case: Case, training: Any) -> Iterator[Finding]:
    assert case.domain is not None
    for grid, names in (("cell", training.cell_attributes), ("reach", training.reach_attributes)):
        for name in names:
            try:
                table = read_attributes(case.config.domain, case.domain, grid, [name])  # type: ignore[arg-type]
            except CdlmError as error:
                yield Finding("fail", "training", str(error))
                continue
            values = table.values[:, 0]
            if values.size > 1 and values.min() == values.max():
                yield Finding(
                    "note", "training", f"the {grid} attribute '{name}' is {values[0]:g} everywhere: nothing can be "
                    "learned from it. Leave it out, or check its source.",
                )


def _check_gauges(case: Case, domain: Domain, training: Any) -> Iterator[Finding]:
    known = domain.gauges.id
    asked = known if training.gauges == "all" else list(training.gauges)
    for one in asked:
        if one not in known:
            yield Finding("fail", "training", f"gauges: the domain has no gauge '{one}'.{nearest(one, known)}")
    held_out: set[str] = set()
    if training.held_out_fold is not None:
        hierarchy = nest(domain.reaches.downstream, domain.reaches.upstream_area, domain.gauges.reach)
        fold = folds(hierarchy.tree, hierarchy.incremental_area, training.folds)
        held_out = {one for one, k in zip(known, fold.tolist(), strict=True) if k == training.held_out_fold}
    config = case.config
    out = screened_out(config.screening, known)
    asked = [one for one in asked if one in known and one not in held_out and one not in out]
    if not asked:
        why = "the domain has no gauge to train on" if not out else "screening leaves no gauge to train on"
        yield Finding("fail", "training", f"{why}. Add gauges and their observations.")
        return
    if config.observations is None or not config.observations.is_file():
        return
    start, end = training.train
    _, discharge = read_observations(config.observations, asked, start, end, config.time_step)
    constant = [
        one for one, series in zip(asked, discharge.T, strict=True)
        if np.unique(series[np.isfinite(series)]).size < 2
    ]
    if constant:
        yield Finding(
            "fail", "training", f"no varying discharge in the training period at {len(constant)} of {len(asked)} "
            f"gauges: {listed(constant)}. Leave them out with training.gauges, or choose another period.",
        )


def _describe(case: Case, domain: Domain, training: Any) -> str:
    config = case.config
    width = 4 if training.precision == "float32" else 8
    window = training.window + training.warm_up
    forcing = width * config.n_steps * domain.n_cells * len(config.inputs)
    kept = BYTES_PER_CELL_STEP * window * (domain.n_cells + domain.n_reaches)
    many = training.updates == "cover"  # how many depends on the observations
    updates = f"{training.epochs} epochs" if many else f"{training.epochs * training.updates} updates"
    return (
        f"{day_text(training.train[0])} to {day_text(training.train[1])}; {updates} of "
        f"{window * training.windows_per_update} steps; about {size_text(forcing + kept)} above the runtime's own "
        f"memory; writes {training.output}"
    )
