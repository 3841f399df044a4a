"""The report of an experiment: one page that holds all that one looks at, made of what lies in its folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmi_cdlm.evaluate.catalogue import metric, score_words
from bmi_cdlm.evaluate.summary import column
from bmi_cdlm.pictures.fields import MapField, score_field
from bmi_cdlm.pictures.map_data import largest_first, map_data
from bmi_cdlm.pictures.page import Curve, chart, paragraph, place, section, table, write_page
from cdlm_training.experiment.left_out import left_out, left_out_headings, title_of
from cdlm_training.experiment.manifest import FILES
from cdlm_training.experiment.record import Record
from cdlm_training.experiment.report_training import curves_of_training, outside_range, season_of_pet
from cdlm_training.experiment.table import Part, headings, make_parts

REPORT = "report.html"
OF_CDF = ("nse", "kge")
ON_MAPS = ("nse", "kge", "pbias")
LEAST_SHOWN, PLACES = -0.5, 301
"""Of the distributions: the lowest score of their axis, and the number of places on it."""
NAMES_LINE, NAME_TAKES = 60, 6
"""Of names above a chart of half a page: characters in a line, and those that the mark of a curve takes."""
ENOUGH = 3
"""Gauges of which a best, a median and a worst can be shown."""
MOST_REACHES, MOST_CELLS = 30_000, 60_000
"""On a map of a report: the largest reaches, and cells; a page of its own, `cdlm view`, has room for more."""
Data = dict[str, Any]


def write_report(folder: Path) -> Path:
    """Write `report.html` into the folder of an experiment that was done; returns its path.

    Raises
    ------
    CdlmError
        The folder is not that of a finished experiment, or what it was made of is gone.
    """
    record, data = Record(folder), Data()
    parts = sorted(make_parts(record.scores), key=lambda one: one.period != "test")
    body = "".join((
        _about(record), _tables(parts, record), _distributions(parts, data), _score_maps(record, parts, data),
        _hydrographs(record, parts, data), _parameter_maps(record, data), season_of_pet(record, data),
        curves_of_training(record, data), outside_range(record), _made_of(record),
    ))
    path = folder / REPORT
    write_page(path, f"Experiment {record.manifest.name}", body, data)
    return path


def _about(record: Record) -> str:
    manifest = record.manifest
    rows = [
        (s.design, s.name, len(s.fitted), len(s.held_out), _few(s.held_out)) for s in manifest.splits
    ]
    periods = [(name, *(text.removesuffix("T00:00:00") for text in span)) for name, span in manifest.periods.items()]
    return section(
        "What saw what", *(paragraph(note) for note in manifest.notes),
        paragraph(
            "No training has read discharge of its held-out gauges, nor any of the test period. A score at a gauge "
            f"that was held out comes from the split that holds it out.{_others(record)}"
        ),
        table(("period", "from", "to"), periods),
        table(("design", "split", "gauges fitted", "held out", "which"), rows),
    )


def _others(record: Record) -> str:
    others = [name for name in record.manifest.files if name not in FILES]
    return f" What the models from files ({', '.join(others)}) have seen, their makers know." if others else ""


def _few(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _tables(parts: Sequence[Part], record: Record) -> str:
    inside = []
    for part in parts:
        inside.append(table(headings(), part.rows(), part.title))
        inside += [paragraph(text, "quiet") for text in part.spreads()]
    apart = list(left_out(parts, record.manifest.splits))
    for period in dict.fromkeys(one.period for one in apart):
        rows = [one.row() for one in apart if one.period == period]
        inside.append(table(left_out_headings(), rows, title_of(period)))
    told = (
        "Medians over gauges, with 95 % bootstrap intervals over gauges; the last column is the median of the "
        "difference to the first model, gauge by gauge. Nested gauges are not independent, so that intervals are too "
        "narrow."
    )
    return section("Scores", paragraph(told), *inside)


def _distributions(parts: Sequence[Part], data: Data) -> str:
    inside = []
    for k, part in enumerate(one for one in parts if one.period == "test"):
        charts = []
        for name in OF_CDF:
            key = f"cdf{k}_{name}"
            data[key] = _distribution(part, name)
            charts.append(place("chart", key, 360 + 20 * _lines_of(part.models)))
        inside.append(f'<h3>{part.title}</h3><div class="pair">{"".join(charts)}</div>')
    told = "Share of gauges whose score is not above a value: the further to the right a curve, the better."
    return section("Distributions over gauges", paragraph(told), *inside)


def _lines_of(names: Iterable[str]) -> int:
    """Lines that the names of curves take above a chart of half a page."""
    return max(1, math.ceil(sum(len(name) + NAME_TAKES for name in names) / NAMES_LINE))


def _distribution(part: Part, name: str) -> Data:
    x = np.linspace(LEAST_SHOWN, 1, PLACES)
    curves = []
    for model, gauges in part.models.items():
        values = column(gauges, name, list(gauges))
        known = np.sort(values[~np.isnan(values)])
        if known.size:
            curves.append(Curve(model, np.searchsorted(known, x, side="right") / known.size))
    curves = [one._replace(dashed=k >= 8) for k, one in enumerate(curves)]
    return chart(
        curves, x=x, xlabel=f"{metric(name).heading} in the test period", ylabel="Share of gauges", limits=(0, 1),
    )


def _score_maps(record: Record, parts: Sequence[Part], data: Data) -> str:
    """Scores of every model in the test period at its gauges, those that were never seen first, if there are some."""
    ids = record.domain.gauges.id
    tested = sorted((one for one in parts if one.period == "test"), key=_telling)
    fields = []
    for part in tested:
        for model, gauges in part.models.items():
            for name in ON_MAPS:
                values = [gauges[g].get(name, np.nan) if g in gauges else np.nan for g in ids]
                field = score_field(name, values)
                where = "never seen" if part.role == "unseen" else "fitted"
                fields.append(field._replace(name=f"{field.name}: {model}, {part.design}, {where}"))
    order = largest_first(record.domain)[:MOST_REACHES]
    data["scores"] = map_data(record.domain, fields, order, cells=False)
    return section("Scores on the map", *thinned(record, cells=False), place("map", "scores", 560))


def _telling(part: Part) -> tuple[bool, bool]:
    """The order of parts that are shown: with gauges ENOUGH before those of a few, never seen before fitted."""
    return max(len(gauges) for gauges in part.models.values()) < ENOUGH, part.role != "unseen"


def thinned(record: Record, *, cells: bool = True) -> list[str]:
    """What a map leaves out, in words."""
    domain, told = record.domain, []
    if domain.n_reaches > MOST_REACHES:
        told.append(f"The {MOST_REACHES} largest of {domain.n_reaches} reaches are shown.")
    if cells and domain.n_cells > MOST_CELLS:
        told.append(f"The domain has {domain.n_cells} cells, more than the {MOST_CELLS} of this page: none are shown.")
    return [paragraph(" ".join(told), "quiet")] if told else []


def _parameter_maps(record: Record, data: Data) -> str:
    fields: list[MapField] = []
    notes = []
    several = [name for name in record.manifest.variants if name != "lumped"]
    for variant in several:
        own, varying = record.parameters(variant)
        of = f": {variant}" if len(several) > 1 else ""
        fields += [field._replace(name=f"{field.name}{of}", colours="cividis") for field in own]
        if varying:
            notes.append(f"{variant}: {', '.join(varying)} vary in time, and have no map.")
    domain = record.domain
    cells = domain.n_cells <= MOST_CELLS
    if not fields:
        return ""
    data["parameters"] = map_data(domain, fields, largest_first(domain)[:MOST_REACHES], cells=cells)
    first, seeds = record.manifest.splits[0], record.manifest.seeds
    told = f"As trained on the gauges of {first.design} {first.name}" + (
        f", mean over {len(seeds)} seeds." if len(seeds) > 1 else "."
    )
    return section(
        "Parameters", paragraph(told), *(paragraph(note) for note in notes), *thinned(record),
        place("map", "parameters", 560),
    )


def _hydrographs(record: Record, parts: Sequence[Part], data: Data) -> str:
    """Best, median and worst gauge of the forecast in the test period, where it never saw them if there are such."""
    forecast = record.manifest.forecast
    tested = [one for one in parts if one.period == "test"]
    each_part = [(one, *_line_of(one, forecast)) for one in sorted(tested, key=lambda one: one.role != "unseen")]
    ranked = [(one, model, gauges, _by_nse(gauges)) for one, model, gauges in each_part]
    enough = [one for one in ranked if len(one[-1]) >= ENOUGH] or sorted(ranked, key=lambda one: -len(one[-1]))
    if not enough or not enough[0][-1]:
        return ""
    part, model, gauges, known = enough[0]
    wanted = {"Best": known[-1], "Median": known[(len(known) - 1) // 2], "Worst": known[0]}
    if len(known) < ENOUGH:
        wanted = {"Best": known[-1], "Worst": known[0]} if len(known) > 1 else {"Only": known[0]}
    rows, charts, stations = record.steps("test"), [], record.domain.gauges
    names = dict(zip(stations.id, stations.name, strict=True))
    for told, gauge in wanted.items():
        key = f"hydrograph_{told}"
        each = record.discharge(forecast, part.design, gauge)[:, rows]
        place_of = record.domain.gauges.id.index(gauge)
        title = f"{told}: {gauge}" if names[gauge] == gauge else f"{told}: {names[gauge]} ({gauge})"
        data[key] = chart(
            [Curve("observed", record.observed[rows, place_of]), Curve("simulated", each.mean(axis=0))],
            starts=record.starts[rows], ylabel="Discharge [m³ s⁻¹]", limits=(0, None), steps=True, title=title,
            told=score_words(gauges[gauge]), band=(each.min(axis=0), each.max(axis=0)) if len(each) > 1 else None,
        )
        charts.append(place("chart", key, 300))
    band = f" Shaded: the range of the {len(each)} members." if len(each) > 1 else ""
    told = (
        f"{model}, {part.title}: {', '.join(wanted).lower()} by NSE.{band} Drag over a chart to zoom, or use the "
        "wheel; a double click goes back."
    )
    return section("Hydrographs", paragraph(told), *charts)


def _by_nse(gauges: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Gauges that have an NSE, the worst first."""
    return sorted((g for g in gauges if np.isfinite(gauges[g].get("nse", np.nan))), key=lambda g: gauges[g]["nse"])


def _line_of(part: Part, model: str) -> tuple[str, Mapping[str, Mapping[str, float]]]:
    """The line of a variant or ensemble in a part: of several trainings that of their mean."""
    own = {name: found for name, found in part.models.items() if name == model or name.startswith(f"{model}, ")}
    name = next((one for one in own if "ensemble" in one), next(iter(own), ""))
    return name, own.get(name, {})


def _made_of(record: Record) -> str:
    manifest = record.manifest
    files = [(key, Path(path).name, digest) for key, (path, digest) in manifest.files.items()]
    environment = record.settings(manifest.variants[0])[1].log_folder / "environment.txt"
    lines = environment.read_text(encoding="utf-8").splitlines() if environment.is_file() else []
    wanted = ("torch==", "numpy==", "numba==", "netCDF4==")
    code = [*manifest.code.items(), *(("packages", one) for one in lines if one.startswith(wanted))]
    code += [("runs on", lines[0])] if lines else []
    return section(
        "Data and code", table(("data", "file", "sha256"), files), table(("code", ""), code),
    )
