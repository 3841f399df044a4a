"""`cdlm evaluate`: scores, floods, signatures, and whether the water adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
import numpy as np
from rich.table import Table

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.commands.progress import Watch
from bmi_cdlm.evaluate.as_json import scores_as_json
from bmi_cdlm.evaluate.balance import CLOSED, balance
from bmi_cdlm.evaluate.evaluation import GaugeResult, Wanted, draw, evaluate
from bmi_cdlm.evaluate.events import (
    QUANTILE,
    GaugeReads,
    draw_events,
    evaluate_events,
    evaluate_signatures,
    write_reads,
)
from bmi_cdlm.evaluate.summary import compare, make_groups, read_regions, summarise, write_scores
from bmi_cdlm.evaluate.summary import running as running_medians
from bmi_cdlm.evaluate.tables import (
    ALONG_AREA,
    COMPARED,
    OF_ENSEMBLES,
    PER_GROUP,
    difference_table,
    running_table,
    score_table,
    signature_table,
    summary_table,
)
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, LedgerError
from bmi_cdlm.names.paths import same_file
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.values import parse_date


@click.command("evaluate", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--from", "first", metavar="DATE", help="Begin of the period that is scored.  [default: of the output]")
@click.option("--to", "last", metavar="DATE", help="Its end, exclusive.")
@click.option("--by", type=click.Choice(["step", "day", "month"]), default="step", show_default=True,
              help="Score the output's steps, or means of days or months that have 90 % of them.")
@click.option("--regions", type=click.Path(path_type=Path), help="CSV with the columns gauge and region.")
@click.option("--against", type=click.Path(path_type=Path),
              help="Discharge of another model (NetCDF, as observations), or runoff on a grid, which is averaged over "
              "basins: on the same steps, with the difference.")
@click.option("--running", is_flag=True, help="Running medians and quartiles along the area of the gauges too.")
@click.option("--table", type=click.Path(path_type=Path), help="CSV to write, every score of every gauge.")
@click.option("--plots/--no-plots", default=True, help="Draw a hydrograph per gauge (needs matplotlib).")
@click.option("--events", "floods", is_flag=True, help="Find floods and tell their signatures instead of scores.")
@click.option("--flood-quantile", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help=f"With --events: a peak not below this quantile of observed flow is a flood.  [default: {QUANTILE}]")
@click.option("--signatures", "whole", is_flag=True, help="Tell signatures of the whole period instead of scores.")
@click.option("--balance", "adds_up", is_flag=True, help="Run CONFIG and add up its water instead; needs no records.")
@click.option("--json", "as_json", is_flag=True, help="Write the scores as JSON to the screen, and nothing else.")
@click.option("--quiet", is_flag=True, help="Say nothing of how far it is.")
def evaluate_command(
    config: Path, first: str | None, last: str | None, by: Literal["step", "day", "month"], regions: Path | None,
    against: Path | None, running: bool, table: Path | None, plots: bool, floods: bool, flood_quantile: float | None,
    whole: bool, adds_up: bool, as_json: bool, quiet: bool,
) -> None:
    """Score the output of CONFIG against observed discharge and draw hydrographs."""
    if floods + whole + adds_up > 1:
        raise click.UsageError("--events, --signatures and --balance go one at a time.")
    if (floods or whole) and (by != "step" or against is not None or regions is not None or running):
        raise click.UsageError("--events and --signatures go without --by, --against, --regions and --running.")
    if flood_quantile is not None and not floods:
        raise click.UsageError("--flood-quantile goes with --events.")
    if as_json and (floods or whole or adds_up or running):
        raise click.UsageError(
            "--json goes without --events, --signatures, --balance and --running; --table writes floods."
        )
    settings = load_config(config)
    if table is not None:
        settings.check_target(table, "--table")
        for named, path in (("--regions", regions), ("--against", against)):
            if path is not None and same_file(table, path):
                raise ConfigError(f"--table: {table} is the file of {named}, expected a path of its own.")
    if adds_up:
        _print_balance(settings, config.stem, quiet=quiet)
        return
    try:
        period = [None if text is None else parse_date(text, settings.calendar) for text in (first, last)]
    except ValueError as cause:
        raise ConfigError(f"cdlm evaluate: {cause}.") from cause
    results = evaluate(settings, Wanted(period[0], period[1], by, against))
    told = f"{first or date_text(results[0].starts[0])} to {last or date_text(settings.end)}"
    if floods or whole:
        quantile = QUANTILE if flood_quantile is None else flood_quantile
        found = evaluate_events(settings, results, quantile) if floods else evaluate_signatures(settings, results)
        _print_signatures(settings, found, table, f"{config.stem}, {told}", floods=floods, plots=plots)
        return
    areas = {result.gauge_id: result.area for result in results}
    groups = make_groups(areas, None if regions is None else read_regions(regions, list(areas)))
    if as_json:
        click.echo(scores_as_json(results, groups))
    else:
        _print_scores(results, groups, f"{config.stem}, {told}")
        if running:
            _print_running(results, f"{config.stem}, {told}")
    wrote = [] if table is None else [table]
    if table is not None:
        write_scores(table, {r.gauge_id: r.scores for r in results}, {"area_km2": lambda g: f"{areas[g]:g}"})
    if plots and not as_json:
        with Watch("pictures", len(results), "gauges", quiet=quiet) as watch:
            wrote += draw(settings, results, watch.advance)
    for path in wrote if not as_json else ():
        console.print(f"wrote {path}")


def _print_signatures(
    config: Config, found: list[GaugeReads], table: Path | None, title: str, *, floods: bool, plots: bool
) -> None:
    """Signatures per gauge or flood; what was left out; the files that are wanted."""
    if any(gauge.reads for gauge in found):
        console.print(signature_table(found, title))
    else:
        console.print(f"{title}: there are no floods")
    for note in (note for gauge in found for note in gauge.notes):
        console.print(note)
    if table is not None:
        write_reads(table, found, floods=floods)
        console.print(f"wrote {table}")
    for path in draw_events(config, found) if floods and plots else ():
        console.print(f"wrote {path}")


def _print_running(results: list[GaugeResult], title: str) -> None:
    """Medians and quartiles of scores along the area of the gauges."""
    along = np.array([result.area for result in results])
    rows = {n: running_medians(along, np.array([r.scores[n] for r in results])) for n in ALONG_AREA}
    console.print(running_table(rows, f"{title}, along the area of the gauges"))


def _print_scores(results: list[GaugeResult], groups: dict[str, list[str]], title: str) -> None:
    """Scores per gauge, over groups of gauges, and beside another model."""
    console.print(score_table(results, title))
    own = {result.gauge_id: result.scores for result in results}
    if len(results) > 1:
        rows = summarise(own, (*PER_GROUP, *OF_ENSEMBLES), groups)
        console.print(summary_table(rows, f"{title}, medians over gauges"))
    others = {result.gauge_id: result.against[1] for result in results if result.against is not None}
    if others:
        console.print(score_table([r._replace(scores=others[r.gauge_id]) for r in results], "the other model"))
        console.print(difference_table(compare(own, others, COMPARED, list(own)), "this run less the other model"))


def _print_balance(settings: Config, title: str, *, quiet: bool) -> None:
    """Run, and tell whether the water adds up."""
    with Watch(title, settings.n_steps, "steps", quiet=quiet) as watch:
        rows = balance(settings, watch.advance)
    table = Table("balance of", "water [m3]", "missing in a step", "where", "missing in all", title=title)
    for row in rows:
        table.add_row(row.what, f"{row.water:.4g}", f"{row.per_step:.1e}", row.where, f"{row.whole:.1e}")
    console.print(table)
    open_ones = [row for row in rows if not row.closed]
    if open_ones:
        row = open_ones[0]
        raise LedgerError(
            f"balance of {row.what}: {row.per_step:.3g} of the water is missing in a step ({row.where}), "
            f"{row.whole:.3g} in all; expected at most {CLOSED:g}. Please report it, with the configuration."
        )
    console.print(f"closed: nothing is missing beyond {CLOSED:g} of the water that was there or went through")
