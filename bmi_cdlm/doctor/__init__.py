"""`cdlm doctor`: everything that a run, a training or a preparation would need, checked at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from bmi_cdlm.doctor.findings import Case, Finding, attempt, day_text
from bmi_cdlm.doctor.machine import check_estimate, check_machine, check_packages
from bmi_cdlm.doctor.parameters import check_parameters
from bmi_cdlm.doctor.preparation import check_prepare
from bmi_cdlm.doctor.run import (
    check_forcing,
    check_initial_state,
    check_observations,
    check_outputs,
    check_routing,
    read_case_domain,
)
from bmi_cdlm.doctor.training import check_training
from bmi_cdlm.files.yaml_loader import load_yaml
from bmi_cdlm.names.errors import CdlmError, ConfigError
from bmi_cdlm.names.paths import expand
from bmi_cdlm.run.config import KEYWORDS, PATH_KEYS, Config, load_config

__all__ = ["Finding", "examine", "findings_table"]
STYLES = {"ok": "green", "note": "yellow", "fail": "bold red"}
INPUT_KEYS = [key for key in PATH_KEYS if key not in ("output", "restart")]


def examine(
    path: Path, parameters: Path | None = None, source: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Finding]:
    """Examine a configuration and all that it names; nothing is written.

    Parameters
    ----------
    path : Path
        Configuration of a run, with or without the blocks `training` and `prepare`.
    parameters : Path, optional
        Checkpoint or parameter file in place of the configured one.
    source : Path, optional
        Folder of the inputs of `prepare`; that of the configuration unless given.
    say : callable
        Told what is examined.

    Returns
    -------
    list of Finding
        Every problem found, not only the first; any of level `fail` would stop a run, training or preparation.
    """
    try:
        config = load_config(path, {} if parameters is None else {"parameters": parameters})
    except CdlmError as error:
        return [Finding("fail", "configuration", str(error)), *_check_named_files(path)]
    findings = [Finding("ok", "configuration", _describe(config))]
    case = Case(path, config, None)
    domain, found = read_case_domain(case)
    case = case._replace(domain=domain)
    findings += found
    for subject, check in (
        ("forcing", check_forcing), ("parameters", check_parameters), ("routing", check_routing),
        ("initial state", check_initial_state),
        ("observations", check_observations), ("output", check_outputs), ("training", check_training),
    ):
        say(subject)
        findings += attempt(subject, check, case)
    say("inputs of prepare")
    findings += attempt("prepare", lambda c: check_prepare(c, source), case)
    findings += attempt("machine", check_machine, case)
    findings += attempt("packages", check_packages, case)
    runs = not any(f.level == "fail" and f.subject not in ("training", "prepare") for f in findings)
    if runs:
        say("memory and time")
        findings += attempt("estimate", check_estimate, case)
    else:
        findings.append(Finding("note", "estimate", "memory and time are told once what is asked for above is there"))
    return _to_be_made(findings, path)


def _to_be_made(findings: list[Finding], path: Path) -> list[Finding]:
    """Files that a preparation makes, whose inputs fit, are no problem before it: they are noted."""
    if any(f.level == "fail" and f.subject == "prepare" for f in findings):
        return findings
    last = f"`cdlm prepare {path}` makes it."
    return [f._replace(level="note") if f.level == "fail" and f.text.endswith(last) else f for f in findings]


def findings_table(findings: list[Finding], title: str) -> Table:
    """The findings as a table for the screen, problems marked."""
    table = Table(title=title, show_lines=False)
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    for finding in findings:
        table.add_row(f"[{STYLES[finding.level]}]{finding.level}[/]", finding.subject, finding.text.replace("[", "\\["))
    return table


def _describe(config: Config) -> str:
    snow = "no snow" if config.snow == "none" else config.snow
    return (
        f"{day_text(config.start)} to {day_text(config.end)}, {config.n_steps} steps of {config.time_step} s, routed "
        f"in {config.routing_step} s, {snow}"
    )


def _check_named_files(path: Path) -> list[Finding]:
    """Inputs that a configuration names which cannot be read as a whole: are they there at least."""
    try:
        content = load_yaml(path, ConfigError)
    except ConfigError:
        return []
    if not isinstance(content, dict):
        return []
    named = {key: content[key] for key in INPUT_KEYS if isinstance(content.get(key), str)}
    try:
        files = {
            key: path.parent / expand(text, ConfigError) for key, text in named.items() if text not in KEYWORDS
        }
    except ConfigError:
        return []  # the configuration itself was refused for it
    return [
        Finding("fail", key, f"{file}: there is no such file. Check the path, or make the file first.")
        for key, file in files.items() if not file.is_file()
    ]
