"""Zarr stores as inputs and outputs: read through the few calls of netCDF4 that the readers here use (extra `zarr`)."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.names.writing import sync, sync_tree, temporary_name

SUFFIX = ".zarr"
MARKS = ("zarr.json", ".zgroup", ".zmetadata")
DIMENSIONS = "_ARRAY_DIMENSIONS"
CHUNK_POINTS = 4096


def is_store(path: Path) -> bool:
    """Whether there is a Zarr group at a path."""
    return any((path / mark).is_file() for mark in MARKS)


def require_zarr(path: Path, error: type[CdlmError]) -> ModuleType:
    """Import zarr; `error` where it is not installed."""
    try:
        import zarr
    except ImportError as cause:
        raise error(
            f"{path}: is a Zarr store, and the package zarr is not installed. Install bmi_cdlm[zarr], or use NetCDF."
        ) from cause
    return zarr


class Dimension(NamedTuple):
    """Length of a dimension."""

    size: int


class _Attributes:
    """Attributes by name, as netCDF4 gives them."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._attributes = attributes

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__.get("_attributes", {})
        if name in attributes:
            return attributes[name]
        raise AttributeError(name)

    def ncattrs(self) -> list[str]:
        """Names of the attributes."""
        return list(self._attributes)

    def getncattr(self, name: str) -> Any:
        """One attribute."""
        return self._attributes[name]

    def set_auto_mask(self, on: bool) -> None:
        """Nothing is masked here."""

    def set_auto_maskandscale(self, on: bool) -> None:
        """Nothing is unpacked here."""


class StoreVariable(_Attributes):
    """One array of a store."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self._array, self.dtype, self.shape = name, array, array.dtype, array.shape
        attributes = dict(array.attrs)
        named = attributes.pop(DIMENSIONS, None) or getattr(array.metadata, "dimension_names", None) or ()
        self.dimensions = tuple(str(name) for name in named)
        missing = _missing_value(array, attributes.pop("_FillValue", None))
        super().__init__(attributes if missing is None else {**attributes, "_FillValue": missing})

    def __getitem__(self, index: object) -> np.ndarray:
        """Read a part; OSError where it cannot be read."""
        try:
            return np.asarray(self._array[index])
        except Exception as cause:  # codecs raise errors of many kinds
            raise OSError(f"{type(cause).__name__}: {cause}") from cause

    def chunking(self) -> list[int]:
        """Length of a chunk along each dimension."""
        return list(self._array.chunks)


class StoreDataset(_Attributes):
    """A Zarr group with arrays whose dimensions are named, as xarray writes them."""

    def __init__(self, path: Path, error: type[CdlmError]) -> None:
        zarr = require_zarr(path, error)
        try:
            group = zarr.open_group(str(path), mode="r")
            super().__init__(dict(group.attrs))
            self.variables = {name: StoreVariable(name, array) for name, array in group.arrays()}
        except Exception as cause:
            raise error(f"{path}: cannot be read as a Zarr store ({cause}). Expected a group of arrays.") from cause
        self.dimensions: dict[str, Dimension] = {}
        for name, variable in self.variables.items():
            if len(variable.dimensions) != len(variable.shape):
                raise error(
                    f"{path}: '{name}' does not name its {len(variable.shape)} dimensions. Expected dimension_names "
                    f"(or {DIMENSIONS}), as xarray's to_zarr writes them."
                )
            self.dimensions.update(zip(variable.dimensions, map(Dimension, variable.shape), strict=True))

    def close(self) -> None:
        """Nothing stays open."""


def _missing_value(array: Any, stated: Any) -> Any:
    """What stands for a missing value: the attribute (text is base64 of its bytes), or the fill value of format 2.

    A fill value of 0 of format 2 is zarr's own default and stands for nothing.
    """
    if getattr(array.dtype, "kind", "O") not in "fiu":
        return None
    if isinstance(stated, str):
        try:
            return np.frombuffer(base64.standard_b64decode(stated), array.dtype.newbyteorder("<"))[0]
        except ValueError:
            return array.dtype.type(stated)  # "NaN"
    if stated is None and array.metadata.zarr_format == 2 and array.fill_value:
        return array.fill_value
    return stated


def check_replaceable(path: Path, error: type[CdlmError]) -> None:
    """Refuse to write a store where there is a folder of something else, which would be lost with all in it."""
    if path.is_dir() and not is_store(path) and any(path.iterdir()):
        raise error(
            f"{path}: is a folder with {next(path.iterdir()).name} in it and no Zarr store, expected a store to "
            "replace, or nothing. Choose another path, or move the folder."
        )


def copy_to_store(source: Path, target: Path, chunk_steps: int, error: type[CdlmError]) -> None:
    """Copy a NetCDF file to a Zarr store (format 3), a few steps at a time; moved to `target` when it is complete."""
    zarr = require_zarr(target, error)
    folder = temporary_name(target)
    folder.mkdir()
    try:
        with netCDF4.Dataset(source) as dataset:
            dataset.set_auto_maskandscale(False)
            group = zarr.open_group(str(folder / "new"), mode="w", zarr_format=3)
            group.attrs.update(_plain({key: dataset.getncattr(key) for key in dataset.ncattrs()}))
            for variable in dataset.variables.values():
                _copy_variable(variable, group, chunk_steps)
        sync_tree(folder / "new")
        if target.exists() or target.is_symlink():
            target.rename(folder / "old")
        (folder / "new").rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_variable(variable: netCDF4.Variable, group: Any, chunk_steps: int) -> None:
    attributes = {key: variable.getncattr(key) for key in variable.ncattrs()}
    fill = attributes.pop("_FillValue", None)
    if variable.dtype == "S1":
        texts = np.asarray(variable[:]).view(f"S{variable.shape[1]}").reshape(-1)
        made = group.create_array(
            variable.name, shape=texts.shape, dtype=str, chunks=(max(1, min(texts.size, CHUNK_POINTS)),),
            dimension_names=variable.dimensions[:1], attributes=_plain(attributes),
        )
        made[:] = np.array([text.decode() for text in texts.tolist()], object)
        return
    sizes = (chunk_steps, CHUNK_POINTS) if variable.dimensions[0] == "time" else (CHUNK_POINTS, CHUNK_POINTS)
    chunks = tuple(max(1, min(a, b)) for a, b in zip(sizes, variable.shape, strict=False))
    made = group.create_array(
        variable.name, shape=variable.shape, dtype=variable.dtype.newbyteorder("="), chunks=chunks,
        dimension_names=variable.dimensions, attributes=_plain(attributes), fill_value=0 if fill is None else fill,
    )
    for first in range(0, variable.shape[0], sizes[0]):
        made[first : first + sizes[0]] = variable[first : first + sizes[0]]


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON has them."""
    return {key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
            for key, value in attributes.items()}
