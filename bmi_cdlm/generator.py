"""Parameter generators: what they are made of, and their evaluation with numpy.

A generator has a network from cell attributes to cell parameters, one from reach attributes to reach parameters
and, optionally, one from the forcing of the model step, the season and cell attributes to a factor on potential
evapotranspiration. Its weights are named arrays, `<part>.<layer>.<weight | bias | exponent>`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from bmi_cdlm.attributes import read_attributes
from bmi_cdlm.domain import Domain
from bmi_cdlm.errors import nearest
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.parameters import BY_NAME

MappingName = Literal["uniform", "linear", "power", "mlp"]
Transform = Literal["none", "log", "log1p"]
FORCING_FEATURES = ("precipitation", "potential_evapotranspiration", "air_temperature")
SEASON_FEATURES = 2
LANES = 4
"""The compiled loops take the inputs of a layer in fours: layers are padded with zeros."""
SMALLEST_SHARE = 0.01
"""Least value of an attribute that is raised to a power: those of the training domain lie between it and 1."""
EXPONENTS = 0.5, 2.0
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=STRICT)
class Attribute:
    """A static input. After `transform`, `mean`, `std`, `low` and `high` are those of the training domain.

    log is ln(max(value, floor)): lengths, slopes and areas of 0 are legal.
    """

    name: str
    units: str
    transform: Transform
    floor: float
    mean: float
    std: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what cannot be divided by, or has no logarithm."""
        _expect(self.std > 0, f"std of '{self.name}' is {self.std}, expected > 0")
        _expect(self.high >= self.low, f"high of '{self.name}' is {self.high}, expected >= low, {self.low}")
        _expect(self.transform != "log" or self.floor > 0, f"floor of '{self.name}' is {self.floor}, expected > 0")


@dataclass(frozen=True, config=STRICT)
class Target:
    """A registry parameter that is generated: bounds, start and scale at the generator's model step."""

    name: str
    low: float
    high: float
    default: float
    scale: Literal["linear", "log"]

    def __post_init__(self) -> None:
        """Refuse unknown names and bounds outside the legal range."""
        _expect(self.name in BY_NAME, f"there is no parameter '{self.name}'.{nearest(self.name, BY_NAME)}")
        low, high = BY_NAME[self.name].legal
        _expect(
            low <= self.low < self.high <= high and (self.scale == "linear" or self.low > 0),
            f"bounds of '{self.name}' are {self.low} to {self.high}, expected them within {low:g} to {high:g}",
        )

    @property
    def start(self) -> float:
        """The z that gives the default."""
        low, high, at = (math.log(v) if self.scale == "log" else v for v in (self.low, self.high, self.default))
        share = min(max((at - low) / (high - low), 0.01), 0.99)
        return math.log(share / (1 - share))


@dataclass(frozen=True, config=STRICT)
class NetworkSpec:
    """A network from attributes to parameters.

    mapping: `uniform` (biases only), `linear` (affine in the standardised attributes), `power` (a weighted sum
    of attributes, scaled to (0, 1], to learned exponents) or `mlp` (dense layers of the sizes `hidden`).
    """

    mapping: MappingName
    attributes: tuple[Attribute, ...]
    hidden: tuple[int, ...]
    activation: Literal["tanh", "relu"]
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        _expect(bool(self.hidden) == (self.mapping == "mlp"), f"mapping {self.mapping} with hidden sizes {self.hidden}")
        _expect(bool(self.attributes) == (self.mapping != "uniform"),
                f"mapping {self.mapping} with {len(self.attributes)} attributes")
        _expect(all(0 < n <= 65536 for n in self.hidden), f"hidden sizes are {self.hidden}, expected positive ones")
        _expect(bool(self.targets), "a network without targets")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the layers, input and output among them."""
        return len(self.attributes), *self.hidden, len(self.targets)


@dataclass(frozen=True, config=STRICT)
class Feature:
    """A dynamic input, (value - mean) / std; with `half`, value / (value + half) in place of the value."""

    name: str
    units: str
    half: float
    mean: float
    std: float

    def __post_init__(self) -> None:
        """Refuse what the compiled loops do not offer."""
        _expect(self.name in FORCING_FEATURES, f"there is no feature '{self.name}'")
        _expect(self.std > 0, f"std of '{self.name}' is {self.std}, expected > 0")
        _expect((self.half > 0) == (self.name == "precipitation") and self.half >= 0,
                f"half of '{self.name}' is {self.half}, expected a positive value for precipitation, 0 for others")


@dataclass(frozen=True, config=STRICT)
class PetSpec:
    """A network to the factor on potential evapotranspiration, low + (high - low) sigmoid(z), with relu.

    Inputs, in this order: `features` of this model step (no lags), sine and cosine of the season, `attributes`
    of cells. kind: which potential evapotranspiration it was trained on.
    """

    features: tuple[Feature, ...]
    attributes: tuple[Attribute, ...]
    hidden: tuple[int, ...]
    low: float
    high: float
    kind: str

    def __post_init__(self) -> None:
        """Refuse limits that exclude 1, and features out of order."""
        _expect(0 <= self.low < 1 < self.high, f"limits of the factor are {self.low} and {self.high}, expected 1 between")
        names = [f.name for f in self.features]
        _expect(names == [n for n in FORCING_FEATURES if n in names], f"features are {names}, expected another order")
        _expect(bool(self.hidden) and all(0 < n <= 65536 for n in self.hidden),
                f"hidden sizes are {self.hidden}, expected at least one layer")

    @property
    def start(self) -> float:
        """The z that gives a factor of 1."""
        return math.log((1 - self.low) / (self.high - 1))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the layers, input and output among them."""
        return len(self.features) + SEASON_FEATURES + len(self.attributes), *self.hidden, 1


