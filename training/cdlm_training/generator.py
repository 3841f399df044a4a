"""The generator in torch: the networks of `bmi_cdlm.generator`, with gradients to their weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bmi_cdlm.generator.specification import (
    EXPONENTS,
    LARGEST_Z,
    SEASON_FEATURES,
    GeneratorSpec,
    NetworkSpec,
    PetSpec,
    Target,
    network_inputs,
    standardise,
)
from bmi_cdlm.names.season import YEAR
from cdlm_training.errors import GaugeErrors
from cdlm_training.lstm import LstmGenerator, mask

BLOCK_VALUES = 2**22
START_SPREAD = 0.01
"""Standard deviation of what the last layer adds to z at the start, per unit of its inputs' length."""


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
        x = torch.from_numpy(network_inputs(self.spec, _raw(attributes))).to(last.bias.device)
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

    def forward(self, forcing: Mapping[str, Tensor], day_of_year: Tensor, attributes: Tensor | np.ndarray) -> Tensor:
        """Return the factor [time, cell]; memory for the gradient is that of one block of steps."""
        first = self.each[0]
        n = len(self.spec.features)
        x = torch.from_numpy(standardise(self.spec.attributes, _raw(attributes))).to(first.bias)
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
        day_of_year: Tensor, attributes: Tensor | np.ndarray,
    ) -> Tensor:
        """Return the factor on potential evapotranspiration, [time, cell]; 1 where there is no network for it."""
        if self.pet is None:
            return torch.ones_like(precipitation)
        forcing = {"precipitation": precipitation, "potential_evapotranspiration": potential_evapotranspiration}
        if air_temperature is not None:
            forcing["air_temperature"] = air_temperature
        return self.pet(forcing, day_of_year, attributes)

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


def _raw(attributes: Tensor | np.ndarray) -> np.ndarray:
    values = attributes.detach().cpu().numpy() if isinstance(attributes, Tensor) else attributes
    return np.asarray(values, np.float64)


def within(target: Target, z: Tensor) -> Tensor:
    """Bring z into the bounds of a parameter."""
    if target.scale == "log":
        low, high = math.log(target.low), math.log(target.high)
        return torch.exp(low + (high - low) * torch.sigmoid(z))
    return target.low + (target.high - target.low) * torch.sigmoid(z)
