"""A country for a year: runoff and routing of 9.6 million reaches on two cores; a few minutes.

`python benchmarks/national.py` runs the year and checks it; with `growth` it runs 0.1, 1 and 10 million reaches and 1,
2 and 4 years, each in a process of its own, and draws national.png; with `decades` 40 years of 180,000 cells and
reaches (`--runoff hbv --components 4 --routing muskingum_cunge --days 146`: a hundredth of that, as dHBV 2.0); with
`threads` it routes rivers of several shapes on one core and on two. README.md beside this file says what is measured.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import netCDF4
import numpy as np
from domains import random_country
from forward import machine
from kernel_cases import in_routing_order, random_river, routing_arguments, routing_case
from numba import njit
from rich.console import Console
from rich.table import Table
from timing import interleave

from bmi_cdlm.domain.domain import Domain, cut
from bmi_cdlm.domain.network import NetworkPlan, accumulate_downstream, plan_network
from bmi_cdlm.files.output import OutputFile
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.parameters import parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose

START = np.datetime64("2001-01-01", "s")
GROWTH_REACHES, GROWTH_YEARS = (100_000, 1_000_000, 10_000_000), (1, 2, 4)
CHASE_CORE_HOURS = 192.0
"""One year of China in CHASE: 2 h on 96 cores."""
STEADY_DAYS = 10
DIGITS = 3
WEATHER_SEED = 3
DECADES = 180_000
"""Cells and reaches of the run of decades: the units of dHBV 2.0 in the conterminous United States."""
SUB_BASIN = (1_000, 200_000)
"""Reaches of the sub-basin that is run again by itself."""
console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)


class Sizes(NamedTuple):
    """What to run. memory: of a block [bytes]; components: parameter sets of the runoff process."""

    reaches: int = 9_600_000
    cells: int = 1_070_000
    days: int = 365
    gauges: int = 1000
    threads: int = 2
    memory: int = 2**30
    runoff: str = "gr4j"
    routing: str = "muskingum"
    components: int = 1

    def make_model(self, domain: Domain, parameters: dict[str, np.ndarray], threads: int = 1) -> Model:
        """A daily model with hourly routing."""
        return Model(
            domain, parameters, step=DAY, routing_step=HOUR, threads=threads, runoff=self.runoff, routing=self.routing,
            components={self.runoff: self.components},
        )


class Result(NamedTuple):
    """Seconds of each part, peak memory of the process [bytes], and what was found out on the way.

    processor: seconds of all cores together during the run; other programs do not show in it.
    """

    sizes: Sizes
    domain: float
    model: float
    weather: float
    run: float
    processor: float
    check: float
    peak: int
    facts: list[str]


@njit
def mixed(x):
    """A number from 0 to 1 that looks random, of a whole number [Steele et al. 2014]."""
    z = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@njit(nogil=True)
def fill_weather(seed, day, cell, storm, rain, demand, lo, hi):
    """Rain of storms some 150 km wide and demand with the seasons, float64[time, cell], of the cells `cell[lo:hi]`."""
    for t in range(rain.shape[0]):
        season = 2.0 - 1.5 * np.cos(2 * np.pi * (day + t) / 365.25)
        for i in range(lo, hi):
            strength = mixed(((seed * 100_000 + day + t) << 32) + 2 * storm[i])
            noise = mixed(((seed * 100_000 + day + t) << 32) + 2 * cell[i] + 1)
            rain[t, i] = 40.0 * (strength - 0.6) * (0.5 + noise) if strength > 0.6 else 0.0
            demand[t, i] = season * (0.8 + 0.4 * noise)


class RandomWeather:
    """Weather that depends on day and cell only, so that a part of the cells gets that of the whole."""

    def __init__(self, domain: Domain, threads: int) -> None:
        self.lat = domain.cells.lat
        self.cell = np.array(domain.cells.id, np.int64)
        self.storm = (domain.cells.lat // 1.5).astype(np.int64) * 1000 + (domain.cells.lon // 1.5).astype(np.int64)
        self.workers, self.seconds = Workers(threads), 0.0

    def read(self, first: int, count: int) -> Forcing:
        """Some days from `first` on."""
        begin = time.perf_counter()
        rain, demand = np.empty((2, count, self.cell.size))
        arguments = (WEATHER_SEED, first, self.cell, self.storm, rain, demand)
        self.workers.run(fill_weather, arguments, self.workers.tasks(self.cell.size), rain.size)
        season = -12.0 * np.cos(2 * np.pi * (first + np.arange(count)) / 365.25)
        warmth = season[:, None] + (12.0 - 0.3 * (self.lat - 40.0))
        self.seconds += time.perf_counter() - begin
        return Forcing(rain, demand, warmth)


def random_parameters(domain: Domain, sizes: Sizes) -> dict[str, np.ndarray]:
    """Parameters of every cell and reach, drawn."""
    rng = np.random.default_rng(5)
    n = domain.n_cells
    if (sizes.runoff, sizes.routing) != ("gr4j", "muskingum"):
        chain, found = choose("none", sizes.runoff, sizes.routing), {}
        for process in (chain.cells[-1], chain.reach):
            shape = (domain.n_reaches,) if process is chain.reach else (sizes.components, n)
            for p in process.parameters:
                if not p.optional and p.name not in process.left_at_default:
                    low, high, _ = p.range_at(DAY)
                    found[p.name] = rng.uniform(low, high, shape if shape[0] > 1 else shape[1:])
        return found
    return {
        "production_capacity": rng.uniform(100, 900, n), "exchange_coefficient": rng.uniform(-2, 1, n),
        "routing_capacity": rng.uniform(20, 300, n), "unit_hydrograph_base": rng.uniform(0.5, 4, n),
        "celerity": rng.lognormal(0.0, 0.4, domain.n_reaches), "weighting": rng.uniform(0, 0.4, domain.n_reaches),
    }


def run_country(sizes: Sizes, folder: Path, *, checked: bool = True, every_reach: bool = False) -> Result:
    """Make a domain, run it, and check the water balance and a sub-basin.

    every_reach: write the discharge of all reaches, rounded to three digits, in place of that at the gauges.
    """
    begin = time.perf_counter()
    domain = random_country(1, sizes.reaches, sizes.cells, sizes.gauges)
    slope = np.random.default_rng(2).lognormal(np.log(1e-3), 1.0, domain.n_reaches)
    domain = domain._replace(reaches=domain.reaches._replace(slope=slope))
    parameters = random_parameters(domain, sizes)
    made = time.perf_counter()
    model = sizes.make_model(domain, parameters, sizes.threads)
    weather = RandomWeather(domain, sizes.threads)
    model.fill_rivers(weather.read(0, STEADY_DAYS))
    stored = float(model.live["water_stored"][0])
    ready = time.perf_counter()
    weather.seconds, processor = 0.0, time.process_time()
    path = folder / "national.nc"
    kept = "discharge" if every_reach else "gauge_discharge"
    length = model.block_length(sizes.memory, (kept,), more=2 * 8 * domain.n_cells)
    written = (
        OutputFile(path, "reach", domain.reaches.id, ("discharge",), DAY, {}, precision=DIGITS) if every_reach
        else OutputFile(path, "gauge", domain.gauges.id, ("discharge",), DAY, {})
    )
    with written as output:
        for first in range(0, sizes.days, length):
            count = min(length, sizes.days - first)
            series = model.advance(weather.read(first, count), (kept,))
            starts = START + np.arange(first, first + count) * np.timedelta64(DAY, "s")
            output.append(starts, {"discharge": series[kept]})
        output.flush()
        raw, stepped = output.partial.stat().st_size, time.perf_counter() - ready
    done, processor = time.perf_counter(), time.process_time() - processor
    facts = [describe(domain, model, length), balance(model, stored)]
    facts.append(
        f"output: {stepped:.0f} s until {raw / 1e9:.3g} GB were readable, {done - ready:.0f} s until they were "
        f"compressed to {path.stat().st_size / 1e9:.3g} GB"
    )
    if checked:
        facts.append(check_sub_basin(domain, parameters, path, model, sizes))
    model.close()
    weather.workers.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Result(
        sizes, made - begin, ready - made, weather.seconds, done - ready, processor, time.perf_counter() - done, peak,
        facts,
    )


def describe(domain: Domain, model: Model, length: int) -> str:
    """Size and shape of the domain."""
    ones = np.ones(domain.n_reaches)
    size = accumulate_downstream(domain.reaches.downstream, ones)
    depth = np.ones(domain.n_reaches, np.int64)
    count_depth(domain.reaches.downstream, depth)
    plan = model.operators.reach.network
    trunk = sum(hi - lo for lo, hi in plan.trunk)
    return (
        f"{domain.n_cells:,} cells, {domain.n_reaches:,} reaches, {domain.links.cell.size:,} links, "
        f"{domain.outlets.size:,} basins; largest {size[domain.outlets].max() / domain.n_reaches:.0%} of the reaches; "
        f"depth {depth.max():,}; trunk {trunk / domain.n_reaches:.2%}, {plan.n_slots:,} hydrographs at once; "
        f"blocks of {length} days"
    )


@njit
def count_depth(downstream, depth):
    """Number of reaches from each one down to its outlet."""
    for i in range(downstream.size - 1, -1, -1):
        if downstream[i] >= 0:
            depth[i] = depth[downstream[i]] + 1


def balance(model: Model, stored: float) -> str:
    """Water balance of the whole country; AssertionError if it does not close."""
    live = {name: float(model.live[name][0]) for name in ("water_in", "water_out", "water_exchanged", "water_stored")}
    lost = live["water_in"] + live["water_exchanged"] - live["water_out"] - (live["water_stored"] - stored)
    relative = abs(lost) / live["water_in"]
    assert relative <= 1e-12, f"the water balance is off by {relative:.1e}"
    return f"water balance closes to {relative:.1e} of {live['water_in'] * 1e-9:,.0f} km3 of rain"


def check_sub_basin(
    domain: Domain, parameters: dict[str, np.ndarray], path: Path, whole: Model, sizes: Sizes
) -> str:
    """Run what drains through a gauge by itself, day by day on one thread; AssertionError if a bit differs."""
    size = accumulate_downstream(domain.reaches.downstream, np.ones(domain.n_reaches))[domain.gauges.reach]
    most = min(SUB_BASIN[1], domain.n_reaches // 2)
    fitting = np.flatnonzero((size >= min(SUB_BASIN[0], most // 10)) & (size <= most))
    gauge = int(np.random.default_rng(7).choice(fitting))
    part, cells, reaches = cut(domain, int(domain.gauges.reach[gauge]))
    places = {"cell": cells, "reach": reaches}
    own = {n: v[..., places[parameter(n).grid]] for n, v in parameters.items()}
    model, days = sizes.make_model(part, own), sizes.days
    weather = RandomWeather(part, 1)
    model.fill_rivers(weather.read(0, STEADY_DAYS))
    outflow = np.empty(days)
    for day in range(days):
        model.advance(weather.read(day, 1))
        outflow[day] = model.live["discharge"][-1]
    with netCDF4.Dataset(path) as dataset:
        written = np.asarray(dataset.variables["discharge"][:, gauge])
    assert np.array_equal(written, outflow), "the sub-basin by itself has another discharge"
    for name, values in model.state.arrays().items():
        of_all = whole.state.arrays()[name]
        on_reaches = name in whole.state.on_reaches()
        own = of_all[..., reaches if on_reaches else cells]
        if name in whole.state.queues():  # as long as the longest hydrograph of their domain; the rest is empty
            assert not own[len(values) :].any()
            own = own[: len(values)]
        assert np.array_equal(own, values), f"the sub-basin has another {name}"
    return (
        f"sub-basin above {domain.gauges.id[gauge]} ({reaches.size:,} reaches, {cells.size:,} cells), cut out and "
        "stepped day by day on one thread: every bit of its discharge and end state is that of the country"
    )


def show(result: Result) -> None:
    """Print what was measured."""
    sizes = result.sizes
    for fact in result.facts:
        console.print(fact)
    table = Table("part", "seconds", title=f"{sizes.days} days on {sizes.threads} cores")
    kernels = result.run - result.weather
    for name, seconds in (
        ("domain made and put in order", result.domain), ("model, initial state", result.model),
        ("weather drawn", result.weather), ("runoff, routing, output", kernels),
        ("sub-basin checked", result.check),
    ):
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)
    years = sizes.days / 365
    if sizes.days < 40 * 365 and sizes.reaches == DECADES:
        clock, used = (s * 40 / years / 60 for s in (result.run - result.weather, result.processor / sizes.threads))
        console.print(
            f"40 years of {sizes.reaches:,} units, scaled by days: {clock:.1f} minutes by the clock without weather, "
            f"{used:.1f} of processor time per core with it"
        )
    elapsed, used = result.run * sizes.threads / 3600 / years, result.processor / 3600 / years
    steps = reach_steps(sizes)
    console.print(
        f"a year: {elapsed:.4f} core-hours by the clock ({CHASE_CORE_HOURS / elapsed:,.0f} times less than CHASE's "
        f"{CHASE_CORE_HOURS:g}), {used:.4f} of processor time, weather included.\n"
        f"{steps / result.run / 1e9:.2f} G reach-steps/s on {sizes.threads} cores, "
        f"{steps / result.processor / 1e9:.2f} per second of a core. Peak memory {result.peak / 1e9:.2f} GB."
    )
    console.print(machine())


def reach_steps(sizes: Sizes) -> float:
    """Routing sub-steps of all reaches."""
    return float(sizes.reaches) * sizes.days * (DAY // HOUR)


def measure_growth(sizes: Sizes, reaches: Sequence[int], years: Sequence[int]) -> list[Result]:
    """The largest number of reaches last; each in a fresh process, whose peak memory is its own."""
    middle = reaches[len(reaches) // 2]
    cases = [(n, 1) for n in reaches] + [(middle, y) for y in years if y > 1]
    results = []
    for n, y in cases:
        case = sizes._replace(reaches=n, cells=max(100, n // 9), days=365 * y)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results.append(pool.apply(run_unchecked, (case,)))
        show_growth(results)
    return results


def run_unchecked(sizes: Sizes) -> Result:
    """A run in a folder of its own, the water balance checked."""
    with tempfile.TemporaryDirectory() as folder:
        return run_country(sizes, Path(folder), checked=False)


def show_growth(results: Sequence[Result]) -> None:
    """Print a line per run."""
    table = Table("reaches", "years", "start [s]", "run [s]", "processor [s]", "per 10⁹ reach-steps", "peak [GB]")
    for r in results:
        table.add_row(
            f"{r.sizes.reaches:,}", f"{r.sizes.days / 365:g}", f"{r.domain + r.model:.1f}", f"{r.run:.1f}",
            f"{r.processor:.1f}", f"{r.processor / reach_steps(r.sizes) * 1e9:.2f}", f"{r.peak / 1e9:.2f}",
        )
    console.print(table)


def draw_growth(results: Sequence[Result], path: Path) -> None:
    """Processor time against reaches and against years; a line of slope one through the largest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    by_reaches = [r for r in results if r.sizes.days == 365]
    middle = results[-1].sizes.reaches
    by_years = sorted((r for r in results if r.sizes.reaches == middle), key=lambda r: r.sizes.days)
    for ax, rows, x, label in (
        (axes[0], by_reaches, [r.sizes.reaches for r in by_reaches], "reaches, one year"),
        (axes[1], by_years, [r.sizes.days / 365 for r in by_years], f"years, {middle:,} reaches"),
    ):
        seconds = [r.processor for r in rows]
        ax.loglog(x, seconds, "o", label="measured")
        ax.loglog(x, [seconds[-1] * value / x[-1] for value in x], "-", label="linear")
        ax.set(xlabel=label, ylabel="processor time [s]")
        ax.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def long_river(stem: int, sources: int) -> np.ndarray:
    """Downstream reach of a main stem that takes in a tributary of so many sources at every reach; any order."""
    parts, first = [np.r_[np.arange(1, stem), -1]], stem
    for i in range(stem):
        below = random_river(i, sources)
        parts.append(np.where(below >= 0, below + first, i))
        first += below.size
    return np.concatenate(parts)


