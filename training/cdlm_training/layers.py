"""Dense layers of the generator in torch, by the names of a checkpoint."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from bmi_cdlm.generator.specification import EXPONENTS


class Layer(nn.Module):
    """Weights of one layer, drawn in float64 so that both precisions start alike."""

    weight: nn.Parameter
    exponent: nn.Parameter
    bias: nn.Parameter

    def __init__(self, n_in: int, n_out: int, spread: float, draw: torch.Generator, mapping: str = "mlp") -> None:
        super().__init__()
        if mapping != "uniform":
            values = torch.randn((n_out, n_in), generator=draw, dtype=torch.float64)
            self.weight = nn.Parameter(values * (spread / math.sqrt(n_in)))
        if mapping == "power":
            at_one = (1 - EXPONENTS[0]) / (EXPONENTS[1] - EXPONENTS[0])
            start = math.log(at_one / (1 - at_one))
            self.exponent = nn.Parameter(torch.full((n_out, n_in), start, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(n_out, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return x W' + b, [n, n_out], in the precision of x."""
        return x @ self.weight.T.to(x) + self.bias.to(x)


class Layers(nn.ModuleList):
    """Layers by their place, which is their name in the checkpoint."""

    @property
    def each(self) -> list[Layer]:
        """The layers, first to last."""
        return [layer for layer in self if isinstance(layer, Layer)]


def raw(attributes: Tensor | np.ndarray) -> np.ndarray:
    """Raw attributes in float64, on the host."""
    values = attributes.detach().cpu().numpy() if isinstance(attributes, Tensor) else attributes
    return np.asarray(values, np.float64)
