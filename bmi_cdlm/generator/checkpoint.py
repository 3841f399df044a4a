"""Checkpoints: one safetensors file with the weights of a generator, and its specification and record as JSON.

Read and written with numpy alone; nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.generator import Inputs, pet_network, read_inputs, static_parameters
from bmi_cdlm.generator.lstm import lstm_network, read_lstm_attributes
from bmi_cdlm.generator.specification import GeneratorSpec, explain
from bmi_cdlm.kernels.groups import LstmNetwork, PetNetwork
from bmi_cdlm.names.errors import CheckpointError, DomainError, shown
from bmi_cdlm.names.time_steps import STEP_NAMES
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.processes.catalogue import GIVEN, OF_CHAIN
from bmi_cdlm.version import __version__

FORMAT, READ = "bmi_cdlm checkpoint 2", ("bmi_cdlm checkpoint 1", "bmi_cdlm checkpoint 2")
"""Format 1 knew GR4J and Muskingum only, and names no process but snow."""
REQUIRED = ("gauges", "periods", "scores", "fingerprints", "licence", "command")
"""What a record must hold: training gauges, periods by name, scores, sha256 of files by name, licence, command."""
STARTS_AT = "starts_at"
"""Key of a record: the time (ISO) at which stores have the shares that were learned for them, if any were."""
HEADER = "bmi_cdlm"
"""The one key of the file's metadata, so that the same content gives the same bytes: safetensors shuffles keys."""
KEYS = ("format", "specification", "record", "digest")
ENSEMBLE, MEMBER_KEYS, OF_MEMBER = "bmi_cdlm ensemble 1", ("format", "members", "digest"), "/"
"""Format of several checkpoints in one file: their weights are called `number/name`, numbers from 1."""
PRECISIONS = (np.dtype(np.float32), np.dtype(np.float64))


class Checkpoint(NamedTuple):
    """A checked checkpoint: its file, specification, weights by name (read-only), and the record of its making."""

    where: str
    spec: GeneratorSpec
    tensors: Mapping[str, np.ndarray]
    record: Mapping[str, Any]

    def check_run(
        self, *, time_step: int, routing_step: int, snow: str, runoff: str = "gr4j", routing: str = "muskingum",
        components: int = 1, precipitation: str = GIVEN,
    ) -> None:
        """Refuse a run with another model step, routing step, other processes or another number of components.

        Raises
        ------
        CheckpointError
            Naming the key of the configuration and the value that it must have.
        """
        spec = self.spec
        for key, expected, got in (
            ("time_step", _duration(spec.step), _duration(time_step)),
            ("routing_step", _duration(spec.routing_step), _duration(routing_step)),
            ("precipitation", spec.precipitation, precipitation), ("snow", spec.snow, snow),
            ("runoff", spec.runoff, runoff), ("routing", spec.routing, routing),
            ("components", spec.components, components),
        ):
            if got != expected:
                raise CheckpointError(
                    f"{self.where}: was trained with {key}: {expected}, the run has {key}: {got}. Set {key}: "
                    f"{expected} in the configuration, or train anew."
                )

    def evaluate(
        self, domain_path: Path, domain: Domain, places: Mapping[str, np.ndarray] | None = None
    ) -> tuple[dict[str, np.ndarray], PetNetwork | None]:
        """Return parameters by registry name and the PET network; DomainError where the domain lacks attributes.

        places : int64[], by grid, `cell` and `reach`, at which they are wanted; everywhere where None.
        """
        try:
            inputs: Inputs = read_inputs(self.spec, domain_path, domain)
        except DomainError as cause:
            raise DomainError(f"{cause} The checkpoint {self.where} reads this attribute.") from cause
        if places is not None:
            inputs = Inputs(*(values[places["reach" if name == "reach" else "cell"]]
                              for name, values in inputs._asdict().items()))
        return static_parameters(self.spec, self.tensors, inputs), pet_network(self.spec, self.tensors, inputs)

    def lstm(self, domain_path: Path, domain: Domain) -> LstmNetwork | None:
        """Return the network of the parameters that vary in time, or None where none do."""
        return lstm_network(self.spec, self.tensors, read_lstm_attributes(self.spec, domain_path, domain))


