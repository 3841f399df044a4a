"""The gradient of the loss over windows and parts of the domain, shared among threads and processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from cdlm_training.dataset import Window
from cdlm_training.loss import BatchSums, quantile_weights
from cdlm_training.simulate import Part

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer

Item = tuple[Window, Part]
Result = TypeVar("Result")


def gradient_of(trainer: Trainer, items: list[Item], n_windows: int) -> float:
    """Set the gradient of the mean loss of runs that are the parts of `n_windows` windows over the domain.

    Equal on every process. Returns the loss.
    """
    trainer.optimizer.zero_grad(set_to_none=True)
    n_cells = sum(part.cells.size for _, part in items) / n_windows
    own, loss = trainer.team.share(items, [part.work for _, part in items]), 0.0
    sums = _batch_sums(trainer, items, own)._replace(windows=n_windows) if trainer.objective.is_over_batch else None
    ranked = None if trainer.config.quartile is None else _ranked(trainer, own, trainer.config.quartile)
    weights = trainer.weights()

    def differentiate(item: Item) -> tuple[float, tuple[torch.Tensor | None, ...]]:
        window, part = item
        share = part.cells.size / n_cells
        term = trainer.objective(window, part, share, sums, ranked) / n_windows
        if not term.requires_grad:  # nothing to compare in this window, such as no flood
            return float(term.detach()), (None,) * len(weights)
        return float(term.detach()), torch.autograd.grad(term, weights, allow_unused=True)

    for value, gradients in _each(trainer, differentiate, own):  # in one order, whoever was first
        loss += value
        for one, found in zip(weights, gradients, strict=True):
            if found is not None:
                one.grad = found if one.grad is None else one.grad + found
    if trainer.prior is not None and trainer.team.leads:
        cells = np.unique(np.concatenate([part.cells for _, part in items]))
        reaches = np.unique(np.concatenate([part.reach_places for _, part in items]))
        term = trainer.config.loss.prior * trainer.prior(cells, reaches)
        term.backward()
        loss += float(term.detach())
    weight = trainer.fits[-1].weight
    if trainer.regulariser is not None and weight and trainer.team.leads:
        term = weight * trainer.regulariser()
        term.backward()
        loss += float(term.detach())
    trainer.team.add_gradients(trainer.weights())
    trainer.objective.check_gradients([window for window, _ in items])
    return trainer.team.total(loss)


def _ranked(trainer: Trainer, own: list[Item], quartile: float) -> np.ndarray:
    """Weights of the gauges by the rank of their costs, means over the windows in which they are observed."""
    sums = np.zeros((2, trainer.data.gauges.size))
    for window, part in (item for item in own if item[1].gauges.size):
        found = trainer.objective.costs(window, part)
        sums[:, part.gauges] += np.nan_to_num(found), ~np.isnan(found)
    cost, count = np.array([[trainer.team.total(value) for value in row] for row in sums.tolist()])
    return quantile_weights(np.where(count > 0, cost / np.maximum(count, 1), np.nan), quartile)


def _batch_sums(trainer: Trainer, items: list[Item], own: list[Item]) -> BatchSums:
    """Samples of an update and the sums of their squares, over all processes."""
    count = float(max(1, trainer.objective.batch_count(items)))
    if not trainer.config.loss.rmse_comb:
        return BatchSums(count)
    gauged = [item for item in own if item[1].gauges.size]
    found = np.sum([np.zeros(2), *_each(trainer, lambda one: trainer.objective.batch_squares(*one), gauged)], axis=0)
    return BatchSums(count, trainer.team.total(float(found[0])), trainer.team.total(float(found[1])))


def _each(trainer: Trainer, function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    """Call a function for every window and part, by the threads of the host or in turn on a device."""
    if trainer.config.device != "cpu":
        return [function(item) for item in items]
    return trainer.workers.each(function, items, [part.work for _, part in items])
