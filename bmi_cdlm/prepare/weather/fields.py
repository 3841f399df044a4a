"""Fields in time as they are in files: what every kind of source can do."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.weather.curved import CurvedGrid

Gridded = (Grid, CurvedGrid)
"""Shapes with rows and columns."""
Window = tuple[slice, slice]


class Places(NamedTuple):
    """Stations or basins: id : list of str; lon, lat : float64[place] [degrees], NaN where the file has none."""

    id: list[str]
    lon: np.ndarray
    lat: np.ndarray


class Fields(Protocol):
    """Fields of one variable at the intervals of a source.

    where : name in messages; step [s]; units, cell_methods : as the files state; shape : Grid, CurvedGrid or Places;
    n_read : values read per interval.
    """

    where: str
    step: int
    units: str | None
    cell_methods: str
    shape: Grid | CurvedGrid | Places
    n_read: int

    def want(self, starts: np.ndarray) -> np.ndarray:
        """Say which intervals will be read; bool[step], which of them are declared missing and absent."""
        ...

    def select(self, sources: np.ndarray) -> None:
        """Say which pixels (in row order) or places will be read, int64[used], rising."""
        ...

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read wanted intervals as float64[step, used]; NaN where missing."""
        ...

    def fingerprint(self) -> list[str]:
        """Names, sizes and times of the files."""
        ...


def window_around(sources: np.ndarray, grid: Grid | CurvedGrid) -> tuple[np.ndarray, Window]:
    """Positions of pixels in the smallest window around them, and the window."""
    row, col = np.divmod(sources, grid.n_cols)
    window = (slice(int(row.min()), int(row.max()) + 1), slice(int(col.min()), int(col.max()) + 1))
    width = window[1].stop - window[1].start
    return (row - window[0].start) * width + col - window[1].start, window


def size_of(window: Window) -> int:
    """Number of pixels in a window."""
    rows, cols = window
    return (rows.stop - rows.start) * (cols.stop - cols.start)


def stat_of(path: Path) -> str:
    """Name, size and time of a file, to tell whether it has changed."""
    info = path.stat()
    return f"{path.name} {info.st_size} {info.st_mtime_ns}"
