"""Paths as people write them: `~` is the home folder, `$NAME` an environment variable."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
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


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are one file, however they are written: `../`, links, capitals where these do not count."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    with contextlib.suppress(OSError, ValueError):  # one of them is not there
        return os.path.samefile(one, other)  # noqa: PTH121
    return False


def taken_by(path: Path, files: Mapping[str, Path]) -> str | None:
    """The key whose file a path is, however it is written; None where it is nobody's."""
    return next((key for key, other in files.items() if same_file(path, other)), None)
