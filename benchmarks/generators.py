"""What a parameter generator costs beside the kernels: the PET factor and the varying parameters of every cell and day,
and static parameters.

`python benchmarks/generators.py`; about a minute. Seconds of one core (its time, not the clock's), so that other
programs on the machine hardly show.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from domains import random_country
from forward import machine
from kernel_cases import random_weather
from rich.console import Console
from rich.table import Table

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.generator import Inputs, describe_forcing, pet_network, static_parameters
from bmi_cdlm.generator.specification import Attribute, GeneratorSpec, NetworkSpec, PetSpec, Target
from bmi_cdlm.kernels.groups import LstmNetwork
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.lstm import Lstm
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.parameters import parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose

LAYERS = ((8,), (16,), (16, 16))
N_ATTRIBUTES = 10
HIDDEN = (32, 32)
UNITS, COMPONENTS = (16, 32, 64), 4
VARYING = ("recharge_shape", "evaporation_shape", "quickflow_rate")


def make_spec(pet_hidden: tuple[int, ...], weather: Forcing) -> GeneratorSpec:
    """A generator on made-up attributes, of the layers that `cdlm-train` takes unless told otherwise."""
    attributes = tuple(Attribute(f"cell_a{k}", "1", "none", 0.0, 0.0, 1.0, -3.0, 3.0) for k in range(N_ATTRIBUTES))
    on_reaches = tuple(
        Attribute(f"reach_a{k}", "1", "none", 0.0, 0.0, 1.0, -3.0, 3.0) for k in range(N_ATTRIBUTES)
    )
    chain = choose()
    targets = {
        grid: tuple(Target(p.name, *p.range_at(DAY), p.scale) for p in process.parameters if not p.optional)
        for grid, process in (("cell", chain.cells[-1]), ("reach", chain.reach))
    }
    features = describe_forcing({
        "precipitation": weather.precipitation, "potential_evapotranspiration": weather.potential_evapotranspiration,
    })
    return GeneratorSpec(
        NetworkSpec("mlp", attributes, HIDDEN, "tanh", targets["cell"]),
        NetworkSpec("mlp", on_reaches, HIDDEN, "tanh", targets["reach"]),
        PetSpec(features, attributes, pet_hidden, 0.3, 2.0, "drawn"), DAY, HOUR, "none",
    )


def seconds(run: Callable[[], object], rounds: int = 3) -> float:
    """The least processor time of a call, after one that is not timed."""
    run()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


def measure(domain: Domain, days: int) -> list[tuple[str, float, float]]:
    """Nanoseconds per cell-day of the model without and with PET networks: name, whole, share above the model's own."""
    weather = random_weather(0, days, domain.n_cells)
    forcing = Forcing(*(a.astype(np.float64) for a in weather), None, np.arange(days) % 365 + 1.0)
    rng = np.random.default_rng(0)
    rows = []
    for routing_step, name in ((DAY, "1 sub-step"), (HOUR, "24 sub-steps")):
        model = Model(domain, step=DAY, routing_step=routing_step)
        own = seconds(lambda model=model: model.advance(forcing)) / forcing.precipitation.size * 1e9
        rows.append((f"runoff, routing, {name} a day", own, 0.0))
        for hidden in LAYERS:
            spec = make_spec(hidden, forcing)
            tensors = {n: rng.normal(0, 0.3, shape) for n, shape in spec.shapes().items()}
            inputs = Inputs(*(rng.normal(0, 1, (n, N_ATTRIBUTES)) for n in (domain.n_cells, 1, domain.n_cells)))
            corrected = Model(
                domain, step=DAY, routing_step=routing_step, pet=pet_network(spec, tensors, inputs)
            )
            whole = seconds(lambda model=corrected: model.advance(forcing)) / forcing.precipitation.size * 1e9
            rows.append((f"  with a PET factor of {' + '.join(map(str, hidden))} units", whole, (whole - own) / own))
    return rows


def measure_lstm(domain: Domain, days: int) -> list[tuple[str, float, float]]:
    """Nanoseconds per cell-day of HBV with four parameter sets, without and with three of them varying by an LSTM."""
    weather, rng = random_weather(0, days, domain.n_cells), np.random.default_rng(0)
    rain, demand = (a.astype(np.float64) for a in weather)
    forcing = Forcing(rain, demand, rng.normal(5.0, 8.0, rain.shape))
    options = {"step": DAY, "runoff": "hbv", "components": {"hbv": COMPONENTS}}
    rows = []
    for routing_step, name in ((DAY, "1 sub-step"), (HOUR, "24 sub-steps")):
        model = Model(domain, routing_step=routing_step, **options)
        own = seconds(lambda model=model: model.advance(forcing)) / rain.size * 1e9
        rows.append((f"HBV, {COMPONENTS} sets, routing, {name} a day", own, 0.0))
        for hidden in UNITS:
            lstm = Lstm(random_network(rng, hidden, domain.n_cells), dict.fromkeys(VARYING, COMPONENTS))
            varied = Model(domain, routing_step=routing_step, lstm=lstm, **options)
            whole = seconds(lambda model=varied: model.advance(forcing)) / rain.size * 1e9
            rows.append((f"  with an LSTM of {hidden} units", whole, (whole - own) / own))
    return rows


def random_network(rng: np.random.Generator, hidden: int, n_cells: int) -> LstmNetwork:
    """An LSTM with drawn weights to all sets of the varying parameters."""
    ranges = [parameter(name).range_at(DAY) for name in VARYING for _ in range(COMPONENTS)]
    n = len(ranges)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape)

    return LstmNetwork(
        drawn(hidden, n_cells), drawn(hidden, 3), 3.0, drawn(4 * hidden, hidden), drawn(4 * hidden, hidden),
        drawn(4 * hidden), drawn(n, hidden), drawn(n), np.array([r.low for r in ranges]),
        np.array([r.high - r.low for r in ranges]), np.zeros(n, bool),
    )


def measure_static(n_cells: int, n_reaches: int) -> float:
    """Seconds to make the parameters of so many cells and reaches."""
    rng = np.random.default_rng(0)
    weather = Forcing(*(a.astype(np.float64) for a in random_weather(0, 50, 20)))
    spec = make_spec((8,), weather)
    tensors = {n: rng.normal(0, 0.3, shape) for n, shape in spec.shapes().items()}
    inputs = Inputs(*(rng.normal(0, 1, (n, N_ATTRIBUTES)) for n in (n_cells, n_reaches, 1)))
    begin = time.perf_counter()
    static_parameters(spec, tensors, inputs)
    return time.perf_counter() - begin


def main(n_reaches: int = 90_000, n_cells: int = 10_000, days: int = 64, static_cells: int = 1_000_000) -> None:
    """Measure and print."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    title = f"{n_reaches:,} reaches, {n_cells:,} cells"
    table = Table("one core", "ns per cell-day", "above the model's own", title=title)
    domain = random_country(1, n_reaches, n_cells, 10)
    for name, whole, share in (*measure(domain, days), *measure_lstm(domain, days)):
        table.add_row(name, f"{whole:.1f}", f"{share:.0%}" if share else "")
    console.print(table)
    took = measure_static(static_cells, static_cells)
    console.print(f"static parameters of {static_cells:,} cells and as many reaches, {HIDDEN} units: {took:.1f} s")
    console.print(machine())


if __name__ == "__main__":
    main()
