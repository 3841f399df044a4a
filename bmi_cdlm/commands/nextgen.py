"""`cdlm nextgen`: what NextGen needs of a table of catchments."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, CleanGroup, console
from bmi_cdlm.commands.progress import Phases
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.prepare.nextgen import RUNOFF, Options, write_catchments
from bmi_cdlm.processes.catalogue import FORMULAS, GIVEN
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.values import parse_date, parse_duration


@click.group(cls=CleanGroup)
def nextgen() -> None:
    """Work with NextGen (ngen)."""


@nextgen.command("init", cls=CleanErrors)
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--start", required=True, help="Start of ngen's run (ISO date or time).")
@click.option("--end", required=True, help="End of ngen's run, exclusive (ISO date or time).")
@click.option("--time-step", type=click.Choice(["1 h", "1 d"]), default="1 h", show_default=True, help="Model step.")
@click.option("--snow", default="none", show_default=True, help="Snow process, such as cemaneige (`cdlm processes`); "
              "CemaNeige needs a column mean_annual_snowfall.")
@click.option("--precipitation", default=GIVEN, show_default=True,
              help="Process that corrects precipitation, such as undercatch (`cdlm processes`).")
@click.option("--pet", default=FORMULAS[0].name, show_default=True, help="Potential evapotranspiration: "
              f"{', '.join(one.name for one in FORMULAS)}, another formula (`cdlm processes`), or given.")
@click.option("--runoff", default=RUNOFF, show_default=True, help="Runoff process, such as hbv (`cdlm processes`).")
@click.option("--components", type=click.IntRange(1, 4096), default=1, show_default=True, help="Parameter sets of it.")
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file.")
@click.option("--member", type=click.IntRange(1), help="Member of a checkpoint that is an ensemble.")
@click.option("--quiet", is_flag=True, help="Say nothing of how far it is.")
@click.option("--restart", metavar="TIME", help="Time of the saved states that ngen gives back at its begin: "
              "configurations and realization start there.")
def nextgen_init(
    table: Path, folder: Path, start: str, end: str, time_step: str, snow: str, pet: str, parameters: Path | None,
    restart: str | None, runoff: str, components: int, member: int | None, quiet: bool, precipitation: str,
) -> None:
    """Make a domain and a configuration of every catchment in a TABLE, and a realization for ngen.

    TABLE is CSV, or a hydrofabric GeoPackage.

    Columns: id, area [km2], lat, lon; elevation [m], mean_annual_snowfall [mm yr-1]; any other is an attribute and is
    called `name [units]`, those of the reach `reach_name [units]`.
    """
    try:
        options = Options(
            parse_date(start), parse_date(end), parse_duration(time_step), snow, pet, parameters or "default",
            None if restart is None else parse_date(restart), runoff, components, member, precipitation,
        )
    except ValueError as cause:
        raise ConfigError(f"cdlm nextgen init: {cause}.") from cause
    with Phases("nextgen", quiet=quiet) as phases:
        paths = write_catchments(table, folder, options, phases.say)
        for path in paths:
            if path.suffix == ".yaml":
                phases.say(f"check: {path.name}")
                load_config(path)
    console.print(f"wrote {(len(paths) - 1) // 2} catchments and {paths[-1]}")
