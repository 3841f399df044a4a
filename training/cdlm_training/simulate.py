"""The whole chain as a differentiable function of a generator's weights: attributes and forcing to discharge."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain import Domain, cut
from bmi_cdlm.generator import Inputs
from bmi_cdlm.model import COVER_SHARE, INITIAL_PRODUCTION_FILL, INITIAL_ROUTING_FILL
from bmi_cdlm.network import upstream_of
from bmi_cdlm.operators import Operators
from bmi_cdlm.parameters import PARAMETERS, parameter
from cdlm_training.dataset import Dataset, Window
from cdlm_training.generator import Generator
from cdlm_training.operators import Melt, Route, Runoff


class Part(NamedTuple):
    """An independent piece of the domain: what drains through the lowest of some training gauges.

    gauges: places among the training gauges; reaches: of those gauges, in `domain`; cells, reach_places: places of
    its cells and reaches in the whole domain.
    """

    domain: Domain
    operators: Operators
    gauges: np.ndarray
    reaches: np.ndarray
    cells: np.ndarray
    reach_places: np.ndarray


class Simulated(NamedTuple):
    """Discharge [time, gauge], runoff [time, cell] and PET factor [time, cell] (None without) of counted steps."""

    discharge: Tensor
    runoff: Tensor
    pet_factor: Tensor | None


def make_parts(dataset: Dataset) -> list[Part]:
    """Cut the domain into independent parts that end at a training gauge."""
    domain, run, config = dataset.domain, dataset.run, dataset.config
    reach = domain.gauges.reach[dataset.gauges]
    ranges = [upstream_of(domain.reaches.downstream, int(r)) for r in reach]
    parts = []
    for lo, hi in sorted(set(ranges)):
        if any(a <= lo and hi <= b and (a, b) != (lo, hi) for a, b in ranges):
            continue
        piece, cells, places = cut(domain, hi - 1)
        inside = np.flatnonzero((reach >= lo) & (reach < hi))
        operators = Operators(piece, run.time_step, run.routing_step, config.dtype, config.threads)
        parts.append(Part(piece, operators, inside, reach[inside] - lo, cells, places))
    return parts


class Chain:
    """Runs a generator's parameters through the model for one part and window."""

    def __init__(self, dataset: Dataset, generator: Generator, attributes: Inputs) -> None:
        self.dataset, self.generator, self.attributes = dataset, generator, attributes
        self.dtype = torch.float32 if dataset.config.precision == "float32" else torch.float64
        longest = [t.high for t in generator.spec.cell.targets if t.name == "unit_hydrograph_base"]
        base = longest[0] if longest else self._default("unit_hydrograph_base")
        self.n_places = max(1, math.ceil(base)), max(1, math.ceil(2 * base))

    def __call__(self, part: Part, window: Window) -> Simulated:
        """Simulate; only the counted steps are returned."""
        inputs = {
            name: torch.from_numpy(np.ascontiguousarray(values[np.ix_(window.steps, part.cells)]))
            for name, values in self.dataset.forcing.items()
        }
        p = self._filled(self.generator.cell_parameters(self.attributes.cell[part.cells]), "cell", part.cells.size)
        demand = inputs["potential_evapotranspiration"]
        factor = None
        if self.generator.spec.pet is not None:
            factor = self.generator.pet_factor(
                inputs["precipitation"], demand, inputs.get("air_temperature"),
                torch.from_numpy(self.dataset.day_of_year[window.steps]), self.attributes.pet[part.cells],
            )
            demand = demand * factor
        liquid = self._melt(part, inputs, p)
        runoff = Runoff.apply(
            part.operators, self.n_places, liquid, demand, p["production_capacity"], p["exchange_coefficient"],
            p["routing_capacity"], p["unit_hydrograph_base"], INITIAL_PRODUCTION_FILL * p["production_capacity"],
            INITIAL_ROUTING_FILL * p["routing_capacity"],
        )
        discharge = self._route(part, runoff)
        counted = slice(window.steps.size - window.counted, None)
        return Simulated(discharge[counted], runoff[counted], None if factor is None else factor[counted])

    def _melt(self, part: Part, inputs: dict[str, Tensor], p: dict[str, Tensor]) -> Tensor:
        snow = self.dataset.run.snow
        if snow == "none":
            return inputs["precipitation"]
        snowfall = torch.from_numpy(part.domain.cells.mean_annual_snowfall).to(self.dtype)
        hysteresis = snow == "cemaneige_hysteresis"
        share = p["cover_ratio_threshold"] if hysteresis else COVER_SHARE
        return Melt.apply(
            part.operators, hysteresis, inputs["precipitation"], inputs["air_temperature"], p["thermal_weighting"],
            p["melt_factor"], p["accumulation_threshold"], share * snowfall,
        )

    def _route(self, part: Part, runoff: Tensor) -> Tensor:
        generated = self.generator.reach_parameters(self.attributes.reach[part.reach_places])
        p = self._filled(generated, "reach", part.reach_places.size)
        length = torch.from_numpy(part.domain.reaches.length).to(self.dtype)
        return Route.apply(part.operators, part.reaches, runoff, length / p["celerity"], p["weighting"])

    def _filled(self, generated: dict[str, Tensor], grid: str, n: int) -> dict[str, Tensor]:
        """Generated parameters, and the defaults of those that are not."""
        return {
            p.name: generated.get(p.name, torch.full((n,), self._default(p.name), dtype=self.dtype))
            for p in PARAMETERS if p.grid == grid
        }

    def _default(self, name: str) -> float:
        return parameter(name).range_at(self.dataset.run.time_step).default
