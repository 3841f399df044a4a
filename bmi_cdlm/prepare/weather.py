"""Forcing from series of rasters, one per step or one per day of an average year."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.errors import ForcingError
from bmi_cdlm.prepare.gauges import Stamp
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.prepare.rasters import Pixels, read_pixels

DAY = 86400
HOUR = 3600
_MORNING = (0.0,) * 6 + (0.035, 0.062, 0.079, 0.097, 0.110, 0.117)
# Share of a day's potential evapotranspiration that falls in each hour, 00-01 UTC first [SPEC 3.1].
HOURLY_SHARES = _MORNING + _MORNING[::-1]


class RasterSeries(NamedTuple):
    """Where the rasters of a variable are and what they hold.

    pattern : path below the case's folder, with strftime fields for the stamp; factor : from raster
    values to mm d-1; stamp : the end of a step that the file name marks; missing : stamps (ISO) that the
    source is known to lack; interannual : one raster per day of an average year, spread over the hours.
    """

    pattern: str
    factor: float = 1.0
    stamp: Stamp = "start"
    missing: tuple[str, ...] = ()
    interannual: bool = False


class Series(NamedTuple):
    """A variable. values : float32[time, cell] [mm d-1]; missing : datetime64[s], starts left NaN."""

    values: np.ndarray
    missing: np.ndarray


def read_series(root: Path, series: RasterSeries, starts: np.ndarray, step: int, pixels: Pixels) -> Series:
    """Read a series of rasters at the pixels, as rates in mm d-1.

    Parameters
    ----------
    root : Path
        The folder below which `series.pattern` lies.
    starts : datetime64[s][time]
        Starts of the steps.
    step : int
        Length of a step [s].

    Raises
    ------
    ForcingError
        No raster for a step that is not declared missing, a raster off the grid, values that are nodata
        or negative at a pixel.
    """
    if series.interannual:
        days, which = np.unique(starts.astype("datetime64[D]"), return_inverse=True)
        daily = _read_stamps(root, series, days.astype("datetime64[s]"), pixels)
        values = spread_over_day(daily[which], starts, step)
    else:
        values = _read_stamps(root, series, stamps_of(starts, step, series.stamp), pixels)
    return Series(values.astype(np.float32), starts[np.isnan(values).any(axis=1)])


def stamps_of(starts: np.ndarray, step: int, stamp: Stamp) -> np.ndarray:
    """Return the stamps (datetime64[s][time]) that files carry for steps with these starts."""
    return starts + np.timedelta64(step if stamp == "end" else 0, "s")


def day_shares(step: int) -> np.ndarray:
    """Return the share of a day's potential evapotranspiration in each step of the day, float64[24 h / step].

    The shares of the hours are divided by their exact sum, so that a day keeps its total to the last bit
    that rounding allows. `step` [s] is a whole number of hours that divides a day.
    """
    if step % HOUR or DAY % step:
        raise ForcingError(
            f"potential evapotranspiration: a day cannot be spread over steps of {step} s, expected whole "
            "hours that divide a day. Choose another step."
        )
    shares = np.array(HOURLY_SHARES) / math.fsum(HOURLY_SHARES)
    return shares.reshape(-1, step // HOUR).sum(axis=1)


def spread_over_day(daily: np.ndarray, starts: np.ndarray, step: int) -> np.ndarray:
    """Return the rates [mm d-1] of steps from the rates of the days that they lie in, float64[time, cell]."""
    into_day = (starts - starts.astype("datetime64[D]")).astype("timedelta64[s]").astype(np.int64)
    rate = day_shares(step) * (DAY / step)
    return daily * rate[into_day // step][:, None]


def _read_stamps(root: Path, series: RasterSeries, stamps: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Read the raster of each stamp: float64[stamp, pixel], NaN for those declared missing and absent."""
    paths = _find_rasters(root, series, stamps)
    values = np.full((stamps.size, pixels.row.size), np.nan)
    with load("rasterio").Env():  # once for all files, not once for each
        for i, path in enumerate(paths):
            if path is not None:
                values[i] = read_pixels(path, pixels, ForcingError) * series.factor
                _check_rates(values[i], path, pixels)
    return values


def _find_rasters(root: Path, series: RasterSeries, stamps: np.ndarray) -> list[Path | None]:
    """Paths of all stamps, None for one declared missing; ForcingError before the first is read."""
    declared = {datetime.fromisoformat(stamp) for stamp in series.missing}
    moments: list[datetime] = stamps.astype("datetime64[s]").astype(datetime).tolist()
    paths = [root / moment.strftime(series.pattern) for moment in moments]
    present = [path.is_file() for path in paths]
    absent = [i for i, there in enumerate(present) if not there and moments[i] not in declared]
    if absent:
        raise ForcingError(
            f"{paths[absent[0]]}: there is no such raster ({len(absent)} of {len(paths)} are absent), "
            f"expected one for the stamp {moments[absent[0]].isoformat()}. Restore it, or declare its stamp "
            "as missing."
        )
    return [path if there else None for path, there in zip(paths, present, strict=True)]


def _check_rates(rates: np.ndarray, path: Path, pixels: Pixels) -> None:
    bad = np.flatnonzero(~(rates >= 0))
    if bad.size:
        i = int(bad[0])
        shown = "nodata" if np.isnan(rates[i]) else f"{rates[i]:g} mm d-1"
        raise ForcingError(
            f"{path}: {shown} at pixel {pixels.ids[i]} ({bad.size} such pixels of the basin), expected a "
            "number from 0 up. Fill the raster, or remove it and declare its stamp as missing."
        )
