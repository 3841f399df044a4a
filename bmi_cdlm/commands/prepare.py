"""`cdlm prepare`: make domain, forcing and observations."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console, screen
from bmi_cdlm.commands.progress import Phases
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.plot_map import plot_map
from bmi_cdlm.names.errors import ConfigError, nearest
from bmi_cdlm.prepare.gauges.quality import report_table
from bmi_cdlm.prepare.run import Prepared
from bmi_cdlm.prepare.run import prepare as make_files


@click.command(cls=CleanErrors)
@click.argument("config")
@click.option("--source", type=click.Path(path_type=Path), help="Folder of the inputs.  [default: that of CONFIG]")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to write to.  [default: as CONFIG says]")
@click.option("--map/--no-map", "draw_map", default=True, help="Draw a map of the domain (needs matplotlib).")
@click.option("--quiet", is_flag=True, help="Say nothing of how far it is.")
@click.option("--force", is_flag=True, help="Replace files of another domain too.")
def prepare(
    config: str, source: Path | None, folder: Path | None, draw_map: bool, quiet: bool, force: bool
) -> None:
    """Make domain, forcing and observations as the block `prepare` of CONFIG says.

    CONFIG is a file, or a word: `lez` stands for cfg/lez.yaml.
    """
    path = find_config(config)
    with Phases(path.stem, quiet=quiet) as phases:
        made = make_files(path, source, folder, phases.say, force=force)
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


def find_config(case: str) -> Path:
    """Return the configuration that a word on the command line means: a file, or `NAME` for cfg/NAME.yaml.

    Raises
    ------
    ConfigError
        Neither is there.
    """
    path = Path(case)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    short = Path("cfg") / f"{case}.yaml"
    if short.is_file():
        return short
    known = sorted(p.stem for p in Path("cfg").glob("*.yaml"))
    raise ConfigError(
        f"prepare: there is neither a file '{case}' nor '{short}'.{nearest(case, known)} Expected a configuration; "
        "name its path, or call from the folder that holds cfg/."
    )
