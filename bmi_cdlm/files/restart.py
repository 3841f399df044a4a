"""Saved states: a file or bytes, whole or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_strings, replacing, select_ids
from bmi_cdlm.names.errors import OutputError, StateError
from bmi_cdlm.version import __version__

FORMAT, READ = "bmi_cdlm restart 3", ("bmi_cdlm restart 2", "bmi_cdlm restart 3")
"""Format 2 knew GR4J and Muskingum only."""
CONTAINER: Literal["NETCDF3_64BIT_DATA"] = "NETCDF3_64BIT_DATA"
"""Without HDF5 the state of one cell takes 4 KiB instead of 64, and a third of the time."""
IN_MEMORY = "the given bytes"


class Restart(NamedTuple):
    """A saved state: named arrays on cells and on reaches (last dimension), ids, text attributes, valid time."""

    cell: dict[str, np.ndarray]
    reach: dict[str, np.ndarray]
    cell_id: list[str]
    reach_id: list[str]
    attributes: dict[str, str]
    time: np.datetime64


@one_at_a_time
def write_restart(path: Path, restart: Restart) -> None:
    """Write a state in full, to a temporary name that is then moved.

    Raises
    ------
    OutputError
        The disk is full or the folder gone; an older file stays as it is.
    """
    try:
        with replacing(path) as temporary, netCDF4.Dataset(temporary, "w", format=CONTAINER) as dataset:
            _fill(dataset, restart)
    except (OSError, RuntimeError) as cause:
        raise OutputError(
            f"{path}: cannot be written ({getattr(cause, 'strerror', None) or cause}); an older restart file stays as "
            "it is. Free space on the disk, or choose another path for 'restart'."
        ) from cause


@one_at_a_time
def restart_to_bytes(restart: Restart) -> bytes:
    """Return what `write_restart` would write, as bytes."""
    dataset = netCDF4.Dataset(IN_MEMORY, "w", memory=0, format=CONTAINER)
    try:
        _fill(dataset, restart)
    finally:
        content = dataset.close()
    return bytes(content)


def _fill(dataset: netCDF4.Dataset, restart: Restart) -> None:
    """Define everything, then write: a definition after a write would move all that is written."""
    dataset.set_fill_off()
    attributes = {
        "title": "bmi_cdlm restart", "format": FORMAT, "source": f"bmi_cdlm {__version__}",
        "valid_at": str(restart.time), **restart.attributes,
    }
    dataset.setncatts(attributes)
    content: dict[str, np.ndarray] = {}
    for grid, ids, arrays in (
        ("cell", restart.cell_id, restart.cell), ("reach", restart.reach_id, restart.reach),
    ):
        letters = np.array([one.encode() for one in ids])
        width = max(1, letters.dtype.itemsize)
        dataset.createDimension(grid, len(ids))
        dataset.createDimension(f"{grid}_id_width", width)
        dataset.createVariable(f"{grid}_id", "S1", (grid, f"{grid}_id_width"), fill_value=False)
        content[f"{grid}_id"] = letters.astype(f"S{width}").view("S1").reshape(len(ids), width)
        for name, values in arrays.items():
            dims = (*(f"{name}_{k}" for k in ("place", "component")[: values.ndim - 1]), grid)
            for dimension, size in zip(dims[:-1], values.shape, strict=False):
                dataset.createDimension(dimension, size)
            dataset.createVariable(name, "f8", dims, fill_value=False)
            content[name] = values
    dataset.setncattr("digest", _digest(attributes, content))
    for name, values in content.items():
        if dataset.variables[name].shape != values.shape:
            raise ValueError(f"'{name}' has shape {values.shape}, expected {dataset.variables[name].shape}")
        dataset.variables[name][...] = values


def _digest(attributes: Mapping[str, str], content: Mapping[str, np.ndarray]) -> str:
    """Hash of every attribute and array: a file without HDF5 that was cut off reads as zeros."""
    digest = hashlib.sha256(repr(sorted(attributes.items())).encode())
    for name in sorted(content):
        values = content[name]
        digest.update(f"{name} {values.dtype.kind} {values.shape} ".encode())
        digest.update(values.astype("<f8").tobytes() if values.dtype.kind == "f" else values.tobytes())
    return digest.hexdigest()


@one_at_a_time
def read_restart(source: Path | bytes, cell_id: list[str], reach_id: list[str]) -> Restart:
    """Read a restart, a file or its bytes, in the order of these cells and reaches, all of which it must hold.

    Raises
    ------
    StateError
        Unreadable, another format, a cell or reach that it does not hold.
    """
    with _open(source) as (dataset, where):
        found = str(getattr(dataset, "format", "none"))
        if found not in READ:
            raise StateError(
                f"{where}: format is '{found}', expected '{FORMAT}'. Use a state written by this version, or the "
                "version that wrote it."
            )
        attributes = {key: str(dataset.getncattr(key)) for key in dataset.ncattrs()}
        content = _read_content(dataset, attributes, where)
        arrays: dict[str, dict[str, np.ndarray]] = {"cell": {}, "reach": {}}
        order = {}
        for grid, ids in (("cell", cell_id), ("reach", reach_id)):
            saved = read_strings(dataset, f"{grid}_id", where, StateError)
            order[grid] = select_ids(saved, ids, f"{grid}_id", where, StateError)
        for name, values in content.items():
            if name not in ("cell_id", "reach_id"):
                grid = dataset.variables[name].dimensions[-1]
                arrays[grid][name] = values.astype(np.float64)[..., order[grid]]
    if found == READ[0]:
        _bring_up_to_date(attributes, arrays["reach"])
    time = np.datetime64(attributes["valid_at"], "s")
    return Restart(arrays["cell"], arrays["reach"], cell_id, reach_id, attributes, time)


def _bring_up_to_date(attributes: dict[str, str], reach: dict[str, np.ndarray]) -> None:
    """What a state of format 2 left unsaid: its processes, and the volume of water in its reaches [m3]."""
    attributes |= {"runoff": "gr4j", "routing": "muskingum", "components": "1"}
    if "reach_flow" in reach and "reach_storage_time" in reach:
        reach["reach_storage"] = reach["reach_flow"] * reach.pop("reach_storage_time")


def _read_content(dataset: netCDF4.Dataset, attributes: dict[str, str], where: str) -> dict[str, np.ndarray]:
    """Every array as it is in the file, if that is whole; takes the digest out of the attributes."""
    try:
        content = {name: np.asarray(variable[...]) for name, variable in dataset.variables.items()}
    except (RuntimeError, OSError) as cause:
        raise StateError(f"{where}: cannot be read whole ({cause}). Take the state again.") from cause
    if attributes.pop("digest", "none") != _digest(attributes, content):
        raise StateError(f"{where}: does not match its sha256, it was cut off or changed. Take the state again.")
    return content


@contextmanager
def _open(source: Path | bytes) -> Iterator[tuple[netCDF4.Dataset, str]]:
    """The dataset and what to call it in messages."""
    if isinstance(source, Path):
        with open_input(source, StateError) as dataset:
            yield dataset, str(source)
        return
    try:
        dataset = netCDF4.Dataset(IN_MEMORY, memory=source)
    except (OSError, ValueError) as cause:
        raise StateError(
            f"{IN_MEMORY} ({len(source)} of them) are no state ({cause}). Give back what was taken, whole."
        ) from cause
    dataset.set_auto_mask(False)
    try:
        yield dataset, IN_MEMORY
    finally:
        dataset.close()
