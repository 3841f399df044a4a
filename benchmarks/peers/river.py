"""Routing by river-route 3 [Hales]: its kernel on our rivers, called as its own router calls it.

Its kernel in C is compiled on the machine by `rr compile`; where it is not, its numba kernel runs. Either is float32,
one step of Muskingum per step of inflow, all discharge kept.
"""

from __future__ import annotations

import numpy as np
from river_route import kernels


def folded(K: np.ndarray, x: np.ndarray, step: float, count: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coefficients of Muskingum's inflow after, inflow before, outflow before and lateral inflow, of one whole step.

    It stands for `count` equal parts of a step, during which inflow rises in a straight line: what a unit of each comes
    to at the end of the parts.
    """
    part = step / count / K
    c1, c2, c3 = part - 2 * x, part + 2 * x, 2 * (1 - x) - part
    c1, c2, c3 = (c / (part + 2 * (1 - x)) for c in (c1, c2, c3))
    after, before, lateral, kept = np.zeros_like(K), np.zeros_like(K), np.zeros_like(K), np.ones_like(K)
    for k in range(int(count.max())):
        on = k < count
        new, old = (k + 1) / count, k / count
        after = np.where(on, c3 * after + c1 * new + c2 * old, after)
        before = np.where(on, c3 * before + c1 * (1 - new) + c2 * (1 - old), before)
        lateral = np.where(on, c3 * lateral + c1 + c2, lateral)
        kept = np.where(on, c3 * kept, kept)
    return after, before, kept, lateral


class RiverRoute:
    """A river whose reaches each have a cell of their own; `runoff` float32[reach, time] [m3 s-1]."""

    def __init__(self, downstream: np.ndarray, K: np.ndarray, x: np.ndarray, step: float, runoff: np.ndarray) -> None:
        n, n_steps = runoff.shape
        # As many parts as keep every coefficient from being negative, as its option use_subcycles does.
        count = np.maximum(1, np.ceil(step / (2 * K * (1 - x)) - 1e-9)).astype(np.int64)
        c1, c2, c3, c4 = (c.astype(np.float32) for c in folded(K, x, step, count))
        tributaries = np.bincount(downstream[downstream >= 0], minlength=n)
        order = np.argsort(downstream, kind="stable")[np.count_nonzero(downstream < 0):]
        whole = np.arange(n + 1, dtype=np.int32)
        self.network = kernels.KernelNetwork(
            whole, np.r_[0, np.cumsum(tributaries)].astype(np.int32), order.astype(np.int32), c1, c2, c3, c4, whole,
            whole[:-1], np.ones(n, np.float32),
        )
        self.runoff, self.n_steps = runoff, n_steps
        self.discharge, self.ends = np.zeros((n, n_steps + 1), np.float32), np.array([n], np.int32)
        self.kernel = kernels.choose_kernel("auto")

    def run(self) -> None:
        """Discharge of every reach after every step, in `discharge[:, 1:]`, from an empty river."""
        state = np.zeros(self.discharge.shape[0], np.float32)
        kernels.route(
            self.kernel, self.network, self.runoff, self.n_steps, np.zeros(1, np.int32), self.ends, state,
            self.discharge,
        )
