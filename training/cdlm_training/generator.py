"""The generator in torch: the networks of `bmi_cdlm.generator`, with gradients to their weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from bmi_cdlm.generator.specification import (
    EXPONENTS,
    GeneratorSpec,
    NetworkSpec,
    Target,
    network_inputs,
)
from bmi_cdlm.kernels.workers import Workers
from cdlm_training.errors import GaugeErrors
from cdlm_training.layers import Layer, Layers, raw
from cdlm_training.lstm import LstmGenerator, mask
from cdlm_training.pet import PetNetwork

START_SPREAD = 0.01
"""Standard deviation of what the last layer adds to z at the start, per unit of its inputs' length."""


class StaticNetwork(Layers):
    """A network from attributes to parameters, evaluated in float64 whatever the precision of its weights."""

    def __init__(self, spec: NetworkSpec, draw: torch.Generator, dropout: float = 0.0) -> None:
        gain = math.sqrt(2.0) if spec.activation == "relu" else 1.0
        sizes = spec.sizes
        super().__init__(
            Layer(sizes[k], sizes[k + 1], START_SPREAD if k == len(spec.hidden) else gain, draw, spec.mapping)
            for k in range(len(sizes) - 1)
        )
        self.spec, self.dropout = spec, dropout
        self.dropped: int | None = None
        with torch.no_grad():
            starts = [z for target in spec.targets for z in target.starts]
            self.each[-1].bias.add_(torch.tensor(starts, dtype=torch.float64))

    def free(self, attributes: Tensor | np.ndarray) -> Tensor:
        """Return parameters without bounds, z [n, output], from raw attributes [n, attribute]."""
        *hidden, last = self.each
        masks = None if self.dropped is None else torch.Generator().manual_seed(self.dropped)
        x = torch.from_numpy(network_inputs(self.spec, raw(attributes))).to(last.bias.device)
        for k, layer in enumerate(hidden):
            more = torch.tanh(layer(x)) if self.spec.activation == "tanh" else torch.relu(layer(x))
            more = more if masks is None else more * mask(more.shape, self.dropout, masks).to(more)
            x = x + more if k and self.spec.mapping == "residual_mlp" else more
        if self.spec.mapping == "uniform":
            z = last.bias.to(x).expand(x.shape[0], -1)
        elif self.spec.mapping == "power":
            power = EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * torch.sigmoid(last.exponent.to(x))
            z = (last.weight.to(x) * x[:, None, :] ** power).sum(2) + last.bias.to(x)
        else:
            z = last(x)
        return z

    def forward(self, attributes: Tensor | np.ndarray) -> dict[str, Tensor]:
        """Return parameters [n] or [component, n] by registry name from raw attributes [n, attribute]."""
        z, last, found = self.free(attributes), self.each[-1], {}
        for target, rows in zip(self.spec.targets, self.spec.rows, strict=True):
            own = z[:, rows.start] if target.components == 1 else z[:, rows].T
            value = torch.softmax(own, 0) if target.scale == "share" else within(target, own)
            found[target.name] = value.to(last.bias.dtype)
        return found


class Generator(nn.Module):
    """All networks of a generator.

    Parameters
    ----------
    spec : GeneratorSpec
    seed : int
        The same seed gives the same start, at either precision.
    dtype : torch.float32 or torch.float64
        Of weights and results. Raw attributes come in float64, and are standardised in it.
    dropout : float
        Share of the units of hidden layers that are left out while `draw_dropout` says so.
    """

    def __init__(
        self, spec: GeneratorSpec, seed: int = 0, dtype: torch.dtype = torch.float32, dropout: float = 0.0
    ) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.spec = spec
        self.cell = StaticNetwork(spec.cell, draw, dropout)
        self.reach = StaticNetwork(spec.reach, draw, dropout)
        self.errors: GaugeErrors | None = None  # of a loss that learns them; no part of what is generated
        self.pet = PetNetwork(spec.pet, draw) if spec.pet is not None else None
        self.lstm = LstmGenerator(spec.lstm, draw, dropout) if spec.lstm is not None else None
        self.to(dtype)

    def draw_dropout(self, random: np.random.Generator | None) -> None:
        """Draw which units an update leaves out, however often its parts are run; None: leave none out."""
        networks: list[StaticNetwork | LstmGenerator] = [self.cell, self.reach]
        networks += [self.lstm] if self.lstm is not None else []
        for network in networks:
            drawn = random is not None and network.dropout > 0
            network.dropped = int(random.integers(2**62)) if drawn and random is not None else None

    def cell_parameters(self, attributes: Tensor | np.ndarray) -> dict[str, Tensor]:
        """Return the generated cell parameters [cell] by registry name from raw attributes [cell, attribute]."""
        return self.cell(attributes)

    def reach_parameters(self, attributes: Tensor | np.ndarray) -> dict[str, Tensor]:
        """Return the generated reach parameters [reach] by registry name from raw attributes [reach, attribute]."""
        return self.reach(attributes)

    def pet_factor(
        self, precipitation: Tensor, potential_evapotranspiration: Tensor, air_temperature: Tensor | None,
        day_of_year: Tensor, attributes: Tensor | np.ndarray, workers: Workers | None = None,
    ) -> Tensor:
        """Return the factor on potential evapotranspiration, [time, cell]; 1 where there is no network for it."""
        if self.pet is None:
            return torch.ones_like(precipitation)
        forcing = {"precipitation": precipitation, "potential_evapotranspiration": potential_evapotranspiration}
        if air_temperature is not None:
            forcing["air_temperature"] = air_temperature
        return self.pet(forcing, day_of_year, attributes, workers)

    def varying(self, forcing: Mapping[str, Tensor], attributes: np.ndarray) -> dict[str, Tensor]:
        """Return the parameters of the LSTM by registry name, [time, cell], or [component, time, cell] of several.

        forcing : raw [time, cell] by registry name; attributes : raw [cell, attribute].
        """
        if self.lstm is None:
            return {}
        z = self.lstm(forcing, attributes)
        found = {t.name: within(t, z[t.name]).to(self.cell.each[-1].bias.dtype) for t in self.lstm.spec.targets}
        return {name: value[0] if value.shape[0] == 1 else value for name, value in found.items()}

    def scatter(self, seed: int) -> None:
        """Let parameters start from places drawn about their start, about one unit of z away; weights stay."""
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for network in (self.cell, self.reach):
                bias = network.each[-1].bias
                for target, rows in zip(network.spec.targets, network.spec.rows, strict=True):
                    if target.scale != "share":
                        off = torch.randn(target.components, generator=draw, dtype=torch.float64)
                        bias[..., rows] += off.to(bias)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of every weight array by its name in the checkpoint."""
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("errors.")}
        return {name: value.detach().cpu().numpy().copy() for name, value in own.items()}

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take over weights by name, in this generator's precision."""
        errors = {} if self.errors is None else {f"errors.{n}": v for n, v in self.errors.state_dict().items()}
        self.load_state_dict({**errors, **{name: torch.tensor(np.asarray(value)) for name, value in tensors.items()}})


def within(target: Target, z: Tensor) -> Tensor:
    """Bring z into the bounds of a parameter."""
    if target.scale == "log":
        low, high = math.log(target.low), math.log(target.high)
        return torch.exp(low + (high - low) * torch.sigmoid(z))
    return target.low + (target.high - target.low) * torch.sigmoid(z)
