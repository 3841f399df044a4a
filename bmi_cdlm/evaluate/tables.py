"""Scores and signatures as tables for a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from bmi_cdlm.evaluate.catalogue import metric
from bmi_cdlm.evaluate.evaluation import GaugeResult
from bmi_cdlm.evaluate.events import GaugeReads, median_error
from bmi_cdlm.evaluate.signatures import OF_EVENTS, OF_PERIODS
from bmi_cdlm.evaluate.summary import CLOSE, LEVEL, Interval, Row, Running
from bmi_cdlm.names.calendars import date_text

PER_GAUGE = ("nse", "kge", "kge_r", "kge_alpha", "kge_beta", "pbias", "years", "n")
PER_GROUP = (
    "nse", "kge", "kge_prime", "log_nse", "sqrt_nse", "pcc", "pbias", "r1", "r10", "am3", "fhv", "flv", "fms",
    "bfi_error", "years",
)
OF_ENSEMBLES = ("mae", "crps", "coverage", "coverage_expected")
ALONG_AREA = ("nse", "kge", "pcc", "pbias")
COMPARED = ("nse", "kge", "log_nse", "sqrt_nse")


def score_table(results: Sequence[GaugeResult], title: str) -> Table:
    """Scores per gauge."""
    names = [*PER_GAUGE, *(name for name in OF_ENSEMBLES if any(name in result.scores for result in results))]
    table = _table(["gauge", *(metric(name).heading for name in names)], title)
    for result in results:
        table.add_row(result.gauge_id, *(shown(name, result.scores[name]) for name in names))
    return table


def summary_table(rows: Sequence[Row], title: str) -> Table:
    """Medians over gauges by group, with bootstrap interval and quartiles."""
    share = f"{100 * LEVEL:g} % interval"
    shares = ["< 0", "> 0.5", f"within {CLOSE:g} %"]
    table = _table(["group", "gauges", "score", "median", share, "quartiles", *shares], title)
    for row in rows:
        middle, one = row.middle, row.score
        best, in_percent = metric(one).best == 1, metric(one).units == "%"
        table.add_row(
            row.group, f"{middle.n}", metric(one).heading, shown(one, middle.median),
            f"{shown(one, middle.low)} to {shown(one, middle.high)}", " to ".join(shown(one, q) for q in row.quartiles),
            *(f"{100 * part:.0f} %" if best else "" for part in (row.below_zero, row.above_half)),
            f"{100 * row.close:.0f} %" if in_percent else "",
        )
    return table


def running_table(rows: Mapping[str, Sequence[Running]], title: str) -> Table:
    """Median and quartiles of scores over gauges, along their area: a column per score."""
    table = _table(["area [km2]", *(metric(name).heading for name in rows)], title)
    for own in zip(*rows.values(), strict=True):
        table.add_row(f"{own[0].at:.0f}", *(
            f"{shown(name, r.median)} ({shown(name, r.low)} to {shown(name, r.high)})"
            for name, r in zip(rows, own, strict=True)
        ))
    return table


def difference_table(differences: Mapping[str, Interval], title: str) -> Table:
    """Median over gauges of the difference of two models, with its interval."""
    table = _table(["score", "gauges", "median of the difference", f"{100 * LEVEL:g} % interval"], title)
    for name, one in differences.items():
        table.add_row(metric(name).heading, f"{one.n}", f"{one.median:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}")
    return table


def signature_table(gauges: Sequence[GaugeReads], title: str) -> Table:
    """Signatures of the period, or of floods, of gauges: a row observed, a row simulated, the median error last [%]."""
    reads = [read for gauge in gauges for read in gauge.reads]
    floods = any(read.event is not None for read in reads)
    known = OF_EVENTS if floods else OF_PERIODS
    about = ["flood"] if floods else []
    table = _table(["gauge", *about, "", *(f"{one.name}\n{_in_units(one.units)}" for one in known)], title)
    for column in table.columns:
        column.overflow = "fold"  # on a narrow screen nothing is cut
    for gauge in gauges:
        starts = gauge.result.starts
        for read in gauge.reads:
            at = () if read.event is None else (read.event.first, read.event.last)
            when = [date_text(starts[t]).removesuffix(":00:00") for t in at]
            above, below = ([when[0]], [f"to {when[1]}"]) if when else ([], [])
            own, other = ([_format(of[one.name], one.style) for one in known] for of in (read.observed, read.simulated))
            table.add_row(gauge.result.gauge_id, *above, "obs", *own)
            table.add_row("", *below, "sim", *other)
    errors = [_format(median_error(reads, one.name), "+.1f") for one in known]
    table.add_section()
    table.add_row("median", *("" for _ in about), "%", *errors)
    return table


def _in_units(units: str) -> str:
    return "" if units == "1" else f"[{units}]"


def shown(name: str, value: float) -> str:
    """A score in the form of its column, or a dash where there is none."""
    return _format(value, metric(name).style)


def _format(value: float, style: str) -> str:
    return "-" if np.isnan(value) else format(value, style)


def _table(headings: Sequence[str], title: str) -> Table:
    table = Table(*headings, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
