"""The processes as torch operators: the runtime's kernels forward, their adjoints backward.

Tensors and kernels share memory; nothing is copied but what the kernels change in place. `cdlm_training.device` makes
the operators: those of the host run on numpy's view of a tensor, those of a CUDA device on the tensor itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bmi_cdlm.kernels.groups import ReachParameters, RunoffParameters, RunoffState, SnowParameters, SnowState
from bmi_cdlm.model.operators import Operators

if TYPE_CHECKING:
    from bmi_cdlm.model.operators_cuda import CudaOperators


def _arrays(operators: Operators | CudaOperators, *tensors: Tensor) -> list[Any]:
    """The memory of tensors as the operators take it."""
    plain = [t.detach().contiguous() for t in tensors]
    return plain if operators.on_device else [t.numpy() for t in plain]


def _zeros(operators: Operators | CudaOperators, like: Tensor, *shapes: tuple[int, ...]) -> list[Any]:
    return _arrays(operators, *(like.new_zeros(shape) for shape in shapes))


def _tensors(dtype: torch.dtype, *arrays: Any) -> tuple[Tensor, ...]:
    """What the operators gave, in the precision of the training: adjoints of parameters are summed in float64."""
    return tuple(torch.as_tensor(a).to(dtype) for a in arrays)


class Melt(torch.autograd.Function):
    """Rain plus melt [mm d-1], [time, cell], from a start without snow."""

    @staticmethod
    def forward(
        ctx: Any, operators: Operators | CudaOperators, hysteresis: bool, precipitation: Tensor,
        air_temperature: Tensor, thermal_weighting: Tensor, melt_factor: Tensor, accumulation_threshold: Tensor,
        full_cover: Tensor,
    ) -> Tensor:
        """Run the kernel; keep the states at block starts."""
        p = SnowParameters(
            *_arrays(operators, thermal_weighting, melt_factor, accumulation_threshold, full_cover)
        )
        P, T, peak = _arrays(operators, precipitation, air_temperature, full_cover.clone())
        bare = SnowState(*_zeros(operators, full_cover, *[tuple(full_cover.shape)] * 4))
        liquid, ctx.record = operators.melt(P, T, p, bare._replace(snow_peak=peak), hysteresis)
        ctx.operators = operators
        return _tensors(precipitation.dtype, liquid)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, liquid_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernel."""
        state_adj = SnowState(*_zeros(ctx.operators, liquid_adj, *[(liquid_adj.shape[1],)] * 4))
        P_adj, T_adj, p = ctx.operators.melt_adjoint(ctx.record, *_arrays(ctx.operators, liquid_adj), state_adj)
        # The peak starts at full cover.
        full = p.full_cover + state_adj.snow_peak
        gradients = (P_adj, T_adj, p.thermal_weighting, p.melt_factor, p.accumulation_threshold, full)
        return (None, None, *_tensors(liquid_adj.dtype, *gradients))


class Runoff(torch.autograd.Function):
    """Runoff [mm d-1], [time, cell], from stores S and R [mm] and empty unit hydrographs."""

    @staticmethod
    def forward(
        ctx: Any, operators: Operators | CudaOperators, n_places: tuple[int, int], liquid: Tensor, demand: Tensor,
        x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor, S: Tensor, R: Tensor,
    ) -> Tensor:
        """Run the kernel; keep the states at block starts."""
        (ctx.x4,) = _arrays(operators, x4)
        p = RunoffParameters(*_arrays(operators, x1, x2, x3), *operators.ordinates(ctx.x4, n_places))
        ctx.queues = [(n, x4.shape[0]) for n in n_places]
        state = RunoffState(*_arrays(operators, S.clone(), R.clone()), *_zeros(operators, S, *ctx.queues))
        water, evaporation = _arrays(operators, liquid, demand)
        runoff, ctx.record = operators.generate_runoff(water, evaporation, p, state)
        ctx.operators = operators
        return _tensors(liquid.dtype, runoff)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, runoff_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernel."""
        stores = [(runoff_adj.shape[1],)] * 2
        state_adj = RunoffState(*_zeros(ctx.operators, runoff_adj, *stores, *ctx.queues))
        liquid, p = ctx.operators.generate_runoff_adjoint(
            ctx.record, *_arrays(ctx.operators, runoff_adj), state_adj
        )
        x4 = ctx.operators.ordinates_adjoint(ctx.x4, p.ordinates_1, p.ordinates_2)
        gradients = (
            p.production_capacity, p.exchange_coefficient, p.routing_capacity, x4, state_adj.production_store,
            state_adj.routing_store,
        )
        (water,) = _tensors(runoff_adj.dtype, liquid)
        demand = -water if ctx.needs_input_grad[3] else None
        return (None, None, water, demand, *_tensors(runoff_adj.dtype, *gradients))


class Route(torch.autograd.Function):
    """Discharge [m3 s-1] of some reaches, [time, reach], from runoff, with rivers that start empty."""

    @staticmethod
    def forward(
        ctx: Any, operators: Operators | CudaOperators, reaches: np.ndarray, runoff: Tensor, travel_time: Tensor,
        weighting: Tensor,
    ) -> Tensor:
        """Run the kernel; keep the lateral inflow and the states at block starts."""
        ctx.K, ctx.x = _arrays(operators, travel_time, weighting)
        p: ReachParameters = operators.coefficients(ctx.K, ctx.x)
        (depth,), (y,) = _arrays(operators, runoff), _zeros(operators, travel_time, tuple(travel_time.shape))
        discharge, ctx.record = operators.route(depth, p, y, reaches)
        ctx.operators = operators
        return _tensors(runoff.dtype, discharge)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, discharge_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernel."""
        (y_adj,) = _zeros(ctx.operators, discharge_adj, tuple(ctx.K.shape))
        runoff, p = ctx.operators.route_adjoint(ctx.record, *_arrays(ctx.operators, discharge_adj), y_adj)
        K, x = ctx.operators.coefficients_adjoint(ctx.K, ctx.x, p)
        return (None, None, *_tensors(discharge_adj.dtype, runoff, K, x))
