"""Records of discharge as they are in tables and NetCDF."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.errors import ObservationError, nearest
from bmi_cdlm.prepare.packages import load, resolve
from bmi_cdlm.prepare.weather.gridded import open_dataset, within_range
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
    if config.layout == "netcdf":
        return _read_netcdf(resolve(config.source, folder), config, ids)
    if config.layout in ("single", "values"):
        paths = {one: path_of(config.source, one, folder) for one in ids}
        given = {one: path for one, path in paths.items() if path.is_file() or not config.allow_absent}
        if config.layout == "single":
            return {one: _record(_read_table(path, config), config, path) for one, path in given.items()}
        return {one: _read_values(path, config, interval) for one, path in given.items()}
    path = resolve(config.source, folder)
    table = _read_table(path, config)
    if config.layout == "long":
        names = _column(table, config.id_column, path).astype(str).str.strip()
        return {one: _record(table[names == one], config, path) for one in ids if (names == one).any()}
    stamps = _stamps(_column(table, config.time_column, path).tolist(), config, path)
    return {
        one: Record(stamps, values := _numbers(table[one], path), np.zeros(values.size, bool), None)
        for one in ids if one in table.columns
    }


def path_of(source: str, gauge: str, folder: Path) -> Path:
    """Return the file of a gauge: `{id}` in the path stands for its id."""
    return Path(str(resolve(source, folder)).replace("{id}", gauge))


def _read_table(path: Path, config: ObservationsConfig) -> Any:
    try:
        return load("pandas").read_csv(
            path, sep=config.delimiter, dtype=str, comment="#", skipinitialspace=True, keep_default_na=False,
            encoding="utf-8-sig",
        ).rename(columns=lambda name: str(name).strip())
    except (OSError, UnicodeDecodeError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise ObservationError(f"{path}: cannot be read as a table ({reason}). Expected delimited text.") from cause


def _column(table: Any, name: str, path: Path) -> Any:
    if name not in table.columns:
        raise ObservationError(
            f"{path}: has no column '{name}'.{nearest(name, table.columns)} It has: {', '.join(table.columns)}. Set "
            "the column's name, or the delimiter."
        )
    return table[name]


def _record(table: Any, config: ObservationsConfig, path: Path) -> Record:
    stamps = _stamps(_column(table, config.time_column, path).tolist(), config, path)
    values = _numbers(_column(table, config.value_column, path), path)
    rejected = np.zeros(values.size, bool)
    if config.flag_column is not None:
        rejected = _rejected(_column(table, config.flag_column, path).astype(str).str.strip().to_numpy(), config)
    return Record(stamps, values, rejected, None)


def _rejected(flags: np.ndarray, config: ObservationsConfig) -> np.ndarray:
    rejected = np.isin(flags, config.rejected_flags)
    return rejected if config.accepted_flags is None else rejected | ~np.isin(flags, config.accepted_flags)


def _numbers(column: Any, path: Path) -> np.ndarray:
    text = column.str.strip().replace(["", "NA", "N/A", "nan", "NaN", "null", "-"], "nan")
    try:
        return text.to_numpy(np.float64)
    except ValueError as cause:
        raise ObservationError(
            f"{path}: column '{column.name}': {cause}. Expected numbers; correct the table."
        ) from cause


def _stamps(texts: list[str], config: ObservationsConfig, path: Path) -> np.ndarray:
    try:
        if config.time_format is not None:
            moments = [datetime.strptime(text.strip(), config.time_format) for text in texts]
        else:
            moments = [datetime.fromisoformat(text.strip()) for text in texts]
    except ValueError as cause:
        raise ObservationError(
            f"{path}: column '{config.time_column}': {cause}. Expected {config.time_format or 'ISO 8601'}; set "
            "time_format."
        ) from cause
    utc = [moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment for moment in moments]
    return np.array(utc, "datetime64[s]")


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


def _read_netcdf(path: Path, config: ObservationsConfig, ids: list[str]) -> dict[str, Record]:
    with open_dataset(path, ObservationError) as dataset:
        for name in (config.variable, config.id_variable, *filter(None, [config.flag_variable])):
            if name not in dataset.variables:
                known = [str(one) for one in dataset.variables]
                raise ObservationError(
                    f"{path}: there is no '{name}'.{nearest(name, known)} It has: {', '.join(known)}."
                )
        array, names = dataset[config.variable], dataset[config.id_variable]
        raw = np.asarray(names.values).ravel().tolist()
        where = [one.decode() if isinstance(one, bytes) else str(one) for one in raw]
        stamps = read_stamps(dataset, array, tuple(map(str, names.dims)), str(path), ObservationError)
        axes = (*stamps.dims, *map(str, names.dims))
        if len(axes) != 2 or array.ndim != 2:
            raise ObservationError(
                f"{path}: '{config.variable}' lies on {array.dims}, expected times and gauges. Transpose."
            )
        values = within_range(np.asarray(array.transpose(*axes).values, np.float64), array)
        rejected = np.zeros(values.shape, bool)
        if config.flag_variable is not None:
            flags = np.asarray(dataset[config.flag_variable].transpose(*axes).values)
            whole = flags.dtype.kind == "f" and not np.isnan(flags).any()
            rejected = _rejected((flags.astype(np.int64) if whole else flags).astype(str), config)
        units = array.attrs.get("units")
        return {
            one: Record(stamps.values, values[:, where.index(one)], rejected[:, where.index(one)], units)
            for one in ids if one in where
        }
