"""The whole chain as a differentiable function of a generator's weights: attributes and forcing to discharge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Domain, take_reaches
from bmi_cdlm.domain.network import NONE, upstream_of
from bmi_cdlm.generator.generator import Inputs
from bmi_cdlm.kernels.loops.plan import places_of
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.declaration import RUNOFF
from bmi_cdlm.names.parameters import WEIGHT, Parameter, parameter
from cdlm_training.dataset import Dataset, Window
from cdlm_training.device import make_operators
from cdlm_training.generator import Generator
from cdlm_training.operators import Advance, Route

if TYPE_CHECKING:
    from bmi_cdlm.model.cell_operator import CellOperator
    from bmi_cdlm.model.operators_cuda import CudaCellOperator, CudaOperators


class Part(NamedTuple):
    """An independent piece of the domain: what drains through the lowest of some training gauges, or several such.

    gauges: places among the training gauges; reaches: of those gauges, in `domain`; cells, reach_places: places of
    its cells and reaches in the whole domain; stands_for: training gauges that each of its gauges stands for; workers:
    threads of the host.
    """

    domain: Domain
    operators: Operators | CudaOperators
    gauges: np.ndarray
    reaches: np.ndarray
    cells: np.ndarray
    reach_places: np.ndarray
    stands_for: float
    workers: Workers

    @property
    def work(self) -> int:
        """What it costs in reach-steps; a cell-step, with snow and its adjoint, costs about four."""
        return self.operators.n_sub * self.reach_places.size + 4 * self.cells.size


class Simulated(NamedTuple):
    """Discharge [time, gauge], runoff [time, cell] and PET factor [time, cell] (None without) of counted steps."""

    discharge: Tensor
    runoff: Tensor
    pet_factor: Tensor | None


def make_parts(
    dataset: Dataset, workers: Workers | None = None, drawn: np.ndarray | None = None
) -> list[Part]:
    """Cut the domain into independent parts: all that drains to training gauges, or to those of them that are drawn.

    workers : whoever hands them over closes them; drawn : int64[], places among the training gauges.
    """
    domain, config = dataset.domain, dataset.config
    workers = Workers(config.threads) if workers is None else workers
    chosen = np.arange(dataset.gauges.size) if drawn is None else np.sort(drawn)
    reach = domain.gauges.reach[dataset.gauges[chosen]]
    ranges = [upstream_of(domain.reaches.downstream, int(r)) for r in reach]
    lowest = [
        (lo, hi) for lo, hi in sorted(set(ranges))
        if not any(a <= lo and hi <= b and (a, b) != (lo, hi) for a, b in ranges)
    ]
    stands_for = dataset.gauges.size / chosen.size
    return [
        make_part(dataset, places, chosen[np.isin(reach, places)], workers, stands_for)
        for places in joined(domain, lowest)
    ]


def make_part(
    dataset: Dataset, places: np.ndarray, gauges: np.ndarray, workers: Workers, stands_for: float,
    more_cells: np.ndarray = NONE,
) -> Part:
    """The piece of the domain with some reaches, int64[] rising; gauges : of them, places among the training gauges;
    more_cells : int64[], cells that come along whether they drain to them or not."""
    run, config = dataset.run, dataset.config
    piece, cells = take_reaches(dataset.domain, places, more_cells=more_cells)
    varying = (*config.varying, *((FACTOR,) if config.pet_factor else ()))
    operators = make_operators(run, piece, config.dtype, config.device, workers, varying, dataset.domain)
    at = np.searchsorted(places, dataset.domain.gauges.reach[dataset.gauges[gauges]])
    return Part(piece, operators, gauges, at, cells, places, stands_for, workers)


def make_beyond(dataset: Dataset, workers: Workers, parts: Sequence[Part]) -> Part | None:
    """The cells that drain past all of some parts, without rivers and gauges: only maps tell of them; None without any.

    Of a cell that some part has a share of, the rest of its area counts.
    """
    cells = dataset.domain.cells
    left = cells.drained_area.copy()
    for part in parts:
        left[part.cells] -= part.domain.cells.drained_area
    chosen = np.flatnonzero(left > NEGLIGIBLE * cells.drained_area)
    if not chosen.size:
        return None
    part = make_part(dataset, NONE, NONE, workers, 1.0, chosen)
    own = part.domain.cells._replace(drained_area=left[chosen])
    return part._replace(domain=part.domain._replace(cells=own))


NEGLIGIBLE = 1e-6
"""Share of a cell's area that rounding may leave."""
MANY_PARTS, ENOUGH_CELLS = 16, 64
"""Of more parts than that, neighbours are joined until each has so many cells: a part by itself costs milliseconds."""


