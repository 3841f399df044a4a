"""Terms of the loss: sums over gauges and windows, NaN-masked, so that they can be added over processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.names.calendars import MEAN_YEAR

TINY = 1e-13
"""Share of the observed variance that keeps the slope of KGE finite where a simulation is constant."""
LOG_OFFSET = 1e-6
LOG_SHARE = 0.25
BOX_COX = 0.25
"""Power of Box and Cox's transform, between the root and the logarithm."""
TRANSFORMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "root": torch.sqrt,
    "inverse": torch.reciprocal,
    "log": torch.log,
    "box_cox": lambda flow: (flow**BOX_COX - 1.0) / BOX_COX,
}
"""Of flow and an offset."""


def transformed(flow: Tensor, transform: str, offset: Tensor) -> Tensor:
    """A transform of flow and an offset above 0, in float64, [time, gauge]; offset : [gauge]. NaN stays NaN."""
    return TRANSFORMS[transform](flow.double().clamp(min=0) + offset.double())


def quantile_weights(costs: np.ndarray, share: float) -> np.ndarray:
    """What each cost counts in a quantile of them, linear between two costs; float64[gauge], NaN counts nothing.

    Where no two costs are equal, these are the slopes of the quantile.
    """
    weights, known = np.zeros(costs.size), np.flatnonzero(~np.isnan(costs))
    if not known.size:
        return weights
    order = known[np.argsort(costs[known], kind="stable")]
    place = share * (order.size - 1)
    below = int(place)
    weights[order[below]] = 1.0 - (place - below)
    if place > below:
        weights[order[below + 1]] = place - below
    return weights


def nse_term(simulated: Tensor, observed: Tensor, spread: Tensor) -> Tensor:
    """Mean squared error over the squared spread, per gauge [Kratzert et al. 2019].

    simulated, observed : [time, gauge], observed NaN where missing; spread : [gauge], `Dataset.spread`. Returns
    [gauge]; 0 where a gauge has no observation.
    """
    valid = ~torch.isnan(observed)
    error = torch.where(valid, simulated - torch.nan_to_num(observed), 0.0)
    count = valid.sum(dim=0).clamp(min=1)
    return (error.double() ** 2).sum(dim=0) / count / spread.double() ** 2


