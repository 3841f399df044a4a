"""How long a river network takes: synthetic mountains of any size -> directions -> reaches, cells, links.

    python benchmarks/prepare.py                    # 3,000 x 3,300 pixels, many basins, then one basin
    python benchmarks/prepare.py --rows 600 --cols 600
    python benchmarks/prepare.py --rows 1850 --cols 2000 --whole    # a preparation from files: also attributes, forcing

Each case runs in a process of its own, so that the most memory that it held is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import netCDF4
import numpy as np
import rasterio
import yaml

from bmi_cdlm.prepare.network.directions import make_flow
from bmi_cdlm.prepare.network.layers import Raster
from bmi_cdlm.prepare.network.network import drain
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.network.synthetic import make_terrain
from bmi_cdlm.prepare.run import prepare

STAGES = ("terrain, filled, D8", "order and areas", "network, cells, links")


def measure(rows: int, cols: int, one_basin: bool) -> None:
    config = NetworkConfig(
        directions="synthetic", resolution="30 arcsec", cell_size="90 arcsec", extent="all"
    )
    times = [(time.perf_counter(), time.process_time())]

    def lap() -> None:
        times.append((time.perf_counter(), time.process_time()))

    terrain = make_terrain((rows, cols), 1, one_basin=one_basin, sea=0.0 if one_basin else 0.1)
    lap()
    dem = Raster(terrain.grid, terrain.elevation, np.isfinite(terrain.elevation), "synthetic terrain")
    flow = make_flow(terrain.grid, terrain.directions, config, dem)
    lap()
    drainage = drain(config, flow)
    lap()
    total = float(flow.area.ravel()[flow.inside].sum())
    print(
        f"{'one basin' if one_basin else 'many basins'}: {np.count_nonzero(flow.inside):,} pixels, "
        f"{drainage.reaches.id.size:,} reaches, {drainage.cells.id.size:,} cells, {drainage.links.area.size:,} links\n"
        + "".join(
            f"  {name:<22} {end[0] - begin[0]:6.1f} s, of the processor {end[1] - begin[1]:6.1f} s\n"
            for name, begin, end in zip(STAGES, times, times[1:], strict=False)
        ) +
        f"  most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB, links off by "
        f"{abs(drainage.links.area.sum() / total - 1):.1e} of the area",
        flush=True,
    )


def measure_whole(rows: int, cols: int) -> None:
    """`cdlm prepare` of one basin: directions, elevation and ten days of weather from files, to the three files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_inputs(folder, rows, cols)
        begin = time.perf_counter(), time.process_time()
        prepare(config)
        wall, processor = time.perf_counter() - begin[0], time.process_time() - begin[1]
        with netCDF4.Dataset(folder / "domain.nc") as dataset:
            sizes = {key: len(dataset.dimensions[key]) for key in ("reach", "cell", "link")}
    print(
        f"whole preparation: {sizes['reach']:,} reaches, {sizes['cell']:,} cells, {sizes['link']:,} links\n"
        f"  {wall:.1f} s, of the processor {processor:.1f} s, most memory "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True,
    )


def write_inputs(folder: Path, rows: int, cols: int) -> Path:
    terrain = make_terrain((rows, cols), 1, one_basin=True)
    grid = terrain.grid
    for file, values, nodata in (("flow.tif", terrain.directions, 247), ("dem.tif", terrain.elevation, -9999.0)):
        with rasterio.open(
            folder / file, "w", driver="GTiff", height=rows, width=cols, count=1, dtype=values.dtype, crs="EPSG:4326",
            transform=rasterio.Affine(grid.dx, 0, grid.left, 0, -grid.dy, grid.top), nodata=nodata,
        ) as out:
            halved = values if file == "flow.tif" else values / 2  # no mountain is higher than 9,000 m
            out.write(np.nan_to_num(halved, nan=nodata), 1)
    lon = np.arange(grid.left - 0.2, grid.left + cols * grid.dx + 0.2, 0.1)
    lat = np.arange(grid.top + 0.2, grid.top - rows * grid.dy - 0.2, -0.1)
    with netCDF4.Dataset(folder / "weather.nc", "w") as out:
        for dim, axis, units in (("time", np.arange(10), "days since 2000-01-01"), ("latitude", lat, "degrees_north"),
                                 ("longitude", lon, "degrees_east")):
            out.createDimension(dim, axis.size)
            coordinate = out.createVariable(dim, "f8", (dim,))
            coordinate.units, coordinate[:] = units, axis
        for short, units, value in (("pr", "mm d-1", 3.0), ("tas", "K", 285.0)):
            field = out.createVariable(short, "f4", ("time", "latitude", "longitude"))
            field.units, field[:] = units, value
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "start": "2000-01-01", "end": "2000-01-11", "prepare": {
            "network": {"directions": "flow.tif", "elevation": "dem.tif", "extent": "all", "resolution": "30 arcsec",
                        "cell_size": "90 arcsec"},
            "attributes": {"elevation": {"source": "dem.tif"}},
            "forcing": {"precipitation": {"source": "weather.nc"}, "air_temperature": {"source": "weather.nc"}},
            "pet": {"method": "oudin"},
        },
    }
    (folder / "case.yaml").write_text(yaml.safe_dump(content))
    return folder / "case.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--cols", type=int, default=3300)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    shape = arguments.rows, arguments.cols
    for target, more in (((measure_whole, ()),) if arguments.whole else ((measure, (False,)), (measure, (True,)))):
        worker = multiprocessing.get_context("spawn").Process(target=target, args=(*shape, *more))
        worker.start()
        worker.join()
        if worker.exitcode:
            raise SystemExit(worker.exitcode)


if __name__ == "__main__":
    main()
