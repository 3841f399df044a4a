"""One variable of a file on (time, cell): read by blocks of time, its gaps filled the same in every block."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import filled
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ForcingError

BLOCK_BYTES = 32 * 2**20
logger = logging.getLogger(__name__)
FILLS = ("refuse", "zero", "hold", "interpolate")


class Axes(NamedTuple):
    """Axes of a file. starts : datetime64[s][time]; cell_id : str[cell], those of the domain; columns :
    int64[cell], their positions in the file; where : the file's name in messages.
    """

    starts: np.ndarray
    cell_id: Sequence[str]
    columns: np.ndarray
    where: str


class Series:
    """One variable of the file, for the cells of the domain, read by steps of the file and filled."""

    def __init__(
        self, source: netCDF4.Variable, name: str, fill: str, axes: Axes, block_bytes: int | None = None,
        bridge: int | None = None,
    ) -> None:
        self.name, self.fill, self.axes, self.bridge = name, fill, axes, bridge
        self.longest = 0
        self._open: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))
        self._source = source
        low, high = int(axes.columns.min()), int(axes.columns.max()) + 1
        self._span = slice(low, high)
        self._columns = axes.columns - low
        self._in_order = np.array_equal(self._columns, np.arange(high - low))
        steps = max(1, (BLOCK_BYTES if block_bytes is None else block_bytes) // (8 * (high - low)))
        chunks = source.chunking()
        if isinstance(chunks, list) and steps >= chunks[0]:
            steps -= steps % chunks[0]  # whole chunks: none is decompressed twice
        elif isinstance(chunks, list) and source.shape[0] > steps:
            times = -(-min(chunks[0], source.shape[0]) // steps)
            logger.warning(
                "%s: a chunk of '%s' holds %d steps, of which a block in memory holds %d: each is decompressed some %d "
                "times. Write chunks of at most %d steps (nccopy -c time/%d,cell/8192), or give the run more memory.",
                axes.where, name, chunks[0], steps, times, steps, steps,
            )
        self.block_steps = steps

    def read(self, first: int, stop: int) -> tuple[np.ndarray, int]:
        """Return float64[time, cell] of steps `first` to `stop` and the number of values filled.

        A missing value stays NaN where `fill` is `refuse`.
        """
        values = self._read(first, stop)
        gaps = np.isnan(values)
        count = int(np.count_nonzero(gaps))
        if self.fill == "refuse" or not count:
            return values, 0
        if self.fill == "zero":
            self._measure(first, stop, gaps)
            values[gaps] = 0.0
        else:
            cells = np.flatnonzero(gaps.any(axis=0))
            values[:, cells] = self._bridge(first, stop, values[:, cells], cells)
        return values, count

    def _read(self, first: int, stop: int) -> np.ndarray:
        try:
            values = filled(self._source, (slice(first, stop), self._span))
        except (OSError, RuntimeError, ValueError, IndexError) as cause:
            raise ForcingError(
                f"{self.axes.where}: '{self.name}' cannot be read from {date_text(self.axes.starts[first])} to "
                f"{date_text(self.axes.starts[stop - 1])} ({cause}). Expected a complete file, open and left alone "
                "during the run. Make it anew."
            ) from cause
        return values if self._in_order else np.ascontiguousarray(values[:, self._columns])

    def _bridge(self, first: int, stop: int, part: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Fill the gaps of `part`, float64[time, cell], from the valid values around each."""
        left, since = _last_valid(part, *self._outside(first, part[0], cells, back=True))
        if self.fill == "hold":
            self._limit(first, since, cells)
            return left
        right, until = _last_valid(part[::-1], *self._outside(stop, part[-1], cells, back=False))
        right, until = right[::-1], until[::-1]
        self._limit(first, np.where(np.isnan(part), since + until - 1, 0), cells)
        weight = since / np.maximum(since + until, 1)
        return np.where(np.isnan(part), left + (right - left) * weight, part)

    def _limit(self, first: int, length: np.ndarray, cells: np.ndarray) -> None:
        """Keep the longest gap, int64[time, cell] in steps, and refuse one that is too long to be bridged."""
        self.longest = max(self.longest, int(length.max(initial=0)))
        if self.bridge is not None and length.max(initial=0) > self.bridge:
            row, cell = (int(i) for i in np.unravel_index((length > self.bridge).argmax(), length.shape))
            raise ForcingError(
                f"{self.axes.where}: '{self.name}' is missing at {date_text(self.axes.starts[first + row])} in cell "
                f"{self.axes.cell_id[cells[cell]]}, in a gap of {length[row, cell]} steps or more; forcing_fill "
                f"'{self.fill}' bridges {self.bridge} at most. Complete the file, or raise "
                f"forcing_fill_limit.{self.name}."
            )

    def _measure(self, first: int, stop: int, gaps: np.ndarray) -> None:
        """Keep the longest gap that zeros fill; blocks in order of time follow on each other."""
        run = self._open[1] if self._open[0] == first else np.zeros(gaps.shape[1], np.int64)
        for row in gaps:
            run = np.where(row, run + 1, 0)
            self.longest = max(self.longest, int(run.max(initial=0)))
        self._open = stop, run

    def _outside(
        self, edge: int, at_edge: np.ndarray, cells: np.ndarray, *, back: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Look beyond a block for the nearest valid value of cells that are missing at its edge.

        Returns the value (NaN where none is needed) and its distance from the block's outermost step, in
        steps, per cell.
        """
        value, distance = np.full(cells.size, np.nan), np.zeros(cells.size, np.int64)
        left, gone = np.flatnonzero(np.isnan(at_edge)), 0
        while left.size:
            if back:
                a, b = max(edge - gone - self.block_steps, 0), edge - gone
            else:
                a, b = edge + gone, min(edge + gone + self.block_steps, self.axes.starts.size)
            if a >= b:
                self._raise_no_neighbour(edge, cells[left], back=back)
            part = self._read(a, b)[:, cells[left]]
            valid = ~np.isnan(part[::-1] if back else part)
            found = np.flatnonzero(valid.any(axis=0))
            row = valid.argmax(axis=0)[found]
            value[left[found]] = (part[::-1] if back else part)[row, found]
            distance[left[found]] = gone + row + 1
            left, gone = np.delete(left, found), gone + b - a
        return value, distance

    def _raise_no_neighbour(self, edge: int, cells: np.ndarray, *, back: bool) -> None:
        time = self.axes.starts[edge if back else edge - 1]
        raise ForcingError(
            f"{self.axes.where}: '{self.name}' is missing at {time} in cell {self.axes.cell_id[cells[0]]} "
            f"({cells.size} such cells), with no valid value {'before' if back else 'after'} it in the file. "
            f"forcing_fill '{self.fill}' needs one. Choose another period or fill, or complete the file."
        )


def blocks(first: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    """Cut steps `first` to `stop` at the multiples of `length`."""
    while first < stop:
        end = min((first // length + 1) * length, stop)
        yield first, end
        first = end


def _last_valid(part: np.ndarray, outside: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the latest valid value at or before each step, and how many steps ago it was.

    part : float64[time, cell]; outside : float64[cell], the value before the first step, `distance` steps
    from it.
    """
    steps = np.arange(1, part.shape[0] + 1)[:, None]
    at = np.maximum.accumulate(np.where(np.isnan(part), 0, steps), axis=0)
    values = np.take_along_axis(np.vstack([outside, part]), at, axis=0)
    return values, np.where(at > 0, steps - at, steps - 1 + distance)
