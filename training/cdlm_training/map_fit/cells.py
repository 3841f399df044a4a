"""Cells fitted each by itself: two parameters to two signatures of its runoff, by Levenberg and Marquardt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Domain, take_reaches
from bmi_cdlm.generator.specification import Target
from bmi_cdlm.kernels.loops.plan import places_of
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.names.declaration import RUNOFF
from bmi_cdlm.run.config import Config
from cdlm_training.generator import within
from cdlm_training.loss import baseflow_indices, mean_depths
from cdlm_training.operators import Advance

DEMAND = "potential_evapotranspiration"
CLOSE = 1e-4
"""Errors below which a cell is left as it is: of runoff relative, of the index absolute."""
FARTHEST_STEP = 2.0
"""Of a step, before bounds."""
FIRST_DAMPING, EASED, STIFFENED, LAST_DAMPING = 1e-2, 0.2, 6.0, 1e6
SHRINK = 0.6
"""Share of the cells that still move, below which the others are left out of the arrays."""
NO_REACHES = np.empty(0, np.int64)


class Aim(NamedTuple):
    """What cells are to come to, float64[cell]: mean runoff [mm yr-1] and baseflow index [1], by an interval [d]; the
    weight of the index, and of the distance to the prior; first : steps that do not count; per_day : steps of a day."""

    runoff: np.ndarray
    baseflow: np.ndarray
    window: int
    weight: float
    prior: float
    first: int
    per_day: int = 1


class Found(NamedTuple):
    """What cells came to: z float64[2, cell]; mean runoff [mm yr-1] and index [1], float64[cell]; steps taken."""

    z: np.ndarray
    runoff: np.ndarray
    baseflow: np.ndarray
    steps: int


class CellModel:
    """The processes of some cells over a period, as a function of two parameters of each.

    Parameters
    ----------
    run : Config
    domain : Domain
        Whole.
    cells : int64[]
        Places of the cells.
    forcing : float64[time, cell] by input name
    prior : float64[cell] by registry name
    free : volume and storage
    workers : Workers
    n_settled : int
        Processes, of the first, that a larger model has run: what they give is in the forcing.
    """

    def __init__(
        self, run: Config, domain: Domain, cells: np.ndarray, forcing: Mapping[str, np.ndarray],
        prior: Mapping[str, np.ndarray], free: Sequence[Target], workers: Workers, n_settled: int = 0,
    ) -> None:
        self.run, self.free, self._n_settled = run, tuple(free), n_settled
        self._domain, self._workers, self._whole = domain, workers, cells
        self.inputs = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in forcing.items()}
        self.prior = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in prior.items()}
        part, _ = take_reaches(domain, NO_REACHES, more_cells=cells)
        self.operators = [
            CellOperator(p, part, run.time_step, np.float64, workers) for p in run.chain.cells[n_settled:]
        ]
        longest = {t.name: t.high for t in free}
        self.places = {
            name: places_of(queue, longest.get(queue.base, float(prior[queue.base].max())))
            for p in run.chain.cells for name, queue in p.queues.items()
        }
        self._settle()
        read = {name for operator in self.operators for name in operator.taken}
        self.inputs = {name: values for name, values in self.inputs.items() if name in read}

    def take(self, places: np.ndarray) -> CellModel:
        """The same of some of its cells."""
        inputs = {name: values[:, places].numpy() for name, values in self.inputs.items()}
        prior = {name: values[places].numpy() for name, values in self.prior.items()}
        return CellModel(
            self.run, self._domain, self._whole[places], inputs, prior, self.free, self._workers, self._n_settled
        )

    def runoff(self, z: Tensor) -> Tensor:
        """Runoff [mm d-1], [time, cell], of z, [2, cell]."""
        p = {**self.prior, **{t.name: within(t, own) for t, own in zip(self.free, z, strict=True)}}
        inputs = dict(self.inputs)
        if FACTOR in p:
            inputs[DEMAND] = inputs[DEMAND] * p.pop(FACTOR)
        for operator in self.operators:
            inputs[operator.gives] = self._advance(operator, inputs, p)
        return inputs[RUNOFF]

    def _advance(self, operator: CellOperator, inputs: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        series = tuple(name for name in operator.taken if name in inputs)
        names = tuple(one.name for one in operator.process.parameters if one.name in p)
        return Advance.apply(operator, self.places, series, names, *(inputs[n] for n in series), *(p[n] for n in names))

    def _settle(self) -> None:
        """Run the processes before those that a free parameter changes once for all."""
        while len(self.operators) > 1:
            first = self.operators[0]
            read = {*first.taken, *(p.name for p in first.process.parameters)}
            if read & {t.name for t in self.free} or (DEMAND in read and FACTOR in {t.name for t in self.free}):
                return
            self.inputs[first.gives] = self._advance(first, self.inputs, self.prior)
            self.operators, self._n_settled = self.operators[1:], self._n_settled + 1


def residuals(model: CellModel, z: np.ndarray, aim: Aim) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors [2, cell], their slopes [error, parameter, cell], and what the cells come to, [2, cell].

    Runoff over that of the map less 1, and the baseflow index less that of the map, times the root of its weight.
    """
    free = torch.from_numpy(z).requires_grad_(True)
    runoff = model.runoff(free)[aim.first :]
    days = runoff.reshape(-1, aim.per_day, z.shape[1]).mean(dim=1) if aim.per_day > 1 else runoff
    depth, index = mean_depths(runoff), baseflow_indices(days, aim.window)
    errors = torch.stack([
        depth / torch.from_numpy(aim.runoff) - 1.0, aim.weight**0.5 * (index - torch.from_numpy(aim.baseflow))
    ])
    slopes = [torch.autograd.grad(one.sum(), free, retain_graph=k == 0)[0] for k, one in enumerate(errors)]
    came = torch.stack([depth, index]).detach().numpy()
    return errors.detach().numpy(), torch.stack(slopes).numpy(), came


