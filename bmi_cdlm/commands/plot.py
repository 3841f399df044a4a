"""`cdlm plot`: pictures of a run as files."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.pictures.plots import PICTURES, make_canvas, plot
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.values import parse_date


@click.command("plot", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("what", nargs=-1)
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to write to.  [default: of the output]")
@click.option("--format", "suffix", type=click.Choice(["png", "svg"]), default="png", show_default=True)
@click.option("--at", "when", help="Maps of this date or time.  [default: the mean; of stores, when most is there]")
@click.option("--gauge", "gauges", multiple=True, help="Only this gauge; may be given again.")
def plot_command(
    config: Path, what: tuple[str, ...], folder: Path | None, suffix: str, when: str | None, gauges: tuple[str, ...]
) -> None:
    """Draw pictures of the run of CONFIG; without WHAT, all that its output has something for.

    WHAT: hydrographs, duration (flow duration), discharge (the network by its discharge), parameters, scores (gauges on
    the map), ledger (water that it misses), snow, storage; or the name of one parameter or score.
    """
    settings = load_config(config)
    try:
        at = None if when is None else parse_date(when, settings.calendar)
    except ValueError as cause:
        raise ConfigError(f"--at: {cause}.") from cause
    paths, left_out = plot(make_canvas(settings, config, folder, f".{suffix}", at, gauges), what)
    for note in left_out:
        console.print(f"left out: {note}")
    for path in paths:
        console.print(f"wrote {path}")


plot_command.short_help = f"Draw pictures of a run: {', '.join(PICTURES)}."
