"""A fit from one beginning, and what takes its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from cdlm_training.config import TrainConfig

ITERATIONS = 60
"""Of LBFGS, for a fit to one gauge."""


class Fit(NamedTuple):
    """A fit from one beginning: epochs so far, the best of them, its validation score, loss and mean parameters.

    weight: of the regularisation; where several fits find it, the loss without it before the first step, and at the
    end both the loss without it and the regularisation itself, `penalty`.
    """

    epochs: int
    best_epoch: int
    score: float
    loss: float
    parameters: dict[str, float]
    weight: float = 0.0
    cost_before: float = 0.0
    cost: float = 0.0
    penalty: float = 0.0

    @staticmethod
    def new(weight: float = 0.0) -> Fit:
        """A fit that has not begun."""
        return Fit(0, 0, -np.inf, float("nan"), {}, weight)

    def after(self, score: float, loss: float, parameters: Callable[[], dict[str, float]]) -> Fit:
        """The fit after one more epoch."""
        if score > self.score:
            return self._replace(
                epochs=self.epochs + 1, best_epoch=self.epochs + 1, score=score, loss=loss, parameters=parameters()
            )
        return self._replace(epochs=self.epochs + 1)


class Call(NamedTuple):
    """What the loss of a fit came to: the fit (its number, the weight of its regularisation), weights and gradients."""

    fit: tuple[int, float]
    weights: list[torch.Tensor]
    loss: float
    gradients: list[torch.Tensor | None]

    def is_of(self, fit: tuple[int, float], weights: Sequence[torch.Tensor]) -> bool:
        """Whether it was the same fit, with the same weights to the last bit."""
        return fit == self.fit and all(map(torch.equal, weights, self.weights))


def make_optimizer(
    config: TrainConfig, weights: list[torch.nn.Parameter], updates: int
) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser of a fit over these weights, and the schedule of its learning rate (None for LBFGS).

    updates : per epoch.
    """
    if config.optimizer == "lbfgs":
        return torch.optim.LBFGS(weights, lr=config.learning_rate, max_iter=5, line_search_fn="strong_wolfe"), None
    # A bias that decayed would pull its parameter to the middle of its range; so would a field.
    decaying = [w for w in weights if w.ndim > 1 and not config.is_field]
    others = [w for w in weights if w.ndim <= 1 or config.is_field]
    groups = [{"params": decaying, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    kind = torch.optim.Adadelta if config.optimizer == "adadelta" else torch.optim.AdamW
    found: torch.optim.Optimizer = kind(groups, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        found, T_max=config.epochs * updates, eta_min=config.learning_rate * config.final_learning_rate
    )
    return found, schedule


def descend(weights: list[torch.nn.Parameter], objective: Callable[[], torch.Tensor]) -> float:
    """Fit weights by LBFGS to the end, and return the last loss; for fits to one gauge."""
    optimizer = torch.optim.LBFGS(weights, lr=1.0, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = objective()
        if value.requires_grad:  # else there is nothing to compare, such as no flood
            value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        return float(objective())
