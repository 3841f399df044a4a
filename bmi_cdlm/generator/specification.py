"""What a parameter generator is made of: everything but its weights, as checked JSON."""

from __future__ import annotations

import json
import math
from dataclasses import field
from itertools import accumulate
from typing import Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from bmi_cdlm.names.errors import nearest
from bmi_cdlm.names.parameters import BY_NAME, STARTS, WEIGHT, parameter
from bmi_cdlm.processes.catalogue import GIVEN, OF_CHAIN, Names, choose

MappingName = Literal["uniform", "linear", "power", "mlp", "residual_mlp"]
LAYERED = ("mlp", "residual_mlp")
"""Mappings with hidden layers."""
Transform = Literal["none", "log", "log1p"]
FORCING_FEATURES = ("precipitation", "potential_evapotranspiration", "air_temperature")
SEASON_FEATURES = 2
LARGEST_Z = 26.0
"""The factor's sigmoid is level beyond: what the compiled tanh takes."""
SMALLEST_SHARE = 0.01
"""Least value of an attribute that is raised to a power: those of the training domain lie between it and 1."""
EXPONENTS = 0.5, 2.0
"""Limits of a learned exponent, which starts at 1."""
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
    """A registry parameter that is generated: bounds, start and scale at the generator's model step.

    scale : `share` where those of all components sum to one, exp(z) / sum of exp(z); components : how many of it a cell
    has.
    """

    name: str
    low: float
    high: float
    default: float
    scale: Literal["linear", "log", "share"]
    components: int = 1

    def __post_init__(self) -> None:
        """Refuse unknown names and bounds outside the legal range."""
        known = (*BY_NAME, *STARTS, WEIGHT)
        _expect(self.name in known, f"there is no parameter '{self.name}'.{nearest(self.name, known)}")
        _expect(
            (self.scale == "share") == (self.name == WEIGHT),
            f"'{self.name}' has the scale {self.scale}, expected share for {WEIGHT} and for it alone",
        )
        _expect(1 <= self.components <= 4096, f"'{self.name}' has {self.components} components, expected 1 to 4096")
        low, high = parameter(self.name).legal
        _expect(
            low <= self.low < self.high <= high and (self.scale != "log" or self.low > 0),
            f"bounds of '{self.name}' are {self.low} to {self.high}, expected them within {low:g} to {high:g}",
        )

    @property
    def start(self) -> float:
        """The z that gives the default."""
        low, high, at = (math.log(v) if self.scale == "log" else v for v in (self.low, self.high, self.default))
        share = min(max((at - low) / (high - low), 0.01), 0.99)
        return math.log(share / (1 - share))

    @property
    def starts(self) -> tuple[float, ...]:
        """The z of every component: spread about the default, for components that start alike stay alike."""
        n = self.components
        if self.scale == "share":  # alike: their parameters start apart
            return (0.0,) * n
        return tuple(self.start + (2.0 * k / (n - 1) - 1.0 if n > 1 else 0.0) for k in range(n))


@dataclass(frozen=True, config=STRICT)
class NetworkSpec:
    """A network from attributes to parameters.

    mapping: `uniform` (biases only), `linear` (affine in the standardised attributes), `power` (a weighted sum
    of attributes, scaled to (0, 1], to learned exponents), `mlp` (dense layers of the sizes `hidden`) or `residual_mlp`
    (each hidden layer but the first adds to what enters it, so that all are of one size).
    """

    mapping: MappingName
    attributes: tuple[Attribute, ...]
    hidden: tuple[int, ...]
    activation: Literal["tanh", "relu"]
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        _expect(bool(self.hidden) == (self.mapping in LAYERED),
                f"mapping {self.mapping} with hidden sizes {self.hidden}")
        _expect(self.mapping != "residual_mlp" or len(set(self.hidden)) == 1,
                f"mapping residual_mlp with hidden sizes {self.hidden}, expected layers of one size")
        _expect(bool(self.attributes) == (self.mapping != "uniform"),
                f"mapping {self.mapping} with {len(self.attributes)} attributes")
        _expect(all(0 < n <= 65536 for n in self.hidden), f"hidden sizes are {self.hidden}, expected positive ones")
        _expect(bool(self.targets), "a network without targets")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the layers, input and output among them."""
        return len(self.attributes), *self.hidden, self.rows[-1].stop

    @property
    def rows(self) -> tuple[slice, ...]:
        """Which outputs each target has: one, or one per component."""
        return _rows(self.targets)


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
        _expect(self.half >= 0 and (self.half == 0 or self.name == "precipitation"),
                f"half of '{self.name}' is {self.half}, expected 0, or a positive value for precipitation")


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
        _expect(0 <= self.low < 1 < self.high, f"limits of the factor are {self.low}, {self.high}, expected 1 between")
        _check_features(self.features)
        for feature in self.features:
            _expect((feature.half > 0) == (feature.name == "precipitation"),
                    f"half of '{feature.name}' is {feature.half}, expected a positive value for precipitation")
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
class LstmSpec:
    """A network from forcing and attributes to parameters that vary from step to step.

    Inputs, in this order: `features` of this model step, `attributes` of cells, both standardised. A dense layer with
    relu, an LSTM of as many units, `hidden`, a dense layer to `targets`.
    """

    features: tuple[Feature, ...]
    attributes: tuple[Attribute, ...]
    hidden: int
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        """Refuse parameters that may not vary, and features out of order."""
        _check_features(self.features)
        _expect(0 < self.hidden <= 4096, f"hidden is {self.hidden}, expected 1 to 4096 units")
        _expect(bool(self.targets) and bool(self.features), "an LSTM without targets or features")
        for target in self.targets:
            may = target.name != WEIGHT and parameter(target.name).may_vary
            _expect(may, f"'{target.name}' is no parameter that may vary in time")

    @property
    def rows(self) -> tuple[slice, ...]:
        """Which outputs each target has: one, or one per component."""
        return _rows(self.targets)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight array by its name within the network; gates in the order input, forget, cell, output.
        """
        n, n_out = self.hidden, self.rows[-1].stop
        return {
            "input.weight": (n, len(self.features) + len(self.attributes)), "input.bias": (n,),
            "gates.weight": (4 * n, n), "gates.bias": (4 * n,), "recurrent.weight": (4 * n, n),
            "last.weight": (n_out, n), "last.bias": (n_out,),
        }