@dataclass(frozen=True, config=STRICT)
class GeneratorSpec:
    """Everything of a generator but its weights; step and routing_step in seconds."""

    cell: NetworkSpec
    reach: NetworkSpec
    pet: PetSpec | None
    step: int
    routing_step: int
    snow: Literal["none", "cemaneige", "cemaneige_hysteresis"]

    def __post_init__(self) -> None:
        """Refuse parameters on the wrong grid."""
        for grid, network in (("cell", self.cell), ("reach", self.reach)):
            for target in network.targets:
                _expect(BY_NAME[target.name].grid == grid, f"'{target.name}' is no parameter of a {grid}")

    def to_json(self) -> str:
        """Return the specification as JSON; numbers come back to the bit."""
        return ADAPTER.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> GeneratorSpec:
        """Read and check what `to_json` wrote; ValueError says what is wrong."""
        return ADAPTER.validate_json(text)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight array by its name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for part, network in (("cell", self.cell), ("reach", self.reach), ("pet", self.pet)):
            if network is None:
                continue
            mapping = network.mapping if isinstance(network, NetworkSpec) else "mlp"
            for k, (n_in, n_out) in enumerate(zip(network.sizes[:-1], network.sizes[1:], strict=True)):
                if mapping != "uniform":
                    shapes[f"{part}.{k}.weight"] = (n_out, n_in)
                if mapping == "power":
                    shapes[f"{part}.{k}.exponent"] = (n_out, n_in)
                shapes[f"{part}.{k}.bias"] = (n_out,)
        return shapes


ADAPTER = TypeAdapter(GeneratorSpec)


class Inputs(NamedTuple):
    """Raw attributes of a domain in the order of a specification: float64[cell | reach, attribute].

    pet: cell attributes of the PET network; float64[cell, 0] without one.
    """

    cell: np.ndarray
    reach: np.ndarray
    pet: np.ndarray


def read_inputs(spec: GeneratorSpec, path: Path, domain: Domain) -> Inputs:
    """Read what the generator needs from a domain file; DomainError names what is missing or has other units."""
    def read(grid: Literal["cell", "reach"], attributes: tuple[Attribute, ...]) -> np.ndarray:
        table = read_attributes(path, domain, grid, [a.name for a in attributes], [a.units for a in attributes])
        return table.values

    return Inputs(
        read("cell", spec.cell.attributes), read("reach", spec.reach.attributes),
        read("cell", spec.pet.attributes if spec.pet else ()),
    )


def transformed(transform: Transform, floor: float, values: np.ndarray) -> np.ndarray:
    """Return attribute values on the scale on which they are standardised."""
    if transform == "log":
        return np.log(np.maximum(values, floor))
    return np.log1p(values) if transform == "log1p" else values


def standardise(attributes: tuple[Attribute, ...], values: np.ndarray, *, to_shares: bool = False) -> np.ndarray:
    """Return raw attributes float64[n, attribute] standardised, or scaled to (0, 1] for a power."""
    scaled = np.empty(values.shape)
    for k, a in enumerate(attributes):
        v = transformed(a.transform, a.floor, values[:, k])
        if to_shares:
            share = (v - a.low) / (a.high - a.low) if a.high > a.low else np.ones(v.shape)
            scaled[:, k] = np.maximum(SMALLEST_SHARE + (1 - SMALLEST_SHARE) * share, SMALLEST_SHARE)
        else:
            scaled[:, k] = (v - a.mean) / a.std
    return scaled


def network_inputs(network: NetworkSpec, values: np.ndarray) -> np.ndarray:
    """Return what the first layer of a network takes, float64[n, attribute], from raw attributes."""
    return standardise(network.attributes, values, to_shares=network.mapping == "power")


