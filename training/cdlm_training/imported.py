"""Weights of dHBV's generators, of a safetensors file or a state_dict, as a checkpoint of ours. No pickle is run.

What is known of them: a static network of dense layers with relu to `13 nmul + 2` outputs (all that is static, then
the unit hydrograph of all sets), and, where parameters vary, a dense layer with relu, an LSTM and a dense layer to one
output per parameter and set; every output through a sigmoid into dHBV's bounds, linearly.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.generator.checkpoint import save_checkpoint
from bmi_cdlm.generator.generator import make_spec
from bmi_cdlm.generator.specification import (
    FORCING_FEATURES,
    Attribute,
    Feature,
    GeneratorSpec,
    LstmSpec,
    NetworkSpec,
    Target,
)
from bmi_cdlm.names.errors import CheckpointError, ConfigError, nearest
from bmi_cdlm.names.parameters import Parameter
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import Config
from cdlm_training.config import TrainConfig, load_train_config

ORDER = ("BETA", "FC", "K0", "K1", "K2", "LP", "PERC", "UZL", "TT", "CFMAX", "CFR", "CWH", "BETAET", "C", "RT", "AC")
"""In which dHBV's networks give the parameters: those that vary and those that do not, each in this order."""
HYDROGRAPH = ("a", "b")
"""Behind them, one of each for all sets."""
FORCING = ("precipitation", "air_temperature", "potential_evapotranspiration")
"""In which its LSTM takes the forcing, before the attributes."""
GATES = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
"""Names of an LSTM's weights as cuDNN's wrapper has them, and as torch has."""
Tensors = Mapping[str, np.ndarray]


class Dense(NamedTuple):
    """A layer: weight float[out, in], bias float[out]."""

    weight: np.ndarray
    bias: np.ndarray


