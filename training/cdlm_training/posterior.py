"""How well a fit of few parameters is known: the normal distribution about it that its likelihood has [Laplace].

The inverse of the second derivatives of -ln L at the fit, by central differences of the gradients of the adjoint, in z,
where parameters have no bounds; standard deviations of parameters themselves by their slopes there.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.writing import replacing
from cdlm_training.generator import within

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer

MOST = 50
"""Parameters of which a posterior is made."""
STEP = 1e-3
"""Of the differences, in z."""
OFF = 0.5
"""Standard deviations from the most likely place that are told of."""


class Posterior(NamedTuple):
    """Parameters by name, what the fit has and its standard deviations, float64[parameter]; correlations of z,
    float64[parameter, parameter], and their covariance; off : how many standard deviations the fit is from the most
    likely place.
    """

    names: tuple[str, ...]
    values: np.ndarray
    deviations: np.ndarray
    correlations: np.ndarray
    covariance: np.ndarray
    off: float


def check_size(trainer: Trainer) -> None:
    """Refuse a posterior of more parameters than it is for."""
    if trainer.config.posterior == "none":
        return
    count = sum(w.numel() for w in free_weights(trainer))
    if count > MOST:
        raise ConfigError(
            f"posterior: there are {count} parameters, s0 and s1 of {trainer.data.gauges.size} gauges among them; "
            f"expected at most {MOST}. Train on fewer gauges, with fewer components, or without learn_routing."
        )


def make_posterior(trainer: Trainer) -> list[str]:
    """Write the posterior beside the output where it is asked for; what to tell of it."""
    if trainer.config.posterior == "none":
        return []
    found = laplace(trainer)
    if isinstance(found, str):
        return [found]
    output = trainer.config.output
    path = output.with_name(f"{output.stem}_posterior.csv")
    write_posterior(path, found)
    return told(found, path)


def laplace(trainer: Trainer) -> Posterior | str:
    """The posterior about the weights of a trainer, or why there is none."""
    weights = free_weights(trainer)
    z = _get(weights)
    slope = gradient(trainer, weights, z)
    hessian = np.empty((z.size, z.size))
    for k in range(z.size):
        step = np.zeros(z.size)
        step[k] = STEP
        hessian[k] = (gradient(trainer, weights, z + step) - gradient(trainer, weights, z - step)) / (2 * STEP)
    hessian = 0.5 * (hessian + hessian.T) + np.diag(_prior(trainer, z)[1])
    slope = slope + _prior(trainer, z)[0]
    _set(weights, z)
    values, _ = np.linalg.eigh(hessian)
    names, p, tangent = _parameters(trainer, z)
    if values[0] <= 1e-12 * values[-1]:
        flat = names[int(np.abs(np.linalg.eigh(hessian)[1][:, 0]).argmax())]
        return (
            f"posterior: the likelihood has no maximum here: along {flat} it does not fall. There is no posterior; fit "
            "longer (epochs), or give posterior_prior."
        )
    covariance = np.linalg.inv(hessian)
    deviation = np.sqrt(np.diag(covariance))
    off = float(np.sqrt(slope @ covariance @ slope))
    return Posterior(names, p, np.abs(tangent) * deviation, covariance / np.outer(deviation, deviation), covariance,
                     off)


def free_weights(trainer: Trainer) -> list[torch.nn.Parameter]:
    """Weights of cells, reaches and errors, in this order."""
    generator = trainer.generator
    assert generator.errors is not None
    learned = [generator.cell.each[-1].bias, generator.reach.each[-1].bias, generator.errors.log_s]
    return [w for w in learned if w.requires_grad]


def gradient(trainer: Trainer, weights: list[torch.nn.Parameter], z: np.ndarray) -> np.ndarray:
    """Slope of -ln L of all observations of the training period, float64[parameter]."""
    _set(weights, z)
    trainer.optimizer.zero_grad(set_to_none=True)
    data, objective = trainer.data, trainer.objective
    for window in trainer.all_windows():
        for part in trainer.parts:
            counts = np.zeros(data.gauges.size)
            counts[part.gauges] = (~np.isnan(window.observed(data.observed, part.gauges))).sum(axis=0)
            objective(window, part, 0.0, None, counts / data.config.loss.gaussian).backward()
    return np.concatenate([
        (torch.zeros_like(w) if w.grad is None else w.grad).double().cpu().numpy().ravel() for w in weights
    ])


def _get(weights: list[torch.nn.Parameter]) -> np.ndarray:
    return np.concatenate([w.detach().double().cpu().numpy().ravel() for w in weights])


def _set(weights: list[torch.nn.Parameter], z: np.ndarray) -> None:
    first = 0
    with torch.no_grad():
        for w in weights:
            w.copy_(torch.from_numpy(z[first : first + w.numel()].reshape(tuple(w.shape))))
            first += w.numel()


def _prior(trainer: Trainer, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivatives of -ln of the prior, float64[parameter] both; flat for the errors."""
    networks = [w for w in (trainer.generator.cell, trainer.generator.reach) if w.each[-1].bias.requires_grad]
    start = np.array([s for network in networks for t in network.spec.targets for s in t.starts])
    prior, n = trainer.config.posterior_prior, start.size
    first, second = np.zeros((2, z.size))
    if prior == "uniform":  # within the range: the density of z is the slope of its sigmoid
        share = 1.0 / (1.0 + np.exp(-z[:n]))
        first[:n], second[:n] = 2.0 * share - 1.0, 2.0 * share * (1.0 - share)
    elif not isinstance(prior, str):
        first[:n], second[:n] = (z[:n] - start) / prior**2, 1.0 / prior**2
    return first, second


