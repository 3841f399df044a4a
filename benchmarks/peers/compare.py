"""This model beside its peers, on the same units, reaches and days in one run: `make bench-peers`, two minutes.

hydro-smash (gr4-lr), HBV 2.0 of hydrodl2 (beside our HBV on its parameters, and GR4J with snow), routing by sparse
triangular systems as in DDR and RAPID, and by river-route's kernel, runoff and routing by jFUSE; a peer that is not
installed is left out, and the reason printed. All runs on one core, forward and forward with gradient, in turns; the
last column is the ratio of the medians.
benchmarks/README.md says what is counted.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import basin
from forward import machine, spread
from gradient import Gradient, smash_gradient_case
from kernel_cases import Weather, in_routing_order, random_river, random_weather, routing_arguments
from rich.console import Console
from rich.table import Table
from timing import Case, interleave

from bmi_cdlm.domain.domain import Domain, Links
from bmi_cdlm.domain.network import plan_network
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.blocks import zeros_of
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.declaration import LIQUID_WATER, CellProcess
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose, find
from bmi_cdlm.processes.cemaneige import CEMANEIGE

REMEDY = "pip install 'bmi-cdlm[peers]'"
REMEDIES = {
    "river-route": "pip install river-route, on Python 3.14 or newer; rr compile",
    "jFUSE": "pip install --no-deps jfuse; pip install jax equinox optax",
}


class Sizes(NamedTuple):
    """How much work each comparison is."""

    smash_steps: int = 365
    outlet: basin.Outlet = basin.CHARENTE
    units: int = 10_000
    unit_days: int = 365
    sources: int = 20_000
    river_days: int = 8
    river_steps: int = 240
    fuse_sources: int = 500
    fuse_days: int = 365
    repeats: int = 3


class Row(NamedTuple):
    """A case of ours or of a peer with its work per second in every round; for ours, those of the peer it is beside."""

    case: Case
    unit: str
    rates: np.ndarray
    peer: np.ndarray | None = None


def timed(pairs: list[tuple[Case, Case]], unit: str, repeats: int) -> list[Row]:
    """Rows of pairs of ours and a peer's, all in turns."""
    rates = interleave([case for pair in pairs for case in pair], repeats)
    rows = []
    for k, (ours, theirs) in enumerate(pairs):
        assert ours.work == theirs.work, (ours, theirs)
        rows += [Row(ours, unit, rates[2 * k], rates[2 * k + 1]), Row(theirs, unit, rates[2 * k + 1])]
    return rows


def beside_smash(sizes: Sizes) -> tuple[list[Row], str]:
    """Runoff and routing with one routing step per day, on hydro-smash's own basin."""
    mesh = basin.make_mesh(sizes.outlet)
    domain = basin.make_domain(mesh)
    weather = random_weather(3, sizes.smash_steps, domain.n_cells)
    run = basin.Run(domain, Forcing(*(a.astype(np.float64) for a in weather)), 1, DAY)
    peer = basin.make_smash_model(mesh, domain, weather)
    forward = run.case("runoff and routing"), basin.smash_case("hydro-smash, gr4-lr", peer, 1)
    rows = timed([forward], "cell-days", sizes.repeats)
    said = basin.check_runs([run], list(forward), weather, peer)
    daily = Gradient(domain, DAY, sizes.smash_steps)
    ours = daily.case("runoff and routing, with gradient", daily.both)
    (rates,) = interleave([ours], sizes.repeats)
    theirs, spent = smash_gradient_case(mesh, domain, sizes.smash_steps)
    theirs = theirs._replace(name="hydro-smash, gr4-lr, with gradient")
    rows += [Row(ours, "cell-days", rates, theirs.work / spent), Row(theirs, "cell-days", theirs.work / spent)]
    return rows, said[0]


