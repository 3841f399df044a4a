"""Two experiments side by side: differences gauge by gauge, with their bootstrap intervals, as a table and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.evaluate.catalogue import metric
from bmi_cdlm.evaluate.summary import bootstrap, column
from bmi_cdlm.names.errors import ConfigError, nearest
from bmi_cdlm.pictures.fields import MapField
from bmi_cdlm.pictures.map_data import largest_first, map_data
from bmi_cdlm.pictures.page import Curve, chart, paragraph, place, section, table, write_page
from cdlm_training.experiment.record import Record
from cdlm_training.experiment.report import MOST_REACHES, thinned
from cdlm_training.experiment.table import Part, Role, make_parts, told

SCORES = ("nse", "kge", "log_nse", "sqrt_nse")
DRAWN = ("nse", "kge")
HEADINGS = ("score", "gauges", "median of A", "median of B", "median of A - B", "A is better at")


class Comparison(NamedTuple):
    """One design, period and role of both: scores of A and B by gauge, at the gauges that both have."""

    design: str
    period: str
    role: Role
    a: dict[str, dict[str, float]]
    b: dict[str, dict[str, float]]

    @property
    def title(self) -> str:
        """What it is of."""
        return Part(self.design, self.period, self.role, {}).title

    def differences(self, score: str) -> np.ndarray:
        """A less B, float64[gauge]; NaN where one of them has none."""
        return column(self.a, score, list(self.a)) - column(self.b, score, list(self.a))

    def rows(self) -> list[list[str]]:
        """Lines of a table, as `HEADINGS` calls the cells."""
        lines = []
        for score in SCORES:
            apart = self.differences(score)
            known = ~np.isnan(apart)
            if not known.any():
                continue
            style = metric(score).style
            each = [bootstrap(np.where(known, column(of, score, list(self.a)), np.nan)) for of in (self.a, self.b)]
            better = f"{100 * (apart[known] > 0).mean():.0f} %"
            cells = (*(told(one, style) for one in each), told(bootstrap(apart), "+.3f"), better)
            lines.append([metric(score).heading, f"{known.sum()}", *cells])
        return lines


class Compared(NamedTuple):
    """What the comparison of two experiments has come to: names of A and B, parts, and notes on what is unlike."""

    names: tuple[str, str]
    parts: list[Comparison]
    notes: list[str]


def compare_experiments(
    first: Record, second: Record, models: tuple[str | None, str | None] = (None, None)
) -> Compared:
    """Compare one model of each; without a name its first ensemble of variants, else its first variant (the ensemble of
    its seeds).

    Raises
    ------
    ConfigError
        Other test periods, no such model, nothing that both have.
    """
    periods = [record.manifest.periods["test"] for record in (first, second)]
    if periods[0] != periods[1]:
        spans = [" to ".join(period) for period in periods]
        raise ConfigError(
            f"{second.folder}: was tested on {spans[1]}, {first.folder} on {spans[0]}. Expected the same period; set "
            "experiment.test alike, and run one of them again."
        )
    chosen = tuple(_model(record, name) for record, name in zip((first, second), models, strict=True))
    own, other = ({(p.design, p.period, p.role): p for p in make_parts(record.scores)} for record in (first, second))
    parts = []
    for key, part in own.items():
        if key in other and chosen[0] in part.models and chosen[1] in other[key].models:
            a, b = part.models[chosen[0]], other[key].models[chosen[1]]
            both = [g for g in a if g in b]
            if both:
                parts.append(Comparison(*key, {g: a[g] for g in both}, {g: b[g] for g in both}))
    if not parts:
        raise ConfigError(
            f"{first.folder} and {second.folder}: have no design, period and gauge in common, expected some. Compare "
            "experiments of the same gauges and designs."
        )
    names = (f"{first.manifest.name}: {chosen[0]}", f"{second.manifest.name}: {chosen[1]}")
    parts.sort(key=lambda one: one.period != "test")
    return Compared(names, parts, _unlike(first, second))


def _model(record: Record, name: str | None) -> str:
    """The line of a model in the tables of an experiment."""
    known = list(dict.fromkeys(model for part in make_parts(record.scores) for model in part.models))
    if name is None:
        model = record.manifest.forecast
        own = [one for one in known if one == model or one.startswith(f"{model}, ")]
        return next((one for one in own if "ensemble" in one), own[0] if own else known[0])
    if name not in known:
        raise ConfigError(f"{record.folder}: has no model '{name}'.{nearest(name, known)} It has: {'; '.join(known)}.")
    return name


def _unlike(first: Record, second: Record) -> list[str]:
    """What of the two is not the same, in words."""
    notes = []
    for key in ("observations", "forcing", "domain"):
        digests = [record.manifest.files[key][1] for record in (first, second)]
        if digests[0] != digests[1]:
            notes.append(f"The files of {key} differ.")
    if first.manifest.periods["train"] != second.manifest.periods["train"]:
        spans = (" to ".join(record.manifest.periods["train"]) for record in (first, second))
        notes.append(f"They were trained on other years: {', '.join(spans)}.")
    held = [{(s.design, s.name): set(s.held_out) for s in record.manifest.splits} for record in (first, second)]
    unlike = sorted({key[0] for key in held[0].keys() & held[1].keys() if held[0][key] != held[1][key]})
    if unlike:
        notes.append(f"The splits of {', '.join(unlike)} hold out other gauges.")
    return notes


def write_comparison(path: Path, record: Record, compared: Compared) -> None:
    """Write a comparison as a page; record : of A, whose domain is drawn."""
    data: dict[str, Any] = {}
    a, b = compared.names
    tables = [table(HEADINGS, part.rows(), part.title) for part in compared.parts]
    tested = [part for part in compared.parts if part.period == "test"]
    words = (
        "Medians over the gauges that both have, with 95 % bootstrap intervals; the difference is paired, gauge by "
        "gauge. An interval without 0 is a difference that another sample of gauges would hardly undo."
    )
    notes = (paragraph(note) for note in compared.notes)
    body = section("Differences", paragraph(f"A is {a}. B is {b}."), *notes, paragraph(words), *tables)
    if tested:
        rows = [_curves(part, f"differences{k}", data) for k, part in enumerate(tested)]
        body += section("Gauge by gauge, in order of the difference", *rows)
        order = largest_first(record.domain)[:MOST_REACHES]
        fields = [_field(record, part, score) for part in tested for score in DRAWN]
        data["map"] = map_data(record.domain, fields, order, cells=False)
        body += section("On the map", *thinned(record, cells=False), place("map", "map", 560))
    write_page(path, f"{a} and {b}", body, data)


def _curves(part: Comparison, key: str, data: dict[str, Any]) -> str:
    """Differences in their order, a chart for each score that is drawn."""
    charts = []
    for score in DRAWN:
        found = np.sort(part.differences(score))
        found = found[~np.isnan(found)]
        if found.size:
            share = (np.arange(found.size) + 0.5) / found.size
            data[f"{key}_{score}"] = chart(
                [Curve("A - B", found, "#0072b2"), Curve("alike", np.zeros(found.size), dashed=True)], x=share,
                xlabel="Share of gauges", ylabel=f"Difference of {metric(score).heading}", title=part.title,
                limits=_limits(found),
            )
            charts.append(place("chart", f"{key}_{score}", 300))
    return f'<div class="pair">{"".join(charts)}</div>'


def _field(record: Record, part: Comparison, score: str) -> MapField:
    """Differences at the gauges of the domain."""
    values = dict(zip(part.a, part.differences(score), strict=True))
    column_of = np.array([values.get(gauge, np.nan) for gauge in record.domain.gauges.id])
    return MapField(f"{metric(score).heading}, A - B: {part.title}", "gauge", "1", column_of, colours="diverging")


def _limits(found: np.ndarray) -> tuple[float | None, float | None]:
    """Of the axis: the middle 96 % of the differences at least, and not one gauge that is far off."""
    low, high = np.quantile(found, [0.02, 0.98])
    widest = max(abs(float(low)), abs(float(high)), 1e-3) * 1.2
    return -widest, widest
