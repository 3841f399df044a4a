"""Output to a NetCDF file that can be read after a crash, up to the last block written."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np

import bmi_cdlm
from bmi_cdlm.errors import OutputError
from bmi_cdlm.files import (
    check_writable,
    create_time,
    filled,
    open_input,
    read_strings,
    require,
    write_time,
)
from bmi_cdlm.variables import variable

Dimension = Literal["gauge", "reach", "cell"]
CHUNK_STEPS, CHUNK_POINTS = 64, 4096
BUFFER_BYTES = 128 * 2**20
SLACK_BYTES = 2**20  # chunk index and headers, on top of the values themselves

logger = logging.getLogger(__name__)


class OutputFile:
    """Streams variables to `NAME.partial`, which `close` moves to NAME.

    Rows are gathered to whole chunks, so that no chunk is compressed twice, then written and synced. A
    process that is killed loses at most the rows not yet written, fewer than `block_steps`. Free space is
    checked before each write, since HDF5 does not survive a disk that fills up while it writes.

    Parameters
    ----------
    path : Path
        Where the finished file goes.
    dimension : {"gauge", "reach", "cell"}
    ids : sequence of str
        Ids along the dimension, written as `<dimension>_id`.
    names : sequence of str
        Short names of the variables, as in the registry.
    step : int
        Model step [s].
    attributes : mapping of str to str
        Global attributes to add, such as `title` and `history`.
    position : (lon, lat) of float64, optional
        Where the points are, in degrees. Gauges with positions make a CF time series file.

    Raises
    ------
    OutputError
        The file cannot be created, or is being written by another run.
    """

    def __init__(
        self, path: Path, dimension: Dimension, ids: Sequence[str], names: Sequence[str], step: int,
        attributes: Mapping[str, str], position: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.path, self.partial = path, partial_path(path)
        self.names, self.step, self.n_points = tuple(names), step, len(ids)
        row_bytes = 8 * max(1, self.n_points) * max(1, len(self.names))
        self.block_steps = int(np.clip(BUFFER_BYTES // row_bytes, 1, CHUNK_STEPS))
        self.n_written, self._waiting = 0, 0
        self._starts = np.empty(self.block_steps, "datetime64[s]")
        self._values = {variable(n).short: np.empty((self.block_steps, self.n_points)) for n in self.names}
        self._next: np.datetime64 | None = None
        check_writable(path)
        check_writable(self.partial)
        if self.partial.exists():
            logger.warning("%s: left by a run that did not finish; overwritten now", self.partial)
        self._dataset: netCDF4.Dataset | None = None
        self._reserve(0, SLACK_BYTES)
        try:
            self._dataset = netCDF4.Dataset(self.partial, "w")
            _define(self._dataset, dimension, ids, self.names, self.block_steps)
            if position is not None:
                _define_position(self._dataset, dimension, position, self.names)
            self._dataset.setncatts(dict(attributes))
            self._dataset.sync()
        except (OSError, RuntimeError) as cause:
            raise self._failure(cause) from cause

    def append(self, starts: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Add steps: `starts` datetime64[time], and per variable float[time, point], which are copied.

        Raises
        ------
        OutputError
            A variable is missing or of another shape, the steps do not follow on the last, the disk is full.
            What was written before stays readable in the partial file.
        """
        if self._dataset is None:
            raise OutputError(f"{self.path}: is closed, expected an open file. Open a new one.")
        starts = np.asarray(starts).astype("datetime64[s]")
        if not starts.size:
            return
        self._check(starts, values)
        done = 0
        while done < starts.size:
            count = min(self.block_steps - self._waiting, starts.size - done)
            rows = slice(self._waiting, self._waiting + count)
            self._starts[rows] = starts[done : done + count]
            for name in self.names:
                self._values[name][rows] = values[name][done : done + count]
            self._waiting += count
            done += count
            if self._waiting == self.block_steps:
                self._write(self._dataset)
        self._next = starts[-1] + np.timedelta64(self.step, "s")

    def close(self) -> None:
        """Write what is left and move the file to its name; a second call does nothing."""
        if self._dataset is not None:
            self._finish(self._dataset)
            self.partial.replace(self.path)

    def abandon(self) -> None:
        """Write what is left and leave the partial file where it is; after `close` this does nothing."""
        if self._dataset is not None:
            self._finish(self._dataset)

    def __enter__(self) -> OutputFile:
        """Return the file itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Close the file; after an error, leave the partial one."""
        if kind is None:
            self.close()
            return
        try:
            self.abandon()
        except OutputError:
            logger.exception("%s: the last rows are lost", self.partial)  # the first error goes on

    def _check(self, starts: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        for name in self.names:
            if name not in values:
                raise OutputError(f"{self.path}: '{name}' was not given, expected {', '.join(self.names)}.")
            if np.shape(values[name]) != (starts.size, self.n_points):
                raise OutputError(
                    f"{self.path}: '{name}' has shape {np.shape(values[name])}, expected "
                    f"{(starts.size, self.n_points)}."
                )
        first = starts[0] if self._next is None else self._next
        if (starts != first + np.arange(starts.size) * np.timedelta64(self.step, "s")).any():
            raise OutputError(
                f"{self.path}: steps from {starts[0]} to {starts[-1]} do not follow on, expected steps of "
                f"{self.step} s from {first}."
            )

    def _write(self, dataset: netCDF4.Dataset) -> None:
        """Write the waiting rows and sync."""
        first, count = self.n_written, self._waiting
        size = 8 * count * (3 + self.n_points * len(self.names))
        try:
            self._reserve(self.partial.stat().st_size, size + SLACK_BYTES)
            for name in self.names:  # before the times: a time in the file means that its row is complete
                dataset.variables[name][first : first + count] = self._values[name][:count]
            write_time(dataset, first, self._starts[:count], self.step)
            dataset.sync()
        except (OSError, RuntimeError) as cause:
            raise self._failure(cause) from cause
        self.n_written, self._waiting = first + count, 0

    def _finish(self, dataset: netCDF4.Dataset) -> None:
        if self._waiting:
            self._write(dataset)
        self._dataset = None
        try:
            dataset.close()
        except RuntimeError as cause:
            raise self._failure(cause) from cause

    def _reserve(self, at: int, size: int) -> None:
        """Raise OSError unless a file of `at` bytes can grow by `size` bytes here.

        A sparse file is allocated from there on and given back, which finds out about the disk, quotas and
        limits on file sizes alike.
        """
        with tempfile.TemporaryFile(dir=self.partial.parent) as scratch:
            try:
                os.posix_fallocate(scratch.fileno(), at, size)
            except OSError as cause:
                if cause.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # what some file systems answer
                    raise

    def _failure(self, cause: Exception) -> OutputError:
        """Let go of the file, whose synced part stays as it is, and return the error to raise."""
        dataset, self._dataset = self._dataset, None
        if dataset is not None:
            try:
                dataset.close()
            except RuntimeError:
                logger.warning("%s: could not be closed properly", self.partial)
        kept = f"its first {self.n_written} steps stay readable" if self.n_written else "it holds no steps"
        hint = "Free space on the disk, or choose another output path."
        if isinstance(cause, PermissionError):  # also what a lock held by another process looks like
            hint = "Another run may be writing it: wait for it, or choose another output path."
        reason = getattr(cause, "strerror", None) or cause
        return OutputError(f"{self.partial}: cannot be written ({reason}); {kept}. {hint}")


def partial_path(path: Path) -> Path:
    """Return where a file is written until it is complete: `NAME.partial`."""
    return path.with_name(f"{path.name}.partial")


def read_output(path: Path, name: str) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Read one variable of an output file, or of the `.partial` of a run that did not finish.

    Returns
    -------
    starts : datetime64[s][time]
        Begins of the steps.
    ids : list of str
    values : float64[time, point]
    """
    source = path
    if not path.exists() and partial_path(path).exists():
        source = partial_path(path)
        logger.warning("%s: does not exist; reading %s, left by a run that did not finish", path, source)
    where = str(source)
    with open_input(source, OutputError) as dataset:
        require(dataset, [name, "time"], where, OutputError)
        dims = dataset.variables[name].dimensions
        if len(dims) != 2 or dims[0] != "time":
            raise OutputError(f"{where}: '{name}' lies on ({', '.join(dims)}), expected time and one more.")
        seconds = filled(dataset.variables["time"], slice(None))
        n_steps = int(np.count_nonzero(~np.isnan(seconds)))
        starts = seconds[:n_steps].astype(np.int64).astype("datetime64[s]")
        values = filled(dataset.variables[name], slice(0, n_steps))
        return starts, read_strings(dataset, f"{dims[1]}_id", where, OutputError), values


def _define(
    dataset: netCDF4.Dataset, dimension: str, ids: Sequence[str], names: Sequence[str], block_steps: int
) -> None:
    dataset.setncatts({
        "Conventions": "CF-1.11", "title": "Output of CDLM", "source": f"bmi_cdlm {bmi_cdlm.__version__}",
    })
    create_time(dataset)
    dataset.createDimension(dimension, len(ids))
    label = dataset.createVariable(f"{dimension}_id", str, (dimension,))
    label.long_name = f"id of the {dimension}"
    label[:] = np.array(list(ids), object)
    for name in names:
        entry = variable(name)
        target = dataset.createVariable(
            name, "f8", ("time", dimension), zlib=True, complevel=1, shuffle=True, fill_value=np.nan,
            chunksizes=(block_steps, max(1, min(len(ids), CHUNK_POINTS))),
        )
        target.setncatts({
            "long_name": entry.meaning, "units": entry.units, "csdms_name": entry.name,
            "cell_methods": "time: point" if entry.role == "state" else "time: mean",
        })


def _define_position(
    dataset: netCDF4.Dataset, dimension: str, position: tuple[np.ndarray, np.ndarray], names: Sequence[str]
) -> None:
    for suffix, standard, units, values in (
        ("lon", "longitude", "degrees_east", position[0]), ("lat", "latitude", "degrees_north", position[1]),
    ):
        target = dataset.createVariable(f"{dimension}_{suffix}", "f8", (dimension,))
        target.setncatts({
            "standard_name": standard, "long_name": f"{standard} of the {dimension}", "units": units,
        })
        target[:] = values
    for name in names:
        dataset.variables[name].coordinates = f"{dimension}_lat {dimension}_lon"
    if dimension == "gauge":
        dataset.featureType = "timeSeries"
        dataset.variables["gauge_id"].cf_role = "timeseries_id"
