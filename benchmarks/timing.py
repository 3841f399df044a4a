"""Timing by interleaved repeats: machines drift, so cases that are compared run in turn, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

MOST_SECONDS = 60.0


class Case(NamedTuple):
    """Something to time.

    name : what runs; precision : of its numbers; threads; work : cell-steps or reach-steps per run;
    run : does them, and leaves nothing behind that makes the next run a different amount of work.
    """

    name: str
    precision: str
    threads: int
    work: int
    run: Callable[[], None]


def interleave(cases: Sequence[Case], repeats: int) -> list[np.ndarray]:
    """Work per second of every case in every round (float64[round] each), after one round that is not timed.

    There are fewer rounds than `repeats` where they take longer than a minute: on a busy machine threads that wait
    for each other may take a hundred times as long as on an idle one.
    """
    rates: list[list[float]] = [[] for _ in cases]
    for case in cases:
        case.run()
    start = time.perf_counter()
    while len(rates[0]) < repeats and time.perf_counter() - start < MOST_SECONDS:
        for case, rate in zip(cases, rates, strict=True):
            if case.threads > 1:
                case.run()  # threads that sleep through the other cases may wake up on one core
            begin = time.perf_counter()
            case.run()
            rate.append(case.work / (time.perf_counter() - begin))
    return [np.array(rate) for rate in rates]
