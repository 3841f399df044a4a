"""Pre-training: a generator learns from labels where nobody measures discharge, before it learns from discharge."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.generator.generator import Inputs
from cdlm_training.generator import Generator, StaticNetwork
from cdlm_training.labels.teach import Lesson, Lessons
from cdlm_training.making import make_generator
from cdlm_training.regularisation import share
from cdlm_training.terms import Pretraining
from cdlm_training.transfer import Prior, freeze

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer

CLIP = 1.0
"""Largest norm of the gradient."""


class Learned(NamedTuple):
    """What a pre-training has come to.

    epochs : updates taken; sites : labels; r2 : by parameter, the share of the weighted variance of labels in folds
    that were held out which the generator explains, before bounds; r2_fitted : of the labels that were fitted, at the
    end.
    """

    epochs: int
    sites: int
    r2: dict[str, float]
    r2_fitted: dict[str, float]

    def told(self) -> str:
        """In a sentence."""
        own = ", ".join(f"{name} {self.r2[name]:.2f} ({self.r2_fitted[name]:.2f})" for name in self.r2)
        return (
            f"pre-trained on {self.sites} labels, {self.epochs} updates; R2 of labels in folds held out, and of those "
            f"fitted in brackets: {own}"
        )


class Teacher:
    """Weighted squared distance of area means from labels, sum over parameters of means over sites.

    Parameters
    ----------
    lessons : Lessons
    attributes : Inputs
        Of the domain.
    """

    def __init__(self, lessons: Lessons, attributes: Inputs) -> None:
        self.lessons = lessons
        self.parts: list[tuple[str, Lesson, np.ndarray]] = [
            ("cell", lessons.cell, attributes.cell[lessons.cell.places])
        ]
        if lessons.reach is not None:
            self.parts.append(("reach", lessons.reach, attributes.reach[lessons.reach.places]))

    def means(self, generator: Generator) -> list[Tensor]:
        """Area means of the generated parameters on the scale without bounds, [site, parameter] of each network."""
        found = []
        for name, lesson, raw in self.parts:
            network: StaticNetwork = getattr(generator, name)
            found.append(lesson.means(share(network, network.free(raw)).cpu()))
        return found

    def loss(self, means: list[Tensor], sites: np.ndarray) -> Tensor:
        """Loss over some sites, bool[site]."""
        total = torch.zeros((), dtype=torch.float64)
        chosen = torch.from_numpy(sites.astype(np.float64))[:, None]
        for (_, lesson, _), mean in zip(self.parts, means, strict=True):
            weight = lesson.weight * chosen
            total = total + (weight * (mean - lesson.label) ** 2).sum() / weight.sum().clamp(min=1e-12)
        return total

    def fit(
        self, generator: Generator, config: Pretraining, sites: np.ndarray, epochs: int,
        seen: Callable[[list[Tensor]], None] = lambda means: None,
    ) -> None:
        """Take updates on some sites, bool[site]; `seen` gets the area means before each, and at the end."""
        weights = [w for w in generator.parameters() if w.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=config.learning_rate)
        for _ in range(epochs):
            optimizer.zero_grad(set_to_none=True)
            means = self.means(generator)
            seen([m.detach() for m in means])
            self.loss(means, sites).backward()
            torch.nn.utils.clip_grad_norm_([w for w in weights if w.grad is not None], CLIP)
            optimizer.step()
        with torch.no_grad():
            seen(self.means(generator))

    def squares(self, means: list[Tensor], sites: np.ndarray) -> np.ndarray:
        """Weighted squared distances from labels at some sites, bool[site], float64[parameter] of all networks."""
        chosen = torch.from_numpy(sites.astype(np.float64))[:, None]
        parts = zip(self.parts, means, strict=True)
        found = [(lesson.weight * chosen * (mean - lesson.label) ** 2).sum(dim=0) for (_, lesson, _), mean in parts]
        return torch.cat(found).numpy()

    def explained(self, squares: np.ndarray) -> dict[str, float]:
        """Share of the weighted variance of all labels that such squares leave explained, by parameter.

        Parameters whose labels do not vary have none.
        """
        names = [name for _, lesson, _ in self.parts for name in lesson.names]
        every = self.lessons.fold >= 0
        centres = [
            ((lesson.weight * lesson.label).sum(0) / lesson.weight.sum(0).clamp(min=1e-12)).expand_as(lesson.label)
            for _, lesson, _ in self.parts
        ]
        varies = zip(names, squares, self.squares(centres, every), strict=True)
        return {name: float(1 - own / all_of) for name, own, all_of in varies if all_of > 0}


def teach(trainer: Trainer, lessons: Lessons) -> Learned:
    """Let a trainer's generator learn from labels; a pull towards its start becomes one towards what comes of it."""
    config = trainer.config
    assert config.pretrain is not None

    def fresh(fold: int) -> Generator:
        made = make_generator(trainer.run, config, trainer.spec, trainer.data, config.seed)
        made.reach.requires_grad_(config.learn_routing)
        freeze(made, config.frozen)
        return made

    learned = pretrain(fresh, trainer.generator, Teacher(lessons, trainer.chain.attributes), config.pretrain)
    if trainer.prior is not None:
        trainer.prior = Prior(trainer.generator, trainer.chain.attributes)
    return learned


def pretrain(
    make: Callable[[int], Generator], generator: Generator, teacher: Teacher, config: Pretraining
) -> Learned:
    """Teach a generator: as many updates as serve folds that are held out, then on all labels.

    Parameters
    ----------
    make : function of a number
        A fresh generator with the same weights to learn, for a fold.
    generator : Generator
        Changed in place.
    """
    fold = teacher.lessons.fold
    used = fold >= 0
    losses, squares = np.zeros(config.epochs + 1), list[np.ndarray]()
    for k in range(config.folds):
        held, own = fold == k, list[tuple[float, np.ndarray]]()
        teacher.fit(
            make(k), config, used & ~held, config.epochs,
            lambda means, held=held, own=own: own.append(  # type: ignore[misc]
                (float(teacher.loss(means, held)), teacher.squares(means, held))
            ),
        )
        losses += [loss for loss, _ in own]
        squares.append(np.stack([one for _, one in own]))
    epochs = int(losses.argmin())
    teacher.fit(generator, config, used, epochs)
    with torch.no_grad():
        fitted = teacher.squares(teacher.means(generator), used)
    outside = np.sum(squares, axis=0)[epochs]
    return Learned(epochs, int(used.sum()), teacher.explained(outside), teacher.explained(fitted))
