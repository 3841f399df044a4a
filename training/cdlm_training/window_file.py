"""Files of the mapping `resnet`: the parameters that a run takes, and the network that gives them on other domains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.checkpoint import HEADER, Checkpoint, write_tensors
from bmi_cdlm.generator.generator import Inputs, read_inputs
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.names.errors import CheckpointError, ConfigError, shown
from bmi_cdlm.names.writing import replacing
from cdlm_training.config import NETWORK
from cdlm_training.fields import places
from cdlm_training.terms import WindowShape
from cdlm_training.windows import Windowed

FORMAT = "bmi_cdlm resnet 1"


class WindowCheckpoint(NamedTuple):
    """A network of windows as read: its file, specification and shape, weights by name, the record of its making."""

    where: str
    spec: GeneratorSpec
    shape: WindowShape
    tensors: Mapping[str, np.ndarray]
    record: Mapping[str, Any]


def network_file(path: Path) -> Path:
    """Where the network stands whose parameters are in a file."""
    return path.with_suffix(NETWORK)


def save_windowed(path: Path, generator: Windowed, record: Mapping[str, Any]) -> None:
    """Write the network, to a temporary name and moved; record : plain JSON values."""
    header = {
        "format": FORMAT, "specification": json.loads(generator.spec.to_json()),
        "shape": generator.shape.model_dump(), "record": dict(record),
    }
    with replacing(path) as temporary:
        write_tensors(temporary, generator.tensors(), {HEADER: json.dumps(header, sort_keys=True, allow_nan=False)})


def load_windowed(path: Path) -> WindowCheckpoint:
    """Read a network of windows.

    Raises
    ------
    CheckpointError
        No such file, not such a network, or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file. Check the path, or train one with mapping: resnet.")
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            if header.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: has format '{shown(header.get('format'))}', expected '{FORMAT}', which a training with "
                    "mapping: resnet writes beside its parameter file. An ordinary checkpoint needs no apply: name it "
                    "in 'parameters' of the run."
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        spec = GeneratorSpec.from_json(json.dumps(header["specification"]))
        found = WindowCheckpoint(str(path), spec, WindowShape(**header["shape"]), tensors, header["record"])
        expected = {n: tuple(w.shape) for n, w in Windowed(spec, found.shape, 0).named_parameters()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, ValidationError) as cause:
        if isinstance(cause, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: cannot be read as a network of windows ({shown(str(cause))}). Copy it again, or train it anew."
        ) from cause
    bad = next((n for n in sorted({*expected, *tensors}) if not _fits(tensors.get(n), expected.get(n))), None)
    if bad is not None:
        raise CheckpointError(
            f"{path}: weights '{bad}' are missing, none of such a network, of another shape or not finite; expected "
            f"finite ones of shape {expected.get(bad)}. Train it anew."
        )
    return found


def _fits(values: np.ndarray | None, shape: tuple[int, ...] | None) -> bool:
    """Whether there are weights of a shape, all of them finite."""
    return values is not None and values.shape == shape and bool(np.isfinite(values).all())


def window_inputs(spec: GeneratorSpec, path: Path, domain: Domain) -> Inputs:
    """What a generator of windows takes for attributes: the places of cells, and attributes of reaches."""
    return read_inputs(spec, path, domain)._replace(cell=places(domain).cell)


def make_windowed(
    spec: GeneratorSpec, shape: WindowShape, path: Path, domain: Domain, seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Windowed:
    """A generator of windows for a domain file; DomainError or ConfigError where that has no such cells."""
    generator = Windowed(spec, shape, seed, dtype)
    generator.look_at(domain.cells, read_inputs(spec, path, domain).cell)
    return generator


def begin_from(path: Path, spec: GeneratorSpec, shape: WindowShape) -> WindowCheckpoint:
    """The network of `start_from`; `transfer.adopt` compares the specifications.

    Raises
    ------
    ConfigError
        It has another shape.
    """
    found = load_windowed(path)
    if found.shape != shape:
        raise ConfigError(
            f"start_from: {path} has resnet: {found.shape.model_dump()}, expected that of the configuration, "
            f"{shape.model_dump()}. Describe the same network."
        )
    return found


def as_checkpoint(found: WindowCheckpoint) -> Checkpoint:
    """With the checks of a checkpoint, such as `check_run`."""
    return Checkpoint(found.where, found.spec, found.tensors, found.record)
