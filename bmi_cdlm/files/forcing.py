"""Forcing from a NetCDF file: checked in full before the run, then read in blocks of time."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import (
    align_steps,
    check_dims,
    check_numeric,
    check_units,
    one_at_a_time,
    open_input,
    read_strings,
    read_time,
    require,
    select_ids,
)
from bmi_cdlm.files.series import FILLS, Axes, Series, blocks
from bmi_cdlm.files.shared import version
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ForcingError, nearest
from bmi_cdlm.names.variables import select, variable

CACHE_BYTES = 256 * 2**20
logger = logging.getLogger(__name__)
TOLD: set[tuple] = set()
"""What this process has said of which version of a file."""


class ForcingFile:
    """The forcing of a period, from a NetCDF file with dimensions (time, cell).

    Parameters
    ----------
    path : Path
    names : sequence of str
        Short names of the inputs to read.
    cell_id : sequence of str
        Cells of the domain. A file with `cell_id` may hold more cells, or the same in another order.
    start, end : datetime64
        Period, `end` exclusive; `start` must be the begin of a step of the file.
    step : int
        Model step [s], which the file must have too.
    fill : mapping of str to str
        What to do about missing values, per variable: `refuse` (the default), `zero`, `hold` (the last valid
        value of the cell) or `interpolate` (linear in time). Neighbours are taken from the whole file, also
        from outside the period, so that a result does not depend on where a block or a run begins.
    cache : int, optional
        Bytes for the file's own blocks, and up to which the whole period is read at once and kept.
    places : (int64[cell], int), optional
        Places of these cells in a whole domain, and its number of cells: for a file without `cell_id`.
    bridges : mapping of str to int, optional
        The longest gap of every input that `hold` and `interpolate` fill [s]; of any length unless given.
    means : bool
        Keep means over the period.

    Attributes
    ----------
    means : dict of str to float64[cell]
        Means over the period by input, in registry units, where asked for.
    filled : dict of str to Filled
        What was filled in the period, by input.

    Raises
    ------
    ForcingError
        Anything in the file that the run would stumble over, found now: a missing variable, other units,
        another order of dimensions, time gaps, a period that is not covered, values without a meaning.
    """

    @one_at_a_time
    def __init__(
        self, path: Path, names: Sequence[str], cell_id: Sequence[str], start: np.datetime64,
        end: np.datetime64, step: int, fill: Mapping[str, str], *, cache: int | None = None,
        places: tuple[np.ndarray, int] | None = None, bridges: Mapping[str, int] | None = None,
        means: bool = False,
    ) -> None:
        self.path = path
        self.filled: dict[str, Filled] = {}
        self.means: dict[str, np.ndarray] = {}
        _check_fill(fill, str(path))
        with ExitStack() as stack:
            dataset = stack.enter_context(open_input(path, ForcingError))
            self._first, self.n_steps, axes = _read_axes(dataset, cell_id, start, end, step, places, str(path))
            block = None if cache is None else cache // (2 * len(names))  # twice: a block is unpacked from another
            self._series = {
                n: _open_series(
                    dataset, n, fill.get(n, "refuse"), axes, block,
                    None if bridges is None else max(1, bridges[n] // step),
                ) for n in names
            }
            self.n_cells = len(cell_id)
            fits = 8 * self.n_steps * self.n_cells * len(self._series) <= (CACHE_BYTES if cache is None else cache)
            self._cache = {n: self._check(s, step, keep=fits, mean=means) for n, s in self._series.items()}
            self._held: dict[str, tuple[int, np.ndarray]] = {}
            self._stack = stack.pop_all()
        if fits:
            self.close()

    def read(self, first: int, count: int) -> dict[str, np.ndarray]:
        """Return steps `first` to `first + count`, counted from the start of the period.

        Returns
        -------
        dict of str to float64[time, cell]
            Registry units, without missing values. The arrays belong to the caller.
        """
        if first < 0 or count < 0 or first + count > self.n_steps:
            raise ForcingError(
                f"{self.path}: asked for steps {first} to {first + count}, expected 0 to {self.n_steps}. "
                "Extend `end`, and the forcing with it."
            )
        return {name: self._read_one(name, first, count) for name in self._series}

    @one_at_a_time
    def close(self) -> None:
        """Close the file; what was read into memory as a whole stays readable."""
        self._stack.close()

    def __enter__(self) -> ForcingFile:
        """Return the file itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()

    def _read_one(self, name: str, first: int, count: int) -> np.ndarray:
        cached = self._cache[name]
        if cached is not None:
            return cached[first : first + count].copy()
        series = self._series[name]
        begin, stop = self._first + first, self._first + first + count
        out = np.empty((count, self.n_cells))
        for a, b in blocks(begin, stop, series.block_steps):
            block, offset = self._hold(name, a // series.block_steps)
            out[a - begin : b - begin] = block[a - offset : b - offset]
        return out

    @one_at_a_time
    def _hold(self, name: str, number: int) -> tuple[np.ndarray, int]:
        """Return a block and its first step in the file; the last one is kept for callers in small steps."""
        series = self._series[name]
        a = max(number * series.block_steps, self._first)
        b = min((number + 1) * series.block_steps, self._first + self.n_steps)
        if self._held.get(name, (-1,))[0] != number:
            self._held.pop(name, None)  # before the next is read: never two in memory
            self._held[name] = (number, series.read(a, b)[0])
        return self._held[name][1], a

    def _check(self, series: Series, step: int, *, keep: bool, mean: bool) -> np.ndarray | None:
        """Go through all values of the period, of steps [s], once; return them if they are to be kept."""
        kept = np.empty((self.n_steps, self.n_cells)) if keep else None
        findings: dict[str, Finding] = {}
        total = np.zeros(self.n_cells)
        n_filled, limits = 0, variable(series.name).known.limits(step)
        for a, b in blocks(self._first, self._first + self.n_steps, series.block_steps):
            values, count = series.read(a, b)
            n_filled += count
            _find_faults(limits, values, a, findings)
            if mean:
                total += values.sum(axis=0)
            if kept is not None:
                kept[a - self._first : b - self._first] = values
        _raise_faults(series, step, findings)
        if mean:
            self.means[series.name] = total / self.n_steps
        if n_filled:
            found = Filled(series.name, n_filled, self.n_steps * self.n_cells, series.longest, series.fill)
            self.filled[series.name] = found
            told = (*version(self.path), found.told())
            if told not in TOLD:  # a training reads the same file at every epoch
                TOLD.add(told)
                logger.warning("%s: %s", self.path, found.told())
        return kept


class Filled(NamedTuple):
    """What was filled of an input: its name, values, of how many; the longest gap [steps]; by which way."""

    name: str
    number: int
    total: int
    longest: int
    way: str

    def told(self) -> str:
        """In words."""
        return (
            f"filled {self.number} of {self.total} values of '{self.name}' ({self.way}), the longest gap "
            f"{self.longest} steps"
        )


class Finding(NamedTuple):
    """Values that break one rule: how many, and step (of the file), cell and value of the first."""

    number: int
    step: int
    cell: int
    value: float


def _check_fill(fill: Mapping[str, str], where: str) -> None:
    inputs = [v.short for v in select(role="input")]
    for name, mode in fill.items():
        if name not in inputs:
            raise ForcingError(
                f"{where}: forcing_fill names '{name}', expected one of {', '.join(inputs)}."
                f"{nearest(name, inputs)}"
            )
        if mode not in FILLS:
            raise ForcingError(
                f"{where}: forcing_fill of '{name}' is '{mode}', expected one of {', '.join(FILLS)}."
                f"{nearest(mode, FILLS)}"
            )


def _read_axes(
    dataset: netCDF4.Dataset, cell_id: Sequence[str], start: np.datetime64, end: np.datetime64, step: int,
    places: tuple[np.ndarray, int] | None, where: str,
) -> tuple[int, int, Axes]:
    """Return the file's step at which the period begins, the number of steps of the period, and the axes."""
    starts, file_step = read_time(dataset, where, ForcingError)
    first = align_steps(starts, file_step, start, end, step, where, ForcingError)
    n_steps = int((end - start).astype("timedelta64[s]").astype(np.int64)) // step
    if first < 0 or first + n_steps > starts.size:
        last = starts[-1] + np.timedelta64(step, "s")
        raise ForcingError(
            f"{where}: covers {date_text(starts[0])} to {date_text(last)}, expected all of {date_text(start)} to "
            f"{date_text(end)}. Shorten the period, or extend the file."
        )
    if "cell" not in dataset.dimensions:
        raise ForcingError(f"{where}: dimension 'cell' is missing. Expected variables on (time, cell).")
    n = dataset.dimensions["cell"].size
    columns, expected = places if places is not None else (np.arange(n), len(cell_id))
    if "cell_id" in dataset.variables:
        columns = select_ids(read_strings(dataset, "cell_id", where, ForcingError), cell_id, "cell_id", where,
                             ForcingError)
    elif n != expected:
        raise ForcingError(
            f"{where}: has {n} cells and no 'cell_id', expected the {expected} cells of the domain in "
            "its order. Add 'cell_id', or make the file for this domain."
        )
    return first, n_steps, Axes(starts, cell_id, columns, where)


def _open_series(
    dataset: netCDF4.Dataset, name: str, fill: str, axes: Axes, block: int | None, bridge: int | None
) -> Series:
    require(dataset, [name], axes.where, ForcingError)
    check_dims(dataset, name, ("time", "cell"), axes.where, ForcingError)
    check_numeric(dataset, name, axes.where, ForcingError)
    check_units(dataset, name, variable(name).units, axes.where, ForcingError)
    return Series(dataset.variables[name], name, fill, axes, block, bridge)


def _find_faults(
    limits: tuple[float, float], values: np.ndarray, first: int, findings: dict[str, Finding]
) -> None:
    low, high = limits
    smallest, largest = values.min(), values.max()  # both NaN if one value is
    if smallest >= low and largest <= high and np.isfinite(largest) and np.isfinite(smallest):
        return
    for kind, wrong in (
        ("missing", np.isnan(values)), ("infinite", np.isinf(values)),
        ("outside", np.isfinite(values) & ((values < low) | (values > high))),
    ):
        if wrong.any():
            row, cell = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
            new = Finding(0, first + row, cell, float(values[row, cell]))
            old = findings.get(kind, new)
            findings[kind] = old._replace(number=old.number + int(np.count_nonzero(wrong)))


def _raise_faults(series: Series, step: int, findings: dict[str, Finding]) -> None:
    """Raise on what was found, missing values first: they are most often the cause of the rest."""
    for kind in ("missing", "infinite", "outside"):
        if kind in findings:
            _raise_fault(series, step, kind, findings[kind])


def _raise_fault(series: Series, step: int, kind: str, found: Finding) -> None:
    axes, name = series.axes, series.name
    place = f"at {date_text(axes.starts[found.step])} in cell {axes.cell_id[found.cell]}"
    if kind == "missing":
        raise ForcingError(
            f"{axes.where}: '{name}' is missing {place}, the first of {found.number}. Expected every value. "
            f"Complete the file, or set forcing_fill.{name} to zero, hold or interpolate."
        )
    many = f"the first of {found.number} such values"
    got = f"{axes.where}: '{name}' is {found.value:g} {place}, {many}, expected"
    if kind == "infinite":
        raise ForcingError(f"{got} finite numbers. Mark missing values with _FillValue.")
    entry = variable(name)
    low, high = entry.known.limits(step)
    guess = entry.known.guess(found.value, entry.units, entry.units, step)
    rest = " Set what rounding left below 0 to 0." if not guess and low == 0 and -1.0 < found.value < 0.0 else ""
    raise ForcingError(f"{got} {low:g} to {high:g} {entry.units}.{guess}{rest} Mark missing values with _FillValue.")
