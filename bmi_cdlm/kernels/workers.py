"""Our own threads for kernels that run without the interpreter lock."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")
TASKS_PER_THREAD = 2
WORTH_A_THREAD = 20_000
"""Cell-steps or reach-steps below which handing work to a thread costs more than it saves."""


class Task(NamedTuple):
    """A range to call a kernel with, and which earlier tasks of the list it needs."""

    part: tuple[int, ...]
    needs: tuple[int, ...]


class Workers:
    """Our own threads for kernels without the interpreter lock: nothing starts before it is needed.

    What one of the threads hands over itself runs in that thread: it is busy, and so are the others.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()
        self._here = threading.local()

    def tasks(self, n: int) -> list[tuple[int, int]]:
        """Cut 0..n into ranges: one where one thread will do them, else a few per thread, shared by whoever is free."""
        size = n if self.is_alone else max(1, -(-n // (TASKS_PER_THREAD * self.threads)))
        return [(lo, min(lo + size, n)) for lo in range(0, n, size)]

    def run(self, function: Callable, arguments: tuple, ranges: Sequence[tuple[int, ...]], work: int) -> None:
        """Call function(*arguments, *range) for every range; in any order when there are several threads.

        work: cell-steps or reach-steps in all; a small job is not worth a thread.
        """
        if work < WORTH_A_THREAD or len(ranges) == 1 or self.is_alone:
            for part in ranges:
                function(*arguments, *part)
            return
        for future in [self._started().submit(function, *arguments, *part) for part in ranges]:
            future.result()

    def run_tasks(self, function: Callable, arguments: tuple, tasks: Sequence[Task], work: int) -> None:
        """Call function(*arguments, *part) for every task, each after those that it needs.

        A thread that is free takes the first task of the list that waits for nothing; nobody waits for the others.
        """
        if work < WORTH_A_THREAD or len(tasks) == 1 or self.is_alone:
            for part, _ in tasks:
                function(*arguments, *part)
            return
        queue = Queue(tasks)
        for future in [self._started().submit(queue.work_off, function, arguments) for _ in range(self.threads)]:
            future.result()

    def each(self, function: Callable[[Item], Found], items: Sequence[Item], work: Sequence[float]) -> list[Found]:
        """Call function(item) for every item; results in their order.

        work: of each item. One that is more than a thread's share of all is left to all threads, by what it hands over
        itself; the others run beside each other, a thread each, the largest first.
        """
        if self.is_alone or len(items) < 2:
            return [function(item) for item in items]
        share = sum(work) / self.threads
        first = [k for k in range(len(items)) if work[k] > share]
        found = {k: function(items[k]) for k in first}
        rest = sorted(set(range(len(items))) - set(first), key=lambda k: (-work[k], k))
        running = {k: self._started().submit(function, items[k]) for k in rest}
        found |= {k: running[k].result() for k in rest}
        return [found[k] for k in range(len(items))]

    @property
    def is_alone(self) -> bool:
        """Whether there are no other threads than the one that asks, or it is one of ours."""
        return self.threads == 1 or getattr(self._here, "is_ours", False)

    def _mark(self) -> None:
        self._here.is_ours = True

    def _started(self) -> ThreadPoolExecutor:
        with self._starting:  # kernels and the preparation of the next block's inputs may come at once
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "cdlm", self._mark)
            return self._pool

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


class Queue:
    """Tasks on their way through several threads."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._left = len(tasks)
        self._missing = [len(task.needs) for task in tasks]
        self._ready = [k for k, task in enumerate(tasks) if not task.needs]
        self._waiting: list[list[int]] = [[] for _ in tasks]
        for k, task in enumerate(tasks):
            for needed in task.needs:
                self._waiting[needed].append(k)
        self._changed = threading.Condition()

    def work_off(self, function: Callable, arguments: tuple) -> None:
        """Call function(*arguments, *part) for tasks as they get ready, until none is left."""
        while (task := self._take()) is not None:
            try:
                function(*arguments, *self._tasks[task].part)
            except BaseException:
                self._give_up()
                raise
            self._end(task)

    def _take(self) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._left <= 0)
            return heapq.heappop(self._ready) if self._left > 0 else None

    def _end(self, task: int) -> None:
        with self._changed:
            self._left -= 1
            for k in self._waiting[task]:
                self._missing[k] -= 1
                if not self._missing[k]:
                    heapq.heappush(self._ready, k)
            self._changed.notify_all()

    def _give_up(self) -> None:
        with self._changed:
            self._left = 0
            self._changed.notify_all()
