"""Timing by interleaved repeats: machines drift, so cases that are compared run in turn, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


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
    """Work per second of every case in every round (float64[repeat] each), after one round that is not timed."""
    rates = [np.empty(repeats) for _ in cases]
    for k in range(-1, repeats):
        for case, rate in zip(cases, rates, strict=True):
            begin = time.perf_counter()
            case.run()
            if k >= 0:
                rate[k] = case.work / (time.perf_counter() - begin)
    return rates
