"""What operators of the host and of a CUDA device share: parameters and what is prepared of them, inputs, states.

Where arrays lie and how a loop is run over them is the business of a `memory`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import is_
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.kernels.loops.plan import cell_plan
from bmi_cdlm.kernels.loops.prepared import Filler
from bmi_cdlm.names.declaration import LIQUID_WATER, CellProcess, ReachProcess
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.names.time_steps import DAY

Array = Any
"""An array of the host, or anything on a device."""
Arrays = Mapping[str, Array]
Group = Any
"""A named tuple of arrays."""


class Parameters(NamedTuple):
    """Parameters and what is prepared of them: every array by its symbol, and the group that kernels take.

    weights : float[component * cell], of components in what a cell gives; None where each weighs the same; starts : by
    store, the share with which it starts a run, where that is given.
    """

    symbols: dict[str, Array]
    group: Group
    weights: Array | None = None
    starts: Arrays = MappingProxyType({})


class Preparation:
    """Fills what is prepared of the parameters of a process, and carries adjoints back to the parameters.

    Parameters
    ----------
    process : CellProcess or ReachProcess
    constants : named tuple of numbers
    attributes : mapping of float[place]
        Of the domain, by the process's symbols.
    memory : HostMemory or DeviceMemory
    """

    def __init__(self, process: CellProcess | ReachProcess, constants: Group, attributes: Arrays, memory: Any) -> None:
        self.process, self.constants, self.attributes, self.memory = process, constants, attributes, memory
        self.names = {p.symbol: p.name for p in process.parameters}
        numbers = constants._fields
        self._fillers = [(one, memory.fill_loops(one, numbers, tuple(process.attributes))) for one in process.prepared]
        self._queues: dict[str, Filler] = {}
        if isinstance(process, CellProcess):
            self._queues = {name: memory.ordinate_loops(queue, numbers) for name, queue in process.queues.items()}
        self._given: set[str] = set()

    def fill(self, values: Arrays, places: Mapping[str, int] | None = None) -> dict[str, Array]:
        """Return every array by symbol: parameters as they are, prepared values, ordinates by name of the queue.

        places : least number of places of a queue; what its base needs where it is not named.
        """
        symbols = {s: self.memory.real(values[name]) for s, name in self.names.items() if name in values}
        symbols |= self.attributes
        given = [one for one, _ in self._fillers if one.given is not None and one.given in values]
        self._given = {symbol for one in given for symbol in one.returns}
        for one, filler in self._fillers:
            if one.given is not None and one.given in values:
                symbols[one.returns[0]] = self.memory.real(values[one.given])
                continue
            size = next((symbols[a].shape[0] for a in filler.takes), 0)
            symbols |= {s: self.memory.empty(size) for s in one.returns}
            self._refill(filler, symbols)
        for name in self._queues:
            symbols[name] = self._ordinates(name, symbols, (places or {}).get(name, 0))
        return symbols

    def refill(self, symbols: dict[str, Array], changed: str) -> None:
        """Fill again, in place, what depends on a parameter that was changed; queues are `fill`'s."""
        stale = {changed}
        for one, filler in self._fillers:
            if stale & set(filler.takes) and not set(one.returns) <= self._given:
                self._refill(filler, symbols)
                stale |= set(one.returns)

    def _refill(self, filler: Filler, symbols: Arrays) -> None:
        arguments, filled = [symbols[a] for a in filler.takes], [symbols[s] for s in filler.returns]
        self.memory.run(filler.fill, filled[0].shape[0], *arguments, self.constants, *filled)

    def _ordinates(self, name: str, symbols: Arrays, least: int) -> Array:
        queue, filler = self.process.queues[name], self._queues[name]  # type: ignore[union-attr]
        base = symbols[self._symbol(queue.base)]
        ordinates = self.memory.empty(self.memory.places(queue, base, least), base.shape[0])
        self.memory.run(filler.fill, base.shape[0], *self._of_curve(name, symbols), self.constants, ordinates)
        return ordinates

    def _symbol(self, name: str) -> str:
        return next(s for s, n in self.names.items() if n == name)

    def _of_curve(self, name: str, symbols: Arrays) -> list[Array]:
        """What the curve of a queue takes; its base is never below the smallest."""
        queue = self.process.queues[name]  # type: ignore[union-attr]
        base = self._symbol(queue.base)
        return [
            self.memory.at_least(symbols[a], queue.at_least) if a == base else symbols[a]
            for a in self._queues[name].takes
        ]

    def adjoint(self, symbols: Arrays, adjoints: Arrays) -> dict[str, Array]:
        """Adjoints of parameters by registry name, from those of symbols and of the ordinates of queues."""
        memory = self.memory
        total = {s: a for s, a in adjoints.items() if s not in self._queues}
        for name, filler in self._queues.items():
            arguments, seed = self._of_curve(name, symbols), memory.seed(adjoints[name])
            self._pull(filler, [*arguments, self.constants, seed], symbols, total)
        found: dict[str, Array] = {}
        for one, filler in reversed(self._fillers):
            if one.given is not None and one.returns[0] in total:
                found[one.given] = total[one.returns[0]]
            if not filler.active or not set(filler.seeds) & set(total) or set(one.returns) <= self._given:
                continue
            seeds = [
                memory.seed(total[s]) if s in total else memory.full(0.0, *symbols[s].shape) for s in filler.seeds
            ]
            self._pull(filler, [*(symbols[a] for a in filler.takes), self.constants, *seeds], symbols, total)
        return found | {name: total[s] for s, name in self.names.items() if s in total}

    def _pull(self, filler: Filler, arguments: Sequence[Any], symbols: Arrays, total: dict[str, Array]) -> None:
        """Run an adjoint loop, and add what it returns."""
        sums = [self.memory.full(0.0, *symbols[a].shape) for a in filler.active]
        self.memory.run(filler.adjoint, sums[0].shape[0], *arguments, *sums)
        for symbol, one in zip(filler.active, sums, strict=True):
            total[symbol] = self.memory.sum(total[symbol], one) if symbol in total else one