def import_weights(path: Path, weights: Path, statistics: Path) -> list[str]:
    """Write the checkpoint of a training's configuration from the weights of dHBV; returns what is to be said.

    The configuration says the order of attributes (`cell_attributes`), what varies (`varying`), the runoff process and
    its `components`. statistics : JSON, [mean, std] or [p10, p90, mean, std] of every attribute and of the forcing, by
    name.

    Raises
    ------
    CheckpointError
        Unreadable weights, or others than the configuration needs.
    ConfigError
        A runoff process that is no HBV, statistics that are missing or no numbers.
    """
    run, config = load_train_config(path)
    if config.is_field:
        raise ConfigError("--weights makes a checkpoint, and training.mapping is distributed. Leave the mapping out.")
    tensors, where = read_weights(weights), str(weights)
    found = _statistics(statistics, (*config.cell_attributes, *(FORCING if config.varying else ())))
    static, dynamic = _split(tensors, where)
    process = run.chain.cells[-1]
    own = {p.symbol: p for p in process.parameters}
    if not set(ORDER[:4]) <= set(own):
        raise ConfigError(f"runoff is '{process.name}', expected an HBV: dHBV's networks give its parameters. Set "
                          "runoff.")
    attributes = _attributes(run, config, found)
    varying = [own[s] for s in ORDER if s in own and own[s].name in config.varying]
    fixed = [s for s in ORDER if s not in own or own[s].name not in config.varying]
    notes: list[str] = []
    layers = _chain(static, len(attributes), where)
    kept, targets = _static_outputs(layers[-1], fixed, own, run.components, where, notes)
    spec = GeneratorSpec(
        NetworkSpec("mlp", attributes, tuple(layer.bias.size for layer in layers[:-1]), "relu", targets),
        _reaches(run), None, run.time_step, run.routing_step, run.snow, run.runoff, run.routing,
        {one.name: one.version for one in run.chain.processes}, None, run.precipitation,
    )
    made = {
        f"cell.{k}.{name}": a for k, layer in enumerate([*layers[:-1], kept]) for name, a in layer._asdict().items()
    }
    made["reach.0.bias"] = np.array([z for target in spec.reach.targets for z in target.starts])
    if varying:
        lstm, of_lstm = _lstm(dynamic, attributes, found, varying, run.components, where)
        spec = replace(spec, lstm=lstm)
        made |= {f"lstm.{name}": a for name, a in of_lstm.items()}
    elif dynamic:
        raise CheckpointError(f"{where}: has an LSTM, and training.varying is empty. Name what it gives, in dHBV 2.0 "
                              "[recharge_shape, quickflow_rate, evaporation_shape].")
    config.output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(config.output, spec, made, {
        "gauges": [], "periods": {}, "scores": {}, "licence": config.licence,
        "fingerprints": {"weights": content_digest(weights), "statistics": content_digest(statistics)},
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    })
    notes.append("reaches keep the defaults of their parameters")
    notes.append("attributes and forcing are taken as (value - mean) / std, without a logarithm; a missing one is "
                 "refused")
    return notes


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file, or of a state_dict that torch reads with weights_only; else a CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as cause:
        raise CheckpointError(
            f"{path}: cannot be read as weights alone ({str(cause).splitlines()[0][:120]}). Expected .safetensors, or "
            "what torch.save(model.state_dict(), ...) writes; whole models hold code, which is not run."
        ) from cause
    while isinstance(content, dict):
        inner = next((content[k] for k in ("state_dict", "model_state_dict", "model") if k in content), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CheckpointError(f"{path}: holds {type(content).__name__}, expected tensors by name (a state_dict).")
    return {str(name): value.detach().double().numpy() for name, value in content.items()}


def _split(tensors: Tensors, where: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights of the static network, and of the LSTM with the layers about it, which have a prefix of their own."""
    key = next((n for n in tensors if n.rsplit(".", 1)[-1] in (*GATES, *GATES.values())), None)
    if key is None:
        return dict(tensors), {}
    around = key.rsplit(".", 1)[0].rpartition(".")[0]
    inside = {n: a for n, a in tensors.items() if n.startswith(f"{around}." if around else "")}
    outside = {n: a for n, a in tensors.items() if n not in inside}
    if not outside:
        raise CheckpointError(f"{where}: has an LSTM, and no static network beside it under another name.")
    return outside, inside


def _dense(tensors: Tensors, where: str) -> dict[str, Dense]:
    """Dense layers by name, those with numbers in their order: h2 before h10."""
    names = sorted(
        (n.removesuffix(".weight") for n in tensors if n.endswith(".weight") and tensors[n].ndim == 2),
        key=lambda n: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", n)],
    )
    for name in names:
        if f"{name}.bias" not in tensors or tensors[f"{name}.bias"].shape != tensors[f"{name}.weight"].shape[:1]:
            raise CheckpointError(f"{where}: layer '{name}' has no fitting bias, expected one per row of its weight.")
    return {n: Dense(tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in names}


def _chain(tensors: Tensors, n_inputs: int, where: str) -> list[Dense]:
    """Layers from attributes to outputs: the first takes the attributes, the last has a size of its own."""
    layers = _dense(tensors, where)
    first = [n for n, layer in layers.items() if layer.weight.shape[1] == n_inputs]
    sizes = {layer.weight.shape[1] for n, layer in layers.items() if n not in first}
    last = [n for n, layer in layers.items() if n not in first and layer.bias.size not in sizes]
    if len(first) != 1 or len(last) != 1:
        told = ", ".join(f"{n} {list(layer.weight.shape)}" for n, layer in layers.items()) or "no layer"
        raise CheckpointError(
            f"{where}: has {told}; expected one that takes the {n_inputs} of cell_attributes, layers in between, and "
            "one to the parameters. Check cell_attributes."
        )
    order = [first[0], *(n for n in layers if n not in (first[0], last[0])), last[0]]
    found = [layers[n] for n in order]
    for one, other in pairwise(found):
        if one.bias.size != other.weight.shape[1]:
            raise CheckpointError(f"{where}: layers {' -> '.join(order)} do not fit each other, expected a chain.")
    return found


def _static_outputs(
    last: Dense, symbols: list[str], own: Mapping[str, Parameter], components: int, where: str, notes: list[str]
) -> tuple[Dense, tuple[Target, ...]]:
    """Rows of the last layer that this process takes, and their targets; those of all sets once for each."""
    expected = len(symbols) * components + len(HYDROGRAPH)
    if last.bias.size != expected:
        raise CheckpointError(
            f"{where}: the static network gives {last.bias.size} values, expected {expected}: {len(symbols)} "
            f"parameters ({', '.join(symbols)}) of {components} sets, and {' and '.join(HYDROGRAPH)}. Check components "
            "and varying."
        )
    rows: list[int] = []
    targets, left = [], []
    for k, symbol in enumerate((*symbols, *HYDROGRAPH)):
        if symbol not in own:
            left.append(symbol)
            continue
        of_all = len(symbols) * components + k - len(symbols)
        rows += [of_all] * components if symbol in HYDROGRAPH else range(k * components, (k + 1) * components)
        targets.append(_target(own[symbol], components))
    if left:
        notes.append(f"not taken, for the runoff process has no such parameter: {', '.join(left)}")
    return Dense(last.weight[rows], last.bias[rows]), tuple(targets)


def _target(p: Parameter, components: int) -> Target:
    return Target(p.name, *p.range_at(DAY), "linear", components)


def _lstm(
    tensors: Tensors, attributes: tuple[Attribute, ...], found: Mapping[str, tuple[float, float]],
    varying: list[Parameter], components: int, where: str,
) -> tuple[LstmSpec, dict[str, np.ndarray]]:
    gates = {}
    for name in tensors:
        short = name.rsplit(".", 1)[-1]
        plain = next((k for k, v in GATES.items() if short in (k, v)), None)
        if plain is not None:
            gates[plain] = tensors[name]
    if set(gates) != set(GATES):
        raise CheckpointError(f"{where}: its LSTM has {', '.join(gates) or 'no weights'}, expected one layer with "
                              f"{', '.join(GATES)}, and training.varying empty where there is none.")
    hidden, n_inputs, n_out = gates["w_hh"].shape[1], len(FORCING) + len(attributes), len(varying) * components
    layers = list(_dense({n: a for n, a in tensors.items() if n.endswith((".weight", ".bias"))}, where).values())
    into = [layer for layer in layers if layer.weight.shape == (hidden, n_inputs)]
    out = [layer for layer in layers if layer.weight.shape == (n_out, hidden) and layer is not into[0]] if into else []
    if len(into) != 1 or len(out) != 1 or gates["w_ih"].shape != (4 * hidden, hidden):
        raise CheckpointError(
            f"{where}: expected about the LSTM of {hidden} units a layer from {n_inputs} inputs ({len(FORCING)} of "
            f"forcing, {len(attributes)} attributes) and one to {n_out} values ({len(varying)} parameters of "
            f"{components} sets); has {', '.join(str(list(layer.weight.shape)) for layer in layers)}. Check "
            "cell_attributes, varying and components."
        )
    features = tuple(Feature(n, variable(n).units, 0.0, *found[n]) for n in FORCING_FEATURES)
    order = [FORCING.index(name) for name in FORCING_FEATURES] + list(range(len(FORCING), n_inputs))
    spec = LstmSpec(features, attributes, hidden, tuple(_target(p, components) for p in varying))
    return spec, {
        "input.weight": into[0].weight[:, order], "input.bias": into[0].bias, "gates.weight": gates["w_ih"],
        "gates.bias": gates["b_ih"] + gates["b_hh"], "recurrent.weight": gates["w_hh"],
        "last.weight": out[0].weight, "last.bias": out[0].bias,
    }


def _attributes(
    run: Config, config: TrainConfig, found: Mapping[str, tuple[float, float]]
) -> tuple[Attribute, ...]:
    table = read_attributes(run.domain, read_domain(run.domain), "cell", list(config.cell_attributes))
    return tuple(
        Attribute(name, units, "none", 0.0, *found[own], float(v.min()), float(v.max()))
        for own, name, units, v in zip(config.cell_attributes, table.names, table.units, table.values.T, strict=True)
    )


def _reaches(run: Config) -> NetworkSpec:
    """Parameters of reaches at their defaults."""
    return make_spec(
        run.domain, cell_attributes=(), reach_attributes=(), step=run.time_step, routing_step=run.routing_step,
        **run.processes,
    ).reach


def _statistics(path: Path, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation by name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise ConfigError(f"{path}: cannot be read as JSON ({cause}). Expected the statistics by name.") from cause
    found = {}
    for name in names:
        value = content.get(name) if isinstance(content, dict) else None
        try:
            mean, std = (float(v) for v in value[-2:])  # type: ignore[index]
        except (TypeError, ValueError, KeyError):
            hint = nearest(name, content) if isinstance(content, dict) else ""
            raise ConfigError(f"{path}: '{name}' is {value}, expected [mean, std] or [p10, p90, mean, std].{hint} "
                              "Rename or add it: names are those of the domain's attributes and of our forcing."
                              ) from None
        if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
            raise ConfigError(f"{path}: '{name}' has mean {mean} and std {std}, expected numbers, std above 0.")
        found[name] = mean, std
    return found
