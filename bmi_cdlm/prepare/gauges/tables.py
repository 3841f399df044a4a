"""Tables by column: from delimited text or NetCDF, every column a name of ours, numbers in a stated unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import LONGEST_ID, filled, one_at_a_time, open_input, read_strings
from bmi_cdlm.names.errors import CdlmError, nearest, shown
from bmi_cdlm.prepare.packages import load

NETCDF = (".nc", ".nc4", ".cdf")
VECTORS = (".gpkg", ".shp", ".geojson", ".json", ".fgb")
SEPARATORS = ("\t", ";", ",")
Columns = Mapping[str, str | int]


class Wanted(NamedTuple):
    """A column: is it text, or a number in `units`; must the table have it."""

    text: bool = False
    units: str = "1"
    required: bool = False


@one_at_a_time
def read_table(
    path: Path, columns: Columns, wanted: Mapping[str, Wanted], units: Mapping[str, str], error: type[CdlmError], *,
    need_units: bool = False,
) -> dict[str, np.ndarray]:
    """Read columns of a table.

    Parameters
    ----------
    path : Path
        NetCDF (variables on one common dimension), a vector file of points (which give lon and lat), or text separated
        by tabs, semicolons, commas or blanks. Lines that begin with `#` are left out.
    columns : mapping
        Our name -> the table's: its heading, or its place counted from 1, which says that there are no headings. A
        name that is not mapped is looked for as it is; a mapped one that `wanted` does not know comes as text.
    wanted : mapping
        Our name -> what it must be.
    units : mapping
        Our name -> units of the table's column. In NetCDF the variable's own attribute is taken where there is none
        here; otherwise the column is taken to be in the units wanted.
    need_units : bool
        Refuse a column of a quantity with a unit where neither says its units.

    Returns
    -------
    dict
        Our name -> str[row] or float64[row] in the units wanted, NaN where the table is empty; only columns that
        the table has.

    Raises
    ------
    error
        Unreadable table, a column that is not there, text where a number belongs, units that do not convert.
    """
    for name in (*columns, *units):
        if name not in wanted and name not in columns:
            known = ", ".join(wanted)
            raise error(f"{path}: unknown column '{name}'.{nearest(name, wanted)} Known: {known}. Correct the name.")
    asked = {**{name: name for name in wanted if name not in columns}, **columns}
    suffix = path.suffix.lower()
    reader = _read_netcdf if suffix in NETCDF else _read_vector if suffix in VECTORS else _read_text
    raw, own_units = reader(path, asked, set(columns), error)
    missing = [name for name, want in wanted.items() if want.required and name not in raw]
    if missing:
        raise error(
            f"{path}: has no column '{asked[missing[0]]}' for '{missing[0]}'. Expected a heading of that name; name "
            f"the table's own with columns: {{{missing[0]}: HEADING}}."
        )
    if not raw or not next(iter(raw.values())).size:
        raise error(f"{path}: has no rows, expected one per id. Complete the table.")
    table = {}
    for name, values in raw.items():
        want = wanted.get(name, Wanted(text=True))
        if want.text:
            texts = [str(v).strip() for v in values.tolist()]
            long = next((i for i, text in enumerate(texts) if len(text) > LONGEST_ID), None)
            if long is not None:
                raise error(
                    f"{path}: column '{shown(asked[name])}' has {len(texts[long])} letters in row {long + 1}, expected "
                    f"at most {LONGEST_ID}. Correct the table, or its separator."
                )
            table[name] = np.array(texts)
        else:
            place, stated = f"{path}: column '{asked[name]}'", units.get(name, own_units.get(name, ""))
            if need_units and not stated and want.units != "1":
                raise error(f"{place}: has no units, expected some that convert to '{want.units}'. State them.")
            table[name] = _convert(_numbers(values, place, error), stated, want.units, place, name, error)
    return table


def _read_netcdf(
    path: Path, asked: Columns, mapped: set[str], error: type[CdlmError]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    raw, units, shape = {}, {}, None
    with open_input(path, error) as dataset:
        for name, heading in asked.items():
            if heading not in dataset.variables:
                if name in mapped:
                    hint = nearest(str(heading), dataset.variables)
                    known = ", ".join(dataset.variables)
                    raise error(
                        f"{path}: has no variable '{heading}' for '{name}'.{hint} It has: {known}. Name another in "
                        "columns."
                    )
                continue
            variable = dataset.variables[heading]
            dims = variable.dimensions[:1] if variable.dtype == "S1" else variable.dimensions
            if len(dims) != 1 or (shape is not None and dims != shape):
                raise error(
                    f"{path}: '{heading}' lies on ({', '.join(variable.dimensions)}), expected one dimension, the same "
                    "for all columns. Name another variable in columns."
                )
            shape = dims
            raw[name] = _values(dataset, str(heading), str(path), error)
            if hasattr(variable, "units"):
                units[name] = str(variable.units)
    return raw, units


def _values(dataset: netCDF4.Dataset, name: str, where: str, error: type[CdlmError]) -> np.ndarray:
    """Text, whole numbers where none is missing, or float64 with NaN."""
    variable = dataset.variables[name]
    if getattr(variable.dtype, "kind", "O") not in "fiu":
        return np.array(read_strings(dataset, name, where, error), object)
    values = filled(variable, slice(None))
    return values.astype(np.int64) if variable.dtype.kind in "iu" and np.isfinite(values).all() else values


def _read_vector(
    path: Path, asked: Columns, mapped: set[str], error: type[CdlmError]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The columns of a vector file of points, whose places are lon and lat [degrees]."""
    try:
        frame = load("geopandas").read_file(path)
    except Exception as cause:  # the engines raise whatever they like
        raise error(f"{path}: cannot be read by geopandas ({cause}). Expected a vector file of points.") from cause
    if frame.crs is None:
        raise error(f"{path}: has no reference system, expected one. Write it into the file.")
    if not (frame.geom_type == "Point").all():
        kind = frame.geom_type.iloc[0]
        raise error(f"{path}: holds shapes of type {kind}, expected points. Use the file of the stations.")
    points = frame.geometry.to_crs("EPSG:4326")
    frame = frame.drop(columns=frame.geometry.name)
    for name in mapped:
        if asked[name] not in frame.columns:
            hint = nearest(str(asked[name]), map(str, frame.columns))
            known = ", ".join(map(str, frame.columns))
            raise error(f"{path}: has no column '{asked[name]}' for '{name}'.{hint} It has: {known}.")
    raw = {
        name: np.array([_plain(one) for one in frame[heading].tolist()], object) for name, heading in asked.items()
        if heading in frame.columns
    }
    return {"lon": points.x.to_numpy(object), "lat": points.y.to_numpy(object), **raw}, {}


