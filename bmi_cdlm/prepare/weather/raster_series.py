"""Fields in time from rasters that are named by their stamp, or numbered."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmi_cdlm.names.calendars import date_text, differs, moments
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import geotiff_grid, open_geotiff, read_band
from bmi_cdlm.prepare.packages import load, resolve
from bmi_cdlm.prepare.weather.curved import CurvedGrid
from bmi_cdlm.prepare.weather.fields import Places, Window, size_of, stat_of, window_around
from bmi_cdlm.prepare.weather.weather_config import ForcingSource

DAY = 86400
STACK_NAME, STACK_PLACES = 8, 11


def stack_name(prefix: str, number: int) -> str:
    """Path of a map of a PCRaster stack: eight and three places, of which the number fills what the prefix leaves."""
    folder, slash, name = prefix.rpartition("/")
    text = name + str(number).zfill(STACK_PLACES - len(name))
    if len(text) > STACK_PLACES or len(name) > STACK_NAME:
        raise ForcingError(
            f"{prefix}: no name of 8 and 3 places for map {number} of a stack, expected a prefix of up to {STACK_NAME} "
            "letters. Shorten it, or name rasters by their stamps."
        )
    return f"{folder}{slash}{text[:STACK_NAME]}.{text[STACK_NAME:]}"


class RasterFiles:
    """Rasters named by their stamp, or a stack of PCRaster, numbered from 1."""

    cell_methods = ""

    def __init__(self, source: ForcingSource, folder: Path, model_step: int) -> None:
        if len(source.source) > 1:
            raise ForcingError(f"{', '.join(source.source)}: expected one path with fields of strftime. Name one.")
        self.where, self.units = source.source[0], source.units
        self.step = DAY if source.interannual else (source.step or model_step)
        self._source, self._folder = source, folder
        self._paths: list[Path | None] = []
        self._sources, self.n_read = np.zeros(0, np.int64), 0
        self._window: Window = (slice(0), slice(0))
        self.shape: Grid | CurvedGrid | Places = Grid(0.0, 0.0, 1.0, 1.0, 0, 0, "")

    def want(self, starts: np.ndarray) -> np.ndarray:
        """Find the raster of every interval; ForcingError before the first is read."""
        shift = {"start": 0, "middle": self.step // 2, "end": self.step}[self._source.stamp or "start"]
        clock = np.timedelta64(shift + round(self._source.utc_offset * 3600), "s")
        stamps = starts + clock
        declared = np.isin(stamps, np.array(list(self._source.missing), "datetime64[s]"))
        paths = self._named(stamps)
        there = [path.is_file() for path in paths]
        absent = [i for i, one in enumerate(there) if not one and not declared[i]]
        if absent:
            raise ForcingError(
                f"{paths[absent[0]]}: there is no such raster ({len(absent)} of {len(paths)} are absent), "
                f"expected one for the stamp {date_text(stamps[absent[0]])}. Restore it, or declare its stamp as "
                "`missing`."
            )
        self._paths = [path if one else None for path, one in zip(paths, there, strict=True)]
        first = next((path for path in self._paths if path is not None), None)
        if first is None:
            raise ForcingError(
                f"{self.where}: all stamps are declared missing, expected some rasters. Correct `missing`."
            )
        with open_geotiff(first, ForcingError) as raster:
            self.shape = geotiff_grid(raster, self._source.crs, str(first), ForcingError)
        return ~np.array(there)

    def _named(self, stamps: np.ndarray) -> list[Path]:
        """Paths of the rasters of some stamps."""
        begin = self._source.first_step
        if begin is None:
            return [resolve(moment.strftime(self.where), self._folder) for moment in moments(stamps)]
        other = differs(begin, stamps)
        if other:
            raise ForcingError(f"{self.where}: first_step {other}")
        numbers, rest = np.divmod((stamps - begin).astype(np.int64), self.step)
        if rest.any():
            raise ForcingError(
                f"{self.where}: steps of {self.step} s from first_step, {date_text(begin)}, do not begin at "
                f"{date_text(stamps[rest.argmax()])}. Expected the same day boundary. Correct first_step or step."
            )
        if numbers[0] < 0:
            raise ForcingError(
                f"{self.where}: begins at first_step, {date_text(begin)}, expected an interval from "
                f"{date_text(stamps[0])}. Correct it, or the period."
            )
        return [resolve(stack_name(self.where, number + 1), self._folder) for number in numbers.tolist()]

    def select(self, sources: np.ndarray) -> None:
        """Read the window around these pixels from now on."""
        self._sources, self._window = window_around(sources, self._grid)
        self.n_read = size_of(self._window)

    @property
    def _grid(self) -> Grid:
        assert isinstance(self.shape, Grid)
        return self.shape

    def read(self, first: int, stop: int) -> np.ndarray:
        """Read wanted intervals; a raster on another grid than the first is an error."""
        values = np.full((stop - first, self._sources.size), np.nan)
        with load("rasterio").Env():  # once for all files, not once for each
            for k, path in enumerate(self._paths[first:stop]):
                if path is not None:
                    values[k] = self._read_one(path).ravel()[self._sources]
        return values

    def _read_one(self, path: Path) -> np.ndarray:
        with open_geotiff(path, ForcingError) as raster:
            transform = (raster.transform[2], raster.transform[5], raster.transform[0], -raster.transform[4])
            if not np.allclose(transform, self._grid[:4], rtol=0, atol=1e-3 * self._grid.dx) or (
                (raster.height, raster.width) != self._grid.shape
            ):
                raise ForcingError(
                    f"{path}: has {raster.height} by {raster.width} pixels with a corner at {transform[:2]}, expected "
                    f"{self._grid.n_rows} by {self._grid.n_cols} at {self._grid[:2]} as in the first raster. "
                    "Resample it."
                )
            return read_band(raster, self._window)

    def fingerprint(self) -> list[str]:
        """Names, sizes and times of the files."""
        return [stat_of(path) for path in self._paths if path is not None]