def _parameters(trainer: Trainer, z: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, values and slopes along z of parameters of the model and of the errors."""
    names: list[str] = []
    values: list[float] = []
    slopes: list[float] = []
    generator = trainer.generator
    for network in (generator.cell, generator.reach):
        if not network.each[-1].bias.requires_grad:
            continue
        for target in network.spec.targets:
            for k in range(target.components):
                at = torch.tensor(z[len(names)], dtype=torch.float64, requires_grad=True)
                value = within(target, at)
                value.backward()
                slopes.append(float(at.grad))  # type: ignore[arg-type]
                values.append(float(value.detach()))
                names.append(target.name + (f" {k}" if target.components > 1 else ""))
    found = np.exp(z[len(names) :]).tolist()
    names += [f"{s} {g}" for s in ("s0", "s1") for g in trainer.data.ids] if found else []
    return tuple(names), np.array(values + found), np.array(slopes + found)


def write_posterior(path: Path, found: Posterior) -> None:
    """Write values, standard deviations and correlations as CSV, a row per parameter."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["parameter", "value", "standard_deviation", *(f"correlation with {n}" for n in found.names)])
        for row in zip(found.names, found.values, found.deviations, found.correlations, strict=True):
            name, value, deviation, correlation = row
            table.writerow([name, f"{value:.6g}", f"{deviation:.4g}", *(f"{c:.3f}" for c in correlation)])


def told(found: Posterior, path: Path) -> list[str]:
    """The posterior in words: parameters with standard deviations, the strongest correlation."""
    strongest = np.abs(np.triu(found.correlations, 1))
    i, j = np.unravel_index(int(strongest.argmax()), strongest.shape)
    each = ", ".join(
        f"{n} {v:.4g} +- {s:.2g}" for n, v, s in zip(found.names, found.values, found.deviations, strict=True)
    )
    said = [
        f"posterior ({path.name}): {each}; strongest correlation {found.correlations[i, j]:.2f}, of {found.names[i]} "
        f"and {found.names[j]}."
    ]
    if found.off > OFF:
        said.append(
            f"posterior: the fit is {found.off:.2g} standard deviations from the most likely place, expected at most "
            f"{OFF:g}: its standard deviations are those of another place. Fit longer (epochs)."
        )
    return said
