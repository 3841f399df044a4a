"""Labels of the model on every cell by itself, against a gridded runoff product; nothing is routed.

All cells are run together, and each takes steps of its own: Rprop moves every value by the sign of its slope alone, so
that no cell waits for another, as it would in a line search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.metrics import kge
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.run.config import Config
from cdlm_training.config import TrainConfig
from cdlm_training.dataset import with_warm_up
from cdlm_training.device import make_operators
from cdlm_training.fields import Fields, places
from cdlm_training.labels.fitted import columns_of, values_of
from cdlm_training.labels.months import Months
from cdlm_training.labels.offline import FEWEST, FITTED, known_range
from cdlm_training.labels.store import CAPACITIES, LabelSet, chosen
from cdlm_training.simulate import Chain, Part

STEPS = 80
"""Of Rprop, per restart."""
FIRST_STEP, LARGEST_STEP = 0.1, 1.0
"""Of a parameter on the scale without bounds."""


class Weather(NamedTuple):
    """What the chain reads of a data set, where there are no gauges."""

    run: Config
    config: TrainConfig
    forcing: Mapping[str, np.ndarray]
    day_of_year: np.ndarray
    of_domain: Mapping[str, np.ndarray]


class CellFits:
    """Fits of the model to monthly runoff of every cell: 1 - NSE of the first three quarters of the months.

    Parameters
    ----------
    spec : GeneratorSpec
        Its targets say what is fitted; one parameter set per cell.
    weather : Weather
        In float64.
    domain : Domain
    months : Months
        Of the period, by steps of the weather.
    runoff : float64[month, cell]
        [mm per month], NaN where it is not known.
    """

    def __init__(
        self, spec: GeneratorSpec, weather: Weather, domain: Domain, months: Months, runoff: np.ndarray
    ) -> None:
        config = weather.config
        self.spec, self.domain, self.months, self.runoff, self.seed = spec, domain, months, runoff, config.seed
        self.fields = Fields(spec, domain.n_cells, domain.n_reaches)
        self.chain = Chain(weather, self.fields, places(domain))  # type: ignore[arg-type]
        self.workers = Workers(config.threads)
        nothing = np.zeros(0, np.int64)
        self.part = Part(
            domain, make_operators(weather.run, domain, np.float64, "cpu", self.workers), nothing, nothing,
            np.arange(domain.n_cells), np.arange(domain.n_reaches), 1.0, self.workers,
        )
        first, stop = int(months.first[0]), int(months.stop[-1])
        self.window = with_warm_up(weather.run, first, stop - first, config.warm_up)
        self.n_fitted = int(FITTED * months.number.size)

    def run(self, restarts: int, tell: Callable[[str], None]) -> LabelSet:
        """Fit all cells; tell takes a line of progress."""
        columns, n = columns_of(self.spec, reaches=False), self.domain.n_cells
        known = ~np.isnan(self.runoff[: self.n_fitted])
        usable = (known.sum(axis=0) >= FEWEST) & (known_range(self.runoff[: self.n_fitted]) > 0)
        tries, cost = np.full((restarts, len(columns), n), np.nan), np.full((restarts, n), np.inf)
        try:
            for k in range(restarts):
                free, found = self._fit(None if k == 0 else self.seed + 1000 * k)
                tries[k, :, usable] = values_of(columns, free[usable].T).T
                cost[k, usable] = found[usable]
                skill = f"median NSE {1 - np.median(found[usable]):.3f}" if usable.any() else "nothing to fit"
                tell(f"{k + 1} of {restarts}: {skill} over {usable.sum()} cells")
            values, spread = chosen(columns, tries, cost)
            skills = self._skill(tries, cost, usable)
        finally:
            self.workers.close()
        name = self.chain.dataset.run.runoff
        skills["n_values"] = known.sum(axis=0).astype(np.float64)
        return LabelSet(name, columns, CAPACITIES.get(name), values, spread, skills,
                        f"{name} fitted by Rprop to 1 - NSE of monthly runoff")

    def _fit(self, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The best z of every cell, float64[cell, parameter], and its cost, float64[cell]."""
        fresh = Fields(self.spec, self.domain.n_cells, self.domain.n_reaches)
        if seed is not None:
            fresh.scatter(seed)
        self.fields.load_state_dict(fresh.state_dict())
        z = self.fields.cell.each[-1].bias
        optimizer = torch.optim.Rprop([z], lr=FIRST_STEP, step_sizes=(1e-4, LARGEST_STEP))
        best, least = z.detach().clone(), torch.full((self.domain.n_cells,), torch.inf, dtype=torch.float64)
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            cost = self._cost(self._monthly())
            cost.sum().backward()
            better = cost.detach() < least
            best[better], least[better] = z.detach()[better], cost.detach()[better]
            optimizer.step()
        return best.numpy(), least.numpy()

    def _monthly(self) -> Tensor:
        """Simulated runoff [mm per month], [month, cell]."""
        rate = self.chain.runoff(self.part, self.window)[0][-self.window.counted :]
        offset, rows = self.months.first[0], []
        for lo, hi, days in zip(self.months.first - offset, self.months.stop - offset, self.months.days, strict=True):
            rows.append(rate[lo:hi].mean(dim=0) * days)
        return torch.stack(rows)

    def _cost(self, simulated: Tensor) -> Tensor:
        """1 - NSE of every cell over the months that are fitted, 0 where none is known, [cell]."""
        observed = torch.from_numpy(self.runoff[: self.n_fitted])
        known = ~torch.isnan(observed)
        count = known.sum(dim=0).clamp(min=1)
        target = torch.nan_to_num(observed)
        variance = torch.where(known, (target - target.sum(dim=0) / count) ** 2, 0.0).sum(dim=0)
        error = torch.where(known, simulated[: self.n_fitted] - target, 0.0)
        return (error**2).sum(dim=0) / torch.where(variance > 0, variance, torch.inf)

    def _skill(self, tries: np.ndarray, cost: np.ndarray, usable: np.ndarray) -> dict[str, np.ndarray]:
        """KGE of the best fit of each cell, in what was fitted and after it."""
        best = cost.argmin(axis=0)
        values = tries[best, :, np.arange(usable.size)]
        names = [t.name for t in self.spec.cell.targets]
        start = {t.name: t.default for t in self.spec.cell.targets}
        self.fields.take({
            name: np.where(usable, values[:, k], start[name]) for k, name in enumerate(names)
        })
        with torch.no_grad():
            simulated = self._monthly().numpy()
        skill = {"kge": np.full(usable.size, np.nan), "kge_fitted": np.full(usable.size, np.nan)}
        for cell in np.flatnonzero(usable):
            for name, rows in (("kge_fitted", slice(None, self.n_fitted)), ("kge", slice(self.n_fitted, None))):
                skill[name][cell] = kge(simulated[rows, cell], self.runoff[rows, cell])
        return skill
