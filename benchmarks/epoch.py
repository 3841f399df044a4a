"""An epoch of a region's training by part: `python benchmarks/epoch.py [CONFIG] [--threads N ...] [--updates N]`.

Without a configuration the region is made up, in memory: 80,000 reaches and 10,500 cells above 46 gauges, daily with 24
routing sub-steps, two years of which the second counts, as `cdlm-train` runs it in float32: networks for parameters and
PET factor, snow, runoff, routing, their adjoints, the loss. With one it is that training, its validation included.
Parts are told in the processor's time, all threads together, without what they call of each other. By schedule: what
the clock would show if nothing disturbed the threads, from the processor time of each part of the domain, the costliest
first to whoever is free.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from domains import random_country
from kernel_cases import random_weather
from rich.console import Console
from rich.table import Table

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.files.yaml_loader import load_yaml
from bmi_cdlm.generator.generator import Inputs, describe_forcing
from bmi_cdlm.generator.specification import Attribute, GeneratorSpec, NetworkSpec, PetSpec, Target
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose
from cdlm_training import operators, pet
from cdlm_training.dataset import Window
from cdlm_training.distributed import Team
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.generator import Generator
from cdlm_training.loop import Trainer
from cdlm_training.loss import nse_term, pet_factor_term
from cdlm_training.simulate import Chain, Part, make_parts

HIDDEN, PET_HIDDEN = (16, 16), (8,)
CELL_ATTRIBUTES, REACH_ATTRIBUTES = 10, 2
RUN = SimpleNamespace(
    chain=choose("cemaneige"), snow="cemaneige", runoff="gr4j", components=1, time_step=DAY, routing_step=HOUR
)


class Clock:
    """Processor time, page faults and calls by part, each without the parts that it calls."""

    def __init__(self) -> None:
        self.parts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
        self._here, self._lock, self.saved = threading.local(), threading.Lock(), 0.0

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Let a function or method count for a part from now on."""
        function = getattr(owner, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            inner = self._here.__dict__.setdefault("inner", [])
            inner.append(np.zeros(2))
            before = self._now()
            try:
                return function(*arguments, **keywords)
            finally:
                whole = self._now() - before
                own = whole - inner.pop()
                if inner:
                    inner[-1] += whole
                with self._lock:
                    self.parts[part] += (*own, 1)

        setattr(owner, name, staticmethod(watched) if isinstance(owner, type) else watched)

    def watch_threads(self, workers: Workers) -> None:
        """Add up from now on what threads save that take the parts of a domain beside each other."""
        each = workers.each

        def timed(function: Callable, items: Any, work: Any) -> list[Any]:
            seconds = np.zeros(len(items))

            def one(k: int) -> Any:
                before = time.thread_time()
                found = function(items[k])
                seconds[k] = time.thread_time() - before
                return found

            found = each(one, range(len(items)), work)
            share, ends = sum(work) / workers.threads, np.zeros(workers.threads)
            shared = np.array(work) > share  # left to all threads: their own time is not seen here
            for k in sorted(np.flatnonzero(~shared), key=lambda k: (-work[k], k)):
                ends[ends.argmin()] += seconds[k]
            self.saved += seconds[~shared].sum() - ends.max()
            return found

        workers.each = timed  # type: ignore[method-assign]

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.thread_time(), resource.getrusage(resource.RUSAGE_THREAD).ru_minflt])


def make_spec(forcing: dict[str, np.ndarray]) -> GeneratorSpec:
    """What `cdlm-train` makes of its defaults: snow, runoff, celerity and PET factor learned."""
    def drawn(count: int) -> tuple[Attribute, ...]:
        return tuple(Attribute(f"a{k}", "1", "none", 1.0, 0.0, 1.0, -5.0, 5.0) for k in range(count))

    def network(grid: str, attributes: tuple[Attribute, ...], left_out: tuple[str, ...]) -> NetworkSpec:
        own = (p for process in RUN.chain.processes for p in process.parameters if p.grid == grid and not p.optional)
        targets = tuple(Target(p.name, *p.range_at(DAY), p.scale) for p in own if p.name not in left_out)
        return NetworkSpec("mlp", attributes, HIDDEN, "tanh", targets)

    of_cells = drawn(CELL_ATTRIBUTES)
    factor = PetSpec(describe_forcing(forcing), of_cells, PET_HIDDEN, 0.3, 2.0, "unknown")
    networks = network("cell", of_cells, ()), network("reach", drawn(REACH_ATTRIBUTES), ("weighting",))
    return GeneratorSpec(*networks, factor, DAY, HOUR, "cemaneige")


