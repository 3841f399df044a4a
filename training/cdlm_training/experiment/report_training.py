"""What a report tells of the trainings: their curves, the factor on PET, attributes beyond what they saw."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.names.calendars import months_since
from bmi_cdlm.pictures.page import Curve, chart, paragraph, place, section, table
from bmi_cdlm.run.simulation import Simulation
from cdlm_training.experiment.baselines import basin_means
from cdlm_training.experiment.record import Record

Data = dict[str, Any]
CURVES = {"loss": "Loss", "nse": "NSE, mean of fitted gauges"}
TAILS = (0.1, 0.9)
"""Quantiles of cells between which the factor on PET is shaded."""


def curves_of_training(record: Record, data: Data) -> str:
    """Loss and validation score by epoch: the median over the trainings of a variant, shaded where there is one."""
    logs = {variant: record.logs(variant) for variant in record.manifest.variants}
    logs = {variant: found for variant, found in logs.items() if found}
    if not logs:
        return ""
    length = max(one["epoch"].size for found in logs.values() for one in found)
    charts = []
    for name, label in CURVES.items():
        curves, band = [], None
        for variant, found in logs.items():
            values = np.full((len(found), length), np.nan)
            for k, one in enumerate(found):
                values[k, : one[name].size] = one[name]
            curves.append(Curve(variant, _middle(values)))
            if band is None and len(found) > 1 and len(logs) == 1:
                band = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
        data[f"training_{name}"] = chart(
            curves, x=np.arange(1.0, length + 1), xlabel="Epoch", ylabel=label, band=band, whole=True,
            limits=(None if name == "loss" else _floor(curves), None),
        )
        charts.append(place("chart", f"training_{name}", 300))
    count = ", ".join(f"{variant} {len(found)}" for variant, found in logs.items())
    told = f"Medians over trainings ({count}), as far as they went."
    return section("Trainings", paragraph(told), f'<div class="pair">{"".join(charts)}</div>')


def _middle(values: np.ndarray) -> np.ndarray:
    """Median over rows, NaN where none has a value."""
    return np.array([np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else np.nan for c in values.T])


def _floor(curves: list[Curve]) -> float | None:
    """From where an efficiency is shown: -1 where first epochs are further off, unless all are that low."""
    values = np.concatenate([curve.values for curve in curves])
    known = values[~np.isnan(values)]
    if not known.size or known.max() < -0.5:
        return None
    return -1.0 if known.min() < -1 else None


def season_of_pet(record: Record, data: Data) -> str:
    """The factor on PET by calendar month, over the whole record: mean of cells, and where most of them lie."""
    curves, band = [], None
    for variant in record.manifest.variants:
        if not record.settings(variant)[1].pet_factor:
            continue
        each = _monthly_factor(record, variant)
        curves.append(Curve(variant, each.mean(axis=1)))
        if band is None:
            band = np.quantile(each, TAILS[0], axis=1), np.quantile(each, TAILS[1], axis=1)
    if not curves:
        return ""
    data["pet"] = chart(
        curves, x=np.arange(1.0, 13), xlabel="Month", ylabel="Factor on PET [–]", whole=True,
        band=band if len(curves) == 1 else None,
    )
    shaded = " Shaded: 80 % of cells." if len(curves) == 1 else ""
    told = f"Means over the record, of the first split and seed, over all cells.{shaded} 1 leaves PET as it is."
    return section("Factor on PET by season", paragraph(told), place("chart", "pet", 300))


def _monthly_factor(record: Record, variant: str) -> np.ndarray:
    """Mean factor of every calendar month and cell, float64[12, cell]."""
    alone = {"routing": "none", "spin_up": 0, "output": None, "restart": None}  # the factor depends on no store
    run = record.settings(variant)[0].model_copy(update=alone)
    total, count = np.zeros((12, record.domain.n_cells)), np.zeros(12)

    def take(starts: np.ndarray, values: dict[str, np.ndarray]) -> None:
        month = months_since(starts) % 12
        np.add.at(total, month, values[FACTOR])
        np.add.at(count, month, 1)

    with closing(Simulation(run)) as simulation:
        simulation.run_blocks([FACTOR], take)
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)


def outside_range(record: Record) -> str:
    """Share of the gauges that no training saw whose attributes lie outside the range of the fitted ones."""
    run, training = record.settings(record.manifest.variants[0])
    names = list(training.cell_attributes)
    domain, ids = record.domain, record.domain.gauges.id
    if not names:
        return ""
    means = basin_means(domain, read_attributes(run.domain, domain, "cell", names).values)
    outside: dict[str, list[np.ndarray]] = {}
    for split in record.manifest.splits:
        fitted = [ids.index(g) for g in split.fitted]
        unseen = [ids.index(g) for g in (split.held_out or [g for g in ids if g not in split.fitted])]
        if unseen:
            low, high = means[fitted].min(axis=0), means[fitted].max(axis=0)
            outside.setdefault(split.design, []).append((means[unseen] < low) | (means[unseen] > high))
    if not outside:
        return ""
    columns = {design: np.concatenate(parts) for design, parts in outside.items()}
    rows = [
        [name, *(f"{100 * found[:, k].mean():.0f} %" for found in columns.values())] for k, name in enumerate(names)
    ]
    rows.append(["any of them", *(f"{100 * found.any(axis=1).mean():.0f} %" for found in columns.values())])
    told = (
        "Share of the gauges that were not fitted whose basin mean of an attribute lies outside the range that the "
        "fitted gauges of their split span: there the generator extrapolates."
    )
    heads = [f"{design} ({found.shape[0]} gauges)" for design, found in columns.items()]
    return section("Attributes outside the training range", paragraph(told), table(["attribute", *heads], rows))
