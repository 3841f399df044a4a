"""`cdlm signatures`: map signatures of flow from gauges to every cell."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.maps.config import load_signatures
from bmi_cdlm.maps.files import lay_into_domain
from bmi_cdlm.maps.run import make_maps


@click.command("signatures", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to-domain", is_flag=True, help="Lay the maps into the domain file too, as attributes of its cells.")
@click.option("--quiet", is_flag=True, help="Say nothing of what is being done.")
def signatures(config: Path, to_domain: bool, quiet: bool) -> None:
    """Learn mean runoff and baseflow index from the gauges of CONFIG, and map them to all cells.

    What was learned before is not learned again. Needs the extra `prepare`.
    """
    made = make_maps(config, (lambda text: None) if quiet else console.print)
    console.print(made.report)
    for what, path in made.files.items():
        console.print(f"wrote {path} ({what})")
    if to_domain:
        run = load_signatures(config).run
        names = lay_into_domain(made.files["maps"], run.domain, read_domain(run.domain))
        console.print(f"wrote {run.domain}: {', '.join(names)}")