def fit_cells(model: CellModel, start: np.ndarray, aim: Aim, iterations: int) -> Found:
    """Fit every cell from `start`, z float64[2, cell], which is the prior too.

    The sum of squares of both errors and of the distance to the prior, each cell with a damping of its own; a step that
    makes it larger is not taken.
    """
    z, n = start.copy(), start.shape[1]
    came = np.empty((2, n))
    errors, slopes, came[:] = residuals(model, z, aim)
    cost = _cost(errors, z, start, aim)
    damping = np.full(n, FIRST_DAMPING)
    steps = 0
    here = np.arange(n)
    while steps < iterations:
        steps += 1
        trial = z.copy()
        trial[:, here] += _step(errors, slopes, z[:, here] - start[:, here], damping, aim.prior)
        own = Aim(aim.runoff[here], aim.baseflow[here], *aim[2:])
        new_errors, new_slopes, new_came = residuals(model, trial[:, here], own)
        new_cost = _cost(new_errors, trial[:, here], start[:, here], aim)
        better = new_cost < cost
        gain = np.where(better, cost - new_cost, 0.0)
        z[:, here[better]] = trial[:, here[better]]
        came[:, here[better]] = new_came[:, better]
        errors[:, better], slopes[:, :, better] = new_errors[:, better], new_slopes[:, :, better]
        cost = np.where(better, new_cost, cost)
        damping = np.where(better, damping * EASED, damping * STIFFENED)
        met = (np.abs(errors) < CLOSE).all(axis=0)
        moving = ~(met | (better & (gain < 1e-6 * cost)) | (damping > LAST_DAMPING))
        if not moving.any():
            break
        if moving.mean() < SHRINK:
            model, here = model.take(np.flatnonzero(moving)), here[moving]
            errors, slopes, cost, damping = errors[:, moving], slopes[:, :, moving], cost[moving], damping[moving]
    return Found(z, came[0], came[1], steps)


def _cost(errors: np.ndarray, z: np.ndarray, start: np.ndarray, aim: Aim) -> np.ndarray:
    return (errors**2).sum(axis=0) + aim.prior * ((z - start) ** 2).sum(axis=0)


def _step(
    errors: np.ndarray, slopes: np.ndarray, away: np.ndarray, damping: np.ndarray, prior: float
) -> np.ndarray:
    """Solve (J'J + prior + damping (diag J'J + prior)) step = -(J' r + prior away) in every cell, by Cramer's rule."""
    gradient = (slopes * errors[:, None]).sum(axis=0) + prior * away
    a, b = ((slopes[:, k] ** 2).sum(axis=0) + prior for k in range(2))
    c = (slopes[:, 0] * slopes[:, 1]).sum(axis=0)
    a, b = a * (1 + damping), b * (1 + damping)
    det = a * b - c * c
    step = np.stack([-(b * gradient[0] - c * gradient[1]), -(a * gradient[1] - c * gradient[0])]) / det
    return np.clip(step, -FARTHEST_STEP, FARTHEST_STEP)
