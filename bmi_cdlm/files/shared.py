"""What is read from files, once per process for as many instances as want it, for as long as one holds it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar, cast
from weakref import WeakValueDictionary

from bmi_cdlm.files.netcdf import one_at_a_time

Content = TypeVar("Content")


class Shared(Generic[Content]):
    """A content that several instances hold; none of them may change it."""

    def __init__(self, value: Content) -> None:
        self.value = value


_CONTENTS: WeakValueDictionary[Hashable, Shared] = WeakValueDictionary()


def version(path: Path) -> tuple[str, int, int]:
    """Return what identifies a file's content: its path, time of change and size; 0 where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path.resolve()), found.st_mtime_ns, found.st_size


@one_at_a_time
def share(key: Hashable, make: Callable[[], Content]) -> Shared[Content]:
    """Return what `make` makes, or what it made before for the same key if anybody still holds that."""
    found = _CONTENTS.get(key)
    if found is None:
        found = Shared(make())
        _CONTENTS[key] = found
    return cast(Shared[Content], found)
