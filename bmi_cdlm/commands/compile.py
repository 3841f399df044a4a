"""The command `cdlm compile`: kernels for this machine before anybody waits for them, for images and clusters."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import click
import numpy as np

from bmi_cdlm.commands.common import CleanErrors
from bmi_cdlm.domain.domain import Cells, Domain, Gauges, Reaches
from bmi_cdlm.domain.network import order_reaches
from bmi_cdlm.kernels.cache import cache_folder
from bmi_cdlm.kernels.groups import Links
from bmi_cdlm.kernels.launch import WORTH_COMPILING
from bmi_cdlm.model.blocks import NARROW
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import GIVEN, NONE, OF_CHAIN, Names, choose, kind_of, known
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.ensemble import member_configs
from bmi_cdlm.run.simulation import Simulation

Job = tuple[str, Callable[..., None], tuple]


@click.command("compile", cls=CleanErrors)
@click.argument("configs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--all", "every", is_flag=True, help="Every process that is installed, each in a daily model.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Configurations at a time.")
def compile_command(configs: tuple[Path, ...], every: bool, processes: int) -> None:
    """Compile what runs of CONFIGS need, for this processor; what is kept in the folder of kernels is not made again.

    The domain, forcing and parameters of a configuration are read as a run does; nothing is written beside kernels.
    """
    if not configs and not every:
        raise click.UsageError("there is nothing to compile. Name configurations, or give --all.")
    folder = cache_folder()
    if folder is None:
        raise ConfigError(
            "compiled kernels can be kept nowhere: there is no folder of the user's own. Set XDG_CACHE_HOME to one "
            "that can be written."
        )
    logging.getLogger("bmi_cdlm.run.rehearsal").setLevel(logging.ERROR)  # that it compiles is what was asked for
    jobs: list[Job] = [(str(path), compile_for_config, (path,)) for path in configs]
    jobs += [(name, compile_processes, names) for name, names in (combinations() if every else ())]
    before, began = len(list(folder.glob("*.kernel"))), time.perf_counter()
    for name in _done(jobs, processes):
        click.echo(f"{name}: ready after {time.perf_counter() - began:.0f} s")
    click.echo(f"{len(list(folder.glob('*.kernel'))) - before} kernels more in {folder}")


def _done(jobs: list[Job], processes: int) -> Iterator[str]:
    """Names of jobs as they end; a kernel that two of them need is made by one, and the other waits for it."""
    if processes == 1 or len(jobs) == 1:
        for name, function, arguments in jobs:
            function(*arguments)
            yield name
        return
    with ProcessPoolExecutor(min(processes, len(jobs)), multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(function, *arguments): name for name, function, arguments in jobs}
        for one in as_completed(running):
            one.result()
            yield running[one]


def compile_for_config(path: Path) -> None:
    """Compile what a run of a configuration calls, up to its first step; members of an ensemble call the same."""
    config = member_configs(load_config(path))[0]
    with closing(Simulation(config.model_copy(update={"spin_up": 0}), ready=True)):
        pass


def combinations() -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Snow, runoff, routing and precipitation of models in which every installed process occurs; none of those that
    another gives."""
    names = {kind: [p.name for p in known() if kind_of(p) == kind] for kind in OF_CHAIN}
    found = [(NONE, runoff, MUSKINGUM.name, GIVEN) for runoff in names["runoff"]]
    found += [(snow, GR4J.name, MUSKINGUM.name, GIVEN) for snow in names["snow"]]
    found += [(NONE, GR4J.name, routing, GIVEN) for routing in names["routing"] if routing != MUSKINGUM.name]
    found += [(NONE, GR4J.name, MUSKINGUM.name, precipitation) for precipitation in names["precipitation"]]
    for snow, runoff, routing, precipitation in found:
        told = (name for name in (precipitation, snow, runoff, routing) if name not in (NONE, GIVEN))
        yield ", ".join(told), (snow, runoff, routing, precipitation)


def compile_processes(snow: str, runoff: str, routing: str, precipitation: str = GIVEN) -> None:
    """Compile what a step of these processes calls, of small and of large domains, and what puts reaches in order."""
    names = Names(precipitation=precipitation, snow=snow, runoff=runoff, routing=routing)
    for n in (WORTH_COMPILING + 1, max(NARROW, WORTH_COMPILING + 1)):
        _compile_processes(names, catchments(n))


def _compile_processes(names: Names, domain: Domain) -> None:
    chain = choose(**names)
    with closing(Model(domain, {}, step=DAY, routing_step=HOUR, **names)) as model:
        one = np.ones((1, domain.n_cells))
        given = dict.fromkeys(chain.inputs, one)
        precipitation = given.pop("precipitation", one)
        demand, temperature = given.pop("potential_evapotranspiration", one), given.pop("air_temperature", one)
        model.advance(Forcing(precipitation, demand, temperature, others=given))


def catchments(n: int) -> Domain:
    """Catchments of 1 km2, each with a cell and a reach of 1 km."""
    none, one, ids, corners = np.zeros(n), np.ones(n), [str(i) for i in range(n)], np.zeros((n, 4))
    downstream = np.full(n, -1)
    order_reaches(downstream, ids)
    return Domain(
        Cells(ids, none, none, one, one, corners, corners, np.full(n, 100.0), none, one),
        Reaches(ids, downstream, np.full(n, 1000.0), np.full(n, 0.001), one, one, none, none),
        Links(np.arange(n + 1), np.arange(n), one),
        Gauges([], [], np.zeros(0, np.int64), np.zeros(0)),
        np.arange(n),
    )
