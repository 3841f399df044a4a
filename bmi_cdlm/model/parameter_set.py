"""The parameters of a model: by registry name, and as kernels take them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.elementwise import Elementwise
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.preparation import Parameters
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.model.sums import add_rows
from bmi_cdlm.names import parameters as registry
from bmi_cdlm.names.errors import DomainError, ParameterError, StateError
from bmi_cdlm.names.parameters import WEIGHT, Parameter
from bmi_cdlm.processes.catalogue import Chain, kind_of

MOST_OFF = 1e-6
"""By which the weights of a cell may miss one."""


class ParameterSet:
    """Parameters of cells and reaches.

    Attributes
    ----------
    values : dict of float64[cell | reach]
        By registry name, allocated once; [component, cell] for a process with several components.
    starts : dict of float64[cell]
        Shares with which stores start a run, by registry name, where they are given.
    cells : list of Parameters
        As the kernels of each process of cells take them.
    reach : Parameters

    Raises
    ------
    UnknownNameError, ParameterError, DomainError
        A name of no parameter; a parameter of another size or outside its legal range; an attribute that the domain
        lacks.
    """

    def __init__(self, operators: Operators, given: Mapping[str, np.ndarray]) -> None:
        self._operators, self._domain = operators, operators.domain
        self.values: dict[str, np.ndarray] = {}
        self.starts: dict[str, np.ndarray] = {}
        check_attributes(operators.chain, self._domain)
        prepared = {one.given for one in operators.chain.reach.prepared}
        for name in given:  # those of processes that this chain has not are nobody's here
            if name not in prepared:
                registry.parameter(name)
        for operator in operators.cells:
            factors = {one.factor for one in operator.process.inputs.values()}
            for p in operator.process.parameters:  # inputs and their factors are those of all components
                shape = (self._domain.n_cells,) if p.name in factors else self._shape(operator)
                self._take(p, given, shape)
            for p in operator.process.starts.values():
                if p.name in given:
                    self.starts[p.name] = self._sized(p.name, given[p.name], self._shape(operator))
        for p in operators.chain.reach.parameters:
            self._take(p, given, (self._domain.n_reaches,))
        for one in operators.chain.reach.prepared:
            if one.given is not None and one.given in given:
                self.values[one.given] = self._sized(one.given, given[one.given], (self._domain.n_reaches,))
        registry.check(self.values | self.starts, "parameters")
        if WEIGHT in given:
            self.values[WEIGHT] = self._weights(given[WEIGHT])
        self.cells = [operator.prepare(self._units(operator)) for operator in operators.cells]
        self.reach = operators.reach.prepare(self.values)

    def _shape(self, operator: CellOperator) -> tuple[int, ...]:
        n = self._domain.n_cells
        return (n,) if operator.components == 1 else (operator.components, n)

    def _weights(self, value: np.ndarray) -> np.ndarray:
        """Weights of components, float64[component, cell]: those of a cell sum to one to rounding.

        They are divided by their sum, from which they must not differ by more than a file of single precision would.
        """
        operator = self._operators.cells[-1]
        if not operator.is_weighted:
            raise ParameterError(
                f"parameters: '{WEIGHT}' is given, and runoff '{operator.process.name}' has one parameter set per cell "
                "here. Set components, or leave the weights out."
            )
        weights = self._sized(WEIGHT, value, self._shape(operator))
        registry.check({WEIGHT: weights}, "parameters")
        total = add_rows(weights)
        bad = np.flatnonzero(np.abs(total - 1.0) > MOST_OFF)
        if bad.size:
            i = int(bad[0])
            raise ParameterError(
                f"parameters: '{WEIGHT}' adds up to {total[i]:.9g} at cell {self._domain.cells.id[i]} ({bad.size} of "
                f"{total.size} cells), expected 1 over the {operator.components} components. Divide by the sum."
            )
        return weights / total

    def _take(self, p: Parameter, given: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
        if p.name in given:
            self.values[p.name] = self._sized(p.name, given[p.name], shape)
        elif not p.optional:
            self.values[p.name] = np.full(shape, p.range_at(self._operators.step).default, np.float64)

    def _sized(self, name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """One value per cell or reach, and per component: a copy."""
        found = np.shape(value)
        if found not in ((), shape, shape[-1:]):
            grid = registry.grid_of(name)
            more = f", or {shape} by component" if len(shape) > 1 else ""
            raise ParameterError(
                f"parameter '{name}' has shape {found}, expected one value per {grid}: {shape[-1]}{more}."
            )
        return np.array(np.broadcast_to(value, shape), np.float64)

    def _units(self, operator: CellOperator) -> dict[str, np.ndarray]:
        """Values of a process as kernels count, [component * cell]; the same memory."""
        names = [p.name for p in operator.process.parameters if p.name in self.values]
        names += [WEIGHT] if operator.is_weighted and WEIGHT in self.values else []
        starts = {p.name for p in operator.process.starts.values()}
        own = {name: self.starts[name].reshape(-1) for name in starts if name in self.starts}
        return {name: self.values[name].reshape(-1) for name in names} | own

    def change(self, name: str, places: np.ndarray, values: np.ndarray) -> None:
        """Change a parameter at some places; after one that is the base of a queue, `fit` must follow."""
        self.values[name].reshape(-1)[places] = values
        for operator, p in zip(self._operators.cells, self.cells, strict=True):
            for one in operator.process.parameters:
                if one.name == name:
                    operator.preparation.refill(p.symbols, one.symbol)
        reach = self._operators.reach
        changed = [one.returns[0] for one in reach.process.prepared if one.given == name]
        changed += [one.symbol for one in reach.process.parameters if one.name == name]
        for symbol in changed:
            reach.preparation.refill(self.reach.symbols, symbol)

    def bases(self) -> set[str]:
        """Names of parameters that set the length of a queue."""
        return {q.base for operator in self._operators.cells for q in operator.process.queues.values()}

    def fit(self, least: Mapping[str, int]) -> dict[str, int]:
        """Fill the ordinates of queues anew, with at least so many places each; returns the places there are."""
        self.cells = [operator.prepare(self._units(operator), least) for operator in self._operators.cells]
        return {
            name: p.symbols[name].shape[0]
            for operator, p in zip(self._operators.cells, self.cells, strict=True) for name in operator.process.queues
        }

    def check_stores(self, saved: Mapping[str, np.ndarray]) -> None:
        """Refuse stores [mm], float64[cell], that hold more than their capacity."""
        for operator in self._operators.cells:
            for name, store in operator.process.stores.items():
                if store.at_most is not None and name in saved:
                    self._check_store(name, store.at_most, saved[name])

    def _check_store(self, name: str, limit: str, held: np.ndarray) -> None:
        capacity = self.values[limit]
        over = np.flatnonzero(held > capacity if held.shape == capacity.shape else False)
        if over.size:
            i = int(over[0])
            raise StateError(
                f"state '{name}' holds {held.flat[i]:.6g} mm at cell {self._domain.cells.id[i % self._domain.n_cells]} "
                f"({over.size} of {held.size} cells), expected at most its '{limit}' here, {capacity.flat[i]:.6g} mm. "
                "Use the parameters of that run, or set the capacity first."
            )

    def travel_time_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Model.travel_time_spread`."""
        operator, process = self._operators.reach, self._operators.chain.reach
        if process.variance is None or process.travel_time is None:
            raise ParameterError(f"the travel time of routing '{process.name}' is not known beforehand.")
        variance = Elementwise(process.variance, operator.constants, np.float64)(self.reach.symbols)
        both = (self.reach.symbols[process.travel_time], variance)
        mean, variance = (_mean_above(self._domain, one) for one in both)
        return mean, np.sqrt(np.maximum(variance, 0.0))