class PreparedCells:
    """A process of cells with what its kernels take: parameters, inputs, states.

    Parameters
    ----------
    process, domain, step, varying, components : see `CellOperator`
    memory : HostMemory or DeviceMemory
    """

    def __init__(
        self, process: CellProcess, domain: Domain, step: int, memory: Any, varying: Collection[str], components: int
    ) -> None:
        own = {p.name for p in process.parameters}
        self.plan = cell_plan(process, tuple(sorted(name for name in varying if name in own)))
        self.process, self.dtype, self.memory, self.components = process, memory.dtype, memory, components
        self.n_cells, self.n_units = domain.n_cells, domain.n_cells * components
        self.constants = self.plan.constant_group(*step_numbers(process, step, memory.dtype))
        attributes = {
            symbol: memory.send(np.tile(getattr(domain.cells, name), components))
            for symbol, name in process.attributes.items()
        }
        self.preparation = Preparation(process, self.constants, attributes, memory)
        self.gives = process.gives[0]
        self._input_names, self._input_group = self._names_of_inputs(), self.plan.input_group
        self._last_inputs: Group = (None,) * len(self._input_group._fields)

    def prepare(self, values: Arrays, places: Mapping[str, int] | None = None) -> Parameters:
        """Parameters as kernels take them, from arrays by registry name; places: see `Preparation.fill`."""
        symbols = self.preparation.fill(values, places)
        group = self.plan.parameter_group(*(symbols[s] for s in self.plan.parameter_group._fields))
        starts = {store: values[p.name] for store, p in self.process.starts.items() if p.name in values}
        return Parameters(symbols, group, values.get(WEIGHT) if self.is_weighted else None, starts)

    def prepare_adjoint(self, p: Parameters, p_adj: Group, start_adj: Group | None = None) -> dict[str, Array]:
        """Adjoints of parameters by registry name; start_adj: of the state, if that was `start`."""
        adjoints, of_starts = dict(p_adj._asdict()), {}
        for name, store in self.process.stores.items() if start_adj is not None else ():
            symbol = store.start_of
            if symbol is not None:
                own = getattr(start_adj, name)
                if name in p.starts:
                    of_starts[self.process.starts[name].name] = self.memory.product(own, p.symbols[symbol])
                owed = self._share(own, p, name)
                adjoints[symbol] = self.memory.sum(adjoints[symbol], owed) if symbol in adjoints else owed
        return self.preparation.adjoint(p.symbols, adjoints) | of_starts

    def _share(self, values: Array, p: Parameters, name: str) -> Array:
        """The share of values with which a store starts."""
        if name in p.starts:
            return self.memory.product(values, p.starts[name])
        return self.memory.scaled(values, self.process.stores[name].start)

    @property
    def is_weighted(self) -> bool:
        """Whether its components may have weights."""
        return self.components > 1 and self.plan.is_runoff

    def start(self, p: Parameters) -> Group:
        """The state of a cold start: stores at their customary fill or the one given, nothing on its way."""
        stores = {
            name: self.memory.full(store.start, self.n_units) if store.start_of is None
            else self._share(p.symbols[store.start_of], p, name)
            for name, store in self.process.stores.items()
        }
        return self.plan.state_group(**stores, **self._empty_queues(p))

    def empty_state(self, record: Any) -> Group:
        """Zeros in the shapes of the state of a record: the adjoint of an end that nobody reads."""
        stores = {name: self.memory.full(0.0, self.n_units) for name in self.process.stores}
        return self.plan.state_group(**stores, **self._empty_queues(record.parameters))

    def _empty_queues(self, p: Parameters) -> dict[str, Array]:
        return {name: self.memory.full(0.0, *p.symbols[name].shape) for name in self.process.queues}

    def inputs(self, series: Arrays) -> Group:
        """The group of inputs, from float[time, cell] by registry name."""
        found = [series[name] for name in self._input_names[LIQUID_WATER in series]]
        if not all(map(is_, found, self._last_inputs)):
            self._last_inputs = self._input_group._make(found)
        return self._last_inputs

    def _names_of_inputs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Registry names in the order of the group, where there is no snow and where there is."""
        names = self.plan.input_names | {"rain": self.process.enters}
        with_snow = tuple(names[symbol] for symbol in self.plan.input_group._fields)
        return tuple("precipitation" if name == LIQUID_WATER else name for name in with_snow), with_snow

    @property
    def taken(self) -> tuple[str, ...]:
        """Names of the series that it takes, among them what brings water into the cell, for the totals."""
        return tuple(dict.fromkeys([*self.plan.inputs.values(), *self.plan.varying, self.process.enters]))


def series_of(series: Arrays, name: str) -> Array:
    """An input by name; rain plus melt is precipitation where there is no snow."""
    return series["precipitation"] if name == LIQUID_WATER and name not in series else series[name]


def step_numbers(process: CellProcess, step: int, dtype: type[np.floating]) -> list[Any]:
    """Length of a model step [d], its inverse, and the constants of a process, as numbers of a precision."""
    return [dtype(step / DAY), dtype(DAY / step), *(dtype(by_step[step]) for by_step in process.constants.values())]
