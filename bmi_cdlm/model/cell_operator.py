"""A process of cells over a period, forward and adjoint, on the kernels that the model steps."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.kernels.again import Again
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.cells_adjoint import cell_adjoint_loops
from bmi_cdlm.kernels.loops.components import (
    gather_components,
    spread_components,
    weigh_components,
    weigh_components_adjoint,
)
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.blocks import add_to, blocks_of, copy_group, is_narrow, steps_of
from bmi_cdlm.model.memory import HostMemory
from bmi_cdlm.model.preparation import Arrays, Group, Parameters, PreparedCells, series_of
from bmi_cdlm.names.declaration import CellProcess
from bmi_cdlm.names.parameters import WEIGHT

BLOCK_STEPS = 64


class CellRecord(NamedTuple):
    """What the adjoint of a cell process needs."""

    inputs: dict[str, np.ndarray]
    parameters: Parameters
    starts: list[Group]


class CellOperator(PreparedCells):
    """A process of cells at a model step and one precision.

    Parameters
    ----------
    process : CellProcess
    domain : Domain
    step : int
        Model step [s].
    dtype : float64 or float32
    workers : Workers
    varying : names of parameters that come as [time, cell]
    components : int
        Parameter sets per cell; arrays of parameters, states and totals are then [component * cell], and what is given
        is the mean of the components, by weights where the parameters have them.
    narrow : bool, optional
        Whether to take the loops that are compiled sooner; by the number of cells where None.
    """

    on_device = False

    def __init__(
        self, process: CellProcess, domain: Domain, step: int, dtype: type[np.floating], workers: Workers,
        varying: Collection[str] = (), components: int = 1, narrow: bool | None = None,
    ) -> None:
        super().__init__(process, domain, step, HostMemory(dtype), varying, components)
        self.workers = workers
        loops = cell_loops(self.plan)
        narrow = is_narrow(domain.n_cells) if narrow is None else narrow
        self._forward = compiled(loops.advance, dtype)
        self._telling = compiled(loops.narrow, dtype) if narrow else self._forward
        self._step_telling = Again(self._telling)
        self._backward: Any = None
        self._no_totals = self.plan.total_group(*(None for _ in self.plan.totals)) if self.plan.totals else None
        n, parts = self.n_cells, workers.tasks(self.n_cells)
        self._tasks = [(c * n + lo, c * n + hi, c * n) for c in range(components) for lo, hi in parts]
        self._alone = [(c * n, c * n + n, c * n) for c in range(components) if n]

    def advance(
        self, series: Arrays, p: Parameters, state: Group, out: np.ndarray, totals: Group | None = None,
        fluxes: Group | None = None,
    ) -> None:
        """Advance over all steps of the series: state and totals in place, `out` [mm d-1] and fluxes filled."""
        telling = self._forward if fluxes is None else self._telling
        if self.components == 1:
            loop = self._step_telling if fluxes is not None and out.shape[0] == 1 else telling
            self._run(loop, series, (
                p.group, state, self._no_totals if totals is None else totals, fluxes, out, self.constants,
            ), out.size)
            return
        whole, kept = np.empty((out.shape[0], self.n_units), self.dtype), fluxes
        if fluxes is not None:
            kept = type(fluxes)(*(np.empty((a.shape[0], self.n_units), self.dtype) for a in fluxes))
        self._run(telling, series, (
            p.group, state, self._no_totals if totals is None else totals, kept, whole, self.constants,
        ), whole.size)
        self._gather(whole, p.weights, out)
        for units, cells in zip(kept or (), fluxes or (), strict=True):
            self._gather(units, p.weights, cells)

    def _run(self, loop: Any, series: Arrays, arguments: tuple, size: int) -> None:
        """Run a loop over all cells of all components.

        A parameter that varies may come as [time, cell], for all components, or as [component, time, cell].
        """
        # One of several threads that has the domain to itself takes it whole: rows are long then.
        all_tasks = self._alone if self.workers.threads > 1 and self.workers.is_alone else self._tasks
        varying = self.plan.varying
        by_component = [name for name in varying if series[name].ndim == 3] if varying else None
        if not by_component:
            self.workers.run(loop, (self.inputs(series), *arguments), all_tasks, size)
            return
        for c in range(self.components):
            tasks = [task for task in all_tasks if task[2] == c * self.n_cells]
            own = self.inputs({**series, **{name: series[name][c] for name in by_component}})
            self.workers.run(loop, (own, *arguments), tasks, size // self.components)

    def _gather(self, units: np.ndarray, weights: np.ndarray | None, cells: np.ndarray) -> None:
        """The mean over components."""
        if weights is None:
            compiled(gather_components, self.dtype)(units, self.dtype(1.0 / self.components), cells)
        else:
            compiled(weigh_components, self.dtype)(units, weights, cells)

    def run(self, series: Arrays, p: Parameters, state: Group) -> tuple[np.ndarray, CellRecord]:
        """What the process gives over a period, [time, cell], and what its adjoint needs; `state` in place."""
        n_steps = series[self.process.enters].shape[0]
        out, starts = np.empty((n_steps, self.n_cells), self.dtype), []
        taken = {name: series_of(series, name) for name in self.taken}
        for block in blocks_of(n_steps, BLOCK_STEPS):
            starts.append(copy_group(state))
            self.advance(steps_of(taken, block), p, state, out[block])
        return out, CellRecord(taken, p, starts)

    def reverse(
        self, record: CellRecord, out_adj: np.ndarray, state_adj: Group, wanted: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], Group]:
        """Adjoints of inputs and varying parameters by registry name, float[time, cell], and of `plan.adjoint_group`.

        A parameter that came as [component, time, cell] has its adjoint so. With the inputs, that of the weights of
        components, float64[component * cell], where there are any; what each component gave is then computed once more.
        `state_adj` goes from the end to the start. wanted : names of inputs that are wanted; all where None, and none
        where it is empty. Adjoints of parameters are summed in float64.
        """
        if self._backward is None:
            self._backward = cell_adjoint_loops(self.plan)
        plan, n_steps = self.plan, out_adj.shape[0]
        sizes = {s: record.parameters.symbols[s].shape for s in plan.adjoint_group._fields}
        total = plan.adjoint_group(*(np.zeros(shape) for shape in sizes.values()))
        weights, weights_adj = record.parameters.weights, np.zeros(self.n_units)
        if weights is not None:
            units_adj = np.empty((n_steps, self.n_units), self.dtype)
        else:
            units_adj = np.ascontiguousarray(out_adj) if self.components == 1 else np.tile(
                out_adj / self.dtype(self.components), (1, self.components)
            )
        blocks = blocks_of(n_steps, BLOCK_STEPS)
        ignored = wanted is not None and not wanted  # then those of one block are written over, block by block
        length = n_steps if not ignored else max((block.stop - block.start for block in blocks), default=0)
        inputs_adj = plan.input_adjoint_group(
            *(np.empty((length, self.n_units), self.dtype) for _ in plan.input_adjoint_group._fields)
        )
        for block, start in zip(reversed(blocks), reversed(record.starts), strict=True):
            p_adj = plan.adjoint_group(*(np.zeros(shape, self.dtype) for shape in sizes.values()))
            if weights is not None:
                compiled(weigh_components_adjoint, self.dtype)(
                    self._units(record, block, start), weights, np.ascontiguousarray(out_adj[block]), units_adj[block],
                    weights_adj,
                )
            self._run(compiled(self._backward.reverse, self.dtype), steps_of(record.inputs, block), (
                record.parameters.group, start, self.constants, units_adj[block], state_adj, p_adj,
                type(inputs_adj)(*(a[: block.stop - block.start] if ignored else a[block] for a in inputs_adj)),
            ), units_adj[block].size)
            add_to(total, p_adj)
        found = {} if ignored else self._input_adjoints(record, inputs_adj, wanted)
        return found | ({} if weights is None else {WEIGHT: weights_adj}), total

    def _units(self, record: CellRecord, block: slice, start: Group) -> np.ndarray:
        """What every component gave in a block of a record, [time, component * cell]."""
        units = np.empty((block.stop - block.start, self.n_units), self.dtype)
        self._run(self._forward, steps_of(record.inputs, block), (
            record.parameters.group, copy_group(start), self._no_totals, None, units, self.constants,
        ), units.size)
        return units

    def _input_adjoints(
        self, record: CellRecord, inputs_adj: Group, wanted: Collection[str] | None
    ) -> dict[str, np.ndarray]:
        plan, names = self.plan, self.plan.input_names
        found = {
            symbol: self._by_component(a) if record.inputs[names[symbol]].ndim == 3 else self._sum_components(a)
            for symbol, a in inputs_adj._asdict().items()
        }
        for a, b in plan.negated().items():
            if wanted is None or names[a] in wanted or a in plan.factors:
                found[a] = -found[b]
        for symbol, factor in plan.factors.items():
            product_adj, name = found[symbol], names[factor]
            found[factor] = product_adj * record.inputs[names[symbol]]
            found[symbol] = product_adj * record.inputs[name]
        return {names[s]: a for s, a in found.items()}

    def _by_component(self, units: np.ndarray) -> np.ndarray:
        """Units [time, component * cell] as [component, time, cell]."""
        return np.ascontiguousarray(units.reshape(units.shape[0], self.components, -1).swapaxes(0, 1))

    def _sum_components(self, units: np.ndarray) -> np.ndarray:
        if self.components == 1:
            return units
        cells = np.empty((units.shape[0], self.n_cells), self.dtype)
        compiled(spread_components, self.dtype)(units, cells)
        return cells
