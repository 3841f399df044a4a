"""Parameters of a dHBV run, in a table or NetCDF, as a parameter file of ours.

dHBV calls its parameters by the symbols of HBV, `parFC` or `FC`, and may give them as numbers from 0 to 1 between its
bounds, which are the daily ranges of our registry. Units are the same: rates are per day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.files.csv_table import read_lines
from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, same_units, select_ids
from bmi_cdlm.names.errors import ConfigError, ParameterError, nearest
from bmi_cdlm.names.parameters import Parameter, check
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameter_file import COMPONENT, save_parameters

FAMILY = "hbv"
IDS = ("id", "cell_id", "divide_id", "basin_id", "gage_id", "gauge_id", "comid")
"""Names under which ids are looked for, in any case."""
ROUTING = {"route_a": "a", "rout_a": "a", "route_b": "b", "rout_b": "b"}
"""Further names of the unit hydrograph's."""
When = Literal["mean", "last"]


class Imported(NamedTuple):
    """values : float64[cell] or [component, cell] by registry name; notes : what is other than in dHBV, a line each."""

    values: dict[str, np.ndarray]
    notes: list[str]


def import_parameters(
    config: Config, source: Path, *, normalised: bool = False, when: When | None = None
) -> Imported:
    """Read the parameters of a dHBV run for the cells and the runoff process of a run.

    Parameters
    ----------
    source : Path
        CSV with a column of ids, one per parameter, and `component` where there are several; or NetCDF with variables
        on cells, and on components or time beside them in any order.
    normalised : bool
        Values are from 0 to 1 between dHBV's bounds.
    when : "mean" or "last"
        What of a series to take; series are refused where None.

    Raises
    ------
    ConfigError
        The runoff process is no HBV.
    ParameterError
        Unreadable, no ids of the domain, a parameter that is missing, unknown, not finite or out of range.
    """
    process = config.chain.cells[-1]
    if not process.name.startswith(FAMILY):
        raise ConfigError(f"runoff is '{process.name}', expected hbv_1_0, hbv_1_1p, hbv_2_0 or hbv: it takes the "
                          "parameters of dHBV. Set runoff.")
    domain, where = read_domain(config.domain), str(source)
    own = {key: p for p in process.parameters for key in (p.symbol.lower(), p.name)}
    if source.suffix in (".nc", ".nc4"):
        units = {} if normalised else {key: p.units for key, p in own.items()}
        found = _read_netcdf(source, domain, config.components, when, units)
    else:
        found = _read_table(source, domain, config.components)
    values, ignored = {}, []
    for name, given in found.items():
        p = own.get(_plain(name))
        if p is None:
            ignored.append(name)
        elif p.name in values:
            raise ParameterError(f"{where}: '{p.name}' ({p.symbol}) is given twice, expected once. Take one out.")
        else:
            values[p.name] = _scaled(p, given, where) if normalised else given
    if not values:
        known = ", ".join(f"par{p.symbol}" for p in process.parameters)
        raise ParameterError(f"{where}: gives no parameter of {process.name}; has {', '.join(found) or 'nothing'}. "
                             f"Expected such as {known}.{nearest(next(iter(found), ''), own)}")
    may_lack = (*process.left_at_default, *(p.name for p in process.parameters if p.optional))
    lacking = [p for p in process.parameters if p.name not in values and p.name not in may_lack]
    if lacking:
        raise ParameterError(
            f"{where}: lacks {', '.join(f'par{p.symbol}' for p in lacking)}, expected every parameter of "
            f"{process.name}. Add them, or take the process that the run had."
        )
    check(values, where)
    return Imported(values, _notes(config, values, ignored))


def write_parameters(path: Path, config: Config, imported: Imported, source: Path) -> None:
    """Write the parameter file that the key `parameters` of a run takes."""
    save_parameters(path, read_domain(config.domain), config.time_step, imported.values, {
        "title": f"parameters of a dHBV run for {config.runoff}", "source": source.name,
        "comment": " | ".join(imported.notes),
    })


def _plain(name: str) -> str:
    """A name as the registry has it, or a symbol in small letters, without the prefix."""
    small = name.lower()
    return ROUTING.get(small, small.removeprefix("par"))


def _scaled(p: Parameter, given: np.ndarray, where: str) -> np.ndarray:
    bad = np.flatnonzero(~((given >= 0) & (given <= 1)))
    if bad.size:
        raise ParameterError(f"{where}: '{p.symbol}' is {given.flat[bad[0]]} ({bad.size} of {given.size} values are "
                             "bad), expected a number from 0 to 1. Correct it, or leave out --normalised.")
    low, high, _ = p.range_at(DAY)
    return low + given * (high - low)


def _notes(config: Config, values: Mapping[str, np.ndarray], ignored: Sequence[str]) -> list[str]:
    """What is other here than in the run that the parameters come from."""
    process = config.chain.cells[-1]
    lines = []
    if ignored:
        lines.append(f"not taken, for {process.name} has no such parameter: {', '.join(ignored)}")
    left = [p for p in process.parameters if p.name not in values and not p.optional]
    if left:
        told = ", ".join(f"{p.name} {p.range_at(config.time_step).default:g} {p.units}" for p in left)
        lines.append(f"not given, the default is taken: {told}")
    for p in process.parameters:
        if p.name in values:
            low, high, _ = p.range_at(DAY)
            beyond = int(np.count_nonzero((values[p.name] < low) | (values[p.name] > high)))
            if beyond:
                count = f"{beyond} of {values[p.name].size}"
                lines.append(f"{p.name}: {count} values are outside dHBV's {low:g} to {high:g}")
    lines.append("stores start empty, not at 0.001 mm, and none is held above a floor of 1e-5 mm: no water is made")
    if "regional_exchange_capacity" in values and np.any(values["regional_exchange_capacity"] > 0):
        lines.append("regional exchange is on: water from nowhere or to nowhere, a flux and a line of the ledger")
    if process.queues:
        lines.append("the unit hydrograph keeps what is on its way between calls; each parameter set has its own")
    if config.routing != "none":
        lines.append("reaches route: the unit hydrograph and the way through reaches may delay twice")
    varying = [p.name for p in process.parameters if p.may_vary and p.name in values]
    if varying:
        lines.append(f"the same on every day here, in dHBV maybe not: {', '.join(varying)}")
    return lines


