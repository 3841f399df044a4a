"""NetCDF files at the edge: open, and read with checks."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import netCDF4
import numpy as np

from bmi_cdlm.files.probe import try_open
from bmi_cdlm.files.zarr import StoreDataset, is_store
from bmi_cdlm.names.calendars import (
    NAMES_IN_FILES,
    STANDARD,
    UNITS,
    WRITTEN,
    date_text,
    decode,
    differs,
    seconds_of,
)
from bmi_cdlm.names.errors import CdlmError, ForcingError, nearest, shown
from bmi_cdlm.names.memory import available_memory
from bmi_cdlm.names.writing import check_path

LARGE = 2**28
"""Bytes from which the memory is asked before a variable is read."""
LONGEST_ID = 1000
"""Letters of an id or a name."""
logger = logging.getLogger(__name__)
LIBRARY = threading.RLock()
Given = ParamSpec("Given")
Result = TypeVar("Result")


class UnreadableError(RuntimeError):
    """What a file holds cannot be read; whoever opened the file says where, and what was expected."""


def one_at_a_time(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let one thread at a time into functions that touch files: HDF5 crashes otherwise, netCDF4 does not lock."""

    @wraps(function)
    def locked(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with LIBRARY:
            return function(*args, **kwargs)

    return locked


@contextmanager
def open_input(path: Path, error: type[CdlmError]) -> Iterator[netCDF4.Dataset]:
    """Open a NetCDF file or a Zarr store for reading; a missing or unreadable one raises `error`."""
    if is_store(path):
        yield cast(netCDF4.Dataset, StoreDataset(path, error))  # the calls that the readers use
        return
    check_path(path, error)
    if path.is_dir():
        raise error(f"{path}: is a folder and no Zarr store, expected a file. Check the path in the configuration.")
    if not path.is_file():
        raise error(f"{path}: there is no such file. Check the path in the configuration, or make the file first.")
    try_open(path, error)
    try:
        dataset = netCDF4.Dataset(path)
        dataset.set_auto_mask(False)
    except Exception as cause:  # the library's own, and of Python where names are no text
        raise error(
            f"{path}: cannot be read as NetCDF ({shown(str(cause))}). Expected a NetCDF-4 or NetCDF-3 file."
        ) from cause
    try:
        yield dataset
    except CdlmError:
        raise
    except (UnreadableError, RuntimeError, MemoryError, UnicodeError) as cause:  # of the library, where it reads
        raise error(
            f"{path}: cannot be read ({shown(str(cause) or type(cause).__name__, 300)}). Expected a whole file, as "
            "cfg/README.md describes it. Make it anew."
        ) from cause
    finally:
        with contextlib.suppress(RuntimeError):  # of a damaged file, which has its error already
            dataset.close()


def names_in(path: Path) -> frozenset[str]:
    """Names of the variables in a file; none where it cannot be read, which whoever reads it will say."""
    try:
        return _names_in(path, path.stat().st_mtime_ns)
    except (CdlmError, OSError):
        return frozenset()


@lru_cache(maxsize=16)
@one_at_a_time
def _names_in(path: Path, _: int) -> frozenset[str]:
    with open_input(path, ForcingError) as dataset:
        return frozenset(dataset.variables)


@lru_cache(maxsize=256)
def same_units(got: str, expected: str) -> bool:
    """Return whether two unit strings mean the same unit, by UDUNITS ('mm/day' is 'mm d-1')."""
    if got == expected:
        return True
    from cf_units import Unit  # loads the UDUNITS database; only needed where the spelling differs

    try:
        a, b = Unit(got), Unit(expected)
    except ValueError:
        return False
    return bool(a == b) and not a.is_unknown()


def require(dataset: netCDF4.Dataset, names: list[str], where: str, error: type[CdlmError]) -> None:
    """Raise `error` unless every variable is in the file."""
    for name in names:
        if name not in dataset.variables:
            raise error(
                f"{where}: variable '{name}' is missing.{nearest(name, dataset.variables)} "
                f"The file has: {', '.join(dataset.variables) or 'no variables'}."
            )


def check_units(dataset: netCDF4.Dataset, name: str, expected: str, where: str, error: type[CdlmError]) -> None:
    """Raise `error` unless the variable's `units` attribute means `expected`."""
    got = str(getattr(dataset.variables[name], "units", ""))
    if not same_units(got, expected):
        shown = f"units '{got}'" if got else "no units"
        raise error(f"{where}: '{name}' has {shown}, expected '{expected}'. Convert it and set its units attribute.")


def check_numeric(dataset: netCDF4.Dataset, name: str, where: str, error: type[CdlmError]) -> None:
    """Raise `error` unless the variable holds numbers."""
    if not _is_numeric(dataset.variables[name]):
        raise error(f"{where}: '{name}' holds text or objects, expected numbers. Convert it.")


def _is_numeric(variable: netCDF4.Variable) -> bool:
    """Whether each value is one number: no text, no list of any length, no group of fields."""
    own = getattr(variable, "datatype", variable.dtype)
    if isinstance(own, netCDF4.VLType | netCDF4.CompoundType):
        return False
    return getattr(variable.dtype, "kind", "O") in "fiu"


def check_dims(
    dataset: netCDF4.Dataset, name: str, dims: tuple[str, ...], where: str, error: type[CdlmError]
) -> None:
    """Raise `error` unless the variable lies on exactly these dimensions."""
    got = dataset.variables[name].dimensions
    if got != dims:
        raise error(
            f"{where}: '{name}' has dimensions ({', '.join(got)}), expected ({', '.join(dims)}). Transpose or rename."
        )


def read_values(
    dataset: netCDF4.Dataset, name: str, dims: tuple[str, ...], units: str | None, where: str,
    error: type[CdlmError], *, nan_ok: bool = False,
) -> np.ndarray:
    """Read a whole numeric variable as float64, its fill value as NaN; dimensions, units, NaN checked."""
    require(dataset, [name], where, error)
    check_dims(dataset, name, dims, where, error)
    check_numeric(dataset, name, where, error)
    if units is not None:
        check_units(dataset, name, units, where, error)
    values = filled(dataset.variables[name], slice(None))
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad and not nan_ok:
        first = np.argwhere(~np.isfinite(values))[0].tolist()
        raise error(f"{where}: '{name}' has {bad} missing values, the first at {first}. Expected none; fill them.")
    return values


def filled(variable: netCDF4.Variable, index: object) -> np.ndarray:
    """Read part of a variable as float64, unpacked, with missing values as NaN.

    Missing are `_FillValue`, `missing_value` and, where the file names neither, what the library puts into
    parts never written. They are found before unpacking: afterwards rounding could hide them.
    """
    raw = read_raw(variable, index)
    if raw.dtype.kind not in "fiu":
        raise UnreadableError(f"'{variable.name}' holds text or objects, expected numbers")
    missing = np.zeros(raw.shape, bool)
    for value in _missing_values(variable, raw.dtype):
        missing |= raw == value
    if str(getattr(variable, "_Unsigned", "false")).lower() == "true" and raw.dtype.kind == "i":
        raw = raw.view(f"u{raw.dtype.itemsize}")
    values = raw.astype(np.float64)
    if "scale_factor" in variable.ncattrs():
        values *= _numbers(variable, "scale_factor", 1)[0]
    if "add_offset" in variable.ncattrs():
        values += _numbers(variable, "add_offset", 1)[0]
    values[missing] = np.nan
    return values


def read_raw(variable: netCDF4.Variable, index: object) -> np.ndarray:
    """Read part of a variable as it is in the file; UnreadableError for whatever the library or the system refuses."""
    try:
        if isinstance(index, slice) and index == slice(None):
            check_memory(int(np.prod(variable.shape, dtype=float)) * np.dtype(variable.dtype or "f8").itemsize)
        variable.set_auto_maskandscale(False)
        return np.asarray(variable[index])
    except (CdlmError, UnreadableError):
        raise
    except Exception as cause:  # errors of many kinds, of damaged files, filters and types
        reason = shown(str(cause) or type(cause).__name__)
        raise UnreadableError(f"'{getattr(variable, 'name', 'a variable')}': {reason}") from cause


def check_memory(size: int) -> None:
    """Refuse to read what the memory cannot hold."""
    if size > LARGE and size > (free := available_memory()):
        raise UnreadableError(f"it holds {size / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of memory are free")


def _numbers(variable: netCDF4.Variable, name: str, count: int | None = None) -> list[Any]:
    """An attribute that must be numbers, or one number."""
    given = np.ravel(variable.getncattr(name))
    if given.dtype.kind not in "fiu" or (count is not None and given.size != count):
        got = shown(repr(given.tolist()[0] if given.size == 1 else given.tolist()))
        raise UnreadableError(f"'{variable.name}' has {name} {got}, expected a number")
    return list(given)


def _missing_values(variable: netCDF4.Variable, dtype: np.dtype) -> list[object]:
    named = [a for a in ("_FillValue", "missing_value") if a in variable.ncattrs()]
    values: list[Any] = [v for a in named for v in _numbers(variable, a)]
    if "_FillValue" not in named and dtype.itemsize > 1:  # every byte is a value, as the conventions say
        values += [v for v in [netCDF4.default_fillvals.get(dtype.str[1:])] if v is not None]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = [dtype.type(v) for v in values]  # 1e20 as double is not 1e20 as float
    return values


def read_strings(dataset: netCDF4.Dataset, name: str, where: str, error: type[CdlmError]) -> list[str]:
    """Read ids or names: a string variable, a char array or integers, as a list of str."""
    require(dataset, [name], where, error)
    values = read_raw(dataset.variables[name], slice(None))
    if values.dtype.kind == "S" and values.ndim == 2 and values.shape[1]:
        width = values.shape[1]  # not chartostring, which takes ASCII only
        values = np.char.rstrip(np.ascontiguousarray(values).view(f"S{width}").reshape(-1))
    if values.ndim != 1 or values.dtype.kind not in "SUTOiuf":
        raise error(
            f"{where}: '{name}' holds {values.dtype} on ({', '.join(dataset.variables[name].dimensions)}), expected "
            "texts or whole numbers on one dimension (and that of their letters). Write it anew."
        )
    texts = values.tolist()
    long = next((i for i, v in enumerate(texts) if isinstance(v, bytes | str) and len(v) > LONGEST_ID), None)
    if long is not None:
        raise error(f"{where}: '{name}' has {len(texts[long])} letters at index {long}, expected at most {LONGEST_ID}.")
    return _decoded(texts, name, where)


def _decoded(texts: list, name: str, where: str) -> list[str]:
    """Text in UTF-8; where some is none, all is taken for Latin-1, with a note."""
    try:
        return [v.decode() if isinstance(v, bytes) else str(v) for v in texts]
    except UnicodeDecodeError as cause:
        latin = cause.object.decode("latin-1")
        logger.warning("%s: '%s' holds text that is no UTF-8; read as Latin-1: '%s'", where, name, shown(latin))
        return [v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in texts]


def read_time(dataset: netCDF4.Dataset, where: str, error: type[CdlmError]) -> tuple[np.ndarray, int]:
    """Read `time`, the start of each step, and the step's length.

    Returns
    -------
    starts : datetime64[s][time]
    step : int
        Seconds; 0 where the file holds a single time without bounds.

    Raises
    ------
    error
        Missing or non-numeric units, a calendar that no run has, times that do not rise or have
        gaps, bounds that do not start at `time`.
    """
    require(dataset, ["time"], where, error)
    variable = dataset.variables["time"]
    check_numeric(dataset, "time", where, error)
    if len(variable.dimensions) != 1:
        raise error(f"{where}: 'time' lies on ({', '.join(variable.dimensions)}), expected one dimension.")
    calendar = str(getattr(variable, "calendar", STANDARD)).lower()
    if calendar not in NAMES_IN_FILES:
        raise error(
            f"{where}: 'time' has calendar '{calendar}', expected one of {', '.join(NAMES_IN_FILES)}. Convert the file."
        )
    starts = _dates(variable, read_raw(variable, slice(None)), calendar, where, error)
    if starts.size == 0:
        raise error(f"{where}: 'time' is empty. Expected at least one step.")
    steps = np.diff(starts).astype(np.int64)
    bounds_name = str(getattr(variable, "bounds", "time_bnds"))
    if bounds_name in dataset.variables:
        check_numeric(dataset, bounds_name, where, error)
        bounds = _dates(variable, read_raw(dataset.variables[bounds_name], slice(None)), calendar, where, error)
        _check_bounds(starts, bounds, where, error)
        steps = (bounds[:, 1] - bounds[:, 0]).astype(np.int64)
    if steps.size == 0:
        return starts, 0
    step = int(steps[0])
    if step <= 0:
        raise error(
            f"{where}: 'time' does not rise after {date_text(starts[0])}. Expected rising times, one step apart."
        )
    gaps = np.flatnonzero(np.diff(starts).astype(np.int64) != step)
    if gaps.size:
        i = int(gaps[0])
        twice = starts[i + 1] == starts[i]
        remedy = "Leave out what is there twice." if twice else "Fill the gap or cut the file."
        raise error(
            f"{where}: 'time' goes from {date_text(starts[i])} to {date_text(starts[i + 1])}, expected a step of "
            f"{step} s ({gaps.size} such places). {remedy}"
        )
    return starts, step


def _dates(
    variable: netCDF4.Variable, values: np.ndarray, calendar: str, where: str, error: type[CdlmError]
) -> np.ndarray:
    units = str(getattr(variable, "units", ""))
    try:
        if np.size(values) and not np.isfinite(values).all():
            raise error(f"{where}: 'time' has missing values. Expected every one; fill them.")
        return decode(values, units, calendar)
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError, RuntimeError) as cause:
        if isinstance(cause, CdlmError):
            raise
        raise error(
            f"{where}: 'time' has units '{shown(units)}', expected '<unit> since <date>' ({shown(str(cause))}), and "
            "dates of four digits."
        ) from cause


