"""Records of discharge as they are in tables and NetCDF."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ObservationError, nearest
from bmi_cdlm.prepare.packages import resolve
from bmi_cdlm.prepare.text_tables import check_once, find_column, numbers_of, read_text, rows_of, stamps_of
from bmi_cdlm.prepare.weather.gridded import is_time, open_dataset, within_range
from bmi_cdlm.prepare.weather.timeline import read_stamps
from bmi_cdlm.prepare.weather.weather_config import ObservationsConfig

STAMP_FORMATS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


class Record(NamedTuple):
    """Discharge of a gauge as in its source.

    stamps : datetime64[s][value]; values : float64[value], NaN where missing; rejected : bool[value], by its flag;
    units : those that the source states, or None.
    """

    stamps: np.ndarray
    values: np.ndarray
    rejected: np.ndarray
    units: str | None


def read_all(config: ObservationsConfig, ids: list[str], folder: Path, interval: int) -> dict[str, Record]:
    """Records of those gauges that the source has, by id; `interval` [s] between lines without stamps."""
    if "{id}" in config.source:
        paths = {one: path_of(config.source, one, folder) for one in ids}
        given = {one: path for one, path in paths.items() if path.is_file() or not config.allow_absent}
        if config.layout == "single":
            return {
                one: _record(read_text(path, config, ObservationError), config, path) for one, path in given.items()
            }
        if config.layout == "netcdf":
            return {one: _read_series(path, config, one) for one, path in given.items()}
        return {one: _read_values(path, config, interval) for one, path in given.items()}
    path = resolve(config.source, folder)
    if config.layout == "netcdf":
        return _read_netcdf(path, config, ids)
    table = read_text(path, config, ObservationError)
    if config.layout == "long":
        names = find_column(table, config.id_column, path, ObservationError).astype(str).str.strip()
        return {one: _record(table[names == one], config, path) for one in ids if (names == one).any()}
    stamps = stamps_of(table, config, path, ObservationError)
    for one in ids:
        check_once(table, one, path, ObservationError)
    return {
        one: Record(stamps, values := numbers_of(table[one], config, path, ObservationError),
                    np.zeros(values.size, bool), None)
        for one in ids if one in table.columns
    }


def path_of(source: str, gauge: str, folder: Path) -> Path:
    """Return the file of a gauge: `{id}` in the path stands for its id, `*` for what the only file there has.

    Raises
    ------
    ObservationError
        Several files fit.
    """
    path = Path(str(resolve(source, folder)).replace("{id}", gauge))
    steady = next((i for i, part in enumerate(path.parts) if "*" in part), None)
    if steady is None:
        return path
    found = sorted(Path(*path.parts[:steady]).glob("/".join(path.parts[steady:])))
    if len(found) > 1:
        raise ObservationError(
            f"{path}: {len(found)} files fit gauge {gauge}, {found[0].name} and {found[1].name} among them. Expected "
            "one; write more of the name."
        )
    return found[0] if found else path


def _record(table: Any, config: ObservationsConfig, path: Path) -> Record:
    stamps = stamps_of(table, config, path, ObservationError)
    values = numbers_of(find_column(table, config.value_column, path, ObservationError), config, path, ObservationError)
    rejected = np.zeros(values.size, bool)
    if config.flag_column is not None:
        flags = find_column(table, config.flag_column, path, ObservationError)
        rejected = _rejected(flags.astype(str).str.strip().to_numpy(), config)
    return Record(stamps, values, rejected, None)


def _rejected(flags: np.ndarray, config: ObservationsConfig) -> np.ndarray:
    rejected = np.isin(flags, config.rejected_flags)
    return rejected if config.accepted_flags is None else rejected | ~np.isin(flags, config.accepted_flags)


def _read_values(path: Path, config: ObservationsConfig, interval: int) -> Record:
    """A file with the stamp of its first value, then a value per line."""
    try:
        stamp, *lines = path.read_text(encoding="ascii").split()
        first = datetime.strptime(stamp, config.time_format or STAMP_FORMATS.get(len(stamp), "%Y%m%d"))
        values = np.array(lines, np.float64)
    except (OSError, ValueError) as cause:
        raise ObservationError(
            f"{path}: cannot be read as a record of discharge ({cause}). Expected a time stamp (YYYYMMDD or "
            "YYYYMMDDhhmm) in the first line, then one number per line."
        ) from cause
    stamps = np.datetime64(first, "s") + np.arange(values.size) * np.timedelta64(interval, "s")
    return Record(stamps, values, np.zeros(values.size, bool), None)


def _read_series(path: Path, config: ObservationsConfig, gauge: str) -> Record:
    """The series of a file that holds one gauge; other dimensions have one place each."""
    with open_dataset(path, ObservationError) as dataset:
        _check_variables(dataset, path, (config.variable, *filter(None, [config.flag_variable])))
        array = dataset[config.variable]
        space = tuple(str(d) for d in array.dims if array.sizes[d] == 1 and not is_time(dataset, str(d)))
        stamps = read_stamps(dataset, array, space, str(path), ObservationError)
        if len(stamps.dims) + len(space) != array.ndim or len(stamps.dims) != 1:
            raise ObservationError(
                f"{path}: '{config.variable}' lies on {array.dims}, expected times only in a file of gauge {gauge}. "
                "Name another variable, or leave {id} out of the path of a file with all gauges."
            )
        values = within_range(np.asarray(array.values, np.float64).ravel(), array)
        rejected = np.zeros(values.shape, bool)
        if config.flag_variable is not None:
            rejected = _rejected(_flags(np.asarray(dataset[config.flag_variable].values).ravel()), config)
        units = array.attrs.get("units")
    return Record(stamps.values, values, rejected, None if units is None else str(units))


def id_text(value: object) -> str:
    """An id as text: bytes decoded, whole numbers without a fraction."""
    if isinstance(value, bytes):
        return value.decode()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _flags(flags: np.ndarray) -> np.ndarray:
    """Flags as text, whole numbers without a fraction."""
    whole = flags.dtype.kind == "f" and not np.isnan(flags).any()
    return (flags.astype(np.int64) if whole else flags).astype(str)


def _check_variables(dataset: Any, path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in dataset.variables:
            known = [str(one) for one in dataset.variables]
            raise ObservationError(
                f"{path}: there is no variable '{name}'.{nearest(name, known)} It has: {', '.join(known)}. Set "
                "`variable` or `id_variable`."
            )


def _read_netcdf(path: Path, config: ObservationsConfig, ids: list[str]) -> dict[str, Record]:
    with open_dataset(path, ObservationError) as dataset:
        _check_variables(dataset, path, (config.variable, config.id_variable, *filter(None, [config.flag_variable])))
        array, names = dataset[config.variable], dataset[config.id_variable]
        raw = np.asarray(names.values).ravel().tolist()
        where = [id_text(one) for one in raw]
        rows_of(where, f"{path}: {config.id_variable}", ObservationError)
        stamps = read_stamps(dataset, array, tuple(map(str, names.dims)), str(path), ObservationError)
        axes = (*stamps.dims, *map(str, names.dims))
        if len(axes) != 2 or array.ndim != 2:
            raise ObservationError(
                f"{path}: '{config.variable}' lies on ({', '.join(map(str, array.dims))}), expected times and gauges, "
                f"those of '{config.id_variable}'. Of a file for each gauge write its id as {{id}} in the path of the "
                "source; else name the variable with key `variable`."
            )
        values = within_range(np.asarray(array.transpose(*axes).values, np.float64), array)
        rejected = np.zeros(values.shape, bool)
        if config.flag_variable is not None:
            rejected = _rejected(_flags(np.asarray(dataset[config.flag_variable].transpose(*axes).values)), config)
        units = array.attrs.get("units")
        return {
            one: Record(stamps.values, values[:, where.index(one)], rejected[:, where.index(one)], units)
            for one in ids if one in where
        }