def measure_threads(sources: int = 150_000, stem: int = 20_000, days: int = 16, repeats: int = 5) -> None:
    """Routing with 24 sub-steps a day on one core and on two."""
    rivers = {
        "all trees equally likely": random_river(0, sources),
        "a stem with short tributaries": long_river(stem, max(1, sources // stem // 2)),
        "a stem with long tributaries": long_river(max(1, stem // 20), max(1, 20 * sources // stem)),
    }
    table = Table("river", "reaches", "trunk", "1 core", "2 cores", "times", "by schedule",
                  title="10⁶ reach-steps/s: best of the rounds")
    for name, river in rivers.items():
        downstream = in_routing_order(river)
        cases = [
            routing_case(name, np.float64, threads, downstream, days, DAY // HOUR, linked=True) for threads in (1, 2)
        ]
        one, two = (rates.max() / 1e6 for rates in interleave(cases, repeats))
        plan = plan_network(downstream, 2)
        trunk = sum(hi - lo for lo, hi in plan.trunk) / downstream.size
        table.add_row(
            name, f"{downstream.size:,}", f"{trunk:.1%}", f"{one:.0f}", f"{two:.0f}", f"{two / one:.2f}",
            f"{scheduled(plan, downstream, days, 2):.2f}",
        )
    console.print(table)


def scheduled(plan: NetworkPlan, downstream: np.ndarray, days: int, threads: int) -> float:
    """Speed-up of the tasks of a plan on threads that nothing else disturbs, from the processor time of each alone."""
    kernel, arguments = routing_arguments(np.float64, plan, downstream, days, DAY // HOUR, linked=True)
    tasks, took = plan.tasks(days), []
    for _ in range(2):
        took.clear()
        for part, _ in tasks:
            begin = time.process_time()
            kernel(*arguments, *part)
            took.append(time.process_time() - begin)
    ends, left, free = {}, list(range(len(tasks))), [0.0] * threads
    while left:
        now = min(free)
        ready = [k for k in left if all(ends.get(j, math.inf) <= now for j in tasks[k].needs)]
        if ready:
            left.remove(ready[0])
            ends[ready[0]] = now + took[ready[0]]
        free[free.index(now)] = ends[ready[0]] if ready else min(end for end in ends.values() if end > now)
    return sum(took) / max(ends.values())


@click.command()
@click.argument("what", type=click.Choice(["year", "growth", "decades", "threads"]), default="year")
@click.option("--reaches", default=Sizes().reaches, help="Of the year.")
@click.option("--days", default=0, help="Other than one year, or 40.")
@click.option("--gauges", default=Sizes().gauges)
@click.option("--threads", default=Sizes().threads)
@click.option("--memory", default=1024, help="Of the blocks [MiB].")
@click.option("--runoff", default=Sizes().runoff, help="Runoff process.")
@click.option("--routing", default=Sizes().routing, help="Process of reaches.")
@click.option("--components", default=Sizes().components, help="Parameter sets of the runoff process.")
@click.option("--every-reach", is_flag=True, help="Write the discharge of all reaches; the sub-basin is not checked.")
@click.option("--to", "path", default="national.png", type=click.Path(path_type=Path), help="Plot of the growth.")
def main(
    what: str, reaches: int, days: int, gauges: int, threads: int, memory: int, every_reach: bool, path: Path,
    runoff: str, routing: str, components: int,
) -> None:
    """Run a made-up country and print what it took."""
    cells = max(100, round(reaches * Sizes().cells / Sizes().reaches))
    sizes = Sizes(reaches, cells, days or 365, gauges, threads, memory * 2**20, runoff, routing, components)
    if what == "threads":
        measure_threads()
    elif what == "growth":
        draw_growth(measure_growth(sizes, GROWTH_REACHES, GROWTH_YEARS), path)
        console.print(f"wrote {path}")
    else:
        if what == "decades":
            sizes = sizes._replace(reaches=DECADES, cells=DECADES, days=days or 40 * 365)
        with tempfile.TemporaryDirectory() as folder:
            show(run_country(sizes, Path(folder), checked=not every_reach, every_reach=every_reach))


if __name__ == "__main__":
    main()