class MadeUp:
    """A training in memory of a region that is made up: every update has all its parts and the whole record."""

    def __init__(self, reaches: int, cells: int, gauges: int, days: int, threads: int) -> None:
        domain, rng = _with_outlets_gauged(random_country(3, reaches, cells, gauges)), np.random.default_rng(4)
        weather = random_weather(5, days, domain.n_cells)
        season = (8.0 - 12.0 * np.cos(2 * np.pi * np.arange(days) / 365.25)[:, None]).astype(np.float32)
        forcing = {
            "precipitation": weather.precipitation.astype(np.float32),
            "potential_evapotranspiration": weather.potential_evapotranspiration.astype(np.float32),
            "air_temperature": season + rng.normal(0, 2, (1, domain.n_cells)).astype(np.float32),
        }
        self.workers = Workers(threads)
        self.generator = Generator(make_spec(forcing), 1, torch.float32)
        dataset = SimpleNamespace(
            domain=domain, gauges=np.arange(len(domain.gauges.id)), forcing=forcing, run=RUN, of_domain={},
            day_of_year=np.arange(days, dtype=np.float32) % 365 + 1,
            config=SimpleNamespace(
                precision="float32", dtype=np.float32, draws_parts=False, device="cpu", threads=threads, varying=(),
                pet_factor=True,
            ),
        )
        of_cells = rng.normal(size=(domain.n_cells, CELL_ATTRIBUTES))
        of_reaches = rng.normal(size=(domain.n_reaches, REACH_ATTRIBUTES))
        self.chain = Chain(dataset, self.generator, Inputs(of_cells, of_reaches, of_cells))
        self.parts = make_parts(dataset, self.workers)
        self.window = Window(np.arange(days), days - days // 2)
        self.observed = torch.from_numpy(rng.exponential(10.0, (self.window.counted, dataset.gauges.size)))
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), lr=0.005)

    def update(self) -> float:
        """One step of the optimiser; returns the loss."""
        weights = list(self.generator.parameters())

        def differentiate(part: Part) -> tuple[float, tuple[torch.Tensor | None, ...]]:
            simulated = self.chain(part, self.window, spends=True)
            observed = self.observed[:, part.gauges]
            loss = nse_term(simulated.discharge, observed, torch.ones_like(observed[0])).sum()
            assert simulated.pet_factor is not None
            loss = loss + 0.01 * pet_factor_term(simulated.pet_factor)
            return float(loss.detach()), torch.autograd.grad(loss, weights, allow_unused=True)

        found = self.workers.each(differentiate, self.parts, [part.work for part in self.parts])
        for k, weight in enumerate(weights):
            own = [gradients[k] for _, gradients in found if gradients[k] is not None]
            weight.grad = torch.stack(own).sum(dim=0) if own else None
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        self.optimizer.step()
        return sum(value for value, _ in found)

    def validate(self) -> None:
        """Nothing: there is no run of the runtime."""


