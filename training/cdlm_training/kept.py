"""Fits that are done, kept beside what they were made of, so that a kill costs no more than the one under way."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bmi_cdlm.names.writing import replacing

IDENTITY = "identity"


def keep(path: Path, identity: str, **arrays: Any) -> None:
    """Write arrays, beside their place and moved onto it; identity : whatever they depend on, as text."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{**arrays, IDENTITY: np.array(identity)})


def held(path: Path, is_same: Callable[[str], bool]) -> dict[str, np.ndarray] | None:
    """What was kept; None where there is nothing, something else, or a damaged file. is_same : asked of its text."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # of a damaged file np.load itself closes nothing
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return found if is_same(str(found.pop(IDENTITY, ""))) else None
