"""`cdlm doctor`: check what a run, a training or a preparation needs."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, screen
from bmi_cdlm.commands.progress import Phases
from bmi_cdlm.doctor import examine, findings_table


@click.command(cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file to use.")
@click.option("--source", type=click.Path(path_type=Path), help="Folder of the inputs of `prepare`.")
@click.option("--quiet", is_flag=True, help="Say nothing of how far it is.")
def doctor(config: Path, parameters: Path | None, source: Path | None, quiet: bool) -> None:
    """Check all that a run, a training or a preparation of CONFIG needs, and say what to do."""
    with Phases("doctor", quiet=quiet) as phases:
        findings = examine(config, parameters, source, phases.say)
    screen.print(findings_table(findings, f"{config}"))
    problems = sum(finding.level == "fail" for finding in findings)
    if problems:
        raise click.ClickException(f"{problems} problems: see above.")
