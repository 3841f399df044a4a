"""Climate attributes of cells, from their forcing: the definitions of CAMELS, and the mean annual snowfall.

Addor et al. (2017), The CAMELS data set, doi:10.5194/hess-21-5293-2017, Table 2; seasonality after Woods (2009),
doi:10.1016/j.advwatres.2009.06.011, eq. 14.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, read_time, select_ids
from bmi_cdlm.names.calendars import mean_year
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.season import day_of_year, season
from bmi_cdlm.processes.cemaneige import solid_fraction

BLOCK_BYTES = 256 * 2**20
SHORTEST_CLIMATE = 365  # days
NAMES = (
    "p_mean", "pet_mean", "aridity", "t_mean", "frac_snow", "high_prec_freq", "low_prec_freq", "p_seasonality",
)
DAY = 86400
HIGH = 5.0  # times the mean daily precipitation
LOW = 1.0  # mm d-1
FREEZING = 0.0  # degC, below which CAMELS calls a day's precipitation snow


class Climate(NamedTuple):
    """One attribute of all cells, float64[cell], and what it means."""

    values: np.ndarray
    units: str
    long_name: str
    comment: str = ""


class Means(NamedTuple):
    """Sums over days. days : float64[cell], with rain (the number of values); each other float64[cell]; with air
    temperature: snow (below 0 degC) and solid (CemaNeige) precipitation, temperature.
    """

    days: np.ndarray
    rain: np.ndarray
    demand: np.ndarray
    temperature: np.ndarray
    snow: np.ndarray
    solid: np.ndarray


@one_at_a_time
def climate_of_cells(path: Path, cell_id: Sequence[str]) -> dict[str, Climate]:
    """Climate of every cell over all whole days of a forcing file, which is read twice, in blocks of time.

    Parameters
    ----------
    path : Path
        Forcing as `cdlm prepare` writes it, daily or hourly.
    cell_id : sequence of str
        Cells asked for, in this order.

    Returns
    -------
    dict of str to Climate
        p_mean, pet_mean [mm d-1], aridity, high_prec_freq, low_prec_freq [d yr-1]; with air temperature t_mean [degC],
        frac_snow, p_seasonality [1], mean_annual_snowfall [mm yr-1].

    Raises
    ------
    ForcingError
        Less than a year in the file, or a cell without any precipitation.
    """
    with open_input(path, ForcingError) as dataset:
        starts, step = read_time(dataset, str(path), ForcingError)
        columns = select_ids(
            read_strings(dataset, "cell_id", str(path), ForcingError), cell_id, "cell_id", str(path), ForcingError
        )
        days = _Days(dataset, starts, step, str(path))
        if days.count < SHORTEST_CLIMATE:
            raise ForcingError(
                f"{path}: holds {days.count} whole days, expected a year or more for climate attributes. Prepare a "
                "longer period, or set attributes.climate: false."
            )
        means = _sum(days)
        dry = np.flatnonzero(means.rain[columns] <= 0.0)
        if dry.size:
            raise ForcingError(
                f"{path}: no precipitation in {dry.size} cells, the first {cell_id[dry[0]]}, expected some for aridity "
                "and seasonality. Check the source of precipitation."
            )
        found = _describe(means, days.warm, mean_year(days.starts)) | _extremes(days, means)
        if days.warm:
            found["p_seasonality"] = _seasonality(days, means)
    return {name: one._replace(values=one.values[columns]) for name, one in found.items()}


class _Days:
    """The whole days of a forcing file, read in blocks."""

    def __init__(self, dataset: netCDF4.Dataset, starts: np.ndarray, step: int, where: str) -> None:
        self.where, self._dataset = where, dataset
        self._per_day = DAY // step
        self.count = starts.size // self._per_day
        self.starts = starts[: self.count * self._per_day : self._per_day]
        self.n_cells = dataset.dimensions["cell"].size
        self.warm = "air_temperature" in dataset.variables

    def blocks(self, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Starts of days, datetime64[s][day], and per name the day's mean, float64[day, cell]; NaN where missing."""
        length = max(1, BLOCK_BYTES // (8 * self.n_cells * self._per_day * len(names)))
        for first in range(0, self.count, length):
            stop = min(first + length, self.count)
            yield (self.starts[first:stop], *(self._read(name, first, stop) for name in names))

    def _read(self, name: str, first: int, stop: int) -> np.ndarray:
        values = filled(self._dataset.variables[name], slice(first * self._per_day, stop * self._per_day))
        return values.reshape(stop - first, self._per_day, -1).mean(axis=1)


def _sum(days: _Days) -> Means:
    means = Means(*(np.zeros(days.n_cells) for _ in Means._fields))
    names = ["precipitation", "potential_evapotranspiration"] + (["air_temperature"] if days.warm else [])
    for _, rain, demand, *rest in days.blocks(*names):
        valid = ~np.isnan(rain) & ~np.isnan(demand)
        if rest:
            valid &= ~np.isnan(rest[0])
            temperature = np.where(valid, rest[0], 0.0)
            means.temperature[:] += temperature.sum(axis=0)
            water = np.where(valid, rain, 0.0)
            means.snow[:] += (water * (temperature < FREEZING)).sum(axis=0)
            means.solid[:] += (water * _solid()(temperature)).sum(axis=0)
        means.days[:] += valid.sum(axis=0)
        means.rain[:] += np.where(valid, rain, 0.0).sum(axis=0)
        means.demand[:] += np.where(valid, demand, 0.0).sum(axis=0)
    return means


def _describe(means: Means, warm: bool, year: float) -> dict[str, Climate]:
    n = np.maximum(means.days, 1.0)
    rain = np.maximum(means.rain, 1e-300)
    found = {
        "p_mean": Climate(means.rain / n, "mm d-1", "mean precipitation"),
        "pet_mean": Climate(means.demand / n, "mm d-1", "mean potential evapotranspiration"),
        "aridity": Climate(means.demand / rain, "1", "potential evapotranspiration over precipitation"),
    }
    if warm:
        found |= {
            "t_mean": Climate(means.temperature / n, "degC", "mean air temperature"),
            "frac_snow": Climate(
                means.snow / rain, "1", "fraction of precipitation that falls on days below 0 degC"
            ),
            "mean_annual_snowfall": Climate(
                means.solid / n * year, "mm yr-1", "mean annual snowfall",
                "solid share from 1 at -1 degC to 0 at 3 degC of the daily mean, as in CemaNeige",
            ),
        }
    return found


def _extremes(days: _Days, means: Means) -> dict[str, Climate]:
    high, low = np.zeros(days.n_cells), np.zeros(days.n_cells)
    count = np.zeros(days.n_cells)
    limit = HIGH * means.rain / np.maximum(means.days, 1.0)
    for _, rain in days.blocks("precipitation"):
        count += (~np.isnan(rain)).sum(axis=0)
        high += (rain >= limit).sum(axis=0)
        low += (rain < LOW).sum(axis=0)
    per_year = mean_year(days.starts) / np.maximum(count, 1.0)
    return {
        "high_prec_freq": Climate(
            high * per_year, "d yr-1", "frequency of days with at least five times the mean daily precipitation"
        ),
        "low_prec_freq": Climate(low * per_year, "d yr-1", "frequency of days with less than 1 mm of precipitation"),
    }


def _seasonality(days: _Days, means: Means) -> Climate:
    """Fit yearly sines to precipitation and temperature about their means, and compare amplitude and phase.

    With P = mean (1 + dP sin(2 pi (t - sP) / year)) and T alike it is dP sign(dT) cos(2 pi (sP - sT) / year): positive
    where it rains most in the warm season.
    """
    n = np.maximum(means.days, 1.0)
    mean_rain, mean_temperature = means.rain / n, means.temperature / n
    normal, right_rain, right_warm = np.zeros((2, 2, days.n_cells)), *np.zeros((2, 2, days.n_cells))
    for starts, rain, temperature in days.blocks("precipitation", "air_temperature"):
        wave = season(day_of_year(starts))
        valid = ~(np.isnan(rain) | np.isnan(temperature))
        for i in range(2):
            right_rain[i] += np.where(valid, wave[:, i, None] * (rain - mean_rain), 0.0).sum(axis=0)
            right_warm[i] += np.where(valid, wave[:, i, None] * (temperature - mean_temperature), 0.0).sum(axis=0)
            for j in range(2):
                normal[i, j] += (wave[:, i] * wave[:, j]) @ valid
    (a, b), (_, d) = normal
    determinant = np.maximum(a * d - b * b, 1e-300)
    waves = [
        np.stack([d * right[0] - b * right[1], a * right[1] - b * right[0]]) / determinant
        for right in (right_rain, right_warm)
    ]
    amplitude = np.hypot(*waves[1])
    value = (waves[0] * waves[1]).sum(axis=0) / np.maximum(amplitude * mean_rain, 1e-300)
    return Climate(
        value, "1", "seasonality of precipitation",
        "positive where it peaks in the warm season, near 0 where it is even [Woods 2009, eq. 14]",
    )


@lru_cache(maxsize=1)
def _solid() -> Any:
    """The snow kernel's own solid fraction, over arrays."""
    import numba

    return numba.vectorize(["float64(float64)"])(solid_fraction)