class Configured:
    """The training of a configuration, as it begins; nothing is written where that would be."""

    def __init__(self, path: Path, threads: int) -> None:
        content = load_yaml(path, ConfigError)
        if "training" not in content:
            raise ConfigError(f"{path}: has no training, expected a configuration of one.")
        content["threads"] = content["training"]["threads"] = threads
        beside = path.with_name(f".{path.stem}_timed.yaml")
        beside.write_text(dump_yaml(content), encoding="utf-8")
        try:
            self.trainer = Trainer(beside, Team(0, 1))
        finally:
            beside.unlink()
        self.generator, self.parts, self.chain = self.trainer.generator, self.trainer.parts, self.trainer.chain
        self.workers = self.trainer.workers

    def update(self) -> float:
        """One step of the optimiser; returns the loss."""
        return self.trainer._update(lambda _loss: None)

    def validate(self) -> None:
        """Scores of the weights, as after every epoch."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"last{self.trainer.config.output.suffix}"
            write_checkpoint(path, self.trainer, None)
            self.trainer.validation(path)


def _with_outlets_gauged(domain: Domain) -> Domain:
    """Gauges at the mouths of the largest basins in place of those drawn."""
    n, below = len(domain.gauges.id), domain.reaches.downstream
    ends = np.flatnonzero(below < 0)
    chosen = np.sort(ends[np.argsort(-domain.reaches.upstream_area[ends], kind="stable")[:n]])
    names = [f"g{k}" for k in range(chosen.size)]
    return domain._replace(gauges=type(domain.gauges)(names, names, chosen, domain.reaches.upstream_area[chosen]))


def watch(clock: Clock, training: MadeUp | Configured) -> None:
    """Count what an update does for its parts."""
    for process, name in ((operators.Advance, "cells"), (operators.Route, "rivers")):
        clock.watch(process, "forward", f"{name}: around the kernels")
        clock.watch(process, "backward", f"{name}: around the kernels")
    clock.watch(pet.Factor, "forward", "PET factor, forward")
    clock.watch(pet.Factor, "backward", "PET factor, adjoint")
    for part in training.parts:
        for one in part.operators.cells:
            clock.watch(one, "run", f"{one.process.name}, forward")
            clock.watch(one, "reverse", f"{one.process.name}, adjoint")
        reach = part.operators.reach
        clock.watch(reach, "run", "routing, forward")
        clock.watch(reach, "reverse", "routing, forward again and adjoint")
    clock.watch(training.chain, "_inputs", "forcing of the window")
    clock.watch(training.generator, "cell_parameters", "networks, forward")
    clock.watch(training.generator, "reach_parameters", "networks, forward")
    clock.watch(torch.autograd, "grad", "networks, adjoint, and autograd")
    clock.watch(training, "update", "loss, optimiser, Python")
    clock.watch(training, "validate", "validation")


def main(config: Path | None, threads: list[int], updates: int, size: Callable[[int], MadeUp] | None = None) -> None:
    """Measure and print."""
    for count in threads:
        if config is not None:
            training: MadeUp | Configured = Configured(config, count)
        else:
            training = size(count) if size else MadeUp(80_000, 10_500, 46, 730, count)
        training.update()
        training.validate()
        clock = Clock()
        watch(clock, training)
        clock.watch_threads(training.workers)
        usage, began, processor = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter(), time.process_time()
        losses = [training.update() for _ in range(updates)]
        training.validate()
        spent, wall = time.process_time() - processor, time.perf_counter() - began
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - usage.ru_minflt
        reaches, cells = (sum(n) for n in zip(*sizes(training.parts), strict=True))
        table = Table(title=f"{updates} updates, {count} threads: {cells} cells and {reaches} reaches in "
                            f"{len(training.parts)} parts")
        for name in ("part", "processor [s]", "share", "calls", "page faults"):
            table.add_column(name, justify="left" if name == "part" else "right")
        for part, (seconds, missed, calls) in sorted(clock.parts.items(), key=lambda item: -item[1][0]):
            table.add_row(part, f"{seconds:.2f}", f"{seconds / spent:.0%}", f"{calls:.0f}", f"{missed:.0f}")
        Console(width=110).print(table)
        print(f"{wall:.1f} s by the clock, {spent:.1f} s of processor time, {spent - clock.saved:.1f} s by schedule, "
              f"{faults} page faults")
        print(f"losses {losses[0]!r} to {losses[-1]!r}; weights {digest(training.generator)}", flush=True)
        training.workers.close()


def sizes(parts: list[Part]) -> Iterator[tuple[int, int]]:
    """Reaches and cells of every part."""
    return ((part.reach_places.size, part.cells.size) for part in parts)


def digest(generator: torch.nn.Module) -> str:
    """The bits of all weights, as a short word."""
    whole = b"".join(w.detach().numpy().tobytes() for w in generator.state_dict().values())
    return hashlib.sha256(whole).hexdigest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, help="a configuration with a training; made up without")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--updates", type=int, default=24)
    options = parser.parse_args()
    main(options.config, options.threads, options.updates)