def save_checkpoint(
    path: Path, spec: GeneratorSpec, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]
) -> None:
    """Write a checkpoint to a temporary name and move it.

    Parameters
    ----------
    tensors : dict of float32 or float64 arrays
        The weights, in the shapes of `spec.shapes()`.
    record : dict
        Plain JSON values: the keys of REQUIRED and whatever else is worth knowing; `code_version` is added.

    Raises
    ------
    CheckpointError
        What `load_checkpoint` would refuse.
    """
    where = str(path)
    weights = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    _check_tensors(spec, weights, where)
    header = {
        "format": FORMAT, "specification": json.loads(spec.to_json()),
        "record": {"code_version": __version__, **record},
    }
    _check_record(header["record"], where)
    _check_start(spec, header["record"], where)
    try:
        header["digest"] = _digest(header, weights)
    except (TypeError, ValueError) as cause:
        raise CheckpointError(f"{where}: the record is no JSON ({cause}). Give text, finite numbers, lists.") from cause
    with replacing(path) as temporary:
        write_tensors(temporary, weights, {HEADER: _canonical(header)})


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays as safetensors; a full disk is an OSError, as of any file: safetensors has errors of its own."""
    path.write_bytes(save(dict(tensors), dict(metadata)))


def save_ensemble(path: Path, members: Sequence[Checkpoint]) -> None:
    """Write several checkpoints as one file, each whole, with its own specification and record.

    Raises
    ------
    CheckpointError
        Fewer than two, one twice, or of other processes or steps.
    """
    where = str(path)
    _check_members(members, where)
    _check_twice(members, where)
    weights = {
        f"{k}{OF_MEMBER}{name}": np.ascontiguousarray(value)
        for k, one in enumerate(members, 1) for name, value in one.tensors.items()
    }
    own = [{"specification": json.loads(one.spec.to_json()), "record": dict(one.record)} for one in members]
    header: dict[str, Any] = {"format": ENSEMBLE, "members": own}
    header["digest"] = _digest(header, weights)
    with replacing(path) as temporary:
        write_tensors(temporary, weights, {HEADER: _canonical(header)})


def load_checkpoint(path: Path, member: int | None = None) -> Checkpoint:
    """Read and check a checkpoint, or a member of an ensemble, from 1; a process reads a file once, until it changes.

    Raises
    ------
    CheckpointError
        No such file, not a checkpoint, truncated or changed by hand, of another format version, without what a
        checkpoint must hold, or with weights of another shape, of another type or not finite; an ensemble without a
        member, or a member that is not there.
    """
    members = load_members(path)
    if member is None and len(members) == 1:
        return members[0]
    if member is None:
        raise CheckpointError(
            f"{path}: is an ensemble of {len(members)} members, expected one of them here. Say which with member: 1 to "
            f"{len(members)}; `cdlm run` runs all of them."
        )
    if len(members) == 1 or not 1 <= member <= len(members):
        there = "no ensemble" if len(members) == 1 else f"an ensemble of {len(members)} members"
        raise CheckpointError(f"{path}: is {there}, and member is {member}. Leave it out, or choose another.")
    return members[member - 1]


def load_members(path: Path) -> tuple[Checkpoint, ...]:
    """The members of an ensemble, or the one checkpoint of a file; see `load_checkpoint`."""
    try:
        found = path.stat()
    except OSError as cause:
        raise CheckpointError(f"{path}: there is no such checkpoint. Check 'parameters' or train one.") from cause
    return _load(str(path.resolve()), str(path), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=8)
def _load(path: str, where: str, mtime_ns: int, size: int) -> tuple[Checkpoint, ...]:
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            _check_format(header, where)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError, RecursionError, MemoryError) as cause:
        if isinstance(cause, CheckpointError):
            raise
        raise CheckpointError(
            f"{where}: cannot be read as a checkpoint ({shown(str(cause))}). Expected a whole .safetensors file; "
            "copy it again."
        ) from cause
    if header["digest"] != _digest(header, weights):
        raise CheckpointError(
            f"{where}: the content does not match its sha256: the file was damaged or changed by hand. Copy it again, "
            "or write it anew with cdlm-train."
        )
    if header["format"] != ENSEMBLE:
        return (_checked(header, weights, where),)
    members = []
    for k, own in enumerate(header["members"], 1):
        _require(own, ("specification", "record"), f"member {k}", where)
        mine = {n.partition(OF_MEMBER)[2]: v for n, v in weights.items() if n.partition(OF_MEMBER)[0] == str(k)}
        members.append(_checked(own, mine, f"{where}, member {k}"))
    _check_members(members, where)
    return tuple(members)


def _check_twice(members: Sequence[Checkpoint], where: str) -> None:
    """Refuse a member that stands twice: it would weigh double, and take from the spread."""
    for k, one in enumerate(members):
        for other in members[:k]:
            if one.spec == other.spec and all(np.array_equal(a, other.tensors[n]) for n, a in one.tensors.items()):
                raise CheckpointError(
                    f"{where}: {other.where} and {one.where} have the same weights, expected members that differ. "
                    "Leave one out."
                )


def _check_members(members: Sequence[Checkpoint], where: str) -> None:
    """Refuse an ensemble of fewer than two, or of members that could not run one configuration."""
    if len(members) < 2:
        raise CheckpointError(f"{where}: has {len(members)} members, expected two or more. Name more checkpoints.")
    first = members[0].spec
    for one in members[1:]:
        for key in ("step", "routing_step", *OF_CHAIN, "components"):
            if getattr(one.spec, key) != getattr(first, key):
                raise CheckpointError(
                    f"{where}: {members[0].where} has {key} {getattr(first, key)}, {one.where} has "
                    f"{getattr(one.spec, key)}, expected the same. Train all members with one configuration."
                )


def _checked(header: Mapping[str, Any], weights: dict[str, np.ndarray], where: str) -> Checkpoint:
    try:
        spec = GeneratorSpec.from_json(json.dumps(header["specification"]))
    except RecursionError as cause:
        raise CheckpointError(f"{where}: the specification is nested too deeply. Train it anew.") from cause
    except ValueError as cause:
        raise CheckpointError(f"{where}: the specification is refused: {explain(cause)} Train it anew.") from cause
    _check_record(header["record"], where)
    _check_start(spec, header["record"], where)
    _check_tensors(spec, weights, where)
    for value in weights.values():
        value.flags.writeable = False
    return Checkpoint(where, spec, MappingProxyType(weights), MappingProxyType(header["record"]))


def _check_format(header: object, where: str) -> None:
    found = header.get("format") if isinstance(header, dict) else None
    if found not in (*READ, ENSEMBLE):
        got = f"format '{shown(found)}'" if found else "no format"
        raise CheckpointError(
            f"{where}: has {got}, expected '{FORMAT}'. Use a checkpoint of cdlm-train {__version__}, or the version of "
            "bmi_cdlm that wrote it."
        )
    assert isinstance(header, dict)
    _require(header, MEMBER_KEYS if found == ENSEMBLE else KEYS, "its header", where)


def _check_record(record: object, where: str) -> None:
    if not isinstance(record, dict):
        raise CheckpointError(f"{where}: the record holds {type(record).__name__}, expected keys and values.")
    _require(record, (*REQUIRED, "code_version"), "its record", where)


def _check_start(spec: GeneratorSpec, record: Mapping[str, Any], where: str) -> None:
    if spec.has_start and not isinstance(record.get(STARTS_AT), str):
        raise CheckpointError(
            f"{where}: generates how full stores are when a run starts, and its record has no '{STARTS_AT}', the time "
            "of that start. Write it anew with cdlm-train."
        )


def _require(found: Mapping[str, object], keys: tuple[str, ...], place: str, where: str) -> None:
    missing = [key for key in keys if key not in found]
    if missing:
        raise CheckpointError(
            f"{where}: {place} lacks {', '.join(repr(key) for key in missing)}. Expected {', '.join(keys)}; write it "
            "anew with cdlm-train."
        )


def _check_tensors(spec: GeneratorSpec, tensors: Mapping[str, np.ndarray], where: str) -> None:
    shapes = spec.shapes()
    for name in (*shapes, *tensors):
        if name not in tensors or name not in shapes:
            kind = "lacks" if name in shapes else "has unknown"
            raise CheckpointError(f"{where}: {kind} weights '{name}', expected {', '.join(shapes)}. Write it anew.")
    for name, value in tensors.items():
        if value.shape != shapes[name] or value.dtype not in PRECISIONS:
            raise CheckpointError(
                f"{where}: weights '{name}' are {value.dtype}{list(value.shape)}, expected float32 or float64 "
                f"{list(shapes[name])}, as the specification says. Write it anew."
            )
        bad = int(np.count_nonzero(~np.isfinite(value)))
        if bad:
            raise CheckpointError(
                f"{where}: {bad} of the {value.size} weights '{name}' are NaN or infinite. The training diverged: use "
                "an earlier checkpoint, or train with a smaller learning rate."
            )


def _canonical(header: Mapping[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, allow_nan=False)


def _digest(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """Hash of the header but for its digest, and of every weight array."""
    digest = hashlib.sha256()
    parts = [_canonical({key: value for key, value in header.items() if key != "digest"}).encode()]
    for name in sorted(tensors):
        value = tensors[name]
        parts += [name.encode(), f"{value.dtype}{list(value.shape)}".encode(), value.tobytes()]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _duration(seconds: int) -> str:
    return STEP_NAMES.get(seconds, f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s")
