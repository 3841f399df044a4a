"""What a run was made of, in short: written beside its results, compared before another run goes on with them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bmi_cdlm.names.errors import CdlmError

FINGERPRINTS = "fingerprints"
"""Attribute of restart and output files that holds them: texts by name, as JSON."""
LONGEST = 80
REMEDY = "Restore what was changed, or run from the start, without --resume."


def content_digest(path: Path) -> str:
    """The sha256 of a file, or of a folder's files with their names."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for one in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{one.relative_to(path)}\0{content_digest(one)}\n".encode())
    return digest.hexdigest()


def check_fingerprints(found: str | None, own: str, where: str, error: type[CdlmError]) -> None:
    """Refuse what another run wrote.

    Raises
    ------
    error
        Naming everything that is another than it was.
    """
    if found == own:
        return
    try:
        old = json.loads(found or "null")
    except ValueError:
        old = None
    if not isinstance(old, dict):
        raise error(
            f"{where}: does not say which run wrote it, expected that of this configuration. Run from the start, "
            "without --resume; a restart file may be named as initial_state."
        )
    new = json.loads(own)
    changes = [
        f"{name} was {_shown(old.get(name))}, is {_shown(new.get(name))}"
        for name in (*new, *(n for n in old if n not in new)) if old.get(name) != new.get(name)
    ]
    raise error(f"{where}: belongs to another run: {'; '.join(changes)}. {REMEDY}")


def _shown(text: object) -> str:
    shown = "not there" if text is None else str(text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
