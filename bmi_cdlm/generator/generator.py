"""Parameter generators: made for a training domain, and evaluated with numpy.

A generator has a network from cell attributes to cell parameters, one from reach attributes to reach parameters
and, optionally, one from the forcing of the model step, the season and cell attributes to a factor on potential
evapotranspiration. Its weights are named arrays, `<part>.<layer>.<weight | bias | exponent>`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.generator.specification import (
    EXPONENTS,
    FORCING_FEATURES,
    LAYERED,
    SEASON_FEATURES,
    Attribute,
    Feature,
    GeneratorSpec,
    LstmSpec,
    MappingName,
    NetworkSpec,
    PetSpec,
    Target,
    Transform,
    explain,
    network_inputs,
    standardise,
    transformed,
)
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.names.declaration import CellProcess, ReachProcess
from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError, nearest
from bmi_cdlm.names.parameters import COMPONENT_WEIGHT, WEIGHT, Grid, Parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.processes.catalogue import GIVEN, choose

__all__ = [
    "Attribute", "Feature", "GeneratorSpec", "Inputs", "NetworkSpec", "PetSpec", "Target", "describe_forcing",
    "make_spec", "pet_network", "read_inputs", "static_parameters",
]
LANES = 4
"""The compiled loops take the inputs of a layer in fours: layers are padded with zeros."""
TILE = 8192
"""Cells or reaches whose static parameters are made at once."""
LOGARITHMIC = ("length", "slope", "area", "upstream_area", "drained_area", "prior_celerity")
"""Attributes that are taken by their logarithm unless the caller says otherwise."""
FLOOR_SHARE = 0.01
"""Floor of a logarithm, as a share of the median positive value."""
Names = Sequence[str] | Mapping[str, Transform]


def describe_forcing(values: Mapping[str, np.ndarray]) -> tuple[Feature, ...]:
    """Return the dynamic features of forcing float[time, cell], by registry name, standardised over the period.

    Precipitation p goes in as p / (p + half), half being its mean over the wet steps: skewed no more, and
    bounded where a storm goes beyond the training period.
    """
    features = []
    for name in (n for n in FORCING_FEATURES if n in values):
        v = np.asarray(values[name], np.float64)
        half = 0.0
        if name == "precipitation":
            wet = v[v > 0]
            half = float(wet.mean()) if wet.size else 1.0
            v = v / (v + half)
        features.append(Feature(name, variable(name).units, half, float(v.mean()), _spread(v)))
    return tuple(features)


def make_spec(
    domain_path: Path, *, cell_attributes: Names, reach_attributes: Names, mapping: MappingName = "mlp",
    hidden: Sequence[int] = (32,), activation: Literal["tanh", "relu"] = "tanh", snow: str = "none", step: int = DAY,
    routing_step: int = HOUR, learn_weighting: bool = False, pet: bool = False, pet_attributes: Names | None = None,
    pet_hidden: Sequence[int] = (16,), pet_limits: tuple[float, float] = (0.3, 2.0), pet_kind: str = "unknown",
    features: Sequence[Feature] = (), starts: Mapping[str, float] | None = None, runoff: str = "gr4j",
    routing: str = "muskingum", components: int = 1, learn_component_weights: bool = False,
    varying: Sequence[str] = (), lstm_hidden: int = 64,
    ranges: Mapping[str, tuple[float, float]] | None = None, learn_start: bool = False, adopts: bool = False,
    precipitation: str = GIVEN,
) -> GeneratorSpec:
    """Specify a generator for a training domain, whose attributes give means and standard deviations.

    Parameters
    ----------
    cell_attributes, reach_attributes, pet_attributes : names, or a mapping from names to their transform
        By names alone, lengths, slopes and areas are taken by their logarithm, others as they are; pet_attributes
        are the cell attributes unless given.
    mapping, hidden, activation
        Of the networks of cells and of reaches; hidden sizes are read with `mlp` and `residual_mlp` only, and a network
        without attributes is `uniform`.
    learn_weighting : bool
        Generate Muskingum's x too, which is inert in reaches much shorter than a sub-step's way.
    pet, pet_hidden, pet_limits, pet_kind, features
        With or without a PET network, its hidden sizes, the limits of its factor, which potential
        evapotranspiration it corrects, and its dynamic features, from `describe_forcing`.
    starts : registry name to value
        Where generated parameters start [units of each], within their ranges; others start at their default.
    snow, runoff, routing, precipitation, components
        Processes by name, and parameter sets per cell of the runoff process.
    learn_component_weights : bool
        Generate the weights of those sets too, which start alike; without, each weighs the same.
    varying, lstm_hidden
        Parameters of the runoff process that an LSTM gives anew at every step, from `features` and the cell
        attributes, and its units.
    ranges : registry name to (low, high)
        Between which generated parameters are learned, in place of the range of the registry.
    learn_start : bool
        Generate how full the stores of the runoff process are when a run starts.
    adopts : bool
        The scales of attributes will be those of a checkpoint: here they may be constant.

    Raises
    ------
    DomainError
        An attribute that the domain lacks, or that is the same everywhere.
    ConfigError
        Options that contradict each other.
    """
    domain = read_domain(domain_path)

    chain = choose(snow, runoff, routing, precipitation)
    processes: tuple[CellProcess | ReachProcess, ...] = (*reversed(chain.cells), chain.reach)
    left_out = {name for one in processes for name in one.left_at_default} - set(starts or {})
    left_out |= set() if learn_weighting else {"weighting"}
    generated = [p for one in processes for p in one.parameters if not p.optional and p.name not in left_out]
    own = {p.name for p in chain.cells[-1].parameters}
    _check_varying(chain.cells[-1], varying, {p.name for p in generated})
    if learn_start:
        if not chain.cells[-1].starts:
            raise ConfigError(
                f"learn_start is on, and the stores of '{chain.cells[-1].name}' start empty: there is no share of "
                "theirs to learn. Leave it out, and take a longer warm_up."
            )
        generated += chain.cells[-1].starts.values()
        own |= {p.name for p in chain.cells[-1].starts.values()}
    targets = _targets(generated, step, starts or {}, ranges or {}, dict.fromkeys(own, components))
    if learn_component_weights:
        if components < 2:
            raise ConfigError(
                f"learn_component_weights is on and components is {components}. Set components to 2 or more, or turn "
                "it off."
            )
        weights = Target(WEIGHT, *COMPONENT_WEIGHT.legal, 1.0 / components, "share", components)
        targets["cell"] = (*targets["cell"], weights)

    by_lstm = tuple(target for target in targets["cell"] if target.name in varying)
    targets["cell"] = tuple(target for target in targets["cell"] if target.name not in varying)

    def network(grid: Grid, names: Names) -> NetworkSpec:
        kind = mapping if names else "uniform"
        return NetworkSpec(
            kind, () if kind == "uniform" else _describe_attributes(domain_path, domain, grid, names, adopts),
            tuple(hidden) if kind in LAYERED else (), activation, targets[grid],
        )

    try:
        return GeneratorSpec(
            network("cell", cell_attributes), network("reach", reach_attributes),
            PetSpec(
                tuple(features),
                _describe_attributes(domain_path, domain, "cell", cell_attributes if pet_attributes is None else
                                     pet_attributes, adopts),
                tuple(pet_hidden), *pet_limits, pet_kind,
            ) if pet else None,
            step, routing_step, snow, runoff, routing, {one.name: one.version for one in processes},
            LstmSpec(
                tuple(features), _describe_attributes(domain_path, domain, "cell", cell_attributes, adopts),
                lstm_hidden, by_lstm,
            ) if varying else None,
            precipitation,
        )
    except ValueError as cause:
        if isinstance(cause, CdlmError):
            raise
        raise ConfigError(f"generator: {explain(cause)}") from cause


def _check_varying(process: CellProcess, varying: Sequence[str], generated: set[str]) -> None:
    """Refuse parameters that may not vary, or that nobody generates."""
    may = [p.name for p in process.parameters if p.may_vary and p.name in generated]
    for name in varying:
        if name not in may:
            raise ConfigError(
                f"varying: '{name}' is no parameter of {process.name} that a generator may vary in time."
                f"{nearest(name, may)} These can: {', '.join(may) or 'none'}."
            )


def _targets(
    generated: Sequence[Parameter], step: int, starts: Mapping[str, float], limits: Mapping[str, tuple[float, float]],
    components: Mapping[str, int],
) -> dict[Grid, tuple[Target, ...]]:
    """Targets on cells and on reaches; a start or range that is no generated parameter's, or out of range, is refused.
    """
    ranges = {p.name: p.range_at(step) for p in generated}
    for key, names in (("starts", starts), ("ranges", limits)):
        for name in names:
            if name not in ranges:
                raise ConfigError(
                    f"{key}: '{name}' is not generated.{nearest(name, ranges)} Generated: {', '.join(ranges)}."
                )
    for name, (low, high) in limits.items():
        least, most = next(p for p in generated if p.name == name).legal
        if not least <= low < high <= most:
            raise ConfigError(
                f"ranges: '{name}' is {low:g} to {high:g}, expected a lower and a higher value within {least:g} to "
                f"{most:g}."
            )
        ranges[name] = ranges[name]._replace(low=low, high=high)
        if name not in starts and not low <= ranges[name].default <= high:
            raise ConfigError(
                f"ranges: '{name}' is {low:g} to {high:g}, and starts at {ranges[name].default:g}, outside. Say with "
                "starts where it starts."
            )
    for name, value in starts.items():
        low, high = ranges[name].low, ranges[name].high
        if not low <= value <= high:
            raise ConfigError(f"starts: '{name}' is {value}, expected a value from {low:g} to {high:g}.")
        if value in (low, high):
            raise ConfigError(
                f"starts: '{name}' is {value:g}, a bound of its range, {low:g} to {high:g}; expected a value between: "
                "at a bound a parameter has no slope. Move it, or widen its range with training.ranges."
            )
        ranges[name] = ranges[name]._replace(default=value)

    def on(grid: Grid) -> tuple[Target, ...]:
        return tuple(
            Target(p.name, *ranges[p.name], p.scale, components.get(p.name, 1)) for p in generated if p.grid == grid
        )

    return {"cell": on("cell"), "reach": on("reach")}


def _describe_attributes(
    path: Path, domain: Domain, grid: Grid, names: Names, adopts: bool
) -> tuple[Attribute, ...]:
    table = read_attributes(path, domain, grid, list(names))
    described = []
    for name, units, values in zip(table.names, table.units, table.values.T, strict=True):
        logarithmic = name.removeprefix(f"{grid}_") in LOGARITHMIC
        default: Transform = "log" if logarithmic else "none"
        transform = names.get(name, default) if isinstance(names, Mapping) else default
        positive = values[values > 0]
        floor = FLOOR_SHARE * float(np.median(positive)) if positive.size else 1.0
        v = transformed(transform, floor, values)
        if v.size > 1 and v.min() == v.max() and not adopts:
            raise DomainError(
                f"{path}: the {grid} attribute '{name}' is {values[0]:g} everywhere, expected one that differs: "
                "nothing can be learned from it. Leave it out, or check its source."
            )
        described.append(
            Attribute(name, units, transform, floor, float(v.mean()), _spread(v), float(v.min()), float(v.max()))
        )
    return tuple(described)


def _spread(values: np.ndarray) -> float:
    """Standard deviation; 1 where all values are the same."""
    spread = float(values.std())
    return spread if spread > 1e-9 * float(np.abs(values).max(initial=0.0)) else 1.0


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


def static_parameters(
    spec: GeneratorSpec, tensors: Mapping[str, np.ndarray], inputs: Inputs
) -> dict[str, np.ndarray]:
    """Evaluate the networks of cells and reaches: float64[cell | reach] by registry name."""
    values: dict[str, np.ndarray] = {}
    for part, network, raw in (("cell", spec.cell, inputs.cell), ("reach", spec.reach, inputs.reach)):
        own = np.empty((network.sizes[-1], raw.shape[0]))
        for first in range(0, raw.shape[0], TILE):
            tile = slice(first, first + TILE)
            own[:, tile] = _evaluate(part, network, tensors, raw[tile])
        for target, rows in zip(network.targets, network.rows, strict=True):
            values[target.name] = own[rows] if target.components > 1 else own[rows.start]
    return values


def _evaluate(part: str, network: NetworkSpec, tensors: Mapping[str, np.ndarray], raw: np.ndarray) -> list[np.ndarray]:
    """Parameters of so few cells or reaches that all units stay in the caches, a row each."""
    x = network_inputs(network, raw).T
    last = len(network.hidden)
    for k in range(last):
        z = dense(tensors[f"{part}.{k}.weight"], tensors[f"{part}.{k}.bias"], x)
        more = np.tanh(z) if network.activation == "tanh" else np.maximum(z, 0.0)
        x = x + more if k and network.mapping == "residual_mlp" else more
    bias = tensors[f"{part}.{last}.bias"]
    if network.mapping == "uniform":
        z = np.repeat(np.asarray(bias, np.float64)[:, None], raw.shape[0], axis=1)
    elif network.mapping == "power":
        z = _powers(tensors[f"{part}.0.weight"], tensors[f"{part}.0.exponent"], bias, x)
    else:
        z = dense(tensors[f"{part}.{last}.weight"], bias, x)
    found: list[np.ndarray] = []
    for target, rows in zip(network.targets, network.rows, strict=True):
        own = [z[k] for k in range(rows.start, rows.stop)]
        found += _shares(own) if target.scale == "share" else [_within(target, one) for one in own]
    return found


def dense(weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
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


def _shares(z: list[np.ndarray]) -> list[np.ndarray]:
    """exp(z) / sum of exp(z), the sum in the order of the components."""
    most = np.maximum.reduce(z)
    parts = [np.exp(one - most) for one in z]
    total = parts[0]
    for one in parts[1:]:
        total = total + one
    return [one / total for one in parts]


def pet_network(spec: GeneratorSpec, tensors: Mapping[str, np.ndarray], inputs: Inputs) -> PetNetwork | None:
    """Return the PET network as the compiled loops take it, or None.

    Standardisation is folded into the weights, and what attributes add to the first layer is summed once per
    cell, so that a step adds the dynamic features only.
    """
    pet = spec.pet
    if pet is None:
        return None
    sizes = padded_sizes(pet)
    first, n = np.asarray(tensors["pet.0.weight"], np.float64), len(pet.features)
    scaled = first[:, :n] / np.array([f.std for f in pet.features])
    static = dense(first[:, n + SEASON_FEATURES :], tensors["pet.0.bias"], standardise(pet.attributes, inputs.pet).T)
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
        static=padded(static, sizes[0]), forcing_weight=forcing_weight,
        season_weight=padded(first[:, n : n + SEASON_FEATURES], sizes[0]),
        half_rain=next((f.half for f in pet.features if f.half), 1.0),
        widths=np.array(sizes, np.int64), weight=weight, bias=bias,
        last_weight=padded(np.asarray(tensors[f"pet.{depth}.weight"], np.float64)[0], sizes[-1]),
        last_bias=float(tensors[f"pet.{depth}.bias"][0]), low=pet.low, high=pet.high,
    )


def padded_sizes(pet: PetSpec) -> list[int]:
    """Units of the hidden layers as the compiled loops take them."""
    return [-(-n // LANES) * LANES for n in pet.hidden]


def padded(values: np.ndarray, n: int) -> np.ndarray:
    """Return values with rows of zeros behind them, n rows in all."""
    found = np.zeros((n, *values.shape[1:]))
    found[: values.shape[0]] = values
    return found
