"""How far a piece of work is, and how long the rest takes, in words."""

from __future__ import annotations

import time
from collections.abc import Callable

HOUR, MINUTE = 3600, 60


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:40 or 3:05:00."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, HOUR)
    minutes, left = divmod(rest, MINUTE)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


class Pace:
    """The pace of a work that began now; `before` of its parts were done already, in no time of this work."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.began = self.since = now()
        self.before = 0.0

    def mark(self, done: float) -> None:
        """The pace is counted from here on: what came before, such as compiling, comes once."""
        self.before, self.since = done, self.now()

    @property
    def gone(self) -> float:
        """Seconds since the begin."""
        return self.now() - self.began

    def told(self, done: float, total: float) -> str:
        """`33 %, 0:02 gone, about 0:04 left`; of the rest nothing is said before there is a pace."""
        text = f"{100 * done / total:.0f} %, {clock(self.gone)} gone" if total > 0 else f"{clock(self.gone)} gone"
        own = done - self.before
        if own <= 0 or done >= total:
            return text
        return f"{text}, about {clock((self.now() - self.since) * (total - done) / own)} left"
