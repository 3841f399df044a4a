"""Files beside the kernels: forcing is read one block ahead, output written one block behind, each in a thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

Block = TypeVar("Block")
Take = Callable[[np.ndarray, dict[str, np.ndarray]], None]


def read_ahead(read: Callable[[int, int], Block], spans: Iterable[tuple[int, int]]) -> Generator[Block, None, None]:
    """Yield read(first, count) of every span; while one block is used, the next is read. Errors come in their place."""
    with ThreadPoolExecutor(1, thread_name_prefix="cdlm-read") as pool:
        ahead: Future[Block] | None = None
        for span in spans:
            this, ahead = ahead, pool.submit(read, *span)
            if this is not None:
                yield this.result()
        if ahead is not None:
            yield ahead.result()


class WriteBehind:
    """Hands blocks to `write` in a thread, one at a time: a second waits for the first, so that memory stays bounded.

    An error of a block is raised when the next one is given, or by `wait`.
    """

    def __init__(self, write: Take) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cdlm-write")
        self._last: Future[None] | None = None

    def __call__(self, starts: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Give a block, which is copied."""
        own = {name: np.array(value, order="C") for name, value in values.items()}
        self.wait()
        self._last = self._pool.submit(self._write, starts, own)

    def wait(self) -> None:
        """Return when everything given is written."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> WriteBehind:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Write what was given; after an error, without a word about another one."""
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown()
