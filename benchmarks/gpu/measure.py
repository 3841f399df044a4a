"""One call that builds, checks and times the CUDA operators: `python benchmarks/gpu/measure.py [--help]`.

Needs a CUDA device and numba-cuda (`pip install -e ".[gpu]"`), and refuses without. First every operator is
compared with the CPU on small cases, then a made-up country is timed. `least` is the time that the bytes take
which must pass through the device's memory, at the speed at which the same run copies a large array:
runoff: rain and demand read, runoff written; backwards they are read again with the adjoint of runoff, and that of
rain is written; of snow, none is. Routing, per sub-step: the outflow written, and read by the reach
below; backwards the same again, a tape of two numbers written and read, and the adjoint of the inflow written and
read. All else is overhead.
HBV 2.0 of hydrodl2 runs beside where it is installed, on as many units and days as the cells here, or as many as fit.

`--simulated`, under NUMBA_ENABLE_CUDASIM=1 and with small numbers, goes through all of it on the host; its times mean
nothing. `epoch.py` beside this file times an epoch of a training.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import config, cuda

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from kernel_cases import in_routing_order, random_river, random_weather

from bmi_cdlm.domain.domain import Cells, Domain, Gauges, Links, Reaches
from bmi_cdlm.kernels.device.launch import empty_device_array, to_device
from bmi_cdlm.model.operators_cuda import CudaOperators
from bmi_cdlm.names.declaration import LIQUID_WATER, RUNOFF
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.catalogue import choose

ROOT = Path(__file__).resolve().parents[2]
N_SUB = 24
GAUGES = 1000
DIFFERENT_CELLS = 20_000
NUMBERS = {
    "snow": {"forward": 3, "forward + backward": 6}, "runoff": {"forward": 3, "forward + backward": 7},
    "routing": {"forward": 2, "forward + backward": 10},
}


CHAIN = choose("cemaneige_hysteresis")
BOUNDS = {
    "production_capacity": (100, 900), "exchange_coefficient": (-2, 1), "routing_capacity": (20, 300),
    "unit_hydrograph_base": (0.5, 4), "thermal_weighting": (0.1, 0.9), "melt_factor": (2, 6),
    "accumulation_threshold": (30, 200), "cover_ratio_threshold": (0.1, 0.8),
}
PLACES = {"unit_hydrograph_1": 4, "unit_hydrograph_2": 8}


class Row(NamedTuple):
    """One measurement: `work` cell-days or reach-steps in `seconds`; `numbers`: read or written for each, at least.

    numbers is 0 for a peer.
    """

    name: str
    unit: str
    precision: str
    work: int
    seconds: float
    numbers: float


class Meter:
    """Allocates on the device and knows how much is in use."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = empty_device_array(shape, dtype)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(array, self._free, size)
        return array

    def _free(self, size: int) -> None:
        self.now -= size


class Country(NamedTuple):
    """A domain and its inputs on the device, at one precision; parameters by registry name."""

    domain: Domain
    operators: CudaOperators
    meter: Meter
    series: dict[str, Any]
    adjoints: dict[str, Any]
    cells: dict[str, Any]
    reaches: dict[str, Any]
    at: np.ndarray