def _check_bounds(starts: np.ndarray, bounds: np.ndarray, where: str, error: type[CdlmError]) -> None:
    if bounds.shape != (starts.size, 2):
        raise error(f"{where}: 'time_bnds' has shape {bounds.shape}, expected ({starts.size}, 2).")
    if (bounds[:, 0] != starts).any():
        i = int(np.flatnonzero(bounds[:, 0] != starts)[0])
        raise error(
            f"{where}: 'time' is {date_text(starts[i])} but its bounds start at {date_text(bounds[i, 0])}. Expected "
            "`time` to be the start of a step. Shift stamps that mark the end or the middle."
        )
    if (np.diff(bounds, axis=1) != bounds[0, 1] - bounds[0, 0]).any():
        raise error(f"{where}: steps in 'time_bnds' differ in length. Expected one length throughout.")


def align_steps(
    starts: np.ndarray, file_step: int, start: np.datetime64, end: np.datetime64, step: int, where: str,
    error: type[CdlmError],
) -> int:
    """Return the index in `starts` at which the period begins; negative if it begins before the file.

    Raises
    ------
    error
        The file has another step than `step` [s], the period is not a whole number of steps, or it begins
        in the middle of a step of the file.
    """
    if file_step != step:
        got = f"a step of {file_step} s" if file_step else "a single time without bounds"
        raise error(
            f"{where}: 'time' has {got}, expected steps of {step} s. Resample the file, set time_step, or add "
            "time_bnds."
        )
    start, end = start.astype("datetime64[s]"), end.astype("datetime64[s]")
    other = differs(starts[0], start)
    if other:
        raise error(f"{where}: {other}")
    length = int((end - start).astype(np.int64))
    if length <= 0 or length % step:
        raise error(
            f"{where}: asked for {date_text(start)} to {date_text(end)}, {length} s, expected one or more whole "
            f"steps of {step} s. Change start or end."
        )
    offset = int((start - starts[0]).astype(np.int64))
    if offset % step:
        raise error(
            f"{where}: steps of {step} s begin at {date_text(starts[0])}, so {date_text(start)} is {offset % step} s "
            "after the begin of one. Expected the begin of a step. Change start, or use a file with the same day "
            "boundary."
        )
    return offset // step


