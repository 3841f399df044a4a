"""Paths as people write them: `~` is the home folder, `$NAME` an environment variable."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bmi_cdlm.names.errors import CdlmError

LEFT = re.compile(r"\$(?:\w+|\{[^}]*\})")


def expand(text: str, error: type[CdlmError]) -> Path:
    """Return the path that a text means.

    Raises
    ------
    error
        An environment variable that is not set, or a home folder of nobody.
    """
    path = os.path.expandvars(text)
    unset = LEFT.search(path)
    if unset:
        raise error(f"{text}: the environment variable {unset[0]} is not set. Set it, or write the folder itself.")
    try:
        return Path(path).expanduser()
    except RuntimeError as cause:
        raise error(f"{text}: there is no home folder for {Path(path).parts[0]}. Write the folder itself.") from cause