def static_parameters(
    spec: GeneratorSpec, tensors: Mapping[str, np.ndarray], inputs: Inputs
) -> dict[str, np.ndarray]:
    """Evaluate the networks of cells and reaches: float64[cell | reach] by registry name."""
    values: dict[str, np.ndarray] = {}
    for part, network, raw in (("cell", spec.cell, inputs.cell), ("reach", spec.reach, inputs.reach)):
        x = network_inputs(network, raw).T
        last = len(network.hidden)
        for k in range(last):
            z = _dense(tensors[f"{part}.{k}.weight"], tensors[f"{part}.{k}.bias"], x)
            x = np.tanh(z) if network.activation == "tanh" else np.maximum(z, 0.0)
        bias = tensors[f"{part}.{last}.bias"]
        if network.mapping == "uniform":
            z = np.repeat(np.asarray(bias, np.float64)[:, None], raw.shape[0], axis=1)
        elif network.mapping == "power":
            z = _powers(tensors[f"{part}.0.weight"], tensors[f"{part}.0.exponent"], bias, x)
        else:
            z = _dense(tensors[f"{part}.{last}.weight"], bias, x)
        values |= {target.name: _within(target, row) for target, row in zip(network.targets, z, strict=True)}
    return values


def _dense(weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return weight @ x + bias, summed in one order whatever the machine's BLAS."""
    weight = np.asarray(weight, np.float64)
    z = np.repeat(np.asarray(bias, np.float64)[:, None], x.shape[1], axis=1)
    for k in range(x.shape[0]):
        z += weight[:, k, None] * x[k]
    return z


def _powers(weight: np.ndarray, exponent: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    weight = np.asarray(weight, np.float64)
    power = EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * _sigmoid(np.asarray(exponent, np.float64))
    z = np.repeat(np.asarray(bias, np.float64)[:, None], x.shape[1], axis=1)
    for k in range(x.shape[0]):
        z += weight[:, k, None] * x[k] ** power[:, k, None]
    return z


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def _within(target: Target, z: np.ndarray) -> np.ndarray:
    """Bring z into the bounds of a parameter."""
    if target.scale == "log":
        low, high = math.log(target.low), math.log(target.high)
        return np.exp(low + (high - low) * _sigmoid(z))
    return target.low + (target.high - target.low) * _sigmoid(z)


def pet_network(spec: GeneratorSpec, tensors: Mapping[str, np.ndarray], inputs: Inputs) -> PetNetwork | None:
    """Return the PET network as the compiled loops take it, or None.

    Standardisation is folded into the weights, and what attributes add to the first layer is summed once per
    cell, so that a step adds the dynamic features only.
    """
    pet = spec.pet
    if pet is None:
        return None
    sizes = [-(-n // LANES) * LANES for n in pet.hidden]
    first, n = np.asarray(tensors["pet.0.weight"], np.float64), len(pet.features)
    scaled = first[:, :n] / np.array([f.std for f in pet.features])
    static = _dense(first[:, n + SEASON_FEATURES :], tensors["pet.0.bias"], standardise(pet.attributes, inputs.pet).T)
    for k, feature in enumerate(pet.features):
        static -= (scaled[:, k] * feature.mean)[:, None]
    forcing_weight = np.zeros((sizes[0], len(FORCING_FEATURES)))
    for k, feature in enumerate(pet.features):
        forcing_weight[: pet.hidden[0], FORCING_FEATURES.index(feature.name)] = scaled[:, k]
    depth, width = len(sizes), max(sizes)
    weight, bias = np.zeros((depth - 1, width, width)), np.zeros((depth - 1, width))
    for k in range(1, depth):
        w = tensors[f"pet.{k}.weight"]
        weight[k - 1, : w.shape[0], : w.shape[1]] = w
        bias[k - 1, : w.shape[0]] = tensors[f"pet.{k}.bias"]
    return PetNetwork(
        static=_padded(static, sizes[0]), forcing_weight=forcing_weight,
        season_weight=_padded(first[:, n : n + SEASON_FEATURES], sizes[0]),
        half_rain=next((f.half for f in pet.features if f.half), 1.0),
        widths=np.array(sizes, np.int64), weight=weight, bias=bias,
        last_weight=_padded(np.asarray(tensors[f"pet.{depth}.weight"], np.float64)[0], sizes[-1]),
        last_bias=float(tensors[f"pet.{depth}.bias"][0]), low=pet.low, high=pet.high,
    )


def _padded(values: np.ndarray, n: int) -> np.ndarray:
    padded = np.zeros((n, *values.shape[1:]))
    padded[: values.shape[0]] = values
    return padded


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
