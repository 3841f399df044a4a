"""Damaged HDF5 files on which the library never returns or crashes: another process tries a file first.

It opens the file within a limit on its processor time, so that a slow disk is no hang. A process of one thread forks,
which takes a thousandth of a second. Among threads a fork is not safe (gRPC's crash it): there a helper is started,
once, which opens one file after the other. A file is tried once, until it changes; where neither can be had, it is
not tried. Classic files are not HDF5 and need none of this.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import netCDF4

from bmi_cdlm.names.errors import CdlmError

SECONDS, LONGEST = 1, 10
"""Of processor time for a small file and for any: opening one takes some thousandths, with 10,000 variables a third."""
LARGE = 2**27
"""Bytes for which there is another second."""
MOST_KEPT = 10_000
CLASSIC = b"CDF"
HELPER = """
import os, resource, sys
import netCDF4
hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for line in sys.stdin:
    seconds, _, path = line.rstrip("\\n").partition(" ")
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + int(seconds), hard))
    try:
        netCDF4.Dataset(bytes.fromhex(path).decode("utf-8", "surrogateescape")).close()
    except Exception:
        pass  # it opens or says why it does not: a crash or a hang is what is looked for here
    print("done", flush=True)
"""
_TRIED: set[tuple[str, int, int]] = set()
_helper: subprocess.Popen[str] | None = None


def try_open(path: Path, error: type[CdlmError]) -> None:
    """Raise `error` for a file on which the library hangs or crashes; other faults are for the caller to find."""
    tried = _version(path)
    if tried in _TRIED or not hasattr(os, "fork") or _is_classic(path):
        return
    seconds = min(SECONDS + tried[2] // LARGE, LONGEST)
    ended = _in_child(path, seconds) if _is_alone() else _in_helper(path, seconds)
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


def _is_classic(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(len(CLASSIC)) == CLASSIC
    return False


def _is_alone() -> bool:
    """Whether this process has one thread, of whatever language."""
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    except OSError:
        return threading.active_count() == 1 and sys.platform != "darwin"


def _in_child(path: Path, seconds: int) -> int:
    """Open the file in a fork; its exit code, negative for a signal, 0 where there is none."""
    try:
        child = os.fork()
    except OSError:
        return 0
    if child == 0:
        try:
            _open_and_leave(path, seconds)
        finally:
            os._exit(1)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except ChildProcessError:  # the host reaps its children itself
        return 0


def _open_and_leave(path: Path, seconds: int) -> None:
    import resource

    for number in (signal.SIGXCPU, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    netCDF4.Dataset(path)
    os._exit(0)


def _in_helper(path: Path, seconds: int) -> int:
    """Open the file in the helper; the signal that ended it, negative, or 0."""
    global _helper
    if _helper is None or _helper.poll() is not None:
        _helper = _start_helper()
    helper = _helper
    if helper is None or helper.stdin is None or helper.stdout is None:
        return 0
    with contextlib.suppress(OSError, ValueError):
        helper.stdin.write(f"{seconds} {os.fsencode(path.resolve()).hex()}\n")
        helper.stdin.flush()
        if helper.stdout.readline():
            return 0
    _helper = None
    _closed(helper)
    return min(helper.wait(), 0)


def _closed(helper: subprocess.Popen[str]) -> None:
    for pipe in (helper.stdin, helper.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _start_helper() -> subprocess.Popen[str] | None:
    """A fresh interpreter, where this one is no program that embeds Python."""
    if not sys.executable or "python" not in Path(sys.executable).name.lower():
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-c", HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )
    except OSError:
        return None


def _end_helper() -> None:
    if _helper is not None:
        _closed(_helper)
        _helper.kill()
        _helper.wait()


def _forget_helper() -> None:
    """In a fork: the helper belongs to the parent."""
    global _helper
    _helper = None


atexit.register(_end_helper)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helper)
