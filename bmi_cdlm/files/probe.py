"""Damaged HDF5 files on which the library never returns or crashes: a child of this process tries a file first.

The child opens the file and is gone. It has a limit on its processor time, so that a slow disk is no hang. A file is
tried once, until it changes; where there is no fork, it is not tried.
"""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path

import netCDF4

from bmi_cdlm.names.errors import CdlmError

SECONDS, LONGEST = 1, 10
"""Of processor time for a small file and for any: opening one takes some thousandths, with 10,000 variables a third."""
LARGE = 2**27
"""Bytes for which there is another second."""
_TRIED: set[tuple[str, int, int]] = set()
MOST_KEPT = 10_000


def try_open(path: Path, error: type[CdlmError]) -> None:
    """Raise `error` for a file on which the library hangs or crashes; other faults are for the caller to find."""
    tried = _version(path)
    if tried in _TRIED or not hasattr(os, "fork"):
        return
    ended = _in_child(path)
    if ended < 0:
        what = "does not come to an end with" if -ended in (signal.SIGXCPU, signal.SIGKILL) else "crashes on"
        raise error(
            f"{path}: cannot be read as NetCDF: the library {what} it ({signal.Signals(-ended).name}). The file is "
            "damaged: make or copy it again."
        )
    if len(_TRIED) > MOST_KEPT:
        _TRIED.clear()
    _TRIED.add(tried)


def _version(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path.resolve()), found.st_mtime_ns, found.st_size


def _in_child(path: Path) -> int:
    """Open the file in a child; its exit code, negative for a signal, 0 where no child can be made."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forks among threads: the child touches the library and nothing else
            child = os.fork()
    except OSError:
        return 0
    if child == 0:
        try:
            _open_and_leave(path)
        finally:
            os._exit(1)
    while True:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except InterruptedError:
            continue
        except ChildProcessError:  # the host reaps its children itself
            return 0


def _open_and_leave(path: Path) -> None:
    import resource

    for number in (signal.SIGXCPU, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE):
        signal.signal(number, signal.SIG_DFL)
    seconds = min(SECONDS + path.stat().st_size // LARGE, LONGEST)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    netCDF4.Dataset(path)
    os._exit(0)
