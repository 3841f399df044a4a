"""Attributes of cells and reaches, read from a domain file in the order of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.netcdf import check_dims, check_numeric, filled, one_at_a_time, open_input, same_units
from bmi_cdlm.names.errors import DomainError, nearest
from bmi_cdlm.names.parameters import Grid

DERIVED = {"cell": ("drained_area",), "reach": ("upstream_area",)}
"""Attributes [km2] that the domain computes itself, unless the file states them: that of a sub-basin does, since its
cells may drain elsewhere too."""
_PAIRS = (
    ("p_mean", "mean_precipitation"), ("pet_mean", "mean_potential_evapotranspiration"),
    ("t_mean", "mean_temperature"), ("frac_snow", "snow_fraction"),
)
SAME = {**{a: (b,) for a, b in _PAIRS}, **{b: (a,) for a, b in _PAIRS}}
"""Other names of the same attribute: those of CAMELS, which `cdlm prepare` writes, and plain ones."""
NO_ATTRIBUTE = ("cell_id", "cell_corner_lon", "cell_corner_lat", "reach_id", "reach_uncovered_area")


class AttributeTable(NamedTuple):
    """Attributes by column: names, units, and values float64[cell | reach, attribute]."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: np.ndarray


@one_at_a_time
def read_attributes(
    path: Path, domain: Domain, grid: Grid, names: Sequence[str], units: Sequence[str] | None = None
) -> AttributeTable:
    """Read the variables `cell_<name>` or `reach_<name>` of a domain file, in the order of `domain`.

    Every variable of that grid will do: `length` on reaches is `reach_length`. A name may be written with its
    grid, `reach_length`; `mean_precipitation` is `p_mean` where the file has that one. `drained_area` (cells),
    `upstream_area` (reaches) and `mean_annual_snowfall` are attributes too.

    Parameters
    ----------
    units : sequence of str, optional
        What each attribute must be in; without it the file's own units are taken.

    Raises
    ------
    DomainError
        An attribute that is not there (with the nearest that is), has other or no units, or is NaN somewhere.
    """
    where = str(path)
    found_units, columns = [], []
    with open_input(path, DomainError) as dataset:
        for k, name in enumerate(names):
            values, got = _read_one(dataset, domain, grid, name, where)
            expected = got if units is None else units[k]
            if not same_units(got, expected):
                raise DomainError(
                    f"{where}: the {grid} attribute '{name}' has units '{got}', expected '{expected}'. Convert it and "
                    "set its units attribute."
                )
            columns.append(values)
            found_units.append(expected)
    size = domain.n_cells if grid == "cell" else domain.n_reaches
    return AttributeTable(tuple(names), tuple(found_units), np.stack(columns, 1) if columns else np.empty((size, 0)))


def read_attribute(path: Path, domain: Domain, name: str, grid: Grid, units: str) -> np.ndarray:
    """Read one attribute, float64[cell | reach]; see `read_attributes`."""
    return read_attributes(path, domain, grid, [name], [units]).values[:, 0]


def find_attribute(path: Path, domain: Domain, name: str, grid: Grid, units: str) -> np.ndarray | None:
    """Read one attribute as `read_attribute`; None where the file has none of that name."""
    with open_input(path, DomainError) as dataset:
        if name not in _variables(dataset, grid):
            return None
    return read_attribute(path, domain, name, grid, units)


def _read_one(
    dataset: netCDF4.Dataset, domain: Domain, grid: Grid, name: str, where: str
) -> tuple[np.ndarray, str]:
    """Values in the order of the domain, and units."""
    short = name.removeprefix(f"{grid}_")
    if short in DERIVED[grid] and f"{grid}_{short}" not in dataset.variables:
        return (domain.cells.drained_area if grid == "cell" else domain.reaches.upstream_area), "km2"
    known = _variables(dataset, grid)
    short = next((one for one in (short, *SAME.get(short, ())) if one in known), short)
    if short not in known:
        raise DomainError(
            f"{where}: there is no {grid} attribute '{name}' (variable '{grid}_{short}').{nearest(short, known)} "
            f"The file has: {', '.join(known) or 'none'}. Add it to the domain, or use a generator without it."
        )
    variable = known[short]
    check_numeric(dataset, variable, where, DomainError)
    check_dims(dataset, variable, (grid,), where, DomainError)
    got = getattr(dataset.variables[variable], "units", None)
    if got is None:
        raise DomainError(f"{where}: '{variable}' has no units. Set its units attribute, '1' for a ratio.")
    values = filled(dataset.variables[variable], slice(None))
    order = np.arange(domain.n_cells) if grid == "cell" else domain.file_order
    ids = domain.cells.id if grid == "cell" else domain.reaches.id
    if values.size != order.size:
        raise DomainError(
            f"{where}: '{variable}' has {values.size} values, the domain has {order.size}. Use the file of this domain."
        )
    values = values[order]
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DomainError(
            f"{where}: the {grid} attribute '{name}' is missing at {bad.size} of {values.size} places, the first at "
            f"{grid} {ids[bad[0]]}. Expected a number everywhere; fill it, or use a generator without it."
        )
    return values, str(got)


def _variables(dataset: netCDF4.Dataset, grid: Grid) -> dict[str, str]:
    """Variable of the file by the name of each attribute on that grid."""
    known = {
        variable.removeprefix(f"{grid}_"): variable
        for variable in dataset.variables if variable.startswith(f"{grid}_") and variable not in NO_ATTRIBUTE
    }
    if grid == "cell" and "mean_annual_snowfall" in dataset.variables:
        known["mean_annual_snowfall"] = "mean_annual_snowfall"
    return known
