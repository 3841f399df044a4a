"""One parameter set out of many drawn ones, and how far apart those lie that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from cdlm_training.generator import StaticNetwork
    from cdlm_training.loop import Trainer

POWERS = tuple(range(-1, 13))
"""Powers alpha of two that are tried: how sharply weights fall with the cost of a set."""


class Estimate(NamedTuple):
    """The chosen power; places of parameters in their ranges, from 0 to 1, and their deviations, float64[parameter];
    by power: cost of the estimate, and how far it lies from the middle of what was drawn.
    """

    power: int
    places: np.ndarray
    deviations: np.ndarray
    costs: np.ndarray
    distances: np.ndarray


def draw(sets: int, parameters: int, seed: int) -> np.ndarray:
    """A Latin hypercube: places in the ranges, float64[set, parameter], in (0, 1)."""
    random = np.random.default_rng(seed)
    strata = np.stack([random.permutation(sets) for _ in range(parameters)], axis=1)
    return (strata + random.uniform(0.0, 1.0, strata.shape)) / sets


def weigh(costs: np.ndarray, power: float) -> np.ndarray:
    """Weight of each drawn set, float64[set], summing to one: exp(-2^power (J / J_min - 1)^2) [Colleoni et al. 2025].

    Sets are drawn evenly over the ranges, so that their density is the same everywhere.
    """
    weights = np.exp(-(2.0**power) * (costs / costs.min() - 1.0) ** 2)
    return weights / weights.sum()


def estimate(trainer: Trainer, sets: int, seed: int) -> Estimate:
    """Weighted means of drawn parameter sets for every power, and the one at the corner of their L-curve.

    Means are of places in the ranges: of logarithms, where a parameter is learned by its logarithm.
    """
    from cdlm_training.fits import Fit
    from cdlm_training.search import corner_of

    drawn = draw(sets, sum(network.each[-1].bias.numel() for network in learned(trainer)), seed)
    costs = np.array([cost_at(trainer, one) for one in drawn])
    means = np.stack([weigh(costs, power) @ drawn for power in POWERS])
    own = np.array([cost_at(trainer, one) for one in means])
    # A place drawn evenly has the variance 1 / 12.
    distances = np.sqrt(12.0 * ((means - drawn.mean(axis=0)) ** 2).sum(axis=1))
    fits = [Fit.new(p)._replace(cost=c, penalty=d) for p, c, d in zip(POWERS, own, distances, strict=True)]
    chosen = corner_of(fits)
    weights = weigh(costs, POWERS[chosen])
    deviations = np.sqrt(weights @ (drawn - means[chosen]) ** 2)
    return Estimate(POWERS[chosen], means[chosen], deviations, own, distances)


def learned(trainer: Trainer) -> list[StaticNetwork]:
    """The networks whose parameters are drawn: without learn_routing, or where one is frozen, the other alone."""
    both = (trainer.generator.cell, trainer.generator.reach)
    return [network for network in both if network.each[-1].bias.requires_grad]


def set_places(trainer: Trainer, places: np.ndarray) -> None:
    """Let the generator have parameters at some places in their ranges, float64[parameter]."""
    import torch

    z = np.log(places) - np.log1p(-places)
    first = 0
    with torch.no_grad():
        for network in learned(trainer):
            bias = network.each[-1].bias
            bias.copy_(torch.from_numpy(z[first : first + bias.numel()]))
            first += bias.numel()


def cost_at(trainer: Trainer, places: np.ndarray) -> float:
    """Loss of the training period at some places of the parameters, without a gradient."""
    import torch

    set_places(trainer, places)
    windows, total = trainer.all_windows(), 0.0
    parts = trainer.with_beyond(trainer.parts)
    cells = sum(part.cells.size for part in parts)
    with torch.no_grad():
        for window in windows:
            for part in parts:
                total += float(trainer.objective(window, part, part.cells.size / cells)) / len(windows)
    return total


def told(trainer: Trainer, found: Estimate) -> list[str]:
    """The estimate in words: every parameter with its values one deviation lower and higher."""
    import torch

    from cdlm_training.generator import within

    lines, k = [f"alpha {found.power}, cost {found.costs[POWERS.index(found.power)]:.5g}"], 0
    for network in learned(trainer):
        for target in network.spec.targets:
            for _ in range(target.components):
                around = np.clip(found.places[k] + np.array([-1, 0, 1]) * found.deviations[k], 1e-6, 1 - 1e-6)
                low, middle, high = within(target, torch.from_numpy(np.log(around / (1 - around)))).tolist()
                lines.append(f"{target.name} {middle:.4g} [{low:.4g}, {high:.4g}]")
                k += 1
    return lines
