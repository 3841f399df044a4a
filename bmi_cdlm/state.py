"""The state of the model: every number that the future depends on, saved and restored along one path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.errors import OutputError, StateError
from bmi_cdlm.files import one_at_a_time, open_input, read_strings, replacing, select_ids
from bmi_cdlm.kernels.groups import CellTotals, RunoffState, SnowState
from bmi_cdlm.version import __version__

FORMAT = "bmi_cdlm restart 1"


class State(NamedTuple):
    """All states; the arrays are allocated once and changed in place.

    snow, runoff, totals: groups on cells; reach_flow : float64[reach], the state y of Muskingum [m3 s-1];
    outflow_total : float64[reach], water that has left the reach since the start [m3].
    """

    snow: SnowState
    runoff: RunoffState
    totals: CellTotals
    reach_flow: np.ndarray
    outflow_total: np.ndarray

    def on_cells(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the cell, by name; views, not copies."""
        return {name: getattr(g, name) for g in (self.snow, self.runoff, self.totals) for name in g._fields}

    def on_reaches(self) -> dict[str, np.ndarray]:
        """Arrays whose last dimension is the reach, by name; views, not copies."""
        return {"reach_flow": self.reach_flow, "outflow_total": self.outflow_total}

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by its name; views, not copies."""
        return {**self.on_cells(), **self.on_reaches()}

    def copy(self) -> State:
        """Return an independent copy."""
        return State(
            SnowState(*(a.copy() for a in self.snow)), RunoffState(*(a.copy() for a in self.runoff)),
            CellTotals(*(a.copy() for a in self.totals)), self.reach_flow.copy(), self.outflow_total.copy(),
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

    def clear_totals(self) -> None:
        """Set the ledger to zero: the run starts here."""
        for total in (*self.totals, self.outflow_total):
            total[...] = 0.0


def new_state(n_cells: int, n_reaches: int, n_places_1: int, n_places_2: int) -> State:
    """Return an empty state: no water anywhere."""
    def cells() -> np.ndarray:
        return np.zeros(n_cells)

    return State(
        SnowState(cells(), cells(), cells(), cells()),
        RunoffState(cells(), cells(), np.zeros((n_places_1, n_cells)), np.zeros((n_places_2, n_cells))),
        CellTotals(cells(), cells(), cells(), cells()), np.zeros(n_reaches), np.zeros(n_reaches),
    )


def _fitted(name: str, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Values in the shape of `own`; only the length of a unit hydrograph's queue may differ.

    The last place of a queue is empty after every step, and the next step overwrites it.
    """
    if values.ndim != own.ndim or values.shape[-1:] != own.shape[-1:]:
        raise StateError(f"state '{name}' has shape {values.shape}, expected {own.shape}. Use a state of this domain.")
    if values.ndim == 1:
        return values
    n = min(values.shape[0], own.shape[0])
    occupied = np.flatnonzero((values != 0).any(axis=1))
    if occupied.size and occupied[-1] >= own.shape[0] - 1:
        raise StateError(
            f"state '{name}' holds water up to {occupied[-1] + 1} steps ahead, the unit hydrographs here reach "
            f"{own.shape[0] - 1}. Raise 'unit_hydrograph_base' of any cell, or restart with the parameters of that run."
        )
    fitted = np.zeros(own.shape)
    fitted[:n] = values[:n]
    return fitted


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
        with replacing(path) as temporary:
            _write_state(temporary, restart)
    except (OSError, RuntimeError) as cause:
        raise OutputError(
            f"{path}: cannot be written ({getattr(cause, 'strerror', None) or cause}); an older restart file stays as "
            "it is. Free space on the disk, or choose another path for 'restart'."
        ) from cause


def _write_state(path: Path, restart: Restart) -> None:
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.setncatts({
            "title": "bmi_cdlm restart", "format": FORMAT, "source": f"bmi_cdlm {__version__}",
            "valid_at": str(restart.time), **restart.attributes,
        })
        for grid, ids, arrays in (
            ("cell", restart.cell_id, restart.cell), ("reach", restart.reach_id, restart.reach),
        ):
            dataset.createDimension(grid, len(ids))
            encoded = np.array([one.encode() for one in ids])
            dataset.createDimension(f"{grid}_id_length", encoded.dtype.itemsize)
            target = dataset.createVariable(f"{grid}_id", "S1", (grid, f"{grid}_id_length"))
            target[:] = encoded.view("S1").reshape(encoded.size, -1)  # a million texts one by one would take a minute
            for name, values in arrays.items():
                dims: tuple[str, ...] = (grid,)
                if values.ndim == 2:
                    dims = (f"{name}_place", grid)
                    dataset.createDimension(dims[0], values.shape[0])
                dataset.createVariable(name, "f8", dims, fill_value=False)[...] = values


@one_at_a_time
def read_restart(path: Path, cell_id: list[str], reach_id: list[str]) -> Restart:
    """Read a restart file and bring it into the order of these cells and reaches, all of which it must hold.

    Raises
    ------
    StateError
        Unreadable file, another format, a cell or reach that the file does not hold.
    """
    where = str(path)
    with open_input(path, StateError) as dataset:
        found = str(getattr(dataset, "format", "none"))
        if found != FORMAT:
            raise StateError(
                f"{where}: format is '{found}', expected '{FORMAT}'. Use a restart file written by this version."
            )
        arrays: dict[str, dict[str, np.ndarray]] = {"cell": {}, "reach": {}}
        order = {}
        for grid, ids in (("cell", cell_id), ("reach", reach_id)):
            saved = read_strings(dataset, f"{grid}_id", where, StateError)
            order[grid] = select_ids(saved, ids, f"{grid}_id", where, StateError)
        for name, variable in dataset.variables.items():
            if name not in ("cell_id", "reach_id"):
                grid = variable.dimensions[-1]
                arrays[grid][name] = np.asarray(variable[...], np.float64)[..., order[grid]]
        attributes = {key: str(dataset.getncattr(key)) for key in dataset.ncattrs()}
    time = np.datetime64(attributes["valid_at"], "s")
    return Restart(arrays["cell"], arrays["reach"], cell_id, reach_id, attributes, time)

