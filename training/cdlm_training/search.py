"""How much a regularisation weighs beside the loss: given, or found by several fits from one beginning."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.names.writing import replacing
from cdlm_training.fits import Fit
from cdlm_training.objective import TrainingError
from cdlm_training.terms import Regularisation

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer

CURVE = "lcurve.png"
POWERS = -0.66, -0.33, 0.0, 0.33, 0.66
"""Powers of ten by which `lcurve` tries more and less than the weight of `fast`."""


def count_fits(weights: Regularisation) -> int:
    """How many fits find the weight and end with it."""
    return {"fast": 2, "lcurve": 1 + len(POWERS)}.get(str(weights.weight), 1)


def next_weight(weights: Regularisation, ended: Sequence[Fit]) -> float:
    """Weight of R in the loss of the next fit, after those that have ended.

    `fast` is (J0 - J*) / R*, of the loss at the beginning and of loss and R at the end of a first fit without R.

    Raises
    ------
    TrainingError
        The first fit made nothing better, or R is 0 where it ended.
    """
    if not isinstance(weights.weight, str):
        return float(weights.weight)
    if not ended:
        return 0.0
    first = ended[0]
    gain = first.cost_before - first.cost
    if not (gain > 0 and first.penalty > 0):
        raise TrainingError(
            f"regularisation.weight: {weights.weight} compares what a fit without regularisation gains with what it "
            f"costs: the loss went from {first.cost_before:g} to {first.cost:g}, the regularisation to "
            f"{first.penalty:g}; expected a gain and a cost. Give a number, or more epochs."
        )
    power = POWERS[len(ended) - 1] if weights.weight == "lcurve" else 0.0
    return gain / first.penalty * 10.0**power


def corner_of(fits: Sequence[Fit]) -> int:
    """The fit at the corner of the L-curve: farthest below the diagonal from worst to best loss and least to most R."""
    gain, held = curve(fits)
    return int((gain - held).argmax())


def curve(fits: Sequence[Fit]) -> tuple[np.ndarray, np.ndarray]:
    """What of the gain in loss, and of R, each fit has, from 0 to 1, float64[fit] both."""
    cost, penalty = (np.array([getattr(fit, name) for fit in fits]) for name in ("cost", "penalty"))
    gain, held = cost.max() - cost, penalty - penalty.min()
    return gain / max(float(gain.max()), 1e-300), held / max(float(held.max()), 1e-300)


def told(fits: Sequence[Fit], chosen: int) -> list[str]:
    """What the fits have come to, with the weight that was taken."""
    ends = "; ".join(f"{fit.weight:.4g}: {fit.cost:.5g}, {fit.penalty:.4g}" for fit in fits)
    return [
        f"the regularisation weighs {fits[chosen].weight:.4g}, of {len(fits)} fits; loss without it, and itself, by "
        f"its weight: {ends}."
    ]


def draw_curve(path: Path, fits: Sequence[Fit], chosen: int) -> None:
    """Plot the L-curve; without matplotlib there is none, its numbers stand in the findings."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    gain, penalty = curve(fits)
    figure = Figure((4.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(gain)
    axes.plot(gain[order], penalty[order], "o-", color="0.4")
    axes.plot([0, 1], [0, 1], ":", color="0.7")
    axes.plot(gain[chosen], penalty[chosen], "o", color="tab:red")
    for fit, x, y in zip(fits, gain, penalty, strict=True):
        axes.annotate(f"{fit.weight:.2g}", (x, y), textcoords="offset points", xytext=(5, -10), fontsize=8)
    axes.set(xlabel="gain in loss, share of the largest", ylabel="regularisation, share of the largest")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


# ---- in a training ---------------------------------------------------------------------------------------------------


def cost(trainer: Trainer) -> float:
    """The loss of the training period without the regularisation, which the gradient of a trainer has too."""
    return trainer.gradient(trainer.all_windows()) - trainer.fits[-1].weight * penalty(trainer)


def penalty(trainer: Trainer) -> float:
    """The regularisation of a trainer, without its weight."""
    assert trainer.regulariser is not None
    return float(trainer.regulariser().detach())


def ended(trainer: Trainer) -> Fit:
    """The fit under way, which has ended, with what it has come to."""
    return trainer.fits[-1]._replace(cost=cost(trainer), penalty=penalty(trainer))


def file_of(trainer: Trainer, place: int) -> Path:
    """Where the best of one of the fits is kept."""
    return trainer.config.log_folder / f"fit{place}{trainer.config.output.suffix}"


def choose(trainer: Trainer) -> int:
    """Which of the fits with several weights is the result, which the output then has."""
    held, fits = trainer.config.regularisation, trainer.fits
    lcurve = held is not None and held.weight == "lcurve"
    chosen = corner_of(fits) if lcurve else len(fits) - 1
    with replacing(trainer.config.output) as temporary:
        shutil.copyfile(file_of(trainer, chosen), temporary)
    trainer.best = fits[chosen].score
    if lcurve:
        draw_curve(trainer.config.log_folder / CURVE, fits, chosen)
    return chosen
