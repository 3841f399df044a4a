"""Flows of reaches that other models give, and sub-steps of discharge that are kept for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NONE
from bmi_cdlm.kernels.groups import GivenFlows
from bmi_cdlm.model.buffers import Buffers
from bmi_cdlm.model.state import State
from bmi_cdlm.names.coupling import SUB_STEPS


class CoupledFlows:
    """What goes into reaches and boundaries from elsewhere in a block of steps, and what is told of it.

    Parameters
    ----------
    domain : Domain
    live : mapping of str to float64[cell | reach | gauge | 1]
        The model's live arrays, changed in place.
    slot : int64[reach]
        Buffer of a reach's hydrograph.
    step, n_sub : int
        Seconds of a step, and its routing sub-steps.
    coupled, sub_steps : names
        As of `Model`.
    """

    def __init__(
        self, domain: Domain, live: Mapping[str, np.ndarray], slot: np.ndarray, step: int, n_sub: int,
        coupled: Sequence[str], sub_steps: Sequence[str],
    ) -> None:
        self._live, self._slot, self._step, self._n_sub = live, slot, step, n_sub
        self._n_reaches, self._boundary = domain.n_reaches, domain.boundary
        self._takes_inflow, self._keeps = "reach_inflow" in coupled, bool(sub_steps)
        everywhere, at_gauges = np.arange(domain.n_reaches), domain.gauges.reach
        self._told = {
            v.short: at_gauges if v.grid == "gauge" else everywhere for v in SUB_STEPS if v.of[0] in sub_steps
        }
        self._kept = everywhere if "discharge" in sub_steps else np.unique(at_gauges) if sub_steps else NONE

    def begin(self, coupled: Mapping[str, np.ndarray], n_sub_steps: int, state: State) -> GivenFlows | None:
        """Flows that others put into reaches over a block, and whose sub-steps are kept; None where nothing is.

        coupled : see `Forcing`.
        """
        asked = coupled.get("reach_inflow")
        if self._takes_inflow:
            self._live["reach_inflow_taken"][:] = 0.0
            self._live["reach_inflow_asked"][:] = 0.0 if asked is None else asked[-1]
        places = np.flatnonzero(asked.any(axis=0)) if asked is not None else NONE
        if not places.size and not self._keeps:
            return None
        rows = np.zeros((0, 1)) if asked is None or not places.size else np.ascontiguousarray(asked[:, places].T)
        row, kept_row = np.full(self._n_reaches, -1), np.full(self._n_reaches, -1)
        row[places], kept_row[self._kept] = np.arange(places.size), np.arange(self._kept.size)
        hydrographs = np.empty((self._kept.size, n_sub_steps))
        return GivenFlows(row, rows, np.zeros_like(rows), state.reach_added_total, kept_row, hydrographs)

    def take_in(
        self, coupled: Mapping[str, np.ndarray], b: Buffers, flows: GivenFlows | None, state: State
    ) -> None:
        """Discharge of the reaches that were cut off above, over a block: handed on as it is, and booked as added."""
        boundary, n = self._boundary, self._boundary.size
        flow = np.zeros((n, b.hydrographs.shape[1]))
        if "boundary_inflow" in coupled:
            flow[:] = coupled["boundary_inflow"].reshape(-1, n).T
        b.hydrographs[self._slot[boundary]] = flow
        if flows is not None:
            there = np.flatnonzero(flows.kept_row[boundary] >= 0)
            flows.kept[flows.kept_row[boundary[there]]] = flow[there]
        sub_steps = flow.reshape(n, -1, self._n_sub)
        total = sub_steps[..., 0].copy()
        for k in range(1, self._n_sub):  # in the order of the kernels
            total += sub_steps[..., k]
        mean = total / self._n_sub
        for row in mean.T:
            state.outflow_total[boundary] += row * self._step
            state.reach_added_total[boundary] += row * self._step
        b.lateral_inflow.last[boundary] = 0.0
        b.discharge.values[b.discharge.row[boundary]] = mean
        self._live["discharge"][boundary] = mean[:, -1]

    def end(self, flows: GivenFlows) -> None:
        """Bring what reaches took, and the sub-steps of the last step, into the live arrays."""
        there = np.flatnonzero(flows.row >= 0)
        if there.size:
            self._live["reach_inflow_taken"][there] = flows.moved[flows.row[there], -1]
        last = flows.kept[:, flows.kept.shape[1] - self._n_sub :]
        for short, places in self._told.items():
            self._live[short].reshape(self._n_sub, -1)[:] = last[flows.kept_row[places]].T

    def tell_steady(self, discharge: np.ndarray) -> None:
        """Let all sub-steps be those of a constant discharge, float64[reach]."""
        for short, places in self._told.items():
            self._live[short].reshape(self._n_sub, -1)[:] = discharge[places]