def make_domain(n_cells: int, n_reaches: int) -> Domain:
    """One river with all reaches, each fed by one cell; a cell feeds neighbouring reaches."""
    downstream = in_routing_order(random_river(3, (n_reaches + 1) // 2))
    n = downstream.size
    names, zero, area = [str(i) for i in range(n_cells)], np.zeros(n_cells), np.full(n_cells, 9.0)
    reach_zero, reach_area = np.zeros(n), np.full(n, 9.0 * n_cells / n)
    return Domain(
        Cells(names, zero, zero, area, area, np.zeros((n_cells, 4)), np.zeros((n_cells, 4)), np.full(n_cells, 100.0),
              np.full(n_cells, 500.0), area),
        Reaches([str(i) for i in range(n)], downstream, reach_zero, reach_zero, reach_area, reach_area, reach_zero,
                reach_zero),
        Links(np.arange(n + 1), np.arange(n) * n_cells // n, reach_area),
        Gauges([], [], np.zeros(0, np.int64), np.zeros(0)), np.arange(n),
    )


def make_country(domain: Domain, n_days: int, dtype: type, tile: int) -> Country:
    rng, n = np.random.default_rng(4), domain.n_cells
    weather = random_weather(5, n_days, min(n, DIFFERENT_CELLS))
    column = np.arange(n) % weather.precipitation.shape[1]
    season = 8.0 - 12.0 * np.cos(2 * np.pi * np.arange(n_days) / 365.25)[:, None]
    at = rng.choice(domain.n_reaches, min(GAUGES, domain.n_reaches), replace=False)
    meter = Meter()

    def send(values: np.ndarray) -> Any:
        return to_device(np.ascontiguousarray(values, dtype))

    series = {
        "precipitation": send(weather.precipitation[:, column]),
        "potential_evapotranspiration": send(weather.potential_evapotranspiration[:, column]),
        "air_temperature": send(season + rng.normal(0, 2, (1, n))),
    }
    # Any numbers do for what comes back from the process below.
    demand = series["potential_evapotranspiration"]
    return Country(
        domain, CudaOperators(CHAIN, domain, DAY, DAY // N_SUB, dtype, tile=tile, empty=meter), meter, series,
        {"snow": demand, "runoff": demand, "routing": send(rng.normal(size=(n_days, at.size)))},
        {name: send(rng.uniform(*b, n)) for name, b in BOUNDS.items()},
        {"travel_time": send(rng.lognormal(np.log(3600.0), 1.0, domain.n_reaches)),
         "weighting": send(np.full(domain.n_reaches, 0.2))}, at,
    )


def stages(country: Country) -> dict[str, Callable[[bool], None]]:
    """Snow, runoff and routing, each to be run forward, or forward and backward; later ones use earlier results."""
    ops, series = country.operators, dict(country.series)
    wanted = {"snow": (), "runoff": (LIQUID_WATER,)}

    def advance(name: str, operator: Any, backward: bool) -> None:
        own = {p.name: country.cells[p.name] for p in operator.process.parameters if p.name in country.cells}
        p = operator.prepare(own, PLACES)
        series[operator.gives], record = operator.run(series, p, operator.start(p))
        if backward:
            state_adj = operator.empty_state(record)
            _, p_adj = operator.reverse(record, country.adjoints[name], state_adj, wanted[name])
            operator.prepare_adjoint(p, p_adj, state_adj)

    def route(backward: bool) -> None:
        reach, n = ops.reach, country.domain.n_reaches
        p = reach.prepare(country.reaches)
        _, record = reach.run(series[RUNOFF], p, ops.memory.full(0.0, n), country.at)
        if backward:
            _, p_adj = reach.reverse(record, country.adjoints["routing"], ops.memory.full(0.0, n))
            reach.prepare_adjoint(p, p_adj)

    snow, runoff = ops.cells
    return {"snow": partial(advance, "snow", snow), "runoff": partial(advance, "runoff", runoff), "routing": route}


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """Median time on the wall, the device's work included, after one run that compiles."""
    taken = []
    for k in range(-1, repeats):
        cuda.synchronize()
        begin = time.perf_counter()
        run()
        cuda.synchronize()
        if k >= 0:
            taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def copy_speed(n_bytes: int = 2**30) -> float:
    """Bytes read plus bytes written per second by a large copy on the device: the ceiling."""
    source, target = (cuda.device_array(n_bytes // 4, np.float32) for _ in range(2))
    source.copy_to_device(np.random.default_rng(0).random(n_bytes // 4, np.float32))
    return 2 * n_bytes / seconds_of(lambda: target.copy_to_device(source), 10)


def measure(country: Country, n_days: int, repeats: int) -> list[Row]:
    rows, precision = [], np.dtype(country.operators.dtype).name
    n_sub_steps = n_days * N_SUB * country.domain.n_reaches
    cell_days = n_days * country.domain.n_cells
    for name, run in stages(country).items():
        for direction, numbers in NUMBERS[name].items():
            seconds = seconds_of(lambda run=run, d=direction: run(d != "forward"), repeats)
            unit, work = ("reach-steps", n_sub_steps) if name == "routing" else ("cell-days", cell_days)
            rows.append(Row(f"{name}, {direction}", unit, precision, work, seconds, numbers))
    return rows


def measure_hbv(n_units: int, n_days: int, repeats: int, device: str) -> list[Row]:
    """hydrodl2's HBV 2.0 on the same device; on half the units as long as its gradient does not fit."""
    import torch
    from hbv import Hbv

    while True:
        few = random_weather(5, n_days, min(n_units, DIFFERENT_CELLS))
        column = np.arange(n_units) % few.precipitation.shape[1]
        season = 8.0 - 12.0 * np.cos(2 * np.pi * np.arange(n_days) / 365.25)[:, None]
        temperature = season + np.random.default_rng(4).normal(0, 2, (1, n_units))
        try:
            peer = Hbv(few.precipitation[:, column], few.potential_evapotranspiration[:, column], temperature, device)
            seconds = [seconds_of(run, repeats) for run in (peer.forward, peer.both)]
        except torch.cuda.OutOfMemoryError:
            peer, n_units = None, n_units // 2
            torch.cuda.empty_cache()
            continue
        assert np.isfinite(peer.runoff).all()
        assert np.isfinite(peer.gradient).all()
        return [
            Row(f"hydrodl2 HBV 2.0, {direction}", "unit-days", "float32", n_units * n_days, s, 0)
            for direction, s in zip(NUMBERS["runoff"], seconds, strict=True)
        ]


def check() -> None:
    """Every operator on small cases, beside the CPU, in a process of its own."""
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests/kernels/test_cuda.py")]
    if subprocess.run(tests, cwd=ROOT, check=False).returncode:
        sys.exit("the device does not agree with the CPU (above): nothing is timed")


def report(rows: list[Row], ceiling: float) -> None:
    print(f"{'':40}{'':10}{'million/s':>24}{'seconds':>10}{'least':>10}{'of ceiling':>12}")
    for row in rows:
        least = row.work * row.numbers * np.dtype(row.precision).itemsize / ceiling
        share = f"{least:10.4f}{least / row.seconds:12.1%}" if row.numbers else ""
        print(f"{row.name:40}{row.precision:10}{row.work / row.seconds / 1e6:12.1f} {row.unit:11}{row.seconds:10.4f}"
              f"{share}")


def needs_device(simulated: bool) -> None:
    """Go no further without a device, but under the simulator where that was asked for."""
    if bool(config.ENABLE_CUDASIM) if simulated else cuda.is_available() and not config.ENABLE_CUDASIM:
        return
    if simulated:
        sys.exit("--simulated needs numba's simulator: set NUMBA_ENABLE_CUDASIM=1.")
    sys.exit(
        "no CUDA device here (numba.cuda.is_available() is false, or the simulator is on): nothing to measure. "
        "Run this on a machine with an NVIDIA GPU and its driver, after pip install -e '.[gpu]'."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=600_000)
    parser.add_argument("--reaches", type=int, default=600_001, help="5400001 is the density of a national network")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--tile", type=int, default=N_SUB, help="routing sub-steps that a thread takes at once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", choices=("float32", "float64"), default=["float32", "float64"])
    parser.add_argument("--simulated", action="store_true", help="small numbers, on numba's simulator")
    options = parser.parse_args()
    needs_device(options.simulated)
    if not options.simulated:
        check()
    ceiling = copy_speed(2**16 if options.simulated else 2**30)
    name = "simulator" if options.simulated else cuda.get_current_device().name
    print(f"{name}: copies at {ceiling / 1e9:.0f} GB/s, read and written")
    domain = make_domain(options.cells, options.reaches)
    rows = []
    for name in options.precisions:
        country = make_country(domain, options.days, np.dtype(name).type, options.tile)
        waves = country.operators.waves(options.days)
        rows += measure(country, options.days, options.repeats)
        print(f"{name}: {domain.n_cells} cells and {domain.n_reaches} reaches over {options.days} days; routing in "
              f"{waves.n_waves} launches forward and twice as many backward; arrays made by the operators at most "
              f"{country.meter.peak / 1e9:.2f} GB")
        del country
    missing = [name for name in ("torch", "hydrodl2") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"hydrodl2's HBV is left out: {', '.join(missing)} not installed (pip install 'bmi-cdlm[peers]')")
    else:
        rows += measure_hbv(options.cells, options.days, options.repeats, "cpu" if options.simulated else "cuda")
    report(rows, ceiling)


if __name__ == "__main__":
    main()
