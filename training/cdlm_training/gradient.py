"""The gradient of the loss over windows and parts of the domain, shared among threads and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import torch

from bmi_cdlm.kernels.workers import Workers
from cdlm_training.config import TrainConfig
from cdlm_training.dataset import Window
from cdlm_training.distributed import Team
from cdlm_training.loss import BatchSums, quantile_weights
from cdlm_training.objective import Objective
from cdlm_training.simulate import Part

Item = tuple[Window, Part]
Result = TypeVar("Result")


class Gradient:
    """Differentiates the loss of runs, by the threads of the host or in turn on a device, and adds up over a team.

    Parameters
    ----------
    objective : Objective
    team : Team
    workers : Workers
    config : TrainConfig
    n_gauges : int
    """

    def __init__(
        self, objective: Objective, team: Team, workers: Workers, config: TrainConfig, n_gauges: int
    ) -> None:
        self.objective, self.team, self.workers, self.config = objective, team, workers, config
        self.n_gauges = n_gauges

    def __call__(
        self, items: list[Item], n_windows: int, weights: list[torch.nn.Parameter], held: Iterable[torch.Tensor]
    ) -> float:
        """Set the gradient of the mean loss of runs that are the parts of `n_windows` windows over the domain.

        held : terms that hang on weights alone, which the leader adds. The weights begin without a gradient. Equal on
        every process; returns the loss.
        """
        n_cells = sum(part.cells.size for _, part in items) / n_windows
        own, loss = self.team.share(items, [part.work for _, part in items]), 0.0
        sums = self._batch_sums(items, own)._replace(windows=n_windows) if self.objective.is_over_batch else None
        ranked = None if self.config.quartile is None else self._ranked(own, self.config.quartile)

        def differentiate(item: Item) -> tuple[float, tuple[torch.Tensor | None, ...]]:
            window, part = item
            share = part.cells.size / n_cells
            term = self.objective(window, part, share, sums, ranked) / n_windows
            if not term.requires_grad:  # nothing to compare in this window, such as no flood
                return float(term.detach()), (None,) * len(weights)
            return float(term.detach()), torch.autograd.grad(term, weights, allow_unused=True)

        for value, gradients in self._each(differentiate, own):  # in one order, whoever was first
            loss += value
            for one, found in zip(weights, gradients, strict=True):
                if found is not None:
                    one.grad = found if one.grad is None else one.grad + found
        if self.team.leads:
            for term in held:
                term.backward()
                loss += float(term.detach())
        self.team.add_gradients(weights)
        self.objective.check_gradients([window for window, _ in items])
        return self.team.total(loss)

    def _ranked(self, own: list[Item], quartile: float) -> np.ndarray:
        """Weights of the gauges by the rank of their costs, means over the windows in which they are observed."""
        sums = np.zeros((2, self.n_gauges))
        for window, part in (item for item in own if item[1].gauges.size):
            found = self.objective.costs(window, part)
            sums[:, part.gauges] += np.nan_to_num(found), ~np.isnan(found)
        cost, count = np.array([[self.team.total(value) for value in row] for row in sums.tolist()])
        return quantile_weights(np.where(count > 0, cost / np.maximum(count, 1), np.nan), quartile)

    def _batch_sums(self, items: list[Item], own: list[Item]) -> BatchSums:
        """Samples of an update and the sums of their squares, over all processes."""
        count = float(max(1, self.objective.batch_count(items)))
        if not self.config.loss.rmse_comb:
            return BatchSums(count)
        gauged = [item for item in own if item[1].gauges.size]
        found = np.sum([np.zeros(2), *self._each(lambda one: self.objective.batch_squares(*one), gauged)], axis=0)
        return BatchSums(count, self.team.total(float(found[0])), self.team.total(float(found[1])))

    def _each(self, function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
        """Call a function for every window and part, by the threads of the host or in turn on a device."""
        if self.config.device != "cpu":
            return [function(item) for item in items]
        return self.workers.each(function, items, [part.work for _, part in items])
