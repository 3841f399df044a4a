"""A disk cache of compiled kernels that is safe when many processes start at once.

One file per key, and the key holds everything the machine code depends on: all kernel sources, numba, llvmlite
and Python versions, the function, its precision and signature, and the processor. numba's own cache keys on the
file of the outer function only, so that an edit of the physics may go unseen, and races between processes. Files
are pickles: the folder is the user's own, mode 0700, and set by nothing but the user's cache home.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import platform
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)


@cache
def source_digest() -> str:
    """Hash of all kernel sources and of the versions of the compiler."""
    import llvmlite
    import numba
    import numpy
    from numba.core import config

    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(p for room in ("kernels", "processes") for p in (package / room).rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    digest.update(repr((
        numba.__version__, llvmlite.__version__, numpy.__version__, sys.version, platform.platform(),
        getattr(config, "OPT", None), getattr(config, "BOUNDSCHECK", None), getattr(config, "DEBUGINFO_DEFAULT", None),
    )).encode())
    return digest.hexdigest()


@cache
def cache_folder() -> Path | None:
    """The user's folder of compiled kernels, or None where there is none that is safe to use."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(home).expanduser() / "bmi_cdlm" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError) as cause:
        log.info("kernels are not cached: %s", cause)
        return None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022):
        log.warning("kernels are not cached: %s belongs to, or can be written by, other users", folder)
        return None
    return folder


class KernelCache:
    """What numba's dispatcher expects of a cache, for one function at one precision."""

    def __init__(self, name: str, dtype: str) -> None:
        self._identity = (name, dtype)

    @property
    def cache_path(self) -> str:
        """The folder, as numba reports it."""
        return str(cache_folder())

    def _path(self, signature: object, codegen: object) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        key = repr((source_digest(), self._identity, str(signature), codegen.magic_tuple()))  # type: ignore[attr-defined]
        return folder / f"{self._identity[0]}-{hashlib.sha256(key.encode()).hexdigest()}.kernel"

    def load_overload(self, signature: object, target_context: object) -> object:
        """Return the compiled function of that signature, or None."""
        from numba.core.compiler import CompileResult

        target_context.refresh()  # type: ignore[attr-defined]
        path = self._path(signature, target_context.codegen())  # type: ignore[attr-defined]
        try:
            if path is None or not path.exists():
                return None
            return CompileResult._rebuild(target_context, *pickle.loads(path.read_bytes()))
        except Exception as cause:
            log.warning("compiled kernel %s cannot be used, compiling again: %r", path, cause)
            return None

    def save_overload(self, signature: object, result: object) -> None:
        """Keep a compiled function: written to a temporary name and moved."""
        path = self._path(signature, result.codegen)  # type: ignore[attr-defined]
        if path is None:
            return
        from numba.core.serialize import dumps

        try:
            content = dumps(result._reduce())  # type: ignore[attr-defined]
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except Exception as cause:
            log.warning("compiled kernel %s cannot be kept: %r", path, cause)

    def enable(self) -> None:
        """Part of numba's interface; always on."""

    def disable(self) -> None:
        """Part of numba's interface; always on."""

    def flush(self) -> None:
        """Part of numba's interface; keys never go stale."""
