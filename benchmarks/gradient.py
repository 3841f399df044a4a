"""How fast a forward run with its gradient is, beside hydro-smash's on the same cells and steps; about two minutes.

`python benchmarks/gradient.py` prints one table; README.md beside this file says what each line is. Gradients of one
scalar of the discharge at the outlet, by all parameters of every cell: GR4J and Muskingum through our operators in
float32 (each alone in float64 too), gr4-lr through hydro-smash's own adjoint (a distributed mapping). Peak memory
is what numpy allocates above the forcing arrays.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import basin
import numpy as np
from forward import SMASH, Row, make_table, random_river, spread, sub_steps
from kernel_cases import learned_values, made_channels, random_weather, separate_cells, with_temperature
from rich.console import Console
from timing import Case, interleave

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.model.blocks import zeros_of
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose

STEPS, REPEATS, BASE = 365, 3, 3.5
OF_HBV = tuple(
    (name, process, dtype) for name, process in (("HBV", "hbv"), ("HBV 2.0 (unit hydrograph)", "hbv_2_0"))
    for dtype in (np.float64, np.float32)
)
"""Rows of HBV: what they are called, the process and the precision."""
SMASH_STEPS = 90


class Gradient:
    """Forward runs and gradients of one domain at one routing step and precision."""

    def __init__(
        self, domain: Domain, routing_step: int, n_steps: int, threads: int = 1, dtype: Any = np.float32
    ) -> None:
        n = domain.n_cells
        self.operators = Operators(choose(), domain, DAY, routing_step, dtype, threads)
        self.gr4j, self.routing = self.operators.cell("gr4j"), self.operators.reach
        weather = random_weather(3, n_steps, n)
        self.rain = np.ascontiguousarray(weather.precipitation, dtype)
        demand = np.ascontiguousarray(weather.potential_evapotranspiration, dtype)
        self.series = {"precipitation": self.rain, "potential_evapotranspiration": demand}
        names = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")
        self.p = self.gr4j.prepare({
            name: np.full(n, v, dtype) for name, v in zip(names, (350.0, 0.5, 90.0, BASE), strict=True)
        })
        self.reaches = {
            "travel_time": domain.reaches.length.astype(dtype), "weighting": np.full(domain.n_reaches, 0.2, dtype),
        }
        self.outlet = domain.gauges.reach
        self.slope = np.ones((n_steps, 1), dtype)

    def runoff(self) -> None:
        """Forward and adjoint of GR4J alone."""
        runoff, record = self.gr4j.run(self.series, self.p, self.gr4j.start(self.p))
        self.gr4j.reverse(record, runoff, zeros_of(self.gr4j.start(self.p)), ())

    def forward(self) -> None:
        """Discharge at the outlet."""
        runoff, _ = self.gr4j.run(self.series, self.p, self.gr4j.start(self.p))
        self.routing.run(runoff, self.routing.prepare(self.reaches), self.empty(), self.outlet)

    def both(self) -> None:
        """Discharge at the outlet, and the gradient of its sum."""
        runoff, generated = self.gr4j.run(self.series, self.p, self.gr4j.start(self.p))
        p = self.routing.prepare(self.reaches)
        _, routed = self.routing.run(runoff, p, self.empty(), self.outlet)
        del runoff
        runoff_adj, p_adj = self.routing.reverse(routed, self.slope, self.empty())
        del routed
        self.routing.prepare_adjoint(p, p_adj)
        _, p_adj = self.gr4j.reverse(generated, runoff_adj, zeros_of(self.gr4j.start(self.p)), ())
        self.gr4j.prepare_adjoint(self.p, p_adj)

    def empty(self) -> np.ndarray:
        """Rivers without water, and their adjoint."""
        return np.zeros_like(self.reaches["weighting"])

    def peak(self) -> float:
        """Largest memory above the forcing arrays while `both` runs [bytes per cell-day]."""
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        self.both()
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        return peak / self.rain.size

    def case(self, name: str, run: Any) -> Case:
        """A run of this, to be timed."""
        return Case(name, self.rain.dtype.name, self.operators.workers.threads, self.rain.size, run)


class Runoff:
    """A process of cells by its name, forward and adjoint, of separate cells at one precision."""

    def __init__(self, process: str, n_cells: int, n_steps: int, dtype: Any) -> None:
        operators = Operators(choose(runoff=process), separate_cells(n_cells), DAY, DAY, dtype)
        self.operator = operators.cells[0]
        self.p = self.operator.prepare(learned_values(self.operator.process, n_cells, dtype))
        self.series = with_temperature(random_weather(3, n_steps, n_cells), dtype)

    def both(self) -> None:
        """Runoff, and the gradient of half the sum of its squares."""
        o = self.operator
        runoff, record = o.run(self.series, self.p, o.start(self.p))
        o.reverse(record, runoff, zeros_of(o.start(self.p)), ())

    def case(self, name: str) -> Case:
        """A run of this, to be timed."""
        rain = self.series["precipitation"]
        return Case(f"{name}, forward and adjoint", rain.dtype.name, 1, rain.size, self.both)


class Routing:
    """Routing alone, forward and adjoint, of one domain at one routing step and precision."""

    def __init__(
        self, domain: Domain, routing_step: int, n_steps: int, dtype: Any, threads: int = 1,
        routing: str = "muskingum",
    ) -> None:
        n = domain.n_reaches
        if routing != "muskingum":
            domain = domain._replace(reaches=domain.reaches._replace(**made_channels(n, np.float64)))
        self.operators = Operators(choose(routing=routing), domain, DAY, routing_step, dtype, threads)
        rng, reach = np.random.default_rng(4), self.operators.reach
        self.runoff = rng.uniform(0.01, 10.0, (n_steps, domain.n_cells)).astype(dtype)
        self.p = reach.prepare({
            "travel_time": rng.lognormal(np.log(HOUR), 1.0, n).astype(dtype), "weighting": np.full(n, 0.2, dtype),
        } if routing == "muskingum" else learned_values(reach.process, n, dtype))
        flow = domain.reaches.upstream_area.astype(dtype) * dtype(5 / 86.4)
        self.start = np.zeros(n, dtype) if routing == "muskingum" else reach.steady(self.p, flow)
        self.outlet, self.slope = domain.gauges.reach, np.ones((n_steps, 1), dtype)

    def both(self) -> None:
        """Discharge at the outlet, and the gradient of its sum by runoff, coefficients and state."""
        reach = self.operators.reach
        _, record = reach.run(self.runoff, self.p, self.start.copy(), self.outlet)
        reach.reverse(record, self.slope, np.zeros_like(self.start))

    def case(self, called: str = "Muskingum") -> Case:
        """A run of this, to be timed."""
        o = self.operators
        work = o.domain.n_reaches * self.slope.size * o.n_sub
        name = f"{called}, forward and adjoint, {sub_steps(o.n_sub)}"
        return Case(name, np.dtype(o.dtype).name, o.workers.threads, work, self.both)


def smash_gradient_case(mesh: Any, domain: Domain, n_steps: int) -> tuple[Case, np.ndarray]:
    """One evaluation of hydro-smash's adjoint, as its optimiser calls it; the optimiser's own time does not count.

    Returns the case and the seconds of every evaluation.
    """
    import smash
    from smash.core.simulation.optimize import optimize as module

    model = basin.make_smash_model(mesh, domain, random_weather(3, n_steps, domain.n_cells))
    model.response_data.q[...] = 50.0 + 20.0 * np.sin(np.arange(n_steps))[None]
    spent: list[float] = []
    original = module._get_parameters_b

    def timed(*arguments: Any, **keywords: Any) -> Any:
        begin = time.perf_counter()
        found = original(*arguments, **keywords)
        spent.append(time.perf_counter() - begin)
        return found

    module._get_parameters_b = timed
    with contextlib.redirect_stdout(io.StringIO()):
        smash.optimize(
            model, mapping="distributed", optimizer="lbfgsb",
            optimize_options={"parameters": ["cp", "ct", "kexc", "llr"], "termination_crit": {"maxiter": 1}},
            common_options={"ncpu": 1, "verbose": False},
        )
    module._get_parameters_b = original
    return Case(SMASH, "float32", 1, domain.n_cells * n_steps, lambda: None), np.array(spent)


def main(
    steps: int = STEPS, repeats: int = REPEATS, outlet: basin.Outlet = basin.CHARENTE,
    of_hbv: Sequence[tuple[str, str, Any]] = OF_HBV,
) -> None:
    """Measure everything and print the table."""
    with_smash = importlib.util.find_spec("smash") is not None
    if with_smash:
        mesh = basin.make_mesh(outlet)
        domain = basin.make_domain(mesh)
    else:
        below = random_river(0, 4096)
        n = below.size
        domain = basin.one_cell_per_reach(below, np.full(n, 1000.0), np.ones(n), [f"{i:06d}" for i in range(n)])
    daily, hourly = Gradient(domain, DAY, steps), Gradient(domain, HOUR, steps)
    two, double = Gradient(domain, DAY, steps, threads=2), Gradient(domain, DAY, steps, dtype=np.float64)
    cases = [
        daily.case("GR4J, forward", lambda: daily.gr4j.run(daily.series, daily.p, daily.gr4j.start(daily.p))),
        daily.case("GR4J, forward and adjoint", daily.runoff),
        daily.case(f"runoff and routing, forward, {sub_steps(1)}", daily.forward),
        daily.case(f"runoff and routing, forward and adjoint, {sub_steps(1)}", daily.both),
        two.case(f"runoff and routing, forward and adjoint, {sub_steps(1)}", two.both),
        hourly.case(f"runoff and routing, forward and adjoint, {sub_steps(24)}", hourly.both),
        double.case("GR4J, forward and adjoint", double.runoff),
    ]
    rates = interleave(cases, repeats)
    of_smash = None
    rows = []
    if with_smash:
        case, spent = smash_gradient_case(mesh, domain, min(steps, SMASH_STEPS))
        of_smash = case.work / spent
        rows.append(Row(case, "cell-days", of_smash))
    ours = [
        Row(c, "cell-days", r, of_smash if "adjoint" in c.name and c.threads == 1 else None)
        for c, r in zip(cases, rates, strict=True)
    ]
    routing = [
        Routing(domain, step, n_steps, dtype, threads).case()
        for step, n_steps in ((DAY, steps), (HOUR, max(1, steps // 6)))
        for dtype in (np.float64, np.float32) for threads in (1, 2)
    ]
    routing += [
        Routing(domain, HOUR, max(1, steps // 18), dtype, threads, "muskingum_cunge").case("Muskingum-Cunge, q = 1/3")
        for dtype in (np.float64, np.float32) for threads in (1, 2)
    ]
    hbv = [Runoff(process, 2048, steps, dtype).case(name) for name, process, dtype in of_hbv]
    ours += [Row(c, "cell-days", r) for c, r in zip(hbv, interleave(hbv, repeats), strict=True)]
    routed = [Row(c, "reach-steps", r) for c, r in zip(routing, interleave(routing, repeats), strict=True)]
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(make_table([*routed, *ours, *rows], f"Forward and gradient: median of {repeats} rounds (range)"))
    both, forward = np.median(rates[3]), np.median(rates[2])
    console.print(f"(forward + adjoint) / forward, {sub_steps(1)}: {forward / both:.2f}; GR4J alone "
                  f"{spread(rates[0] / rates[1])}")
    console.print(f"peak memory above the forcing, {sub_steps(1)}: {daily.peak():.1f} bytes per cell-day; "
                  f"{sub_steps(24)}: {hourly.peak():.1f}")


if __name__ == "__main__":
    main()
