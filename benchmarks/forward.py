"""How fast a forward run is on one core and on two, beside hydro-smash on the same cells; about a minute.

`python benchmarks/forward.py` prints one table; README.md beside this file says what each line is.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import basin
import numpy as np
from kernel_cases import in_routing_order, process_case, random_river, random_weather, routing_case, runoff_case
from rich.console import Console
from rich.table import Table
from timing import Case, interleave

from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose

SMASH = "hydro-smash, gr4-lr"
SHORT, LONG = 4.0, 20.0


class Sizes(NamedTuple):
    """How much work each part does. days, hours: length of a routing block with a sub-step of a day, of an hour."""

    cells: int = 8192
    steps: int = 1096
    sources: int = 50_000
    days: int = 128
    hours: int = 32
    outlet: basin.Outlet = basin.CHARENTE
    repeats: int = 7


class Row(NamedTuple):
    """A line of the table: a case, its work per second in every round, and hydro-smash's on as many cores."""

    case: Case
    unit: str
    rates: np.ndarray
    of_smash: np.ndarray | None = None

    def ratio(self, of: Callable[[np.ndarray], float]) -> str:
        """Times hydro-smash, by the median or by the best of the rounds."""
        if self.of_smash is None or self.case.name == SMASH:
            return ""
        return f"{of(self.rates) / of(self.of_smash):.1f}"


def measure_runoff(sizes: Sizes) -> list[Row]:
    """Runoff alone."""
    weather = random_weather(0, sizes.steps, sizes.cells)
    cases = [
        runoff_case(f"GR4J, X4 to {longest:g} d", dtype, threads, longest, weather)
        for longest in (SHORT, LONG)
        for dtype, threads in ((np.float64, 1), (np.float64, 2), (np.float32, 1))
    ] + [
        runoff_case(f"GR4J, X4 to {SHORT:g} d, no ledger", dtype, 1, SHORT, weather, ledger=False)
        for dtype in (np.float64, np.float32)
    ] + [
        process_case(name, process, dtype, threads, weather)
        for name, process in (("HBV, no ledger", "hbv"), ("HBV 2.0 (unit hydrograph), no ledger", "hbv_2_0"))
        for dtype, threads in ((np.float64, 1), (np.float32, 1), (np.float32, 2))
    ]
    rates = interleave(cases, sizes.repeats)
    return [Row(case, "cell-days", rate) for case, rate in zip(cases, rates, strict=True)]


def measure_routing(sizes: Sizes) -> list[Row]:
    """Muskingum without and with the links that feed it; Muskingum-Cunge."""
    downstream = in_routing_order(random_river(0, sizes.sources))
    cases = [
        routing_case(
            f"{name}, {sub_steps(n_sub)}", dtype, threads, downstream, n_steps, n_sub, linked="links" in name,
            kept="none" not in name,
        )
        for name, n_steps, n_sub in (
            ("Muskingum, none kept", sizes.days, 1), ("Muskingum", sizes.days, 1), ("links, Muskingum", sizes.days, 1),
            ("Muskingum", sizes.hours, DAY // HOUR),
        )
        for dtype in (np.float64, np.float32)
        for threads in (1, 2)
    ]
    cases += [
        routing_case(
            f"{name}, {sub_steps(DAY // HOUR)}", dtype, threads, downstream, max(1, sizes.hours // 8), DAY // HOUR,
            linked=False, process=choose(routing=process).reach,
        )
        for name, process, threads in (
            ("Muskingum-Cunge, q = 1/3", "muskingum_cunge", 1), ("Muskingum-Cunge, q = 1/3", "muskingum_cunge", 2),
            ("Muskingum-Cunge, any q", "muskingum_cunge_shaped", 1),
        )
        for dtype in (np.float64, np.float32)
    ]
    rates = interleave(cases, sizes.repeats)
    return [Row(case, "reach-steps", rate) for case, rate in zip(cases, rates, strict=True)]


def measure_model(sizes: Sizes, with_smash: bool) -> tuple[list[Row], list[str]]:
    """The whole model, beside hydro-smash where there is one; what was checked, in words."""
    if with_smash:
        mesh = basin.make_mesh(sizes.outlet)
        domain = basin.make_domain(mesh)
    else:
        downstream = random_river(0, (sizes.cells + 1) // 2)
        n = downstream.size
        domain = basin.one_cell_per_reach(downstream, np.full(n, 1000.0), np.ones(n), [f"{i:06d}" for i in range(n)])
    weather = random_weather(3, sizes.steps, domain.n_cells)
    forcing = Forcing(*(a.astype(np.float64) for a in weather))
    runs = {
        (routing_step, threads): basin.Run(domain, forcing, threads, routing_step)
        for routing_step in (DAY, HOUR) for threads in (1, 2)
    }
    cases = [
        run.case(f"whole model, {sub_steps(DAY // routing_step)}") for (routing_step, _), run in runs.items()
    ]
    peer = basin.make_smash_model(mesh, domain, weather) if with_smash else None
    if peer is not None:
        cases += [basin.smash_case(SMASH, peer, threads) for threads in (1, 2)]
    rates = interleave(cases, sizes.repeats)
    of_smash = {c.threads: rate for c, rate in zip(cases, rates, strict=True) if c.name == SMASH}
    rows = [
        Row(case, "cell-steps", rate, of_smash.get(case.threads))
        for case, rate in zip(cases, rates, strict=True)
    ]
    return rows, basin.check_runs(list(runs.values()), cases, weather, peer)


def make_table(rows: list[Row], title: str) -> Table:
    """All rows; medians of the rounds, with the range in brackets."""
    table = Table("what runs", "precision", title=title)
    for heading in ("cores", "work per run", "10⁶ per second", "times smash, medians", "bests"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(
            row.case.name, row.case.precision, str(row.case.threads), f"{row.case.work / 1e6:.2f} M {row.unit}",
            spread(row.rates / 1e6), row.ratio(np.median), row.ratio(np.max),
            end_section=following is None or following.unit != row.unit,
        )
    return table


def sub_steps(count: int) -> str:
    """A number of sub-steps in words."""
    return "1 sub-step a day" if count == 1 else f"{count} sub-steps a day"


def spread(values: np.ndarray) -> str:
    """Median, minimum and maximum."""
    low, middle, high = (f"{v:.{0 if v >= 100 else 1}f}" for v in (values.min(), np.median(values), values.max()))
    return f"{middle} ({low}–{high})"


def machine() -> str:
    """Processor, number of cores, and versions of what the figures depend on."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        kind = f"family {named.get('cpu family')}, model {named.get('model')}"
        processor = f"{named.get('model name', processor)} ({kind})"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite", "numpy"))
    return f"{processor}, {os.cpu_count()} cores; {versions}"


FULL = Sizes()


def main(sizes: Sizes = FULL) -> None:
    """Measure everything and print the table."""
    with_smash = importlib.util.find_spec("smash") is not None
    rows, checks = measure_model(sizes, with_smash)
    rows = [*measure_runoff(sizes), *measure_routing(sizes), *rows]
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(make_table(rows, f"Forward runs: median of up to {sizes.repeats} interleaved rounds (range)"))
    console.print(machine())
    smash = {row.case.threads: np.median(row.rates) for row in rows if row.case.name == SMASH}
    if smash and smash[2] < smash[1]:
        console.print("hydro-smash was slower on two cores than on one: the machine is busy. Go by the bests.")
    for line in checks:
        console.print(line)
    if not with_smash:
        console.print("hydro-smash is not installed: no comparison. The whole model ran on a made-up river instead.")


if __name__ == "__main__":
    main()
