"""The one way in which files are written: beside their place, to disk, then moved onto it.

What a reader finds under a name is whole, also after a kill or a power loss: file and folder are synced before and
after the move. The mode is what the umask leaves. No link is followed: temporary names cannot be foreseen and are
made anew. They hold the machine and the process, so that the next writer of the same name removes what dead ones left.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bmi_cdlm.names.errors import CdlmError, OutputError

SUFFIX = ".tmp"
FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
LONGEST_NAME, LONGEST_PATH = 255, 4095
"""What the system takes [bytes]."""
SHOWN_OF_NAME = 40
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What the system says of a full disk, a file that may not be as large, a quota."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; synced and moved onto it at the end, deleted if the block fails."""
    check_writable(path)
    temporary = temporary_name(path)
    os.close(os.open(temporary, FLAGS, 0o666))
    try:
        yield temporary
        move(temporary, path)
    except OSError as cause:
        if cause.filename is None and cause.errno in FULL:  # a write knows no name of what it wrote to
            cause.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Put a complete file in its place, so that it is there whole after a power loss too."""
    sync(source)
    source.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Bring a file or folder to disk, where the system can; a folder may be a link to one, as people have them."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY | (0 if is_folder else getattr(os, "O_NOFOLLOW", 0)))
    try:
        os.fsync(handle)
    except OSError as cause:  # some file systems cannot sync a folder; a full disk is another matter
        if not is_folder:
            raise cause
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring a folder and all in it to disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def temporary_name(path: Path, suffix: str = SUFFIX) -> Path:
    """A name beside `path` that nobody can foresee and that says who made it; left-overs for `path` are removed."""
    _remove_left_overs(path)
    return _own_name(path, suffix)


def _own_name(path: Path, suffix: str) -> Path:
    return path.with_name(f"{_stem(path)}{_whoami()}.{secrets.token_hex(8)}{suffix}")


def check_path(path: Path, error: type[CdlmError]) -> None:
    """Refuse a path that the system cannot take, in words instead of its own error."""
    text = os.fspath(path)
    if not path.name:
        raise error(f"{text}: is a folder, expected the path of a file. Choose another path.")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError as cause:
        raise error(f"{text[:100]!r}: holds letters that no path can. Expected text; write it anew.") from cause
    if b"\0" in encoded:
        raise error(f"{text[:100]!r}: holds a zero byte, which no path can. Write it anew.")
    longest = max((len(part) for part in encoded.split(b"/")), default=0)
    if longest > LONGEST_NAME or len(encoded) > LONGEST_PATH:
        raise error(
            f"{text[:100]}...: has {len(encoded)} bytes, its longest name {longest}; expected at most {LONGEST_PATH} "
            f"and {LONGEST_NAME}, which is what the system takes. Use a shorter path."
        )


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be created at `path`; makes the parent folder."""
    check_path(path, OutputError)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = _own_name(path, SUFFIX)  # which the next writer removes, if this process is killed here
        os.close(os.open(probe, FLAGS, 0o600))
        probe.unlink()
    except (OSError, RecursionError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise OutputError(
            f"{path}: cannot be written ({reason}). Choose another output path or free the folder."
        ) from cause
    if path.is_dir() and path.suffix != ".zarr":
        raise OutputError(f"{path}: is a folder, expected the path of a file. Choose another output path.")


def _stem(path: Path) -> str:
    """How temporary names for `path` begin: its own name, cut where it is long."""
    name = path.name
    if len(os.fsencode(name)) <= SHOWN_OF_NAME:
        return f".{name}."
    return f".{name[:10]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}."


@cache
def _machine() -> str:
    return hashlib.sha256(os.uname().nodename.encode() if hasattr(os, "uname") else b"").hexdigest()[:8]


def _whoami() -> str:
    pid = os.getpid()
    return f"{_machine()}-{pid}-{_begun(pid)}"


def _begun(pid: int) -> str:
    """When a process began, in the system's own count; `0` where that is not known."""
    if not sys.platform.startswith("linux"):
        return "0"
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return "gone"


def _is_dead(owner: str) -> bool:
    """Whether the process that made a temporary name is gone; of other machines nothing is known."""
    machine, _, rest = owner.partition("-")
    pid, _, begun = rest.partition("-")
    if machine != _machine() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return begun not in ("0", _begun(int(pid)))


def _remove_left_overs(path: Path) -> None:
    """Remove temporary files and folders that dead processes left for `path`."""
    stem = _stem(path)
    with contextlib.suppress(OSError):
        for found in os.scandir(path.parent):
            if not found.name.startswith(stem):
                continue
            owner, _, rest = found.name[len(stem) :].partition(".")
            if not rest or not _is_dead(owner):
                continue
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(found.stat(follow_symlinks=False).st_mode):
                    shutil.rmtree(found.path)
                else:
                    os.unlink(found.path)  # noqa: PTH108
