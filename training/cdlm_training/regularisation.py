"""What holds a field of parameters to where it began and to its neighbours, and how much that weighs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Cells, Domain
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.writing import replacing
from cdlm_training.config import Regularisation
from cdlm_training.generator import Generator, StaticNetwork
from cdlm_training.objective import TrainingError

if TYPE_CHECKING:
    from cdlm_training.fits import Fit

POWERS = -0.66, -0.33, 0.0, 0.33, 0.66
"""Powers of ten by which `lcurve` tries more and less than the weight of `fast`."""
CURVE = "lcurve.png"
QUANTUM = 1.37e-3
"""Corners of cells that lie closer than about this part of a cell's side are one."""


class Regulariser:
    """R(z), the weighted sum of the terms of a regularisation, without its weight in the loss.

    With p^ = sigmoid(z), where a parameter lies in its range, and z0, p^0 those at the beginning:

    - prior: sum over parameters of the mean over places of (z - z0)^2;
    - smoothing: the same of (sum over neighbours j of m_j - d m)^2, with m = p^ - p^0 and d the count of neighbours;
      hard smoothing with m = p^.

    Neighbours of a cell share an edge with it; those of a reach drain into it or take its water.

    Parameters
    ----------
    generator : Fields
        At the beginning of the fit.
    domain : Domain
    weights : Regularisation

    Raises
    ------
    ConfigError
        Smoothing over cells of which no two share an edge.
    """

    def __init__(self, generator: Generator, domain: Domain, weights: Regularisation) -> None:
        self.weights = weights
        networks: list[tuple[StaticNetwork, np.ndarray]] = [(generator.cell, shared_edges(domain.cells))]
        below = domain.reaches.downstream
        above = np.flatnonzero(below >= 0)
        if any(w.requires_grad for w in generator.reach.parameters()):
            networks.append((generator.reach, np.stack([above, below[above]], axis=1)))
        smooth = weights.smoothing or weights.hard_smoothing
        if smooth and domain.n_cells > 1 and not networks[0][1].size:
            raise ConfigError(
                "regularisation: smoothing needs neighbours, and no two cells of the domain share an edge. Expected a "
                "grid whose corners are in the domain file; use regularisation.prior."
            )
        self.parts = [
            (network, torch.from_numpy(np.concatenate([pairs, pairs[:, ::-1]])).to(_z(network).device),
             _z(network).detach().double().clone())
            for network, pairs in networks
        ]

    def __call__(self) -> Tensor:
        """R of the fields as they are."""
        weights = self.weights
        found = torch.zeros((), dtype=torch.float64, device=self.parts[0][2].device)
        for network, pairs, start in self.parts:
            z = _z(network).double()
            if weights.prior:
                found = found + weights.prior * _square(z - start)
            if weights.smoothing:
                m = share(network, z) - share(network, start)
                found = found + weights.smoothing * _square(laplacian(m, pairs))
            if weights.hard_smoothing:
                found = found + weights.hard_smoothing * _square(laplacian(share(network, z), pairs))
        return found


def _z(network: StaticNetwork) -> Tensor:
    return network.each[-1].bias


def _square(values: Tensor) -> Tensor:
    """Sum over parameters of the mean over places, of [place, parameter]."""
    return (values**2).mean(dim=0).sum()


def share(network: StaticNetwork, z: Tensor) -> Tensor:
    """Where parameters [place, output] lie in their ranges, from 0 to 1; weights of components as they are."""
    parts = [
        torch.softmax(z[:, rows], 1) if target.scale == "share" else torch.sigmoid(z[:, rows])
        for target, rows in zip(network.spec.targets, network.spec.rows, strict=True)
    ]
    return torch.cat(parts, 1)


def laplacian(values: Tensor, pairs: Tensor) -> Tensor:
    """Sum over the neighbours of each place of how far they lie above it; [place, parameter].

    pairs : int64[pair, 2], every place and a neighbour of it, both ways.
    """
    place, other = pairs[:, 0], pairs[:, 1]
    return torch.zeros_like(values).index_add(0, place, values[other] - values[place])


def shared_edges(cells: Cells) -> np.ndarray:
    """Cells that share an edge, int64[pair, 2], each pair once, the lower place first."""
    side = float(np.median(cells.corner_lat.max(axis=1) - cells.corner_lat.min(axis=1)))
    lon, lat = (np.round(v / (QUANTUM * side)).astype(np.int64) for v in (cells.corner_lon % 360.0, cells.corner_lat))
    _, corner = np.unique(np.stack([lon.ravel(), lat.ravel()], axis=1), axis=0, return_inverse=True)
    corner = corner.reshape(lon.shape)
    edges = np.sort(np.stack([corner, np.roll(corner, -1, axis=1)], axis=2), axis=2).reshape(-1, 2)
    cell = np.repeat(np.arange(cells.corner_lon.shape[0]), cells.corner_lon.shape[1])
    order = np.lexsort((cell, edges[:, 1], edges[:, 0]))
    edges, cell = edges[order], cell[order]
    same = (edges[1:] == edges[:-1]).all(axis=1) & (cell[1:] != cell[:-1])
    return np.unique(np.stack([cell[:-1][same], cell[1:][same]], axis=1), axis=0)


# ---- its weight --------------------------------------------------------------------------------------------------


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
