"""What a command shows while it works: a bar with the time left on a terminal, a plain line now and then in a log.

Both go to the screen's second stream (stderr), so that a result on the first can be taken by another program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bmi_cdlm.names.progress import Pace

FIRST, BETWEEN = 3.0, 60.0
"""Seconds before the first line of a log, and between two of them."""
Now = Callable[[], float]


def _screen() -> Console:
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """When a line is due: after the first seconds, then once a minute. shown : when the last one came, if any did."""

    def __init__(self, console: Console, now: Now) -> None:
        self.console, self.now, self.began = console, now, now()
        self.shown: float | None = None

    def due(self, between: float = BETWEEN) -> bool:
        """Whether it is time for another line, that many seconds after the one before."""
        if self.shown is None:
            return self.now() - self.began >= FIRST
        return self.now() - self.shown >= between

    def write(self, text: str) -> None:
        """Write a line."""
        self.console.print(text)
        self.shown = self.now()


class Watch:
    """Progress of a work whose parts can be counted.

    with Watch("lez", 365, "steps") as watch:
        ...; watch.advance(24)
    """

    def __init__(
        self, name: str, total: float, unit: str, *, quiet: bool = False, now: Now = time.monotonic,
        console: Console | None = None,
    ) -> None:
        self.name, self.total, self.unit, self.quiet = name, total, unit, quiet
        self.console = _screen() if console is None else console
        self.pace, self.lines, self.done, self.more = Pace(now), _Lines(self.console, now), 0.0, ""
        self.moving = False
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TextColumn("{task.fields[more]}"), TimeElapsedColumn(), TimeRemainingColumn(), console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task(name, total=total, more="")

    def __enter__(self) -> Watch:
        if not self.bar.disable:  # an older rich ends with an empty line all the same
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.bar.disable:
            self.bar.stop()
        if kind is None and self._speaks() and self.pace.gone >= FIRST:
            self._line()

    def begin_at(self, done: float) -> None:
        """So much was done by an earlier run."""
        self.pace.before = self.done = done
        self.bar.update(self.task, completed=done)

    def advance(self, count: float = 1, more: str | None = None) -> None:
        """So much more is done; more : what is to be said beside it, such as a loss."""
        self.done += count
        if not self.moving:
            self.pace.mark(self.done)
            self.moving = True
        self.more = self.more if more is None else more
        self.bar.update(self.task, advance=count, more=self.more)
        if self._speaks() and self.done < self.total and self.lines.due():
            self._line()

    def _speaks(self) -> bool:
        return not self.quiet and not self.console.is_terminal

    def catch_up(self, done: float) -> None:
        """So much is done in all; what an earlier run did counts for no pace."""
        if done > self.done:
            self.pace.before += done - self.done
            self.done = done
            self.bar.update(self.task, completed=done)

    def _line(self) -> None:
        more = f", {self.more}" if self.more else ""
        counted = f"{self.done:.0f} of {self.total:.0f} {self.unit}"
        self.lines.write(f"{self.name}: {counted}{more}, {self.pace.told(self.done, self.total)}")


class Phases:
    """Progress of a work that says in words what it does: `say` is called with them."""

    def __init__(
        self, name: str, *, quiet: bool = False, now: Now = time.monotonic, console: Console | None = None
    ) -> None:
        self.name, self.quiet = name, quiet
        self.console = _screen() if console is None else console
        self.lines, self.pace, self.told = _Lines(self.console, now), Pace(now), ""
        self.status = self.console.status(name, spinner="dots")

    def __enter__(self) -> Phases:
        if not self.quiet and self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.status.stop()

    def say(self, text: str) -> None:
        """This is being done now."""
        if self.quiet:
            return
        if self.console.is_terminal:
            self.status.update(text)
        elif self.lines.due(BETWEEN if text.partition(":")[0] == self.told else FIRST):
            self.lines.write(f"{self.name}: {text} ({self.pace.told(0, 0)})")
        self.told = text.partition(":")[0]
