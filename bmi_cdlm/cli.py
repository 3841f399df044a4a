"""The command `cdlm`: prepare a domain, check it, run it, evaluate it."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bmi_cdlm.commands.signatures import signatures
from bmi_cdlm.doctor import examine, findings_table
from bmi_cdlm.domain.domain import read_domain
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
from bmi_cdlm.evaluate.plot_map import plot_map
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
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError, ConfigError, LedgerError, shown
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.plugin import render_plugin
from bmi_cdlm.prepare.dhbv import import_parameters, write_parameters
from bmi_cdlm.prepare.gauges.quality import report_table
from bmi_cdlm.prepare.nextgen import RUNOFF, Options, write_catchments
from bmi_cdlm.prepare.run import Prepared, find_config
from bmi_cdlm.prepare.run import prepare as make_files
from bmi_cdlm.prepare.subset import subset
from bmi_cdlm.processes.catalogue import FORMULAS
from bmi_cdlm.reference import describe_processes, render
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.distributed import Tls, run_distributed
from bmi_cdlm.run.ensemble import count_members, member_path, run_ensemble
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.run.values import parse_date, parse_duration
from bmi_cdlm.run.waves import wave_fit
from bmi_cdlm.version import __version__

MOST_SHOWN = 20
LONGEST_ARGUMENT = 4096
console = Console(markup=False, highlight=False, soft_wrap=True)
screen = Console(highlight=False)


class CleanErrors(click.Command):
    """A command that shows an error of ours as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except CdlmError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read along has gone: click ends in silence
                raise
            _let_go_of_stdout()
            where = shown(str(error.filename)) if error.filename else "the screen, or a file,"
            raise click.ClickException(
                f"{where}: cannot be used ({error.strerror or error}). Check the path, its rights and the space on the "
                "disk, also of the file that the output of this command goes to."
            ) from error
        except MemoryError as error:
            raise click.ClickException(
                f"memory is short ({error or 'for what was asked'}). Cut the domain, or use a larger machine: "
                "`cdlm doctor` estimates what a run takes."
            ) from error