# ---- reading ---------------------------------------------------------------------------------------------------


def _read_table(path: Path, domain: Domain, components: int) -> dict[str, np.ndarray]:
    where = str(path)
    rows = [row for _, row in read_lines(path, ParameterError, "a table in CSV, or NetCDF (.nc)")]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise ParameterError(f"{where}: expected a head and lines of as many values. Correct the table.")
    head = [name.strip() for name in rows[0]]
    if len(set(head)) < len(head):
        raise ParameterError(f"{where}: a column stands twice in {', '.join(head)}, expected once. Take one out.")
    columns = {name: [row[k].strip() for row in rows[1:]] for k, name in enumerate(head)}
    id_name = _id_of(head, where)
    sets = columns.pop(COMPONENT, ["0"] * (len(rows) - 1))
    first = sorted({_number(text, COMPONENT, k, where) for k, text in enumerate(sets)})
    if len(first) != components:
        raise ParameterError(f"{where}: has {len(first)} components, the run has components: {components}. Set that in "
                             "the configuration, or add a column 'component'.")
    ids = columns.pop(id_name)
    place = {(one, number): k for k, (one, number) in enumerate(zip(ids, map(float, sets), strict=True))}
    if len(place) < len(ids):
        raise ParameterError(f"{where}: a line of one '{id_name}' and component stands twice. Take one out.")
    wanted = [(one, number) for number in first for one in domain.cells.id]
    lacking = next((key for key in wanted if key not in place), None)
    if lacking is not None:
        raise ParameterError(f"{where}: has no line for cell '{lacking[0]}', component {lacking[1]:g}."
                             f"{nearest(lacking[0], dict.fromkeys(ids))} Expected one for every cell of the domain.")
    order = np.array([place[key] for key in wanted]).reshape(components, -1)
    shape = (-1,) if components == 1 else (components, -1)
    return {
        name: np.array([_number(text, name, k, where) for k, text in enumerate(texts)])[order].reshape(shape)
        for name, texts in columns.items()
    }


def _number(text: str, name: str, k: int, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"{where}: line {k + 2}: '{name}' is '{text}', expected a number. Correct it.") from None


def _id_of(names: Sequence[str], where: str) -> str:
    found = [name for name in names if name.lower() in IDS]
    if len(found) != 1:
        raise ParameterError(f"{where}: has {len(found)} columns or variables of ids, expected one of "
                             f"{', '.join(IDS)}. Name it so; ids are those of the domain's cells.")
    return found[0]


@one_at_a_time
def _read_netcdf(
    path: Path, domain: Domain, components: int, when: When | None, units: Mapping[str, str]
) -> dict[str, np.ndarray]:
    where = str(path)
    with open_input(path, ParameterError) as dataset:
        id_name = _id_of(list(dataset.variables), where)
        ids = read_strings(dataset, id_name, where, ParameterError)
        cell = dataset[id_name].dimensions[0]
        order = select_ids(ids, domain.cells.id, id_name, where, ParameterError)
        found = {
            name: variable for name, variable in dataset.variables.items()
            if name != id_name and name not in dataset.dimensions and cell in variable.dimensions
        }
        for name, variable in found.items():
            expected, got = units.get(_plain(name)), str(getattr(variable, "units", ""))
            if expected is not None and got and not same_units(got, expected):
                raise ParameterError(f"{where}: '{name}' has units '{got}', expected '{expected}'. Convert it.")
        return {name: _on_cells(v, cell, components, when, where)[..., order] for name, v in found.items()}


def _on_cells(variable: netCDF4.Variable, cell: str, components: int, when: When | None, where: str) -> np.ndarray:
    """A variable as float64[cell] or [component, cell]."""
    values, dims = np.asarray(filled(variable, ...), np.float64), list(variable.dimensions)
    for k, name in reversed(list(enumerate(dims))):
        if name.lower() not in ("time", "date", "day"):
            continue
        if when is None:
            raise ParameterError(f"{where}: '{variable.name}' has {values.shape[k]} times, expected one value per "
                                 "cell: a parameter file holds no series. Say which to take with --time mean or --time "
                                 "last.")
        values = np.asarray(values.mean(axis=k) if when == "mean" else values.take(-1, axis=k))
        del dims[k]
    if len(dims) == 2:
        values = np.moveaxis(values, dims.index(cell), -1)
        if values.shape[0] == 1:
            values = values[0]
    sets = values.shape[0] if values.ndim == 2 else 1
    if len(dims) > 2 or sets not in (1, components):
        raise ParameterError(
            f"{where}: '{variable.name}' is on ({', '.join(variable.dimensions)}), {sets} parameter sets, expected "
            f"({cell}) or {components} sets, the components of the run. Set components, or correct the file."
        )
    return values
