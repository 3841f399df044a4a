"""How long a river network takes: synthetic mountains of any size -> directions -> reaches, cells, links.

    python benchmarks/prepare.py                    # 3,000 x 3,300 pixels, many basins, then one basin
    python benchmarks/prepare.py --rows 600 --cols 600

Each case runs in a process of its own, so that the most memory that it held is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import numpy as np

from bmi_cdlm.prepare.network.directions import make_flow
from bmi_cdlm.prepare.network.layers import Raster
from bmi_cdlm.prepare.network.network import drain
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.network.synthetic import make_terrain

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--cols", type=int, default=3300)
    arguments = parser.parse_args()
    for one_basin in (False, True):
        worker = multiprocessing.get_context("spawn").Process(
            target=measure, args=(arguments.rows, arguments.cols, one_basin)
        )
        worker.start()
        worker.join()
        if worker.exitcode:
            raise SystemExit(worker.exitcode)


if __name__ == "__main__":
    main()
