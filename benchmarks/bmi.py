"""What the Basic Model Interface costs: a step of one cell beyond its kernels, and a thousand catchments in a process.

`python benchmarks/bmi.py` prints two tables in about half a minute; README.md beside this file says what they are.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.prepare.nextgen import Options, write_catchments

START = np.datetime64("2015-01-01", "s")
YEARS = 40
WEATHER = {"mm s^-1": 1e-5, "K": 280.0, "mm d-1": 2.0, "kg kg-1": 0.004, "Pa": 9.9e4, "W m-2": 200.0, "m s-1": 2.0}
STATUS = Path("/proc/self/status")


class Sizes(NamedTuple):
    """How much is measured."""

    updates: int = 3000
    instances: int = 1000
    hours: int = 24


def catchments(folder: Path, count: int, **options: object) -> list[Path]:
    """Configurations of so many catchments."""
    table = folder / "table.csv"
    rows = [f"cat-{i},{10 + i % 7},{40 + i % 9},{i % 11},{i % 900},{i % 50}" for i in range(count)]
    table.write_text("\n".join(["id,area,lat,lon,elevation,mean_annual_snowfall", *rows]))
    end = START + np.timedelta64(365 * YEARS, "D")
    paths = write_catchments(table, folder, Options(START, end, **options))  # type: ignore[arg-type]
    return [p for p in paths if p.suffix == ".yaml"]


def started(config: Path) -> BmiCdlm:
    """An instance with all its inputs set, one step on."""
    component = BmiCdlm()
    component.initialize(str(config))
    set_inputs(component)
    component.update_until(component.get_time_step())
    return component


def set_inputs(component: BmiCdlm) -> None:
    """Give every input a value, as ngen does."""
    for name in component.get_input_var_names():
        component.set_value(name, np.array([WEATHER[component.get_var_units(name)]]))


def median_us(call: Callable[[], None], repeats: int) -> float:
    """Median time of a call [us]."""
    times = np.empty(repeats)
    for k in range(repeats):
        begin = time.perf_counter()
        call()
        times[k] = time.perf_counter() - begin
    return float(np.median(times) * 1e6)


def kernels_of(component: BmiCdlm) -> Callable[[], None]:
    """The kernel calls of one update, with their arguments, and nothing around them."""
    workers = component._stepper.simulation.model.workers  # type: ignore[union-attr]
    calls: list[tuple] = []
    run, run_tasks = workers.run, workers.run_tasks

    def listed(function: Callable, arguments: tuple, ranges: Sequence[tuple[int, ...]], work: int) -> None:
        calls.extend((function, (*arguments, *part)) for part in ranges)
        run(function, arguments, ranges, work)

    workers.run = listed  # type: ignore[method-assign]
    workers.run_tasks = lambda function, arguments, tasks, work: listed(  # type: ignore[method-assign]
        function, arguments, [part for part, _ in tasks], work
    )
    component.update_until(component.get_current_time() + component.get_time_step())
    workers.run, workers.run_tasks = run, run_tasks  # type: ignore[method-assign]

    def again() -> None:
        for function, arguments in calls:
            function(*arguments)

    return again


def step_table(folder: Path, sizes: Sizes) -> Table:
    """A step of one cell, with and without what is around its kernels."""
    table = Table("model", "call", "update [us]", "its kernels [us]", "beyond [us]", title="one cell, median of a call")
    for label, options, length in (
        ("hourly", {"pet": "given"}, HOUR), ("hourly, snow", {"pet": "given", "snow": "cemaneige"}, HOUR),
        ("hourly, Oudin", {"pet": "oudin"}, HOUR), ("hourly, Penman-Monteith", {"pet": "penman_monteith"}, HOUR),
        ("daily, 24 sub-steps", {"pet": "given", "time_step": DAY}, DAY),
        ("daily, hour by hour", {"pet": "given", "time_step": DAY}, HOUR),
    ):
        component = started(catchments(folder, 1, **options)[0])
        alone = kernels_of(component)
        updates = min(sizes.updates, 300 * 24 * HOUR // length * 24 if length == HOUR else sizes.updates)

        def call(component: BmiCdlm = component, length: int = length) -> None:
            component.update_until(component.get_current_time() + length)

        whole, inner = median_us(call, updates), median_us(alone, updates)
        inner = inner if length == component.get_time_step() else 0.0
        table.add_row(label, f"{length // HOUR} h", f"{whole:.0f}", f"{inner:.0f}", f"{whole - inner:.0f}")
        component.finalize()
    return table


def resident_kib() -> float:
    """Resident memory of the process; NaN where the system does not tell."""
    if not STATUS.exists():
        return float("nan")
    return float(next(line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith("VmRSS")))


def instances_table(folder: Path, sizes: Sizes) -> Table:
    """Many catchments in one process, stepped in turn as ngen does: inputs, update, one output."""
    table = Table("model", "initialize [ms]", "memory [KiB]", "state [KiB]", "steps/s", "state taken [ms]",
                  title=f"{sizes.instances} catchments in a process, each")
    kept: list[BmiCdlm] = []
    for label, options in (
        ("hourly", {"pet": "given"}),
        ("hourly, snow, Penman-Monteith", {"pet": "penman_monteith", "snow": "cemaneige"}),
    ):
        configs = catchments(folder, sizes.instances, **options)
        started(configs[0]).finalize()
        gc.collect()
        before, begin = resident_kib(), time.perf_counter()
        components = []
        for config in configs:
            component = BmiCdlm()
            component.initialize(str(config))
            components.append(component)
        spent = time.perf_counter() - begin
        memory = resident_kib() - before
        depth, first, place = components[0].get_output_var_names(), np.zeros(1), np.zeros(1, np.int32)
        begin = time.perf_counter()
        for _ in range(sizes.hours):
            for component in components:
                set_inputs(component)
                component.update()
                component.get_value_at_indices(depth[0], first, place)
        stepped = time.perf_counter() - begin
        begin = time.perf_counter()
        length = len(components[0]._stepper.simulation.to_bytes())  # type: ignore[union-attr]
        taken = time.perf_counter() - begin
        table.add_row(
            label, f"{spent / sizes.instances * 1e3:.1f}", f"{memory / sizes.instances:.0f}", f"{length / 1024:.0f}",
            f"{sizes.instances * sizes.hours / stepped:,.0f}", f"{taken * 1e3:.1f}",
        )
        kept += components  # or the next would live in their memory
    for component in kept:
        component.finalize()
    return table


def main(sizes: Sizes) -> None:
    """Measure and print."""
    console = Console(width=110)
    for make in (step_table, instances_table):
        with tempfile.TemporaryDirectory() as folder:
            console.print(make(Path(folder), sizes))


if __name__ == "__main__":
    sys.exit(main(Sizes()))