def _let_go_of_stdout() -> None:
    """Forget what a full disk would not take, so that the end of the process does not stumble over it again."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class CleanGroup(CleanErrors, click.Group):
    """A group of such commands."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        """Run; a help text that a full disk does not take is an error too."""
        words = list(sys.argv[1:] if args is None else args)
        long = next((word for word in words if len(word) > LONGEST_ARGUMENT), None)
        if long is not None:
            click.echo(f"Error: {shown(long)}: is longer than {LONGEST_ARGUMENT} letters, as no argument is.", err=True)
            sys.exit(2)
        try:
            return super().main(words, *rest, **kwargs)
        except OSError as error:
            _let_go_of_stdout()
            click.echo(f"Error: the screen cannot be used ({error.strerror or error}).", err=True)
            sys.exit(1)


@click.group(cls=CleanGroup)
@click.version_option(__version__, prog_name="cdlm")
@click.option("--verbose", is_flag=True, help="Log what is filled, cached and reordered.")
def main(verbose: bool) -> None:
    """CDLM: a fast, exact, distributed hydrological model."""
    level = logging.INFO if verbose else logging.WARNING
    logging.raiseExceptions = False  # a full disk under the screen is no reason for a traceback
    logging.basicConfig(level=level, format="%(message)s", handlers=[RichHandler(console=console)])


@main.command()
@click.argument("config")
@click.option("--source", type=click.Path(path_type=Path), help="Folder of the inputs.  [default: that of CONFIG]")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to write to.  [default: as CONFIG says]")
@click.option("--map/--no-map", "draw_map", default=True, help="Draw a map of the domain (needs matplotlib).")
@click.option("--quiet", is_flag=True, help="Say nothing of what is being done.")
@click.option("--force", is_flag=True, help="Replace files of another domain too.")
def prepare(
    config: str, source: Path | None, folder: Path | None, draw_map: bool, quiet: bool, force: bool
) -> None:
    """Make domain, forcing and observations as the block `prepare` of CONFIG says.

    CONFIG is a file, or a word: `lez` stands for cfg/lez.yaml.
    """
    path = find_config(config)
    with console.status("reading", spinner="dots") if not quiet else nullcontext() as status:
        made = make_files(
            path, source, folder, lambda text: None if status is None else status.update(text), force=force
        )
    if made.report or made.dropped:
        screen.print(report_table(made.report, made.dropped))
    for note in made.notes:
        console.print(note)
    for file in made.files.values():
        console.print(f"wrote {file}")
    if draw_map and "domain" in made.files:
        _draw_map(made, path.stem)


def _draw_map(made: Prepared, title: str) -> None:
    picture = made.files["domain"].with_name("map.png")
    if importlib.util.find_spec("matplotlib") is None:
        console.print(f"{picture} is not drawn: matplotlib is not installed (extra `plot`)")
        return
    plot_map(picture, read_domain(made.files["domain"]), title)
    console.print(f"wrote {picture}")


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file to use.")
@click.option("--resume", is_flag=True, help="Go on from the last restart file of a run that was killed.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on the workers of this dask scheduler, tcp://host:port.")
@click.option("--partitions", type=click.IntRange(1), help="With --scheduler: about how many pieces to make.")
@click.option("--tls-ca", type=click.Path(path_type=Path), help="With --scheduler tls://...: authority that all trust.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Own certificate (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Key of the own certificate (PEM).")
def run(
    config: Path, parameters: Path | None, resume: bool, quiet: bool, scheduler: str | None, partitions: int | None,
    tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:
    """Run the model as a CONFIG file says; output streams to its file."""
    if partitions is not None and scheduler is None:
        raise click.UsageError("--partitions goes with --scheduler: one process runs the domain as a whole.")
    tls = None if tls_ca is None or tls_cert is None or tls_key is None else Tls(tls_ca, tls_cert, tls_key)
    if tls is None and (tls_ca or tls_cert or tls_key):
        raise click.UsageError("--tls-ca, --tls-cert and --tls-key go together.")
    if tls is not None and (scheduler is None or not scheduler.startswith("tls://")):
        raise click.UsageError("--tls-ca, --tls-cert and --tls-key go with --scheduler tls://host:port.")
    if resume and scheduler is not None:
        raise click.UsageError("--resume goes without --scheduler, which keeps no restart files on the way.")
    settings = load_config(config, {} if parameters is None else {"parameters": parameters})
    model: Model | None
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, disable=quiet,
    ) as bar:
        n_members = count_members(settings) if scheduler is None else 1
        task = bar.add_task(config.stem, total=settings.n_steps * n_members)
        if n_members > 1:
            run_ensemble(settings, lambda steps: bar.update(task, advance=steps), resume=resume)
            model = None
        elif scheduler is not None:
            model = run_distributed(
                settings, scheduler, partitions, lambda steps: bar.update(task, advance=steps), tls
            )
        else:
            simulation = Simulation(settings, resume=resume)
            model = simulation.model
            bar.update(task, completed=simulation.n_done)
            simulation.run(lambda steps: bar.update(task, advance=steps))
            simulation.close()
    if model is not None:
        _print_run(settings, model)
    elif settings.output is not None:
        last = member_path(settings.output, n_members)
        console.print(f"wrote {settings.output}, the mean of {n_members} members, and each beside it, to {last.name}")


@main.command("evaluate")
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
def evaluate_command(
    config: Path, first: str | None, last: str | None, by: Literal["step", "day", "month"], regions: Path | None,
    against: Path | None, running: bool, table: Path | None, plots: bool, floods: bool, flood_quantile: float | None,
    whole: bool, adds_up: bool,
) -> None:
    """Score the output of CONFIG against observed discharge and draw hydrographs."""
    if floods + whole + adds_up > 1:
        raise click.UsageError("--events, --signatures and --balance go one at a time.")
    if (floods or whole) and (by != "step" or against is not None or regions is not None or running):
        raise click.UsageError("--events and --signatures go without --by, --against, --regions and --running.")
    if flood_quantile is not None and not floods:
        raise click.UsageError("--flood-quantile goes with --events.")
    settings = load_config(config)
    if adds_up:
        _print_balance(settings, config.stem)
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
    _print_scores(results, groups, f"{config.stem}, {told}")
    if running:
        along = np.array([areas[r.gauge_id] for r in results])
        rows = {n: running_medians(along, np.array([r.scores[n] for r in results])) for n in ALONG_AREA}
        console.print(running_table(rows, f"{config.stem}, {told}, along the area of the gauges"))
    if table is not None:
        write_scores(table, {r.gauge_id: r.scores for r in results}, {"area_km2": lambda g: f"{areas[g]:g}"})
        console.print(f"wrote {table}")
    if plots:
        for path in draw(settings, results):
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


@main.command("subset")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("target", metavar="GAUGE_OR_REACH")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--below", is_flag=True, help="The rest, whose inflow there is an input.")
def subset_command(config: Path, target: str, folder: Path, below: bool) -> None:
    """Cut what drains to a gauge or reach out of CONFIG, as a case of its own with the same discharge there."""
    for path in subset(config, target, folder, below=below):
        console.print(f"wrote {path}")


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file to use.")
@click.option("--source", type=click.Path(path_type=Path), help="Folder of the inputs of `prepare`.")
def doctor(config: Path, parameters: Path | None, source: Path | None) -> None:
    """Check all that a run, a training or a preparation of CONFIG needs, and say what to do."""
    findings = examine(config, parameters, source)
    screen.print(findings_table(findings, f"{config}"))
    problems = sum(finding.level == "fail" for finding in findings)
    if problems:
        raise click.ClickException(f"{problems} problems: see above.")


@main.command()
@click.option("--to", "path", type=click.Path(path_type=Path), help="File to write.  [default: the screen]")
@click.option("--pymt", "folder", type=click.Path(path_type=Path), help="Folder for the keys of pymt's `setup`.")
def reference(path: Path | None, folder: Path | None) -> None:
    """Show every configuration key, variable and parameter."""
    if folder is not None:
        for name, text in render_plugin().items():
            (folder / name).write_text(text, encoding="utf-8")
        return
    if path is None:
        console.print(render())
        return
    with replacing(path) as temporary:
        temporary.write_text(render(), encoding="utf-8")


@main.command()
@click.argument("name", required=False)
def processes(name: str | None) -> None:
    """List the processes that are installed; with a NAME, its parameters, inputs, stores, fluxes and source."""
    for line in describe_processes(name):
        console.print(line)


@main.command("import-dhbv")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--to", "path", type=click.Path(path_type=Path), required=True, help="Parameter file to write (.nc).")
@click.option("--normalised", is_flag=True, help="Values are from 0 to 1 between the bounds of dHBV.")
@click.option("--time", "when", type=click.Choice(["mean", "last"]), help="Which value of a series to take.")
def import_dhbv(config: Path, source: Path, path: Path, normalised: bool, when: Literal["mean", "last"] | None) -> None:
    """Make a parameter file for CONFIG of the HBV parameters of a dHBV run, and say what is other here.

    SOURCE is CSV (columns id, parFC, ..., and component) or NetCDF (variables parFC, ... on cells and components).
    """
    settings = load_config(config)
    found = import_parameters(settings, source, normalised=normalised, when=when)
    write_parameters(path, settings, found, source)
    for note in found.notes:
        console.print(f"- {note}")
    console.print(f"wrote {path}: {len(found.values)} parameters of {settings.runoff}")


main.add_command(signatures)


@main.group()
def nextgen() -> None:
    """Work with NextGen (ngen)."""


@nextgen.command("init", cls=CleanErrors)
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--start", required=True, help="Start of ngen's run (ISO date or time).")
@click.option("--end", required=True, help="End of ngen's run, exclusive (ISO date or time).")
@click.option("--time-step", type=click.Choice(["1 h", "1 d"]), default="1 h", show_default=True, help="Model step.")
@click.option("--snow", type=click.Choice(["none", "cemaneige", "cemaneige_hysteresis"]), default="none",
              show_default=True, help="Snow model; needs a column mean_annual_snowfall.")
@click.option("--pet", default=FORMULAS[0].name, show_default=True, help="Potential evapotranspiration: "
              f"{', '.join(one.name for one in FORMULAS)}, another formula (`cdlm processes`), or given.")
@click.option("--runoff", default=RUNOFF, show_default=True, help="Runoff process, such as hbv (`cdlm processes`).")
@click.option("--components", type=click.IntRange(1, 4096), default=1, show_default=True, help="Parameter sets of it.")
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file.")
@click.option("--member", type=click.IntRange(1), help="Member of a checkpoint that is an ensemble.")
@click.option("--restart", metavar="TIME", help="Time of the saved states that ngen gives back at its begin: "
              "configurations and realization start there.")
def nextgen_init(
    table: Path, folder: Path, start: str, end: str, time_step: str, snow: str, pet: str, parameters: Path | None,
    restart: str | None, runoff: str, components: int, member: int | None,
) -> None:
    """Make a domain and a configuration of every catchment in a TABLE, and a realization for ngen.

    TABLE is CSV, or a hydrofabric GeoPackage.

    Columns: id, area [km2], lat, lon; elevation [m], mean_annual_snowfall [mm yr-1]; any other is an attribute and is
    called `name [units]`, those of the reach `reach_name [units]`.
    """
    try:
        options = Options(
            parse_date(start), parse_date(end), parse_duration(time_step), snow, pet, parameters or "default",
            None if restart is None else parse_date(restart), runoff, components, member,
        )
    except ValueError as cause:
        raise ConfigError(f"cdlm nextgen init: {cause}.") from cause
    paths = write_catchments(table, folder, options)
    for path in paths:
        if path.suffix == ".yaml":
            load_config(path)
    console.print(f"wrote {(len(paths) - 1) // 2} catchments and {paths[-1]}")


def _print_balance(settings: Config, title: str) -> None:
    rows = balance(settings)
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


def _print_run(config: Config, model: Model) -> None:
    """Water balance, and what the routing step does to the flood wave at the gauges."""
    live = {name: float(model.live[name][0]) for name in ("water_in", "water_out", "water_exchanged", "water_stored")}
    console.print(
        f"water [m3]: in {live['water_in']:.6g}, out {live['water_out']:.6g}, exchanged {live['water_exchanged']:.6g}, "
        f"stored now {live['water_stored']:.6g}"
    )
    if model.chain.reach.travel_time is not None:  # of other processes it depends on the flow
        _print_travel_times(config, model)
    fit = wave_fit(model)
    if fit is not None:
        console.print(f"flood waves: {fit.told(config.routing_step)}")
    if config.output is not None:
        console.print(f"wrote {config.output}")


def _print_travel_times(config: Config, model: Model) -> None:
    """What the routing step does to the flood wave at the gauges."""
    gauges = model.domain.gauges
    mean, spread = model.travel_time_spread()
    for name, reach in islice(zip(gauges.id, gauges.reach, strict=True), MOST_SHOWN):
        console.print(
            f"routing to {name}: mean travel time {mean[reach] / 3600:.1f} h, spread of a pulse "
            f"{spread[reach] / 3600:.1f} h at a sub-step of {config.routing_step} s"
        )
    if len(gauges.id) > MOST_SHOWN:
        console.print(f"... and {len(gauges.id) - MOST_SHOWN} more gauges")


if __name__ == "__main__":
    sys.exit(main())
