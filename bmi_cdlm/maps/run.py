"""Signature maps from a configuration to files: maps, a report, predictions at gauges."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.evaluate.summary import CLOSE, number, running
from bmi_cdlm.maps.basins import UNITS, Basins, read_basins
from bmi_cdlm.maps.config import Signatures, Target, load_signatures
from bmi_cdlm.maps.files import write_maps
from bmi_cdlm.maps.learn import FOLD, NAIVE, REGION, SITE, learn, make_splits
from bmi_cdlm.maps.predict import Aggregation, TargetMap, aggregate, bias, make_map, out_of_range
from bmi_cdlm.names.writing import check_writable, replacing

MEANS = {SITE: "each gauge predicted without it and those nested with it", FOLD: "folds of independent basins",
         REGION: "regions by place", NAIVE: "gauges dealt out at random, nested ones apart: what is too good is a leak"}


class Made(NamedTuple):
    """What was made: files by what they are, and the report (Markdown)."""

    files: dict[str, Path]
    report: str


def make_maps(path: Path, tell: Callable[[str], None]) -> Made:
    """Learn signatures from gauges, map them, and write maps, report and predictions.

    Raises
    ------
    CdlmError
        What is wrong with the configuration or its files, before anything is learned.
    """
    signatures = load_signatures(path)
    config = signatures.config
    basins = read_basins(signatures)
    splits = make_splits(basins, config)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    check_writable(config.output)
    results = learn(basins, config, splits, tell)
    maps = {target: make_map(basins, config, splits, results, target, tell) for target in config.targets}
    outside = out_of_range(basins)
    fitted = [split.fitted for split in splits if split.design == FOLD]
    period = config.period or (signatures.run.start, signatures.run.end)
    write_maps(config.output, basins, config, maps, fitted, outside, period)
    table, text = config.output.with_suffix(".csv"), config.output.with_suffix(".md")
    _write_gauges(table, basins, maps)
    report = _report(signatures, basins, maps, outside)
    with replacing(text) as temporary:
        temporary.write_text(report, encoding="utf-8")
    return Made({"maps": config.output, "predictions at gauges": table, "report": text}, report)


def _write_gauges(path: Path, basins: Basins, maps: Mapping[Target, TargetMap]) -> None:
    """Observed and predicted signatures, a row per gauge."""
    heads = ["gauge", "area_km2", "fold", "left_out"]
    for target in maps:
        heads += [f"{target}_{what}" for what in ("observed", "predicted", "map_averaged", "fold_map_averaged")]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(heads)
        for k, gauge in enumerate(basins.ids):
            row = [gauge, f"{basins.area[k]:g}", basins.fold[k], basins.why_not.get(gauge, "")]
            for target, one in maps.items():
                values = (basins.targets[target], one.at_gauges, one.aggregated, one.aggregated_unseen)
                row += [number(float(series[k])) for series in values]
            table.writerow(row)


def _report(
    signatures: Signatures, basins: Basins, maps: Mapping[Target, TargetMap], outside: np.ndarray
) -> str:
    config, usable = signatures.config, basins.usable
    lines = [
        f"# Signature maps of {signatures.path.stem}", "",
        f"{usable.sum()} of {usable.size} gauges, {basins.cells.shape[0]} cells; predictors, as means over basins: "
        f"{', '.join(basins.names)}. Search: {config.search or 'none'}"
        f"{f' settings by {config.inner_folds} folds within the gauges of every fit' if config.search else ''}. "
        f"{100 * (outside > 0).mean():.0f} % of the cells have a predictor outside of the range of the basins. "
        f"HYSEP's interval of the median basin: {basins.window} d.",
    ]
    for target, one in maps.items():
        lines += [
            "", f"## {target} [{UNITS[target]}]", "", "R2 at gauges that were held out:", "",
            "| | " + " | ".join(config.models) + " | |", "|---" * (len(config.models) + 2) + "|",
            *(f"| {design} | " + " | ".join(f"{own[m]:.3f}" for m in config.models) + f" | {MEANS[design]} |"
              for design, own in one.scores.items()),
            "", *_about(basins, target, one),
        ]
    return "\n".join(lines) + "\n"


def _about(basins: Basins, target: Target, one: TargetMap) -> list[str]:
    """What the map of a target rests on, and whether its means above gauges are those of the records."""
    usable = basins.usable
    observed, area = basins.targets[target][usable], basins.area[usable]
    impurity = ["-" if np.isnan(v) else f"{v:.3f}" for v in one.impurity]
    order = np.argsort(-one.permutation)
    error = np.abs(bias(one.at_gauges[usable], observed))
    lines = [
        f"Map by {one.model}; median |error| where held out {np.median(error):.1f} %. Spread over the maps of the "
        f"folds: median {np.median(one.folds.std(axis=0)):.3g} {UNITS[target]}.", "",
        "| predictor | permutation (loss of R2 at gauges held out) | impurity |", "|---|---|---|",
        *(f"| {basins.names[k]} | {one.permutation[k]:+.3f} | {impurity[k]} |" for k in order), "",
        "Averaged over cells above each gauge, against records:", "",
        f"| map | R2 | \\|bias\\| <= {CLOSE:g} % | rank correlation of bias and area | p |", "|---|---|---|---|---|",
    ]
    for name, averaged in (("of all gauges", one.aggregated), ("that never saw the gauge", one.aggregated_unseen)):
        lines.append(_told(name, aggregate(averaged[usable], observed, area)))
    rows = running(area, bias(one.aggregated_unseen[usable], observed))
    return [
        *lines, "", "Bias of the maps that never saw the gauge [%], median and quartiles by area:", "",
        "| area [km2] | median | quartiles |", "|---|---|---|",
        *(f"| {r.at:.0f} | {r.median:+.1f} | {r.low:+.1f} to {r.high:+.1f} |" for r in rows),
    ]


def _told(name: str, one: Aggregation) -> str:
    return f"| {name} | {one.r2:.3f} | {100 * one.close:.0f} % | {one.trend:+.2f} | {one.p:.2f} |"