class SnowAndRunoff:
    """CemaNeige and GR4J through our operators in float32: what HBV does, and its gradient."""

    def __init__(self, domain: Domain, weather: Weather, temperature: np.ndarray) -> None:
        self.base = base = Gradient(domain, DAY, weather.precipitation.shape[0])
        self.series = {**base.series, "air_temperature": np.ascontiguousarray(temperature, np.float32)}
        self.snow = CellOperator(CEMANEIGE, domain, DAY, np.float32, base.operators.workers)
        self.p = self.snow.prepare({
            "thermal_weighting": np.full(domain.n_cells, 0.25, np.float32),
            "melt_factor": np.full(domain.n_cells, 4.0, np.float32),
        })
        self.runoff = np.empty(0)

    def forward(self) -> None:
        """Runoff."""
        gr4j, p = self.base.gr4j, self.base.p
        liquid, self.melted = self.snow.run(self.series, self.p, self.snow.start(self.p))
        self.runoff, self.generated = gr4j.run({**self.series, LIQUID_WATER: liquid}, p, gr4j.start(p))

    def both(self) -> None:
        """Runoff, and the gradient of its sum by all parameters."""
        self.forward()
        gr4j, p = self.base.gr4j, self.base.p
        found, p_adj = gr4j.reverse(self.generated, np.ones_like(self.runoff), zeros_of(gr4j.start(p)), ())
        gr4j.prepare_adjoint(p, p_adj)
        _, p_adj = self.snow.reverse(self.melted, found[LIQUID_WATER], zeros_of(self.snow.start(self.p)))
        self.snow.prepare_adjoint(self.p, p_adj)


class OwnHbv:
    """Our HBV through its operator in float32, on the parameters of the peer, and its gradient."""

    def __init__(
        self, domain: Domain, weather: Weather, temperature: np.ndarray, named: Mapping[str, np.ndarray]
    ) -> None:
        process = find("runoff", "hbv")
        assert isinstance(process, CellProcess)
        self.operator = o = CellOperator(process, domain, DAY, np.float32, Workers(1))
        wanted = {p.name: named[p.symbol] for p in process.parameters if p.symbol in named}
        self.p = o.prepare({name: values.astype(np.float32) for name, values in wanted.items()})
        names = ("precipitation", "potential_evapotranspiration")
        self.series = dict(zip(names, weather, strict=True)) | {"air_temperature": temperature}
        self.series = {name: np.ascontiguousarray(a, np.float32) for name, a in self.series.items()}
        self.runoff = np.empty(0)

    def forward(self) -> None:
        """Runoff."""
        self.runoff, self.record = self.operator.run(self.series, self.p, self.operator.start(self.p))

    def both(self) -> None:
        """Runoff, and the gradient of its sum by all parameters."""
        self.forward()
        empty = zeros_of(self.operator.start(self.p))
        _, p_adj = self.operator.reverse(self.record, np.ones_like(self.runoff), empty, ())
        self.operator.prepare_adjoint(self.p, p_adj)


def beside_hbv(sizes: Sizes) -> tuple[list[Row], str]:
    """Snow and runoff of separate units."""
    from hbv import Hbv

    n = sizes.units
    domain = basin.one_cell_per_reach(np.full(n, -1), np.zeros(n), np.ones(n), [f"{i:06d}" for i in range(n)])
    domain = domain._replace(cells=domain.cells._replace(mean_annual_snowfall=np.full(n, 100.0)))
    weather = random_weather(3, sizes.unit_days, n)
    season = 8.0 - 12.0 * np.cos(2 * np.pi * np.arange(sizes.unit_days) / 365.25)[:, None]
    temperature = season + np.random.default_rng(5).normal(0, 2, (1, n))
    domain = domain._replace(cells=domain.cells._replace(upstream_area=np.full(n, 9.0), elevation=np.full(n, 500.0)))
    ours, theirs = SnowAndRunoff(domain, weather, temperature), Hbv(*weather, temperature)
    hbv = OwnHbv(domain, weather, temperature, theirs.named)

    def case(name: str, run: Callable[[], None]) -> Case:
        return Case(name, "float32", 1, n * sizes.unit_days, run)

    rows = timed([
        (case("HBV", hbv.forward), case("hydrodl2, HBV 2.0", theirs.forward)),
        (case("HBV, with gradient", hbv.both), case("hydrodl2, HBV 2.0, with gradient", theirs.both)),
        (case("GR4J with snow", ours.forward), case("hydrodl2, HBV 2.0", theirs.forward)),
        (case("GR4J with snow, with gradient", ours.both), case("hydrodl2, HBV 2.0, with gradient", theirs.both)),
    ], "unit-days", sizes.repeats)
    for runoff in (ours.runoff, hbv.runoff, theirs.runoff):
        assert runoff.shape == weather.precipitation.shape
        assert np.isfinite(runoff).all()
        assert runoff.min() >= 0
    assert np.isfinite(theirs.gradient).all()
    off = float(np.abs(hbv.runoff - theirs.runoff).max())
    assert off < 0.05, off  # the peer keeps stores above 1e-5 mm, and both round in float32
    return rows, (
        f"{n} units x {sizes.unit_days} days in both; HBV on the same parameters, runoff within {off:.0e} mm/d; GR4J "
        f"on the same rain, mean runoff {ours.runoff.mean():.2f} mm/d here, {theirs.runoff.mean():.2f} there"
    )


