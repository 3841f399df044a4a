"""The LSTM of a generator in torch: parameters that vary from step to step, with gradients to its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from bmi_cdlm.generator.specification import LstmSpec, standardise

LAST_SPREAD = 0.01
"""Standard deviation of what the last layer adds to z at the start, per unit of its inputs' length."""


class Affine(nn.Module):
    """Weights of a layer, and its biases where it has any, by the names of a checkpoint."""

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, n_in: int, n_out: int, spread: float, draw: torch.Generator, *, bias: bool = True) -> None:
        super().__init__()
        values = torch.randn((n_out, n_in), generator=draw, dtype=torch.float64)
        self.weight = nn.Parameter(values * (spread / math.sqrt(n_in)))
        if bias:
            self.bias = nn.Parameter(torch.zeros(n_out, dtype=torch.float64))


class LstmGenerator(nn.Module):
    """The network of an `LstmSpec`; the forget gates start open (bias 1)."""

    def __init__(self, spec: LstmSpec, draw: torch.Generator, dropout: float = 0.0) -> None:
        super().__init__()
        n = spec.hidden
        self.input = Affine(len(spec.features) + len(spec.attributes), n, math.sqrt(2.0), draw)
        self.gates = Affine(n, 4 * n, 1.0, draw)
        self.recurrent = Affine(n, 4 * n, 1.0, draw, bias=False)
        self.last = Affine(n, spec.rows[-1].stop, LAST_SPREAD, draw)
        self.spec, self.dropout = spec, dropout
        self.dropped: int | None = None
        with torch.no_grad():
            self.gates.bias[n : 2 * n] = 1.0
            starts = [z for target in spec.targets for z in target.starts]
            self.last.bias.add_(torch.tensor(starts, dtype=torch.float64))

    def forward(self, forcing: Mapping[str, Tensor], attributes: np.ndarray) -> dict[str, Tensor]:
        """Return z of every output by parameter, [component, time, cell], from raw forcing [time, cell] and attributes.

        The network remembers nothing at the first step.
        """
        first, n = self.input.weight, len(self.spec.features)
        static = torch.from_numpy(standardise(self.spec.attributes, attributes)).to(first) @ first[:, n:].T
        x = static + self.input.bias
        for k, feature in enumerate(self.spec.features):
            value = forcing[feature.name].to(first)
            value = value / (value + feature.half) if feature.half else value
            x = x + ((value - feature.mean) / feature.std)[..., None] * first[:, k]
        into: Tensor = self.gates.weight
        back: Tensor = self.recurrent.weight
        if self.dropped is not None:  # weights are left out, the same ones at all steps
            draw = torch.Generator().manual_seed(self.dropped)
            into, back = (w * mask(w.shape, self.dropout, draw).to(w) for w in (into, back))
        start = x.new_zeros((1, x.shape[1], self.spec.hidden))
        weights = [into, back, self.gates.bias, torch.zeros_like(self.gates.bias)]
        shown = torch.lstm(torch.relu(x), (start, start), weights, True, 1, 0.0, False, False, False)[0]
        z = (shown @ self.last.weight.T + self.last.bias).movedim(-1, 0)
        return {target.name: z[rows] for target, rows in zip(self.spec.targets, self.spec.rows, strict=True)}


def mask(shape: torch.Size, dropout: float, draw: torch.Generator) -> Tensor:
    """What units or weights are multiplied with: 0 for those left out, and so much more for the others."""
    kept = torch.rand(shape, generator=draw, dtype=torch.float64) >= dropout
    return kept.double() / (1.0 - dropout)