def select_ids(
    have: Sequence[str], want: Sequence[str], name: str, where: str, error: type[CdlmError]
) -> np.ndarray:
    """Return the position of every wanted id in the file, int64; one that is absent or double is an error."""
    if len(have) == len(want) and list(have) == list(want) and len(set(want)) == len(want):
        return np.arange(len(want))
    position = {one: i for i, one in enumerate(have)}
    missing = [one for one in want if one not in position]
    if missing:
        hint = nearest(missing[0], have) if len(have) <= 10_000 else ""
        raise error(
            f"{where}: '{name}' has no {missing[0]} ({len(missing)} of {len(want)} are missing).{hint} "
            "Expected every one of the domain. Use a file made for this domain."
        )
    if len(position) < len(have):
        wanted = set(want)
        for i, one in enumerate(have):
            if position[one] != i and one in wanted:
                raise error(f"{where}: '{name}' holds {one} more than once. Expected unique ids.")
    return np.array([position[one] for one in want], np.int64)


def create_time(
    dataset: netCDF4.Dataset, calendar: str = STANDARD
) -> tuple[netCDF4.Variable, netCDF4.Variable]:
    """Define `time` (unlimited; start of the step) and `time_bnds` in a new file."""
    dataset.createDimension("time", None)
    dataset.createDimension("bnds", 2)
    time = dataset.createVariable("time", "i8", ("time",), chunksizes=(512,))
    time.setncatts({
        "standard_name": "time", "long_name": "start of the step", "units": UNITS,
        "calendar": WRITTEN.get(calendar, calendar), "bounds": "time_bnds", "axis": "T",
    })
    return time, dataset.createVariable("time_bnds", "i8", ("time", "bnds"), chunksizes=(512, 2))


def write_time(dataset: netCDF4.Dataset, first: int, starts: np.ndarray, step: int) -> None:
    """Write step starts (datetime64) and their bounds from index `first` on."""
    seconds = seconds_of(starts)
    dataset.variables["time"][first : first + seconds.size] = seconds
    dataset.variables["time_bnds"][first : first + seconds.size] = np.stack([seconds, seconds + step], axis=1)