def beside_solve(sizes: Sizes) -> tuple[list[Row], str]:
    """Routing with 24 sub-steps a day, in float64."""
    from solve import Solve

    downstream = in_routing_order(random_river(3, sizes.sources))
    n = downstream.size
    domain = basin.one_cell_per_reach(downstream, np.zeros(n), np.ones(n), [f"{i:08d}" for i in range(n)])
    downstream = domain.reaches.downstream
    operators = Operators(choose(), domain, DAY, HOUR, np.float64)
    reach = operators.reach
    rng = np.random.default_rng(2)
    p = reach.prepare({"travel_time": rng.lognormal(np.log(3600.0), 1.0, n), "weighting": np.full(n, 0.2)})
    runoff = rng.uniform(0.01, 10.0, (sizes.river_days, n))
    lateral = runoff * (domain.cells.area / 86.4)
    made = {}

    def forward() -> None:
        made["discharge"], made["record"] = reach.run(runoff, p, np.zeros(n), domain.outlets)

    def both() -> None:
        forward()
        slope = np.ones((sizes.river_days, domain.outlets.size))
        _, made["gradient"] = reach.reverse(made["record"], slope, np.zeros(n))

    def case(name: str, run: Callable[[], None]) -> Case:
        return Case(name, "float64", 1, n * sizes.river_days * operators.n_sub, run)

    pairs, peers = [], []
    for name, refactor in (("sparse systems, each anew (as DDR)", True), ("factorised once (as RAPID)", False)):
        peer = Solve(downstream, p.group, lateral, operators.n_sub, refactor=refactor)
        peers.append(peer)
        pairs.append((case("routing", forward), case(name, peer.forward)))
        pairs.append((case("routing, with gradient", both), case(f"{name}, with gradient", peer.both)))
    rows = timed(pairs, "reach-steps", sizes.repeats)
    error = max(float(np.abs(q.discharge[:, domain.outlets] / made["discharge"] - 1).max()) for q in peers)
    off = max(
        float(np.abs(q.gradient[k] - getattr(made["gradient"], k)).max() / np.abs(q.gradient[k]).max())
        for q in peers for k in q.gradient
    )
    assert error < 1e-9, error
    assert off < 1e-9, off
    return rows, (
        f"{n} reaches x {sizes.river_days} days x {operators.n_sub} sub-steps in all; discharge agrees to {error:.0e}, "
        f"gradients to {off:.0e}"
    )


