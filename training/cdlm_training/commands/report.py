"""`cdlm-train report` and `cdlm-train compare`: pages of experiments that were done."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from bmi_cdlm.commands.common import CleanErrors, console


@click.command("report", cls=CleanErrors)
@click.argument("folder", type=click.Path(path_type=Path))
def report_command(folder: Path) -> None:
    """Write `report.html` of the experiment in FOLDER anew: scores, maps, hydrographs, trainings, in one page."""
    from cdlm_training.experiment.report import write_report

    console.print(f"wrote {write_report(folder)}")


@click.command("compare", cls=CleanErrors)
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--model", help="Model of A, as its tables name it.  [default: first ensemble, else first variant]")
@click.option("--other", help="Model of B.  [default: likewise]")
@click.option("--to", "path", type=click.Path(path_type=Path), help="Page to write.  [default: A/compare_B.html]")
def compare_command(first: Path, second: Path, model: str | None, other: str | None, path: Path | None) -> None:
    """Compare the experiments in folders A and B at the gauges that both have, and write a page.

    B may be A, with two of its models.
    """
    from cdlm_training.experiment.compare import HEADINGS, compare_experiments, write_comparison
    from cdlm_training.experiment.record import Record

    records = Record(first), Record(second)
    compared = compare_experiments(*records, (model, other))
    console.print(f"A is {compared.names[0]}, B is {compared.names[1]}")
    for note in compared.notes:
        console.print(f"note: {note}")
    for part in compared.parts:
        lines = Table(*HEADINGS, title=part.title)
        for row in part.rows():
            lines.add_row(*row)
        console.print(lines)
    path = path or first / f"compare_{second.resolve().name}.html"
    write_comparison(path, records[0], compared)
    console.print(f"wrote {path}")
