"""The live values of a model: the last step's value of every variable, and what is derived of the state for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.model.ledger import Ledger
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.preparation import Parameters
from bmi_cdlm.model.state import State
from bmi_cdlm.model.totals import Totals
from bmi_cdlm.names.entry import Variable


class Live:
    """Arrays of the last step, with the water of the whole domain and the ledger, which are derived of them.

    Parameters
    ----------
    operators : Operators
    state : State
        Whose stores are live by themselves.
    outputs : sequence of Variable
    coupled : names
        As of `Model`.
    weights : float64[component, cell], optional
        Of the components of the runoff process.
    ledger : Ledger, optional

    Attributes
    ----------
    values : dict of float64[cell | reach | gauge | 1]
        By short name: allocated once, changed in place.
    totals : Totals
    """

    def __init__(
        self, operators: Operators, state: State, outputs: Sequence[Variable], coupled: Collection[str],
        weights: np.ndarray | None, ledger: Ledger | None,
    ) -> None:
        self._reach, self._at_gauges = operators.reach, operators.domain.gauges.reach
        self._ledger, self._is_coupled = ledger, bool(coupled)
        self._outputs, self._n_sub = outputs, operators.n_sub
        stored = {name: a for name, a in state.arrays().items() if name not in state.earlier}
        sizes = {v.short: size_of(operators.domain, v.grid) for v in outputs}
        self.values = {
            v.short: stored[v.short] if v.short in stored and stored[v.short].shape == (sizes[v.short],)
            else np.zeros(sizes[v.short] * (operators.n_sub if v.sub_steps else 1)) for v in outputs
        }
        self.totals = Totals(operators, self.values, operators.step, weights)

    def derive(self, state: State, p: Parameters) -> None:
        """Derive what no kernel writes: at gauges, storages, totals of the domain, residuals; p : of reaches."""
        live = self.values
        live["discharge"].take(self._at_gauges, out=live["gauge_discharge"], mode="clip")
        self._reach.volume(p, state.reach, live["reach_storage"])
        if self._is_coupled:
            self.totals.recount(state)
        self.totals.refresh(state)
        if self._ledger is not None:
            self._ledger.update(state, live, self.totals.at_start)

    def begin(self, discharge: np.ndarray) -> None:
        """Let all fluxes be 0, and reaches have their initial discharge [m3 s-1]."""
        for v in self._outputs:
            if v.role == "flux":
                self.values[v.short][:] = 0.0
        self.values["discharge"][:] = discharge

    def restore(self, cell: Mapping[str, np.ndarray], reach: Mapping[str, np.ndarray]) -> None:
        """Take over the last fluxes that are saved with a state."""
        for v in self._outputs:
            source = {"cell": cell, "reach": reach}.get(v.grid, {})
            if v.role == "flux" and v.short in source:
                self.values[v.short][:] = np.ravel(source[v.short])
            elif v.sub_steps and v.short in reach:  # of gauges, kept at their reaches
                self.values[v.short].reshape(self._n_sub, -1)[:] = reach[v.short][:, self._at_gauges]


def size_of(domain: Domain, grid: str) -> int:
    """Number of values of a variable on a grid."""
    sizes = {
        "cell": domain.n_cells, "reach": domain.n_reaches, "gauge": domain.gauges.reach.size, "domain": 1,
        "boundary": domain.boundary.size,
    }
    return sizes[grid]
