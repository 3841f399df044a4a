"""`cdlm view`: a run as one page that needs no server and no network."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.pictures.view import MOST_VALUES, view
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.values import parse_date


@click.command("view", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "path", type=click.Path(path_type=Path), required=True, help="Page to write (.html).")
@click.option("--from", "first", metavar="TIME", help="Begin of what is shown.  [default: that of the run]")
@click.option("--until", "last", metavar="TIME", help="Its end, exclusive.  [default: that of the run]")
@click.option("--most", type=click.IntRange(1), default=MOST_VALUES, show_default=True,
              help="Values of discharge at reaches that go into the page; the largest reaches have them.")
def view_command(config: Path, path: Path, first: str | None, last: str | None, most: int) -> None:
    """Make one page of the run of CONFIG: its map, a slider over time, layers, and hydrographs by a click."""
    settings = load_config(config)
    try:
        period = [None if text is None else parse_date(text, settings.calendar) for text in (first, last)]
    except ValueError as cause:
        raise ConfigError(f"cdlm view: {cause}.") from cause
    found = view(settings, path, config.stem, period[0], period[1], most)
    for note in found.notes:
        console.print(f"- {note}")
    console.print(f"wrote {path}, {found.size / 1e6:.1f} MB")