@dataclass(frozen=True, config=STRICT)
class GeneratorSpec:
    """Everything of a generator but its weights; step and routing_step in seconds.

    Parameters that no network generates keep their default. versions : of the processes, by name, where it is known.
    """

    cell: NetworkSpec
    reach: NetworkSpec
    pet: PetSpec | None
    step: int
    routing_step: int
    snow: str
    runoff: str = "gr4j"
    routing: str = "muskingum"
    versions: dict[str, int] = field(default_factory=dict, hash=False)
    lstm: LstmSpec | None = None
    precipitation: str = GIVEN

    def __post_init__(self) -> None:
        """Refuse processes that are not there or have changed, and parameters on the wrong grid."""
        chain = choose(**self.processes)
        for process in chain.processes:
            made = self.versions.get(process.name, process.version)
            _expect(
                made == process.version,
                f"process '{process.name}' is of version {process.version} here, of {made} where it was trained",
            )
        for grid, network in (("cell", self.cell), ("reach", self.reach)):
            for target in network.targets:
                _expect(parameter(target.name).grid == grid, f"'{target.name}' is no parameter of a {grid}")
        factored = any(one.factor == "pet_factor" for process in chain.cells for one in process.inputs.values())
        _expect(self.pet is None or factored, f"there is a PET network, and no process of {', '.join(chain.names)} "
                "takes a factor on potential evapotranspiration. Leave the network out (training.pet_factor: false)")
        for what, dynamic in (("PET network", self.pet), ("LSTM", self.lstm)):
            warm = dynamic is not None and "air_temperature" in [f.name for f in dynamic.features]
            _expect(
                not warm or "air_temperature" in chain.inputs,
                f"the {what} takes air_temperature, which runs without snow lack",
            )
        self._check_lstm({p.name for p in chain.cells[-1].parameters})

    def _check_lstm(self, own: set[str]) -> None:
        """Refuse an LSTM to parameters of other processes than runoff, or that another network gives too."""
        fixed = {target.name for target in self.cell.targets}
        for target in self.lstm.targets if self.lstm is not None else ():
            _expect(target.name in own, f"'{target.name}' is no parameter of runoff '{self.runoff}'")
            _expect(target.name not in fixed, f"'{target.name}' is given twice, by attributes and by the LSTM")
            _expect(target.components == self.components,
                    f"'{target.name}' has {target.components} components, expected {self.components} as the others")

    @property
    def processes(self) -> Names:
        """Names of the processes that it was made for, by the keys of a configuration."""
        return Names(precipitation=self.precipitation, snow=self.snow, runoff=self.runoff, routing=self.routing)

    @property
    def has_start(self) -> bool:
        """Whether it generates the shares with which stores start a run."""
        return any(target.name in STARTS for target in self.cell.targets)

    @property
    def components(self) -> int:
        """Parameter sets per cell of the runoff process."""
        targets = (*self.cell.targets, *(self.lstm.targets if self.lstm is not None else ()))
        return max((target.components for target in targets), default=1)

    def to_json(self) -> str:
        """Return the specification as JSON; numbers come back to the bit."""
        return ADAPTER.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> GeneratorSpec:
        """Read and check what `to_json` wrote; ValueError says what is wrong."""
        content = json.loads(text)
        if isinstance(content, dict):  # processes of other packages bring the parameters that targets name
            names = {key: content[key] for key in OF_CHAIN if isinstance(content.get(key), str)}
            choose(**names)
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
        if self.lstm is not None:
            shapes |= {f"lstm.{name}": shape for name, shape in self.lstm.shapes().items()}
        return shapes


ADAPTER = TypeAdapter(GeneratorSpec)


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


def _rows(targets: tuple[Target, ...]) -> tuple[slice, ...]:
    ends = list(accumulate(t.components for t in targets))
    return tuple(slice(end - t.components, end) for t, end in zip(targets, ends, strict=True))


def _check_features(features: tuple[Feature, ...]) -> None:
    names = [f.name for f in features]
    _expect(names == [n for n in FORCING_FEATURES if n in names], f"features are {names}, expected another order")


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def explain(cause: ValueError) -> str:
    """Return what a refused specification got wrong, in one sentence per problem."""
    if not isinstance(cause, ValidationError):
        return _ended(str(cause))
    return " ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'specification'}: "
        f"{_ended(problem['msg'].removeprefix('Value error, '))}" for problem in cause.errors()
    )


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."
