"""The ledger of every cell and reach: what came in and did not leave is there, or is a residual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import M3_PER_MM_KM2, Domain
from bmi_cdlm.model.state import State
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import LedgerError


class Account(NamedTuple):
    """Water of a grid: gained and moved in either direction since the start, stored now and at the start."""

    grid: str
    gained: np.ndarray
    moved: np.ndarray
    stored: np.ndarray
    at_start: np.ndarray


class Ledger:
    """Water balance of cells [mm], reaches [m3] and the domain [m3] since the start.

    Derived from totals that the kernels keep in any case, so that a run without a ledger pays nothing. What a reach
    got is added up from the outflow of the reaches above and the runoff of its cells, independently of its routing.
    """

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._link_reach = np.repeat(np.arange(domain.n_reaches), np.diff(domain.links.first))
        self._above = np.flatnonzero(domain.reaches.downstream >= 0)
        self._at_start = np.zeros(1)

    def update(self, state: State, live: Mapping[str, np.ndarray], at_start: float) -> None:
        """Bring `inflow_total` and the residuals among the live values up to date; at_start: of the domain [m3]."""
        self._at_start[0] = at_start
        residuals = self._residuals(live)
        for a in self._accounts(state, live):
            np.subtract(a.gained, a.stored - a.at_start, out=residuals[a.grid])

    def check(self, tolerance: float, state: State, live: Mapping[str, np.ndarray], when: object) -> None:
        """Refuse a residual above a share of the water that was stored or went through.

        Raises
        ------
        LedgerError
            Naming the cell or reach, its residual and what would be accepted.
        """
        if not np.isfinite(tolerance):
            return
        residuals = self._residuals(live)
        for a in self._accounts(state, live):
            limit = tolerance * (np.abs(a.stored) + a.moved)  # stores may be in deficit
            bad = np.flatnonzero(~(np.abs(residuals[a.grid]) <= limit))
            if bad.size:
                self._refuse(a.grid, residuals[a.grid], limit, bad, when)

    def _refuse(self, grid: str, residual: np.ndarray, limit: np.ndarray, bad: np.ndarray, when: object) -> None:
        ids = {"cell": self._domain.cells.id, "reach": self._domain.reaches.id, "domain": [""]}[grid]
        i = int(bad[np.abs(residual[bad]).argmax()])
        units = "mm" if grid == "cell" else "m3"
        told = date_text(when) if isinstance(when, np.datetime64) else when
        raise LedgerError(
            f"ledger: {grid} {ids[i]} has a residual of {residual[i]:.6g} {units} at {told}, "
            f"expected at most {limit[i]:.3g} (ledger_tolerance; {bad.size} of {residual.size} exceed it). Water that "
            "is written through get_value_ptr is not accounted: use set_value, or raise the tolerance."
        )

    def _residuals(self, live: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            "cell": live["cell_water_residual"], "reach": live["reach_water_residual"],
            "domain": live["water_residual"],
        }

    def _accounts(self, state: State, live: Mapping[str, np.ndarray]) -> tuple[Account, Account, Account]:
        links, downstream = self._domain.links, self._domain.reaches.downstream
        n = self._domain.n_reaches
        runoff = live["runoff_total"][links.cell] * links.area * M3_PER_MM_KM2
        inflow = live["inflow_total"]
        inflow[:] = np.bincount(self._link_reach, runoff, n)
        inflow += np.bincount(downstream[self._above], state.outflow_total[self._above], n)
        rain, exchanged = live["precipitation_total"], live["exchange_total"]
        lost = live["evapotranspiration_total"] + live["runoff_total"]
        w = {name: live[f"water_{name}"] for name in ("in", "out", "exchanged", "added", "stored")}
        return (
            Account(
                "cell", rain + exchanged + state.added_total - lost,
                rain + lost + np.abs(exchanged) + np.abs(state.added_total),
                live["cell_water_stored"], state.cell_storage_at_start,
            ),
            Account(
                "reach", inflow + state.reach_added_total - state.outflow_total,
                inflow + state.outflow_total + np.abs(state.reach_added_total), live["reach_storage"],
                state.reach_storage_at_start,
            ),
            Account(
                "domain", w["in"] + w["exchanged"] + w["added"] - w["out"],
                w["in"] + w["out"] + np.abs(w["exchanged"]) + np.abs(w["added"]), w["stored"], self._at_start,
            ),
        )
