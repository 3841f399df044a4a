"""Restart files of the format before, as bmi_cdlm wrote them until format 3: they are read still."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import netCDF4
import numpy as np

from bmi_cdlm.files.restart import FORMER, Restart
from bmi_cdlm.version import __version__


def write_former(path: Path, restart: Restart, former: str = FORMER) -> Path:
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as dataset:
        fill(dataset, restart, former)
    return path


def fill(dataset: netCDF4.Dataset, restart: Restart, former: str) -> None:
    """Define everything, then write: a definition after a write would move all that is written."""
    dataset.set_fill_off()
    attributes = {
        "title": "bmi_cdlm restart", "format": former, "source": f"bmi_cdlm {__version__}",
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
            dims: tuple[str, ...] = (grid,)
            if values.ndim == 2:
                dims = (f"{name}_place", grid)
                dataset.createDimension(dims[0], values.shape[0])
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
