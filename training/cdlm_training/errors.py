"""What is left between simulated and observed discharge: normal errors whose spread grows with the flow, per gauge."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

START_SHARE = 0.1
"""Where both parts of the spread begin: that share of the spread of the observations, and of the flow."""


class GaugeErrors(nn.Module):
    """s0 [m3 s-1] and s1 [1] of every training gauge, above 0: an error has the standard deviation s0 + s1 Q.

    Parameters
    ----------
    spread : float[gauge]
        Of the observations [m3 s-1], from which s0 starts.
    """

    def __init__(self, spread: np.ndarray) -> None:
        super().__init__()
        start = np.log(np.stack([START_SHARE * spread.astype(np.float64), np.full(spread.size, START_SHARE)]))
        self.log_s = nn.Parameter(torch.from_numpy(start))

    def deviation(self, flow: Tensor, gauges: np.ndarray) -> Tensor:
        """Standard deviation of the errors of simulated flow [time, gauge]; gauges : places among training gauges."""
        s0, s1 = torch.exp(self.log_s[:, torch.from_numpy(gauges).to(self.log_s.device)])
        return s0 + s1 * flow.double()

    def values(self) -> np.ndarray:
        """s0 and s1, float64[2, gauge]."""
        return torch.exp(self.log_s.detach()).cpu().numpy()

    def take(self, values: np.ndarray) -> None:
        """Take over s0 and s1, float64[2, gauge]."""
        with torch.no_grad():
            self.log_s.copy_(torch.from_numpy(np.log(np.asarray(values, np.float64))))


def gaussian_term(simulated: Tensor, observed: Tensor, deviation: Tensor, of_observation: float) -> Tensor:
    """Mean of -ln of the density of the observations, per gauge, [gauge]; 0 where a gauge has none.

    Errors are independent and normal with the variance u^2 + deviation^2, u being `of_observation` of the observed
    flow.

    simulated, observed, deviation : [time, gauge], observed NaN where missing.
    """
    valid = ~torch.isnan(observed)
    known = torch.nan_to_num(observed).double()
    variance = (of_observation * known) ** 2 + deviation**2
    each = 0.5 * (torch.log(2.0 * math.pi * variance) + (simulated.double() - known) ** 2 / variance)
    return torch.where(valid, each, 0.0).sum(dim=0) / valid.sum(dim=0).clamp(min=1)
