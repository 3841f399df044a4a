"""A year of daily forcing for a country of cells, streamed: time and peak memory.

python benchmarks/prepare_forcing.py [cells along a side, default 1000] [memory of forcing in GB, default 2] [method]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import netCDF4
import numpy as np

from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig

DAYS = 365
SIZE = 0.03  # degrees, a cell
WEATHER = 0.1  # degrees, as ERA5-Land
FIELDS = {  # name: units, mean, amplitude
    "tp": ("m", 0.003, 0.003), "t2m": ("K", 285.0, 10.0), "tasmin": ("K", 280.0, 4.0), "tasmax": ("K", 291.0, 4.0),
    "d2m": ("K", 278.0, 2.0), "ssrd": ("J m**-2", 1.5e7, 5e6), "si10": ("m s**-1", 3.0, 2.0),
}


def cells_of(n: int) -> Drainage:
    grid = Grid(100.0, 45.0, SIZE, SIZE, n, n, "EPSG:4326")
    row, col = (index.ravel() for index in np.indices(grid.shape))
    area = np.repeat(grid.row_areas(), n)
    cells = Cells(grid.ids(row, col), *grid.lonlat(row, col), area, *grid.corners(row, col), grid, row, col)
    index = np.arange(n * n)
    zeros = np.zeros(n * n)
    reaches = Reaches(cells.id, zeros - 1, zeros, zeros, area, area, cells.lon, cells.lat, index, zeros)
    where = index.reshape(grid.shape).astype(np.int32)
    return Drainage(Catchments(grid, where, where, grid.row_areas()), reaches, cells, Links(index, index, area))


def write_weather(path: Path, n: int) -> None:
    lon, lat = (np.arange(start, start + n * SIZE + 1.0, WEATHER) for start in (99.5, 44.5 - n * SIZE))
    rng = np.random.default_rng(1)
    with netCDF4.Dataset(path, "w") as dataset:
        for name, axis, units in (("latitude", lat, "degrees_north"), ("longitude", lon, "degrees_east")):
            dataset.createDimension(name, axis.size)
            coordinate = dataset.createVariable(name, "f8", (name,))
            coordinate.units = units
            coordinate[:] = axis
        dataset.createDimension("time", DAYS)
        times = dataset.createVariable("time", "i4", ("time",))
        times.units = "days since 2020-01-01"
        times[:] = np.arange(DAYS)
        for name, (units, mean, amplitude) in FIELDS.items():
            variable = dataset.createVariable(name, "f4", ("time", "latitude", "longitude"), zlib=True, complevel=1)
            variable.units = units
            for day in range(DAYS):
                variable[day] = mean + amplitude * (2.0 * rng.random((lat.size, lon.size), np.float32) - 1.0)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    memory = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    method = sys.argv[3] if len(sys.argv) > 3 else "fao56"
    plain = {"source": "weather.nc"}
    total = {"source": "weather.nc", "kind": "total"}
    forcing = ForcingConfig(
        precipitation=total, air_temperature=plain, minimum_temperature=plain, maximum_temperature=plain,
        dewpoint_temperature=plain, shortwave_radiation=total, wind_speed=plain, memory=memory,
    )
    starts = np.datetime64("2020-01-01", "s") + np.arange(DAYS) * np.timedelta64(86400, "s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weather(folder / "weather.nc", n)
        drainage = cells_of(n)
        target = Target(drainage, [], np.zeros(0, np.int64), np.full(n * n, 300.0))
        begin = time.perf_counter()
        weather = Weather(forcing, PetConfig(method=method))
        write_forcing(folder / "forcing.nc", weather, target, Steps(starts, 86400), folder, {})
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        size = (folder / "forcing.nc").stat().st_size / 1e9
        print(f"{n * n} cells, {DAYS} days, {method}: {seconds:.0f} s, peak memory {peak:.2f} GB, file {size:.2f} GB")


if __name__ == "__main__":
    main()
