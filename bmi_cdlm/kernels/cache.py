"""A disk cache of compiled kernels that is safe when many processes start at once.

One file per key, and the key holds everything the machine code depends on: the code of the function and of all that
it comes to call, how it is compiled, numba, llvmlite and Python versions, precision and signature, and the processor.
So an edit of one process compiles again what it touches, and nothing else. numba's own cache keys on the file of the
outer function only, so that an edit of the physics may go unseen, and races between processes.

numba hands out compiled code as a pickle and in no other way. So a file is a container with a digest, which holds the
key too: one that is damaged or exchanged is compiled again, nothing of it is unpickled. A digest is no signature: that
nobody else put the file there is for the folder to say. It, all folders above it and the file belong to the user (or to
root) and nobody else can write them; where that is not so, a private folder takes its place.

One process compiles a kernel, the others wait for it, as long as it lives and no longer than PATIENCE.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import pickle
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from bmi_cdlm.kernels.graph import digest
from bmi_cdlm.names.container import seal, unseal
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.names.writing import replacing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = "bmi_cdlm kernel 1"
PATIENCE = 120.0
"""Seconds to wait for another process to compile a kernel; none takes so long."""
log = logging.getLogger(__name__)


@cache
def compiler_digest() -> str:
    """Hash of the versions of the compiler, and of the sources that say how it is used."""
    import llvmlite
    import numba
    import numpy
    from numba.core import config

    found = hashlib.sha256(FORMAT.encode())
    for source in (
        "launch.py", "linked.py", "quick.py", "graph.py", "marks.py", "bits.py", "fused.py", "lanes.py", "space.py",
        "streaming.py",
    ):
        found.update(Path(__file__).with_name(source).read_bytes() + b"\0")
    found.update(repr((
        numba.__version__, llvmlite.__version__, numpy.__version__, sys.version, platform.platform(),
        getattr(config, "OPT", None), getattr(config, "BOUNDSCHECK", None), getattr(config, "DEBUGINFO_DEFAULT", None),
    )).encode())
    return found.hexdigest()


def fields_of(signature: object) -> Iterator[tuple]:
    """Names and fields of the groups in a signature, whose text holds their types only."""
    for part in getattr(signature, "args", signature) if not isinstance(signature, str) else ():  # type: ignore[attr-defined]
        if hasattr(part, "instance_class"):
            yield part.instance_class.__module__, part.instance_class.__qualname__, part.fields
        if hasattr(part, "types"):
            yield from fields_of(part.types)


@cache
def cache_folder() -> Path | None:
    """The user's folder of compiled kernels, a private one where others could write that, or None: neither is there."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(home).expanduser().absolute() / "bmi_cdlm" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unsafe = _unsafe(folder)
    except (OSError, RuntimeError, ValueError) as cause:
        log.info("kernels are not cached: %s", cause)
        return None
    if unsafe is None:
        return folder
    private = _private_folder()
    log.warning(
        "kernels are cached in %s: %s belongs to, or can be written by, other users. Make it yours, mode 0700, or set "
        "XDG_CACHE_HOME.", private, unsafe,
    )
    return private


def _unsafe(folder: Path) -> Path | None:
    """The folder itself, or one above it, that somebody else could put files into; links are looked through."""
    if not hasattr(os, "getuid"):
        return None
    real = folder.resolve()
    for path in (real, *real.parents):
        found = path.stat()
        others_write = stat.S_IMODE(found.st_mode) & 0o022 and not (found.st_mode & stat.S_ISVTX and path != real)
        if others_write or found.st_uid not in ((os.getuid(),) if path == real else (os.getuid(), 0)):
            return path
    return None


def _private_folder() -> Path | None:
    """A folder of this user below that of temporary files, the same for all processes if nobody else has taken it."""
    try:
        folder = Path(tempfile.gettempdir()).resolve() / f"bmi_cdlm-kernels-{os.getuid()}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if stat.S_ISDIR(folder.lstat().st_mode) and _unsafe(folder) is None:
            return folder
        own = Path(tempfile.mkdtemp(prefix="bmi_cdlm-kernels-"))
    except OSError as cause:
        log.info("kernels are not cached: %s", cause)
        return None
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


