"""The processes as torch operators: the runtime's kernels forward, their adjoints backward.

Tensors and kernels share memory; nothing is copied but what the kernels change in place. `cdlm_training.device` makes
the operators: those of the host run on numpy's view of a tensor, those of a CUDA device on the tensor itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.names.declaration import LIQUID_WATER
from bmi_cdlm.names.parameters import WEIGHT

if TYPE_CHECKING:
    from bmi_cdlm.model.operators_cuda import CudaCellOperator, CudaReachOperator

RAIN = "precipitation"


def _arrays(operator: Any, *tensors: Tensor) -> list[Any]:
    """The memory of tensors as an operator takes it."""
    plain = [t.detach().contiguous() for t in tensors]
    return plain if operator.on_device else [t.numpy() for t in plain]


def _gradient(dtype: torch.dtype, found: dict[str, Any], name: str, like: Tensor) -> Tensor:
    """What an operator gave, in the precision of the training: adjoints of parameters are summed in float64."""
    if name not in found:
        return torch.zeros_like(like)
    return torch.as_tensor(found[name]).to(dtype).reshape(like.shape)


def _after(count: int, values: Tensor) -> Tensor:
    """Series [time, ...] after so many steps of zeros; itself where there are none."""
    return pad(values, (0, 0, count, 0)) if count else values


class Advance(torch.autograd.Function):
    """What a process of cells gives over a period, [time, cell], from its cold start or the one that is learned."""

    @staticmethod
    def forward(
        ctx: Any, operator: CellOperator | CudaCellOperator, places: dict[str, int], series: tuple[str, ...],
        parameters: tuple[str, ...], *tensors: Tensor,
    ) -> Tensor:
        """Run the kernels; keep the states at block starts.

        tensors : inputs and varying parameters [time, cell] of the names `series`, varying ones of several components
        [component, time, cell], then parameters [cell] or
        [component, cell] of the names `parameters`.
        """
        arrays = _arrays(operator, *tensors)
        values = {name: a.reshape(-1) for name, a in zip(parameters, arrays[len(series) :], strict=True)}
        p = operator.prepare(values, places)
        given, ctx.record = operator.run(dict(zip(series, arrays, strict=False)), p, operator.start(p))
        ctx.operator, ctx.names, ctx.shapes = operator, (series, parameters), [t.shape for t in tensors]
        ctx.save_for_backward(*tensors[len(series) :])
        return torch.as_tensor(given).to(tensors[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernels."""
        operator, (series, parameters) = ctx.operator, ctx.names
        needed = ctx.needs_input_grad[4:]
        wanted = [name for name, wants in zip(series, needed, strict=False) if wants]
        state_adj = operator.empty_state(ctx.record)
        inputs_adj, p_adj = operator.reverse(ctx.record, *_arrays(operator, out_adj), state_adj, wanted)
        if LIQUID_WATER in inputs_adj and LIQUID_WATER not in series:  # rain plus melt is precipitation without snow
            rain_adj = inputs_adj.pop(LIQUID_WATER)
            inputs_adj[RAIN] = inputs_adj[RAIN] + rain_adj if RAIN in inputs_adj else rain_adj
        found = operator.prepare_adjoint(ctx.record.parameters, p_adj, state_adj)
        found |= {WEIGHT: inputs_adj.pop(WEIGHT)} if WEIGHT in inputs_adj else {}
        of_series = [
            _gradient(out_adj.dtype, inputs_adj, name, out_adj.new_empty(shape)) if wants else None
            for name, wants, shape in zip(series, needed, ctx.shapes, strict=False)
        ]
        of_parameters = [
            _gradient(out_adj.dtype, found, name, like)
            for name, like in zip(parameters, ctx.saved_tensors, strict=True)
        ]
        return (None, None, None, None, *of_series, *of_parameters)


class Route(torch.autograd.Function):
    """Discharge [m3 s-1] of some reaches, [time - warm_up, reach], from runoff, with rivers that start empty.

    Of the warm-up only as many steps are routed as the rivers remember: what was in them before is less than rounding.
    """

    @staticmethod
    def forward(
        ctx: Any, operator: ReachOperator | CudaReachOperator, reaches: np.ndarray, warm_up: int, spends: bool,
        parameters: tuple[str, ...], runoff: Tensor, *tensors: Tensor,
    ) -> Tensor:
        """Run the kernels; keep the states at block starts.

        warm_up : steps whose discharge is not returned; spends : nothing else has a use of the runoff, and its adjoint
        may take its place, once; tensors : parameters [reach] of the names `parameters`.
        """
        depth, *values = _arrays(operator, runoff, *tensors)
        p = operator.prepare(dict(zip(parameters, values, strict=True)))
        settling = operator.settling_steps(p) if isinstance(operator, ReachOperator) else math.inf
        remembered = int(settling) if settling < warm_up else warm_up
        ctx.first, ctx.warm_up = warm_up - remembered, remembered
        (state,) = _arrays(operator, runoff.new_zeros(operator.domain.n_reaches))
        discharge, ctx.record = operator.run(depth[ctx.first :], p, state, reaches)
        ctx.operator, ctx.names, ctx.spends = operator, parameters, spends and not operator.on_device
        ctx.depth = depth if ctx.spends else None
        ctx.save_for_backward(*tensors)
        return torch.as_tensor(discharge[remembered:]).to(runoff.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, discharge_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernels."""
        operator = ctx.operator
        if ctx.record is None:
            raise RuntimeError(
                "the gradient of a run whose runoff its adjoint has replaced, a second time: run it again, or with "
                "spends=False"
            )
        whole_adj = _after(ctx.warm_up, discharge_adj)
        (state_adj,) = _arrays(operator, discharge_adj.new_zeros(operator.domain.n_reaches))
        if ctx.spends:
            runoff, p_adj = operator.reverse(ctx.record, *_arrays(operator, whole_adj), state_adj, in_place=True)
        else:
            runoff, p_adj = operator.reverse(ctx.record, *_arrays(operator, whole_adj), state_adj)
        found = operator.prepare_adjoint(ctx.record.parameters, p_adj)
        gradients = [
            _gradient(discharge_adj.dtype, found, name, like)
            for name, like in zip(ctx.names, ctx.saved_tensors, strict=True)
        ]
        if ctx.spends:
            ctx.depth[: ctx.first] = 0
            runoff_adj, ctx.depth, ctx.record = torch.from_numpy(ctx.depth), None, None
        else:
            runoff_adj = _after(ctx.first, torch.as_tensor(runoff).to(discharge_adj.dtype))
        return (None, None, None, None, None, runoff_adj, *gradients)
