"""The command `cdlm`: prepare a case, run it, evaluate it."""

from __future__ import annotations

import logging
import sys
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bmi_cdlm.config import load_config
from bmi_cdlm.errors import CdlmError
from bmi_cdlm.evaluation import GaugeResult, draw, evaluate
from bmi_cdlm.files import replacing
from bmi_cdlm.prepare.cases import CASES, prepare_case
from bmi_cdlm.reference import render
from bmi_cdlm.simulation import Simulation
from bmi_cdlm.version import __version__

SHOWN = (
    ("nse", "NSE", ".3f"), ("kge", "KGE", ".3f"), ("kge_r", "r", ".3f"), ("kge_alpha", "alpha", ".3f"),
    ("kge_beta", "beta", ".3f"), ("pbias", "PBIAS %", "+.1f"), ("n", "n", ".0f"),
)
MOST_SHOWN = 20
console = Console(markup=False, highlight=False, soft_wrap=True)


class CleanErrors(click.Command):
    """A command that shows an error of ours as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CdlmError as error:
            raise click.ClickException(str(error)) from error


class CleanGroup(CleanErrors, click.Group):
    """A group of such commands."""


@click.group(cls=CleanGroup)
@click.version_option(__version__, prog_name="cdlm")
@click.option("--verbose", is_flag=True, help="Log what is filled, cached and reordered.")
def main(verbose: bool) -> None:
    """CDLM: a fast, exact, distributed hydrological model."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", handlers=[RichHandler(console=console)])


@main.command()
@click.argument("case", type=click.Choice(sorted(CASES)))
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to write to.  [default: cfg/CASE]")
def prepare(case: str, folder: Path | None) -> None:
    """Make domain, forcing and observations of a CASE from the rasters of the package hydro-smash."""
    for path in prepare_case(case, folder or Path("cfg") / case).values():
        console.print(f"wrote {path}")


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file to use.")
@click.option("--resume", is_flag=True, help="Go on from the last restart file of a run that was killed.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def run(config: Path, parameters: Path | None, resume: bool, quiet: bool) -> None:
    """Run the model as a CONFIG file says; output streams to its file."""
    settings = load_config(config, {} if parameters is None else {"parameters": parameters})
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, disable=quiet,
    ) as bar:
        task = bar.add_task(config.stem, total=settings.n_steps)
        simulation = Simulation(settings, resume=resume)
        bar.update(task, completed=simulation.n_done)
        simulation.run(lambda steps: bar.update(task, advance=steps))
        simulation.close()
    _print_run(simulation)


@main.command("evaluate")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--plots/--no-plots", default=True, help="Draw a hydrograph per gauge (needs matplotlib).")
def evaluate_command(config: Path, plots: bool) -> None:
    """Score the output of CONFIG against observed discharge and draw hydrographs."""
    settings = load_config(config)
    results = evaluate(settings)
    console.print(score_table(results, f"{config.stem}, {results[0].starts[0]} to {settings.end}"))
    if plots:
        for path in draw(settings, results):
            console.print(f"wrote {path}")


@main.command()
@click.option("--to", "path", type=click.Path(path_type=Path), help="File to write.  [default: the screen]")
def reference(path: Path | None) -> None:
    """Show every configuration key, variable and parameter."""
    if path is None:
        console.print(render())
        return
    with replacing(path) as temporary:
        temporary.write_text(render(), encoding="utf-8")


def score_table(results: list[GaugeResult], title: str) -> Table:
    """Scores per gauge as a table."""
    table = Table("gauge", *(heading for _, heading, _ in SHOWN), title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        table.add_row(result.gauge_id, *(format(result.scores[key], style) for key, _, style in SHOWN))
    return table


def _print_run(simulation: Simulation) -> None:
    """Water balance, and what the routing step does to the flood wave at the gauges."""
    model, config = simulation.model, simulation.config
    live = {name: float(model.live[name][0]) for name in ("water_in", "water_out", "water_exchanged", "water_stored")}
    console.print(
        f"water [m3]: in {live['water_in']:.6g}, out {live['water_out']:.6g}, exchanged {live['water_exchanged']:.6g}, "
        f"stored now {live['water_stored']:.6g}"
    )
    mean, spread = model.travel_time_spread()
    gauges = model.domain.gauges
    for name, reach in islice(zip(gauges.id, gauges.reach, strict=True), MOST_SHOWN):
        console.print(
            f"routing to {name}: mean travel time {mean[reach] / 3600:.1f} h, spread of a pulse "
            f"{spread[reach] / 3600:.1f} h at a sub-step of {config.routing_step} s"
        )
    if len(gauges.id) > MOST_SHOWN:
        console.print(f"... and {len(gauges.id) - MOST_SHOWN} more gauges")
    if config.output is not None:
        console.print(f"wrote {config.output}")


if __name__ == "__main__":
    sys.exit(main())
