"""The processes as torch operators: the runtime's kernels forward, their adjoints backward.

Tensors and kernels share memory; nothing is copied but what the kernels change in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bmi_cdlm.kernels.groups import ReachParameters, RunoffParameters, RunoffState, SnowParameters, SnowState
from bmi_cdlm.operators import Operators


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.dtype)


class Melt(torch.autograd.Function):
    """Rain plus melt [mm d-1], [time, cell], from a start without snow."""

    @staticmethod
    def forward(
        ctx: Any, operators: Operators, hysteresis: bool, precipitation: Tensor, air_temperature: Tensor,
        thermal_weighting: Tensor, melt_factor: Tensor, accumulation_threshold: Tensor, full_cover: Tensor,
    ) -> Tensor:
        """Run the kernel; keep the states at block starts."""
        p = SnowParameters(*map(_array, (thermal_weighting, melt_factor, accumulation_threshold, full_cover)))
        zero = np.zeros_like(p.melt_factor)
        state = SnowState(zero.copy(), zero.copy(), snow_peak=p.full_cover.copy(), snow_cover=zero.copy())
        liquid, ctx.record = operators.melt(_array(precipitation), _array(air_temperature), p, state, hysteresis)
        ctx.operators, ctx.like = operators, precipitation
        return _tensor(liquid, precipitation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, liquid_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernel."""
        start = ctx.record.starts[0]
        state_adj = SnowState(*(np.zeros_like(a) for a in start))
        P_adj, T_adj, p = ctx.operators.melt_adjoint(ctx.record, _array(liquid_adj), state_adj)
        # The peak starts at full cover.
        full = p.full_cover + state_adj.snow_peak
        gradients = (P_adj, T_adj, p.thermal_weighting, p.melt_factor, p.accumulation_threshold, full)
        return (None, None, *(_tensor(g, ctx.like) for g in gradients))


class Runoff(torch.autograd.Function):
    """Runoff [mm d-1], [time, cell], from stores S and R [mm] and empty unit hydrographs."""

    @staticmethod
    def forward(
        ctx: Any, operators: Operators, n_places: tuple[int, int], liquid: Tensor, demand: Tensor, x1: Tensor,
        x2: Tensor, x3: Tensor, x4: Tensor, S: Tensor, R: Tensor,
    ) -> Tensor:
        """Run the kernel; keep the states at block starts."""
        ctx.x4 = _array(x4)
        o1, o2 = operators.ordinates(ctx.x4, n_places)
        p = RunoffParameters(_array(x1), _array(x2), _array(x3), o1, o2)
        state = RunoffState(
            _array(S).copy(), _array(R).copy(), np.zeros_like(p.ordinates_1), np.zeros_like(p.ordinates_2)
        )
        runoff, ctx.record = operators.generate_runoff(_array(liquid), _array(demand), p, state)
        ctx.operators, ctx.like = operators, liquid
        return _tensor(runoff, liquid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, runoff_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernel."""
        state_adj = RunoffState(*(np.zeros_like(a) for a in ctx.record.starts[0]))
        liquid, demand, p = ctx.operators.generate_runoff_adjoint(ctx.record, _array(runoff_adj), state_adj)
        x4 = ctx.operators.ordinates_adjoint(ctx.x4, p.ordinates_1, p.ordinates_2)
        gradients = (
            liquid, demand, p.production_capacity, p.exchange_coefficient, p.routing_capacity, x4,
            state_adj.production_store, state_adj.routing_store,
        )
        return (None, None, *(_tensor(g, ctx.like) for g in gradients))


class Route(torch.autograd.Function):
    """Discharge [m3 s-1] of some reaches, [time, reach], from runoff, with rivers that start empty."""

    @staticmethod
    def forward(
        ctx: Any, operators: Operators, reaches: np.ndarray, runoff: Tensor, travel_time: Tensor, weighting: Tensor
    ) -> Tensor:
        """Run the kernel; keep the lateral inflow and the states at block starts."""
        ctx.K, ctx.x = _array(travel_time), _array(weighting)
        p: ReachParameters = operators.coefficients(ctx.K, ctx.x)
        discharge, ctx.record = operators.route(_array(runoff), p, np.zeros_like(ctx.K), reaches)
        ctx.operators, ctx.like = operators, runoff
        return _tensor(discharge, runoff)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, discharge_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernel."""
        y_adj = np.zeros_like(ctx.K)
        runoff, p = ctx.operators.route_adjoint(ctx.record, _array(discharge_adj), y_adj)
        K, x = ctx.operators.coefficients_adjoint(ctx.K, ctx.x, p)
        return (None, None, *(_tensor(g, ctx.like) for g in (runoff, K, x)))
