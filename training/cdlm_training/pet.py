"""The network to the factor on potential evapotranspiration: by the kernels of the runtime, or in torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from bmi_cdlm.generator.generator import padded_sizes
from bmi_cdlm.generator.specification import FORCING_FEATURES, LARGEST_Z, SEASON_FEATURES, PetSpec, standardise
from bmi_cdlm.kernels import groups
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.pet import factor_loop
from bmi_cdlm.names.season import YEAR, season
from bmi_cdlm.processes.pet_network_adjoint import fill_factor_weights_adjoint
from cdlm_training.layers import Layer, Layers, raw

BLOCK_VALUES = 2**22
CELLS_OF_A_SUM = 312
"""Cells whose adjoints of weights are summed at a time, whatever the threads: as many as all units of which stay in the
caches."""


def _padded(values: Tensor, rows: int, columns: int) -> Tensor:
    """Zeros behind the rows and columns of a matrix, for the kernels take units in fours."""
    return pad(values, (0, columns - values.shape[1], 0, rows - values.shape[0]))


class Factor(torch.autograd.Function):
    """The factor [time, cell] from forcing and the tables of the kernels; gradients go to the tables."""

    @staticmethod
    def forward(
        ctx: Any, spec: PetSpec, workers: Workers, of_season: np.ndarray, series: tuple[Tensor, ...], *tables: Tensor
    ) -> Tensor:
        """Run the kernel.

        of_season : float64[time, 2]; series : precipitation, demand and temperature, [time, cell]; tables : the fields
        of `groups.PetNetworkAdjoint`.
        """
        static, forcing_weight, season_weight, weight, bias, last_weight, last_bias = (
            np.ascontiguousarray(t.detach().numpy()) for t in tables
        )
        real = static.dtype.type
        network = groups.PetNetwork(
            static, forcing_weight, season_weight, real(next((f.half for f in spec.features if f.half), 1.0)),
            np.array(padded_sizes(spec), np.int64), weight, bias, last_weight, last_bias[0], real(spec.low),
            real(spec.high),
        )
        values = [np.ascontiguousarray(x.detach().numpy(), real) for x in series]
        factor = np.empty(values[1].shape, real)
        arguments = (*values, of_season.astype(real), network)
        loop, tasks = compiled(factor_loop(network), real), workers.tasks(factor.shape[1])
        workers.run(loop, (*arguments, factor), tasks, factor.size)
        ctx.workers, ctx.arguments, ctx.factor = workers, arguments, factor
        return torch.from_numpy(factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor_adj: Tensor) -> tuple[Tensor | None, ...]:
        """Run the adjoint kernel; sums over tiles are in their order, in float64."""
        network, factor, workers = ctx.arguments[-1], ctx.factor, ctx.workers
        real, n_tiles = factor.dtype.type, -(-factor.shape[1] // CELLS_OF_A_SUM)
        found = groups.PetNetworkAdjoint(np.zeros_like(network.static), *(
            np.zeros((n_tiles, *np.shape(getattr(network, name)))) for name in groups.PetNetworkAdjoint._fields[1:]
        ))
        workers.run(
            compiled(fill_factor_weights_adjoint, real),
            (*ctx.arguments, factor, np.ascontiguousarray(factor_adj.detach().numpy()), found, CELLS_OF_A_SUM),
            workers.tasks(n_tiles), factor.size,
        )
        summed = (a.sum(axis=0).reshape(np.shape(getattr(network, name))) for name, a in found._asdict().items()
                  if name != "static")
        tables = [torch.from_numpy(found.static), *(torch.as_tensor(a.astype(real)) for a in summed)]
        return (None, None, None, None, *tables[:-1], tables[-1].reshape(1))


class PetNetwork(Layers):
    """A network from forcing, season and attributes to the factor on potential evapotranspiration."""

    def __init__(self, spec: PetSpec, draw: torch.Generator) -> None:
        sizes, gain = spec.sizes, math.sqrt(2.0)
        super().__init__(
            Layer(sizes[k], sizes[k + 1], 0.0 if k == len(spec.hidden) else gain, draw) for k in range(len(sizes) - 1)
        )
        self.spec = spec
        with torch.no_grad():
            self.each[-1].bias.add_(spec.start)

    def forward(
        self, forcing: Mapping[str, Tensor], day_of_year: Tensor, attributes: Tensor | np.ndarray,
        workers: Workers | None = None,
    ) -> Tensor:
        """Return the factor [time, cell].

        On the host by the kernels of the runtime, with gradients to the weights; by torch on a device, and where
        forcing has a gradient or cells run in steps of their own (day_of_year : [time, cell]).
        """
        inputs = [forcing[f.name] for f in self.spec.features]
        if day_of_year.ndim > 1 or any(x.requires_grad or x.device.type != "cpu" for x in inputs):
            return self.by_torch(forcing, day_of_year, attributes)
        demand = forcing["potential_evapotranspiration"]
        series = (forcing["precipitation"], demand, forcing.get("air_temperature", demand))
        tables = self._folded(attributes)
        return Factor.apply(self.spec, workers or Workers(1), season(day_of_year.numpy()), series, *tables)

    def _folded(self, attributes: Tensor | np.ndarray) -> list[Tensor]:
        """The fields of a group of the kernels that have a gradient, in its order; see `generator.pet_network`."""
        first, *later = self.each
        spec, n, sizes = self.spec, len(self.spec.features), padded_sizes(self.spec)
        weight, width = first.weight, max(sizes)
        std, mean = (weight.new_tensor([getattr(f, of) for f in spec.features]) for of in ("std", "mean"))
        scaled = weight[:, :n] / std
        known = torch.from_numpy(standardise(spec.attributes, raw(attributes))).to(weight)
        static = weight[:, n + SEASON_FEATURES :] @ known.T + (first.bias - scaled @ mean)[:, None]
        columns = [FORCING_FEATURES.index(f.name) for f in spec.features]
        forcing_weight = weight.new_zeros((scaled.shape[0], len(FORCING_FEATURES))).index_add(
            1, torch.tensor(columns), scaled
        )
        of_season = weight[:, n : n + SEASON_FEATURES]
        hidden = later[:-1]
        none = [weight.new_zeros((0, width, width)), weight.new_zeros((0, width))]
        stacked = [
            torch.stack([_padded(layer.weight, width, width) for layer in hidden]),
            torch.stack([_padded(layer.bias[:, None], width, 1)[:, 0] for layer in hidden]),
        ] if hidden else none
        last = later[-1]
        return [
            _padded(static, sizes[0], static.shape[1]), _padded(forcing_weight, sizes[0], len(FORCING_FEATURES)),
            _padded(of_season, sizes[0], SEASON_FEATURES), *stacked, _padded(last.weight, 1, sizes[-1])[0], last.bias,
        ]

    def by_torch(
        self, forcing: Mapping[str, Tensor], day_of_year: Tensor, attributes: Tensor | np.ndarray
    ) -> Tensor:
        """Return the factor [time, cell]; memory for the gradient is that of one block of steps."""
        first = self.each[0]
        n = len(self.spec.features)
        x = torch.from_numpy(standardise(self.spec.attributes, raw(attributes))).to(first.bias)
        static = x @ first.weight[:, n + SEASON_FEATURES :].T + first.bias
        angle = day_of_year.to(torch.float64) * (2 * math.pi / YEAR)
        season = torch.stack([torch.sin(angle), torch.cos(angle)], -1).to(static) @ first.weight[
            :, n : n + SEASON_FEATURES
        ].T
        season = season if season.ndim == 3 else season[:, None, :]
        inputs = [forcing[f.name] for f in self.spec.features]
        block = max(1, BLOCK_VALUES // (static.shape[0] * max(self.spec.hidden)))
        parts = []
        for lo in range(0, season.shape[0], block):
            part = slice(lo, lo + block)
            rows = [v[part] for v in inputs]
            if torch.is_grad_enabled():
                parts.append(checkpoint(self._block, static, season[part], *rows, use_reentrant=False))
            else:
                parts.append(self._block(static, season[part], *rows))
        return torch.cat(parts)

    def _block(self, static: Tensor, season: Tensor, *inputs: Tensor) -> Tensor:
        first, *later = self.each
        x = static + season
        for k, (feature, value) in enumerate(zip(self.spec.features, inputs, strict=True)):
            value = value.to(static)
            if feature.half:
                value = value / (value + feature.half)
            x = x + ((value - feature.mean) / feature.std)[..., None] * first.weight[:, k]
        for layer in later:
            x = layer(torch.relu(x))
        z = x[..., 0].clamp(-LARGEST_Z, LARGEST_Z)
        return self.spec.low + (self.spec.high - self.spec.low) * torch.sigmoid(z)
