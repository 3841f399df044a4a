"""Names of files made from ids, which may hold anything: safe on every file system, and different for different ids."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

LONGEST = 80
"""Letters of an id in a file's name; a name with folder, stem and suffix must stay below 255 bytes."""
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*(?<![. ])")
DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows keeps for itself, whatever follows the first dot."""


def file_names(ids: Iterable[str]) -> dict[str, str]:
    """Return a part of a file name for every id: itself where it is safe, else its safe letters and a hash of it.

    Ids that differ in capitals only are told apart too, for file systems that do not.
    """
    ids = list(dict.fromkeys(ids))
    count = Counter(one.lower() for one in ids)
    return {one: one if is_safe(one) and count[one.lower()] == 1 else _hashed(one) for one in ids}


def is_safe(name: str) -> bool:
    """Return whether a name can be that of a file on every system."""
    return len(name) <= LONGEST and bool(SAFE.fullmatch(name)) and not DEVICES.fullmatch(name)


def _hashed(one: str) -> str:
    letters = re.sub(r"[^A-Za-z0-9_-]+", "_", one)[: LONGEST - 20].strip("_-") or "id"
    return f"{letters}-{hashlib.sha256(one.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
