"""What a training found that a user should know: parameters against bounds, starts that do not fit, steps left out,
restarts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from bmi_cdlm.generator.specification import GeneratorSpec, Target
from bmi_cdlm.names.parameters import parameter

if TYPE_CHECKING:
    from cdlm_training.fits import Fit
    from cdlm_training.loop import Trainer

NEAR = 0.06
"""Part of a range, on the scale of the parameter, that is called its edge."""
MANY = 0.1
"""Share of cells or reaches at an edge, or of a period, that is worth a word."""
DIFFERENT = 0.05
"""Mean difference of discharge, over its mean, by which the run starts otherwise than the training did."""


def against_bounds(spec: GeneratorSpec, values: Mapping[str, np.ndarray]) -> list[str]:
    """Parameters, by registry name, that learned against a bound of their range, and how to widen it."""
    told = []
    for target in (*spec.cell.targets, *spec.reach.targets):
        if target.scale == "share":
            continue
        place = _place(target, values[target.name])
        units, grid = parameter(target.name).units, parameter(target.name).grid
        for bound, share in (("lower", (place < NEAR).mean()), ("upper", (place > 1 - NEAR).mean())):
            if share >= MANY:
                limit = target.low if bound == "lower" else target.high
                middle, places = np.median(values[target.name]), "cells" if grid == "cell" else "reaches"
                legal = limit in parameter(target.name).legal
                remedy = "Beyond it has no meaning." if legal else (
                    f"Widen it with training.ranges: {{{target.name}: [...]}}, if that has a meaning."
                )
                told.append(
                    f"{target.name} learned against its {bound} bound of {limit:g} {units}: {100 * share:.0f} % of "
                    f"{places} are at it (median {middle:.3g}). {remedy}"
                )
    return told


def _place(target: Target, values: np.ndarray) -> np.ndarray:
    """Where values lie in the range of a parameter, from 0 to 1, on its scale."""
    if target.scale == "log":
        low = math.log(target.low)
        return (np.log(values) - low) / (math.log(target.high) - low)
    return (values - target.low) / (target.high - target.low)


def unlike_starts(trainer: Trainer, simulated: np.ndarray) -> list[str]:
    """Whether the run starts as the training assumed: its discharge over the first window beside the trainer's.

    simulated : float64[time, gauge], discharge of a run over the whole record, of every gauge of the domain. The
    trainer has the weights of that run.
    """
    data = trainer.data
    train = data.steps_of(trainer.config.train)
    window = data.window(train.start, data.window_length)
    assumed = np.empty((window.counted, data.gauges.size))
    with torch.no_grad():
        for part in trainer.parts:
            assumed[:, part.gauges] = trainer.chain(part, window).discharge.cpu().numpy()
    run = simulated[window.target][:, data.gauges]
    off = np.abs(run - assumed).mean(axis=0) / np.maximum(assumed.mean(axis=0), 1e-12)
    worst = int(off.argmax())
    if off[worst] <= DIFFERENT:
        return []
    learnable = bool(trainer.run.chain.cells[-1].starts)
    return [
        f"the run starts from other stores than the training did: over the first window of {window.counted} steps "
        f"discharge differs by {100 * float(np.median(off)):.0f} % in the median over gauges, most at "
        f"{data.domain.gauges.id[data.gauges[worst]]} ({100 * off[worst]:.0f} %). "
        f"{'Learn the start (learn_start: true), or let' if learnable else 'Let'} spin_up and initial_state of the run "
        "lead to what warm_up does."
    ]


def left_over(trainer: Trainer) -> list[str]:
    """Whether the windows of LBFGS leave an end of the training period out."""
    if trainer.config.optimizer != "lbfgs":
        return []
    train = trainer.data.steps_of(trainer.config.train)
    n, windows = train.stop - train.start, trainer.all_windows()
    rest = n - sum(window.counted for window in windows)
    if rest < MANY * n:
        return []
    return [
        f"the last {rest} of {n} steps of the training period ({100 * rest / n:.0f} %) were not looked at: LBFGS takes "
        f"whole windows one after the other, {len(windows)} of {windows[0].counted} steps. Choose a window that goes "
        "into the period without a rest, or another period."
    ]


def spread_of(fits: list[Fit], score: str) -> list[str]:
    """How far fits from several beginnings lie apart."""
    if len(fits) < 2:
        return []
    ends = sorted(fits, key=lambda fit: -fit.score)
    found = {name: [fit.parameters[name] for fit in ends if fit.parameters] for name in ends[0].parameters}
    apart = [f"{name} {min(v):.4g} to {max(v):.4g}" for name, v in found.items() if min(v) < max(v)]
    numbers = ", ".join(f"{fit.score:.4f}" for fit in ends)
    named = score.replace("_", " ").replace("nse", "NSE").replace("kge", "KGE")
    return [f"{len(fits)} fits, each begun elsewhere, ended at {named} {numbers}; means of {'; '.join(apart)}."]