def joined(domain: Domain, ranges: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Reaches of every part, int64[] rising: a range each, or several together where there are many small ones."""
    first, enough = domain.links.first, ENOUGH_CELLS if len(ranges) > MANY_PARTS else 1
    groups: list[list[np.ndarray]] = [[]]
    cells = 0
    for lo, hi in ranges:
        if cells >= enough:
            groups.append([])
            cells = 0
        groups[-1].append(np.arange(lo, hi))
        cells += max(1, int(np.unique(domain.links.cell[first[lo] : first[hi]]).size))
    return [np.concatenate(group) for group in groups if group]


class Chain:
    """Runs a generator's parameters through the model for one part and window, on the device of its weights."""

    def __init__(
        self, dataset: Dataset, generator: Generator, attributes: Inputs, of_lstm: np.ndarray | None = None
    ) -> None:
        self.dataset, self.generator, self.attributes, self.of_lstm = dataset, generator, attributes, of_lstm
        self.device = next(generator.parameters()).device
        self._placed: dict[int, tuple[Part, dict[str, Tensor]]] = {}
        self._whole: dict[str, Tensor] = {}
        self.day_of_year = torch.from_numpy(dataset.day_of_year).to(self.device)
        self.dtype = torch.float32 if dataset.config.precision == "float32" else torch.float64
        self.places = {
            name: places_of(queue, self._longest(queue.base))
            for process in dataset.run.chain.cells for name, queue in process.queues.items()
        }

    def _longest(self, name: str) -> float:
        """The largest value that a parameter of cells may get."""
        generated = [t.high for t in self.generator.spec.cell.targets if t.name == name]
        return generated[0] if generated else self._default(name)

    def __call__(self, part: Part, window: Window, *, spends: bool = False) -> Simulated:
        """Simulate; only the counted steps are returned.

        spends : a gradient is asked for once at most, of discharge and the PET factor alone: that of runoff takes its
        place.
        """
        runoff, factor = self.runoff(part, window)
        warm_up = window.steps.shape[0] - window.counted
        discharge, counted = self._route(part, runoff, warm_up, spends), slice(warm_up, None)
        return Simulated(discharge, runoff[counted], None if factor is None else factor[counted])

    def runoff(self, part: Part, window: Window) -> tuple[Tensor, Tensor | None]:
        """Runoff of cells and the PET factor (None without), [time, cell], of all steps of a window."""
        steps = torch.from_numpy(window.steps).to(self.device)
        inputs = self._inputs(part, window.run_of_record or steps)
        p = self._cell_parameters(part)
        factor = None
        if self.generator.spec.pet is not None:
            factor = self.generator.pet_factor(
                inputs["precipitation"], inputs["potential_evapotranspiration"], inputs.get("air_temperature"),
                self.day_of_year[steps], self.attributes.pet[part.cells], part.workers,
            )
            assert any(FACTOR in operator.taken for operator in part.operators.cells), "made without a PET factor"
            inputs[FACTOR] = factor
        if self.generator.lstm is not None:
            assert self.of_lstm is not None, "made without the attributes of the LSTM"
            varying = self.generator.varying(inputs, self.of_lstm[part.cells])
            inputs |= varying
            p = {name: value for name, value in p.items() if name not in varying}
        for operator in part.operators.cells:  # snow, runoff
            inputs[operator.gives] = self._advance(operator, inputs, p)
        return inputs[RUNOFF], factor

    def _inputs(self, part: Part, steps: Tensor | slice) -> dict[str, Tensor]:
        """Forcing of a part at some steps, a view where they follow each other.

        A part that stays is placed where it is first run, by its process alone. Parts that are drawn anew for every
        update are taken out of the whole domain's forcing on the device.
        """
        forcing = self.dataset.forcing
        if self.dataset.config.draws_parts:
            if not self._whole:
                self._whole = {name: torch.from_numpy(values).to(self.device) for name, values in forcing.items()}
            cells = torch.from_numpy(part.cells).to(self.device)
            if isinstance(steps, slice):
                return {name: values[steps][:, cells] for name, values in self._whole.items()}
            rows = steps if steps.ndim > 1 else steps[:, None]
            return {name: values[rows, cells] for name, values in self._whole.items()}
        if id(part.cells) not in self._placed:
            own = {
                name: torch.from_numpy(np.ascontiguousarray(values[:, part.cells])).to(self.device)
                for name, values in forcing.items()
            }
            self._placed[id(part.cells)] = part, own
        placed = self._placed[id(part.cells)][1]
        return {name: values[steps] for name, values in placed.items()}

    def _advance(
        self, operator: CellOperator | CudaCellOperator, inputs: dict[str, Tensor], p: dict[str, Tensor]
    ) -> Tensor:
        """What a process of cells gives."""
        series = tuple(name for name in operator.taken if name in inputs)
        process = operator.process
        names = tuple(one.name for one in (*process.parameters, *process.starts.values()) if one.name in p)
        names += (WEIGHT,) if operator.is_weighted and WEIGHT in p else ()
        return Advance.apply(operator, self.places, series, names, *(inputs[n] for n in series), *(p[n] for n in names))

    def _route(self, part: Part, runoff: Tensor, warm_up: int, spends: bool) -> Tensor:
        if not part.gauges.size:
            return runoff.new_empty((runoff.shape[0] - warm_up, 0))
        generated = self.generator.reach_parameters(self.attributes.reach[part.reach_places])
        reach = part.operators.chain.reach
        p = self._filled(reach.parameters, generated, (part.reach_places.size,), part.reach_places)
        return Route.apply(part.operators.reach, part.reaches, warm_up, spends, tuple(p), runoff, *p.values())

    def _filled(
        self, parameters: Sequence[Parameter], generated: dict[str, Tensor], shape: tuple[int, ...], places: np.ndarray
    ) -> dict[str, Tensor]:
        """Generated parameters, and those of the domain or the defaults of the others; places : in the whole domain."""
        found = {}
        for p in parameters:
            if p.name in generated:
                found[p.name] = generated[p.name]
            elif p.name in self.dataset.of_domain:
                own = torch.from_numpy(self.dataset.of_domain[p.name][places])
                found[p.name] = own.to(dtype=self.dtype, device=self.device).expand(shape).contiguous()
            elif not p.optional:
                found[p.name] = torch.full(shape, self._default(p.name), dtype=self.dtype, device=self.device)
        return found

    def _cell_parameters(self, part: Part) -> dict[str, Tensor]:
        """Parameters of all processes of cells, [cell] or [component, cell]."""
        generated = self.generator.cell_parameters(self.attributes.cell[part.cells])
        found: dict[str, Tensor] = {}
        for operator in part.operators.cells:
            shape = (part.cells.size,) if operator.components == 1 else (operator.components, part.cells.size)
            found |= self._filled(operator.process.parameters, generated, shape, part.cells)
            found |= {p.name: generated[p.name] for p in operator.process.starts.values() if p.name in generated}
        return found | ({WEIGHT: generated[WEIGHT]} if WEIGHT in generated else {})

    def _default(self, name: str) -> float:
        return parameter(name).range_at(self.dataset.run.time_step).default
