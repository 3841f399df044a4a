"""What a check found, and how errors become findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.run.config import Config

Level = Literal["ok", "note", "fail"]


class Finding(NamedTuple):
    """One line of the doctor's screen: level, what it is about, what was found and what to do."""

    level: Level
    subject: str
    text: str


class Case(NamedTuple):
    """What is examined: the configuration's file and content, and its domain, None where it cannot be read."""

    path: Path
    config: Config
    domain: Domain | None


Check = Callable[[Case], Iterator[Finding]]


def attempt(subject: str, check: Check, case: Case) -> list[Finding]:
    """Run a check; an error of ours ends it and becomes a finding. Nothing is called ok beside a problem."""
    found: list[Finding] = []
    try:
        found.extend(check(case))
    except (CdlmError, OSError) as error:
        found.append(Finding("fail", subject, str(error)))
    failed = any(finding.level == "fail" for finding in found)
    return [finding for finding in found if not failed or finding.level != "ok"]


def size_text(n_bytes: float) -> str:
    """Bytes in the unit that suits them."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def day_text(time: object) -> str:
    """A time without its midnight."""
    return date_text(time).removesuffix("T00:00:00")


def listed(names: list[str], most: int = 4) -> str:
    """Names for a line: the first few, and how many more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
