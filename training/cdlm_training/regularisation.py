"""What holds a field of parameters to where it began and to its neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Cells, Domain
from bmi_cdlm.names.errors import ConfigError
from cdlm_training.generator import Generator, StaticNetwork
from cdlm_training.terms import Regularisation

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
