"""Muskingum as sparse triangular systems, one per sub-step: how DDR (scipy inside torch) and RAPID route.

Our scheme in matrices, N summing over the reaches above: (I - D N) O = D q + y, then y <- G (N O + q) + K y, where D, G
and K hold direct, gain and keep of every reach. So it is the same work, with the same numbers but for rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array, diags_array, eye_array
from scipy.sparse.linalg import splu, spsolve_triangular


class Solve:
    """Runs over a few days of lateral inflow, float64[time, reach] [m3 s-1], into rivers without water.

    p : group of float64[reach] with direct, gain and keep
    refactor : bool
        Build the matrix and solve anew at every sub-step, as where coefficients depend on discharge (DDR); else it is
        factorised once (RAPID).
    discharge : float64[time, reach], daily means of the last run; gradient : float64[reach] by coefficient, of the
        sum over all days at the outlet.
    """

    def __init__(
        self, downstream: np.ndarray, p: Any, lateral: np.ndarray, n_sub: int, *, refactor: bool
    ) -> None:
        n = downstream.size
        inner = np.flatnonzero(downstream >= 0)
        self.above = coo_array((np.ones(inner.size), (downstream[inner], inner)), (n, n)).tocsr()
        self.p, self.lateral, self.n_sub, self.refactor = p, lateral, n_sub, refactor
        self.outlets = np.flatnonzero(downstream < 0)
        self.discharge = np.empty(lateral.shape)
        self.factors = splu(csc_array(self._matrix()), "NATURAL", diag_pivot_thresh=0.0)
        self.tape: list[tuple[np.ndarray, np.ndarray]] = []
        self.gradient: dict[str, np.ndarray] = {}

    def _matrix(self) -> csr_array:
        return (eye_array(self.p.direct.size) - diags_array(self.p.direct) @ self.above).tocsr()

    def _solve(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        if not self.refactor:
            return self.factors.solve(right, "T" if transposed else "N")
        matrix: Any = self._matrix()
        if transposed:
            return spsolve_triangular(matrix.T.tocsr(), right, lower=False, unit_diagonal=True)
        return spsolve_triangular(matrix, right, lower=True, unit_diagonal=True)

    def forward(self, keep: bool = False) -> None:
        """Discharge; keep what the gradient needs."""
        self.tape, y = [], np.zeros(self.p.direct.size)
        for t, q in enumerate(self.lateral):
            total = np.zeros(y.size)
            for _ in range(self.n_sub):
                outflow = self._solve(self.p.direct * q + y)
                inflow = self.above @ outflow + q
                if keep:
                    self.tape.append((inflow, y))
                y = self.p.gain * inflow + self.p.keep * y
                total += outflow
            self.discharge[t] = total / self.n_sub

    def both(self) -> None:
        """Discharge, and the gradient of its sum at the outlet."""
        self.forward(keep=True)
        n = self.p.direct.size
        direct_adj, gain_adj, keep_adj, y_adj, mean_adj = (np.zeros(n) for _ in range(5))
        mean_adj[self.outlets] = 1.0 / self.n_sub
        for inflow, y in reversed(self.tape):
            solved = self._solve(mean_adj + self.above.T @ (self.p.gain * y_adj), transposed=True)
            direct_adj += solved * inflow
            gain_adj += y_adj * inflow
            keep_adj += y_adj * y
            y_adj = solved + self.p.keep * y_adj
        self.gradient = {"direct": direct_adj, "gain": gain_adj, "keep": keep_adj}