ATTRIBUTE_UNITS = {"mean_annual_snowfall": "mm yr-1", "elevation": "m", "upstream_area": "km2"}
"""Units of the attributes of cells that a process may take."""


def check_attributes(chain: Chain, domain: Domain, where: str = "") -> None:
    """Refuse a domain that lacks what a process takes of its cells and reaches; where: its file, for the message."""
    for process in chain.cells:
        for name in process.attributes.values():
            if not np.isfinite(getattr(domain.cells, name)).all():
                units = f"[{ATTRIBUTE_UNITS[name]}]"
                raise DomainError(
                    f"{where + ': ' if where else ''}{kind_of(process)} is '{process.name}' but '{name}' {units} is "
                    f"missing in the domain, expected on every cell. Add it to the domain file (of `cdlm prepare`, the "
                    f"block attributes), or choose another {kind_of(process)}."
                )
    reaches = domain.reaches
    if "slope" in chain.reach.attributes.values() and reaches.length.any() and not reaches.slope.any():
        raise DomainError(
            f"{where + ': ' if where else ''}routing is '{chain.reach.name}' but 'reach_slope' [1] is missing in the "
            "domain, or 0 on every reach. Add it to the domain file, or choose another routing."
        )


def flood_waves(operator: ReachOperator, p: Parameters, flow: np.ndarray) -> tuple[np.ndarray, ...] | None:
    """See `Model.flood_waves`."""
    waves = operator.process.waves
    if waves is None:
        return None
    return tuple(Elementwise(f, operator.constants, np.float64)(p.symbols, {"flow": flow}) for f in waves)


def _mean_above(domain: Domain, per_reach: np.ndarray) -> np.ndarray:
    """Area-weighted mean over all reaches above, of the sum of `per_reach` along the path down to each reach's end."""
    reaches = domain.reaches
    path = accumulate_downstream(reaches.downstream, reaches.area)
    weighted = accumulate_downstream(reaches.downstream, per_reach * path)
    return weighted / np.where(path > 0, path, 1.0)


__all__ = ["ParameterSet", "Parameters"]
