"""Kernels that are to be compiled, known before they run, so that two processes share them out.

numba compiles one function at a time in a process. What a first step calls is listed without being run; a copy of the
process compiles half of it, and hands it over through the folder of compiled kernels.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from bmi_cdlm.kernels.cache import cache_folder
from bmi_cdlm.kernels.graph import call_graph

WORTH_A_PROCESS = 4000
"""Bytes of Python's code that a copy of the process is worth: a second of compilation."""
PATIENCE = 60.0
"""How long this process waits for a copy after its own half is done [s]."""
_here = threading.local()
"""What the thread lists: nobody else's calls are left out."""


class Missing(NamedTuple):
    """A kernel that somebody called while they were listed: the plain function, numba's dispatcher, types of arguments.
    """

    function: Callable
    root: Any
    types: tuple

    @property
    def work(self) -> int:
        """How much there is to compile."""
        return sum(len(f.__code__.co_code) for f in call_graph(self.function))


@contextmanager
def listed() -> Iterator[list[Missing]]:
    """Kernels that this thread calls and that are not compiled, here or in the folder, are listed and do not run."""
    found: list[Missing] = []
    _here.missing = found
    try:
        yield found
    finally:
        _here.missing = None


def watched(function: Callable, root: Any) -> Any:
    """A dispatcher of numba whose first call for some types can be listed."""
    compile_for = root._compile_for_args

    def first_call(*arguments: Any) -> Any:
        """What numba is to call: the compiled function, or nothing."""
        missing = getattr(_here, "missing", None)
        if missing is not None:
            types = tuple(root.typeof_pyval(a) for a in arguments)
            if not root._cache.holds(types, root.targetctx):
                missing.append(Missing(function, root, types))
                return _nothing
        return compile_for(*arguments)

    root._compile_for_args = first_call
    return root


def _nothing(*_arguments: Any) -> None:
    """What a listed kernel does."""


def shared_out(missing: Sequence[Missing]) -> tuple[list[Missing], list[Missing]]:
    """Two shares of about the same work, the one with the largest kernel first."""
    shares: tuple[list[Missing], list[Missing]] = [], []
    works = [0, 0]
    for one in sorted(dict.fromkeys(missing), key=lambda m: -m.work):
        k = int(works[1] < works[0])
        shares[k].append(one)
        works[k] += one.work
    return shares


def compile_beside(missing: Sequence[Missing]) -> None:
    """Compile what was listed, half of it in a copy of this process where there is a second core for it.

    Whatever the copy does not hand over is compiled when it is called.
    """
    theirs, ours = shared_out(missing)
    if sum(m.work for m in ours) < WORTH_A_PROCESS or not _may_fork():
        return
    with warnings.catch_warnings():  # Python 3.12 warns of threads: those of numpy, which the copy has no use for
        warnings.simplefilter("ignore", DeprecationWarning)
        copy = os.fork()
    if copy == 0:
        try:
            for one in theirs:
                one.root.compile(one.types)
        finally:
            os._exit(0)  # nothing of this process is closed, written or said twice
    try:
        for one in ours:
            one.root.compile(one.types)
    finally:
        _wait_for(copy)


def _wait_for(copy: int) -> None:
    """Wait until a copy of this process has ended; one that takes too long is ended.

    A library of the host may hold a lock in a thread of its own, which a copy then waits for and nobody gives back.
    """
    patience = time.monotonic() + PATIENCE
    with contextlib.suppress(ChildProcessError):  # a host that does not want to know of processes that ended
        while os.waitpid(copy, os.WNOHANG) == (0, 0):
            if time.monotonic() > patience:
                os.kill(copy, signal.SIGKILL)
                os.waitpid(copy, 0)
                return
            time.sleep(0.01)


def _may_fork() -> bool:
    """Whether there is a second core, and nothing that a copy of this process could disturb."""
    if not hasattr(os, "fork") or not hasattr(os, "sched_getaffinity") or cache_folder() is None:
        return False
    return len(os.sched_getaffinity(0)) > 1 and threading.active_count() == 1 and "mpi4py" not in sys.modules
