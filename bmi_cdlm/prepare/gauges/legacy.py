"""Muskingum parameters of an older model, taken over as a parameter file or as priors for training."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_strings, read_values
from bmi_cdlm.names.errors import DomainError, ParameterError, nearest
from bmi_cdlm.names.parameters import TRAVEL_TIME, check, parameter
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.prepare.config import LegacyConfig
from bmi_cdlm.prepare.gauges.tables import NETCDF, Wanted, read_table
from bmi_cdlm.prepare.packages import resolve

logger = logging.getLogger(__name__)
PRIORS = {
    "prior_celerity": ("m s-1", "celerity of the flood wave in an older model, length / K"),
    "prior_weighting": ("1", "Muskingum weighting x of an older model"),
}


class Legacy(NamedTuple):
    """Muskingum parameters on reaches: travel_time (K) [s], weighting (x) [1], float64[reach]."""

    travel_time: np.ndarray
    weighting: np.ndarray


def read_legacy(config: LegacyConfig, folder: Path, reach_id: Sequence[str], length: np.ndarray) -> Legacy:
    """Read K and x of every reach.

    Parameters
    ----------
    config : LegacyConfig
    folder : Path
        Where relative paths begin.
    reach_id : sequence of str
        Reaches of the domain file, in its order.
    length : float64[reach]
        Their lengths [m], for the default celerity of reaches without a row.

    Raises
    ------
    ParameterError
        Unreadable table, K without units, reaches without a row (unless `unmatched` is default) or with two, another
        count where there are no ids, K below 0 or x outside 0 to 0.5.
    """
    path = resolve(config.table, folder)
    units = {} if config.travel_time_units is None else {TRAVEL_TIME: config.travel_time_units}
    if not units and path.suffix not in NETCDF:
        raise ParameterError(
            f"{path}: the units of K are not known. Set legacy.travel_time_units to s, min, h or d: an older model at "
            "a daily step may count K in days."
        )
    wanted = {"id": Wanted(text=True), TRAVEL_TIME: Wanted(units="s", required=True), "weighting": Wanted()}
    table = read_table(path, config.columns, wanted, units, ParameterError, need_units=True)
    row = _match(table, reach_id, path, config)
    found = row >= 0
    default = {name: parameter(name).range_at(DAY).default for name in ("celerity", "weighting")}
    weighting = table.get("weighting", np.full(table[TRAVEL_TIME].size, default["weighting"]))
    values = {
        TRAVEL_TIME: np.where(found, table[TRAVEL_TIME][row], np.asarray(length, np.float64) / default["celerity"]),
        "weighting": np.where(found, weighting[row], default["weighting"]),
    }
    check(values, str(path))
    return Legacy(values[TRAVEL_TIME], values["weighting"])


def _match(table: dict[str, np.ndarray], reach_id: Sequence[str], path: Path, config: LegacyConfig) -> np.ndarray:
    """Row of each reach, -1 where it has none."""
    n_rows = table[TRAVEL_TIME].size
    if "id" not in table:
        if n_rows != len(reach_id):
            raise ParameterError(
                f"{path}: has {n_rows} rows and no ids, expected {len(reach_id)}, one per reach in the order of the "
                "domain file. Add a column of ids and name it with legacy.columns: {id: HEADING}."
            )
        return np.arange(n_rows)
    rows = {one: i for i, one in enumerate(table["id"].tolist())}
    if len(rows) < n_rows:
        ids, counts = np.unique(table["id"], return_counts=True)
        raise ParameterError(f"{path}: reach {ids[counts > 1][0]} has more than one row. Expected one each; correct "
            "it.")
    row = np.array([rows.get(one, -1) for one in reach_id], np.int64)
    missing = np.flatnonzero(row < 0)
    if missing.size and (config.unmatched == "refuse" or missing.size == row.size):
        first = reach_id[int(missing[0])]
        hint = nearest(first, rows) if n_rows <= 10_000 else ""
        raise ParameterError(
            f"{path}: has no row for reach {first} ({missing.size} of {row.size} reaches have none; its own ids are "
            f"like '{table['id'][0]}').{hint} Expected the ids of the domain's 'reach_id'. Translate the ids, or set "
            "legacy.unmatched: default where some reaches may keep the default."
        )
    unused = n_rows - (row.size - missing.size)
    if missing.size or unused:
        logger.warning("%s: %d reaches without a row, %d rows without a reach", path, missing.size, unused)
    return row


def write_legacy(path: Path, legacy: Legacy, reach_id: Sequence[str], source: str) -> None:
    """Write a parameter file that the key `parameters` of a run takes."""
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as dataset:
        dataset.setncatts({"title": "Muskingum parameters of an older model", "source": source})
        dataset.createDimension("reach", len(reach_id))
        dataset.createVariable("reach_id", str, ("reach",))[:] = np.array(list(reach_id), object)
        for name, values, units in ((TRAVEL_TIME, legacy.travel_time, "s"), ("weighting", legacy.weighting, "1")):
            variable = dataset.createVariable(name, "f8", ("reach",))
            variable.units = units
            variable[:] = values


def priors(legacy: Legacy, length: np.ndarray) -> dict[str, np.ndarray]:
    """Return prior celerity [m s-1] and weighting [1], float64[reach], within the ranges of training.

    A reach without a length has the default celerity: its K is 0 whatever the celerity.
    """
    limits = parameter("celerity").range_at(DAY)
    length = np.asarray(length, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        celerity = np.where(length > 0, length / legacy.travel_time, limits.default)
    inside = np.clip(celerity, limits.low, limits.high)
    beyond = int(np.count_nonzero(inside != celerity))
    if beyond:
        logger.warning(
            "legacy: %d of %d celerities lie outside %g to %g m s-1 and are put at the limit", beyond, length.size,
            limits.low, limits.high,
        )
    low, high, _ = parameter("weighting").range_at(DAY)
    return {"prior_celerity": inside, "prior_weighting": np.clip(legacy.weighting, low, high)}


@one_at_a_time
def add_priors(path: Path, legacy: Legacy) -> None:
    """Add the priors as reach attributes to a domain file whose reaches are those of `legacy`, in its order."""
    with netCDF4.Dataset(path, "a") as dataset:
        length = np.asarray(dataset["reach_length"][:], np.float64)
        for name, values in priors(legacy, length).items():
            units, long_name = PRIORS[name]
            full = f"reach_{name}"
            variable = dataset.variables.get(full) or dataset.createVariable(full, "f8", ("reach",))
            variable.setncatts({"units": units, "long_name": long_name})
            variable[:] = values


def keep_legacy(config: LegacyConfig, domain: Path, legacy: Legacy, folder: Path) -> dict[str, Path]:
    """Write legacy parameters into a folder, or add them as priors to a domain file that is being made.

    Returns the file that came of it, by what it is.
    """
    if config.use == "priors":
        add_priors(domain, legacy)
        return {}
    ids, _ = _reaches_of(domain)
    path = folder / config.output
    write_legacy(path, legacy, ids, config.table)
    return {"parameters": path}


def import_legacy(config: LegacyConfig, domain: Path, source: Path) -> dict[str, Path]:
    """Take legacy parameters over for a domain that is there; source : folder in which relative paths begin.

    Returns the file that came of it, by what it is.
    """
    ids, length = _reaches_of(domain)
    legacy = read_legacy(config, source, ids, length)
    if config.use == "parameters":
        return keep_legacy(config, domain, legacy, domain.parent)
    with replacing(domain) as temporary:
        shutil.copyfile(domain, temporary)
        add_priors(temporary, legacy)
    return {"domain": domain}


@one_at_a_time
def _reaches_of(path: Path) -> tuple[list[str], np.ndarray]:
    """Ids and lengths [m] of the reaches of a domain file, in its order."""
    with open_input(path, DomainError) as dataset:
        where = str(path)
        ids = read_strings(dataset, "reach_id", where, DomainError)
        return ids, read_values(dataset, "reach_length", ("reach",), "m", where, DomainError)
