"""numba's CUDA simulator with the threads of a block one after another, in any order.

The simulator makes a thread of Python of each, and asks all of them again and again whether they are done, for which
each stops the others: most of its time. Kernels that wait for each other within a block cannot run so, and say it;
ours do not. The order is drawn, so that results which depend on it are others.

`python tests/simulated_threads.py MODULE-or-FILE ARGUMENT...` runs a program so, with NUMBA_ENABLE_CUDASIM=1.
"""

from __future__ import annotations

import os
import random
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SEED = 7


def in_turn() -> None:
    """From now on, in this process."""
    from numba.cuda.simulator import kernel, kernelapi

    drawn = random.Random(SEED)
    running: list[Any] = []

    def refuse(thread: Any, *_: object) -> None:
        raise NotImplementedError(f"{thread} waits for the others of its block, which run one after another here.")

    def run(manager: Any, place: tuple[int, ...], *arguments: Any) -> None:
        """The threads of a block; the place of the block in the grid is given."""
        of_block = list(np.ndindex(*manager._block_dim))
        drawn.shuffle(of_block)
        for one in of_block:
            thread = kernel.BlockThread(lambda: manager._f(*arguments), manager, place, one, manager._debug)
            running.append(thread)
            thread.run()
            running.pop()
            if thread.exception:
                raise thread.exception[0].with_traceback(thread.exception[1])

    kernel.BlockManager.run = run
    kernel.BlockThread.syncthreads = refuse
    kernelapi.threading = SimpleNamespace(**{**vars(threading), "current_thread": lambda: running[-1]})


def command(program: str | Path, *words: object) -> list[str]:
    """What starts a program so: a module, or a file with its suffix."""
    return [sys.executable, __file__, str(program), *map(str, words)]


def environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """That of a program under the simulator."""
    return {**given, "NUMBA_ENABLE_CUDASIM": "1"}


def main(words: Sequence[str]) -> None:
    """Run the program that is named first with the arguments behind it."""
    in_turn()
    sys.argv = list(words)
    if words[0].endswith(".py"):
        sys.path[0] = str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.path.pop(0)
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