def _plain(value: object) -> object:
    """A value as a text table would have it: nothing for what is missing, whole numbers without a fraction."""
    if value is None or value != value:
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_text(
    path: Path, asked: Columns, mapped: set[str], error: type[CdlmError]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    import pandas

    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip() and not line.startswith("#")), "")
        separator = next((s for s in SEPARATORS if s in first), r"\s+")
        places = all(isinstance(asked[name], int) for name in mapped) and bool(mapped)
        frame = pandas.read_csv(
            path, sep=separator, dtype=str, comment="#", skipinitialspace=True, keep_default_na=False,
            header=None if places else 0, encoding="utf-8-sig",
        )
    except (OSError, ValueError, OverflowError, RecursionError, MemoryError) as cause:
        reason = shown(str(getattr(cause, "strerror", None) or cause))
        raise error(f"{path}: cannot be read as a table ({reason}). Expected delimited text or NetCDF.") from cause
    frame.columns = [i + 1 for i in range(frame.shape[1])] if places else [str(c).strip() for c in frame.columns]
    for name in mapped:
        if asked[name] not in frame.columns:
            headings = shown(", ".join(map(str, frame.columns)), 500)
            hint = nearest(str(asked[name]), map(str, frame.columns))
            raise error(f"{path}: has no column '{asked[name]}' for '{name}'.{hint} It has: {headings}.")
    return {n: frame[h].to_numpy(object) for n, h in asked.items() if h in frame.columns}, {}


def _numbers(values: np.ndarray, place: str, error: type[CdlmError]) -> np.ndarray:
    numbers = np.full(values.size, np.nan)
    for i, value in enumerate(values.tolist()):
        try:
            numbers[i] = float(value) if str(value).strip() not in ("", "NA", "N/A") else np.nan
        except ValueError as cause:
            raise error(f"{place}: '{shown(value)}' in row {i + 1} is no number. Correct the table.") from cause
    return numbers


def _convert(
    values: np.ndarray, units: str, expected: str, place: str, name: str, error: type[CdlmError]
) -> np.ndarray:
    if not units or units == expected:
        return values
    from cf_units import Unit  # loads the UDUNITS database

    try:
        return np.asarray(Unit(units).convert(values, Unit(expected)), np.float64)
    except ValueError as cause:
        raise error(
            f"{place}: units '{units}' cannot be converted to '{expected}', which '{name}' is in. Name the units of "
            f"the column with units: {{{name}: ...}}."
        ) from cause
