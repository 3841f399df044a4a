"""The state of the model: every number that the future depends on, saved and restored along one path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.errors import OutputError, StateError
from bmi_cdlm.files import one_at_a_time, open_input, read_strings, replacing, select_ids
from bmi_cdlm.kernels.groups import CellTotals, RunoffState, SnowState
from bmi_cdlm.version import __version__

FORMAT = "bmi_cdlm restart 2"
CONTAINER: Literal["NETCDF3_64BIT_DATA"] = "NETCDF3_64BIT_DATA"
"""Without HDF5 the state of one cell takes 4 KiB instead of 64, and a third of the time."""
HYDROGRAPHS = ("unit_hydrograph_1", "unit_hydrograph_2")
IN_MEMORY = "the given bytes"


class State(NamedTuple):
    """All states; the arrays are allocated once and changed in place.

    snow, runoff, totals: groups on cells; reach_flow : float64[reach], the state y of Muskingum [m3 s-1];
    outflow_total : float64[reach], water that has left the reach since the start [m3]; unreleased : float64[reach],
    the part of it that the caller's clock has not reached [m3]; cell_storage_at_start [mm], reach_storage_at_start
    [m3] : float64[cell], float64[reach], water at the start; added_total : float64[cell] [mm], reach_added_total :
    float64[reach] [m3], water that callers have put in since the start.
    """

    snow: SnowState
    runoff: RunoffState
    totals: CellTotals
    reach_flow: np.ndarray
    outflow_total: np.ndarray
    unreleased: np.ndarray
    cell_storage_at_start: np.ndarray
    reach_storage_at_start: np.ndarray
    added_total: np.ndarray
    reach_added_total: np.ndarray

    def on_cells(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the cell, by name; views, not copies."""
        groups = (self.snow, self.runoff, self.totals)
        arrays = {name: getattr(g, name) for g in groups for name in g._fields}
        return arrays | {name: getattr(self, name) for name in ("cell_storage_at_start", "added_total")}

    def on_reaches(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the reach, by name; views, not copies."""
        names = ("reach_flow", "outflow_total", "unreleased", "reach_storage_at_start", "reach_added_total")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by its name; views, not copies."""
        return {**self.on_cells(), **self.on_reaches()}

    def copy(self) -> State:
        """Return an independent copy."""
        return State(
            SnowState(*(a.copy() for a in self.snow)), RunoffState(*(a.copy() for a in self.runoff)),
            CellTotals(*(a.copy() for a in self.totals)), *(a.copy() for a in self[3:]),
        )

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over values in place; queues of unit hydrographs may be shorter or longer, water is kept.

        Raises
        ------
        StateError
            A missing array, another number of cells or reaches, or water queued beyond the longest unit hydrograph.
        """
        own = self.arrays()
        missing = [name for name in own if name not in arrays]
        if missing:
            raise StateError(f"state lacks '{missing[0]}'. Expected {', '.join(own)}; use a state of this version.")
        checked = {name: _fitted(name, np.asarray(arrays[name], np.float64), own[name]) for name in own}
        for name, values in checked.items():
            own[name][...] = values

    def with_places(self, *places: int) -> State:
        """Return the same state with queues of that many places; water beyond them would be lost."""
        runoff = self.runoff
        queues = (_resized(getattr(runoff, name), n) for name, n in zip(HYDROGRAPHS, places, strict=True))
        return self._replace(runoff=RunoffState(*runoff[:2], *queues))

    def clear_totals(self) -> None:
        """Set the ledger to zero: the run starts here."""
        totals = (*self.totals, self.outflow_total, self.unreleased, self.added_total, self.reach_added_total)
        for total in totals:
            total[...] = 0.0


def new_state(n_cells: int, n_reaches: int, n_places_1: int, n_places_2: int) -> State:
    """Return an empty state: no water anywhere."""
    def cells() -> np.ndarray:
        return np.zeros(n_cells)

    def reaches() -> np.ndarray:
        return np.zeros(n_reaches)

    return State(
        SnowState(cells(), cells(), cells(), cells()),
        RunoffState(cells(), cells(), np.zeros((n_places_1, n_cells)), np.zeros((n_places_2, n_cells))),
        CellTotals(cells(), cells(), cells(), cells()), reaches(), reaches(), reaches(), cells(), reaches(), cells(),
        reaches(),
    )


def _fitted(name: str, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Values in the shape of `own`; only the length of a unit hydrograph's queue may differ.

    The last place of a queue is empty after every step, and the next step overwrites it.
    """
    if values.ndim != own.ndim or values.shape[-1:] != own.shape[-1:]:
        raise StateError(f"state '{name}' has shape {values.shape}, expected {own.shape}. Use a state of this domain.")
    if values.ndim == 1:
        return values
    needed = _occupied(values)
    if needed > own.shape[0]:
        raise StateError(
            f"state '{name}' holds water up to {needed - 1} steps ahead, the unit hydrographs here reach "
            f"{own.shape[0] - 1}. Take it over through `Model.restore`, which makes room."
        )
    return _resized(values, own.shape[0])


def occupied_places(arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Return how many places the queues of both unit hydrographs need for the water in a state's arrays."""
    first, second = (_occupied(arrays[name]) if name in arrays else 1 for name in HYDROGRAPHS)
    return first, second


def _occupied(queue: np.ndarray) -> int:
    """Places up to the last water, and the empty one after it that a queue ends with."""
    occupied = np.flatnonzero((queue != 0).any(axis=1))
    return int(occupied[-1]) + 2 if occupied.size else 1


def _resized(queue: np.ndarray, places: int) -> np.ndarray:
    """A queue of that many places; itself where it has them."""
    if queue.shape[0] == places:
        return queue
    n = min(queue.shape[0], places)
    return np.concatenate([queue[:n], np.zeros((places - n, queue.shape[1]))])


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
        if found != FORMAT:
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
    time = np.datetime64(attributes["valid_at"], "s")
    return Restart(arrays["cell"], arrays["reach"], cell_id, reach_id, attributes, time)


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
