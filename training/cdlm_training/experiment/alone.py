"""One experiment at a time in a folder: two would each train what the other has begun, and write over its tables.

Each of its trainings holds its own folder too: a process of one outlives an experiment that is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bmi_cdlm.names.errors import OutputError

NAME = ".experiment.lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder of an experiment, or of one of its trainings, for as long as the block runs.

    A process that dies lets go of it.

    Raises
    ------
    OutputError
        Another process holds it.
    """
    lock = FileLock(folder / NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as cause:
        raise OutputError(
            f"{folder}: another `cdlm-train experiment` is at work there, or a process of one that was killed. Wait "
            "for its end, or choose another experiment.output."
        ) from cause
    try:
        yield
    finally:
        lock.release()
