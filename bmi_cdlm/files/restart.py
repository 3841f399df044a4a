"""Saved states: a file or bytes, whole or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from bmi_cdlm.files import classic
from bmi_cdlm.files.netcdf import select_ids
from bmi_cdlm.names.calendars import CALENDARS, STANDARD, calendar_of, date_text, parse
from bmi_cdlm.names.container import Arrays, Bytes, is_container, pack, seal, unpack, unseal
from bmi_cdlm.names.errors import OutputError, StateError
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.version import __version__

FORMAT = "bmi_cdlm restart 3"
FORMER = "bmi_cdlm restart 2"
"""Read still, never written: classic NetCDF with a digest of its own. It knew GR4J and Muskingum only."""
READ = (FORMER, FORMAT)
IN_MEMORY = "the given bytes"
REMEDY = "Take the state again, or use one written by this version."
GRIDS = ("cell", "reach")
VALID_AT, CALENDAR = "valid_at", "calendar"


class Restart(NamedTuple):
    """A saved state: named arrays on cells and on reaches (last dimension), ids, text attributes, valid time."""

    cell: dict[str, np.ndarray]
    reach: dict[str, np.ndarray]
    cell_id: list[str]
    reach_id: list[str]
    attributes: dict[str, str]
    time: np.datetime64


def write_restart(path: Path, restart: Restart) -> None:
    """Write a state in full, to a temporary name that is then moved.

    Raises
    ------
    OutputError
        The disk is full or the folder gone; an older file stays as it is.
    """
    pieces = _pieces(restart)
    try:
        with replacing(path) as temporary, temporary.open("r+b") as file:
            for piece in pieces:
                file.write(piece)
    except OSError as cause:
        if isinstance(cause, OutputError):
            raise
        older = "; the older file stays as it is" if path.exists() else ""
        raise OutputError(
            f"{path}: cannot be written ({cause.strerror or cause}){older}. Free space on the disk, or choose another "
            "path for 'restart'."
        ) from cause


def restart_to_bytes(restart: Restart) -> bytes:
    """Return what `write_restart` would write, as bytes."""
    return b"".join(_pieces(restart))


def _pieces(restart: Restart) -> list[Bytes]:
    words = {"source": f"bmi_cdlm {__version__}", VALID_AT: date_text(restart.time), **restart.attributes}
    if calendar_of(restart.time) != STANDARD:
        words[CALENDAR] = calendar_of(restart.time)
    arrays: dict[str, np.ndarray] = {}
    for grid, ids, own in zip(GRIDS, restart[2:4], restart[:2], strict=True):
        letters = np.array([one.encode() for one in ids], bytes)
        arrays[f"{grid}_id"] = letters if letters.dtype.itemsize else letters.astype("S1")
        for name, values in own.items():
            if np.shape(values)[-1:] != (len(ids),):
                raise ValueError(f"'{name}' has shape {np.shape(values)}, expected {len(ids)} values, one per {grid}")
            arrays[f"{grid}/{name}"] = np.asarray(values, np.float64)
    return seal(FORMAT, pack(words, arrays))


def read_restart(source: Path | bytes, cell_id: list[str], reach_id: list[str]) -> Restart:
    """Read a restart, a file or its bytes, in the order of these cells and reaches, all of which it must hold.

    Raises
    ------
    StateError
        Unreadable, damaged, another format, a cell or reach that it does not hold.
    """
    where = str(source) if isinstance(source, Path) else IN_MEMORY
    content = _read_bytes(source) if isinstance(source, Path) else source
    if is_container(content):
        found = unpack(unseal(content, FORMAT, where, StateError, REMEDY), where, StateError, REMEDY)
    else:
        found = _read_former(content, where)
    ids = {"cell": cell_id, "reach": reach_id}
    own: dict[str, dict[str, np.ndarray]] = {grid: {} for grid in GRIDS}
    order = {grid: select_ids(_ids(found, grid, where), ids[grid], f"{grid}_id", where, StateError) for grid in GRIDS}
    counts = {grid: found.arrays[f"{grid}_id"].size for grid in GRIDS}
    for name, values in found.arrays.items():
        grid, _, short = name.partition("/")
        if not short:
            continue
        if grid not in own or not values.ndim or values.shape[-1] != counts[grid]:
            raise StateError(f"{where}: '{name}' has shape {values.shape}, which does not fit. {REMEDY}")
        own[grid][short] = values[..., order[grid]].astype(np.float64)
    return Restart(own["cell"], own["reach"], cell_id, reach_id, found.words, _time(found.words, where))


def _read_bytes(path: Path) -> bytes:
    """The whole file; one that is no state is not read beyond its first bytes."""
    if not path.is_file():
        raise StateError(f"{path}: there is no such file. Check the path in the configuration, or make the file first.")
    try:
        with path.open("rb") as file:
            return _rest(file)
    except (OSError, MemoryError) as cause:
        raise StateError(f"{path}: cannot be read ({cause}). Expected a restart file.") from cause


def _rest(file: BinaryIO) -> bytes:
    begin = file.read(8)
    return begin if not is_container(begin) and not begin.startswith(classic.MAGIC) else begin + file.read()


def _ids(found: Arrays, grid: str, where: str) -> list[str]:
    values = found.arrays.get(f"{grid}_id")
    if values is None or values.ndim != 1 or values.dtype.kind != "S":
        raise StateError(f"{where}: lacks '{grid}_id', expected one id per {grid}. {REMEDY}")
    try:
        return [one.decode() for one in values.tolist()]
    except UnicodeDecodeError as cause:
        raise StateError(f"{where}: '{grid}_id' is no text ({cause}). {REMEDY}") from cause


def _time(words: Mapping[str, str], where: str) -> np.datetime64:
    try:
        if words.get(CALENDAR, STANDARD) in CALENDARS:
            return parse(words[VALID_AT], words.get(CALENDAR, STANDARD))
    except (KeyError, ValueError):
        pass
    raise StateError(f"{where}: says not when it is valid ('{words.get(VALID_AT)}'). {REMEDY}")


# ---- the format before -----------------------------------------------------------------------------------------


def _read_former(content: bytes, where: str) -> Arrays:
    """A state in classic NetCDF, checked against its own digest."""
    size = f" ({len(content)} of them)" if where == IN_MEMORY else ""
    if not content.startswith(classic.MAGIC):
        raise StateError(f"{where}{size}: holds no state of bmi_cdlm. {REMEDY}")
    try:
        found = classic.read_classic(content)
    except (ValueError, OverflowError, MemoryError) as cause:
        raise StateError(f"{where}{size}: was cut off or changed ({cause}). {REMEDY}") from cause
    words = dict(found.attributes)
    if words.get("format") != FORMER:
        raise StateError(
            f"{where}: format is '{words.get('format', 'none')}', expected '{FORMAT}'. Use a state written by this "
            "version, or the version that wrote it."
        )
    if words.pop("digest", "none") != _former_digest(words, found.arrays):
        raise StateError(f"{where}: does not match its sha256, it was cut off or changed. {REMEDY}")
    arrays, grid = {}, ""
    for name, values in found.arrays.items():  # ids of a grid, then what lies on it: dimensions are not in the digest
        dimensions = found.dimensions[name]
        if name.endswith("_id"):
            grid, letters = name.removesuffix("_id"), np.ascontiguousarray(values)
            arrays[name] = letters.view(f"S{letters.shape[1]}").reshape(-1)
        else:
            arrays[f"{grid}/{name}"] = values
        if dimensions[0 if name.endswith("_id") else -1] != grid:
            raise StateError(f"{where}: '{name}' lies on ({', '.join(dimensions)}), expected {grid}. {REMEDY}")
    for key in ("format", "title"):
        words.pop(key, None)
    _bring_up_to_date(words, arrays)
    return Arrays(words, arrays)


def _bring_up_to_date(words: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
    """What a state of format 2 left unsaid: its processes, and the volume of water in its reaches [m3]."""
    words |= {"runoff": "gr4j", "routing": "muskingum", "components": "1"}
    if "reach/reach_flow" in arrays and "reach/reach_storage_time" in arrays:
        arrays["reach/reach_storage"] = arrays["reach/reach_flow"] * arrays.pop("reach/reach_storage_time")


def _former_digest(attributes: Mapping[str, str], content: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(repr(sorted(attributes.items())).encode())
    for name in sorted(content):
        values = content[name]
        digest.update(f"{name} {values.dtype.kind} {values.shape} ".encode())
        digest.update(values.astype("<f8").tobytes() if values.dtype.kind == "f" else values.tobytes())
    return digest.hexdigest()
