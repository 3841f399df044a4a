"""Fluxes of cells that another model makes: evapotranspiration and groundwater exchange, limited by what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.state import State
from bmi_cdlm.names.declaration import LIQUID_WATER, CellProcess
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY

EVAPOTRANSPIRATION, EXCHANGE = "given_evapotranspiration", "given_exchange"


class Serving(NamedTuple):
    """What serves a flux from outside: a store by name, and the flux of the process that tells it, and its total."""

    store: str
    flux: str
    total: str


def serving(process: CellProcess, name: str) -> Serving:
    """Return what serves a given flux; ConfigError where the process declares no store for it."""
    kind, ledger = ("evapotranspiration", "out") if name == EVAPOTRANSPIRATION else ("exchange", "exchange")
    stores = [store for store, s in process.stores.items() if s.serves == kind]
    fluxes = [flux for flux, f in process.fluxes.items() if f.ledger == ledger]
    if not stores or not fluxes:
        raise ConfigError(
            f"coupled_inputs names '{name}', and no store of process '{process.name}' serves {kind} from outside. "
            f"Leave it out, or choose a process with such a store (Store.serves='{kind}')."
        )
    return Serving(stores[0], fluxes[0], f"{kind}_total")


class GivenFluxes:
    """Takes evapotranspiration out of the rain and a store, and moves groundwater into or out of one, step by step.

    Parameters
    ----------
    operators : Operators
    live : mapping of float64[cell]
        The live values, changed in place.
    weights : float64[component * cell] or None
        Of the components of the process; None: a plain mean.
    names : sequence of str
        Short names of coupled inputs, of which others than these two are left alone.
    """

    def __init__(
        self, operators: Operators, live: Mapping[str, np.ndarray], names: Sequence[str], weights: np.ndarray | None
    ) -> None:
        self._operator, self._weights = operators.cells[-1], weights
        self._live, self._days = live, operators.step / DAY
        process = self._operator.process
        self.served = {n: serving(process, n) for n in (EVAPOTRANSPIRATION, EXCHANGE) if n in names}
        self._from_rain = LIQUID_WATER in process.inputs
        self._moved: dict[str, np.ndarray] = {}

    def before(
        self, series: dict[str, np.ndarray], coupled: Mapping[str, np.ndarray], state: State,
        parameters: Mapping[str, np.ndarray],
    ) -> None:
        """Before the runoff process runs a step: what is taken leaves its rain and its store, float64[1, cell]."""
        self._moved = {}
        if EVAPOTRANSPIRATION in self.served:
            self._evaporate(series, _row(coupled, EVAPOTRANSPIRATION, series), state)
        if EXCHANGE in self.served:
            self._exchange(_row(coupled, EXCHANGE, series), state, parameters)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """The mean over components."""
        if self._weights is None:
            return values.mean(axis=0)
        return (values * self._weights.reshape(values.shape)).sum(axis=0)

    def _units(self, state: State, store: str) -> np.ndarray:
        """A store as [component, cell]; a view."""
        return getattr(state.cells[-1], store).reshape(self._operator.components, -1)

    def _evaporate(self, series: dict[str, np.ndarray], asked: np.ndarray, state: State) -> None:
        rest = asked
        if self._from_rain:
            water = series.get(LIQUID_WATER, series["precipitation"])
            intercepted = np.minimum(asked, water[0])
            series[LIQUID_WATER] = water - intercepted
            rest = asked - intercepted
        held = self._units(state, self.served[EVAPOTRANSPIRATION].store)
        drawn = np.minimum(held, rest * self._days)
        held -= drawn
        self._moved[EVAPOTRANSPIRATION] = drawn + (asked - rest) * self._days
        self._live["evapotranspiration_missing"][:] = rest - self._mean(drawn) / self._days

    def _exchange(self, asked: np.ndarray, state: State, parameters: Mapping[str, np.ndarray]) -> None:
        name = self.served[EXCHANGE].store
        held, limit = self._units(state, name), self._operator.process.stores[name].at_most
        room = np.inf if limit is None else parameters[limit].reshape(held.shape[0], -1) - held
        moved = np.minimum(np.maximum(asked * self._days, -held), room)
        held += moved
        np.maximum(held, 0.0, out=held)
        self._moved[EXCHANGE] = moved
        self._live["exchange_missing"][:] = asked - self._mean(moved) / self._days

    def after(self, state: State) -> None:
        """After the step: what was moved joins the fluxes and the totals of the process."""
        for name, moved in self._moved.items():
            found = self.served[name]
            self._live[found.flux][:] += self._mean(moved) / self._days
            getattr(state.totals, found.total).reshape(moved.shape)[:] += moved


def _row(coupled: Mapping[str, np.ndarray], name: str, series: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is given in a step [mm d-1], float64[cell]; nothing where it is not."""
    return coupled[name][0] if name in coupled else np.zeros(series["precipitation"].shape[1])