def kge_term(simulated: Tensor, observed: Tensor) -> Tensor:
    """1 - KGE of the window, per gauge [Gupta et al. 2009]; 0 where undefined. Returns [gauge]."""
    valid = ~torch.isnan(observed)
    count = valid.sum(dim=0).clamp(min=2)
    s = torch.where(valid, simulated, 0.0).double()
    o = torch.nan_to_num(observed).double()
    mean_s, mean_o = s.sum(dim=0) / count, o.sum(dim=0) / count
    ds, do = torch.where(valid, s - mean_s, 0.0), torch.where(valid, o - mean_o, 0.0)
    variance_s, variance_o = (ds**2).sum(dim=0), (do**2).sum(dim=0)
    defined = (valid.sum(dim=0) > 2) & (variance_o > 0) & (mean_o > 0)
    safe_o, safe_mean = torch.where(defined, variance_o, 1.0), torch.where(defined, mean_o, 1.0)
    # A constant simulation has r = 0 and no slope there: the tiny term keeps the root differentiable.
    root = torch.sqrt(variance_s * safe_o + TINY * safe_o**2)
    r = (ds * do).sum(dim=0) / root
    alpha = torch.sqrt(variance_s / safe_o + TINY)
    beta = mean_s / safe_mean
    distance = torch.sqrt((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2 + 1e-24)
    return torch.where(defined, distance, torch.zeros_like(distance))


def rmse_log_term(simulated: Tensor, observed: Tensor, to_depth: Tensor) -> Tensor:
    """(1 - a) RMSE of depth + a RMSE of log10(sqrt(depth + b) + 0.1), per gauge [Song et al. 2025].

    to_depth : [gauge], mm d-1 per m3 s-1 over the official area. Returns [gauge].
    """
    count = (~torch.isnan(observed)).sum(dim=0).clamp(min=1)
    of_depth, of_log = (torch.sqrt(x / count + 1e-24) for x in depth_squares(simulated, observed, to_depth))
    return (1 - LOG_SHARE) * of_depth + LOG_SHARE * of_log


def depth_squares(simulated: Tensor, observed: Tensor, to_depth: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squared errors of depth [mm d-1] and of log10(sqrt(depth + b) + 0.1), per gauge, [gauge] each."""
    valid = ~torch.isnan(observed)
    s = (simulated * to_depth).double().clamp(min=0)
    o = (torch.nan_to_num(observed) * to_depth).double().clamp(min=0)

    def squares(x: Tensor) -> Tensor:
        return (torch.where(valid, x, torch.zeros_like(x)) ** 2).sum(dim=0)

    def scale(x: Tensor) -> Tensor:
        return torch.log10(torch.sqrt(x + LOG_OFFSET) + 0.1)

    return squares(s - o), squares(scale(s) - scale(o))


class BatchSums(NamedTuple):
    """Over all samples of an update, in `windows` windows over the domain: how many there are, squared errors of depth
    and of its logarithm."""

    samples: float
    depth: float = 0.0
    logarithm: float = 0.0
    windows: int = 1


def nse_batch_term(simulated: Tensor, observed: Tensor, spread: Tensor, count: float) -> Tensor:
    """What a part adds to the mean over all samples of squared error over squared spread [Kratzert et al. 2019].

    As `nse_term`, but every sample weighs the same, not every gauge; count : samples of the update. Returns a scalar.
    """
    samples = (~torch.isnan(observed)).sum(dim=0)
    return (nse_term(simulated, observed, spread) * samples).sum() / count


def rmse_comb_term(simulated: Tensor, observed: Tensor, to_depth: Tensor, sums: BatchSums) -> Tensor:
    """What a part adds to (1 - a) RMSE of depth + a RMSE of its logarithm over all samples [Song et al. 2025].

    The roots are those of the whole update, `sums`: a part adds its share of the squares, with the slope of the root.
    Returns a scalar.
    """
    total = torch.zeros((), dtype=torch.float64, device=simulated.device)
    found = depth_squares(simulated, observed, to_depth)
    for weight, own, whole in zip((1 - LOG_SHARE, LOG_SHARE), found, sums[1:3], strict=True):
        if whole > 0:
            half = own.sum() * (0.5 / math.sqrt(whole * sums.samples))
            total = total + weight * (half + half.detach())  # the root has half the slope of a share
    return total


def mean_runoff_term(runoff: Tensor, target: Tensor, area: Tensor) -> Tensor:
    """Squared relative error of each cell's mean runoff against a map, area-weighted over the cells.

    runoff : [time, cell] [mm d-1]; target : [cell] [mm yr-1], NaN where unknown; area : [cell]. Returns a scalar.
    """
    known = ~torch.isnan(target) & (target > 0)
    safe = torch.where(known, target, torch.ones_like(target)).double()
    return _mean_square(mean_depths(runoff) / safe - 1.0, known, area)


def baseflow_index_term(runoff: Tensor, target: Tensor, area: Tensor, window: int) -> Tensor:
    """Squared error of each cell's baseflow index against a map, area-weighted over the cells.

    runoff : daily, [time, cell] [mm d-1]; target : [cell], NaN where unknown; area : [cell]; window : of
    `baseflow_indices`. Returns a scalar.
    """
    return _mean_square(baseflow_indices(runoff, window) - torch.nan_to_num(target), ~torch.isnan(target), area)


def _mean_square(error: Tensor, known: Tensor, area: Tensor) -> Tensor:
    """Mean over the area of the cells that are known, bool[cell]; 0 where none is."""
    weight = area.double() * known
    return (weight * torch.where(known, error, 0.0) ** 2).sum() / weight.sum().clamp(min=1e-12)


def mean_depths(runoff: Tensor) -> Tensor:
    """Mean depth of each cell [mm yr-1], of runoff [time, cell] [mm d-1]. Returns [cell]."""
    return runoff.double().mean(dim=0) * MEAN_YEAR


def baseflow_indices(runoff: Tensor, window: int) -> Tensor:
    """Baseflow over flow of each cell, of daily runoff [time, cell], by HYSEP's interval [Sloto and Crouse 1996].

    window : odd width of the interval [d], which is cut at the ends. The slope of a minimum goes to the least day. 0
    where nothing flows. Returns [cell].
    """
    half = window // 2
    slow = -torch.nn.functional.max_pool2d(-runoff[None, None], (window, 1), stride=1, padding=(half, 0))[0, 0]
    return slow.double().sum(dim=0) / runoff.double().sum(dim=0).clamp(min=1e-30)


def pet_factor_term(factor: Tensor) -> Tensor:
    """Squared deviation of each cell's mean PET factor from 1, mean over cells. factor : [time, cell]."""
    return ((factor.double().mean(dim=0) - 1.0) ** 2).mean()


def pet_roughness_term(factor: Tensor) -> Tensor:
    """Squared change of the PET factor from step to step, mean over steps and cells. factor : [time, cell]."""
    change = factor[1:].double() - factor[:-1].double()
    return (change**2).sum() / max(1, change.numel())
