"""Parameter files: registry names on cells and reaches, or uniform values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.netcdf import (
    check_numeric,
    check_units,
    filled,
    one_at_a_time,
    open_input,
    read_strings,
    read_values,
    select_ids,
)
from bmi_cdlm.names.errors import ParameterError, nearest
from bmi_cdlm.names.parameters import BY_NAME, COMPONENT_WEIGHT, STARTS, TRAVEL_TIME, WEIGHT
from bmi_cdlm.names.time_steps import STEP_NAMES
from bmi_cdlm.names.writing import replacing

COMPONENT = "component"


@one_at_a_time
def read_parameters(path: Path, domain: Domain, step: int | None = None) -> dict[str, np.ndarray]:
    """Read registry names on `cell` and `reach`, or without a dimension for a uniform value.

    Of several parameter sets per cell there is one more dimension, [component, cell]: parameters of the runoff process,
    and their weights.

    Returns them as arrays in the order of the domain; `cell_id` and `reach_id`, where the file has them, must
    be the domain's. A file that states its `time_step` ('1 d', '1 h') must have that of the run, `step` [s]: X2, X4
    and the melt factor are per step.

    Raises
    ------
    ParameterError
        Unreadable file, unknown names, other units, counts, ids or time step.
    """
    where = str(path)
    values: dict[str, np.ndarray] = {}
    order = {"cell": np.arange(domain.n_cells), "reach": domain.file_order}
    ids = {"cell": domain.cells.id, "reach": domain.reaches.id}
    with open_input(path, ParameterError) as dataset:
        stated = str(getattr(dataset, "time_step", ""))
        if stated and step is not None and stated != STEP_NAMES[step]:
            raise ParameterError(
                f"{where}: holds parameters for a time_step of '{stated}', expected '{STEP_NAMES[step]}'. Use "
                "parameters fitted at the step of the run."
            )
        for grid in ("cell", "reach"):
            if f"{grid}_id" in dataset.variables:
                found = read_strings(dataset, f"{grid}_id", where, ParameterError)
                order[grid] = select_ids(found, ids[grid], f"{grid}_id", where, ParameterError)
        known = known_parameters()
        for name in dataset.variables:
            if name in ("cell_id", "reach_id"):
                continue
            if name not in known:
                hint = nearest(name, known)
                raise ParameterError(f"{where}: unknown parameter '{name}'.{hint} Known: {', '.join(known)}.")
            grid, units, _ = known[name]
            if dataset.variables[name].dimensions == ():
                _check_parameter_units(dataset, name, units, where)
                check_numeric(dataset, name, where, ParameterError)
                values[name] = np.full(len(ids[grid]), float(filled(dataset.variables[name], ...)))
                continue
            by_component = dataset.variables[name].dimensions == (COMPONENT, "cell")
            dims = (COMPONENT, grid) if by_component or name == WEIGHT else (grid,)
            if "per step" in units:
                _check_parameter_units(dataset, name, units, where)
                array = read_values(dataset, name, dims, None, where, ParameterError)
            else:
                array = read_values(dataset, name, dims, units, where, ParameterError)
            if array.shape[-1] != len(ids[grid]) and f"{grid}_id" not in dataset.variables:
                raise ParameterError(
                    f"{where}: '{name}' has {array.shape[-1]} values, expected {len(ids[grid])}, one per {grid}."
                )
            values[name] = array[..., order[grid]]
    return values


@one_at_a_time
def read_attribute_of(path: Path, name: str) -> str | None:
    """An attribute of a parameter file, such as the time of the start that it holds; None where it has none."""
    with open_input(path, ParameterError) as dataset:
        return str(dataset.getncattr(name)) if name in dataset.ncattrs() else None


@one_at_a_time
def save_parameters(
    path: Path, domain: Domain, step: int, values: Mapping[str, np.ndarray], attributes: Mapping[str, str]
) -> None:
    """Write what `read_parameters` reads, beside its place and moved onto it.

    step : of the run [s]; values : float64[cell | reach] or [component, cell] by registry name, in the order of the
    domain; attributes : of the file, such as its title and what it was made of.
    """
    known, ids = known_parameters(), {"cell": domain.cells.id, "reach": domain.reaches.id}
    components = {array.shape[0] for array in values.values() if array.ndim == 2}
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as dataset:
        dataset.setncatts({**attributes, "time_step": STEP_NAMES[step]})
        for grid in dict.fromkeys(known[name][0] for name in values):
            dataset.createDimension(grid, len(ids[grid]))
            dataset.createVariable(f"{grid}_id", str, (grid,))[:] = np.array(list(ids[grid]), object)
        for count in components:
            dataset.createDimension(COMPONENT, count)
        for name, array in values.items():
            grid, units, meaning = known[name]
            variable = dataset.createVariable(name, "f8", (COMPONENT, grid) if array.ndim == 2 else (grid,))
            variable.setncatts({"units": units, "long_name": meaning})
            variable[:] = array


def known_parameters() -> dict[str, tuple[str, str, str]]:
    """Return grid, units and meaning of all that a parameter file may hold, by name."""
    found: dict[str, tuple[str, str, str]] = {
        name: (p.grid, p.units, p.meaning) for name, p in (BY_NAME | STARTS).items()
    }
    found[TRAVEL_TIME] = "reach", "s", "Travel time, in place of length / celerity"
    found[WEIGHT] = COMPONENT_WEIGHT.grid, COMPONENT_WEIGHT.units, "Share of each parameter set in the runoff of a cell"
    return found


def _check_parameter_units(dataset: netCDF4.Dataset, name: str, units: str, where: str) -> None:
    """'mm per step' is no UDUNITS unit: it must be spelt as in the registry."""
    got = str(getattr(dataset.variables[name], "units", ""))
    if got != units:
        check_units(dataset, name, units, where, ParameterError)
