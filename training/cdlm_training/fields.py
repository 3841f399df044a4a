"""The mapping `distributed`: every cell and reach has parameters of its own, which become a parameter file.

A value without bounds, z, per place and parameter; p = bound(sigmoid(z)), as behind the networks of a generator. What
such a generator takes for an attribute is the place itself.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.generator.generator import Inputs
from bmi_cdlm.generator.specification import GeneratorSpec, NetworkSpec, Target
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameter_file import read_parameters, save_parameters
from bmi_cdlm.run.parameters import parameters_of_domain
from cdlm_training.config import TrainConfig
from cdlm_training.generator import Generator, StaticNetwork

FARTHEST = 6.0
"""A start is no farther from the middle of its range: beyond, the sigmoid has hardly a slope, at a bound none."""
MAPS = "parameters.png"
LEVEL = 36.0
"""Where the sigmoid in float64 is a bound."""


class Field(StaticNetwork):
    """z of every place, [place, output], in place of a network; raw attributes are the places, [n, 1]."""

    def __init__(self, spec: NetworkSpec, n_places: int) -> None:
        super().__init__(spec, torch.Generator())
        last = self.each[-1]
        last.bias = torch.nn.Parameter(last.bias.detach().repeat(n_places, 1))

    def free(self, attributes: Tensor | np.ndarray) -> Tensor:
        """Return z [n, output] of some places."""
        z = self.each[-1].bias
        return z[torch.as_tensor(attributes, device=z.device)[:, 0].long()].double()


class Fields(Generator):
    """A generator whose networks are fields over the cells and reaches of a domain."""

    def __init__(self, spec: GeneratorSpec, n_cells: int, n_reaches: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(spec, dtype=dtype)
        self.cell, self.reach = Field(spec.cell, n_cells), Field(spec.reach, n_reaches)
        self.to(dtype)

    def take(self, values: Mapping[str, np.ndarray], farthest: float = LEVEL) -> None:
        """Take over parameters [place] or [component, place] by registry name; others stay as they are."""
        with torch.no_grad():
            for network in (self.cell, self.reach):
                z = network.each[-1].bias
                for target, rows in zip(network.spec.targets, network.spec.rows, strict=True):
                    if target.name in values:
                        own = np.atleast_2d(unbounded(target, values[target.name], farthest)).T
                        z[:, rows] = torch.from_numpy(own.copy()).to(z)


class Ranged(Protocol):
    """A parameter with a range: a `Target`, or that of a label."""

    @property
    def low(self) -> float:
        """Lower bound."""

    @property
    def high(self) -> float:
        """Upper bound."""

    @property
    def scale(self) -> str:
        """`linear`, `log` or `share`."""


def unbounded(target: Ranged, values: np.ndarray, farthest: float) -> np.ndarray:
    """The z of parameters, as far from 0 as `farthest` and no farther; they are to be within the range of the target.
    """
    if target.scale == "share":
        z = np.log(np.maximum(values, np.finfo(np.float64).tiny))
        return np.clip(z - z.mean(axis=0), -farthest, farthest)
    low, high = target.low, target.high
    if target.scale == "log":
        values, low, high = np.log(values), math.log(low), math.log(high)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.log(np.maximum(values - low, 0.0)) - np.log(np.maximum(high - values, 0.0))
    return np.clip(z, -farthest, farthest)


def bounded(target: Ranged, share: np.ndarray) -> np.ndarray:
    """Parameters from their places in the range of the target, 0 to 1."""
    if target.scale == "log":
        low, high = math.log(target.low), math.log(target.high)
        return np.clip(np.exp(low + (high - low) * share), target.low, target.high)
    return target.low + (target.high - target.low) * share


def places(domain: Domain) -> Inputs:
    """What a generator of fields takes for attributes."""
    cell, reach = (np.arange(n, dtype=np.float64)[:, None] for n in (domain.n_cells, domain.n_reaches))
    return Inputs(cell, reach, np.empty((domain.n_cells, 0)))


def make_fields(run: Config, config: TrainConfig, spec: GeneratorSpec, domain: Domain, dtype: torch.dtype) -> Fields:
    """Fields where the fit begins: at `starts`, or at what the checkpoint `start_from` generates.

    Raises
    ------
    CheckpointError
        The checkpoint was trained for another run.
    ConfigError
        A checkpoint whose parameters are no field here.
    """
    targets = {target.name: target for target in (*spec.cell.targets, *spec.reach.targets)}
    fields = Fields(spec, domain.n_cells, domain.n_reaches, dtype)
    if config.start_from is not None:
        fields.take(_generated(config.start_from, run, config, targets, domain), FARTHEST)
    return fields


def _generated(
    path: Path, run: Config, config: TrainConfig, targets: Mapping[str, Target], domain: Domain
) -> dict[str, np.ndarray]:
    """Parameters that a checkpoint generates, by registry name; refused where a field cannot take them over."""
    checkpoint = load_checkpoint(path, run.member)
    checkpoint.check_run(
        time_step=run.time_step, routing_step=run.routing_step, **run.processes, components=run.components,
    )
    spec = checkpoint.spec
    for what, part in (("a factor on PET", spec.pet), ("parameters that vary in time", spec.lstm)):
        if part is not None:
            raise ConfigError(
                f"start_from: {checkpoint.where} generates {what}, which no parameter file of mapping: distributed "
                "holds. Expected a checkpoint without (training.pet_factor: false, no training.varying)."
            )
    values, _ = checkpoint.evaluate(run.domain, domain)
    for name, own in values.items():
        if name not in targets:
            raise ConfigError(
                f"start_from: {checkpoint.where} generates '{name}', which is not fitted here. Describe the same "
                "parameters (learn_start, learn_weighting, learn_component_weights, starts)."
            )
        if name in config.starts:
            raise ConfigError(f"starts: '{name}' starts where the checkpoint of start_from is. Leave one of them out.")
        low, high = targets[name].low, targets[name].high
        if not low <= own.min() <= own.max() <= high:
            raise ConfigError(
                f"start_from: {checkpoint.where} generates '{name}' from {own.min():g} to {own.max():g}, expected "
                f"within {low:g} to {high:g}. Widen its range with training.ranges."
            )
    return values


def parameters_of(generator: Generator, attributes: Inputs) -> dict[str, np.ndarray]:
    """Parameters of every cell and reach by registry name, float64."""
    with torch.no_grad():
        made = generator.cell_parameters(attributes.cell) | generator.reach_parameters(attributes.reach)
    return {name: value.double().cpu().numpy() for name, value in made.items()}


def write_fields(
    path: Path, fitted: Mapping[str, np.ndarray], run: Config, domain: Domain, mapping: str, record: Mapping[str, Any]
) -> None:
    """Write the parameter file that a run takes, with the record of its training as attributes.

    fitted : parameters by registry name, as of `parameters_of`; mapping : what they come from.
    """
    values = parameters_of_domain(run, domain) | dict(fitted)
    size = {"cell": domain.n_cells, "reach": domain.n_reaches}
    for p in (p for process in run.chain.processes for p in process.parameters):
        if p.name not in values and not p.optional:  # what is not fitted is that of this fit in later versions too
            values[p.name] = np.full(size[p.grid], p.range_at(run.time_step).default)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
    save_parameters(path, domain, run.time_step, values, {
        "title": f"parameters of every cell and reach for {', '.join(run.chain.names)}, fitted to discharge",
        "mapping": mapping, **texts,
    })


def draw_fields(folder: Path, domain: Domain, values: Mapping[str, np.ndarray]) -> None:
    """Draw maps of the parameters into the folder of a training; without matplotlib there are none."""
    from bmi_cdlm.evaluate.plot_map import plot_parameters

    if importlib.util.find_spec("matplotlib") is not None:
        plot_parameters(folder / MAPS, domain, values)


def read_fields(path: Path, fields: Fields, run: Config, domain: Domain) -> dict[str, np.ndarray]:
    """Let fields have the parameters of a file that `write_fields` wrote; returns them by registry name."""
    values = read_parameters(path, domain, run.time_step)
    fields.take(values)
    return values