class Lock:
    """Held by one process at a time, and by none that has died; `acquire` gives up after PATIENCE."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def acquire(self, done: Callable[[], bool]) -> None:
        """Wait until the lock is ours, or `done` says that what it is for is there, or for PATIENCE."""
        if fcntl is None:
            return
        latest = time.monotonic() + PATIENCE
        pause = 0.002
        try:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            while True:
                try:
                    fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: a fork would inherit it
                    return
                except (BlockingIOError, PermissionError):
                    if done() or time.monotonic() > latest:
                        break
                time.sleep(pause)
                pause = min(2 * pause, 0.05)
        except OSError as cause:  # a file system without locks: everybody compiles
            log.debug("%s: %s", self._path, cause)
        self._close()

    def release(self) -> None:
        """Let the next one in; a waiting one finds what was made, or makes it."""
        if self._handle is not None:
            self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class KernelCache:
    """What numba's dispatcher expects of a cache, for one plain function at one precision.

    link : called before the function is compiled
    """

    def __init__(self, function: Callable, dtype: str, link: Callable[[], None]) -> None:
        self._identity = (function.__name__, dtype, digest(function))
        self._link = link
        self._lock: Lock | None = None

    @property
    def cache_path(self) -> str:
        """The folder, as numba reports it."""
        return str(cache_folder())

    def _path(self, signature: object, codegen: object) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        key = repr((
            compiler_digest(), self._identity, str(signature), list(fields_of(signature)),
            codegen.magic_tuple(),  # type: ignore[attr-defined]
        ))
        return folder / f"{self._identity[0]}-{hashlib.sha256(key.encode()).hexdigest()}.kernel"

    def load_overload(self, signature: object, target_context: object) -> object:
        """Return the compiled function of that signature; None for whoever is to compile it, others wait for that."""
        self._release()
        found = self._found(signature, target_context)
        if found is None:
            self._link()
        return found

    def _found(self, signature: object, target_context: object) -> object:
        path = self._path(signature, target_context.codegen())  # type: ignore[attr-defined]
        if path is None:
            return None
        found = _load(path, target_context)
        if found is None:
            self._lock = Lock(path.with_suffix(".lock"))
            broken = _version(path)
            self._lock.acquire(lambda: _version(path) != broken)
            found = _load(path, target_context) if _version(path) != broken else None
        if found is not None:
            self._release()
        return found

    def holds(self, signature: object, target_context: object) -> bool:
        """Whether there is a file for that signature."""
        path = self._path(signature, target_context.codegen())  # type: ignore[attr-defined]
        return path is not None and path.exists()

    def save_overload(self, signature: object, result: object) -> None:
        """Keep a compiled function: written to a temporary name and moved."""
        path = self._path(signature, result.codegen)  # type: ignore[attr-defined]
        try:
            if path is not None:
                _save(path, result)
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def enable(self) -> None:
        """Part of numba's interface; always on."""

    def disable(self) -> None:
        """Part of numba's interface; always on."""

    def flush(self) -> None:
        """Part of numba's interface; keys never go stale."""


def _version(path: Path) -> tuple[int, int] | None:
    """What tells one file of a name from the next."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _load(path: Path, target_context: object) -> object:
    """The compiled function in a file; None where there is none, or none that is whole and of this key."""
    from numba.core.compiler import CompileResult
    from numba.core.runtime import rtsys

    try:
        if not path.exists():
            return None
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            raise CdlmError("it belongs to another user")
        payload = unseal(path.read_bytes(), FORMAT, path.name, CdlmError, "")
        key = path.name.encode() + b"\0"
        if payload[: len(key)] != key:
            raise CdlmError("it is that of another kernel")
        rtsys.initialize(target_context)  # the rest of what numba starts with is there for who compiles
        return CompileResult._rebuild(target_context, *pickle.loads(payload[len(key) :]))
    except Exception as cause:
        log.warning("compiled kernel %s cannot be used, compiling again: %s", path, cause)
        return None


def _save(path: Path, result: object) -> None:
    from numba.core.serialize import dumps

    try:
        content = dumps(result._reduce())  # type: ignore[attr-defined]
        with replacing(path) as temporary, temporary.open("r+b") as file:
            for piece in seal(FORMAT, [path.name.encode() + b"\0", content]):
                file.write(piece)
    except Exception as cause:
        log.warning("compiled kernel %s cannot be kept: %r", path, cause)
