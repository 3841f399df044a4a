"""Output to a NetCDF file, of which everything written so far can be read after a crash."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import netCDF4
import numpy as np

from bmi_cdlm.files.cf import Dimension, Layout, define
from bmi_cdlm.files.fingerprints import FINGERPRINTS, check_fingerprints
from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, require, write_time
from bmi_cdlm.files.packing import round_into
from bmi_cdlm.files.zarr import SUFFIX, check_replaceable, copy_to_store, require_zarr
from bmi_cdlm.names.calendars import NAMES_IN_FILES, STANDARD, at_seconds, calendar_of, date_text
from bmi_cdlm.names.errors import OutputError
from bmi_cdlm.names.variables import variable
from bmi_cdlm.names.writing import check_writable, replacing

CHUNK_STEPS = 64
BUFFER_BYTES = 32 * 2**20
FEWEST_STEPS = 8
"""Discharge comes along time: to take a step at a time of it would read a line of the cache for every number."""
SLACK_BYTES = 2**16  # what a header may take on top of the values

FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
logger = logging.getLogger(__name__)


class OutputFile:
    """Streams variables to `NAME.partial`, from which `close` makes NAME.

    The partial file is classic NetCDF (CDF-5). There a new step counts only once its number, eight bytes in
    the header, is written after the values; so the file can be read at every moment, also by others while the
    run goes on. An HDF5 file killed in the middle of a sync can be lost as a whole. The finished file is
    NetCDF-4, compressed, or where its name ends in `.zarr` a Zarr store.

    Rows are gathered to blocks of `block_steps`, then written and synced: a process that is killed loses
    fewer than that.

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
    precision : int, optional
        Significant digits of values in 32 bits; 64 bits where not given.
    keep : int
        Steps of the partial file of a run that did not finish, after which this one goes on.
    calendar : str
        Of the times: `names.calendars`.

    Raises
    ------
    OutputError
        There are no points, the file cannot be created, another run is writing it, or the partial file is not
        that of a run like this with at least `keep` steps.
    """

    @one_at_a_time
    def __init__(
        self, path: Path, dimension: Dimension, ids: Sequence[str], names: Sequence[str], step: int,
        attributes: Mapping[str, str], position: tuple[np.ndarray, np.ndarray] | None = None, *,
        precision: int | None = None, keep: int = 0, calendar: str = STANDARD,
    ) -> None:
        self.path, self.partial = path, partial_path(path)
        self.names, self.step, self.n_points = tuple(names), step, len(ids)
        if not self.n_points:
            raise OutputError(f"{path}: there is no {dimension} to write, expected at least one. Change output_at.")
        self._layout = Layout(dimension, ids, self.names, 1, dict(attributes), position, precision, calendar)
        row_bytes = np.dtype(self._layout.dtype).itemsize * self.n_points * max(1, len(self.names))
        self.block_steps = int(np.clip(BUFFER_BYTES // row_bytes, FEWEST_STEPS, CHUNK_STEPS))
        self.n_written, self._waiting = 0, 0
        self._starts = np.empty(self.block_steps, "datetime64[s]")
        shape = self.block_steps, self.n_points
        self._values = {variable(n).short: np.empty(shape, self._layout.dtype) for n in self.names}
        self._next: np.datetime64 | None = None
        self._layout = self._layout._replace(chunk_steps=self.block_steps)
        if path.suffix == SUFFIX:
            require_zarr(path, OutputError)
            check_replaceable(path, OutputError)
        check_writable(path)
        check_writable(self.partial)
        self._dataset: netCDF4.Dataset | None = None
        self._lock: BinaryIO | None = None
        try:
            self._dataset = self._go_on(keep) if keep else self._create()
            self._dataset.set_fill_off()  # rows are written in full
        except OutputError:
            self._release()
            raise
        except (OSError, RuntimeError) as cause:
            raise self._failure(cause) from cause

    def _create(self) -> netCDF4.Dataset:
        self._take_over()
        self._reserve(0, 300 * self.n_points + SLACK_BYTES)
        dataset = netCDF4.Dataset(self.partial, "w", format="NETCDF3_64BIT_DATA")
        define(dataset, self._layout)
        dataset.sync()
        return dataset

    def _go_on(self, keep: int) -> netCDF4.Dataset:
        """Open the partial file behind its first `keep` steps; what follows them is forgotten."""
        if not self.partial.exists():
            raise OutputError(
                f"{self.partial}: there is no such file, expected {keep} steps of the run to go on with. Run from the "
                "start, without --resume."
            )
        self._take_over(warn=False)
        with open_input(self.partial, OutputError) as found:
            _check_same(found, self._layout, keep, str(self.partial))
            last = int(found.variables["time"][keep - 1])
        self._next = at_seconds(last, self._layout.calendar) + np.timedelta64(self.step, "s")
        self.n_written = keep
        self._cut()
        return netCDF4.Dataset(self.partial, "r+")

    @one_at_a_time
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
                self._pack(values[name][done : done + count], self._values[name][rows])
            self._waiting += count
            done += count
            if self._waiting == self.block_steps:
                self._write(self._dataset)
        self._next = starts[-1] + np.timedelta64(self.step, "s")

    @one_at_a_time
    def flush(self) -> None:
        """Write and sync all steps that were given, whatever becomes of the run."""
        if self._dataset is not None and self._waiting:
            self._write(self._dataset)

    def _pack(self, values: np.ndarray, rows: np.ndarray) -> None:
        if self._layout.precision is None:
            rows[:] = values
        else:
            round_into(values, self._layout.precision, rows)

    @one_at_a_time
    def close(self) -> None:
        """Write what is left and make the finished file; a second call does nothing."""
        if self._dataset is None:
            return
        try:
            self._finish(self._dataset)
            if self.path.suffix == SUFFIX:
                copy_to_store(self.partial, self.path, self._layout.chunk_steps, OutputError)
            else:
                with replacing(self.path) as temporary:
                    _compress(self.partial, temporary, self._layout)
            self.partial.unlink()
        except (OSError, RuntimeError) as cause:
            raise self._failure(cause) from cause
        finally:
            self._release()

    @one_at_a_time
    def abandon(self) -> None:
        """Write what is left and leave the partial file where it is; after `close` this does nothing."""
        if self._dataset is not None:
            self._finish(self._dataset)
            self._release()

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
        if calendar_of(starts) != self._layout.calendar:
            raise OutputError(
                f"{self.path}: steps from {date_text(starts[0])} are in the calendar {calendar_of(starts)}, expected "
                f"{self._layout.calendar}, which the file is in. Open it with their `calendar`."
            )
        first = starts[0] if self._next is None else self._next
        if (starts != first + np.arange(starts.size) * np.timedelta64(self.step, "s")).any():
            raise OutputError(
                f"{self.path}: steps from {date_text(starts[0])} to {date_text(starts[-1])} do not follow on, "
                f"expected steps of {self.step} s from {date_text(first)}."
            )

    def _write(self, dataset: netCDF4.Dataset) -> None:
        """Write the waiting rows and sync."""
        first, count = self.n_written, self._waiting
        size = 8 * count * (3 + self.n_points * len(self.names))
        try:
            self._reserve(self.partial.stat().st_size, size + SLACK_BYTES)
            for name in self.names:
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

    def _take_over(self, *, warn: bool = True) -> None:
        """Lock the partial file for as long as this run writes it; BlockingIOError if another run does."""
        left_over = self.partial.exists()
        self._lock = os.fdopen(os.open(self.partial, FLAGS, 0o666), "ab")
        found = os.fstat(self._lock.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EMLINK, "it is no file of its own, but a link or a device")
        try:
            import fcntl

            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except (ImportError, OSError):  # Windows, or a file system without locks
            logger.debug("%s: cannot be locked", self.partial)
        if not self.partial.exists() or self.partial.lstat().st_ino != found.st_ino:
            raise BlockingIOError(errno.EAGAIN, "was finished by another run just now")
        if left_over and warn:
            logger.warning("%s: left by a run that did not finish; overwritten now", self.partial)

    def _cut(self) -> None:
        """Set the number of steps in the header to those complete: the library counts begun ones too."""
        with self.partial.open("r+b") as file:
            if file.read(4) == b"CDF\x05":  # followed by the number of steps, big-endian
                file.write(struct.pack(">q", self.n_written))

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _reserve(self, at: int, size: int) -> None:
        """Raise OSError unless a file of `at` bytes can grow by `size` bytes here.

        A sparse file is allocated from there on and given back, which finds out about the disk, quotas and
        limits on file sizes alike. Where that cannot be done (macOS), the free space has to do.
        """
        if not hasattr(os, "posix_fallocate"):
            if shutil.disk_usage(self.partial.parent).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
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
            self._cut()
        self._release()
        if isinstance(cause, BlockingIOError):
            return OutputError(
                f"{self.partial}: is being written by another run, expected a file of our own. Wait for that run, or "
                "choose another output path."
            )
        kept = f"its first {self.n_written} steps stay readable" if self.n_written else "it holds no steps"
        return OutputError(
            f"{self.partial}: cannot be written ({getattr(cause, 'strerror', None) or cause}); {kept}. Free space on "
            "the disk, or choose another output path."
        )


def _compress(source: Path, target: Path, layout: Layout) -> None:
    """Copy a partial file to a compressed NetCDF-4 file, block by block."""
    with netCDF4.Dataset(source) as partial, netCDF4.Dataset(target, "w") as finished:
        for dataset in (partial, finished):
            dataset.set_auto_maskandscale(False)
        define(finished, layout)
        n_steps = partial.dimensions["time"].size
        for first in range(0, n_steps, layout.chunk_steps):
            rows = slice(first, min(first + layout.chunk_steps, n_steps))
            for name in ("time", "time_bnds", *layout.names):
                finished.variables[name][rows] = partial.variables[name][rows]


def _check_same(found: netCDF4.Dataset, layout: Layout, keep: int, where: str) -> None:
    """Refuse to go on with the partial file of another run."""
    n_steps = found.dimensions["time"].size if "time" in found.dimensions else 0
    if n_steps < keep:
        raise OutputError(
            f"{where}: holds {n_steps} steps, expected the {keep} before the restart file. Run from the start, without "
            "--resume."
        )
    own = layout.attributes.get(FINGERPRINTS)
    if own is not None:
        text = str(found.getncattr(FINGERPRINTS)) if FINGERPRINTS in found.ncattrs() else None
        check_fingerprints(text, own, where, OutputError)
    ids = f"{layout.dimension}_id"
    same = ids in found.variables and read_strings(found, ids, where, OutputError) == list(layout.ids)
    same = same and all(n in found.variables and found.variables[n].dtype == layout.dtype for n in layout.names)
    if not same:
        raise OutputError(
            f"{where}: holds other places, variables or precision than the output of this run. Resume with the "
            "configuration of the run that wrote it, or run from the start, without --resume."
        )


def partial_path(path: Path) -> Path:
    """Return where a file is written until it is complete: `NAME.partial`."""
    return path.with_name(f"{path.name}.partial")


@one_at_a_time
def read_output(
    path: Path, name: str, rows: slice = slice(None)
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Read one variable of an output file, or of the `.partial` of a run that did not finish.

    rows : which steps of it.

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
        first, stop, _ = rows.indices(n_steps)
        calendar = str(getattr(dataset.variables["time"], "calendar", STANDARD))
        starts = at_seconds(seconds[first:stop].astype(np.int64), NAMES_IN_FILES.get(calendar, STANDARD))
        ids = read_strings(dataset, f"{dims[1]}_id", where, OutputError)
        try:
            return starts, ids, filled(dataset.variables[name], slice(first, stop))
        except (OSError, RuntimeError) as cause:
            raise OutputError(
                f"{where}: '{name}' cannot be read ({cause}), expected a complete file. Run the model again."
            ) from cause