def beside_river_route(sizes: Sizes) -> tuple[list[Row], str]:
    """Routing in one step per step of inflow, every reach with a cell of its own, which gives it water at every step.

    The peer keeps the discharge of every reach in every case.
    """
    from river import RiverRoute

    downstream = in_routing_order(random_river(3, sizes.sources))
    n, n_steps = downstream.size, sizes.river_steps
    plan, workers, rng = plan_network(downstream, 1), Workers(1), np.random.default_rng(2)
    K, runoff = rng.lognormal(np.log(3600.0), 0.5, n), rng.uniform(0.01, 10.0, (n, n_steps)).astype(np.float32)
    peers = {step: RiverRoute(downstream, K, np.full(n, 0.2), step, runoff) for step in (HOUR, DAY)}
    kept = {}

    def ours(name: str, dtype: type, every: bool) -> Case:
        kernel, found = routing_arguments(dtype, plan, downstream, n_steps, 1, True, every)
        links = Links(np.arange(n + 1), np.arange(n), np.full(n, 86.4, dtype))  # 1 mm d-1 on it is 1 m3 s-1
        arguments = (found[0], links, *found[2:4], np.ascontiguousarray(runoff.T, dtype), *found[5:])
        kept[every] = arguments[7]
        return Case(
            name, np.dtype(dtype).name, 1, n * n_steps, lambda: plan.route(workers, kernel, arguments, n_steps, 1)
        )

    def theirs(name: str, step: int) -> Case:
        return Case(f"river-route ({peers[step].kernel}), {name}", "float32", 1, n * n_steps, peers[step].run)

    rows = []
    for dtype in (np.float32, np.float64):
        rows += timed([
            (ours(f"routing, {name}", dtype, every), theirs(name, step))
            for name, step, every in (
                ("hourly, every reach kept", HOUR, True), ("hourly, one outlet", HOUR, False),
                ("daily, every reach kept", DAY, True),
            )
        ], "reach-steps", sizes.repeats)
    # Runoff goes on as it began: near the end all that flows in flows out, in both.
    flows = [float(q[-1, n_steps // 2 :].mean()) for q in (kept[True].values, peers[DAY].discharge[:, 1:])]
    assert abs(flows[0] / flows[1] - 1) < 0.02, flows
    return rows, (
        f"{n} reaches x {n_steps} steps in both; mean discharge at the outlet within {abs(flows[0] / flows[1] - 1):.1%}"
    )


def beside_jfuse(sizes: Sizes) -> tuple[list[Row], str]:
    """Runoff and routing with one routing step a day, a unit for every reach; the models differ, the work is counted.

    Theirs is another model of runoff on the same rain, with snow, and its Muskingum-Cunge has coefficients anew every
    day; ours is GR4J with Muskingum.
    """
    from fuse import JFuse

    downstream = in_routing_order(random_river(3, sizes.fuse_sources))
    n, rng = downstream.size, np.random.default_rng(2)
    length, area = rng.lognormal(np.log(3000.0), 0.5, n), np.full(n, 9.0)
    domain = basin.one_cell_per_reach(downstream, length, area, [f"{i:08d}" for i in range(n)])
    downstream, length = domain.reaches.downstream, domain.reaches.length
    ours = Gradient(domain, DAY, sizes.fuse_days)
    weather = random_weather(3, sizes.fuse_days, n)
    theirs = JFuse(downstream, length, np.full(n, 2e-3), area, *weather, np.full_like(weather[0], 10.0))

    def case(name: str, run: Callable[[], None]) -> Case:
        return Case(name, "float32", 1, n * sizes.fuse_days, run)

    rows = timed([
        (ours.case("GR4J, routing", ours.forward), case("jFUSE, PRMS", theirs.forward)),
        (ours.case("GR4J, routing, with gradient", ours.both), case("jFUSE, PRMS, with gradient", theirs.both)),
    ], "cell-days", sizes.repeats)
    assert theirs.discharge.shape == (sizes.fuse_days,)
    assert theirs.gradient.shape == (n,)
    assert np.isfinite(theirs.discharge).all()
    assert np.isfinite(theirs.gradient).all()
    rain = float(weather.precipitation.mean() * area.sum() / 86.4)
    return rows, (
        f"{n} units and reaches x {sizes.fuse_days} days in both, of which {theirs.discharge.mean() / rain:.0%} of the "
        "rain came to the outlet there"
    )


PEERS: dict[str, tuple[Callable[[Sizes], tuple[list[Row], str]], tuple[str, ...]]] = {
    "hydro-smash": (beside_smash, ("smash", "rasterio", "pyflwdir")),
    "hydrodl2": (beside_hbv, ("torch", "hydrodl2")),
    "sparse triangular systems": (beside_solve, ("scipy",)),
    "river-route": (beside_river_route, ("river_route",)),
    "jFUSE": (beside_jfuse, ("jax", "equinox", "jfuse")),
}


def make_table(rows: list[Row]) -> Table:
    """All rows, ours above the peer's."""
    table = Table("what runs", "precision", title="Beside peers, one core: median of the rounds (range)")
    for heading in ("work per run", "10⁶ per second", "times the peer"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        ratio = "" if row.peer is None else f"{np.median(row.rates) / np.median(row.peer):.1f}"
        work = f"{row.case.work / 1e6:.2f} M {row.unit}"
        table.add_row(
            row.case.name, row.case.precision, work, spread(row.rates / 1e6), ratio, end_section=row.peer is None
        )
    return table


FULL = Sizes()


def main(sizes: Sizes = FULL) -> None:
    """Measure beside every peer that is installed and print the table."""
    rows: list[Row] = []
    said: list[str] = []
    for name, (measure, needed) in PEERS.items():
        missing = [package for package in needed if importlib.util.find_spec(package) is None]
        if missing:
            said.append(f"{name}: left out, {', '.join(missing)} not installed ({REMEDIES.get(name, REMEDY)})")
            continue
        try:
            new, checked = measure(sizes)
        except ImportError as cause:
            said.append(f"{name}: left out, it cannot be imported: {cause}")
            continue
        rows += new
        said.append(f"{name}: {checked}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    if rows:
        console.print(make_table(rows))
    console.print(machine())
    for line in said:
        console.print(line, markup=False)


if __name__ == "__main__":
    main()
