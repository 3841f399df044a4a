"""`cdlm doctor`: check what a run, a training or a preparation needs."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, screen
from bmi_cdlm.doctor import examine, findings_table


@click.command(cls=CleanErrors)
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
