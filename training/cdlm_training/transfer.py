"""Fine-tuning: a fit that starts from a checkpoint, is pulled towards it, and leaves named parts as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.generator.checkpoint import Checkpoint
from bmi_cdlm.generator.generator import Inputs
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.names.errors import ConfigError, nearest
from cdlm_training.config import LossWeights
from cdlm_training.generator import Generator
from cdlm_training.terms import OF_DISCHARGE

MEASURED = ("floor", "mean", "std", "low", "high", "half")
"""Of attributes and features, what was measured in the domain and period of the training."""


def adopt(spec: GeneratorSpec, checkpoint: Checkpoint) -> GeneratorSpec:
    """The specification of a checkpoint to start from, whose inputs are standardised as they were there.

    Raises
    ------
    ConfigError
        The configuration describes another generator; the first difference is named.
    """
    ours, theirs = json.loads(spec.to_json()), json.loads(checkpoint.spec.to_json())
    found = _difference(ours, theirs, "")
    if found is not None:
        where, here, there = found
        raise ConfigError(
            f"start_from: {checkpoint.where} has another generator: {where} is {there} there, {here} here. Describe "
            "the same one (attributes, mapping, hidden, ranges, PET factor, processes), or train without start_from."
        )
    return checkpoint.spec


def _difference(ours: Any, theirs: Any, where: str) -> tuple[str, Any, Any] | None:
    """The first difference but for what was measured, and where parameters start."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        of_input = "transform" in ours or "half" in ours
        keys = [k for k in ours if not (of_input and k in MEASURED) and k not in ("default", "versions")]
        found = (_difference(ours[k], theirs.get(k), f"{where}.{k}".strip(".")) for k in keys)
        return next((one for one in found if one is not None), None)
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        found = (_difference(a, b, f"{where}.{_name(a, k)}") for k, (a, b) in pairs)
        return next((one for one in found if one is not None), None)
    return None if ours == theirs else (where, _short(ours), _short(theirs))


def _name(value: Any, place: int) -> str:
    return str(value.get("name", place)) if isinstance(value, dict) else str(place)


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(str(one.get("name")) for one in value)
    return json.dumps(value)


def freeze(generator: Generator, names: Sequence[str]) -> None:
    """Leave weights as they are whose names begin so: `cell`, `reach`, `pet`, a layer (`cell.0`) or one array.

    Raises
    ------
    ConfigError
        A name that no weight begins with, or nothing that is left to learn.
    """
    weights = dict(generator.named_parameters())
    for name in names:
        own = [w for w in weights if w == name or w.startswith(f"{name}.")]
        if not own:
            raise ConfigError(
                f"frozen: there are no weights '{name}'.{nearest(name, weights)} Known: {', '.join(weights)}."
            )
        for w in own:
            weights[w].requires_grad_(False)
    if not any(w.requires_grad for w in weights.values()):
        raise ConfigError("frozen: all weights are, expected some that are learned. Leave one out.")


def check_terms(generator: Generator, loss: LossWeights) -> None:
    """Refuse terms of the loss that nothing which is learned has an effect on.

    Raises
    ------
    ConfigError
        A pull towards parameters that stay as they are, or a loss of mean runoff alone where only reaches learn.
    """
    learned = learned_networks(generator)
    of_discharge = any(getattr(loss, name) for name in OF_DISCHARGE)
    if loss.prior and not learned & {"cell", "reach"}:
        term, needed = "prior", "cell or reach"
    elif not of_discharge and learned <= {"reach"}:
        term, needed = loss.of_maps[0], "cell, lstm or pet"
    else:
        return
    raise ConfigError(
        f"loss.{term} depends on nothing that is learned ({', '.join(sorted(learned))}), expected weights of {needed}. "
        "Take them out of frozen, or leave the term out."
    )


def learned_networks(generator: Generator) -> set[str]:
    """Which of `cell`, `reach`, `pet`, `lstm` and `errors` have weights that are learned."""
    return {name.partition(".")[0] for name, w in generator.named_parameters() if w.requires_grad}


class Prior:
    """The pull of a fit towards the parameters that a checkpoint generates.

    Parameters
    ----------
    generator : Generator
        With the checkpoint's weights.
    attributes : Inputs
        Of the domain.
    """

    def __init__(self, generator: Generator, attributes: Inputs) -> None:
        self.generator, self.attributes = generator, attributes
        with torch.no_grad():
            # Copies: of a uniform mapping z is a view of the weights, and would change with them.
            self.cell = generator.cell.free(attributes.cell).clone()
            self.reach = generator.reach.free(attributes.reach).clone()

    def __call__(self, cells: np.ndarray, reaches: np.ndarray) -> Tensor:
        """Squared distance from the checkpoint's parameters at some places, mean over them, sum over parameters.

        Parameters count without their bounds: on the scale on which z, a sum over the last layer, is.
        """
        cell = self.generator.cell.free(self.attributes.cell[cells]) - self.cell[cells]
        reach = self.generator.reach.free(self.attributes.reach[reaches]) - self.reach[reaches]
        return (cell**2).mean(dim=0).sum() + (reach**2).mean(dim=0).sum()


class Pull:
    """The pull of single parameters towards where they start.

    Parameters
    ----------
    generator : Generator
    attributes : Inputs
        Of the domain.
    weights : mapping of registry names to float
        What each counts.

    Raises
    ------
    ConfigError
        A parameter that no network of cells or reaches gives, or one whose weights stay as they are.
    """

    def __init__(self, generator: Generator, attributes: Inputs, weights: Mapping[str, float]) -> None:
        self.networks = (generator.cell, generator.reach)
        self.attributes = (attributes.cell, attributes.reach)
        given = [
            t.name for network in self.networks if any(w.requires_grad for w in network.parameters())
            for t in network.spec.targets if t.scale != "share"
        ]
        for name in weights:
            if name not in given:
                raise ConfigError(
                    f"loss.pull: '{name}' is no parameter that is learned of attributes.{nearest(name, given)} There "
                    f"are: {', '.join(given)}."
                )
        self._pulled = [
            [(rows, t.start, weights[t.name]) for t, rows in zip(n.spec.targets, n.spec.rows, strict=True)
             if t.name in weights] for n in self.networks
        ]

    def __call__(self, cells: np.ndarray, reaches: np.ndarray) -> Tensor:
        """Weighted squared distances at some places, means over them and over components, sum over parameters."""
        total = torch.zeros((), dtype=torch.float64)
        places = (cells, reaches)
        for network, attributes, own, pulled in zip(self.networks, self.attributes, places, self._pulled, strict=True):
            if pulled:
                z = network.free(attributes[own])
                for rows, start, weight in pulled:
                    total = total.to(z.device) + weight * ((z[:, rows] - start) ** 2).mean().double()
        return total
